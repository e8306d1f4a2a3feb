"""The wheel holds what a user needs, and nothing else."""

import os
from pathlib import Path

import pytest

import deeplab_fashion as df


@pytest.fixture
def installed():
    """Where `make test` unpacked the wheel."""
    folder = os.environ.get("DEEPLAB_FASHION_EXPECTED_AT")
    if folder is None:
        pytest.skip("`make test` alone says where the wheel under test is installed")
    return Path(folder)


def test_the_package_alone_is_installed(installed):
    found = {path.name for path in installed.iterdir()} - {"bin", "__pycache__"}
    assert found == {"deeplab_fashion", f"deeplab_fashion-{df.__version__}.dist-info"}


def test_every_file_is_code_or_named_here(installed):
    package = installed / "deeplab_fashion"
    found = {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    data = {name for name in found if not name.endswith((".py", ".pyc"))}
    photos = {f"samples/{df.samples.photo(index).name}" for index in range(12)}
    assert data == photos | {
        "py.typed",
        "pretrained/LICENSE",
        "pretrained/NOTICE",
        "pretrained/fashion-main.npz",
        "pretrained/fashion-main.sha256",
        "samples/LICENSE",
        "samples/NOTICE",
        "samples/annotations.csv",
    }


def test_the_licence_comes_along(installed):
    [licence] = installed.glob("*.dist-info/licenses/LICENSE")
    assert "MIT" in licence.read_text("utf-8")
