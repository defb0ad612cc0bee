"""``/api/v1/assessments``: readers' verdicts on findings, as a list, as a table for other programs, and how often they agree."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast, get_args

from flask import Blueprint, Response, g

from service.http import analyses, bodies
from service.http.context import json_body, moment, query, service, whole
from service.inference import routing
from service.pipeline import body
from service.pipeline.request import invalid
from service.store import agreement
from service.store.agreement import VERDICTS
from service.store.assessments import FILTERS, Judged
from service.store.rows import Analysis

blueprint = Blueprint("assessments", __name__, url_prefix="/api/v1")
blueprint.url_value_preprocessor(analyses.note)

PAGE = 50
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
LONGEST = {"value": 256, "reason": 2000, "reader": 64}
"""Characters of the texts that come with a verdict."""
CORRECTIONS = {routing.NODULE: ("not_a_nodule",), routing.RETINA: ()}
"""What a finding may be corrected to, by the model's task, beside the model's classes."""
COLUMNS = (
    "id", "created", "analysis", "study", "model", "version", "finding", "finding_origin", "outcome", "label", "answered",
    "probabilities", "decision", "grade", "verdict", "value", "reason", "reader", "account", "current",
)  # fmt: skip
"""Of the table."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""A spreadsheet takes a cell that begins so for a formula; the last four are the first four in full width."""


@blueprint.post("/analyses/<analysis>/assessment")
def assess(analysis: str) -> Response:
    """Store a reader's verdict on a finding; answers with the analysis."""
    query(())
    sent = json_body(64 << 10)
    if not isinstance(sent, dict) or set(sent) - {"finding", "verdict", *LONGEST}:
        raise invalid(
            "assessment", "must be a JSON object with finding, verdict and, if wanted, value, reason and reader"
        )
    stored = service().store.get(analysis)
    findings = {f["id"]: f for f in (stored.result or {}).get("findings", [])}
    if sent.get("finding") not in list(findings):
        raise invalid("finding", f"must be a finding of this analysis: {', '.join(findings) or 'it has none'}")
    if sent.get("verdict") not in VERDICTS:
        raise invalid("verdict", f"must be one of {', '.join(VERDICTS)}")
    texts = {name: _text(sent, name, longest) for name, longest in LONGEST.items()}
    if texts["reader"] is not None and not (texts["reader"].strip() and texts["reader"].isprintable()):
        raise invalid("reader", "must be a name of 1 to 64 printable characters")
    allowed = _corrections(stored, findings[sent["finding"]])
    if sent["verdict"] == "modified" and texts["value"] is not None and allowed and texts["value"] not in allowed:
        raise invalid("value", f"of a correction must be one of {', '.join(allowed)}")
    service().store.assessments.add(analysis, sent["finding"], sent["verdict"], **texts, account=g.get("account"))
    service().revisions.judged(analysis)
    return _json(bodies.full(service().store.get(analysis)))


def _text(sent: Mapping[str, Any], name: str, longest: int) -> str | None:
    text = sent.get(name)
    if text is not None and not (isinstance(text, str) and len(text) <= longest):
        raise invalid(name, f"must be a text of at most {longest} characters")
    if text is not None and _UNSTORABLE.search(text):
        raise invalid(name, "must not contain U+0000 or half of a surrogate pair")
    return text


def _corrections(stored: Analysis, finding: Mapping[str, Any]) -> tuple[str, ...]:
    """What a finding may be corrected to; empty where anything goes, as the model is not known here."""
    bundle = service().pipeline.bundles.get(stored.model)
    if bundle is None or bundle.task not in CORRECTIONS:
        return ()
    return (*finding["probabilities"], *CORRECTIONS[bundle.task])


@blueprint.get("/assessments")
def index() -> Response:
    """Verdicts with what they are about, newest first, in pages."""
    asked = query((*FILTERS, "since", "until", "cursor", "limit"))
    limit = whole(asked, "limit", PAGE, 1, 500)
    try:
        found, following = service().store.assessments.page(*_filters(asked), asked.get("cursor"), limit)
    except ValueError:
        raise invalid("cursor", "is none that this service gave out") from None
    return _json({"assessments": [_entry(one) for one in found], "next": following})


@blueprint.get("/assessments.csv")
def table() -> Response:
    """All verdicts as a table (RFC 4180), newest first."""
    asked = query((*FILTERS, "since", "until"))
    rows = (_entry(one) for one in service().store.assessments.every(*_filters(asked)))
    response = Response(_lines(rows), content_type="text/csv; charset=utf-8; header=present")
    response.headers["Content-Disposition"] = 'attachment; filename="assessments.csv"'
    return response


@blueprint.get("/assessments/agreement")
def agree() -> Response:
    """How far readers agree with each model, over time and by what the model decided."""
    asked = query(("by", "model", "since", "until"))
    by = asked.get("by", "month")
    if by not in get_args(agreement.Period):
        raise invalid("by", f"must be one of {', '.join(get_args(agreement.Period))}")
    among = (asked.get("model"), moment(asked, "since"), moment(asked, "until"))
    models = service().store.assessments.agreement(cast(agreement.Period, by), *among)
    unassessed = service().store.assessments.unassessed(*among)
    return _json({"by": by, "models": [_model(one) for one in models], "unassessed": unassessed})


def _filters(asked: Mapping[str, str]) -> tuple[dict[str, str], str | None, str | None]:
    filters = {name: asked[name] for name in FILTERS if name in asked}
    if filters.get("verdict", VERDICTS[0]) not in VERDICTS:
        raise invalid("verdict", f"must be one of {', '.join(VERDICTS)}")
    return filters, moment(asked, "since"), moment(asked, "until")


def _entry(one: Judged) -> dict[str, Any]:
    finding = one.finding
    return {
        **body.assessment(one.assessment),
        "current": one.current,
        "analysis": one.assessment.analysis,
        "study": one.study,
        "outcome": one.outcome,
        "label": finding.get("label"),
        "answered": one.assessment.answered,
        "probabilities": finding.get("probabilities"),
        "decision": one.assessment.decision,
        "grade": finding.get("grade"),
        "finding_origin": finding.get("location", {}).get("origin"),
    }


def _lines(entries: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of a table: RFC 4180, with no cell that a spreadsheet would compute."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)  # commas, quotes where needed, CRLF
    writer.writerow(COLUMNS)
    for entry in entries:
        writer.writerow(cell(entry[name]) for name in COLUMNS)
        if buffer.tell() > 32 << 10:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def cell(value: Any) -> str:
    """A value in a table: empty for None, JSON where it is no text; before what looks like a formula stands an apostrophe."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _tally(tally: agreement.Tally) -> dict[str, Any]:
    """Counts, and a share that never goes without its n and interval."""
    return {
        "n": tally.n,
        "accepted": tally.accepted,
        "modified": tally.modified,
        "rejected": tally.rejected,
        "agreement": tally.agreement,
        "interval": tally.interval,
    }


def _model(one: agreement.ModelAgreement) -> dict[str, Any]:
    return {
        "name": one.name,
        "version": one.version,
        **_tally(one.whole),
        "periods": [{"start": start.isoformat(), **_tally(tally)} for start, tally in one.periods.items()],
        "by_decision": {decision: _tally(tally) for decision, tally in one.by_decision.items()},
        "corrections": [
            {"answered": answered, "corrected": corrected, "n": n}
            for (answered, corrected), n in one.corrections.items()
        ],
    }


def _json(content: Any) -> Response:
    return Response(json.dumps(content), content_type="application/json")
