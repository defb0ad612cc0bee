"""The parametric map as its readers see it, and its numbers against an interpolation written down anew."""

from __future__ import annotations

import hashlib
import io
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from scipy.ndimage import map_coordinates

from service.records import ResultObject
from service.results import pm
from service.results.report import Report

Make = Callable[..., Report]
Errors = Callable[[ResultObject], list[str]]


def made(report: Report) -> ResultObject:
    built = pm.build(report)
    assert built is not None
    return built


def code(sequence: Any) -> tuple[str, str]:
    (item,) = sequence
    return item.CodeValue, item.CodingSchemeDesignator


def interpolated(response: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The map at the centres of the image's pixels, by SciPy; 0 outside the box."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]] + 0.5
    v = (y - box[1]) / (box[3] - box[1]) * response.shape[0] - 0.5
    u = (x - box[0]) / (box[2] - box[0]) * response.shape[1] - 0.5
    values = map_coordinates(response.astype(np.float64), [v, u], order=1, mode="nearest")
    inside = (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])
    return np.where(inside, values, 0)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("outcome", ["positive", "negative"])
def test_a_ct_series(make_report: Make, errors: Errors, outcome: str, sparse: bool) -> None:
    """Valid, one frame a slice in the series' places; the malignant class whatever was decided; 0 where nothing was seen."""
    report = make_report("ct", outcome, sparse=sparse)
    built = made(report)
    assert errors(built) == []
    dataset = pydicom.dcmread(io.BytesIO(built.data))
    pixels = dataset.pixel_array
    assert pixels.dtype == np.float32 and pixels.shape == (5, 160, 200)
    maps = report.maps["r1"]
    slices = {instance.sop_instance_uid: instance for instance in report.instances}
    for at, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        instance = slices.pop(source.ReferencedSOPInstanceUID)
        assert source.ReferencedSOPClassUID == instance.sop_class_uid
        assert tuple(frame.PlanePositionSequence[0].ImagePositionPatient) == instance.position
        if instance.key in maps.sources:
            k = maps.sources.index(instance.key)
            expected = interpolated(maps.response[k, 1], maps.box_px[k], (160, 200))
            assert expected.max() > 0.2
            np.testing.assert_allclose(pixels[at], expected, atol=1e-5)
        else:
            assert not pixels[at].any()
    assert not slices


def test_what_the_contract_asks_for(make_report: Make) -> None:
    report = make_report("ct", "positive")
    dataset = pydicom.dcmread(io.BytesIO(made(report).data))
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.30" and "FloatPixelData" in dataset
    assert (dataset.ContentLabel, dataset.BitsAllocated, dataset.BodyPartExamined) == ("HEATMAP", 32, "CHEST")
    assert "malignant" in dataset.ContentDescription
    (mapping,) = dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    (quantity,) = mapping.QuantityDefinitionSequence
    assert code(quantity.ConceptNameCodeSequence) == ("246205007", "SCT")
    assert code(quantity.ConceptCodeSequence) == ("130404", "DCM")
    assert code(mapping.MeasurementUnitsCodeSequence) == ("1", "UCUM")
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    assert mapping.DoubleFloatRealWorldValueFirstValueMapped <= dataset.pixel_array.min()
    assert mapping.DoubleFloatRealWorldValueLastValueMapped >= dataset.pixel_array.max()
    assert dataset.FrameOfReferenceUID == report.instances[0].frame_of_reference_uid
    assert len(dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 5


def test_highdicom_reads_it(make_report: Make) -> None:
    report = make_report("ct", "positive")
    read = hd.imread(io.BytesIO(made(report).data))
    volume = read.get_volume(apply_real_world_transform=True)
    assert np.array_equal(volume.array, pydicom.dcmread(io.BytesIO(made(report).data)).pixel_array)


def test_slices_that_come_from_the_top_down(make_report: Make, errors: Errors) -> None:
    """Frames follow their planes, whatever the order of the instances."""
    report = make_report("ct", "positive")
    turned = replace(report, instances=report.instances[::-1], headers=report.headers[::-1])
    built = made(turned)
    assert errors(built) == []
    straight, dataset = (pydicom.dcmread(io.BytesIO(made(one).data)) for one in (report, turned))
    planes = {}
    for read in (straight, dataset):
        for frame, pixels in zip(read.PerFrameFunctionalGroupsSequence, read.pixel_array, strict=True):
            uid = str(frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID)
            assert np.array_equal(planes.setdefault(uid, pixels), pixels)


@pytest.mark.parametrize("seed", range(5))
def test_interpolation_on_any_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns, height, width = (int(v) for v in rng.integers(20, 50, 4))
    x0, y0 = rng.uniform(-12, 15, 2)
    box = np.array([x0, y0, x0 + rng.uniform(5, 60), y0 + rng.uniform(5, 60)])
    response = rng.normal(size=(height, width)).astype(np.float32)
    tall, wide, values = pm.on_image(response, box, (rows, columns))
    found = np.zeros((rows, columns), np.float32)
    found[tall, wide] = values
    np.testing.assert_allclose(found, interpolated(response, box, (rows, columns)), atol=2e-5)


def test_interpolation_by_hand() -> None:
    """A map of 1 x 2 pixels over four image pixels: centres at 1 and 3, the image's at 0.5, 1.5, 2.5, 3.5."""
    rows, columns, values = pm.on_image(np.array([[0.0, 8.0]]), np.array([0.0, 0, 4, 1]), (1, 6))
    assert (rows, columns) == (slice(0, 1), slice(0, 4))
    assert values.tolist() == [[0, 2, 6, 8]]


def test_a_window_outside_the_image_touches_nothing() -> None:
    _, _, values = pm.on_image(np.ones((4, 4)), np.array([30.0, 0, 40, 10]), (20, 20))
    assert values.size == 0


def test_where_windows_overlap_the_larger_magnitude_holds(make_report: Make) -> None:
    report = make_report("ct", "positive")
    one, two = report.maps.values()
    response = np.full_like(one.response, 0.2)
    mixed = replace(report, maps={"r1": replace(one, response=response), "r2": replace(two, response=-4 * response)})
    pixels = pydicom.dcmread(io.BytesIO(made(mixed).data)).pixel_array
    assert set(np.unique(pixels)) == {np.float32(-0.8), np.float32(0)}


def test_no_object_without_maps_or_for_photographs(make_report: Make) -> None:
    assert pm.build(make_report("ct", "no_region")) is None
    assert pm.build(make_report("ct", "positive", maps=False)) is None
    for kind in ("op", "vl", "sc"):
        assert pm.build(make_report(kind, "graded")) is None


def test_a_flat_map_is_valid(make_report: Make, errors: Errors) -> None:
    report = make_report("ct", "negative")
    flat = replace(report.maps["r1"], response=np.zeros_like(report.maps["r1"].response))
    assert errors(made(replace(report, maps={"r1": flat}))) == []


def test_the_same_bytes_every_time(make_report: Make, tmp_path: Path) -> None:
    report = make_report("ct", "positive")
    here = hashlib.sha256(made(report).data).hexdigest()
    assert here == hashlib.sha256(made(report).data).hexdigest()
    (tmp_path / "report").write_bytes(pickle.dumps(report))
    script = (
        "import hashlib, pathlib, pickle, sys, time; from service.results import pm; time.sleep(1.1)\n"
        "report = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "print(hashlib.sha256(pm.build(report).data).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "report")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == here


def test_memory_stays_below_three_times_the_pixels(make_report: Make) -> None:
    report = make_report("ct", "positive")
    large = replace(
        report, instances=tuple(replace(instance, rows=1024, columns=1024) for instance in report.instances)
    )
    made(report)  # imports and caches
    tracemalloc.start()
    try:
        built = made(large)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    pixels = 5 * 1024 * 1024 * 4
    assert len(built.data) > pixels and peak < 3 * pixels + 2e6
