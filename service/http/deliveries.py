"""``/api/v1/deliveries``: what is on its way to which destination, what was set aside, and sending it again.

``/api/v1/series``: series that came through the DICOM doors, and what each waits for. ``/api/v1/rejected``: what came and could
not be filed.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from flask import Blueprint, Response

from service.http.context import json_body, query, service, whole
from service.pipeline import body
from service.pipeline.request import invalid
from service.store.deliveries import STATES, Delivery

blueprint = Blueprint("deliveries", __name__, url_prefix="/api/v1")

PAGE = 100
FILTERS = ("destination", "state", "analysis")


@blueprint.get("/deliveries")
def index() -> Response:
    """Deliveries, the latest change first."""
    asked = query((*FILTERS, "limit"))
    if asked.get("state", STATES[0]) not in STATES:
        raise invalid("state", f"must be one of {', '.join(STATES)}")
    filters = {name: asked[name] for name in FILTERS if name in asked}
    found = service().store.deliveries.page(filters, whole(asked, "limit", PAGE, 1, 1000))
    return _json({"deliveries": [_shown(one) for one in found]})


@blueprint.post("/deliveries/<delivery>/replay")
def replay(delivery: str) -> Response:
    """Send one delivery again that was set aside or sent."""
    one = service().store.deliveries.get(delivery)
    return _replayed([one])


@blueprint.post("/deliveries/replay")
def replay_some() -> Response:
    """Send again all that was set aside, of one destination or of all: {"destination": name} or {}."""
    asked = json_body(4096)
    if not isinstance(asked, dict) or set(asked) - {"destination"}:
        raise invalid("body", 'must be {} or {"destination": name}')
    filters = {"state": "dead"}
    if "destination" in asked:
        filters["destination"] = str(asked["destination"])
    return _replayed(service().store.deliveries.page(filters, 10_000))


@blueprint.get("/rejected")
def rejected() -> Response:
    """What was acknowledged and could not be filed: another instance with its UID is here already."""
    query(())
    return _json({"rejected": service().store.rejected()})


def _replayed(deliveries: list[Delivery]) -> Response:
    count = service().sending.replay(deliveries)
    service().queue.wake()
    return _json({"waiting": count}, 202)


@blueprint.get("/series")
def series() -> Response:
    """Open series with what each waits for."""
    query(())
    return _json({"series": [asdict(one) for one in service().store.series.waiting()]})


def _shown(one: Delivery) -> dict[str, object]:
    return {**body.delivery(one), "analysis": one.analysis, "created": one.created}


def _json(content: object, status: int = 200) -> Response:
    return Response(json.dumps(content), status, content_type="application/json")
