"""Search for work items (DICOM PS3.18 11.9, PS3.4 CC.2.8)."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, Response, request
from pydicom.datadict import dictionary_has_tag, tag_for_keyword

from service.http.dicomweb import negotiate
from service.http.workitems.errors import Refused, warn
from service.http.workitems.transactions import listed, worklist
from service.store.moments import criterion
from service.store.search import Criterion, tag, tags
from service.store.workitems import Workitem

blueprint = Blueprint("search", __name__)

MOST, CRITERIA, DEPTH = 500, 32, 3
_CONTROL = ("limit", "offset", "fuzzymatching", "includefield", "accept", "charset")
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_TRANSACTION = tag("TransactionUID")

RETURNED = frozenset(
    tags(
        "SpecificCharacterSet SOPClassUID SOPInstanceUID ScheduledProcedureStepPriority ProcedureStepLabel WorklistLabel "
        "ScheduledProcessingParametersSequence ScheduledStationNameCodeSequence ScheduledStationClassCodeSequence "
        "ScheduledStationGeographicLocationCodeSequence ScheduledHumanPerformersSequence ScheduledProcedureStepStartDateTime "
        "ScheduledProcedureStepModificationDateTime ExpectedCompletionDateTime ScheduledWorkitemCodeSequence "
        "InputReadinessState InputInformationSequence StudyInstanceUID PatientName PatientID IssuerOfPatientID "
        "OtherPatientIDsSequence PatientBirthDate PatientSex AdmissionID IssuerOfAdmissionIDSequence "
        "AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence ReferencedRequestSequence MedicalAlerts PregnancyStatus "
        "SpecialNeeds ProcedureStepState ProcedureStepProgressInformationSequence"
    )
)
"""Return keys of types 1 and 2 (table CC.2.5-3); others are given where includefield or a matching key names them."""


@blueprint.get("/workitems")
def search() -> Response:
    """Work items that match, oldest first."""
    negotiate.json_or_refuse()
    criteria, ignored = keys(_CONTROL)
    limit, offset = min(_whole("limit", MOST), MOST), _whole("offset", 0)
    fields = {one.path[0] for one in criteria}
    everything = False
    for name in ",".join(request.args.getlist("includefield")).split(","):
        everything = everything or name.strip().lower() == "all"
        fields |= set((_path(name.strip()) or ())[:1])
    found, more = worklist().find(criteria, limit, offset)
    shown = [_shown(one, RETURNED | fields, everything) for one in found]
    response = listed(shown, 206 if more else 200) if shown else Response(status=204)
    if ignored:
        warn(response, f"These parameters are not supported and were ignored: {', '.join(ignored)}.")
    if more:
        warn(
            response,
            "The number of results exceeded the maximum supported by the server. Additional results can be requested.",
        )
    return response


def _shown(one: Workitem, fields: frozenset[str] | set[str], everything: bool) -> dict[str, Any]:
    return {key: entry for key, entry in one.dataset.items() if everything or key in fields}


def keys(control: tuple[str, ...]) -> tuple[list[Criterion], list[str]]:
    """The matching keys of the current request's query, and the parameters that are none.

    Raises
    ------
    Refused
        When a value does not fit its attribute.
    """
    fuzzy = request.args.get("fuzzymatching", "false").lower()
    if fuzzy not in ("true", "false"):
        raise _bad("fuzzymatching", "must be true or false")
    criteria: list[Criterion] = []
    ignored: list[str] = []
    for name, text in request.args.items(multi=True):
        if name in control:
            continue
        path = _path(name)
        if path is None or _TRANSACTION in path:
            ignored.append("an unknown attribute" if path is None else name)
        elif text.strip() not in ("", "*", '""'):
            criteria.append(key(name, path, text, fuzzy == "true"))
    if len(criteria) > CRITERIA:
        raise _bad("query", f"has more than {CRITERIA} matching keys")
    return criteria, ignored


def key(name: str, path: tuple[str, ...], text: str, fuzzy: bool = False) -> Criterion:
    """One matching key; Refused when its value does not fit."""
    try:
        return criterion(path, text, fuzzy)
    except ValueError as error:
        raise _bad(name, str(error)) from None


def _path(name: str) -> tuple[str, ...] | None:
    """Tags of an attribute given by keyword or tag, in sequences with dots; None for one that is not known."""
    parts = name.split(".")
    numbers = [int(one, 16) if _TAG.fullmatch(one) else tag_for_keyword(one) for one in parts]
    if len(parts) > DEPTH or not all(one is not None and dictionary_has_tag(one) for one in numbers):
        return None
    return tuple(f"{one:08X}" for one in numbers)


def pair(text: str) -> Criterion:
    """One ``attribute=value`` of a filter."""
    name, equals, value = text.strip().partition("=")
    path = _path(name)
    if path is None or not equals or not value or _TRANSACTION in path:
        raise _bad("filter", "must be attribute=value pairs, separated by commas")
    return key(name, path, value)


def _whole(name: str, default: int) -> int:
    text = request.args.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise _bad(name, "must be a whole number that is not negative")
    return int(text)


def _bad(where: str, message: str) -> Refused:
    where = where[:64]
    return Refused(f"query: {where}: {message}", errors=[{"where": where, "message": message}])
