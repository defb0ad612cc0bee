"""A whole header in the DICOM JSON Model, and the bulk values it leaves out. Runs in the child only.

Sources: PS3.18 10.4.1.1.2 (metadata), 10.4.1.1.5 (bulk data) and annex F (the model), PS3.5 7.3 (byte order).
"""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from typing import Any, BinaryIO

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr_element
from pydicom.valuerep import AMBIGUOUS_VR

from service.errors import InputError, OutOfContract, TooLarge
from service.intake import dicom, elements, frames, part10
from service.intake.damage import reading
from service.intake.limits import Limits

BULK_BYTES = 1024
"""Longer values are bulk data."""
DEEPEST = 16
"""Sequences in sequences that are followed."""
_BULK_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN", "UC", "UR", "UT", "LT", "ST"})
_WORDS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_PATH = re.compile(rf"[0-9A-F]{{8}}(/[1-9]\d{{0,6}}/[0-9A-F]{{8}}){{0,{DEEPEST}}}")


def document(stream: BinaryIO, limits: Limits) -> bytes:
    """The header as one JSON object (UTF-8).

    Binary and long text values of more than 1024 bytes, and the pixels, are {"vr", "BulkDataURI"} with a relative URI:
    ``bulkdata/`` and the path of the element, as `value` takes it. A value that cannot be read is left out.

    Raises
    ------
    InputError
        Damaged, or sequences nested too deep.
    TooLarge
        More than `limits.header_bytes` of JSON.
    """
    source = dicom.read_whole(stream, limits)
    ds = source.dataset
    with reading("its DICOM header cannot be written as JSON; export it again"):
        to_little_endian(ds, source.body.big)
        model = _model(ds, "", 0)
        if "00080005" in model:
            model["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}  # PS3.18 F.2: JSON is UTF-8
        if source.pixels is not None:
            vr = {"FloatPixelData": "OF", "DoubleFloatPixelData": "OD"}.get(source.pixels.keyword)
            key = f"{elements.tag(source.pixels.keyword):08X}"
            model[key] = {"vr": vr or ("OW" if source.pixels.words else "OB"), "BulkDataURI": f"bulkdata/{key}"}
        text = json.dumps(model, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > limits.header_bytes:
        raise TooLarge(f"its header has {len(text)} bytes as JSON; at most {limits.header_bytes} are given")
    return text


def _model(ds: Dataset, path: str, depth: int) -> dict[str, Any]:
    if depth > DEEPEST:
        raise InputError(f"its sequences are nested more than {DEEPEST} deep; export it again")
    found: dict[str, Any] = {}
    for tag in sorted(ds.keys()):
        if tag.element == 0 or tag.group <= 2:  # group lengths say nothing, and group 2 is the file's
            continue
        key = f"{tag:08X}"
        entry = _entry(ds, tag, path + key, depth)
        if entry is not None:
            found[key] = entry
    return found


def _entry(ds: Dataset, tag: Any, path: str, depth: int) -> dict[str, Any] | None:
    raw: Any = ds.get_item(tag, keep_deferred=True)
    if isinstance(raw, RawDataElement) and raw.value is None and raw.length:
        return {"vr": dicom.vr_of(raw), "BulkDataURI": f"bulkdata/{path}"}
    try:
        element: Any = ds[tag]
    except Exception:  # noqa: BLE001  # pydicom raises anything on a broken value
        return None
    if element.VR in AMBIGUOUS_VR:
        with suppress(AttributeError):  # the element that would decide is missing
            element = correct_ambiguous_vr_element(element, ds, True)
    if element.VR == "SQ":
        items = [_model(item, f"{path}/{k}/", depth + 1) for k, item in enumerate(element.value or (), 1)]
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
    vr = "OW" if element.VR in AMBIGUOUS_VR else str(element.VR)
    if vr in _BULK_VRS and element.value is not None and len(element.value) > BULK_BYTES:
        return {"vr": vr, "BulkDataURI": f"bulkdata/{path}"}
    try:
        return _sound(element.to_json_dict(None, 0), vr)
    except Exception:  # noqa: BLE001
        return None


def _sound(entry: dict[str, Any], vr: str) -> dict[str, Any]:
    """Without what JSON has no number for, and null in place of an empty one of several values (PS3.18 F.2.5)."""
    values = entry.get("Value")
    if not isinstance(values, list):
        return {"vr": vr, **{key: part for key, part in entry.items() if key == "InlineBinary" and part}}
    sound = [_plain(part) for part in values]
    return {"vr": vr, "Value": sound} if any(part is not None for part in sound) else {"vr": vr}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _SURROGATES.sub("\ufffd", part) for key, part in value.items() if part} or None
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value) or None
    return value


def to_little_endian(ds: Dataset, big: bool, depth: int = 0) -> None:
    """Swap the words of binary values that were read in big endian, where they are, in sequences too (PS3.5 7.3)."""
    if not big or depth > DEEPEST:
        return
    for tag in list(ds.keys()):
        raw: Any = ds.get_item(tag, keep_deferred=True)
        if isinstance(raw, RawDataElement) and raw.value is None and raw.length:
            continue
        try:
            element = ds[tag]
        except Exception:  # noqa: BLE001, S112  # a broken value is dealt with by whoever wants it
            continue
        if element.VR == "SQ":
            for item in element.value or ():
                to_little_endian(item, big, depth + 1)
        elif element.VR in _WORDS and isinstance(element.value, bytes):
            element.value = frames.swapped(element.value, _WORDS[element.VR])


def value(stream: BinaryIO, path: str, limits: Limits) -> bytes:
    """One value by its path: tag, or tag/item/tag/..., items from 1, in little endian.

    Raises
    ------
    OutOfContract
        A malformed path, no such value; pixels that are compressed: their frames must be asked for.
    TooLarge
        More than `limits.bulk_bytes`.
    """
    if not _PATH.fullmatch(path):
        raise OutOfContract("the path of a bulk value is a tag of eight hexadecimal digits, or tag/item/tag")
    source = dicom.read_whole(stream, limits)
    pixels = source.pixels
    if pixels is not None and path == f"{elements.tag(pixels.keyword):08X}":
        if pixels.encapsulated:
            raise OutOfContract("its pixels are compressed: ask for its frames")
        _check_size(pixels.length, limits)
        return b"".join(frames.native_pieces(source, pixels.length))
    first, *rest = path.split("/")
    ds, tag = source.dataset, int(first, 16)
    missing = OutOfContract("there is no such value in this instance")
    with reading("this value cannot be read; export the instance again"):
        for item, inner in zip(rest[::2], rest[1::2], strict=True):
            items = ds[tag].value if tag in ds and ds[tag].VR == "SQ" else ()
            if not 1 <= int(item) <= len(items):
                raise missing
            ds, tag = items[int(item) - 1], int(inner, 16)
        if tag not in ds:
            raise missing
        return _bytes(source, ds, tag, limits)


def _bytes(source: dicom.Source, ds: Dataset, tag: int, limits: Limits) -> bytes:
    raw: Any = ds.get_item(tag, keep_deferred=True)
    data: Any
    if isinstance(raw, RawDataElement):
        _check_size(raw.length if raw.length != part10.UNDEFINED else 0, limits)
        data, width = raw.value, _WORDS.get(dicom.vr_of(raw), 0)
        if data is None and raw.length:
            source.stream.seek(raw.value_tell)
            data = source.stream.read(raw.length)
    else:
        data, width = raw.value, _WORDS.get(raw.VR, 0)
    if isinstance(data, str):
        data = data.encode()
    if not isinstance(data, bytes):
        raise OutOfContract("this value is no bulk value: the metadata have it")
    return frames.swapped(data, width) if source.body.big else data


def _check_size(size: int, limits: Limits) -> None:
    if size > limits.bulk_bytes:
        raise TooLarge(f"the value has {size} bytes; at most {limits.bulk_bytes} are given")
