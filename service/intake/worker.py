"""The decoding child: ``python -m service.intake.worker``. Limits itself, then answers requests on its pipes until they close."""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from service.errors import InputError, NoSpace, OutOfContract, TooLarge, UnknownMedia
from service.intake import (
    archive,
    frames,
    inspection,
    media,
    metadata,
    photograph,
    pixels,
    referencing,
    transcoding,
    wire,
)
from service.intake.limits import Limits

_NOTHING = memoryview(b"")
_LONG = frozenset({"expand", "transcode", "references"})
"""Operations on many images at once."""

Result = dict[str, Any] | np.ndarray | bytes | tuple[dict[str, Any], np.ndarray | bytes]
"""An answer's header, its payload, or both."""
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
        allow(limits.expand_seconds if request["op"] in _LONG else limits.seconds)
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
    header, payload = result if isinstance(result, tuple) else ({}, result)
    if isinstance(payload, np.ndarray):
        array = np.ascontiguousarray(payload)
        return {**header, "dtype": array.dtype.str, "shape": array.shape}, array.data.cast(
            "B"
        ) if array.size else _NOTHING
    if isinstance(payload, bytes):
        return header, memoryview(payload)
    return payload, _NOTHING


def _perform(request: dict[str, Any], limits: Limits) -> Result:
    path, operation = Path(request["path"]), request["op"]
    if operation == "expand":
        return {"files": archive.expand(path, Path(request["folder"]), limits)}
    with path.open("rb") as stream:
        kind = _kind(stream)
        if kind == "dicom" and operation in _DICOM:
            return _DICOM[operation](stream, request, limits)
        if kind != "dicom" and operation in _PHOTOGRAPH:
            return _PHOTOGRAPH[operation](stream, kind, request, limits)
    if operation in ("hounsfield", "grey"):
        raise OutOfContract(
            "a CT slice is a DICOM instance, and a grey image is a PNG, TIFF or JPEG; this file is the other kind"
        )
    raise OutOfContract("it is no DICOM instance; send it as DICOM")


def _references(stream: BinaryIO, limits: Limits) -> bytes:
    return json.dumps(referencing.found_in(stream, limits), allow_nan=False).encode()


def _named(answer: tuple[bytes, str]) -> tuple[dict[str, Any], bytes]:
    data, transfer_syntax = answer
    return {"transfer_syntax_uid": transfer_syntax}, data


def _frame(stream: BinaryIO, request: dict[str, Any], limits: Limits) -> Result:
    read = frames.decoded if request["decoded"] else frames.stored
    return _named(read(stream, int(request["frame"]), limits))


def _hounsfield(stream: BinaryIO, request: dict[str, Any], limits: Limits) -> Result:
    return pixels.hounsfield(stream, int(request["frame"]), request["rescale"], limits)


def _rendered(stream: BinaryIO, request: dict[str, Any], limits: Limits) -> Result:
    return pixels.rendered(stream, int(request["frame"]), request["window"], int(request["longest_px"]), limits)


_DICOM: dict[str, Callable[[BinaryIO, dict[str, Any], Limits], Result]] = {
    "inspect": lambda stream, request, limits: inspection.inspect(stream, limits),
    "photograph": lambda stream, request, limits: pixels.rgb(stream, int(request["longest_px"]), limits),
    "hounsfield": _hounsfield,
    "rendered": _rendered,
    "frame": _frame,
    "metadata": lambda stream, request, limits: metadata.document(stream, limits),
    "bulk": lambda stream, request, limits: metadata.value(stream, str(request["element"]), limits),
    "transcode": lambda stream, request, limits: {
        "bytes": transcoding.transcode(stream, Path(request["target"]), limits)
    },
    "references": lambda stream, request, limits: _references(stream, limits),
}
_PHOTOGRAPH: dict[str, Callable[[BinaryIO, str, dict[str, Any], Limits], Result]] = {
    "inspect": lambda stream, kind, request, limits: photograph.inspect(stream, kind, limits),
    "photograph": lambda stream, kind, request, limits: photograph.photograph(
        stream, kind, int(request["longest_px"]), limits
    ),
    "grey": lambda stream, kind, request, limits: photograph.grey(stream, kind, limits),
}


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
