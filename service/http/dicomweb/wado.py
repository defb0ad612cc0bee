"""WADO-RS: retrieve studies, series and instances (DICOM PS3.18 10.4)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from flask import Blueprint, Response
from werkzeug.exceptions import NotAcceptable
from werkzeug.wsgi import FileWrapper

from service.errors import Busy, InputError
from service.http.context import service
from service.http.dicomweb import multipart, negotiate
from service.http.dicomweb.caching import private
from service.http.dicomweb.negotiate import ANY, DICOM, EXPLICIT_LITTLE
from service.intake.sandbox import Sandbox
from service.records import Instance

blueprint = Blueprint("wado", __name__)

CHUNK = 1 << 20


@blueprint.get("/studies/<study>")
def study_retrieve(study: str) -> Response:
    """All instances of a study."""
    return _instances(service().store.archive.study_instances(study))


@blueprint.get("/studies/<study>/series/<series>")
def series_retrieve(study: str, series: str) -> Response:
    """All instances of a series."""
    return _instances(service().store.archive.series_instances(study, series))


@blueprint.get("/studies/<study>/series/<series>/instances/<sop>")
def instance_retrieve(study: str, series: str, sop: str) -> Response:
    """One instance; as a single part where only that is accepted."""
    instance = service().store.archive.instance(study, series, sop)
    for wanted in negotiate.accepted():
        if wanted.takes(DICOM, True):
            break
        if wanted.takes(DICOM, False):
            return _single(instance)
    return _instances([instance])


def _choice(instance: Instance, multiple: bool) -> str:
    """The transfer syntax an instance is given in: as stored where that is accepted, else the default one.

    Raises
    ------
    NotAcceptable
    """
    for wanted in negotiate.accepted():
        if wanted.takes(DICOM, multiple):
            syntax = wanted.syntax or EXPLICIT_LITTLE
            if syntax in (ANY, instance.transfer_syntax_uid):
                return instance.transfer_syntax_uid
            if syntax == EXPLICIT_LITTLE:
                return EXPLICIT_LITTLE
    offers = [f"{DICOM}; transfer-syntax={syntax}" for syntax in (EXPLICIT_LITTLE, instance.transfer_syntax_uid)]
    kind = "multipart/related of " if multiple else ""
    raise negotiate.not_acceptable([kind + offer for offer in dict.fromkeys(offers)])


def _media(syntax: str) -> str:
    return f"{DICOM}; transfer-syntax={syntax}"


def _single(instance: Instance) -> Response:
    syntax = _choice(instance, False)
    if syntax == instance.transfer_syntax_uid:
        path, temporary = instance.path, False
    else:
        path, temporary = _transcoded(service().tools.sandbox, service().spool, instance), True
    stream, size = path.open("rb"), path.stat().st_size
    if temporary:
        path.unlink()
    response = Response(FileWrapper(stream, CHUNK), content_type=_media(syntax))
    response.content_length = size
    response.headers["Content-Location"] = negotiate.address(instance)
    return private(response, f"{instance.sha256} {syntax}", complete=size)


def _instances(instances: Sequence[Instance]) -> Response:
    """Instances as parts, read from the disk as the client takes them."""
    choices = [_choice(instance, True) for instance in instances]
    parts = [
        (instance, syntax, negotiate.address(instance)) for instance, syntax in zip(instances, choices, strict=True)
    ]
    sandbox, spool = service().tools.sandbox, service().spool
    if len(parts) == 1 and choices[0] != instances[0].transfer_syntax_uid:
        first: IO[bytes] | None = _opened(sandbox, spool, instances[0])
    else:
        first = None

    def stream() -> Iterator[tuple[dict[str, str], Iterable[bytes]]]:
        for instance, syntax, address in parts:
            file = first
            if file is None:
                file, syntax = _given(sandbox, spool, instance, syntax)
            with file:
                yield {"Content-Type": _media(syntax), "Content-Location": address}, FileWrapper(file, CHUNK)

    response = multipart.respond(stream(), DICOM, first.close if first is not None else lambda: None)
    together = " ".join(f"{one.sha256} {syntax}" for one, syntax in zip(instances, choices, strict=True))
    return private(response, together, weak=True)


def _given(sandbox: Sandbox, spool: Path, instance: Instance, syntax: str) -> tuple[IO[bytes], str]:
    """An instance as a stream and the transfer syntax it really has.

    One of several that cannot be decoded comes as it is stored (PS3.18 8.7.3): leaving it out would be worse.
    """
    if syntax != instance.transfer_syntax_uid:
        try:
            return _opened(sandbox, spool, instance), syntax
        except NotAcceptable:
            syntax = instance.transfer_syntax_uid
    return instance.path.open("rb"), syntax


def _opened(sandbox: Sandbox, spool: Path, instance: Instance) -> IO[bytes]:
    path = _transcoded(sandbox, spool, instance)
    stream = path.open("rb")
    path.unlink()
    return stream


def _transcoded(sandbox: Sandbox, spool: Path, instance: Instance) -> Path:
    """A new file with the instance in Explicit VR Little Endian; NotAcceptable where its pixels cannot be decoded."""
    path = spool / f"wado-{uuid.uuid4().hex}"
    try:
        sandbox.transcode(instance, path)
    except InputError as error:
        path.unlink(missing_ok=True)
        if isinstance(error, Busy) or error.status == 507:
            raise
        raise NotAcceptable(
            f"This instance cannot be given in Explicit VR Little Endian: {error.detail}. Ask for it as it is stored, with "
            "transfer-syntax=*."
        ) from error
    return path
