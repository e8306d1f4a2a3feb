"""The wheel under test is what a user gets: all that is needed, no more, the same every time."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import deeplab_fashion as df

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ["src", "tests", "docs", "examples", "benchmarks", "requirements", "pyproject.toml",
           "Makefile", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md",
           "SECURITY.md", ".gitignore"]  # fmt: skip


@pytest.fixture
def wheel():
    """The wheel that `make test` built and installed."""
    path = os.environ.get("DEEPLAB_FASHION_WHEEL")
    if path is None:
        pytest.skip("`make test` alone says which wheel is under test")
    return Path(path)


def test_what_is_imported_is_the_wheel_and_no_checkout(wheel):
    installed = importlib.metadata.distribution("deeplab-fashion")
    folder = Path(installed.locate_file("deeplab_fashion"))
    assert Path(df.__file__).parent == folder.resolve()
    assert folder.resolve().is_relative_to(Path(sys.prefix).resolve())
    assert not any(Path(place).resolve() == ROOT / "src" for place in sys.path)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith("deeplab_fashion/"):
                assert Path(installed.locate_file(name)).read_bytes() == archive.read(name), name


def test_every_file_is_code_or_named_here(wheel):
    with zipfile.ZipFile(wheel) as archive:
        found = set(archive.namelist())
    about = f"deeplab_fashion-{df.__version__}.dist-info"
    photos = {f"samples/{df.samples.photo(index).name}" for index in range(12)}
    code = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    data = photos | {
        "py.typed",
        "pretrained/LICENSE",
        "pretrained/NOTICE",
        "pretrained/fashion-main.npz",
        "pretrained/fashion-main.sha256",
        "samples/LICENSE",
        "samples/NOTICE",
        "samples/annotations.csv",
    }
    meta = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    assert found == (
        code | {f"deeplab_fashion/{name}" for name in data} | {f"{about}/{name}" for name in meta}
    )


def build(kind, source, out, *, umask=0o022):
    """Build a wheel or an sdist as `pip` and `build` do, and return it."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)]
    subprocess.run(command, cwd=source, umask=umask, check=True, capture_output=True)
    [made] = out.iterdir()
    return made


def a_copy(folder, *, age=0, mode=0o644):
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name,
                folder / name,
                ignore=shutil.ignore_patterns("__pycache__", "node_modules"),
            )
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)
            os.utime(path, (path.stat().st_mtime - age,) * 2)
    return folder


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_another_place_time_and_umask_give_the_same_bytes(tmp_path, kind):
    here = build(kind, a_copy(tmp_path / "here"), tmp_path / "one")
    elsewhere = a_copy(tmp_path / "else" / "where", age=10_000_000, mode=0o600)
    there = build(kind, elsewhere, tmp_path / "two", umask=0o077)
    assert here.name == there.name
    assert here.read_bytes() == there.read_bytes()
    (elsewhere / "src" / "deeplab_fashion" / "rle.py").write_text("")
    assert build(kind, elsewhere, tmp_path / "three").read_bytes() != here.read_bytes()


def test_the_sdist_holds_what_the_same_wheel_is_built_from(wheel, tmp_path):
    sdist = build("sdist", a_copy(tmp_path / "tree"), tmp_path / "sdist")
    shutil.unpack_archive(sdist, tmp_path, filter="data")
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    for needed in ("tests/policy/test_wheel.py", "requirements/newest.txt", "docs/conf.py"):
        assert (unpacked / needed).is_file()
    again = build("wheel", unpacked, tmp_path / "wheel")
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()
