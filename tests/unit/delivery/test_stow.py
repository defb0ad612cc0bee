"""STOW-RS: every byte arrives, and every answer ends in an outcome for every object."""

from __future__ import annotations

import base64
import email.parser
import email.policy
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from service.delivery import stow
from service.delivery.attempt import GiveUp, Outcome, Outgoing, Sent, TryAgain
from tests.orthanc import free_port
from tests.unit.delivery.conftest import Archive, Certificates, Request, Site, destination, outgoing, reply

JSON = {"Content_Type": "application/dicom+json"}


def send(url: str, *objects: Outgoing, **more: Any) -> tuple[Outcome, ...]:
    return stow.send(destination(**{"kind": "stow", "url": url, "timeout_s": 20, **more}), objects)  # type: ignore[arg-type]


def module(
    stored: dict[str, int | None] | None = None, failed: dict[str, int | None] | None = None, wrap: bool = False
) -> bytes:
    """A Store Instances Response Module (PS3.18 table I.2-1)."""

    def items(found: dict[str, int | None], reason: str) -> dict[str, Any]:
        return {
            "vr": "SQ",
            "Value": [
                {
                    "00081150": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.88.34"]},
                    "00081155": {"vr": "UI", "Value": [uid]},
                    **({reason: {"vr": "US", "Value": [number]}} if number is not None else {}),
                }
                for uid, number in found.items()
            ],
        }

    root: dict[str, Any] = {}
    if stored:
        root["00081199"] = items(stored, "00081196")
    if failed:
        root["00081198"] = items(failed, "00081197")
    return json.dumps([root] if wrap else root).encode()


def parts(request: Request) -> list[bytes]:
    """The parts, cut by hand: the standard library's parser is for text."""
    kind = request.headers["Content-Type"]
    message = email.parser.HeaderParser(policy=email.policy.HTTP).parsestr(f"Content-Type: {kind}\r\n\r\n")
    assert message.get_content_type() == "multipart/related"
    assert message["Content-Type"].params["type"] == "application/dicom"
    boundary = message["Content-Type"].params["boundary"].encode()
    assert re.fullmatch(rb"[A-Za-z0-9'()+_,./:=?-]{1,70}", boundary)
    body = request.body
    assert body.startswith(b"--" + boundary + b"\r\n") and body.endswith(b"\r\n--" + boundary + b"--\r\n")
    inner = body[len(boundary) + 4 : -len(boundary) - 8].split(b"\r\n--" + boundary + b"\r\n")
    found = []
    for part in inner:
        head, _, content = part.partition(b"\r\n\r\n")
        assert head == b"Content-Type: application/dicom"
        found.append(content)
    return found


def test_what_is_sent(site: Callable[..., Site], tmp_path: Path) -> None:
    found = site(reply(200, module()))
    objects = [outgoing(), outgoing(folder=tmp_path, padding=300_001), outgoing(kind="KOS", folder=tmp_path)]
    assert send(found.url + "/dw/", *objects) == (Sent(), Sent(), Sent())
    (request,) = found.requests
    assert request.path == "/dw/studies"
    assert request.headers["Accept"] == "application/dicom+json"
    assert request.headers["Content-Length"] == str(len(request.body)) and "Transfer-Encoding" not in request.headers
    assert "Authorization" not in request.headers
    expected = [e.content if isinstance(e.content, bytes) else e.content.read_bytes() for e in objects]
    assert parts(request) == expected
    assert all(content.endswith(b"\r\n\r\n") for content in expected)


def test_boundaries_differ() -> None:
    assert stow.Multipart([]).boundary != stow.Multipart([]).boundary


def test_read_in_small_steps(tmp_path: Path) -> None:
    objects = [outgoing(), outgoing(folder=tmp_path)]
    body = stow.Multipart(objects)
    found = b"".join(iter(lambda: body.read(7), b""))
    assert len(found) == body.length and body.read(7) == b""


@pytest.mark.parametrize(
    ("keys", "header", "expected"),
    [
        ({"token": "t" * 20}, "Authorization", "Bearer " + "t" * 20),
        (
            {"username": "mé", "password": "p:w"},
            "Authorization",
            "Basic " + base64.b64encode("mé:p:w".encode()).decode(),
        ),
        ({"headers": {"X-Api-Key": "k"}}, "X-Api-Key", "k"),
    ],
)
def test_credentials(site: Callable[..., Site], keys: dict[str, Any], header: str, expected: str) -> None:
    found = site(reply(200))
    assert send(found.url, outgoing(), **keys) == (Sent(),)
    assert found.requests[0].headers[header] == expected


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_credentials_do_not_follow_a_redirect(site: Callable[..., Site], status: int) -> None:
    other = site(reply(200))
    (outcome,) = send(site(reply(status, Location=other.url)).url, outgoing(), token="t" * 20)
    assert isinstance(outcome, TryAgain) and "set url to the final address" in outcome.reason
    assert not other.requests


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, Sent),
        *((status, TryAgain) for status in (201, 202, 204, 400, 401, 403, 404, 405, 406, 408, 409, 422, 429)),
        *((status, TryAgain) for status in (500, 502, 503, 507)),
        (413, GiveUp),
        (415, GiveUp),
    ],
)
def test_status_without_words(site: Callable[..., Site], status: int, kind: type) -> None:
    (outcome,) = send(site(reply(status)).url, outgoing())
    assert type(outcome) is kind
    assert isinstance(outcome, Sent) or f"HTTP {status}" in outcome.reason


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (0xA700, TryAgain),
        (0x0110, TryAgain),
        (0x0122, TryAgain),
        (0x0124, TryAgain),
        (0x0111, Sent),
        (0xA900, GiveUp),
        (0xC000, GiveUp),
        (0xC122, GiveUp),
        (None, TryAgain),
    ],
)
def test_failure_reason(site: Callable[..., Site], reason: int | None, kind: type) -> None:
    entry = outgoing()
    (outcome,) = send(site(reply(409, module(failed={entry.sop_instance_uid: reason}), **JSON)).url, entry)
    assert type(outcome) is kind


def test_some_stored(site: Callable[..., Site]) -> None:
    objects = [outgoing() for _ in range(5)]
    uids = [entry.sop_instance_uid for entry in objects]
    body = module({uids[0]: None, uids[1]: 0xB000}, {uids[2]: 0xA700, uids[3]: 0xC000}, wrap=True)
    first, second, third, fourth, fifth = send(site(reply(202, body, Retry_After="7", **JSON)).url, *objects)
    assert first == Sent()
    assert isinstance(second, Sent) and "0xB000" in second.detail
    assert isinstance(third, TryAgain) and third.after_s == 7 and "0xA700" in third.reason
    assert isinstance(fourth, GiveUp) and "0xC000" in fourth.reason
    assert isinstance(fifth, TryAgain) and "did not say whether this one" in fifth.reason


def test_words_go_before_status(site: Callable[..., Site]) -> None:
    good, bad = outgoing(), outgoing()
    body = module({good.sop_instance_uid: None}, {bad.sop_instance_uid: 0xA900})
    assert [type(o) for o in send(site(reply(200, body)).url, good, bad)] == [Sent, GiveUp]


@pytest.mark.parametrize("status", [429, 503, 507])
def test_retry_after(site: Callable[..., Site], status: int) -> None:
    (outcome,) = send(site(reply(status, Retry_After="33")).url, outgoing())
    assert isinstance(outcome, TryAgain) and outcome.after_s == 33


def test_too_large_together_is_sent_one_by_one(site: Callable[..., Site]) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        reply(413 if int(handler.headers["Content-Length"]) > 50_000 else 200)(handler)

    found = site(answer)
    outcomes = send(found.url, outgoing(padding=30_000), outgoing(padding=30_000), outgoing(padding=60_000))
    assert [type(outcome) for outcome in outcomes] == [Sent, Sent, GiveUp]
    assert len(found.requests) == 4


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"<html>",
        b"[" * 100_000,
        b"null",
        b"[]",
        b"3",
        b'{"00081199": 1}',
        b'{"00081199": {"Value": {}}}',
        b'{"00081199": {"Value": [1, {"00081155": {"Value": [{}]}}]}}',
        b'{"00081198": {"Value": [{"00081155": {"Value": [true]}, "00081197": {"Value": ["x"]}}]}}',
    ],
)
def test_unreadable_answers(site: Callable[..., Site], body: bytes) -> None:
    assert send(site(reply(200, body, **JSON)).url, outgoing()) == (Sent(),)
    (outcome,) = send(site(reply(409, body, **JSON)).url, outgoing())
    assert isinstance(outcome, TryAgain)


def test_huge_answer_is_not_read(site: Callable[..., Site]) -> None:
    entry = outgoing()
    body = module(failed={entry.sop_instance_uid: 0xC000}) + b" " * (stow.LARGEST_ANSWER + 1)
    (outcome,) = send(site(reply(409, body)).url, entry)
    assert isinstance(outcome, TryAgain)


def test_encoded_answer_is_not_expanded(site: Callable[..., Site]) -> None:
    entry = outgoing()
    body = module(failed={entry.sop_instance_uid: 0xC000})
    found = site(reply(409, body, Content_Encoding="gzip"))
    (outcome,) = send(found.url, entry)
    assert isinstance(outcome, TryAgain)
    assert found.requests[0].headers["Accept-Encoding"] == "identity"


def test_texts_of_the_server_are_not_repeated(site: Callable[..., Site]) -> None:
    found = send(site(reply(500, b"cannot store Doe^Jane")).url, outgoing())
    assert "Doe" not in str(found)


def test_slow_server(site: Callable[..., Site]) -> None:
    given_up = threading.Event()

    def wait(handler: BaseHTTPRequestHandler) -> None:
        given_up.wait(60)
        reply(200)(handler)

    began = time.monotonic()
    assert send(site(wait).url, outgoing(), timeout_s=0.5) == (TryAgain("no answer within 0.5 s"),)
    assert time.monotonic() - began < 30
    given_up.set()


def test_stalled_upload(silent: int) -> None:
    """A peer that takes the connection and reads nothing: the buffers fill, then the time is over."""
    began = time.monotonic()
    (outcome,) = send(f"http://127.0.0.1:{silent}", outgoing(padding=40_000_000), timeout_s=1)
    assert isinstance(outcome, TryAgain)
    assert time.monotonic() - began < 60


def test_reset_and_refused(site: Callable[..., Site]) -> None:
    def hang_up(handler: BaseHTTPRequestHandler) -> None:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        handler.connection.close()

    for url in (site(hang_up).url, f"http://127.0.0.1:{free_port()}"):
        assert [type(o) for o in send(url, outgoing(), outgoing())] == [TryAgain, TryAgain]


def test_lost_file(site: Callable[..., Site], tmp_path: Path) -> None:
    lost, there = outgoing(folder=tmp_path), outgoing()
    assert isinstance(lost.content, Path)
    lost.content.unlink()
    found = site(reply(200))
    outcomes = send(found.url, there, lost)
    assert [type(outcome) for outcome in outcomes] == [Sent, GiveUp]
    assert str(tmp_path) not in str(outcomes)
    assert parts(found.requests[0]) == [there.content]
    assert isinstance(send(found.url, lost)[0], GiveUp) and len(found.requests) == 1


def test_tls(site: Callable[..., Site], certificates: Certificates) -> None:
    found = site(reply(200), certificates.server())
    assert send(found.url, outgoing(), ca_file=certificates.file("ca.pem"), token="t" * 20) == (Sent(),)
    (outcome,) = send(found.url, outgoing(), token="t" * 20)
    assert isinstance(outcome, TryAgain) and "not trusted" in outcome.reason
    assert len(found.requests) == 1


def test_orthanc_stores_the_same_bytes(archive: Archive, tmp_path: Path) -> None:
    objects = [outgoing(), outgoing(folder=tmp_path), outgoing(kind="KOS", padding=200_000)]
    assert send(archive.orthanc.dicomweb, *objects, timeout_s=60) == (Sent(), Sent(), Sent())
    for entry in objects:
        expected = entry.content if isinstance(entry.content, bytes) else entry.content.read_bytes()
        assert archive.orthanc.file(entry.sop_instance_uid) == expected
    found = archive.orthanc.get("/dicom-web/instances?PatientID=P1&StudyInstanceUID=2.25.11")
    assert {entry.sop_instance_uid for entry in objects} <= {item["00080018"]["Value"][0] for item in found}
    assert send(archive.orthanc.dicomweb, *objects, timeout_s=60) == (Sent(), Sent(), Sent()), "again is no error"


def test_orthanc_refuses_what_is_no_dicom(archive: Archive) -> None:
    broken = Outgoing("SR", "1.2.840.10008.5.1.4.1.1.88.34", "2.25.77", b"not DICOM at all")
    (outcome,) = send(archive.orthanc.dicomweb, broken, timeout_s=60)
    assert not isinstance(outcome, Sent)
