"""The structures' fingerprints as arrays: pristine for the thesis' protocol, damaged for what goes beyond it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms

from training.crystals import defects
from training.crystals import prototypes as p
from training.crystals.diffraction import fingerprint
from training.crystals.elements import volumes
from training.data import fold_of

Part = Literal["train", "validate", "test"]
COPIES = 8
"""Structures an element and class: 83 * 8 * 8 = 5,312."""
FEWEST, MOST = 180, 360
"""Atoms of a training structure."""
STATES = ("pristine", "damaged")
DAMAGE = (("displacement", 0.25), ("vacancy", 0.65), ("substitution", 1.0))
"""Kinds and the highest levels (Angstrom, shares) that damaged training structures have."""


def part_of(element: str) -> Part:
    """Elements, not structures, are split: two tenths of them test, one validates; by a hash of the symbol."""
    fold = fold_of(element, 10)
    return "test" if fold < 2 else "validate" if fold == 2 else "train"


def generator(*names: object) -> np.random.Generator:
    """Random numbers that depend on the names only: the same structure at every call and on every machine."""
    return np.random.default_rng(list(hashlib.sha256("/".join(map(str, names)).encode()).digest()))


def base_cell(kind: str, element: str, copy: int) -> Atoms:
    """Conventional cell number `copy` of a class and element."""
    draw = generator("cell", kind, element, copy)
    choices = [prototype for prototype in p.PROTOTYPES if prototype.kind == kind]
    return p.conventional_cell(choices[copy % len(choices)], element, draw)


def pristine(kind: str, element: str, copy: int) -> Atoms:
    """A training structure: a block of 180 to 360 atoms on standard axes; every second rh has its threefold axis along [111]."""
    draw = generator("block", kind, element, copy)
    atoms = p.supercell(base_cell(kind, element, copy), int(draw.integers(FEWEST, MOST + 1)))
    if kind == "rh" and draw.random() < 0.5:
        return p.turned(atoms, p.cubic_axes(int(draw.choice([-1, 1]))))
    return atoms


def damaged(kind: str, element: str, copy: int) -> Atoms:
    """The same structure with one kind of defect at a random level."""
    draw = generator("damage", kind, element, copy)
    name, highest = DAMAGE[int(draw.integers(len(DAMAGE)))]
    level = float(draw.uniform(0, highest))
    return defects.KINDS[name](pristine(kind, element, copy), level, draw)


def prepare(folder: Path, elements: Sequence[str] = (), copies: int = COPIES) -> None:
    """Write ``<state>_<class>.npz`` for every class; what is there stays.

    Parameters
    ----------
    folder : Path
    elements : sequence of str
        All 83 when none is named.
    copies : int
        Structures an element and class.

    Raises
    ------
    ValueError
        When spglib gives a structure another space group than its prototype's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for state in STATES:
        for kind in p.CLASSES:
            path = folder / f"{state}_{kind}.npz"
            if path.exists():
                continue
            images, told = [], []
            for element, copy in product(elements or volumes(), range(copies)):
                found = p.space_group(base_cell(kind, element, copy), p.LABEL_PRECISION)
                if found != p.SPACE_GROUPS[kind]:
                    raise ValueError(f"{element}, {kind}, number {copy}: spglib finds space group {found}")
                atoms = pristine(kind, element, copy) if state == "pristine" else damaged(kind, element, copy)
                images.append(fingerprint(atoms).astype(np.float16))
                told.append(element)
            temporary = path.with_suffix(".part.npz")
            np.savez(temporary, images=np.stack(images), elements=np.array(told))
            temporary.replace(path)
            print(f"{path.name}: {len(images)} structures", flush=True)


@dataclass(frozen=True)
class Fingerprints:
    """Prepared structures of some elements."""

    images: np.ndarray
    """float16, shape (n, 3, 64, 64)."""
    kind: np.ndarray
    """Number in `prototypes.CLASSES`, int64, shape (n,)."""
    elements: np.ndarray


def load(folder: Path, part: Part, states: tuple[str, ...]) -> Fingerprints:
    """Prepared structures of one part.

    Raises
    ------
    FileNotFoundError
        When `prepare` has not run.
    """
    images, kinds, elements = [], [], []
    for state in states:
        for number, kind in enumerate(p.CLASSES):
            path = folder / f"{state}_{kind}.npz"
            if not path.exists():
                raise FileNotFoundError(f"no {path}: run python -m training.crystals prepare")
            with np.load(path) as file:
                keep = np.array([part_of(element) == part for element in file["elements"]])
                images.append(file["images"][keep])
                elements.append(file["elements"][keep])
            kinds.append(np.full(int(keep.sum()), number))
    return Fingerprints(np.concatenate(images), np.concatenate(kinds), np.concatenate(elements))
