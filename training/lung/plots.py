"""Figures of the protocol as SVG: ROC curves, reliability, training size. The same answers give the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from training import metrics as m
from training.lung.protocol import LEVELS, OPERATING_POINTS, SETS, Answers, Cases, cases
from training.plotting import save, style

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#999999"
"""Told apart by the colour-blind (Okabe and Ito), and by their lines and marks in black and white."""
MARKS = dict(zip(OPERATING_POINTS, "osD", strict=True))
GRID = np.linspace(0, 1, 201)
"""False positive rates at which curves are drawn: their thousands of steps would not be seen."""


def _unit(axes: Axes, across: str, up: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=across, aspect="equal")
    axes.set_ylabel(up)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.6, linestyle=":")


def _curve(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False positive rates and sensitivities, each of shape (202,): from (0, 0) upwards, then along `GRID`."""
    alarms, hits, _ = roc_curve(truth, score)
    return np.r_[0, GRID], np.r_[0, np.interp(GRID, alarms, hits)]


def _roc(axes: Axes, c: Cases, found: dict[str, Any], draws: int) -> None:
    for k in np.unique(c.fold):
        own = c.fold == k
        name = "each fold" if k == c.fold.min() else None
        axes.plot(*_curve(c.truth[own], c.score[own]), color=GREY, linewidth=0.5, alpha=0.7, label=name)
    drawn = m.resample(c.patient, draws)
    curves = drawn.roc(c.truth, c.score, GRID)
    low, high = np.nanpercentile(curves[1:], [2.5, 97.5], axis=0)
    whole = found["groups"]["all"]
    network, diameter = (f"AUC {whole[name]['auc']['value']:.3f}" for name in ("network", "diameter"))
    axes.plot(*_curve(c.truth, c.score), color=BLUE, linewidth=1.8, label=f"network, {network}")
    axes.fill_between(GRID, low, high, color=BLUE, alpha=0.2, linewidth=0, label="its 95 % interval")
    axes.plot(
        *_curve(c.truth, c.diameter), color=ORANGE, linewidth=1.4, linestyle="--", label=f"diameter alone, {diameter}"
    )
    for name, point in found["operating points"].items():
        axes.plot(
            1 - point["specificity"]["value"],
            point["sensitivity"]["value"],
            MARKS[name],
            color="white",
            markeredgecolor="black",
            markersize=5.5,
            label=name,
        )
    axes.legend(loc="lower right", fontsize=7.5, handlelength=2.2)


def roc_figure(results: dict[str, Any], answers: Answers, level: str) -> Figure:
    """Three panels, one a set."""
    figure = Figure(figsize=(10.5, 3.7), layout="constrained")
    for axes, subset in zip(figure.subplots(1, 3), SETS, strict=True):
        c, found = cases(answers, subset, level), results["sets"][subset][level]
        _unit(axes, "1 − specificity", "sensitivity")
        _roc(axes, c, found, min(results["draws"], 1000))
        axes.set_title(f"set {subset}, {len(c.truth)} {level}s of {len(np.unique(c.patient))} patients", fontsize=9)
    return figure


def reliability_figure(results: dict[str, Any]) -> Figure:
    """Observed share of malignant nodules against the predicted probability, before and after calibration."""
    figure = Figure(figsize=(10.5, 3.7), layout="constrained")
    for axes, subset in zip(figure.subplots(1, 3), SETS, strict=True):
        _unit(axes, "predicted probability of malignancy", "share of malignant nodules")
        found = results["sets"][subset]["nodule"]
        for state, colour, mark, line in (("uncalibrated", ORANGE, "s", "--"), ("calibrated", BLUE, "o", "-")):
            bins = found[state]["bins"]
            predicted, observed = (np.array([b[k] for b in bins], float) for k in ("predicted", "value"))
            low, high = np.array([b["interval"] for b in bins], float).T
            error = found[state]["ECE, equal width"]["value"]
            axes.errorbar(
                predicted,
                observed,
                np.nan_to_num([(observed - low).clip(0), (high - observed).clip(0)]),
                color=colour,
                linestyle=line,
                linewidth=1.3,
                elinewidth=0.7,
                marker=mark,
                markersize=4.5,
                label=f"{state}, ECE {error:.3f}",
            )
        axes.legend(loc="upper left", fontsize=7.5)
        axes.set_title(f"set {subset}, {found['groups']['all']['n']} nodules", fontsize=9)
    return figure


def size_figure(results: dict[str, Any]) -> Figure:
    """AUC on set I against the number of training nodules."""
    figure = Figure(figsize=(5.2, 3.9), layout="constrained")
    axes = figure.subplots()
    points = results["study"]
    nodules = np.array([point["train_nodules"] for point in points])
    for level, colour, mark, line, shift in (("nodule", BLUE, "o", "-", 0.985), ("slice", "black", "^", ":", 1.015)):
        entries = [point[f"I, {level}"]["network"] for point in points]
        value = np.array([entry["value"] for entry in entries])
        low, high = np.array([entry["interval"] for entry in entries]).T
        axes.errorbar(
            nodules * shift,
            value,
            [value - low, high - value],
            color=colour,
            linestyle=line,
            marker=mark,
            markersize=5,
            elinewidth=0.7,
            label=f"network, by {level}",
        )
    diameter = points[0]["I, nodule"]["diameter"]["value"]
    axes.axhline(diameter, color=ORANGE, linestyle="--", linewidth=1.4, label="diameter alone, by nodule")
    axes.set_xscale("log")
    axes.set_xticks(np.unique(nodules), [str(n) for n in np.unique(nodules)])
    axes.minorticks_off()
    axes.set(xlabel="training nodules (logarithmic)", ylabel="AUC on set I, the same unseen patients")
    axes.legend(loc="lower right", fontsize=7.5)
    return figure


def draw(results: dict[str, Any], answers: Answers, folder: Path) -> list[Path]:
    """Write all figures; returns their paths."""
    with mpl.rc_context(style("lung")):
        paths = [save(roc_figure(results, answers, level), folder / f"lung_roc_{level}.svg") for level in LEVELS]
        paths.append(save(reliability_figure(results), folder / "lung_reliability.svg"))
        if "study" in results:
            paths.append(save(size_figure(results), folder / "lung_training_size.svg"))
    return paths
