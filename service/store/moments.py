"""DT values as moments, and how they match a key (PS3.5 6.2, PS3.4 C.2.2.2.1 and C.2.2.2.5)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

from pydicom.datadict import dictionary_VR

from service.store import search
from service.store.search import Criterion

_DT = r"\d{4}(?:\d{2}){0,5}(?:(?<=\d{14})\.\d{1,6})?(?:[+-](?:0\d|1[0-4])[0-5]\d)?"
_ONE, _RANGE = re.compile(_DT), re.compile(rf"({_DT})?-({_DT})?")
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def interval(text: str, zone: tzinfo = UTC) -> tuple[datetime, datetime]:
    """The first and last moment that a DT value may mean: what it leaves open counts from begin to end.

    Parameters
    ----------
    text : str
        ``YYYY[MM[DD[HH[MM[SS[.F]]]]]][+ZZXX]``.
    zone : tzinfo
        Of a value without an offset.

    Raises
    ------
    ValueError
        When it is no DT value.
    """
    if not _ONE.fullmatch(text):
        raise ValueError("must be a date and time YYYYMMDDHHMMSS, with an offset +ZZXX where that is known")
    plain, offset = (text[:-5], text[-5:]) if text[-5:-4] in ("+", "-") else (text, "")
    if offset:
        minutes = int(offset[1:3]) * 60 + int(offset[3:])
        zone = timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
    whole, _, fraction = plain.partition(".")
    parts = [int(whole[:4]), *(int(whole[at : at + 2]) for at in range(4, len(whole), 2))]
    year, month, day, hour, minute, second = [*parts, *(1, 1, 0, 0, 0)[len(parts) - 1 :]]
    try:
        first = datetime(year, month, day, hour, minute, min(second, 59), int(fraction.ljust(6, "0") or 0), zone)
        first = first.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be a date and time that exist, YYYYMMDDHHMMSS") from None
    try:
        return first, _end(first.astimezone(zone), len(parts), len(fraction)).astimezone(UTC)
    except (ValueError, OverflowError):  # the end of the year 9999
        return first, _LATEST


def _end(first: datetime, parts: int, digits: int) -> datetime:
    if parts == 1:
        following = first.replace(year=first.year + 1)
    elif parts == 2:
        following = (first + timedelta(days=32)).replace(day=1)
    else:
        lasts = {3: timedelta(days=1), 4: timedelta(hours=1), 5: timedelta(minutes=1), 6: timedelta(seconds=1)}
        following = first + (timedelta(microseconds=10 ** (6 - digits)) if digits else lasts[parts])
    return following - timedelta(microseconds=1)


def stamp(moment: datetime | None = None) -> str:
    """A moment, by default now, as a DT value in UTC."""
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y%m%d%H%M%S.%f+0000")


def criterion(path: tuple[str, ...], text: str, fuzzy: bool = False) -> Criterion:
    """As `search.criterion`, and with ranges of DT values. Raises ValueError."""
    if dictionary_VR(int(path[-1], 16)) != "DT":
        return search.criterion(path, text, fuzzy)
    return Criterion(path, "DT", text, fuzzy, _within(text))


def _within(text: str) -> Callable[[Any], bool]:
    text = text.strip()
    if _ONE.fullmatch(text):
        low, high = interval(text)
    elif (found := _RANGE.fullmatch(text)) and any(found.groups()):
        low = interval(found[1])[0] if found[1] else _EARLIEST
        high = interval(found[2])[1] if found[2] else _LATEST
    else:
        raise ValueError("must be a date and time YYYYMMDDHHMMSS, or a range of two")

    def accepts(value: Any) -> bool:
        try:
            return low <= interval(str(value).strip())[0] <= high
        except ValueError:
            return False

    return accepts
