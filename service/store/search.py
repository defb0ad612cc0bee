"""What an archive is searched by: the keys of each level, and how one key matches (PS3.18 10.6.1.2, PS3.4 C.2.2.2)."""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydicom.datadict import dictionary_VR, tag_for_keyword

Level = Literal["study", "series", "instance"]
LEVELS: tuple[Level, ...] = ("study", "series", "instance")
Attributes = Mapping[str, Any]
"""Attributes of one object in the DICOM JSON Model (PS3.18 annex F), by tag: {"00100020": {"vr": "LO", "Value": [...]}}."""


def tag(keyword: str) -> str:
    """The tag of a keyword as the JSON model writes it, e.g. "00100020"."""
    number = tag_for_keyword(keyword)
    if number is None:
        raise ValueError(f"{keyword} is no keyword of the DICOM dictionary")
    return f"{number:08X}"


def tags(keywords: str) -> tuple[str, ...]:
    """The tags of keywords that are separated by spaces."""
    return tuple(tag(keyword) for keyword in keywords.split())


MODALITIES, CLASSES = tag("ModalitiesInStudy"), tag("SOPClassesInStudy")

STUDY_KEYS = tags(
    "StudyDate StudyTime AccessionNumber ModalitiesInStudy SOPClassesInStudy ReferringPhysicianName StudyDescription "
    "TimezoneOffsetFromUTC PatientName PatientID IssuerOfPatientID PatientBirthDate PatientSex StudyInstanceUID StudyID"
)
SERIES_KEYS = tags(
    "Modality SeriesDate SeriesTime SeriesDescription SeriesInstanceUID SeriesNumber BodyPartExamined Laterality Manufacturer "
    "InstitutionName PerformedProcedureStepStartDate PerformedProcedureStepStartTime RequestAttributesSequence"
)
INSTANCE_KEYS = tags(
    "SOPClassUID SOPInstanceUID InstanceNumber ImageType ContentDate ContentTime AcquisitionDate AcquisitionTime Rows Columns "
    "BitsAllocated NumberOfFrames"
)
ITEM_KEYS = {tag("RequestAttributesSequence"): tags("ScheduledProcedureStepID RequestedProcedureID")}
"""Keys inside sequences (table 10.6.1-5)."""
LEVEL_KEYS: dict[Level, tuple[str, ...]] = {
    "study": STUDY_KEYS,
    "series": STUDY_KEYS + SERIES_KEYS,
    "instance": STUDY_KEYS + SERIES_KEYS + INSTANCE_KEYS,
}

_WILD = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")
_NUMBERS = ("IS", "DS", "US", "UL", "SS", "SL", "FL", "FD")
_UID = re.compile(r"[0-9.]{1,64}")
_TIME = re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")
_FIRST, _LAST = "000000.000000", "235959.999999"
_WORD = re.compile(r"[^\s^=,*?\\]+")


@dataclass(frozen=True)
class Criterion:
    """One matching key of a search.

    Attributes
    ----------
    path : tuple of str
        Tag, or the tag of a sequence and of a key in its items.
    vr : str
    text : str
        The value as it was sent; never empty or "*", which match everything.
    fuzzy : bool
        Names match by the beginnings of their words.
    """

    path: tuple[str, ...]
    vr: str
    text: str
    fuzzy: bool
    accepts: Callable[[Any], bool]
    """Whether one value of the attribute matches."""

    def matches(self, attributes: Attributes) -> bool:
        """Whether any value of the attribute matches."""
        return any(self.accepts(value) for value in values(attributes, self.path))

    @property
    def wild(self) -> bool:
        return self.vr in _WILD and bool(set("*?") & set(self.text))

    @property
    def uids(self) -> list[str]:
        """The list of a UID key."""
        return [part for part in re.split(r"[,\\]", self.text) if part] if self.vr == "UI" else []


@dataclass(frozen=True)
class Query:
    """A search: all criteria hold; a page of the sorted matches."""

    level: Level
    criteria: tuple[Criterion, ...]
    limit: int
    offset: int = 0


def criterion(path: tuple[str, ...], text: str, fuzzy: bool = False) -> Criterion:
    """Check one key and its value.

    Raises
    ------
    ValueError
        When the value does not fit the attribute's value representation; the message says what fits.
    """
    vr = dictionary_VR(int(path[-1], 16))
    return Criterion(path, vr, text, fuzzy, _acceptor(vr, text, fuzzy))


def values(attributes: Attributes, path: tuple[str, ...]) -> Iterator[Any]:
    """The values at a path; of all items where it leads through a sequence."""
    found = attributes.get(path[0], {}).get("Value", ())
    if len(path) == 1:
        yield from found
        return
    for item in found:
        if isinstance(item, Mapping):
            yield from values(item, path[1:])


def _acceptor(vr: str, text: str, fuzzy: bool) -> Callable[[Any], bool]:
    if vr == "UI":
        wanted = {part for part in re.split(r"[,\\]", text) if part}
        if not wanted or not all(_UID.fullmatch(part) for part in wanted):
            raise ValueError("must be UIDs of digits and dots, separated by commas")
        return lambda value: value in wanted
    if vr == "DA":
        return _between(text, _date, _date)
    if vr == "TM":
        return _between(text, lambda part: _time(part, _FIRST), lambda part: _time(part, _LAST))
    if vr == "PN":
        return _fuzzy_name(text) if fuzzy else _name(text)
    if vr in _NUMBERS:
        return _number(text)
    pattern = _pattern(text)
    return lambda value: pattern.fullmatch(str(value).strip()) is not None


def _between(text: str, low: Callable[[str], str], high: Callable[[str], str]) -> Callable[[Any], bool]:
    """Single value and range matching (PS3.4 C.2.2.2.1, C.2.2.2.5)."""
    first, hyphen, last = (text[:-1], "-", "") if text.endswith("-") else text.partition("-")
    if hyphen and not (first or last):
        raise ValueError("must be a value or a range, e.g. 20260101-20260131")
    begin = low(first) if first else ""
    end = (high(last) if last else "~") if hyphen else high(first)

    def accepts(value: Any) -> bool:
        try:
            return begin <= low(str(value).strip()) <= end
        except ValueError:
            return False

    return accepts


def _date(text: str) -> str:
    try:
        return datetime.strptime(text, "%Y%m%d").strftime("%Y%m%d") if len(text) == 8 else _refuse_date()
    except ValueError:
        return _refuse_date()


def _refuse_date() -> str:
    raise ValueError("must be a date YYYYMMDD, or a range of two") from None


def _time(text: str, rest: str) -> str:
    """HHMMSS.FFFFFF; what a shorter value leaves open is filled with `rest`."""
    text = text.replace(":", "")
    if not _TIME.fullmatch(text):
        raise ValueError("must be a time HHMMSS, or a range of two")
    return text + rest[len(text) :]


def _number(text: str) -> Callable[[Any], bool]:
    try:
        wanted = float(text)
    except ValueError:
        raise ValueError("must be a number") from None

    def accepts(value: Any) -> bool:
        try:
            return float(value) == wanted
        except (TypeError, ValueError):
            return False

    return accepts


def _pattern(text: str) -> re.Pattern[str]:
    """Wild card matching (PS3.4 C.2.2.2.4): * any characters, ? one character. Takes no more than the lengths' product."""
    return re.compile(fnmatch.translate(text.strip().replace("[", "[[]")))


def _folded(name: str) -> str:
    """A component group of a name for comparing: without case and without empty components at its end."""
    return unicodedata.normalize("NFC", name).casefold().rstrip("^ ")


def _groups(value: Any) -> list[str]:
    if not isinstance(value, Mapping):
        return [str(value)]
    return [str(value[group]) for group in ("Alphabetic", "Ideographic", "Phonetic") if value.get(group)]


def _name(text: str) -> Callable[[Any], bool]:
    """A name as it is written, in any case; one group of the key may match any group of the name."""
    wanted = [_pattern(_folded(group)) for group in text.split("=") if group]

    def accepts(value: Any) -> bool:
        groups = [_folded(group) for group in _groups(value)]
        return all(any(pattern.fullmatch(group) for group in groups) for pattern in wanted)

    return accepts


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", text).casefold()
    return _WORD.findall("".join(character for character in plain if not unicodedata.combining(character)))


def _fuzzy_name(text: str) -> Callable[[Any], bool]:
    """Every word of the key begins a word of the name, whatever their order, case and accents (PS3.4 C.2.2.2.1.1)."""
    wanted = _words(text)

    def accepts(value: Any) -> bool:
        found = [word for group in _groups(value) for word in _words(group)]
        return all(any(word.startswith(start) for word in found) for start in wanted)

    return accepts
