"""The two-dimensional diffraction fingerprint (thesis appendix A; Ziletti et al. 2018, Methods), for any cloud of atoms."""

from __future__ import annotations

from functools import cache

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree  # type: ignore[import-untyped]

from training.crystals.elements import form_factor

WAVELENGTH = 0.05
"""Angstrom (5e-12 m)."""
PIXELS = 64
PIXEL, DISTANCE = 4e-4, 0.1
"""Edge of a detector's pixel and distance to the detector, in metres."""
ANGLE = 45.0
"""Degrees: every channel is the sum of the patterns after turning by +ANGLE and by -ANGLE."""
RING = (10.0, 30.0)
"""Pixels from the centre (n - 1) / 2: what lies outside is set to zero, and so are both edges."""


def rotation(axis: int, degrees: float) -> np.ndarray:
    """Matrix that turns column vectors about axis 0, 1, 2 = x, y, z; shape (3, 3)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def radii() -> np.ndarray:
    """Distance of every pixel to the detector's centre, in pixels, shape (64, 64)."""
    place = np.arange(PIXELS) - (PIXELS - 1) / 2
    return np.hypot(*np.meshgrid(place, place))


@cache
def ring() -> np.ndarray:
    """Pixels that count, bool, shape (64, 64)."""
    return (radii() > RING[0]) & (radii() < RING[1])


def momentum_transfer() -> np.ndarray:
    """Scattering vector q = k_out - k_in of every pixel, per Angstrom, shape (64, 64, 3); rows are y, columns x, the beam z.

    Both wave vectors have the length 2 pi / wavelength (Ewald's sphere), so that |q| = 4 pi sin(theta) / wavelength.
    """
    place = (np.arange(PIXELS) - (PIXELS - 1) / 2) * PIXEL
    x, y = np.meshgrid(place, place)
    out = np.stack([x, y, np.full_like(x, DISTANCE)], -1)
    out /= np.linalg.norm(out, axis=-1, keepdims=True)
    return 2 * np.pi / WAVELENGTH * (out - [0, 0, 1])


@cache
def _pixels() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the ring's pixels: q as float32 (M, 3); s = |q| / 4 pi (M,); solid angle relative to the centre's (M,)."""
    q = momentum_transfer()[ring()]
    s = np.linalg.norm(q, axis=1) / (4 * np.pi)
    return q.astype(np.float32), s, np.hypot(DISTANCE, radii()[ring()] * PIXEL) ** -3 * DISTANCE**3


@cache
def _form_factor(symbol: str) -> np.ndarray:
    return form_factor(symbol, _pixels()[1])


def nearest_neighbour_distance(positions: np.ndarray) -> float:
    """Mean over all atoms of the distance to the nearest other atom, in the unit of positions (n, 3)."""
    return float(cKDTree(positions).query(positions, 2)[0][:, 1].mean())


def normalised(positions: np.ndarray) -> np.ndarray:
    """Scaled to a mean nearest-neighbour distance of 1, centre of mass at the origin; shape (n, 3)."""
    centred = positions - positions.mean(0)
    return centred / nearest_neighbour_distance(centred)


def intensities(atoms: Atoms) -> np.ndarray:
    """Diffracted intensity I(q) = Omega |sum_a f_a exp(-i q x_a)|^2 in the ring, not normalised.

    Parameters
    ----------
    atoms : Atoms
        Any finite cloud of atoms; its cell is not used.

    Returns
    -------
    ndarray
        float64, shape (3, 64, 64): turned about x, y, z = red, green, blue.
    """
    q, _, solid_angle = _pixels()
    positions = normalised(atoms.positions)
    symbols = np.array(atoms.get_chemical_symbols())
    kinds = np.unique(symbols)
    weights = np.stack([_form_factor(kind) for kind in kinds], 1)
    member = (symbols[:, None] == kinds).astype(np.float32)
    image = np.zeros((3, PIXELS, PIXELS))
    for axis in range(3):
        total = np.zeros(len(q))
        for degrees in (ANGLE, -ANGLE):
            phase = q @ (positions @ rotation(axis, degrees).T).T.astype(np.float32)
            real = ((np.cos(phase) @ member) * weights).sum(1)
            imaginary = ((np.sin(phase) @ member) * weights).sum(1)
            total += real**2 + imaginary**2
        image[axis, ring()] = total * solid_angle
    return image


def fingerprint(atoms: Atoms) -> np.ndarray:
    """The fingerprint: `intensities`, one min-max over all three channels; float32 in [0, 1], shape (3, 64, 64)."""
    image = intensities(atoms)
    return ((image - image.min()) / (image.max() - image.min())).astype(np.float32)
