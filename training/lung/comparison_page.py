"""The comparison of explanations as a page: tables, a picture of a few nodules, and the numbers behind them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from training.bundles import today
from training.comparison import cell, code, rounded, table
from training.explanations import Members, Network, methods
from training.lung.comparison import CONTEST, DEFAULT, Settings, compare, probability
from training.lung.contours import CLASSES, SIZE, Cases, read
from training.lung.data import Nodule, Prepared

SHOWN = (
    DEFAULT,
    "guided, class",
    "linear, class",
    "class map",
    "Grad-CAM",
    "|gradient|",
    "Integrated Gradients",
    "LRP-gamma",
    "occlusion",
)
"""Methods in the picture."""
PIXELS = "LIDC-IDRI (CC BY 3.0: Armato et al. 2011, 2015; doi:10.7937/K9/TCIA.2015.LO9QL9SX)"
COLUMNS = {
    "share_inside": "share inside",
    "lift": "x window",
    "lift_of_means": "x window, means",
    "lift_of_source": "x source slice",
    "pointing": "pointing",
    "iou": "IoU",
    "iou_half_maximum": "IoU, half maximum",
    "deletion": "deletion",
    "insertion": "insertion",
}
WITH_INTERVAL = ("share_inside", "pointing", "iou", "deletion", "insertion")


def of_class(result: dict[str, Any], group: str, columns: Sequence[str]) -> str:
    """Table of a class (``malignant``) or of its moved windows (``malignant, moved``)."""
    klass, _, away = group.partition(", ")
    first = result["first_moved" if away else "first"]
    lines = [["method", *(COLUMNS[column] for column in columns)]]
    for name, method in result["methods"].items():
        cells = [
            cell(
                method[group].get(column),
                interval=column in WITH_INTERVAL,
                first=first.get(column, {}).get(klass, {}).get("first") == name,
            )
            for column in columns
        ]
        lines.append([code(name) if method["kind"] != "control" else f"control: {name}", *cells])
    return table(lines)


def of_both(result: dict[str, Any]) -> str:
    """Table of what needs no contour: class correlation, stability, randomisation."""
    names = {"class_correlation": "class correlation", "shared_response": "shared response"}
    explained = {name: method["both"] for name, method in result["methods"].items() if "both" in method}
    keys = list(next(iter(explained.values())))
    lines = [["method", *(names.get(key, key.replace("_", " ")) for key in keys)]]
    for name, figures in explained.items():
        best = {key: result["first"].get(key, {}).get("both", {}).get("first") == name for key in keys}
        lines.append([code(name), *(cell(figures[key], first=best[key]) for key in keys)])
    return table(lines)


def winners(result: dict[str, Any]) -> str:
    """Table of who is first, and by how much ours and the default lead the best peer."""
    lines = [
        ["figure", "nodules", "first", "best of ours", "best peer", "ours - peer", "default - peer", "first - centre"]
    ]
    for key, moved in (("first", ""), ("first_moved", ", moved")):
        for figure, groups in result[key].items():
            better = "higher" if CONTEST[figure] is max else "lower"
            for group, entry in groups.items():
                differences = (
                    entry.get(f"{pair}") for pair in ("ours_minus_peer", "default_minus_peer", "first_minus_centre")
                )
                names = (code(entry[who]) for who in ("first", "ours", "peer"))
                lines.append(
                    [
                        f"{figure.replace('_', ' ')} ({better})",
                        group + moved,
                        *names,
                        *(cell(difference, interval=difference is not None) for difference in differences),
                    ]
                )
    return table(lines)


def page(result: dict[str, Any], caption: str) -> str:
    """The whole page in Markdown."""
    settings, baseline = result["settings"], result["baseline"]
    counted = " and ".join(f"{count} {klass}" for klass, count in result["nodules"].items())
    nulls = "; ".join(
        f"{klass} {of['window']:.4f} of the window (so the largest mean ratio is {of['largest_lift']:.0f}, of means "
        f"{1 / of['window']:.0f}), {of['source']:.4f} of the source slice"
        for klass, of in result["null"].items()
    )
    about = (
        f"Written by `python -m training.lung compare`, {result['date']}. {result['data_set']}; {counted} nodules of "
        f"{result['patients']} test patients, each class on its own nodules; networks: {result['members']}. Intervals: 95 %, "
        "bootstrap over patients. **Bold**: first among the methods. A map without positive response counts 0 in every "
        f"measure of place.\n\nMean area of a nodule, which is what chance gives for the share: {nulls}. Windows are centred "
        "on their nodule, so compare with the control `centre`, and with the windows that are moved by "
        f"{settings['move_mm']:g} mm along both axes."
    )
    paired = (
        "Differences are paired by nodule. With two classes the maps of a signed peer are each other's negative: its class "
        "correlation is -1 and its shared response 0 by construction, so it takes no part in these two."
    )
    checked = (
        f"Stability and randomisation on {settings['checked']} nodules a class, deletion and insertion on at most "
        f"{settings['curves']}; noise +-{settings['noise']:g} of the grey range, {settings['draws']} draws; patches of "
        f"{settings['curve_patch_px']} px; shares of patches {', '.join(f'{share:g}' for share in settings['curve_shares'])}."
    )
    window, filled, empty = (cell(baseline[key], interval=True) for key in ("window", "nodule_filled", "baseline"))
    vanishing = (
        "Deletion, insertion, occlusion and Integrated Gradients use one baseline, the window's median grey: it needs no "
        f"contour, and most of a window is lung. Mean p(malignant) of the malignant nodules: {window} as they are; {filled} "
        f"when all that a reader drew and 1 mm around it is filled with it; {empty} for the bare baseline; "
        f"{baseline['prior']:.3f} is the network's answer to no evidence at all (the prior).\n\nThe sum of Integrated "
        f"Gradients misses the change of the log-odds by {100 * result['integrated_gradients_gap']:.1f} % (median)."
    )
    away = f"The same nodules, at most {settings['moved']}, in windows that are moved:"
    classes = [
        part
        for klass in reversed(CLASSES)
        for part in (
            f"## {klass.capitalize()} nodules",
            of_class(result, klass, list(COLUMNS)),
            away,
            of_class(result, f"{klass}, moved", ["share_inside", "pointing", "iou"]),
        )
    ]
    how = [["method", "how"], *([code(name), of["text"]] for name, of in result["methods"].items())]
    formulas = [["figure", "formula"], *([key, text.replace("|", "\\|")] for key, text in result["formulas"].items())]
    parts = ["# Explanations of the lung network against the radiologists' contours", about]
    parts += ["## Who is first", winners(result), paired, *classes, "## Both classes", of_both(result), checked]
    parts += ["## Does the nodule vanish in the baseline?", vanishing]
    parts += ["## Picture", f"![Maps of a few nodules](lung_evidence.png)\n\n{caption}"]
    parts += ["## Methods", table(how), "## Formulas", table(formulas)]
    return "\n\n".join(parts) + "\n"


def chosen(network: Network, cases: Cases) -> dict[str, int]:
    """Rows of the most surely right and the most surely wrong nodule of each class, where there are such."""
    p = probability(network, cases.images)
    said, sure = p.argmax(1), p.max(1)
    found = {}
    for right in (True, False):
        for c, klass in reversed(list(enumerate(CLASSES))):
            rows = np.flatnonzero((cases.labels == c) & ((said == c) == right))
            if len(rows):
                found[f"{klass}, {'right' if right else 'wrong'}"] = int(rows[sure[rows].argmax()])
    return found


def draw(path: Path, network: Network, cases: Cases, settings: Settings) -> str:
    """Draw the maps of the answered class over a few windows (PNG); returns the caption."""
    explain = methods(settings.steps, settings.patch_px, settings.stride_px)
    rows = chosen(network, cases)
    x = cases.images[list(rows.values())]
    p = probability(network, x)
    figure = Figure(figsize=(1.05 * (len(SHOWN) + 1), 1.12 * len(rows) + 0.2), dpi=100, layout="constrained")
    axes = figure.subplots(len(rows), len(SHOWN) + 1, squeeze=False)
    for name, column in zip(("readers", *SHOWN), axes.T, strict=True):
        maps = None if name == "readers" else explain[name].maps(network, x).numpy()
        column[0].set_title(name, fontsize=6.5)
        for k, (axis, (title, row)) in enumerate(zip(column, rows.items(), strict=True)):
            axis.set_axis_off()
            axis.imshow(x[k, 0].numpy(), cmap="gray", vmin=0, vmax=1)
            if maps is not None:
                positive = np.maximum(maps[k, p[k].argmax()], 0)
                strength = positive / max(float(positive.max()), 1e-12)
                axis.imshow(strength, cmap="inferno", vmin=0, vmax=1, alpha=np.minimum(1, 2 * strength))
            else:
                axis.text(2, 6, title, color="w", fontsize=5)
                axis.text(
                    2,
                    SIZE - 3,
                    f"p(malignant) {p[k, 1]:.2f}, {cases.nodules[row].diameter_mm:.0f} mm",
                    color="w",
                    fontsize=5,
                )
            axis.contour(cases.drawn[row], [0.5], colors="#3DA5FF", linewidths=0.6)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    names = ", ".join(cases.nodules[row].patient for row in rows.values())
    return (
        "Of each class the nodule that the network is most sure of and right, then the one it is most sure of and wrong. Blue: "
        "50 % consensus of the readers. Colour: positive part of the map of the class that the network answered, scaled by its "
        f"own maximum. Windows of 48 mm. Pixels: {PIXELS}, {names}."
    )


def write(
    folder: Path,
    members: Members,
    prior: Tensor | None,
    prepared: Prepared,
    nodules: Sequence[Nodule] | None = None,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Compare (`training.lung.comparison.compare`) and write ``lung_evidence.json``, ``.md`` and ``.png`` into a folder."""
    settings = settings or Settings.affordable(len(members))
    nodules = prepared.part("test") if nodules is None else nodules
    result = rounded({"date": today(), **compare(members, prior, prepared, nodules, settings)})
    caption = draw(folder / "lung_evidence.png", Network(members, prior), read(prepared, nodules), settings)
    (folder / "lung_evidence.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (folder / "lung_evidence.md").write_text(page(result, caption), encoding="utf-8")
    return result
