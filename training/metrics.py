"""Figures of merit with their bootstrap intervals, and operating points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.metrics import cohen_kappa_score, roc_auc_score


def quadratic_weighted_kappa(truth: np.ndarray, grade: np.ndarray) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968) over grades 0..4; NaN where all answers and truths are one grade."""
    if len(np.union1d(truth, grade)) < 2:
        return float("nan")
    return float(cohen_kappa_score(truth, grade, weights="quadratic", labels=range(5)))


def auc(truth: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve; NaN where the truth has one class only."""
    if len(np.unique(truth)) < 2:
        return float("nan")
    return float(roc_auc_score(truth, score))


def bootstrap(
    figure: Callable[..., float], groups: np.ndarray, *columns: np.ndarray, draws: int = 1000, seed: int = 0
) -> list[float]:
    """Percentile bootstrap 95 % interval of `figure(*columns)`, resampling whole groups (patients).

    Draws in which the figure is not defined (NaN: one class only) are left out.
    """
    generator = np.random.default_rng(seed)
    names, member = np.unique(groups, return_inverse=True)
    rows = [np.flatnonzero(member == k) for k in range(len(names))]
    values = []
    for _ in range(draws):
        index = np.concatenate([rows[k] for k in generator.integers(0, len(rows), len(rows))])
        value = figure(*(column[index] for column in columns))
        if np.isfinite(value):
            values.append(value)
    return [float(v) for v in np.percentile(values, [2.5, 97.5])]


def threshold_at_sensitivity(truth: np.ndarray, score: np.ndarray, sensitivity: float) -> float:
    """The largest threshold t for which `score >= t` finds at least `sensitivity` of the positives."""
    positives = np.sort(score[truth == 1])
    index = int(np.floor((1 - sensitivity) * len(positives) + 1e-9))
    return float(positives[min(index, len(positives) - 1)])


def threshold_balanced(truth: np.ndarray, score: np.ndarray) -> float:
    """The threshold with the greatest sensitivity + specificity (Youden's J); midway between neighbouring scores."""
    values = np.unique(score)
    cuts = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2])
    youden = [(score[truth == 1] >= cut).mean() + (score[truth == 0] < cut).mean() for cut in cuts]
    return float(cuts[int(np.argmax(youden))])


def decision_figures(truth: np.ndarray, score: np.ndarray, threshold: float) -> dict[str, Any]:
    """Sensitivity, specificity and n of `score >= threshold`."""
    positive = score >= threshold
    return {
        "sensitivity": float(positive[truth == 1].mean()),
        "specificity": float((~positive[truth == 0]).mean()),
        "n": len(truth),
    }


def calibration_error(truth: np.ndarray, score: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean |observed share - mean score| over equal-width bins, weighted by their size."""
    index = np.minimum((score * bins).astype(int), bins - 1)
    gaps = [
        (index == k).mean() * abs(truth[index == k].mean() - score[index == k].mean())
        for k in range(bins)
        if (index == k).any()
    ]
    return float(sum(gaps))
