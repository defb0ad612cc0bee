"""Export of SISC as the bundle ``models/sisc_lung``: graph, figures, operating points, card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.bundle import Bundle
from models.preprocessing import HU_RANGE
from training.bundles import Model, publish, write_weights
from training.lung import evaluate
from training.lung.data import HALF_DEPTH_MM, PREPROCESSING, TRAIN_FOLDS, Nodule, Prepared, load
from training.lung.networks import MEMBERS, network
from training.lung.protocol import Answers, Trained, cross_validation, read
from training.lung.train import Plan
from training.networks import sisc
from training.response_maps.layers import Convolution, Layer
from training.response_maps.onnx_graph import build
from training.response_maps.reference import Rule, Start

NAME = "sisc_lung"
CT_STORAGE = ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"]
"""CT, Enhanced CT and Legacy Converted Enhanced CT Image Storage."""


def ensemble(data: Path, plan: Plan, slope: float, intercept: float) -> tuple[list[tuple[Layer, ...]], Tensor]:
    """The trained members with the calibration folded in, and their common prior.

    The slope multiplies every z_L, and so the response maps, and the prior; the intercept is added to the prior.
    """
    members, priors = [], []
    for task in MEMBERS:
        trained = network(data / task.name, plan)
        *hidden, last = trained.folded()
        assert isinstance(last, Convolution)
        members.append((*hidden, replace(last, weight=last.weight * slope, bias=last.bias * slope)))
        priors.append(trained.prior.double())
    return members, slope * torch.stack(priors).mean(0) + torch.tensor([0.0, intercept], dtype=torch.float64)


def description(
    model: Model,
    prepared: Prepared,
    joint: Answers,
    crossed: Answers,
    plan: Plan,
    rule: Rule,
    start: Start,
    prior: Tensor,
    line: tuple[float, float],
) -> dict[str, Any]:
    """Everything ``model.json`` says but the hash."""
    used = [n for n in prepared.nodules if n.part == "train"]
    spacing, thickness = sorted(n.spacing_mm for n in used), sorted(n.thickness_mm for n in used)
    counts = {part: len(prepared.part(part)) for part in ("train", "test")}
    size = PREPROCESSING["size_px"]
    return {
        "version": "0.2.0",
        "title": "SISC: malignancy of a lung nodule from CT",
        "description": (
            f"Stacked interpretable sequencing cells (Kumar 2020, ch. 4): an ensemble of {len(MEMBERS)} networks of three cells, "
            "each with eleven convolutions, global average pooling and two classes. Log-odds are a prior plus the sum of local "
            "evidence, which the networks learnt to find inside the nodule. Answers one nodule, given its centre, from axial "
            "slices; critical response maps show which pixels spoke for benign and which for malignant. The truth it learnt "
            "is the radiologists' impression in LIDC-IDRI, not pathology."
        ),
        "task": "nodule_malignancy",
        "input": {
            "modality": ["CT"],
            "sop_classes": CT_STORAGE,
            "tensor": {
                "name": "image",
                "shape": [-1, 1, size, size],
                "datatype": "FP32",
            },
            "preprocessing": [
                {"step": "hu_range", "parameters": {"low_hu": HU_RANGE[0], "high_hu": HU_RANGE[1]}},
                {"step": "nodule_window", "parameters": PREPROCESSING},
            ],
            "ranges": {
                "pixel_spacing_mm": [spacing[0], spacing[-1]],
                "slice_thickness_mm": [thickness[0], thickness[-1]],
                "nodule_diameter_mm": [3.0, 30.0],
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
                "shape": [-1, 2, size, size],
                "datatype": "FP32",
            },
            {"name": "features", "shape": [-1, len(MEMBERS) * 8 * plan.width], "datatype": "FP32"},
        ],
        "response_maps": {"rule": rule, "start": start, "reference": evaluate.reference_scale(model, prepared)},
        "aggregation": {"slices": "mean", "half_depth_mm": HALF_DEPTH_MM},
        "operating_points": evaluate.operating_points(joint, crossed),
        "calibration": {
            "method": (
                "Platt scaling by nodule on the training patients, each answered by the member that did not learn from them; "
                "folded into the class layers and the prior"
            ),
            "slope": line[0],
            "intercept": line[1],
            "prior_log_odds": float(prior[1] - prior[0]),
        },
        "limits_of_use": [
            "Research use. Not for primary diagnosis.",
            "Learnt from the impression of radiologists (LIDC-IDRI scores 1, 2 against 4, 5), not from pathology.",
            "Nodules of 3-30 mm whose centre is known; it does not find nodules. Everything else in the window is ignored.",
            "Adult chest CT, axial, soft or lung kernel, in the ranges of pixel spacing and slice thickness above.",
            "Grey levels are relative to the extremes of 128 x 128 px of the scanner; 8-bit crops must have been scaled so.",
            "A probability near the prior means that the network found no evidence, not that it is sure of anything.",
        ],
        "training": {
            "data": [
                {
                    "name": "LIDC-IDRI",
                    "what": (
                        f"{len(used)} nodules of {len({n.patient for n in used})} patients, the readers' mean score as a soft "
                        f"label, their seven other ratings, diameters and contours; of set I (score 3 ignored): {counts}"
                    ),
                    "licence": "CC BY 3.0, doi:10.7937/K9/TCIA.2015.LO9QL9SX",
                }
            ],
            "split": (
                "By patient (hash of the patient's name, ten folds), asserted in code: folds 0 and 1 are the test patients of "
                "all figures; each member learnt from seven of the other eight folds."
            ),
            "seed": plan.seed,
            "plan": plan.__dict__,
            "architecture": sisc(plan.width).to_json(),
        },
        "metrics": evaluate.figures(joint, crossed),
        "evidence": evaluate.evidence(model, prepared),
        "rebuild": {"commands": ["make train-lung", "python -m training.lung export"], "commit": ""},
    }


def _facts(data: Path, used: list[Nodule]) -> dict[str, Any]:
    """What the ensemble's trainings took together."""
    facts = [read(data / "folds" / str(fold)).facts for fold in TRAIN_FOLDS]
    together = {name: sum(each[name] for each in facts) for name in ("images", "seconds", "parameters")}
    slices = sum(n.slices for n in used)
    return {**facts[0], **together, "train_nodules": len(used), "train_slices": slices, "members": len(facts)}


def export(data: Path, plan: Plan, rule: Rule = "guided", start: Start = "contrast", note: str = "") -> Bundle:
    """Write the bundle from the trained members, and its figures to ``docs/results/lung.json``.

    `note` says how the training differed from the plan.
    """
    prepared, size = load(data), int(PREPROCESSING["size_px"])
    crossed, _ = cross_validation(data / "folds", prepared.nodules)
    line = evaluate.line(crossed)
    members, prior = ensemble(data, plan, *line)
    weights = write_weights(NAME, build(members, (1, size, size), rule, start, prior=prior))
    model = Model(weights)
    joint = evaluate.answers(model, prepared)
    rows = np.array([row for n in joint.nodules for row in n.rows])
    Trained(rows, joint.log_odds[rows], _facts(data, [n for n in prepared.nodules if n.part == "train"])).write(
        data / "ensemble"
    )
    text = description(model, prepared, joint, evaluate.calibrated(crossed, *line), plan, rule, start, prior, line)
    return publish(NAME, text, note, "lung")
