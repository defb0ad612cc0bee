"""Where the data sets lie, and the split by patient that every experiment uses."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def shared_data() -> Path:
    """Folder of the data sets: PELLUCID_SHARED/data, or ../shared/data beside the repository.

    Raises
    ------
    FileNotFoundError
        When there is none; the message says which variable to set.
    """
    folder = Path(os.environ.get("PELLUCID_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        raise FileNotFoundError(f"no data sets at {folder}: set PELLUCID_SHARED to the folder that holds data/")
    return folder


def fold_of(patient: str, folds: int, seed: int = 0) -> int:
    """Fold 0..folds-1 of a patient, from a hash of the name: the same on every machine and for every slice or eye."""
    digest = hashlib.sha256(f"{seed}:{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % folds


def assert_apart(*groups: Iterable[str]) -> None:
    """Stop when a patient is on two sides of a split.

    Raises
    ------
    ValueError
        Naming how many patients are shared.
    """
    sets = [set(group) for group in groups]
    for i, first in enumerate(sets):
        for second in sets[i + 1 :]:
            if first & second:
                raise ValueError(f"{len(first & second)} patients are on two sides of the split")
