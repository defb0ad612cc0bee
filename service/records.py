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


@dataclass(frozen=True)
class Region:
    """A place the sender wants answered for: a point in patient millimetres, or a pixel of one instance."""

    id: str
    center_mm: tuple[float, float, float] | None = None
    sop_instance_uid: str | None = None
    center_px: tuple[float, float] | None = None
    """(column, row), zero-based, as in the HTTP contract."""


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
    objects: tuple[str, ...] = ()
    operating_point: str | None = None
    pixel_spacing_mm: float | None = None


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
