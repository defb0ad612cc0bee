"""Fixtures shared by all tests: the real data and where to find it."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with `data/` and `acceptance/`: PELLUCID_SHARED or ../shared. Tests that need it skip loudly without it."""
    folder = Path(os.environ.get("PELLUCID_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        warnings.warn(f"no real data at {folder}: set PELLUCID_SHARED; THIS TEST DID NOT RUN", stacklevel=1)
        pytest.skip(f"no real data at {folder}: set PELLUCID_SHARED")
    return folder


@pytest.fixture(scope="session")
def data(shared: Path) -> Path:
    """The real data sets."""
    return shared / "data"
