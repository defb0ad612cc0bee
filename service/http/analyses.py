"""``/api/v1/analyses``: send images, follow the analysis, fetch its maps, delete it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any, cast, get_args

from flask import Blueprint, Response, g, request, send_file

from service.errors import Busy, Conflict, NotFound
from service.http import bodies, problems, uploads
from service.http.context import json_body, moment, query, service, waiting, whole
from service.maps import arrays, render
from service.pipeline import again
from service.pipeline.queue import Queue
from service.pipeline.request import invalid
from service.store.analyses import FILTERS
from service.store.rows import Analysis

blueprint = Blueprint("analyses", __name__, url_prefix="/api/v1/analyses")

PAGE = 50
KEEP_ALIVE_S = 15.0
STATUSES = ("queued", "running", "completed", "failed")
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_ID = re.compile(r"[0-9a-f]{32}")


@blueprint.url_value_preprocessor
def note(endpoint: str | None, values: dict[str, Any] | None) -> None:
    """Keep the id for the log, when it is one of ours."""
    identity = (values or {}).get("analysis", "")
    if _ID.fullmatch(identity):
        g.analysis = identity


@blueprint.post("")
def create() -> Response:
    """Accept images, or the names of some that are here; answer with the result when it is there soon, else with its place."""
    query(())
    parts = service()
    parts.queue.check_room()
    parts.store.blobs.check_space(request.content_length or 0)
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise invalid("Idempotency-Key", "must be 1 to 255 printable ASCII characters without spaces")
    if request.mimetype == "application/json":
        return _answer(_again(again.read(json_body(uploads.REQUEST_BYTES)), key))
    with uploads.receive(parts.spool) as upload:
        fingerprint = upload.fingerprint() if key is not None else ""
        known = _known(key, fingerprint)
        if known is not None:
            return _answer(known)
        with parts.pipeline.prepare(upload.files, upload.request) as work:
            identity = parts.queue.submit(work, key, fingerprint)
    return _answer(identity)


def _again(asked: again.Asked, key: str | None) -> str:
    """Queue an analysis of images that are here; its id."""
    known = _known(key, asked.fingerprint)
    if known is not None:
        return known
    parts = service()
    ready = again.prepare(parts.store, parts.pipeline, asked)
    return parts.queue.submit(ready.work, key, asked.fingerprint, door=ready.door, supersedes=ready.supersedes)


def _known(key: str | None, fingerprint: str) -> str | None:
    """The analysis that this key made; Conflict when that was from other content."""
    known = service().store.by_key(key) if key is not None else None
    if known is not None and known[0] != fingerprint:
        raise Conflict("this Idempotency-Key was used with other content; take a new key for a new input")
    return known[1] if known is not None else None


def _answer(identity: str) -> Response:
    """Wait for the end as long as the sender and the settings want."""
    g.analysis = identity
    asynchronous = "respond-async" in request.headers.get("Prefer", "")
    analysis = _waited(identity, 0 if asynchronous else service().settings.sync_wait_s)
    place = f"{blueprint.url_prefix}/{identity}"
    if analysis.status == "failed" and analysis.error is not None:
        response = problems.respond(analysis.error)
        response.headers["Location"] = place
        return response
    response = _json(bodies.full(analysis), 200 if analysis.ended else 202)
    if not analysis.ended:
        response.headers["Location"] = place
        response.headers["Retry-After"] = "1"
    if asynchronous:
        response.headers["Preference-Applied"] = "respond-async"
    return response


def _waited(identity: str, seconds: float) -> Analysis:
    """The analysis at its end or after so many seconds; at once when too many others wait."""
    places = waiting()
    if not places.acquire(blocking=False):
        return service().queue.wait(identity, 0)
    try:
        return service().queue.wait(identity, seconds)
    finally:
        places.release()


@blueprint.get("")
def index() -> Response:
    """Analyses, newest first, in pages."""
    asked = query((*FILTERS, "since", "cursor", "limit"))
    filters = {name: asked[name] for name in FILTERS if name in asked}
    if "status" in filters and filters["status"] not in STATUSES:
        raise invalid("status", f"must be one of {', '.join(STATUSES)}")
    limit = whole(asked, "limit", PAGE, 1, 500)
    try:
        rows, following = service().store.page(filters, moment(asked, "since"), asked.get("cursor"), limit)
    except ValueError:
        raise invalid("cursor", "is none that this service gave out") from None
    return _json({"analyses": [bodies.summary(row) for row in rows], "next": following})


@blueprint.get("/<analysis>")
def show(analysis: str) -> Response:
    """One analysis."""
    return _json(bodies.full(service().store.get(analysis)))


@blueprint.delete("/<analysis>")
def remove(analysis: str) -> Response:
    """Delete the analysis with its maps, and its images unless another analysis uses them."""
    service().store.delete(analysis)
    return Response(status=204)


@blueprint.get("/<analysis>/events")
def events(analysis: str) -> Response:
    """Server-sent events: one ``status`` at every change, until the analysis ends."""
    service().store.get(analysis)
    places = waiting()
    if not places.acquire(blocking=False):
        raise Busy("too many event streams are open; ask for the analysis itself from time to time instead")
    response = Response(_stream(service().queue, analysis), content_type="text/event-stream")
    response.call_on_close(places.release)
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _stream(queue: Queue, identity: str) -> Iterator[str]:
    last, sent = None, time.monotonic()
    try:
        for analysis, stage in queue.follow(identity, KEEP_ALIVE_S):
            state = {"id": identity, "status": analysis.status, "stage": stage or None}
            if state != last:
                last, sent = state, time.monotonic()
                yield f"event: status\ndata: {json.dumps(state)}\n\n"
            elif time.monotonic() - sent >= KEEP_ALIVE_S:
                sent = time.monotonic()
                yield ": still here\n\n"
    except NotFound:
        yield f"event: status\ndata: {json.dumps({'id': identity, 'status': 'deleted', 'stage': None})}\n\n"


def _maps(analysis: str, finding: str, kind: str) -> tuple[Analysis, Any]:
    """The stored maps of a finding. NotFound when finding or kind is not part of the analysis."""
    stored = service().store.get(analysis)
    found = {f["id"]: f["evidence"]["maps"] for f in (stored.result or {}).get("findings", [])}
    if finding not in found:
        raise NotFound(f"this analysis has no such finding; it has {', '.join(found) or 'none'}")
    if kind not in found[finding]:
        raise NotFound(f"this finding has no such map; it has {', '.join(found[finding]) or 'none'}")
    return stored, arrays.load(service().store.maps_path(analysis, finding))


@blueprint.get("/<analysis>/maps/<finding>/<kind>.png")
def map_png(analysis: str, finding: str, kind: str) -> Response:
    """A response map as a picture."""
    asked = query(("overlay", "scale", "legend", "slice", "size"))
    scale = asked.get("scale", "per_image")
    if scale not in get_args(render.Scale):
        raise invalid("scale", f"must be one of {', '.join(get_args(render.Scale))}")
    if asked.get("legend", "0") not in ("0", "1"):
        raise invalid("legend", "must be 0 or 1")
    overlay = None
    if "overlay" in asked:
        try:
            overlay = float(asked["overlay"])
        except ValueError:
            raise invalid("overlay", "must be a number from 0 to 1") from None
        if not 0 <= overlay <= 1:
            raise invalid("overlay", "must be a number from 0 to 1", value=asked["overlay"][:32], limit=[0, 1])
    size = whole(asked, "size", 768, 64, 2048)
    stored, maps = _maps(analysis, finding, kind)
    place = whole(asked, "slice", 0, 0, len(maps.response) - 1) if "slice" in asked else None
    bundle = service().pipeline.bundles.get(stored.model)
    if bundle is None or bundle.classes != maps.classes:
        raise NotFound(f"the colours of model {stored.model} are no longer installed; the arrays are: ask for .npz")
    labels = [str(entry["label"]) for entry in bundle.description["classes"]]
    picture = render.png(
        maps,
        kind,
        bundle.colors,
        labels,
        overlay=overlay,
        scale=cast(render.Scale, scale),
        legend=asked.get("legend") == "1",
        slice_index=place,
        size=size,
    )
    return Response(picture, content_type="image/png")


@blueprint.get("/<analysis>/maps/<finding>/<kind>.npz")
def map_npz(analysis: str, finding: str, kind: str) -> Response:
    """A response map as arrays."""
    query(())
    response = Response(arrays.npz(_maps(analysis, finding, kind)[1], kind), content_type="application/x-npz")
    response.headers["Content-Disposition"] = f'attachment; filename="{kind}.npz"'
    return response


@blueprint.get("/<analysis>/objects/<kind>")
def dicom_object(analysis: str, kind: str) -> Response:
    """A DICOM object of the result, as a file."""
    query(())
    stored = service().store.get(analysis)
    made = {one["kind"]: one["sop_instance_uid"] for one in (stored.result or {}).get("objects", [])}
    if kind not in made:
        raise NotFound(f"this analysis has no such object; it has {', '.join(made) or 'none'}")
    instance = service().store.archive.by_uid(made[kind])
    response = send_file(instance.path, "application/dicom", as_attachment=True, download_name=f"{kind}.dcm")
    response.headers["Cache-Control"] = "no-store"
    return response


def _json(body: Any, status: int = 200) -> Response:
    return Response(json.dumps(body), status, content_type="application/json")
