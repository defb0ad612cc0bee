"""Subscribe, Unsubscribe, Suspend, and the event reports as server-sent events (DICOM PS3.18 11.10 to 11.13)."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

from flask import Blueprint, Response, request

from service.config import AE_TITLE
from service.errors import Busy
from service.http.context import service, waiting
from service.http.dicomweb import negotiate
from service.http.workitems import search
from service.http.workitems.errors import Refused, warn
from service.http.workitems.transactions import worklist
from service.pipeline.queue import Queue
from service.store.search import Criterion
from service.store.subscriptions import FILTERED, GLOBAL, Subscriptions, attribute

blueprint = Blueprint("subscribers", __name__)

POLL_S, KEEP_ALIVE_S = 0.5, 15.0
_AE = re.compile(AE_TITLE)
_MESSAGES = 1 << 16


def _ae(text: str) -> str:
    if not _AE.fullmatch(text):
        raise Refused("the path must name an AE title of 1 to 16 characters")
    return text


@blueprint.post("/workitems/<uid>/subscribers/<aetitle>")
def subscribe(uid: str, aetitle: str) -> Response:
    """Have an AE told of a work item, of all, or of all that match."""
    subscriber = _ae(aetitle)
    lock = request.args.get("deletionlock", "false").lower()
    if lock not in ("true", "false"):
        raise Refused("query: deletionlock must be true or false")
    keys: list[Criterion] = []
    if uid == FILTERED:
        keys, ignored = search.keys(("deletionlock", "filter", "accept", "charset"))
        pairs = ",".join(request.args.getlist("filter"))
        keys += [search.pair(one) for one in pairs.split(",") if one.strip()]
        if ignored or not keys:
            raise Refused("query: a filtered subscription needs filter=attribute=value, with attributes that are known")
    worklist().subscriptions.subscribe(uid, subscriber, lock == "true", keys)
    response = Response(status=201)
    response.headers["Content-Location"] = f"{negotiate.root()}/subscribers/{subscriber.replace(' ', '%20')}/events"
    return warn(response, "Event reports are given as server-sent events at Content-Location, not over a WebSocket.")


@blueprint.delete("/workitems/<uid>/subscribers/<aetitle>")
def unsubscribe(uid: str, aetitle: str) -> Response:
    """End a subscription."""
    worklist().subscriptions.unsubscribe(uid, _ae(aetitle))
    return Response(status=200)


@blueprint.post("/workitems/<uid>/subscribers/<aetitle>/suspend")
def suspend(uid: str, aetitle: str) -> Response:
    """No longer subscribe an AE to new work items."""
    if uid not in GLOBAL:
        raise Refused("only a subscription to the worklist can be suspended; end the one to a work item with DELETE")
    worklist().subscriptions.suspend(uid, _ae(aetitle))
    return Response(status=200)


@blueprint.get("/subscribers/<aetitle>/events")
def events(aetitle: str) -> Response:
    """Event reports of the last day and all that come, each a server-sent event with its number as id."""
    subscriber = _ae(aetitle)
    last = request.headers.get("Last-Event-ID", "0")
    if not re.fullmatch(r"[0-9]{1,18}", last):
        raise Refused("Last-Event-ID must be the id of an event that was received")
    places = waiting()
    if not places.acquire(blocking=False):
        raise Busy("too many event streams are open; ask for the work item itself from time to time instead")
    stream = _stream(worklist().subscriptions, service().queue, subscriber, int(last))
    response = Response(stream, content_type="text/event-stream")
    response.call_on_close(places.release)
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _stream(subscriptions: Subscriptions, queue: Queue, subscriber: str, last: int) -> Iterator[str]:
    sent = time.monotonic()
    yield ": event reports\n\n"
    while queue.working:
        found = subscriptions.events(subscriber, last)
        for last, body in found:  # the next look begins behind the last one
            whole = dict(sorted({**body, **attribute("MessageID", last % _MESSAGES)}.items()))
            yield f"id: {last}\nevent: report\ndata: {json.dumps(whole)}\n\n"
        if found:
            sent = time.monotonic()
            continue
        if time.monotonic() - sent >= KEEP_ALIVE_S:
            sent = time.monotonic()
            yield ": still here\n\n"
        time.sleep(POLL_S)
