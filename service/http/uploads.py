"""The multipart body of ``POST /api/v1/analyses``: file parts on the disk, byte for byte, and the request."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from flask import g
from flask import request as http

from models.bundle import digest
from service.errors import TooLarge, UnknownMedia
from service.http.context import SpoolFile, decode_json
from service.pipeline import laterality
from service.pipeline.request import InvalidRequest, invalid, parse, to_json
from service.records import Request

REQUEST_BYTES = 1 << 20


@dataclass(frozen=True)
class Upload:
    """What one POST brought."""

    files: tuple[Path, ...]
    request: Request

    def fingerprint(self) -> str:
        """Hash of content and request, whatever the order of the files, and their names but for the eye that these tell."""
        parts = [*sorted(digest(file) for file in self.files), json.dumps(to_json(self.request), sort_keys=True)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@contextmanager
def receive(spool: Path) -> Iterator[Upload]:
    """Parse the current request's body into `spool`; what it wrote is deleted at the end.

    Raises
    ------
    UnknownMedia
        When the body is not multipart/form-data.
    InvalidRequest
        For parts with other names, no files, or a request that `parse` refuses.
    """
    if http.mimetype != "multipart/form-data":
        raise UnknownMedia(
            "send multipart/form-data with parts named files and, if wanted, a JSON part named request; or application/json "
            "that names images that are here already"
        )
    g.upload_folder = spool / f"upload-{uuid.uuid4().hex}"
    g.upload_folder.mkdir()
    try:
        yield _parsed()
    finally:
        shutil.rmtree(g.upload_folder, ignore_errors=True)


def _parsed() -> Upload:
    wrong = sorted((set(http.files) | set(http.form)) - {"files", "request"})
    if wrong:
        raise invalid(wrong[0][:64], "there is no such part; known are files and request")
    if "files" in http.form:
        raise invalid("files", 'must be file parts: give each a filename, e.g. curl -F "files=@image.dcm"')
    parts = http.files.getlist("files")
    files = tuple(_path(part) for part in parts)
    if not files:
        raise InvalidRequest(
            "no file was sent: send at least one part named files", [{"where": "files", "message": "missing"}]
        )
    texts: list[Any] = [*http.form.getlist("request"), *(_read(part) for part in http.files.getlist("request"))]
    if len(texts) > 1:
        raise invalid("request", "was sent more than once")
    asked = parse(decode_json(texts[0], "the part request")) if texts else Request()
    return Upload(files, replace(asked, named_eye=laterality.named(part.filename or "" for part in parts)))


def _path(part: Any) -> Path:
    return cast(SpoolFile, part.stream).path


def _read(part: Any) -> bytes:
    path = _path(part)
    if path.stat().st_size > REQUEST_BYTES:
        raise TooLarge(f"the part request has {path.stat().st_size} bytes; at most {REQUEST_BYTES} are accepted")
    return path.read_bytes()
