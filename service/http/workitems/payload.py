"""Data sets that clients send: decoded, checked against the JSON model, the dictionary and the UPS attribute table.

Of table CC.2.5-3 (PS3.4) the attributes of type 1 are required, and those that say whose step it is and what goes into it; of
the other attributes of type 2 any may be left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from flask import request
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag

from service.errors import UnknownMedia
from service.http.context import json_body
from service.http.dicomweb import negotiate
from service.http.workitems.errors import Refused
from service.intake import json_model
from service.store.moments import interval
from service.store.search import tag, tags
from service.store.subscriptions import PUSH, first, items
from service.store.workitems import PERFORMED, PROGRESS, SCHEDULED

BYTES = 8 << 20
NESTING = 12
UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_LAX_UID = re.compile(r"[0-9.]{1,64}")

PRIORITIES, READINESS = ("HIGH", "MEDIUM", "LOW"), ("INCOMPLETE", "UNAVAILABLE", "READY")
_NEVER_SET = set(
    tags(
        "SOPClassUID SOPInstanceUID AffectedSOPInstanceUID RequestedSOPInstanceUID PatientName PatientID IssuerOfPatientID "
        "IssuerOfPatientIDQualifiersSequence PatientBirthDate PatientSex AdmissionID IssuerOfAdmissionIDSequence "
        "AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence ReferencedRequestSequence ReplacedProcedureStepSequence "
        "ProcedureStepState"
    )
)
"""Not allowed in N-SET."""
_PRESENT = ("PatientName", "PatientID", "InputInformationSequence")
_CODES = (
    "ScheduledWorkitemCodeSequence",
    "ScheduledStationNameCodeSequence",
    "ScheduledStationClassCodeSequence",
    "ScheduledStationGeographicLocationCodeSequence",
)

_NUMBERS: dict[Any, Callable[[str], float]] = {"DS": float, "IS": int}

Problems = list[dict[str, Any]]


def usable(uid: str) -> bool:
    """Whether a text is a UID (PS3.5 9.1)."""
    return len(uid) <= 64 and UID.fullmatch(uid) is not None


# -- the JSON model ---------------------------------------------------------------------------------------------------------


def dataset(optional: bool = False) -> dict[str, Any]:
    """The data set of the request's body: one DICOM JSON object, bare or in a list.

    Parameters
    ----------
    optional : bool
        An empty body is an empty data set.

    Raises
    ------
    UnknownMedia, InputError, Refused
    """
    if optional and not request.content_length and not request.get_data():
        return {}
    if negotiate.media_type(request.headers.get("Content-Type", ""))[0] not in (negotiate.JSON, "application/json"):
        raise UnknownMedia(f"send the data set as {negotiate.JSON}")
    body = json_body(BYTES)
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if not isinstance(body, dict):
        raise Refused("the body must be one data set of the DICOM JSON Model (PS3.18 annex F)")
    try:
        model = json_model.check(_tidied(body, 0), deepest=NESTING)
    except (ValueError, TypeError, KeyError) as error:
        raise Refused("the body is not a data set of the DICOM JSON Model (PS3.18 annex F)") from error
    wrong: Problems = []
    _compare(model, "", wrong)
    _refuse(wrong)
    return model


def _tidied(model: Any, depth: int) -> dict[str, Any]:
    """Tags in capitals, and numbers that are written as texts as numbers; both are common."""
    if not isinstance(model, dict) or depth > NESTING:
        raise TypeError("item")
    tidy = {}
    for key, entry in model.items():
        if isinstance(entry, dict) and isinstance(entry.get("Value"), list):
            vr, found = entry.get("vr"), entry["Value"]
            if vr == "SQ":
                entry = {**entry, "Value": [_tidied(item, depth + 1) for item in found]}
            elif vr in _NUMBERS:
                entry = {**entry, "Value": [_NUMBERS[vr](v) if isinstance(v, str) else v for v in found]}
        tidy[key.upper()] = entry
    return tidy


def _compare(model: Mapping[str, Any], place: str, wrong: Problems) -> None:
    """Every known attribute has its own value representation, and nothing lies elsewhere."""
    for key, entry in model.items():
        where = f"{place}{keyword_for_tag(key) or key}"
        if "BulkDataURI" in entry:
            wrong.append({"where": where, "message": "a bulk data reference is not accepted; send the value"})
        elif dictionary_has_tag(key) and entry["vr"] != (vr := dictionary_VR(key)) and " or " not in vr:
            wrong.append({"where": where, "message": f"has the value representation {vr}"})
        elif entry["vr"] == "UI" and not all(_LAX_UID.fullmatch(v) for v in entry.get("Value", ()) if v):
            wrong.append({"where": where, "message": "must be UIDs of digits and dots"})
        elif entry["vr"] == "SQ":
            for number, item in enumerate(entry.get("Value", ()), 1):
                _compare(item, f"{where}[{number}].", wrong)


def _refuse(wrong: Problems, warning: str = "") -> None:
    if wrong:
        said = "; ".join(f"{one['where']} {one['message']}" for one in wrong[:3])
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise Refused(f"the data set cannot be accepted: {said}{more}", warning, wrong[:50])


# -- the attribute table ----------------------------------------------------------------------------------------------------


def check_new(model: Mapping[str, Any]) -> None:
    """Check what a work item is created from (column N-CREATE). Raises Refused."""
    wrong: Problems = []
    for keyword in _PRESENT:
        if tag(keyword) not in model:
            wrong.append({"where": keyword, "message": "must be there; it may be empty"})
    for keyword in ("TransactionUID", PROGRESS, PERFORMED):
        if items(model, keyword):
            wrong.append({"where": keyword, "message": "must be empty in a new work item"})
    if first(model, "SOPClassUID") not in (None, PUSH):
        wrong.append({"where": "SOPClassUID", "message": f"must be {PUSH}, UPS Push"})
    if first(model, "ProcedureStepState") != SCHEDULED:
        wrong.append({"where": "ProcedureStepState", "message": "must be SCHEDULED"})
    wrong += [problem for keyword in _REQUIRED for problem in _required(model, keyword)]
    _refuse(wrong + _common(model))


def check_changes(model: Mapping[str, Any]) -> None:
    """Check what a work item is changed by (column N-SET). Raises Refused."""
    wrong: Problems = [
        {"where": keyword_for_tag(key), "message": "cannot be changed here"} for key in model if key in _NEVER_SET
    ]
    wrong += [problem for keyword in _REQUIRED if tag(keyword) in model for problem in _required(model, keyword)]
    _refuse(wrong + _common(model))


def _required(model: Mapping[str, Any], keyword: str) -> Problems:
    found = items(model, keyword)
    message = "must have one value" if len(found) != 1 or found[0] in ("", None) else _REQUIRED[keyword](found[0])
    return [{"where": keyword, "message": message}] if message else []


def _one_of(*allowed: str) -> Callable[[Any], str]:
    return lambda value: "" if value in allowed else f"must be one of {', '.join(allowed)}"


def _moment(value: Any) -> str:
    try:
        interval(value)
    except ValueError as error:
        return str(error)
    return ""


_REQUIRED: dict[str, Callable[[Any], str]] = {
    "ScheduledProcedureStepPriority": _one_of(*PRIORITIES),
    "ProcedureStepLabel": lambda value: "" if len(value) <= 64 else "may have 64 characters",
    "ScheduledProcedureStepStartDateTime": _moment,
    "InputReadinessState": _one_of(*READINESS),
}
"""Attributes of type 1, and what their value must be."""


def _common(model: Mapping[str, Any]) -> Problems:
    wrong: Problems = []
    for keyword in _CODES:
        for number, item in enumerate(items(model, keyword), 1):
            named = first(item, "CodeValue") or first(item, "LongCodeValue")
            if not (first(item, "URNCodeValue") or (named and first(item, "CodingSchemeDesignator"))):
                wrong.append({"where": f"{keyword}[{number}]", "message": "needs a code value and its coding scheme"})
            if not first(item, "CodeMeaning"):
                wrong.append({"where": f"{keyword}[{number}].CodeMeaning", "message": "must have a value"})
    for number, item in enumerate(items(model, "InputInformationSequence"), 1):
        wrong += _reference(item, f"InputInformationSequence[{number}]")
    for keyword in ("ExpectedCompletionDateTime", "ScheduledProcedureStepExpirationDateTime"):
        found = first(model, keyword)
        if found and (message := _moment(found)):
            wrong.append({"where": keyword, "message": message})
    return wrong


def _reference(item: Mapping[str, Any], where: str) -> Problems:
    """Referenced Instances and Access Macro (PS3.3 10.26)."""
    kind = first(item, "TypeOfInstances")
    if kind not in ("DICOM", "CDA"):
        return [{"where": f"{where}.TypeOfInstances", "message": "must be DICOM or CDA"}]
    needed = ["StudyInstanceUID", "SeriesInstanceUID"] if kind == "DICOM" else []
    wrong = [{"where": f"{where}.{one}", "message": "must have a value"} for one in needed if not first(item, one)]
    references = items(item, "ReferencedSOPSequence")
    if not references:
        wrong.append({"where": f"{where}.ReferencedSOPSequence", "message": "must have an item for each instance"})
    for number, reference in enumerate(references, 1):
        for one in ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"):
            if not first(reference, one):
                wrong.append(
                    {"where": f"{where}.ReferencedSOPSequence[{number}].{one}", "message": "must have a value"}
                )
    return wrong
