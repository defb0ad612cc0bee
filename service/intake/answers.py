"""A child's answer, checked field by field before the service believes it: the child may have been taken over by a file."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from service import uids
from service.intake import json_model, multiframe, wire
from service.intake.limits import Limits
from service.intake.references import MOST, MOST_IMAGES, Reference, References
from service.records import Instance

_UIDS = (
    "sop_instance_uid",
    "sop_class_uid",
    "series_uid",
    "study_uid",
    "frame_of_reference_uid",
    "transfer_syntax_uid",
)
_DICOM_SIDE, _INT = 0xFFFF, (1 << 31) - 1
_PLAIN = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*")
_MOST_MM = 1e6


def instance(
    header: dict[str, Any], path: Path, sha256: str, limits: Limits, payload: bytes | bytearray = b""
) -> Instance:
    """The record of one file from the child's answer to "inspect"; the payload are the planes of its frames.

    Raises
    ------
    ValueError, TypeError, KeyError
        When a field has another type or leaves its range.
    """
    media = header["media"]
    if media not in ("dicom", "photograph"):
        raise ValueError("media")
    low, high = (0, _DICOM_SIDE) if media == "dicom" else (1, limits.pixels)
    common: dict[str, Any] = {
        "path": path,
        "sha256": sha256,
        "media": media,
        "rows": _whole(header["rows"], low, high),
        "columns": _whole(header["columns"], low, high),
        "frames": _whole(header["frames"], 0, _INT),
        "samples": _whole(header["samples"], 0, _DICOM_SIDE),
        "bits": _whole(header["bits"], 0, _DICOM_SIDE),
        "photometric": _text(header["photometric"]),
    }
    if media == "photograph":
        return Instance(sop_instance_uid=uids.of("photograph", sha256), **common)
    if not header["sop_instance_uid"]:
        raise ValueError("sop_instance_uid")
    thickness, number = _numbers([header["slice_thickness"]], 1), header["instance_number"]
    uids_found: dict[str, Any] = {name: _uid(header[name]) for name in _UIDS}
    return Instance(
        **common,
        **uids_found,
        modality=_text(header["modality"]),
        has_pixels=header["has_pixels"] is True,
        image_type=tuple(_text(part) for part in header["image_type"]),
        pixel_spacing=_numbers(header["pixel_spacing"], 2),
        orientation=_numbers(header["orientation"], 6),
        position=_numbers(header["position"], 3),
        slice_thickness=thickness[0] if thickness else None,
        rescale=_numbers(header["rescale"], 2),
        laterality=_text(header["laterality"]),
        patient_id=_text(header["patient_id"]),
        instance_number=None if number is None else _whole(number, -_INT - 1, _INT),
        planes=_planes(header, payload, common["frames"]),
        attributes=_attributes(header["attributes"]),
    )


def _planes(header: dict[str, Any], payload: bytes | bytearray, frames: int) -> tuple[float, ...]:
    if not payload:
        return ()
    found = array(header, payload, "<f8", (frames, multiframe.NUMBERS))
    if not np.isfinite(found).all() or not (found[:, 9:11] > 0).all():
        raise ValueError("planes")
    return tuple(found.ravel().tolist())


def _attributes(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("attributes")
    return json_model.check(value, deepest=1, text=_PLAIN)


def array(
    header: dict[str, Any],
    payload: bytes | bytearray,
    dtype: str,
    shape: tuple[int, int] | None,
    longest_px: int = 0,
) -> np.ndarray:
    """The pixels of an answer, writable, without a copy.

    Parameters
    ----------
    header, payload
        As received.
    dtype : str
        What was asked for, e.g. "<f4".
    shape : (rows, columns) or None
        Exact shape; None for a photograph (h, w, 3) whose longer side is at most `longest_px`.

    Raises
    ------
    ValueError, TypeError
        When the answer is not what was asked for.
    """
    got = tuple(_whole(side, 1, _INT) for side in header["shape"])
    fits = got == shape if shape is not None else len(got) == 3 and got[2] == 3 and max(got) <= max(longest_px, 3)
    if not fits or header["dtype"] != dtype or math.prod(got) * np.dtype(dtype).itemsize != len(payload):
        raise ValueError("array")
    return np.frombuffer(payload, dtype).reshape(got)


def picture(header: dict[str, Any], payload: bytearray, longest_px: int) -> np.ndarray:
    """A picture of 8 bits, (h, w) or (h, w, 3), the longer side at most `longest_px`; errors as in `array`."""
    if len(header["shape"]) == 3:
        return array(header, payload, "|u1", None, longest_px)
    height, width = (_whole(side, 1, longest_px) for side in header["shape"])
    return array(header, payload, "|u1", (height, width))


def transfer_syntax(header: dict[str, Any]) -> str:
    """The transfer syntax of a frame; ValueError, TypeError, KeyError for anything else."""
    found = _uid(header["transfer_syntax_uid"])
    if not found:
        raise ValueError("transfer syntax")
    return found


def model(payload: bytearray) -> dict[str, Any]:
    """A header in the DICOM JSON Model; ValueError, TypeError, KeyError for anything else."""
    return json_model.check(wire.mapping(payload))


def references(payload: bytearray) -> References:
    """What an object points to; ValueError, TypeError, KeyError for anything else."""
    found = wire.mapping(payload)
    places, segments, skipped = found["places"], found["segments"], found["skipped"]
    if type(found["own"]) is not bool or max(len(places), len(segments), len(skipped)) > MOST:
        raise ValueError("references")
    result = References(
        found["own"],
        tuple(_reference(place) for place in places),
        tuple(_reference(place) for place in segments),
        tuple(_text(one) for one in skipped),
    )
    if any(place.center_mm is None and not (place.sop_instance_uid and place.center_px) for place in result):
        raise ValueError("place")
    return result


def _reference(place: dict[str, Any]) -> Reference:
    if len(place["sop_instance_uids"]) > MOST_IMAGES:
        raise ValueError("sop_instance_uids")
    centre_px = _numbers(place["center_px"], 2)
    return Reference(
        id=_text(place["id"]),
        label=_text(place["label"]),
        tracking_uid=_uid(place["tracking_uid"]),
        series_uid=_uid(place["series_uid"]),
        frame_of_reference_uid=_uid(place["frame_of_reference_uid"]),
        sop_instance_uids=tuple(_uid(uid) for uid in place["sop_instance_uids"]),
        center_mm=_numbers(place["center_mm"], 3),
        sop_instance_uid=_uid(place["sop_instance_uid"]),
        frame=_whole(place["frame"], 0, _INT),
        center_px=centre_px,
        diameter_mm=_length(place["diameter_mm"]),
        diameter_px=_length(place["diameter_px"]),
        segmentation_uid=_uid(place["segmentation_uid"]),
        segment=_whole(place["segment"], 0, _DICOM_SIDE),
    )


def message(header: dict[str, Any]) -> str:
    """The text of an error answer, made safe to pass on."""
    return "".join(character for character in str(header.get("detail", "")) if character.isprintable())[:500]


def _whole(value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError("number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 256 or (value and not value.isprintable()):
        raise ValueError("text")
    return value


def _uid(value: Any) -> str:
    if len(_text(value)) > 64 or not set(value) <= set("0123456789."):
        raise ValueError("UID")
    return str(value)


def _numbers(value: Any, count: int) -> Any:
    """A tuple of `count` finite floats, or None for null."""
    if value is None or value == [None]:
        return None
    result = tuple(float(part) for part in value)
    if len(result) != count or not all(math.isfinite(part) for part in result):
        raise ValueError("numbers")
    return result


def _length(value: Any) -> float | None:
    if value is None:
        return None
    found = float(value)
    if not 0 < found <= _MOST_MM:
        raise ValueError("length")
    return found
