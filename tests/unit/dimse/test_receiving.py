"""Associations with real receivers: what is stored, refused, rejected and noted."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pynetdicom import build_role
from pynetdicom.association import Association

from service.intake.inbox import Entry
from service.intake.limits import Limits
from service.uids import IMPLEMENTATION_CLASS_UID
from tests.unit.dimse.conftest import Box, data_set, instance, saved, sha256
from tests.waiting import until

Associate = Callable[..., Association]
Start = Callable[..., Box]

CT, COMMITMENT = uid.CTImageStorage, "1.2.840.10008.1.20.1"
SYNTAXES = [
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.JPEGLSLossless,
    uid.RLELossless,
]
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def written(path: Path, syntax: uid.UID) -> Path:
    ds = instance()
    if syntax.is_encapsulated:
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        ds.compress(syntax, generate_instance_uid=False)
    if syntax == uid.ExplicitVRBigEndian:
        ds.PixelData = np.arange(64 * 48, dtype=">u2").tobytes()
    return saved(ds, path, syntax)


def arrivals(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.arrival is not None]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_a_data_set_is_kept_byte_for_byte(box: Box, associate: Associate, tmp_path: Path, syntax: uid.UID) -> None:
    sent = written(tmp_path / "sent", syntax)
    association = associate(box.port, (CT, syntax), title="CT SCANNER 1")
    status = association.send_c_store(sent)
    assert status.Status == 0 and "ErrorComment" not in status
    association.release()
    entries = box.closed()
    [entry] = arrivals(entries)
    assert entry.arrival is not None
    kept = entry.arrival.instance.path
    assert data_set(kept) == data_set(sent)
    meta = pydicom.dcmread(kept).file_meta
    assert meta.TransferSyntaxUID == syntax and meta.SourceApplicationEntityTitle == "CT SCANNER 1"
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CT, "2.25.11")
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    found = entry.arrival.instance
    assert found.sha256 == sha256(kept)
    assert (found.sop_instance_uid, found.series_uid, found.study_uid) == ("2.25.11", "2.25.3", "2.25.2")
    assert (found.rows, found.columns, found.transfer_syntax_uid, found.position) == (64, 48, syntax, (-10, -20, 30))
    assert (entry.arrival.door, entry.arrival.sender) == ("dimse", "CT SCANNER 1")


def test_what_an_association_did_is_told_in_order(box: Box, associate: Associate, tmp_path: Path) -> None:
    association = associate(box.port, title="S")
    for number in (1, 2, 3):
        ds = instance(SOPInstanceUID=f"2.25.{number}", InstanceNumber=number)
        assert association.send_c_store(saved(ds, tmp_path / str(number))).Status == 0
    association.release()
    entries = box.closed()
    first, *stored, last = entries
    assert first.event is not None and last.event is not None
    assert (first.event.kind, first.event.sender) == ("association-opened", "S")
    assert [entry.arrival.instance.instance_number for entry in stored if entry.arrival] == [1, 2, 3]
    assert (last.event.kind, last.event.outcome) == ("association-closed", "released")
    names = {first.event.association, last.event.association}
    assert names == {entry.arrival.association for entry in stored if entry.arrival} and len(names) == 1


def test_an_abort_is_told(box: Box, associate: Associate, tmp_path: Path) -> None:
    association = associate(box.port)
    association.send_c_store(saved(instance(), tmp_path / "a"))
    association.abort()
    event = box.closed()[-1].event
    assert event is not None and event.outcome == "aborted"


def test_an_echo_leaves_no_trace(box: Box) -> None:
    command = ["/usr/bin/echoscu", "-aec", "PELLUCID", "127.0.0.1", str(box.port)]
    subprocess.run([*command, "--repeat", "3"], check=True, env=ENVIRONMENT, timeout=120)
    assert box.inbox.entries() == []


def test_echo_and_store_on_one_association(box: Box, associate: Associate, tmp_path: Path) -> None:
    both = (("1.2.840.10008.1.1", uid.ImplicitVRLittleEndian), (CT, uid.ExplicitVRLittleEndian))
    association = associate(box.port, *both)
    assert association.send_c_echo().Status == 0
    assert association.send_c_store(saved(instance(), tmp_path / "a")).Status == 0
    assert association.send_c_echo().Status == 0


def test_dcmtk_sends_a_folder(box: Box, tmp_path: Path) -> None:
    for number in range(20):
        saved(instance(SOPInstanceUID=f"2.25.{number + 1}"), tmp_path / f"{number:02d}.dcm")
    command = [
        "/usr/bin/storescu",
        "-aec",
        "PELLUCID",
        "-aet",
        "DCMTK",
        "+sd",
        "127.0.0.1",
        str(box.port),
        str(tmp_path),
    ]
    subprocess.run(command, check=True, env=ENVIRONMENT, timeout=120)
    assert {entry.arrival.instance.sop_instance_uid for entry in arrivals(box.closed()) if entry.arrival} == {
        f"2.25.{number + 1}" for number in range(20)
    }


@pytest.mark.parametrize("option", ["-xi", "-xe", "-xb", "-xd", "-xt"])
def test_dcmtk_sends_in_each_syntax(box: Box, tmp_path: Path, option: str) -> None:
    syntax = uid.JPEGLSLossless if option == "-xt" else uid.ExplicitVRLittleEndian
    sent = written(tmp_path / "sent.dcm", syntax)
    command = ["/usr/bin/storescu", "-aec", "PELLUCID", "-R", option, "127.0.0.1", str(box.port), str(sent)]
    subprocess.run(command, check=True, env=ENVIRONMENT, timeout=120)
    [entry] = arrivals(box.closed())
    assert entry.arrival is not None
    pixels = pydicom.dcmread(entry.arrival.instance.path).pixel_array
    np.testing.assert_array_equal(pixels, np.arange(64 * 48, dtype=np.uint16).reshape(64, 48))


@pytest.mark.parametrize(
    ("settings", "connect", "expected"),
    [
        ({}, {"called": "OTHER"}, (1, 1, 7)),
        ({"dicom_called": "any"}, {"called": "OTHER"}, None),
        ({"dicom_peers": ("CT1@127.0.0.1",)}, {"title": "CT2"}, (1, 1, 3)),
        ({"dicom_peers": ("CT1@127.0.0.0/8",)}, {"title": "CT1"}, None),
        ({"dicom_peers": ("*@192.0.2.0/24",)}, {"title": "CT1"}, (1, 1, 3)),
        ({"ae_title": "MY AE"}, {"called": "MY AE"}, None),
    ],
)
def test_who_may_associate(
    start: Start, associate: Associate, settings: dict[str, object], connect: dict[str, str], expected: tuple[int, ...]
) -> None:
    association = associate(start(**settings).port, **connect)
    if expected is None:
        assert association.is_established
    else:
        answer = association.acceptor.primitive
        assert association.is_rejected and answer is not None
        assert (answer.result, answer.result_source, answer.diagnostic) == expected


def test_associations_beyond_the_limit_are_rejected_for_now(box: Box, associate: Associate) -> None:
    opened = [associate(box.port) for _ in range(4)]
    assert all(association.is_established for association in opened)
    refused = associate(box.port)
    answer = refused.acceptor.primitive
    assert refused.is_rejected and answer is not None
    assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)
    opened[0].release()
    until(lambda: box.listener.associations <= 3)
    assert associate(box.port).is_established


def test_associations_are_shared_out(box: Box, associate: Associate) -> None:
    for _ in range(4):
        associate(box.port)
    opened = box.take(lambda entries: len(entries) == 4)
    receivers = [entry.event.association.partition(".")[0] for entry in opened if entry.event]
    assert len(receivers) == 4 and len(set(receivers)) == 2


def test_a_full_disk_refuses_and_recovers_nothing(start: Start, associate: Associate, tmp_path: Path) -> None:
    box = start(free_bytes=1 << 60)
    association = associate(box.port)
    status = association.send_c_store(saved(instance(), tmp_path / "a"))
    assert status.Status == 0xA700 and "no room" in status.ErrorComment
    assert list(box.folder.glob("*.dcm")) == []
    assert association.send_c_store(saved(instance(), tmp_path / "a")).Status == 0xA700


def test_an_instance_that_is_too_large(start: Start, associate: Associate, tmp_path: Path) -> None:
    association = associate(start(Limits(file_bytes=1 << 20)).port)
    large = instance(Rows=1024, Columns=1024, PixelData=bytes(2 << 20))
    status = association.send_c_store(saved(large, tmp_path / "a"))
    assert status.Status == 0xC001 and "1048576" in status.ErrorComment and len(status.ErrorComment) <= 64
    assert association.send_c_store(saved(instance(), tmp_path / "b")).Status == 0


@pytest.mark.parametrize(
    ("changes", "status", "tag"),
    [
        ({"StudyInstanceUID": None}, 0xA900, 0x0020000D),
        ({"SeriesInstanceUID": ""}, 0xA900, 0x0020000E),
        ({"SOPInstanceUID": "2.25.12"}, 0xA900, 0x00080018),
        ({"SOPClassUID": uid.MRImageStorage}, 0xA900, 0x00080016),
        ({"SOPInstanceUID": None}, 0xC000, None),
        ({"PixelData": bytes(100)}, 0xC000, None),
        ({"Rows": None}, 0xC000, None),
    ],
)
def test_data_sets_that_are_refused(
    box: Box, associate: Associate, tmp_path: Path, changes: dict[str, object], status: int, tag: int | None
) -> None:
    path = saved(instance(**changes), tmp_path / "a")
    ds = pydicom.dcmread(path)
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = CT, "2.25.11"
    ds.save_as(path)
    association = associate(box.port)
    answer = association.send_c_store(path)
    assert answer.Status == status and answer.get("OffendingElement") == tag
    assert 0 < len(answer.ErrorComment) <= 64
    assert association.send_c_store(saved(instance(), tmp_path / "b")).Status == 0
    association.release()
    assert len(arrivals(box.closed())) == 1
    assert len(list(box.folder.glob("*.dcm*"))) == 1


@pytest.mark.parametrize("junk", [b"\0" * 64, b"junk" * 1000, b"\x08\0\x18\0UI\xff\xff" + b"1" * 50])
def test_junk_is_not_understood(box: Box, associate: Associate, tmp_path: Path, junk: bytes) -> None:
    path = saved(instance(), tmp_path / "a")
    head = path.read_bytes()[: -len(data_set(path))]
    path.write_bytes(head + junk)
    association = associate(box.port)
    assert association.send_c_store(path).Status == 0xC000
    assert association.send_c_store(saved(instance(), tmp_path / "b")).Status == 0


def test_a_deflated_bomb_is_refused(start: Start, associate: Associate, tmp_path: Path) -> None:
    box = start(Limits(inflated_bytes=1 << 20))
    bomb = instance(Rows=2048, Columns=2048, PixelData=bytes(8 << 20))
    path = saved(bomb, tmp_path / "a", uid.DeflatedExplicitVRLittleEndian)
    assert path.stat().st_size < 1 << 16
    association = associate(box.port, (CT, uid.DeflatedExplicitVRLittleEndian))
    assert association.send_c_store(path).Status == 0xC001
    assert association.send_c_store(written(tmp_path / "b", uid.DeflatedExplicitVRLittleEndian)).Status == 0


def test_no_comment_holds_patient_data(box: Box, associate: Associate, tmp_path: Path) -> None:
    association = associate(box.port)
    path = saved(instance(PixelSpacing=None, PatientName="Secret^Name", StudyInstanceUID=None), tmp_path / "a")
    assert "Secret" not in association.send_c_store(path).ErrorComment


def test_other_services_are_not_offered(box: Box, associate: Associate) -> None:
    find, private = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.1.4"
    association = associate(box.port, (find, uid.ImplicitVRLittleEndian), (private, uid.ImplicitVRLittleEndian))
    assert association.accepted_contexts == []


def test_an_operation_that_is_none_of_ours(box: Box, associate: Associate) -> None:
    association = associate(box.port, (COMMITMENT, uid.ImplicitVRLittleEndian))
    asked = Dataset()
    asked.TransactionUID = "2.25.7"
    status, _ = association.send_n_action(asked, 1, COMMITMENT, "1.2.840.10008.1.20.1.1")
    assert status.Status == 0x0211


def report(failed: bool) -> Dataset:
    kept, lost = Dataset(), Dataset()
    kept.ReferencedSOPClassUID, kept.ReferencedSOPInstanceUID = CT, "2.25.100"
    lost.ReferencedSOPClassUID, lost.ReferencedSOPInstanceUID, lost.FailureReason = CT, "2.25.101", 0x0112
    ds = Dataset()
    ds.TransactionUID, ds.ReferencedSOPSequence = "2.25.7", [kept]
    if failed:
        ds.FailedSOPSequence = [lost]
    return ds


@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
def test_an_archive_reports_on_a_commitment(box: Box, associate: Associate, failed: bool, syntax: str) -> None:
    role = build_role(COMMITMENT, scp_role=True)
    association = associate(box.port, (COMMITMENT, syntax), title="ARCHIVE", ext_neg=[role])
    [context] = association.accepted_contexts
    assert context.as_scp and not context.as_scu
    status, _ = association.send_n_event_report(
        report(failed), 2 if failed else 1, COMMITMENT, "1.2.840.10008.1.20.1.1"
    )
    assert status.Status == 0
    association.release()
    [entry] = box.take()
    event = entry.event
    assert event is not None
    assert (event.kind, event.sender, event.transaction_uid) == ("commitment", "ARCHIVE", "2.25.7")
    assert event.succeeded == ((CT, "2.25.100"),)
    assert event.failed == (((CT, "2.25.101", 0x0112),) if failed else ())


@pytest.mark.parametrize(("changes", "kind", "status"), [({"TransactionUID": "x"}, 1, 0x0115), ({}, 3, 0x0113)])
def test_a_report_that_is_none(box: Box, associate: Associate, changes: dict[str, str], kind: int, status: int) -> None:
    association = associate(
        box.port, (COMMITMENT, uid.ImplicitVRLittleEndian), ext_neg=[build_role(COMMITMENT, scp_role=True)]
    )
    ds = report(False)
    for keyword, value in changes.items():
        ds[keyword] = pydicom.DataElement(keyword, "UI", value, validation_mode=0)
    answer, _ = association.send_n_event_report(ds, kind, COMMITMENT, "1.2.840.10008.1.20.1.1")
    assert answer.Status == status
    assert box.inbox.entries() == []


def test_silence_is_aborted(start: Start, associate: Associate) -> None:
    box = start(dicom_idle_s=1.0)
    association = associate(box.port)
    event = box.closed()[-1].event
    assert event is not None and event.outcome == "aborted"
    until(lambda: association.is_aborted)


def test_a_pdu_that_is_too_long_is_aborted(box: Box, associate: Associate) -> None:
    association = associate(box.port)
    association.dul.socket.socket.sendall(struct.pack(">BxL", 4, 0xFFFFFFFF))
    event = box.closed()[-1].event
    assert event is not None and event.outcome == "aborted"


@pytest.mark.parametrize(
    "bytes_", [struct.pack(">BxL", 1, 0xFFFFFFFF), b"GET / HTTP/1.1\r\n\r\n", struct.pack(">BxL", 1, 4) + b"junk"]
)
def test_strangers_do_not_stay(box: Box, associate: Associate, bytes_: bytes) -> None:
    with socket.create_connection(("127.0.0.1", box.port), 10) as connection:
        connection.sendall(bytes_)
        connection.settimeout(60)
        while connection.recv(100):
            pass
    assert associate(box.port).is_established
