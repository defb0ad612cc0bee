"""MedNIST and ImageCLEF 2009 (IRMA) as arrays of one form."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from training.data import fold_of, shared_data
from training.digits.data import Digits

SETS = ("mednist", "imageclef")
SIDES = {"mednist": 64, "imageclef": 128}
"""Input of the networks, px."""
TEST_FOLDS = 4
"""MedNIST has no official split: one image of so many is for the test. It names no patients: they may be on both sides."""
CLASSES, LEAST = 24, 50
"""The thesis: 24 classes of at least 50 images. Which 24 is not in the text that we have: ours are the largest."""
PARTS = {"train": ("train", "02"), "test": ("test", "03")}
AXES = {"T": (0, 4), "D": (4, 7), "A": (7, 10), "B": (10, 13)}
"""Technique, direction, anatomy and biological system: characters of an IRMA code without its dashes."""


@dataclass(frozen=True)
class Anatomy:
    """Grey images of body parts.

    Attributes
    ----------
    images : ndarray, uint8, shape (n, S, S)
    labels : ndarray, int64, shape (n,)
    test : ndarray, bool, shape (n,)
        Which are for the test.
    classes : tuple of str
    """

    images: np.ndarray
    labels: np.ndarray
    test: np.ndarray
    classes: tuple[str, ...]

    def part(self, test: bool) -> Digits:
        """The images for the test or the others, shape (n, 1, S, S), with their labels."""
        rows = self.test == test
        return Digits(self.images[rows][:, None], self.labels[rows])


def read_mednist(path: Path) -> Anatomy:
    """Read MedNIST (CC BY-SA 4.0) from an npz of ``images`` (n, 64, 64), ``labels`` (n,) and ``classes``."""
    with np.load(path) as content:
        labels = content["labels"].astype(np.int64)
        test = np.array([fold_of(f"mednist {k}", TEST_FOLDS) == 0 for k in range(len(labels))])
        return Anatomy(content["images"], labels, test, tuple(str(name) for name in content["classes"]))


def irma_class(code: str, axes: str = "TDAB") -> str:
    """The class that an IRMA code (Lehmann et al. 2003), with its dashes or without, stands for on the chosen axes.

    >>> irma_class("1121-127-700-500", "DA")
    '127-700'

    Raises
    ------
    ValueError
        When it is not 4 + 3 + 3 + 3 characters of 0-9, a-z and ``*`` (not specified).
    """
    plain = code.strip().lower().replace("-", "")
    if len(plain) != 13 or any(not (c.isascii() and c.isalnum()) and c != "*" for c in plain):
        raise ValueError(f"{code!r} is not an IRMA code TTTT-DDD-AAA-BBB")
    return "-".join(plain[slice(*AXES[axis])] for axis in axes)


def read_codes(path: Path) -> dict[int, str]:
    r"""Read ``ImageCLEFmed2009_*_codes.*.csv``: IRMA code of each image that has one.

    Columns are separated by semicolons and named in the first line; those read are ``image_id`` and ``irma_code``. ``\N`` stands
    for nothing.

    Raises
    ------
    ValueError
        When a column is missing.
    """
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream, delimiter=";")
        names = {name.strip().lower(): name for name in rows.fieldnames or ()}
        if "image_id" not in names or "irma_code" not in names:
            raise ValueError(f"{path}: no columns image_id and irma_code, but {', '.join(names) or 'none'}")
        codes = {int(row[names["image_id"]]): row[names["irma_code"]].strip() for row in rows}
    return {image: code for image, code in codes.items() if code != "\\N"}


def _images(folder: Path, name: str) -> dict[int, Path]:
    """PNG files by their number, from the folders of that name (archives unpack to one in another)."""
    files = (path for top in sorted(folder.rglob(name)) if top.is_dir() for path in sorted(top.rglob("*.png")))
    return {int(path.stem): path for path in files if path.stem.isdigit()}


def square(path: Path, side: int) -> np.ndarray:
    """An image as grey, uint8, shape (side, side): its aspect is kept, what is missing is black."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.pad(image.convert("L"), (side, side), Image.Resampling.LANCZOS, color=0))


def read_imageclef(
    folder: Path, axes: str = "TDAB", classes: int = CLASSES, least: int = LEAST, side: int = SIDES["imageclef"]
) -> Anatomy:
    """Read the official files of the medical annotation task of ImageCLEF 2009 (Deserno & Ott, doi:10.18154/RWTH-2016-06143).

    Parameters
    ----------
    folder : Path
        With ``ImageCLEFmed2009_train_codes.02.csv`` and ``ImageCLEFmed2009_train.02/<image_id>.png``, and the same of ``test``
        and ``03``, in it or in folders of it.
    axes : str
        Of the IRMA code that make a class: some of T, D, A, B.
    classes, least : int
        The largest classes of at least `least` training images are used, and no more than `classes` of them.
    side : int
        Of the images that are returned, px.

    Raises
    ------
    FileNotFoundError
        When a file of codes or an image that it names is missing.
    ValueError
        When no class is large enough, or a file is not of this format.
    """
    found = {}
    for part, (name, version) in PARTS.items():
        tables = sorted(folder.rglob(f"ImageCLEFmed2009_{name}_codes.{version}.csv"))
        if not tables:
            raise FileNotFoundError(f"{folder} has no ImageCLEFmed2009_{name}_codes.{version}.csv")
        files = _images(folder, f"ImageCLEFmed2009_{name}.{version}")
        codes = read_codes(tables[0])
        if missing := sorted(codes.keys() - files.keys()):
            raise FileNotFoundError(
                f"{folder}: {len(missing)} images of {part} are missing, the first is {missing[0]}.png"
            )
        found[part] = [(files[image], irma_class(code, axes)) for image, code in codes.items()]
    counts = Counter(name for _, name in found["train"])
    large = sorted((name for name in counts if counts[name] >= least), key=lambda name: (-counts[name], name))[:classes]
    if not large:
        raise ValueError(f"{folder}: no class has {least} training images")
    names = tuple(sorted(large))
    chosen = [(path, name, part == "test") for part in PARTS for path, name in found[part] if name in large]
    return Anatomy(
        np.stack([square(path, side) for path, _, _ in chosen]),
        np.array([names.index(name) for _, name, _ in chosen], np.int64),
        np.array([test for _, _, test in chosen]),
        names,
    )


def prepare(name: str, data: Path, folder: Path | None = None, axes: str = "TDAB") -> Anatomy:
    """Read a set and write ``DATA/<name>/prepared.npz``; MedNIST lies in ../shared/data unless `folder` says otherwise.

    Raises
    ------
    FileNotFoundError
        When the set is not there.
    """
    if name == "mednist":
        anatomy = read_mednist((folder or shared_data() / "mednist") / "mednist_2400.npz")
    elif folder is None:
        raise FileNotFoundError("ImageCLEF 2009 is not in ../shared/data: name the folder of its official files")
    else:
        anatomy = read_imageclef(folder, axes)
    (data / name).mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        data / name / "prepared.npz",
        images=anatomy.images,
        labels=anatomy.labels,
        test=anatomy.test,
        classes=np.array(anatomy.classes),
    )
    return anatomy


def load(name: str, data: Path) -> Anatomy:
    """Read what `prepare` wrote."""
    with np.load(data / name / "prepared.npz") as content:
        classes = tuple(str(each) for each in content["classes"])
        return Anatomy(content["images"], content["labels"], content["test"], classes)
