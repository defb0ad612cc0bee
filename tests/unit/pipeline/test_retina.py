"""The retina stage: quality gate, grade, referral, and boxes in pixels of the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageFilter
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from models import preprocessing
from service.errors import InputError, OutOfContract
from service.phantoms import write_fundus
from service.pipeline.analysis import Pipeline
from service.pipeline.request import InvalidRequest, parse
from service.records import Outcome

OPHTHALMIC = "1.2.840.10008.5.1.4.1.1.77.1.5.1"


def run(pipeline: Pipeline, files: list[Path], **request: Any) -> Outcome:
    with pipeline.prepare(files, parse(request)) as work:
        return pipeline.run(work)


def refused(pipeline: Pipeline, files: list[Path], kind: type[InputError], **request: Any) -> InputError:
    with pytest.raises(kind) as caught, pipeline.prepare(files, parse(request)):
        pass
    return caught.value


@pytest.fixture
def photo(tmp_path: Path, fundus: Image.Image) -> Path:
    fundus.save(tmp_path / "eye.png")
    return tmp_path / "eye.png"


@pytest.fixture
def dicom(tmp_path: Path, fundus: Image.Image) -> Path:
    """The photograph as a DICOM instance of a left eye."""
    path = tmp_path / "eye.dcm"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = (
        OPHTHALMIC,
        "1.9.1",
        ExplicitVRLittleEndian,
    )
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = OPHTHALMIC, "1.9.1", "1.9", "1.9.0"
    ds.Modality, ds.PatientID, ds.ImageLaterality, ds.NumberOfFrames = "OP", "EYE-1", "L", 1
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = (
        1200,
        1600,
        3,
        "RGB",
        0,
    )
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = np.asarray(fundus).tobytes()
    pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return path


def test_the_grade_is_the_most_probable_class(pipeline: Pipeline, photo: Path, fundus: Image.Image) -> None:
    """The tiny network: logits = W m + b with m the mean of each channel of the preprocessed square; b favours grade 2."""
    outcome = run(pipeline, [photo], laterality="R")
    assert outcome.outcome == "graded"
    pixels = np.asarray(fundus)
    field = preprocessing.fundus_field(pixels)
    assert field is not None
    mean = preprocessing.fundus_square(pixels, field, size_px=512, grid=16, margin=0.95).astype(float).mean(axis=(1, 2))
    logits = np.array([0, 0.1 * mean[0] + 0.1, 0.1 * mean[1] + 1.0, 0.1 * mean[2] + 0.2, 0.1 * mean.sum() + 0.1])
    p = np.exp(logits) / np.exp(logits).sum()
    finding = outcome.findings[0].body
    assert list(finding["probabilities"].values()) == pytest.approx(p, abs=1e-4)
    assert (finding["grade"], finding["label"]) == (2, "label 2")
    assert (
        finding["referable"]
        == {"mtmDR": bool(p[2:].sum() >= 0.4), "vtDR": bool(p[3:].sum() >= 0.9)}
        == {"mtmDR": True, "vtDR": False}
    )
    assert finding["operating_point"]["name"] == "mtmDR" and finding["operating_point"]["score"] == pytest.approx(
        p[2:].sum(), abs=1e-4
    )
    assert outcome.input["laterality"] == "R"
    assert outcome.quality["gradable"]


def test_maps_lie_on_the_photograph(pipeline: Pipeline, photo: Path) -> None:
    finding = run(pipeline, [photo]).findings[0]
    maps = finding.maps
    assert maps is not None
    assert (maps.response.shape, maps.background.shape) == ((1, 5, 512, 512), (1, 1024, 1024, 3))
    assert finding.body["location"]["box_px"] == maps.box_px[0].tolist() == pytest.approx([225, 25, 1375, 1175], abs=6)
    assert set(finding.body["evidence"]["maps"]) == {"clear", "two-sided", *(f"class-{n}" for n in range(5))}


@pytest.mark.parametrize("turn", [1, 6])
def test_boxes_are_in_pixels_of_the_upright_original(
    pipeline: Pipeline, tmp_path: Path, fundus: Image.Image, turn: int
) -> None:
    """A large photograph is read in a smaller copy, and EXIF may turn it; the box must fit the original all the same."""
    canvas = Image.new("RGB", (2000, 1200))
    canvas.paste(fundus, (400, 0))  # the field is at x 625..1775, y 25..1175
    large = canvas.resize((4000, 2400))
    path, exif = tmp_path / "large.jpg", Image.Exif()
    exif[0x0112] = turn
    stored = large if turn == 1 else large.transpose(Image.Transpose.ROTATE_90)  # 6: turn by 270 degrees to display
    stored.save(path, exif=exif, quality=92)
    box = run(pipeline, [path]).findings[0].body["location"]["box_px"]
    assert box == pytest.approx([1250, 50, 3550, 2350], abs=12)


def test_a_dicom_photograph_brings_its_laterality(pipeline: Pipeline, dicom: Path, photo: Path) -> None:
    outcome = run(pipeline, [dicom])
    assert (outcome.outcome, outcome.model) == ("graded", "clear_dr")
    assert (outcome.input["laterality"], outcome.input["study"], outcome.input["instances"]) == ("L", "1.9", ["1.9.1"])
    assert outcome.findings[0].body["probabilities"] == run(pipeline, [photo]).findings[0].body["probabilities"]
    contradicted = run(pipeline, [dicom], laterality="R")
    assert contradicted.input["laterality"] == "R"
    assert [(c["id"], c["result"], c["value"], c["limit"]) for c in contradicted.input["checks"]] == [
        ("laterality", "warn", "R", "L")
    ]


def test_a_blurred_photograph_is_ungradable_and_says_why(
    pipeline: Pipeline, tmp_path: Path, fundus: Image.Image
) -> None:
    fundus.filter(ImageFilter.GaussianBlur(20)).save(tmp_path / "blurred.png")
    outcome = run(pipeline, [tmp_path / "blurred.png"])
    assert (outcome.outcome, outcome.findings) == ("ungradable", ())
    assert outcome.quality["code"]["value"] == "111235"
    reason = outcome.quality["reasons"][0]
    assert reason["code"] == "out_of_focus" and reason["message"] and reason["retake"]


def test_what_is_no_fundus_is_out_of_scope(pipeline: Pipeline, tmp_path: Path) -> None:
    Image.new("RGB", (400, 300), (120, 160, 90)).save(tmp_path / "other.png")
    outcome = run(pipeline, [tmp_path / "other.png"])
    assert (outcome.outcome, outcome.findings) == ("out_of_scope", ())
    assert outcome.quality["reasons"][0]["code"] == "not_a_fundus"


def test_one_photograph_at_a_time(pipeline: Pipeline, photo: Path, dicom: Path) -> None:
    assert "each on its own" in refused(pipeline, [photo, dicom], OutOfContract).detail
    refused(pipeline, [photo], InvalidRequest, regions=[{"center_mm": [1, 2, 3]}])
    refused(pipeline, [photo], InvalidRequest, pixel_spacing_mm=0.5)
    refused(pipeline, [photo], OutOfContract, model="sisc_lung")


def test_several_frames_and_no_pixels_are_refused(pipeline: Pipeline, dicom: Path) -> None:
    ds = pydicom.dcmread(dicom)
    ds.NumberOfFrames, ds.PixelData = 2, ds.PixelData * 2
    pydicom.dcmwrite(dicom, ds)
    assert "2 frames" in refused(pipeline, [dicom], OutOfContract).detail
    del ds.PixelData
    ds.NumberOfFrames = 1
    pydicom.dcmwrite(dicom, ds)
    assert "no pixel data" in refused(pipeline, [dicom], OutOfContract).detail


def test_the_optic_disc_tells_the_eye_where_nobody_does(
    pipeline: Pipeline, tmp_path: Path, photo: Path, dicom: Path
) -> None:
    """This phantom of a right eye tells up from down; its mirror image is a left eye."""
    path = tmp_path / "phantom.jpg"
    write_fundus(path, seed=2)
    by_disc = run(pipeline, [path]).input
    assert (by_disc["laterality"], by_disc["laterality_source"]) == ("R", "disc")
    assert 0.95 <= by_disc["laterality_confidence"] <= 1
    assert [(c["id"], c["result"]) for c in by_disc["checks"]] == [("laterality_stated", "warn")]
    with Image.open(path) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.png")
    mirrored = run(pipeline, [tmp_path / "mirrored.png"], laterality="R").input
    assert (mirrored["laterality"], mirrored["laterality_source"], mirrored["laterality_confidence"]) == (
        "R",
        "request",
        None,
    )
    (check,) = mirrored["checks"]
    assert (check["id"], check["result"], check["value"], check["limit"]) == ("laterality", "warn", "R", "L")
    assert run(pipeline, [tmp_path / "mirrored.png"]).input["laterality"] == "L"


def test_what_cannot_be_graded_gets_no_eye(pipeline: Pipeline, tmp_path: Path, fundus: Image.Image) -> None:
    fundus.filter(ImageFilter.GaussianBlur(20)).save(tmp_path / "blurred.png")
    Image.new("RGB", (400, 300), (120, 160, 90)).save(tmp_path / "other.png")
    for name, outcome in (("blurred.png", "ungradable"), ("other.png", "out_of_scope")):
        found = run(pipeline, [tmp_path / name])
        assert (found.outcome, found.input["laterality"], found.input["laterality_source"]) == (outcome, "", None)
        assert found.input["checks"] == []
