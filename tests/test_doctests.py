"""Every example of the docstrings and of the documentation's pages does what it says."""

import doctest
import importlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

import deeplab_fashion as df

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SOURCE = Path(df.__file__).parent
# Found as files: `pkgutil.walk_packages` would import what needs TensorFlow.
MODULES = sorted(
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
)

_spec = importlib.util.spec_from_file_location("examples", ROOT / "docs" / "examples.py")
examples = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(examples)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def docstring_examples(module):
    # As the reference says: an example knows its module's names, `df` and `np`.
    module = importlib.import_module(module)
    for test in doctest.DocTestFinder().find(module, extraglobs={"df": df, "np": np}):
        if test.examples:
            yield test


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_docstrings(module):
    for test in docstring_examples(module):
        examples.check(test)


def test_docstrings_are_found_in_functions_classes_methods_and_properties():
    found = {
        t.name for m in ["taxonomy", "rle"] for t in docstring_examples(f"deeplab_fashion.{m}")
    }
    assert {
        "deeplab_fashion.rle.mask_to_kaggle",
        "deeplab_fashion.rle.RunLengthMask",
        "deeplab_fashion.taxonomy.LabelMap.apply",
    } <= found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_of_pages(page):
    examples.run(page)


def page_with(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    return page


def test_blocks_of_a_page_share_their_names_and_run_in_order(tmp_path):
    text = "\n".join([
        "<!-- set up", "number = 1", "-->",
        "```python", "number += 1", "```",
        "```python", ">>> number", "2", ">>> number = 3", "```",
        "```python", "from pathlib import Path", "Path('made.txt').write_text(str(number))", "```",
    ])  # fmt: skip
    examples.run(page_with(tmp_path, text))
    assert Path("made.txt").read_text() == "3"


def test_what_is_marked_as_not_run_is_left_out_alone(tmp_path):
    text = "<!-- not run: it fails -->\n```python\n1 / 0\n```\n```python\n2 / 0\n```\n"
    assert [block.code for block in examples.blocks(text)] == ["2 / 0\n"]
    with pytest.raises(ZeroDivisionError):
        examples.run(page_with(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        "```python\n>>> 1 + 1\n3\n```\n",
        "```python\n>>> 1 / 0\n0\n```\n",
        "```python\nassert False\n```\n",
        "```console\n$ deeplab-fashion segment absent.jpg\n```\n",
        "```console\n$ deeplab-fashion info\nsomething else\n```\n",
    ],
)
def test_a_wrong_example_fails(tmp_path, text):
    with pytest.raises(AssertionError):
        examples.run(page_with(tmp_path, text))
