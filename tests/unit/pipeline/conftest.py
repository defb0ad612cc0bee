"""Synthetic series, photographs, and a pipeline with the tiny models and the real sandbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from service.config import Settings
from service.phantoms import write_fundus
from service.pipeline.analysis import Pipeline
from service.pipeline.assembly import open_tools

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
ROWS, COLUMNS, SPACING = 120, 140, 0.75

WriteSeries = Callable[..., list[Path]]


def write_slice(
    path: Path, number: int, *, series: str, z: float, thickness: float, spacing: float, pixels: np.ndarray
) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CT_STORAGE, f"{series}.{number}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = CT_STORAGE, f"{series}.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3", series, f"{series}.0"
    ds.Modality, ds.PatientID, ds.ImageType = "CT", "PATIENT-7", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PixelSpacing, ds.SliceThickness, ds.InstanceNumber = [spacing, spacing], thickness, number
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-50.0, -40.0, z]
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.PixelData = (pixels + 1024).astype("<i2").tobytes()
    pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return path


@pytest.fixture
def write_series(tmp_path: Path) -> WriteSeries:
    """Write a CT series of `count` slices; lung air with a bright disk at column 70, row 60, wider slice by slice."""

    def write(
        count: int = 8,
        series: str = "1.2.4",
        first_z: float = 100.0,
        step: float = 1.25,
        thickness: float = 1.25,
        spacing: float = SPACING,
    ) -> list[Path]:
        row, column = np.mgrid[:ROWS, :COLUMNS]
        away = np.hypot(row - 60, column - 70)
        return [
            write_slice(
                tmp_path / f"{series}-{n}.dcm", n + 1, series=series, z=first_z + n * step, thickness=thickness, spacing=spacing,
                pixels=np.where(away <= 6 + n, 20 + 10 * n, -850),
            )
            for n in range(count)
        ]  # fmt: skip

    return write


@pytest.fixture(scope="session")
def fundus(tmp_path_factory: pytest.TempPathFactory) -> Image.Image:
    """The phantom's photograph of a right eye: 1600 x 1200 px, round field of radius 575 px about (800, 600)."""
    path = tmp_path_factory.mktemp("fundus") / "fundus.jpg"
    write_fundus(path)
    with Image.open(path) as image:
        return image.convert("RGB")


@pytest.fixture(scope="session")
def pipeline(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    tools = open_tools(Settings(models_dir=tiny_models, threads=1), tmp_path_factory.mktemp("spool"))
    yield Pipeline(tools)
    tools.sandbox.close()
