"""Geometry of the frames of an enhanced CT (multi-frame functional groups, PS3.3 C.7.6.16). Runs in the child only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from service.intake import dicom, multiframe
from service.intake.damage import reading
from service.intake.limits import Limits

CLASSES = frozenset({str(EnhancedCTImageStorage), str(LegacyConvertedEnhancedCTImageStorage)})
MOST_FRAMES = 4096
_TAGS = [*dicom.tags(dicom.IMAGE_KEYWORDS), Tag(0x52009229), Tag(0x52009230)]
_ITEMS: tuple[tuple[str, str, int], ...] = (
    ("PlanePositionSequence", "ImagePositionPatient", 3),
    ("PlaneOrientationSequence", "ImageOrientationPatient", 6),
    ("PixelMeasuresSequence", "PixelSpacing", 2),
    ("PixelMeasuresSequence", "SliceThickness", 1),
    ("PixelValueTransformationSequence", "RescaleSlope", 1),
    ("PixelValueTransformationSequence", "RescaleIntercept", 1),
)
_NEEDED = 3


def planes(stream: BinaryIO, source: dicom.Source, sop_class: str, frames: int, limits: Limits) -> np.ndarray:
    """Plane of every frame of an enhanced CT.

    Parameters
    ----------
    stream : binary stream
        Of the instance, whose functional groups are read only now.
    source : Source
        The same, as `dicom.read` gave it.
    sop_class, frames
        As its header has them.
    limits : Limits

    Returns
    -------
    ndarray, float64, shape (frames, 14)
        Position (3), orientation (6), pixel spacing (2), slice thickness (0 where unknown), rescale slope (0 where there is
        none) and intercept. No rows for another kind of object, where a frame lacks one of the first three, or beyond
        4096 frames: such an object cannot be looked at slice by slice.
    """
    nothing = np.empty((0, multiframe.NUMBERS))
    if sop_class not in CLASSES or source.pixels is None or not 1 <= frames <= MOST_FRAMES:
        return nothing
    ds = dicom.read(stream, limits, _TAGS).dataset
    with reading("its functional groups (5200,9230) are damaged; export it again"):
        shared, items = groups(ds)
        if len(items) != frames:
            return nothing
        rows = [_plane(item, shared) for item in items]
        found = np.array([row for row in rows if row is not None], float).reshape(-1, multiframe.NUMBERS)
    sound = len(found) == frames and np.isfinite(found).all() and (found[:, 9:11] > 0).all()
    return found if sound else nothing


def groups(ds: Dataset) -> tuple[Dataset, Sequence[Dataset]]:
    """What all frames share, and what each has of its own."""
    shared = ds.get("SharedFunctionalGroupsSequence", None)
    return shared[0] if shared else Dataset(), ds.get("PerFrameFunctionalGroupsSequence", None) or ()


def value(item: Dataset, shared: Dataset, sequence: str, keyword: str) -> Any:
    """A value of a frame: from its own functional groups, or from those all frames share; None where it is in neither."""
    for place in (item, shared):
        for macro in (place.get(sequence, None) or ())[:1]:
            if keyword in macro:
                return macro[keyword].value
    return None


def numbers(item: Dataset, shared: Dataset, sequence: str, keyword: str, count: int) -> list[float] | None:
    """Exactly `count` numbers of a frame; None where it has no such value."""
    found = value(item, shared, sequence, keyword)
    if found is None or found == "":
        return None
    parts: Sequence[Any] = found if hasattr(found, "append") else [found]
    result = [float(part) for part in parts]
    return result if len(result) == count else None


def _plane(item: Dataset, shared: Dataset) -> list[float] | None:
    found = [numbers(item, shared, *entry) for entry in _ITEMS]
    if any(part is None for part in found[:_NEEDED]):
        return None
    return [number for part, entry in zip(found, _ITEMS, strict=True) for number in part or [0.0] * entry[2]]
