"""The bytes of a DICOM instance: file meta information, inflation under a cap, and where the pixels lie. Child only.

The file meta information is walked here and the data set is handed to pydicom's `read_dataset`, so that a deflated data
set is inflated under a cap and large elements are skipped. Sources: PS3.10 7.1, PS3.5 7.1, 7.5 and A.4 - A.5.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from pydicom import uid

from service.errors import InputError, TooLarge
from service.intake import elements
from service.intake.limits import Limits

UNDEFINED = 0xFFFFFFFF
FIRST_PIXEL_TAG = 0x7FE00008
PIXEL_KEYWORDS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
CUT_OFF = "its DICOM header ends in the middle of an element: it is incomplete; send it again"
_ITEM, _END_OF_SEQUENCE = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_FRAGMENTS = 1 << 16
_LONG_LENGTH = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")


@dataclass(frozen=True)
class Body:
    """A data set, inflated where it was deflated: `stream` from byte `start` to byte `size`."""

    stream: BinaryIO
    start: int
    size: int
    transfer_syntax: uid.UID

    @property
    def big(self) -> bool:
        return self.transfer_syntax == uid.ExplicitVRBigEndian

    @property
    def implicit(self) -> bool:
        return self.transfer_syntax == uid.ImplicitVRLittleEndian


@dataclass(frozen=True)
class PixelData:
    """Where the pixels are in the (inflated) stream: the value of the element `keyword`."""

    offset: int
    length: int
    encapsulated: bool
    keyword: str
    words: bool
    """Whether the value is words of 16 bits (VR OW), which big endian swaps though a sample may have 8."""


def open_body(stream: BinaryIO, limits: Limits) -> Body:
    """Read the file meta information and inflate what is deflated.

    Raises
    ------
    InputError, TooLarge
        Truncated, malformed or more than `limits` allows.
    """
    size = stream.seek(0, os.SEEK_END)
    transfer_syntax, at = _meta(stream, size)
    stream.seek(at)
    if transfer_syntax == uid.DeflatedExplicitVRLittleEndian:
        stream, at = _inflate(stream, limits), 0
        size = stream.seek(0, os.SEEK_END)
    return Body(stream, at, size, transfer_syntax)


class Guarded:
    """The stream as pydicom sees it: no huge element is read, nothing beyond the end is skipped to."""

    def __init__(self, body: Body, largest: int) -> None:
        self._stream, self._size, self._largest = body.stream, body.size, largest
        self.tell = body.stream.tell

    def read(self, count: int = -1) -> bytes:
        if count < 0 or count > self._largest:
            raise TooLarge(f"an element of its DICOM header has {count} bytes; at most {self._largest} are accepted")
        return self._stream.read(count)

    def seek(self, offset: int, whence: int = 0) -> int:
        at = self._stream.seek(offset, whence)
        if at > self._size:
            raise InputError(CUT_OFF)
        return at


def _meta(stream: BinaryIO, size: int) -> tuple[uid.UID, int]:
    """Transfer syntax and the offset of the data set. Group 0002 is always explicit VR little endian (PS3.10 7.1)."""
    stream.seek(128)
    at = 132 if stream.read(4) == b"DICM" else 0
    found = ""
    while True:
        stream.seek(at)
        group, element, vr, length = struct.unpack("<HH2sH", stream.read(8).ljust(8, b"\0"))
        if group != 2:
            break
        start = at + 8
        if vr in _LONG_LENGTH:
            (length,) = struct.unpack("<L", stream.read(4))
            start += 4
        if start + length > size:
            raise InputError("its file meta information ends too early: it is incomplete; send it again")
        if element == 0x10 and length <= 66:
            found = stream.read(length).decode("ascii").rstrip("\0 ")
            if not elements.UID_PATTERN.fullmatch(found):
                raise InputError("its Transfer Syntax UID (0002,0010) is malformed; export it again")
        at = start + length
    if not found:  # PS3.10 demands it; old exports lack it. The first element tells the value representation.
        found = uid.ExplicitVRLittleEndian if vr.isalpha() and vr.isupper() else uid.ImplicitVRLittleEndian
    return uid.UID(found), at


def _inflate(stream: BinaryIO, limits: Limits) -> io.BytesIO:
    """Inflate a deflated data set (PS3.5 A.5) as a stream, up to the cap."""
    inflater, result = zlib.decompressobj(-zlib.MAX_WBITS), io.BytesIO()
    while not inflater.eof:
        block = inflater.unconsumed_tail or stream.read(1 << 20)
        if not block:
            raise InputError("its deflated data set ends too early: it is incomplete; send it again")
        result.write(inflater.decompress(block, 1 << 20))
        if result.tell() > limits.inflated_bytes:
            raise TooLarge(
                f"its deflated data set inflates to more than the {limits.inflated_bytes} bytes that are accepted"
            )
    return result


def find_pixels(body: Body, implicit: bool) -> PixelData | None:
    """The pixel element at the stream's position, its fragments walked; None where there is no such element.

    Parameters
    ----------
    body : Body
        Its stream stands where the data set was read up to.
    implicit : bool
        As the data set turned out to be encoded.
    """
    stream, order = body.stream, ">" if body.big else "<"
    head = stream.read(8)
    if len(head) < 8:
        return None
    group, element = struct.unpack(order + "HH", head[:4])
    keyword = PIXEL_KEYWORDS.get(group << 16 | element)
    if keyword is None:
        return None
    words = implicit or head[4:6] == b"OW"
    (length,) = struct.unpack(order + "L", head[4:] if implicit else stream.read(4))
    start = stream.tell()
    if length == UNDEFINED:
        return PixelData(start, _walk(stream, start, body.size) - start, True, keyword, words)
    if start + length > body.size:
        raise InputError(
            f"{elements.label(keyword)} should have {length} bytes and has {body.size - start}: "
            "the file is incomplete; send it again"
        )
    return PixelData(start, length, False, keyword, words)


def _walk(stream: BinaryIO, start: int, size: int) -> int:
    """Where the fragments of encapsulated pixels end (PS3.5 A.4)."""
    at = start
    for _ in range(_FRAGMENTS):
        stream.seek(at)
        item = stream.read(8)
        if item[:4] == _END_OF_SEQUENCE:
            return at + 8
        if item[:4] != _ITEM:
            raise InputError(
                "a fragment of Pixel Data (7FE0,0010) is damaged or missing: the file is incomplete; send it again"
            )
        at += 8 + int.from_bytes(item[4:8], "little")
        if at > size:
            raise InputError(
                "the last fragment of Pixel Data (7FE0,0010) is cut off: the file is incomplete; send it again"
            )
    raise InputError(f"Pixel Data (7FE0,0010) has more than {_FRAGMENTS} fragments; export it again")
