"""Regions of an RT Structure Set (PS3.3 A.19, C.8.8.5, C.8.8.6, C.8.8.8). Runs in the child only."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from service.intake import dicom, places
from service.intake.damage import reading
from service.intake.limits import Limits
from service.intake.references import Reference, References

_NO_LESIONS = frozenset(
    {
        "EXTERNAL",
        "ORGAN",
        "AVOIDANCE",
        "BOLUS",
        "SUPPORT",
        "FIXATION",
        "CONTRAST_AGENT",
        "CAVITY",
        "BRACHY_CHANNEL",
        "BRACHY_ACCESSORY",
        "BRACHY_SRC_APP",
        "BRACHY_CHNL_SHLD",
        "REGISTRATION",
        "ISOCENTER",
        "DOSE_REGION",
        "DOSE_MEASUREMENT",
        "IRRAD_VOLUME",
        "TREATED_VOLUME",
        "CONTROL",
        "SOURCE",
    }
)
_MARGINS = frozenset({"CTV", "PTV"})
_GROSS = "GTV"
_MOST_REGIONS = 512
_MOST_POINTS = 500_000


def read(source: dicom.Source, limits: Limits) -> References:
    """One place a region of interest: the area-weighted centroid of its contours and its largest extent.

    Clinical and planning target volumes are left out where the set has a gross tumour volume: they are margins round it.
    """
    ds = source.dataset
    with reading("its structure set is damaged; export it again"):
        kinds = {
            _number(item, "ReferencedROINumber"): str(item.get("RTROIInterpretedType", "") or "").upper()
            for item in _items(ds, "RTROIObservationsSequence")
        }
        regions = {_number(item, "ROINumber"): item for item in _items(ds, "StructureSetROISequence")[:_MOST_REGIONS]}
        names = {number: places.label(item.get("ROIName")) for number, item in regions.items()}
        gross = any(kind == _GROSS for kind in kinds.values())
        series, frame = _series(ds), places.uid(ds.get("FrameOfReferenceUID"))
        found: list[Reference] = []
        skipped: list[str] = []
        room = _MOST_POINTS
        for item in _items(ds, "ROIContourSequence")[:_MOST_REGIONS]:
            number = _number(item, "ReferencedROINumber")
            kind, name = kinds.get(number, ""), names.get(number, "")
            if kind in _NO_LESIONS or (kind in _MARGINS and gross) or (kind != _GROSS and places.is_organ(name)):
                skipped.append(f"ROI {number} is no lesion ({kind or 'by its name'})")
                continue
            contours = _contours(item)
            room -= sum(len(points) for points, _ in contours)
            if room < 0:
                skipped.append(f"ROI {number} and what follows: more than {_MOST_POINTS} points")
                break
            if not contours:
                skipped.append(f"ROI {number} has no closed contour and no point")
                continue
            region = regions.get(number, Dataset())
            found.append(
                Reference(
                    id=f"ROI {number}",
                    label=name,
                    series_uid=series,
                    frame_of_reference_uid=places.uid(region.get("ReferencedFrameOfReferenceUID")) or frame,
                    sop_instance_uids=places.images(image for _, image in contours),
                    center_mm=places.triple(_centre([points for points, _ in contours])),
                    diameter_mm=_extent([points for points, _ in contours]),
                )
            )
        return places.result(found, skipped)


def _items(ds: Dataset, sequence: str) -> Any:
    return ds.get(sequence, None) or ()


def _number(item: Dataset, keyword: str) -> int:
    return int(item.get(keyword, 0) or 0)


def _contours(item: Dataset) -> list[tuple[np.ndarray, str]]:
    """Points (n, 3) in mm and the image of every closed planar contour or point."""
    found = []
    for contour in _items(item, "ContourSequence"):
        if str(contour.get("ContourGeometricType", "")) not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "POINT"):
            continue
        points = _points(contour)
        image = (_items(contour, "ContourImageSequence") or [Dataset()])[0]
        if len(points):
            found.append((points, places.uid(image.get("ReferencedSOPInstanceUID"))))
    return found


def _points(contour: Dataset) -> np.ndarray:
    """Contour Data (3006,0050), from its text: a value class a number would take seconds."""
    raw: Any = contour.get_item("ContourData")
    if raw is None or raw.value is None:
        return np.empty((0, 3))
    parts = raw.value.split(b"\\") if isinstance(raw, RawDataElement) else list(raw.value)
    points = np.array(parts, float).reshape(-1, 3)
    if not np.isfinite(points).all():
        raise ValueError
    return points


def _centre(contours: list[np.ndarray]) -> np.ndarray:
    """Mean of the contours' centroids, weighted by area; of the points where nothing has an area."""
    areas, centroids = zip(*(_polygon(points) for points in contours), strict=True)
    if sum(areas) > 0:
        return np.asarray(np.average(np.array(centroids), axis=0, weights=np.array(areas)))
    return np.asarray(np.concatenate(contours).mean(axis=0))


def _polygon(points: np.ndarray) -> tuple[float, np.ndarray]:
    """Area and centroid of a planar polygon in space, by triangles from its first point."""
    a, b = points[1:-1] - points[0], points[2:] - points[0]
    if not len(a):
        return 0.0, points.mean(axis=0)
    normals = np.cross(a, b) / 2
    whole = normals.sum(axis=0)
    area = float(np.linalg.norm(whole))
    if area == 0:
        return 0.0, points.mean(axis=0)
    signed = normals @ (whole / area)
    return area, points[0] + (signed[:, None] * (a + b) / 3).sum(axis=0) / area


def _extent(contours: list[np.ndarray]) -> float | None:
    extent = places.diameter(np.concatenate(contours))
    return extent if extent > 0 else None


def _series(ds: Dataset) -> str:
    """Series Instance UID of the images that were contoured."""
    for frame in _items(ds, "ReferencedFrameOfReferenceSequence"):
        for study in _items(frame, "RTReferencedStudySequence"):
            for series in _items(study, "RTReferencedSeriesSequence"):
                found = places.uid(series.get("SeriesInstanceUID"))
                if found:
                    return found
    return ""


READERS = {str(RTStructureSetStorage): read}
