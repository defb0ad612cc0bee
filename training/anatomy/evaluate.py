"""Everything that is measured of the three networks, into docs/experiments/anatomy.json, and their pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.anatomy import pictures
from training.anatomy.data import Anatomy
from training.anatomy.landmarks import KEY, SHARES, concentration, dominant, kept, likeness, patch_masks
from training.anatomy.networks import KEPT, VARIANTS
from training.bundles import commit, today
from training.digits.evaluate import share
from training.digits.strong import chosen_maps
from training.digits.train import predict, trained
from training.networks import Sequencer

MAXIMUM = 600
"""Test images of which maps are computed, spread evenly over all."""
DRAWS = 5
"""Of the random control."""


def _right(network: Sequencer, x: Tensor, labels: np.ndarray) -> np.ndarray:
    return np.asarray(predict(network, x, 100).argmax(1) == labels)


def responses(network: Sequencer, x: Tensor) -> dict[str, np.ndarray]:
    """What may say where the landmarks are: {name: responses, float32, shape (n, H, W)}."""
    layers = network.folded()
    said = torch.from_numpy(predict(network, x, 100).argmax(1))
    with torch.no_grad():
        parts = [
            chosen_maps(layers, part, own, "guided", "contrast")
            for part, own in zip(x.split(50), said.split(50), strict=True)
        ]
    return {
        "top 25 units, linear": dominant(layers, x, rule="linear"),
        "top 25 units, guided": dominant(layers, x, rule="guided"),
        "class map, guided + contrast": torch.cat(parts).numpy(),
        "brightness": x[:, 0].numpy(),
    }


def ablation(network: Sequencer, x: Tensor, labels: np.ndarray, found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Accuracy when only the strongest patches are kept (fig. 3.12), and when they are taken out, for every share.

    ``random`` is the mean of `DRAWS` random choices of as many patches.
    """
    generator = np.random.default_rng(0)
    table: dict[str, Any] = {}

    def both(response: np.ndarray, fraction: float) -> dict[str, float]:
        masks = patch_masks(response, fraction)
        return {
            "only": float(_right(network, kept(x, masks), labels).mean()),
            "without": float(_right(network, kept(x, ~masks), labels).mean()),
        }

    for name, response in found.items():
        table[name] = [{"share": fraction, **both(response, fraction)} for fraction in SHARES]
    table["random"] = []
    for fraction in SHARES:
        draws = [both(generator.random((len(x), *x.shape[2:])) + 1, fraction) for _ in range(DRAWS)]
        means = {kind: float(np.mean([draw[kind] for draw in draws])) for kind in ("only", "without")}
        table["random"].append({"share": fraction, **means})
    return table


def epochs(read: Callable[[int], Sequencer], x: Tensor, labels: np.ndarray) -> list[dict[str, Any]]:
    """When landmarks appear: maps of the top units (rule guided) of one network after the epochs in `KEPT`.

    Parameters
    ----------
    read : callable
        The network after an epoch.

    Returns
    -------
    list of dict
        Of each epoch: accuracy; ``likeness`` of its maps to the last epoch's; ``concentration`` of its response in the strongest
        `KEY` of the patches; ``useful``: accuracy of the last network given only those patches.
    """
    last = read(KEPT[-1])
    final = dominant(last.folded(), x, rule="guided")
    rows = []
    for epoch in KEPT:
        network = read(epoch)
        found = dominant(network.folded(), x, rule="guided")
        rows.append(
            {
                "epoch": epoch,
                "accuracy": float(_right(network, x, labels).mean()),
                "likeness": likeness(found, final),
                "concentration": concentration(found),
                "useful": float(_right(last, kept(x, patch_masks(found, KEY)), labels).mean()),
            }
        )
    return rows


def measure(name: str, anatomy: Anatomy, folder: Path) -> dict[str, Any]:
    """All figures of one set; the networks lie in `folder`."""
    test = anatomy.part(True)
    rows = np.unique(np.linspace(0, len(test) - 1, min(MAXIMUM, len(test))).round().astype(int))
    x, labels = test.part(rows).inputs(), test.labels[rows]
    networks = {}
    for variant_name, variant in VARIANTS.items():
        print(f"{name}: {variant_name}", flush=True)
        architecture = variant.architecture(len(anatomy.classes))
        network = trained(architecture, folder / variant_name)
        log = [json.loads(line) for line in (folder / variant_name / "log.jsonl").read_text().splitlines()]
        right = _right(network, test.inputs(), test.labels)
        found = responses(network, x)
        networks[variant_name] = {
            "title": variant.title,
            "parameters": sum(p.numel() for p in network.parameters()),
            "plan": json.loads((folder / variant_name / "plan.json").read_text(encoding="utf-8")),
            "seconds": round(sum(entry["seconds"] for entry in log), 1),
            "test": share(right),
            "by_class": {
                each: float(right[test.labels == k].mean())
                for k, each in enumerate(anatomy.classes)
                if (test.labels == k).any()
            },
            "concentration": {each: concentration(response) for each, response in found.items()},
            "ablation": ablation(network, x, labels, found),
            "epochs": epochs(
                lambda epoch, a=architecture, where=folder / variant_name: trained(a, where, epoch),  # type: ignore[misc]
                x,
                labels,
            ),
        }
    return {
        "date": today(),
        "commit": commit(),
        "classes": list(anatomy.classes),
        "images": {"train": int((~anatomy.test).sum()), "test": len(test), "maps": len(rows)},
        "side": anatomy.images.shape[1],
        "networks": networks,
    }


def write(name: str, anatomy: Anatomy, folder: Path, results: Path) -> dict[str, Any]:
    """Measure one set, put it into ``anatomy.json`` beside the other, and draw its pictures."""
    path = results / "anatomy.json"
    results.mkdir(parents=True, exist_ok=True)
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found[name] = measure(name, anatomy, folder)
    count = len(anatomy.classes)
    networks = {each: trained(v.architecture(count), folder / each) for each, v in VARIANTS.items()}
    deepest = list(VARIANTS)[-1]
    architecture = VARIANTS[deepest].architecture(count)
    stages = {epoch: trained(architecture, folder / deepest, epoch) for epoch in KEPT}
    pictures.write(results, name, anatomy, networks, stages)
    rounded = json.loads(json.dumps(found), parse_float=lambda text: float(f"{float(text):.6g}"))
    path.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
    return found
