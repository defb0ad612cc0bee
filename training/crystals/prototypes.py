"""Structures: AFLOW's elemental prototypes of the thesis' eight space groups, filled with 83 elements, labelled by spglib."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import spglib
from ase import Atoms
from ase.spacegroup import crystal

from training.crystals.elements import volumes

SPACE_GROUPS = {"bct139": 139, "bct141": 141, "rh": 166, "hex": 194, "sc": 221, "fcc": 225, "diam": 227, "bcc": 229}
"""The eight structure types and their space groups (Mehl et al. 2017, the AFLOW library of prototypes)."""
CLASSES = tuple(SPACE_GROUPS)
MERGED = ("bct139", "bct141", "hex/rh", "sc", "fcc", "diam", "bcc")
"""The thesis' seven classes: it cannot tell rh from hex."""
TO_MERGED = np.array([0, 1, 2, 2, 3, 4, 5, 6])
CUBIC_RATIOS = {"bcc": np.sqrt(3 / 8), "sc": np.sqrt(3 / 2), "fcc": np.sqrt(6)}
"""c/a on hexagonal axes at which one atom a primitive cell makes a cubic lattice."""
ATOMS = 256
LABEL_PRECISION = 1e-3
"""Angstrom: the tolerance that spglib labels pristine structures with."""

spglib.error.OLD_ERROR_HANDLING = False  # errors are raised; the old way warns at every call

Draw = Callable[[np.random.Generator], float]


def uniform(*ranges: tuple[float, float]) -> Draw:
    """A number from one of several ranges, longer ranges more often."""
    lengths = np.array([high - low for low, high in ranges])

    def draw(generator: np.random.Generator) -> float:
        low, high = ranges[generator.choice(len(ranges), p=lengths / lengths.sum())]
        return float(generator.uniform(low, high))

    return draw


def fixed(value: float) -> Draw:
    """Always the same number."""
    return lambda generator: value


NOTHING = fixed(0.0)


@dataclass(frozen=True)
class Prototype:
    """A structure type with one or two occupied Wyckoff positions."""

    name: str
    """AFLOW's label."""
    kind: str
    """One of `CLASSES`."""
    sites: Callable[[float], list[tuple[float, float, float]]]
    """Fractional coordinates of one atom an occupied position, on conventional axes, for a free coordinate."""
    ratio: Draw
    """c/a."""
    coordinate: Draw = NOTHING

    @property
    def angle(self) -> float:
        """Angle between a and b in degrees."""
        return 120.0 if self.kind in ("rh", "hex") else 90.0

    def at(self, ratio: float, coordinate: float = 0.0) -> Prototype:
        """The same with its free numbers fixed."""
        return replace(self, ratio=fixed(ratio), coordinate=fixed(coordinate))


RHOMBOHEDRAL = Prototype(
    "A_hR1_166_a", "rh", lambda z: [(0, 0, 0)], uniform((0.4, 0.57), (0.66, 1.15), (1.3, 2.28), (2.62, 3.0))
)
BCC = Prototype("A_cI2_229_a", "bcc", lambda z: [(0, 0, 0)], fixed(1.0))
PROTOTYPES = (
    Prototype("A_tI2_139_a", "bct139", lambda z: [(0, 0, 0)], uniform((0.65, 0.94), (1.06, 1.33), (1.5, 1.85))),
    Prototype("A_tI4_141_a", "bct141", lambda z: [(0, 0.75, 0.125)], uniform((0.45, 0.7))),
    RHOMBOHEDRAL,
    Prototype("A_hR2_166_c", "rh", lambda z: [(0, 0, z)], uniform((2.4, 2.9)), uniform((0.215, 0.24))),
    Prototype("A_hR3_166_ac", "rh", lambda z: [(0, 0, 0), (0, 0, z)], uniform((7.0, 7.5)), uniform((0.218, 0.226))),
    Prototype("A_hP2_194_c", "hex", lambda z: [(1 / 3, 2 / 3, 0.25)], uniform((1.5, 1.9))),
    Prototype("A_hP4_194_ac", "hex", lambda z: [(0, 0, 0), (1 / 3, 2 / 3, 0.25)], uniform((3.1, 3.4))),
    Prototype("A_hP4_194_f", "hex", lambda z: [(1 / 3, 2 / 3, z)], uniform((1.58, 1.72)), uniform((0.058, 0.067))),
    Prototype("A_cP1_221_a", "sc", lambda z: [(0, 0, 0)], fixed(1.0)),
    Prototype("A_cF4_225_a", "fcc", lambda z: [(0, 0, 0)], fixed(1.0)),
    Prototype("A_cF8_227_a", "diam", lambda z: [(0.125, 0.125, 0.125)], fixed(1.0)),
    BCC,
)
"""In, beta-Sn; Hg or beta-Po, As, Sm; Mg, alpha-La, lonsdaleite; alpha-Po, Cu, C, W. Ranges of the free numbers are ours: what
the elements show, without the 5 percent around a cubic lattice (there spglib's label hangs on a tolerance)."""


def setting(number: int) -> int:
    """Origin choice 2 (at a centre of symmetry) where the space group has two."""
    return 2 if number in (141, 227) else 1


def conventional_cell(prototype: Prototype, element: str, generator: np.random.Generator) -> Atoms:
    """A conventional cell on standard axes (c along z, hexagonal axes for rh), with the element's own volume an atom."""
    ratio, coordinate = prototype.ratio(generator), prototype.coordinate(generator)
    number = SPACE_GROUPS[prototype.kind]
    sites = prototype.sites(coordinate)
    cell = crystal(
        [element] * len(sites),
        sites,
        spacegroup=number,
        setting=setting(number),
        cellpar=[1, 1, ratio, 90, 90, prototype.angle],
        onduplicates="keep",
        symprec=1e-6,
    )
    return with_volume(cell, element)


def with_volume(cell: Atoms, element: str) -> Atoms:
    """A cell scaled to the element's volume an atom, in Angstrom, as plain atoms of that element."""
    scale = (volumes()[element] * len(cell) / cell.get_volume()) ** (1 / 3)
    return Atoms([element] * len(cell), cell=cell.cell * scale, scaled_positions=cell.get_scaled_positions(), pbc=True)


def cubic_axes(twin: int) -> np.ndarray:
    """Rotation that brings hexagonal axes (c along z) into a cube's: c along [111]; matrix for column vectors, shape (3, 3).

    There are two ways, twins of each other. Where c/a of one atom a primitive rhombohedral cell passes sqrt(3/8), sqrt(3/2) and
    sqrt(6), the lattice is bcc, sc and fcc: sc has its cube along x, y, z with `twin` = 1, bcc and fcc have it with -1.
    """
    threefold = np.ones(3) / np.sqrt(3)
    across = twin * np.array([2, -1, -1]) / np.sqrt(6)
    cube = np.stack([across, np.cross(threefold, across), threefold], 1)
    hexagonal = np.array([[np.sqrt(3) / 2, -1 / 2, 0], [1 / 2, np.sqrt(3) / 2, 0], [0, 0, 1]])
    return cube @ hexagonal.T


def turned(atoms: Atoms, matrix: np.ndarray) -> Atoms:
    """Atoms and cell after a rotation of column vectors."""
    other = atoms.copy()
    other.set_cell(atoms.cell.array @ matrix.T)
    other.positions = atoms.positions @ matrix.T
    return other


def repeats(cell: Atoms, atoms: int = ATOMS) -> tuple[int, ...]:
    """How often to repeat a cell along its axes: about so many atoms in a block whose sides differ little.

    Axes of one length are repeated equally often. The best of all blocks has the smallest sum of |log(its atoms / atoms)| and
    0.3 log(longest / shortest side).
    """
    lengths, axis = np.unique(cell.cell.lengths().round(6), return_inverse=True)
    edge = (cell.get_volume() * atoms / len(cell)) ** (1 / 3)
    grids = np.meshgrid(*[np.arange(1, 2 + int(1.6 * edge / length)) for length in lengths], indexing="ij")
    choices = np.stack([grid.ravel() for grid in grids], 1)
    sides = choices * lengths
    size = np.abs(np.log(len(cell) * choices[:, axis].prod(1) / atoms))
    best = choices[np.argmin(size + 0.3 * np.log(sides.max(1) / sides.min(1)))]
    return tuple(int(n) for n in best[axis])


def supercell(cell: Atoms, atoms: int = ATOMS) -> Atoms:
    """A block of about so many atoms."""
    return cell * repeats(cell, atoms)


def space_group(atoms: Atoms, precision: float) -> int:
    """Number of the space group that spglib finds at a tolerance in Angstrom; 0 where it finds none."""
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    try:
        found = spglib.get_symmetry_dataset(cell, symprec=precision)
    except spglib.SpglibError:
        return 0
    return 0 if found is None else int(found.number)
