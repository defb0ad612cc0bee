"""Multipart bodies read byte for byte, in pieces of any size, and hostile ones refused."""

from __future__ import annotations

import errno
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.errors import InputError, NoSpace, TooLarge
from service.http.dicomweb import multipart

Read = Callable[..., list[tuple[dict[str, str], bytes]]]


class Drip(io.BytesIO):
    """A stream that gives at most so many bytes at once."""

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__(data)
        self.most = most

    def read(self, count: int | None = -1) -> bytes:
        return super().read(self.most if count is None or count < 0 else min(count, self.most))


@pytest.fixture
def read(tmp_path: Path) -> Read:
    numbers = iter(range(1000))

    def parse(body: bytes, mark: bytes = b"B0", most: int = 50, piece: int = 1 << 20) -> Any:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        found = multipart.read(Drip(body, piece), mark, folder, most)
        return [(part.fields, part.path.read_bytes()) for part in found]

    return parse


CONTENTS = [b"", b"\r\n", b"\r", b"\n", b"\n\r\n\r", b"a\r\n", b"\r\n--", b"\r\n--B", b"\r\n--B0x\r\n", b"x--B0\r\n",
            b"\n--B0\r\n", b"\r\n--B0--x", b"\r\n --B0\r\n", bytes(range(256)) * 300, b"x" * 65533 + b"\r\n",
            b"\r\n" * 40000]  # fmt: skip


@pytest.mark.parametrize("piece", [1, 2, 5, 1 << 16])
@pytest.mark.parametrize("content", CONTENTS, ids=range(len(CONTENTS)))
def test_content_survives_byte_for_byte(read: Read, content: bytes, piece: int) -> None:
    if piece == 1 and len(content) > 5000:
        content = content[-5000:]
    body = b"--B0\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--B0\r\n\r\nsecond\r\n--B0--\r\n"
    assert read(body, piece=piece) == [({"content-type": "application/dicom"}, content), ({}, b"second")]


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_preamble_epilogue_padding_and_folded_headers(read: Read, piece: int) -> None:
    body = (
        b"preamble\r\n--B0x\r\nmore\r\n--B0 \t \r\nContent-Type: application/dicom;\r\n  transfer-syntax=1.2\r\nX-A:b\r\n\r\none"
        b"\r\n--B0--  \r\nepilogue\r\n--B0\r\n\r\nnot a part\r\n--B0--"
    )
    assert read(body, piece=piece) == [({"content-type": "application/dicom; transfer-syntax=1.2", "x-a": "b"}, b"one")]


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\n", b" \r\n", b"\r\nepilogue"])
def test_the_close_delimiter_may_end_in_any_usual_way(read: Read, end: bytes) -> None:
    assert read(b"--B0\r\n\r\nx\r\n--B0--" + end) == [({}, b"x")]


def test_a_nested_multipart_is_content(read: Read) -> None:
    inner = b"--B01\r\nContent-Type: application/dicom\r\n\r\nx\r\n--B01--\r\n"
    body = b'--B0\r\nContent-Type: multipart/related; boundary="B01"\r\n\r\n' + inner + b"\r\n--B0--\r\n"
    assert read(body) == [({"content-type": 'multipart/related; boundary="B01"'}, inner)]


@pytest.mark.parametrize(
    "mark", ["B0", "a=b/c:d?e", "----WebKitFormBoundary7MA4YWxkTrZu0gW", "0" * 73, "with space.in"]
)
def test_boundaries_of_rfc_2046_and_of_orthanc_are_taken(read: Read, mark: str) -> None:
    text = mark.encode()
    assert read(b"--" + text + b"\r\n\r\nx\r\n--" + text + b"--", multipart.boundary(mark)) == [({}, b"x")]


@pytest.mark.parametrize("mark", [None, "", "0" * 201, "ends with ", "new\nline", "ü", 'quo"te', "a\r\nb"])
def test_other_boundaries_are_refused(mark: str | None) -> None:
    with pytest.raises(InputError, match="boundary"):
        multipart.boundary(mark)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "does not have the boundary"),
        (b"just text", "does not have the boundary"),
        (b"--B1\r\n\r\nx\r\n--B1--", "does not have the boundary"),
        (b"--B0\r\n\r\nx", "cut off"),
        (b"--B0\r\n\r\nx\r\n--B0", "cut off"),
        (b"--B0\r\n\r\nx\r\n--B0\r\n", "cut off"),
        (b"--B0\r\n\r\nx\r\n--B0-", "cut off"),
        (b"--B0\r\nContent-Type: a", "cut off"),
        (b"--B0\nContent-Type: a/b\n\nx\n--B0--\n", "does not have the boundary"),
        (b"--B0\r\n--B0\r\n\r\nx\r\n--B0--", "Name: value"),
        (b"--B0\r\nno colon\r\n\r\nx\r\n--B0--", "Name: value"),
        (b"--B0\r\nna me: x\r\n\r\nx\r\n--B0--", "Name: value"),
        (b"--B0\r\nA: " + b"x" * 20000 + b"\r\n\r\nx\r\n--B0--", "16384 bytes"),
        (b"--B0\r\n" + b"A: b\r\n" * 100_000 + b"\r\nx\r\n--B0--", "16384 bytes"),
    ],
)
def test_broken_bodies_are_refused(read: Read, body: bytes, text: str) -> None:
    with pytest.raises(InputError, match=text) as caught:
        read(body)
    assert caught.value.status == 400


def test_no_parts_at_all(read: Read) -> None:
    assert read(b"--B0--\r\n") == []


def test_a_hundred_thousand_empty_parts_are_refused_early(read: Read, tmp_path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(TooLarge, match="more than 50 parts"):
        read(b"--B0\r\n\r\n\r\n" * 100_000 + b"--B0--")
    assert time.monotonic() - begin < 30
    assert len(list(tmp_path.glob("*/*"))) == 50
    assert len(read(b"--B0\r\n\r\n\r\n" * 50 + b"--B0--")) == 50


@pytest.mark.parametrize("filling", [b"\r\n--B0x", b"\r\n--B0" + b" " * 300, b"\r\n" * 4, b"\r\n--B0--x"])
def test_near_delimiters_do_not_slow_it_down(read: Read, filling: bytes) -> None:
    content = filling * ((4 << 20) // len(filling))
    begin = time.monotonic()
    assert read(b"--B0\r\n\r\n" + content + b"\r\n--B0--")[0][1] == content
    assert time.monotonic() - begin < 40


def test_a_full_disk_is_no_space(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(multipart.os, "fsync", full)
    with pytest.raises(NoSpace):
        read(b"--B0\r\n\r\nx\r\n--B0--")


def test_a_written_body_is_read_back(read: Read) -> None:
    contents = [b"\r\n--x\r\n", b"", b"abc\r\n"]
    response = multipart.respond((({"Content-Type": "a/b"}, [c[:2], c[2:]]) for c in contents), "a/b")
    kind, _, mark = response.content_type.partition("; boundary=")
    assert kind == 'multipart/related; type="a/b"'
    found = read(response.get_data(), mark.strip('"').encode())
    assert found == [({"content-type": "a/b"}, content) for content in contents]
