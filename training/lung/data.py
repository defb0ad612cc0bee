"""LIDC-IDRI nodules: reading, the sets "I", "B" and "M", and the split by patient."""

from __future__ import annotations

import csv
import json
import math
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import jpeg_ls
import numpy as np
from tqdm import tqdm

from models.preprocessing import nodule_box, resample
from training.data import assert_apart, fold_of, shared_data

PREPROCESSING = {"size_px": 96, "scale_mm": 0.5}
MARGIN = 8
"""Prepared windows are this many model pixels larger on every side, so that training can shift them."""
HALF_DEPTH_MM = 2.5
"""A nodule is answered from its centre slice and those within this distance: all the service knows is the centre."""


@dataclass(frozen=True)
class Nodule:
    """One nodule: where its windows are in the prepared array, what the readers said, and its side of the split."""

    patient: str
    name: str
    malignancy: float
    """Mean of the readers' scores, 1-5."""
    readers: int
    diameter_mm: float
    spacing_mm: float
    thickness_mm: float
    first: int
    slices: int
    part: str
    """train, validation or test."""

    @property
    def score(self) -> int:
        """Mean malignancy rounded half up: 1-5."""
        return math.floor(self.malignancy + 0.5)

    @property
    def central(self) -> list[int]:
        """Rows of the slices within `HALF_DEPTH_MM` of the middle one: what the service's rule picks."""
        middle, reach = (self.slices - 1) // 2, int(HALF_DEPTH_MM / self.thickness_mm)
        return [self.first + k for k in range(max(0, middle - reach), min(self.slices, middle + reach + 1))]


def label(nodule: Nodule, subset: str = "I") -> int | None:
    """0 benign, 1 malignant, None not in the set. "I" ignores score 3, "B" calls it benign, "M" malignant."""
    if nodule.score == 3:
        return {"I": None, "B": 0, "M": 1}[subset]
    return int(nodule.score > 3)


def part_of(patient: str) -> str:
    """Fifths 0 (test) and a tenth (validation) of the patients, by hash."""
    fold = fold_of(patient, 10)
    return "test" if fold < 2 else "validation" if fold == 2 else "train"


def read_stack(archive: zipfile.ZipFile, name: str, slices: int) -> np.ndarray:
    """Axial slices of one nodule, uint8, shape (slices, 104, 104); each was min-max scaled on its own (data.md)."""
    pixels = jpeg_ls.decode(np.frombuffer(archive.read(f"{name}.jls"), np.uint8))
    return np.asarray(pixels).reshape(slices, 104, 104)


def windows(stack: np.ndarray, spacing_mm: float) -> np.ndarray:
    """True-scale windows with `MARGIN`, uint8 grey levels of the source, shape (slices, 112, 112)."""
    size = int(PREPROCESSING["size_px"]) + 2 * MARGIN
    box = nodule_box((51.5, 51.5), (spacing_mm, spacing_mm), size_px=size, scale_mm=PREPROCESSING["scale_mm"])
    return np.stack([np.round(resample(image, box, size)) for image in stack]).astype(np.uint8)


def prepare(folder: Path) -> None:
    """Write `windows.npy` (n, 112, 112) uint8 and `nodules.json`. Nodules matched "none" are dropped, "partial" train only."""
    data = shared_data() / "lidc_nodules"
    folder.mkdir(parents=True, exist_ok=True)
    with (data / "nodules.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["match"] != "none" and row["malignancy_mean"]]
    nodules, stacks, first = [], [], 0
    with zipfile.ZipFile(data / "slices.zip") as archive:
        for row in tqdm(rows, desc="prepare lung", mininterval=2):
            part = part_of(row["patient_id"])
            if row["match"] == "partial" and part != "train":
                continue
            stack = windows(read_stack(archive, row["file"], int(row["n_slices"])), float(row["pixel_spacing_mm"]))
            nodules.append(
                Nodule(
                    patient=row["patient_id"],
                    name=row["nodule"],
                    malignancy=float(row["malignancy_mean"]),
                    readers=int(row["n_annotations"]),
                    diameter_mm=float(row["diameter_mm_mean"]),
                    spacing_mm=float(row["pixel_spacing_mm"]),
                    thickness_mm=float(row["slice_thickness_mm"]),
                    first=first,
                    slices=len(stack),
                    part=part,
                )
            )
            stacks.append(stack)
            first += len(stack)
    assert_apart(*({n.patient for n in nodules if n.part == part} for part in ("train", "validation", "test")))
    np.save(folder / "windows.npy", np.concatenate(stacks))
    (folder / "nodules.json").write_text(json.dumps([asdict(nodule) for nodule in nodules]), encoding="utf-8")


@dataclass(frozen=True)
class Prepared:
    """The prepared windows and nodules."""

    windows: np.ndarray
    nodules: list[Nodule]

    def part(self, part: str, subset: str = "I") -> list[Nodule]:
        """The nodules of one side of the split that are in a set."""
        return [n for n in self.nodules if n.part == part and label(n, subset) is not None]


def load(folder: Path) -> Prepared:
    """Open what `prepare` wrote.

    Raises
    ------
    FileNotFoundError
        When it has not been written.
    """
    if not (folder / "nodules.json").exists():
        raise FileNotFoundError(f"nothing prepared in {folder}: run `python -m training.lung prepare`")
    nodules = [Nodule(**entry) for entry in json.loads((folder / "nodules.json").read_text(encoding="utf-8"))]
    return Prepared(np.load(folder / "windows.npy"), nodules)
