"""What a work item asks for, read from its data set: is it for us, may it begin, of which images, with what request.

A work item is for us when its Scheduled Workitem Code Sequence (0040,4018) names one of our models (code value: the model's
name, scheme 99PELLUCID), or asks for computer aided detection or diagnosis, or is empty, and nobody else is scheduled for it.
Scheduled Processing Parameters (0074,1210) are text items whose concepts are 99PELLUCID codes, see `PARAMETERS`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

from service.pipeline import request
from service.records import Request
from service.store.moments import interval
from service.store.search import Attributes
from service.store.subscriptions import first, items

SCHEME = "99PELLUCID"
"""Of our own codes, as in the result objects."""
STATION_CLASS = "PELLUCID"
BY_CONTENT = (("110003", "DCM"), ("110004", "DCM"))
"""Computer Aided Diagnosis, Computer Aided Detection (CID 9231): the model is chosen by the images."""
PARAMETERS = {
    "MODEL": "model",
    "LATERALITY": "laterality",
    "OPERATING_POINT": "operating_point",
    "MAPS": "maps",
    "OBJECTS": "objects",
    "REGION": "regions",
}
"""Code value of a parameter and the key of the request that it sets. MAPS and OBJECTS are lists with commas. REGION may be there
several times: ``x,y,z`` in patient mm, or ``SOP Instance UID:column,row``."""
_PRIORITIES = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}
_FIRST_ZONE = timezone(timedelta(hours=14))
"""Where a day begins first: a time without an offset is not waited for longer than that allows."""
_OFFSET = re.compile(r"([+-])(\d{2})(\d{2})")


@dataclass(frozen=True)
class Reference:
    """One instance of the Input Information Sequence."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class Order:
    """A work item that may be for us.

    Attributes
    ----------
    explicit : bool
        It names this station or one of our models; else only its images can tell.
    model : str or None
        Named by the workitem code.
    priority : int
        0 comes first.
    """

    explicit: bool
    model: str | None
    priority: int
    inputs: tuple[Reference, ...]


def read(dataset: Attributes, station: str, models: Collection[str]) -> Order | None:
    """The order that a work item is; None when it is for somebody else.

    Parameters
    ----------
    dataset : mapping
        DICOM JSON Model.
    station : str
        Our own name: the AE title.
    models : collection of str
    """
    named = {first(item, "CodeValue") for item in items(dataset, "ScheduledStationNameCodeSequence")}
    classes = {first(item, "CodeValue") for item in items(dataset, "ScheduledStationClassCodeSequence")}
    if named and station not in named:
        return None
    if not named and ((classes and STATION_CLASS not in classes) or items(dataset, "ScheduledHumanPerformersSequence")):
        return None
    codes = [_coded(item) for item in items(dataset, "ScheduledWorkitemCodeSequence")]
    model = next((value for value, scheme in codes if scheme == SCHEME and value in models), None)
    if codes and model is None and not set(codes) & set(BY_CONTENT):
        return None
    priority = _PRIORITIES.get(str(first(dataset, "ScheduledProcedureStepPriority")), 1)
    explicit = bool(named) or model is not None or bool(_parameters(dataset).get("MODEL"))
    return Order(explicit, model, priority, tuple(_inputs(dataset)))


def _coded(item: Attributes) -> tuple[str, str]:
    return str(first(item, "CodeValue")), str(first(item, "CodingSchemeDesignator"))


def _inputs(dataset: Attributes) -> list[Reference]:
    found = {}
    for item in items(dataset, "InputInformationSequence"):
        if first(item, "TypeOfInstances") == "DICOM":
            study, series = first(item, "StudyInstanceUID") or "", first(item, "SeriesInstanceUID") or ""
            for sop in items(item, "ReferencedSOPSequence", "ReferencedSOPInstanceUID"):
                if sop:
                    found[sop] = Reference(study, series, sop)
    return list(found.values())


def due(dataset: Attributes, moment: datetime | None = None) -> bool:
    """Whether the inputs are said to be ready, the step's start has come and its expiration has not.

    The start is compared in the time zone that the value or (0008,0201) states; where none does, it counts as that of the
    zone where it comes first.
    """
    moment = moment or datetime.now(UTC)
    if first(dataset, "InputReadinessState") != "READY":
        return False
    start, expiration = (first(dataset, f"ScheduledProcedureStep{what}DateTime") for what in ("Start", "Expiration"))
    stated = _zone(first(dataset, "TimezoneOffsetFromUTC"))
    try:
        if start and moment < interval(start, stated or _FIRST_ZONE)[0]:
            return False
        return not expiration or moment <= interval(expiration, stated or timezone(timedelta(hours=-12)))[1]
    except ValueError:
        return False


def _zone(offset: Any) -> tzinfo | None:
    found = _OFFSET.fullmatch(offset) if isinstance(offset, str) else None
    if found is None or int(found[2]) > 14:
        return None
    minutes = int(found[2]) * 60 + int(found[3])
    return timezone(timedelta(minutes=-minutes if found[1] == "-" else minutes))


def _parameters(dataset: Attributes) -> dict[str, list[str]]:
    """Values of our processing parameters by code value."""
    found: dict[str, list[str]] = {}
    for item in items(dataset, "ScheduledProcessingParametersSequence"):
        value, scheme = _coded(first(item, "ConceptNameCodeSequence") or {})
        if scheme == SCHEME and value in PARAMETERS:
            text = first(item, "TextValue") or first(item, "ConceptCodeSequence", "CodeValue") or ""
            found.setdefault(value, []).append(str(text).strip())
    return found


def requested(dataset: Attributes, order: Order) -> Request:
    """The request that the workitem code and the processing parameters make.

    Raises
    ------
    InvalidRequest
        When a parameter has a value that the request cannot have.
    """
    given = _parameters(dataset)
    body: dict[str, Any] = {"model": order.model}
    for name, texts in given.items():
        key = PARAMETERS[name]
        if name == "REGION":
            body[key] = [_region(text) for text in texts]
        elif len(texts) > 1:
            raise request.invalid(name, "is there several times")
        elif name in ("MAPS", "OBJECTS"):
            body[key] = [part.strip() for part in texts[0].split(",") if part.strip()]
        elif name == "MODEL" and order.model not in (None, texts[0]):
            raise request.invalid(name, "is another model than the one the workitem code names")
        else:
            body[key] = texts[0]
    return request.parse(body)


def _region(text: str) -> Mapping[str, Any]:
    """A region of the HTTP contract."""
    uid, colon, place = text.rpartition(":")
    try:
        numbers = [float(part) for part in place.split(",")]
    except ValueError:
        numbers = []
    if colon and len(numbers) == 2:
        return {"sop_instance_uid": uid, "center_px": numbers}
    if not colon and len(numbers) == 3:
        return {"center_mm": numbers}
    raise request.invalid("REGION", "must be x,y,z in patient mm, or UID:column,row")
