"""WADO-RS: metadata, and the bulk values they refer to (DICOM PS3.18 10.4.1.1.2, 10.4.1.1.5)."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from flask import Blueprint, Response

from service.errors import NotFound, OutOfContract
from service.http.context import service
from service.http.dicomweb import frames, multipart, negotiate
from service.http.dicomweb.caching import private
from service.http.dicomweb.negotiate import COMPRESSED, JSON, OCTETS
from service.intake.sandbox import Sandbox
from service.records import Instance

blueprint = Blueprint("metadata", __name__)

PIXELS = ("7FE00008", "7FE00009", "7FE00010")
METADATA_BYTES = 32 << 20
"""Metadata that are kept in memory."""
AHEAD = 32
"""Instances that are read while the client takes what came before."""


class Recent:
    """The last metadata that were asked for, by content; thread-safe."""

    def __init__(self, most: int) -> None:
        self._most, self._bytes = most, 0
        self._texts: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, sandbox: Sandbox, instance: Instance) -> str:
        """Metadata of an instance as JSON; errors as `Sandbox.metadata` raises them."""
        with self._lock:
            known = self._texts.get(instance.sha256)
            if known is not None:
                self._texts.move_to_end(instance.sha256)
                return known
        text = json.dumps(sandbox.metadata(instance), separators=(",", ":"))
        with self._lock:
            if instance.sha256 not in self._texts:
                self._texts[instance.sha256] = text
                self._bytes += len(text)
            while self._bytes > self._most:
                self._bytes -= len(self._texts.popitem(last=False)[1])
        return text


_recent = Recent(METADATA_BYTES)


@blueprint.get("/studies/<study>/metadata")
def study_metadata(study: str) -> Response:
    """Metadata of all instances of a study."""
    return _metadata(service().store.archive.study_instances(study))


@blueprint.get("/studies/<study>/series/<series>/metadata")
def series_metadata(study: str, series: str) -> Response:
    """Metadata of all instances of a series."""
    return _metadata(service().store.archive.series_instances(study, series))


@blueprint.get("/studies/<study>/series/<series>/instances/<sop>/metadata")
def instance_metadata(study: str, series: str, sop: str) -> Response:
    """Metadata of an instance."""
    return _metadata([service().store.archive.instance(study, series, sop)])


def _metadata(instances: Sequence[Instance]) -> Response:
    negotiate.json_or_refuse()
    sandbox = service().tools.sandbox
    places = [(instance, negotiate.address(instance)) for instance in instances]
    first = _document(sandbox, *places[0])  # an error of the only one becomes an answer

    workers = service().settings.sandbox_workers

    def stream() -> Iterator[bytes]:
        yield b"[" + first
        with ThreadPoolExecutor(workers) as pool:
            for start in range(1, len(places), AHEAD):
                some = places[start : start + AHEAD]
                for text in pool.map(lambda place: _document(sandbox, *place), some):
                    yield b"," + text
        yield b"]"

    response = Response(stream(), content_type=JSON)
    return private(response, " ".join([negotiate.root(), *(one.sha256 for one in instances)]), weak=True)


def _document(sandbox: Sandbox, instance: Instance, address: str) -> bytes:
    """Metadata with absolute addresses of bulk data."""
    text = _recent.get(sandbox, instance)
    # Quotes inside values are escaped in JSON, so this finds nothing but keys
    return text.replace('"BulkDataURI":"bulkdata/', f'"BulkDataURI":"{address}/bulkdata/').encode()


@blueprint.get("/studies/<study>/series/<series>/instances/<sop>/bulkdata/<path:path>")
def bulkdata(study: str, series: str, sop: str, path: str) -> Response:
    """One value that the metadata refer to; compressed pixels come as the frames they are."""
    instance = service().store.archive.instance(study, series, sop)
    if path in PIXELS and instance.transfer_syntax_uid in COMPRESSED:
        return frames.answer(instance, list(range(1, max(instance.frames, 1) + 1)))
    for wanted in negotiate.accepted():
        if wanted.takes(OCTETS, True) or wanted.takes(OCTETS, False):
            break
    else:
        raise negotiate.not_acceptable([OCTETS, f'multipart/related; type="{OCTETS}"'])
    try:
        data = bytes(service().tools.sandbox.bulk(instance, path))
    except OutOfContract as error:
        raise NotFound(error.detail) from error
    place = f"{negotiate.address(instance)}/bulkdata/{path}"
    name = f"{instance.sha256} {path}"
    if wanted.takes(OCTETS, True):
        return private(
            multipart.respond([({"Content-Type": OCTETS, "Content-Location": place}, [data])], OCTETS), name, True
        )
    response = Response(data, content_type=OCTETS)
    response.headers["Content-Location"] = place
    return private(response, name, complete=len(data))
