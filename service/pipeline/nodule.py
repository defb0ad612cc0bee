"""A nodule as the network sees it, whatever it was cut out of, and what the network says about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from models.bundle import Bundle, BundleError
from models.cases import mean_feature
from models.preprocessing import ALL, Box, Range, nodule_box, scaled_window
from service import uids
from service.intake.sandbox import Sandbox
from service.pipeline import body
from service.pipeline.work import Case
from service.records import Check, Finding, Instance, Outcome, Region, ResponseMap

Result = Literal["positive", "negative", "out_of_scope", "no_region"]

DISPLAY_PX = 384
"""Side of the picture below the maps."""


@dataclass(frozen=True)
class Nodule:
    """One nodule as the network sees it, slice by slice."""

    id: str
    place: str
    """What tells it apart from other nodules in the same images."""
    windows: np.ndarray
    """float32, shape (S, 1, H, W)."""
    backgrounds: np.ndarray
    """uint8, shape (S, h, w)."""
    boxes: tuple[Box, ...]
    sources: tuple[str, ...]
    centre_slice: int
    """Index, among these slices, of the one with the centre."""
    center_mm: tuple[float, float, float] | None = None
    region: Region | None = None


def answer(case: Case, nodule: Nodule) -> Finding:
    """Run the network and describe what it says about one nodule."""
    bundle, request = case.bundle, case.work.request
    if bundle.description["aggregation"]["slices"] != "mean":
        raise BundleError(f"model bundle {bundle.name}: aggregation.slices must be mean; this service knows no other")
    kinds = body.map_kinds(request, bundle.classes)
    with case.watch("model"):
        outputs = ["probabilities", "features", *(["response_maps"] if kinds else [])]
        answer = case.tools.engine.run(bundle, nodule.windows, outputs)
    per_slice = answer["probabilities"].astype(np.float64)
    mean = per_slice.mean(axis=0)
    probabilities = dict(zip(bundle.classes, mean.tolist(), strict=True))
    maps, evidence = None, body.no_evidence()
    if kinds:
        with case.watch("maps"):
            maps = _maps(bundle, nodule, answer["response_maps"], mean)
            evidence = body.evidence(maps, nodule.id, kinds)
    return Finding(
        nodule.id,
        {
            "id": nodule.id,
            "tracking_uid": _tracking(bundle, nodule),
            "label": body.label(bundle, int(mean.argmax())),
            "probabilities": probabilities,
            "operating_point": body.decision(bundle.operating_point(request.operating_point), probabilities),
            "location": {
                "sop_instance_uid": nodule.sources[nodule.centre_slice],
                "center_mm": None if nodule.center_mm is None else list(nodule.center_mm),
                "diameter_mm": nodule.region.diameter_mm if nodule.region else None,
                "box_px": list(nodule.boxes[nodule.centre_slice]),
                "origin": nodule.region.origin if nodule.region else "request",
            },
            "slices": [
                {"sop_instance_uid": uid, "probabilities": dict(zip(bundle.classes, row.tolist(), strict=True))}
                for uid, row in zip(nodule.sources, per_slice, strict=True)
            ],
            "evidence": evidence,
        },
        maps,
        nodule.region,
        mean_feature(answer["features"]),
    )


def _tracking(bundle: Bundle, nodule: Nodule) -> str:
    """The tracking UID that another system gave the nodule, or one of ours."""
    theirs = nodule.region.tracking_uid if nodule.region else ""
    return theirs or uids.tracking(nodule.sources, bundle.sha256, nodule.place)


def _maps(bundle: Bundle, nodule: Nodule, response: np.ndarray, probabilities: np.ndarray) -> ResponseMap:
    described = bundle.description["response_maps"]
    return ResponseMap(
        response=response,
        background=nodule.backgrounds,
        classes=bundle.classes,
        box_px=np.array(nodule.boxes, np.float64),
        sources=nodule.sources,
        probabilities=probabilities,
        rule=described["rule"],
        start=described["start"],
        reference=float(described["reference"]),
        peak_slice=body.peak_slice(response),
    )


def display(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Grey values of a display window, uint8."""
    low, high = window
    return np.asarray(np.clip((values - low) / max(high - low, 1e-6), 0, 1) * 255 + 0.5, np.uint8)


def ranges(bundle: Bundle) -> Mapping[str, Sequence[float]]:
    """Ranges of the training set, by quantity."""
    return bundle.description["input"].get("ranges", {})  # type: ignore[no-any-return]


def window_box(bundle: Bundle, center: tuple[float, float], spacing: tuple[float, float]) -> Box:
    """Field of view of the model round a centre (column, row), in pixels of the slice."""
    step = bundle.step("nodule_window")
    return nodule_box(center, spacing, size_px=step["size_px"], scale_mm=step["scale_mm"])


def window(bundle: Bundle, image: np.ndarray, box: Box, *, hounsfield: bool) -> np.ndarray:
    """The model's input for one slice, float32, shape (1, H, W).

    Parameters
    ----------
    bundle : Bundle
    image : ndarray, shape (rows, columns)
        Hounsfield units, or any linear grey scale.
    box : (x0, y0, x1, y1)
        `window_box` of the nodule's centre.
    hounsfield : bool
        Whether padding and metal can be told by their values, and are taken out.
    """
    step = bundle.step("nodule_window")
    valid = hu_range(bundle) if hounsfield else ALL
    return scaled_window(image, box, size_px=step["size_px"], range_px=step.get("range_px"), valid=valid)


def crop(sandbox: Sandbox, instance: Instance) -> np.ndarray:
    """A grey crop in its own depth: that of 8 bits was scaled to 0..255 (`models.preprocessing.grey_range`)."""
    image = sandbox.grey(instance)
    return image.astype(np.uint8) if instance.bits == 8 else image


def hu_range(bundle: Bundle) -> Range:
    """Hounsfield units that show the patient (step ``hu_range``); all of them where the bundle names no such step."""
    for entry in bundle.description["input"]["preprocessing"]:
        if entry["step"] == "hu_range":
            return float(entry["parameters"]["low_hu"]), float(entry["parameters"]["high_hu"])
    return ALL


def failures(checks: Sequence[Check]) -> str:
    """What the failed checks say."""
    return "; ".join(check.message for check in checks if check.result == "fail")


def sign(findings: Sequence[Finding]) -> Result:
    """The outcome that findings amount to."""
    return "positive" if any(f.body["operating_point"]["decision"] == "positive" for f in findings) else "negative"


def outcome(
    case: Case,
    result: Result,
    instances: Sequence[Instance],
    checks: Sequence[Check],
    findings: Sequence[Finding] = (),
    warnings: Sequence[str] = (),
) -> Outcome:
    """The outcome with its input and quality parts."""
    return Outcome(
        outcome=result,
        model=case.bundle.name,
        input=body.input_part(instances, checks=checks),
        quality=body.quality_of_checks(checks),
        findings=tuple(findings),
        warnings=tuple(warnings),
        timing_ms=case.watch.ms,
    )
