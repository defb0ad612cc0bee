"""Evidence numbers on maps and models that a person can check."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import spearmanr

from models.perturbation import by_response
from training import metrics as m
from training.response_maps import evidence as ev


@pytest.fixture
def region() -> np.ndarray:
    region = np.zeros((20, 20), bool)
    region[4:9, 6:10] = True
    return region


def test_a_map_equal_to_the_region_is_perfect(region):
    found = ev.placed(region.astype(float), region)
    assert found == {
        "share_inside": 1,
        "lift": pytest.approx(20),
        "chance_corrected": pytest.approx(1),
        "pointing": 1,
        "iou": 1,
        "iou_half_maximum": 1,
        "empty": 0,
        "null": pytest.approx(0.05),
    }


def test_a_map_beside_the_region_and_an_empty_one_find_nothing(region):
    beside = ev.placed((~region).astype(float), region)
    assert [beside[k] for k in ("share_inside", "pointing", "iou", "iou_half_maximum", "empty")] == [0] * 5
    assert beside["chance_corrected"] == pytest.approx(-0.05 / 0.95)
    empty = ev.placed(-np.ones(region.shape), region)
    assert [empty[k] for k in ("share_inside", "pointing", "iou", "iou_half_maximum", "empty")] == [0, 0, 0, 0, 1]


def test_noise_is_worth_its_null(region):
    generator = np.random.default_rng(0)
    rows = [ev.placed(generator.random(region.shape), region) for _ in range(1500)]
    mean = {key: np.mean([row[key] for row in rows]) for key in rows[0]}
    assert mean["share_inside"] == pytest.approx(0.05, abs=5e-4)
    assert mean["lift"] == pytest.approx(1, abs=0.01)
    assert mean["chance_corrected"] == pytest.approx(0, abs=5e-4)
    assert mean["pointing"] == pytest.approx(0.05, abs=0.015)
    # 20 of 400 pixels hit 1 of 20 on average: about 1 / 39
    assert mean["iou"] == pytest.approx(1 / 39, abs=0.004)


def test_critical_regions_by_hand():
    response = np.array([[4.0, 2.0, -1.0], [2.1, 0.0, 3.0]])
    np.testing.assert_array_equal(ev.largest(response, 2), [[1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(ev.largest(response, 6), [[1, 1, 0], [1, 0, 1]])
    np.testing.assert_array_equal(ev.above_half_maximum(response), [[1, 0, 0], [1, 0, 1]])
    assert ev.iou(ev.largest(response, 2), np.array([[1, 1, 0], [0, 0, 0]], bool)) == pytest.approx(1 / 3)
    assert np.isnan(ev.iou(np.zeros((2, 2), bool), np.zeros((2, 2), bool)))


def test_equal_pixels_are_not_taken_from_the_first_rows():
    assert ev.largest(np.ones((20, 20)), 100)[10:].sum() == pytest.approx(50, abs=15)


def test_shared_response_by_hand():
    maps = np.array([[[3.0, 0.0, -5.0]], [[1.0, 2.0, -9.0]], [[-7.0, 1.0, 0.0]]])
    assert ev.shared_response(maps) == pytest.approx((1 + 1 + 0) / (3 + 2 + 0))
    assert ev.shared_response(np.stack([maps[0], -maps[0]])) == 0
    assert ev.shared_response(np.stack([maps[0], maps[0]])) == 1
    assert np.isnan(ev.shared_response(-np.abs(maps)))


def test_rank_correlation_is_spearmans_of_the_absolute_values():
    generator = np.random.default_rng(1)
    first, second = generator.normal(size=(2, 9, 9)).round(1)
    assert ev.rank_correlation(first, second) == pytest.approx(spearmanr(abs(first).ravel(), abs(second).ravel())[0])
    assert ev.rank_correlation(first, -first) == pytest.approx(1)
    assert np.isnan(ev.rank_correlation(first, np.zeros((9, 9))))


def test_stability_of_a_scaled_image_is_the_relative_noise():
    images = np.stack([np.full((1, 4, 4), 2.0), np.zeros((1, 4, 4))])
    found = ev.stability(lambda x: 3 * x[:, 0], images, radius=0.1, draws=2, seed=4)
    generator = np.random.default_rng(4)
    noise = [np.linalg.norm(generator.uniform(-0.1, 0.1, images.shape)[0]) for _ in range(2)]
    assert found[0] == pytest.approx(max(noise) / 8)
    assert np.isnan(found[1])


WEIGHT = np.array([[4.0, 3.0], [2.0, 1.0]])
QUARTERS = (0, 0.25, 0.5, 0.75, 1)


def score(x: np.ndarray) -> np.ndarray:
    return np.asarray((x[:, 0] * WEIGHT).sum((1, 2)))


def test_curves_of_a_linear_model_by_hand():
    image, baseline = np.ones((1, 2, 2)), np.zeros((1, 2, 2))
    deletion, insertion = ev.curves(score, image, baseline, [np.arange(4), np.arange(4)[::-1]], 1, QUARTERS)
    np.testing.assert_allclose(deletion, [[10, 6, 3, 1, 0], [10, 9, 7, 4, 0]])
    np.testing.assert_allclose(insertion, [[0, 4, 7, 9, 10], [0, 1, 3, 6, 10]])
    np.testing.assert_allclose(ev.area(deletion, QUARTERS), [3.75, 6.25])


def test_the_models_own_weights_give_the_best_curves_of_all_orders():
    image, baseline = np.ones((1, 2, 2)), np.zeros((1, 2, 2))
    orders = [by_response(WEIGHT, 1), *(np.array(order) for order in itertools.permutations(range(4)))]
    deletion, insertion = (ev.area(c, QUARTERS) for c in ev.curves(score, image, baseline, orders, 1, QUARTERS))
    assert deletion[0] == deletion.min() < np.median(deletion)
    assert insertion[0] == insertion.max() > np.median(insertion)


def test_patches_go_whole_and_unequal_steps_are_weighed():
    image, baseline = np.arange(16.0).reshape(1, 4, 4), np.full((1, 4, 4), -1.0)
    seen: list[np.ndarray] = []

    def total(x: np.ndarray) -> np.ndarray:
        seen.append(x)
        return np.asarray(x.sum((1, 2, 3)))

    deletion, _ = ev.curves(total, image, baseline, [np.array([1, 0, 2, 3])], 2, (0, 0.25, 1))
    np.testing.assert_array_equal(seen[1][0, 0], [[0, 1, -1, -1], [4, 5, -1, -1], [8, 9, 10, 11], [12, 13, 14, 15]])
    np.testing.assert_allclose(deletion, [[120, 120 - (2 + 3 + 6 + 7) - 4, -16]])
    assert ev.area(deletion, (0, 0.25, 1))[0] == pytest.approx(0.25 * (120 + 98) / 2 + 0.75 * (98 - 16) / 2)


def test_summary_and_interval_over_patients():
    values, patients = np.array([0.0, 1.0, 1.0, np.nan, 0.0, 1.0]), np.array(list("aabbcd"))
    found = ev.summary(values, patients)
    assert (found["value"], found["n"]) == (0.6, 5)
    use = np.isfinite(values)
    expected = m.bootstrap(lambda v: float(v.mean()), patients[use], values[use], draws=4000)
    np.testing.assert_allclose(found["interval"], expected, atol=0.05)
    assert ev.summary(np.full(3, np.nan), np.array(list("abc"))) == {"value": None, "interval": None, "n": 0}


def test_a_constant_ratio_has_no_spread_and_a_repeated_patient_adds_nothing():
    top, bottom, who = np.array([2.0, 4.0, 10.0]), np.array([1.0, 2.0, 5.0]), np.array(list("abc"))
    assert ev.summary(top, who, bottom) == {"value": 2, "interval": [2, 2], "n": 3}
    assert ev.summary(top, who, np.full(3, 4.0))["value"] == pytest.approx(16 / 12)
    narrow = ev.summary(top, who)["interval"]
    np.testing.assert_allclose(narrow, ev.summary(top.repeat(9), who.repeat(9))["interval"])


def test_every_measure_of_place_has_its_formula(region):
    assert set(ev.placed(region.astype(float), region)) - {"empty", "null"} <= set(ev.FORMULAS)
