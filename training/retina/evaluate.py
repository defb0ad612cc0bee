"""Figures of the exported retina model: the ensemble on the test photographs, single members on what each left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax  # type: ignore[import-untyped]

from training import metrics as m
from training.bundles import Model, metric
from training.retina.data import IDRID_BLOCK, Prepared, answered
from training.retina.networks import Answers

SOURCES = {
    "idrid": "IDRiD grading",
    "eyepacs_natural": "EyePACS, natural colour",
    "eyepacs_equalised": "EyePACS, equalised copies at 256 px",
}
TEST_SPLITS = {
    "idrid": "official test split; the ensemble",
    "eyepacs_natural": "by patient, one of eight folds; the ensemble",
    "eyepacs_equalised": "by patient, one of eight folds; the ensemble",
}
LEFT_OUT = "each answered by the single member that left it out"
CROSS_SPLITS = {
    "idrid": f"by blocks of {IDRID_BLOCK} neighbouring numbers; {LEFT_OUT}",
    "eyepacs_natural": f"by patient; {LEFT_OUT}",
}
REFERRALS = (("mtmDR", 2), ("vtDR", 3))
"""More than mild, and vision-threatening retinopathy, by their first grade."""
WORDS = {"mtmDR": "referable (grade >= 2)", "vtDR": "vision-threatening (grade >= 3)"}
TARGETS = (("", 0.0), ("_sensitivity_90", 0.9), ("_sensitivity_95", 0.95))
DRAWS = 2000


@dataclass(frozen=True)
class Cases:
    """Photographs with their truth and what was said of them."""

    grade: np.ndarray
    patient: np.ndarray
    probability: np.ndarray
    """Float64, shape (n, 5)."""

    @property
    def said(self) -> np.ndarray:
        """The answered grade, int, shape (n,)."""
        return answered(self.probability)

    def score(self, first: int) -> np.ndarray:
        """Probability of grade `first` or a worse one, shape (n,)."""
        return self.probability[:, first:].sum(1)

    def where(self, keep: np.ndarray) -> Cases:
        return Cases(self.grade[keep], self.patient[keep], self.probability[keep])


def images(prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """Network inputs of prepared photographs, float32, shape (n, 3, 512, 512)."""
    return np.stack([prepared.images[k] for k in rows]).astype(np.float32) / 31.875 - 4


def probabilities(model: Model, prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """Class probabilities, shape (n, 5)."""
    parts = [model.run(images(prepared, rows[k : k + 4]), "probabilities")[0] for k in range(0, len(rows), 4)]
    return np.concatenate(parts).astype(float)


def cases(prepared: Prepared, rows: np.ndarray, probability: np.ndarray) -> Cases:
    """Prepared photographs with what was said of them."""
    items = [prepared.items[k] for k in rows]
    return Cases(np.array([i.grade for i in items]), np.array([i.patient for i in items]), probability)


def crossed(prepared: Prepared, answers: Answers, slope: float, shift: np.ndarray) -> dict[str, Cases]:
    """The cross-validation after calibration, by source: photographs of patients of the training part."""
    found = {}
    for source in CROSS_SPLITS:
        own = np.array([prepared.items[k].source == source for k in answers.rows])
        probability = softmax(slope * answers.logits[own] + shift, axis=1)
        found[source] = cases(prepared, answers.rows[own], probability)
    return found


def tested(model: Model, prepared: Prepared) -> dict[str, Cases]:
    """The ensemble on the test part, by source."""
    found = {}
    for source in SOURCES:
        rows = prepared.rows("test", source)
        found[source] = cases(prepared, rows, probabilities(model, prepared, rows))
    return found


def figures(c: Cases, data: str, split: str) -> list[dict[str, Any]]:
    """Quadratic weighted kappa, referable AUC, calibration, accuracy with its majority baseline, recall by grade.

    What the photographs do not allow to measure is left out.
    """
    found: list[dict[str, Any]] = []

    def add(name: str, value: float, interval: Sequence[float], n: int = len(c.grade)) -> None:
        if np.isfinite(value):  # else there is no photograph of this grade
            found.append(metric(name, value, list(interval), n, data, split))

    kappa = m.quadratic_weighted_kappa
    add("quadratic weighted kappa", kappa(c.grade, c.said), m.bootstrap(kappa, c.patient, c.grade, c.said))
    draws = m.resample(c.patient, DRAWS)
    for name, first in REFERRALS:
        truth, score = (c.grade >= first).astype(int), c.score(first)
        summary = m.summary(draws.auc(truth, score))
        add(f"AUC, {WORDS[name]}", summary["value"], summary["interval"])
        error = m.summary(draws.calibration_error(truth, score, m.bin_of(score)))
        add(f"expected calibration error, {WORDS[name]}, 10 bins", error["value"], error["interval"])
    commonest = np.bincount(c.grade).argmax()
    for name, event in (
        ("accuracy", c.said == c.grade),
        ("accuracy of always answering the commonest grade", c.grade == commonest),
    ):
        summary = m.summary(draws.share(event))
        add(name, summary["value"], summary["interval"])
    for grade in range(5):
        own = c.grade == grade
        summary = m.summary(draws.share(c.said == grade, own))
        add(f"recall of grade {grade}", summary["value"], summary["interval"], int(own.sum()))
    return found


def thresholds(known: Cases) -> dict[str, float]:
    """Thresholds of the operating points by name, from the cross-validation."""
    found = {}
    for name, first in REFERRALS:
        truth, score = (known.grade >= first).astype(int), known.score(first)
        for suffix, sensitivity in TARGETS:
            chosen = (
                m.threshold_at_sensitivity(truth, score, sensitivity)
                if sensitivity
                else m.threshold_balanced(truth, score)
            )
            found[name + suffix] = round(chosen, 4)
    return found


def operating_points(known: Cases, test: Cases) -> list[dict[str, Any]]:
    """Thresholds from the cross-validation, measured with the ensemble on IDRiD's test split."""
    draws, points = m.resample(test.patient, DRAWS), []
    for name, threshold in thresholds(known).items():
        first = dict(REFERRALS)[name.split("_")[0]]
        truth, called = test.grade >= first, test.score(first) >= threshold
        sensitivity, specificity = m.summary(draws.share(called, truth)), m.summary(draws.share(~called, ~truth))
        points.append(
            {
                "name": name,
                "default": name == REFERRALS[0][0],
                "score_classes": [str(grade) for grade in range(first, 5)],
                "threshold": threshold,
                "sensitivity": sensitivity["value"],
                "sensitivity_interval": sensitivity["interval"],
                "specificity": specificity["value"],
                "specificity_interval": specificity["interval"],
                "n": len(truth),
                "data_set": f"{SOURCES['idrid']}, official test split; threshold: IDRiD and EyePACS, {LEFT_OUT}",
            }
        )
    return points


def joined(parts: dict[str, Cases]) -> Cases:
    """All sources as one."""
    columns = zip(*((c.grade, c.patient, c.probability) for c in parts.values()), strict=True)
    return Cases(*(np.concatenate(column) for column in columns))


def oedema(prepared: Prepared, answers: Answers) -> list[dict[str, Any]]:
    """How well the head that teaches macular oedema tells risk 2 (exudates within a disc diameter of the fovea) from 0 and 1."""
    risk = np.array([prepared.items[k].dme for k in answers.rows])
    rated = risk >= 0
    who = np.array([prepared.items[k].patient for k in answers.rows])[rated]
    score = softmax(answers.oedema[rated], axis=1)[:, 2]
    summary = m.summary(m.resample(who, DRAWS).auc((risk[rated] == 2).astype(int), score))
    name = "AUC, risk of macular oedema 2 against 0 and 1 (a head of the training, not shipped)"
    return [
        metric(name, summary["value"], summary["interval"], int(rated.sum()), SOURCES["idrid"], CROSS_SPLITS["idrid"])
    ]


def reference_scale(model: Model, prepared: Prepared) -> float:
    """99.9th percentile of the positive dominant response on 60 of IDRiD's training photographs."""
    strongest = []
    for row in prepared.rows("train", "idrid")[::5][:60]:
        dominant = model.run(images(prepared, np.array([row])), "response_maps")[0][0].max(0)
        strongest.append(dominant[dominant > 0])
    return float(np.percentile(np.concatenate(strongest), 99.9))
