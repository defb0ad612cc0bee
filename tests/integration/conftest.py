"""The real server, started as a user starts it, with the bundles of the repository."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """One `python -m service serve` on a free port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "server.log"
        self.process: subprocess.Popen[str] | None = None
        self.base = ""
        self.dicom_port = 0
        self.greeting = ""
        self.seconds_to_ready = 0.0

    def start(self, **settings: str) -> None:
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith("PELLUCID_") or k == "PELLUCID_MODELS_DIR"
        }
        settings = {"port": "0", "dicom_port": "0", **settings}
        environment |= {f"PELLUCID_{name.upper()}": value for name, value in settings.items()}
        begin = time.monotonic()
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", "serve", "--data-dir", str(self.folder / "data")],
                cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if found := re.search(r"viewer +(http://\S+)/viewer/", line):
                self.base = found[1]
            if found := re.search(r"DICOM +\S+@\S+:([0-9]+)$", line.rstrip()):
                self.dicom_port = int(found[1])
            if line.startswith("  model") and len([x for x in lines if x.startswith("  model")]) == 2:
                break
        self.greeting = "".join(lines)
        if not self.base:
            self.stop(signal.SIGKILL)
            raise AssertionError(f"the server did not start: {self.log.read_text()[-2000:]}")
        while self.call("GET", "/v2/health/ready")[0] != 200:
            time.sleep(0.02)
        self.seconds_to_ready = time.monotonic() - begin

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None and self.process.stdout is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(180)
        self.process.stdout.close()
        return code

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, decoded JSON or bytes, headers."""
        request = urllib.request.Request(self.base + path, data=body, headers=headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=300) as response:
                status, raw, head = response.status, response.read(), dict(response.headers)
        except urllib.error.HTTPError as error:
            with error:
                status, raw, head = error.code, error.read(), dict(error.headers)
        return status, json.loads(raw) if "json" in head.get("Content-Type", "") else raw, head

    def post(
        self, files: list[tuple[str, bytes]], request: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        mark = uuid.uuid4().hex
        body = b"".join(
            f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
            + data
            + b"\r\n"
            for name, data in files
        )
        if request is not None:
            body += (
                f'--{mark}\r\nContent-Disposition: form-data; name="request"\r\n\r\n{json.dumps(request)}\r\n'.encode()
            )
        body += f"--{mark}--\r\n".encode()
        status, answer, _ = self.call(
            "POST",
            "/api/v1/analyses",
            body,
            {"Content-Type": f"multipart/form-data; boundary={mark}", **(headers or {})},
        )
        return status, answer

    def ended(self, identity: str, seconds: float = 300) -> Any:
        """The analysis when it has ended."""
        end = time.monotonic() + seconds
        while True:
            body = self.call("GET", f"/api/v1/analyses/{identity}")[1]
            if body["status"] in ("completed", "failed") or time.monotonic() > end:
                return body
            time.sleep(0.1)

    def of_study(self, study: str, count: int = 1, seconds: float = 300) -> list[Any]:
        """The analyses of a study when there are so many and all have ended, newest first."""
        end = time.monotonic() + seconds
        while True:
            rows = self.call("GET", f"/api/v1/analyses?study={study}")[1]["analyses"]
            if len(rows) >= count and all(row["status"] in ("completed", "failed") for row in rows):
                return [self.call("GET", row["href"])[1] for row in rows]
            assert time.monotonic() < end, (rows, self.call("GET", "/api/v1/series")[1], self.log.read_text()[-1500:])
            time.sleep(0.1)

    def resident_bytes(self) -> int:
        """Resident memory of the server and its children; a page that several share (libraries) counts once in all.

        A child between vfork and exec still runs in the server's own memory, under its command line, and is left out.
        """
        assert self.process is not None
        total, own = 0, Path(f"/proc/{self.process.pid}/cmdline").read_bytes()
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                pid, rest = int(stat.parent.name), stat.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue  # it ended while we looked
            if pid == self.process.pid or int(rest[1]) == self.process.pid:
                try:
                    if pid != self.process.pid and (stat.parent / "cmdline").read_bytes() == own:
                        continue
                    shared = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
                except OSError:
                    continue
                total += int(shared[1]) << 10 if shared else 0
        return total


class Peak:
    """Highest resident memory of a server while a block runs."""

    def __init__(self, server: Server) -> None:
        self.server, self.bytes, self._end = server, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            self.bytes = max(self.bytes, self.server.resident_bytes())

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    running.start(sync_wait_s="120")
    yield running
    running.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server that a test may kill; not started yet."""
    server = Server(tmp_path)
    yield server
    if server.process is not None and server.process.poll() is None:
        server.stop(signal.SIGKILL)


@pytest.fixture
def peak(server: Server) -> Peak:
    return Peak(server)


@pytest.fixture(scope="session")
def ct_zip(data: Path) -> bytes:
    return (data / "dicom/ct_lungfcp_0001.zip").read_bytes()


@pytest.fixture(scope="session")
def eye(data: Path) -> bytes:
    return (data / "idrid/original/IDRiD_003.jpg").read_bytes()
