"""The state machine of a work item (PS3.4 tables CC.1.1-2 and CC.2.5-3), as rules that the store asks while it holds the row."""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Sequence
from typing import Any

from service.http.workitems.errors import INCONSISTENT, INCORRECT, MISSING, Inconsistent, Refused
from service.store.moments import stamp
from service.store.search import Attributes, tag
from service.store.subscriptions import attribute, code, first, items
from service.store.workitems import (
    CANCELED,
    COMPLETED,
    IN_PROGRESS,
    PERFORMED,
    PROGRESS,
    SCHEDULED,
    Rule,
    Workitem,
)

_OF_COMPLETED = (
    "PerformedStationNameCodeSequence",
    "PerformedProcedureStepStartDateTime",
    "PerformedProcedureStepEndDateTime",
    "PerformedWorkitemCodeSequence",
)
_OF_CANCELED = ("ProcedureStepCancellationDateTime", "ProcedureStepDiscontinuationReasonCodeSequence")
UNSPECIFIED = code("110513", "DCM", "Discontinued for unspecified reason")


def changing_state(target: str, transaction: str) -> Rule:
    """What Change Workitem State does.

    Parameters
    ----------
    target : str
        IN PROGRESS, COMPLETED or CANCELED.
    transaction : str
        Transaction UID as it was sent; not empty.
    """

    def rule(item: Workitem) -> Sequence[Workitem]:
        if item.state == SCHEDULED:
            if target != IN_PROGRESS:
                raise Inconsistent("this work item is not yet IN PROGRESS; claim it first", INCONSISTENT)
            return [item.to(IN_PROGRESS, transaction=transaction)]
        _check(item, transaction)
        if item.state == target and item.ended:
            return []
        if item.ended:
            raise Inconsistent(f"this work item is {item.state} and may no longer be updated", INCONSISTENT)
        if target == IN_PROGRESS:
            raise Inconsistent("this work item is IN PROGRESS already", INCONSISTENT)
        missing = lacking(item.dataset, target)
        if missing:
            raise Inconsistent(
                f"this work item cannot be {target} before it is updated with {', '.join(missing)}",
                INCONSISTENT,
                [{"where": one, "message": "the final state requires a value"} for one in missing],
            )
        return [item.to(target)]

    return rule


def _check(item: Workitem, transaction: str) -> None:
    if not hmac.compare_digest(item.transaction.encode(), transaction.encode()):
        raise Refused("somebody else claimed this work item; this is not its Transaction UID", INCORRECT)


def lacking(dataset: Attributes, target: str) -> list[str]:
    """What a final state requires and the data set doesn't have."""
    sequence, needed = (PERFORMED, _OF_COMPLETED) if target == COMPLETED else (PROGRESS, _OF_CANCELED)
    item = first(dataset, sequence)
    if item is None:
        return [sequence]
    missing = [one for one in needed if not items(item, one) or items(item, one)[0] in ("", None)]
    if target == COMPLETED and tag("OutputInformationSequence") not in item:
        missing.append("OutputInformationSequence")
    return [f"{sequence}.{one}" for one in missing]


def updating(changes: dict[str, Any], transaction: str) -> Rule:
    """What Update Workitem does; `transaction` is empty where none was sent."""

    def rule(item: Workitem) -> Sequence[Workitem]:
        if item.ended:
            raise Refused(
                f"this work item is {item.state} and may no longer be updated",
                "The submitted request is inconsistent with the current state of the Workitem.",
            )
        if item.state == SCHEDULED and transaction:
            raise Refused(
                "nobody has claimed this work item; update it without a Transaction UID",
                "The target URI did not reference a claimed Workitem.",
            )
        if item.state == IN_PROGRESS:
            if not transaction:
                raise Refused("this work item is IN PROGRESS; send the Transaction UID of who claimed it", MISSING)
            _check(item, transaction)
        return [item.having(changes, attribute("ScheduledProcedureStepModificationDateTime", stamp()))]

    return rule


def canceling(asked: Attributes) -> Rule:
    """What Request Cancellation does to a work item that nobody has claimed, or that this service performs.

    Parameters
    ----------
    asked : mapping
        What the request says of its reason and of whom to contact.
    """
    reason = first(asked, "ProcedureStepDiscontinuationReasonCodeSequence") or UNSPECIFIED
    text = first(asked, "ReasonForCancellation") or ""
    contact = {}
    if uri := first(asked, "ContactURI"):
        person = {
            **attribute("ContactURI", uri),
            **attribute("ContactDisplayName", *items(asked, "ContactDisplayName")),
        }
        contact = attribute("ProcedureStepCommunicationsURISequence", person)

    def rule(item: Workitem) -> Sequence[Workitem]:
        if item.state == COMPLETED:
            raise Inconsistent("this work item is COMPLETED", "The UPS is already COMPLETED.")
        if item.state == CANCELED or (item.state == IN_PROGRESS and not item.ours):
            return []
        if item.state == IN_PROGRESS:
            return [item.discontinued(reason, text, contact)]
        claimed = item.to(IN_PROGRESS, transaction=f"2.25.{uuid.uuid4().int}")
        return [claimed, claimed.discontinued(reason, text, contact)]

    return rule
