"""The page docs/experiments/digits.md and its curves, from docs/experiments/digits.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from training.digits.gallery import NOTE
from training.digits.strong import METHODS, PUBLISHED
from training.plotting import percent, save, style

PUBLISHED_ACCURACY = {"mnist": 0.9926, "svhn": 0.926}
"""Thesis, ch. 5."""
TITLES = {"mnist": "MNIST", "svhn": "SVHN"}
COMMANDS = {
    "mnist": "python -m training.digits train && python -m training.digits evaluate",
    "svhn": (
        "python -m training.digits train --set svhn --folder DIR && python -m training.digits evaluate --set svhn --folder DIR"
    ),
}
COLOURS = dict(zip(METHODS, ("#000000", "#0072b2", "#56b4e9", "#009e73", "#d55e00", "#cc79a7"), strict=True))
"""Told apart by the colour-blind (Okabe and Ito)."""
SHOWN = "CLEAR, guided"
"""The method of the left panel."""


def curves(found: dict[str, Any]) -> Figure:
    """Left: accuracy over the threshold for `SHOWN` with its controls. Right: all methods over the area that is strong."""
    figure = Figure(figsize=(10.5, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    points = found["methods"][SHOWN]["points"]
    thresholds = [p["threshold"] for p in points]
    for kind, line, name in (("only", "-", "only"), ("without", "--", "without")):
        left.plot(thresholds, [p[kind] for p in points], line, color=COLOURS[SHOWN], label=f"{name} the strong pixels")
        for control, colour, text in (("pixels", "#999999", "random pixels"), ("ink_control", "#e69f00", "random ink")):
            values = [p[control][kind] for p in points]
            left.plot(thresholds, values, line, color=colour, linewidth=1, label=f"{name} {text}")
        left.axhline(PUBLISHED[kind], color="black", linewidth=0.6, linestyle=":")
    left.set(xlabel="threshold, share of the largest response", ylabel="accuracy", ylim=(0, 1.01))
    left.set_title(f"{SHOWN}; dotted: published pair", fontsize=9)
    left.legend(fontsize=7, loc="center right")
    for name, method in found["methods"].items():
        area = [p["area"] for p in method["points"]]
        for kind, line in (("only", "-"), ("without", "--")):
            values = [p[kind] for p in method["points"]]
            label = name if kind == "only" else None
            right.plot(area, values, line, color=COLOURS[name], linewidth=1.3, marker=".", markersize=4, label=label)
    right.set(xlabel="strong pixels, share of the image", ylabel="accuracy", ylim=(0, 1.01))
    right.set_title("all methods; full: only the strong pixels, dashed: without them", fontsize=9)
    right.legend(fontsize=7, loc="center right")
    return figure


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Write the curves of every set that was measured."""
    paths = []
    with mpl.rc_context(style("digits")):
        for name, found in results.items():
            paths.append(save(curves(found["strong"]), folder / f"digits_{name}_strong.svg"))
    return paths


def _layers(cells: list[list[dict[str, Any]]]) -> str:
    text = ", pool, ".join(" - ".join(f"{c['kernel']}x{c['kernel']}/{c['channels']}" for c in cell) for cell in cells)
    return f"{text}, 1x1/10, GAP, softmax"


def _accuracy(results: dict[str, Any]) -> list[str]:
    lines = [
        "| set | network (kernel/channels) | parameters | trained on | accuracy, test | errors | n | published |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, title in TITLES.items():
        published = percent(PUBLISHED_ACCURACY[name])
        if name not in results:
            lines.append(f"| {title} | | | | not run | | | {published} |")
            continue
        found = results[name]
        test = found["test"]
        low, high = test["interval"]
        lines.append(
            f"| {title} | {_layers(found['cells'])} | {found['parameters'] / 1e3:.0f} k | {found['images']['train']} "
            f"| **{percent(test['value'])}** ({percent(low)} to {percent(high)}) | {test['errors']} | {test['n']} "
            f"| {published} |"
        )
    return lines


def _points(found: dict[str, Any]) -> list[str]:
    lines = [
        "| strong features by | threshold | area | ink | only | without | random pixels: only / without | random ink: the same |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| published (table 5.3) | | | | {percent(PUBLISHED['only'])} | {percent(PUBLISHED['without'])} | | |",
    ]
    for name, method in found["methods"].items():
        p = method["nearest"]
        controls = [f"{percent(p[c]['only'])} / {percent(p[c]['without'])}" for c in ("pixels", "ink_control")]
        cells = [
            name,
            f"{p['threshold']:g}",
            percent(p["area"]),
            percent(p["ink"]),
            percent(p["only"]),
            percent(p["without"]),
            *controls,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _set(name: str, found: dict[str, Any]) -> list[str]:
    title, plan, strong = TITLES[name], found["plan"], found["strong"]
    part = f" --images {strong['n']}" if strong["n"] < found["test"]["n"] else ""
    lines = [
        f"## {title}",
        "",
        (
            f"{found['date']}, commit {found['commit']}: `{COMMANDS[name]}{part}`. {plan['epochs']} epochs of "
            f"{found['images']['train']} images in {found['training_minutes']:g} minutes; turns of up to {plan['turn']:g} "
            f"degrees, shifts of up to {plan['shift']:g} px, size, aspect and slant changed by up to "
            f"{100 * plan['stretch']:g} %; weights averaged. The last {found['held']['n']} training images were only watched: "
            f"{percent(found['held']['value'])} of them are right. Nothing was chosen by the test set but which threshold the "
            "table below shows."
        ),
        "",
        "### Table 5.3: only the strong features, and without them",
        "",
        (
            f"n = {strong['n']} test images. A pixel is strong when its response exceeds a share (the threshold) of the "
            "image's largest; what is taken out becomes the image's median grey. Of each method the threshold whose pair of "
            "accuracies lies nearest to the published pair is shown; the thesis' own threshold, and the set of its pair, are not "
            "in the text that we have. Two random controls take equally much: as many pixels anywhere, and as many pixels of "
            "those with ink. The network explains what it said, also where that is wrong."
        ),
        "",
        *_points(strong),
        "",
        f"![accuracy over the threshold](digits_{name}_strong.svg)",
        "",
        *[f"- {method}: {entry['text']}" for method, entry in strong["methods"].items()],
        "",
        "### Do the ten maps differ?",
        "",
        "| rule, start | class correlation | shared response | n |",
        "| --- | --- | --- | --- |",
    ]
    for option, figures in found["separation"].items():
        lines.append(
            f"| {option} | {figures['class_correlation']:.2f} | {figures['shared_response']:.2f} | {figures['n']} |"
        )
    lines += [
        "",
        (
            "Class correlation: mean Pearson correlation of an image's maps of two classes, 1 = the map says nothing about the "
            "class. Shared response: the second largest positive response over the largest, summed over pixels."
        ),
        "",
        "### Galleries (figs. 5.3, 5.4)",
        "",
        f"The first rightly answered test image of every digit, and the first wrong answers; nobody picked them. {NOTE}.",
        "",
        f"![right answers](digits_{name}_right.png)",
    ]
    if found["test"]["errors"]:
        lines += ["", f"![wrong answers](digits_{name}_wrong.png)"]
    return [*lines, ""]


def page(results: dict[str, Any]) -> str:
    """Markdown text of the page."""
    lines = [
        "# Digits",
        "",
        (
            "Thesis, ch. 5 (Kumar 2020; Kumar, Wong and Taylor 2017). Written by `python -m training.digits report` from "
            "`digits.json`. The networks are all-convolutional and end as the thesis' do (one kernel a class, GAP, softmax); "
            "their sizes are our choice, since the layer tables 5.1 and 5.2 are not in the text that we have."
        ),
        "",
        *_accuracy(results),
        "",
        "95 % intervals: Wilson.",
        "",
    ]
    if missing := [name for name in TITLES if name not in results]:
        for name in missing:
            lines += [
                (
                    f"**{TITLES[name]} was not run**: the set is not among this project's data. Loader and training are "
                    f"tested on small files of the official format; who has the set runs `{COMMANDS[name]}`."
                ),
                "",
            ]
    for name in TITLES:
        if name in results:
            lines += _set(name, results[name])
    return "\n".join(lines)


def report(folder: Path) -> list[Path]:
    """Write page and curves into the folder of ``digits.json``; returns their paths."""
    results = json.loads((folder / "digits.json").read_text(encoding="utf-8"))
    path = folder / "digits.md"
    path.write_text(page(results), encoding="utf-8")
    return [path, *draw(results, folder)]
