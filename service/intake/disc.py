"""The optic disc of a fundus photograph: where it lies, and which eye that makes it.

The disc is a bright, round spot, about a seventh of the field of view wide, where upright vessels meet. The fovea, a dark spot
without vessels, lies two and a half diameters of the disc towards the temple and a little lower, and the large vessels bend round
it. In a photograph of a right eye as an observer sees it the disc is right of the fovea, in one of a left eye left of it.

Every place of a coarse raster is scored as the centre of the disc of a right eye: a weighted sum of brightness and vessels there
and at 55 places round it (a template, `WEIGHTS`), and of the place itself. A left eye is the mirrored photograph. Many cameras
deliver photographs upside down, which shows in a fovea above the disc, so both are tried turned by 180 degrees as well. The
exponentials of the scores, added up, give the probability of each eye: by construction a mirrored photograph gets the opposite
answer, and where no disc is seen, or nothing tells up from down, the probability stays away from 0 and 1. A photograph that was
mirrored, not turned, is read as the other eye: nothing in it tells.

The weights have the greatest likelihood on one half of the patients, and were measured on the other: ``python -m
training.retina.laterality``, whose figures are in ``docs/results/retina_laterality.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.preprocessing import Field, crop_square

SIZE_PX, RASTER = 128, 32
"""Side of the square, cut round the field, that is looked at; and of the raster of places in it."""
MAPS = ("bright_red", "bright_green", "upright_vessels", "level_vessels")
COLUMNS, ROWS = (-15, -12, -9, -6, -3, 0, 3, 6), (-9, -6, -3, 0, 3, 6, 9)
"""Places of the template, from the disc of a right eye, on the raster; 16 is the field's radius. The fovea is near -10, 1."""
FEATURES = (
    "red",
    "upright_vessels",
    "x",
    "x_squared",
    "y_squared",
    *(f"{name} {row} {column}" for name in ("green", "vessels") for row in ROWS for column in COLUMNS),
)
"""What is weighed: at the place itself, the place (from the centre of the field, in radii), and at the template's places."""
WEIGHTS: tuple[float, ...] = (
    2.59, -0.87, 0.73, 0.4, -0.35,
    0.32, -0.34, -0.14, 0.16, 0.28, -0.35, 0.13, 0.6,
    0.35, 0.02, 0.06, 0.52, 0.77, 0.15, 0.41, -0.06,
    0.02, 0.12, 0.56, -0.16, 0.04, -0.39, 0.74, 0.98,
    0.45, 0.03, 0.16, 0.47, 1.6, 1.94, -0.13, 0.39,
    0.01, -1.06, 0.19, -0.23, -0.65, 0.18, -0.14, -0.3,
    0.21, 0.31, 0.37, 0.5, 0.91, 0.42, 0.55, 0.09,
    0.05, -0.2, -0.13, 0.82, 0.34, -0.38, -0.48, 0.0,
    0.55, -0.28, 0.22, -0.09, 0.08, -0.18, -0.15, -0.65,
    0.3, -0.58, 0.08, 0.34, 0.74, 0.25, 0.11, -0.57,
    0.64, 0.28, 0.02, -0.43, 0.0, 0.55, -0.53, 0.54,
    -0.18, -0.42, -0.28, -0.23, -0.26, 0.53, 0.1, -0.2,
    -0.13, 1.05, 0.14, 0.15, -0.05, 0.46, -0.17, 0.03,
    0.26, 0.08, -0.85, 0.42, 0.16, 0.29, -0.47, 0.35,
    0.64, -0.09, -0.03, 0.41, 0.23, 0.27, -0.45, -0.21,
)  # fmt: skip
"""Of `FEATURES`; from the second line on a row of the template a line."""
TURNED = 0.321
"""Share of photographs that are upside down, before one is looked at."""
VIEWS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2, -1), (-2,))
"""Axes of a map that are reversed so that it shows an upright right eye: right, left, right turned, left turned."""
_INSIDE = 0.93
"""Share of the field's radius that is looked at: the rim of many cameras is bright."""
_REACH = 16
_MOST = 5.0
"""Brightness beyond so many standard deviations tells no more."""


@dataclass(frozen=True)
class Disc:
    """The optic disc, as the photograph shows it.

    Attributes
    ----------
    x, y : float
        Likeliest centre, from the centre of the field in its radii; x to the right, y down.
    right : float
        Probability that this is a right eye, 0..1.
    """

    x: float
    y: float
    right: float


def find(photograph: np.ndarray, field: Field) -> Disc:
    """Look for the disc.

    Parameters
    ----------
    photograph : ndarray, uint8, shape (H, W, 3)
        RGB, upright, of a retina: anything else gets a meaningless answer.
    field : Field
        Its field of view.
    """
    return judge(maps(crop_square(photograph, field.box, SIZE_PX)), WEIGHTS, TURNED)


def judge(seen: np.ndarray, weights: Sequence[float], turned: float) -> Disc:
    """The answer by these weights and share of photographs upside down; `seen` as `maps` gives it."""
    found = scores(seen, weights, turned)
    likelihood = np.exp(found - found.max())
    right, left, right_turned, left_turned = likelihood.sum((-2, -1))
    place = likelihood.sum(0)
    row, column = np.unravel_index(int(_around(place).argmax()), place.shape)
    rows, columns = slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
    near = place[rows, columns] / place[rows, columns].sum()
    at = places()
    return Disc(
        x=float((near.sum(0) * at[columns]).sum()),
        y=float((near.sum(1) * at[rows]).sum()),
        right=float((right + right_turned) / (right + left + right_turned + left_turned)),
    )


def places() -> np.ndarray:
    """Coordinates of the raster's columns, or rows, in radii of the field: float64, shape (RASTER,)."""
    return np.asarray((np.arange(RASTER) + 0.5) / (RASTER / 2) - 1)


def maps(square: np.ndarray) -> np.ndarray:
    """What is seen at each place of the raster.

    Parameters
    ----------
    square : ndarray, uint8, shape (SIZE_PX, SIZE_PX, 3)

    Returns
    -------
    ndarray, float32, shape (4, RASTER, RASTER)
        `MAPS`: brightness over that of the surroundings (difference of Gaussians of 5 and 14 px) in standard deviations over the
        field, red and green; and the strength of dark upright and of dark level lines (second difference over 3 px) within
        a disc's distance, by the mean of both over the field.
    """
    offset = (np.arange(SIZE_PX) + 0.5) / (SIZE_PX / 2) - 1
    inside = ((offset[:, None] ** 2 + offset[None] ** 2) < _INSIDE**2) & (square.max(axis=2) > 0.06 * 255)
    green = square[:, :, 1].astype(np.float32)
    bright = [_bright(square[:, :, 0].astype(np.float32), inside), _bright(green, inside)]
    smooth = _gauss(green, inside, 1.2) / np.maximum(_gauss(green, inside, 8.0), 10.0)
    lines = [_gauss(_dark_lines(smooth, axis, inside), inside, 5.0) for axis in (1, 0)]
    mean = max(float((lines[0] + lines[1])[inside].mean()) / 2, 1e-6) if inside.any() else 1.0
    step = SIZE_PX // RASTER
    found = np.stack([*bright, *(line / mean for line in lines)]) * inside
    return np.asarray(found.reshape(4, RASTER, step, RASTER, step).mean((2, 4)), np.float32)


def features(seen: np.ndarray) -> np.ndarray:
    """`FEATURES` of every place as the disc of an upright right eye; nothing is seen outside the square.

    Parameters
    ----------
    seen : ndarray, shape (4, RASTER, RASTER)
        See `maps`.

    Returns
    -------
    ndarray, float32, shape (117, RASTER, RASTER)
    """
    red, green, upright, level = seen
    x, y = np.meshgrid(places(), places())
    around = []
    for values in (green, upright + level):
        padded = np.pad(values, _REACH)
        for row in ROWS:
            for column in COLUMNS:
                top, left = _REACH + row, _REACH + column
                around.append(padded[top : top + RASTER, left : left + RASTER])
    return np.stack([red, upright, x, x**2, y**2, *around], dtype=np.float32)


def scores(seen: np.ndarray, weights: Sequence[float], turned: float) -> np.ndarray:
    """Logarithm of the likelihood of each view and place of the disc, up to a constant.

    Returns
    -------
    ndarray, float64, shape (4, RASTER, RASTER)
        `VIEWS`; -infinity outside the field.
    """
    prior = np.log([1 - turned, 1 - turned, turned, turned])
    found = np.stack([np.flip(np.tensordot(weights, features(np.flip(seen, axes)), 1), axes) for axes in VIEWS])
    return np.where(in_field(), found + prior[:, None, None], -np.inf)


def in_field() -> np.ndarray:
    """Places of the raster inside the field: bool, shape (RASTER, RASTER)."""
    at = places()
    return np.asarray(at[:, None] ** 2 + at[None] ** 2 < _INSIDE**2)


def _bright(channel: np.ndarray, inside: np.ndarray) -> np.ndarray:
    found = _gauss(channel, inside, 5.0) - _gauss(channel, inside, 14.0)
    deviation = float(found[inside].std()) if inside.any() else 0.0
    return np.asarray(np.clip(found / max(deviation, 0.1), -_MOST, _MOST))


def _dark_lines(smooth: np.ndarray, axis: int, inside: np.ndarray) -> np.ndarray:
    """Strength of dark lines across `axis`; none where the second difference reaches beyond the field."""
    before, after = (np.roll(smooth, shift, axis) for shift in (3, -3))
    whole = inside & np.roll(inside, 3, axis) & np.roll(inside, -3, axis)
    return np.asarray(np.maximum(before + after - 2 * smooth, 0) * whole)


def _around(place: np.ndarray) -> np.ndarray:
    """Sum over each place and its eight neighbours."""
    padded = np.pad(place, 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return np.asarray(rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:])


def _gauss(values: np.ndarray, inside: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur that takes only pixels of the mask into account (normalised convolution, Knutsson and Westin 1993)."""
    place = np.arange(len(values))
    kernel = np.exp(-0.5 * ((place[:, None] - place[None]) / sigma) ** 2).astype(np.float32)
    weight = kernel @ inside.astype(np.float32) @ kernel
    return np.asarray(kernel @ (values * inside) @ kernel / np.maximum(weight, 1e-6))
