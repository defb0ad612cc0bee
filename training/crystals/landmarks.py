"""What the network looks at (thesis fig. 3.5): attentive response maps of single units, and a template of every class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.crystals import prototypes as p
from training.crystals.diffraction import fingerprint, ring
from training.crystals.networks import Classifier, layers_of
from training.crystals.robustness import structures
from training.crystals.train import TASKS, load_network
from training.response_maps.layers import Layer
from training.response_maps.reference import Rule, forward, ranked_units, response_maps, send_back, unit_map

LAYERS = {"first": 1, "third": 6, "last": 13}
"""Convolutions whose rectified outputs are shown, and their places among the folded layers."""
UNITS = 4
SPOT = 0.1
"""A pixel belongs to a spot of the fingerprint where a channel reaches this value of [0, 1]."""
RULES: tuple[Rule, ...] = ("linear", "deconvnet", "guided")


def examples(kind: str, count: int) -> Tensor:
    """Fingerprints of undamaged test structures, float64, shape (count, 3, 64, 64)."""
    return torch.from_numpy(np.stack([fingerprint(atoms) for _, atoms in structures(kind, count)])).double()


def unit_maps(layers: tuple[Layer, ...], x: Tensor, layer: int, rule: Rule) -> Tensor:
    """Maps of the units that are most active for one fingerprint (1, 3, 64, 64), strongest first, shape (4, 64, 64)."""
    units = ranked_units(layers, x, layer)[0, :UNITS]
    return torch.cat([unit_map(layers, x, layer, int(unit), rule) for unit in units])


def template(layers: tuple[Layer, ...], x: Tensor, rule: Rule) -> Tensor:
    """Sum of the maps of all units of the last convolution, shape (B, 64, 64): all are sent back together."""
    head = layers[: LAYERS["last"] + 1]
    trace = forward(head, x)
    return send_back(head, trace, trace.output, rule).sum(1)


def spots(x: Tensor) -> Tensor:
    """Where a fingerprint has a spot, bool, shape (B, 64, 64)."""
    return (x >= SPOT).any(1)


def share_in_spots(maps: Tensor, x: Tensor) -> dict[str, Any]:
    """Mean share of the positive response that lies on a spot, how often its peak does, and the spots' share of the ring.

    The ring's share is the null: what a map without knowledge, spread over the ring, would have.
    """
    inside = spots(x)
    positive = maps.clamp(min=0)
    total = positive.sum((1, 2))
    told = total > 0
    share = (positive * inside).sum((1, 2))[told] / total[told]
    peaks = inside.flatten(1).gather(1, maps.flatten(1).argmax(1, keepdim=True))[told]
    null = (inside & torch.from_numpy(ring())).sum((1, 2)) / ring().sum()
    return {
        "share": float(share.mean()) if told.any() else None,
        "peak": float(peaks.double().mean()) if told.any() else None,
        "null": float(null.double().mean()),
        "n": int(told.sum()),
    }


def correlation(first: Tensor, second: Tensor) -> float:
    """Mean Pearson correlation of two stacks of maps inside the ring, each (B, 64, 64)."""
    mask = torch.from_numpy(ring())
    rows = []
    for one, other in zip(first, second, strict=True):
        pair = torch.stack([one[mask], other[mask]])
        rows.append(torch.corrcoef(pair)[0, 1])
    return float(torch.stack(rows).nanmean())


def measure(folder: Path, count: int = 20) -> dict[str, Any]:
    """How much of each map lies on the diffraction spots, beside an untrained network's and the null; by class and rule."""
    task = TASKS[0]
    torch.manual_seed(0)
    untrained = Classifier(len(task.classes)).eval()
    layers, blank = layers_of(load_network(folder, task)), layers_of(untrained)
    found: dict[str, Any] = {"count": count, "spot": SPOT, "classes": {}}
    for number, kind in enumerate(p.CLASSES):
        x = examples(kind, count)
        own = int(p.TO_MERGED[number])
        entry: dict[str, Any] = {}
        for rule in RULES:
            drawn = template(layers, x, rule)
            entry[f"template, {rule}"] = {
                **share_in_spots(drawn, x),
                "untrained": share_in_spots(template(blank, x, rule), x)["share"],
                "correlation": correlation(drawn, x.sum(1)),
            }
        entry["class map, guided, contrast"] = share_in_spots(response_maps(layers, x)[:, own], x)
        found["classes"][kind] = entry
    return found


def pictures(folder: Path) -> dict[str, Any]:
    """What fig. 3.5 shows: unit maps of one sc structure by layer, and the fingerprint and template of every class (guided)."""
    layers = layers_of(load_network(folder, TASKS[0]))
    cubic = examples("sc", 1)
    return {
        "fingerprint": cubic[0],
        "units": {name: unit_maps(layers, cubic, layer, "guided") for name, layer in LAYERS.items()},
        "classes": {
            kind: (x[0], template(layers, x, "linear")[0], template(layers, x, "guided")[0])
            for kind, x in ((kind, examples(kind, 1)) for kind in p.CLASSES)
        },
    }
