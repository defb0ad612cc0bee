"""Three kinds of damage to a structure (thesis table 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from training.crystals.elements import volumes


def displaced(atoms: Atoms, sigma: float, generator: np.random.Generator) -> Atoms:
    """Every coordinate of every atom moved by a normal number with standard deviation `sigma`, in Angstrom."""
    damaged = atoms.copy()
    damaged.positions += generator.normal(0, sigma, atoms.positions.shape)
    return damaged


def with_vacancies(atoms: Atoms, share: float, generator: np.random.Generator) -> Atoms:
    """A share of the atoms taken away at random; round(share * n) atoms."""
    missing = generator.choice(len(atoms), round(share * len(atoms)), replace=False)
    return atoms[np.setdiff1d(np.arange(len(atoms)), missing)]


def substituted(atoms: Atoms, share: float, generator: np.random.Generator) -> Atoms:
    """A share of the atoms replaced by atoms of other elements, each drawn from the 83."""
    damaged = atoms.copy()
    symbols = np.array(atoms.get_chemical_symbols(), dtype="<U2")
    for place in generator.choice(len(atoms), round(share * len(atoms)), replace=False):
        symbols[place] = generator.choice([symbol for symbol in volumes() if symbol != symbols[place]])
    damaged.set_chemical_symbols(list(symbols))
    return damaged


@dataclass(frozen=True)
class Damage:
    """A column of table 3.2: one kind of defect at one level."""

    kind: str
    """Key of `KINDS`."""
    level: float
    """Angstrom for displacements, a share otherwise."""
    beyond: bool = False
    """Whether the level lies beyond the thesis' table."""

    def apply(self, atoms: Atoms, generator: np.random.Generator) -> Atoms:
        """The damaged structure; at level 0 the structure itself."""
        return KINDS[self.kind](atoms, self.level, generator) if self.level else atoms


KINDS: dict[str, Callable[[Atoms, float, np.random.Generator], Atoms]] = {
    "displacement": displaced,
    "vacancy": with_vacancies,
    "substitution": substituted,
}
PRISTINE = Damage("displacement", 0.0)
DAMAGES = (
    PRISTINE,
    *(Damage("displacement", sigma) for sigma in (0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.06)),
    *(Damage("displacement", sigma, True) for sigma in (0.1, 0.2, 0.4)),
    *(Damage("vacancy", share) for share in (0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.4, 0.5, 0.6)),
    *(Damage("vacancy", share, True) for share in (0.7, 0.8)),
    *(Damage("substitution", share, True) for share in (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)),
)
"""The thesis' range (0.001 to 0.06 Angstrom, 1 to 60 percent) and what lies beyond it."""
