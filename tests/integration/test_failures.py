"""Nothing is lost and nothing is done twice: processes killed, destinations away, disks full, databases locked and gone."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import shutil
import signal
import sqlite3
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt

from service.delivery.callback import verify_signature
from service.phantoms import write_ct, write_fundus
from tests import postgres
from tests.hangup import close_for_good
from tests.integration.conftest import Server
from tests.integration.test_pacs import CT, photograph, stow
from tests.orthanc import free_port
from tests.waiting import until

SR, SEG, SC, KOS = (
    "1.2.840.10008.5.1.4.1.1.88.34",
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.88.59",
)
RESULTS = (SR, SEG, SC, "1.2.840.10008.5.1.4.1.1.7.4", KOS)
SUCCESS, OUT_OF_RESOURCES, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xC000
COUNT = 24
"""Slices of a study in these tests."""


# -- studies, senders, receivers --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    """Slices round a planted nodule."""
    made = write_ct(tmp_path_factory.mktemp("phantom"))
    nodule = made["nodules"][0]["sop_instance_uid"]
    slices = [pydicom.dcmread(path) for path in made["files"]]
    middle = next(n for n, ds in enumerate(slices) if nodule == ds.SOPInstanceUID)
    return slices[middle - COUNT // 2 : middle + COUNT // 2]


@pytest.fixture(scope="module")
def eye(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("eye") / "eye.jpg"
    write_fundus(path)
    return path.read_bytes()


class Study:
    """A study of its own; with `announced` each slice says how many there are."""

    def __init__(self, phantom: list[Dataset], name: str, announced: bool = False) -> None:
        self.uid, self.series_uid = (
            generate_uid(entropy_srcs=[name, "study"]),
            generate_uid(entropy_srcs=[name, "series"]),
        )
        self.slices = []
        for number, source in enumerate(phantom, 1):
            ds = copy.deepcopy(source)
            ds.StudyInstanceUID, ds.SeriesInstanceUID = self.uid, self.series_uid
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[name, str(number)])
            ds.PatientID, ds.InstanceNumber = name, number
            if announced:
                ds.NumberOfSeriesRelatedInstances = len(phantom)
            self.slices.append(ds)

    @property
    def uids(self) -> set[str]:
        return {str(ds.SOPInstanceUID) for ds in self.slices}

    @property
    def files(self) -> list[bytes]:
        files = []
        for ds in self.slices:
            stream = io.BytesIO()
            ds.save_as(stream, enforce_file_format=True)
            files.append(stream.getvalue())
        return files


class Sender:
    """One association to a server."""

    def __init__(self, server: Server) -> None:
        entity = AE("SENDER")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 180
        entity.add_requested_context(CT, ExplicitVRLittleEndian)
        self.association = entity.associate("127.0.0.1", server.dicom_port, ae_title="PELLUCID")
        assert self.association.is_established
        self._socket = self.association.dul.socket.socket

    def send(self, ds: Dataset) -> int | None:
        """The status of the C-STORE; None when there was no answer."""
        try:
            return self.association.send_c_store(ds).get("Status")  # type: ignore[no-any-return]
        except (RuntimeError, ValueError):  # the association is gone
            return None

    def close(self) -> None:
        """Release, or tidy up after a server that was killed."""
        if self.association.is_established:
            self.association.release()
        self.association.kill()
        self.association.join(10)
        self._socket.close()  # pynetdicom leaves it open when the other side has died


def send(server: Server, slices: Sequence[Dataset]) -> list[int | None]:
    """Send on one association and release it; the statuses."""
    sender = Sender(server)
    statuses = [sender.send(ds) for ds in slices]
    sender.close()
    return statuses


class FakePacs:
    """A storage service class provider that notes what it gets, byte for byte; it may refuse, hang, and be away."""

    def __init__(self) -> None:
        self.port = free_port()
        self.received: list[tuple[str, bytes]] = []
        self.status: Callable[[str], int] = lambda sop_class: SUCCESS
        self.called, self.go = threading.Event(), threading.Event()
        self.go.set()
        self._running: Any = None

    def start(self) -> None:
        entity = AE("PACS")
        for sop_class in RESULTS:
            entity.add_supported_context(sop_class)
        self._running = entity.start_server(
            ("127.0.0.1", self.port),
            block=False,
            evt_handlers=[(evt.EVT_CONN_OPEN, close_for_good), (evt.EVT_C_STORE, self._store)],
        )

    def stop(self) -> None:
        if self._running is not None:
            self.go.set()
            self._running.shutdown()
            self._running = None

    def _store(self, event: evt.Event) -> int:
        self.called.set()
        self.go.wait(600)
        status = self.status(str(event.request.AffectedSOPClassUID))
        if status == SUCCESS:
            self.received.append((str(event.request.AffectedSOPInstanceUID), event.request.DataSet.getvalue()))
        return status

    def table(self, **more: Any) -> dict[str, Any]:
        return {
            "kind": "dicom", "name": "pacs", "host": "127.0.0.1", "port": self.port, "ae_title": "PACS", "timeout_s": 10, **more,
        }  # fmt: skip

    def check(self, server: Server, analyses: Sequence[Any]) -> None:
        """Each object of these analyses is here, as it was made; there is no other, and no second version of any."""
        made = {
            o["sop_instance_uid"]: data_set(server.call("GET", o["href"])[1]) for a in analyses for o in a["objects"]
        }
        assert made and {uid for uid, _ in self.received} == set(made)
        for uid, content in self.received:
            assert hashlib.sha256(content).digest() == hashlib.sha256(made[uid]).digest()


def data_set(part10: bytes) -> bytes:
    """What follows the meta information, whose group length (PS3.10 table 7.1-1) says where."""
    return part10[144 + struct.unpack("<I", part10[140:144])[0] :]


@pytest.fixture
def pacs() -> Iterator[FakePacs]:
    made = FakePacs()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def cluster() -> Iterator[postgres.Postgres]:
    with postgres.running() as found:
        yield found


# -- looking at a server ------------------------------------------------------------------------------------------------------


def stored(server: Server, study: str) -> set[str]:
    """SOP Instance UIDs of the source images that the server has of a study."""
    status, found, _ = server.call("GET", f"/dicomweb/studies/{study}/instances?Modality=CT&limit=1000")
    return {one["00080018"]["Value"][0] for one in found} if status == 200 else set()


def running(server: Server, study: str) -> str:
    """Wait until an analysis of a study runs; its id."""

    def look() -> str:
        rows = server.call("GET", f"/api/v1/analyses?study={study}")[1]["analyses"]
        assert all(row["status"] in ("queued", "running") for row in rows), "it ended before it could be disturbed"
        return next((str(row["id"]) for row in rows if row["status"] == "running"), "")

    return str(until(look, 120, lambda: (server.call("GET", "/api/v1/analyses")[1], server.call("GET", "/health")[1])))


def attempts(server: Server, identity: str, database: str = "") -> int:
    query = f"SELECT attempts FROM analyses WHERE id = '{identity}'"
    if database:
        with psycopg.connect(database.replace("+psycopg", "")) as shared:
            return int(shared.execute(query).fetchall()[0][0])
    with contextlib.closing(sqlite3.connect(server.folder / "data" / "pellucid.sqlite")) as connection:
        return int(connection.execute(query).fetchone()[0])


def delivered(server: Server, identity: str, states: tuple[str, ...] = ("sent",), seconds: float = 240) -> list[Any]:
    """The deliveries of an analysis when all are in one of these states."""

    def look() -> Any:
        rows = server.call("GET", f"/api/v1/deliveries?analysis={identity}")[1]["deliveries"]
        return rows if rows and all(row["state"] in states for row in rows) else None

    return until(look, seconds, lambda: (states, server.call("GET", f"/api/v1/deliveries?analysis={identity}")[1]))  # type: ignore[no-any-return]


def quiet(server: Server, study: str, count: int = 1, seconds: float = 2.0) -> None:
    """Nothing more comes of a study."""
    until(
        lambda: (
            server.call("GET", "/api/v1/series")[1]["series"] == []
            and not list((server.folder / "data" / "inbox").glob("*.json"))
        ),
        60,
        "a series or something in the inbox stays open",
    )
    time.sleep(seconds)
    assert len(server.of_study(study, count)) == count
    assert server.call("GET", "/api/v1/series")[1]["series"] == []
    assert list((server.folder / "data" / "inbox").glob("*.json")) == []


@contextlib.contextmanager
def waited_out(server: Server) -> Iterator[None]:
    """At the end of the block, wait until a running analysis has met the trouble that was made in it."""
    before = len(server.log.read_text())
    yield

    def met() -> bool:
        text = server.log.read_text()[before:]
        return any(sign in text for sign in ("tried again", " _run", " _analyse"))

    until(met, 240, "the analysis does not notice the trouble")


def receivers(server: Server) -> list[int]:
    assert server.process is not None
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended while we looked
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == server.process.pid and b"service.dimse.receiver" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def kill(server: Server) -> None:
    """SIGKILL for the server; its receivers end with it."""
    pids = receivers(server)
    assert pids
    server.stop(signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 60, "receivers outlive the server")


# -- killed -------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_while_a_series_is_received(own_server: Server, phantom: list[Dataset]) -> None:
    study = Study(phantom, "KILL-1", announced=True)
    own_server.start()
    sender = Sender(own_server)
    acknowledged: set[str] = set()
    pids = receivers(own_server)
    for number, ds in enumerate(study.slices):
        if number == COUNT // 2:
            threading.Timer(0.01, lambda: own_server.process and own_server.process.kill()).start()
        if number == COUNT - 1:
            until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 60, "receivers outlive the server")
        if sender.send(ds) == SUCCESS:
            acknowledged.add(str(ds.SOPInstanceUID))
        else:
            break
    assert own_server.stop(signal.SIGKILL) == -signal.SIGKILL
    sender.close()
    assert COUNT // 2 <= len(acknowledged) < COUNT
    own_server.start()
    until(lambda: stored(own_server, study.uid) >= acknowledged, 60, "an acknowledged instance is lost")
    rest = [ds for ds in study.slices if str(ds.SOPInstanceUID) not in acknowledged]
    assert send(own_server, rest) == [SUCCESS] * len(rest)
    (analysis,) = own_server.of_study(study.uid)
    assert analysis["status"] == "completed" and set(analysis["input"]["instances"]) == study.uids
    assert stored(own_server, study.uid) == study.uids
    quiet(own_server, study.uid)


@pytest.mark.slow
def test_killed_after_the_last_success(own_server: Server, phantom: list[Dataset]) -> None:
    """The association is still open, and nothing has happened but the acknowledgement."""
    study = Study(phantom, "KILL-2")
    own_server.start(series_stable_s="1")
    sender = Sender(own_server)
    assert [sender.send(ds) for ds in study.slices] == [SUCCESS] * COUNT
    kill(own_server)
    sender.close()
    own_server.start(series_stable_s="1")
    (analysis,) = own_server.of_study(study.uid)
    assert analysis["status"] == "completed" and set(analysis["input"]["instances"]) == study.uids
    assert attempts(own_server, analysis["id"]) == 1
    quiet(own_server, study.uid)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    return "" if request.param == "sqlite" else request.getfixturevalue("cluster").create()


@pytest.mark.slow
def test_killed_in_mid_analysis_and_in_mid_delivery(
    own_server: Server, database: str, phantom: list[Dataset], pacs: FakePacs
) -> None:
    study = Study(phantom, "KILL-3", announced=True)
    settings = {"destinations": json.dumps([pacs.table()]), "delivery_backoff_s": "0.2", "database": database}
    own_server.start(**settings)
    assert send(own_server, study.slices) == [SUCCESS] * COUNT
    identity = running(own_server, study.uid)
    kill(own_server)
    pacs.go.clear()  # the next C-STORE hangs
    own_server.start(**settings)
    assert pacs.called.wait(180), "nothing is delivered"
    kill(own_server)
    pacs.go.set()
    own_server.start(**settings)
    (analysis,) = own_server.of_study(study.uid)
    assert (analysis["id"], analysis["status"], attempts(own_server, identity, database)) == (identity, "completed", 2)
    assert {o["kind"] for o in analysis["objects"]} == {"SR", "SEG", "SC", "KOS"}
    rows = delivered(own_server, identity)
    assert sorted(row["object"] for row in rows) == sorted(o["sop_instance_uid"] for o in analysis["objects"])
    pacs.check(own_server, [analysis])
    found = own_server.call("GET", f"/dicomweb/studies/{study.uid}/instances?limit=1000")[1]
    uids = [one["00080018"]["Value"][0] for one in found]
    assert sorted(uids) == sorted([*study.uids, *(o["sop_instance_uid"] for o in analysis["objects"])])
    quiet(own_server, study.uid)


@pytest.mark.slow
def test_sigterm_in_mid_analysis_is_no_attempt(own_server: Server, phantom: list[Dataset]) -> None:
    study = Study(phantom, "TERM-1", announced=True)
    own_server.start(stop_wait_s="0")
    assert send(own_server, study.slices) == [SUCCESS] * COUNT
    identity = running(own_server, study.uid)
    assert own_server.stop(signal.SIGTERM) == 0
    assert attempts(own_server, identity) == 0
    own_server.start(stop_wait_s="60")
    (analysis,) = own_server.of_study(study.uid)
    assert (analysis["id"], analysis["status"], attempts(own_server, identity)) == (identity, "completed", 1)
    assert "Traceback" not in own_server.log.read_text()


@pytest.mark.slow
def test_sigterm_in_mid_delivery_does_not_wait_for_a_destination_that_hangs(
    own_server: Server, eye: bytes, pacs: FakePacs
) -> None:
    uid, data = photograph(eye, "TERM-2")
    settings = {"destinations": json.dumps([pacs.table(timeout_s=600, objects=["SR"])]), "stop_wait_s": "1"}
    own_server.start(**settings)
    pacs.go.clear()
    assert stow(own_server, [data]) == 200
    assert pacs.called.wait(180)
    begin = time.monotonic()
    assert own_server.stop(signal.SIGTERM) == 0
    assert time.monotonic() - begin < 90
    pacs.go.set()
    own_server.start(**settings)
    (analysis,) = own_server.of_study(uid)
    (row,) = delivered(own_server, analysis["id"])
    assert row["attempts"] == 1, "a stop is no attempt"
    assert len({content for _, content in pacs.received}) == 1


# -- destinations -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_destination_that_is_away_refuses_and_comes_back(own_server: Server, eye: bytes, pacs: FakePacs) -> None:
    pacs.stop()
    own_server.start(
        destinations=json.dumps([pacs.table(objects=["SR", "SC"])]), delivery_backoff_s="0.2", delivery_wait_s="1"
    )
    uid, data = photograph(eye, "AWAY-1")
    assert stow(own_server, [data]) == 200
    (analysis,) = own_server.of_study(uid)
    place = f"/api/v1/deliveries?analysis={analysis['id']}"
    rows = until(
        lambda: [r for r in own_server.call("GET", place)[1]["deliveries"] if r["attempts"] > 1 and r["last_error"]], 60
    )
    assert {row["state"] for row in rows} <= {"waiting", "sending"}
    assert all("127.0.0.1" not in row["last_error"] for row in rows), rows
    pacs.status = lambda sop_class: NOT_UNDERSTOOD if sop_class == SR else SUCCESS  # that report, never
    pacs.start()
    rows = delivered(own_server, analysis["id"], ("sent", "dead"))
    (sent,) = [row for row in rows if row["state"] == "sent"]
    (dead,) = own_server.call("GET", "/api/v1/deliveries?state=dead")[1]["deliveries"]
    assert sent["attempts"] > 1 and "0xC000" in dead["last_error"]
    assert len(pacs.received) == 1
    pacs.status = lambda sop_class: SUCCESS
    status, answer, _ = own_server.call("POST", f"/api/v1/deliveries/{dead['id']}/replay")
    assert (status, answer) == (202, {"waiting": 1})
    delivered(own_server, analysis["id"])
    assert own_server.call("GET", "/api/v1/deliveries?state=dead")[1]["deliveries"] == []
    assert len(pacs.received) == 2, "the replay sends what was set aside, and nothing else"


@pytest.mark.slow
def test_a_signed_callback_is_repeated_until_it_is_accepted(own_server: Server, eye: bytes) -> None:
    secret, calls = "a secret of the test's own", []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            calls.append((self.headers["Pellucid-Delivery"], self.headers["Pellucid-Signature"], body))
            self.send_response(500 if len(calls) < 3 else 204)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    try:
        hook = {
            "kind": "callback",
            "name": "hook",
            "url": f"http://127.0.0.1:{listener.server_port}/done",
            "secret": secret,
        }
        own_server.start(destinations=json.dumps([hook]), delivery_backoff_s="0.1", sync_wait_s="60")
        status, analysis = own_server.post([("eye.jpg", eye)])
        assert (status, analysis["status"]) == (200, "completed")
        (row,) = delivered(own_server, analysis["id"])
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
    assert row["attempts"] == 3 == len(calls) and len({identity for identity, _, _ in calls}) == 1
    for _, signature, body in calls:
        assert verify_signature(secret, signature, body)
        assert not verify_signature("another secret, not this one", signature, body)
        assert not verify_signature(secret, signature, body + b" ")
        assert json.loads(body)["id"] == analysis["id"] and json.loads(body)["status"] == "completed"
    assert secret not in own_server.log.read_text()


# -- disks ------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_disk_at_its_reserve_refuses_at_every_door(own_server: Server, phantom: list[Dataset], eye: bytes) -> None:
    study = Study(phantom, "FULL-1")
    own_server.start(free_bytes=str(1 << 60))
    assert send(own_server, study.slices[:1]) == [OUT_OF_RESOURCES]
    assert stow(own_server, study.files[:1]) == 507
    status, problem = own_server.post([("eye.jpg", eye)])
    assert (status, problem["type"]) == (507, "/docs#problem-no-space")
    assert own_server.call("GET", "/v2/health/live")[0] == 200
    status, health, _ = own_server.call("GET", "/health")
    assert status == 503
    assert [check["check"] for check in health["checks"] if check["result"] != "pass"] == ["disk space"]
    assert stored(own_server, study.uid) == set()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 96 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("NO SMALL DISK: mounting a tmpfs needs root and CAP_SYS_ADMIN; THIS TEST DID NOT RUN")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Take all but some bytes of a disk."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while (left := shutil.disk_usage(disk).free - leave) > 0:
            stream.write(bytes(min(left, 1 << 20)))
    return filler


@pytest.mark.slow
def test_a_disk_that_is_really_full_loses_nothing(small_disk: Path, phantom: list[Dataset]) -> None:
    study, second = Study(phantom, "FULL-2", announced=True), Study(phantom, "FULL-3")
    quarter = Study(phantom[:1], "FULL-4")
    quarter.slices[0].Rows = quarter.slices[0].Columns = 256
    quarter.slices[0].PixelData = bytes(256 * 256 * 2)
    small = quarter.files  # fits into the memory of the HTTP server, which has no disk to lay a large body down
    server = Server(small_disk)
    try:
        server.start(free_bytes="0", series_stable_s="1")
        acknowledged = [ds for ds in study.slices[: COUNT // 2] if send(server, [ds]) == [SUCCESS]]
        assert len(acknowledged) == COUNT // 2
        # full: refused at every door
        filler = fill(small_disk)
        assert set(send(server, study.slices[COUNT // 2 :])) == {OUT_OF_RESOURCES}
        assert stow(server, small) == 507
        assert server.post([("small.dcm", small[0])])[0] == 507
        assert server.call("GET", "/v2/health/live")[0] == 200
        # a little room: some fit into the inbox, and the database may not be able to take them in
        with filler.open("r+b") as stream:
            stream.truncate(filler.stat().st_size - 1_300_000)
        acknowledged += [ds for ds in study.slices[COUNT // 2 : -1] if send(server, [ds]) == [SUCCESS]]
        fill(small_disk / "data", 0)
        # room again: all that was acknowledged is there, and what was refused can be sent
        (small_disk / "data" / "filler").unlink()
        filler.unlink()
        wanted = {str(ds.SOPInstanceUID) for ds in acknowledged}
        until(lambda: stored(server, study.uid) >= wanted, 90, "an acknowledged instance is lost")
        rest = [ds for ds in study.slices if str(ds.SOPInstanceUID) not in wanted]
        assert send(server, rest) == [SUCCESS] * len(rest)
        (analysis,) = server.of_study(study.uid)
        assert analysis["status"] == "completed" and set(analysis["input"]["instances"]) == study.uids
        # full in mid-analysis: it waits for room
        assert send(server, second.slices) == [SUCCESS] * COUNT
        identity = running(server, second.uid)
        with waited_out(server):
            filler = fill(small_disk, 300_000)  # the database could still take a failure
        assert server.call("GET", f"/api/v1/analyses/{identity}")[1]["status"] == "running"
        filler.unlink()
        (analysis,) = server.of_study(second.uid)
        assert (analysis["id"], analysis["status"], attempts(server, identity)) == (identity, "completed", 1)
        assert {o["kind"] for o in analysis["objects"]} == {"SR", "SEG", "SC", "KOS"}
        assert server.call("GET", analysis["findings"][0]["evidence"]["maps"]["clear"])[0] == 200
    finally:
        if server.process is not None:
            server.stop(signal.SIGKILL)


# -- databases ----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(server: Server) -> Iterator[None]:
    """Another process holds the write locks of both databases."""
    program = (
        "import sqlite3, sys\n"
        "held = [sqlite3.connect(path, isolation_level=None, timeout=60) for path in sys.argv[1:]]\n"
        "for each in held: each.execute('BEGIN IMMEDIATE')\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    files = [str(server.folder / "data" / name) for name in ("pellucid.sqlite", "workflows.sqlite")]
    with subprocess.Popen(
        ["python3", "-c", program, *files], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        try:
            yield
        finally:
            holder.stdin.close()


@pytest.mark.slow
def test_a_database_that_is_locked_is_waited_for(own_server: Server, phantom: list[Dataset], pacs: FakePacs) -> None:
    """For longer than the busy timeout of 10 s, at the end of an analysis and while another study is received."""
    first, second = Study(phantom, "LOCK-1", announced=True), Study(phantom, "LOCK-2", announced=True)
    own_server.start(attempts="1", destinations=json.dumps([pacs.table()]), delivery_backoff_s="0.2")
    assert send(own_server, first.slices) == [SUCCESS] * COUNT
    identity = running(own_server, first.uid)
    with locked(own_server):
        begin = time.monotonic()
        with waited_out(own_server):
            assert send(own_server, second.slices) == [SUCCESS] * COUNT
            assert time.monotonic() - begin < 10, "receiving does not wait for the database"
        assert time.monotonic() - begin > 10
    analyses = [own_server.of_study(study.uid)[0] for study in (first, second)]
    for study, analysis in zip((first, second), analyses, strict=True):
        assert analysis["status"] == "completed", analysis.get("error")
        assert set(analysis["input"]["instances"]) == study.uids == stored(own_server, study.uid)
        assert attempts(own_server, analysis["id"]) == 1, "the database's trouble is no attempt"
        delivered(own_server, analysis["id"])
    assert analyses[0]["id"] == identity
    pacs.check(own_server, analyses)
    quiet(own_server, second.uid)


class Hosts:
    """Servers that share a database and a folder of contents."""

    def __init__(self, folder: Path, cluster: postgres.Postgres, **settings: str) -> None:
        self.url = cluster.create()
        (folder / "a").mkdir()
        (folder / "b").mkdir()
        self.a, self.b = Server(folder / "a"), Server(folder / "b")
        self.settings = {
            "database": self.url, "blobs_dir": str(folder / "shared"), "series_stable_s": "1", "host_lost_s": "3", **settings,
        }  # fmt: skip

    def start(self) -> None:
        for host in (self.a, self.b):
            host.start(**self.settings)

    def query(self, text: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url.replace("+psycopg", "")) as connection:
            return connection.execute(text).fetchall()  # type: ignore[arg-type]

    def pending(self) -> dict[str, str]:
        """Which host runs each analysis: its name by the analysis' id."""
        rows = self.query(
            "SELECT workflow_uuid, executor_id FROM dbos.workflow_status WHERE status = 'PENDING' AND queue_name = 'analyses'"
        )
        return {identity.split(".")[0]: host for identity, host in rows}

    def name(self, host: Server) -> str:
        return (host.folder / "data" / "host-id").read_text()

    def stop(self) -> None:
        for host in (self.a, self.b):
            if host.process is not None:
                host.stop(signal.SIGKILL)
            assert postgres.PASSWORD not in host.log.read_text()


@pytest.fixture
def hosts(tmp_path: Path, cluster: postgres.Postgres, pacs: FakePacs) -> Iterator[Hosts]:
    made = Hosts(tmp_path, cluster, destinations=json.dumps([pacs.table()]), delivery_backoff_s="0.2")
    yield made
    made.stop()


@pytest.mark.slow
def test_a_host_that_dies_is_taken_over(hosts: Hosts, phantom: list[Dataset], pacs: FakePacs) -> None:
    hosts.start()
    studies = [Study(phantom, f"HOST-{n}", announced=True) for n in range(4)]
    for number, study in enumerate(studies):
        assert send((hosts.a, hosts.b)[number % 2], study.slices) == [SUCCESS] * COUNT
    spread: dict[str, str] = {}

    def both() -> str:
        spread.update(now := hosts.pending())
        return (
            next((i for i, host in now.items() if host == hosts.name(hosts.a)), "")
            if len(set(now.values())) == 2
            else ""
        )

    def shared() -> bool:
        """Nothing waits in a host's own inbox: what does comes when that host is back."""
        return all(stored(hosts.b, study.uid) == study.uids for study in studies)

    lost, all_shared, end = "", False, time.monotonic() + 180
    while not (lost and all_shared):
        assert time.monotonic() < end, (
            f"what came is not shared ({all_shared}), or the analyses do not spread: {spread}"
        )
        all_shared = all_shared or shared()
        lost = both()
        time.sleep(0 if lost else 0.02)
    hosts.a.stop(signal.SIGKILL)
    analyses = [hosts.b.of_study(study.uid)[0] for study in studies]
    assert [analysis["status"] for analysis in analyses] == ["completed"] * 4
    assert lost in [analysis["id"] for analysis in analyses]
    for study, analysis in zip(studies, analyses, strict=True):
        assert set(analysis["input"]["instances"]) == study.uids
        delivered(hosts.b, analysis["id"])
        assert len(hosts.b.of_study(study.uid)) == 1
    taken = dict(hosts.query("SELECT id, attempts FROM analyses"))
    assert taken[lost] == 2 and set(taken.values()) <= {1, 2}
    pacs.check(hosts.b, analyses)
    assert hosts.query("SELECT id FROM hosts") == [(hosts.name(hosts.b),)]
    # back again, it works on as if nothing had been
    hosts.a.start(**hosts.settings)
    more = Study(phantom, "HOST-9", announced=True)
    assert send(hosts.a, more.slices) == [SUCCESS] * COUNT
    assert hosts.b.of_study(more.uid)[0]["status"] == "completed"


@pytest.mark.slow
def test_a_postgresql_that_goes_away_for_10_s_loses_nothing(
    hosts: Hosts, cluster: postgres.Postgres, phantom: list[Dataset], pacs: FakePacs
) -> None:
    hosts.start()
    first, second = Study(phantom, "GONE-1", announced=True), Study(phantom, "GONE-2", announced=True)
    assert send(hosts.a, first.slices) == [SUCCESS] * COUNT
    identity = running(hosts.a, first.uid)
    begin = time.monotonic()
    cluster.stop("immediate")
    assert send(hosts.b, second.slices) == [SUCCESS] * COUNT, "receiving does not need the database"
    assert hosts.a.call("GET", "/v2/health/live")[0] == 200
    time.sleep(max(0.0, 10 - (time.monotonic() - begin)))
    cluster.start()
    until(lambda: hosts.a.call("GET", "/health")[0] == 200, 120, "the database is not used again")
    analyses = [hosts.a.of_study(study.uid)[0] for study in (first, second)]
    for study, analysis in zip((first, second), analyses, strict=True):
        assert analysis["status"] == "completed", analysis.get("error")
        assert set(analysis["input"]["instances"]) == study.uids
        delivered(hosts.a, analysis["id"])
        assert len(hosts.a.of_study(study.uid)) == 1
    assert analyses[0]["id"] == identity
    taken = dict(hosts.query("SELECT id, attempts FROM analyses"))
    assert set(taken.values()) == {1}, "the database's trouble is no attempt, and nobody counts as dead for it"
    pacs.check(hosts.a, analyses)
