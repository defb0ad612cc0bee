"""Diabetic retinopathy: from one photograph of the fundus to a grade, the referral decisions and response maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models import preprocessing
from models.cases import mean_feature
from service import uids
from service.errors import OutOfContract
from service.intake import disc, fundus_quality
from service.pipeline import body, laterality
from service.pipeline.request import invalid
from service.pipeline.work import Case
from service.records import Finding, Instance, Outcome, Request, ResponseMap

BACKGROUND_PX = 1024
REFERRALS = ("mtmDR", "vtDR")
"""More than mild, and vision-threatening diabetic retinopathy: operating points of these names decide them."""
NOT_A_FUNDUS = "not_a_fundus"


def prepare(instances: Sequence[Instance], request: Request) -> tuple[list[Instance], list[str]]:
    """Check that it is one photograph; fast, decodes nothing.

    Raises
    ------
    OutOfContract, InvalidRequest
        For several photographs, several frames, no pixels, regions, or a pixel spacing.
    """
    if request.regions:
        raise invalid("regions", "a photograph of the retina is graded as a whole; leave the regions out")
    if request.pixel_spacing_mm is not None:
        raise invalid("pixel_spacing_mm", "is for grey crops of CT slices; leave it out")
    if len(instances) != 1:
        raise OutOfContract(
            f"{len(instances)} photographs were sent; send each on its own (one eye, one photograph, one analysis)",
            [{"where": "files", "message": "several photographs", "value": len(instances), "limit": 1}],
        )
    instance = instances[0]
    if not instance.has_pixels:
        raise OutOfContract("the DICOM instance holds no pixel data; send the image itself")
    if instance.frames != 1:
        raise OutOfContract(
            f"the DICOM instance has {instance.frames} frames; send a photograph with one frame",
            [
                {
                    "where": "NumberOfFrames (0028,0008)",
                    "message": "several frames",
                    "value": instance.frames,
                    "limit": 1,
                }
            ],
        )
    return list(instances), []


def run(case: Case) -> Outcome:
    """Grade the photograph.

    Outcomes: ``graded``; ``ungradable`` when the quality gate refuses a photograph of the fundus; ``out_of_scope`` when it
    is none.
    """
    instance, bundle = case.work.instances[0], case.bundle
    with case.watch("decode"):
        photograph = case.tools.sandbox.photograph(instance)
    with case.watch("quality"):
        verdict = fundus_quality.assess(photograph)
        field = preprocessing.fundus_field(photograph)
        quality = body.quality(verdict)
        found = disc.find(photograph, field) if verdict.gradable and field is not None else None
    eye = laterality.decide(case.work.request, instance, found)
    described = body.input_part([instance], eye.side, eye.checks, eye.source, eye.confidence)
    if not verdict.gradable or field is None:
        other = verdict.gradable or any(reason["code"] == NOT_A_FUNDUS for reason in verdict.reasons)
        return _outcome(case, "out_of_scope" if other else "ungradable", described, quality)

    # Boxes are in pixels of the upright original; `photograph` is a smaller copy of it.
    factor = max(instance.rows, instance.columns) / max(photograph.shape[:2])
    box = tuple(factor * edge for edge in field.box)
    square = preprocessing.fundus_square(photograph, field, **bundle.step("fundus_square"))
    kinds = body.map_kinds(case.work.request, bundle.classes)
    with case.watch("model"):
        outputs = ["probabilities", "features", *(["response_maps"] if kinds else [])]
        answer = case.tools.engine.run(bundle, square[None], outputs)
    values = answer["probabilities"][0].astype(np.float64)
    probabilities = dict(zip(bundle.classes, values.tolist(), strict=True))
    maps, evidence = None, body.no_evidence()
    if kinds:
        with case.watch("maps"):
            rule = bundle.description["response_maps"]
            maps = ResponseMap(
                response=answer["response_maps"],
                background=preprocessing.crop_square(photograph, field.box, BACKGROUND_PX)[None],
                classes=bundle.classes,
                box_px=np.array([box], np.float64),
                sources=(instance.sop_instance_uid,),
                probabilities=values,
                rule=rule["rule"],
                start=rule["start"],
                reference=float(rule["reference"]),
            )
            evidence = body.evidence(maps, "eye", kinds)
    features = mean_feature(answer["features"])
    grade = bundle.answer(values)
    points = {point.name: point for point in bundle.operating_points}
    finding = {
        "id": "eye",
        "tracking_uid": uids.tracking([instance.sop_instance_uid], bundle.sha256, "eye"),
        "label": body.label(bundle, grade),
        "grade": grade,
        "referable": {name: points[name].decide(probabilities) for name in REFERRALS if name in points},
        "probabilities": probabilities,
        "operating_point": body.decision(bundle.operating_point(case.work.request.operating_point), probabilities),
        "location": {
            "sop_instance_uid": instance.sop_instance_uid,
            "center_mm": None,
            "diameter_mm": None,
            "box_px": list(box),
        },
        "evidence": evidence,
    }
    return _outcome(case, "graded", described, quality, (Finding("eye", finding, maps, features=features),))


def _outcome(
    case: Case, outcome: Any, described: dict[str, Any], quality: dict[str, Any], findings: tuple[Finding, ...] = ()
) -> Outcome:
    return Outcome(outcome, case.bundle.name, described, quality, findings, timing_ms=case.watch.ms)
