"""Orthanc (Debian's) as the PACS of a test: on free ports, in a folder of its own, for as long as the test needs it.

It accepts what anybody on this computer sends, by C-STORE and (plugin) STOW-RS, and answers C-FIND, QIDO-RS and storage
commitment to the modalities it is given.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3

AE_TITLE = "ORTHANC"
DICOMWEB_ROOT = "/dicom-web/"
START_S = 180.0


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc."""

    http_port: int
    dicom_port: int
    log: Path
    ae_title: str = AE_TITLE
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        """Root of its own interface."""
        return f"http://{self.host}:{self.http_port}"

    @property
    def dicomweb(self) -> str:
        """Root of DICOMweb, without a slash at the end."""
        return self.url + DICOMWEB_ROOT.rstrip("/")

    def request(self, method: str, path: str, body: Any = None, accept: str = "*/*") -> bytes:
        """What it answers under `path`; AssertionError for anything but 200. A body that is not bytes is sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        with urllib3.PoolManager(retries=False) as pool:
            answer = pool.request(method, self.url + path, body=data, headers={"Accept": accept}, timeout=180)
            assert answer.status == 200, (method, path, answer.status, answer.data[:2000])
            return answer.data

    def get(self, path: str) -> Any:
        """JSON under `path`, e.g. "/instances" or "/dicom-web/studies"."""
        return json.loads(self.request("GET", path, accept="application/json"))

    def post(self, path: str, body: Any) -> Any:
        """Answer, as JSON, to a POST of JSON, or of bytes as they are."""
        return json.loads(self.request("POST", path, body))

    def file(self, sop_instance_uid: str) -> bytes:
        """The Part 10 file it stored."""
        (found,) = self.post("/tools/lookup", sop_instance_uid.encode())
        return self.request("GET", f"/instances/{found['ID']}/file")


_given: set[int] = set()


def free_port() -> int:
    """A TCP port that nobody listens on now.

    It lies below those that Linux gives to whoever asks for any (32768 and up), so none of these takes it before its user does,
    and it is given once.
    """
    while True:
        port = random.randrange(20_000, 32_768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


def plugin(name: str) -> Path | None:
    """A plugin's file, of this computer's Orthanc."""
    for folder in ("/usr/share/orthanc/plugins", "/usr/lib/orthanc", "/usr/lib/orthanc/plugins"):
        if (found := Path(folder, name)).exists():
            return found
    return None


@contextmanager
def running(
    folder: Path, modalities: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
) -> Iterator[Orthanc]:
    """Start Orthanc, wait until it answers, stop it in the end. The test skips, and says so, where it is not installed.

    Parameters
    ----------
    folder : Path
        Empty; takes its settings, its database and its log.
    modalities : mapping, optional
        Orthanc's DicomModalities: name to {"AET", "Host", "Port", "AllowStorageCommitment", ...} or [AET, host, port].
    settings : mapping, optional
        Further settings of Orthanc, e.g. {"DicomWeb": {...}} for servers it can send to by STOW-RS.
    """
    program = shutil.which("Orthanc") or shutil.which("/usr/sbin/Orthanc")
    dicomweb = plugin("libOrthancDicomWeb.so")
    if program is None or dicomweb is None:
        pytest.skip("NO ORTHANC: apt-get install orthanc orthanc-dicomweb; THIS TEST DID NOT RUN")
    folder.mkdir(parents=True, exist_ok=True)
    found = Orthanc(free_port(), free_port(), folder / "orthanc.log")
    whole: dict[str, Any] = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": found.http_port,
        "DicomPort": found.dicom_port,
        "DicomAet": found.ae_title,
        "DicomModalities": dict(modalities or {}),
        "Plugins": [str(dicomweb)],
        "AuthenticationEnabled": False,
        "RemoteAccessAllowed": False,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "HttpThreadsCount": 8,
        "StableAge": 1,
        **(settings or {}),
    }
    whole["DicomWeb"] = {"Enable": True, "Root": DICOMWEB_ROOT, **whole.get("DicomWeb", {})}
    (folder / "orthanc.json").write_text(json.dumps(whole))
    with found.log.open("wb") as log:
        process = subprocess.Popen(
            [program, str(folder / "orthanc.json")],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "TCP_NODELAY": "1"},  # DCMTK's: without it every object costs 40 ms more
        )
        try:
            _wait(process, found)
            yield found
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], found: Orthanc) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise AssertionError(f"Orthanc ended with {process.returncode}: {found.log.read_text()[-2000:]}")
        try:
            found.get("/system")
            socket.create_connection((found.host, found.dicom_port), 1).close()
        except (urllib3.exceptions.HTTPError, OSError, AssertionError):
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"Orthanc did not answer within {START_S:g} s: {found.log.read_text()[-2000:]}")
