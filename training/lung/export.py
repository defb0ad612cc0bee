"""Export of SISC as the bundle ``models/sisc_lung``: graph, figures, operating points, card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from models.bundle import Bundle
from training.bundles import Model, publish, write_weights
from training.lung import evaluate
from training.lung.data import HALF_DEPTH_MM, PREPROCESSING, Prepared, label, load
from training.lung.train import Plan, plain
from training.networks import Sequencer, sisc
from training.response_maps.layers import Convolution, Layer, fold
from training.response_maps.onnx_graph import build
from training.response_maps.reference import Rule, Start, forward

NAME = "sisc_lung"
CT_STORAGE = ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"]
"""CT, Enhanced CT and Legacy Converted Enhanced CT Image Storage."""


def network(run_folder: Path, plan: Plan) -> Sequencer:
    """The averaged network of a training run's last checkpoint."""
    model = Sequencer(sisc(plan.width))
    model.load_state_dict(torch.load(run_folder / "checkpoint.pt", weights_only=True)["average"])
    return model.eval()


def calibrated(layers: Sequence[Layer], prepared: Prepared) -> tuple[tuple[Layer, ...], float]:
    """Fold temperature scaling (Guo et al. 2017) into the class layer.

    The inverse temperature is fitted by logistic regression on the validation patients' central slices, every nodule with
    the same weight. It multiplies z_L and so every response map, and moves no decision boundary of a slice.

    Returns
    -------
    layers : tuple of Layer
    scale : float
        The inverse temperature.
    """
    nodules = prepared.part("validation")
    rows = [n.central for n in nodules]
    truth = np.concatenate([np.full(len(row), label(n)) for n, row in zip(nodules, rows, strict=True)])
    weight = np.concatenate([np.full(len(row), 1 / len(row)) for row in rows])
    with torch.no_grad():
        z = forward(layers, plain(prepared.windows[np.concatenate(rows)]).double()).output.mean((2, 3)).numpy()
    fit = LogisticRegression(C=1e3, fit_intercept=False).fit((z[:, 1] - z[:, 0])[:, None], truth, weight)
    scale, last = float(fit.coef_[0, 0]), layers[-1]
    assert isinstance(last, Convolution)
    return (*layers[:-1], replace(last, weight=last.weight * scale, bias=last.bias * scale)), scale


def description(model: Model, prepared: Prepared, plan: Plan, rule: Rule, start: Start, scale: float) -> dict[str, Any]:
    """Everything ``model.json`` says but the hash."""
    used = prepared.part("train") + prepared.part("validation")
    spacing, thickness = sorted(n.spacing_mm for n in used), sorted(n.thickness_mm for n in used)
    hidden = 8 * plan.width
    doubtful = sum(n.part == "train" and label(n) is None for n in prepared.nodules)
    counts = {part: len(prepared.part(part)) for part in ("train", "validation", "test")}
    return {
        "version": "0.1.0",
        "title": "SISC: malignancy of a lung nodule from CT",
        "description": (
            "Stacked interpretable sequencing cells (Kumar 2020, ch. 4): four cells of three convolutions, global average "
            "pooling, two classes. Answers one nodule, given its centre, from axial slices; critical response maps show "
            "which pixels spoke for benign and which for malignant. The truth it learnt is the radiologists' impression in "
            "LIDC-IDRI, not pathology."
        ),
        "task": "nodule_malignancy",
        "input": {
            "modality": ["CT"],
            "sop_classes": CT_STORAGE,
            "tensor": {
                "name": "image",
                "shape": [-1, 1, PREPROCESSING["size_px"], PREPROCESSING["size_px"]],
                "datatype": "FP32",
            },
            "preprocessing": [{"step": "nodule_window", "parameters": PREPROCESSING}, {"step": "min_max"}],
            "ranges": {
                "pixel_spacing_mm": [spacing[0], spacing[-1]],
                "slice_thickness_mm": [thickness[0], thickness[-1]],
            },
            "median_pixel_spacing_mm": spacing[len(spacing) // 2],
        },
        "classes": [
            {
                "name": "benign",
                "label": "Benign",
                "code": {"value": "30807003", "scheme": "SCT", "meaning": "Benign"},
                "color": "#3DA5FF",
            },
            {
                "name": "malignant",
                "label": "Malignant",
                "code": {"value": "21594007", "scheme": "SCT", "meaning": "Malignant"},
                "color": "#FF8A00",
            },
        ],
        "outputs": [
            {"name": "logits", "shape": [-1, 2], "datatype": "FP32"},
            {"name": "probabilities", "shape": [-1, 2], "datatype": "FP32"},
            {
                "name": "response_maps",
                "shape": [-1, 2, PREPROCESSING["size_px"], PREPROCESSING["size_px"]],
                "datatype": "FP32",
            },
            {"name": "features", "shape": [-1, hidden], "datatype": "FP32"},
        ],
        "response_maps": {"rule": rule, "start": start, "reference": evaluate.reference_scale(model, prepared)},
        "aggregation": {"slices": "mean", "half_depth_mm": HALF_DEPTH_MM},
        "operating_points": evaluate.operating_points(model, prepared),
        "calibration": {
            "method": "temperature scaling on the validation patients, folded into the class layer",
            "inverse_temperature": scale,
        },
        "limits_of_use": [
            "Research use. Not for primary diagnosis.",
            "Learnt from the impression of radiologists (LIDC-IDRI scores 1, 2 against 4, 5), not from pathology.",
            "Nodules of 3-30 mm whose centre is known; it does not find nodules. Everything else in the window is ignored.",
            "Adult chest CT, axial, soft or lung kernel, in the ranges of pixel spacing and slice thickness above.",
            "The model sees each window scaled by its own extremes: absolute density (calcification, fat) is lost to it.",
        ],
        "training": {
            "data": [
                {
                    "name": "LIDC-IDRI",
                    "what": (
                        f"nodules of set I (score 3 ignored) by patient: {counts}; and, with the soft label 0.5, "
                        f"{doubtful} nodules of score 3 of the train patients"
                    ),
                    "licence": "CC BY 3.0, doi:10.7937/K9/TCIA.2015.LO9QL9SX",
                }
            ],
            "split": "By patient (hash of the patient's name), asserted in code: "
            + ", ".join(f"{v} {k}" for k, v in counts.items())
            + " nodules.",
            "seed": plan.seed,
            "plan": plan.__dict__,
            "architecture": sisc(plan.width).to_json(),
        },
        "metrics": evaluate.figures(model, prepared),
        "evidence": evaluate.evidence(model, prepared),
        "rebuild": {"commands": ["make train-lung", "make models"], "commit": ""},
    }


def export(
    prepared_folder: Path,
    run_folder: Path,
    plan: Plan,
    rule: Rule = "guided",
    start: Start = "contrast",
    note: str = "",
) -> Bundle:
    """Write the bundle from the run's last checkpoint, and its figures to ``docs/results/lung.json``.

    `note` says how the training differed from the plan.
    """
    size = int(PREPROCESSING["size_px"])
    prepared = load(prepared_folder)
    layers, scale = calibrated(fold(network(run_folder, plan).layers), prepared)
    weights = write_weights(NAME, build(layers, (1, size, size), rule, start))
    text = description(Model(weights), prepared, plan, rule, start, scale)
    return publish(NAME, text, note, "lung")
