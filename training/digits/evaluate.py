"""Everything that is measured of a trained digit network, into docs/experiments/digits.json, and its galleries."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import softmax  # type: ignore[import-untyped]
from scipy.stats import binomtest  # type: ignore[import-untyped]

from training.bundles import commit, today
from training.digits import gallery
from training.digits.data import Prepared
from training.digits.strong import METHODS, Explain, curve, nearest
from training.digits.train import NETWORKS, predict, trained
from training.explanations import Network
from training.networks import Sequencer
from training.response_maps import evidence as ev
from training.response_maps.reference import Rule, Start, response_maps

SEPARATION_IMAGES = 500
OPTIONS: tuple[tuple[Rule, Start], ...] = (("linear", "class"), ("guided", "class"), ("guided", "contrast"))


def share(right: np.ndarray) -> dict[str, Any]:
    """Share of right answers, its 95 % interval (Wilson), n and the number of errors."""
    found = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return {
        "value": float(right.mean()),
        "interval": [float(found.low), float(found.high)],
        "n": len(right),
        "errors": int((~right).sum()),
    }


def separation(network: Sequencer, x: torch.Tensor) -> dict[str, dict[str, float]]:
    """How much an image's ten maps differ, by rule and start: mean class correlation and shared response (see evidence)."""
    layers, found = network.folded(), {}
    for rule, start in OPTIONS:
        maps = np.concatenate([response_maps(layers, part, rule, start).numpy() for part in x.split(100)])
        found[f"{rule}, {start}"] = {
            "class_correlation": float(np.nanmean([ev.class_correlation(m) for m in maps])),
            "shared_response": float(np.nanmean([ev.shared_response(m) for m in maps])),
            "n": len(maps),
        }
    return found


def _points(
    path: Path, network: Network, x: torch.Tensor, labels: torch.Tensor, explain: Explain
) -> list[dict[str, Any]]:
    """What `curve` found before, or finds now and keeps in `path`."""
    if not path.exists():
        path.write_text(json.dumps(curve(network, x, labels, explain)), encoding="utf-8")
    return list(json.loads(path.read_text(encoding="utf-8")))


def measure(name: str, prepared: Prepared, folder: Path, images: int) -> dict[str, Any]:
    """All figures of one set; those of table 5.3 are kept in `folder` method by method, so that a second call goes on.

    Parameters
    ----------
    name : "mnist" or "svhn"
    prepared : Prepared
    folder : Path
        Of the checkpoint.
    images : int
        Test images for table 5.3, the first ones; 0 stands for all.
    """
    network = trained(NETWORKS[name], folder)
    x = prepared.test.inputs()
    logits = predict(network, x)
    held = predict(network, prepared.held.inputs()).argmax(1)
    count = min(images or len(x), len(x))
    labels = torch.from_numpy(prepared.test.labels)
    explained = Network([network.folded()])
    stamp = f"{count}-{(folder / 'checkpoint.pt').stat().st_mtime_ns}"
    methods = {}
    for method, (text, explain) in METHODS.items():
        print(f"{name}: {method}", flush=True)
        kept = folder / f"strong-{method.replace(' ', '-').replace(',', '')}-{stamp}.json"
        points = _points(kept, explained, x[:count], labels[:count], explain)
        methods[method] = {"text": text, "points": points, "nearest": nearest(points)}
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "date": today(),
        "commit": commit(),
        "plan": json.loads((folder / "plan.json").read_text(encoding="utf-8")),
        "images": {"train": len(prepared.train), "held": len(prepared.held), "test": len(x)},
        "parameters": sum(p.numel() for p in network.parameters()),
        "cells": [[asdict(conv) for conv in cell] for cell in NETWORKS[name].cells],
        "training_minutes": round(sum(entry["seconds"] for entry in log) / 60, 1),
        "held": share(held == prepared.held.labels),
        "test": share(logits.argmax(1) == prepared.test.labels),
        "strong": {"n": count, "methods": methods},
        "separation": separation(network, x[:SEPARATION_IMAGES]),
    }


def write(name: str, prepared: Prepared, folder: Path, results: Path, images: int) -> dict[str, Any]:
    """Measure one set, put it into ``digits.json`` beside the other, and draw its galleries."""
    path = results / "digits.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found[name] = measure(name, prepared, folder, images)
    network = trained(NETWORKS[name], folder)
    x, labels = prepared.test.inputs(), prepared.test.labels
    probabilities = softmax(predict(network, x), axis=1)
    results.mkdir(parents=True, exist_ok=True)
    for kind in ("right", "wrong"):
        if examples := gallery.choose(x, labels, probabilities, wrong=kind == "wrong"):
            gallery.write(network.folded(), examples, results / f"digits_{name}_{kind}.png")
    rounded = json.loads(json.dumps(found), parse_float=lambda text: float(f"{float(text):.6g}"))
    path.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
    return found
