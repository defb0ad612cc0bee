"""Export of CLEAR-DR as the bundle ``models/clear_dr``: graph, figures, operating points, card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from models.bundle import Bundle
from training.bundles import Model, publish, write_weights
from training.networks import Sequencer, clear_dr
from training.response_maps.onnx_graph import build
from training.response_maps.reference import Rule, Start
from training.retina import evaluate
from training.retina.data import PREPROCESSING, Prepared, load
from training.retina.train import Plan

NAME = "clear_dr"
SOP_CLASSES = [
    "1.2.840.10008.5.1.4.1.1.77.1.5.1",
    "1.2.840.10008.5.1.4.1.1.77.1.4",
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.7.4",
]
CLASSES = (
    ("0", "No retinopathy", "LA18643-9", "No apparent retinopathy", "#00B87A"),
    ("1", "Mild NPDR", "LA18644-7", "Mild non-proliferative retinopathy", "#3DA5FF"),
    ("2", "Moderate NPDR", "LA18645-4", "Moderate non-proliferative retinopathy", "#FFE100"),
    ("3", "Severe NPDR", "LA18646-2", "Severe non-proliferative retinopathy", "#FF8A00"),
    ("4", "Proliferative DR", "LA18648-8", "Proliferative retinopathy", "#FF3DBE"),
)


def network(run_folder: Path) -> Sequencer:
    """The averaged network of a training run's last checkpoint."""
    model = Sequencer(clear_dr())
    model.load_state_dict(torch.load(run_folder / "checkpoint.pt", weights_only=True)["average"])
    return model.eval()


def description(model: Model, prepared: Prepared, plan: Plan, rule: Rule, start: Start) -> dict[str, Any]:
    """Everything ``model.json`` says but the hash."""
    size = int(PREPROCESSING["size_px"])
    counts = {
        source: {
            part: sum(i.source == source and i.part == part for i in prepared.items)
            for part in ("train", "validation", "test")
        }
        for source in ("idrid", "idrid_lesions", "eyepacs_natural", "eyepacs_equalised")
    }
    eyepacs = (
        "Kaggle Diabetic Retinopathy Detection 2015, provided by EyePACS: research use under the competition's terms"
    )
    return {
        "version": "0.1.0",
        "title": "CLEAR-DR: diabetic-retinopathy grade from a fundus photograph",
        "description": (
            "All-convolutional sequencer (Kumar 2020, ch. 5) with global average pooling and five classes, the grades 0-4 of the "
            "international scale. CLEAR maps show which grade dominates where, and how strongly."
        ),
        "task": "dr_grade",
        "input": {
            "modality": ["OP", "XC", "OT"],
            "sop_classes": SOP_CLASSES,
            "tensor": {"name": "image", "shape": [-1, 3, size, size], "datatype": "FP32"},
            "preprocessing": [{"step": "fundus_square", "parameters": PREPROCESSING}],
        },
        "classes": [
            {"name": name, "label": label, "code": {"value": value, "scheme": "LN", "meaning": meaning}, "color": color}
            for name, label, value, meaning, color in CLASSES
        ],
        "outputs": [
            {"name": "logits", "shape": [-1, 5], "datatype": "FP32"},
            {"name": "probabilities", "shape": [-1, 5], "datatype": "FP32"},
            {"name": "response_maps", "shape": [-1, 5, size, size], "datatype": "FP32"},
            {"name": "features", "shape": [-1, clear_dr().cells[-1][-1].channels], "datatype": "FP32"},
        ],
        "response_maps": {"rule": rule, "start": start, "reference": evaluate.reference_scale(model, prepared)},
        "operating_points": evaluate.operating_points(model, prepared),
        "calibration": {
            "method": "none; ordinal soft labels, so the probabilities are softer than the observed shares"
        },
        "limits_of_use": [
            "Research use. Not for primary diagnosis.",
            "Colour photographs of adult eyes, field centred on macula or disc, 30-60 degrees; the whole field visible.",
            "Learnt from few photographs: IDRiD (one camera, one clinic) and a thinned, noisily labelled part of EyePACS.",
            "Other retinal disease is not looked for; laser scars and media opacity were not studied.",
            "Grade 1 is hardly ever answered, grades 3 and 4 are often taken for a neighbour: see the recalls below.",
        ],
        "training": {
            "data": [
                {
                    "name": "IDRiD grading and lesions",
                    "what": f"photographs by part: {counts['idrid']}; with drawn lesions: {counts['idrid_lesions']}",
                    "licence": "CC BY 4.0, doi:10.21227/H25W98",
                },
                {
                    "name": "EyePACS, equalised copies at 256 px",
                    "what": f"{counts['eyepacs_equalised']}",
                    "licence": eyepacs,
                },
                {"name": "EyePACS, natural colour", "what": f"{counts['eyepacs_natural']}", "licence": eyepacs},
            ],
            "split": (
                "By patient, asserted in code. IDRiD: official test split; duplicates and lesion-test photographs taken out of "
                "training. EyePACS: 3/4 train, 1/8 validation, 1/8 test by hash of the patient."
            ),
            "seed": plan.seed,
            "plan": plan.__dict__,
            "architecture": clear_dr().to_json(),
        },
        "metrics": evaluate.figures(model, prepared),
        "evidence": evaluate.evidence(model, prepared),
        "rebuild": {"commands": ["make train-retina", "make models"], "commit": ""},
    }


def export(
    prepared_folder: Path,
    run_folder: Path,
    plan: Plan,
    rule: Rule = "guided",
    start: Start = "contrast",
    note: str = "",
) -> Bundle:
    """Write the bundle from the run's last checkpoint, and its figures to ``docs/results/retina.json``.

    `note` says how the training differed from the plan.
    """
    size = int(PREPROCESSING["size_px"])
    weights = write_weights(NAME, build([network(run_folder).folded()], (3, size, size), rule, start))
    prepared = load(prepared_folder)
    text = description(Model(weights), prepared, plan, rule, start)
    return publish(NAME, text, note, "retina")
