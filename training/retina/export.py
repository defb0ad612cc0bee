"""Export of CLEAR-DR as the bundle ``models/clear_dr``: graph, figures, operating points, card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.bundle import Bundle
from training.bundles import Model, publish, write_weights
from training.response_maps.layers import Convolution, Layer
from training.response_maps.onnx_graph import build
from training.response_maps.reference import Rule, Start
from training.retina import evaluate
from training.retina.data import IDRID_BLOCK, PREPROCESSING, QUANTILE, Prepared, load
from training.retina.lesions import evidence
from training.retina.networks import ARCHITECTURE, MEMBERS, Answers, calibrate, held_out, network
from training.retina.train import SIZE, Plan

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


def ensemble(data: Path, slope: float, shift: np.ndarray) -> tuple[list[tuple[Layer, ...]], Tensor]:
    """The trained members with the calibration folded in, and their common prior.

    The slope multiplies every z_L, and so the response maps; the prior is the shift and what the members learnt of it.
    """
    members, prior = [], torch.from_numpy(shift)
    for member in MEMBERS:
        trained = network(data / member.name)
        *hidden, last = trained.folded()
        assert isinstance(last, Convolution)
        members.append((*hidden, replace(last, weight=last.weight * slope, bias=last.bias * slope)))
        prior = prior + slope * trained.prior.detach().double() / len(MEMBERS)
    return members, prior


def description(
    model: Model,
    prepared: Prepared,
    answers: Answers,
    plan: Plan,
    rule: Rule,
    start: Start,
    slope: float,
    shift: np.ndarray,
    prior: Tensor,
) -> dict[str, Any]:
    """Everything ``model.json`` says but the hash."""
    counts = {
        source: {part: sum(i.source == source and i.part == part for i in prepared.items) for part in ("train", "test")}
        for source in ("idrid", "idrid_lesions", "eyepacs_natural", "eyepacs_equalised")
    }
    test, known = evaluate.tested(model, prepared), evaluate.crossed(prepared, answers, slope, shift)
    metrics = [
        figure
        for source, c in test.items()
        for figure in evaluate.figures(c, evaluate.SOURCES[source], evaluate.TEST_SPLITS[source])
    ]
    metrics += [
        figure
        for source, c in known.items()
        for figure in evaluate.figures(c, evaluate.SOURCES[source], evaluate.CROSS_SPLITS[source])
    ]
    metrics += evaluate.oedema(prepared, answers)
    eyepacs = (
        "Kaggle Diabetic Retinopathy Detection 2015, provided by EyePACS: research use under the competition's terms"
    )
    return {
        "version": "0.3.1",
        "title": "CLEAR-DR: diabetic-retinopathy grade from a fundus photograph",
        "description": (
            f"An ensemble of {len(MEMBERS)} networks: EfficientNet-Lite0's first five stages, one convolution, five classes (the "
            "grades 0-4 of the international scale), global average pooling (Kumar 2020, ch. 5). Log-odds are a prior plus the "
            "mean of local evidence, which speaks for a grade, never against one. CLEAR maps show which grade dominates "
            "where, and how strongly."
        ),
        "task": "dr_grade",
        "input": {
            "modality": ["OP", "XC", "OT"],
            "sop_classes": SOP_CLASSES,
            "tensor": {"name": "image", "shape": [-1, 3, SIZE, SIZE], "datatype": "FP32"},
            "preprocessing": [{"step": "fundus_square", "parameters": PREPROCESSING}],
        },
        "classes": [
            {"name": name, "label": label, "code": {"value": value, "scheme": "LN", "meaning": meaning}, "color": color}
            for name, label, value, meaning, color in CLASSES
        ],
        "outputs": [
            {"name": "logits", "shape": [-1, 5], "datatype": "FP32"},
            {"name": "probabilities", "shape": [-1, 5], "datatype": "FP32"},
            {"name": "response_maps", "shape": [-1, 5, SIZE, SIZE], "datatype": "FP32"},
            {"name": "features", "shape": [-1, len(MEMBERS) * ARCHITECTURE.last], "datatype": "FP32"},
        ],
        "response_maps": {"rule": rule, "start": start, "reference": evaluate.reference_scale(model, prepared)},
        "answer_quantile": QUANTILE,
        "operating_points": evaluate.operating_points(evaluate.joined(known), test["idrid"]),
        "calibration": {
            "method": (
                "one slope and a shift of each grade, by maximum likelihood on IDRiD's and EyePACS' natural-colour training "
                "photographs, each answered by the member that left it out; folded into the class layers and the prior"
            ),
            "slope": slope,
            "prior_logits": prior.tolist(),
        },
        "limits_of_use": [
            "Research use. Not for primary diagnosis.",
            "Colour photographs of adult eyes, field centred on macula or disc, 30-60 degrees; the whole field visible.",
            "Learnt from few photographs: IDRiD (one camera, one clinic) and a thinned, noisily labelled part of EyePACS.",
            "Other retinal disease is not looked for; laser scars and media opacity were not studied.",
            (
                "Where the network finds nothing, the answer is its prior: no retinopathy, with probability "
                f"{float(torch.softmax(prior, 0)[0]):.2f}."
            ),
            "Neighbouring grades are often taken for one another (see the recalls); too low weighs more than too high.",
            (
                "IDRiD names no patients. Photographs with neighbouring numbers are alike, so its cross-validation leaves out "
                "blocks of them; two photographs of one patient may still be on both sides."
            ),
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
                "training. EyePACS: one of eight folds by hash of the patient is test. Of the rest each member left out two of "
                f"eight folds of IDRiD (in blocks of {IDRID_BLOCK} neighbouring numbers) and of EyePACS' patients with a "
                "natural-colour photograph."
            ),
            "seed": plan.seed,
            "plan": plan.__dict__,
            "architecture": ARCHITECTURE.to_json(),
        },
        "metrics": metrics,
        "evidence": evidence(model),
        "rebuild": {"commands": ["make train-retina", "python -m training.retina export"], "commit": ""},
    }


def export(data: Path, plan: Plan, rule: Rule = "guided", start: Start = "contrast", note: str = "") -> Bundle:
    """Write the bundle from the trained members, and its figures to ``docs/results/retina.json``.

    `note` says how the training differed from the plan.
    """
    prepared, answers = load(data), held_out(data)
    slope, shift = calibrate(answers.logits, np.array([prepared.items[k].grade for k in answers.rows]))
    members, prior = ensemble(data, slope, shift)
    weights = write_weights(NAME, build(members, (3, SIZE, SIZE), rule, start, prior=prior))
    text = description(Model(weights), prepared, answers, plan, rule, start, slope, shift, prior)
    return publish(NAME, text, note, "retina")
