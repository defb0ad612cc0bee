"""What every view needs: the running service, the request's query and JSON body."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

from flask import Request, current_app, g, request

from service.errors import InputError
from service.pipeline.assembly import Service
from service.pipeline.request import InvalidRequest, invalid
from service.store.rows import STORED

EXTENSION = "pellucid"
WAITING = "pellucid-waiting"
"""Key of the semaphore that bounds answers which wait: they may hold half of the threads, the rest stays responsive."""


def service() -> Service:
    """The service behind the current application."""
    return cast(Service, current_app.extensions[EXTENSION])


def waiting() -> threading.BoundedSemaphore:
    """Places for answers that wait for an analysis."""
    return cast(threading.BoundedSemaphore, current_app.extensions[WAITING])


class SpoolFile:
    """One file part on its way to the disk: written by the multipart parser, open only while it writes."""

    def __init__(self, path: Path) -> None:
        self.path, self._file = path, path.open("wb")

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def seek(self, offset: int) -> int:
        """The parser's last word on a part: nothing is read through this object."""
        self._file.close()
        return offset


class ServiceRequest(Request):
    """A request whose file parts go to `g.upload_folder`, under generated names, byte for byte."""

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        return cast(IO[bytes], SpoolFile(g.upload_folder / uuid.uuid4().hex))


def query(known: Collection[str]) -> dict[str, str]:
    """The query parameters; refuses unknown ones, so that a misspelt filter is not silently ignored.

    Raises
    ------
    InvalidRequest
    """
    unknown = sorted(set(request.args) - set(known))
    if unknown:
        raise InvalidRequest(
            f"query: there is no parameter {unknown[0][:64]!r}; known are {', '.join(known) or 'none'}",
            [{"where": unknown[0][:64], "message": "unknown query parameter"}],
        )
    for name, value in request.args.items():
        if "\0" in value:
            raise invalid(name, "must not contain U+0000")
    return request.args.to_dict()


def whole(asked: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """A whole number among the query parameters; InvalidRequest where it is none or out of range."""
    try:
        value = int(asked.get(name, default))
    except ValueError:
        raise invalid(name, "must be a whole number") from None
    if not low <= value <= high:
        raise invalid(name, f"must be from {low} to {high}", value=value, limit=[low, high])
    return value


def moment(asked: Mapping[str, str], name: str) -> str | None:
    """A time among the query parameters in its stored form (see `store.rows.now`), or None.

    Raises
    ------
    InvalidRequest
    """
    if name not in asked:
        return None
    try:
        when = datetime.fromisoformat(asked[name].replace(" ", "+"))  # an unescaped + of a time zone arrives as a blank
        return when.astimezone(UTC).strftime(STORED)
    except (ValueError, OverflowError):
        raise invalid(name, "must be an ISO 8601 time, e.g. 2026-01-31T08:00:00Z") from None


def json_body(limit: int) -> Any:
    """The decoded JSON body of at most `limit` bytes.

    Raises
    ------
    InputError
        When it is not JSON. Too large ones raise werkzeug's RequestEntityTooLarge.
    """
    request.max_content_length = limit
    return decode_json(request.get_data(), "the body")


def decode_json(data: bytes | str, what: str) -> Any:
    """Decode JSON strictly: no NaN, no infinity, bounded nesting."""

    def refuse(name: str) -> Any:
        raise ValueError(name)

    try:
        return json.loads(data, parse_constant=refuse)
    except (ValueError, RecursionError) as error:  # ValueError covers broken UTF-8
        raise InputError(f"{what} is not JSON (RFC 8259); numbers must be finite") from error
