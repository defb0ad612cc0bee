"""Figures of merit against hand-computed values, and the split by patient."""

from __future__ import annotations

import numpy as np
import pytest

from training import metrics as m
from training.data import assert_apart, fold_of
from training.response_maps import evidence as ev


def test_quadratic_weighted_kappa_by_hand():
    truth, said = np.array([0, 0, 4, 4]), np.array([0, 1, 4, 4])
    # Weights (i - j)^2: observed 0 + 1 + 0 + 0 = 1. Expected from the margins, truth 0, 0, 4, 4 and answers 0, 1, 4, 4:
    # (2 * (0 + 1 + 16 + 16) + 2 * (16 + 9 + 0 + 0)) / 4 = 29.
    assert m.quadratic_weighted_kappa(truth, said) == pytest.approx(1 - 1 / 29)
    assert np.isnan(m.quadratic_weighted_kappa(np.zeros(3, int), np.zeros(3, int)))


def test_auc_is_the_share_of_right_pairs():
    truth, score = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.5, 0.9])
    assert m.auc(truth, score) == pytest.approx(3 / 4)
    assert np.isnan(m.auc(np.ones(3, int), score[:3]))


def test_thresholds():
    truth = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    score = np.array([0.1, 0.2, 0.3, 0.25, 0.5, 0.5, 0.6, 0.6, 0.7, 0.7, 0.8, 0.8, 0.9])
    assert m.threshold_at_sensitivity(truth, score, 0.9) == 0.5
    assert m.decision_figures(truth, score, 0.5) == {"sensitivity": 0.9, "specificity": 1.0, "n": 13}
    assert 0.3 < m.threshold_balanced(truth, score) < 0.5


def test_calibration_error():
    truth, score = np.array([1, 0, 1, 1]), np.array([0.75, 0.75, 0.95, 0.95])
    assert m.calibration_error(truth, score) == pytest.approx(0.5 * 0.25 + 0.5 * 0.05)


def test_bootstrap_resamples_patients_not_rows():
    """Ten identical rows of one patient are one observation: the interval must not shrink with them."""
    truth, score, who = np.array([0.0, 1.0]), np.array([0.2, 0.8]), np.array(["a", "b"])
    narrow = m.bootstrap(lambda t, s: float(s.mean()), who, truth, score)
    wide = m.bootstrap(lambda t, s: float(s.mean()), who.repeat(10), truth.repeat(10), score.repeat(10))
    np.testing.assert_allclose(narrow, wide)


def test_folds_are_stable_and_patients_apart():
    assert [fold_of(f"LIDC-IDRI-{k:04d}", 10) for k in range(6)] == [2, 0, 0, 0, 4, 1]
    assert_apart(["a", "b"], ["c"])
    with pytest.raises(ValueError, match="1 patients are on two sides"):
        assert_apart(["a", "b"], ["b", "c"])


def test_evidence_numbers_by_hand():
    response = np.array([[4.0, -2.0], [1.0, 0.0]])
    region = np.array([[True, True], [False, False]])
    assert ev.share_inside(response, region) == pytest.approx(0.8)
    assert ev.pointing(response, region) is True
    assert ev.pointing(-np.ones((2, 2)), region) is None
    assert np.isnan(ev.share_inside(np.zeros((2, 2)), region))
    maps = np.array([[[1.0, 2.0]], [[2.0, 1.0]], [[0.0, 0.0]]])
    assert ev.class_correlation(maps) == pytest.approx(-1)


def test_deletion_and_insertion_by_hand():
    image, baseline = np.ones((1, 2, 2)), np.zeros((1, 2, 2))
    weight = np.array([4.0, 3.0, 2.0, 1.0]).reshape(2, 2)

    def predict(x):
        return (x[:, 0] * weight).sum((1, 2))

    order = np.array([0, 1, 2, 3])
    deletion = ev.perturbation_curve(predict, image, order, baseline, insert=False, steps=4)
    insertion = ev.perturbation_curve(predict, image, order, baseline, insert=True, steps=4)
    assert deletion == pytest.approx((10 + 6 + 3 + 1 + 0) / 5)
    assert insertion == pytest.approx((0 + 4 + 7 + 9 + 10) / 5)
