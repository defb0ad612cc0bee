"""STOW-RS: store instances (DICOM PS3.18 10.5). They are on the disk and in the archive before the answer says so."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from flask import Blueprint, Response, request

from service.errors import Busy, InputError, NoSpace, TooLarge, UnknownMedia
from service.http.context import service
from service.http.dicomweb import multipart, negotiate
from service.http.dicomweb.negotiate import DICOM, RELATED
from service.intake.sandbox import Sandbox
from service.records import Arrival, Instance
from service.store.filing import Filed
from service.store.rows import now
from service.store.search import tag

blueprint = Blueprint("stow", __name__)

OUT_OF_RESOURCES, MISMATCH, NOT_UNDERSTOOD, SYNTAX = 0xA700, 0xA900, 0xC000, 0xC122
DUPLICATE, FAILURE = 0x0111, 0x0110
"""Failure reasons (PS3.18 table I.2-2; Duplicate SOP Instance of PS3.7 C.5.6 for a UID that has other content here)."""
_WARNINGS = 10
"""Failures that are told in words, in Warning headers."""
_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True)
class Outcome:
    """What became of one part: `reason` 0 means stored."""

    instance: Instance | None
    reason: int = 0
    detail: str = ""
    kind: Literal["", "media", "space"] = ""
    """What a refusal of the whole request would say."""


@blueprint.post("/studies")
def store() -> Response:
    """Store instances of any studies."""
    return _store(None)


@blueprint.post("/studies/<study>")
def store_in_study(study: str) -> Response:
    """Store instances of one study."""
    if not _UID.fullmatch(study):
        raise InputError("the path does not name a Study Instance UID of digits and dots")
    return _store(study)


def _store(study: str | None) -> Response:
    negotiate.json_or_refuse()
    media, options = negotiate.media_type(request.headers.get("Content-Type", ""))
    if media not in (RELATED, DICOM) or (media == RELATED and options.get("type", DICOM).lower() != DICOM):
        raise UnknownMedia(f'send {RELATED}; type="{DICOM}", or one instance as {DICOM}')
    service().store.blobs.check_space(request.content_length or 0)
    with _folder() as folder:
        parts = _received(media, options, folder)
        look = partial(_read, service().tools.sandbox, study)
        with ThreadPoolExecutor(service().settings.sandbox_workers) as pool:
            outcomes = list(pool.map(look, parts))
        filed = iter(_file([one.instance for one in outcomes if one.instance is not None and not one.reason]))
        outcomes = [one if one.reason or one.instance is None else _settled(next(filed)) for one in outcomes]
    return _answer(outcomes, study)


@contextmanager
def _folder() -> Iterator[Path]:
    folder = service().spool / f"stow-{uuid.uuid4().hex}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _received(media: str, options: dict[str, str], folder: Path) -> list[multipart.Part]:
    """The body's instances as files."""
    if media == RELATED:
        mark = multipart.boundary(options.get("boundary"))
        parts = multipart.read(request.stream, mark, folder, service().settings.upload_parts)
        if not parts:
            raise InputError("the body has no parts: send each instance as one part of type application/dicom")
        return parts
    part = multipart.Part({"content-type": DICOM}, folder / "1")
    multipart.save(request.stream, part.path)
    return [part]


def _read(sandbox: Sandbox, study: str | None, part: multipart.Part) -> Outcome:
    """Look at a part's header; nothing is stored yet."""
    if negotiate.media_type(part.fields.get("content-type", DICOM))[0] != DICOM:
        return Outcome(None, NOT_UNDERSTOOD, f"a part is not {DICOM}", "media")
    if part.fields.get("content-transfer-encoding", "binary").lower() not in ("binary", "8bit", "7bit"):
        return Outcome(None, NOT_UNDERSTOOD, "a part has a Content-Transfer-Encoding; send it binary", "media")
    try:
        (instance,) = sandbox.inspect([part.path])
    except (TooLarge, NoSpace, Busy) as error:
        return Outcome(None, OUT_OF_RESOURCES, _plain(error), "" if isinstance(error, TooLarge) else "space")
    except UnknownMedia as error:
        return Outcome(None, SYNTAX if _is_part10(part.path) else NOT_UNDERSTOOD, _plain(error))
    except InputError as error:
        return Outcome(None, NOT_UNDERSTOOD, _plain(error))
    if instance.media != "dicom":
        return Outcome(None, NOT_UNDERSTOOD, "a part is a picture, not a DICOM instance")
    if not (instance.study_uid and instance.series_uid and instance.sop_class_uid):
        return Outcome(instance, MISMATCH, "an instance lacks its study, series or SOP class UID")
    if study is not None and instance.study_uid != study:
        return Outcome(instance, MISMATCH, "an instance belongs to another study than the one the path names")
    return Outcome(instance)


def _plain(error: InputError) -> str:
    return error.detail.removeprefix("file 1 of 1: ")


def _is_part10(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _file(instances: Sequence[Instance]) -> list[Filed]:
    """Put instances into the archive and tell the pipeline."""
    name = f"stow-{uuid.uuid4().hex}"
    sender = f"stow@{request.remote_addr or ''}"
    arrivals = [Arrival(instance, "stow", sender, name, now()) for instance in instances]
    filed = service().store.archive.add(arrivals)
    service().arrivals.watch(arrivals, filed)
    return filed


def _settled(filed: Filed) -> Outcome:
    if filed.outcome == "conflict":
        return Outcome(
            filed.instance,
            DUPLICATE,
            "this SOP Instance UID is here with other content; send changed objects under new UIDs",
        )
    if filed.outcome == "no_space":
        return Outcome(filed.instance, OUT_OF_RESOURCES, "the disk is full; send it again later", "space")
    return Outcome(filed.instance)


# -- the answer ---------------------------------------------------------------------------------------------------------


def _answer(outcomes: Sequence[Outcome], study: str | None) -> Response:
    """The Store Instances Response (PS3.18 annex I): 200 all stored, 202 some, 409 none."""
    failed = [one for one in outcomes if one.reason]
    stored = [one.instance for one in outcomes if not one.reason and one.instance is not None]
    if not stored and all(one.kind == "media" for one in failed):
        raise UnknownMedia(f"no part is {DICOM}; send each instance as one part of that type, without an encoding")
    if not stored and all(one.kind == "space" for one in failed):
        raise NoSpace("there is no room for any of these instances; send them again later")
    body: dict[str, Any] = {}
    studies = {instance.study_uid for instance in stored}
    if study is not None or len(studies) == 1:
        body[tag("RetrieveURL")] = _value("UR", f"{negotiate.root()}/studies/{study or studies.pop()}")
    if stored:
        body[tag("ReferencedSOPSequence")] = _sequence(
            {**_reference(instance), tag("RetrieveURL"): _value("UR", negotiate.address(instance))}
            for instance in stored
        )
    if failed:
        body[tag("FailedSOPSequence")] = _sequence(
            {**_reference(one.instance), tag("FailureReason"): _value("US", one.reason)} for one in failed
        )
    nameless = [one for one in failed if one.instance is None]
    if nameless:
        body[tag("OtherFailuresSequence")] = _sequence(
            {tag("FailureReason"): _value("US", one.reason)} for one in nameless
        )
    response = Response(
        json.dumps(dict(sorted(body.items()))),
        200 if not failed else 202 if stored else 409,
        content_type=negotiate.JSON,
    )
    for one in failed[:_WARNINGS]:
        text = "".join(character if " " <= character <= "~" else "?" for character in one.detail)
        response.headers.add("Warning", f"299 {negotiate.root()}: {text}")
    return response


def _value(vr: str, value: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]} if value != "" else {"vr": vr}


def _sequence(items: Any) -> dict[str, Any]:
    return {"vr": "SQ", "Value": list(items)}


def _reference(instance: Instance | None) -> dict[str, Any]:
    """SOP Instance Reference Macro; empty where the part could not be read."""
    return {
        tag("ReferencedSOPClassUID"): _value("UI", instance.sop_class_uid if instance else ""),
        tag("ReferencedSOPInstanceUID"): _value("UI", instance.sop_instance_uid if instance else ""),
    }
