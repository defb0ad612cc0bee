"""Create, Retrieve, Update, Change State, Request Cancellation (DICOM PS3.18 11.4 to 11.8)."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, request

from service.errors import NotFound
from service.http.context import service
from service.http.dicomweb import negotiate
from service.http.workitems import payload, rules
from service.http.workitems.errors import INCONSISTENT, MISSING, Inconsistent, Refused, warn
from service.store.moments import stamp
from service.store.search import tag
from service.store.subscriptions import CANCEL_REQUESTED, attribute, first, items, picked, report
from service.store.workitems import CANCELED, COMPLETED, IN_PROGRESS, PERFORMED, Workitem, Workitems

blueprint = Blueprint("transactions", __name__)

WORKLIST_LABEL = "Pellucid"
_TRANSACTION = tag("TransactionUID")
_NAMES = ("SOPInstanceUID", "AffectedSOPInstanceUID", "RequestedSOPInstanceUID")
_UID_LIKE = re.compile(r"[0-9.]+")


def worklist() -> Workitems:
    """The work items of the running service."""
    return service().store.workitems


def address(uid: str) -> str:
    """Where a work item is."""
    return f"{negotiate.root()}/workitems/{uid}"


@blueprint.post("/workitems")
def create() -> Response:
    """Add a work item to the worklist; its UID is in the query, in the data set, or is made here."""
    dataset = payload.dataset()
    uid = _named(dataset)
    payload.check_new(dataset)
    for keyword in (*_NAMES, "TransactionUID"):
        dataset.pop(tag(keyword), None)
    if not first(dataset, "WorklistLabel"):
        dataset |= attribute("WorklistLabel", WORKLIST_LABEL)
    dataset |= attribute("ScheduledProcedureStepModificationDateTime", stamp())
    if not worklist().create(uid, dataset):
        raise Inconsistent("there is a work item with this UID; update it, or take another UID")
    service().arrivals.wake()
    response = Response(status=201)
    response.headers["Location"] = response.headers["Content-Location"] = address(uid)
    return response


def _named(dataset: dict[str, Any]) -> str:
    """The UID of a new work item."""
    found = {_of_query("workitem"), *(first(dataset, one) or "" for one in _NAMES)} - {""}
    if len(found) > 1:
        raise Refused("the query and the data set name different UIDs")
    uid = found.pop() if found else f"2.25.{uuid.uuid4().int}"
    if not payload.usable(uid):
        raise Refused("a work item's UID must be a UID of PS3.5 9.1")
    return uid


def _of_query(name: str) -> str:
    """A UID in the query: alone, as PS3.18 writes it, or as the value of a parameter."""
    given = request.args.get(name, "")
    bare = [key for key, value in request.args.items() if not value and _UID_LIKE.fullmatch(key)]
    unknown = sorted(set(request.args) - {name, "accept", "charset", *bare})
    if unknown or len(bare) + bool(given) > 1:
        raise Refused(f"query: only one UID can be here, as ?UID or as ?{name}=UID")
    return given or (bare[0] if bare else "")


@blueprint.get("/workitems/<uid>")
def retrieve(uid: str) -> Response:
    """One work item, without its Transaction UID."""
    negotiate.json_or_refuse()
    return listed([worklist().get(uid).dataset])


def listed(datasets: Sequence[dict[str, Any]], status: int = 200) -> Response:
    """Data sets as a response; addresses of our own outputs are completed to those by which the client reached us."""
    for dataset in datasets:
        for place in items(dataset, PERFORMED, "OutputInformationSequence", "WADORSRetrievalSequence"):
            url = first(place, "RetrieveURL")
            if isinstance(url, str) and url.startswith("/studies/"):
                place |= attribute("RetrieveURL", negotiate.root() + url)
    response = Response(json.dumps(list(datasets)), status, content_type=negotiate.JSON)
    response.headers["Cache-Control"] = "private, no-cache"
    return response


@blueprint.post("/workitems/<uid>")
def update(uid: str) -> Response:
    """Set attributes of a work item."""
    changes = payload.dataset()
    sent = {_of_query("transaction-uid"), first(changes, "TransactionUID") or ""} - {""}
    changes.pop(_TRANSACTION, None)
    worklist().get(uid)
    if len(sent) > 1:
        raise Refused("the query and the data set name different Transaction UIDs")
    payload.check_changes(changes)
    worklist().change(uid, rules.updating(changes, sent.pop() if sent else ""))
    service().arrivals.wake()
    response = Response(status=200)
    response.headers["Content-Location"] = address(uid)
    return response


@blueprint.put("/workitems/<uid>/state")
def change_state(uid: str) -> Response:
    """Claim, complete or cancel a work item."""
    sent = payload.dataset()
    worklist().get(uid)
    target, transaction = first(sent, "ProcedureStepState"), first(sent, "TransactionUID")
    if target not in (IN_PROGRESS, COMPLETED, CANCELED):
        raise Refused("ProcedureStepState must be IN PROGRESS, COMPLETED or CANCELED", INCONSISTENT)
    if not transaction:
        raise Refused("send the Transaction UID with which the work item is or was claimed", MISSING)
    if not payload.usable(transaction):
        raise Refused("the Transaction UID must be a UID of PS3.5 9.1")
    before: list[str] = []
    rule = rules.changing_state(target, transaction)

    def noting(item: Workitem) -> Sequence[Workitem]:
        before.append(item.state)
        return rule(item)

    worklist().change(uid, noting)
    response = Response(status=200)
    response.headers["Content-Location"] = address(uid)
    if before == [target]:
        warn(response, f"The UPS is already in the requested state of {target}.")
    return response


@blueprint.post("/workitems/<uid>/cancelrequest")
def request_cancellation(uid: str) -> Response:
    """Cancel a work item that nobody or this service performs; else tell those who subscribed to it."""
    asked = payload.dataset(optional=True)
    rule = rules.canceling(asked)
    before: list[Workitem] = []

    def noting(item: Workitem) -> Sequence[Workitem]:
        before.append(item)
        if item.state == IN_PROGRESS and item.analysis and _answered(item.analysis):
            raise Inconsistent("the result is made already", "Performer chooses not to cancel.")
        return rule(item)

    after = worklist().change(uid, noting)
    response = Response(status=202)
    if before[0].state == CANCELED:
        return warn(response, "The UPS is already in the requested state of CANCELED.")
    if after.state == IN_PROGRESS:
        asking = attribute("RequestingAE", *items(asked, "RequestingAE"))
        said = picked(
            asked,
            "ReasonForCancellation",
            "ProcedureStepDiscontinuationReasonCodeSequence",
            "ContactURI",
            "ContactDisplayName",
        )
        if not worklist().subscriptions.tell(uid, report(uid, CANCEL_REQUESTED, asking, said)):
            raise Inconsistent("nobody who performs this listens to requests", "The performer cannot be contacted.")
    else:
        service().arrivals.wake()
    return response


def _answered(analysis: str) -> bool:
    try:
        return service().store.get(analysis).status == "completed"
    except NotFound:
        return False
