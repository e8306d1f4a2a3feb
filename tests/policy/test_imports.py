"""Importing the package, or its ground floor, must stay light; each check is shown able to fail."""

import subprocess
import sys

import pytest

import deeplab_fashion as df

GROUND_FLOOR = ["rle", "taxonomy", "scores", "annotations", "errors", "samples"]
HEAVY = ["tensorflow", "keras", "skimage"]


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
