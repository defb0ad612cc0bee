"""The 83 elements: volume of an atom in its solid, and x-ray form factors."""

from __future__ import annotations

import json
import warnings
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers, reference_states
from ase.io import read
from ase.spacegroup.spacegroup import SpacegroupNotFoundError

VOLUMES = Path(__file__).with_name("volumes.json")
LISTED_TWICE = ("In", "Sm")
"""Their files list atoms of two settings together or only some of them; their volume comes from ase's reference states."""


@cache
def volumes() -> dict[str, float]:
    """Volume of an atom by chemical symbol, in cubic Angstrom, as `read_volumes` left it in ``volumes.json``."""
    return dict(json.loads(VOLUMES.read_text(encoding="utf-8")))


def read_volumes(folder: Path) -> dict[str, float]:
    """Volume of an atom in each element's solid, in cubic Angstrom: the median over its files (COD, public domain).

    Parameters
    ----------
    folder : Path
        CIF files named ``<symbol>-<name>.cif`` (``../shared/data/crystals``).
    """
    found: dict[str, list[float]] = {}
    for path in sorted(folder.glob("*.cif")):
        symbol = path.stem.split("-")[0].rstrip("0123456789")
        try:
            with warnings.catch_warnings(action="ignore"):
                solid: Any = read(path)
        except SpacegroupNotFoundError:  # the element has other files
            continue
        found.setdefault(symbol, []).append(solid.get_volume() / len(solid))
    known = {symbol: float(np.median(each)) for symbol, each in found.items()}
    for symbol in LISTED_TWICE:
        known[symbol] = _reference_volume(symbol)
    return {symbol: round(known[symbol], 3) for symbol in sorted(known)}


def _reference_volume(symbol: str) -> float:
    """From ase's reference state: body-centred tetragonal (2 atoms in a a c), or rhombohedral (1 + two a basis coordinate)."""
    state: Any = reference_states[atomic_numbers[symbol]]
    if state["symmetry"] == "bct":
        return float(state["a"] ** 3 * state["c/a"] / 2)
    cosine = np.cos(np.radians(state["alpha"]))
    cell = state["a"] ** 3 * np.sqrt(1 - 3 * cosine**2 + 2 * cosine**3)
    return float(cell / len(state["basis_x"]))


@cache
def _coefficients() -> dict[str, np.ndarray]:
    file = resources.files("pymatgen.analysis.diffraction") / "atomic_scattering_params.json"
    return {symbol: np.array(pairs) for symbol, pairs in json.loads(file.read_text()).items()}


def form_factor(symbol: str, s: np.ndarray) -> np.ndarray:
    """Atomic x-ray form factor in electrons: f(s) = Z - 41.78214 s^2 sum_i a_i exp(-b_i s^2).

    The coefficients are those of electron scattering that pymatgen ships (De Graef & McHenry 2012, *Structure of
    Materials*, eq. 12.10), good up to s = 2 per Angstrom. For nine elements they were held against Waasmaier and Kirfel (1995):
    within 8 percent up to s = 0.8, 20 percent at 1.2, the fingerprint's edge. Where lithium's would be negative it is zero.

    Parameters
    ----------
    symbol : str
    s : ndarray
        sin(theta) / wavelength, per Angstrom.
    """
    a, b = _coefficients()[symbol].T
    squared = np.asarray(s, float)[..., None] ** 2
    return np.maximum(0, atomic_numbers[symbol] - 41.78214 * squared[..., 0] * (a * np.exp(-b * squared)).sum(-1))
