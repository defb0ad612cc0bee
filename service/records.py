"""The data that travels between the stages of the service.

Frozen dataclasses without behaviour beyond derived values; every stage may import this module and none imports another
stage for its data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Instance:
    """One stored image instance, as its header describes it; the pixels stay in `path`.

    A photograph (PNG, JPEG, TIFF) has no UIDs of its own: `sop_instance_uid` is then derived from its content
    (2.25 + UUIDv5 of the SHA-256), and study and series are empty.
    """

    path: Path
    sha256: str
    media: Literal["dicom", "photograph"]
    rows: int
    columns: int
    sop_instance_uid: str
    frames: int = 1
    samples: int = 1
    """Samples per pixel (0028,0002): 1 grey, 3 colour."""
    bits: int = 8
    """Bits allocated (0028,0100) of one sample."""
    sop_class_uid: str = ""
    series_uid: str = ""
    study_uid: str = ""
    frame_of_reference_uid: str = ""
    modality: str = ""
    transfer_syntax_uid: str = ""
    photometric: str = ""
    has_pixels: bool = True
    image_type: tuple[str, ...] = ()
    pixel_spacing: tuple[float, float] | None = None
    """(row spacing, column spacing) in mm: Pixel Spacing (0028,0030)."""
    orientation: tuple[float, ...] | None = None
    """Image Orientation (Patient) (0020,0037): six direction cosines."""
    position: tuple[float, float, float] | None = None
    """Image Position (Patient) (0020,0032) in mm."""
    slice_thickness: float | None = None
    rescale: tuple[float, float] | None = None
    """(slope, intercept) to Hounsfield units: (0028,1053), (0028,1052)."""
    laterality: str = ""
    patient_id: str = ""
    instance_number: int | None = None
    frame: int = 0
    """Frame number, 1-based as in (0008,1160), of one frame of a multi-frame object; 0: the whole instance."""
    planes: tuple[float, ...] = field(default=(), repr=False)
    """Geometry of the frames of an enhanced CT, 14 numbers each; `intake.multiframe` reads it."""
    attributes: dict[str, Any] = field(default_factory=dict, hash=False)
    """What an archive is searched by, in the DICOM JSON Model (PS3.18 annex F): "00100010": {"vr": "PN", "Value": [...]}."""

    @property
    def key(self) -> str:
        """Unique among slices: the SOP Instance UID, with "#" and the frame number where it is one frame of several."""
        return f"{self.sop_instance_uid}#{self.frame}" if self.frame else self.sop_instance_uid


@dataclass(frozen=True)
class Region:
    """A place to answer for: a point in patient millimetres, or a pixel of one instance."""

    id: str
    center_mm: tuple[float, float, float] | None = None
    sop_instance_uid: str | None = None
    center_px: tuple[float, float] | None = None
    """(column, row), zero-based, as in the HTTP contract."""
    frame: int = 0
    """Frame number of `sop_instance_uid`, 1-based; 0 where the instance has one frame."""
    origin: Literal["request", "reference", "candidate"] = "request"
    """Who found it: the sender of the request, a DICOM object that references the series, or the candidate finder."""
    diameter_mm: float | None = None
    """Largest extent, where whoever found it measured one."""
    source_uid: str = ""
    """SOP Instance UID of the referencing object (origin "reference")."""
    tracking_uid: str = ""
    """Tracking UID (0062,0021) that the referencing object gives the place."""
    score: float | None = None
    """How much a candidate looks like a nodule, 0 to 1 (origin "candidate")."""


@dataclass(frozen=True)
class Check:
    """One input check: what was looked at, what was found, what is allowed."""

    id: str
    result: Literal["pass", "warn", "fail"]
    message: str
    value: Any = None
    limit: Any = None


@dataclass(frozen=True)
class Request:
    """What the sender asked for (the `request` part of `POST /api/v1/analyses`)."""

    model: str | None = None
    laterality: str | None = None
    regions: tuple[Region, ...] = ()
    maps: tuple[str, ...] = ("clear", "class", "two_sided")
    objects: tuple[str, ...] | None = None
    """Kinds of DICOM objects; None: those of the settings."""
    operating_point: str | None = None
    pixel_spacing_mm: float | None = None
    named_eye: str | None = None
    """Not the sender's to set: R or L where the names of the files tell the eye; nothing else of them is kept."""


@dataclass(frozen=True)
class Quality:
    """Verdict of the quality gate; `reasons` are {"code", "message", "retake"} mappings."""

    gradable: bool
    score: float
    reasons: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True)
class ResponseMap:
    """Response maps of one finding with all that is needed to draw and compare them.

    Attributes
    ----------
    response : ndarray, float32, shape (S, N, H, W)
        Signed, unnormalised responses per slice (S = 1 for a photograph) and class.
    background : ndarray, uint8, shape (S, h, w) or (S, h, w, 3)
        What the reader sees below the overlay: the same field of view as the maps, any resolution.
    classes : tuple of str
        Class names, in the order of axis 1.
    box_px : ndarray, float64, shape (S, 4)
        (x0, y0, x1, y1) of the field of view in pixels of the source image; may reach beyond its border.
    sources : tuple of str
        SOP Instance UID of each slice.
    peak_slice : int
        Index of the slice that is shown first.
    """

    response: np.ndarray
    background: np.ndarray
    classes: tuple[str, ...]
    box_px: np.ndarray
    sources: tuple[str, ...]
    probabilities: np.ndarray
    """Of the finding, float64, shape (N,)."""
    rule: str
    start: str
    reference: float
    """Scale `per_model`: the bundle's 99.9th percentile of positive dominant response."""
    peak_slice: int = 0


@dataclass(frozen=True)
class Finding:
    """One answered region or photograph; `body` is its part of the Analysis body of the HTTP contract."""

    id: str
    body: dict[str, Any]
    maps: ResponseMap | None = None
    region: Region | None = None
    """What was answered for, in a CT series."""
    features: np.ndarray | None = None
    """The network's feature vector, float32, shape (D,): `models.cases.mean_feature` over the slices."""


@dataclass(frozen=True)
class Outcome:
    """What the pipeline found out about one input, before it is stored."""

    outcome: Literal["positive", "negative", "graded", "ungradable", "out_of_scope", "no_region"]
    model: str
    input: dict[str, Any]
    quality: dict[str, Any]
    findings: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()
    timing_ms: dict[str, float] = field(default_factory=dict)


ObjectKind = Literal["SR", "SEG", "PM", "SC", "KOS"]
"""What an answer is made of; a destination chooses among them."""
MadeKind = Literal[ObjectKind, "RN"]
"""Every kind of object: also the note that rejects objects which were replaced."""


@dataclass(frozen=True)
class ResultObject:
    """One DICOM object made for an analysis; `data` is a whole Part 10 file."""

    kind: MadeKind
    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Arrival:
    """One instance that came through a DICOM door and lies on the disk of the intake, checked and complete."""

    instance: Instance
    door: Literal["dimse", "stow", "http"]
    sender: str
    """Calling AE title, or the name of the token's owner; never shown to other senders."""
    association: str = ""
    """What came together: id of the DIMSE association or of the STOW request."""
    received: str = ""
    """ISO 8601, UTC, as in the database."""
