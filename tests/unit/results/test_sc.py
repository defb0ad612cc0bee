"""The secondary capture: valid for every outcome, with pictures that say what they must and nothing about the patient."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image

from service.maps import legend
from service.records import ResponseMap, ResultObject
from service.results import pages, sc, sheet
from service.results.report import Report

Make = Callable[..., Report]
Errors = Callable[[ResultObject], list[str]]
SINGLE, SEVERAL = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.4"
OUTCOMES = [
    *(("ct", outcome) for outcome in ("positive", "negative", "out_of_scope", "no_region")),
    *((kind, outcome) for kind in ("op", "vl", "sc") for outcome in ("graded", "ungradable", "out_of_scope")),
]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is drawn while a test runs, line by line as it was wrapped."""
    texts: list[str] = []
    for module in (sheet, legend):
        inner = module.ImageDraw.Draw

        def draw(image: Any, inner: Any = inner) -> Any:
            pen = inner(image)
            text = pen.text

            def record(xy: Any, words: str, *arguments: Any, **options: Any) -> None:
                texts.append(words)
                text(xy, words, *arguments, **options)

            pen.text = record
            return pen

        monkeypatch.setattr(module, "ImageDraw", type("Recorder", (), {"Draw": staticmethod(draw)}))
    return texts


def made(report: Report) -> ResultObject:
    built = sc.build(report)
    assert built is not None
    return built


def read(report: Report) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(made(report).data))


def said(texts: list[str]) -> str:
    return " ".join(texts)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("kind", "outcome"), OUTCOMES)
def test_valid_for_every_outcome(make_report: Make, errors: Errors, kind: str, outcome: str, sparse: bool) -> None:
    report = make_report(kind, outcome, sparse=sparse)
    built = made(report)
    assert errors(built) == []
    dataset = pydicom.dcmread(io.BytesIO(built.data))
    drawn = pages.pages(report)
    pixels = dataset.pixel_array[None] if len(drawn) == 1 else dataset.pixel_array
    assert np.array_equal(pixels, np.stack([np.asarray(page.image) for page in drawn]))
    assert dataset.SOPClassUID == (SEVERAL if len(drawn) > 1 else SINGLE)
    assert dataset.Columns == 1024 and dataset.Rows <= 1100
    assert (dataset.BurnedInAnnotation, dataset.RecognizableVisualFeatures) == ("YES", "NO")
    assert list(dataset.ImageType[:2]) == ["DERIVED", "SECONDARY"] and dataset.ConversionType == "WSD"
    assert (dataset.PhotometricInterpretation, dataset.PlanarConfiguration) == ("RGB", 0)
    used = {key for page in drawn for key in page.sources}
    assert {item.ReferencedSOPInstanceUID for item in dataset.SourceImageSequence} == used
    assert {item.ReferencedSOPClassUID for item in dataset.SourceImageSequence} == {report.instances[0].sop_class_uid}


def test_a_frame_for_every_slice_of_every_nodule(make_report: Make) -> None:
    dataset = read(make_report("ct", "positive"))
    labels = ["summary", *(f"{name} {k}/3" for name in ("r1", "r2") for k in (1, 2, 3))]
    assert dataset.NumberOfFrames == 7 and list(dataset.FrameLabelVector) == labels
    assert dataset.FrameIncrementPointer == 0x00182002
    alone = read(make_report("ct", "negative"))
    assert list(alone.FrameLabelVector) == labels[1:4]
    warned = read(make_report("ct", "negative", warned=("only half was looked at",)))
    assert list(warned.FrameLabelVector) == labels[:4]


def test_one_slice_is_one_plain_secondary_capture(make_report: Make, errors: Errors) -> None:
    report = make_report("ct", "negative")
    maps = report.maps["r1"]
    one = replace(
        maps,
        response=maps.response[:1],
        background=maps.background[:1],
        box_px=maps.box_px[:1],
        sources=maps.sources[:1],
        peak_slice=0,
    )
    built = made(replace(report, maps={"r1": one}))
    assert built.sop_class_uid == SINGLE and errors(built) == []


def test_many_nodules_keep_the_slices_round_their_peak(make_report: Make) -> None:
    """30 nodules of 9 slices: one frame each, of the slice with the strongest response; 270 would be 800 MB."""
    report = make_report("ct", "negative")
    finding, maps = report.result["findings"][0], report.maps["r1"]
    long = replace(
        maps,
        response=np.repeat(maps.response, 3, axis=0),
        background=np.repeat(maps.background, 3, axis=0),
        box_px=np.repeat(maps.box_px, 3, axis=0),
        sources=tuple(np.repeat(maps.sources, 3)),
        peak_slice=6,
    )
    findings = [{**finding, "id": f"r{n}"} for n in range(30)]
    many = replace(report, result={**report.result, "findings": findings}, maps={f["id"]: long for f in findings})
    drawn = pages.pages(many)
    assert [page.label for page in drawn[1:]] == [f"r{n} 7/9" for n in range(30)]
    few = replace(many, result={**many.result, "findings": findings[:2]}, maps={f"r{n}": long for n in range(2)})
    assert [page.label for page in pages.pages(few)[1:5]] == [f"r0 {n}/9" for n in (5, 6, 7, 8)]


def test_a_nodule_says_what_was_decided_and_by_whom(make_report: Make, written: list[str]) -> None:
    report = make_report("ct", "negative")
    made(report)
    text = said(written)
    point = report.bundle.operating_point()
    for words in (
        f"Lung nodule: NEGATIVE (malignant 0.12, positive from {point.threshold:.2f})",
        "Research use only. Not for primary diagnosis.",
        "Operating point balanced: NEGATIVE",
        f"Score 0.120 (Malignant), positive from {point.threshold:.3f}",
        f"Sensitivity {point.sensitivity:.2f}, specificity {point.specificity:.2f} (n = {point.n})",
        "Slice 3 of 3 of this nodule; strongest response",
        "Centre x 10.0, y 5.0, z 103.0 mm",
        "CT, lung window, 48 x 48 mm",
        "CLEAR map",
        f"sisc_lung, version {report.bundle.version}",
        "Input quality: Usable",
    ):
        assert words in text, words
    assert written.count("R") == written.count("A") == 6  # right and front, on both pictures of three slices


def test_an_eye_says_its_grade_its_side_and_its_quality(make_report: Make, written: list[str]) -> None:
    report = make_report("op", "graded", side="L")
    made(report)
    text = said(written)
    for words in (
        "Left eye: Moderate NPDR (retinopathy grade 2 of 0-4)",
        "More than mild diabetic retinopathy: YES",
        "Vision-threatening diabetic retinopathy: no",
        "Operating point mtmDR: POSITIVE",
        "Usable - meets the quality control standard",
        f"clear_dr, version {report.bundle.version}",
        "CLEAR map",
        "Research use only. Not for primary diagnosis.",
    ):
        assert words in text, words
    written.clear()
    made(make_report("op", "graded", side=""))
    assert "Eye (side not stated)" in said(written)


def test_a_refused_photograph_says_why_and_what_to_do(make_report: Make, written: list[str]) -> None:
    made(make_report("op", "ungradable"))
    text = said(written)
    assert "Not graded: the image quality is not sufficient" in text
    assert "The photograph is too dark." in text and "What to do: Raise the flash." in text
    assert "Unusable" in text


def test_nothing_to_classify_is_no_all_clear(make_report: Make, written: list[str]) -> None:
    made(make_report("ct", "no_region"))
    text = said(written)
    assert "Nothing was classified" in text and "no statement about whether there are nodules" in text


def test_without_maps_the_result_is_said_in_words(make_report: Make, errors: Errors, written: list[str]) -> None:
    built = made(make_report("ct", "positive", maps=False))
    assert built.sop_class_uid == SINGLE and errors(built) == []
    text = said(written)
    assert "Lung nodules: 1 of 2 positive" in text
    assert "Nodule 1: POSITIVE (malignant 0.83" in text and "Nodule 2: NEGATIVE (malignant 0.12" in text
    written.clear()
    made(make_report("op", "graded", maps=False))
    assert "Right eye: Moderate NPDR" in said(written)


def test_a_candidate_is_called_one(make_report: Make, written: list[str]) -> None:
    made(make_report("ct", "positive", origin="candidate"))
    assert "found by software, not confirmed by a reader" in said(written)


@pytest.mark.parametrize(("kind", "outcome"), OUTCOMES)
def test_no_patient_data_is_burnt_in(make_report: Make, written: list[str], kind: str, outcome: str) -> None:
    warned = (
        "region Doe_Jane was not classified: region Doe_Jane: too near",
        "only series 1.2.826.0.1.3680043.8.1055.1.2",
    )
    report = make_report(kind, outcome, warned=warned)
    made(report)
    text = said(written)
    assert "was not classified: too near" in text.lower()
    for secret in ("Doe", "Jane", "4711", "1950", "Clinic", "A-1", "2026", "Who", "Thorax", "1.2.826"):
        assert secret not in text, secret
    assert not re.search(r"\br[12]\b", text)  # names of regions are the sender's


def test_texts_do_not_touch(make_report: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes of all texts of a page lie apart and inside, also with long titles and remarks."""
    boxes: list[tuple[Image.Image, tuple[int, int, int, int]]] = []
    real = sheet.ImageDraw.Draw

    def draw(image: Image.Image) -> Any:
        pen = real(image)
        text = pen.text

        def record(xy: Any, words: str, **options: Any) -> None:
            box = pen.textbbox(xy, words, font=options["font"], anchor=options.get("anchor"))
            assert box[0] >= 0 and box[1] >= 0 and box[2] <= image.width and box[3] <= image.height, words
            boxes.append((image, box))
            text(xy, words, **options)

        pen.text = record
        return pen

    monkeypatch.setattr(sheet, "ImageDraw", type("Recorder", (), {"Draw": staticmethod(draw)}))
    for kind, outcome in OUTCOMES[:7]:
        pages.pages(make_report(kind, outcome, warned=("a long remark about the images, " * 12,)))
    assert len(boxes) > 100
    for n, (image, (x0, y0, x1, y1)) in enumerate(boxes):
        for other, (u0, v0, u1, v1) in boxes[n + 1 :]:
            assert image is not other or x1 <= u0 or u1 <= x0 or y1 <= v0 or v1 <= y0


def test_the_picture_is_the_window_and_the_overlay(make_report: Make) -> None:
    """Left the plain window (grey 90), right the map over it: the class with the strongest response in its own colour."""
    report = make_report("ct", "negative")
    page = np.asarray(pages.pages(report)[2].image).astype(int)
    half = (1024 - 3 * 20) // 2
    grey = np.flatnonzero((page[300, 20 : 20 + half] == 90).all(axis=1))
    assert len(grey) > 0.95 * half  # all but the letter for the direction
    right = page[100:620, 40 + half : 40 + 2 * half].reshape(-1, 3)
    colour = right[(right.max(axis=1) - right.min(axis=1)).argmax()]
    palette = report.bundle.colors.astype(int)
    assert min(np.abs(palette / 255 - colour / max(colour)).max(axis=1)) < 0.35


def test_directions_follow_the_orientation(make_report: Make) -> None:
    instance = make_report("ct", "negative").instances[0]
    for orientation, letters in (
        ((1, 0, 0, 0, 1, 0), ("R", "A")),
        ((-1, 0, 0, 0, -1, 0), ("L", "P")),
        ((0, 1, 0, 0, 0, -1), ("A", "H")),
        ((0.96, 0.28, 0, 0, 0, 1), ("R", "F")),
        (None, ("", "")),
    ):
        assert pages._letters(replace(instance, orientation=orientation)) == letters


def test_a_lossy_source_is_said(make_report: Make, errors: Errors) -> None:
    stated = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": ["12.5", "2"],
        "LossyImageCompressionMethod": ["ISO_10918_1", "ISO_15444_1"],
    }
    built = made(make_report("op", "graded", stated))
    assert errors(built) == []
    dataset = pydicom.dcmread(io.BytesIO(built.data))
    assert dataset.LossyImageCompression == "01" and list(dataset.LossyImageCompressionRatio) == [12.5, 2]
    assert list(dataset.LossyImageCompressionMethod) == ["ISO_10918_1", "ISO_15444_1"]
    silent = make_report("op", "graded")
    jpeg = replace(silent.instances[0], transfer_syntax_uid="1.2.840.10008.1.2.4.50")
    built = made(replace(silent, instances=(jpeg,)))
    assert errors(built) == []
    dataset = pydicom.dcmread(io.BytesIO(built.data))
    assert (dataset.LossyImageCompression, dataset.LossyImageCompressionMethod) == ("01", "ISO_10918_1")
    nonsense = {**stated, "LossyImageCompressionRatio": ["12.5"]}
    assert errors(made(make_report("op", "graded", nonsense))) == []


def test_the_side_of_the_eye(make_report: Make, errors: Errors) -> None:
    for side in ("R", "L", ""):
        report = make_report("op", "graded", side=side)
        assert errors(made(report)) == []
        assert (read(report).BodyPartExamined, read(report).Laterality or "") == ("EYE", side)
    lung = read(make_report("ct", "out_of_scope"))
    assert lung.BodyPartExamined == "CHEST" and "Laterality" not in lung


def test_a_photograph_that_is_no_dicom_object_has_no_references(make_report: Make) -> None:
    report = make_report("op", "graded")
    loose = replace(report.instances[0], media="photograph", sop_class_uid="", series_uid="", study_uid="")
    dataset = read(replace(report, instances=(loose,), headers=(pydicom.Dataset(),)))
    assert "SourceImageSequence" not in dataset and dataset.StudyInstanceUID


def test_the_same_bytes_every_time(make_report: Make, tmp_path: Path) -> None:
    reports = [make_report(kind, outcome) for kind, outcome in OUTCOMES[:7]]
    here = [hashlib.sha256(made(report).data).hexdigest() for report in reports]
    (tmp_path / "reports").write_bytes(pickle.dumps(reports))
    script = (
        "import hashlib, pathlib, pickle, sys, time; from service.results import sc; time.sleep(1.1)\n"
        "for report in pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()):\n"
        "    print(hashlib.sha256(sc.build(report).data).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "reports")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == here == [hashlib.sha256(made(report).data).hexdigest() for report in reports]


def test_dcmtk_reads_it(make_report: Make, tmp_path: Path) -> None:
    """DCMTK draws the same pixels."""
    tools = shutil.which("dcmdump"), shutil.which("dcm2pnm")
    if None in tools:
        warnings.warn("no real data at all for DCMTK: it is not installed; THIS TEST DID NOT RUN", stacklevel=1)
        pytest.skip("DCMTK is not installed")
    for kind, outcome in (("ct", "positive"), ("op", "graded"), ("op", "ungradable")):
        report = make_report(kind, outcome)
        path, picture = tmp_path / f"{kind}.dcm", tmp_path / "frame.ppm"
        path.write_bytes(made(report).data)
        dumped = subprocess.run([str(tools[0]), "+L", str(path)], capture_output=True, text=True, check=False)
        assert dumped.returncode == 0 and not dumped.stderr, dumped.stderr
        subprocess.run([str(tools[1]), "+opw", str(path), str(picture)], check=True, capture_output=True)
        with Image.open(picture) as drawn:
            assert np.array_equal(np.asarray(drawn), np.asarray(pages.pages(report)[0].image))


def test_maps_of_a_photograph_need_no_place(make_report: Make) -> None:
    """A map that says nothing is drawn too: the legend says so."""
    report = make_report("op", "graded")
    maps: ResponseMap = report.maps["eye"]
    silent = replace(maps, response=-np.abs(maps.response))
    assert made(replace(report, maps={"eye": silent})).sop_class_uid == SINGLE
