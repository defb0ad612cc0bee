"""C-STORE: CT slices a second that are received, against DCMTK's storescp and Orthanc, by the same senders in the same rounds.

What an answer "success" means differs: storescp and Orthanc have handed the file to the operating system, Pellucid has parsed the
header, checked it against the command, hashed the file and waited until the disk has it.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pydicom

from benchmarks.server import free_port
from service.config import Settings
from service.dimse.listener import Listener
from service.intake.inbox import Inbox
from service.intake.limits import Limits
from training.data import shared_data

SLICES = 300
ASSOCIATIONS = (1, 4, 8)
PROCESSES = 2
AE_TITLE = "PELLUCID"
_PDU = 131072
_QUIET: dict[str, Any] = {
    "stdout": subprocess.DEVNULL,
    "stderr": subprocess.DEVNULL,
    "env": {
        **os.environ,
        "TCP_NODELAY": "1",
    },  # else 97 ms an object: Nagle's algorithm against delayed acknowledgement
}


class Receiver(Protocol):
    port: int

    def take(self) -> int:
        """How many instances arrived; they are deleted."""


class Pellucid:
    def __init__(self, listener: Listener, inbox: Inbox) -> None:
        self.port, self._inbox = listener.port, inbox

    def take(self) -> int:
        entries = self._inbox.entries(1 << 20)
        self._inbox.done(entries)
        return sum(entry.arrival is not None for entry in entries)


class Storescp:
    def __init__(self, port: int, folder: Path) -> None:
        self.port, self._folder = port, folder

    def take(self) -> int:
        files = list(self._folder.iterdir())
        for file in files:
            file.unlink()
        return len(files)


class Orthanc:
    def __init__(self, port: int, http: int) -> None:
        self.port, self._base = port, f"http://127.0.0.1:{http}"

    def take(self) -> int:
        count = int(self._get("/statistics")["CountInstances"])
        for patient in self._get("/patients"):
            request = urllib.request.Request(f"{self._base}/patients/{patient}", method="DELETE")
            urllib.request.urlopen(request, timeout=120).close()
        return count

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self._base + path, timeout=60) as answer:
            return json.load(answer)


def measure(rounds: int) -> dict[str, Any]:
    """Objects a second of the three receivers, and the time Pellucid takes as a share of what each of the others takes.

    Receivers that are not installed are left out.
    """
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        sets = series(folder / "sent", max(ASSOCIATIONS))
        receivers: dict[str, Receiver] = {"Pellucid": stack.enter_context(pellucid(folder / "inbox"))}
        if shutil.which("storescp", path="/usr/bin"):
            receivers["storescp"] = stack.enter_context(storescp(folder / "storescp"))
        if shutil.which("Orthanc", path="/usr/sbin"):
            receivers["Orthanc"] = stack.enter_context(orthanc(folder / "orthanc"))
        for receiver in receivers.values():
            send(receiver, sets[:1])
        for count in ASSOCIATIONS:
            times: dict[str, list[float]] = {name: [] for name in receivers}
            for _ in range(rounds):
                for name, receiver in receivers.items():
                    times[name].append(send(receiver, sets[:count]))
            rates = {
                f"{name}, objects/s": round(SLICES * count / statistics.median(taken)) for name, taken in times.items()
            }
            figures[f"{count} association(s)"] = rates
            for name in list(receivers)[1:]:
                ratios = [ours / theirs for ours, theirs in zip(times["Pellucid"], times[name], strict=True)]
                figures[f"C-STORE, {count} association(s): Pellucid against {name}"] = {
                    "ratio": round(statistics.median(ratios), 3),
                    "range": [round(min(ratios), 3), round(max(ratios), 3)],
                    "ms": [round(1000 * statistics.median(times[key]), 1) for key in ("Pellucid", name)],
                    "rounds": rounds,
                }
    return figures


def series(folder: Path, count: int) -> list[Path]:
    """Folders of `SLICES` real CT slices each (512 x 512, 16 bits, explicit VR little endian), no SOP Instance UID twice."""
    folders = [folder / str(number) for number in range(count)]
    for made in folders:
        made.mkdir(parents=True)
    with zipfile.ZipFile(shared_data() / "dicom" / "ct_lungfcp_0001.zip") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = [name for name in sorted(archive.namelist()) if name.endswith(".dcm")]
        for number in range(len(names)):
            with archive.open(names[number]) as stream:
                ds = pydicom.dcmread(stream)
            ds.decompress(generate_instance_uid=False)
            for copy in range(number, SLICES, len(names)):
                for index, made in enumerate(folders):
                    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(
                        f"2.25.{index + 1}{copy:04d}"
                    )
                    ds.SeriesInstanceUID = f"2.25.{index + 1}"
                    ds.save_as(made / f"{copy:04d}.dcm")
    return folders


def send(receiver: Receiver, sets: list[Path]) -> float:
    """Seconds that one storescu a set takes, all at the same time. RuntimeError where something did not arrive."""
    command = ["/usr/bin/storescu", "-pdu", str(_PDU), "-R", "+sd", "-aec", AE_TITLE, "127.0.0.1", str(receiver.port)]
    os.sync()  # what the receiver before left to be written is not this one's business
    began = time.perf_counter()
    senders = [subprocess.Popen([*command, str(folder)], **_QUIET) for folder in sets]
    codes = [sender.wait() for sender in senders]
    took = time.perf_counter() - began
    arrived = receiver.take()
    if any(codes) or arrived != SLICES * len(sets):
        raise RuntimeError(f"{arrived} of {SLICES * len(sets)} instances arrived, exit codes {codes}")
    return took


@contextmanager
def pellucid(folder: Path) -> Iterator[Receiver]:
    """Our listener, with no service behind it."""
    settings = replace(Settings(), dicom_port=0, dicom_processes=PROCESSES, ae_title=AE_TITLE, free_bytes=0)
    listener = Listener(settings, folder, Limits())
    listener.start()
    try:
        yield Pellucid(listener, Inbox(folder, Limits()))
    finally:
        listener.stop()


@contextmanager
def storescp(folder: Path) -> Iterator[Receiver]:
    """DCMTK's receiver, one process an association, writing files."""
    folder.mkdir()
    port = free_port()
    command = ["/usr/bin/storescp", "-pdu", str(_PDU), "--fork", "-dhl", "-od", str(folder), str(port)]
    with _running(command, port):
        yield Storescp(port, folder)


@contextmanager
def orthanc(folder: Path) -> Iterator[Receiver]:
    """Orthanc without plugins."""
    folder.mkdir()
    port, http = free_port(), free_port()
    configuration = {
        "StorageDirectory": str(folder / "files"),
        "IndexDirectory": str(folder / "index"),
        "DicomAet": AE_TITLE,
        "DicomPort": port,
        "DicomAlwaysAllowStore": True,
        "DicomThreadsCount": max(ASSOCIATIONS),
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with _running(["/usr/sbin/Orthanc", str(folder / "orthanc.json")], port):
        yield Orthanc(port, http)


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, **_QUIET)
    try:
        for _ in range(300):
            echo = ["/usr/bin/echoscu", "-aec", AE_TITLE, "127.0.0.1", str(port)]
            if subprocess.run(echo, check=False, **_QUIET).returncode == 0:
                break
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} did not start")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)
