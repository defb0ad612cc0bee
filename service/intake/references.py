"""Places in a series that another DICOM object points to: what a report, a segmentation or a structure set says.

The records are shared by both sides of the pipe; `referencing` finds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MOST = 64
"""Places of one object; more is no list of nodules."""
MOST_IMAGES = 64
LARGEST_MM = 100.0
"""A larger extent is an organ, a lung field or a table."""


@dataclass(frozen=True)
class Reference:
    """One place: `center_mm`, or `sop_instance_uid` with `center_px`.

    Attributes
    ----------
    id : str
        Unique in its object: measurement group, segment or ROI, and the part of it where it has several.
    label : str
        Tracking identifier, segment label or ROI name; printable, at most 64 characters.
    tracking_uid : str
        Tracking UID (0062,0021) or content item (112040, DCM); empty where there is none.
    series_uid : str
        Series of the images it lies in; empty where the object does not say.
    frame_of_reference_uid : str
    sop_instance_uids : tuple of str
        Images it lies in, where the object names them; at most 64.
    center_mm : tuple of float, optional
        Patient coordinates (x, y, z).
    sop_instance_uid, frame, center_px
        Image, its frame (1-based, 0: single-frame) and (column, row), zero-based with pixel centres at whole numbers.
    diameter_mm, diameter_px : float, optional
        Largest extent within an image, and in space where it is a volume; in pixels where only the image is known.
    segmentation_uid, segment
        SOP Instance UID and number of the segment that shows it; of a segment alone, nothing else may be known.
    """

    id: str
    label: str = ""
    tracking_uid: str = ""
    series_uid: str = ""
    frame_of_reference_uid: str = ""
    sop_instance_uids: tuple[str, ...] = ()
    center_mm: tuple[float, float, float] | None = None
    sop_instance_uid: str = ""
    frame: int = 0
    center_px: tuple[float, float] | None = None
    diameter_mm: float | None = None
    diameter_px: float | None = None
    segmentation_uid: str = ""
    segment: int = 0


@dataclass(frozen=True)
class References:
    """What one object points to.

    Attributes
    ----------
    own : bool
        The object is a result of this product: it must not become the input of another analysis.
    places : tuple of Reference
        What iterating over it gives.
    segments : tuple of Reference
        Segments that a report names without coordinates: their own object, when it comes, has the place.
    skipped : tuple of str
        One sentence each, about what was not taken for a nodule.
    """

    own: bool
    places: tuple[Reference, ...] = ()
    segments: tuple[Reference, ...] = ()
    skipped: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Reference]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)
