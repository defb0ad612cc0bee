"""The listener as a whole: TLS, receivers that die, a service that dies, and an orderly stop."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from pydicom import uid
from pynetdicom.association import Association

from service.config import ConfigError, Settings
from service.dimse.listener import Listener
from service.intake.inbox import Inbox
from service.intake.limits import Limits
from tests.unit.dimse.conftest import Box, data_set, instance, saved, sha256
from tests.unit.dimse.test_lane import pdu, pdv, store
from tests.waiting import until

Associate = Callable[..., Association]
Start = Callable[..., Box]
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, server.pem and client.pem signed by it, stranger.pem by nobody; keys beside them."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["/usr/bin/openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl(*new, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("server", "client"):
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE")
        subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
        openssl(*new, *signed, *subject, "-keyout", f"{name}.key", "-out", f"{name}.pem")
    openssl(*new, "-subj", "/CN=stranger", "-keyout", "stranger.key", "-out", "stranger.pem")
    return folder


def client_context(folder: Path, name: str = "") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.check_hostname = False
    if name:
        context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


def tls_settings(folder: Path) -> dict[str, str]:
    return {"dicom_tls_cert": str(folder / "server.pem"), "dicom_tls_key": str(folder / "server.key")}


def test_tls_carries_data_sets(start: Start, associate: Associate, certificates: Path, tmp_path: Path) -> None:
    box = start(**tls_settings(certificates))
    sent = saved(instance(Rows=1024, Columns=512, PixelData=os.urandom(1 << 20)), tmp_path / "a")
    association = associate(box.port, tls_args=(client_context(certificates), None))
    for _ in range(3):
        assert association.send_c_store(sent).Status == 0
    association.release()
    kept = [entry.arrival for entry in box.closed() if entry.arrival]
    assert len(kept) == 3 and all(data_set(arrival.instance.path) == data_set(sent) for arrival in kept)


def echo(box: Box, *options: str) -> bool:
    """Whether DCMTK gets an answer to a C-ECHO."""
    command = ["/usr/bin/echoscu", "-aec", "PELLUCID", *options, "127.0.0.1", str(box.port)]
    return subprocess.run(command, check=False, timeout=120, capture_output=True).returncode == 0


def with_certificate(folder: Path, name: str) -> tuple[str, ...]:
    """DCMTK's options for TLS, with a certificate or (name "") without."""
    own = ("+tls", str(folder / f"{name}.key"), str(folder / f"{name}.pem")) if name else ("+tla",)
    return (*own, "+cf", str(folder / "ca.pem"))


def test_with_tls_nothing_else_is_spoken(start: Start, certificates: Path) -> None:
    box = start(**tls_settings(certificates))
    assert not echo(box)
    assert echo(box, *with_certificate(certificates, ""))
    context = client_context(certificates)
    with socket.create_connection(("127.0.0.1", box.port), 10) as plain, context.wrap_socket(plain) as connection:
        assert connection.version() in ("TLSv1.2", "TLSv1.3")


@pytest.mark.parametrize(("name", "welcome"), [("client", True), ("stranger", False), ("", False)])
def test_a_client_certificate_is_demanded(start: Start, certificates: Path, name: str, welcome: bool) -> None:
    box = start(**tls_settings(certificates), dicom_tls_ca=str(certificates / "ca.pem"))
    assert echo(box, *with_certificate(certificates, name)) is welcome


def test_a_handshake_that_never_ends_blocks_nobody(start: Start, associate: Associate, certificates: Path) -> None:
    box = start(**tls_settings(certificates))
    with socket.create_connection(("127.0.0.1", box.port), 10):
        assert associate(box.port, tls_args=(client_context(certificates), None)).is_established


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dicom_tls_cert": "/nowhere.pem"}, "dicom_tls"),
        ({"dicom_peers": ("CT1@10.0.0.0/99",)}, "10.0.0.0/99"),
        ({"dicom_tls_ca": "ca.pem"}, "dicom_tls_ca"),
    ],
)
def test_settings_that_cannot_work_are_named(tmp_path: Path, settings: dict[str, object], words: str) -> None:
    listener = Listener(replace(Settings(), dicom_port=0, **settings), tmp_path, Limits())
    with pytest.raises(ConfigError, match=words):
        listener.start()
    listener.stop()


def test_a_port_that_is_taken(tmp_path: Path, box: Box) -> None:
    listener = Listener(replace(Settings(), dicom_port=box.port), tmp_path, Limits())
    with pytest.raises(OSError, match="in use"):
        listener.start()
    listener.stop()


def test_no_receivers_no_listener(tmp_path: Path) -> None:
    with Listener(replace(Settings(), dicom_processes=0), tmp_path, Limits()) as listener:
        listener.start()
        assert (listener.port, listener.alive, listener.pids) == (0, True, [])


def test_receivers_are_bounded(box: Box) -> None:
    assert len(box.listener.pids) == 2
    for pid in box.listener.pids:
        limits = Path(f"/proc/{pid}/limits").read_text()
        for line in ("Max core file size        0", "Max file size", "Max data size", "Max open files"):
            [row] = [row for row in limits.splitlines() if row.startswith(line.split("  ")[0])]
            assert "unlimited" not in row
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"PELLUCID" not in environment and b"HOME" not in environment


def test_the_reader_is_woken(start: Start, associate: Associate, tmp_path: Path) -> None:
    box = start()
    with pytest.raises(BlockingIOError):
        os.read(box.listener.wake_fd, 100)
    association = associate(box.port)
    association.send_c_store(saved(instance(), tmp_path / "a"))
    assert os.read(box.listener.wake_fd, 100) == b"\0\0"  # opened, stored


def are_sending(box: Box, opened: int, files: int) -> bool:
    """Whether three senders are at work, and so many associations were opened and so many files written in all."""
    written = list(box.folder.glob("*.json"))
    begun = sum(b'"association-opened"' in path.read_bytes() for path in written)
    return box.listener.associations == 3 and begun == opened and len(written) >= files


def test_a_killed_receiver_loses_nothing_that_was_acknowledged(start: Start, tmp_path: Path) -> None:
    box = start(dicom_processes=1)
    acknowledged: set[str] = set()
    pixels = instance(SOPInstanceUID="2.25.100000", Rows=512, Columns=256, PixelData=os.urandom(1 << 18))
    slice_ = saved(pixels, tmp_path / "slice").read_bytes()
    for attempt in range(3):
        [pid] = box.listener.pids
        commands = []
        for sender in range(3):
            folder = tmp_path / f"{attempt}{sender}"
            folder.mkdir()
            for number in range(150):
                name = f"2.25.1{attempt}{sender}{number:03d}"
                (folder / name).write_bytes(slice_.replace(b"2.25.100000", name.encode()))
            commands.append(
                ["/usr/bin/storescu", "-v", "-aec", "PELLUCID", "+sd", "127.0.0.1", str(box.port), str(folder)]
            )
        before = len(list(box.folder.glob("*.json")))
        senders = [
            subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) for command in commands
        ]
        until(partial(are_sending, box, 3 * (attempt + 1), before + 30), 120)
        os.kill(pid, signal.SIGKILL)
        for sent in senders:
            said = sent.communicate(timeout=120)[1]
            acknowledged |= set(
                re.findall(r"Sending file: \S*/(\S+)(?:\n(?!.*Sending file).*)*?Response \(Success\)", said)
            )
            assert sent.returncode != 0
        until(lambda pid=pid: box.listener.pids not in ([], [pid]))
    last = saved(instance(), tmp_path / "last")
    subprocess.run(
        ["/usr/bin/storescu", "-aec", "PELLUCID", "127.0.0.1", str(box.port), str(last)], check=True, timeout=120
    )
    box.listener.stop()
    assert len(acknowledged) >= 60
    inbox = Inbox(box.folder, Limits())
    inbox.recover()
    entries = inbox.entries(100_000)
    found = {entry.arrival.instance.sop_instance_uid: entry.arrival.instance for entry in entries if entry.arrival}
    assert acknowledged | {"2.25.11"} <= set(found)
    assert all(sha256(kept.path) == kept.sha256 for kept in found.values())
    assert not list(box.folder.glob("*.part")) and not (box.folder / "garbled").exists()
    assert len(list(box.folder.glob("*.dcm"))) == sum(entry.arrival is not None for entry in entries)
    events = [entry.event for entry in entries if entry.event]
    lost = [event.association for event in events if event.kind == "receiver-lost"]
    opened = [event.association for event in events if event.kind == "association-opened"]
    assert len(lost) == 3
    assert all(sum(name.startswith(prefix) for name in opened) == 3 for prefix in lost)


SERVICE = """
import sys, time
from dataclasses import replace
from pathlib import Path
from service.config import Settings
from service.dimse.listener import Listener
from service.intake.limits import Limits
listener = Listener(replace(Settings(), dicom_port=0, free_bytes=0), Path(sys.argv[1]), Limits())
listener.start()
print(listener.port, *listener.pids, flush=True)
time.sleep(300)
"""


def test_receivers_end_with_the_service(tmp_path: Path, associate: Associate) -> None:
    service = subprocess.Popen(
        [sys.executable, "-c", SERVICE, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert service.stdout is not None
    with service.stdout:
        port, *pids = map(int, service.stdout.readline().split())
    assert len(pids) == 2 and associate(port).is_established
    service.kill()
    service.wait(60)
    commands = [Path(f"/proc/{pid}/cmdline") for pid in pids]
    until(lambda: not any(path.exists() and path.read_bytes() for path in commands))
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))


def is_refused(port: int) -> bool:
    """Whether nobody listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
    except ConnectionRefusedError:
        return True
    except OSError:  # it was just being closed
        return False
    return False


def test_a_stop_lets_a_running_store_finish(start: Start, associate: Associate, tmp_path: Path) -> None:
    box = start()
    running = associate(box.port, (uid.CTImageStorage, uid.ExplicitVRLittleEndian))
    idle = associate(box.port)
    data = data_set(saved(instance(), tmp_path / "a"))
    request = store()
    request = (
        struct.pack("<HHL", 0, 2, 26) + b"1.2.840.10008.5.1.4.1.1.2\0"
        + request[request.index(struct.pack("<HHL", 0, 0x0100, 2)) : request.index(struct.pack("<HHL", 0, 0x1000, 8))]
        + struct.pack("<HHL", 0, 0x1000, 8) + b"2.25.11\0"
    )  # fmt: skip
    running._reactor_checkpoint.clear()  # else its own loop takes the answer off the queue
    while not running._is_paused:
        time.sleep(0.001)
    connection = running.dul.socket.socket
    connection.sendall(pdu(pdv(3, request, 1), pdv(0, data[:1000], 1)))
    until(lambda: list(box.folder.glob("*.dcm")))  # it is being received
    stopping = threading.Thread(target=box.listener.stop)
    stopping.start()
    until(lambda: not idle.is_established)
    until(lambda: is_refused(box.port))
    connection.sendall(pdu(pdv(2, data[1000:], 1)))
    _, answer = running.dimse.get_msg(block=True)
    assert answer is not None and answer.Status == 0
    running._reactor_checkpoint.set()
    stopping.join(60)
    assert not stopping.is_alive()
    entries = Inbox(box.folder, Limits()).entries()
    assert [entry.arrival.instance.sop_instance_uid for entry in entries if entry.arrival] == ["2.25.11"]
    outcomes = [entry.event.outcome for entry in entries if entry.event and entry.event.kind == "association-closed"]
    assert outcomes == ["aborted", "aborted"]
