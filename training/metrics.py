"""Figures of merit with their bootstrap intervals, and operating points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize  # type: ignore[import-untyped]
from scipy.special import expit  # type: ignore[import-untyped]
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
    missed = np.searchsorted(np.sort(score[truth == 1]), cuts) / (truth == 1).sum()
    cleared = np.searchsorted(np.sort(score[truth == 0]), cuts) / (truth == 0).sum()
    return float(cuts[int(np.argmax(cleared - missed))])


def decision_figures(truth: np.ndarray, score: np.ndarray, threshold: float) -> dict[str, Any]:
    """Sensitivity, specificity and n of `score >= threshold`."""
    positive = score >= threshold
    return {
        "sensitivity": float(positive[truth == 1].mean()),
        "specificity": float((~positive[truth == 0]).mean()),
        "n": len(truth),
    }


def bin_of(score: np.ndarray, bins: int = 10, equal_mass: bool = False) -> np.ndarray:
    """Bin 0..bins-1 of each probability: bins of equal width, or bins that hold equally many (equal scores together)."""
    if equal_mass:
        return np.searchsorted(np.quantile(score, np.arange(1, bins) / bins), score, side="right")
    return np.minimum((score * bins).astype(int), bins - 1)


def calibration_error(truth: np.ndarray, score: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean |observed share - mean score| over equal-width bins, weighted by their size."""
    return float(resample(np.zeros(len(truth)), 0).calibration_error(truth, score, bin_of(score, bins))[0])


def platt(log_odds: np.ndarray, truth: np.ndarray, member: np.ndarray) -> tuple[float, float]:
    """Slope and intercept that calibrate log-odds (Platt 1999), by maximum likelihood.

    Parameters
    ----------
    log_odds : ndarray
        Log-odds of each slice, shape (slices,).
    truth : ndarray
        0 or 1 of each case, shape (cases,).
    member : ndarray
        Case of each slice. A case's probability is the mean of ``expit(slope * log_odds + intercept)`` over its slices, so the
        two numbers can be folded into the network, whose answer by slice is averaged afterwards.
    """
    count = np.bincount(member)

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        by_slice = expit(line[0] * log_odds + line[1])
        slope = by_slice * (1 - by_slice)
        p = np.clip(np.bincount(member, by_slice) / count, 1e-12, 1 - 1e-12)
        right = np.where(truth == 1, p, 1 - p)
        pull = np.where(truth == 1, -1, 1) / right
        gradient = [(pull * np.bincount(member, slope * x) / count).mean() for x in (log_odds, np.ones(len(log_odds)))]
        return -float(np.log(right).mean()), np.array(gradient)

    slope, intercept = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS", options={"gtol": 1e-8}).x
    return float(slope), float(intercept)


@dataclass(frozen=True)
class Draws:
    """Bootstrap draws of whole groups (patients), the same ones for all figures that are to be compared.

    Every figure below is an array with one value a row of `weights`; the first value is that of the sample itself. Two figures of
    the same draws are paired, so that their difference has an interval too: `summary` of ``draws.auc(t, a) - draws.auc(t, b)``.
    """

    member: np.ndarray
    """Group of each case, int, shape (n,)."""
    weights: np.ndarray
    """How often each group was drawn, float64, shape (1 + draws, groups); the first row is all ones."""

    def where(self, keep: np.ndarray) -> Draws:
        """The same draws for some of the cases: a mask, or their numbers."""
        return Draws(self.member[keep], self.weights)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum of values over the drawn cases; values (n,) or (n, k) give (1 + draws,) or (1 + draws, k)."""
        by_group = np.zeros((self.weights.shape[1], *values.shape[1:]))
        np.add.at(by_group, self.member, values)
        return self.weights @ by_group

    def share(self, event: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
        """Mean of `event` (n,) over the cases of which `among` is true; NaN in draws without one."""
        among = np.ones(len(event)) if among is None else among
        with np.errstate(invalid="ignore"):
            return self.sums(event * among) / self.sums(among)

    def auc(self, truth: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Area under the ROC curve: share of the pairs (positive, negative) in the right order; a tie counts half.

        The pairs are counted once a pair of groups; a draw then weighs these counts: (w' R w) / (positives * negatives).
        """
        positive, negative = truth == 1, truth == 0
        groups, owner = np.unique(self.member[positive], return_inverse=True)
        right = np.zeros((len(groups), self.weights.shape[1]))
        for k in range(len(groups)):
            high, low = score[positive][owner == k][:, None], score[negative]
            won = (high > low).sum(0) + (high == low).sum(0) / 2
            right[k] = np.bincount(self.member[negative], won, self.weights.shape[1])
        with np.errstate(invalid="ignore"):
            return ((self.weights[:, groups] @ right) * self.weights).sum(1) / (
                self.sums(positive) * self.sums(negative)
            )

    def roc(self, truth: np.ndarray, score: np.ndarray, grid: np.ndarray) -> np.ndarray:
        """Sensitivity at the false positive rates `grid` (k,), straight lines between the steps; shape (1 + draws, k)."""
        order = np.argsort(-score, kind="stable")
        last = np.flatnonzero(np.diff(score[order], append=np.nan) != 0)
        member, positive = self.member[order], truth[order] == 1
        curves = []
        for weight in self.weights:
            hits, alarms = (np.cumsum(weight[member] * side)[last] for side in (positive, ~positive))
            with np.errstate(invalid="ignore"):
                curves.append(np.interp(grid, np.r_[0, alarms / alarms[-1]], np.r_[0, hits / hits[-1]]))
        return np.stack(curves)

    def calibration_error(self, truth: np.ndarray, score: np.ndarray, bin_number: np.ndarray) -> np.ndarray:
        """Expected calibration error over given bins: sum over bins of |observed - expected positives| / n."""
        within = bin_number[:, None] == np.unique(bin_number)
        return np.abs(self.sums((truth - score)[:, None] * within)).sum(1) / self.sums(np.ones(len(truth)))


def resample(groups: np.ndarray, draws: int = 2000, seed: int = 0) -> Draws:
    """Draw as many groups (patients) as there are, with replacement, `draws` times."""
    names, member = np.unique(groups, return_inverse=True)
    count = len(names)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws)
    return Draws(member, np.concatenate([np.ones((1, count)), drawn]))


def summary(values: np.ndarray) -> dict[str, Any]:
    """Value of the sample and percentile bootstrap 95 % interval of a figure of `Draws`; NaN where it is not defined."""
    drawn = values[1:][np.isfinite(values[1:])]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (np.nan, np.nan)
    return {"value": float(values[0]), "interval": [float(low), float(high)]}
