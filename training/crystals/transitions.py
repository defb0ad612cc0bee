"""Structures on the way from one class to another (thesis figs. 3.4b and 3.4d)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from training.crystals import data
from training.crystals import prototypes as p
from training.crystals.diffraction import fingerprint
from training.crystals.networks import probabilities
from training.crystals.rivals import TOLERANCES, Spglib, matched_class
from training.crystals.train import TASKS, load_network

ELEMENT = "V"
"""Of the elements that no network was trained on."""
STEPS, DRAWS = 21, 20
RATIOS = np.sort(np.concatenate([np.geomspace(0.45, 3.2, 158), list(p.CUBIC_RATIOS.values())]))
"""161 values of c/a, as many as published, the three cubic ones among them."""


def bcc_to_sc(share: float, generator: np.random.Generator, element: str = ELEMENT, edge: int = 6) -> Atoms:
    """A block of edge^3 bcc cells without a share of its body centres: bcc at 0, sc at 1 (fig. 3.4a)."""
    atoms = p.conventional_cell(p.BCC, element, generator) * (edge, edge, edge)
    centres = np.flatnonzero(np.isclose(atoms.get_scaled_positions() * edge % 1, 0.5).all(1))
    missing = generator.choice(centres, round(share * len(centres)), replace=False)
    return atoms[np.setdiff1d(np.arange(len(atoms)), missing)]


def nearest_cubic(ratio: float) -> str:
    """The cubic lattice whose c/a is nearest, on a logarithmic scale."""
    return min(p.CUBIC_RATIOS, key=lambda name: abs(np.log(ratio / p.CUBIC_RATIOS[name])))


def on_rhombohedral_path(ratio: float, element: str = ELEMENT) -> Atoms:
    """A block of the rhombohedral lattice of one atom a cell, turned so that the nearest cubic lattice stands along x, y, z."""
    cell = p.conventional_cell(p.RHOMBOHEDRAL.at(ratio), element, np.random.default_rng(0))
    return p.turned(p.supercell(cell), p.cubic_axes(1 if nearest_cubic(ratio) == "sc" else -1))


def _rivals(structures: list[Atoms], limit_s: float) -> dict[str, list[Any]]:
    with Spglib(limit_s) as spglib:
        loose = [spglib.space_groups(atoms, (TOLERANCES["loose"],))[0] for atoms in structures]
    return {"spglib, loose": loose, "template matching": [matched_class(atoms, 0.1) for atoms in structures]}


def measure(folder: Path, steps: int = STEPS, draws: int = DRAWS, limit_s: float = 2.0) -> dict[str, Any]:
    """Class probabilities along both ways, for every network; spglib and template matching on one structure a step."""
    networks = {task.name: (load_network(folder, task), task.classes) for task in TASKS}
    shares = np.linspace(0, 1, steps)
    removed = [[bcc_to_sc(s, data.generator("centres", s, draw)) for draw in range(draws)] for s in shares]
    path = [on_rhombohedral_path(ratio) for ratio in RATIOS]
    first = torch.from_numpy(np.stack([fingerprint(atoms) for each in removed for atoms in each]))
    second = torch.from_numpy(np.stack([fingerprint(atoms) for atoms in path]))
    found: dict[str, Any] = {
        "element": ELEMENT,
        "draws": draws,
        "bcc to sc": {"share": shares.tolist(), **_rivals([each[0] for each in removed], limit_s)},
        "rhombohedral": {"ratio": RATIOS.tolist(), **_rivals(path, limit_s)},
    }
    for name, (network, classes) in networks.items():
        p_first = probabilities(network, first).reshape(steps, draws, -1).numpy()
        p_second = probabilities(network, second).numpy()
        found["bcc to sc"][name] = {
            kind: {"mean": p_first[:, :, k].mean(1).tolist(), "deviation": p_first[:, :, k].std(1).tolist()}
            for k, kind in enumerate(classes)
        }
        found["rhombohedral"][name] = {kind: p_second[:, k].tolist() for k, kind in enumerate(classes)}
    return found


def half_way(share: list[float], rising: list[float]) -> float:
    """Where a curve first passes 1/2, by a straight line between its points; NaN where it never does."""
    for k in range(1, len(share)):
        low, high = rising[k - 1], rising[k]
        if low < 0.5 <= high:
            return share[k - 1] + (0.5 - low) / (high - low) * (share[k] - share[k - 1])
    return float("nan")
