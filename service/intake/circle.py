"""The round field of view of a fundus photograph, found from its outline; what is cut off by the photograph's border counts.

`models.preprocessing.fundus_field` gives the square that the model sees and takes the lit extent for the field. Here a circle
is fitted to the outline, so that a shape that is not round, or a field that is half outside, is noticed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

_LONGEST_PX = 400
_RAYS = 240
_LARGEST = 2.0 * _LONGEST_PX
_LEAST_EDGE = 20
"""Rays (of 240) that must meet the outline inside the photograph."""
_NEAR = 0.02
"""Distance from the circle, in radii, up to which an outline point lies on it."""


@dataclass(frozen=True)
class Circle:
    """A circle fitted to the outline of what is lit, in pixels of the photograph."""

    x: float
    y: float
    radius: float
    roundness: float
    """Share of the outline points within 2 % of the radius of the circle."""
    cut_off: float
    """Share of the circle's area outside the photograph."""


def find(photograph: np.ndarray) -> Circle | None:
    """Fit a circle to the border between the dark surround and the lit field.

    Rays go out from the middle of what is lit; the last lit pixel of each is an outline point, unless the photograph ends
    there. The circle is the algebraic least-squares fit (Kasa 1976) to these points, repeated without those far from it.

    Parameters
    ----------
    photograph : ndarray, uint8, shape (H, W, 3)

    Returns
    -------
    Circle or None
        None where nothing is lit, or where the lit part has hardly any outline inside the photograph.
    """
    factor = max(1, max(photograph.shape[:2]) // _LONGEST_PX)
    small = np.asarray(Image.fromarray(photograph).reduce(factor)).max(axis=2).astype(np.float32)
    lit = small > max(float(np.percentile(small, 2)) + 10, 15)
    if lit.mean() < 0.02:
        return None
    x, y, inside = _outline(lit)
    if inside.sum() < _LEAST_EDGE:
        return None
    x, y = x[inside], y[inside]
    fitted = _fit(x, y)
    if fitted is None:
        return None
    center_x, center_y, radius = fitted
    distance = np.abs(np.hypot(x - center_x, y - center_y) - radius)
    cut_off = _outside(center_x, center_y, radius, lit.shape)
    return Circle(
        center_x * factor, center_y * factor, radius * factor, float((distance < _NEAR * radius).mean()), cut_off
    )


def _outline(lit: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The outermost lit pixel of each ray, and whether the photograph goes on behind it."""
    height, width = lit.shape
    rows, columns = np.nonzero(lit)
    start_x, start_y = float(np.median(columns)), float(np.median(rows))
    angle = np.arange(_RAYS) * (2 * np.pi / _RAYS)
    steps = np.arange(int(np.hypot(height, width)))
    ray_x, ray_y = start_x + np.cos(angle)[:, None] * steps, start_y + np.sin(angle)[:, None] * steps
    within = (ray_x >= 0) & (ray_x <= width - 1) & (ray_y >= 0) & (ray_y <= height - 1)
    on = np.zeros(within.shape, bool)
    on[within] = lit[np.rint(ray_y[within]).astype(int), np.rint(ray_x[within]).astype(int)]
    last = np.where(on, steps, 0).max(axis=1)
    end = np.where(within, steps, 0).max(axis=1)
    return start_x + np.cos(angle) * last, start_y + np.sin(angle) * last, last < end - 2


def _fit(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float] | None:
    """Centre and radius of the circle through most of the points; None where they lie on no circle."""
    keep = np.ones(len(x), bool)
    for _ in range(6):
        if keep.sum() < _LEAST_EDGE // 2:
            return None
        system = np.column_stack([2 * x[keep], 2 * y[keep], np.ones(int(keep.sum()))])
        (center_x, center_y, rest), _, rank, _ = np.linalg.lstsq(system, x[keep] ** 2 + y[keep] ** 2, rcond=None)
        square = rest + center_x**2 + center_y**2
        if rank < 3 or not 0 < square < _LARGEST**2:
            return None
        radius = float(np.sqrt(square))
        distance = np.abs(np.hypot(x - center_x, y - center_y) - radius)
        closer = distance < max(2 * float(np.median(distance[keep])), 0.01 * radius)
        if (closer == keep).all():
            break
        keep = closer
    return float(center_x), float(center_y), radius


def _outside(x: float, y: float, radius: float, shape: tuple[int, ...]) -> float:
    """Share of the circle's area outside an image of this shape."""
    offset = (np.arange(100) + 0.5) / 50 - 1
    disc = offset[:, None] ** 2 + offset[None] ** 2 < 1
    rows, columns = y + radius * offset, x + radius * offset
    within = ((rows > -0.5) & (rows < shape[0] - 0.5))[:, None] & ((columns > -0.5) & (columns < shape[1] - 0.5))[None]
    return float(1 - within[disc].mean())
