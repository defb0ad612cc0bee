"""multipart/related bodies (RFC 2046 5.1, RFC 2387): read to the disk byte for byte, and written as a stream.

Parts of web forms need a name, parts of DICOMweb have none, so the parsers made for forms cannot be used here.
"""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from flask import Response
from werkzeug.wsgi import ClosingIterator

from service.errors import InputError, NoSpace, TooLarge

CHUNK = 1 << 16
HEADER_BYTES = 16 << 10
"""Largest header block of one part."""
PADDING_BYTES = 256
"""Longest white space after a delimiter."""
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,199}[0-9A-Za-z'()+_,./:=?-]")
"""RFC 2046 allows 70 characters; Orthanc sends 73."""
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PADDING = b" \t"


@dataclass(frozen=True)
class Part:
    """One part of a body: its header fields by lower-case name, and the file its content was written to."""

    fields: dict[str, str]
    path: Path


def boundary(text: str | None) -> bytes:
    """The boundary parameter of a Content-Type as bytes; InputError when it is missing or malformed."""
    if text is None or not _BOUNDARY.fullmatch(text):
        raise InputError("Content-Type needs a boundary of at most 200 characters (RFC 2046 5.1.1)")
    return text.encode("ascii")


def save(stream: IO[bytes], path: Path, first: bytes = b"") -> None:
    """Write a whole stream to a new file, on the disk for good at the end."""
    with _File(path) as file:
        file.write(first)
        while data := stream.read(CHUNK):
            file.write(data)


def read(stream: IO[bytes], mark: bytes, folder: Path, most: int) -> list[Part]:
    """Write the parts of a body to files in a folder.

    Parameters
    ----------
    stream : binary stream
        From the first byte of the body to its end.
    mark : bytes
        The boundary.
    folder : Path
    most : int
        Parts that are accepted.

    Raises
    ------
    InputError
        No delimiter, no closing delimiter, malformed or oversized part headers.
    TooLarge
        More parts.
    NoSpace
        The disk is full.
    """
    return list(_Reader(stream, mark).parts(folder, most))


class _File:
    """A file being written; its content is on the disk when it is closed. A full disk is NoSpace."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("xb")

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *failed: object) -> None:
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise _full(error) from error
        finally:
            self._stream.close()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._stream.write(data)
        except OSError as error:
            raise _full(error) from error


def _full(error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace("the disk ran full while the body was received; nothing was kept, send it again later")
    return error


class _Reader:
    """The bytes that are looked at: a buffer that begins where the parser is."""

    def __init__(self, stream: IO[bytes], mark: bytes) -> None:
        self._stream, self._delimiter = stream, b"\r\n--" + mark
        self._buffer = bytearray(b"\r\n")  # a delimiter may be the very first line
        self._ended, self._skip = False, 0

    def parts(self, folder: Path, most: int) -> Iterator[Part]:
        if self._content(None) == "close":
            return
        for number in range(1, most + 1):
            fields = self._fields()
            path = folder / f"{number:05d}"
            with _File(path) as file:
                following = self._content(file)
            yield Part(fields, path)
            if following == "close":
                return
        raise TooLarge(f"the body has more than {most} parts; send it as several requests")

    def _more(self) -> bool:
        """Read on; False at the end of the body."""
        data = b"" if self._ended else self._stream.read(CHUNK)
        self._ended = not data
        self._buffer += data
        return not self._ended

    def _content(self, file: _File | None) -> Literal["next", "close"]:
        """Move everything up to the next delimiter into the file. Afterwards the buffer begins with the end of its line."""
        self._skip = 2  # the line end before the content, which may already belong to the delimiter
        start = 0
        while True:
            at = self._buffer.find(self._delimiter, start)
            if at < 0:
                self._flush(file, len(self._buffer) - min(len(self._buffer), len(self._delimiter) - 1))
                start = 0
                if not self._more():
                    raise InputError(
                        "the multipart body ends without its closing boundary: it was cut off; nothing was kept, send it again"
                        if file is not None
                        else "the body does not have the boundary that its Content-Type announces; nothing was kept"
                    )
                continue
            kind, end = self._line(at + len(self._delimiter))
            if kind == "content":
                start = at + 2
                continue
            self._flush(file, at)
            del self._buffer[: end - at]
            return kind

    def _flush(self, file: _File | None, count: int) -> None:
        """Hand over the first bytes of the buffer."""
        if file is not None:
            with memoryview(self._buffer) as view, view[self._skip : count] as content:
                file.write(content)
        del self._buffer[:count]
        self._skip = max(0, self._skip - count)

    def _line(self, at: int) -> tuple[Literal["next", "close", "content"], int]:
        """What the rest of a line makes of it that begins like a delimiter, and where the line's end begins.

        A longer boundary that begins with ours, and anything else behind it, is content.
        """
        while len(self._buffer) < at + PADDING_BYTES and self._more():
            pass
        closing = self._buffer[at : at + 2] == b"--"
        end = at + 2 if closing else at
        while end < min(len(self._buffer), at + PADDING_BYTES) and self._buffer[end] in _PADDING:
            end += 1
        rest = bytes(self._buffer[end : end + 2])
        if rest == b"\r\n" or (closing and rest[:1] in (b"", b"\r", b"\n")):
            return ("close" if closing else "next"), end
        return "content", at

    def _fields(self) -> dict[str, str]:
        """The header fields of a part. The buffer begins with the end of the delimiter's line, then with the blank one's."""
        while (end := self._buffer.find(b"\r\n\r\n", 0, HEADER_BYTES)) < 0:
            if len(self._buffer) >= HEADER_BYTES:
                raise InputError(
                    f"the header of a part does not end within {HEADER_BYTES} bytes; lines end with CR LF (RFC 2046 5.1.1)"
                )
            if not self._more():
                raise InputError("the multipart body ends in the header of a part: it was cut off; send it again")
        block = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        found: dict[str, str] = {}
        for line in re.sub(rb"\r\n[ \t]+", b" ", block[2:]).split(b"\r\n") if len(block) > 2 else ():
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not _FIELD_NAME.fullmatch(name):
                raise InputError('the header of a part holds a line that is not "Name: value" (RFC 5322)')
            found[name.lower()] = value.strip(" \t")
        return found


def respond(
    parts: Iterable[tuple[dict[str, str], Iterable[bytes]]], media: str, close: Callable[[], None] = lambda: None
) -> Response:
    """A body of parts, sent as they come; `media` is the type of its parts, `close` is called when it is sent or given up."""
    mark = f"part.{uuid.uuid4().hex}"

    def stream() -> Iterator[bytes]:
        opening = b""
        for fields, content in parts:
            lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            yield opening + f"--{mark}\r\n{lines}\r\n".encode("latin-1")
            yield from content
            opening = b"\r\n"
        yield opening + f"--{mark}--\r\n".encode()

    return Response(
        ClosingIterator(stream(), close), content_type=f'multipart/related; type="{media}"; boundary="{mark}"'
    )
