"""QIDO-RS: search for studies, series and instances (DICOM PS3.18 10.6)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, request
from pydicom.datadict import dictionary_VR, tag_for_keyword

from service.errors import InputError
from service.http.context import service
from service.http.dicomweb import negotiate
from service.store.finding import Found
from service.store.search import (
    CLASSES,
    INSTANCE_KEYS,
    ITEM_KEYS,
    LEVEL_KEYS,
    LEVELS,
    MODALITIES,
    SERIES_KEYS,
    STUDY_KEYS,
    Criterion,
    Level,
    Query,
    criterion,
    tag,
    tags,
)

blueprint = Blueprint("qido", __name__)

MOST = 1000
"""Results of one answer."""
CRITERIA = 32
"""Matching keys of one search."""
_CONTROL = ("limit", "offset", "fuzzymatching", "includefield", "accept", "emptyvaluematching", "multiplevaluematching")
_TAG = re.compile(r"[0-9A-Fa-f]{8}")

_OF_LEVEL: dict[Level, tuple[str, ...]] = {
    "study": (*STUDY_KEYS, tag("NumberOfStudyRelatedSeries"), tag("NumberOfStudyRelatedInstances")),
    "series": (*SERIES_KEYS, tag("NumberOfSeriesRelatedInstances")),
    "instance": INSTANCE_KEYS,
}
_NO_DEFAULT = {
    CLASSES,
    *tags("IssuerOfPatientID SeriesDate SeriesTime BodyPartExamined Laterality Manufacturer InstitutionName ImageType"),
    *tags("ContentDate ContentTime AcquisitionDate AcquisitionTime"),
}
"""Given only where includefield or a matching key names them; the others are those of tables 10.6.3-3 to -5."""
_REQUIRED = set(
    tags(
        "StudyDate StudyTime AccessionNumber ReferringPhysicianName PatientName PatientID PatientBirthDate PatientSex StudyID"
    )
)
"""Type R of table 10.6.3-3: there, if empty."""
_AVAILABILITY, _RETRIEVE, _CHARACTERS = tags("InstanceAvailability RetrieveURL SpecificCharacterSet")
_FOR_ALL = {_AVAILABILITY, _RETRIEVE, _CHARACTERS}


class BadQuery(InputError):
    """A query parameter has a value that cannot be understood."""

    title = "The search cannot be understood"


@dataclass(frozen=True)
class Asked:
    """What one URL asks for, and what of it was left aside."""

    query: Query
    fields: frozenset[str]
    """Tags to give beyond the default ones."""
    everything: bool
    ignored: tuple[str, ...]


@blueprint.get("/studies")
def studies() -> Response:
    """Search for studies."""
    return _search("study")


@blueprint.get("/series")
def all_series() -> Response:
    """Search for series of all studies."""
    return _search("series")


@blueprint.get("/instances")
def all_instances() -> Response:
    """Search for instances of all studies."""
    return _search("instance")


@blueprint.get("/studies/<study>/series")
def study_series(study: str) -> Response:
    """Search in a study for series."""
    return _search("series", study)


@blueprint.get("/studies/<study>/instances")
def study_instances(study: str) -> Response:
    """Search in a study for instances."""
    return _search("instance", study)


@blueprint.get("/studies/<study>/series/<series>/instances")
def series_instances(study: str, series: str) -> Response:
    """Search in a series for instances."""
    return _search("instance", study, series)


def _search(level: Level, study: str = "", series: str = "") -> Response:
    negotiate.json_or_refuse()
    asked = _asked(level, {tag("StudyInstanceUID"): study, tag("SeriesInstanceUID"): series})
    page = service().store.archive.search(asked.query)
    levels = _levels(level, study, series)
    response = Response(
        json.dumps([_entry(found, level, levels, asked) for found in page.found]), content_type=negotiate.JSON
    )
    agent = negotiate.root()
    if asked.ignored:
        response.headers.add(
            "Warning", f"299 {agent}: These parameters are not supported and were ignored: {', '.join(asked.ignored)}."
        )
    if page.more:
        response.headers.add(
            "Warning",
            f"299 {agent}: The number of results exceeded the maximum supported by the server. "
            "Additional results can be requested.",
        )
    response.headers["Cache-Control"] = "private, no-cache"
    return response


def _levels(level: Level, study: str, series: str) -> tuple[Level, ...]:
    """The levels whose attributes are given: those above too where the URL doesn't say which they are (10.6.3.3)."""
    if level == "study":
        return ("study",)
    if level == "series":
        return ("series",) if study else ("study", "series")
    return ("instance",) if series else ("series", "instance") if study else ("study", "series", "instance")


# -- the question -------------------------------------------------------------------------------------------------------


def _asked(level: Level, fixed: dict[str, str]) -> Asked:
    """The query parameters of the current request, with the UIDs that its path fixes."""
    criteria = [_criterion((name,), uid, False, "the path") for name, uid in fixed.items() if uid]
    ignored: dict[str, None] = {}
    fields: set[str] = set()
    fuzzy = request.args.get("fuzzymatching", "false").lower()
    if fuzzy not in ("true", "false"):
        raise _bad("fuzzymatching", "must be true or false")
    for name, text in request.args.items(multi=True):
        if name in _CONTROL:
            if name.endswith("valuematching") and text.lower() != "false":
                ignored[name] = None
            continue
        path = _path(name)
        if path is None or path[0] not in LEVEL_KEYS[level]:
            ignored[name if path is not None else "an unknown attribute"] = None
            continue
        fields.add(path[0])
        if text.strip() not in ("", "*", '""'):
            criteria.append(_criterion(path, text, fuzzy == "true", name))
    if len(criteria) > CRITERIA:
        raise _bad("query", f"has more than {CRITERIA} matching keys")
    everything = False
    for name in ",".join(request.args.getlist("includefield")).split(","):
        path = _path(name.strip())
        everything = everything or name.strip().lower() == "all"
        if path is not None:
            fields.add(path[0])
    limit, offset = _whole("limit", MOST), _whole("offset", 0)
    return Asked(Query(level, tuple(criteria), min(limit, MOST), offset), frozenset(fields), everything, tuple(ignored))


def _criterion(path: tuple[str, ...], text: str, fuzzy: bool, name: str) -> Criterion:
    if len(text) > 65536:
        raise _bad(name, "is too long")
    try:
        return criterion(path, text, fuzzy)
    except ValueError as error:
        raise _bad(name, str(error)) from None


def _path(name: str) -> tuple[str, ...] | None:
    """Tags of an attribute given by keyword or tag, in a sequence with dots; None for one that is not known."""
    found: list[str] = []
    for part in name.split(".")[:2]:
        number = int(part, 16) if _TAG.fullmatch(part) else tag_for_keyword(part)
        if number is None:
            return None
        found.append(f"{number:08X}")
    if len(found) == 2 and found[1] not in ITEM_KEYS.get(found[0], ()):
        return None
    return tuple(found) if name.count(".") < 2 else None


def _whole(name: str, default: int) -> int:
    text = request.args.get(name, str(default))
    if not re.fullmatch(r"\d{1,9}", text):
        raise _bad(name, "must be a whole number that is not negative")
    return int(text)


def _bad(where: str, message: str) -> BadQuery:
    return BadQuery(f"query: {where}: {message}", [{"where": where, "message": message}])


# -- the answer ---------------------------------------------------------------------------------------------------------


def _entry(found: Found, level: Level, levels: tuple[Level, ...], asked: Asked) -> dict[str, Any]:
    """One result: the attributes of its levels, counted ones, and where to retrieve it."""
    known = {**found.attributes, **_computed(found, level)}
    reached = {name for one in LEVELS[: LEVELS.index(level) + 1] for name in _OF_LEVEL[one]}
    wanted = _FOR_ALL | {name for one in levels for name in _OF_LEVEL[one]} - _NO_DEFAULT | asked.fields & reached
    if asked.everything:
        wanted |= reached | (set(found.attributes) if level == "instance" else set())
    return {name: known.get(name) or _empty(name) for name in sorted(wanted) if name in known or name in _REQUIRED}


def _empty(name: str) -> dict[str, Any]:
    return {"vr": dictionary_VR(int(name, 16))}


def _computed(found: Found, level: Level) -> dict[str, Any]:
    place = f"{negotiate.root()}/studies/{found.study_uid}"
    if level != "study":
        place += f"/series/{found.series_uid}"
    if level == "instance":
        place += f"/instances/{found.sop_instance_uid}"
    return {
        _CHARACTERS: {"vr": "CS", "Value": ["ISO_IR 192"]},
        _AVAILABILITY: {"vr": "CS", "Value": ["ONLINE"]},
        _RETRIEVE: {"vr": "UR", "Value": [place]},
        MODALITIES: {"vr": "CS", "Value": list(found.modalities)},
        CLASSES: {"vr": "UI", "Value": list(found.classes)},
        tag("NumberOfStudyRelatedSeries"): {"vr": "IS", "Value": [found.study_series]},
        tag("NumberOfStudyRelatedInstances"): {"vr": "IS", "Value": [found.study_instances]},
        tag("NumberOfSeriesRelatedInstances"): {"vr": "IS", "Value": [found.series_instances]},
    }
