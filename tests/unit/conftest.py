"""Two tiny model bundles that a person can check with a pencil, under the names of the real ones."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
OPHTHALMIC = "1.2.840.10008.5.1.4.1.1.77.1.5.1"

LUNG_WEIGHTS = (np.array([[-4.0], [4.0]]), np.array([2.0, -2.0]))
"""Response of benign = 2 - 4 x, of malignant = 4 x - 2: p(malignant) = 1 / (1 + exp(4 - 8 mean(x)))."""
RETINA_WEIGHTS = (
    np.array([[0.0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1], [0.1, 0.1, 0.1]]),
    np.array([0.0, 0.1, 1.0, 0.2, 0.1]),
)


def write_bundle(
    folder: Path, description: dict[str, Any], channels: int, size: int, weights: tuple[np.ndarray, np.ndarray]
) -> Path:
    """A bundle whose network is one 1 x 1 convolution: response maps = W x + b, logits = their mean."""
    folder.mkdir(parents=True)
    count = len(weights[1])
    kernel = helper.make_tensor(
        "kernel", TensorProto.FLOAT, [count, channels, 1, 1], weights[0].astype(np.float32).ravel()
    )
    bias = helper.make_tensor("bias", TensorProto.FLOAT, [count], weights[1].astype(np.float32))
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "bias"], ["response_maps"]),
        helper.make_node("GlobalAveragePool", ["response_maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
        helper.make_node("Identity", ["logits"], ["features"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", channels, size, size])
    shapes = {"logits": [count], "probabilities": [count], "response_maps": [count, size, size], "features": [count]}
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in shapes.items()
    ]
    graph = helper.make_graph(nodes, "tiny", [image], outputs, [kernel, bias])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    sha256 = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    points = [
        {"sensitivity": 0.9, "specificity": 0.8, "n": 10, "data_set": "made up", "weights_sha256": sha256, **p}
        for p in description["operating_points"]
    ]
    classes = [
        {"name": c, "label": f"label {c}", "code": {"value": "1", "scheme": "99TEST", "meaning": c}, "color": color}
        for c, color in zip(
            description["classes"], ("#0072B2", "#D55E00", "#009E73", "#F0E442", "#CC79A7"), strict=False
        )
    ]
    whole = {
        "schema": 1,
        "version": "0.0.1",
        "title": f"Tiny {folder.name}",
        "description": "For tests.",
        "weights": {"file": "model.onnx", "sha256": sha256},
        "outputs": [{"name": name, "shape": [-1, *shape], "datatype": "FP32"} for name, shape in shapes.items()],
        "response_maps": {"rule": "guided", "start": "contrast", "reference": 1.5},
        "calibration": {},
        "limits_of_use": ["Tests only."],
        "training": {"data": [], "split": "none", "seed": 0},
        "metrics": [
            {
                "name": "auc",
                "value": 0.5,
                "interval": [0.4, 0.6],
                "n": 10,
                "data_set": "made up",
                "split": "test",
                "date": "2026-01-01",
            }
        ],
        "evidence": [],
        "rebuild": {"commands": [], "commit": "none"},
        **description,
        "name": folder.name,
        "classes": classes,
        "operating_points": points,
    }
    whole["input"] = {
        "tensor": {"name": "image", "shape": [-1, channels, size, size], "datatype": "FP32"},
        **description["input"],
    }
    (folder / "model.json").write_text(json.dumps(whole))
    (folder / "CARD.md").write_text(
        f"# Tiny {folder.name}\n\nA model for tests, **not** for patients.\n\n| a | b |\n|---|---|\n| `x` | <y> |\n"
        + "More words. " * 50
    )
    return folder


def write_lung(models: Path) -> Path:
    return write_bundle(
        models / "sisc_lung",
        {
            "task": "nodule_malignancy",
            "classes": ["benign", "malignant"],
            "input": {
                "modality": ["CT"],
                "sop_classes": [CT_STORAGE],
                "preprocessing": [
                    {"step": "hu_range", "parameters": {"low_hu": -1024, "high_hu": 2500}},
                    {"step": "nodule_window", "parameters": {"size_px": 96, "scale_mm": 0.5}},
                ],
                "ranges": {
                    "pixel_spacing_mm": [0.46, 0.98],
                    "slice_thickness_mm": [0.6, 5.0],
                    "nodule_diameter_mm": [3, 30],
                },
                "median_pixel_spacing_mm": 0.7,
            },
            "aggregation": {"slices": "mean", "half_depth_mm": 2.5},
            "operating_points": [
                {"name": "balanced", "score_classes": ["malignant"], "threshold": 0.5, "default": True},
                {"name": "sensitivity_90", "score_classes": ["malignant"], "threshold": 0.05},
            ],
        },
        1,
        96,
        LUNG_WEIGHTS,
    )


def write_retina(models: Path) -> Path:
    return write_bundle(
        models / "clear_dr",
        {
            "task": "dr_grade",
            "classes": ["0", "1", "2", "3", "4"],
            "input": {
                "modality": ["OP", "XC"],
                "sop_classes": [OPHTHALMIC, "1.2.840.10008.5.1.4.1.1.77.1.4", "1.2.840.10008.5.1.4.1.1.7"],
                "preprocessing": [
                    {"step": "fundus_square", "parameters": {"size_px": 512, "grid": 16, "margin": 0.95}}
                ],
            },
            "operating_points": [
                {"name": "mtmDR", "score_classes": ["2", "3", "4"], "threshold": 0.4, "default": True},
                {"name": "vtDR", "score_classes": ["3", "4"], "threshold": 0.9},
            ],
        },
        3,
        512,
        RETINA_WEIGHTS,
    )


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with tiny bundles called sisc_lung and clear_dr."""
    models = tmp_path_factory.mktemp("models")
    write_lung(models)
    write_retina(models)
    return models
