"""One even grid of Hounsfield units from the slices of a series, read one at a time, with the way back to millimetres."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from service.intake.stack import Stack, axes, position

STEP_MM = 1.0
MOST_VOXELS = 40_000_000
"""A larger field is read on a coarser grid: 80 MB of 16-bit numbers."""
LOWEST_HU, HIGHEST_HU = -1024, 2000


@dataclass(frozen=True)
class Volume:
    """A series on a grid with the same step in all directions.

    Attributes
    ----------
    hounsfield : ndarray, int16, shape (planes, rows, columns)
        Planes run along the stack's normal. Clipped to -1024 and 2000 HU; what is no number is -1024.
    step_mm : float
    stack : Stack
    slice_at : ndarray, float64, shape (planes,)
        Place of each plane in the stack: 2.5 lies half-way between slices 2 and 3.
    """

    hounsfield: np.ndarray
    step_mm: float
    stack: Stack
    slice_at: np.ndarray

    def to_mm(self, point: tuple[float, float, float]) -> tuple[float, float, float]:
        """Patient coordinates (x, y, z) in mm of a voxel (plane, row, column), not necessarily whole.

        Between two slices the place is interpolated, so a tilted gantry is followed.
        """
        plane, row, column = point
        rows, columns = self.stack.instances[0].rows, self.stack.instances[0].columns
        pixel = (
            (column + 0.5) * columns / self.hounsfield.shape[2] - 0.5,
            (row + 0.5) * rows / self.hounsfield.shape[1] - 0.5,
        )
        at = float(np.interp(plane, np.arange(len(self.slice_at)), self.slice_at))
        below = min(int(at), len(self.stack.instances) - 2)
        ends = np.array([self.stack.to_mm(k, pixel) for k in (below, below + 1)])
        x, y, z = ends[0] + (at - below) * (ends[1] - ends[0])
        return (float(x), float(y), float(z))


def read(slices: Iterable[np.ndarray] | Callable[[int], np.ndarray], stack: Stack) -> Volume:
    """Read a series; only the grid and two slices are in memory at a time.

    In the plane pixels are averaged over each voxel's area; along the normal thin slices are averaged and thick ones
    interpolated linearly, over gaps as well.

    Parameters
    ----------
    slices : iterable of ndarray, or callable
        Hounsfield units (rows, columns) in the order of `stack.instances`; or a function that reads the slice of an index.
    stack : Stack
        At least two slices.

    Raises
    ------
    ValueError
        One slice only, or fewer slices than the stack has.
    """
    count = len(stack.instances)
    if count < 2:
        raise ValueError("a volume needs at least two slices")
    normal = axes(stack.instances[0])[2]
    along = np.array([normal @ position(instance) for instance in stack.instances])
    first = stack.instances[0]
    height, width = first.rows * stack.pixel_spacing[0], first.columns * stack.pixel_spacing[1]
    depth = float(along[-1] - along[0])
    step = max(STEP_MM, (height * width * max(depth, STEP_MM) / MOST_VOXELS) ** (1 / 3))
    shape = (int(depth / step) + 1, max(1, round(height / step)), max(1, round(width / step)))
    planes = along[0] + step * np.arange(shape[0])
    hounsfield = np.empty(shape, np.int16)
    together = max(1, round(step / float(np.median(np.diff(along)))))
    done, before, before_at = 0, np.empty(0, np.float32), 0.0
    for at, image in _averaged(slices, along, together, (shape[2], shape[1])):
        while done < shape[0] and planes[done] <= at + 1e-6:
            share = 1.0 if done == 0 or at <= before_at else (planes[done] - before_at) / (at - before_at)
            hounsfield[done] = np.rint(image if before.size == 0 else before + np.float32(share) * (image - before))
            done += 1
        before, before_at = image, at
    hounsfield[done:] = np.rint(before)
    return Volume(hounsfield, step, stack, np.interp(planes, along, np.arange(count)))


def _averaged(
    slices: Iterable[np.ndarray] | Callable[[int], np.ndarray], along: np.ndarray, together: int, size: tuple[int, int]
) -> Iterator[tuple[float, np.ndarray]]:
    """Position and picture of every `together` neighbours, on the grid of the plane."""
    given = map(slices, range(len(along))) if callable(slices) else iter(slices)
    for start in range(0, len(along), together):
        group = range(start, min(start + together, len(along)))
        total: np.ndarray | None = None
        for _ in group:
            image = next(given, None)
            if image is None:
                raise ValueError("fewer slices were given than the stack has")
            clean = np.nan_to_num(image, nan=LOWEST_HU, posinf=HIGHEST_HU, neginf=LOWEST_HU)
            clean = clean.astype(np.float32).clip(LOWEST_HU, HIGHEST_HU)
            total = clean if total is None else total + clean
        if total is not None:
            yield float(along[list(group)].mean()), _resized(total / len(group), size)


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Mean over the area of every new pixel; linear interpolation where the new pixels are smaller."""
    finer = size[0] > image.shape[1] or size[1] > image.shape[0]
    kind = Image.Resampling.BILINEAR if finer else Image.Resampling.BOX
    return np.asarray(Image.fromarray(image).resize(size, kind))
