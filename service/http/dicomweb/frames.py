"""WADO-RS: retrieve frames, decoded or as they are stored (DICOM PS3.18 10.4.1.1.6, 8.7.3.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from flask import Blueprint, Response

from service.errors import InputError, NotFound
from service.http.context import service
from service.http.dicomweb import multipart, negotiate
from service.http.dicomweb.caching import private
from service.http.dicomweb.negotiate import ANY, COMPRESSED, EXPLICIT_LITTLE, OCTETS
from service.records import Instance

blueprint = Blueprint("frames", __name__)

_NUMBERS = re.compile(r"[0-9]{1,9}(,[0-9]{1,9})*")
MOST = 10_000
"""Frames of one request."""


@dataclass(frozen=True)
class Form:
    """How frames are given."""

    media: str
    decoded: bool
    multipart: bool


@blueprint.get("/studies/<study>/series/<series>/instances/<sop>/frames/<numbers>")
def retrieve(study: str, series: str, sop: str, numbers: str) -> Response:
    """Frames by number, e.g. ``1`` or ``1,2,5``."""
    return answer(service().store.archive.instance(study, series, sop), parse(numbers))


def parse(text: str) -> list[int]:
    """The frame numbers of a path; InputError where they are none."""
    if not _NUMBERS.fullmatch(text):
        raise InputError("frames are numbers from 1, separated by commas, e.g. /frames/1,2")
    numbers = [int(part) for part in text.split(",")]
    if min(numbers) < 1 or len(numbers) > MOST:
        raise InputError(f"frames are numbered from 1, and at most {MOST} are given at once")
    return numbers


def check(instance: Instance, numbers: Sequence[int]) -> None:
    """Raise NotFound where the instance has no such frames."""
    count = max(instance.frames, 1) if instance.has_pixels else 0
    missing = [number for number in numbers if number > count]
    if missing:
        raise NotFound(f"there is no frame {missing[0]}: this instance has {count}")


def answer(instance: Instance, numbers: Sequence[int]) -> Response:
    """Frames in the form the client prefers."""
    check(instance, numbers)
    form = _form(instance.transfer_syntax_uid, len(numbers))
    sandbox, address = service().tools.sandbox, negotiate.address(instance)
    data, syntax = sandbox.frame(instance, numbers[0], form.decoded)  # an error of the first becomes an answer
    first = bytes(data), syntax
    name = f"{instance.sha256} {form} {numbers}"

    def media(syntax: str) -> str:
        return f"{form.media}; transfer-syntax={syntax}"

    if not form.multipart:
        response = Response(first[0], content_type=media(first[1]))
        response.headers["Content-Location"] = f"{address}/frames/{numbers[0]}"
        return private(response, name, complete=len(first[0]))

    def parts() -> Iterator[tuple[dict[str, str], Iterable[bytes]]]:
        for place, number in enumerate(numbers):
            data, syntax = first if place == 0 else sandbox.frame(instance, number, form.decoded)
            yield {"Content-Type": media(syntax), "Content-Location": f"{address}/frames/{number}"}, [bytes(data)]

    return private(multipart.respond(parts(), form.media), name, weak=True)


def _form(syntax: str, count: int) -> Form:
    """The first form that is accepted and can be given.

    Raises
    ------
    NotAcceptable
    """
    stored = COMPRESSED.get(syntax)
    for wanted in negotiate.accepted():
        several = wanted.multipart is not False
        if not several and count > 1:
            continue
        as_stored = wanted.syntax in (ANY, syntax)
        if stored is not None and as_stored and (wanted.takes(stored, several) or wanted.takes(OCTETS, several)):
            return Form(stored, False, several)
        if wanted.takes(OCTETS, several) and wanted.syntax in ("", ANY, EXPLICIT_LITTLE):
            return Form(OCTETS, True, several)
        if stored is not None and wanted.takes(stored, several) and wanted.syntax == "":
            return Form(stored, False, several)
    offers = [OCTETS, *([f"{stored}; transfer-syntax={syntax}"] if stored else [])]
    raise negotiate.not_acceptable(
        [f'multipart/related; type="{offer}"' for offer in offers] + (offers if count == 1 else [])
    )
