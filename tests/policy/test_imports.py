"""Importing the package, or its ground floor, must stay light; each check is shown able to fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import deeplab_fashion as df

GROUND_FLOOR = ["rle", "taxonomy", "scores", "annotations", "errors", "samples"]
HEAVY = ["tensorflow", "keras", "skimage"]
PACKAGE = Path(df.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)
# A process for each module, forked where TensorFlow is loaded and nothing of this package is.
EACH_FIRST = """
import importlib, os, sys, warnings
for name in sys.argv[1].split():
    importlib.import_module(name)
for name in sys.argv[2:]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of threads beside a fork
        child = os.fork()
    if child == 0:
        warnings.simplefilter("error")
        try:
            importlib.import_module(name)
        except Exception as error:
            print(f"{name}: {type(error).__name__}", flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print(f"{name}: killed", flush=True)
"""


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    return set(result.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_after("import deeplab_fashion") == set()


@pytest.mark.parametrize("module", GROUND_FLOOR)
def test_the_ground_floor_loads_nothing_heavy(module):
    assert loaded_after(f"import deeplab_fashion as df; df.{module}.__name__") == set()


def test_the_check_above_can_fail():
    assert loaded_after("import skimage") == {"skimage"}


def test_every_public_name_resolves():
    for name in df.__all__:
        assert getattr(df, name) is not None
    assert set(df.__all__) <= set(dir(df))


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'segmentor'"):
        df.segmentor  # noqa: B018


def faults_of_each_as_first_import(modules, folder, *, beside):
    result = subprocess.run(
        [sys.executable, "-c", EACH_FIRST, beside, *modules],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    return result.stdout.splitlines()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork, to load TensorFlow once")
def test_every_module_can_be_imported_first_and_without_a_warning(tmp_path):
    assert len(MODULES) > 30
    assert faults_of_each_as_first_import(MODULES, tmp_path, beside="tensorflow keras") == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork, to load TensorFlow once")
def test_a_circle_or_a_warning_at_import_would_be_found(tmp_path):
    (tmp_path / "one.py").write_text("from two import b\na = 1\n")
    (tmp_path / "two.py").write_text("from one import a\nb = 1\n")
    (tmp_path / "loud.py").write_text("import warnings\nwarnings.warn('old')\n")
    (tmp_path / "fine.py").write_text("import json\n")
    found = faults_of_each_as_first_import(["one", "two", "loud", "fine"], tmp_path, beside="json")
    assert found == ["one: ImportError", "two: ImportError", "loud: UserWarning"]
