"""The page docs/experiments/anatomy.md and its curves, from docs/experiments/anatomy.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from training.anatomy.landmarks import KEY, PATCH
from training.plotting import percent, save, style

TITLES = {"mednist": "MedNIST", "imageclef": "ImageCLEF 2009"}
STEPS = {
    "mednist": "python -m training.anatomy {command}",
    "imageclef": "python -m training.anatomy --set imageclef {command}",
}
ORDER = ("prepare", "train", "evaluate")
COLOURS = ("#0072b2", "#56b4e9", "#009e73", "#e69f00", "#999999")
"""Told apart by the colour-blind (Okabe and Ito)."""


def _commands(name: str) -> str:
    lines = [STEPS[name].format(command=command) for command in ORDER]
    if name == "imageclef":
        lines[0] += " --folder DIR"
    return " && ".join(lines)


def ablation_figure(networks: dict[str, Any]) -> Figure:
    """Accuracy over the share of patches: full lines with only them, dashed lines without them; one panel a network."""
    figure = Figure(figsize=(10.5, 3.6), layout="constrained")
    for axes, (name, found) in zip(figure.subplots(1, len(networks), sharey=True), networks.items(), strict=True):
        for colour, (method, points) in zip(COLOURS, found["ablation"].items(), strict=True):
            shares = [p["share"] for p in points]
            axes.plot(shares, [p["only"] for p in points], color=colour, marker=".", linewidth=1.3, label=method)
            axes.plot(shares, [p["without"] for p in points], "--", color=colour, linewidth=1)
        axes.set_title(name, fontsize=9)
        axes.set(xlabel="share of the patches", ylim=(0, 1.02))
    figure.axes[0].set_ylabel("accuracy (full: only them, dashed: without)")
    figure.axes[-1].legend(fontsize=7, loc="lower right")
    return figure


def epochs_figure(networks: dict[str, Any]) -> Figure:
    """When landmarks appear: accuracy, likeness to the last epoch's maps, and how useful they are; one panel a network."""
    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    lines = {
        "accuracy": "accuracy",
        "likeness": "likeness to the last maps",
        "useful": f"accuracy, last network, their {100 * KEY:.0f} % only",
        "concentration": f"response in the strongest {100 * KEY:.0f} %",
    }
    for axes, (name, found) in zip(figure.subplots(1, len(networks), sharey=True), networks.items(), strict=True):
        numbers = [row["epoch"] for row in found["epochs"]]
        for colour, (key, text) in zip(COLOURS, lines.items(), strict=False):
            axes.plot(numbers, [row[key] for row in found["epochs"]], color=colour, marker=".", label=text)
        axes.set_title(name, fontsize=9)
        axes.set(xlabel="epoch", ylim=(-0.1, 1.02))
    figure.axes[-1].legend(fontsize=7, loc="lower right")
    return figure


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Write the curves of every set that was measured."""
    paths = []
    with mpl.rc_context(style("anatomy")):
        for name, found in results.items():
            for kind, figure in (("ablation", ablation_figure), ("progress", epochs_figure)):
                paths.append(save(figure(found["networks"]), folder / f"anatomy_{name}_{kind}.svg"))
    return paths


def _accuracy(found: dict[str, Any]) -> list[str]:
    lines = [
        "| network | parameters | accuracy, test (95 %, Wilson) | errors | n | weakest class | training |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in found["networks"].values():
        low, high = each["test"]["interval"]
        weakest = min(each["by_class"], key=each["by_class"].get)
        lines.append(
            f"| {each['title']} | {each['parameters'] / 1e3:.0f} k | **{percent(each['test']['value'])}** ({percent(low)} to "
            f"{percent(high)}) | {each['test']['errors']} | {each['test']['n']} | {weakest} "
            f"{percent(each['by_class'][weakest])} | {each['plan']['epochs']} epochs, {each['seconds']:.0f} s |"
        )
    return lines


def _ablation(found: dict[str, Any]) -> list[str]:
    networks = found["networks"]
    lines = [
        f"| patches chosen by | {' | '.join(f'{name}: only / without' for name in networks)} |",
        f"| --- | {' | '.join('---' for _ in networks)} |",
    ]
    for method in next(iter(networks.values()))["ablation"]:
        points = [next(p for p in each["ablation"][method] if p["share"] == KEY) for each in networks.values()]
        cells = [f"{percent(p['only'])} / {percent(p['without'])}" for p in points]
        lines.append("| " + " | ".join([method, *cells]) + " |")
    return lines


def _grey(found: dict[str, Any]) -> str:
    """What the grey that fills an image says by itself."""
    least = [min(each["ablation"]["random"], key=lambda p: p["share"]) for each in found["networks"].values()]
    known = ", ".join(percent(p["only"]) for p in least)
    return (
        f"With {100 * least[0]['share']:.0f} % random patches the networks are still right for {known}: the grey that fills the "
        "rest differs from class to class, so `only` starts there and not at chance."
    )


def _epochs(found: dict[str, Any]) -> list[str]:
    lines = [
        "| network | epoch | accuracy | likeness | concentration | useful |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, each in found["networks"].items():
        for row in each["epochs"]:
            lines.append(
                f"| {name} | {row['epoch']} | {percent(row['accuracy'])} | {row['likeness']:.2f} "
                f"| {row['concentration']:.2f} | {percent(row['useful'])} |"
            )
    return lines


def _set(name: str, found: dict[str, Any]) -> list[str]:
    images, classes = found["images"], found["classes"]
    split = (
        "MedNIST names no patients, so one patient's images may be on both sides; the set is easy, and accuracy says little here."
        if name == "mednist"
        else "The official test images of these classes."
    )
    moved = found["networks"]["deep-augmented"]["plan"]
    return [
        f"## {TITLES[name]}",
        "",
        (
            f"{found['date']}, commit {found['commit']}: `{_commands(name)}`. {len(classes)} classes, {found['side']} px, "
            f"{images['train']} images to learn from and {images['test']} for the test. {split} Augmentation: turns of up to "
            f"{moved['turn']:g} degrees, shifts of up to {moved['shift']:g} px, size, aspect and slant changed by up to "
            f"{100 * moved['stretch']:g} %; weights averaged. Nothing was chosen by the test images."
        ),
        "",
        *_accuracy(found),
        "",
        "### Attentive response maps of the top 25 units",
        "",
        (
            "Of the last hidden layer, ranked by the sum of their activations (eq. 3.2); below, the largest of them at each "
            "pixel (eq. 3.3; the thesis' text says maximum), and the image that keeps only the key landmarks."
        ),
        "",
        f"![maps of the top units](anatomy_{name}_units.png)",
        "",
        f"![dominant maps](anatomy_{name}_dominant.png)",
        "",
        "### Only the key landmarks, and without them (fig. 3.12)",
        "",
        (
            f"Patches of {PATCH} x {PATCH} px in falling order of their positive response; what is taken out becomes the image's "
            f"median grey. Accuracy with the first {100 * KEY:.0f} % only, and without them, of {images['maps']} test images; "
            "other shares in the figure. Controls: the brightest patches, and random ones (mean of five choices). The thesis "
            "shows this ablation as a picture of single images, without a number."
        ),
        "",
        *_ablation(found),
        "",
        _grey(found),
        "",
        f"![accuracy over the share that is kept](anatomy_{name}_ablation.svg)",
        "",
        "### When landmarks appear",
        "",
        (
            f"Maps (top 25 units, rule guided) after some epochs, of the same {images['maps']} images; epoch 0 is the untrained "
            "network. Likeness: mean correlation with the last epoch's map; what epoch 0 has of it comes from the image and the "
            f"architecture, not from learning. Concentration: share of the positive response in the strongest {100 * KEY:.0f} % "
            f"of the patches. Useful: accuracy of the last network given only the {100 * KEY:.0f} % that this epoch's map finds."
        ),
        "",
        *_epochs(found),
        "",
        f"![progress](anatomy_{name}_progress.svg)",
        "",
        f"![maps over the epochs](anatomy_{name}_epochs.png)",
        "",
    ]


def page(results: dict[str, Any]) -> str:
    """Markdown text of the page."""
    lines = [
        "# Anatomy",
        "",
        (
            "Thesis, ch. 3 (Kumar 2020). Written by `python -m training.anatomy report` from `anatomy.json`. Three "
            "all-convolutional networks learn to tell body parts apart. Their sizes are our choice: fig. 3.7 gives the thesis' "
            "only in a picture that we do not have, and its accuracies are not in the text that we have."
        ),
        "",
    ]
    if "imageclef" not in results:
        lines += [
            (
                "**ImageCLEF 2009, the thesis' set, was not run**: it is not among this project's data. The loader (24 classes "
                "of at least 50 images by IRMA code) is tested on small files of the official format; who has the set runs "
                f"`{_commands('imageclef')}`. MedNIST stands in for it."
            ),
            "",
        ]
    for name in TITLES:
        if name in results:
            lines += _set(name, results[name])
    return "\n".join(lines)


def report(folder: Path) -> list[Path]:
    """Write page and curves into the folder of ``anatomy.json``; returns their paths."""
    results = json.loads((folder / "anatomy.json").read_text(encoding="utf-8"))
    path = folder / "anatomy.md"
    path.write_text(page(results), encoding="utf-8")
    return [path, *draw(results, folder)]
