"""Pixels of a DICOM frame as the service looks at them: Hounsfield units, photographs, pictures. Runs in the child only."""

from __future__ import annotations

import io
from typing import BinaryIO

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut
from pydicom.tag import Tag

from service.errors import OutOfContract, TooLarge
from service.intake import dicom, elements, frames, functional_groups, photograph
from service.intake.damage import reading
from service.intake.limits import Limits

_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR", "MONOCHROME1", "MONOCHROME2")
_GROUPS = [Tag(0x52009229), Tag(0x52009230)]
_PICTURE_TAGS = [
    *dicom.tags([*dicom.IMAGE_KEYWORDS, "WindowCenter", "WindowWidth", "VOILUTFunction"]),
    *_GROUPS,
]


def hounsfield(stream: BinaryIO, number: int, rescale: tuple[float, float] | None, limits: Limits) -> np.ndarray:
    """Grey slice with Rescale Slope and Intercept applied, float32 (rows, columns); PS3.3 C.11.1.

    Parameters
    ----------
    stream : binary stream
    number : int
        Of the frame, 1-based; 0 for an instance that must have a single one.
    rescale : (slope, intercept), optional
        Of that frame, as `functional_groups.planes` found it; with number 0 the header's own is used.
    limits : Limits

    Raises
    ------
    OutOfContract
        No pixels, colour, several frames and none named, no such frame.
    InputError, TooLarge
        Damaged, or more than `limits` allows.
    """
    source = dicom.recent.read(stream, limits)
    if not number:
        _refuse_several(source.dataset)
        rescale = _rescale(source.dataset)
    frame = frames.read(source, number or 1)
    if frame.samples != 1 or not frame.photometric.startswith("MONOCHROME"):
        raise OutOfContract("its pixels are in colour; a grey CT slice is needed")
    _refuse_large(frame, limits)
    return _rescaled(frame, rescale, limits)


def rgb(stream: BinaryIO, longest_px: int, limits: Limits) -> np.ndarray:
    """A photograph as uint8 RGB, shape (h, w, 3), the longer side at most `longest_px`; more than 8 bits are scaled down."""
    source = dicom.read(stream, limits)
    _refuse_several(source.dataset)
    return _rgb(source.dataset, frames.read(source, 1), longest_px, limits)


def rendered(
    stream: BinaryIO, number: int, window: tuple[float, float] | None, longest_px: int, limits: Limits
) -> np.ndarray:
    """A frame of any image as a picture of 8 bits (PS3.18 8.3.5, 10.4.1.1.3).

    Grey values are rescaled and windowed: by `window`, else by the first Window Center and Width of the header, else from
    the frame's lowest to its highest value; MONOCHROME1 is shown inverted. A binary segmentation is black and white.

    Parameters
    ----------
    stream : binary stream
    number : int
        Of the frame, 1-based.
    window : (center, width), optional
        In rescaled units.
    longest_px : int
        The longer side of the picture is at most this.
    limits : Limits

    Returns
    -------
    ndarray, uint8, shape (h, w) or (h, w, 3)

    Raises
    ------
    OutOfContract
        No pixels, no such frame.
    InputError, TooLarge
        Damaged, or more than `limits` allows.
    """
    source = dicom.read(stream, limits, _PICTURE_TAGS)
    ds, frame = source.dataset, frames.read(source, number)
    if frame.samples == 3 or not frame.photometric.startswith("MONOCHROME"):
        return _rgb(ds, frame, longest_px, limits)
    _refuse_large(frame, limits)
    if frame.bits_allocated == 1:
        grey = np.where(frames.values(frame, limits) > 0, np.uint8(255), np.uint8(0))
    else:
        of_frame = _of_frame(ds, number, "PixelValueTransformationSequence", "RescaleSlope", "RescaleIntercept")
        values = _rescaled(frame, of_frame or _rescale(ds), limits)
        grey = _windowed(values, window, "LINEAR") if window else _windowed(values, _window(ds, number), _function(ds))
    if frame.photometric == "MONOCHROME1":
        grey = 255 - grey
    return np.asarray(
        photograph.shrink(frame.columns, frame.rows, longest_px, lambda top, end: Image.fromarray(grey[top:end]))
    )


def _refuse_several(ds: Dataset) -> None:
    count = elements.whole(ds, "NumberOfFrames", 1)
    if count != 1:
        raise OutOfContract(f"it has {count} frames; send single-frame instances")


def _refuse_large(frame: frames.Frame, limits: Limits) -> None:
    if frame.rows * frame.columns > limits.slice_pixels:
        raise TooLarge(
            f"it has {frame.columns} x {frame.rows} px; at most {limits.slice_pixels} are accepted for a slice"
        )


def _rescale(ds: Dataset) -> tuple[float, float] | None:
    slope, intercept = elements.numbers(ds, "RescaleSlope", 1), elements.numbers(ds, "RescaleIntercept", 1)
    return (slope[0], intercept[0] if intercept else 0.0) if slope else None


def _rescaled(frame: frames.Frame, rescale: tuple[float, float] | None, limits: Limits) -> np.ndarray:
    """Grey values, float32, in the units of the rescale; as stored where there is none."""
    values = frames.values(frame, limits).astype(np.float32)
    if rescale:
        values *= np.float32(rescale[0])
        values += np.float32(rescale[1])
    return values


def _of_frame(ds: Dataset, number: int, sequence: str, first: str, second: str) -> tuple[float, float] | None:
    """Two numbers of a frame's functional groups; None where they are not both there."""
    if not number or not any(tag in ds for tag in _GROUPS):
        return None
    with reading("its functional groups (5200,9230) are damaged; export it again"):
        shared, items = functional_groups.groups(ds)
        item = items[number - 1] if number <= len(items) else Dataset()
        found = [functional_groups.value(item, shared, sequence, keyword) for keyword in (first, second)]
        firsts = [part[0] if hasattr(part, "append") and part else part for part in found]
        return None if any(part in (None, "", []) for part in firsts) else (float(firsts[0]), float(firsts[1]))


def _window(ds: Dataset, number: int) -> tuple[float, float] | None:
    """The first window of a frame or of the header; None where there is none that can be drawn."""
    found = _of_frame(ds, number, "FrameVOILUTSequence", "WindowCenter", "WindowWidth")
    if found is None:
        parts = [elements.value(ds, keyword) for keyword in ("WindowCenter", "WindowWidth")]
        try:
            firsts = [float(part[0] if hasattr(part, "append") else part) for part in parts if part is not None]
        except ValueError:
            return None
        found = (firsts[0], firsts[1]) if len(firsts) == 2 else None
    return found if found and np.isfinite(found).all() and found[1] > 0 else None


def _function(ds: Dataset) -> str:
    return elements.text(ds, "VOILUTFunction") or "LINEAR"


def _windowed(values: np.ndarray, window: tuple[float, float] | None, function: str) -> np.ndarray:
    """VOI LUT Function of PS3.3 C.11.2.1.2 to 0 ... 255: LINEAR, LINEAR_EXACT or SIGMOID; what is no number is black.

    Without a window: from the lowest to the highest value.
    """
    if window is None:
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        shown = (values - low) / max(high - low, float(np.finfo(np.float32).tiny)) * 255
    elif function == "SIGMOID":
        shown = 255 / (1 + np.exp(np.clip(-4 * (values - window[0]) / window[1], -80, 80)))
    elif function == "LINEAR_EXACT" or window[1] <= 1:
        shown = ((values - window[0]) / window[1] + 0.5) * 255
    else:
        shown = ((values - (window[0] - 0.5)) / (window[1] - 1) + 0.5) * 255
    return np.asarray(np.rint(np.clip(np.nan_to_num(shown, nan=0, posinf=255, neginf=0), 0, 255)).astype(np.uint8))


def _rgb(ds: Dataset, frame: frames.Frame, longest_px: int, limits: Limits) -> np.ndarray:
    if frame.photometric not in _COLOURS or frame.floating:
        allowed = ", ".join(_COLOURS)
        raise OutOfContract(f"{elements.label('PhotometricInterpretation')} is not one of {allowed}; export it as RGB")
    if frame.syntax in frames.LOSSY_JPEG and frame.samples == 3 and frames.encoded_size(frame).bits == 8:
        return photograph.dicom_jpeg(io.BytesIO(frame.data), frame.photometric, longest_px, limits)
    values, bits = frames.values(frame, limits), frame.bits_stored

    def strip(top: int, end: int) -> Image.Image:
        part, depth = values[top:end], bits
        if part.dtype.kind == "i":
            part = part.astype(np.int32) + (1 << (depth - 1))
        if frame.photometric == "PALETTE COLOR":
            part = apply_color_lut(part, ds)[:, :, :3]
            depth = 8 * part.dtype.itemsize
        part = (part >> (depth - 8) if depth > 8 else part << (8 - depth)).astype(np.uint8)
        return Image.fromarray(255 - part if frame.photometric == "MONOCHROME1" else part).convert("RGB")

    with reading("its colours cannot be read: its palette is damaged; export it as RGB"):
        return np.asarray(photograph.shrink(frame.columns, frame.rows, longest_px, strip))
