"""Grey crops of one nodule, one file a slice: for researchers who have crops and no series.

They carry no Hounsfield units and no place in the patient; the nodule is in the middle of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from models import preprocessing
from models.bundle import Bundle
from service.errors import OutOfContract
from service.intake import ct_checks
from service.pipeline import body, nodule
from service.pipeline.request import invalid
from service.pipeline.work import Case
from service.records import Check, Instance, Outcome, Request

MOST_SLICES = 64
LEAST_PX = 96
"""Side of the smallest crop that is accepted (the HTTP contract), however small the window."""


def prepare(instances: Sequence[Instance], request: Request, bundle: Bundle) -> tuple[list[Instance], list[str]]:
    """Check sizes; fast, decodes nothing.

    Raises
    ------
    OutOfContract, InvalidRequest
        For regions, too many files, a file that is too small, or a DICOM series among the crops.
    """
    side = max(LEAST_PX, int(bundle.step("nodule_window")["size_px"]))
    if request.regions:
        raise invalid("regions", "grey crops are centred on the nodule; leave the regions out")
    if any(instance.media != "photograph" for instance in instances):
        raise OutOfContract("grey crops and a DICOM series were sent together; send each on its own")
    if len(instances) > MOST_SLICES:
        raise OutOfContract(
            f"{len(instances)} crops were sent; at most {MOST_SLICES} slices of one nodule are accepted",
            [{"where": "files", "message": "too many crops", "value": len(instances), "limit": MOST_SLICES}],
        )
    for number, instance in enumerate(instances):
        if min(instance.rows, instance.columns) < side:
            size = [instance.columns, instance.rows]
            raise OutOfContract(
                f"crop {number + 1} has {size[0]} x {size[1]} px; "
                f"a nodule crop needs at least {side} x {side} px, centred on the nodule",
                [{"where": f"files[{number}]", "message": "is too small", "value": size, "limit": [side, side]}],
            )
    return list(instances), []


def run(case: Case) -> Outcome:
    """One finding for all files. Outcomes: ``positive``, ``negative``, ``out_of_scope`` for an impossible spacing."""
    request, instances = case.work.request, case.work.instances
    warnings = []
    spacing = request.pixel_spacing_mm
    if spacing is None:
        spacing = float(case.bundle.description["input"]["median_pixel_spacing_mm"])
        warnings.append(f"no pixel_spacing_mm was given: {spacing:g} mm, the median of the training set, was used")
    checks = (_spacing_check(spacing, nodule.ranges(case.bundle)), _border_check(case.bundle, instances, spacing))
    if body.failed(checks):
        warnings.append(f"out of scope: {nodule.failures(checks)}")
        return nodule.outcome(case, "out_of_scope", instances, checks, warnings=warnings)
    windows, backgrounds, boxes = [], [], []
    with case.watch("decode"):
        for instance in instances:
            image = nodule.crop(case.tools.sandbox, instance)
            box = nodule.window_box(case.bundle, _middle(image.shape), (spacing, spacing))
            windows.append(nodule.window(case.bundle, image, box, hounsfield=False))
            shown = preprocessing.resample(image, box, nodule.DISPLAY_PX)
            backgrounds.append(nodule.display(shown, (float(shown.min()), float(shown.max()))))
            boxes.append(box)
    seen = nodule.Nodule(
        id="nodule",
        place="crop",
        windows=np.stack(windows),
        backgrounds=np.stack(backgrounds),
        boxes=tuple(boxes),
        sources=tuple(instance.sop_instance_uid for instance in instances),
        centre_slice=len(instances) // 2,
    )
    findings = [nodule.answer(case, seen)]
    return nodule.outcome(case, nodule.sign(findings), instances, checks, findings, warnings)


def _middle(shape: tuple[int, ...]) -> tuple[float, float]:
    return (shape[1] - 1) / 2, (shape[0] - 1) / 2


def _border_check(bundle: Bundle, instances: Sequence[Instance], spacing: float) -> Check:
    """How much of the window the crop that holds least of it leaves out."""
    shapes = {(instance.rows, instance.columns) for instance in instances}
    found = [
        ct_checks.border(nodule.window_box(bundle, _middle(shape), (spacing, spacing)), shape)
        for shape in sorted(shapes)
    ]
    return max(found, key=lambda check: float(check.value))


def _spacing_check(spacing: float, ranges: Mapping[str, Sequence[float]]) -> Check:
    """The stated spacing of crops against the training set, by the same rule as a series' spacing."""
    low, high = ranges.get("pixel_spacing_mm", (spacing, spacing))
    result: Literal["pass", "warn", "fail"] = "pass"
    if not low <= spacing <= high:
        result = "fail" if spacing > ct_checks.COARSER_FAIL * high else "warn"
    message = f"pixel spacing {spacing:g} mm; the model was trained with {low:g} to {high:g} mm"
    return Check("pixel_spacing_mm", result, message, spacing, [low, high])
