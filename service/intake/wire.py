"""What goes through the pipe between the service and a decoding child: a length-prefixed JSON header, then raw bytes.

A message is ``>IQ`` (bytes of the header, bytes of the payload), the header as UTF-8 JSON, the payload.
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

PREFIX = struct.Struct(">IQ")
HEADER_BYTES = 64 << 10
"""Largest header that either side accepts."""


def head(header: dict[str, Any], payload_bytes: int = 0) -> bytes:
    """Everything of a message but its payload."""
    text = json.dumps(header, separators=(",", ":")).encode()
    return PREFIX.pack(len(text), payload_bytes) + text


def lengths(prefix: bytes | bytearray, payload_limit: int) -> tuple[int, int]:
    """Bytes of header and payload that a prefix announces.

    Raises
    ------
    ValueError
        When one is larger than allowed.
    """
    header_bytes, payload_bytes = PREFIX.unpack(prefix)
    if not 2 <= header_bytes <= HEADER_BYTES or payload_bytes > payload_limit:
        raise ValueError(f"message of {header_bytes} + {payload_bytes} bytes")
    return header_bytes, payload_bytes


def header(text: bytes | bytearray) -> dict[str, Any]:
    """The header as a mapping; ValueError for anything else."""
    return mapping(text)


def mapping(text: bytes | bytearray) -> dict[str, Any]:
    """A JSON object; ValueError for anything else, however deep it is nested."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("JSON is nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("JSON is not an object")
    return value


def receive(stream: BinaryIO) -> dict[str, Any] | None:
    """The next request on the child's side; None at the end of the stream. Requests have no payload."""
    prefix = stream.read(PREFIX.size)
    if len(prefix) < PREFIX.size:
        return None
    return header(stream.read(lengths(prefix, 0)[0]))
