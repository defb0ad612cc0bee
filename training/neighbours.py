"""What the nearest known cases of a bundle are worth: how well they tell the truth of patients whom the model has not seen.

The test patients' own cases are asked for their neighbours among the cases of all other patients: what the service shows for
a new patient. Cases of the training patients are among the neighbours, as they are there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models import cases as known
from training import metrics as m
from training.bundles import today
from training.retina.data import answered

K = 6
"""Neighbours that a figure is about: what the service shows unless asked otherwise."""
DRAWS = 100
"""Random choices of neighbours that a null is the mean of."""
INDETERMINATE = "indeterminate"
"""Label of a nodule whose readers' mean score rounds to 3."""


def others(cases: known.KnownCases, queries: np.ndarray) -> np.ndarray:
    """Which cases are of another patient than each query: bool, shape (q, n)."""
    patients = np.array(cases.patients)
    return np.asarray(patients[queries][:, None] != patients[None])


def neighbours(cases: known.KnownCases, queries: np.ndarray, k: int = K) -> np.ndarray:
    """Rows of the k nearest cases of other patients, nearest first, shape (q, k)."""
    distance = np.stack([known.distances(cases.features, cases.features[q]) for q in queries])
    return np.argsort(np.where(others(cases, queries), distance, np.inf), axis=1, kind="stable")[:, :k]


def random_neighbours(cases: known.KnownCases, queries: np.ndarray, seed: int, k: int = K) -> np.ndarray:
    """Rows of k cases of other patients drawn at random, shape (q, k)."""
    draw = np.random.default_rng(seed).random((len(queries), len(cases)))
    return np.argpartition(np.where(others(cases, queries), draw, 2.0), k, axis=1)[:, :k]


@dataclass(frozen=True)
class Question:
    """What neighbours are asked about, for one group of test cases."""

    data_set: str
    rows: np.ndarray
    """The test cases, rows of the known cases."""
    truth: np.ndarray
    """What is true of them."""


def _figures(
    cases: known.KnownCases,
    question: Question,
    name: str,
    figure: Callable[[np.ndarray, np.ndarray], float],
    of_neighbours: Callable[[np.ndarray], np.ndarray],
    of_model: np.ndarray,
    formula: str,
) -> list[dict[str, Any]]:
    """A figure of the neighbours' answer with its null, and of the model's own answer on the same cases.

    `of_neighbours` turns rows (q, K) of the known cases into answers (q,); `of_model` are the model's answers (q,).
    """
    patients = np.array(cases.patients)[question.rows]
    shared = {
        "n": len(question.rows),
        "data_set": question.data_set,
        "split": "test patients against the cases of all other patients",
        "date": today(),
    }
    answer = of_neighbours(neighbours(cases, question.rows))
    nulls = [figure(question.truth, of_neighbours(random_neighbours(cases, question.rows, s))) for s in range(DRAWS)]
    return [
        {
            "name": f"{name}, {K} nearest known cases",
            "value": figure(question.truth, answer),
            "interval": m.bootstrap(figure, patients, question.truth, answer),
            "null": float(np.mean(nulls)),
            **shared,
            "formula": f"{formula}; null: {K} random cases instead, mean of {DRAWS} draws; interval: bootstrap over patients",
        },
        {
            "name": f"{name}, the model itself",
            "value": figure(question.truth, of_model),
            "interval": m.bootstrap(figure, patients, question.truth, of_model),
            **shared,
            "split": "test patients",
            "formula": "the same figure of the model's own answer to the same images, to compare with",
        },
    ]


def lung_evidence(cases: known.KnownCases) -> list[dict[str, Any]]:
    """AUC of the neighbours' labels on the test nodules of set I."""
    worth = np.array([{"benign": 0.0, INDETERMINATE: 0.5, "malignant": 1.0}[label] for label in cases.labels])
    rows = np.flatnonzero((np.array(cases.splits) == "test") & (worth != 0.5))
    return _figures(
        cases,
        Question("LIDC-IDRI, set I", rows, worth[rows].astype(int)),
        "AUC, malignant",
        m.auc,
        lambda near: worth[near].mean(axis=1),
        cases.probabilities[rows, 1],
        "AUC of the share of malignant cases, an indeterminate one counting half",
    )


def commonest(grades: np.ndarray) -> np.ndarray:
    """The commonest grade of each row (q, k), of equally common ones that of the nearest case. Shape (q,)."""
    counts = (grades[:, :, None] == grades[:, None, :]).sum(axis=2)
    return np.asarray(np.take_along_axis(grades, counts.argmax(axis=1)[:, None], axis=1)[:, 0])


def retina_evidence(cases: known.KnownCases) -> list[dict[str, Any]]:
    """Kappa, accuracy and referable AUC of the neighbours' grades on the test photographs of IDRiD and EyePACS."""
    grades = np.array([int(label) for label in cases.labels])
    test, of_idrid = np.array(cases.splits) == "test", np.array(cases.data_sets) == "IDRiD"
    found = []
    for name, keep in (("IDRiD grading", of_idrid), ("EyePACS, each photograph once", ~of_idrid)):
        rows = np.flatnonzero(test & keep)
        asked, p = Question(name, rows, grades[rows]), cases.probabilities[rows]
        by_vote = "the commonest grade, of equally common ones that of the nearest"
        found += _figures(
            cases,
            asked,
            "quadratic weighted kappa",
            m.quadratic_weighted_kappa,
            lambda near: commonest(grades[near]),
            answered(p),
            f"kappa of {by_vote}",
        )
        found += _figures(
            cases,
            asked,
            "accuracy",
            _accuracy,
            lambda near: commonest(grades[near]),
            answered(p),
            f"share in which {by_vote} is right",
        )
        found += _figures(
            cases,
            replace(asked, truth=(asked.truth >= 2).astype(int)),
            "AUC, referable (grade >= 2)",
            m.auc,
            lambda near: (grades[near] >= 2).mean(axis=1),
            p[:, 2:].sum(1),
            "AUC of the share of cases of grade 2 or more",
        )
    return found


def _accuracy(truth: np.ndarray, said: np.ndarray) -> float:
    return float((truth == said).mean())
