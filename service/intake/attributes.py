"""What an archive searches an instance by and returns of it (PS3.18 10.6), in the DICOM JSON Model. Runs in the child only.

The text elements are decoded here, from the bytes, because pydicom's value classes cost more than the rest of the header;
their character sets are pydicom's. Sources: PS3.18 annex F, PS3.5 6.1 and 6.2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.valuerep import TEXT_VR_DELIMS

from service.errors import InputError
from service.intake import elements
from service.intake.damage import reading

OWN_MANUFACTURER = "Pellucid"
KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "PatientName",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "StudyID",
    "StudyDescription",
    "ReferringPhysicianName",
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "SeriesDate",
    "SeriesTime",
    "BodyPartExamined",
    "Laterality",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "InstanceNumber",
    "Rows",
    "Columns",
    "BitsAllocated",
    "NumberOfFrames",
    "TimezoneOffsetFromUTC",
    "Manufacturer",
    "InstitutionName",
    "ContentDate",
    "ContentTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "ImagesInAcquisition",
    "NumberOfSeriesRelatedInstances",
    "ConversionType",
    "ImageType",
)
"""By importance: where they would be too long together, the last are left out."""
CHARACTER_SET, EQUIPMENT, ORDERS = "SpecificCharacterSet", "ContributingEquipmentSequence", "RequestAttributesSequence"

_MOST_CHARACTERS, _MOST_VALUES, _MOST_BYTES = 256, 8, 40_000
_CHARSET_VRS = frozenset({"LO", "PN", "SH"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_DATE, _TIME = re.compile(r"\d{8}"), re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")
_PN_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_ELEMENTS = [(Tag(keyword), f"{Tag(keyword):08X}", dictionary_VR(Tag(keyword)), keyword) for keyword in KEYWORDS]


def attributes(ds: Dataset) -> dict[str, Any]:
    """The attributes of `KEYWORDS` that the header has, by tag, in the DICOM JSON Model.

    A value that is broken or longer than any honest one is left out; Specific Character Set is ISO_IR 192, because JSON is
    UTF-8 (PS3.18 F.2). Contributing Equipment is there only where it is ours: that is how our own results are known.
    """
    encodings = _encodings(ds)
    found: dict[str, Any] = {}
    if CHARACTER_SET in ds:
        found["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    room = _MOST_BYTES
    for tag, key, vr, keyword in _ELEMENTS:
        if tag not in ds:
            continue
        values = _numbers(ds, keyword) if vr in ("IS", "US") else _texts(ds.get_item(tag), vr, encodings)
        size = 30 + sum(6 * len(str(value)) + 50 for value in values)
        if size <= room:
            room -= size
            found[key] = {"vr": vr, "Value": values} if values else {"vr": vr}
    more = {"00400275": _orders(ds), "0018A001": _own_equipment(ds)}
    return {**found, **{key: value for key, value in more.items() if value is not None}}


def _encodings(ds: Dataset) -> list[str]:
    with reading("its Specific Character Set (0008,0005) cannot be read; export it again"):
        found = ds.get(CHARACTER_SET)
        return convert_encodings(list(found) if hasattr(found, "append") else found or None)


def _numbers(ds: Dataset, keyword: str) -> list[int]:
    try:
        return [elements.whole(ds, keyword)] if elements.value(ds, keyword) is not None else []
    except InputError:
        return []


def _texts(element: Any, vr: str, encodings: Sequence[str]) -> list[Any]:
    raw = element.value if isinstance(element, RawDataElement) else None
    if not isinstance(raw, bytes):
        return []
    text = decode_bytes(raw, encodings, TEXT_VR_DELIMS) if vr in _CHARSET_VRS else raw.decode("ascii", "replace")
    values = [_CONTROL.sub("", part).strip() for part in text.split("\\")]
    if len(values) > _MOST_VALUES or any(len(value) > _MOST_CHARACTERS for value in values) or values == [""]:
        return []
    if vr == "PN":
        return [_name(value) for value in values]
    if vr == "UI":
        return [value for value in values if elements.UID_PATTERN.fullmatch(value)]
    if vr == "DA":  # ACR-NEMA wrote 1997.07.31
        return [date for value in values if _DATE.fullmatch(date := value.replace(".", ""))]
    if vr == "TM":
        return [time for value in values if _TIME.fullmatch(time := value.replace(":", ""))]
    return [value or None for value in values]


def _name(value: str) -> dict[str, str] | None:
    """A person's name by component groups; None for an empty one."""
    groups = {name: text.strip() for name, text in zip(_PN_GROUPS, value.split("="), strict=False) if text.strip()}
    return groups or None


def _orders(ds: Dataset) -> dict[str, Any] | None:
    """Request Attributes (0040,0275) with the ids that a series is asked for by (PS3.18 table 10.6.1-5); None without any."""
    try:
        items = [
            {
                tag: {"vr": "SH", "Value": [text]}
                for tag, keyword in (("00400009", "ScheduledProcedureStepID"), ("00401001", "RequestedProcedureID"))
                if (text := elements.text(item, keyword))
            }
            for item in ds.get(ORDERS, ())[:_MOST_VALUES]
        ]
    except Exception:  # noqa: BLE001  # a broken sequence asks for nothing, and pydicom raises anything on it
        return None
    value = [item for item in items if item]
    return {"vr": "SQ", "Value": value} if value else None


def _own_equipment(ds: Dataset) -> dict[str, Any] | None:
    """Contributing Equipment (0018,A001) with the Device UIDs (0018,1002) of items that are this product's; else None."""
    try:
        items = [item for item in ds.get(EQUIPMENT, ())[:16] if item.get("Manufacturer") == OWN_MANUFACTURER]
        uids = [str(item.get("DeviceUID", "")) for item in items]
    except Exception:  # noqa: BLE001  # a broken sequence is nobody's mark, and pydicom raises anything on it
        return None
    model = {"00080070": {"vr": "LO", "Value": [OWN_MANUFACTURER]}}
    value = [{**model, "00181002": {"vr": "UI", "Value": [uid]}} if _is_uid(uid) else model for uid in uids]
    return {"vr": "SQ", "Value": value} if value else None


def _is_uid(text: str) -> bool:
    return elements.UID_PATTERN.fullmatch(text) is not None
