"""Analysing what is here: the images of an analysis again, or a series of the archive (``POST /api/v1/analyses`` with JSON)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from service.errors import Conflict, NotFound, OutOfContract
from service.inference import routing
from service.pipeline import regions
from service.pipeline.analysis import Pipeline
from service.pipeline.request import InvalidRequest, invalid, parse, stored
from service.pipeline.work import Work
from service.records import Instance, Request
from service.store.analyses import Store

KEYS = ("analysis", "study", "series", "instances", "request")
MOST_INSTANCES = 10_000
_ID = re.compile(r"[0-9a-f]{32}")
_UID = re.compile(r"[0-9][0-9.]{0,63}")


@dataclass(frozen=True)
class Asked:
    """What is to be analysed: the images of an analysis, or those of a series.

    Attributes
    ----------
    analysis : str
        Its id; empty where a series is named.
    study, series : str
    instances : tuple of str
        SOP Instance UIDs; empty: the whole series.
    request : Request, optional
        None: that of the analysis.
    fingerprint : str
        Hash of all of it, whatever the order of the keys.
    """

    analysis: str
    study: str
    series: str
    instances: tuple[str, ...]
    request: Request | None
    fingerprint: str


@dataclass(frozen=True)
class Ready:
    """Work that can be submitted: through which door its images came, and the analysis that it replaces."""

    work: Work
    door: str
    supersedes: str | None = None


def read(body: Any) -> Asked:
    """Check a decoded JSON body.

    Raises
    ------
    InvalidRequest
        Naming the key, for unknown keys, wrong types, and when it is not clear which images are meant.
    """
    if not isinstance(body, dict):
        raise invalid("body", "must be a JSON object")
    unknown = sorted(set(body) - set(KEYS))
    if unknown:
        raise invalid(unknown[0][:64], f"there is no such key; known are {', '.join(KEYS)}")
    given = {name: value for name, value in body.items() if value is not None}
    places = set(given) & {"study", "series", "instances"}
    if "analysis" in given and places:
        raise invalid(min(places), "leave it out: the analysis says which images are meant")
    if "analysis" not in given and not {"study", "series"} <= set(given):
        raise InvalidRequest(
            'request: name what is to be analysed: {"analysis": id}, or {"study": uid, "series": uid}',
            [{"where": "analysis", "message": "missing"}],
        )
    instances = given.get("instances", [])
    if not isinstance(instances, list) or len(instances) > MOST_INSTANCES or ("instances" in given and not instances):
        raise invalid("instances", f"must be a list of 1 to {MOST_INSTANCES} SOP Instance UIDs")
    return Asked(
        analysis=_matching(given, "analysis", _ID, "id of an analysis"),
        study=_matching(given, "study", _UID, "UID"),
        series=_matching(given, "series", _UID, "UID"),
        instances=tuple(dict.fromkeys(_matching({"instances": uid}, "instances", _UID, "UID") for uid in instances)),
        request=parse(given["request"]) if "request" in given else None,
        fingerprint=hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest(),
    )


def _matching(given: dict[str, Any], name: str, pattern: re.Pattern[str], what: str) -> str:
    value = given.get(name, "")
    if name in given and not (isinstance(value, str) and pattern.fullmatch(value)):
        raise invalid(name, f"is no {what}")
    return str(value)


def prepare(store: Store, pipeline: Pipeline, asked: Asked) -> Ready:
    """Find the images and check the request against them.

    Without a request the analysis is done again as it was and the new one replaces it. With one, or for a series, nothing is
    replaced.

    Raises
    ------
    NotFound
        When there is no such analysis or series, or its images are gone.
    Conflict
        When an analysis that is to be done again has not ended, or was replaced.
    InputError
        As `Pipeline.prepare` does.
    """
    if asked.analysis:
        return _of_analysis(store, pipeline, asked)
    images = store.archive.series_instances(asked.study, asked.series)
    if not store.worklist.holds(asked.series):
        raise OutOfContract("this series holds results of this software, reports or marks; name a series of images")
    request = asked.request or Request()
    if asked.instances:
        images = _chosen(images, asked.instances)
    marks: list[Instance] = []
    nodule = [bundle for bundle in pipeline.bundles.values() if bundle.task == routing.NODULE]
    if not request.regions and any(routing.takes(bundle, one) for bundle in nodule for one in images):
        marks = [one for one in store.archive.study_instances(asked.study) if regions.names_places(one)]
    _check_there([*images, *marks])
    door = "http" if store.series.known(asked.series) is None else "again"
    return Ready(pipeline.work([*images, *marks], request), door)


def _of_analysis(store: Store, pipeline: Pipeline, asked: Asked) -> Ready:
    before = store.get(asked.analysis)
    if asked.request is None and not before.ended:
        raise Conflict(f"analysis {before.id} has not ended; wait for its result before it is done again")
    if asked.request is None and before.superseded_by is not None:
        raise Conflict(f"analysis {before.id} was replaced by {before.superseded_by}; do that one again")
    images = store.instances(before.id)
    _check_there(images)
    door = "http" if before.door == "http" else "again"
    asked_before = stored(before.request)
    if asked.request is not None:
        return Ready(pipeline.work(images, replace(asked.request, named_eye=asked_before.named_eye)), door)
    work = pipeline.work(images, asked_before)
    told = tuple(dict.fromkeys((*before.warnings, *work.warnings)))
    return Ready(Work(work.model, work.instances, work.request, told), door, before.id)


def _chosen(images: Iterable[Instance], uids: Iterable[str]) -> list[Instance]:
    known = {one.sop_instance_uid: one for one in images}
    missing = [uid for uid in uids if uid not in known]
    if missing:
        raise NotFound(f"instance {missing[0]} is not here in this series")
    return [known[uid] for uid in uids]


def _check_there(images: Iterable[Instance]) -> None:
    if not all(one.path.exists() for one in images):
        raise NotFound("the images are no longer here; send them again")
