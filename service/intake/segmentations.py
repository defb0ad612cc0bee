"""Segments of a Segmentation object (PS3.3 A.51, C.8.20), binary, fractional and label map. Runs in the child only."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from service.errors import OutOfContract
from service.intake import dicom, elements, frames, functional_groups, places, runs
from service.intake.damage import reading
from service.intake.limits import Limits
from service.intake.references import Reference, References

_ANATOMY = frozenset({("123037004", "SCT"), ("T-D0050", "SRT"), ("85756007", "SCT"), ("T-D0060", "SRT")})
"""Categories: anatomical structure, tissue."""
_MOST_SEGMENTS, _MOST_FRAMES = 1024, 8192
_MOST_RUNS = 20_000
"""Of one segment; a nodule of 30 mm has a thousand."""
_SAME_MM = 0.01
_NEIGHBOUR = 1.5
"""Slices farther apart than this multiple of the usual distance are no neighbours."""


@dataclass(frozen=True)
class Plane:
    """Where one frame lies: its geometry in the patient, or only the image it was drawn on."""

    position: np.ndarray | None
    x_axis: np.ndarray
    y_axis: np.ndarray
    spacing: tuple[float, float]
    segment: int
    image: str
    image_frame: int

    @property
    def along_mm(self) -> float:
        return 0.0 if self.position is None else float(np.cross(self.x_axis, self.y_axis) @ self.position)

    def to_mm(self, pixels: np.ndarray) -> np.ndarray:
        """Patient coordinates (n, 3) of (column, row), PS3.3 equation C.7.6.2.1-1."""
        assert self.position is not None  # noqa: S101  # for the type checker
        across = pixels[:, :1] * self.spacing[1] * self.x_axis + pixels[:, 1:] * self.spacing[0] * self.y_axis
        return np.asarray(self.position + across)


def read(source: dicom.Source, limits: Limits) -> References:
    """One place a connected volume of a segment: its centroid and its largest extent.

    A segment that is an organ by its code or its name, or has an extent of more than 100 mm, is left out with a reason.
    """
    ds = source.dataset
    if source.pixels is None:
        raise OutOfContract("the segmentation has no pixels; export it again")
    with reading("its segments are damaged; export it again"):
        segments = {int(item.SegmentNumber): item for item in (ds.get("SegmentSequence", None) or ())[:_MOST_SEGMENTS]}
        planes = _planes(ds)
        label_map = str(ds.get("SegmentationType", "")) == "LABELMAP"
        skipped: list[str] = []
        wanted = [number for number in sorted(segments) if not _skip(number, segments[number], skipped)]
        slices = _slices(source, planes, wanted, label_map, skipped, limits)
        own: dict[str, Any] = {
            "series_uid": _series(ds),
            "frame_of_reference_uid": places.uid(ds.get("FrameOfReferenceUID")),
            "segmentation_uid": elements.identifier(ds, "SOPInstanceUID"),
        }
        gap = _NEIGHBOUR * _distance(ds, planes)
        found = [place for number in wanted for place in _places(segments[number], planes, slices[number], gap)]
    return places.result([replace(place, **own) for place in found], skipped)


def _skip(number: int, segment: Dataset, skipped: list[str]) -> bool:
    if number == 0:  # background of a label map
        return True
    category = places.code(segment, "SegmentedPropertyCategoryCodeSequence")
    if category in _ANATOMY or places.is_organ(places.label(segment.get("SegmentLabel"))):
        skipped.append(f"segment {number} is anatomy, by its {'category' if category in _ANATOMY else 'label'}")
        return True
    return False


def _planes(ds: Dataset) -> list[Plane]:
    """Geometry and segment of every frame."""
    shared, items = functional_groups.groups(ds)
    return [_plane(item, shared) for item in items[:_MOST_FRAMES]]


def _plane(item: Dataset, shared: Dataset) -> Plane:
    orientation = functional_groups.numbers(item, shared, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    position = functional_groups.numbers(item, shared, "PlanePositionSequence", "ImagePositionPatient", 3)
    spacing = functional_groups.numbers(item, shared, "PixelMeasuresSequence", "PixelSpacing", 2)
    axes = np.array(orientation or [1.0, 0, 0, 0, 1, 0])
    known = orientation is not None and position is not None and spacing is not None and min(spacing) > 0
    sources = functional_groups.value(item, shared, "DerivationImageSequence", "SourceImageSequence")
    image = sources[0] if sources else Dataset()
    number = functional_groups.value(item, shared, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
    frame: Any = image.get("ReferencedFrameNumber", 0) or 0
    return Plane(
        position=np.array(position) if known else None,
        x_axis=axes[:3],
        y_axis=axes[3:],
        spacing=(spacing[0], spacing[1]) if spacing else (1.0, 1.0),
        segment=int(number or 0),
        image=places.uid(image.get("ReferencedSOPInstanceUID")),
        image_frame=int(frame[0] if hasattr(frame, "append") else frame),
    )


def _slices(
    source: dicom.Source,
    planes: list[Plane],
    wanted: list[int],
    label_map: bool,
    skipped: list[str],
    limits: Limits,
) -> dict[int, list[runs.Slice]]:
    """Foreground runs of each wanted segment."""
    found: dict[int, list[runs.Slice]] = defaultdict(list)
    left = set(wanted)
    count = elements.whole(source.dataset, "NumberOfFrames", 1)
    half = elements.whole(source.dataset, "MaximumFractionalValue", 1) / 2
    rooms = dict.fromkeys(wanted, _MOST_RUNS)
    for k, plane in enumerate(planes[:count]):
        if not (left if label_map else plane.segment in left):
            continue
        values = frames.values(frames.read(source, k + 1), limits)
        numbers = left & {int(v) for v in np.unique(values)} if label_map else {plane.segment}
        for number in sorted(numbers):
            mask = runs.of_mask(values == number if label_map else values >= max(half, 1))
            rooms[number] -= len(mask)
            if rooms[number] < 0:
                skipped.append(f"segment {number} is too large or too finely divided for a list of nodules")
                left.discard(number)
                found.pop(number, None)
            elif len(mask):
                found[number].append(runs.Slice(k, plane.along_mm, mask))
    return found


def _distance(ds: Dataset, planes: list[Plane]) -> float:
    """Distance of neighbouring slices, mm: as stated; else the smallest that occurs; else the thickness."""
    shared, _ = functional_groups.groups(ds)
    stated = functional_groups.numbers(Dataset(), shared, "PixelMeasuresSequence", "SpacingBetweenSlices", 1)
    if stated and stated[0]:
        return abs(stated[0])
    steps = np.diff(np.unique([plane.along_mm for plane in planes if plane.position is not None]))
    if (steps > _SAME_MM).any():
        return float(steps[steps > _SAME_MM].min())
    return (functional_groups.numbers(Dataset(), shared, "PixelMeasuresSequence", "SliceThickness", 1) or [0.0])[0]


def _places(segment: Dataset, planes: list[Plane], slices: list[runs.Slice], gap: float) -> list[Reference]:
    number = int(segment.SegmentNumber)
    located = [one for one in slices if planes[one.frame].position is not None]
    parts = runs.volumes(located, gap) if located else [part for one in slices for part in runs.volumes([one], 0.0)]
    found = []
    for k, part in enumerate(parts, 1):
        shape = _shape_mm(planes, part) if located else _shape_px(planes, part)
        name = f"segment {number}" if len(parts) == 1 else f"segment {number} part {k}"
        place = Reference(
            id=name,
            label=places.label(segment.get("TrackingID") or segment.get("SegmentLabel")),
            tracking_uid=places.uid(segment.get("TrackingUID")) if len(parts) == 1 else "",
            sop_instance_uids=places.images(planes[one.frame].image for one in part),
            segment=number,
        )
        found.append(replace(place, **shape))
    return found


def _shape_mm(planes: list[Plane], part: list[runs.Slice]) -> dict[str, Any]:
    centres, weights, points = [], [], []
    in_plane = 0.0
    for one in part:
        plane = planes[one.frame]
        centres.append(plane.to_mm(np.array([runs.centroid(one.runs)]))[0])
        weights.append(runs.pixels(one.runs))
        corners = plane.to_mm(runs.corners(one.runs))
        in_plane = max(in_plane, places.diameter(corners))
        points.append(corners)
    extent = max(in_plane, places.diameter(np.concatenate(points)))
    return {"center_mm": places.triple(np.average(centres, axis=0, weights=weights)), "diameter_mm": extent}


def _shape_px(planes: list[Plane], part: list[runs.Slice]) -> dict[str, Any]:
    (one,) = part
    plane = planes[one.frame]
    return {
        "sop_instance_uid": plane.image,
        "frame": plane.image_frame,
        "center_px": runs.centroid(one.runs),
        "diameter_px": places.diameter(runs.corners(one.runs)),
    }


def _series(ds: Dataset) -> str:
    for series in ds.get("ReferencedSeriesSequence", None) or ():
        found = places.uid(series.get("SeriesInstanceUID"))
        if found:
            return found
    return ""


READERS = {"1.2.840.10008.5.1.4.1.1.66.4": read, "1.2.840.10008.5.1.4.1.1.66.7": read}
