"""What the conformance statement says of associations and statuses is what a running listener does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import AsynchronousOperationsWindowNegotiation, UserIdentityNegotiation
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from service.dimse import command
from service.dimse.command import Command
from service.dimse.operations import Origin, Reception
from service.errors import NoSpace
from service.intake.deposit import Writer
from service.intake.limits import Limits
from tests.statement import rows

VERIFICATION, CT = str(Verification), str(CTImageStorage)
FOREIGN = "1.2.840.10008.5.1.4.1.1.4"
"""MR Image Storage: in no table."""


@pytest.fixture(scope="module")
def box(start: Callable[..., Any]) -> Any:
    return start()


def associate(box: Any, contexts: list[Any], **more: Any) -> Any:
    return AE(ae_title="TESTER").associate("127.0.0.1", box.port, contexts, ae_title="PELLUCID", **more)


def stated() -> set[tuple[str, str]]:
    lists: dict[str, set[str]] = {}
    for row in rows("4.1.2 Transfer syntaxes", "transfer syntax"):
        for letter in "ABCDEFG":
            if row.get(letter, "-") != "-":
                lists.setdefault(letter, set()).add(row["UID"])
    found = rows("1.1 Network services", "SOP class")
    return {(row["UID"], syntax) for row in found for syntax in lists[row["transfer syntaxes"]]}


def test_what_is_accepted_is_what_is_stated(box: Any) -> None:
    """Every SOP class in every transfer syntax of the tables, and one class and one syntax that are in none."""
    wanted = stated()
    syntaxes = sorted({syntax for _, syntax in wanted} | {"1.2.840.10008.1.2.4.100"})
    classes = sorted({sop_class for sop_class, _ in wanted} | {FOREIGN})
    pairs = [(sop_class, syntax) for sop_class in classes for syntax in syntaxes]
    accepted = set()
    for begin in range(0, len(pairs), 120):
        association = associate(box, [build_context(*pair) for pair in pairs[begin : begin + 120]])
        assert association.is_established or not set(pairs[begin : begin + 120]) & wanted
        accepted |= {(str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in association.accepted_contexts}
        association.release()
    assert accepted == wanted


def test_of_several_syntaxes_the_first_of_the_table_is_chosen(box: Any) -> None:
    order = sorted(
        (int(row["B"]), row["UID"]) for row in rows("4.1.2 Transfer syntaxes", "transfer syntax") if row["B"] != "-"
    )
    offered = [uid for _, uid in order]
    for first in (0, 2, len(offered) // 2, len(offered) - 1):
        association = associate(box, [build_context(CT, list(reversed(offered[first:])))])
        assert str(association.accepted_contexts[0].transfer_syntax[0]) == offered[first]
        association.release()


def test_an_association_has_the_stated_properties(box: Any) -> None:
    told = {row["property"]: row["value"] for row in rows("6.1 As acceptor (RECEIVE)", "property")}
    window, identity = AsynchronousOperationsWindowNegotiation(), UserIdentityNegotiation()
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 5
    identity.user_identity_type, identity.primary_field, identity.positive_response_requested = 1, b"somebody", True
    association = associate(box, [build_context(VERIFICATION)], ext_neg=[window, identity])
    answer = association.acceptor
    assert answer.implementation_class_uid == told["Implementation Class UID"]
    assert answer.implementation_version_name == told["Implementation Version Name"]
    assert answer.maximum_length == 128 << 10 and told["largest PDU that we receive"].startswith("128 KiB ")
    assert answer.asynchronous_operations == (1, 1) and answer.user_identity is None
    association.release()


@pytest.mark.parametrize(
    ("settings", "meaning"),
    [
        ({"ae_title": "OTHER"}, "called AE title not recognized"),
        ({"dicom_peers": ("SOMEBODY@*",)}, "calling AE title not recognized"),
        ({"dicom_associations": 1}, "local limit exceeded"),
    ],
)
def test_rejections_are_the_stated_ones(start: Callable[..., Any], settings: dict[str, Any], meaning: str) -> None:
    (row,) = [r for r in rows("6.1 As acceptor (RECEIVE)", "result / source / reason") if r["meaning"] == meaning]
    box = start(**settings)
    first = associate(box, [build_context(VERIFICATION)]) if "dicom_associations" in settings else None
    rejected = associate(box, [build_context(VERIFICATION)]).acceptor.primitive
    assert f"{rejected.result} / {rejected.result_source} / {rejected.diagnostic}" == row["result / source / reason"]
    if first is not None:
        assert first.is_established
        first.release()


def slice_(**changes: Any) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = CT, "2.25.1", "2.25.2", "2.25.3"
    ds.Modality, ds.PatientID, ds.Rows, ds.Columns = "CT", "1", 4, 4
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.PixelData = np.arange(16, dtype="<u2").tobytes()
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


def _full(*_: object) -> None:
    raise NoSpace("full")


def _broken(*_: object, **__: object) -> None:
    raise KeyError("a fault of ours")


def store(reception: Reception, ds: Dataset, cut: int = 0, **asked: Any) -> int:
    request = Command(command.C_STORE, 1, True, CT, "2.25.1")
    data = encode(ds, False, True)
    assert data is not None
    operation = reception.begin(
        Origin("a", "TESTER", "127.0.0.1"), replace(request, **asked), CT, ExplicitVRLittleEndian
    )
    operation.write(memoryview(data[: len(data) - cut]))
    answer = operation.end()
    assert answer is not None
    return answer.status


def provoked(reception: Reception, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    yield store(reception, slice_())
    yield store(reception, slice_(SOPInstanceUID="2.25.9"))
    yield store(reception, slice_(), cut=8)
    yield store(reception, slice_(Rows=60000, Columns=60000))
    yield store(reception, slice_(), sop_instance="")
    yield store(reception, slice_(), sop_class=FOREIGN)
    yield store(reception, slice_(), field=0x0020)
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "check_space", _full)
        yield store(reception, slice_())
    with monkeypatch.context() as patch:
        patch.setattr("service.dimse.operations.inspection.inspect", _broken)
        yield store(reception, slice_())


def test_every_stated_status_can_be_had_and_no_other(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {int(row["status"], 16) for row in rows("4.1.3 Storage SCP", "status")}
    writer = Writer(tmp_path / "inbox", Limits(), 0)
    assert set(provoked(Reception(writer), monkeypatch)) == told
    writer.close()
    declared = {
        value for name, value in vars(command).items() if isinstance(value, int) and name.isupper() and name[0] != "_"
    }
    others = {command.C_STORE, command.C_ECHO, command.N_EVENT_REPORT, command.C_CANCEL, command.RESPONSE}
    assert declared - others - {command.COMMAND_BYTES} == told


def test_a_commitment_report_is_answered_as_stated(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {int(row["status"], 16) for row in rows("4.1.5 Storage Commitment Push Model SCU", "status")}
    writer = Writer(tmp_path / "inbox", Limits(), 0)
    reception, push = Reception(writer), str(StorageCommitmentPushModel)
    item, report = Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, "2.25.1"
    report.TransactionUID, report.ReferencedSOPSequence = "2.25.77", [item]

    def answer(kind: int, data: bytes) -> int:
        request = Command(command.N_EVENT_REPORT, 1, True, push, "1.2.840.10008.1.20.1.1", kind)
        operation = reception.begin(Origin("a", "PACS", "127.0.0.1"), request, push, ImplicitVRLittleEndian)
        operation.write(memoryview(data))
        found = operation.end()
        assert found is not None
        return found.status

    good = encode(report, True, True)
    assert good is not None
    found = [answer(1, good), answer(3, good), answer(1, b"nonsense")]
    for error in (NoSpace("full"), OSError("disk")):
        with monkeypatch.context() as patch:
            patch.setattr(Writer, "event", lambda *_, error=error, **__: (_ for _ in ()).throw(error))
            found.append(answer(1, good))
    writer.close()
    assert set(found) == told and len(found) == len(told)


def test_what_we_open_is_what_is_stated_and_statuses_are_treated_so() -> None:
    from service.delivery import cstore
    from service.delivery.attempt import GiveUp, Outgoing, Sent, TryAgain
    from service.delivery.tables import parse

    told = {row["property"]: row["value"] for row in rows("6.2 As initiator (SEND)", "property")}
    treated = rows("4.1.4 Storage SCU", "status")
    sop_class = "1.2.840.10008.5.1.4.1.1.88.34"
    assert sop_class in {row["UID"] for row in rows("1.1 Network services", "SOP class") if row["our role"] == "SCP"}
    statuses = [int(row["status"], 16) for row in treated]
    seen: list[Any] = []
    waiting = iter(statuses)

    def accept(event: evt.Event) -> int:
        seen.append(event.assoc.requestor)
        return next(waiting)

    entity = AE(ae_title="PACS")
    entity.add_supported_context(sop_class, ExplicitVRLittleEndian)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, accept)])
    try:
        port = server.server_address[1]
        (target,) = parse([{"kind": "dicom", "name": "p", "host": "127.0.0.1", "port": port, "ae_title": "PACS"}])
        from service.results.common import encode as file

        ds = slice_(SOPClassUID=sop_class)
        objects = [Outgoing("SR", sop_class, f"2.25.{n}", file(ds)) for n in range(len(statuses))]
        outcomes = cstore.send(target, objects)  # type: ignore[arg-type]
    finally:
        server.shutdown()
    words = {Sent: "delivered", TryAgain: "tried again", GiveUp: "set aside for a person"}
    assert [words[type(one)] for one in outcomes] == [row["what happens"] for row in treated]
    assert seen[0].implementation_class_uid == told["Implementation Class UID"]
    assert seen[0].implementation_version_name == told["Implementation Version Name"]
    assert f"{seen[0].maximum_length} bytes" == told["largest PDU that we receive"]
