"""A listener with its receivers on loopback, a sender made with pynetdicom, and small instances."""

from __future__ import annotations

import hashlib
import io
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_preamble
from pydicom.filewriter import dcmwrite
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, _config
from pynetdicom.association import Association

from service.config import Settings
from service.dimse.listener import Listener
from service.intake.inbox import Entry, Inbox
from service.intake.limits import Limits
from tests.waiting import until

_config.LOG_HANDLER_LEVEL = "none"
_config.STORE_SEND_CHUNKED_DATASET = True  # a file's data set is sent as it is, byte for byte


class Box:
    """A running listener with the reader of its inbox."""

    def __init__(self, listener: Listener, folder: Path) -> None:
        self.listener, self.folder, self.inbox = listener, folder, Inbox(folder, Limits())

    @property
    def port(self) -> int:
        return self.listener.port

    def take(self, enough: Callable[[list[Entry]], bool] = bool, seconds: float = 60.0) -> list[Entry]:
        """All entries, once there are enough; they are forgotten (their files are not)."""
        entries: list[Entry] = until(
            lambda: enough(found := self.inbox.entries()) and found, seconds, self.inbox.entries
        )
        for entry in entries:
            (self.folder / f"{entry.id}.json").unlink()
        return entries

    def closed(self) -> list[Entry]:
        """All entries, once an association was closed."""
        return self.take(lambda entries: any(e.event and e.event.kind == "association-closed" for e in entries))


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Box]]:
    """Starts listeners; settings by keyword."""
    running: list[Listener] = []

    def run(limits: Limits | None = None, **settings: Any) -> Box:
        folder = tmp_path_factory.mktemp("inbox")
        chosen = replace(Settings(), **{"dicom_port": 0, "dicom_processes": 1, "free_bytes": 0, **settings})
        listener = Listener(chosen, folder, limits or Limits())
        listener.start()
        running.append(listener)
        return Box(listener, folder)

    yield run
    for listener in running:
        listener.stop()


@pytest.fixture(scope="session")
def shared_box(start: Callable[..., Box]) -> Box:
    return start(dicom_processes=2, dicom_associations=4)


@pytest.fixture
def box(shared_box: Box) -> Box:
    """A listener with two receivers and its inbox, emptied."""
    until(lambda: not shared_box.listener.associations)
    shared_box.inbox.done(shared_box.inbox.entries(10_000))
    for left in shared_box.folder.glob("*.dcm"):
        left.unlink()
    return shared_box


@pytest.fixture
def associate() -> Iterator[Callable[..., Association]]:
    """Opens associations, with pynetdicom as the sender."""
    opened: list[Association] = []
    sockets: list[socket.socket] = []

    def connect(
        port: int, *contexts: tuple[str, str], title: str = "SENDER", called: str = "PELLUCID", **more: Any
    ) -> Association:
        ae = AE(title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
        for abstract, transfer in contexts or ((CTImageStorage, ExplicitVRLittleEndian),):
            ae.add_requested_context(abstract, transfer)
        association = ae.associate("127.0.0.1", port, ae_title=called, **more)
        opened.append(association)
        if association.dul.socket is not None and association.dul.socket.socket is not None:
            sockets.append(association.dul.socket.socket)
        return association

    yield connect
    for association in opened:
        if association.is_established:
            association.release()
    end = time.monotonic() + 20
    while any(association.dul.is_alive() for association in opened) and time.monotonic() < end:
        time.sleep(0.01)
    for connection in sockets:  # pynetdicom leaves them open where the peer was faster
        connection.close()


def instance(**changes: Any) -> Dataset:
    """A small CT slice."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, "2.25.11"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "2.25.2", "2.25.3", "2.25.4"
    ds.PatientName, ds.PatientID, ds.Modality = "Some^Body", "somebody", "CT"
    ds.InstanceNumber, ds.PixelSpacing, ds.SliceThickness = 1, [0.7, 0.8], 2
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-10, -20, 30]
    ds.RescaleSlope, ds.RescaleIntercept, ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, -1024, 1, "MONOCHROME2"
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 64, 48, 16, 16, 15, 0
    ds.PixelData = np.arange(64 * 48, dtype="<u2").tobytes()
    for keyword, value in changes.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    return ds


def saved(ds: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Writes a file."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", CTImageStorage)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", "2.25.11")
    stream = io.BytesIO()
    dcmwrite(stream, ds, enforce_file_format=True)
    path.write_bytes(stream.getvalue())
    return path


def data_set(path: Path) -> bytes:
    """The bytes of a file behind its File Meta Information, found with pydicom."""
    stream = DicomBytesIO(path.read_bytes())
    read_preamble(stream, force=False)
    stream.read(8)
    length = int.from_bytes(stream.read(4), "little")
    return stream.getvalue()[144 + length :]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
