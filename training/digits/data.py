"""MNIST from its idx files and SVHN from the official .mat files, both as arrays of one form."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.io import loadmat  # type: ignore[import-untyped]
from torch import Tensor

from training.data import shared_data

SETS = ("mnist", "svhn")
HELD = 5000
"""Images at the end of the training set that are looked at while learning, a tenth of a smaller set.

The end, not a random part: SVHN's neighbours are digits of one photograph.
"""


@dataclass(frozen=True)
class Digits:
    """Images of digits, uint8, shape (n, C, H, W), and what they are, int64 0..9, shape (n,)."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, rows: slice | np.ndarray) -> Digits:
        """Some of them."""
        return Digits(self.images[rows], self.labels[rows])

    def inputs(self) -> Tensor:
        """What a network sees: float32, 0..1, shape (n, C, H, W)."""
        return torch.from_numpy(self.images.astype(np.float32) / 255)


@dataclass(frozen=True)
class Prepared:
    """A set as it is learnt from (`train`), watched (`held`) and scored (`test`, the official one)."""

    train: Digits
    held: Digits
    test: Digits


def read_idx(path: Path) -> np.ndarray:
    """Read an idx file of unsigned bytes, gzipped or plain.

    Returns
    -------
    ndarray, uint8
        Of the shape that the file names.

    Raises
    ------
    ValueError
        When the file is not of this format, or is shorter or longer than it says.
    """
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path}: not an idx file of unsigned bytes")
    start = 4 + 4 * content[3]
    shape = tuple(int(n) for n in np.frombuffer(content[4:start], ">u4"))
    if len(shape) != content[3] or len(content) - start != int(np.prod(shape)):
        raise ValueError(f"{path}: {len(content) - start} values, but its header says {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _found(folder: Path, name: str) -> Path:
    for candidate in (name, name.replace("-idx", ".idx")):
        for ending in ("", ".gz"):
            if (folder / (candidate + ending)).exists():
                return folder / (candidate + ending)
    raise FileNotFoundError(f"{folder} has no {name}, gzipped or plain")


def read_mnist(folder: Path, part: str) -> Digits:
    """MNIST's `part`, "train" or "t10k", from a folder of the idx files (LeCun & Cortes); shape (n, 1, 28, 28)."""
    images, labels = (read_idx(_found(folder, f"{part}-{name}-ubyte")) for name in ("images-idx3", "labels-idx1"))
    if len(images) != len(labels):
        raise ValueError(f"{folder}: {len(images)} images and {len(labels)} labels of {part}")
    return Digits(images[:, None], labels.astype(np.int64))


def read_svhn(path: Path) -> Digits:
    """SVHN's cropped digits from an official ``*_32x32.mat`` (Netzer et al. 2011); shape (n, 3, 32, 32).

    The file holds ``X``, uint8 of shape (row, column, colour, n), and ``y`` of shape (n, 1) with 1..10, where 10 stands for 0.

    Raises
    ------
    ValueError
        When the file holds something else.
    """
    content = loadmat(path)
    if "X" not in content or "y" not in content:
        raise ValueError(f"{path}: no X and y")
    images, labels = content["X"], content["y"].ravel().astype(np.int64)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2] != 3 or images.shape[3] != len(labels):
        raise ValueError(f"{path}: X is {images.dtype} {images.shape} for {len(labels)} labels")
    if len(labels) and not (labels.min() >= 1 and labels.max() <= 10):
        raise ValueError(f"{path}: labels {labels.min()}..{labels.max()}, not 1..10")
    return Digits(np.ascontiguousarray(images.transpose(3, 2, 0, 1)), labels % 10)


def load(name: str, folder: Path | None = None) -> Prepared:
    """Read a set.

    Parameters
    ----------
    name : "mnist" or "svhn"
    folder : Path, optional
        Of the official files; MNIST lies in ../shared/data unless given. For SVHN ``train_32x32.mat`` and ``test_32x32.mat``,
        and ``extra_32x32.mat`` if it is there: more training images.

    Raises
    ------
    FileNotFoundError
        When a file is missing.
    """
    if name == "mnist":
        folder = folder or shared_data() / "mnist"
        train, test = read_mnist(folder, "train"), read_mnist(folder, "t10k")
    else:
        if folder is None:
            raise FileNotFoundError(
                "SVHN is not in ../shared/data: name the folder of train_32x32.mat and test_32x32.mat"
            )
        train, test = (read_svhn(folder / f"{part}_32x32.mat") for part in ("train", "test"))
    held = min(HELD, len(train) // 10)
    learnt = train.part(slice(0, len(train) - held))
    if name == "svhn" and (folder / "extra_32x32.mat").exists():
        extra = read_svhn(folder / "extra_32x32.mat")
        learnt = Digits(np.concatenate([learnt.images, extra.images]), np.concatenate([learnt.labels, extra.labels]))
    return Prepared(learnt, train.part(slice(len(train) - held, None)), test)
