"""The picture of the comparison on the retina: a few photographs, what was drawn on them, and the maps of several methods."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image
from scipy.ndimage import maximum_filter  # type: ignore[import-untyped]

from models.bundle import Bundle
from service.maps import render
from service.records import ResponseMap
from training.retina.comparison import DEFAULT, SHOWN
from training.retina.data import answered
from training.retina.lesions import KINDS, Drawn, read
from training.retina.questions import softmax

COLORS = {"MA": "#FF5A5A", "HE": "#B98BFF", "EX": "#FFFFFF", "SE": "#00E5FF", "OD": "#8C96A6"}
"""Of what was drawn; none is a grade's."""
THICKNESS_PX = 5
"""A map's pixel is drawn as the largest response in a square of so many pixels round it: a panel is a third of its map."""
PAPER, INK = "#101216", "#ECEEF2"
WORDS = {
    "MA": "microaneurysms",
    "HE": "haemorrhages",
    "EX": "hard exudates",
    "SE": "soft exudates",
    "OD": "optic disc",
}


def described(folder: Path) -> Bundle:
    """The description of the bundle in a folder, unverified: classes and their colours."""
    return Bundle(folder, json.loads((folder / "model.json").read_text(encoding="utf-8")))


def clear_map(
    maps: np.ndarray, square: np.ndarray, probabilities: np.ndarray, bundle: Bundle, size: int
) -> Image.Image:
    """The CLEAR map over its photograph, as the service draws it, without the legend.

    Parameters
    ----------
    maps : ndarray, shape (5, S, S)
    square : ndarray, uint8, shape (S', S', 3)
        The photograph, cropped to the same field.
    probabilities : ndarray, shape (5,)
    bundle : Bundle
        Its palette.
    size : int
        Side of the picture, px.
    """
    side = float(max(square.shape[:2]))
    stated = bundle.description["response_maps"]
    shown = ResponseMap(
        response=maps[None].astype(np.float32),
        background=square[None],
        classes=bundle.classes,
        box_px=np.array([[0.0, 0.0, side, side]]),
        sources=("",),
        probabilities=probabilities,
        rule=stated["rule"],
        start=stated["start"],
        reference=float(stated["reference"]),
    )
    labels = [entry["label"] for entry in bundle.description["classes"]]
    drawn = render.png(
        shown, "clear", bundle.colors, labels, overlay=0.9, scale="per_image", legend=False, slice_index=None, size=size
    )
    return Image.open(io.BytesIO(drawn)).convert("RGB")


def brightness(response: np.ndarray) -> np.ndarray:
    """Strength 0..1 as in the service's pictures: square root of the positive response over its 99.9th percentile."""
    positive = np.maximum(response.astype(np.float32), 0)
    if not positive.any():
        return positive
    return np.sqrt(np.clip(positive / np.percentile(positive[positive > 0], 99.9), 0, 1))


def shown_photographs(numbers: Sequence[Mapping[str, Any]], folder: Path) -> list[Mapping[str, Any]]:
    """The photographs of which maps were kept, the worst answered grade first."""
    kept = [p for p in numbers if (folder / f"{p['name'].replace('/', '_').removesuffix('.jpg')}.npz").exists()]
    return sorted(kept, key=lambda p: -int(answered(softmax(np.array(p["logits"])))))


def draw(path: Path, numbers: Sequence[Mapping[str, Any]], folder: Path, data: Path, bundle: Path) -> str:
    """Draw the photographs whose maps were kept (PNG); returns the caption.

    Parameters
    ----------
    path : Path
        To write to.
    numbers : sequence of dict
        Of `training.retina.comparison.perform_all`.
    folder : Path
        Where that kept the maps.
    data : Path
        Folder of the data sets.
    bundle : Path
        Folder of the model: its palette.
    """
    described_bundle, photographs = described(bundle), shown_photographs(numbers, folder)
    heads = ("photograph", "drawn", f"CLEAR ({DEFAULT})", *SHOWN)
    figure = Figure(figsize=(1.62 * len(heads), 1.62 * len(photographs) + 0.55), dpi=90, layout="constrained")
    axes = figure.subplots(len(photographs), len(heads), squeeze=False)
    for row, photograph in zip(axes, photographs, strict=True):
        drawn = read(data, photograph["name"])
        with np.load(folder / f"{photograph['name'].replace('/', '_').removesuffix('.jpg')}.npz") as kept:
            maps = {name: kept[name] for name in kept.files}
        p = softmax(np.array(photograph["logits"]))
        for axis, head in zip(row, heads, strict=True):
            axis.set_axis_off()
            _panel(axis, head, drawn, maps, p, described_bundle)
        truth = f"reference {drawn.grade}" if drawn.grade >= 0 else "no reference"
        name = drawn.name.split("/")[1].removesuffix(".jpg")
        row[0].text(
            0.02,
            0.02,
            f"{name}\nsaid {answered(p)} (p {p[answered(p)]:.2f})\n{truth}",
            color="w",
            fontsize=6.5,
            transform=row[0].transAxes,
        )
    for axis, head in zip(axes[0], heads, strict=True):
        axis.set_title(head, fontsize=8.5, color=INK)
    handles = []
    grades = zip(described_bundle.description["classes"], described_bundle.colors / 255, strict=True)
    for kind, (entry, color) in zip(KINDS, grades, strict=True):  # two rows: matplotlib fills them column by column
        handles.append(Line2D([], [], color=COLORS[kind], lw=1.5, label=f"drawn: {WORDS[kind]}"))
        handles.append(Line2D([], [], color=color, lw=6, label=f"CLEAR: {entry['name']}, {entry['label']}"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=8, frameon=False, labelcolor=INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor=PAPER, metadata={"Software": None}, pil_kwargs={"optimize": True})
    return (
        "A random choice of the photographs, the worst answered grade first. CLEAR: the grade with the strongest response, over "
        "all five grades. The other columns: positive part of the map of the answered grade; brightness by square root up to "
        "each map's own 99.9th percentile, as in the service's pictures. Every map is thickened alike: a pixel shows the largest "
        f"response of the {THICKNESS_PX} x {THICKNESS_PX} px round it."
    )


def _panel(axis: Any, head: str, drawn: Drawn, maps: Mapping[str, np.ndarray], p: np.ndarray, bundle: Bundle) -> None:
    grey = np.asarray(Image.fromarray(drawn.square).convert("L"))
    if head == "photograph":
        axis.imshow(drawn.square)
    elif head == "drawn":
        axis.imshow(grey, cmap="gray", vmin=0, vmax=255)
        for kind, mask in zip(KINDS, drawn.masks, strict=True):
            if mask.any():
                axis.contour(mask, [0.5], colors=COLORS[kind], linewidths=0.7)
    elif head.startswith("CLEAR"):
        maps_of_all = maximum_filter(maps["classes"].astype(np.float32), (1, THICKNESS_PX, THICKNESS_PX))
        axis.imshow(clear_map(maps_of_all, drawn.square, p, bundle, drawn.square.shape[0]))
    else:
        strength = brightness(maximum_filter(maps[head].astype(np.float32), THICKNESS_PX))
        axis.imshow(0.7 * grey, cmap="gray", vmin=0, vmax=255)
        axis.imshow(strength, cmap="inferno", vmin=0, vmax=1, alpha=np.minimum(1, 1.5 * strength))
