"""STOW-RS as an origin of objects (PS3.18 section 10.5): one multipart/related request, streamed, every byte as stored."""

from __future__ import annotations

import base64
import io
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import IO, Any

from service.delivery import web
from service.delivery.attempt import GiveUp, Outcome, Outgoing, Sent, TryAgain, gone, of_status
from service.delivery.destinations import Stow

LARGEST_ANSWER = 1 << 20
REFERENCED, FAILED = "00081199", "00081198"
INSTANCE, WARNING_REASON, FAILURE_REASON = "00081155", "00081196", "00081197"

_FIXABLE = {
    400: "the request was not understood: check url",
    401: "the credentials are not accepted: check token, or username and password",
    403: "storing is not allowed with these credentials",
    404: "there is no store service at this address: check url",
    405: "there is no store service at this address: check url",
    407: "the proxy asks for credentials",
    507: "no room there",
}


class Multipart:
    """The body of the request, read part by part; nothing is held in memory but what is being sent.

    The boundary is 128 random bits drawn after the payload was written, so the payload cannot hold it.

    Raises
    ------
    OSError
        Where an object's file is gone.
    """

    def __init__(self, objects: Sequence[Outgoing]) -> None:
        self.boundary = f"pellucid-{secrets.token_hex(16)}"
        head = f"--{self.boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode("ascii")
        tail = f"\r\n--{self.boundary}--\r\n".encode("ascii")
        self.length = sum(len(head) + entry.size() for entry in objects) + 2 * (len(objects) - 1) + len(tail)
        self._sources = self._pieces(objects, head, tail)
        self._current: IO[bytes] = io.BytesIO()

    @staticmethod
    def _pieces(objects: Sequence[Outgoing], head: bytes, tail: bytes) -> Iterator[IO[bytes]]:
        for number, entry in enumerate(objects):
            yield io.BytesIO((b"\r\n" if number else b"") + head)
            yield io.BytesIO(entry.content) if isinstance(entry.content, bytes) else entry.content.open("rb")
        yield io.BytesIO(tail)

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; empty at the end."""
        while True:
            if chunk := self._current.read(size):
                return chunk
            self._current.close()
            following = next(self._sources, None)
            self._current = following or io.BytesIO()
            if following is None:
                return b""

    def close(self) -> None:
        """Close the file that is being read."""
        self._current.close()


def send(destination: Stow, objects: Sequence[Outgoing]) -> tuple[Outcome, ...]:
    """Store objects with one request, one outcome each, in their order.

    Where the server finds the request too large, the objects are sent one by one.

    Parameters
    ----------
    destination : Stow
    objects : sequence of Outgoing
    """
    present: list[Outgoing] = []
    lost: dict[int, Outcome] = {}
    for position, entry in enumerate(objects):
        try:
            entry.size()
            present.append(entry)
        except OSError:
            lost[position] = gone(entry)
    found = iter(_store(destination, present) if present else ())
    return tuple(lost[position] if position in lost else next(found) for position in range(len(objects)))


def _store(destination: Stow, objects: Sequence[Outgoing]) -> tuple[Outcome, ...]:
    body = Multipart(objects)
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={body.boundary}',
        "Content-Length": str(body.length),
        "Accept": "application/dicom+json",
        **_credentials(destination),
    }
    try:
        answer = web.post(destination, destination.studies, body, headers, LARGEST_ANSWER)
    finally:
        body.close()
    if isinstance(answer, TryAgain):
        return (answer,) * len(objects)
    if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and len(objects) > 1:
        return tuple(_store(destination, [entry])[0] for entry in objects)
    return outcomes(answer, [entry.sop_instance_uid for entry in objects])


def _credentials(destination: Stow) -> dict[str, str]:
    headers = dict(destination.headers)
    if destination.token:
        headers["Authorization"] = f"Bearer {destination.token}"
    elif destination.username:
        pair = f"{destination.username}:{destination.password}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode('ascii')}"
    return headers


def outcomes(answer: web.Answer, instances: Sequence[str]) -> tuple[Outcome, ...]:
    """What the answer means for each instance (PS3.18 sections 10.5.3 and I.2).

    What the answer says about an instance goes before its status: some servers answer 200 although one failed.

    Parameters
    ----------
    answer : Answer
    instances : sequence of str
        SOP Instance UIDs, in the order of the result.
    """
    listed = _listed(answer) if answer.status in (200, 202, 400, 409) else {}
    whole = _of_status_line(answer)
    return tuple(listed.get(uid, whole) for uid in instances)


def _of_status_line(answer: web.Answer) -> Outcome:
    """For an instance that the answer does not mention."""
    status = answer.status
    shown = f"HTTP {status}"
    if status == HTTPStatus.OK:
        return Sent()
    if status in (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE):
        return GiveUp(f"{shown}: the server refuses this object, by its size or its media type")
    if status == HTTPStatus.ACCEPTED:
        why = "stored some objects and did not say whether this one"
    elif status == HTTPStatus.CONFLICT:
        why = "stored nothing and did not say why"
    elif 200 <= status < 300:
        why = "this is no answer of a store service: check url"
    elif 300 <= status < 400:
        why = "the server redirects, which is not followed: set url to the final address"
    else:
        why = _FIXABLE.get(status, "the server cannot store now" if status >= 500 or status == 429 else "not stored")
    return TryAgain(f"{shown}: {why}", answer.retry_after_s)


def _listed(answer: web.Answer) -> dict[str, Outcome]:
    """Outcome of each instance that the Store Instances Response Module names (PS3.18 table I.2-1); empty if unreadable."""
    try:
        root = json.loads(answer.body or b"")
    except (ValueError, RecursionError):
        return {}
    if isinstance(root, list) and len(root) == 1:
        root = root[0]
    found: dict[str, Outcome] = {}
    for item in _items(root, REFERENCED):
        warning = _number(item, WARNING_REASON)
        if uid := _value(item, INSTANCE):
            found[uid] = Sent(f"STOW-RS warning 0x{warning:04X}") if warning else Sent()
    for item in _items(root, FAILED):
        if uid := _value(item, INSTANCE):
            reason = _number(item, FAILURE_REASON)
            outcome = of_status(reason, "STOW-RS") if reason else TryAgain("STOW-RS: not stored, without a reason")
            if isinstance(outcome, TryAgain):
                outcome = TryAgain(outcome.reason, answer.retry_after_s)
            found[uid] = outcome
    return found


def _items(dataset: Any, tag: str) -> list[Mapping[str, Any]]:
    element = dataset.get(tag) if isinstance(dataset, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return [item for item in values if isinstance(item, dict)] if isinstance(values, list) else []


def _value(dataset: Mapping[str, Any], tag: str) -> str:
    element = dataset.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    if isinstance(values, list) and values and isinstance(values[0], (str, int)) and not isinstance(values[0], bool):
        return str(values[0])
    return ""


def _number(dataset: Mapping[str, Any], tag: str) -> int:
    text = _value(dataset, tag)
    return int(text) & 0xFFFF if text.isdecimal() and len(text) < 10 else 0
