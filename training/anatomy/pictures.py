"""Pictures of chapter 3: maps of the top 25 units, dominant maps with the key landmarks, and maps over the epochs."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.anatomy.data import Anatomy
from training.anatomy.landmarks import KEY, UNITS, dominant, kept, patch_masks, top_maps
from training.networks import Sequencer
from training.response_maps.reference import Rule

ROWS = 6
"""Classes that are shown."""
SHOWN = "Hand"
"""Class whose units are shown; the first of a set that has no such."""
SHOWN_RULES: tuple[Rule, ...] = ("linear", "guided")


def heat(response: np.ndarray) -> np.ndarray:
    """Positive part of a map on one scale from black over red and yellow to white, which is its 99.5th percentile.

    Parameters
    ----------
    response : ndarray, shape (H, W)

    Returns
    -------
    ndarray, float, 0..1, shape (H, W, 3)
    """
    positive = np.maximum(response, 0)
    top = np.percentile(positive, 99.5) or positive.max()
    return np.asarray(mpl.colormaps["hot"](np.clip(positive / top, 0, 1) if top > 0 else positive)[..., :3])


def mosaic(maps: np.ndarray, columns: int = 5) -> np.ndarray:
    """Maps (n, H, W) side by side, row by row, each on its own scale, between white lines of 1 px."""
    pictures = [np.pad(heat(m), ((0, 1), (0, 1), (0, 0)), constant_values=1.0) for m in maps]
    rows = [np.concatenate(pictures[k : k + columns], 1) for k in range(0, len(pictures), columns)]
    return np.concatenate(rows)


def examples(anatomy: Anatomy) -> list[int]:
    """The first test image of each of the first `ROWS` classes, as rows of the set."""
    found = [np.flatnonzero(anatomy.test & (anatomy.labels == k))[:1] for k in range(len(anatomy.classes))]
    return [int(k) for k in np.concatenate(found)[:ROWS]]


def _input(anatomy: Anatomy, row: int) -> torch.Tensor:
    return torch.from_numpy(anatomy.images[row].astype(np.float32) / 255)[None, None]


def _grey(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _grid(rows: int, columns: int, titles: list[str], side: float) -> tuple[Figure, np.ndarray]:
    made = Figure(figsize=(side * columns, side * rows + 0.35), dpi=100, layout="constrained")
    grid = made.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=7)
    return made, grid


def units_figure(anatomy: Anatomy, networks: dict[str, Sequencer]) -> Figure:
    """Input, maps of the top 25 units by the rule linear (eq. 3.2) and by the rule guided; one row a network."""
    name = SHOWN if SHOWN in anatomy.classes else anatomy.classes[0]
    row = int(np.flatnonzero(anatomy.test & (anatomy.labels == anatomy.classes.index(name)))[0])
    x = _input(anatomy, row)
    titles = [name, *(f"top {UNITS} units, {rule}" for rule in SHOWN_RULES)]
    made, grid = _grid(len(networks), len(titles), titles, 2.7)
    for axes, (network_name, network) in zip(grid, networks.items(), strict=True):
        axes[0].set_ylabel(network_name, fontsize=8)
        _grey(axes[0], x[0, 0].numpy())
        for place, rule in zip(axes[1:], SHOWN_RULES, strict=True):
            with torch.no_grad():
                place.imshow(mosaic(top_maps(network.folded(), x, rule=rule)[0].numpy()), interpolation="nearest")
    return made


def dominant_figure(anatomy: Anatomy, networks: dict[str, Sequencer]) -> Figure:
    """Dominant maps of every network, and what is left when only the key landmarks of the last one are kept (fig. 3.12)."""
    deepest = list(networks)[-1]
    titles = [
        "input",
        *(f"{name},\nlinear" for name in networks),
        f"{deepest},\nguided",
        f"key {100 * KEY:.0f} %\nonly",
    ]
    rows = examples(anatomy)
    made, grid = _grid(len(rows), len(titles), titles, 1.3)
    for axes, row in zip(grid, rows, strict=True):
        x = _input(anatomy, row)
        axes[0].set_ylabel(anatomy.classes[anatomy.labels[row]], fontsize=7)
        _grey(axes[0], x[0, 0].numpy())
        for place, network in zip(axes[1:-2], networks.values(), strict=True):
            place.imshow(heat(dominant(network.folded(), x)[0]), interpolation="nearest")
        guided = dominant(networks[deepest].folded(), x, rule="guided")
        axes[-2].imshow(heat(guided[0]), interpolation="nearest")
        _grey(axes[-1], kept(x, patch_masks(guided, KEY))[0, 0].numpy())
    return made


def epochs_figure(anatomy: Anatomy, stages: dict[int, Sequencer]) -> Figure:
    """Dominant maps (rule guided) of one network after several epochs."""
    rows = examples(anatomy)
    made, grid = _grid(len(rows), len(stages) + 1, ["input", *(f"epoch {epoch}" for epoch in stages)], 1.05)
    for axes, row in zip(grid, rows, strict=True):
        x = _input(anatomy, row)
        axes[0].set_ylabel(anatomy.classes[anatomy.labels[row]], fontsize=7)
        _grey(axes[0], x[0, 0].numpy())
        for place, network in zip(axes[1:], stages.values(), strict=True):
            place.imshow(heat(dominant(network.folded(), x, rule="guided")[0]), interpolation="nearest")
    return made


def write(
    folder: Path, name: str, anatomy: Anatomy, networks: dict[str, Sequencer], stages: dict[int, Sequencer]
) -> list[Path]:
    """Draw all pictures of a set as PNG; the same networks give the same bytes."""
    figures = {
        "units": units_figure(anatomy, networks),
        "dominant": dominant_figure(anatomy, networks),
        "epochs": epochs_figure(anatomy, stages),
    }
    paths = []
    for kind, figure in figures.items():
        paths.append(folder / f"anatomy_{name}_{kind}.png")
        figure.savefig(paths[-1], format="png", metadata={"Software": None})
    return paths
