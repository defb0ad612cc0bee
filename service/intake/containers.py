"""Size arithmetic on PNG, JPEG and TIFF headers, before Pillow sees the file. Runs in the child only.

Only what bounds time and memory is read here: dimensions, the layout of chunks, segments and tags. Sources: PNG (ISO/IEC
15948) 5.3 and 11.2.2, JPEG (ITU-T T.81) B.1 and B.2, TIFF 6.0 section 2 and BigTIFF.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from service.errors import InputError, TooLarge, UnknownMedia
from service.intake.limits import Limits

_PNG_CHUNKS = 1 << 16
_TIFF_TAGS = 256
_TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TIFF_COMPRESSIONS = {1: "none", 5: "LZW", 7: "JPEG", 8: "deflate", 32773: "PackBits", 32946: "deflate"}


@dataclass(frozen=True)
class Container:
    """What a photograph's header says about its size."""

    width: int
    height: int
    frames: int = 1


def check(kind: str, stream: BinaryIO, size: int, limits: Limits) -> Container:
    """Read the header of a file of the given kind ("png", "jpeg", "tiff").

    Raises
    ------
    InputError
        Broken or truncated.
    TooLarge
        More pixels or metadata than `limits` allows.
    UnknownMedia
        A variant that this service does not read.
    """
    readers: dict[str, Callable[[BinaryIO, int, Limits], Container]] = {"png": _png, "jpeg": _jpeg, "tiff": _tiff}
    stream.seek(0)
    found = readers[kind](stream, size, limits)
    stream.seek(0)
    return found


def _check_size(kind: str, width: int, height: int, limits: Limits) -> None:
    if width < 1 or height < 1:
        raise InputError(f"the {kind} says it has {width} x {height} px; it is damaged")
    if width * height > limits.pixels:
        raise TooLarge(f"the {kind} has {width} x {height} px; at most {limits.pixels} pixels are accepted")


def _take(stream: BinaryIO, count: int, kind: str) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise InputError(f"the {kind} ends too early: it is incomplete; send it again")
    return data


def _png(stream: BinaryIO, size: int, limits: Limits) -> Container:
    stream.seek(8)
    length, name = struct.unpack(">I4s", _take(stream, 8, "PNG"))
    if name != b"IHDR" or length != 13:
        raise InputError("the PNG does not begin with its header chunk: it is damaged")
    width, height = struct.unpack(">II", _take(stream, 8, "PNG"))
    _check_size("PNG", width, height, limits)
    at, metadata, animated = 8 + 12 + 13, 0, False
    for _ in range(_PNG_CHUNKS):
        stream.seek(at)
        length, name = struct.unpack(">I4s", _take(stream, 8, "PNG"))
        at += 12 + length
        if at > size:
            raise InputError("the PNG ends too early: it is incomplete; send it again")
        if name == b"IEND":
            return Container(width, height, 2 if animated else 1)
        if name != b"IDAT":
            metadata += 12 + length
            animated = animated or name == b"acTL"
        if metadata > limits.header_bytes:
            raise TooLarge(
                f"the PNG carries more than {limits.header_bytes} bytes besides its image; save it without metadata"
            )
    raise InputError(f"the PNG has more than {_PNG_CHUNKS} chunks; save it again")


def _jpeg(stream: BinaryIO, size: int, limits: Limits) -> Container:
    at, frame = 2, None
    while True:
        stream.seek(at)
        marker = _take(stream, 2, "JPEG")
        if marker[0] != 0xFF:
            raise InputError("the JPEG has no marker where one must be: it is damaged")
        code = marker[1]
        if code == 0xFF:  # fill byte
            at += 1
            continue
        if code == 0xD9:
            raise InputError("the JPEG ends before its image: it is incomplete; send it again")
        (length,) = struct.unpack(">H", _take(stream, 2, "JPEG"))
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            if code not in (0xC0, 0xC1, 0xC2) or frame is not None:
                raise UnknownMedia(
                    "the JPEG is neither baseline, extended nor progressive; save it as an ordinary JPEG or PNG"
                )
            frame = (code, _take(stream, min(length - 2, 32), "JPEG"))
        if code == 0xDA:
            break
        at += 2 + length
        if at > limits.header_bytes:
            raise TooLarge(
                f"the JPEG carries more than {limits.header_bytes} bytes before its image; save it without metadata"
            )
    if frame is None or len(frame[1]) < 6 or len(frame[1]) < 6 + 3 * frame[1][5]:
        raise InputError("the JPEG has no frame header before its image: it is damaged")
    progressive = frame[0] == 0xC2
    precision, height, width, components = struct.unpack_from(">BHHB", frame[1])
    if precision != 8 or components not in (1, 3, 4):
        raise UnknownMedia(f"the JPEG has {components} components of {precision} bits; 1, 3 or 4 of 8 bits are read")
    _check_size("JPEG", width, height, limits)
    _check_jpeg_work(width, height, [frame[1][7 + 3 * k] for k in range(components)], progressive, size - at, limits)
    return Container(width, height)


def _check_jpeg_work(
    width: int, height: int, samplings: list[int], progressive: bool, data_bytes: int, limits: Limits
) -> None:
    """Refuse a JPEG that needs too much memory, or holds too few bytes for the size it states."""
    blocks = -(-width // 8) * -(-height // 8)
    if data_bytes * 8 < blocks:  # one block takes at least one bit in any Huffman-coded scan
        raise InputError(
            f"the JPEG says it has {width} x {height} px but ends too early for that: it is damaged or incomplete"
        )
    if progressive:  # the decoder keeps every coefficient, 2 bytes each, whatever size is asked for
        factors = [((value >> 4) or 1) * ((value & 15) or 1) for value in samplings]
        needed = 128 * blocks * sum(factors) // max(factors)
        if needed > limits.child_memory_bytes * 6 // 10:
            raise TooLarge(
                f"the progressive JPEG of {width} x {height} px needs {needed} bytes of memory; save it as a baseline JPEG"
            )


def _tiff(stream: BinaryIO, size: int, limits: Limits) -> Container:
    order = "<" if _take(stream, 4, "TIFF")[:2] == b"II" else ">"
    stream.seek(2)
    big = struct.unpack(order + "H", _take(stream, 2, "TIFF"))[0] == 43
    if big:
        stream.seek(8)
    word, count_format, entry = (
        ("Q", "Q", struct.Struct(order + "HHQ8s")) if big else ("L", "H", struct.Struct(order + "HHL4s"))
    )
    word_bytes = 8 if big else 4
    (at,) = struct.unpack(order + word, _take(stream, word_bytes, "TIFF"))
    if not 8 <= at < size:
        raise InputError("the TIFF's directory lies outside the file: it is damaged or incomplete")
    stream.seek(at)
    (tags,) = struct.unpack(order + count_format, _take(stream, struct.calcsize(order + count_format), "TIFF"))
    if not 1 <= tags <= _TIFF_TAGS:
        raise InputError(f"the TIFF's directory has {tags} tags; 1 to {_TIFF_TAGS} are accepted")
    table = _take(stream, tags * entry.size, "TIFF")
    (following,) = struct.unpack(order + word, _take(stream, word_bytes, "TIFF"))
    values, metadata = {256: 0, 257: 0, 259: 1, 277: 1, 278: 0, 322: 0, 323: 0}, 0
    for k in range(tags):
        tag, kind, count, content = entry.unpack_from(table, k * entry.size)
        length = _TIFF_BYTES.get(kind, 1) * count
        if length > word_bytes:
            metadata += length
            if metadata > limits.header_bytes:
                raise TooLarge(f"the TIFF's tags hold more than {limits.header_bytes} bytes; save it without metadata")
            if struct.unpack(order + word, content)[0] + length > size:
                raise InputError(f"the value of TIFF tag {tag} lies outside the file: it is damaged or incomplete")
        elif tag in values and kind in (3, 4, 16):
            values[tag] = struct.unpack_from(order + {3: "H", 4: "L", 16: "Q"}[kind], content)[0]
    _check_size("TIFF", values[256], values[257], limits)
    if values[259] not in _TIFF_COMPRESSIONS:
        known = ", ".join(sorted(set(_TIFF_COMPRESSIONS.values())))
        raise UnknownMedia(f"the TIFF is compressed with method {values[259]}; read are: {known}")
    if not 1 <= values[277] <= 4:
        raise UnknownMedia(f"the TIFF has {values[277]} samples a pixel; 1 to 4 are read")
    _check_tiff_work(values, size, limits)
    return Container(values[256], values[257], 2 if following else 1)


def _check_tiff_work(values: dict[int, int], size: int, limits: Limits) -> None:
    """Refuse a TIFF whose strips or tiles are so large that they do not fit beside the image."""
    width, height = values[256], values[257]
    strip = values[322] * values[323] or width * min(values[278] or height, height)
    block = 2 * values[277] * strip  # at most 16 bits a sample
    if values[259] != 1 and 4 * width * height + block + min(block, size) > limits.child_memory_bytes * 3 // 4:
        raise TooLarge(
            f"the TIFF of {width} x {height} px is compressed in too large strips; save it with smaller ones or as PNG"
        )
