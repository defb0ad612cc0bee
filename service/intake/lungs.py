"""Where the lungs are in a volume: the air that the body encloses, without windpipe and bowel, closed over what grows in.

A lung is looked for on a grid of half the resolution. Air is enclosed where it does not reach the border of its plane; plane by
plane, because a scan ends in the middle of the lungs and a windpipe may lead outside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.intake.morphology import dilated, distance, doubled, filled, halved, labels, large_labels

AIR_HU = -400
PARENCHYMA_HU = (-965.0, -500.0)
"""Median of a lung; gas in bowel, stomach or between arm and trunk lies below."""
AIRWAY_HU = -920
LEAST_ML, LEAST_PART_ML = 250.0, 60.0
"""Of all lungs together, and of one."""
MOST_PARTS = 4
LEAST_DEPTH_MM = 25.0
CLOSING_MM = 12.0
_SEED_MM = 5.0
"""Two lungs that touch are told apart by what is farther than this from their surface."""
_WINDPIPE_MM2 = (40.0, 900.0)
_MOST_AIRWAY_ML = 120.0


@dataclass(frozen=True)
class Lung:
    """One lung (both, where they cannot be told apart) in a box of the volume.

    Attributes
    ----------
    box : tuple of slice
        Part of the volume that holds it.
    field : ndarray, bool, the box's shape
        The closed lung field: vessels, nodules, and nodules that sit on the pleura are inside.
    parenchyma_hu : float
        Median of the air-filled lung.
    """

    box: tuple[slice, slice, slice]
    field: np.ndarray
    parenchyma_hu: float


@dataclass(frozen=True)
class Lungs:
    """The lung field of a volume.

    Attributes
    ----------
    lungs : tuple of Lung
        Empty when there is no lung field.
    ml : float
        Volume of the enclosed air that looks like lung.
    reason : str
        Why there is no lung field; empty when there is.
    """

    lungs: tuple[Lung, ...]
    ml: float
    reason: str


def find(hounsfield: np.ndarray, step_mm: float) -> Lungs:
    """Lungs of a volume.

    Parameters
    ----------
    hounsfield : ndarray, int16, shape (planes, rows, columns)
        With the same step, mm, in all directions.
    """
    coarse = halved(hounsfield)
    step = 2 * step_mm
    ml = step**3 / 1000
    if coarse.shape[0] * step < LEAST_DEPTH_MM or min(coarse.shape[1:]) * step < 80:
        return Lungs((), 0.0, f"the series covers less than {LEAST_DEPTH_MM:g} mm of the body")
    enclosed, windpipe = _enclosed(coarse, step)
    lung = enclosed & ~_airways(coarse, enclosed, windpipe, ml)
    parts = []
    for part in _parts(lung, step, ml):
        median = float(np.median(coarse[part]))
        if PARENCHYMA_HU[0] <= median <= PARENCHYMA_HU[1]:
            parts.append((part, median))
    total = float(sum(part.sum() for part, _ in parts)) * ml
    if total < LEAST_ML:
        return Lungs((), total, f"no lung field: {total:.0f} ml look like lung, at least {LEAST_ML:g} ml are needed")
    return Lungs(tuple(_lung(part, median, step, hounsfield.shape) for part, median in parts), total, "")


def _enclosed(coarse: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Air that does not reach the border of its plane, and the pieces of it that may be the windpipe."""
    air = coarse < AIR_HU
    enclosed, windpipe = np.zeros_like(air), np.zeros_like(air)
    low, high = (size / step**2 for size in _WINDPIPE_MM2)
    for k, plane in enumerate(air):
        pieces = labels(plane)
        sizes = np.bincount(pieces.ravel())
        inside = np.ones(len(sizes), bool)
        for edge in (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]):
            inside[edge] = False
        inside[0] = False
        enclosed[k] = inside[pieces]
        level = np.bincount(pieces.ravel(), coarse[k].ravel()) / np.maximum(sizes, 1)
        tube = inside & (sizes >= low) & (sizes <= high) & (level < -850)
        for label in np.flatnonzero(tube):
            rows, columns = np.nonzero(pieces == label)
            sides = np.ptp(rows) + 1, np.ptp(columns) + 1
            core = np.percentile(coarse[k][rows, columns], 25)
            if max(sides) < 2.5 * min(sides) and sizes[label] > 0.5 * sides[0] * sides[1] and core < -950:
                windpipe[k, rows, columns] = True
    return enclosed, windpipe


def _airways(coarse: np.ndarray, enclosed: np.ndarray, windpipe: np.ndarray, ml: float) -> np.ndarray:
    """Windpipe and large bronchi with their walls: very dark air that hangs together with the windpipe."""
    dark = enclosed & (coarse < AIRWAY_HU)
    pieces = labels(dark)
    sizes = np.bincount(pieces.ravel())
    hits = np.bincount(pieces[windpipe & dark], minlength=len(sizes))
    chosen = (hits > 0) & (hits * 12 > sizes) & (sizes * ml < _MOST_AIRWAY_ML)  # more is a leak into emphysema
    chosen[0] = False
    return dilated(chosen[pieces] | windpipe, 2)


def _parts(lung: np.ndarray, step: float, ml: float) -> list[np.ndarray]:
    """The lungs one by one: every voxel belongs to the nearest large piece of deep lung."""
    kept = large_labels(lung, int(LEAST_PART_ML / 4 / ml)) > 0
    if not kept.any():
        return []
    box = _box(kept, 1)
    small = kept[box]
    pieces = large_labels(distance(filled(lung[box]), step) > _SEED_MM, int(LEAST_PART_ML / 4 / ml)).astype(np.uint8)
    nearest, least = np.zeros(small.shape, np.uint8), np.full(small.shape, np.inf, np.float32)
    parts = []
    for n in range(1, min(int(pieces.max()), MOST_PARTS) + 1):
        away = distance(pieces != n, step)
        nearest[away < least] = n
        np.minimum(least, away, out=least)
    for n in range(1, int(nearest.max()) + 1):
        part = np.zeros_like(lung)
        part[box] = small & (nearest == n)
        if part.sum() * ml >= LEAST_PART_ML:
            parts.append(part)
    return parts


def _box(mask: np.ndarray, margin: int) -> tuple[slice, slice, slice]:
    """The part of an array that holds a mask, and a margin where there is room."""
    sides = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        sides.append(slice(max(0, int(used[0]) - margin), min(mask.shape[axis], int(used[-1]) + 1 + margin)))
    return (sides[0], sides[1], sides[2])


def _lung(part: np.ndarray, median: float, step: float, shape: tuple[int, ...]) -> Lung:
    """Close a lung, and bring it to the fine grid."""
    coarse = _box(part, int(np.ceil((CLOSING_MM + 4) / step)))
    small = part[coarse]
    near = distance(~small, step) <= CLOSING_MM
    closed = filled((distance(near, step) > CLOSING_MM) | small)
    fine = tuple(slice(2 * side.start, min(2 * side.stop, size)) for side, size in zip(coarse, shape, strict=True))
    return Lung((fine[0], fine[1], fine[2]), doubled(closed), median)
