"""Figures of merit against hand-computed values, and the split by patient."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, recall_score, roc_auc_score, roc_curve

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


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """60 cases of 12 patients: truth, two scores with ties, patient."""
    generator = np.random.default_rng(3)
    truth = generator.integers(0, 2, 60)
    good, poor = (np.round(truth * gain + generator.normal(size=60), 1) for gain in (2.0, 0.5))
    return truth, good, poor, np.array([f"p{k}" for k in generator.integers(0, 12, 60)])


def repeated(draws: m.Draws, k: int) -> np.ndarray:
    """Cases of draw k, as often as it took their patients."""
    return np.repeat(np.arange(len(draws.member)), draws.weights[k, draws.member].astype(int))


def test_draws_are_the_cases_repeated(scored):
    """All figures of a draw, computed from weights, against scikit-learn on the rows that it took."""
    truth, score, _, patient = scored
    draws, grid = m.resample(patient, 6), np.linspace(0, 1, 11)
    said, p = score >= 1, 1 / (1 + np.exp(1 - score))
    found = draws.auc(truth, score), draws.share(said, truth == 1), draws.share((p - truth) ** 2)
    errors, curves = draws.calibration_error(truth, p, m.bin_of(p)), draws.roc(truth, score, grid)
    assert len(np.unique(found[0])) == 7
    for k in range(7):
        rows = repeated(draws, k)
        assert found[0][k] == pytest.approx(roc_auc_score(truth[rows], score[rows]))
        assert found[1][k] == pytest.approx(recall_score(truth[rows], said[rows]))
        assert found[2][k] == pytest.approx(brier_score_loss(truth[rows], p[rows]))
        assert errors[k] == pytest.approx(m.calibration_error(truth[rows], p[rows]))
        alarms, hits, _ = roc_curve(truth[rows], score[rows])
        np.testing.assert_allclose(curves[k], [np.interp(x, alarms, hits) for x in grid], atol=1e-12)


def test_each_draw_takes_as_many_patients_as_there_are(scored):
    draws = m.resample(scored[3], 500)
    np.testing.assert_array_equal(draws.weights[0], 1)
    np.testing.assert_array_equal(draws.weights.sum(1), 12)
    assert draws.weights[1:].mean(0) == pytest.approx(1, abs=0.15)
    np.testing.assert_array_equal(draws.weights, m.resample(scored[3], 500).weights)


def test_auc_of_weights_by_hand():
    """Positives 3 and 1, negatives 2 and 1: of 4 pairs 2 are right and one is a tie; without patient b one of one is right."""
    draws = m.Draws(np.array([0, 1, 0, 1]), np.array([[1.0, 1], [1, 0], [3, 1], [0, 1]]))
    value = draws.auc(np.array([1, 1, 0, 0]), np.array([3.0, 1, 2, 1]))
    # Third draw: (a+, a-) 9 times right, (a+, b-) 3 times right, (b+, a-) 3 times wrong, (b+, b-) once a tie.
    np.testing.assert_allclose(value, [2.5 / 4, 1, 12.5 / 16, 0.5])


def test_paired_difference(scored):
    truth, good, poor, patient = scored
    draws = m.resample(patient, 300)
    same = m.summary(draws.auc(truth, good) - draws.auc(truth, np.exp(good)))
    assert same == {"value": 0, "interval": [0, 0]}
    first, second = draws.auc(truth, good), draws.auc(truth, poor)
    paired = m.summary(first - second)
    assert paired["value"] == pytest.approx(roc_auc_score(truth, good) - roc_auc_score(truth, poor))
    assert paired["interval"] == pytest.approx(np.percentile((first - second)[1:], [2.5, 97.5]))
    nearly = draws.auc(truth, good + 0.1 * poor)
    paired, unpaired = (
        np.diff(m.summary(first - other)["interval"]) for other in (nearly, np.r_[nearly[0], nearly[:0:-1]])
    )
    assert paired < unpaired / 2


def test_draws_without_the_figure_are_left_out():
    """Two patients, one of each class: only the draws that took both have an AUC."""
    draws = m.resample(np.array(["a", "b"]), 40)
    values = draws.auc(np.array([0, 1]), np.array([0.2, 0.8]))
    assert 0 < np.isnan(values).sum() < 40
    assert m.summary(values) == {"value": 1, "interval": [1, 1]}
    nowhere = m.summary(draws.where(np.array([False, True])).auc(np.array([1]), np.array([0.8])))
    assert np.isnan([nowhere["value"], *nowhere["interval"]]).all()


def test_bins_of_equal_mass_keep_equal_scores_together():
    score = np.array([0.1, 0.2, 0.2, 0.2, 0.3, 0.9])
    np.testing.assert_array_equal(m.bin_of(score, 2, equal_mass=True), [0, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(np.bincount(m.bin_of(np.linspace(0.8, 0.9, 100), 10, equal_mass=True)), 10)
    np.testing.assert_array_equal(m.bin_of(np.array([0, 0.1, 0.55, 1])), [0, 1, 5, 9])


def test_balanced_threshold_as_every_cut_tried(scored):
    truth, score, _, _ = scored
    cut = m.threshold_balanced(truth, score)
    everywhere = [(score >= t)[truth == 1].mean() + (score < t)[truth == 0].mean() for t in np.arange(-4, 6, 0.01)]
    assert (score >= cut)[truth == 1].mean() + (score < cut)[truth == 0].mean() == pytest.approx(max(everywhere))


def test_platt_by_slice_is_logistic_regression():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 2, 400)
    z = 3 * truth + generator.normal(scale=2, size=400) + 4
    slope, intercept = m.platt(z, truth, np.arange(400))
    peer = LogisticRegression(C=np.inf, tol=1e-10).fit(z[:, None], truth)
    assert (slope, intercept) == pytest.approx((peer.coef_[0, 0], peer.intercept_[0]), abs=1e-4)


def test_platt_by_nodule_calibrates_the_mean_over_slices():
    """Answers twice as sure as they should be, of one to three slices each, come back to what they were drawn from."""
    generator = np.random.default_rng(1)
    member = np.repeat(np.arange(40000), generator.integers(1, 4, 40000))
    z = generator.normal(scale=1.5, size=len(member))
    p = np.bincount(member, 1 / (1 + np.exp(-z))) / np.bincount(member)
    truth = (generator.random(40000) < p).astype(int)
    slope, intercept = m.platt(2 * z + 1, truth, member)
    assert (slope, intercept) == pytest.approx((0.5, -0.5), abs=0.06)
