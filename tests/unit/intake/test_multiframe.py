"""Enhanced CT: its frames as a stack like any other, the same as the single-frame slices it was made from."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from service.errors import InputError, OutOfContract
from service.intake import answers, multiframe
from service.intake.limits import Limits
from service.intake.sandbox import Sandbox
from service.intake.series import arrange
from service.records import Instance, Region
from service.store import rows

Build = Callable[..., bytes]
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
AXIAL, ROWS, COLUMNS, FRAMES = [1, 0, 0, 0, 1, 0], 12, 10, 6
TOP_LEVEL = (
    "PixelSpacing",
    "SliceThickness",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "RescaleSlope",
    "RescaleIntercept",
)
"""What a single-frame slice has in the main data set, and an enhanced CT in its functional groups."""
VOLUME = np.random.default_rng(0).integers(0, 3000, (FRAMES, ROWS, COLUMNS)).astype("<i2")


def macro(keyword: str, **elements: Any) -> Dataset:
    """A functional group of one macro."""
    group, item = Dataset(), Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    setattr(group, keyword, [item])
    return group


def merged(*groups: Dataset) -> Dataset:
    result = Dataset()
    for group in groups:
        result.update(group)
    return result


SHARED = merged(
    macro("PixelMeasuresSequence", PixelSpacing=[0.7, 0.8], SliceThickness=2.5),
    macro("PlaneOrientationSequence", ImageOrientationPatient=AXIAL),
    macro("PixelValueTransformationSequence", RescaleSlope=1, RescaleIntercept=-1024),
)


def position(k: int) -> Dataset:
    return macro("PlanePositionSequence", ImagePositionPatient=[-10, -20, 100.0 - 2 * k])


def short_position() -> Dataset:
    return macro("PlanePositionSequence", ImagePositionPatient=[-10, -20])


@pytest.fixture
def enhanced(make_dicom: Build) -> Callable[..., bytes]:
    """An enhanced CT whose frames run from head to feet, 2 mm apart; keywords replace elements."""

    def build(syntax: str = ExplicitVRLittleEndian, **changes: Any) -> bytes:
        pixels = VOLUME.astype(">i2") if syntax == ExplicitVRBigEndian else VOLUME
        elements: dict[str, Any] = {
            "SOPClassUID": ENHANCED_CT,
            "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
            "NumberOfFrames": FRAMES,
            "SharedFunctionalGroupsSequence": [SHARED],
            "PerFrameFunctionalGroupsSequence": [position(k) for k in range(FRAMES)],
            **dict.fromkeys(TOP_LEVEL),
            **changes,
        }
        absent = [
            k for k in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence") if elements[k] is None
        ]
        for keyword in absent:
            del elements[keyword]
        return make_dicom(pixels.tobytes(), syntax, Rows=ROWS, Columns=COLUMNS, **elements)

    return build


@pytest.fixture
def read(put: Callable[[bytes], Path], sandbox: Sandbox) -> Callable[[bytes], Instance]:
    def inspect(data: bytes) -> Instance:
        [instance] = sandbox.inspect([put(data)])
        return instance

    return inspect


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_frames_become_slices(syntax: str, enhanced: Any, read: Any, sandbox: Sandbox) -> None:
    instance = read(enhanced(syntax))
    assert (instance.frame, instance.frames, len(instance.planes), instance.key) == (0, FRAMES, 14 * FRAMES, "2.25.1")
    stack = arrange([instance])
    assert [one.frame for one in stack.instances] == [6, 5, 4, 3, 2, 1]  # from the feet
    assert [one.key for one in stack.instances][:2] == ["2.25.1#6", "2.25.1#5"]
    assert [one.position for one in stack.instances] == [(-10.0, -20.0, 90.0 + 2 * k) for k in range(6)]
    assert (stack.pixel_spacing, stack.slice_spacing_mm) == ((0.7, 0.8), 2.0)
    for one in stack.instances:
        assert (one.orientation, one.slice_thickness, one.rescale) == (tuple(AXIAL), 2.5, (1.0, -1024.0))
        assert (one.sop_instance_uid, one.path, one.sha256, one.frames) == ("2.25.1", instance.path, instance.sha256, 6)
        np.testing.assert_array_equal(sandbox.hounsfield(one), VOLUME[one.frame - 1].astype(np.float32) - 1024)
        assert arrange([one]).instances == (one,)


def test_the_whole_object_has_no_hounsfield_units(enhanced: Any, read: Any, sandbox: Sandbox) -> None:
    instance = read(enhanced())
    with pytest.raises(OutOfContract, match="it has 6 frames"):
        sandbox.hounsfield(instance)
    with pytest.raises(OutOfContract, match="no frame 7: its frames are 1 to 6"):
        sandbox.hounsfield(replace(instance, frame=7))


def test_a_frame_s_own_macros_go_before_the_shared_ones(enhanced: Any, read: Any, sandbox: Sandbox) -> None:
    own = [
        merged(position(k), macro("PixelValueTransformationSequence", RescaleSlope=k + 1, RescaleIntercept=10 * k))
        for k in range(FRAMES)
    ]
    instance = read(enhanced(PerFrameFunctionalGroupsSequence=own))
    for one in multiframe.frames(instance):
        k = one.frame - 1
        assert one.rescale == (k + 1, 10 * k)
        np.testing.assert_array_equal(sandbox.hounsfield(one), VOLUME[k] * np.float32(k + 1) + np.float32(10 * k))


def test_pictures_use_the_frame_s_rescale_and_window(enhanced: Any, read: Any, sandbox: Sandbox) -> None:
    """PS3.3 C.7.6.16.2.9 and 10: 1024 stored is 0 HU; the window is -500 to 500 HU, exactly."""
    voi = macro("FrameVOILUTSequence", WindowCenter=[0, 7], WindowWidth=[1000, 7])
    instance = read(enhanced(SharedFunctionalGroupsSequence=[merged(SHARED, voi)], VOILUTFunction="LINEAR_EXACT"))
    for number in (1, FRAMES):
        expected = np.clip((VOLUME[number - 1] - 1024) / 1000 + 0.5, 0, 1) * 255
        assert np.abs(sandbox.rendered(instance, number) - expected).max() <= 0.5


def test_no_rescale_and_no_thickness(enhanced: Any, read: Any, sandbox: Sandbox) -> None:
    shared = merged(
        macro("PixelMeasuresSequence", PixelSpacing=[0.7, 0.8]),
        macro("PlaneOrientationSequence", ImageOrientationPatient=AXIAL),
    )
    one, *_ = multiframe.frames(read(enhanced(SharedFunctionalGroupsSequence=[shared])))
    assert (one.rescale, one.slice_thickness) == (None, None)
    np.testing.assert_array_equal(sandbox.hounsfield(one), VOLUME[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"PerFrameFunctionalGroupsSequence": None},
        {"SharedFunctionalGroupsSequence": None},
        {"PerFrameFunctionalGroupsSequence": [position(k) for k in range(FRAMES - 1)]},
        {"PerFrameFunctionalGroupsSequence": [Dataset() for _ in range(FRAMES)]},
        {"PerFrameFunctionalGroupsSequence": [*(position(k) for k in range(FRAMES - 1)), short_position()]},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.3"},
    ],
)
def test_without_a_plane_for_each_frame_there_is_no_stack(changes: dict[str, Any], enhanced: Any, read: Any) -> None:
    instance = read(enhanced(**changes))
    assert instance.planes == ()
    assert multiframe.frames(instance) == (instance,)
    with pytest.raises(OutOfContract, match="several frames and does not say where"):
        arrange([instance])


@pytest.mark.parametrize("broken", [["x", "1", "2"], ["1", "two", "3"]])
def test_broken_positions(broken: list[str], enhanced: Any, read: Any) -> None:
    good = b"-10.0\\-20.0\\98.0"
    data = enhanced()
    assert data.count(good) == 1
    bad = "\\".join(broken).encode().ljust(len(good))
    assert len(bad) == len(good)
    with pytest.raises(InputError, match="functional groups .* damaged"):
        read(data.replace(good, bad))


def test_against_the_slices_it_was_made_from(make_dicom: Build, read: Any, sandbox: Sandbox) -> None:
    """highdicom converts single-frame slices; both are the same stack with the same values."""
    slices = []
    for k in range(8):
        pixels = np.random.default_rng(k).integers(0, 2000, (ROWS, COLUMNS)).astype(np.int16)
        slices.append(
            make_dicom(
                pixels,
                SOPInstanceUID=f"2.25.10{k}",
                ImagePositionPatient=[-10, -20, 30 + 1.25 * k],
                InstanceNumber=k + 1,
                PatientName="A^B",
                PatientBirthDate="",
                PatientSex="",
                StudyDate="20260101",
                StudyTime="120000",
                AccessionNumber="",
                StudyID="",
                SeriesNumber=1,
                ReferringPhysicianName="",
                Manufacturer="x",
                ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
                AcquisitionNumber=1,
                KVP=120,
                BurnedInAnnotation="NO",
                PatientPosition="HFS",
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        legacy = LegacyConvertedEnhancedCTImage(
            [pydicom.dcmread(io.BytesIO(one)) for one in slices], "2.25.900", 2, "2.25.901", 1
        )
        stream = io.BytesIO()
        legacy.save_as(stream, enforce_file_format=True)
    single, multi = arrange([read(one) for one in slices]), arrange([read(stream.getvalue())])
    assert len(multi.instances) == 8
    assert multi.pixel_spacing == single.pixel_spacing
    assert multi.slice_spacing_mm == pytest.approx(single.slice_spacing_mm)
    for one, two in zip(single.instances, multi.instances, strict=True):
        assert two.position == pytest.approx(one.position)
        assert (two.orientation, two.slice_thickness, two.rescale) == (
            one.orientation,
            one.slice_thickness,
            one.rescale,
        )
        np.testing.assert_array_equal(sandbox.hounsfield(two), sandbox.hounsfield(one))


class TestPlacesInFrames:
    def test_frame_of_a_region(self, enhanced: Any, read: Any) -> None:
        stack = arrange([read(enhanced())])
        assert stack.locate(Region("a", sop_instance_uid="2.25.1", center_px=(3, 4), frame=2)) == (4, (3.0, 4.0))
        assert stack.locate(Region("a", center_mm=(-10 + 3 * 0.8, -20 + 4 * 0.7, 98.1)))[0] == 4
        with pytest.raises(OutOfContract, match="its image has 6 frames in the stack; name one of them"):
            stack.locate(Region("a", sop_instance_uid="2.25.1", center_px=(3, 4)))
        with pytest.raises(OutOfContract, match="6 frames in the stack"):
            stack.locate(Region("a", sop_instance_uid="2.25.1", center_px=(3, 4), frame=9))

    def test_frame_of_a_single_slice_is_no_matter(self, make_dicom: Build, read: Any) -> None:
        stack = arrange([read(make_dicom())])
        assert stack.locate(Region("a", sop_instance_uid="2.25.1", center_px=(3, 4), frame=1))[0] == 0

    def test_only_frame_needs_no_number(self, enhanced: Any, read: Any) -> None:
        one = multiframe.frames(read(enhanced()))[2]
        assert arrange([one]).locate(Region("a", sop_instance_uid="2.25.1", center_px=(3, 4)))[0] == 0

    def test_frame_that_was_left_out(self, enhanced: Any, read: Any) -> None:
        frames = [position(k) for k in range(FRAMES)]
        frames[5] = position(4)
        instance = read(enhanced(PerFrameFunctionalGroupsSequence=frames))
        with pytest.raises(OutOfContract, match="1 of 6 slices lie where another"):
            arrange([instance])


def test_stored_and_read_back(enhanced: Any, read: Any) -> None:
    """The row of the database holds the planes; a frame keeps its number."""
    instance = read(enhanced())
    for one in (instance, multiframe.frames(instance)[3]):
        row = type("Row", (), rows.header(one))
        assert rows.instance(row, one.path) == one


@pytest.mark.parametrize(
    "lie",
    [
        {"shape": [FRAMES + 1, 14]},
        {"shape": [FRAMES, 13]},
        {"shape": "x"},
        {"dtype": "<f4"},
        {"dtype": "|O"},
        {"frames": FRAMES + 1},
    ],
)
def test_lies_about_planes(lie: dict[str, Any], enhanced: Any, put: Any, sandbox: Sandbox) -> None:
    header, payload = sandbox._pool.ask({"op": "inspect", "path": str(put(enhanced()))}, "", payload_limit=1 << 20)
    assert answers.instance(header, Path("x"), "", Limits(), payload).planes
    with pytest.raises((ValueError, TypeError, KeyError)):
        answers.instance({**header, **lie}, Path("x"), "", Limits(), payload)


def test_planes_that_are_none(enhanced: Any, put: Any, sandbox: Sandbox) -> None:
    header, payload = sandbox._pool.ask({"op": "inspect", "path": str(put(enhanced()))}, "", payload_limit=1 << 20)
    for place, value in ((0, np.nan), (3, np.inf), (9, 0.0), (10, -1.0)):
        planes = np.frombuffer(bytes(payload), "<f8").copy()
        planes[place] = value
        with pytest.raises(ValueError, match="planes"):
            answers.instance(header, Path("x"), "", Limits(), bytearray(planes.tobytes()))


def test_a_file_that_changed_is_read_anew(make_dicom: Build, sandbox: Sandbox, put: Any) -> None:
    """The child remembers the header of the last file with several frames, and tells it from others."""
    size = {"Rows": ROWS, "Columns": COLUMNS, "NumberOfFrames": FRAMES}
    one, two = (put(make_dicom((VOLUME + add).tobytes(), **size)) for add in (0, 7))
    [first], [second] = sandbox.inspect([one]), sandbox.inspect([two])
    for _ in range(2):
        for instance, add in ((first, 0), (second, 7)):
            for number in (2, 5):
                assert bytes(sandbox.frame(instance, number)[0]) == (VOLUME[number - 1] + add).tobytes()
    shorter = make_dicom(VOLUME[:4, :5].copy().tobytes(), Rows=5, Columns=COLUMNS, NumberOfFrames=4)
    one.write_bytes(shorter)
    assert bytes(sandbox.frame(first, 4)[0]) == VOLUME[3, :5].tobytes()
    with pytest.raises(OutOfContract, match="frames are 1 to 4"):
        sandbox.frame(first, 5)
