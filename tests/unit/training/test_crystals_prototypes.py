"""The prototypes against AFLOW's own structures, as pymatgen ships them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from training.crystals import prototypes as p

with warnings.catch_warnings(action="ignore"):  # of the libraries below, at their import
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Lattice, Structure
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer


def entries(label: str) -> list[Structure]:
    """AFLOW's structures of a label, on conventional axes."""
    found = [entry["snl"].structure for entry in AFLOW_PROTOTYPE_LIBRARY if entry["tags"]["aflow"] == label]
    return [SpacegroupAnalyzer(s, 1e-3).get_conventional_standard_structure() for s in found]


def coordinates(prototype: p.Prototype) -> list[float]:
    """Values of the free coordinate over its range."""
    drawn = [prototype.coordinate(np.random.default_rng(seed)) for seed in range(60)]
    return list(np.linspace(min(drawn), max(drawn), 8)) if max(drawn) > min(drawn) else drawn[:1]


@pytest.mark.parametrize("prototype", p.PROTOTYPES, ids=lambda prototype: prototype.name)
def test_some_draw_is_aflows_structure(prototype: p.Prototype) -> None:
    """With the library's c/a (which lies in the range drawn from) one of the coordinates drawn from gives its structure."""
    matcher = StructureMatcher(ltol=0.02, stol=0.05, angle_tol=1, scale=True)
    ratios = [prototype.ratio(np.random.default_rng(seed)) for seed in range(200)]
    hits = 0
    for known in entries(prototype.name):
        ratio = known.lattice.c / known.lattice.a
        if not min(ratios) - 0.02 <= ratio <= max(ratios) + 0.02:
            continue  # another mineral of the same label: oxygen, graphite
        element = known[0].specie.symbol
        for coordinate in coordinates(prototype):
            cell = p.conventional_cell(prototype.at(ratio, coordinate), "Fe", np.random.default_rng(0))
            ours = Structure(Lattice(cell.cell.array), [element] * len(cell), cell.get_scaled_positions())
            hits += matcher.fit(ours, known)
    assert hits >= 1
