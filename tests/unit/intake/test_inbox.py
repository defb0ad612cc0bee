"""The inbox: what is written is read, what was never acknowledged is cleared, what is garbled blocks nothing."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, JPEGLSLossless

from service.errors import InputError, NoSpace, TooLarge
from service.intake import deposit, inspection
from service.intake.deposit import Writer, file_meta
from service.intake.inbox import Inbox
from service.intake.limits import Limits
from service.intake.sandbox import Sandbox

MakeDicom = Callable[..., bytes]
LIMITS = Limits()


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path / "inbox", LIMITS)


@pytest.fixture
def writer(inbox: Inbox) -> Any:
    made = Writer(inbox.folder, LIMITS, 0)
    yield made
    made.close()


def keep(writer: Writer, data: bytes, **more: Any) -> str:
    incoming = writer.begin()
    incoming.write(data)
    with incoming.reading() as stream:
        found = inspection.inspect(stream, LIMITS)
    return incoming.keep(found, "stow", "owner", "request-1", **more)


def sidecar(inbox: Inbox, name: str, **changes: Any) -> None:
    path = inbox.folder / f"{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_instance_comes_out_as_it_went_in(inbox: Inbox, writer: Writer, make_dicom: MakeDicom) -> None:
    data = make_dicom()
    name = keep(writer, data, remote="192.0.2.1")
    [entry] = inbox.entries()
    arrival = entry.arrival
    assert entry.id == name and entry.event is None and arrival is not None
    assert (arrival.door, arrival.sender, arrival.association) == ("stow", "owner", "request-1")
    assert arrival.received.endswith("Z")
    found = arrival.instance
    assert found.path.read_bytes() == data and found.sha256 == hashlib.sha256(data).hexdigest()
    assert (found.sop_instance_uid, found.patient_id, found.position) == ("2.25.1", "somebody", (-10, -20, 30))
    assert found.attributes["00100020"] == {"vr": "LO", "Value": ["somebody"]}


def test_what_the_sandbox_found_out_can_be_kept(
    inbox: Inbox, writer: Writer, make_dicom: MakeDicom, sandbox: Sandbox, put: Callable[[bytes], Path]
) -> None:
    path = put(make_dicom())
    [known] = sandbox.inspect([path])
    incoming = writer.begin()
    incoming.write(path.read_bytes())
    incoming.keep(known, "http", "", "")
    [entry] = inbox.entries()
    assert entry.arrival is not None
    found = entry.arrival.instance
    assert found.path != known.path
    assert {**vars(found), "path": 0} == {**vars(known), "path": 0}


def test_the_geometry_of_frames_survives(inbox: Inbox, writer: Writer, make_dicom: MakeDicom) -> None:
    incoming = writer.begin()
    data = make_dicom(np.zeros((4, 4), np.int16), SOPClassUID=EnhancedCTImageStorage)
    incoming.write(data)
    header, _ = inspection.inspect(io.BytesIO(data), LIMITS)
    planes = np.arange(1, 29, dtype=float).reshape(2, 14)
    incoming.keep(({**header, "frames": 2}, planes), "dimse", "S", "a")
    [entry] = inbox.entries()
    assert entry.arrival is not None and entry.arrival.instance.planes == tuple(range(1, 29))


def test_file_meta_is_read_by_pydicom() -> None:
    meta = file_meta(CTImageStorage, "2.25.123", JPEGLSLossless, "CT SCANNER")
    ds = pydicom.dcmread(io.BytesIO(meta + b"\x08\0\x60\0CS\2\0CT"))
    assert (ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID) == (
        CTImageStorage,
        "2.25.123",
    )
    assert (
        ds.file_meta.TransferSyntaxUID == JPEGLSLossless and ds.file_meta.SourceApplicationEntityTitle == "CT SCANNER"
    )
    assert ds.file_meta.FileMetaInformationVersion == b"\0\1" and ds.Modality == "CT"
    assert ds.file_meta.FileMetaInformationGroupLength == len(meta) - 144
    assert len(ds.file_meta.ImplementationVersionName) <= 16
    assert (
        "SourceApplicationEntityTitle"
        not in pydicom.dcmread(io.BytesIO(file_meta("1", "2", JPEGLSLossless, ""))).file_meta
    )


def test_entries_are_in_order_and_no_more_than_asked_for(inbox: Inbox, writer: Writer) -> None:
    names = [writer.event("association-opened", association=str(number)) for number in range(25)]
    assert names == sorted(names)
    assert [entry.id for entry in inbox.entries(10)] == names[:10]
    inbox.done(inbox.entries(10))
    assert [entry.event.association for entry in inbox.entries() if entry.event] == [
        str(number) for number in range(10, 25)
    ]


def test_ids_grow_when_the_clock_is_set_back(inbox: Inbox, writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([2_000_000_000_000_000_000, 1_000_000_000_000_000_000, 1_000_000_000_000_000_001])
    monkeypatch.setattr(deposit.time, "time_ns", lambda: next(times))
    names = [writer.event("association-opened") for _ in range(3)]
    assert names == sorted(names)


def test_writers_in_many_threads(inbox: Inbox, writer: Writer, make_dicom: MakeDicom) -> None:
    data = make_dicom()
    threads = [threading.Thread(target=lambda: [keep(writer, data) for _ in range(5)]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inbox.entries()) == 30


def test_done_forgets_and_leaves_what_was_moved(
    inbox: Inbox, writer: Writer, make_dicom: MakeDicom, tmp_path: Path
) -> None:
    keep(writer, make_dicom())
    keep(writer, make_dicom())
    first, second = inbox.entries()
    assert first.arrival is not None
    first.arrival.instance.path.rename(tmp_path / "moved")
    inbox.done([first, second])
    assert (tmp_path / "moved").exists() and inbox.entries() == []
    assert [path.name for path in inbox.folder.iterdir()] == []


def test_an_interrupted_move_is_shown_again(inbox: Inbox, writer: Writer, make_dicom: MakeDicom) -> None:
    keep(writer, make_dicom())
    [entry] = inbox.entries()
    assert entry.arrival is not None
    entry.arrival.instance.path.unlink()
    assert inbox.recover() == 0
    assert inbox.entries() == [entry]


def test_events(inbox: Inbox, writer: Writer) -> None:
    writer.event("association-opened", association="a.1", sender="CT 1")
    writer.event("association-closed", association="a.1", sender="CT 1", outcome="aborted")
    writer.event(
        "commitment",
        sender="PACS",
        transaction_uid="2.25.9",
        succeeded=[["1.2", "3.4"]],
        failed=[["1.2", "3.5", 0x0112]],
    )
    opened, closed, commitment = [entry.event for entry in inbox.entries()]
    assert opened is not None and closed is not None and commitment is not None
    assert (opened.kind, opened.association, opened.sender) == ("association-opened", "a.1", "CT 1")
    assert (closed.kind, closed.outcome) == ("association-closed", "aborted")
    assert commitment.transaction_uid == "2.25.9"
    assert commitment.succeeded == (("1.2", "3.4"),) and commitment.failed == (("1.2", "3.5", 0x0112),)


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": "../../etc/passwd"},
        {"door": "window"},
        {"sender": "a\nb"},
        {"sender": "x" * 65},
        {"association": "a/b"},
        {"received": "yesterday"},
        {"bytes": 12},
        {"header": {}},
        {"header": []},
        {"header": {"media": "dicom", "rows": -1}},
        {"planes": "%"},
        {"planes": base64.b64encode(b"12345678").decode()},
        {"event": "flood"},
        {"event": "commitment", "transaction_uid": "x"},
        {"event": "commitment", "transaction_uid": "1.2", "failed": [["1", "2", 70000]]},
        {"event": "commitment", "transaction_uid": "1.2", "succeeded": [["1"]]},
        {"event": ["x"]},
    ],
)
def test_a_garbled_sidecar_is_set_aside(
    inbox: Inbox, writer: Writer, make_dicom: MakeDicom, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = keep(writer, make_dicom()), keep(writer, make_dicom())
    sidecar(inbox, bad, **changes)
    with caplog.at_level(logging.ERROR):
        assert [entry.id for entry in inbox.entries()] == [good]
    assert sorted(path.name for path in (inbox.folder / "garbled").iterdir()) == [f"{bad}.dcm", f"{bad}.json"]
    [record] = caplog.records
    assert "incident" in record.getMessage() and str(inbox.folder) not in record.getMessage()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000, b"{" + b" " * (3 << 20) + b"}"])
def test_a_sidecar_that_is_no_sidecar(inbox: Inbox, writer: Writer, text: bytes) -> None:
    name = writer.event("association-opened")
    (inbox.folder / f"{name}.json").write_bytes(text)
    assert inbox.entries() == []
    assert (inbox.folder / "garbled" / f"{name}.json").exists()


def test_links_and_pipes_are_not_followed(inbox: Inbox, writer: Writer, make_dicom: MakeDicom, tmp_path: Path) -> None:
    linked, piped, elsewhere = (keep(writer, make_dicom()) for _ in range(3))
    for name in (linked, piped):
        (inbox.folder / f"{name}.json").rename(tmp_path / name)
    (inbox.folder / f"{linked}.json").symlink_to(tmp_path / linked)
    os.mkfifo(inbox.folder / f"{piped}.json")
    file = inbox.folder / f"{elsewhere}.dcm"
    file.rename(tmp_path / "file")
    file.symlink_to(tmp_path / "file")
    assert inbox.entries() == []
    assert {path.name for path in (inbox.folder / "garbled").iterdir()} >= {
        f"{linked}.json",
        f"{piped}.json",
        file.name,
    }
    assert (tmp_path / linked).exists() and (tmp_path / "file").exists()


def test_foreign_names_are_left_alone(inbox: Inbox) -> None:
    for name in ("README", "x.json", "1.dcm"):
        (inbox.folder / name).write_text("x")
    assert inbox.entries() == [] and inbox.recover() == 0
    assert len(list(inbox.folder.iterdir())) == 3


def test_recovery_deletes_what_was_never_acknowledged(inbox: Inbox, writer: Writer, make_dicom: MakeDicom) -> None:
    kept = keep(writer, make_dicom())
    unfinished = writer.begin()
    unfinished.write(b"half")
    (inbox.folder / f"{unfinished.id}.json.part").write_text("{")
    assert inbox.recover() == 2
    assert sorted(path.name for path in inbox.folder.iterdir()) == [f"{kept}.dcm", f"{kept}.json"]
    unfinished.discard()


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-1] + b"\xff"])
def test_recovery_sets_aside_what_the_disk_had_not_got(
    inbox: Inbox, writer: Writer, make_dicom: MakeDicom, damage: Callable[[bytes], bytes]
) -> None:
    lost, kept = keep(writer, make_dicom()), keep(writer, make_dicom())
    path = inbox.folder / f"{lost}.dcm"
    path.write_bytes(damage(path.read_bytes()))
    inbox.recover()
    assert [entry.id for entry in inbox.entries()] == [kept]
    assert (inbox.folder / "garbled" / f"{lost}.dcm").exists()


def test_discarded_is_gone(inbox: Inbox, writer: Writer) -> None:
    incoming = writer.begin(b"head")
    incoming.discard()
    incoming.discard()
    assert list(inbox.folder.iterdir()) == []


def test_the_reserve_of_the_disk_is_kept(inbox: Inbox, make_dicom: MakeDicom) -> None:
    full = Writer(inbox.folder, LIMITS, 1 << 60)
    with pytest.raises(NoSpace):
        full.begin()
    full.close()
    assert list(inbox.folder.iterdir()) == []


def test_the_reserve_is_looked_at_again_while_writing(
    inbox: Inbox, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deposit, "_LOOK_BYTES", 100)
    incoming = writer.begin()
    incoming.write(bytes(90))
    monkeypatch.setattr(writer, "_free_bytes", 1 << 60)
    with pytest.raises(NoSpace):
        incoming.write(bytes(20))
    incoming.discard()


def test_an_instance_that_is_too_large(inbox: Inbox) -> None:
    small = Writer(inbox.folder, Limits(file_bytes=1000), 0)
    incoming = small.begin(b"head")
    incoming.write(bytes(1000))
    with pytest.raises(TooLarge, match="1000"):
        incoming.write(b"x")
    incoming.discard()
    small.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_at_the_last_moment(
    inbox: Inbox, writer: Writer, make_dicom: MakeDicom, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def full(handle: int) -> None:
        raise OSError(code, "full")

    monkeypatch.setattr(deposit.os, "fsync", full)
    with pytest.raises(NoSpace):
        keep(writer, make_dicom())
    assert list(inbox.folder.iterdir()) == []
    with pytest.raises(NoSpace):
        writer.event("association-opened")
    assert list(inbox.folder.iterdir()) == []


@pytest.mark.parametrize("changes", [{"rows": -5}, {"patient_id": "a\nb"}, {"position": [1.0, float("nan"), 2.0]}])
def test_a_header_that_could_not_be_read_back_is_refused(
    inbox: Inbox, writer: Writer, make_dicom: MakeDicom, changes: dict[str, Any]
) -> None:
    header, planes = inspection.inspect(io.BytesIO(make_dicom()), LIMITS)
    incoming = writer.begin()
    incoming.write(make_dicom())
    with pytest.raises(InputError):
        incoming.keep(({**header, **changes}, planes), "dimse", "S", "a")
    assert list(inbox.folder.iterdir()) == []


def test_nothing_is_visible_before_it_is_on_the_disk(
    inbox: Inbox, writer: Writer, make_dicom: MakeDicom, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, list[str]]] = []
    sync = os.fsync

    def watched(handle: int) -> None:
        target = Path(f"/proc/self/fd/{handle}").readlink().name.rpartition("-")[2]
        seen.append((target.partition(".")[2] or "folder", sorted(path.suffix for path in inbox.folder.iterdir())))
        sync(handle)

    monkeypatch.setattr(deposit.os, "fsync", watched)
    keep(writer, make_dicom())
    assert [step for step, _ in seen] == ["dcm", "json.part", "folder"]
    assert not any(".json" in suffixes for _, suffixes in seen) and len(inbox.entries()) == 1


def test_recovery_finishes_what_may_have_been_acknowledged(inbox: Inbox, writer: Writer, make_dicom: MakeDicom) -> None:
    names = [
        keep(writer, make_dicom()),
        writer.event("association-opened"),
        keep(writer, make_dicom()),
        keep(writer, make_dicom()),
    ]
    for name in names:
        (inbox.folder / f"{name}.json").rename(inbox.folder / f"{name}.json.part")
    short = inbox.folder / f"{names[2]}.json.part"
    short.write_bytes(short.read_bytes()[:-1])
    with (inbox.folder / f"{names[3]}.dcm").open("r+b") as stream:
        stream.truncate(200)
    assert inbox.entries() == []
    assert inbox.recover() == 4
    assert [entry.id for entry in inbox.entries()] == names[:2]
    assert len(list(inbox.folder.iterdir())) == 3


def test_the_reader_is_woken_and_a_full_pipe_is_no_fault(inbox: Inbox) -> None:
    read, write = os.pipe2(os.O_NONBLOCK)
    loud = Writer(inbox.folder, LIMITS, 0, write)
    loud.event("association-opened")
    assert os.read(read, 10) == b"\0"
    try:
        while os.write(write, bytes(4096)):
            pass
    except BlockingIOError:
        pass
    loud.event("association-opened")
    assert len(inbox.entries()) == 2
    loud.close()
    os.close(read)
    os.close(write)
