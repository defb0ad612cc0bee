"""Deletion and insertion against a network that a person can compute: p = mean brightness of one quarter."""

from __future__ import annotations

import numpy as np
import pytest

from service.maps import faithfulness
from service.maps.faithfulness import Plan, measure


def quarter(batch: np.ndarray) -> np.ndarray:
    """Looks at the upper left quarter only."""
    assert batch.dtype == np.float32 and len(batch) <= faithfulness.BATCH
    return np.asarray(batch[:, 0, :4, :4].mean(axis=(1, 2)))


@pytest.fixture
def image() -> np.ndarray:
    """Grey windows: 1 in the quarter that counts, 0 elsewhere, so the median is 0."""
    pixels = np.zeros((1, 8, 8), np.float32)
    pixels[0, :4, :4] = 1
    return pixels


def test_a_true_map_takes_the_answer_away_at_once(image: np.ndarray) -> None:
    image[0, 4:, 4:6] = 0.5  # differs from the filler, so these two patches count; the network does not look at them
    response = np.zeros((8, 8))
    response[:4, :4] = [[9, 9, 8, 8]] * 2 + [[7, 7, 6, 6]] * 2
    found = measure(quarter, image, response, plan=Plan(4, 3), steps=6)
    assert (found.patch_px, found.patches) == (2, 6)
    assert found.deletion.values == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0, 0])
    assert found.insertion.values == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 1])
    assert found.deletion.auc == pytest.approx(2.5 / 7)
    assert found.insertion.auc == pytest.approx(4.5 / 7)


def test_random_orders_by_a_loop_over_patches(image: np.ndarray) -> None:
    image[0, 4:, 4:6] = 0.5
    found = measure(quarter, image, image[0], plan=Plan(4, 4), steps=6)
    for seed, curve in enumerate(found.random):
        order = np.random.default_rng(seed).permutation([0, 1, 4, 5, 10, 14])
        left, expected = image.copy(), [1.0]
        for patch in order:
            row, column = 2 * (patch // 4), 2 * (patch % 4)
            left[0, row : row + 2, column : column + 2] = 0
            expected.append(float(left[0, :4, :4].mean()))
        assert curve.values == pytest.approx(expected)
    assert len({curve.values for curve in found.random}) > 1


def test_insertion_in_the_reverse_of_an_order_is_its_deletion_backwards(image: np.ndarray) -> None:
    """What `random` relies on to give both nulls for the price of one."""
    response = np.random.default_rng(5).random((8, 8))
    forth = measure(quarter, image, response, plan=Plan(8, 2), steps=4)
    back = measure(quarter, image, 1 - response, plan=Plan(8, 2), steps=4)
    assert back.insertion.values == pytest.approx(forth.deletion.values[::-1])


def test_the_body_of_the_contract(image: np.ndarray) -> None:
    body = measure(quarter, image, image[0], plan=Plan(4, 5), steps=4).body()
    assert body["steps"] == 4 and body["fraction"] == [0, 0.25, 0.5, 0.75, 1]
    assert body["deletion"] == {"curve": [1, 0.75, 0.5, 0.25, 0], "auc": 0.5}
    null = body["random"]
    assert null["n"] == 5 and null["insertion"] == null["deletion"][::-1]
    assert null["deletion"][0] == 1 and null["deletion"][-1] == 0
    assert null["deletion_auc"]["mean"] == pytest.approx(np.mean(null["deletion"]), abs=1e-4)


def test_the_filler_says_what_it_is() -> None:
    window = np.array([[[0.1, 0.1, 0.1], [0.9, 0.8, 0.1]]], np.float32)
    values, text = faithfulness.filler(window)
    assert values.shape == (1, 1, 1) and values[0, 0, 0] == np.float32(0.1) and "median" in text
    values, text = faithfulness.filler(np.ones((3, 4, 4), np.float32))
    assert values.shape == (3, 1, 1) and not values.any() and "local" in text


def test_the_surround_of_a_photograph_does_not_count() -> None:
    pixels = np.zeros((3, 32, 32), np.float32)
    pixels[:, 8:24, 8:24] = 1
    assert measure(lambda batch: batch.mean(axis=(1, 2, 3)), pixels, pixels[0]).patches == 16 * 16


def test_an_image_that_is_filler_everywhere_changes_nothing() -> None:
    flat = np.full((1, 12, 12), 0.25, np.float32)
    found = measure(lambda batch: batch.mean(axis=(1, 2, 3)), flat, flat[0], steps=3)
    assert found.patches == 0 and found.deletion.values == pytest.approx([0.25] * 4)
