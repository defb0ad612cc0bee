"""The DICOM JSON Model (PS3.18 annex F) on the service's side: checked, and as a pydicom data set."""

from __future__ import annotations

import base64
import math
import re
from typing import Any

from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

_KEY = re.compile(r"[0-9A-F]{8}")
_WORDS = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"})
_NUMBERS = frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})
_BYTES = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_TAGS = frozenset({"AT"})
_GROUPS = frozenset({"Alphabetic", "Ideographic", "Phonetic"})
_INLINE = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_MOST_INLINE = 1 << 12
_ANY_TEXT = re.compile(r"[^\ud800-\udfff]*")


def check(
    model: dict[str, Any], *, deepest: int = 32, text: re.Pattern[str] = _ANY_TEXT, path: str = ""
) -> dict[str, Any]:
    """The model itself, when every part of it has the shape that its value representation asks for.

    Parameters
    ----------
    model : dict
        As decoded from JSON.
    deepest : int
        Sequences in sequences that are allowed.
    text : re.Pattern
        What texts must match as a whole.
    path : str
        Of the item that `model` is; a bulk data URI must be the path of its own element.

    Raises
    ------
    ValueError, TypeError
        When it has another shape.
    """
    if deepest < 0:
        raise ValueError("nesting")
    for key, entry in model.items():
        if not _KEY.fullmatch(key) or not isinstance(entry, dict) or len(entry) > 2:
            raise ValueError("element")
        vr, parts = entry["vr"], {name: part for name, part in entry.items() if name != "vr"}
        if vr == "SQ" and set(parts) <= {"Value"}:
            for number, item in enumerate(_listed(parts), 1):
                if not isinstance(item, dict):
                    raise TypeError("item")
                check(item, deepest=deepest - 1, text=text, path=f"{path}{key}/{number}/")
        elif "BulkDataURI" in parts and vr in _BYTES | _WORDS:
            if parts["BulkDataURI"] != f"bulkdata/{path}{key}":
                raise ValueError("bulk data URI")
        elif vr in _BYTES:
            inline = parts.get("InlineBinary", "")
            if not isinstance(inline, str) or len(inline) > _MOST_INLINE or not _INLINE.fullmatch(inline):
                raise ValueError("inline binary")
        elif vr in _WORDS | _NUMBERS | _TAGS and set(parts) <= {"Value"}:
            for value in _listed(parts):
                _check_value(vr, value, text)
        else:
            raise ValueError("value representation")
    return model


def _listed(parts: dict[str, Any]) -> list[Any]:
    values = parts.get("Value", [])
    if not isinstance(values, list):
        raise TypeError("values")
    return values


def _check_value(vr: str, value: Any, text: re.Pattern[str]) -> None:
    if value is None:
        return
    if vr in _NUMBERS:
        sound = type(value) in (int, float) and math.isfinite(value)
    elif vr == "PN":
        sound = (
            isinstance(value, dict) and set(value) <= _GROUPS and all(_is_text(part, text) for part in value.values())
        )
    elif vr == "AT":
        sound = isinstance(value, str) and _KEY.fullmatch(value) is not None
    else:
        sound = _is_text(value, text)
    if not sound:
        raise ValueError("value")


def _is_text(value: Any, text: re.Pattern[str]) -> bool:
    return isinstance(value, str) and text.fullmatch(value) is not None


class _Unchecked(DataElement):
    """An element whose value is taken as it is: a foreign header may break a rule, and a warning would quote it."""

    def __init__(self, tag: Any, VR: str, value: Any) -> None:
        super().__init__(tag, VR, value, validation_mode=config.IGNORE)


def dataset(model: dict[str, Any]) -> Dataset:
    """A checked model as a data set, without its bulk values. No warnings are raised on its values."""
    ds = Dataset()
    for key, entry in model.items():
        if "BulkDataURI" in entry:
            continue
        vr, tag = entry["vr"], int(key, 16)
        values = entry.get("Value", [])
        if vr == "SQ":
            ds.add(DataElement(tag, "SQ", Sequence([dataset(item) for item in values])))
        elif vr in _BYTES:
            ds.add(_Unchecked(tag, vr, base64.b64decode(entry.get("InlineBinary", ""))))
        else:
            found = [_value(vr, value) for value in values]
            ds.add(_Unchecked(tag, vr, found[0] if len(found) == 1 else found or None))
    return ds


def _value(vr: str, value: Any) -> Any:
    if vr == "PN":
        groups = [(value or {}).get(name, "") for name in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(groups).rstrip("=")
    if vr == "AT" and value is not None:
        return int(value, 16)
    return "" if value is None else value
