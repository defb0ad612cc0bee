"""The order of patches and what has changed after each step, by hand."""

from __future__ import annotations

import numpy as np

from models import perturbation


def test_patches_come_in_falling_order_of_their_positive_response() -> None:
    response = np.zeros((4, 6))
    response[0, 0], response[0, 1] = 5, -100  # patch 0: 5; the signs do not cancel
    response[2:, 2:4] = 2  # patch 4: 8
    response[3, 5] = 1  # patch 5: 1
    order = perturbation.by_response(response, 2)
    assert order[:3].tolist() == [4, 0, 5]
    assert sorted(order[3:]) == [1, 2, 3]


def test_equal_patches_are_mixed_and_always_in_the_same_way() -> None:
    flat = np.zeros((16, 16))
    order = perturbation.by_response(flat, 1)
    assert np.array_equal(order, perturbation.by_response(flat, 1))
    assert sorted(order) == list(range(256)) and abs(np.corrcoef(order, np.arange(256))[0, 1]) < 0.3


def test_equal_steps_from_none_to_all() -> None:
    first, second, last = perturbation.changed(np.array([2, 0, 1, 3]), (2, 4), 1, 2)  # 4 of 8 pixels
    assert not first.any()
    assert np.flatnonzero(second).tolist() == [0, 2]
    assert np.flatnonzero(last).tolist() == [0, 1, 2, 3]


def test_patches_are_squares() -> None:
    *_, last = perturbation.changed(np.array([1, 2]), (4, 4), 2, 3)
    expected = np.zeros((4, 4), bool)
    expected[:2, 2:] = expected[2:, :2] = True
    assert np.array_equal(last, expected)
