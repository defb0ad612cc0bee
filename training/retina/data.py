"""The retina data sets: reading, splitting by patient, and the prepared arrays that training reads."""

from __future__ import annotations

import csv
import io
import json
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from models.bundle import quantile_class
from models.preprocessing import Field, crop_square, fundus_field, fundus_square
from training.data import assert_apart, fold_of
from training.retina.duplicates import idrid_left_out, idrid_twins
from training.retina.thesis import moments, statistics, thesis_square

PREPROCESSING = {"size_px": 512, "grid": 16, "margin": 0.95}
SIZE = int(PREPROCESSING["size_px"])
QUANTILE = 0.6
"""Of the answered grade (`models.bundle.quantile_class`): a grade too low counts one and a half times as much as one too high.
Chosen on the members' held-out answers: with 0.5 natural-colour photographs are graded too low, with the rounded expected grade a
fifth of the healthy ones too high."""
LESIONS = ("MA", "HE", "EX", "SE")
LESION_GRID = 64
"""Raster of the lesion labels: 8 px of the 512 px input."""
FOLDS = 8
IDRID_BLOCK = 13
"""So many neighbouring numbers of IDRiD are in one fold: photographs of one patient, whom it does not name, may be neighbours."""
EYEPACS_TEST_FOLD = 0
LEAST_PX = 2 * SIZE
"""A large JPEG is decoded at a half, a quarter or an eighth of its size while both sides keep so many pixels."""
UNREADABLE = (OSError, SyntaxError, ValueError, LookupError, EOFError, struct.error, zlib.error, zipfile.BadZipFile)
"""What Pillow and zipfile raise on a damaged file."""
Square = Callable[[np.ndarray, Field], np.ndarray]
Place = tuple[str, str]
"""Archive and member."""


def answered(probabilities: np.ndarray) -> np.ndarray:
    """The grade that the model answers, int, shape (...), of probabilities (..., 5)."""
    return quantile_class(probabilities, QUANTILE)


@dataclass(frozen=True)
class Photograph:
    """One labelled photograph and the side of the split its patient is on."""

    archive: str
    """Zip file or folder, as a path from the shared data or from the root."""
    member: str
    source: str
    """idrid, idrid_lesions, eyepacs_natural, eyepacs_equalised or aptos."""
    patient: str
    """IDRiD and APTOS name no patients: every photograph counts as one. Whether two are of one patient is unknown."""
    grade: int
    """0-4; -1 where there is none (lesion images without a grading counterpart)."""
    part: str
    """train or test."""
    eye: str = ""
    """left or right; empty where the set does not say."""
    dme: int = -1
    """IDRiD's risk of macular oedema, 0-2; -1 elsewhere."""
    fold: int = -1
    """0-7, by hash of the patient, of IDRiD by `idrid_fold`; what is trained on a part of the folds leaves out the others."""


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def idrid_fold(name: str) -> int:
    """Fold of a photograph of IDRiD, by its number in names such as ``train/IDRiD_001.jpg``."""
    number = int(name.rpartition("_")[2].removesuffix(".jpg"))
    return (number - 1) // IDRID_BLOCK % FOLDS


def idrid_photographs(graded: Mapping[str, tuple[Place, int, int]], drawn: Mapping[str, Place]) -> list[Photograph]:
    """IDRiD's photographs that may be used: its official test split is `test`.

    Taken out: `idrid_left_out`, lesion-test images, and lesion-train images that are grading-test photographs.
    A lesion image has the patient, the grade and the risk of its graded twin.

    Parameters
    ----------
    graded : mapping
        Place, grade and risk of macular oedema by name, as ``train/IDRiD_001.jpg``.
    drawn : mapping
        Place of the lesion images by name, as ``train/IDRiD_01.jpg``.
    """
    twins, left_out = idrid_twins(), idrid_left_out()
    labels = {name: (grade, dme) for name, (_, grade, dme) in graded.items() if name not in left_out}

    def photograph(place: Place, source: str, name: str, grade: int, dme: int) -> Photograph:
        patient, part = f"idrid {name}", "test" if name.startswith("test/") else "train"
        return Photograph(*place, source, patient, grade, part, "", dme, idrid_fold(name))

    found = [photograph(graded[name][0], "idrid", name, *label) for name, label in labels.items()]
    for name, place in drawn.items():
        twin = twins.get(name, "")
        if not (name.startswith("test/") or twin.startswith("test/")):
            named = twin if twin in labels else f"lesions {name}"
            found.append(photograph(place, "idrid_lesions", named, *labels.get(twin, (-1, -1))))
    return found


def eyepacs_photograph(place: Place, source: str, image: str, grade: int) -> Photograph:
    """A photograph of EyePACS, named as Kaggle does (``10_left``): one of eight folds of the patients is `test`."""
    patient, _, eye = image.partition("_")
    if eye not in ("left", "right"):
        raise ValueError(f"{image!r} is no name of an EyePACS photograph such as 10_left")
    fold = fold_of(f"eyepacs {patient}", FOLDS)
    part = "test" if fold == EYEPACS_TEST_FOLD else "train"
    return Photograph(*place, source, f"eyepacs {patient}", grade, part, eye, -1, fold)


def shared_idrid(data: Path) -> list[Photograph]:
    """IDRiD of the shared data."""
    graded = {
        row["file"]: (("idrid/grading.zip", row["file"]), int(row["grade"]), int(row["dme_risk"]))
        for row in _rows(data / "idrid/grading.csv")
    }
    drawn = {row["file"]: ("idrid/lesions.zip", row["file"]) for row in _rows(data / "idrid/lesions.csv")}
    return idrid_photographs(graded, drawn)


def shared_eyepacs(data: Path) -> list[Photograph]:
    """EyePACS of the shared data: both copies of a photograph have its patient, so they are on the same side."""
    return [
        eyepacs_photograph((f"eyepacs/{archive}", row["file"]), source, row["image"], int(row["level"]))
        for table, archive, source in (
            ("labels.csv", "equalised_256.zip", "eyepacs_equalised"),
            ("raw_pairs.csv", "raw_pairs_512.zip", "eyepacs_natural"),
        )
        for row in _rows(data / "eyepacs" / table)
    ]


def photographs(data: Path) -> list[Photograph]:
    """All photographs of the shared data that may be used, each with its side of the split and its fold."""
    return apart(shared_idrid(data) + shared_eyepacs(data))


def apart(found: list[Photograph]) -> list[Photograph]:
    """The same, after a check that nobody is on two sides."""
    assert_apart(*({p.patient for p in found if p.part == part} for part in ("train", "test")))
    return found


def _contents(data: Path, archive: str, member: str) -> io.BytesIO:
    if (data / archive).is_dir():
        return io.BytesIO((data / archive / member).read_bytes())
    with zipfile.ZipFile(data / archive) as opened:
        return io.BytesIO(opened.read(member))


def read(data: Path, photograph: Photograph, least_px: int | None = None) -> np.ndarray:
    """The photograph as uint8 RGB, shape (H, W, 3); a JPEG at a part of its size where both sides keep `least_px`."""
    image = Image.open(_contents(data, photograph.archive, photograph.member))
    if least_px:
        image.draft("RGB", (least_px, least_px))
    return np.asarray(image.convert("RGB"))


def mask_member(member: str, lesion: str) -> str:
    """Where the mask of a lesion image is: beside it in the shared data, in folders of their own in the official download."""
    if "1. Original Images" not in member:
        return member.replace(".jpg", f"_{lesion}.png")
    kinds = {"MA": "1. Microaneurysms", "HE": "2. Haemorrhages", "EX": "3. Hard Exudates", "SE": "4. Soft Exudates"}
    _, part, name = member.split("/")
    return f"2. All Segmentation Groundtruths/{part}/{kinds[lesion]}/{name.replace('.jpg', f'_{lesion}.tif')}"


def lesion_labels(data: Path, photograph: Photograph, pixels: np.ndarray) -> np.ndarray:
    """Where the readers drew each kind of lesion: uint8, shape (4, 64, 64), 1 where a cell of the raster holds any.

    A kind without a mask is not in the photograph.
    """
    field = fundus_field(pixels)
    assert field is not None
    labels = np.zeros((len(LESIONS), LESION_GRID, LESION_GRID), np.uint8)
    for k, lesion in enumerate(LESIONS):
        try:
            contents = _contents(data, photograph.archive, mask_member(photograph.member, lesion))
        except (KeyError, FileNotFoundError):
            continue
        mask = np.asarray(Image.open(contents).convert("RGB")).max(2, keepdims=True) > 0
        square = crop_square(np.repeat(mask * np.uint8(255), 3, 2), field.box, SIZE)[:, :, 0] > 40
        cell = SIZE // LESION_GRID
        labels[k] = square.reshape(LESION_GRID, cell, LESION_GRID, cell).max((1, 3))
    return labels


def quantise(values: np.ndarray) -> np.ndarray:
    """-4..4 to uint8: the prepared arrays keep a thirtieth of a standard deviation."""
    return np.round((values + 4) * 31.875).astype(np.uint8)


def _seen(data: Path, photograph: Photograph) -> tuple[np.ndarray, Field]:
    pixels = read(data, photograph, None if photograph.source == "idrid_lesions" else LEAST_PX)
    field = fundus_field(pixels)
    if field is None:
        raise ValueError("nothing in it is lit")
    return pixels, field


def _moments_of_one(photograph: Photograph, data: Path) -> np.ndarray | None:
    try:
        return moments(*_seen(data, photograph), SIZE)
    except UNREADABLE:
        return None


def _prepare_one(photograph: Photograph, data: Path, square: Square) -> tuple[np.ndarray, np.ndarray] | str:
    """Image and lesions, or why there are none."""
    lesions = np.zeros((len(LESIONS), LESION_GRID, LESION_GRID), np.uint8)
    try:
        pixels, field = _seen(data, photograph)
        if photograph.source == "idrid_lesions":
            lesions = lesion_labels(data, photograph, pixels)
    except UNREADABLE as error:
        return f"{data / photograph.archive / photograph.member}: {error}"
    return quantise(square(pixels, field)), lesions


def prepare(
    folder: Path,
    *,
    eyepacs: Path | None = None,
    aptos: Path | None = None,
    idrid: Path | None = None,
    workers: int = 2,
    recipe: str = "clear",
) -> None:
    """Write the prepared arrays.

    These are ``images.npy``, uint8 (n, 3, 512, 512), see `quantise`; ``lesions.npy``, uint8 (n, 4, 64, 64), see
    `lesion_labels`; ``photographs.json``; ``recipe.json``. Both arrays have room for more rows than there are photographs where
    some were left out: those that cannot be read are named in ``left_out.txt``.

    Parameters
    ----------
    folder : Path
        Where to write.
    eyepacs, aptos, idrid : Path, optional
        Folders of official downloads, see `training.retina.official`. IDRiD and EyePACS are read there instead of in the shared
        data; what is not named is taken from the shared data where that is to be had.
    workers : int
        Processes.
    recipe : str
        ``clear`` is the shipped model's input (`fundus_square`), ``thesis`` that of `thesis_square`.

    Raises
    ------
    FileNotFoundError
        When there are no data, or a folder does not hold what it should.
    ValueError
        When not one photograph of a set can be read, or there is no such recipe.
    """
    if recipe not in ("clear", "thesis"):
        raise ValueError(f"no recipe {recipe!r}: clear or thesis")
    from training.retina import official  # it builds on this module

    folder.mkdir(parents=True, exist_ok=True)
    for name in ("photographs.json", "left_out.txt"):  # until all is written, nothing is prepared
        (folder / name).unlink(missing_ok=True)
    left_out: list[str] = []
    with ProcessPoolExecutor(workers) as pool:
        data, items = official.collected(idrid, eyepacs, aptos, left_out, pool)
        facts, square = _square(recipe, data, items, pool)
        arrays = [
            np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, (len(items), *shape))
            for name, shape in (("images", (3, SIZE, SIZE)), ("lesions", (len(LESIONS), LESION_GRID, LESION_GRID)))
        ]
        tasks = pool.map(partial(_prepare_one, data=data, square=square), items, chunksize=16)
        kept: list[Photograph] = []
        for item, made in tqdm(zip(items, tasks, strict=True), "prepare retina", len(items), mininterval=2):
            if isinstance(made, str):
                left_out.append(made)
                continue
            for array, part in zip(arrays, made, strict=True):
                array[len(kept)] = part
            kept.append(item)
    for array in arrays:
        array.flush()
    if left_out:
        (folder / "left_out.txt").write_text("\n".join(left_out) + "\n", encoding="utf-8")
        print(f"{len(left_out)} photographs left out, see {folder / 'left_out.txt'}; {left_out[-1]}", file=sys.stderr)
    if absent := {item.source for item in items} - {item.source for item in kept}:
        raise ValueError(f"no photograph of {', '.join(sorted(absent))} can be read: see {folder / 'left_out.txt'}")
    (folder / "recipe.json").write_text(json.dumps(facts), encoding="utf-8")
    (folder / "photographs.json").write_text(json.dumps([asdict(item) for item in kept]), encoding="utf-8")


def _square(
    recipe: str, data: Path, items: list[Photograph], pool: ProcessPoolExecutor
) -> tuple[dict[str, object], Square]:
    if recipe == "clear":
        return {"recipe": recipe, **PREPROCESSING}, partial(fundus_square, **PREPROCESSING)  # type: ignore[arg-type]
    train = [item for item in items if item.part == "train"]
    found = pool.map(partial(_moments_of_one, data=data), train, chunksize=16)
    mean, std = statistics([each for each in tqdm(found, "channels", len(train), mininterval=2) if each is not None])
    facts = {"recipe": recipe, "size_px": SIZE, "mean": mean.tolist(), "std": std.tolist()}
    return facts, partial(thesis_square, size_px=SIZE, mean=mean, std=std)


@dataclass(frozen=True)
class Prepared:
    """The prepared arrays, opened for reading, and the photograph of each row."""

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
        When it has not been written, or not in today's form.
    """
    again = "run `python -m training.retina prepare`"
    if not (folder / "photographs.json").exists():
        raise FileNotFoundError(f"nothing prepared in {folder}: {again}")
    entries = json.loads((folder / "photographs.json").read_text(encoding="utf-8"))
    if any("fold" not in entry for entry in entries):
        raise FileNotFoundError(f"{folder} was prepared by an earlier version, without folds: {again}")
    images, lesions = (
        np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")[: len(entries)]) for name in ("images", "lesions")
    )
    return Prepared(images, lesions, [Photograph(**entry) for entry in entries])
