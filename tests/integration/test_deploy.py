"""nginx and Orthanc, run with the files of deploy/: what comes through arrives, at once, and nothing goes in circles."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service import phantoms
from tests.orthanc import free_port, running
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose"


def run(*command: object, **environment: str) -> None:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that prepare.sh has filled: secrets, and a certificate for localhost."""
    folder = tmp_path_factory.mktemp("deploy") / "secrets"
    run("bash", COMPOSE / "prepare.sh", SECRETS=str(folder))
    return folder


# -- reverse proxy --------------------------------------------------------------------------------------------------------


def place_proxy(folder: Path, text: str, certificates: Path) -> Path:
    """nginx.conf and the shared locations in `folder`, with the prepared certificates."""
    (folder / "snippets").mkdir()
    shutil.copy(DEPLOY / "nginx" / "locations.conf", folder / "snippets" / "pellucid.conf")
    for kind, name in (("", "tls.pem"), ("_key", "tls.key")):
        text = re.sub(rf"(ssl_certificate{kind} +)\S+;", rf"\g<1>{certificates / name};", text)
    path = folder / "nginx.conf"
    path.write_text(text)
    return path


def test_nginx_accepts_the_configuration_of_a_computer(prepared: Path, tmp_path: Path) -> None:
    text = (DEPLOY / "nginx" / "pellucid.conf").read_text()
    for old, new in (("80", free_port()), ("443", free_port())):
        text = re.sub(rf"(listen (?:\[::\]:)?){old}\b", rf"\g<1>{new}", text)
    text = text.replace("/var/log/nginx", str(tmp_path))
    path = place_proxy(tmp_path, f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n{text}\n}}\n", prepared)
    run("nginx", "-t", "-p", tmp_path, "-c", path)


class Backend(BaseHTTPRequestHandler):
    """Stands for Pellucid: tells what it was asked, streams events, and notes when a body begins to arrive."""

    protocol_version = "HTTP/1.1"
    begun = threading.Event()
    go_on = threading.Event()

    def do_GET(self) -> None:
        if self.path.endswith("/events"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"event: status\n\n")
            self.go_on.wait(120)
            self.close_connection = True
            return
        self.answer(json.dumps({"path": self.path, "host": self.headers["Host"]}).encode())

    def do_POST(self) -> None:
        length, received = int(self.headers["Content-Length"]), hashlib.sha256()
        while length:
            part = self.rfile.read1(min(length, 1 << 16))
            self.begun.set()
            received.update(part)
            length -= len(part)
        self.answer(received.hexdigest().encode())

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def proxy(folder: Path, certificates: Path) -> Iterator[tuple[int, int]]:
    """The proxy of the composition in front of `Backend`: ports of HTTP and of HTTPS."""
    backend = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    plain, secure = free_port(), free_port()
    text = (COMPOSE / "nginx.conf").read_text()
    for old, new in (
        ("listen 8080;", f"listen 127.0.0.1:{plain};"),
        ("listen 8443 ssl;", f"listen 127.0.0.1:{secure} ssl;"),
        ("server pellucid:8080;", f"server 127.0.0.1:{backend.server_port};"),
        ("http://orthanc:8042/", f"http://127.0.0.1:{backend.server_port}/"),
        ("/tmp/", f"{folder}/"),
        ("/dev/stdout", f"{folder}/access.log"),
        ("/dev/stderr", f"{folder}/error.log"),
    ):
        assert old in text
        text = text.replace(old, new)
    path = place_proxy(folder, text, certificates)
    run("nginx", "-t", "-p", folder, "-c", path)
    process = subprocess.Popen(
        ["nginx", "-p", str(folder), "-c", str(path), "-g", "daemon off; master_process off;"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", secure), 1):
                break
            assert process.poll() is None and time.monotonic() < end, (folder / "error.log").read_text()
            time.sleep(0.05)
        yield plain, secure
    finally:
        Backend.go_on.set()
        process.terminate()
        process.wait(60)
        backend.shutdown()
        backend.server_close()


def ask(port: int, certificates: Path, method: str, path: str, **more: Any) -> tuple[int, dict[str, str], bytes]:
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    connection = http.client.HTTPSConnection("localhost", port, timeout=60, context=context)
    with contextlib.closing(connection):
        connection.request(method, path, **more)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def test_proxy_in_front_of_a_service(prepared: Path, tmp_path: Path) -> None:
    with proxy(tmp_path, prepared) as (plain, secure):
        insecure = http.client.HTTPConnection("localhost", plain, timeout=60)
        insecure.request("GET", "/viewer/?x=1")
        redirect = insecure.getresponse()
        assert (redirect.status, redirect.headers["Location"]) == (308, "https://localhost/viewer/?x=1")
        insecure.close()

        status, headers, body = ask(secure, prepared, "GET", "/api/v1/analyses?patient=Smith")
        assert status == 200 and "max-age" in headers["strict-transport-security"]
        assert json.loads(body) == {"path": "/api/v1/analyses?patient=Smith", "host": f"localhost:{secure}"}
        _, _, body = ask(secure, prepared, "GET", "/orthanc/dicom-web/studies")
        assert json.loads(body)["path"] == "/dicom-web/studies"

        status, headers, body = ask(
            secure, prepared, "POST", "/dicomweb/studies", headers={"Content-Length": str((1 << 30) + 1)}
        )
        assert (status, headers["content-type"]) == (413, "application/problem+json")
        assert json.loads(body)["status"] == 413

        log = (tmp_path / "access.log").read_text()
        assert "/api/v1/analyses" in log and "Smith" not in log


def test_proxy_hands_bodies_and_events_on_at_once(prepared: Path, tmp_path: Path) -> None:
    Backend.begun.clear()
    Backend.go_on.clear()
    context = ssl.create_default_context(cafile=str(prepared / "ca.pem"))
    with proxy(tmp_path, prepared) as (_, secure):
        connection = http.client.HTTPSConnection("localhost", secure, timeout=60, context=context)
        body = os.urandom(4 << 20)
        connection.putrequest("POST", "/dicomweb/studies")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        connection.send(body[: 1 << 20])
        assert Backend.begun.wait(60), "the service gets the first part while the rest has not been sent"
        connection.send(body[1 << 20 :])
        assert connection.getresponse().read().decode() == hashlib.sha256(body).hexdigest()
        connection.close()

        events = http.client.HTTPSConnection("localhost", secure, timeout=60, context=context)
        events.request("GET", "/api/v1/analyses/abc/events")
        answer = events.getresponse()
        assert answer.readline() == b"event: status\n", "the event is here while the stream is open"
        assert not Backend.go_on.is_set()
        Backend.go_on.set()
        events.close()


# -- Orthanc --------------------------------------------------------------------------------------------------------------


def orthanc_settings() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(re.sub(r"(?m)^\s*//.*$", "", (COMPOSE / "orthanc.json").read_text()))
    return found


def wait_for(number: int, folder: Path) -> None:
    until(lambda: len(list(folder.iterdir())) == number, 120)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_orthanc_forwards_each_series_keeps_trying_and_sends_nothing_back(prepared: Path, tmp_path: Path) -> None:
    series = sorted(phantoms.write_ct(tmp_path / "ct")["files"])[:5]
    mine = orthanc_settings()
    for name in ("HttpPort", "DicomPort", "StorageDirectory", "IndexDirectory", "Plugins", "RemoteAccessAllowed"):
        del mine[name]
    port, received = free_port(), tmp_path / "received"
    received.mkdir()
    modalities = mine.pop("DicomModalities")
    modalities["pellucid"].update(Host="127.0.0.1", Port=port)
    access = json.loads((prepared / "orthanc-access.json").read_text())
    more = {"LuaScripts": [str(COMPOSE / "forward.lua")], "StableAge": 1, "ExecuteLuaEnabled": True}
    with running(tmp_path / "pacs", modalities, {**mine, **more, "DicomWeb": access["DicomWeb"]}) as orthanc:
        assert orthanc.get("/dicom-web/servers") == ["pellucid"]

        def send(calling: str, *files: Path) -> None:
            peer = (orthanc.host, orthanc.dicom_port)
            run("/usr/bin/storescu", "-aet", calling, "-aec", orthanc.ae_title, *peer, *files)

        def jobs() -> list[str]:
            return [job["State"] for job in orthanc.get("/jobs?expand") if job["Type"] == "DicomModalityStore"]

        def wait_for_job(state: str) -> None:
            until(lambda: jobs() == [state], 120, jobs)

        send("CT1", *series)
        wait_for_job("Failure")  # nobody listens yet
        listener = subprocess.Popen(["/usr/bin/storescp", "-aet", "PELLUCID", "-od", str(received), "+B", str(port)])
        try:
            until(lambda: listens(port))
            orthanc.request("POST", "/tools/execute-script", b"OnHeartBeat()")  # Orthanc 1.11.1 and later call it
            wait_for(5, received)
            wait_for_job("Success")
            for path in received.iterdir():
                path.unlink()
            result = tmp_path / "result"
            phantoms.write_ct(result)
            own = sorted(result.iterdir())[:2]
            for path in own:
                run("/usr/bin/dcmodify", "-nb", "-gst", "-gse", "-gin", path)
            send("PELLUCID", *own)
            time.sleep(3)  # longer than StableAge
            assert len(orthanc.get("/series")) == 3
            assert list(received.iterdir()) == [] and jobs() == ["Success"]
        finally:
            listener.terminate()
            listener.wait(60)
