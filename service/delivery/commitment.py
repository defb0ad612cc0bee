"""Storage commitment, asked for as a service class user (Push Model, PS3.4 annex J).

The request says which instances the other side shall keep; its report comes on the same association, or later on one that the
other side opens to our listener. Only then may a copy of ours be purged.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.dimse_messages import N_EVENT_REPORT_RSP
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.events import Event
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from service.delivery.association import opened
from service.delivery.attempt import Commitment, Sent, TryAgain
from service.delivery.destinations import Dicom

REQUEST = 1
"""Action Type ID of a commitment request (PS3.4 table J.3-1)."""
COMPLETE, FAILURES = 1, 2
"""Event Type IDs of its report (PS3.4 table J.3-4)."""
LARGEST_REPORT = 4 << 20
"""Bytes of an encoded report that we are ready to read."""

FAILURE_REASONS = {  # PS3.3 section C.14.1.1
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0119: "class and instance contradict each other",
    0x0122: "SOP class not supported",
    0x0131: "duplicate transaction UID",
    0x0213: "resource limitation",
}
_PROCESSING_FAILURE = 0x0110


def request(
    destination: Dicom, references: Sequence[tuple[str, str]], transaction_uid: str, linger_s: float = 1.0
) -> Sent | TryAgain:
    """Ask for the commitment of instances that were sent before.

    There is nothing here that never can succeed: a peer without storage commitment can be given it.

    Parameters
    ----------
    destination : Dicom
    references : sequence of (str, str)
        SOP Class UID and SOP Instance UID of each instance; at least one.
    transaction_uid : str
        New for every request (PS3.4 section J.3.2.1.1). Store it before the call: the report may arrive before it returns.
    linger_s : float
        Seconds that the association stays open for a report.

    Returns
    -------
    Sent or TryAgain
        Sent with `commitment` where the report came on this association; otherwise it comes to our listener.
    """
    if not references:
        raise ValueError("no instances to commit")
    reports: queue.SimpleQueue[Commitment] = queue.SimpleQueue()
    answered: queue.SimpleQueue[None] = queue.SimpleQueue()

    def take(event: Event) -> tuple[int, None]:
        report = _report_of(event)
        if report is None or report.transaction_uid != transaction_uid:
            return _PROCESSING_FAILURE, None
        reports.put(report)
        return 0x0000, None

    def confirmed(event: Event) -> None:
        if isinstance(event.message, N_EVENT_REPORT_RSP):
            answered.put(None)

    syntax = str(StorageCommitmentPushModel)
    proposed = [(syntax, str(ExplicitVRLittleEndian)), (syntax, str(ImplicitVRLittleEndian))]
    handlers = [(evt.EVT_N_EVENT_REPORT, take), (evt.EVT_DIMSE_SENT, confirmed)]
    with opened(destination, proposed, handlers) as association:  # type: ignore[arg-type]
        if isinstance(association, TryAgain):
            return association
        try:
            status = association.send_n_action(
                _information(references, transaction_uid), REQUEST, syntax, StorageCommitmentPushModelInstance
            )[0].get("Status")
        except (RuntimeError, ValueError):
            return TryAgain("the association ended before the commitment request was sent")
        if status is None:
            return TryAgain("no answer to the commitment request: the peer aborted, or took too long")
        if status != 0x0000:
            return TryAgain(f"commitment request: status 0x{status:04X}")
        until = time.monotonic() + linger_s
        while association.is_established and answered.empty() and time.monotonic() < until:
            time.sleep(0.02)
        report = None if reports.empty() else reports.get()
    return Sent(transaction_uid=transaction_uid, commitment=report)


def report(event_type: int, information: Dataset) -> Commitment:
    """What an N-EVENT-REPORT of the Storage Commitment Push Model says.

    Parameters
    ----------
    event_type : int
        Event Type ID (0000,1002): 1 all committed, 2 failures exist.
    information : Dataset
        Event information (PS3.4 table J.3-5).

    Raises
    ------
    ValueError
        Where it lacks what the table requires.
    """
    if event_type not in (COMPLETE, FAILURES):
        raise ValueError(f"event type {event_type} is no commitment report")
    transaction = information.get("TransactionUID")
    if not transaction:
        raise ValueError("a commitment report without Transaction UID (0008,1195)")
    committed, failed = [], []
    for item in information.get("ReferencedSOPSequence") or ():
        committed.append(_reference(item))
    for item in information.get("FailedSOPSequence") or ():
        reason = item.get("FailureReason")
        failed.append((*_reference(item), _PROCESSING_FAILURE if reason is None else int(reason)))
    return Commitment(str(transaction), tuple(committed), tuple(failed))


def _reference(item: Dataset) -> tuple[str, str]:
    pair = str(item.get("ReferencedSOPClassUID") or ""), str(item.get("ReferencedSOPInstanceUID") or "")
    if not all(pair):
        raise ValueError("a commitment report with an incomplete reference")
    return pair


def _report_of(event: Event) -> Commitment | None:
    encoded = event.request.EventInformation if isinstance(event.request, N_EVENT_REPORT) else None
    if encoded is None or len(encoded.getvalue()) > LARGEST_REPORT:
        return None
    try:
        return report(event.event_type or 0, event.event_information)
    except Exception:  # noqa: BLE001 - foreign bytes, and pydicom raises what it likes
        return None


def _information(references: Sequence[tuple[str, str]], transaction_uid: str) -> Dataset:
    """Action Information (PS3.4 table J.3-2)."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    items = []
    for sop_class, instance in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
        items.append(item)
    information.ReferencedSOPSequence = items
    return information
