"""What `python -m training.lung report` measures and writes: ``docs/results/lung_protocol.json``, ``.md`` and ``lung_*.svg``."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit  # type: ignore[import-untyped]

from training import metrics as m
from training.lung import plots, tables
from training.lung import protocol as p
from training.lung.data import Nodule
from training.lung.ratings import from_ratings


def table_41(nodules: list[Nodule]) -> list[dict[str, int]]:
    """Slices and nodules by rounded mean malignancy: all that were prepared, those measured with, and the published slices."""
    table = []
    for score, published in p.PUBLISHED_SLICES.items():
        own = [n for n in nodules if n.score == score]
        kept = [n for n in own if n.match != "partial"]
        table.append(
            {
                "score": score,
                "nodules": len(own),
                "slices": sum(n.slices for n in own),
                "measured nodules": len(kept),
                "measured slices": sum(n.slices for n in kept),
                "published slices": published,
            }
        )
    return table


def measure_set(answers: p.Answers, subset: str, level: str, draws: int) -> dict[str, Any]:
    """All figures of one set by slice or by nodule."""
    c = p.cases(answers, subset, level)
    drawn = m.resample(c.patient, draws)
    after, lines = p.calibrated(answers, subset, level, c)
    return {
        **p.compare(c, drawn),
        "operating points": p.operating_points(c, drawn),
        "uncalibrated": p.calibration(c, drawn, c.score),
        "calibrated": {
            **p.calibration(c, drawn, after),
            "slope": [float(lines[:, 0].min()), float(lines[:, 0].max())],
            "intercept": [float(lines[:, 1].min()), float(lines[:, 1].max())],
        },
    }


def from_ratings_auc(answers: p.Answers, subset: str, draws: int) -> dict[str, Any]:
    """AUC by nodule of what the readers' own ratings tell (`training.lung.ratings`), and the network's difference to it."""
    c, nodules = p.cases(answers, subset, "nodule"), answers.chosen("B")
    expected = dict(zip([(n.patient, n.name) for n in nodules], from_ratings(nodules), strict=True))
    score = np.array([expected[n.patient, n.name] for n in answers.chosen(subset)])
    draw = m.resample(c.patient, draws)
    found = {}
    for name, keep in p.groups(c).items():
        own, truth = draw.where(keep), c.truth[keep]
        told, network = own.auc(truth, score[keep]), own.auc(truth, c.score[keep])
        found[name] = {"n": len(truth), "auc": m.summary(told), "difference": m.summary(network - told)}
    return found


def aggregations(answers: p.Answers, subset: str, draws: int) -> dict[str, Any]:
    """AUC by nodule after each rule, and its paired difference to the service's rule."""
    nodules, c = answers.chosen(subset), p.cases(answers, subset, "nodule")
    drawn = m.resample(c.patient, draws)
    values = {rule: drawn.auc(c.truth, p.by_nodule(answers, nodules, rule)) for rule in p.AGGREGATIONS}
    return {rule: {"auc": m.summary(v), "difference": m.summary(v - values[p.SERVICE])} for rule, v in values.items()}


def leaky(trained: list[p.Trained], answers: p.Answers, subset: str, draws: int) -> dict[str, Any]:
    """Networks split by slice beside those split by patient, on the very same slices; yes is p >= 0.5; means over the networks.

    Raises
    ------
    ValueError
        When a network was not trained on the split by slice.
    """
    if wrong := [t.facts["protocol"] for t in trained if t.facts["protocol"] != "slice"]:
        raise ValueError(f"leaky: a network of protocol {wrong[0]!r}")
    rows, _ = p.rows_of(answers.chosen(subset), "slice")
    c = p.cases(answers, subset, "slice")
    drawn, place = m.resample(c.patient, draws), {row: k for k, row in enumerate(rows)}
    both: dict[str, list[dict[str, np.ndarray]]] = {"leaky": [], "honest": []}
    for t in trained:
        known = np.isin(t.rows, rows)
        at = np.array([place[row] for row in t.rows[known]])
        for name, score in (("leaky", expit(t.log_odds[known].astype(float))), ("honest", c.score[at])):
            both[name].append(p.column(drawn.where(at), c.truth[at], score, score >= 0.5))
    mean = {name: {k: np.mean([v[k] for v in columns], 0) for k in p.FIGURES} for name, columns in both.items()}
    return {
        "n": sum(int(np.isin(t.rows, rows).sum()) for t in trained),
        "networks": len(trained),
        **{name: {k: m.summary(v) for k, v in values.items()} for name, values in mean.items()},
        "difference": {k: m.summary(mean["leaky"][k] - mean["honest"][k]) for k in p.FIGURES},
    }


def seen_before(trained: list[p.Trained], nodules: list[Nodule]) -> float:
    """Share of the networks' test slices whose nodule has slices outside of that test part."""
    found = []
    for t in trained:
        tested = set(t.rows.tolist())
        found += [not tested.issuperset(n.rows) for n in nodules for row in n.rows if row in tested]
    return float(np.mean(found))


def study(trained: list[p.Trained], nodules: list[Nodule], draws: int) -> list[dict[str, Any]]:
    """AUC by number of training nodules, all on the same held-out patients.

    Raises
    ------
    ValueError
        When two networks answered to different nodules.
    """
    measured = [n for n in nodules if n.match != "partial"]
    answers = [p.Answers.of([t], measured) for t in trained]
    if any(a.nodules != answers[0].nodules for a in answers):
        raise ValueError("training-size study: the networks answered to different nodules")
    points = []
    for t, a in sorted(zip(trained, answers, strict=True), key=lambda pair: pair[0].facts["train_nodules"]):
        point = {name: t.facts[name] for name in ("share", "train_nodules", "train_slices")}
        for subset in p.SETS:
            for level in p.LEVELS:
                c = p.cases(a, subset, level)
                drawn = m.resample(c.patient, draws)
                network, diameter = drawn.auc(c.truth, c.score), drawn.auc(c.truth, c.diameter)
                point[f"{subset}, {level}"] = {
                    "n": len(c.truth),
                    "network": m.summary(network),
                    "diameter": m.summary(diameter),
                    "difference": m.summary(network - diameter),
                }
        points.append(point)
    return points


def ensemble(folder: Path, answers: p.Answers, nodules: list[Nodule], draws: int) -> dict[str, Any]:
    """The ensemble beside the single networks of the cross-validation, on the same nodules, and beside the diameter.

    Raises
    ------
    ValueError
        When it answered to a patient outside of the test folds, and is not one of ten.
    """
    measured = [n for n in nodules if n.match != "partial"]
    if (folder / "predictions.npz").exists():
        joint = p.Answers.of([p.read(folder)], measured)
        if any(n.part != "test" for n in joint.nodules):
            raise ValueError(f"{folder}: answers to patients outside of the test folds")
    else:
        joint, _ = p.cross_validation(folder, nodules)
    single, found = p.Answers(joint.nodules, answers.log_odds), {}
    for subset in p.SETS:
        for level in p.LEVELS:
            c, alone = p.cases(joint, subset, level), p.cases(single, subset, level)
            drawn = m.resample(c.patient, draws)
            auc = {"ensemble": c.score, "single": alone.score, "diameter": c.diameter}
            values = {name: drawn.auc(c.truth, score) for name, score in auc.items()}
            found[f"{subset}, {level}"] = {
                "n": len(c.truth),
                **{name: m.summary(v) for name, v in values.items()},
                "to single": m.summary(values["ensemble"] - values["single"]),
                "to diameter": m.summary(values["ensemble"] - values["diameter"]),
            }
    return found


def cost(name: str, trained: list[p.Trained]) -> dict[str, Any]:
    """What trainings took: means over the networks."""

    def mean(value: Callable[[dict[str, Any]], float]) -> float:
        return float(np.mean([value(t.facts) for t in trained]))

    counted = all("images" in t.facts for t in trained)
    return {
        "name": name,
        "networks": len(trained),
        "train nodules": round(mean(lambda f: f["train_nodules"])),
        "train slices": round(mean(lambda f: f["train_slices"])),
        "parameters": round(mean(lambda f: f["parameters"])),
        "seconds": round(mean(lambda f: f["seconds"])),
        "images/s": mean(lambda f: f["images"] / f["seconds"]) if counted else math.nan,
    }


def found_in(folder: Path) -> list[p.Trained]:
    """All networks that left their answers in a folder or below it, by path."""
    return [p.read(path.parent) for path in sorted(folder.rglob("predictions.npz"))]


def measure(nodules: list[Nodule], runs: Path, hardware: str, draws: int = 2000) -> tuple[dict[str, Any], p.Answers]:
    """Measure all that lies in `runs`: ``folds/0..9`` must be there; ``leaky``, ``study`` and ``ensemble`` may be absent.

    Returns
    -------
    tuple
        What goes into the JSON file, and the cross-validation's answers.
    """
    answers, folds = p.cross_validation(runs / "folds", nodules)
    others = {name: found_in(runs / name) for name in ("leaky", "study", "ensemble")}
    results: dict[str, Any] = {
        "patients": len({n.patient for n in answers.nodules}),
        "draws": draws,
        "hardware": hardware,
        "table 4.1": table_41(nodules),
        "published": p.PUBLISHED,
        "sets": {s: {level: measure_set(answers, s, level, draws) for level in p.LEVELS} for s in p.SETS},
        "ratings": {s: from_ratings_auc(answers, s, draws) for s in p.SETS},
        "aggregations": {s: aggregations(answers, s, draws) for s in p.SETS},
        "cost": [cost("cross-validation", list({t.facts["fold"]: t for t in folds}.values()))],
    }
    if others["leaky"]:
        results["leaky"] = {s: leaky(others["leaky"], answers, s, draws) for s in p.SETS}
        results["leaky"]["seen"] = seen_before(others["leaky"], answers.nodules)
        results["cost"].append(cost("split by slice", others["leaky"]))
    if others["study"]:
        results["study"] = study(others["study"], nodules, draws)
        results["cost"] += [
            cost(
                f"training size, {100 * share:g} % of the patients",
                [t for t in others["study"] if t.facts["share"] == share],
            )
            for share in sorted({t.facts["share"] for t in others["study"]})
        ]
    if others["ensemble"]:
        results["ensemble"] = ensemble(runs / "ensemble", answers, nodules, draws)
        results["cost"].append(cost("ensemble", others["ensemble"]))
    return results, answers


def rounded(value: Any) -> Any:
    """Six significant digits, and None for what is not defined."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def report(nodules: list[Nodule], runs: Path, folder: Path, hardware: str, draws: int = 2000) -> list[Path]:
    """Measure and write everything; returns the files' paths. The same answers give the same bytes.

    Parameters
    ----------
    nodules : list of Nodule
        All that were prepared.
    runs : Path
        Where the trainings left their answers (`measure`).
    folder : Path
        Where the files go (``docs/results``).
    hardware : str
        What the trainings ran on, for the cost table.
    draws : int
        Bootstrap draws of patients.
    """
    results, answers = measure(nodules, runs, hardware, draws)
    results = rounded(results)
    folder.mkdir(parents=True, exist_ok=True)
    data, text = folder / "lung_protocol.json", folder / "lung_protocol.md"
    data.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    text.write_text(tables.markdown(results), encoding="utf-8")
    return [data, text, *plots.draw(results, answers, folder)]
