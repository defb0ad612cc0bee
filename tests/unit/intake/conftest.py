"""Small files made by hand: honest ones, and hostile ones whose bytes say what no honest file does."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from service.intake.sandbox import Sandbox

GREY = np.arange(48, dtype=np.int16).reshape(6, 8) - 20


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("spool"), workers=1) as opened:
        yield opened


@pytest.fixture
def put(tmp_path: Path) -> Callable[[bytes], Path]:
    """Writes bytes to a new file and gives its path."""
    count = iter(range(1000))

    def write(data: bytes) -> Path:
        path = tmp_path / f"input-{next(count)}"
        path.write_bytes(data)
        return path

    return write


@pytest.fixture(scope="session")
def make_dicom() -> Callable[..., bytes]:
    """Builds a CT slice (or what the keywords make of it) as DICOM bytes; None removes an element."""

    def build(*arguments: Any, **changes: Any) -> bytes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # hostile values are written too
            return written(*arguments, **changes)

    def written(
        pixels: np.ndarray | bytes | None = GREY, syntax: str = ExplicitVRLittleEndian, **changes: Any
    ) -> bytes:
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = syntax
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, "2.25.1"
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "2.25.2", "2.25.3", "2.25.4"
        ds.Modality, ds.PatientID, ds.InstanceNumber = "CT", "somebody", 1
        ds.PixelSpacing, ds.SliceThickness = [0.7, 0.8], 2
        ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-10, -20, 30]
        ds.RescaleSlope, ds.RescaleIntercept = 2, -1000
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        if isinstance(pixels, np.ndarray):
            ds.Rows, ds.Columns = pixels.shape[:2]
        else:
            ds.Rows, ds.Columns = GREY.shape
        for keyword, value in changes.items():
            if value is None:
                del ds[keyword]
            else:
                setattr(ds, keyword, value)
        if pixels is not None:
            data = pixels.tobytes() if isinstance(pixels, np.ndarray) else pixels
            ds.add_new(0x7FE00010, "OW" if ds.BitsAllocated == 16 else "OB", data + b"\0" * (len(data) % 2))
            ds["PixelData"].is_undefined_length = ds.file_meta.TransferSyntaxUID.is_encapsulated
        ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = CTImageStorage, "2.25.1"
        stream = io.BytesIO()
        ds.save_as(stream, enforce_file_format=True)
        return stream.getvalue()

    return build


def image_bytes(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """An array as PNG, JPEG or TIFF bytes."""
    return image_bytes


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.fixture(scope="session")
def make_png() -> Callable[..., bytes]:
    """A PNG of any stated size, with chunks between header and image."""

    def build(width: int, height: int, *extra: tuple[bytes, bytes], data: bytes = bytes(1000)) -> bytes:
        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        chunks = [(b"IHDR", head), *extra, (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, content) for kind, content in chunks)

    return build


@pytest.fixture(scope="session")
def zip_of() -> Callable[..., bytes]:
    """A ZIP of {name: bytes}."""

    def build(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", compression) as opened:
            for name, data in members.items():
                opened.writestr(name, data)
        return stream.getvalue()

    return build
