"""What explanations are held against: middle slices with the readers' contours, and maps that know nothing of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.preprocessing import nodule_box, resample
from training.lung.data import FINE_MM, FINE_PX, PREPROCESSING, Nodule, Prepared, label

CLASSES = ("benign", "malignant")
SIZE = int(PREPROCESSING["size_px"])
MOST_MM = (FINE_PX * FINE_MM - 48) / 2
"""How far a window of 48 mm can move within the prepared ones."""
SOURCE_PX = 104
"""Side of the data set's own slices, in pixels of the scanner."""


@dataclass(frozen=True)
class Cases:
    """Middle slices of nodules as the network sees them, with what the readers drew."""

    nodules: list[Nodule]
    images: Tensor
    """Float32, shape (n, 1, 72, 72)."""
    drawn: np.ndarray
    """Share of the readers who drew the pixel, float32, shape (n, 72, 72)."""

    @property
    def labels(self) -> np.ndarray:
        """0 benign, 1 malignant, shape (n,)."""
        return np.array([label(n) for n in self.nodules])

    @property
    def patients(self) -> np.ndarray:
        return np.array([n.patient for n in self.nodules])

    @property
    def regions(self) -> np.ndarray:
        """50 % consensus: bool, shape (n, 72, 72)."""
        return np.asarray(self.drawn >= 0.5)

    @property
    def of_window(self) -> np.ndarray:
        """The region's share of the window, shape (n,)."""
        return np.asarray(self.regions.mean((1, 2)))

    @property
    def of_source(self) -> np.ndarray:
        """The region's share of the source slice, shape (n,)."""
        side = SIZE * PREPROCESSING["scale_mm"] / (SOURCE_PX * np.array([n.spacing_mm for n in self.nodules]))
        return np.asarray(self.of_window * side**2)

    def subset(self, rows: np.ndarray) -> Cases:
        return Cases([self.nodules[k] for k in rows], self.images[rows], self.drawn[rows])


def read(prepared: Prepared, nodules: Sequence[Nodule], move_mm: float = 0) -> Cases:
    """Middle slices on which at least half of the readers agree on a pixel.

    The window is moved `move_mm` (at most `MOST_MM`) along both axes, in one of four directions by turns. Moved windows are cut
    from the prepared windows that training shifts; the others are the network's inputs exactly as the service makes them.
    """
    if abs(move_mm) > MOST_MM:
        raise ValueError(f"the prepared windows end {MOST_MM:g} mm beyond the network's, not {move_mm:g} mm")
    kept, images, contours = [], [], []
    for number, nodule in enumerate(nodules):
        middle = [(FINE_PX - 1) / 2 + move_mm / FINE_MM * sign for sign in (1 - 2 * (number & 1), 1 - (number & 2))]
        scale = PREPROCESSING["scale_mm"]
        box = nodule_box((middle[0], middle[1]), (FINE_MM, FINE_MM), size_px=SIZE, scale_mm=scale)
        drawn = resample(prepared.contours[nodule.middle], box, SIZE) / 255
        if (drawn >= 0.5).any():
            kept.append(nodule)
            contours.append(drawn)
            moved = (
                resample(prepared.windows[nodule.middle], box, SIZE) / 255
                if move_mm
                else prepared.inputs[nodule.middle]
            )
            images.append(moved.astype(np.float32))
    return Cases(kept, torch.from_numpy(np.stack(images))[:, None], np.stack(contours))


def first_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """Rows of `count` cases of each label, in a fixed random order; fewer where there are fewer."""
    order = np.random.default_rng(0).permutation(len(labels))
    return np.sort(np.concatenate([order[labels[order] == c][:count] for c in np.unique(labels)]))


def controls(cases: Cases, sd: float) -> dict[str, np.ndarray]:
    """Maps that know nothing of the network, each shape (n, 72, 72).

    `centre` is a Gaussian of `sd` px at the window's centre, `elsewhere` the same at a random place, `noise` is uniform,
    `readers' contour` the share of the readers who drew the pixel.
    """
    generator = np.random.default_rng(0)
    count, pixel = len(cases.nodules), np.arange(SIZE)

    def bump(middle: np.ndarray) -> np.ndarray:
        square = (pixel[None, :, None] - middle[:, :1, None]) ** 2 + (pixel[None, None] - middle[:, 1:, None]) ** 2
        return np.asarray(np.exp(-square / (2 * sd**2)))

    return {
        "centre": bump(np.full((count, 2), (SIZE - 1) / 2)),
        "elsewhere": bump(generator.uniform(0, SIZE - 1, (count, 2))),
        "noise": generator.random((count, SIZE, SIZE)),
        "readers' contour": cases.drawn,
    }


def control_texts(sd: float) -> dict[str, str]:
    """What the `controls` are, for a table."""
    return {
        "centre": f"a Gaussian of sd {sd:g} px at the window's centre",
        "elsewhere": f"a Gaussian of sd {sd:g} px at a random place",
        "noise": "uniform noise",
        "readers' contour": "the share of the readers who drew the pixel",
    }
