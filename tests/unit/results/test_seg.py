"""The segmentation as its readers see it: highdicom, pydicom, DCMTK and dciodvfy."""

from __future__ import annotations

import hashlib
import io
import pickle
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from service import uids
from service.maps import region
from service.records import Instance, ResultObject
from service.results import common, seg
from service.results.report import Report

Make = Callable[..., Report]
Errors = Callable[[ResultObject], list[str]]
HIGHDICOM_VL = "1.2.840.10008.5.1.4.1.1.77.1.4"


def made(report: Report, share: float = 0.5) -> ResultObject:
    built = seg.build(report, share)
    assert built is not None
    return built


def read(report: Report, share: float = 0.5) -> Dataset:
    return pydicom.dcmread(io.BytesIO(made(report, share).data))


def masks(report: Report, share: float = 0.5) -> dict[str, np.ndarray]:
    """Tracking UID to what the segment should be on all slices of the series, from `region.to_image`."""
    size = (report.instances[0].rows, report.instances[0].columns)
    expected = {}
    for finding in report.result["findings"]:
        found = region.of_finding(report.maps[finding["id"]], finding, report.bundle, size, share)
        assert found is not None
        whole = np.zeros((len(report.instances), *size), bool)
        keys = [instance.key for instance in report.instances]
        for at, key in enumerate(found.sources):
            whole[keys.index(key)] = found.to_image(at)
        expected[finding["tracking_uid"]] = whole
    return expected


def seen(data: bytes, report: Report) -> dict[str, np.ndarray]:
    """The same, read with highdicom."""
    read = hd.seg.segread(io.BytesIO(data))
    sources = [instance.sop_instance_uid for instance in report.instances]
    pixels = read.get_pixels_by_source_instance(sources, assert_missing_frames_are_empty=True)
    return {
        str(read.get_segment_description(n).tracking_uid): pixels[..., n - 1].astype(bool) for n in read.segment_numbers
    }


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("outcome", ["positive", "negative"])
def test_a_ct_series_read_back_pixel_by_pixel(make_report: Make, errors: Errors, outcome: str, sparse: bool) -> None:
    report = make_report("ct", outcome, sparse=sparse)
    built = made(report)
    assert errors(built) == []
    expected, found = masks(report), seen(built.data, report)
    assert found.keys() == expected.keys() and len(found) == len(report.result["findings"])
    for name, mask in expected.items():
        assert mask.any() and np.array_equal(found[name], mask)


@pytest.mark.parametrize("kind", ["op", "vl", "sc"])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_photograph_read_back_pixel_by_pixel(make_report: Make, errors: Errors, kind: str, sparse: bool) -> None:
    report = make_report(kind, "graded", grade=4, sparse=sparse)
    built = made(report)
    assert errors(built) == []
    (expected,) = masks(report).values()
    dataset = pydicom.dcmread(io.BytesIO(built.data))
    assert expected[0].any() and np.array_equal(dataset.pixel_array.astype(bool), expected[0])
    read = hd.seg.segread(io.BytesIO(built.data))
    assert np.array_equal(read.get_frame(1).astype(bool), expected[0])
    sources = [item for item in references(dataset) if item.ReferencedSOPInstanceUID == report.instances[0].key]
    assert len(sources) == 3  # of the object, of its series, of the frame
    assert {item.ReferencedSOPClassUID for item in sources} == {report.instances[0].sop_class_uid}


def references(dataset: Dataset) -> list[Dataset]:
    found = [dataset] if "ReferencedSOPInstanceUID" in dataset else []
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                found += references(item)
    return found


def test_rows_that_are_no_whole_bytes(make_report: Make, errors: Errors) -> None:
    """13 x 11 pixels: frames begin in the middle of a byte; ten frames, so more than eight at a time."""
    report = make_report("ct", "positive")
    boxes = {name: np.tile([-0.7, 1.3, 12.1, 10.9], (3, 1)) for name in report.maps}
    small = replace(
        report,
        instances=tuple(replace(instance, rows=11, columns=13) for instance in report.instances),
        maps={name: replace(maps, box_px=boxes[name]) for name, maps in report.maps.items()},
    )
    built = made(small, 0.2)
    assert errors(built) == []
    for name, mask in masks(small, 0.2).items():
        assert mask.any() and np.array_equal(seen(built.data, small)[name], mask)
    assert len(pydicom.dcmread(io.BytesIO(built.data)).PixelData) % 2 == 0


def test_what_the_contract_asks_for(make_report: Make) -> None:
    report = make_report("ct", "positive")
    dataset = read(report, 0.4)
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"
    assert (dataset.SegmentationType, dataset.BitsAllocated, dataset.Modality) == ("BINARY", 1, "SEG")
    findings = report.result["findings"]
    assert [segment.TrackingUID for segment in dataset.SegmentSequence] == [f["tracking_uid"] for f in findings]
    for number, segment in enumerate(dataset.SegmentSequence, 1):
        assert segment.SegmentNumber == number and segment.SegmentAlgorithmType == "AUTOMATIC"
        assert code(segment.SegmentedPropertyCategoryCodeSequence) == ("49755003", "SCT")
        assert code(segment.SegmentedPropertyTypeCodeSequence) == ("27925004", "SCT")
        assert code(segment.AnatomicRegionSequence) == ("39607008", "SCT")
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert code(algorithm.AlgorithmFamilyCodeSequence) == ("123110", "DCM")
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("sisc_lung", report.bundle.version)
    (series,) = dataset.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == report.instances[0].series_uid
    looked_at = [instance.sop_instance_uid for instance in report.instances[2:4]]  # the peak, and a half of it
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence] == looked_at
    assert dataset.FrameOfReferenceUID == report.instances[0].frame_of_reference_uid
    assert (dataset.PatientID, dataset.StudyInstanceUID) == ("4711", report.instances[0].study_uid)
    (contribution,) = dataset.ContributingEquipmentSequence
    assert code(contribution.PurposeOfReferenceCodeSequence) == ("109102", "DCM")


def code(sequence: Any) -> tuple[str, str]:
    (item,) = sequence
    return item.CodeValue, item.CodingSchemeDesignator


def test_frames_stand_where_their_slices_stand(make_report: Make) -> None:
    report = make_report("ct", "positive")
    dataset = read(report, 0.4)
    places = {instance.sop_instance_uid: instance.position for instance in report.instances}
    shared = dataset.SharedFunctionalGroupsSequence[0]
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == [0.7, 0.7]
    assert list(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
    assert dataset.NumberOfFrames == len(dataset.PerFrameFunctionalGroupsSequence) == 4
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert tuple(frame.PlanePositionSequence[0].ImagePositionPatient) == places[source]


def test_only_frames_with_content(make_report: Make) -> None:
    """At nine tenths of the peak only one slice remains: its neighbour has half its response."""
    dataset = read(make_report("ct", "negative"), 0.9)
    assert dataset.NumberOfFrames == 1
    assert len(dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 1


def test_an_eye_has_a_lesion_and_a_side(make_report: Make) -> None:
    for side, modifier in (("R", "24028007"), ("L", "7771000")):
        dataset = read(make_report("op", "graded", {"PatientOrientation": ["L", "F"]}, side=side, grade=4))
        (segment,) = dataset.SegmentSequence
        assert code(segment.SegmentedPropertyTypeCodeSequence) == ("52988006", "SCT")
        assert code(segment.AnatomicRegionSequence) == ("5665001", "SCT")
        assert code(segment.AnatomicRegionSequence[0].AnatomicRegionModifierSequence) == (modifier, "SCT")
        assert list(dataset.PatientOrientation) == ["L", "F"]
    unknown = read(make_report("op", "graded", grade=4, side="")).SegmentSequence[0]
    assert "AnatomicRegionModifierSequence" not in unknown.AnatomicRegionSequence[0]


@pytest.mark.parametrize("stated", [["L", "Q"], "L", ["", ""], None])
def test_a_senseless_orientation_is_not_carried_on(make_report: Make, errors: Errors, stated: Any) -> None:
    report = make_report("op", "graded", {"PatientOrientation": stated}, grade=4)
    assert errors(made(report)) == []
    assert read(report).PatientOrientation in (None, "")


def test_overlapping_regions_say_so(make_report: Make) -> None:
    report = make_report("ct", "positive")
    one, other = report.maps.values()
    same = replace(report, maps={"r1": one, "r2": replace(other, response=other.response[:, ::-1])})
    assert read(same).SegmentsOverlap == "YES"
    assert read(report).SegmentsOverlap == "NO"


def test_no_object_where_nothing_is_to_be_marked(make_report: Make) -> None:
    assert seg.build(make_report("ct", "no_region")) is None
    assert seg.build(make_report("ct", "positive", maps=False)) is None
    assert seg.build(make_report("op", "ungradable")) is None
    assert seg.build(make_report("op", "graded", grade=0)) is None  # a healthy retina has no lesion
    report = make_report("ct", "negative")
    silent = replace(report.maps["r1"], response=-np.ones_like(report.maps["r1"].response))
    assert seg.build(replace(report, maps={"r1": silent})) is None
    picture = replace(report.instances[0], media="photograph", sop_class_uid="")
    assert seg.build(replace(report, instances=(picture,) * 5)) is None


def test_segments_are_numbered_without_gaps(make_report: Make, errors: Errors) -> None:
    report = make_report("ct", "positive")
    second = replace(report, maps={"r2": report.maps["r2"]})
    assert errors(made(second)) == []
    (segment,) = read(second).SegmentSequence
    assert segment.SegmentNumber == 1 and segment.TrackingUID == report.result["findings"][1]["tracking_uid"]


def test_a_lossy_source_is_said(make_report: Make, errors: Errors) -> None:
    stated = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": "12.5",
        "LossyImageCompressionMethod": "ISO_10918_1",
    }
    report = make_report("op", "graded", stated, grade=4)
    assert errors(made(report)) == []
    dataset = read(report)
    assert dataset.LossyImageCompression == "01" and dataset.LossyImageCompressionRatio == 12.5
    silent = make_report("op", "graded", {"LossyImageCompression": "01"}, grade=4)
    instance = replace(silent.instances[0], transfer_syntax_uid="1.2.840.10008.1.2.4.50")
    silent = replace(silent, instances=(instance,))
    assert errors(made(silent)) == [] and read(silent).LossyImageCompressionMethod == "ISO_10918_1"
    assert read(make_report("op", "graded", grade=4)).LossyImageCompression == "00"


def test_the_frames_of_an_enhanced_ct(make_report: Make, errors: Errors) -> None:
    report = enhanced(make_report("ct", "positive"))
    built = made(report, 0.4)
    assert errors(built) == []
    dataset = pydicom.dcmread(io.BytesIO(built.data))
    whole = report.instances[0]
    expected = masks(report, 0.4)
    for index, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert source.ReferencedSOPInstanceUID == whole.sop_instance_uid
        assert source.ReferencedSOPClassUID == whole.sop_class_uid
        segment = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        tracking = dataset.SegmentSequence[segment - 1].TrackingUID
        mask = expected[tracking][source.ReferencedFrameNumber - 1]
        assert np.array_equal(dataset.pixel_array[index].astype(bool), mask)
    (reference,) = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert reference.ReferencedSOPInstanceUID == whole.sop_instance_uid
    (image,) = dataset.SourceImageSequence
    assert list(image.ReferencedFrameNumber) == [3, 4]


def enhanced(report: Report) -> Report:
    """The same series as one enhanced CT with a frame a slice."""
    uid, keys = "1.2.826.0.1.3680043.8.1055.1.500", {}
    instances = []
    for number, instance in enumerate(report.instances, 1):
        frame = replace(
            instance, sop_instance_uid=uid, sop_class_uid="1.2.840.10008.5.1.4.1.1.2.1", frame=number, frames=5
        )
        keys[instance.key] = frame.key
        instances.append(frame)
    maps = {
        name: replace(one, sources=tuple(keys[source] for source in one.sources)) for name, one in report.maps.items()
    }
    return replace(report, instances=tuple(instances), maps=maps)


def test_the_same_bytes_every_time(make_report: Make, tmp_path: Path) -> None:
    """Also in another process, which has another hash seed, draws other random UIDs, and runs later."""
    reports = [make_report("ct", "positive"), make_report("op", "graded", grade=4)]
    here = [hashlib.sha256(made(report).data).hexdigest() for report in reports]
    assert here == [hashlib.sha256(made(report).data).hexdigest() for report in reports]
    (tmp_path / "reports").write_bytes(pickle.dumps(reports))
    script = (
        "import hashlib, pathlib, pickle, sys, time; from service.results import seg; time.sleep(1.1)\n"
        "for report in pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()):\n"
        "    print(hashlib.sha256(seg.build(report).data).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "reports")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == here


def test_identity_depends_on_the_share(make_report: Make) -> None:
    report = make_report("ct", "positive")
    assert made(report, 0.5).sop_instance_uid != made(report, 0.4).sop_instance_uid
    assert made(report).sop_instance_uid == common.instance_uid(report, "SEG", seg.details(0.5))
    assert made(report).sop_instance_uid == str(read(report).SOPInstanceUID)


def test_dcmdump_reads_it(make_report: Make, tmp_path: Path) -> None:
    tool = shutil.which("dcmdump")
    if tool is None:
        warnings.warn("no real data at all for dcmdump: it is not installed; THIS TEST DID NOT RUN", stacklevel=1)
        pytest.skip("dcmdump is not installed")
    for kind, outcome in (("ct", "positive"), ("op", "graded")):
        path = tmp_path / f"{kind}.dcm"
        path.write_bytes(made(make_report(kind, outcome, grade=4)).data)
        done = subprocess.run([tool, "+L", str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and not done.stderr, done.stderr


def test_many_nodules_need_little_memory(make_report: Make) -> None:
    """64 nodules in 5 slices of 512 x 512: one array of every segment in every slice would take 84 MB, and copies of it."""
    import tracemalloc

    report = make_report("ct", "negative")
    finding, maps = report.result["findings"][0], report.maps["r1"]
    findings = [{**finding, "id": f"r{n}", "tracking_uid": uids.of("t", f"{n}")} for n in range(64)]
    many = replace(
        report,
        result={**report.result, "findings": findings},
        instances=tuple(replace(instance, rows=512, columns=512) for instance in report.instances),
        maps={finding["id"]: maps for finding in findings},
    )
    tracemalloc.start()
    try:
        built = made(many, 0.9)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert pydicom.dcmread(io.BytesIO(built.data)).NumberOfFrames == 64
    assert peak < 60e6


def test_real_headers(make_report: Make, errors: Errors, data: Path) -> None:
    """Three slices of a real series, 512 x 512, with a nodule at column 180, row 260."""
    headers = []
    with zipfile.ZipFile(data / "dicom" / "ct_lungfcp_0001.zip") as archive:
        for name in sorted(archive.namelist())[40:45]:
            headers.append(pydicom.dcmread(io.BytesIO(archive.read(name)), stop_before_pixels=True))
    headers.sort(key=lambda header: float(header.ImagePositionPatient[2]))
    report = make_report("ct", "positive")
    instances = tuple(instance_of(header) for header in headers)
    half = 24 / float(headers[0].PixelSpacing[0])
    box = np.tile([180.5 - half, 260.5 - half, 180.5 + half, 260.5 + half], (3, 1))
    sources = tuple(instance.key for instance in instances[1:4])
    maps = {name: replace(one, sources=sources, box_px=box) for name, one in report.maps.items()}
    real = replace(report, instances=instances, headers=tuple(headers), maps=maps)
    built = made(real)
    assert errors(built) == []
    found = seen(built.data, real)
    for name, mask in masks(real).items():
        assert mask.any() and np.array_equal(found[name], mask)
    dataset = pydicom.dcmread(io.BytesIO(built.data))
    assert (dataset.PatientID, dataset.StudyInstanceUID) == (headers[0].PatientID, headers[0].StudyInstanceUID)


def instance_of(header: Dataset) -> Instance:
    return Instance(
        path=Path("somewhere"),
        sha256="0" * 64,
        media="dicom",
        rows=header.Rows,
        columns=header.Columns,
        sop_instance_uid=str(header.SOPInstanceUID),
        sop_class_uid=str(header.SOPClassUID),
        series_uid=str(header.SeriesInstanceUID),
        study_uid=str(header.StudyInstanceUID),
        frame_of_reference_uid=str(header.FrameOfReferenceUID),
        modality="CT",
        pixel_spacing=tuple(float(v) for v in header.PixelSpacing),  # type: ignore[arg-type]
        orientation=tuple(float(v) for v in header.ImageOrientationPatient),
        position=tuple(float(v) for v in header.ImagePositionPatient),  # type: ignore[arg-type]
        slice_thickness=float(header.SliceThickness),
        transfer_syntax_uid=str(header.file_meta.TransferSyntaxUID),
    )
