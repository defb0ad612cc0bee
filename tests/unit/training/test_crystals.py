"""The diffraction fingerprint against physics, its invariances, the structures and their damage."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list
from ase.utils.xrdebye import waasmaier

from training.crystals import data, defects, diffraction, elements
from training.crystals import prototypes as p
from training.crystals.transitions import bcc_to_sc, half_way, nearest_cubic, on_rhombohedral_path
from training.data import shared_data


def cubic(kind: str, repeat: int, element: str = "Fe") -> Atoms:
    """A block of cubic cells from ase's own builder, with a nearest-neighbour distance unlike 1 Angstrom."""
    return bulk(element, {"diam": "diamond"}.get(kind, kind), a=3.7, cubic=True) * ((repeat,) * 3)


def centre_of_spot(image: np.ndarray, near: tuple[float, float], reach: float = 2.6) -> tuple[float, float]:
    """Centroid (x, y in pixels from the centre) of the intensity around a place."""
    place = np.arange(64) - 31.5
    x, y = np.meshgrid(place, place)
    weight = image * (np.hypot(x - near[0], y - near[1]) < reach)
    return float((weight * x).sum() / weight.sum()), float((weight * y).sum() / weight.sum())


def pixels(q: float) -> float:
    """Radius in pixels of a scattering vector, per Angstrom: q = 4 pi sin(theta) / 0.05, tan(2 theta) = 0.004 r."""
    return float(np.tan(2 * np.arcsin(q * 0.05 / (4 * np.pi))) / 0.004)


@pytest.mark.parametrize(
    ("kind", "repeat", "channel", "direction", "q"),
    [
        # turned by 45 degrees about x, the row of {100} along x stays: 2 pi / d, d = 1 = nearest-neighbour distance
        ("sc", 6, 0, (1, 0), 2 * np.pi),
        # about z the cube's axes lie on the diagonals
        ("sc", 6, 2, (np.sqrt(0.5), np.sqrt(0.5)), 2 * np.pi),
        # bcc {110}: d = a / sqrt(2), a = 2 / sqrt(3); about z a face diagonal falls on x
        ("bcc", 5, 2, (1, 0), 2 * np.pi * np.sqrt(2) / (2 / np.sqrt(3))),
        # fcc {111}: d = a / sqrt(3), a = sqrt(2); seen along [011]: the angle to x is acos(1 / sqrt(3))
        ("fcc", 4, 0, (np.sqrt(1 / 3), np.sqrt(2 / 3)), 2 * np.pi * np.sqrt(3) / np.sqrt(2)),
        # diamond {220}: d = a / sqrt(8), a = 4 / sqrt(3)
        ("diam", 3, 2, (1, 0), 2 * np.pi * np.sqrt(8) / (4 / np.sqrt(3))),
    ],
)
def test_first_shells(kind: str, repeat: int, channel: int, direction: tuple[float, float], q: float) -> None:
    assert q == pytest.approx(6.283 if kind == "sc" else 7.695, abs=1e-3)
    image = diffraction.fingerprint(cubic(kind, repeat))[channel]
    expected = pixels(q) * np.array(direction)
    assert centre_of_spot(image, tuple(expected)) == pytest.approx(tuple(expected), abs=0.35)
    y, x = np.unravel_index(image.argmax(), image.shape)
    spot = image[round(31.5 + expected[1]), round(31.5 + expected[0])]
    assert spot > 0.5 * image[y, x]


def test_ewald_sphere_is_elastic() -> None:
    """|k_out| = |k_in|, and the pixel at 12.5 px sees 2 pi per Angstrom."""
    q = diffraction.momentum_transfer()
    assert np.linalg.norm(q + np.array([0, 0, 2 * np.pi / 0.05]), axis=-1) == pytest.approx(2 * np.pi / 0.05)
    assert q[31, 44] == pytest.approx([2 * np.pi, -0.5 * 2 * np.pi / 12.5, -0.158], abs=0.01)


def test_intensity_is_the_sum_over_all_pairs() -> None:
    """|sum_a f exp(-iqx)|^2 = sum_ab f_a f_b cos(q (x_a - x_b)), written as a double loop for three atoms and one pixel."""
    positions = np.array([[0.0, 0, 0], [2, 0, 0], [0, 2.2, 0.4]])
    atoms = Atoms(["Fe", "O", "Cu"], positions)
    distance = np.linalg.norm(positions[:, None] - positions, axis=-1) + np.diag([np.inf] * 3)
    scaled = positions / distance.min(0).mean()
    q = diffraction.momentum_transfer()[20, 45]
    f = [float(elements.form_factor(s, np.linalg.norm(q) / (4 * np.pi))) for s in ("Fe", "O", "Cu")]
    half = np.sqrt(0.5)
    total = 0.0
    for sine in (half, -half):
        turned = scaled @ np.array([[half, 0, sine], [0, 1, 0], [-sine, 0, half]]).T  # about y
        total += sum(f[a] * f[b] * np.cos(q @ (turned[a] - turned[b])) for a in range(3) for b in range(3))
    cosine = 0.1 / np.sqrt(0.1**2 + (4e-4) ** 2 * (11.5**2 + 13.5**2))
    assert diffraction.intensities(atoms)[1, 20, 45] == pytest.approx(total * cosine**3, rel=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_channels_are_rotations_about_x_y_z(axis: int) -> None:
    """A rod of atoms is unchanged by turning it about itself: only that channel shows it in full length, or end on."""
    rod = np.zeros((24, 3))
    rod[:, axis] = np.arange(24)
    image = diffraction.intensities(Atoms(["Fe"] * 24, rod))
    if axis < 2:
        x, y = ((12, 0), (0, 12))[axis]
        spot = image[:, 32 + y, 32 + x]  # |q| = 2 pi on the rod's own axis
        assert spot.argmax() == axis
        assert spot[axis] > 20 * np.delete(spot, axis).max()
    else:
        assert np.rot90(image[2]) == pytest.approx(image[2], rel=1e-4, abs=1e-4 * image[2].max())
        assert np.abs(np.rot90(image[0]) - image[0]).max() > 0.5 * image[0].max()
        assert image[1] == pytest.approx(image[0].T, rel=1e-3, abs=1e-3 * image[0].max())


def test_rotations() -> None:
    for axis in range(3):
        matrix = diffraction.rotation(axis, 45)
        assert matrix @ matrix.T == pytest.approx(np.eye(3))
        assert np.linalg.det(matrix) == pytest.approx(1)
        assert matrix[axis] == pytest.approx(np.eye(3)[axis])
        forward = np.eye(3)[(axis + 1) % 3]
        assert matrix @ forward == pytest.approx(np.sqrt(0.5) * (forward + np.eye(3)[(axis + 2) % 3]))


def test_ring_and_scale_of_values() -> None:
    image = diffraction.fingerprint(cubic("fcc", 3))
    assert image.shape == (3, 64, 64) and image.dtype == np.float32
    assert image.min() == 0 and image.max() == 1
    rows, columns = np.nonzero(image.sum(0))
    radius = np.hypot(rows - 31.5, columns - 31.5)
    assert 10 < radius.min() < 10.5 and 29.5 < radius.max() < 30


def test_invariances() -> None:
    atoms = defects.displaced(cubic("bcc", 5), 0.05, np.random.default_rng(0))
    image = diffraction.fingerprint(atoms)
    moved = atoms.copy()
    moved.positions = moved.positions * 2.7 + [31.0, -8, 4]
    assert diffraction.fingerprint(moved) == pytest.approx(image, abs=2e-4)
    assert diffraction.fingerprint(atoms[np.random.default_rng(1).permutation(len(atoms))]) == pytest.approx(
        image, abs=2e-4
    )


@pytest.mark.parametrize(("kind", "small", "large"), [("sc", 6, 7), ("fcc", 3, 4), ("bcc", 5, 6)])
def test_size_of_the_supercell_changes_the_spots_width_only(kind: str, small: int, large: int) -> None:
    """Same spots; they narrow as 1 / edge, so that the images stay alike, and the two sizes are nearer than two structures."""
    first, second = (diffraction.fingerprint(cubic(kind, n)) for n in (small, large))
    other = diffraction.fingerprint(cubic("diam" if kind == "fcc" else "fcc", 3))
    same, unlike = (np.corrcoef(first.ravel(), x.ravel())[0, 1] for x in (second, other))
    assert same > 0.9
    assert unlike < same - 0.3


@pytest.mark.parametrize("symbol", ["C", "O", "S", "Ni", "Cu", "Pd", "Ag", "Pt", "Au"])
def test_form_factors_are_those_of_another_table(symbol: str) -> None:
    """ase ships Waasmaier and Kirfel's (1995) five Gaussians and a constant, fitted to x-ray factors up to s = 6."""
    s = np.array([0.0, 0.3, 0.5, 0.8, 1.2])
    *pairs, constant = waasmaier[symbol]
    peer = constant + sum(a * np.exp(-b * s**2) for a, b in zip(pairs[::2], pairs[1::2], strict=True))
    assert elements.form_factor(symbol, s)[:4] == pytest.approx(peer[:4], rel=0.08, abs=0.15)
    assert elements.form_factor(symbol, s)[4] == pytest.approx(peer[4], rel=0.2)


def test_form_factors_are_never_negative() -> None:
    s = np.linspace(0, 1.3, 40)
    assert all((elements.form_factor(symbol, s) >= 0).all() for symbol in elements.volumes())


def test_volumes_are_those_of_the_files_and_of_the_solids() -> None:
    assert len(elements.volumes()) == 83
    assert elements.read_volumes(shared_data() / "crystals") == elements.volumes()
    assert elements.volumes()["Cu"] == pytest.approx(3.615**3 / 4, rel=1e-3)
    assert elements.volumes()["W"] == pytest.approx(3.165**3 / 2, rel=0.01)
    assert elements.volumes()["In"] == pytest.approx(26.1, rel=0.01)  # a = 3.25, c = 4.95 Angstrom, 2 atoms
    assert elements.volumes()["Sm"] == pytest.approx(33.2, rel=0.02)  # 20.0 cm3 a mole


@pytest.mark.parametrize("prototype", p.PROTOTYPES, ids=lambda prototype: prototype.name)
def test_prototypes_have_their_space_group_and_volume(prototype: p.Prototype) -> None:
    for seed in range(3):
        cell = p.conventional_cell(prototype, "Sn", np.random.default_rng(seed))
        assert p.space_group(cell, p.LABEL_PRECISION) == p.SPACE_GROUPS[prototype.kind]
        assert int(prototype.name.split("_")[2]) == p.SPACE_GROUPS[prototype.kind]
        assert cell.get_volume() / len(cell) == pytest.approx(elements.volumes()["Sn"])
        block = p.supercell(cell)
        assert 205 <= len(block) <= 310
        lengths = block.cell.lengths()
        assert lengths.max() / lengths.min() < 2.2


@pytest.mark.parametrize(("kind", "neighbours"), [("sc", 6), ("bcc", 8), ("fcc", 12), ("diam", 4)])
def test_coordination_numbers(kind: str, neighbours: int) -> None:
    prototype = next(q for q in p.PROTOTYPES if q.kind == kind)
    cell = p.conventional_cell(prototype, "Fe", np.random.default_rng(0))
    distance = diffraction.nearest_neighbour_distance((cell * (3, 3, 3)).positions)
    first = np.bincount(neighbor_list("i", cell, distance * 1.05))
    assert (first == neighbours).all()


def test_rhombohedral_lattices_become_cubic_along_the_axes() -> None:
    """At sqrt(3/8), sqrt(3/2), sqrt(6) the nearest neighbours lie along <111>, <100>, <110> of x, y, z."""
    directions = {"bcc": [1, 1, 1], "sc": [1, 0, 0], "fcc": [1, 1, 0]}
    for name, ratio in p.CUBIC_RATIOS.items():
        assert nearest_cubic(ratio * 1.1) == name
        atoms = on_rhombohedral_path(ratio)
        assert p.space_group(atoms, 1e-3) == p.SPACE_GROUPS[name]
        bond = diffraction.nearest_neighbour_distance(atoms.positions)
        vectors = neighbor_list("D", atoms, bond * 1.02)
        expected = np.array(directions[name]) / np.linalg.norm(directions[name])
        assert np.sort(np.abs(vectors / bond), axis=1) == pytest.approx(
            np.tile(np.sort(expected), (len(vectors), 1)), abs=1e-6
        )
    assert p.space_group(on_rhombohedral_path(1.0), 1e-3) == 166
    assert p.cubic_axes(1) @ p.cubic_axes(1).T == pytest.approx(np.eye(3))


def test_removing_all_body_centres_leaves_sc() -> None:
    whole, empty = (bcc_to_sc(share, np.random.default_rng(0), edge=3) for share in (0.0, 1.0))
    assert [len(whole), len(empty)] == [54, 27]
    assert [p.space_group(a, 1e-3) for a in (whole, empty)] == [229, 221]
    assert len(bcc_to_sc(1 / 3, np.random.default_rng(0), edge=3)) == 45
    assert half_way([0.0, 0.5, 1.0], [0.1, 0.4, 0.8]) == pytest.approx(0.625)
    assert np.isnan(half_way([0.0, 1.0], [0.1, 0.2]))


def test_defects() -> None:
    generator = np.random.default_rng(0)
    atoms = cubic("sc", 10)
    moved = defects.displaced(atoms, 0.05, generator).positions - atoms.positions
    assert moved.std() == pytest.approx(0.05, rel=0.05)
    assert abs(moved.mean()) < 0.005
    fewer = defects.with_vacancies(atoms, 0.6, generator)
    assert len(fewer) == 400
    assert {tuple(x) for x in fewer.positions.round(6)} < {tuple(x) for x in atoms.positions.round(6)}
    other = defects.substituted(atoms, 0.25, generator)
    changed = other.numbers != atoms.numbers
    assert changed.sum() == 250
    assert len(set(other.get_chemical_symbols())) > 60
    assert (other.positions == atoms.positions).all() and set(atoms.get_chemical_symbols()) == {"Fe"}
    assert defects.PRISTINE.apply(atoms, generator) is atoms
    levels = [(d.kind, d.level) for d in defects.DAMAGES if not d.beyond and d.level]
    assert ("displacement", 0.001) in levels and ("displacement", 0.06) in levels
    assert ("vacancy", 0.01) in levels and ("vacancy", 0.6) in levels


def test_elements_are_split_and_structures_are_the_same_every_time() -> None:
    parts = {symbol: data.part_of(symbol) for symbol in elements.volumes()}
    assert {part: list(parts.values()).count(part) for part in set(parts.values())} == {
        "train": 49,
        "validate": 11,
        "test": 23,
    }
    first, second = data.damaged("rh", "V", 3), data.damaged("rh", "V", 3)
    assert (first.positions == second.positions).all() and (first.numbers == second.numbers).all()
    assert json.dumps(elements.volumes())  # plain numbers
