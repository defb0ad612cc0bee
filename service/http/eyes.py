"""``/api/v1/studies/<study>/eyes``: both eyes of a patient in one summary."""

from __future__ import annotations

import json

from flask import Blueprint, Response

from service.errors import Conflict, NotFound
from service.http.context import query, service
from service.http.dicomweb import caching
from service.inference import routing
from service.pipeline import eyes
from service.store.rows import Analysis

blueprint = Blueprint("eyes", __name__, url_prefix="/api/v1/studies")

_PAGE = 500


@blueprint.get("/<study>/eyes")
def show(study: str) -> Response:
    """The summary as the analyses and verdicts are now; 304 when nothing of it has changed."""
    query(())
    store, bundles = service().store, service().pipeline.bundles
    models = [bundle for bundle in bundles.values() if bundle.task == routing.RETINA]
    found = [row for bundle in models for row in _analyses(study, bundle.name)]
    if not found:
        raise NotFound("no photograph of the retina of this study was analysed; GET /api/v1/worklist lists the studies")
    if len({row.patient for row in found} - {""}) > 1:
        raise Conflict("the photographs of this study name several patients: no summary is made of them")
    found.sort(key=lambda row: (row.created, row.id), reverse=True)
    verdicts = {row.id: store.assessments.latest(row.id) for row in found if row.result is not None}
    unanswered = {row.id: image.key for row in found if row.result is None for image in store.instances(row.id)}
    labels = {str(c["name"]): str(c["label"]) for bundle in models for c in bundle.description["classes"]}
    body = json.dumps(eyes.summary(study, found, verdicts, labels, unanswered))
    return caching.private(Response(body, content_type="application/json"), body)


def _analyses(study: str, model: str) -> list[Analysis]:
    found: list[Analysis] = []
    cursor = None
    while True:
        rows, cursor = service().store.page({"study": study, "model": model}, None, cursor, _PAGE)
        found += rows
        if cursor is None:
            return found
