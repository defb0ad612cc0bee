"""EyePACS, APTOS 2019 and IDRiD as their publishers hand them out, listed as `training.retina.data.Photograph`.

The whole downloads were never at hand: all of this was run only on small made-up files with their names, columns and formats.

A photograph that a table names and that is not in its folder is left out, so a part of a download will do; `skip` is called
with each. A folder without its tables, or without any photograph, is an error that says what to unpack where.

References
----------
Kaggle "Diabetic Retinopathy Detection" (EyePACS, 2015); Kaggle "APTOS 2019 Blindness Detection"; Porwal et al., "Indian Diabetic
Retinopathy Image Dataset (IDRiD)", Data 3 (2018), doi:10.21227/H25W98.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from training.data import fold_of, shared_data
from training.retina.data import (
    FOLDS,
    LESIONS,
    UNREADABLE,
    Photograph,
    Place,
    apart,
    eyepacs_photograph,
    idrid_photographs,
    mask_member,
    shared_eyepacs,
    shared_idrid,
)

Skip = Callable[[str], object]
Digest = tuple[str, str]
"""Of the pixels, and why there is none."""


def _table(path: Path, unpack: str, *columns: str) -> list[list[str]]:
    """The named columns of a table without its empty rows; spaces round headings and values do not count."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: {unpack}")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        heading, *rows = [[cell.strip() for cell in row] for row in csv.reader(stream) if any(row)] or [[]]
    if absent := set(columns) - set(heading):
        raise ValueError(f"{path} has no column {', '.join(sorted(absent))}: {unpack}")
    return [[row[heading.index(column)] for column in columns] for row in rows]


def _label(text: str, highest: int, path: Path) -> int:
    if text not in [str(k) for k in range(highest + 1)]:
        raise ValueError(f"{path} has the label {text!r}, which is none of 0 to {highest}")
    return int(text)


def _there(path: Path, skip: Skip) -> bool:
    if not path.is_file():
        skip(f"{path}: not there")
    return path.is_file()


def eyepacs(folder: Path, skip: Skip) -> list[Photograph]:
    """EyePACS: ``trainLabels.csv`` with ``train/10_left.jpeg``.

    And where it is there ``retinopathy_solution.csv``, published after the competition, with ``test/1_left.jpeg``: Kaggle's two
    halves are split anew, by patient.
    """
    folder = folder.resolve()
    unpack = "join train.zip.001 to .005, and unpack them and trainLabels.csv.zip of Kaggle's download there"
    found = []
    for name, half in (("trainLabels.csv", "train"), ("retinopathy_solution.csv", "test")):
        table = folder / name
        if half == "test" and not table.exists():
            continue
        for image, level in _table(table, unpack, "image", "level"):
            member = f"{half}/{image}.jpeg"
            if _there(folder / member, skip):
                place, grade = (str(folder), member), _label(level, 4, table)
                found.append(eyepacs_photograph(place, "eyepacs_natural", image, grade))
    if not found:
        raise FileNotFoundError(f"no photograph in {folder / 'train'}: {unpack}")
    return found


def pixel_digest(path: Path) -> Digest:
    """SHA-256 of a photograph's size and pixels: equal for files that decode to the same."""
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except UNREADABLE as error:
        return "", str(error)
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest(), ""


def aptos(
    folder: Path, skip: Skip, each: Callable[[Callable[[Path], Digest], list[Path]], Iterable[Digest]] = map
) -> list[Photograph]:
    """APTOS 2019: ``train.csv`` with ``train_images/<id_code>.png``; its test photographs have no labels.

    It names no patients, so each photograph counts as one; some photographs are in it several times. Of those with equal
    pixels the first stays, or none where their grades differ. Copies that were scaled or coded anew are not found.

    Parameters
    ----------
    folder : Path
    skip : callable
        Called with every photograph that is left out, and why.
    each : callable
        `map`, or that of a pool: all photographs are decoded once here.
    """
    folder = folder.resolve()
    unpack = "unpack train.csv and train_images.zip of Kaggle's download there"
    table = folder / "train.csv"
    rows = [
        (f"train_images/{code}.png", _label(level, 4, table))
        for code, level in _table(table, unpack, "id_code", "diagnosis")
        if _there(folder / "train_images" / f"{code}.png", skip)
    ]
    if not rows:
        raise FileNotFoundError(f"no photograph in {folder / 'train_images'}: {unpack}")
    digests = each(pixel_digest, [folder / member for member, _ in rows])
    alike: dict[str, list[tuple[str, int]]] = {}
    for row, (digest, problem) in zip(tqdm(rows, "APTOS duplicates", mininterval=2), digests, strict=True):
        if problem:
            skip(f"{folder / row[0]}: {problem}")
        else:
            alike.setdefault(digest, []).append(row)
    found = []
    for (member, grade), *others in alike.values():
        if any(other != grade for _, other in others):
            for name, own in ((member, grade), *others):
                skip(f"{folder / name}: its pixels occur again with another grade than {own}")
            continue
        for name, _ in others:
            skip(f"{folder / name}: the same pixels as {member}")
        patient = f"aptos {Path(member).stem}"
        found.append(Photograph(str(folder), member, "aptos", patient, grade, "train", fold=fold_of(patient, FOLDS)))
    return found


def idrid(folder: Path, skip: Skip) -> list[Photograph]:
    """IDRiD: ``A. Segmentation`` and ``B. Disease Grading`` as they are unpacked; see `idrid_photographs`."""
    segmentation, grading = (_unpacked(folder.resolve(), name) for name in ("A. Segmentation", "B. Disease Grading"))
    graded: dict[str, tuple[Place, int, int]] = {}
    for part, images, labels in (("train", "a. Training Set", "a. IDRiD_Disease Grading_Training Labels.csv"),
                                 ("test", "b. Testing Set", "b. IDRiD_Disease Grading_Testing Labels.csv")):  # fmt: skip
        table = grading / "2. Groundtruths" / labels
        columns = ("Image name", "Retinopathy grade", "Risk of macular edema")
        for name, grade, risk in _table(table, f"unpack '{grading.name}.zip' of IDRiD anew", *columns):
            member = f"1. Original Images/{images}/{name}.jpg"
            if _there(grading / member, skip):
                place = str(grading), member
                graded[f"{part}/{name}.jpg"] = place, _label(grade, 4, table), _label(risk, 2, table)
    training = segmentation / "1. Original Images/a. Training Set"
    members = [path.relative_to(segmentation).as_posix() for path in sorted(training.glob("IDRiD_*.jpg"))]
    for lesion in LESIONS:
        masks = (segmentation / mask_member(member, lesion) for member in members)
        if not any(mask.is_file() for mask in masks):  # else all photographs would count as free of this lesion
            raise FileNotFoundError(
                f"no mask of {lesion} in {segmentation}: unpack 'A. Segmentation.zip' of IDRiD anew"
            )
    drawn = {f"train/{Path(member).name}": (str(segmentation), member) for member in members}
    return idrid_photographs(graded, drawn)


def _unpacked(folder: Path, name: str) -> Path:
    """The folder that one of IDRiD's archives was unpacked to; some programs put it into one of the same name."""
    for found in (folder / name, folder / name / name):
        if (found / "1. Original Images").is_dir():
            return found
    raise FileNotFoundError(f"no folder '{name}/1. Original Images' in {folder}: unpack '{name}.zip' of IDRiD there")


def collected(
    idrid_folder: Path | None,
    eyepacs_folder: Path | None,
    aptos_folder: Path | None,
    left_out: list[str],
    pool: ProcessPoolExecutor,
) -> tuple[Path, list[Photograph]]:
    """What `prepare` reads: the folder that archives are named from, and the photographs; `left_out` gets what is not there."""
    try:
        data, shared = shared_data(), True
    except FileNotFoundError:
        if not (idrid_folder or eyepacs_folder or aptos_folder):
            raise
        data, shared = Path(), False
    found: list[Photograph] = []
    if idrid_folder:
        found += idrid(idrid_folder, left_out.append)
    elif shared:
        found += shared_idrid(data)
    if eyepacs_folder:
        found += eyepacs(eyepacs_folder, left_out.append)
    elif shared:
        found += shared_eyepacs(data)
    if aptos_folder:
        found += aptos(aptos_folder, left_out.append, partial(pool.map, chunksize=16))
    return data, apart(found)
