"""Stored analyses as the bodies of the HTTP contract."""

from __future__ import annotations

from typing import Any

from service.http.context import service
from service.pipeline import body
from service.pipeline.body import PREFIX
from service.store.rows import Analysis


def full(analysis: Analysis) -> dict[str, Any]:
    """The Analysis body."""
    parts = service()
    return body.full(parts.store, parts.pipeline.bundles, analysis)


def summary(analysis: Analysis) -> dict[str, Any]:
    """One row of the list."""
    result = analysis.result or {}
    return {
        "id": analysis.id,
        "href": f"{PREFIX}/{analysis.id}",
        "status": analysis.status,
        "outcome": result.get("outcome"),
        "created": analysis.created,
        "superseded_by": analysis.superseded_by,
        "model": {"name": analysis.model, "version": result.get("model", {}).get("version")},
        "input": {
            "study": analysis.study,
            "series": analysis.series,
            "modality": analysis.modality,
            "laterality": result.get("input", {}).get("laterality", ""),
        },
        "findings": [{"id": f["id"], "label": f["label"]} for f in result.get("findings", [])],
    }
