"""Figures of the page: table 3.2 as curves, figs. 3.4b and 3.4d (SVG), fig. 3.5 (PNG). The same answers give the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.crystals import prototypes as p
from training.crystals.robustness import METHODS
from training.plotting import save, style

COLOURS = ("#0072b2", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#000000", "#999999", "#882255")
"""Told apart by the colour-blind (Okabe and Ito, and one of Tol's)."""
LINES = ("-", "--", "-.", ":")
AXES = {"displacement": "displacement σ, Å", "vacancy": "vacancies, share", "substitution": "substitutions, share"}


def robustness_figure(table: dict[str, Any]) -> Figure:
    """Accuracy in the thesis' seven classes against the level of each kind of damage."""
    figure = Figure(figsize=(11, 3.7), layout="constrained")
    for axes, (kind, label) in zip(figure.subplots(1, 3, sharey=True), AXES.items(), strict=True):
        rows = [row for row in table["rows"] if row["kind"] == kind and row["level"] > 0]
        for number, name in enumerate(METHODS):
            axes.plot(
                [row["level"] for row in rows],
                [row["seven"][name]["value"] for row in rows],
                color=COLOURS[number % len(COLOURS)],
                linestyle="-" if "network" in name else "--" if "spglib" in name else ":",
                marker="osD^v<>*P"[number],
                markersize=3.5,
                label=name,
            )
        axes.set(xscale="log", xlabel=label, ylim=(-0.03, 1.03))
    figure.axes[0].set_ylabel("share of right answers")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=7.5)
    return figure


def _curves(axes: Axes, across: list[float], curves: dict[str, Any]) -> None:
    for number, kind in enumerate(p.MERGED):
        style: dict[str, Any] = {
            "color": COLOURS[number],
            "linestyle": LINES[number % 4],
            "linewidth": 1.4,
            "label": kind,
        }
        values = curves[kind]
        if isinstance(values, dict):
            mean, deviation = np.array(values["mean"]), np.array(values["deviation"])
            axes.fill_between(
                across, mean - deviation, mean + deviation, color=COLOURS[number], alpha=0.15, linewidth=0
            )
            values = mean
        axes.plot(across, values, **style)
    axes.set(ylim=(-0.02, 1.02), ylabel="probability")


def transition_figure(found: dict[str, Any]) -> Figure:
    """Fig. 3.4b (left) and 3.4d (right), the network trained as in the thesis."""
    figure = Figure(figsize=(11, 3.7), layout="constrained")
    left, right = figure.subplots(1, 2)
    first, second = found["bcc to sc"], found["rhombohedral"]
    _curves(left, first["share"], first["thesis"])
    left.set(xlabel="share of the body centres removed", title=f"bcc to sc, {found['draws']} draws a point")
    _curves(right, second["ratio"], second["thesis"])
    for name, ratio in p.CUBIC_RATIOS.items():
        right.axvline(ratio, color="#999999", linewidth=0.8, linestyle=":")
        right.text(ratio, 1.03, name, ha="center", fontsize=8)
    right.set(xlabel="c/a on hexagonal axes", xscale="log")
    right.set_xticks([0.5, 0.6, 0.8, 1, 1.5, 2, 2.5, 3], ["0.5", "0.6", "0.8", "1", "1.5", "2", "2.5", "3"])
    right.minorticks_off()
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=7, fontsize=8)
    return figure


def _colour(image: Any) -> np.ndarray:
    return np.moveaxis(np.asarray(image, float), 0, -1).clip(0, 1)


def _map(axes: Axes, values: Any) -> None:
    positive = np.asarray(values).clip(0)
    axes.imshow(positive, cmap="inferno", vmin=0, vmax=positive.max() or 1)


def units_figure(shown: dict[str, Any]) -> Figure:
    """The most active units of the first, third and last convolution for one sc structure (guided)."""
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    grid = figure.subplots(len(shown["units"]), 5)
    for row, (name, maps) in zip(grid, shown["units"].items(), strict=True):
        row[0].imshow(_colour(shown["fingerprint"]))
        row[0].set_ylabel(f"{name} layer")
        for axes, values in zip(row[1:], maps, strict=True):
            _map(axes, values)
        for axes in row:
            axes.set(xticks=[], yticks=[])
    grid[0][0].set_title("fingerprint", fontsize=8)
    for number, axes in enumerate(grid[0][1:], 1):
        axes.set_title(f"unit {number}", fontsize=8)
    return figure


def templates_figure(shown: dict[str, Any]) -> Figure:
    """A fingerprint of every class and the maps of all units of the last convolution, summed: linear (eq. 3.2) and guided."""
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    grid = figure.subplots(3, len(shown["classes"]))
    for column, (kind, images) in zip(grid.T, shown["classes"].items(), strict=True):
        column[0].set_title(kind, fontsize=9)
        column[0].imshow(_colour(images[0]))
        for axes, values in zip(column[1:], images[1:], strict=True):
            _map(axes, values)
        for axes in column:
            axes.set(xticks=[], yticks=[])
    for axes, label in zip(grid[:, 0], ("fingerprint", "linear", "guided"), strict=True):
        axes.set_ylabel(label)
    return figure


def draw_pictures(shown: dict[str, Any], folder: Path) -> list[Path]:
    """Fig. 3.5, two PNG files."""
    with mpl.rc_context(style("crystals")):
        return [
            save(units_figure(shown), folder / "crystals_units.png"),
            save(templates_figure(shown), folder / "crystals_templates.png"),
        ]


def draw_curves(results: dict[str, Any], folder: Path) -> list[Path]:
    """The curves, two SVG files."""
    with mpl.rc_context(style("crystals")):
        return [
            save(robustness_figure(results["robustness"]), folder / "crystals_robustness.svg"),
            save(transition_figure(results["transitions"]), folder / "crystals_transitions.svg"),
        ]
