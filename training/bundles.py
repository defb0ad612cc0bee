"""Writing a model bundle: weights, description, card; and running its graph the way the service does."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from models import bundle as bundles
from models.card import render
from training.data import ROOT

MODELS = ROOT / "models"


def commit() -> str:
    """Commit of the working tree, with "+" when it has changes outside models/ and docs/."""
    head = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--", "training", "models/*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def today() -> str:
    """Date of today (UTC), ISO 8601."""
    return datetime.now(UTC).date().isoformat()


class Model:
    """An exported graph in ONNX Runtime."""

    def __init__(self, path: Path, threads: int = 2) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, images: np.ndarray, *outputs: str, batch: int = 16) -> list[np.ndarray]:
        """Named outputs for images (n, C, H, W), in batches; maps are computed only when asked for."""
        parts = []
        for start in range(0, len(images), batch):
            feed = {
                "image": np.asarray(images[start : start + batch], np.float32),
                "with_maps": np.array("response_maps" in outputs),
            }
            parts.append(self.session.run(list(outputs), feed))
        return [np.concatenate(column) for column in zip(*parts, strict=True)]


def metric(name: str, value: float, interval: list[float], n: int, data_set: str, split: str) -> dict[str, Any]:
    """One entry of ``metrics``."""
    return {
        "name": name,
        "value": value,
        "interval": interval,
        "n": n,
        "data_set": data_set,
        "split": split,
        "date": today(),
    }


def write_weights(name: str, model: onnx.ModelProto) -> Path:
    """Write a bundle's new weights beside the old ones; `publish` puts them in their place."""
    folder = MODELS / name
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / "model.onnx.part")
    return folder / "model.onnx.part"


def publish(name: str, description: dict[str, Any], note: str, results: str) -> bundles.Bundle:
    """Bind a description to what `write_weights` wrote, put both and ``CARD.md`` in their place, and verify the whole.

    `note` says how the training differed from its plan; the figures go to ``docs/results/<results>.json`` as well. The files
    change together at the end, so that a service that starts meanwhile meets the old bundle or the new one.
    """
    folder = MODELS / name
    sha256 = bundles.digest(folder / "model.onnx.part")
    description = {"schema": 1, "name": name, **description, "weights": {"file": "model.onnx", "sha256": sha256}}
    for point in description["operating_points"]:
        point["weights_sha256"] = sha256
    description["rebuild"] |= {"commit": commit(), "note": note}
    rounded = json.loads(json.dumps(description), parse_float=lambda text: float(f"{float(text):.6g}"))
    (folder / "model.json.part").write_text(json.dumps(rounded, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "CARD.md.part").write_text(render(rounded), encoding="utf-8")
    for file in ("model.onnx", "model.json", "CARD.md"):
        (folder / f"{file}.part").replace(folder / file)
    bundle = bundles.load(folder)
    path = ROOT / "docs" / "results" / f"{results}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = ("name", "version", "weights", "metrics", "operating_points", "evidence", "rebuild")
    path.write_text(json.dumps({key: bundle.description[key] for key in keys}, indent=1) + "\n", encoding="utf-8")
    return bundle
