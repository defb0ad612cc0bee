"""Figures of the exported lung model on the test patients, through ONNX Runtime and the service's rule by nodule."""

from __future__ import annotations

from typing import Any

import numpy as np

from training import metrics as m
from training.bundles import Model, metric
from training.lung import contours
from training.lung import protocol as p
from training.lung.data import TEST_FOLDS, Nodule, Prepared
from training.response_maps import evidence as ev

SPLIT = "by patient; test: two of ten folds, from which no network of the ensemble learnt"
CROSS_SPLIT = "by patient; ten folds, each answered by a single network that learnt from seven others"
DRAWS = 2000


def answers(model: Model, prepared: Prepared) -> p.Answers:
    """The ensemble's answers to all slices of the test patients' nodules."""
    nodules = prepared.chosen(TEST_FOLDS, "B")
    rows = np.array([row for n in nodules for row in n.rows])
    logits = model.run(prepared.inputs[rows, None], "logits", batch=64)[0].astype(np.float64)
    return p.Answers.of([p.Trained(rows, logits[:, 1] - logits[:, 0], {})], nodules)


def figures(joint: p.Answers, crossed: p.Answers) -> list[dict[str, Any]]:
    """Figures of the test patients, each AUC beside the diameter alone; and of the cross-validation by single networks."""
    found: list[dict[str, Any]] = []

    def add(name: str, figure: dict[str, Any], n: int, subset: str, split: str = SPLIT) -> None:
        found.append(metric(name, figure["value"], figure["interval"], n, f"LIDC-IDRI, set {subset}", split))

    for subset in p.SETS:
        for level in p.LEVELS[::-1]:
            c = p.cases(joint, subset, level)
            draws = m.resample(c.patient, DRAWS)
            for name, keep in (p.groups(c) if subset == "I" and level == "nodule" else {"all": c.truth >= 0}).items():
                own, truth = draws.where(keep), c.truth[keep]
                network, diameter = (own.auc(truth, score[keep]) for score in (c.score, c.diameter))
                which = f"AUC by {level}" + ("" if name == "all" else f", {name}")
                add(which, m.summary(network), len(truth), subset)
                add(f"{which}: the readers' mean diameter alone", m.summary(diameter), len(truth), subset)
                add(f"{which}: difference to the diameter", m.summary(network - diameter), len(truth), subset)
            if subset == "I" and level == "nodule":
                error = draws.calibration_error(c.truth, c.score, m.bin_of(c.score))
                add("expected calibration error (10 bins)", m.summary(error), len(c.truth), subset)
    for subset in p.SETS:
        c = p.cases(crossed, subset, "nodule")
        draws = m.resample(c.patient, DRAWS)
        network, diameter = draws.auc(c.truth, c.score), draws.auc(c.truth, c.diameter)
        add("AUC by nodule", m.summary(network), len(c.truth), subset, CROSS_SPLIT)
        add(
            "AUC by nodule: difference to the diameter",
            m.summary(network - diameter),
            len(c.truth),
            subset,
            CROSS_SPLIT,
        )
    return found


def operating_points(joint: p.Answers, crossed: p.Answers) -> list[dict[str, Any]]:
    """Thresholds from the training patients' held-out answers, measured with the ensemble on the test patients.

    `crossed` must be calibrated as the ensemble is.
    """
    learnt, c = p.cases(crossed, "I", "nodule"), p.cases(joint, "I", "nodule")
    known = ~np.isin(learnt.fold, TEST_FOLDS)
    draws = m.resample(c.patient, DRAWS)
    points = []
    for name, (title, choose) in zip(
        ("balanced", "sensitivity_90", "sensitivity_95"), p.OPERATING_POINTS.items(), strict=True
    ):
        threshold = round(choose(learnt.truth[known], learnt.score[known]), 4)
        measured = {k: m.summary(v) for k, v in p.decision(draws, c.truth, c.score >= threshold).items()}
        points.append(
            {
                "name": name,
                "default": title == "balanced",
                "score_classes": ["malignant"],
                "threshold": threshold,
                "sensitivity": measured["sensitivity"]["value"],
                "sensitivity_interval": measured["sensitivity"]["interval"],
                "specificity": measured["specificity"]["value"],
                "specificity_interval": measured["specificity"]["interval"],
                "n": len(c.truth),
                "data_set": f"LIDC-IDRI, set I, by nodule, {SPLIT}",
            }
        )
    return points


def line(crossed: p.Answers) -> tuple[float, float]:
    """Slope and intercept of `metrics.platt` by nodule on set I, of the training patients' held-out answers."""
    known = p.Answers([n for n in crossed.nodules if n.part == "train"], crossed.log_odds)
    rows, member = p.rows_of(known.chosen("I"), "nodule")
    return m.platt(known.log_odds[rows], p.cases(known, "I", "nodule").truth, member)


def calibrated(crossed: p.Answers, slope: float, intercept: float) -> p.Answers:
    """The same answers after calibration."""
    return p.Answers(crossed.nodules, slope * crossed.log_odds + intercept)


def maps(model: Model, prepared: Prepared, nodules: list[Nodule]) -> np.ndarray:
    """Response maps of the middle slice of each nodule, shape (n, 2, 72, 72)."""
    return model.run(prepared.inputs[[n.middle for n in nodules], None], "response_maps")[0]


def reference_scale(model: Model, prepared: Prepared) -> float:
    """99.9th percentile of the positive dominant response on the training patients."""
    strength = maps(model, prepared, prepared.part("train")).max(1)
    return float(np.percentile(strength[strength > 0], 99.9))


def evidence(model: Model, prepared: Prepared) -> list[dict[str, Any]]:
    """Do the maps lie where the readers drew the nodule? Test patients, set I, middle slice, each class on its own nodules."""
    cases = contours.read(prepared, prepared.part("test"))
    response, labels = maps(model, prepared, cases.nodules), cases.labels
    data, found = "LIDC-IDRI, set I, test patients, middle slice, readers' 50 % consensus", []
    for c, name in enumerate(contours.CLASSES):
        own = np.flatnonzero(labels == c)
        placed = [ev.placed(response[k, c], region) for k, region in zip(own, cases.regions[own], strict=True)]
        for figure, title in (
            ("share_inside", "share of positive response inside the nodule"),
            ("pointing", "pointing game"),
            ("iou", "overlap (IoU) of the most responding pixels with the nodule"),
        ):
            found.append(
                {
                    "name": f"{title}, {name}",
                    "value": float(np.mean([each[figure] for each in placed])),
                    "null": float(cases.of_window[own].mean()),
                    "n": len(own),
                    "data_set": data,
                    "formula": ev.FORMULAS[figure],
                }
            )
    correlations = np.array([ev.class_correlation(r) for r in response])
    shared = np.array([ev.shared_response(r) for r in response])
    for figure, title, values in (
        ("class_correlation", "class correlation", correlations),
        ("shared_response", "response that both classes share", shared),
    ):
        found.append(
            {
                "name": title,
                "value": float(np.nanmean(values)),
                "n": int(np.isfinite(values).sum()),
                "data_set": data,
                "formula": ev.FORMULAS[figure],
            }
        )
    return found
