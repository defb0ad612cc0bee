"""``/api/v1/worklist``: studies and photographs with what was answered, the latest event first; made to be polled."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response

from service.http.context import moment, query, service, whole
from service.http.dicomweb import caching
from service.pipeline.request import invalid
from service.store import worklist
from service.store.worklist import Entry, ListedAnalysis, Wanted

blueprint = Blueprint("worklist", __name__, url_prefix="/api/v1/worklist")

PAGE, LONGEST_PAGE = 50, 200
STATUSES = (*worklist.STATUSES, worklist.ARRIVING, worklist.NONE)
OUTCOMES = ("positive", "negative", "graded", "ungradable", "out_of_scope", "no_region")
JUST_BEGUN = "more of it may come"
EXACT = ("status", "outcome", "model", "modality")


@blueprint.get("")
def index() -> Response:
    """One page; 304 when nothing of it has changed."""
    asked = query(("q", *EXACT, "since", "until", "cursor", "limit"))
    limit = whole(asked, "limit", PAGE, 1, LONGEST_PAGE)
    store = service().store
    try:
        entries, following = store.worklist.page(_wanted(asked), asked.get("cursor"), limit)
    except ValueError:
        raise invalid("cursor", "is none that this service gave out") from None
    counts = store.counts()
    body = json.dumps(
        {
            "studies": [_study(one) for one in entries],
            "next": following,
            "counts": {status: counts.get(status, 0) for status in worklist.STATUSES},
        }
    )
    response = Response(body, content_type="application/json")
    caching.private(response, body)
    return response


def _wanted(asked: dict[str, str]) -> Wanted:
    for name, known in (("status", STATUSES), ("outcome", OUTCOMES)):
        if name in asked and asked[name] not in known:
            raise invalid(name, f"must be one of {', '.join(known)}")
    words = worklist.words(asked.get("q", ""))
    if len(asked.get("q", "")) > worklist.LONGEST_SEARCH or len(words) > worklist.MOST_WORDS:
        raise invalid("q", f"must have at most {worklist.MOST_WORDS} words and {worklist.LONGEST_SEARCH} characters")
    exact = {name: asked[name] for name in EXACT if name in asked}
    return Wanted(words, since=moment(asked, "since"), until=moment(asked, "until"), **exact)


def _study(one: Entry) -> dict[str, Any]:
    return {
        "study": one.study,
        "key": one.key,
        "patient": {"name": one.name, "id": one.patient, "birth_date": one.birth_date, "sex": one.sex},
        "study_date": one.study_date,
        "study_time": one.study_time,
        "description": one.description,
        "accession": one.accession,
        "modalities": sorted({series.modality for series in one.series if series.modality}),
        "series": [asdict(series) for series in one.series],
        "changed": one.changed,
        "arriving": [{**asdict(series), "waiting_for": series.waiting_for or JUST_BEGUN} for series in one.arriving],
        "analyses": [_analysis(analysis) for analysis in one.analyses],
    }


def _analysis(one: ListedAnalysis) -> dict[str, Any]:
    answer, error = one.answer, one.error
    return {
        "id": one.id,
        "status": one.status,
        "stage": service().queue.stage(one.id) if one.status == "running" else None,
        "outcome": one.outcome,
        "created": one.created,
        "model": {"name": one.model, "version": answer.get("version")},
        "series": one.series,
        "laterality": answer.get("laterality", ""),
        "findings": answer.get("findings", 0),
        "positive": answer.get("positive", 0),
        "top": answer.get("top"),
        "gradable": answer.get("gradable"),
        "error": {name: error.get(name) for name in ("title", "detail", "status")} if error else None,
        "assessed": one.assessed,
        "rejected": one.rejected,
        "supersedes": one.supersedes,
        "superseded_by": one.superseded_by,
        "files": one.files,
    }
