"""What a file is, by its content and never by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Media = Literal["dicom", "zip", "png", "jpeg", "tiff"]

HEAD_BYTES = 140
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0")  # classic and BigTIFF (version 43, 8-byte offsets)


def recognise(head: bytes) -> Media | None:
    """The kind of a file from its first `HEAD_BYTES` bytes; None for what this service does not know.

    DICOM goes first, because its 128-byte preamble may be the beginning of another kind (PS3.10 7.1). A DICOM data set
    without preamble is recognised by a first element of group 0002 or 0008 with a short, even length.
    """
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith(_ZIP):
        return "zip"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(_TIFF):
        return "tiff"
    if len(head) == HEAD_BYTES and head[:2] in (b"\x02\0", b"\x08\0") and head[3] == 0:
        length = int.from_bytes(head[6:8] if head[4:6].isalpha() and head[4:6].isupper() else head[4:8], "little")
        if length <= 64 and length % 2 == 0:
            return "dicom"
    return None


def is_archive(path: Path) -> bool:
    """Whether a file is a ZIP by its first bytes (nothing of it is parsed)."""
    with path.open("rb") as stream:
        return recognise(stream.read(HEAD_BYTES)) == "zip"
