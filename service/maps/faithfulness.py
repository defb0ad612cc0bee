"""Is a map true to its network? Deletion and insertion curves of one image, beside those of random orders.

Source: V. Petsiuk, A. Das and K. Saenko, *RISE: Randomized Input Sampling for Explanation of Black-box Models*, BMVC 2018,
section 4. Ours: patches instead of single pixels, because a sieve of single pixels is no image that the network knows; patches
that equal the filler already do not count; and the curves of random orders as the null, because a curve alone says nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from models import perturbation

METHOD = 1
"""Changes when the numbers would: kept results of another method are measured anew."""
STEPS = 16
BATCH = 8
"""Images of one call of the network; between two calls an analysis can have it."""


@dataclass(frozen=True)
class Plan:
    """How one kind of image is taken apart."""

    patches: int
    """Along a side."""
    orders: int
    """Random ones; a photograph takes the network ten times as long as a nodule."""


NODULE, PHOTOGRAPH = Plan(12, 10), Plan(32, 5)
"""Squares of 4 mm in a window of 48 mm; of a thirty-second of the field of view."""


@dataclass(frozen=True)
class Curve:
    """p(c) after 0, 1, ... of equal steps, and its mean (the area under it, for steps of equal width)."""

    values: tuple[float, ...]

    @property
    def auc(self) -> float:
        return float(np.mean(self.values))


@dataclass(frozen=True)
class Faithfulness:
    """What the network says while an image is taken apart and put together.

    Attributes
    ----------
    deletion, insertion : Curve
        In falling order of the map: patches give way to the filler, or come back on the filler.
    random : tuple of Curve
        Deletion in random orders. Insertion in the reverse of an order shows the same images the other way round, so its curve is
        the same one backwards, with the same area.
    patch_px : int
    patches : int
        That counted.
    """

    deletion: Curve
    insertion: Curve
    random: tuple[Curve, ...]
    patch_px: int
    patches: int

    def body(self) -> dict[str, Any]:
        """For the HTTP contract."""
        null = np.array([curve.values for curve in self.random])
        areas = [curve.auc for curve in self.random]
        area = {"mean": _short(np.mean(areas)), "sd": _short(np.std(areas, ddof=1))}
        middle = [_short(value) for value in null.mean(axis=0)]
        return {
            "steps": len(self.deletion.values) - 1,
            "fraction": np.linspace(0, 1, len(self.deletion.values)).tolist(),
            "deletion": {"curve": [_short(value) for value in self.deletion.values], "auc": _short(self.deletion.auc)},
            "insertion": {
                "curve": [_short(value) for value in self.insertion.values],
                "auc": _short(self.insertion.auc),
            },
            "random": {
                "n": len(self.random),
                "deletion_auc": area,
                "insertion_auc": area,
                "deletion": middle,
                "insertion": middle[::-1],
            },
            "patch_px": self.patch_px,
            "patches": self.patches,
        }


def filler(image: np.ndarray) -> tuple[np.ndarray, str]:
    """What removed patches are filled with, for one network input, and how to say it.

    A nodule's window takes its median: most of it is lung, so a nodule gives way to the tissue around it, where the mean, between
    lung and chest wall, would put grey patches into the lung that look like nodules. A photograph takes 0: after local contrast
    normalisation that is the retina's local mean, without any detail.

    Parameters
    ----------
    image : ndarray, float32, shape (C, H, W)
        C = 1: a nodule's window; else a photograph.

    Returns
    -------
    ndarray, float32, shape (C, 1, 1)
    str
    """
    if len(image) == 1:
        return np.median(image).astype(np.float32).reshape(1, 1, 1), "the median grey of the window"
    return np.zeros((len(image), 1, 1), np.float32), "the local mean of the photograph (0 after local contrast)"


def measure(
    predict: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    response: np.ndarray,
    plan: Plan | None = None,
    steps: int = STEPS,
) -> Faithfulness:
    """Curves of one image by its map, and by random orders (fixed seeds 0, 1, ...).

    Parameters
    ----------
    predict : callable
        (n, C, H, W) float32 -> (n,): p of the class that the map is of; n is at most `BATCH`.
    image : ndarray, float32, shape (C, H, W)
        The network's input.
    response : ndarray, shape (H, W)
        The map of the class.
    plan : Plan, optional
        `NODULE` for one channel, else `PHOTOGRAPH`.
    steps : int
        Equal steps from none to all patches.
    """
    plan = plan or (NODULE if len(image) == 1 else PHOTOGRAPH)
    height, width = response.shape
    patch = width // plan.patches
    flat, _ = filler(image)
    differs = (
        (image != flat).any(axis=0).reshape(height // patch, patch, width // patch, patch).any(axis=(1, 3)).ravel()
    )
    by_map = perturbation.by_response(response, patch)
    by_map = by_map[differs[by_map]]
    null = [np.random.default_rng(seed).permutation(np.flatnonzero(differs)) for seed in range(plan.orders)]

    def between(order: np.ndarray) -> Iterator[np.ndarray]:
        return itertools.islice(perturbation.changed(order, (height, width), patch, steps), 1, steps)

    def stages() -> Iterator[np.ndarray]:
        yield image
        yield np.broadcast_to(flat, image.shape)
        yield from (np.where(shown, image, flat) for shown in between(by_map))
        for order in (by_map, *null):
            yield from (np.where(gone, flat, image) for gone in between(order))

    whole, empty, *said = _said(predict, stages()).tolist()
    insertion, *deletions = (said[start : start + steps - 1] for start in range(0, len(said), steps - 1))
    deletion, *random = (Curve((whole, *one, empty)) for one in deletions)
    return Faithfulness(deletion, Curve((empty, *insertion, whole)), tuple(random), patch, len(by_map))


def _said(predict: Callable[[np.ndarray], np.ndarray], stages: Iterator[np.ndarray]) -> np.ndarray:
    """What the network says of all stages, asked in batches."""
    said: list[np.ndarray] = []
    batch: list[np.ndarray] = []
    for stage in stages:
        batch.append(stage)
        if len(batch) == BATCH:
            said.append(predict(np.stack(batch)))
            batch = []
    if batch:
        said.append(predict(np.stack(batch)))
    return np.concatenate(said).astype(np.float64)


def _short(value: Any) -> float:
    return round(float(value), 5)
