"""Measurement groups of a structured report: planar and volumetric regions of interest (PS3.16 TID 1410, 1411). Child only.

Sources: PS3.3 C.18.6 (spatial coordinates, image relative), C.18.9 (in space), C.17.2 (evidence); PS3.16 TID 1500, 300.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage, ExtensibleSRStorage

from service.intake import dicom, places
from service.intake.damage import reading
from service.intake.limits import Limits
from service.intake.references import Reference, References

_GROUP = ("125007", "DCM")
_TRACKING_ID, _TRACKING_UID = ("112039", "DCM"), ("112040", "DCM")
_SEGMENT = ("121191", "DCM")
_SOURCE_SERIES, _SOURCE_IMAGE = ("121232", "DCM"), ("121233", "DCM")
_FINDING = ("121071", "DCM")
_DIAMETERS = frozenset({("103339001", "SCT"), ("G-A185", "SRT"), ("81827009", "SCT"), ("M-02550", "SRT")})
"""Long axis, diameter."""
_IMAGE_CLASSES_OF_SERIES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.77.1.")
_DEEPEST, _MOST_ITEMS, _MOST_GROUPS = 16, 20_000, 512
_HALF_PIXEL = 0.5
"""SCOORD counts from the corner of the first pixel (PS3.3 C.18.6.1.2), we from its centre."""


@dataclass
class _Group:
    """What one measurement group says."""

    label: str = ""
    finding: str = ""
    tracking_uid: str = ""
    series: str = ""
    images: list[str] = field(default_factory=list)
    flat: list[tuple[str, int, tuple[float, float], float]] = field(default_factory=list)
    """Image, frame, centre (column, row), extent in pixels."""
    solid: list[np.ndarray] = field(default_factory=list)
    frame_of_reference: str = ""
    segment: tuple[str, int] = ("", 0)
    diameter_mm: float | None = None


def read(source: dicom.Source, limits: Limits) -> References:
    """One place a measurement group.

    Coordinates in space give `center_mm`; coordinates in images give the centre of the largest outline, in its image; a
    referenced segment without coordinates is one of `References.segments`.
    """
    ds = source.dataset
    with reading("its content tree is damaged; export it again"):
        evidence, only = _evidence(ds)
        groups = _groups(ds)
        found: list[Reference] = []
        skipped: list[str] = []
        for number, item in enumerate(groups[:_MOST_GROUPS], 1):
            group = _group(item)
            name = f"measurement group {number}"
            if places.is_organ(group.finding) or places.is_organ(group.label):
                skipped.append(
                    f"{name} is about anatomy, by its {'finding' if places.is_organ(group.finding) else 'label'}"
                )
                continue
            place = _place(name, group, evidence, only)
            if place is None:
                skipped.append(f"{name} has no coordinates and no segment")
            else:
                found.append(place)
    return places.result(found, skipped)


def _evidence(ds: Dataset) -> tuple[dict[str, str], str]:
    """Series of every referenced instance, and the one series of images where there is exactly one."""
    series_of: dict[str, str] = {}
    image_series = set()
    for sequence in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        for study in ds.get(sequence, None) or ():
            for series in study.get("ReferencedSeriesSequence", None) or ():
                uid = places.uid(series.get("SeriesInstanceUID"))
                for item in series.get("ReferencedSOPSequence", None) or ():
                    series_of[places.uid(item.get("ReferencedSOPInstanceUID"))] = uid
                    if str(item.get("ReferencedSOPClassUID", "")).startswith(_IMAGE_CLASSES_OF_SERIES):
                        image_series.add(uid)
    return series_of, image_series.pop() if len(image_series) == 1 else ""


def _content(item: Dataset) -> Any:
    return item.get("ContentSequence", None) or ()


def _groups(ds: Dataset) -> list[Dataset]:
    """All measurement groups, at any depth, in the document's order."""
    items = islice(_below(ds), _MOST_ITEMS)
    return [item for _, item in items if places.code(item, "ConceptNameCodeSequence") == _GROUP]


def _below(item: Dataset, depth: int = 0) -> Iterator[tuple[Dataset, Dataset]]:
    """Every content item below, with its parent."""
    if depth < _DEEPEST:
        for child in _content(item):
            yield item, child
            yield from _below(child, depth + 1)


def _group(item: Dataset) -> _Group:
    group = _Group()
    for parent, child in islice(_below(item), _MOST_ITEMS):
        kind, name = str(child.get("ValueType", "")), places.code(child, "ConceptNameCodeSequence")
        if kind == "TEXT" and name == _TRACKING_ID:
            group.label = places.label(child.get("TextValue"))
        elif kind == "UIDREF" and name == _TRACKING_UID:
            group.tracking_uid = places.uid(child.get("UID"))
        elif kind == "UIDREF" and name == _SOURCE_SERIES:
            group.series = places.uid(child.get("UID"))
        elif kind == "CODE" and name == _FINDING and parent is item:
            group.finding = _meaning(child)
        elif kind == "NUM" and name in _DIAMETERS:
            group.diameter_mm = max(group.diameter_mm or 0.0, _millimetres(child)) or None
        elif kind == "IMAGE":
            _image(group, child, name)
        elif kind == "SCOORD":
            _flat(group, child)
        elif kind == "SCOORD3D":
            group.frame_of_reference = (
                places.uid(child.get("ReferencedFrameOfReferenceUID")) or group.frame_of_reference
            )
            group.solid.append(_coordinates(child, 3))
    return group


def _meaning(item: Dataset) -> str:
    for entry in (item.get("ConceptCodeSequence", None) or ())[:1]:
        return places.label(entry.get("CodeMeaning"))
    return ""


def _millimetres(item: Dataset) -> float:
    for value in (item.get("MeasuredValueSequence", None) or ())[:1]:
        unit, number = places.code(value, "MeasurementUnitsCodeSequence"), value.get("NumericValue")
        factor = {"mm": 1.0, "cm": 10.0}.get(unit[0], 0.0)
        first = number[0] if hasattr(number, "append") else number
        found = factor * float(first) if first not in (None, "") else 0.0
        return found if np.isfinite(found) and found > 0 else 0.0
    return 0.0


def _image(group: _Group, item: Dataset, name: tuple[str, str]) -> None:
    for reference in (item.get("ReferencedSOPSequence", None) or ())[:1]:
        uid = places.uid(reference.get("ReferencedSOPInstanceUID"))
        numbers = reference.get("ReferencedSegmentNumber")
        if name == _SEGMENT and numbers not in (None, ""):
            group.segment = uid, int(numbers[0] if hasattr(numbers, "append") else numbers)
        elif name != _SEGMENT:
            group.images.append(uid)


def _coordinates(item: Dataset, size: int) -> np.ndarray:
    found = np.array(item.get("GraphicData") or [], float).reshape(-1, size)
    if not len(found) or not np.isfinite(found).all():
        raise ValueError
    return found


def _flat(group: _Group, item: Dataset) -> None:
    """Centre and extent of an outline in an image."""
    image: Dataset = Dataset()
    for child in _content(item):
        for reference in (child.get("ReferencedSOPSequence", None) or ())[:1]:
            image = reference
    points = _coordinates(item, 2) - _HALF_PIXEL
    if str(item.get("GraphicType", "")) == "CIRCLE" and len(points) == 2:
        centre, extent = points[0], 2 * float(np.linalg.norm(points[1] - points[0]))
    else:
        centre, extent = _middle(points), places.diameter(points)
    frame: Any = image.get("ReferencedFrameNumber", 0) or 0
    group.flat.append(
        (
            places.uid(image.get("ReferencedSOPInstanceUID")),
            int(frame[0] if hasattr(frame, "append") else frame),
            (float(centre[0]), float(centre[1])),
            extent,
        )
    )


def _middle(points: np.ndarray) -> np.ndarray:
    """Middle of the box round the points: what an ellipse's axes, a line's ends and an outline agree in."""
    return np.asarray((points.min(axis=0) + points.max(axis=0)) / 2)


def _place(name: str, group: _Group, evidence: dict[str, str], only: str) -> Reference | None:
    images = [image for image, *_ in group.flat] + group.images
    series = group.series or next((evidence[image] for image in images if image in evidence), "") or only
    place = Reference(
        id=name,
        label=group.label or group.finding,
        tracking_uid=group.tracking_uid,
        series_uid=series,
        frame_of_reference_uid=group.frame_of_reference,
        sop_instance_uids=places.images(images),
        diameter_mm=group.diameter_mm,
        segmentation_uid=group.segment[0],
        segment=group.segment[1],
    )
    if group.solid:
        points = np.concatenate(group.solid)
        extent = places.diameter(points)
        return replace(place, center_mm=places.triple(_middle(points)), diameter_mm=group.diameter_mm or extent or None)
    outlines = [outline for outline in group.flat if outline[0]]
    if outlines:
        image, frame, centre, extent = max(outlines, key=lambda outline: outline[3])
        return replace(
            place, sop_instance_uid=image, frame=frame, center_px=centre, diameter_px=extent if extent > 0 else None
        )
    return place if group.segment[0] else None


READERS = {
    str(uid): read for uid in (ComprehensiveSRStorage, Comprehensive3DSRStorage, EnhancedSRStorage, ExtensibleSRStorage)
}
