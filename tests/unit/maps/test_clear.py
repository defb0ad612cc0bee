from __future__ import annotations

import numpy as np
import pytest

from service.errors import NotFound
from service.maps.clear import (
    class_correlation,
    class_of,
    dominant,
    dominant_share,
    kinds,
    positive_maximum,
    scale_per_image,
    two_sided,
)


def test_dominant_by_hand(response: np.ndarray) -> None:
    index, strength = dominant(response)
    assert index.dtype == np.int8
    assert strength.dtype == np.float32
    np.testing.assert_array_equal(index, [[0, -1, -1], [1, -1, 0]])
    np.testing.assert_array_equal(strength, [[4, 0, 0], [3, 0, 2]])


def test_dominant_of_a_stack_is_that_of_each_slice(response: np.ndarray) -> None:
    index, strength = dominant(np.stack([response, -response]))
    for k, one in enumerate((response, -response)):
        np.testing.assert_array_equal(index[k], dominant(one)[0])
        np.testing.assert_array_equal(strength[k], dominant(one)[1])


def test_dominant_refuses_more_classes_than_int8_counts() -> None:
    assert dominant(np.eye(127, dtype=np.float32)[:, None])[0].max() == 126
    with pytest.raises(ValueError, match="128 classes"):
        dominant(np.zeros((128, 1, 1), np.float32))


def test_two_sided_by_hand(response: np.ndarray) -> None:
    hot, other = two_sided(response, 1)
    np.testing.assert_array_equal(hot, [[2, 0, 0], [3, 0, 2]])
    np.testing.assert_array_equal(other, [[4, 0, 0], [1, 0, 2]])


def test_two_sided_of_a_single_class_has_no_other_side(response: np.ndarray) -> None:
    assert not two_sided(response[:1], 0)[1].any()


def test_dominant_share_is_weighted_by_strength(response: np.ndarray) -> None:
    assert dominant_share(response, "abc") == pytest.approx({"a": 6 / 9, "b": 3 / 9, "c": 0})
    stack = np.stack([response, np.full_like(response, -1)])
    assert dominant_share(stack, "abc") == pytest.approx({"a": 6 / 9, "b": 3 / 9, "c": 0})
    assert dominant_share(-np.abs(response), "abc") == {"a": 0, "b": 0, "c": 0}


def test_class_correlation_agrees_with_numpy() -> None:
    maps = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)
    full = np.corrcoef(maps.transpose(1, 0, 2, 3).reshape(4, -1))
    assert class_correlation(maps) == pytest.approx((full.sum() - 4) / 12, abs=1e-6)


def test_class_correlation_of_copies_opposites_and_constants() -> None:
    one = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert class_correlation(np.stack([one, 3 * one + 7])) == pytest.approx(1)
    assert class_correlation(np.stack([one, -one])) == pytest.approx(-1)
    assert class_correlation(np.stack([one, 2 * one, np.ones_like(one)])) == pytest.approx(1)
    assert class_correlation(np.stack([one, np.ones_like(one)])) is None


def test_positive_maximum(response: np.ndarray) -> None:
    assert positive_maximum(response) == 4
    assert positive_maximum(-np.abs(response)) == 0


def test_scale_per_image_is_a_percentile_of_the_positive_dominant_response(response: np.ndarray) -> None:
    assert scale_per_image(response) == 4
    assert scale_per_image(-np.abs(response)) == 0
    strength = np.arange(-1000, 2001, dtype=np.float32)
    maps = np.stack([strength, np.full_like(strength, -5)])[:, None]
    assert scale_per_image(maps) == 1999  # of 1..2000 the value that at most 0.1 % exceed


def test_kinds_and_their_classes() -> None:
    assert kinds(("0", "1")) == ("clear", "two-sided", "class-0", "class-1")
    assert class_of("class-1", ("0", "1")) == 1
    assert class_of("clear", ("0", "1")) is None
    with pytest.raises(NotFound, match="clear, two-sided, class-0, class-1"):
        class_of("class-2", ("0", "1"))
