"""Laying what arrives into the inbox: every entrance writes with the same `Writer`, and acknowledges only what it kept."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import itertools
import json
import os
import secrets
import struct
import threading
import time
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from service.errors import InputError, NoSpace, TooLarge
from service.intake import answers
from service.intake.inbox import PLANE, SIDECAR_BYTES, EventKind
from service.intake.limits import Limits
from service.records import Instance
from service.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION

PREAMBLE = bytes(128) + b"DICM"
_LOOK_BYTES = 64 << 20
"""Bytes written between two looks at the free space."""


def file_meta(sop_class: str, sop_instance: str, transfer_syntax: str, source_ae: str) -> bytes:
    """What precedes the data set in a file: preamble, prefix and File Meta Information (PS3.10 7.1, table 7.1-1)."""

    def element(number: int, vr: bytes, value: bytes, pad: bytes = b"\0") -> bytes:
        value += pad * (len(value) % 2)
        long = vr == b"OB"
        head = struct.pack("<HH2sHL" if long else "<HH2sH", 2, number, vr, *((0,) if long else ()), len(value))
        return head + value

    group = b"".join(
        (
            element(0x01, b"OB", b"\0\1"),
            element(0x02, b"UI", sop_class.encode("ascii")),
            element(0x03, b"UI", sop_instance.encode("ascii")),
            element(0x10, b"UI", transfer_syntax.encode("ascii")),
            element(0x12, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii")),
            element(0x13, b"SH", IMPLEMENTATION_VERSION.encode("ascii"), b" "),
            element(0x16, b"AE", source_ae.encode("ascii"), b" ") if source_ae else b"",
        )
    )
    return PREAMBLE + element(0x00, b"UL", struct.pack("<L", len(group))) + group


def now() -> str:
    """Give the present moment, ISO 8601, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Writer:
    """Lays instances and events into an inbox. Thread-safe.

    Parameters
    ----------
    folder : Path
        The inbox; made when missing.
    limits : Limits
        `file_bytes` is the size of the largest instance.
    free_bytes : int
        Free space on the disk that is never touched.
    wake : int, optional
        File descriptor, not blocking, that gets one byte for each sidecar; a full pipe is no fault, the reader polls too.
    """

    def __init__(self, folder: Path, limits: Limits, free_bytes: int, wake: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder, self.limits, self._free_bytes, self._wake = folder, limits, free_bytes, wake
        self.token = secrets.token_hex(4)
        """In all ids of this writer."""
        self._numbers, self._latest, self._lock = itertools.count(), 0, threading.Lock()
        self._directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def close(self) -> None:
        """Give the descriptor of the folder back."""
        os.close(self._directory)

    def begin(self, head: bytes = b"") -> Incoming:
        """Open a new instance.

        Parameters
        ----------
        head : bytes
            `file_meta` of a bare data set; nothing for what is a file already.

        Raises
        ------
        NoSpace
            When the reserve of the disk is reached.
        """
        self.check_space()
        return Incoming(self, self._id(), head)

    def event(self, kind: EventKind, **fields: Any) -> str:
        """Lay down an event; its fields are those of `Event`. Returns its id."""
        name = self._id()
        self.seal(name, {"event": kind, "received": now(), **fields})
        return name

    def check_space(self, size: int = 0) -> None:
        """Raise NoSpace where `size` more bytes would leave less than the reserve."""
        disk = os.fstatvfs(self._directory)
        if disk.f_bavail * disk.f_frsize - size < self._free_bytes:
            raise NoSpace("the disk is full but for its reserve; delete what is no longer needed, or enlarge the disk")

    def seal(self, name: str, sidecar: dict[str, Any], instance: int | None = None) -> None:
        """Write a sidecar, make it and the instance it belongs to durable, and only then let the reader see it.

        All is handed to the disk before the first wait, so that one commit of the file system's journal serves the instance,
        the sidecar and their names. The last rename is not waited for: `Inbox.recover` finishes it.

        Parameters
        ----------
        name : str
            Id of the entry.
        sidecar : dict
        instance : int, optional
            Descriptor of the instance's file.

        Raises
        ------
        NoSpace
            When the disk is full.
        ValueError
            When the sidecar is too long.
        """
        part, final = self.folder / f"{name}.json.part", self.folder / f"{name}.json"
        data = json.dumps(sidecar, separators=(",", ":"), allow_nan=False).encode()
        if len(data) > SIDECAR_BYTES:
            raise ValueError(f"sidecar of {len(data)} bytes")
        try:
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _write(handle, data)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
                if instance is not None:
                    os.fsync(instance)
                os.fsync(handle)
            finally:
                os.close(handle)
            os.fsync(self._directory)
            part.rename(final)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise _no_space(error) or error from error
        if self._wake is not None:
            with suppress(OSError):
                os.write(self._wake, b"\0")

    def _id(self) -> str:
        with self._lock:  # strictly growing, also when somebody sets the clock back
            self._latest = max(self._latest + 1, time.time_ns())
            return f"{self._latest:020d}-{self.token}-{next(self._numbers):08d}"


class Incoming:
    """One instance on its way to the disk; end it with `keep` or `discard`. Made by `Writer.begin`."""

    def __init__(self, writer: Writer, name: str, head: bytes) -> None:
        self._writer, self.id, self._look, self.bytes = writer, name, _LOOK_BYTES, 0
        self._hash = hashlib.sha256()
        self._path = writer.folder / f"{name}.dcm"
        try:
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _no_space(error) or error from error
        self._limit, self._offset = writer.limits.file_bytes + len(head), len(head)
        self.write(head)

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes.

        Raises
        ------
        TooLarge
            More than an instance may have.
        NoSpace
            The disk is full, or its reserve reached.
        """
        view = memoryview(data)
        if self.bytes + view.nbytes > self._limit:
            raise TooLarge(f"the instance has more than the {self._writer.limits.file_bytes} bytes that are accepted")
        if self.bytes + view.nbytes > self._look:
            self._writer.check_space(view.nbytes)
            self._look += _LOOK_BYTES
        try:
            _write(self._handle, view)
        except OSError as error:
            raise _no_space(error) or error from error
        self._hash.update(view)
        self.bytes += view.nbytes

    def reading(self) -> io.BufferedReader:
        """What was written so far, as a stream to inspect; meanwhile the disk takes it in."""
        os.posix_fadvise(self._handle, 0, 0, os.POSIX_FADV_DONTNEED)  # starts the write-out that `keep` waits for
        return self._path.open("rb")

    def keep(
        self,
        found: Instance | tuple[dict[str, Any], np.ndarray],
        door: Literal["dimse", "stow", "http"],
        sender: str,
        association: str,
        remote: str = "",
    ) -> str:
        """Make the instance durable and visible to the reader; only now it may be acknowledged.

        Parameters
        ----------
        found : Instance, or (dict, ndarray)
            What the sandbox, or `service.intake.inspection.inspect`, found out about the file.
        door, sender, association
            As in `records.Arrival`.
        remote : str
            Address of the sender.

        Returns
        -------
        str
            The entry's id.

        Raises
        ------
        NoSpace
            The disk is full; the instance is discarded.
        InputError
            The header says what the reader would not accept; the instance is discarded.
        """
        sha256 = self._hash.hexdigest()
        header, planes = _taken_apart(found)
        sidecar = {
            "header": header,
            "planes": base64.b64encode(planes).decode(),
            "sha256": sha256,
            "bytes": self.bytes,
            "offset": self._offset,
            "door": door,
            "sender": sender,
            "association": association,
            "remote": remote,
            "received": now(),
        }
        try:
            answers.instance(header, self._path, sha256, self._writer.limits, payload=planes)
            self._writer.seal(self.id, sidecar, self._handle)
        except (ValueError, TypeError, KeyError) as error:
            self.discard()
            raise InputError("its header holds values that cannot be used; correct it and send it again") from error
        except OSError as error:
            self.discard()
            raise _no_space(error) or error from error
        except NoSpace:
            self.discard()
            raise
        self._close()
        return self.id

    def discard(self) -> None:
        """Delete what was written. May be called again."""
        self._close()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def _taken_apart(found: Instance | tuple[dict[str, Any], np.ndarray]) -> tuple[dict[str, Any], bytes]:
    """What was found out about a file as a child would answer it: header and payload."""
    if isinstance(found, Instance):
        apart = ("path", "sha256", "planes", "frame")
        header = {entry.name: getattr(found, entry.name) for entry in fields(found) if entry.name not in apart}
        planes = np.array(found.planes, "<f8").reshape(-1, PLANE)
    else:
        header, planes = dict(found[0]), found[1]
    if planes.size:
        header |= {"dtype": "<f8", "shape": list(planes.shape)}
    return header, planes.astype("<f8").tobytes()


def _write(handle: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view.nbytes:
        view = view[os.write(handle, view) :]


def _no_space(error: OSError) -> NoSpace | None:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    return NoSpace("the disk is full; delete what is no longer needed, or enlarge the disk")
