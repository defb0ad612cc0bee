"""Nodules planted into a real chest CT: balls, and the shapes that radiologists drew in LIDC-IDRI, filled evenly.

What is planted only brightens: vessels stay visible in ground glass, and a nodule on the pleura merges with the wall. Noise and
texture are those of the CT below.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jpeg_ls
import numpy as np
import SimpleITK

from training.lung.data import part_of

SOLID_HU, GROUND_GLASS_HU = 30.0, -600.0
PLACES = ("inside", "pleura", "vessel")
_EDGE_MM = 1.2
_APART_MM = 12.0
_TRIES = 400


@dataclass(frozen=True)
class Shape:
    """How much of each place the nodule fills: `alpha` (z, y, x) 0..1 with its steps in mm; None is a ball."""

    name: str
    diameter_mm: float
    alpha: np.ndarray | None = None
    steps_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Planted:
    """One nodule in a copy: voxel (slice, row, column) of its centre, and what it is."""

    at: tuple[float, float, float]
    diameter_mm: float
    texture: str
    place: str
    shape: str


@dataclass(frozen=True)
class Ground:
    """The CT that is planted into: Hounsfield units (slices, rows, columns), steps in mm, and distances in mm.

    `wall` is the distance of every voxel of the lungs to their surface (0 outside), `vessel` that to the next larger vessel.
    """

    hounsfield: np.ndarray
    steps_mm: tuple[float, float, float]
    wall: np.ndarray
    vessel: np.ndarray


def ground(hounsfield: np.ndarray, steps_mm: tuple[float, float, float]) -> Ground:
    """Lungs by a threshold, plane by plane; on purpose not the service's way."""
    lungs = np.zeros(hounsfield.shape, bool)
    area = steps_mm[1] * steps_mm[2]
    for k, plane in enumerate(hounsfield):
        labels = SimpleITK.GetArrayFromImage(
            SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray((plane < -500).astype(np.uint8)))
        )
        sizes = np.bincount(labels.ravel())
        means = np.bincount(labels.ravel(), plane.ravel()) / np.maximum(sizes, 1)
        good = (sizes * area > 400) & (means > -940)
        good[np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))] = False
        good[0] = False
        filled = SimpleITK.BinaryFillhole(SimpleITK.GetImageFromArray(good[labels].astype(np.uint8)))
        lungs[k] = SimpleITK.GetArrayFromImage(filled) > 0
    wall = _distance(lungs, steps_mm)
    smooth = SimpleITK.GetArrayFromImage(SimpleITK.DiscreteGaussian(SimpleITK.GetImageFromArray(hounsfield), [1.0] * 3))
    return Ground(hounsfield, steps_mm, wall, _distance(~((smooth > -400) & (wall > 5)), steps_mm))


def _distance(inside: np.ndarray, steps_mm: tuple[float, float, float]) -> np.ndarray:
    image = SimpleITK.GetImageFromArray((~inside).astype(np.uint8))
    image.SetSpacing(steps_mm[::-1])
    found = SimpleITK.SignedMaurerDistanceMap(
        image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True
    )
    return np.maximum(SimpleITK.GetArrayFromImage(found), 0)


def drawn(folder: Path, part: str) -> list[Shape]:
    """Shapes of LIDC-IDRI nodules of one part of the patients, 3 to 30 mm, that at least half of their readers drew."""
    with (folder / "nodules.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if part_of(row["patient_id"]) == part]
    shapes = []
    with zipfile.ZipFile(folder / "slices.zip") as archive:
        for row in rows:
            if row["match"] != "exact" or int(row["n_annotations"]) < 3 or int(row["n_slices"]) < 3:
                continue
            diameter, slices = float(row["diameter_mm_mean"]), int(row["n_slices"])
            if not 3 <= diameter <= 30:
                continue
            bits = jpeg_ls.decode(np.frombuffer(archive.read(f"{row['file']}.readers.jls"), np.uint8))
            readers = np.unpackbits(np.asarray(bits, np.uint8).reshape(slices, 104, 104, 1), axis=-1).sum(axis=-1)
            alpha = (2 * readers >= int(row["n_masks"])).astype(np.float32)
            if alpha.any():
                side, depth = float(row["pixel_spacing_mm"]), float(row["slice_thickness_mm"])
                shapes.append(Shape(row["file"], diameter, alpha, (depth, side, side)))
    return shapes


def plant(
    base: Ground,
    shapes: Sequence[Shape],
    textures: Sequence[str],
    places: Sequence[str],
    keep_off: Sequence[Planted],
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[Planted]]:
    """A copy of the CT with the nodules that found a place, and where they are.

    Parameters
    ----------
    keep_off : sequence of Planted
        Known findings; nothing is planted within 20 mm of them.
    """
    copy = base.hounsfield.copy()
    done: list[Planted] = []
    steps = np.array(base.steps_mm)
    for shape, texture, place in zip(shapes, textures, places, strict=True):
        radius = shape.diameter_mm / 2
        where = _places(base, place, radius)
        for _ in range(_TRIES if len(where) else 0):
            at = where[rng.integers(len(where))] + rng.uniform(-0.5, 0.5, 3)
            gaps = [
                (
                    np.linalg.norm((at - other.at) * steps) - radius - other.diameter_mm / 2,
                    20 if other in keep_off else _APART_MM,
                )
                for other in (*keep_off, *done)
            ]
            if all(gap > least for gap, least in gaps):
                centre = _draw(copy, base.steps_mm, shape, texture, at, rng)
                done.append(
                    Planted(centre, shape.diameter_mm, texture, place, "ball" if shape.alpha is None else shape.name)
                )
                break
    return copy, done


def _places(base: Ground, place: str, radius: float) -> np.ndarray:
    wall, vessel = base.wall, base.vessel
    if place == "inside":
        fits = (wall > radius + 3) & ((vessel > radius + 1) if radius < 6 else (vessel > 0))
    elif place == "pleura":
        fits = (wall > 0.2 * radius) & (wall < max(0.7 * radius, 0.2 * radius + 0.8))
    else:
        fits = (wall > radius + 3) & (vessel > 0.5 * radius) & (vessel < max(radius, 0.5 * radius + 1))
    ends = int(np.ceil((radius + 2) / base.steps_mm[0]))
    fits[:ends] = False
    fits[len(fits) - ends :] = False
    return np.argwhere(fits)


def _draw(
    copy: np.ndarray,
    steps_mm: tuple[float, float, float],
    shape: Shape,
    texture: str,
    at: np.ndarray,
    rng: np.random.Generator,
) -> tuple[float, float, float]:
    """Brighten the copy; returns the voxel of the centre of mass."""
    reach = shape.diameter_mm * (0.5 if shape.alpha is None else 1.2) + 4
    low = np.maximum(np.floor(at - reach / np.array(steps_mm)).astype(int), 0)
    high = np.minimum(np.ceil(at + reach / np.array(steps_mm)).astype(int) + 1, copy.shape)
    grids = np.ogrid[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    z, y, x = ((grid - a) * step for grid, a, step in zip(grids, at, steps_mm, strict=True))
    away = np.sqrt(z**2 + y**2 + x**2)
    radius = shape.diameter_mm / 2
    alpha = np.clip(0.5 - (away - radius) / _EDGE_MM, 0, 1) if shape.alpha is None else _turned(shape, (z, y, x), rng)
    core = np.clip(0.5 - (away - 0.5 * radius) / _EDGE_MM, 0, 1) * alpha
    level = {"solid": SOLID_HU, "ground glass": GROUND_GLASS_HU, "part-solid": GROUND_GLASS_HU}[texture]
    part = copy[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    part += alpha * np.maximum(level - part, 0)
    if texture == "part-solid":
        part += core * np.maximum(SOLID_HU - part, 0)
    mass = alpha.sum()
    centre = [float((alpha * grid).sum() / mass) for grid in grids]
    return (centre[0], centre[1], centre[2])


def _turned(shape: Shape, offsets: tuple[np.ndarray, ...], rng: np.random.Generator) -> np.ndarray:
    """The drawn shape at these distances in mm from its centre, mirrored and turned about the body's axis by chance."""
    assert shape.alpha is not None
    angle, mirror = rng.uniform(0, 2 * np.pi), rng.choice([-1.0, 1.0])
    middle = [float(v.mean()) for v in np.nonzero(shape.alpha)]
    z, y, x = np.broadcast_arrays(*offsets)
    across, down = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    turned = (z * rng.choice([-1.0, 1.0]), down, mirror * across)
    index = [t / s + m for t, s, m in zip(turned, shape.steps_mm, middle, strict=True)]
    values = _linear(shape.alpha, index)
    smooth = SimpleITK.DiscreteGaussian(SimpleITK.GetImageFromArray(values), [0.5] * 3)
    return np.clip(SimpleITK.GetArrayFromImage(smooth), 0, 1)


def _linear(array: np.ndarray, index: Sequence[np.ndarray]) -> np.ndarray:
    """Trilinear interpolation; nothing outside."""
    padded = np.pad(array, 1)
    place = [np.clip(i + 1, 0, n - 1.001) for i, n in zip(index, padded.shape, strict=True)]
    low = [np.floor(p).astype(int) for p in place]
    total = np.zeros(np.shape(index[0]), np.float32)
    for corner in np.ndindex(2, 2, 2):
        weight = np.ones_like(total)
        for p, a, c in zip(place, low, corner, strict=True):
            weight *= (p - a) if c else (1 - (p - a))
        total += weight * padded[tuple(a + c for a, c in zip(low, corner, strict=True))]
    return total
