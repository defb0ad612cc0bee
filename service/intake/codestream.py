"""What a compressed frame says about its own size, to compare with the DICOM header. Runs in the child only.

Sources: JPEG (ITU-T T.81) B.2.2, JPEG-LS (ITU-T T.87) C.2.2, JPEG 2000 and HTJ2K (ITU-T T.800) A.5.1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from service.errors import InputError


@dataclass(frozen=True)
class Frame:
    """Size of a compressed frame."""

    rows: int
    columns: int
    samples: int
    bits: int
    process: int = 0
    """Marker of the JPEG frame header, 0xC0 baseline ... 0xF7 JPEG-LS; 0 for JPEG 2000."""


def jpeg(encoded: bytes) -> Frame:
    """Frame header of a JPEG or JPEG-LS stream.

    Raises
    ------
    InputError
        When there is none.
    """
    at = 2
    while encoded[:2] == b"\xff\xd8" and at + 4 <= len(encoded) and encoded[at] == 0xFF:
        code = encoded[at + 1]
        if code == 0xFF:
            at += 1
            continue
        if code == 0xF7 or (0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC)):
            if at + 10 > len(encoded):
                break
            bits, rows, columns, samples = struct.unpack_from(">BHHB", encoded, at + 4)
            return Frame(rows, columns, samples, bits, code)
        if code in (0xD9, 0xDA):
            break
        at += 2 + int.from_bytes(encoded[at + 2 : at + 4], "big")
    raise InputError("its compressed frame has no JPEG frame header: Pixel Data (7FE0,0010) is damaged")


def jpeg_2000(encoded: bytes) -> Frame:
    """Image size from the SIZ marker of a JPEG 2000 codestream (also inside a JP2 file, which some senders store).

    Raises
    ------
    InputError
        When there is none, or when it has more tiles than a photograph needs.
    """
    at = encoded[:4096].find(b"\xff\x4f\xff\x51")
    if at < 0 or at + 43 > len(encoded):
        raise InputError("its compressed frame has no JPEG 2000 image size: Pixel Data (7FE0,0010) is damaged")
    x1, y1, x0, y0, tile_x, tile_y, tile_x0, tile_y0, samples, depth = struct.unpack_from(">8LHB", encoded, at + 8)
    if not (x1 > x0 and y1 > y0 and tile_x and tile_y):
        raise InputError("its JPEG 2000 frame has no extent: Pixel Data (7FE0,0010) is damaged")
    tiles = -(-(x1 - tile_x0) // tile_x) * -(-(y1 - tile_y0) // tile_y)
    if tiles > 4096:
        raise InputError(f"its JPEG 2000 frame has {tiles} tiles; at most 4096 are read")
    return Frame(y1 - y0, x1 - x0, samples, (depth & 0x7F) + 1)
