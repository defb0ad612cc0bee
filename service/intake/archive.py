"""ZIP archives: members become files with generated names, under caps that trust no header. Runs in the child only.

Source of the layout: PKWARE APPNOTE 4.3 (end of central directory record, its ZIP64 form, general purpose flags).
"""

from __future__ import annotations

import os
import re
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, BinaryIO

from service.errors import InputError, TooLarge
from service.intake.limits import Limits
from service.intake.media import HEAD_BYTES, recognise

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_DIRECTORY_BYTES_A_MEMBER = 1024
_CHUNK = 1 << 20
_FREE_MEMBER, _FREE_ARCHIVE = 16 << 20, 64 << 20
"""Inflated bytes up to which the ratio is not looked at: a black slice compresses a thousandfold."""


def expand(archive: Path, folder: Path, limits: Limits) -> int:
    """Write the members of a ZIP into `folder` as ``00001``, ``00002``, ... and return how many.

    Folders, macOS resource forks, DICOMDIR and hidden files are left out.

    Raises
    ------
    InputError
        Damaged, encrypted, nested or compressed in another way than deflate; a member name that leaves the archive; a
        link; nothing in it.
    TooLarge
        More members, more real inflated bytes or a higher ratio than `limits` allows.
    """
    with archive.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size > limits.file_bytes:
            raise TooLarge(f"the ZIP has {size} bytes; at most {limits.file_bytes} are accepted")
        _check_directory(stream, size, limits)
        try:
            with zipfile.ZipFile(stream) as opened:
                return _write(opened, folder, size, limits)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            struct.error,
            ValueError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise InputError("the ZIP is damaged or incomplete; make it again and send it again") from error


def _check_directory(stream: BinaryIO, size: int, limits: Limits) -> None:
    """Refuse by the end record's own numbers, before the list of members is built."""
    tail_bytes = min(size, _END.size + 0xFFFF)
    stream.seek(size - tail_bytes)
    tail = stream.read(tail_bytes)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise InputError("the ZIP has no end record: it is damaged or incomplete; make it again and send it again")
    _, _, _, _, members, directory_bytes, _, _ = _END.unpack_from(tail, at)
    locator_at = size - tail_bytes + at - _LOCATOR.size
    if locator_at >= 0:
        stream.seek(locator_at)
        magic, _, end64_at, _ = _LOCATOR.unpack(stream.read(_LOCATOR.size))
        if magic == b"PK\x06\x07" and end64_at <= size - _END64.size:
            stream.seek(end64_at)
            fields = _END64.unpack(stream.read(_END64.size))
            if fields[0] == b"PK\x06\x06":
                members, directory_bytes = max(members, fields[7]) if members != 0xFFFF else fields[7], fields[8]
    if members > limits.zip_members:
        raise TooLarge(f"the ZIP has {members} members; at most {limits.zip_members} are accepted")
    if directory_bytes > _DIRECTORY_BYTES_A_MEMBER * limits.zip_members:
        raise TooLarge(
            f"the ZIP's directory has {directory_bytes} bytes; that is too large for {limits.zip_members} members"
        )


def _write(opened: zipfile.ZipFile, folder: Path, size: int, limits: Limits) -> int:
    members = opened.infolist()
    if len(members) > limits.zip_members:
        raise TooLarge(f"the ZIP has {len(members)} members; at most {limits.zip_members} are accepted")
    kept = [(place, member) for place, member in enumerate(members, 1) if _wanted(place, member)]
    if not kept:
        raise InputError("the ZIP holds no files; put the images into it and send it again")
    written = 0
    for number, (place, member) in enumerate(kept, 1):
        with opened.open(member) as source, (folder / f"{number:05d}").open("xb") as target:
            written = _copy(source, target, f"member {place} of the ZIP", member.compress_size, written, size, limits)
    return len(kept)


def _wanted(place: int, member: zipfile.ZipInfo) -> bool:
    """Whether a member is a file to read; raises for one that no honest archive has. Messages never repeat names."""
    where = f"member {place} of the ZIP"
    name = member.filename.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in parts or member.orig_filename != member.filename:
        raise InputError(f"{where} has a path that leads out of the archive; pack the files with plain relative names")
    if member.flag_bits & 0x41:
        raise InputError(f"{where} is encrypted; send the archive without a password")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise InputError(f"{where} is a link; pack the files themselves")
    if member.is_dir() or not parts:
        return False
    if "__MACOSX" in parts or any(part.startswith(".") for part in parts) or parts[-1].upper() == "DICOMDIR":
        return False
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(
            f"{where} is compressed with method {member.compress_type}; only stored and deflated members are read"
        )
    return True


def _copy(
    source: IO[bytes], target: BinaryIO, where: str, compressed: int, before: int, archive_bytes: int, limits: Limits
) -> int:
    """Inflate one member; returns the bytes written for the archive so far."""
    count, most = 0, min(limits.file_bytes, limits.expanded_bytes - before)
    while block := source.read(_CHUNK):
        if count == 0 and recognise(block[:HEAD_BYTES]) == "zip":
            raise InputError(f"{where} is itself a ZIP; pack the images directly")
        count += len(block)
        if count > most:
            raise TooLarge(f"{where} inflates to more than the {most} bytes that are left; send fewer images at a time")
        member_bomb = count > _FREE_MEMBER and count > limits.zip_ratio * compressed
        if member_bomb or before + count > max(_FREE_ARCHIVE, limits.zip_ratio * archive_bytes):
            raise TooLarge(
                f"{where} inflates more than {limits.zip_ratio}-fold, as no image does; send the files themselves"
            )
        target.write(block)
    return before + count
