"""The retina data sets: reading, splitting by patient, and the prepared arrays that training reads."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from models.preprocessing import crop_square, fundus_field, fundus_square
from training.data import assert_apart, fold_of, shared_data

PREPROCESSING = {"size_px": 512, "grid": 16, "margin": 0.95}
LESIONS = ("MA", "HE", "EX", "SE")
LESION_GRID = 64
"""Raster of the lesion labels: 8 px of the 512 px input."""


@dataclass(frozen=True)
class Photograph:
    """One labelled photograph and the side of the split its patient is on."""

    archive: str
    member: str
    source: str
    """idrid, idrid_lesions, eyepacs_natural or eyepacs_equalised."""
    patient: str
    grade: int
    """0-4; -1 where there is none (lesion images without a grading counterpart)."""
    part: str
    """train, validation or test."""


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _eyepacs_part(patient: str) -> str:
    return {0: "test", 1: "validation"}.get(fold_of(f"eyepacs {patient}", 8), "train")


def idrid_duplicates() -> set[str]:
    """Grading-train photographs left out: the same picture occurs again (with another grade, or in the test split).

    118 = test 064, 021 = 391, 028 = 327 with other grades; 045 = 333, 073 = 375, 079 = 279 with the same: one stays.
    """
    return {f"train/IDRiD_{number}.jpg" for number in ("118", "021", "391", "028", "327", "333", "375", "279")}


def photographs(data: Path) -> list[Photograph]:
    """All photographs that may be used, each with its side of the split.

    Taken out: IDRiD duplicates, grading-train photographs that are lesion-test images (so that lesion figures stay honest)
    and lesion-train images that are grading-test photographs. IDRiD's official test split is `test`; of its training
    photographs 15 % are `validation`. EyePACS is split by patient: 1/8 test, 1/8 validation; both copies of a photograph
    (natural, equalised) are on the same side.
    """
    pairs = _rows(data / "idrid/lesions_to_grading.csv")
    lesion_test = {
        f"train/{p['grading_image']}"
        for p in pairs
        if p["seg_split"].startswith("b") and p["grading_split"].startswith("a")
    }
    grading_of = {p["seg_image"]: p for p in pairs if p["seg_split"].startswith("a")}
    left_out = lesion_test | idrid_duplicates()
    found: list[Photograph] = []
    grades: dict[str, tuple[int, str]] = {}
    for row in _rows(data / "idrid/grading.csv"):
        if row["file"] in left_out:
            continue
        part = "test" if row["split"] == "test" else "validation" if fold_of(row["file"], 7) == 0 else "train"
        grades[row["file"]] = (int(row["grade"]), part)
        found.append(
            Photograph("idrid/grading.zip", row["file"], "idrid", f"idrid {row['file']}", int(row["grade"]), part)
        )
    for row in _rows(data / "idrid/lesions.csv"):
        twin = grading_of.get(row["file"].split("/")[1])
        if row["split"] != "train" or twin is None or twin["grading_split"].startswith("b"):
            continue
        name = f"train/{twin['grading_image']}"
        grade, part = grades.get(name, (-1, "train"))
        if part == "train":
            patient = f"idrid {name}" if name in grades else f"idrid lesions {row['file']}"
            found.append(Photograph("idrid/lesions.zip", row["file"], "idrid_lesions", patient, grade, "train"))
    for table, archive, source in (
        ("labels.csv", "equalised_256.zip", "eyepacs_equalised"),
        ("raw_pairs.csv", "raw_pairs_512.zip", "eyepacs_natural"),
    ):
        for row in _rows(data / "eyepacs" / table):
            patient = row["patient"]
            found.append(
                Photograph(
                    f"eyepacs/{archive}",
                    row["file"],
                    source,
                    f"eyepacs {patient}",
                    int(row["level"]),
                    _eyepacs_part(patient),
                )
            )
    assert_apart(*({p.patient for p in found if p.part == part} for part in ("train", "validation", "test")))
    return found


def read(data: Path, photograph: Photograph) -> np.ndarray:
    """The photograph as uint8 RGB, shape (H, W, 3)."""
    with zipfile.ZipFile(data / photograph.archive) as archive:
        return np.asarray(Image.open(io.BytesIO(archive.read(photograph.member))).convert("RGB"))


def lesion_labels(data: Path, photograph: Photograph, pixels: np.ndarray) -> np.ndarray:
    """Where the readers drew each kind of lesion: uint8, shape (4, 64, 64), 1 where a cell of the raster holds any."""
    field = fundus_field(pixels)
    assert field is not None
    labels = np.zeros((len(LESIONS), LESION_GRID, LESION_GRID), np.uint8)
    size = PREPROCESSING["size_px"]
    with zipfile.ZipFile(data / photograph.archive) as archive:
        for k, lesion in enumerate(LESIONS):
            member = photograph.member.replace(".jpg", f"_{lesion}.png")
            if member not in archive.namelist():
                continue
            mask = np.asarray(Image.open(io.BytesIO(archive.read(member))).convert("L")) > 0
            square = crop_square(np.repeat(mask[:, :, None] * np.uint8(255), 3, 2), field.box, int(size))[:, :, 0] > 40
            cell = int(size) // LESION_GRID
            labels[k] = square.reshape(LESION_GRID, cell, LESION_GRID, cell).max((1, 3))
    return labels


def quantise(values: np.ndarray) -> np.ndarray:
    """-4..4 to uint8: the prepared arrays keep a thirtieth of a standard deviation."""
    return np.round((values + 4) * 31.875).astype(np.uint8)


def _prepare_one(task: tuple[Path, Photograph]) -> tuple[np.ndarray, np.ndarray]:
    data, photograph = task
    pixels = read(data, photograph)
    field = fundus_field(pixels)
    if field is None:
        raise ValueError(f"{photograph.archive}:{photograph.member} has no lit field")
    lesions = np.zeros((len(LESIONS), LESION_GRID, LESION_GRID), np.uint8)
    if photograph.source == "idrid_lesions":
        lesions = lesion_labels(data, photograph, pixels)
    return quantise(fundus_square(pixels, field, **PREPROCESSING)), lesions  # type: ignore[arg-type]


def prepare(folder: Path, workers: int = 2) -> None:
    """Write the prepared arrays: `images.npy` (n, 3, 512, 512) uint8, `lesions.npy`, and `photographs.json`."""
    data = shared_data()
    items = photographs(data)
    folder.mkdir(parents=True, exist_ok=True)
    size = int(PREPROCESSING["size_px"])
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (len(items), 3, size, size))
    lesions = np.zeros((len(items), len(LESIONS), LESION_GRID, LESION_GRID), np.uint8)
    with ProcessPoolExecutor(workers) as pool:
        tasks = pool.map(_prepare_one, ((data, item) for item in items), chunksize=16)
        for k, (image, label) in enumerate(tqdm(tasks, total=len(items), desc="prepare retina", mininterval=2)):
            images[k], lesions[k] = image, label
    images.flush()
    np.save(folder / "lesions.npy", lesions)
    (folder / "photographs.json").write_text(json.dumps([asdict(item) for item in items]), encoding="utf-8")


@dataclass(frozen=True)
class Prepared:
    """The prepared arrays, opened for reading."""

    images: np.ndarray
    lesions: np.ndarray
    items: list[Photograph]

    def rows(self, part: str, *sources: str) -> np.ndarray:
        """Indices of the graded photographs of a part, of the named sources (all without any)."""
        keep = [
            k
            for k, item in enumerate(self.items)
            if item.part == part and item.grade >= 0 and (not sources or item.source in sources)
        ]
        return np.array(keep, dtype=np.int64)


def load(folder: Path) -> Prepared:
    """Open what `prepare` wrote.

    Raises
    ------
    FileNotFoundError
        When it has not been written.
    """
    if not (folder / "photographs.json").exists():
        raise FileNotFoundError(f"nothing prepared in {folder}: run `python -m training.retina prepare`")
    items = [Photograph(**entry) for entry in json.loads((folder / "photographs.json").read_text(encoding="utf-8"))]
    return Prepared(np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "lesions.npy"), items)
