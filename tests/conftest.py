"""Fixtures that several test files share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside a checkout; what needs it is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the real data in ../shared, which is not beside this checkout")
    return SHARED
