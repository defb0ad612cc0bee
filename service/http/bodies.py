"""Stored analyses as the bodies of the HTTP contract."""

from __future__ import annotations

from typing import Any

from service.http.context import service
from service.pipeline import body
from service.store.rows import Analysis

PREFIX = "/api/v1/analyses"


def full(analysis: Analysis) -> dict[str, Any]:
    """The Analysis body; before the end its result parts are empty."""
    result = analysis.result or _pending(analysis)
    findings = [_with_addresses(analysis.id, finding) for finding in result["findings"]]
    whole = {
        "id": analysis.id,
        "status": analysis.status,
        "outcome": result["outcome"],
        "created": analysis.created,
        **{name: value for name, value in result.items() if name not in ("outcome", "findings")},
        "findings": findings,
        "assessments": service().store.assessments(analysis.id),
    }
    if analysis.error is not None:
        whole["error"] = analysis.error
    return whole


def _pending(analysis: Analysis) -> dict[str, Any]:
    bundle = service().pipeline.bundles.get(analysis.model)
    instances = service().store.instances(analysis.id)
    return {
        "outcome": None,
        "timing_ms": {},
        "model": body.model(bundle) if bundle else {"name": analysis.model},
        "input": body.input_part(instances),
        "quality": None,
        "findings": [],
        "objects": [],
        "delivery": [],
        "warnings": analysis.warnings,
        "disclaimer": body.DISCLAIMER,
    }


def _with_addresses(identity: str, finding: dict[str, Any]) -> dict[str, Any]:
    maps = {kind: f"{PREFIX}/{identity}/{place}" for kind, place in finding["evidence"]["maps"].items()}
    return {**finding, "evidence": {**finding["evidence"], "maps": maps}}


def summary(analysis: Analysis) -> dict[str, Any]:
    """One row of the list."""
    result = analysis.result or {}
    return {
        "id": analysis.id,
        "href": f"{PREFIX}/{analysis.id}",
        "status": analysis.status,
        "outcome": result.get("outcome"),
        "created": analysis.created,
        "model": {"name": analysis.model, "version": result.get("model", {}).get("version")},
        "input": {
            "study": analysis.study,
            "series": analysis.series,
            "modality": analysis.modality,
            "laterality": result.get("input", {}).get("laterality", ""),
        },
        "findings": [{"id": f["id"], "label": f["label"]} for f in result.get("findings", [])],
    }
