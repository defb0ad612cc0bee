"""Storage commitment: asked for, reported on the same association or a later one."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from service.delivery import commitment, cstore
from service.delivery.attempt import Commitment, Sent, TryAgain
from tests.orthanc import free_port
from tests.unit.delivery.conftest import Archive, Peer, destination, outgoing
from tests.waiting import until

SR = str(Comprehensive3DSRStorage)
PUSH = str(StorageCommitmentPushModel)
WELL_KNOWN = "1.2.840.10008.1.20.1.1"


def reference(sop_class: str, instance: str, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
    if reason is not None:
        item.FailureReason = reason
    return item


def information(transaction: str, committed: list[Dataset], failed: list[Dataset] | None = None) -> Dataset:
    found = Dataset()
    found.TransactionUID = transaction
    if committed:
        found.ReferencedSOPSequence = committed
    if failed:
        found.FailedSOPSequence = failed
    return found


def on_action(action: Callable[[evt.Event], int]) -> tuple[Any, Any]:
    return (evt.EVT_N_ACTION, lambda event: (action(event), None))


def test_the_request(provider: Callable[..., Peer]) -> None:
    seen: list[tuple[str, str, int, Dataset]] = []

    def action(event: evt.Event) -> int:
        request = event.request
        seen.append(
            (request.RequestedSOPClassUID, request.RequestedSOPInstanceUID, event.action_type, event.action_information)
        )
        return 0x0000

    peer = provider(classes=(PUSH,), handlers=(on_action(action),))
    outcome = commitment.request(destination(**peer.table()), [(SR, "2.25.1"), (SR, "2.25.2")], "2.25.99", 0.1)
    assert outcome == Sent(transaction_uid="2.25.99")
    ((sop_class, instance, kind, asked),) = seen
    assert (sop_class, instance, kind) == (PUSH, WELL_KNOWN, 1)
    assert asked.TransactionUID == "2.25.99"
    assert [(i.ReferencedSOPClassUID, i.ReferencedSOPInstanceUID) for i in asked.ReferencedSOPSequence] == [
        (SR, "2.25.1"),
        (SR, "2.25.2"),
    ]


def reporting(
    provider: Callable[..., Peer],
    transaction: str,
    event_type: int,
    content: Dataset,
    statuses: list[int],
    last: bool = False,
) -> Peer:
    """A provider that reports on the same association, a moment after its answer; with `last` it ends it then."""

    def action(event: evt.Event) -> int:
        def report() -> None:
            time.sleep(0.2)
            status, _ = event.assoc.send_n_event_report(content, event_type, PUSH, WELL_KNOWN)
            statuses.append(status.Status if "Status" in status else -1)
            if last:
                event.assoc.abort()

        threading.Thread(target=report).start()
        return 0x0000

    return provider(classes=(PUSH,), handlers=(on_action(action),))


def test_report_on_the_same_association(provider: Callable[..., Peer]) -> None:
    statuses: list[int] = []
    content = information("2.25.99", [reference(SR, "2.25.1")], [reference(SR, "2.25.2", 0x0112)])
    peer = reporting(provider, "2.25.99", 2, content, statuses)
    began = time.monotonic()
    outcome = commitment.request(destination(**peer.table()), [(SR, "2.25.1"), (SR, "2.25.2")], "2.25.99", 60)
    assert outcome == Sent(
        transaction_uid="2.25.99",
        commitment=Commitment("2.25.99", ((SR, "2.25.1"),), ((SR, "2.25.2", 0x0112),)),
    )
    assert time.monotonic() - began < 30, "what came is not waited for"
    assert until(lambda: statuses) == [0x0000]


@pytest.mark.parametrize(
    ("transaction", "event_type", "items"),
    [("2.25.98", 1, [reference(SR, "2.25.1")]), ("2.25.99", 3, []), ("2.25.99", 1, [Dataset()])],
)
def test_report_that_is_not_ours(
    provider: Callable[..., Peer], transaction: str, event_type: int, items: list[Dataset]
) -> None:
    statuses: list[int] = []
    peer = reporting(provider, "2.25.99", event_type, information(transaction, items), statuses, last=True)
    outcome = commitment.request(destination(**peer.table()), [(SR, "2.25.1")], "2.25.99", 60)
    assert outcome == Sent(transaction_uid="2.25.99")
    assert statuses == [0x0110], "the peer hears that nobody took it"


def test_peer_that_ends_the_association_is_not_waited_for(provider: Callable[..., Peer]) -> None:
    def action(event: evt.Event) -> int:
        threading.Timer(0.3, event.assoc.abort).start()
        return 0x0000

    peer = provider(classes=(PUSH,), handlers=(on_action(action),))
    began = time.monotonic()
    outcome = commitment.request(destination(**peer.table()), [(SR, "2.25.1")], "2.25.99", 60)
    assert outcome == Sent(transaction_uid="2.25.99")
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("status", [0x0110, 0x0112, 0x0118, 0x0123, 0x0124, 0x0211, 0x0213])
def test_refused(provider: Callable[..., Peer], status: int) -> None:
    peer = provider(classes=(PUSH,), handlers=(on_action(lambda event: status),))
    outcome = commitment.request(destination(**peer.table()), [(SR, "2.25.1")], "2.25.99")
    assert outcome == TryAgain(f"commitment request: status 0x{status:04X}")


def test_peer_without_commitment(provider: Callable[..., Peer]) -> None:
    outcome = commitment.request(destination(**provider().table()), [(SR, "2.25.1")], "2.25.99")
    assert isinstance(outcome, TryAgain) and "does not accept Storage Commitment Push Model" in outcome.reason


def test_peer_that_does_not_answer(provider: Callable[..., Peer]) -> None:
    given_up = threading.Event()

    def action(event: evt.Event) -> int:
        given_up.wait(60)
        return 0x0000

    peer = provider(classes=(PUSH,), handlers=(on_action(action),))
    outcome = commitment.request(destination(**peer.table(timeout_s=2)), [(SR, "2.25.1")], "2.25.99")
    given_up.set()
    assert isinstance(outcome, TryAgain) and "no answer" in outcome.reason


def test_away() -> None:
    there = destination(kind="dicom", host="127.0.0.1", port=free_port(), ae_title="A")
    outcome = commitment.request(there, [(SR, "2.25.1")], "2.25.99")
    assert isinstance(outcome, TryAgain) and "connection refused" in outcome.reason


def test_nothing_to_commit() -> None:
    there = destination(kind="dicom", host="127.0.0.1", port=free_port(), ae_title="A")
    with pytest.raises(ValueError, match="no instances"):
        commitment.request(there, [], "2.25.99")


def test_orthanc_reports_on_an_association_of_its_own(archive: Archive) -> None:
    reports: queue.Queue[tuple[int, Dataset]] = queue.Queue()

    def take(event: evt.Event) -> tuple[int, None]:
        reports.put((event.event_type, event.event_information))
        return 0x0000, None

    listener = AE("PELLUCID")
    listener.add_supported_context(PUSH, scu_role=True, scp_role=True)
    server = listener.start_server(
        ("127.0.0.1", archive.reports_port), False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)]
    )
    try:
        pacs = archive.orthanc
        there = destination(kind="dicom", host=pacs.host, port=pacs.dicom_port, ae_title=pacs.ae_title)
        entry, missing = outgoing(), str(generate_uid(None))
        assert cstore.send(there, [entry]) == (Sent(),)
        transaction = str(generate_uid(None))
        outcome = commitment.request(there, [(SR, entry.sop_instance_uid), (SR, missing)], transaction, 0.1)
        assert outcome == Sent(transaction_uid=transaction)
        event_type, content = reports.get(timeout=90)
        assert commitment.report(event_type, content) == Commitment(
            transaction, ((SR, entry.sop_instance_uid),), ((SR, missing, 0x0112),)
        )
        second = str(generate_uid(None))
        commitment.request(there, [(SR, entry.sop_instance_uid)], second, 0.1)
        event_type, content = reports.get(timeout=90)
        assert event_type == 1
        assert commitment.report(event_type, content) == Commitment(second, ((SR, entry.sop_instance_uid),))
    finally:
        server.shutdown()
