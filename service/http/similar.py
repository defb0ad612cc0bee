"""``/api/v1/analyses/<id>/findings/<finding>/similar``: known cases with their truth that are most like a finding."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from service.http.context import query, service, whole
from service.http.findings import asked_for
from service.pipeline import similar

blueprint = Blueprint("similar", __name__, url_prefix="/api/v1/analyses/<analysis>/findings/<finding>")

K, MOST = 6, 50


@blueprint.get("/similar")
def cases(analysis: str, finding: str) -> Response:
    """The nearest known cases in the space of the network's last features."""
    k = whole(query(("k",)), "k", K, 1, MOST)
    bundle, store = asked_for(analysis, finding).bundle(), service().store
    patients = {instance.patient_id for instance in store.instances(analysis)} - {""}
    return jsonify(similar.answer(bundle, store.maps_path(analysis, finding), k, patients))
