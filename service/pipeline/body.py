"""The Analysis body of the HTTP contract, piece by piece; the stages fill it and every entrance shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from models.bundle import Bundle, OperatingPoint
from service import uids
from service.maps import clear
from service.pipeline.request import MAPS
from service.records import Check, Instance, Outcome, Quality, Request, ResponseMap
from service.store.analyses import Store
from service.store.assessments import Assessment
from service.store.deliveries import CALLBACK, Delivery
from service.store.rows import Analysis

DISCLAIMER = "Research use only. Not a medical device; not for primary diagnosis."

MEETS = {"value": "111237", "scheme": "DCM", "meaning": "Usable - meets the quality control standard"}
BELOW = {"value": "111236", "scheme": "DCM", "meaning": "Usable - does not meet the quality control standard"}
UNUSABLE = {"value": "111235", "scheme": "DCM", "meaning": "Unusable - quality renders image unusable"}
"""Image quality (111101, DCM): DICOM PS3.16 annex D."""


def model(bundle: Bundle) -> dict[str, Any]:
    """Which model answered."""
    return {
        "name": bundle.name,
        "version": bundle.version,
        "sha256": bundle.sha256,
        "device_uid": uids.device(bundle.sha256),
        "card": f"/v2/models/{bundle.name}/card",
    }


def input_part(
    instances: Sequence[Instance],
    laterality: str = "",
    checks: Sequence[Check] = (),
    source: str | None = None,
    confidence: float | None = None,
) -> dict[str, Any]:
    """What was looked at, in stack order, and how it passed the input checks; `source` and `confidence` of the laterality."""
    first = instances[0]
    return {
        "study": first.study_uid,
        "series": first.series_uid,
        "modality": first.modality,
        "instances": [instance.key for instance in instances],
        "laterality": laterality,
        "laterality_source": source,
        "laterality_confidence": confidence,
        "checks": [asdict(check) for check in checks],
    }


def quality(verdict: Quality) -> dict[str, Any]:
    """The quality gate's verdict with its DICOM code."""
    code = UNUSABLE if not verdict.gradable else BELOW if verdict.reasons else MEETS
    return {
        "gradable": verdict.gradable,
        "score": verdict.score,
        "code": dict(code),
        "reasons": [dict(r) for r in verdict.reasons],
    }


def quality_of_checks(checks: Sequence[Check]) -> dict[str, Any]:
    """The verdict that input checks amount to: `score` is the share that passed."""
    reasons = tuple(
        {
            "code": check.id,
            "message": check.message,
            "retake": "Send a series that keeps this limit.",
        }
        for check in checks
        if check.result != "pass"
    )
    score = sum(check.result == "pass" for check in checks) / len(checks) if checks else 1.0
    return quality(Quality(not failed(checks), score, reasons))


def failed(checks: Sequence[Check]) -> bool:
    """Whether any check failed: the input is then out of scope."""
    return any(check.result == "fail" for check in checks)


def decision(point: OperatingPoint, probabilities: Mapping[str, float]) -> dict[str, Any]:
    """An operating point and what it decides."""
    p = dict(probabilities)
    return {
        "name": point.name,
        "threshold": point.threshold,
        "sensitivity": point.sensitivity,
        "specificity": point.specificity,
        "n": point.n,
        "data_set": point.data_set,
        "score": point.score(p),
        "decision": "positive" if point.decide(p) else "negative",
    }


def label(bundle: Bundle, index: int) -> str:
    """Name of a class for people."""
    return str(bundle.description["classes"][index]["label"])


def map_kinds(request: Request, classes: Sequence[str]) -> tuple[str, ...]:
    """Kinds of map that were asked for."""
    prefixes = {"clear": "clear", "class": clear.CLASS_PREFIX, "two_sided": "two-sided"}
    wanted = tuple(prefixes[name] for name in MAPS if name in request.maps)
    return tuple(kind for kind in clear.kinds(classes) if wanted and kind.startswith(wanted))


def evidence(maps: ResponseMap, finding: str, kinds: Sequence[str]) -> dict[str, Any]:
    """Numbers about a finding's maps and where to get the pictures.

    The addresses are relative; an entrance puts its own place before them. `scale` holds the response that is drawn at full
    strength: the largest of this finding, and the bundle's reference. `peak_px` is (column, row) of the largest dominant
    response in pixels of the image `peak_sop_instance_uid`, null where nothing is positive.
    """
    _, strength = clear.dominant(maps.response[maps.peak_slice])
    peak = None
    if strength.max() > 0:
        row, column = np.unravel_index(int(strength.argmax()), strength.shape)
        x0, y0, x1, y1 = maps.box_px[maps.peak_slice]
        height, width = strength.shape
        peak = [
            float(x0 + (column + 0.5) / width * (x1 - x0) - 0.5),
            float(y0 + (row + 0.5) / height * (y1 - y0) - 0.5),
        ]
    return {
        "maps": {kind: f"maps/{finding}/{kind}.png" for kind in kinds},
        "dominant_class_share": clear.dominant_share(maps.response, maps.classes),
        "class_correlation": clear.class_correlation(maps.response),
        "rule": maps.rule,
        "start": maps.start,
        "scale": {"per_image": clear.scale_per_image(maps.response), "per_model": maps.reference},
        "peak_px": peak,
        "peak_sop_instance_uid": maps.sources[maps.peak_slice],
        "peak_slice": maps.peak_slice,
    }


def peak_slice(response: np.ndarray) -> int:
    """Slice with the largest dominant response, of shape (S, N, H, W)."""
    return int(response.max(axis=(1, 2, 3)).argmax())


def no_evidence() -> dict[str, Any]:
    """Evidence of a finding whose maps were not asked for."""
    return {"maps": {}, "dominant_class_share": {}, "scale": None, "peak_px": None}


def result(outcome: Outcome, bundle: Bundle, warnings: Sequence[str]) -> dict[str, Any]:
    """The part of the body that is known when an analysis is completed."""
    return {
        "outcome": outcome.outcome,
        "timing_ms": {stage: round(ms, 1) for stage, ms in outcome.timing_ms.items()},
        "model": model(bundle),
        "input": outcome.input,
        "quality": outcome.quality,
        "findings": [finding.body for finding in outcome.findings],
        "objects": [],
        "delivery": [],
        "warnings": [*warnings, *outcome.warnings],
        "disclaimer": DISCLAIMER,
    }


# -- a stored analysis ------------------------------------------------------------------------------------------------------

PREFIX = "/api/v1/analyses"
_OWN = ("outcome", "findings", "objects", "delivery", "regions")
"""Keys of a stored result that are shown in another form or not at all."""


def full(store: Store, bundles: Mapping[str, Bundle], analysis: Analysis) -> dict[str, Any]:
    """The Analysis body of a stored analysis; before the end its result parts are empty."""
    stored = analysis.result or _pending(store, bundles, analysis)
    whole = {
        "id": analysis.id,
        "status": analysis.status,
        "outcome": stored["outcome"],
        "created": analysis.created,
        "supersedes": analysis.supersedes,
        "superseded_by": analysis.superseded_by,
        "revision": analysis.revision,
        **{name: value for name, value in stored.items() if name not in _OWN},
        "findings": [_with_addresses(analysis.id, finding) for finding in stored["findings"]],
        "objects": [{**made, "href": f"{PREFIX}/{analysis.id}/{made['href']}"} for made in stored["objects"]],
        "delivery": [delivery(one) for one in store.deliveries.of_analysis(analysis.id)],
        "assessments": [assessment(one) for one in store.assessments.of_analysis(analysis.id)],
    }
    if analysis.error is not None:
        whole["error"] = analysis.error
    if whole["assessments"] and (told := store.revisions.known(analysis.id).problem):
        whole["warnings"] = [*whole["warnings"], told]
    return whole


def delivery(one: Delivery) -> dict[str, Any]:
    """One delivery of the HTTP contract."""
    return {
        "id": one.id,
        "destination": one.destination,
        "object": None if one.kind == CALLBACK else one.sop_instance_uid,
        "kind": one.kind,
        "state": one.state,
        "attempts": one.attempts,
        "last_error": one.last_error or None,
        "due": one.due if one.state == "waiting" else None,
        "changed": one.changed,
    }


def assessment(one: Assessment) -> dict[str, Any]:
    """One verdict of the HTTP contract."""
    names = ("id", "finding", "verdict", "value", "reason", "reader", "account", "created", "model", "version")
    return {name: getattr(one, name) for name in names}


def _pending(store: Store, bundles: Mapping[str, Bundle], analysis: Analysis) -> dict[str, Any]:
    bundle = bundles.get(analysis.model)
    return {
        "outcome": None,
        "timing_ms": {},
        "model": model(bundle) if bundle else {"name": analysis.model},
        "input": input_part(store.instances(analysis.id)),
        "quality": None,
        "findings": [],
        "objects": [],
        "warnings": analysis.warnings,
        "disclaimer": DISCLAIMER,
    }


def _with_addresses(identity: str, finding: dict[str, Any]) -> dict[str, Any]:
    maps = {kind: f"{PREFIX}/{identity}/{place}" for kind, place in finding["evidence"]["maps"].items()}
    return {**finding, "evidence": {**finding["evidence"], "maps": maps}}
