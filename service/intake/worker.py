"""The decoding child: ``python -m service.intake.worker``. Limits itself, then answers requests on its pipes until they close."""

from __future__ import annotations

import errno
import math
import os
import resource
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from service.errors import InputError, NoSpace, OutOfContract, TooLarge, UnknownMedia
from service.intake import archive, dicom, media, photograph, pixels, wire
from service.intake.limits import Limits

_NOTHING = memoryview(b"")
_MAPPED_BYTES = 192 << 20
"""Address space beyond private memory: 90 MiB of libraries; a file that a decoder would map does not fit and is read."""


def main() -> None:
    """Serve one parent until it closes the pipe."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # what a decoder's C code prints must not get between the answers
    first = wire.receive(sys.stdin.buffer)
    if first is None:
        return
    limits = Limits(**first["limits"])
    confine(limits)
    _send(answers, {"ready": True})
    while (request := wire.receive(sys.stdin.buffer)) is not None:
        allow(limits.expand_seconds if request["op"] == "expand" else limits.seconds)
        header, payload = answer(request, limits)
        _send(answers, header, payload)
        del payload  # before the next request: the pixels may be large


def confine(limits: Limits) -> None:
    """Bound this process for good: private memory, address space, size of written files, no core dump, no new process."""
    for which, value in (
        (
            resource.RLIMIT_DATA,
            limits.child_memory_bytes,
        ),  # counts what is really private; mapped libraries and files are not
        (resource.RLIMIT_AS, limits.child_memory_bytes + _MAPPED_BYTES),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 32),
    ):
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def allow(seconds: float) -> None:
    """Bound the processor time of the next request, counted on top of what this process has used (soft RLIMIT_CPU)."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used.ru_utime + used.ru_stime + seconds) + 1, hard))


def answer(request: dict[str, Any], limits: Limits) -> tuple[dict[str, Any], memoryview]:
    """Carry out one request; every fault of the file becomes an error answer, and the next request works."""
    try:
        result = _perform(request, limits)
    except InputError as error:
        return {"error": type(error).__name__, "detail": error.detail}, _NOTHING
    except MemoryError:
        return {
            "error": TooLarge.__name__,
            "detail": "it needs more memory than one image may take; send it smaller",
        }, _NOTHING
    except Exception as error:  # noqa: BLE001  # what a decoder raises on foreign bytes is the file's fault
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return {
                "error": NoSpace.__name__,
                "detail": "there is no room for the expanded files; try again later",
            }, _NOTHING
        return {
            "error": InputError.__name__,
            "detail": "it is damaged or of an unusual variant and cannot be read; export it again",
        }, _NOTHING
    if isinstance(result, np.ndarray):
        array = np.ascontiguousarray(result)
        return {"dtype": array.dtype.str, "shape": array.shape}, array.data.cast("B")
    return result, _NOTHING


def _perform(request: dict[str, Any], limits: Limits) -> dict[str, Any] | np.ndarray:
    path, operation = Path(request["path"]), request["op"]
    if operation == "expand":
        return {"files": archive.expand(path, Path(request["folder"]), limits)}
    with path.open("rb") as stream:
        kind = _kind(stream)
        if operation == "inspect":
            return dicom.inspect(stream, limits) if kind == "dicom" else photograph.inspect(stream, kind, limits)
        if operation == "photograph":
            longest = int(request["longest_px"])
            return (
                pixels.rgb(stream, longest, limits)
                if kind == "dicom"
                else photograph.photograph(stream, kind, longest, limits)
            )
        if operation == "hounsfield" and kind == "dicom":
            return pixels.hounsfield(stream, limits)
        if operation == "grey" and kind != "dicom":
            return photograph.grey(stream, kind, limits)
    raise OutOfContract(
        "a CT slice is a DICOM instance, and a grey image is a PNG, TIFF or JPEG; this file is the other kind"
    )


def _kind(stream: BinaryIO) -> str:
    head = stream.read(media.HEAD_BYTES)
    if not head:
        raise InputError("it is empty (0 bytes); send it again")
    kind = media.recognise(head)
    if kind is None:
        raise UnknownMedia("it is neither DICOM nor PNG, JPEG, TIFF; send one of these, or one ZIP of them")
    if kind == "zip":
        raise InputError("it is a ZIP among other files; send one ZIP alone, or the files themselves")
    stream.seek(0)
    return kind


def _send(stream: BinaryIO, header: dict[str, Any], payload: memoryview = _NOTHING) -> None:
    for part in (memoryview(wire.head(header, payload.nbytes)), payload):
        while part.nbytes:
            part = part[os.write(stream.fileno(), part) :]


if __name__ == "__main__":
    main()
