"""CLEAR galleries (figs. 5.3, 5.4): input, heat map, CLEAR map, two-sided and binary map, for right and for wrong answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from training.response_maps.compose import binary, clear, two_sided
from training.response_maps.layers import Layer
from training.response_maps.reference import response_maps

COLOURS = np.array([hsv_to_rgb((k / 10, 1, 1)) for k in range(10)])
"""Of the ten digits: hues at equal distances, S = 1. Ten hues cannot all be told apart by the colour-blind: the digits that own
most of a map are written above it."""
BINARY_SHARE = 0.25
"""Threshold of a binary map, as a share of the image's largest response."""
COLUMNS = ("input", "heat map", "two-sided", "binary", "CLEAR", "CLEAR, as printed")
NOTE = (
    "heat map, two-sided (predicted class: black-red-yellow, strongest other: green), binary (red: predicted, blue: others) "
    "and CLEAR: rule guided, start contrast; CLEAR, as printed: rule linear, start class (eqs. 5.4-5.6)"
)


def clear_picture(index: Tensor, strength: Tensor) -> np.ndarray:
    """CLEAR map as a picture: hue of the dominant class, S = 1, V = D / max D; black where none dominates.

    Parameters
    ----------
    index, strength : Tensor, shape (H, W)
        Of `training.response_maps.compose.clear`.

    Returns
    -------
    ndarray, float, 0..1, shape (H, W, 3)
    """
    value = strength / strength.max().clamp_min(1e-30)
    return np.asarray(COLOURS[index.clamp_min(0).numpy()] * (value * (index >= 0)).numpy()[..., None])


def two_sided_picture(hot: Tensor, other: Tensor) -> np.ndarray:
    """Two-sided heat map: the larger side of each pixel on one scale, `hot` black-red-yellow-white, `other` green; (H, W, 3)."""
    top = max(float(hot.max()), float(other.max()), 1e-30)
    mine = mpl.colormaps["hot"]((hot / top).numpy())[..., :3]
    green = np.zeros_like(mine)
    green[..., 1] = (other / top).numpy()
    return np.asarray(np.where((hot >= other).numpy()[..., None], mine, green))


def binary_picture(sides: Tensor) -> np.ndarray:
    """Binary map, -1, 0 or 1 of shape (H, W): red where the chosen class is strong, blue where another is, else black."""
    return np.array([[0, 0, 0], [0.84, 0.15, 0.16], [0.12, 0.35, 0.9]])[sides.numpy()]


def owners(index: Tensor, strength: Tensor, most: int = 2) -> str:
    """The classes that own most of a CLEAR map's response, with their shares: ``"3 71 %, 8 20 %"``."""
    total = float(strength.sum())
    if total <= 0:
        return "none"
    shares = [(float(strength[index == k].sum()) / total, k) for k in range(len(COLOURS))]
    return ", ".join(f"{k} {100 * share:.0f} %" for share, k in sorted(shares, reverse=True)[:most] if share > 0)


@dataclass(frozen=True)
class Example:
    """One image to show."""

    image: Tensor
    """Shape (C, H, W), 0..1."""
    truth: int
    said: int
    probability: float


def choose(x: Tensor, labels: np.ndarray, probabilities: np.ndarray, wrong: bool, count: int = 10) -> list[Example]:
    """Examples that nobody picked: the first rightly answered image of every digit, or the first wrong answers of all.

    Parameters
    ----------
    x : Tensor, shape (n, C, H, W)
    labels : ndarray, shape (n,)
    probabilities : ndarray, shape (n, 10)
    """
    said = probabilities.argmax(1)
    if wrong:
        rows = np.flatnonzero(said != labels)[:count]
    else:
        right = [np.flatnonzero((labels == digit) & (said == digit))[:1] for digit in range(count)]
        rows = np.concatenate(right)
    return [Example(x[k], int(labels[k]), int(said[k]), float(probabilities[k, said[k]])) for k in rows]


def _show(axes: Axes, picture: np.ndarray, title: str = "") -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(title, fontsize=6, pad=2, loc="left")


def figure(layers: Sequence[Layer], examples: list[Example]) -> Figure:
    """One row an example."""
    made = Figure(figsize=(6.6, 1.14 * len(examples) + 0.9), dpi=100, layout="constrained")
    grid = made.subplots(len(examples), len(COLUMNS), squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    for row, example in zip(grid, examples, strict=True):
        image = example.image.permute(1, 2, 0).numpy()
        maps = response_maps(layers, example.image[None], "guided", "contrast")
        printed = response_maps(layers, example.image[None], "linear", "class")
        hot, other = (side[0] for side in two_sided(maps, example.said))
        top = float(max(hot.max(), other.max()))
        sides = binary(maps, example.said, BINARY_SHARE * top)[0]
        said = f"{example.truth}, said {example.said}" if example.said != example.truth else f"{example.truth}"
        _show(row[0], np.repeat(image, 3 // image.shape[2], axis=2), f"{said}, p {example.probability:.2f}")
        heat = hot / hot.max().clamp_min(1e-30)
        _show(row[1], mpl.colormaps["hot"](heat.numpy())[..., :3])
        _show(row[2], two_sided_picture(hot, other))
        _show(row[3], binary_picture(sides))
        for axes, found in zip(row[4:], (maps, printed), strict=True):
            index, strength = (part[0] for part in clear(found))
            _show(axes, clear_picture(index, strength), owners(index, strength))
    for axes, name in zip(grid[-1], COLUMNS, strict=True):
        axes.set_xlabel(name, fontsize=7)
    handles = [Patch(color=colour, label=str(digit)) for digit, colour in enumerate(COLOURS)]
    made.legend(handles=handles, loc="outside lower center", ncols=10, fontsize=7, frameon=False)
    return made


def write(layers: Sequence[Layer], examples: list[Example], path: Path) -> Path:
    """Draw a gallery as PNG; the same examples give the same bytes."""
    figure(layers, examples).savefig(path, format="png", metadata={"Software": None})
    return path
