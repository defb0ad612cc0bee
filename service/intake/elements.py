"""Single elements of a DICOM header as checked Python values; a malformed one is an error that names its tag. Child only."""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any

from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from service.errors import InputError
from service.intake.damage import reading

UID_PATTERN = re.compile(r"[0-9.]{1,64}")
_CORRECT = "correct the header and send it again"


@cache
def label(keyword: str) -> str:
    """Name and tag of an element as the standard writes them."""
    number = tag(keyword)
    return f"{dictionary_description(number)} ({number.group:04X},{number.element:04X})"


def tag(keyword: str) -> BaseTag:
    """Tag of a keyword of the dictionary."""
    return Tag(keyword)


def value(ds: Dataset, keyword: str) -> Any:
    """Any value as pydicom converts it; None where the element is absent or empty."""
    with reading(f"{label(keyword)} cannot be read; {_CORRECT}"):
        found = ds.get(keyword)
        return None if found in (None, "", b"") else found


def texts(ds: Dataset, keyword: str) -> list[str]:
    """The values of an element, printable characters only."""
    found = value(ds, keyword)
    if found is None:
        return []
    with reading(f"{label(keyword)} cannot be read; {_CORRECT}"):
        return [
            "".join(filter(str.isprintable, str(part))).strip()[:64]
            for part in (found if hasattr(found, "append") else [found])
        ]


def text(ds: Dataset, keyword: str) -> str:
    """The first value of an element as text; empty where there is none."""
    return (texts(ds, keyword) or [""])[0]


def identifier(ds: Dataset, keyword: str) -> str:
    """A UID, of digits and dots only (PS3.5 9.1); empty where there is none."""
    found = value(ds, keyword)
    result = "" if found is None else str(found).strip("\0 ")
    if result and not UID_PATTERN.fullmatch(result):
        raise InputError(f"{label(keyword)} is malformed: it must be digits and dots, at most 64; {_CORRECT}")
    return result


def whole(ds: Dataset, keyword: str, default: int = 0) -> int:
    """A whole number of at most 32 bits."""
    found = value(ds, keyword)
    if found is None:
        return default
    with reading(f"{label(keyword)} is not one whole number; {_CORRECT}"):
        number = int(found)
        if not -(1 << 31) <= number < 1 << 31:
            raise ValueError
        return number


def numbers(ds: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Exactly `count` finite numbers; None where there are none."""
    found = value(ds, keyword)
    if found is None:
        return None
    with reading(f"{label(keyword)} must hold {count} finite number(s); {_CORRECT}"):
        result = tuple(float(part) for part in (found if hasattr(found, "append") else [found]))
        if len(result) != count or not all(map(math.isfinite, result)):
            raise ValueError
        return result
