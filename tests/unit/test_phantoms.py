"""The phantoms, read back with SimpleITK, pydicom and Pillow instead of the code that wrote them."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image

from models.preprocessing import fundus_field
from service.phantoms import write_ct, write_fundus


def digest(paths: list[Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_ct(tmp_path_factory.mktemp("phantom") / "ct")


@pytest.fixture(scope="module")
def volume(ct: dict[str, Any]) -> sitk.Image:
    """Hounsfield units on the series' own grid."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(ct["files"][0].parent)))
    return reader.Execute()


@pytest.fixture(scope="module")
def headers(ct: dict[str, Any]) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path, stop_before_pixels=True) for path in ct["files"]]


def test_grid(volume: sitk.Image) -> None:
    assert volume.GetSize() == (512, 512, 60)
    assert volume.GetSpacing() == pytest.approx((0.7, 0.7, 1.25))
    assert volume.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)


@pytest.mark.parametrize("number", [0, 1])
def test_nodules_lie_where_they_are_said_to_lie(ct: dict[str, Any], volume: sitk.Image, number: int) -> None:
    nodule = ct["nodules"][number]
    column, row, index = volume.TransformPhysicalPointToContinuousIndex(nodule["center_mm"])
    assert nodule["center_px"] == pytest.approx([column, row], abs=0.02)
    assert pydicom.dcmread(ct["files"][round(index)]).SOPInstanceUID == nodule["sop_instance_uid"]
    hounsfield = sitk.GetArrayFromImage(volume)
    radius = nodule["diameter_mm"] / 2
    z, y, x = np.indices(hounsfield.shape, np.float32, sparse=True)
    away = np.sqrt(((x - column) * 0.7) ** 2 + ((y - row) * 0.7) ** 2 + ((z - index) * 1.25) ** 2)
    core, shell = hounsfield[away < 0.7 * radius], hounsfield[(away > 1.6 * radius) & (away < 2 * radius)]
    assert core.min() > -250, "solid"
    assert np.median(shell) < -750, "in the lung"
    assert (core.max() > 200) == (nodule["kind"] == "smooth"), "only the smooth one is calcified"


def test_only_the_spiculated_nodule_has_rays(ct: dict[str, Any], volume: sitk.Image) -> None:
    """In a layer just outside the nodule the spiculated one reaches soft-tissue values here and there."""
    hounsfield = sitk.GetArrayFromImage(volume)
    share = {}
    for nodule in ct["nodules"]:
        column, row, index = volume.TransformPhysicalPointToContinuousIndex(nodule["center_mm"])
        z, y, x = np.indices(hounsfield.shape, np.float32, sparse=True)
        away = np.sqrt(((x - column) * 0.7) ** 2 + ((y - row) * 0.7) ** 2 + ((z - index) * 1.25) ** 2)
        radius = nodule["diameter_mm"] / 2
        layer = hounsfield[(away > 1.2 * radius) & (away < 1.4 * radius)]
        share[nodule["kind"]] = (layer > -700).mean()
    assert share["spiculated"] < 0.4
    assert share["smooth"] < 0.25 * share["spiculated"], "at most a vessel passes by"


def test_hounsfield_units_and_noise(volume: sitk.Image) -> None:
    hounsfield = sitk.GetArrayFromImage(volume)
    air, heart, fat = hounsfield[:, 20:60, 20:60], hounsfield[:5, 220:250, 270:300], hounsfield[:, 250:262, 28:36]
    lung = hounsfield[:, 150:200, 110:150]
    assert np.median(air) == pytest.approx(-1000, abs=5)
    assert np.median(lung) == pytest.approx(-860, abs=60)
    assert np.median(heart) == pytest.approx(40, abs=5)
    assert np.median(fat) == pytest.approx(-100, abs=25)
    assert 8 < heart.std() < 25
    assert hounsfield.max() > 400, "bone"


def test_says_that_it_is_a_phantom(headers: list[pydicom.Dataset]) -> None:
    for header in headers:
        assert "PHANTOM" in header.PatientID
        assert "PHANTOM" in str(header.PatientName)
        assert (header.QualityControlImage, header.QualityControlSubject) == ("YES", "YES")
        assert "phantom" in header.ImageComments


def test_required_attributes_of_ct_image_storage(headers: list[pydicom.Dataset]) -> None:
    """PS3.3 table A.3-1 and its modules: Type 1 has a value, Type 2 is present."""
    type_1 = (
        "SOPClassUID SOPInstanceUID StudyInstanceUID Modality SeriesInstanceUID FrameOfReferenceUID PatientPosition "
        "PixelSpacing ImageOrientationPatient ImagePositionPatient ImageType SamplesPerPixel PhotometricInterpretation "
        "Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation RescaleIntercept RescaleSlope"
    )
    type_2 = (
        "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID "
        "AccessionNumber SeriesNumber PositionReferenceIndicator Manufacturer InstanceNumber AcquisitionNumber "
        "SliceThickness KVP"
    )
    for header in headers:
        assert [name for name in type_1.split() if header.get(name) in (None, "")] == []
        assert [name for name in type_2.split() if name not in header] == []
        assert list(header.ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL"]
        assert header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID
        assert header.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


def test_uids(headers: list[pydicom.Dataset]) -> None:
    assert len({header.SOPInstanceUID for header in headers}) == 60
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({header[name].value for header in headers}) == 1
    for uid in [*(header.SOPInstanceUID for header in headers), headers[0].StudyInstanceUID]:
        assert uid.startswith("2.25.")
        assert len(uid) <= 64


def test_the_seed_decides_everything(ct: dict[str, Any], tmp_path: Path) -> None:
    again = write_ct(tmp_path / "again")
    assert digest(again["files"]) == digest(ct["files"])
    assert again["nodules"] == ct["nodules"]


def test_another_seed_is_another_phantom(ct: dict[str, Any], tmp_path: Path) -> None:
    other = write_ct(tmp_path / "other", seed=7)
    assert math.dist(other["nodules"][0]["center_mm"], ct["nodules"][0]["center_mm"]) > 0.1
    first = pydicom.dcmread(other["files"][0])
    assert first.StudyInstanceUID != pydicom.dcmread(ct["files"][0]).StudyInstanceUID
    assert first.PatientID == "PHANTOM-CT-7"


@pytest.fixture(scope="module")
def fundus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Image.Image, dict[str, Any]]:
    path = tmp_path_factory.mktemp("phantom") / "new" / "eye.jpg"
    said = write_fundus(path)
    return Image.open(path), said


def test_fundus_has_a_round_field_with_disc_and_fovea(fundus: tuple[Image.Image, dict[str, Any]]) -> None:
    picture, said = fundus
    assert (picture.format, picture.size) == ("JPEG", (1600, 1200))
    assert b"PHANTOM" in picture.info["comment"]
    pixels = np.asarray(picture)
    field = fundus_field(pixels)
    assert field is not None
    assert (field.x, field.y, field.radius) == pytest.approx(said["field"], abs=6)

    def brightness(at: list[float], radius: int) -> float:
        x, y = (round(v) for v in at)
        return float(pixels[y - radius : y + radius, x - radius : x + radius].mean())

    background = float(pixels[400:800, 500:1000].mean())
    assert brightness([said["disc_px"][0] - 35, said["disc_px"][1]], 12) > 1.5 * background
    assert brightness(said["fovea_px"], 20) < 0.9 * background
    red, green, blue = (float(v) for v in pixels[400:800, 500:1000].mean(axis=(0, 1)))
    assert red > 1.5 * green > 1.5 * blue


def test_fundus_mark_stands_outside_the_field(fundus: tuple[Image.Image, dict[str, Any]]) -> None:
    picture, said = fundus
    grey = np.asarray(picture.convert("L"))
    y, x = np.indices(grey.shape)
    outside = np.hypot(x - said["field"][0], y - said["field"][1]) > said["field"][2] + 8
    lit_rows, lit_columns = np.nonzero((grey > 60) & outside)
    assert len(lit_rows) > 200
    assert lit_rows.min() > 1100
    assert lit_columns.max() < 300


def test_fundus_depends_on_its_seed_alone(tmp_path: Path) -> None:
    for name, seed in (("a.jpg", 3), ("b.jpg", 3), ("c.jpg", 4)):
        write_fundus(tmp_path / name, seed=seed)
    a, b, c = digest([tmp_path / name for name in ("a.jpg", "b.jpg", "c.jpg")])
    assert a == b != c
