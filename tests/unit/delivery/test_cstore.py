"""C-STORE: every byte arrives, and every way to fail ends in the outcome an administrator needs."""

from __future__ import annotations

import hashlib
import io
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage, ExplicitVRLittleEndian, KeyObjectSelectionDocumentStorage
from pynetdicom import AE, evt

from service.delivery import cstore
from service.delivery.attempt import GiveUp, Outgoing, Sent, TryAgain
from tests.orthanc import free_port
from tests.unit.delivery.conftest import (
    Archive,
    Certificates,
    Peer,
    data_set,
    destination,
    document,
    outgoing,
)
from tests.waiting import until


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def stored(entry: Outgoing) -> bytes:
    return entry.content if isinstance(entry.content, bytes) else entry.content.read_bytes()


def test_objects_arrive_unchanged_on_one_association(provider: Callable[..., Peer], tmp_path: Path) -> None:
    peer = provider()
    objects = [outgoing(), outgoing(kind="KOS", padding=100_001), outgoing(folder=tmp_path, padding=40_000)]
    assert cstore.send(destination(**peer.table()), objects) == (Sent(), Sent(), Sent())
    assert peer.associations == 1
    for entry in objects:
        assert sha256(peer.received[entry.sop_instance_uid]) == sha256(data_set(stored(entry)))


def test_the_test_object_would_not_survive_encoding_anew(tmp_path: Path) -> None:
    part10 = document("2.25.5")
    (tmp_path / "a.dcm").write_bytes(part10)
    dcmread(tmp_path / "a.dcm").save_as(tmp_path / "b.dcm")
    assert data_set((tmp_path / "b.dcm").read_bytes()) != data_set(part10)


def test_only_what_is_sent_is_proposed(provider: Callable[..., Peer]) -> None:
    peer = provider()
    cstore.send(destination(**peer.table()), [outgoing(), outgoing(), outgoing(kind="KOS")])
    explicit = [str(ExplicitVRLittleEndian)]
    assert peer.contexts == [(Comprehensive3DSRStorage, explicit), (KeyObjectSelectionDocumentStorage, explicit)]


def test_small_packets_are_sent_at_once(provider: Callable[..., Peer], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = cstore._one

    def look(association, *arguments):  # type: ignore[no-untyped-def]
        seen.append(association.dul.socket.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return original(association, *arguments)

    monkeypatch.setattr(cstore, "_one", look)
    assert cstore.send(destination(**provider().table()), [outgoing()]) == (Sent(),)
    assert seen[0] != 0


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (0x0000, Sent),
        (0xB000, Sent),
        (0xB006, Sent),
        (0xB007, Sent),
        (0xB123, Sent),
        (0x0001, Sent),
        (0x0107, Sent),
        (0x0116, Sent),
        (0x0111, Sent),
        (0xA700, TryAgain),
        (0xA7FF, TryAgain),
        (0x0110, TryAgain),
        (0x0122, TryAgain),
        (0x0124, TryAgain),
        (0x0211, TryAgain),
        (0xFE00, TryAgain),
        (0xA800, TryAgain),
        (0xA900, GiveUp),
        (0xA9FF, GiveUp),
        (0xC000, GiveUp),
        (0xC122, GiveUp),
        (0xCFFF, GiveUp),
        (0x0117, GiveUp),
    ],
)
def test_status(provider: Callable[..., Peer], status: int, kind: type) -> None:
    (outcome,) = cstore.send(destination(**provider(status).table()), [outgoing()])
    assert type(outcome) is kind
    text = outcome.detail if isinstance(outcome, Sent) else outcome.reason
    assert (f"0x{status:04X}" in text) == (status != 0)


def test_each_object_has_its_own_outcome(provider: Callable[..., Peer]) -> None:
    objects = [outgoing(), outgoing(), outgoing()]
    bad = objects[1].sop_instance_uid
    peer = provider(lambda event: 0xC000 if event.request.AffectedSOPInstanceUID == bad else 0)
    outcomes = cstore.send(destination(**peer.table()), objects)
    assert [type(outcome) for outcome in outcomes] == [Sent, GiveUp, Sent]


def test_unaccepted_class_does_not_hold_back_the_others(provider: Callable[..., Peer]) -> None:
    peer = provider(classes=(Comprehensive3DSRStorage,))
    sr, kos = cstore.send(destination(**peer.table()), [outgoing(), outgoing(kind="KOS")])
    assert sr == Sent()
    assert isinstance(kos, TryAgain)
    assert "PEER does not accept Key Object Selection Document Storage in Explicit VR Little Endian" in kos.reason


def test_nothing_accepted_can_be_put_right(provider: Callable[..., Peer]) -> None:
    peer = provider(classes=("1.2.840.10008.1.1",))
    (outcome,) = cstore.send(destination(**peer.table()), [outgoing()])
    assert isinstance(outcome, TryAgain) and "does not accept Comprehensive 3D SR Storage" in outcome.reason


def test_refused_connection() -> None:
    there = destination(kind="dicom", host="127.0.0.1", port=free_port(), ae_title="A", timeout_s=20)
    assert cstore.send(there, [outgoing(), outgoing()]) == (
        (TryAgain("connection refused: nothing listens at this host and port"),) * 2
    )


def test_unknown_host() -> None:
    for host in ("no-such-host.invalid", "a" * 70 + ".example"):
        there = destination(kind="dicom", host=host, port=104, ae_title="A", timeout_s=2)
        assert cstore.send(there, [outgoing()]) == (TryAgain("the host name cannot be resolved"),)


def test_called_title_is_not_known(provider: Callable[..., Peer]) -> None:
    peer = provider(require_called_aet=True)
    (outcome,) = cstore.send(destination(**peer.table(ae_title="OTHER")), [outgoing()])
    assert isinstance(outcome, TryAgain)
    assert outcome.reason.endswith("the AE title OTHER is not known there: correct ae_title")


def test_calling_title_is_not_known(provider: Callable[..., Peer]) -> None:
    peer = provider(require_calling_aet=["SOMEBODY"])
    (outcome,) = cstore.send(destination(**peer.table(calling_ae="US")), [outgoing()])
    assert isinstance(outcome, TryAgain)
    assert "our AE title US is not known there" in outcome.reason
    assert cstore.send(destination(**peer.table(calling_ae="SOMEBODY")), [outgoing()]) == (Sent(),)


def test_too_many_associations(provider: Callable[..., Peer]) -> None:
    peer = provider(maximum_associations=1)
    entity = AE("OTHER")
    entity.add_requested_context("1.2.840.10008.1.1")
    other = entity.associate("127.0.0.1", peer.port)
    assert other.is_established
    there = destination(**peer.table())
    (outcome,) = cstore.send(there, [outgoing()])
    assert outcome == TryAgain("association rejected: it has too many associations")
    other.release()
    until(lambda: cstore.send(there, [outgoing()]) == (Sent(),))


def test_abort_in_the_middle(provider: Callable[..., Peer]) -> None:
    objects = [outgoing() for _ in range(3)]

    def store(event: evt.Event) -> int:
        if event.request.AffectedSOPInstanceUID == objects[1].sop_instance_uid:
            event.assoc.abort()
        return 0

    first, second, third = cstore.send(destination(**provider(store).table()), objects)
    assert first == Sent()
    assert second == TryAgain("the peer aborted the association or the connection broke")
    assert third == TryAgain("the association ended before this object was sent")


def test_slow_answer(provider: Callable[..., Peer]) -> None:
    given_up = threading.Event()

    def store(event: evt.Event) -> int:
        given_up.wait(60)
        return 0

    began = time.monotonic()
    first, second = cstore.send(destination(**provider(store).table(timeout_s=2)), [outgoing(), outgoing()])
    given_up.set()
    assert isinstance(first, TryAgain) and "no answer to C-STORE within" in first.reason
    assert second == TryAgain("the association ended before this object was sent")
    assert time.monotonic() - began < 30


def test_silent_listener(silent: int) -> None:
    there = destination(kind="dicom", host="127.0.0.1", port=silent, ae_title="A", timeout_s=0.5)
    began = time.monotonic()
    (outcome,) = cstore.send(there, [outgoing()])
    assert isinstance(outcome, TryAgain) and "not in time" in outcome.reason
    assert time.monotonic() - began < 30


def test_not_a_dicom_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        there = destination(kind="dicom", host="127.0.0.1", port=listener.getsockname()[1], ae_title="A", timeout_s=20)
        listener.settimeout(60)

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(10)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        (outcome,) = cstore.send(there, [outgoing()])
        thread.join()
    assert isinstance(outcome, TryAgain)


def test_lost_file(provider: Callable[..., Peer], tmp_path: Path) -> None:
    lost, there = outgoing(folder=tmp_path), outgoing()
    assert isinstance(lost.content, Path)
    lost.content.unlink()
    first, second = cstore.send(destination(**provider().table()), [lost, there])
    assert isinstance(first, GiveUp) and lost.sop_instance_uid in first.reason and str(tmp_path) not in first.reason
    assert second == Sent()


def test_nothing_to_send_opens_nothing() -> None:
    assert cstore.send(destination(kind="dicom", host="127.0.0.1", port=free_port(), ae_title="A"), []) == ()


class TestTls:
    def test_trusted(self, provider: Callable[..., Peer], certificates: Certificates) -> None:
        peer = provider(context=certificates.server())
        entry = outgoing(padding=50_000)
        there = destination(**peer.table(tls=True, tls_ca=certificates.file("ca.pem")))
        assert cstore.send(there, [entry]) == (Sent(),)
        assert peer.received[entry.sop_instance_uid] == data_set(stored(entry))
        assert cstore.echo(there) == Sent()

    def test_unknown_authority(self, provider: Callable[..., Peer], certificates: Certificates) -> None:
        peer = provider(context=certificates.server())
        (outcome,) = cstore.send(destination(**peer.table(tls=True)), [outgoing()])
        assert isinstance(outcome, TryAgain) and "TLS: the certificate is not trusted" in outcome.reason
        assert not peer.received

    def test_other_name(self, provider: Callable[..., Peer], certificates: Certificates) -> None:
        table = provider(context=certificates.server("other")).table(tls=True, tls_ca=certificates.file("ca.pem"))
        (outcome,) = cstore.send(destination(**table), [outgoing()])
        assert isinstance(outcome, TryAgain) and "mismatch" in outcome.reason
        assert cstore.send(destination(**table, tls_verify_hostname=False), [outgoing()]) == (Sent(),)

    def test_client_certificate(self, provider: Callable[..., Peer], certificates: Certificates) -> None:
        table = provider(context=certificates.server(ask=True)).table(tls=True, tls_ca=certificates.file("ca.pem"))
        (outcome,) = cstore.send(destination(**{**table, "timeout_s": 1}), [outgoing()])
        assert isinstance(outcome, TryAgain)
        ours = {"tls_cert": certificates.file("client.pem"), "tls_key": certificates.file("client.key")}
        assert cstore.send(destination(**table, **ours), [outgoing()]) == (Sent(),)

    def test_plain_towards_tls(self, provider: Callable[..., Peer], certificates: Certificates) -> None:
        peer = provider(context=certificates.server())
        (outcome,) = cstore.send(destination(**peer.table(timeout_s=1)), [outgoing()])
        assert isinstance(outcome, TryAgain)

    def test_tls_towards_plain(self, provider: Callable[..., Peer]) -> None:
        (outcome,) = cstore.send(destination(**provider().table(timeout_s=1, tls=True)), [outgoing()])
        assert isinstance(outcome, TryAgain)


class TestEcho:
    def test_there(self, provider: Callable[..., Peer]) -> None:
        assert cstore.echo(destination(**provider().table())) == Sent()

    def test_failing(self, provider: Callable[..., Peer]) -> None:
        peer = provider(handlers=((evt.EVT_C_ECHO, lambda event: 0x0122),))
        assert cstore.echo(destination(**peer.table())) == TryAgain("C-ECHO status 0x0122")

    def test_away(self) -> None:
        there = destination(kind="dicom", host="127.0.0.1", port=free_port(), ae_title="A")
        assert isinstance(cstore.echo(there), TryAgain)


def test_dcmtk_stores_the_same_bytes(storescp: tuple[int, Path]) -> None:
    port, folder = storescp
    objects = [outgoing(), outgoing(kind="KOS", padding=300_000)]
    there = destination(kind="dicom", host="127.0.0.1", port=port, ae_title="STORESCP", timeout_s=60)
    assert cstore.send(there, objects) == (Sent(), Sent())
    received = sorted(sha256(data_set(path.read_bytes())) for path in folder.iterdir())
    assert received == sorted(sha256(data_set(stored(entry))) for entry in objects)


def test_orthanc_stores_it_under_its_patient_and_study(archive: Archive) -> None:
    entry = outgoing()
    pacs = archive.orthanc
    there = destination(kind="dicom", host=pacs.host, port=pacs.dicom_port, ae_title=pacs.ae_title)
    assert cstore.echo(there) == Sent()
    assert cstore.send(there, [entry]) == (Sent(),)
    assert dcmread(io.BytesIO(pacs.file(entry.sop_instance_uid))) == dcmread(io.BytesIO(stored(entry)))
    found = pacs.post(
        "/tools/find",
        {"Level": "Instance", "Query": {"PatientID": "P1", "SOPInstanceUID": entry.sop_instance_uid}, "Expand": True},
    )
    assert [item["MainDicomTags"]["SOPInstanceUID"] for item in found] == [entry.sop_instance_uid]
    assert cstore.send(there, [entry]) == (Sent(),), "a second time is no error"
