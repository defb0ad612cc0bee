"""An application that only stores what comes, instances made by hand, and multipart bodies whose every byte is known."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import waitress
from flask import Flask
from flask.testing import FlaskClient
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MultiFrameGrayscaleWordSecondaryCaptureImageStorage
from werkzeug.test import TestResponse

from service.config import Settings
from service.http import create_app

Make = Callable[..., bytes]
Send = Callable[..., TestResponse]
RELATED = 'multipart/related; type="application/dicom"; boundary=B0'
UPLOAD_BYTES, UPLOAD_PARTS = 4 << 20, 60


class Client(FlaskClient):
    """Reads every answer to its end, so that no file stays open."""

    def open(self, *arguments: Any, **more: Any) -> TestResponse:
        return super().open(*arguments, **{"buffered": True, **more})


@pytest.fixture(scope="module")
def app(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"),
        models_dir=tiny_models,
        threads=1,
        free_bytes=0,
        upload_bytes=UPLOAD_BYTES,
        upload_parts=UPLOAD_PARTS,
        arrivals="store",
        dicom_processes=0,
    )
    made = create_app(settings)
    made.test_client_class = Client
    yield made
    made.extensions["pellucid"].close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="module")
def address(app: Flask) -> Iterator[str]:
    """The application behind a real web server on loopback; its DICOMweb root."""
    server = waitress.create_server(app, host="127.0.0.1", port=0, threads=4)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}/dicomweb"
    server.close()
    thread.join(60)


def make_instance(
    study: str = "2.25.1", series: str = "2.25.1.1", sop: str = "2.25.1.1.1", frames: int = 0, **changes: Any
) -> bytes:
    """A CT slice of 4 x 6 px, or a multi-frame secondary capture, as a file; None removes an element."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage if frames else CTImageStorage
    ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = sop, study, series
    ds.Modality, ds.PatientID, ds.PatientName = "CT", "P-1", "Doe^Jane"
    ds.PatientBirthDate, ds.PatientSex = "19700101", "F"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20260115", "101500", "A-1", "S1"
    ds.ReferringPhysicianName, ds.StudyDescription = "Ref^Erring", "Chest"
    ds.SeriesNumber, ds.SeriesDescription, ds.InstanceNumber = 2, "Axial", 1
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = 4, 6
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    if frames:
        ds.NumberOfFrames = frames
    pixels = np.arange(24 * max(frames, 1), dtype="<u2") * 50
    ds.add_new(0x7FE00010, "OW", pixels.tobytes())
    for keyword, value in changes.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, sop
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.fixture(scope="session")
def make() -> Make:
    return make_instance


def related(parts: list[bytes], fields: str = "Content-Type: application/dicom\r\n") -> bytes:
    return b"".join(f"--B0\r\n{fields}\r\n".encode() + part + b"\r\n" for part in parts) + b"--B0--\r\n"


@pytest.fixture
def send(client: FlaskClient) -> Send:
    """POSTs instances as the parts of one body."""

    def post(*parts: bytes, path: str = "/dicomweb/studies", headers: dict[str, str] | None = None) -> TestResponse:
        return client.post(path, data=related(list(parts)), content_type=RELATED, headers=headers)

    return post


def parts_of(response: TestResponse) -> list[tuple[dict[str, str], bytes]]:
    """The parts of an answer, taken apart by the rules of RFC 2046 with nothing but `split`."""
    kind = response.headers["Content-Type"]
    assert kind.startswith("multipart/related;")
    mark = kind.split('boundary="')[1].split('"')[0].encode()
    first, *middle, last = (b"\r\n" + response.data).split(b"\r\n--" + mark)
    assert first == b"" and last == b"--\r\n"
    found = []
    for piece in middle:
        assert piece.startswith(b"\r\n")
        head, _, content = piece[2:].partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        found.append((fields, content))
    return found


@pytest.fixture(scope="session")
def parts() -> Callable[[TestResponse], list[tuple[dict[str, str], bytes]]]:
    return parts_of
