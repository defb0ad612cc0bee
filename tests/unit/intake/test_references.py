"""Places that reports, segmentations and structure sets point to, on objects made with highdicom and by hand."""

from __future__ import annotations

import copy
import io
import itertools
import json
import warnings
from collections.abc import Callable
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
import scipy.ndimage
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RTStructureSetStorage

from service.errors import InputError, OutOfContract
from service.intake import answers, places, runs
from service.intake.references import MOST, Reference, References
from service.intake.sandbox import Sandbox

Build = Callable[..., bytes]
Find = Callable[[Any], References]

ORIGIN, SPACING, STEP = np.array([-10.0, -20.0, 30.0]), (0.5, 0.8), 2.0
"""Of `series`: position of the first pixel, (row, column) spacing and slice distance, mm."""
ROWS, COLUMNS, SLICES = 120, 100, 10
NODULE, ABNORMAL = Code("27925004", "SCT", "Nodule"), Code("49755003", "SCT", "Morphologically abnormal structure")
ANATOMY, LUNG = Code("123037004", "SCT", "Anatomical structure"), Code("39607008", "SCT", "Lung")


def mm(column: float, row: float, slice_: float) -> np.ndarray:
    return ORIGIN + np.array([column * SPACING[1], row * SPACING[0], slice_ * STEP])


@pytest.fixture(scope="module")
def series(make_dicom: Build) -> list[Dataset]:
    slices = []
    for k in range(SLICES):
        data = make_dicom(
            np.zeros((ROWS, COLUMNS), np.int16),
            SOPInstanceUID=f"2.25.1{k}",
            ImagePositionPatient=[*ORIGIN[:2], ORIGIN[2] + k * STEP],
            PixelSpacing=list(SPACING),
            SliceThickness=STEP,
            PatientName="A^B",
            PatientBirthDate="",
            PatientSex="",
            StudyDate="20260101",
            StudyTime="120000",
            AccessionNumber="",
            StudyID="",
            ReferringPhysicianName="",
            InstanceNumber=k + 1,
        )
        slices.append(pydicom.dcmread(io.BytesIO(data)))
    return slices


def written(ds: Dataset) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.fixture
def find(sandbox: Sandbox, put: Any) -> Find:
    def references(ds: Dataset | bytes) -> References:
        [instance] = sandbox.inspect([put(ds if isinstance(ds, bytes) else written(ds))])
        return sandbox.references(instance)

    return references


# -- segmentations ------------------------------------------------------------------------------------------------------


def description(number: int, label: str, category: Code = ABNORMAL, kind: Code = NODULE, **more: Any) -> Any:
    return hd.seg.SegmentDescription(number, label, category, kind, hd.seg.SegmentAlgorithmTypeValues.MANUAL, **more)


def segmentation(series: list[Dataset], masks: np.ndarray, descriptions: list[Any], **more: Any) -> Any:
    return hd.seg.Segmentation(
        series,
        masks,
        more.pop("kind", hd.seg.SegmentationTypeValues.BINARY),
        descriptions,
        "2.25.500",
        100,
        "2.25.501",
        1,
        "Somebody",
        "Something",
        "1",
        "2",
        **more,
    )


@pytest.fixture
def masks() -> np.ndarray:
    """Segments: a block, two blocks that touch nowhere, a block in one slice only."""
    found = np.zeros((SLICES, ROWS, COLUMNS, 3), np.uint8)
    found[3:6, 20:31, 40:45, 0] = 1
    found[1:3, 5:9, 5:9, 1] = 1
    found[7:9, 50:60, 70:80, 1] = 1
    found[4, 100:104, 90:98, 2] = 1
    return found


class TestSegmentations:
    @pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
    def test_centre_and_extent(self, kind: str, series: list[Dataset], masks: np.ndarray, find: Find) -> None:
        """Rows 20 to 30, columns 40 to 44, slices 3 to 5; the extent is from corner to corner."""
        tracked = {"tracking_id": "Nodule 1", "tracking_uid": "2.25.4711"}
        descriptions = [description(1, "one", **tracked), description(2, "two"), description(3, "three")]
        pixels = masks.astype(float) if kind == "FRACTIONAL" else masks
        found = find(segmentation(series, pixels, descriptions, kind=hd.seg.SegmentationTypeValues[kind]))
        assert not found.own and not found.skipped and not found.segments
        one, *two, three = found
        np.testing.assert_allclose(one.center_mm, mm(42, 25, 4))
        side = np.array([5 * SPACING[1], 11 * SPACING[0]])
        assert one.diameter_mm == pytest.approx(np.sqrt((side**2).sum() + (2 * STEP) ** 2))
        assert (one.id, one.label, one.tracking_uid) == ("segment 1", "Nodule 1", "2.25.4711")
        assert (one.series_uid, one.frame_of_reference_uid) == ("2.25.3", "2.25.4")
        assert (one.segmentation_uid, one.segment) == ("2.25.501", 1)
        assert one.sop_instance_uids == ("2.25.13", "2.25.14", "2.25.15")
        assert [place.id for place in two] == ["segment 2 part 1", "segment 2 part 2"]
        np.testing.assert_allclose(two[0].center_mm, mm(74.5, 54.5, 7.5))
        np.testing.assert_allclose(two[1].center_mm, mm(6.5, 6.5, 1.5))
        np.testing.assert_allclose(three.center_mm, mm(93.5, 101.5, 4))
        assert three.diameter_mm == pytest.approx(np.hypot(8 * SPACING[1], 4 * SPACING[0]))

    def test_parts_against_scipy(self, series: list[Dataset], find: Find) -> None:
        random = np.random.default_rng(3)
        masks = np.zeros((SLICES, ROWS, COLUMNS), np.uint8)
        for _ in range(15):
            z, y, x = random.integers(0, [SLICES - 2, ROWS - 9, COLUMNS - 9])
            masks[z : z + 2, y : y + random.integers(2, 9), x : x + random.integers(2, 9)] = 1
        labels, count = scipy.ndimage.label(masks, np.ones((3, 3, 3)))
        centres = scipy.ndimage.center_of_mass(masks, labels, range(1, count + 1))
        expected = sorted(tuple(np.round(mm(x, y, z), 6)) for z, y, x in centres)
        found = find(segmentation(series, masks, [description(1, "nodules")]))
        assert sorted(tuple(np.round(place.center_mm, 6)) for place in found) == expected
        assert count > 5

    def test_slices_that_are_missing_part_a_volume(self, series: list[Dataset], find: Find) -> None:
        """Empty frames are not stored: what lies four slices apart is two nodules."""
        masks = np.zeros((SLICES, ROWS, COLUMNS), np.uint8)
        masks[[1, 2, 6, 7], 50:55, 50:55] = 1
        found = find(segmentation(series, masks, [description(1, "x")]))
        assert [round(place.center_mm[2], 6) for place in found] == [mm(0, 0, 1.5)[2], mm(0, 0, 6.5)[2]]

    def test_anatomy_is_left_out(self, series: list[Dataset], masks: np.ndarray, find: Find) -> None:
        descriptions = [
            description(1, "x", ANATOMY, LUNG),
            description(2, "Left_Lung"),
            description(3, "nodule in left lung"),
        ]
        found = find(segmentation(series, masks, descriptions))
        assert [place.segment for place in found] == [3]
        assert found.skipped == ("segment 1 is anatomy, by its category", "segment 2 is anatomy, by its label")

    def test_too_large_for_a_nodule(self, series: list[Dataset], find: Find) -> None:
        wide = [copy.deepcopy(one) for one in series]
        for one in wide:
            one.PixelSpacing = [2.0, 2.0]
        masks = np.zeros((SLICES, ROWS, COLUMNS), np.uint8)
        masks[4, 10:110, 40:60] = 1
        masks[8, 10:20, 40:60] = 1
        found = find(segmentation(wide, masks, [description(1, "x")]))
        assert [round(place.diameter_mm) for place in found] == [round(np.hypot(20, 40))]
        assert "part 1 extends 204 mm: an organ" in found.skipped[0]

    def test_too_finely_divided(self, series: list[Dataset], find: Find) -> None:
        """A chequerboard: ten slices of 6000 runs."""
        masks = np.broadcast_to((np.indices((ROWS, COLUMNS)).sum(axis=0) % 2).astype(np.uint8), (SLICES, ROWS, COLUMNS))
        found = find(segmentation(series, masks, [description(1, "x")]))
        assert not found.places
        assert found.skipped == ("segment 1 is too large or too finely divided for a list of nodules",)

    def test_many_parts_are_bounded(self, series: list[Dataset], find: Find) -> None:
        masks = np.zeros((SLICES, ROWS, COLUMNS), np.uint8)
        masks[::2, 5:115:10, 5:95:10] = 1
        found = find(segmentation(series, masks, [description(1, "x")]))
        assert len(found) == MOST
        assert f"{5 * 11 * 9 - MOST} of {5 * 11 * 9} places" in found.skipped[0]

    def test_our_own_result_is_known(self, series: list[Dataset], masks: np.ndarray, find: Find) -> None:
        seg = segmentation(series, masks[..., 0], [description(1, "x")])
        equipment = Dataset()
        equipment.Manufacturer, equipment.DeviceUID = "Pellucid", "2.25.1"
        seg.ContributingEquipmentSequence = [equipment]
        assert find(seg) == References(True)

    def test_on_a_photograph_there_are_only_pixels(self, series: list[Dataset], masks: np.ndarray, find: Find) -> None:
        """Frames without a plane: the place is a pixel of the image they were drawn on."""
        seg = segmentation(series[:1], masks[3:4, ..., 0], [description(1, "x")])
        for item in seg.PerFrameFunctionalGroupsSequence:
            del item.PlanePositionSequence
        (place,) = find(seg)
        assert (place.center_mm, place.sop_instance_uid, place.frame) == (None, "2.25.10", 0)
        assert place.center_px == (42.0, 25.0)
        assert place.diameter_px == pytest.approx(np.hypot(5, 11))

    def test_broken_objects(self, series: list[Dataset], masks: np.ndarray, find: Find) -> None:
        seg = segmentation(series, masks[..., 0], [description(1, "x")])
        del seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
        place = find(seg).places[0]
        assert place.center_mm is None and place.center_px == (42.0, 25.0)
        del seg.PerFrameFunctionalGroupsSequence
        assert find(seg).places == ()
        del seg.PixelData
        with pytest.raises(OutOfContract, match="no pixels"):
            find(seg)

    def test_huge_segment_numbers_and_spacings(self, series: list[Dataset], masks: np.ndarray, find: Find) -> None:
        seg = segmentation(series, masks[..., 0], [description(1, "x")])
        seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = ["1E+300", "1E+300"]
        assert find(seg).places == ()


class TestRuns:
    def test_of_mask(self) -> None:
        mask = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 1, 1]])
        assert runs.of_mask(mask).tolist() == [[0, 0, 1], [0, 3, 3], [2, 1, 3]]

    @pytest.mark.parametrize("seed", range(5))
    def test_volumes_against_scipy(self, seed: int) -> None:
        masks = np.random.default_rng(seed).random((6, 20, 24)) < 0.12
        labels, count = scipy.ndimage.label(masks, np.ones((3, 3, 3)))
        slices = [runs.Slice(k, 2.5 * k, runs.of_mask(mask)) for k, mask in enumerate(masks)]
        parts = runs.volumes(slices, 3.0)
        sizes = sorted(int((labels == k).sum()) for k in range(1, count + 1))
        assert sorted(sum(runs.pixels(one.runs) for one in part) for part in parts) == sizes
        for part in parts:
            one = part[0]
            row, first, _ = one.runs[0].tolist()
            label = labels[one.frame, row, first]
            where = np.argwhere(labels == label)
            assert {s.frame for s in part} == set(where[:, 0].tolist())
            column, line = runs.centroid(one.runs)
            flat = np.argwhere(labels[one.frame] == label).mean(axis=0)
            assert (line, column) == pytest.approx(tuple(flat))

    def test_diameter_of_many_points(self) -> None:
        """A thousand points on a circle of radius 10, in space."""
        angles = np.linspace(0, 2 * np.pi, 1001)[:-1]
        circle = 10 * np.stack([np.cos(angles), 0.6 * np.sin(angles), 0.8 * np.sin(angles)], axis=1)
        assert places.diameter(circle) == pytest.approx(20, rel=1e-3)
        assert places.diameter(circle[:1]) == 0


@pytest.mark.parametrize(
    ("label", "organ"),
    [
        ("Lung", True),
        ("LUNG_L", True),
        ("Lung left", True),
        ("left lung", True),
        ("Lungs", True),
        ("lung right upper lobe", True),
        ("Heart", True),
        ("Body", True),
        ("SpinalCord", True),
        ("Spinal_Cord", True),
        ("Esophagus", True),
        ("Trachea", True),
        ("Lung nodule 1", False),
        ("nodule in left lung", False),
        ("lesion left lung", False),
        ("GTV_LUNG", False),
        ("1", False),
        ("", False),
        ("ROI-7", False),
        ("Tumor heart", False),
        ("body1", True),
    ],
)
def test_labels_of_organs(label: str, organ: bool) -> None:
    assert places.is_organ(label) is organ


# -- structure sets -----------------------------------------------------------------------------------------------------


def structure_set(*regions: dict[str, Any], syntax: str = ExplicitVRLittleEndian) -> Dataset:
    """Regions {"name", "kind", "contours": [(type, points (n, 3), image uid)]}."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = RTStructureSetStorage, "2.25.600"
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = RTStructureSetStorage, "2.25.600", "RTSTRUCT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.2", "2.25.601"
    frame, study, series = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = "2.25.3"
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = "2.25.4", [study]
    ds.ReferencedFrameOfReferenceSequence = [frame]
    ds.StructureSetROISequence, ds.ROIContourSequence, ds.RTROIObservationsSequence = [], [], []
    for number, region in enumerate(regions, 1):
        roi, contours, observation = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, region["name"], "2.25.4"
        contours.ReferencedROINumber = observation.ReferencedROINumber = number
        observation.RTROIInterpretedType = region.get("kind", "")
        contours.ContourSequence = []
        for kind, points, image in region["contours"]:
            item, reference = Dataset(), Dataset()
            item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points)
            item.ContourData = [f"{value:.6f}" for value in np.ravel(points)]
            reference.ReferencedSOPInstanceUID = image
            item.ContourImageSequence = [reference]
            contours.ContourSequence.append(item)
        ds.StructureSetROISequence.append(roi)
        ds.ROIContourSequence.append(contours)
        ds.RTROIObservationsSequence.append(observation)
    return ds


def square(centre: np.ndarray, half: float) -> np.ndarray:
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    return centre + half * corners


class TestStructureSets:
    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    def test_contours_and_points(self, syntax: str, find: Find) -> None:
        """Squares of half side 2, 4, 2 in three slices, moved sideways: their areas weigh 1 to 4 to 1."""
        middle = mm(50, 50, 4)
        moved = [middle + np.array([6, 0, -2]), middle, middle + np.array([0, 6, 2])]
        contours = [
            ("CLOSED_PLANAR", square(c, h), f"2.25.1{k}") for k, (c, h) in enumerate(zip(moved, (2, 4, 2), strict=True))
        ]
        found = find(
            structure_set(
                {"name": "GTV 1", "kind": "GTV", "contours": contours},
                {"name": "spot", "contours": [("POINT", [[1.0, 2.0, 3.0]], "2.25.17")]},
                syntax=syntax,
            )
        )
        volume, point = found
        np.testing.assert_allclose(volume.center_mm, middle + np.array([1, 1, 0]), atol=1e-6)
        points = np.concatenate([c[1] for c in contours])
        longest = max(np.linalg.norm(a - b) for a, b in itertools.combinations(points, 2))
        assert volume.diameter_mm == pytest.approx(longest, abs=1e-5)
        assert (volume.id, volume.label, volume.series_uid) == ("ROI 1", "GTV 1", "2.25.3")
        assert (volume.frame_of_reference_uid, volume.sop_instance_uids) == (
            "2.25.4",
            ("2.25.10", "2.25.11", "2.25.12"),
        )
        assert (point.center_mm, point.diameter_mm, point.label) == ((1.0, 2.0, 3.0), None, "spot")

    def test_polygon_with_a_dent(self, find: Find) -> None:
        """An L: the square 2 x 2 without its quarter; centroid by hand at 5/6."""
        points = [[0, 0, 0], [2, 0, 0], [2, 1, 0], [1, 1, 0], [1, 2, 0], [0, 2, 0]]
        (place,) = find(structure_set({"name": "x", "contours": [("CLOSED_PLANAR", points, "")]}))
        np.testing.assert_allclose(place.center_mm, [5 / 6, 5 / 6, 0], atol=1e-6)

    def test_what_is_no_lesion(self, find: Find) -> None:
        small = [("CLOSED_PLANAR", square(mm(5, 5, 5), 3), "")]
        large = [("CLOSED_PLANAR", square(mm(5, 5, 5), 80), "")]
        found = find(
            structure_set(
                {"name": "a", "kind": "EXTERNAL", "contours": small},
                {"name": "Heart", "contours": small},
                {"name": "PTV", "kind": "PTV", "contours": small},
                {"name": "tumour", "kind": "GTV", "contours": small},
                {"name": "b", "contours": large},
                {"name": "c", "contours": [("OPEN_PLANAR", square(mm(5, 5, 5), 3), "")]},
                {"name": "d", "contours": []},
            )
        )
        assert [place.id for place in found] == ["ROI 4"]
        assert [reason.split()[1] for reason in found.skipped] == ["1", "2", "3", "6", "7", "5"]

    def test_target_volume_counts_where_there_is_no_gross_one(self, find: Find) -> None:
        contours = [("CLOSED_PLANAR", square(mm(5, 5, 5), 3), "")]
        assert len(find(structure_set({"name": "PTV", "kind": "PTV", "contours": contours}))) == 1

    @pytest.mark.parametrize("text", [b"1\\2", b"1\\2\\x", b"1\\2\\nan", b"1\\2\\1E999", b"\\\\"])
    def test_broken_coordinates(self, text: bytes, find: Find) -> None:
        honest = written(structure_set({"name": "x", "contours": [("POINT", [[1.0, 2.0, 3.0]], "")]}))
        numbers = b"1.000000\\2.000000\\3.000000"
        ds = honest.replace(numbers, text.ljust(len(numbers)))
        assert ds != honest
        with pytest.raises(InputError, match="structure set is damaged"):
            find(ds)

    def test_a_million_points(self, find: Find) -> None:
        line = b"1\\2\\3\\" * 99_999 + b"1\\2\\3"
        ds = structure_set(*[{"name": f"n{k}", "contours": [("POINT", [[1.0, 2.0, 3.0]], "")]} for k in range(8)])
        for item in ds.ROIContourSequence:
            item.ContourSequence[0].add_new(0x30060050, "UN", line)
        found = find(ds)
        assert len(found) == 5
        assert "more than 500000 points" in found.skipped[0]

    def test_names_are_made_safe(self, find: Find) -> None:
        point = [("POINT", [[1.0, 2.0, 3.0]], "2.25.99")]
        ds = written(structure_set({"name": "a\x1b[2J" + "b" * 59, "contours": point}))
        (place,) = find(ds.replace(b"2.25.99", b"../../x"))
        assert place.label == "a[2J" + "b" * 59
        assert place.sop_instance_uids == ()


# -- reports ------------------------------------------------------------------------------------------------------------


def report(series: list[Dataset], *groups: Any, evidence: list[Dataset] | None = None) -> Dataset:
    observer = hd.sr.ObserverContext(
        observer_type=codes.DCM.Person,
        observer_identifying_attributes=hd.sr.PersonObserverIdentifyingAttributes(name="Reader^A"),
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_person_context=observer),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=groups,
    )
    return hd.sr.Comprehensive3DSR(
        evidence=evidence or series,
        content=content,
        series_instance_uid="2.25.700",
        series_number=1,
        sop_instance_uid="2.25.701",
        instance_number=1,
        manufacturer="Somebody",
    )


def tracked(number: int) -> Any:
    return hd.sr.TrackingIdentifier(uid=f"2.25.80{number}", identifier=f"Nodule {number}")


def planar(series: list[Dataset], number: int, kind: str, points: Any, slice_: int = 3, **more: Any) -> Any:
    region = hd.sr.ImageRegion(
        hd.sr.GraphicTypeValues[kind],
        np.array(points, float),
        hd.sr.SourceImageForRegion.from_source_image(series[slice_]),
    )
    return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracked(number), referenced_region=region, finding_type=codes.SCT.Nodule, **more
    )


class TestReports:
    @pytest.mark.parametrize(
        ("kind", "points", "centre", "extent"),
        [
            ("POINT", [[42.5, 25.5]], (42, 25), None),
            ("CIRCLE", [[42.5, 25.5], [45.5, 29.5]], (42, 25), 10),
            ("ELLIPSE", [[32.5, 25.5], [52.5, 25.5], [42.5, 20.5], [42.5, 30.5]], (42, 25), 20),
            ("POLYLINE", [[40, 20], [45, 20], [45, 31], [40, 31], [40, 20]], (42, 25), np.hypot(5, 11)),
            ("POLYLINE", [[40, 20], [45, 31]], (42, 25), np.hypot(5, 11)),
        ],
    )
    def test_outlines_in_an_image(
        self, kind: str, points: Any, centre: Any, extent: Any, series: list[Dataset], find: Find
    ) -> None:
        """SCOORD has (0, 0) at the corner of the first pixel and (0.5, 0.5) at its centre, which is our (0, 0)."""
        found = find(report(series, planar(series, 1, kind, points)))
        assert (found.own, found.skipped, found.segments) == (False, (), ())
        (place,) = found
        assert place.center_px == pytest.approx(centre)
        assert place.diameter_px == (None if extent is None else pytest.approx(extent))
        assert (place.sop_instance_uid, place.frame, place.center_mm) == ("2.25.13", 0, None)
        assert (place.label, place.tracking_uid, place.series_uid) == ("Nodule 1", "2.25.801", "2.25.3")
        assert place.sop_instance_uids == ("2.25.13",)

    def test_against_highdicom_pixel_to_reference(self, series: list[Dataset], find: Find) -> None:
        """The place in mm of SCOORD (10.25, 20.75), by highdicom and by ours."""
        (place,) = find(report(series, planar(series, 1, "POINT", [[10.25, 20.75]])))
        transformer = hd.spatial.ImageToReferenceTransformer.for_image(series[3])
        np.testing.assert_allclose(mm(*place.center_px, 3), transformer(np.array([[10.25, 20.75]]))[0], atol=1e-6)

    def test_measured_diameter(self, series: list[Dataset], find: Find) -> None:
        long_axis = hd.sr.Measurement(Code("103339001", "SCT", "Long Axis"), 1.25, Code("cm", "UCUM", "cm"))
        volume = hd.sr.Measurement(codes.SCT.Volume, 700.0, codes.UCUM.CubicMillimeter)
        (place,) = find(report(series, planar(series, 1, "POINT", [[5, 5]], measurements=[volume, long_axis])))
        assert place.diameter_mm == pytest.approx(12.5)

    def test_outlines_in_space(self, series: list[Dataset], find: Find) -> None:
        middle = mm(40, 40, 4)
        polygon = np.concatenate([square(middle, 3), square(middle, 3)[:1]])
        axes = 5 * np.array([[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]])
        flat = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracked(1),
            referenced_region=hd.sr.ImageRegion3D(hd.sr.GraphicTypeValues3D.POLYGON, polygon, "2.25.4"),
            finding_type=codes.SCT.Nodule,
        )
        solid = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracked(2),
            referenced_volume_surface=hd.sr.VolumeSurface(
                hd.sr.GraphicTypeValues3D.ELLIPSOID,
                middle + axes,
                "2.25.4",
                source_series=hd.sr.SourceSeriesForSegmentation("2.25.3"),
            ),
            finding_type=codes.SCT.Nodule,
        )
        one, two = find(report(series, flat, solid))
        np.testing.assert_allclose([one.center_mm, two.center_mm], [middle, middle], atol=1e-4)
        assert (one.diameter_mm, two.diameter_mm) == pytest.approx((6 * np.sqrt(2), 10), abs=1e-4)
        for place in (one, two):
            assert (place.frame_of_reference_uid, place.series_uid) == ("2.25.4", "2.25.3")

    def test_volume_of_outlines(self, series: list[Dataset], find: Find) -> None:
        """TID 1411 with an outline a slice: the widest says where."""
        regions = [
            hd.sr.ImageRegion(
                hd.sr.GraphicTypeValues.CIRCLE,
                np.array([[20.5 + k, 30.5], [20.5 + k + radius, 30.5]]),
                hd.sr.SourceImageForRegion.from_source_image(series[k]),
            )
            for k, radius in ((2, 3), (3, 5), (4, 2))
        ]
        group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracked(1), referenced_regions=regions, finding_type=codes.SCT.Nodule
        )
        (place,) = find(report(series, group))
        assert (place.sop_instance_uid, place.center_px, place.diameter_px) == ("2.25.13", (23.0, 30.0), 10.0)
        assert place.sop_instance_uids == ("2.25.12", "2.25.13", "2.25.14")

    def test_segment_without_coordinates(self, series: list[Dataset], masks: np.ndarray, find: Find) -> None:
        seg = segmentation(series, masks[..., 0], [description(1, "x")])
        segment = hd.sr.ReferencedSegment(
            "1.2.840.10008.5.1.4.1.1.66.4", "2.25.501", 1,
            source_series=hd.sr.SourceSeriesForSegmentation("2.25.3"),
        )  # fmt: skip
        group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracked(1), referenced_segment=segment, finding_type=codes.SCT.Nodule
        )
        found = find(report(series, group, evidence=[seg, *series]))
        assert found.places == ()
        (one,) = found.segments
        assert (one.segmentation_uid, one.segment, one.tracking_uid, one.series_uid) == (
            "2.25.501",
            1,
            "2.25.801",
            "2.25.3",
        )

    def test_several_groups_and_anatomy(self, series: list[Dataset], find: Find) -> None:
        lung = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(uid="2.25.5", identifier="x"),
            referenced_region=hd.sr.ImageRegion(
                hd.sr.GraphicTypeValues.POINT,
                np.array([[1.0, 1.0]]),
                hd.sr.SourceImageForRegion.from_source_image(series[0]),
            ),
            finding_type=codes.SCT.Lung,
        )
        whole = hd.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracked(9), finding_type=codes.SCT.Nodule
        )
        points = planar(series, 1, "POINT", [[5, 5]]), planar(series, 2, "POINT", [[9, 9]], 7)
        found = find(report(series, points[0], lung, whole, points[1]))
        assert [(place.id, place.sop_instance_uid) for place in found] == [
            ("measurement group 1", "2.25.13"),
            ("measurement group 4", "2.25.17"),
        ]
        assert found.skipped == (
            "measurement group 2 is about anatomy, by its finding",
            "measurement group 3 has no coordinates and no segment",
        )

    def test_coordinates_below_a_measurement(self, series: list[Dataset], find: Find) -> None:
        """TID 300 as viewers write a length: NUM, inferred from SCOORD, selected from IMAGE."""
        ds = report(series, planar(series, 1, "POLYLINE", [[40, 20], [45, 31]]))
        (group,) = ds.ContentSequence[-1].ContentSequence
        (region,) = [item for item in group.ContentSequence if item.ValueType == "SCOORD"]
        length = hd.sr.NumContentItem(
            codes.SCT.Length, 9.0, codes.UCUM.Millimeter, relationship_type=hd.sr.RelationshipTypeValues.CONTAINS
        )
        region.RelationshipType = "INFERRED FROM"
        length.ContentSequence = [region]
        group.ContentSequence = [item for item in group.ContentSequence if item.ValueType != "SCOORD"] + [length]
        (place,) = find(ds)
        assert (place.center_px, place.sop_instance_uid) == ((42.0, 25.0), "2.25.13")

    @pytest.mark.parametrize("data", [[1.0], [float("nan"), 1.0], []])
    def test_broken_coordinates(self, data: list[float], series: list[Dataset], find: Find) -> None:
        ds = report(series, planar(series, 1, "POINT", [[5, 5]]))
        (group,) = ds.ContentSequence[-1].ContentSequence
        (region,) = [item for item in group.ContentSequence if item.ValueType == "SCOORD"]
        region.GraphicData = data
        with pytest.raises(InputError, match="content tree is damaged"):
            find(ds)

    def test_tree_that_is_too_deep_or_too_wide(self, series: list[Dataset], find: Find) -> None:
        ds = report(series, planar(series, 1, "POINT", [[5, 5]]))
        ds = pydicom.dcmread(io.BytesIO(written(ds)))
        item = Dataset()
        item.ValueType = "CONTAINER"
        ds.ContentSequence.extend([item] * 30_000)
        assert len(find(ds)) == 1

    def test_other_objects_point_nowhere(self, series: list[Dataset], find: Find) -> None:
        with pytest.raises(OutOfContract, match="points to no places"):
            find(series[0])


HONEST: dict[str, Any] = {
    "id": "1", "label": "", "tracking_uid": "", "series_uid": "", "frame_of_reference_uid": "", "sop_instance_uids": [],
    "center_mm": [1, 2, 3], "sop_instance_uid": "", "frame": 0, "center_px": None, "diameter_mm": None, "diameter_px": None,
    "segmentation_uid": "", "segment": 0,
}  # fmt: skip


class TestAnswersAreNotTrusted:
    def answer(self, place: dict[str, Any], **more: Any) -> References:
        whole = {"own": False, "places": [place], "segments": [], "skipped": [], **more}
        return answers.references(bytearray(json.dumps(whole).encode()))

    def test_honest(self) -> None:
        assert self.answer(HONEST) == References(False, (Reference("1", center_mm=(1.0, 2.0, 3.0)),))

    @pytest.mark.parametrize(
        "lie",
        [
            {"id": 7},
            {"label": "\x1b[2J"},
            {"label": "a" * 300},
            {"tracking_uid": "../x"},
            {"sop_instance_uids": ["1"] * 65},
            {"sop_instance_uids": 7},
            {"center_mm": [1, 2]},
            {"center_mm": [1, 2, float("inf")]},
            {"center_mm": None},
            {"center_mm": None, "center_px": [1, 2]},
            {"frame": -1},
            {"segment": 1 << 20},
            {"diameter_mm": -1},
            {"diameter_mm": float("nan")},
            {"diameter_px": 1e9},
        ],
    )
    def test_lies_about_a_place(self, lie: dict[str, Any]) -> None:
        with pytest.raises((ValueError, TypeError, KeyError)):
            self.answer({**HONEST, **lie})

    @pytest.mark.parametrize(
        "lie",
        [
            {"own": 1},
            {"places": [HONEST] * 65},
            {"places": 7},
            {"places": [7]},
            {"skipped": ["a\nb"]},
            {"segments": None},
        ],
    )
    def test_lies_about_all(self, lie: dict[str, Any]) -> None:
        with pytest.raises((ValueError, TypeError, KeyError, IndexError)):
            self.answer(HONEST, **lie)
