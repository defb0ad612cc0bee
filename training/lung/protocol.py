"""The published protocol measured on saved held-out answers: sets I, B, M, by slice and by nodule, ten folds by patient.

A trained network leaves a folder with ``predictions.npz`` and ``predictions.json`` (`Trained`); nothing here runs a network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit  # type: ignore[import-untyped]

from training import metrics as m
from training.data import assert_apart
from training.lung.data import FOLDS, HALF_DEPTH_MM, Nodule, label

SETS = ("I", "B", "M")
LEVELS = ("slice", "nodule")
FIGURES = ("accuracy", "sensitivity", "specificity", "auc")
PUBLISHED = {
    "I": {"accuracy": (0.8936, 0.0120), "sensitivity": 0.9028, "specificity": 0.8825, "auc": 0.9601},
    "B": {"auc": 0.9434},
    "M": {"auc": 0.8906},
}
"""Thesis, chapter 4: by slice, slices of one nodule on both sides of the split; a pair is mean and standard deviation."""
PUBLISHED_SLICES = {1: 1376, 2: 2605, 3: 5657, 4: 3192, 5: 1603}
"""Thesis, table 4.1: slices by rounded mean malignancy, the nodules of all readers."""


@dataclass(frozen=True)
class Trained:
    """What one trained network answers to slices that it did not learn from."""

    rows: np.ndarray
    """Rows of the slices in ``windows.npy``, int, shape (n,)."""
    log_odds: np.ndarray
    """log p(malignant) / p(benign), float32, shape (n,)."""
    facts: dict[str, Any]
    """``protocol`` (patient or slice), ``fold``, ``share`` of the training patients, ``train_nodules``, ``train_slices``,
    ``seconds``, ``parameters``, ``plan``; ``images`` (that went through the training) where it was counted."""

    def write(self, folder: Path) -> None:
        """Write ``predictions.npz`` and ``predictions.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "predictions.npz", rows=self.rows, log_odds=np.float32(self.log_odds))
        (folder / "predictions.json").write_text(json.dumps(self.facts, indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> Trained:
    """Read what `Trained.write` wrote.

    Raises
    ------
    ValueError
        When a row comes twice or an answer is not finite.
    """
    with np.load(folder / "predictions.npz") as arrays:
        rows, log_odds = arrays["rows"], arrays["log_odds"]
    if len(np.unique(rows)) < len(rows) or rows.shape != log_odds.shape or not np.isfinite(log_odds).all():
        raise ValueError(f"{folder}/predictions.npz: a row comes twice or an answer is not finite")
    return Trained(rows, log_odds, json.loads((folder / "predictions.json").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Answers:
    """Held-out answers to whole nodules."""

    nodules: list[Nodule]
    log_odds: np.ndarray
    """By row of ``windows.npy``, float64; NaN where nothing was answered."""

    @classmethod
    def of(cls, trained: Sequence[Trained], nodules: list[Nodule]) -> Answers:
        """Put answers of several networks together; the nodules are those of which all slices were answered."""
        log_odds = np.full(max(n.rows[-1] for n in nodules) + 1, np.nan)
        for answer in trained:
            log_odds[answer.rows] = answer.log_odds
        return cls([n for n in nodules if np.isfinite(log_odds[n.rows]).all()], log_odds)

    def chosen(self, subset: str) -> list[Nodule]:
        """The nodules in a set."""
        return [n for n in self.nodules if label(n, subset) is not None]


def cross_validation(folder: Path, nodules: list[Nodule]) -> tuple[Answers, list[Trained]]:
    """Answers in ``folder/0`` to ``folder/9``, each to the patients of that fold and by a network that has not seen them.

    Raises
    ------
    FileNotFoundError
        Naming the folds that are missing.
    ValueError
        When a patient is in two folds, or a fold's slices are not all slices of its patients' nodules.
    """
    missing = [str(k) for k in range(FOLDS) if not (folder / str(k) / "predictions.npz").exists()]
    if missing:
        raise FileNotFoundError(f"no predictions of fold {', '.join(missing)} in {folder}: train these folds first")
    trained = [read(folder / str(k)) for k in range(FOLDS)]
    patient = {row: n.patient for n in nodules for row in n.rows}
    assert_apart(*({patient[row] for row in t.rows} for t in trained))
    for k, answer in enumerate(trained):
        expected = {row for n in nodules if n.fold == k and n.match != "partial" for row in n.rows}
        if expected != set(answer.rows.tolist()) or answer.facts["protocol"] != "patient":
            raise ValueError(f"{folder / str(k)}: not the {len(expected)} slices of the patients of fold {k}")
    return Answers.of(trained, [n for n in nodules if n.match != "partial"]), trained


Rule = Callable[[np.ndarray, np.ndarray, np.ndarray], Any]
"""Score of one nodule from the log-odds z of its slices, their distances d from the middle slice in mm, and the mask of the
central ones, each of shape (slices,)."""
SERVICE = "mean probability, central slices"
GAUSSIAN_MM = HALF_DEPTH_MM
AGGREGATIONS: dict[str, tuple[Rule, bool]] = {
    SERVICE: (lambda z, _, central: expit(z[central]).mean(), True),
    "mean log-odds, central slices": (lambda z, _, central: expit(z[central].mean()), True),
    "centre slice alone": (lambda z, d, _: expit(z[d == 0]).mean(), True),
    "mean probability, all slices": (lambda z, *_: expit(z).mean(), False),
    "mean log-odds, all slices": (lambda z, *_: expit(z.mean()), False),
    "maximum over all slices": (lambda z, *_: expit(z.max()), False),
    "mean probability, higher half of the slices": (lambda z, *_: expit(np.sort(z)[len(z) // 2 :]).mean(), False),
    "mean probability, Gaussian weights": (
        lambda z, d, _: np.average(expit(z), weights=np.exp(-((d / GAUSSIAN_MM) ** 2) / 2)),
        False,
    ),
}
"""Rules by name; true where the service can apply them: it knows the centre, not where the nodule ends."""


@dataclass(frozen=True)
class Cases:
    """What one figure is measured on: columns of shape (n,), one entry a slice or a nodule."""

    truth: np.ndarray
    score: np.ndarray
    diameter: np.ndarray
    """Mean of the readers' diameters, mm."""
    patient: np.ndarray
    fold: np.ndarray
    readers: np.ndarray


def rows_of(nodules: list[Nodule], level: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows that the cases stand on, and the case that each belongs to; a nodule stands on its central slices."""
    rows = np.concatenate([n.rows if level == "slice" else n.central for n in nodules])
    counts = np.ones(len(rows), int) if level == "slice" else np.array([len(n.central) for n in nodules])
    return rows, np.repeat(np.arange(len(counts)), counts)


def by_nodule(answers: Answers, nodules: list[Nodule], rule: str = SERVICE) -> np.ndarray:
    """Probability of malignancy of each nodule after one of the `AGGREGATIONS`, float64, shape (n,)."""
    aggregate, _ = AGGREGATIONS[rule]
    scores = []
    for n in nodules:
        rows = np.array(n.rows)
        scores.append(aggregate(answers.log_odds[rows], (rows - n.middle) * n.thickness_mm, np.isin(rows, n.central)))
    return np.array(scores)


def cases(answers: Answers, subset: str, level: str) -> Cases:
    """Cases of a set by slice, or by nodule after the service's rule; the score is the probability of malignancy."""
    nodules = answers.chosen(subset)
    if level == "slice":
        of, score = [n for n in nodules for _ in n.rows], expit(answers.log_odds[rows_of(nodules, "slice")[0]])
    else:
        of, score = nodules, by_nodule(answers, nodules)
    columns = [(label(n, subset), n.diameter_mm, n.patient, n.fold, n.readers) for n in of]
    truth, diameter, patient, fold, readers = (np.array(column) for column in zip(*columns, strict=True))
    return Cases(truth, score, diameter, patient, fold, readers)


def crossed(fold: np.ndarray, choose: Callable[[np.ndarray], Any]) -> list[Any]:
    """``choose(others)`` for each case, `others` the mask of the cases of all other folds: nothing is chosen on its own fold."""
    chosen = {k: choose(fold != k) for k in np.unique(fold)}
    return [chosen[k] for k in fold]


def thresholds(c: Cases, score: np.ndarray, choose: Callable[[np.ndarray, np.ndarray], float]) -> np.ndarray:
    """Threshold of each case, ``choose(truth, score)`` of all other folds, shape (n,)."""
    return np.array(crossed(c.fold, lambda others: choose(c.truth[others], score[others])))


def decision(draws: m.Draws, truth: np.ndarray, said: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy, sensitivity and specificity of yes or no, each over `draws`."""
    return {
        "accuracy": draws.share(said == truth),
        "sensitivity": draws.share(said, truth == 1),
        "specificity": draws.share(~said, truth == 0),
    }


def column(draws: m.Draws, truth: np.ndarray, score: np.ndarray, said: np.ndarray) -> dict[str, np.ndarray]:
    """All `FIGURES`, each over `draws`."""
    return {**decision(draws, truth, said), "auc": draws.auc(truth, score)}


def over_folds(fold: np.ndarray, truth: np.ndarray, score: np.ndarray, said: np.ndarray) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation (n - 1) over the folds, and the value of each: draws of which each took one fold."""
    names, member = np.unique(fold, return_inverse=True)
    values = column(m.Draws(member, np.eye(len(names))), truth, score, said)
    return {k: {"mean": float(v.mean()), "sd": float(v.std(ddof=1)), "folds": v.tolist()} for k, v in values.items()}


def groups(c: Cases) -> dict[str, np.ndarray]:
    """Masks of the cases that get a row of their own."""
    return {
        "all": np.ones(len(c.truth), bool),
        "at least three readers": c.readers >= 3,
        "below 8 mm": c.diameter < 8,
        "8 to 15 mm": (c.diameter >= 8) & (c.diameter <= 15),
        "above 15 mm": c.diameter > 15,
    }


def compare(c: Cases, draws: m.Draws) -> dict[str, Any]:
    """The network, the readers' mean diameter alone, and their paired difference; all cases and `groups` of them."""
    scores = {"network": c.score, "diameter": c.diameter}
    said = {name: score >= thresholds(c, score, m.threshold_balanced) for name, score in scores.items()}
    rows = {}
    for name, keep in groups(c).items():
        truth, own = c.truth[keep], draws.where(keep)
        network, diameter = (column(own, truth, score[keep], said[k][keep]) for k, score in scores.items())
        rows[name] = {
            "n": len(truth),
            "malignant": int(truth.sum()),
            "patients": len(np.unique(c.patient[keep])),
            "network": {k: m.summary(v) for k, v in network.items()},
            "diameter": {k: m.summary(v) for k, v in diameter.items()},
            "difference": {k: m.summary(network[k] - diameter[k]) for k in FIGURES},
            "commoner class": m.summary(own.share(truth == (truth.mean() >= 0.5))),
        }
    folds = {k: over_folds(c.fold, c.truth, score, said[k]) for k, score in scores.items()}
    return {"groups": rows, "folds": folds}


OPERATING_POINTS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "balanced": m.threshold_balanced,
    "90 % sensitivity": lambda truth, score: m.threshold_at_sensitivity(truth, score, 0.9),
    "95 % sensitivity": lambda truth, score: m.threshold_at_sensitivity(truth, score, 0.95),
}


def operating_points(c: Cases, draws: m.Draws) -> dict[str, Any]:
    """Sensitivity and specificity, with the lowest and the highest of the ten thresholds that the other folds gave."""
    found = {}
    for name, choose in OPERATING_POINTS.items():
        limits = thresholds(c, c.score, choose)
        found[name] = {
            "thresholds": [float(limits.min()), float(limits.max())],
            **{k: m.summary(v) for k, v in decision(draws, c.truth, c.score >= limits).items()},
        }
    return found


def calibrated(answers: Answers, subset: str, level: str, c: Cases) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities after `metrics.platt` with slope and intercept of the other folds, shape (n,), and those lines, (n, 2)."""
    rows, member = rows_of(answers.chosen(subset), level)
    z = answers.log_odds[rows]

    def line(others: np.ndarray) -> tuple[float, float]:
        keep = others[member]
        return m.platt(z[keep], c.truth[others], np.unique(member[keep], return_inverse=True)[1])

    lines = np.array(crossed(c.fold, line))
    p = expit(lines[member, 0] * z + lines[member, 1])
    return np.bincount(member, p) / np.bincount(member), lines


def calibration(c: Cases, draws: m.Draws, p: np.ndarray) -> dict[str, Any]:
    """Calibration errors and Brier score of probabilities, and the ten bins of equal width."""
    bins = m.bin_of(p)
    filled = np.unique(bins)
    return {
        "ECE, equal width": m.summary(draws.calibration_error(c.truth, p, bins)),
        "ECE, equal mass": m.summary(draws.calibration_error(c.truth, p, m.bin_of(p, equal_mass=True))),
        "Brier": m.summary(draws.share((p - c.truth) ** 2)),
        "bins": [
            {"n": int((bins == k).sum()), "predicted": float(p[bins == k].mean())}
            | m.summary(draws.share(c.truth, bins == k))
            for k in filled
        ],
    }
