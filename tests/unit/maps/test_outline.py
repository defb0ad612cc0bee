"""Outlines: small masks by hand, random ones filled again by counting crossings."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from service.maps.outline import Ring, rings


def filled(found: list[Ring], shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre a ray to the left leaves through an odd number of vertical edges."""
    crossings = np.zeros(shape, int)
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    for ring in found:
        for (x0, y0), (x1, y1) in pairwise(ring):
            if x0 == x1:
                crossings += (x0 < x) & (min(y0, y1) < y) & (y < max(y0, y1))
    return crossings % 2 == 1


def area(ring: Ring) -> float:
    """Signed by the shoelace formula: positive for clockwise on a screen, where y points down."""
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring)) / 2


def test_nothing() -> None:
    assert rings(np.zeros((4, 5), bool)) == []


def test_one_pixel_is_a_square() -> None:
    mask = np.zeros((4, 5), bool)
    mask[1, 3] = True
    assert rings(mask) == [[(3, 1), (4, 1), (4, 2), (3, 2), (3, 1)]]


def test_straight_runs_have_no_points_in_between_up_to_the_border() -> None:
    assert rings(np.ones((3, 7), bool)) == [[(0, 0), (7, 0), (7, 3), (0, 3), (0, 0)]]


def test_a_step() -> None:
    mask = np.array([[1, 0], [1, 1]], bool)
    assert rings(mask) == [[(0, 0), (1, 0), (1, 1), (2, 1), (2, 2), (0, 2), (0, 0)]]


def test_a_hole_runs_the_other_way_round() -> None:
    mask = np.ones((3, 3), bool)
    mask[1, 1] = False
    outer, hole = rings(mask)
    assert (area(outer), area(hole)) == (9, -1)
    assert set(hole) == {(1, 1), (2, 1), (2, 2), (1, 2)}


@pytest.mark.parametrize("flip", [False, True])
def test_pixels_that_touch_at_a_corner_are_two_rings(flip: bool) -> None:
    mask = np.eye(2, dtype=bool)[:, ::-1] if flip else np.eye(2, dtype=bool)
    found = rings(mask)
    assert [area(ring) for ring in found] == [1, 1]
    assert all(len(ring) == 5 for ring in found)


def test_holes_that_touch_at_a_corner_are_one_passage() -> None:
    mask = np.ones((4, 4), bool)
    mask[1, 1] = mask[2, 2] = False
    assert [area(ring) for ring in rings(mask)] == [16, -2]
    assert np.array_equal(filled(rings(mask), mask.shape), mask)


@pytest.mark.parametrize("seed", range(40))
def test_random_masks_come_back_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 14, 2)) < rng.random()
    found = rings(mask)
    assert np.array_equal(filled(found, mask.shape), mask)
    assert sum(area(ring) for ring in found) == mask.sum()
    for ring in found:
        assert ring[0] == ring[-1]
        turns = [x0 == x1 for (x0, _), (x1, _) in pairwise(ring)]
        assert all(one != other for one, other in zip(turns, [*turns[1:], turns[0]], strict=True))
        assert all(type(value) is int for corner in ring for value in corner)
