"""The inbox: a folder where the entrances lay down what arrives, on the disk for good before they acknowledge it.

``<id>.dcm`` is an instance as a file (DICOM PS3.10 7.1), ``<id>.json`` its sidecar; an event (an association began or ended,
an archive answered a commitment) is a sidecar alone. The sidecar comes last: without it nothing was acknowledged. Ids sort
by time. Writers may be many processes, limited ones among them; the reader trusts nothing that lies in the folder.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import heapq
import io
import json
import logging
import os
import re
import stat
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from service.intake import answers
from service.intake.limits import Limits
from service.records import Arrival

EventKind = Literal["association-opened", "association-closed", "receiver-lost", "commitment"]

SIDECAR_BYTES = 2 << 20
PLANE = 14
"""Numbers a frame; see `intake.multiframe`."""
_ID = re.compile(r"[0-9]{20}-[0-9a-f]{8}-[0-9]{8}")
_NAME = re.compile(r"[A-Za-z0-9._:-]{0,80}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{6}Z")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UID = re.compile(r"[0-9.]{1,64}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """Something that happened at an entrance and is no instance.

    Attributes
    ----------
    kind : str
        "association-opened" (one that may store), "association-closed" (`outcome` is "released" or "aborted"), "receiver-lost"
        (a receiving process died; no association whose id begins with `association` will say more), or "commitment" (an
        archive's answer, PS3.4 J.3.3).
    succeeded : tuple of (SOP class UID, SOP instance UID)
    failed : tuple of (SOP class UID, SOP instance UID, failure reason)
        The reason is (0008,1197), PS3.3 C.14.1.1.
    """

    kind: EventKind
    association: str = ""
    sender: str = ""
    outcome: str = ""
    transaction_uid: str = ""
    succeeded: tuple[tuple[str, str], ...] = ()
    failed: tuple[tuple[str, str, int], ...] = ()
    received: str = ""


@dataclass(frozen=True)
class Entry:
    """One entry of the inbox: an arrival or an event."""

    id: str
    arrival: Arrival | None = None
    event: Event | None = None


class Inbox:
    """Reads an inbox. One process reads it.

    Parameters
    ----------
    folder : Path
        Made when missing.
    limits : Limits
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder, self._limits = folder.resolve(), limits

    def entries(self, limit: int = 1000) -> list[Entry]:
        """The oldest entries in the order of their ids.

        What cannot be understood is moved to ``garbled/`` and logged. The file of an instance may be gone when the caller moved
        it and was interrupted before `done`: it is then where the caller keeps that content.
        """
        found = []
        for name in heapq.nsmallest(limit, self._names(".json")):
            try:
                found.append(self._read(name))
            except FileNotFoundError:
                continue
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                self.set_aside(name, type(error).__name__)
        return found

    def done(self, entries: Iterable[Entry]) -> None:
        """Forget entries: their sidecars, and their files where the caller has not moved them."""
        for entry in entries:
            (self.folder / f"{entry.id}.json").unlink(missing_ok=True)
            if entry.arrival is not None:
                (self.folder / f"{entry.id}.dcm").unlink(missing_ok=True)

    def recover(self) -> int:
        """Tidy up after a crash, before any writer starts: delete what was never acknowledged. Returns how much that was.

        A sidecar that is complete but still has the name of a part may belong to something that was acknowledged: it gets its
        name. An instance whose content is not what its sidecar says (a power cut before the disk had it) was not acknowledged;
        it is moved to ``garbled/``.
        """
        removed = 0
        for name in sorted(self._names(".json.part")):
            path = self.folder / f"{name}.json.part"
            if self._complete(path):
                path.rename(path.with_suffix(""))
            else:
                path.unlink()
                removed += 1
        for name in sorted(self._names(".dcm")):
            path = self.folder / f"{name}.dcm"
            try:
                sidecar = self._sidecar(path.with_suffix(".json"))
            except FileNotFoundError:
                path.unlink()
                removed += 1
            except (ValueError, RecursionError) as error:
                self.set_aside(name, type(error).__name__)
            else:
                with suppress(ValueError):
                    if _holds(path, sidecar):
                        continue
                self.set_aside(name, "content")
        return removed

    def _complete(self, part: Path) -> bool:
        try:
            sidecar = self._sidecar(part)
            return "event" in sidecar or _holds(part.with_name(part.name.removesuffix(".json.part") + ".dcm"), sidecar)
        except (OSError, ValueError, RecursionError):
            return False

    def _names(self, suffix: str) -> list[str]:
        with os.scandir(self.folder) as listing:
            return [
                entry.name.removesuffix(suffix)
                for entry in listing
                if entry.name.endswith(suffix) and _ID.fullmatch(entry.name.removesuffix(suffix))
            ]

    @staticmethod
    def _sidecar(path: Path) -> dict[str, Any]:
        with _opened(path) as stream:
            text = stream.read(SIDECAR_BYTES + 1)
        value = json.loads(text) if len(text) <= SIDECAR_BYTES else None
        if not isinstance(value, dict):
            raise ValueError("sidecar")
        return value

    def _read(self, name: str) -> Entry:
        sidecar = self._sidecar(self.folder / f"{name}.json")
        common = {
            "association": _match(_NAME, sidecar.get("association", "")),
            "sender": _printable(sidecar.get("sender", "")),
            "received": _match(_MOMENT, sidecar["received"]),
        }
        if "event" in sidecar:
            return Entry(name, event=_event(sidecar, common))
        path = self.folder / f"{name}.dcm"
        with suppress(FileNotFoundError):
            entry = path.lstat()
            if not stat.S_ISREG(entry.st_mode) or entry.st_size != sidecar["bytes"]:
                raise ValueError("file")
        planes = base64.b64decode(sidecar["planes"], validate=True)
        sha256 = _match(_SHA256, sidecar["sha256"])
        instance = answers.instance(sidecar["header"], path, sha256, self._limits, payload=planes)
        if sidecar["door"] not in ("dimse", "stow", "http"):
            raise ValueError("door")
        return Entry(name, arrival=Arrival(instance=instance, door=sidecar["door"], **common))

    def set_aside(self, name: str, why: str) -> None:
        """Move an entry that cannot be used to ``garbled/``, for a person to look at, and log it as an incident."""
        incident, garbled = uuid.uuid4().hex[:12], self.folder / "garbled"
        garbled.mkdir(exist_ok=True, mode=0o700)
        for suffix in (".json", ".dcm"):
            with suppress(FileNotFoundError):
                (self.folder / f"{name}{suffix}").rename(garbled / f"{name}{suffix}")
        _log.error(
            "incident %s: inbox entry %s cannot be used (%s); it was moved to inbox/garbled", incident, name, why
        )


def _holds(path: Path, sidecar: dict[str, Any]) -> bool:
    """Whether a file has the content that its sidecar names; ValueError where it is no file."""
    with _opened(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == sidecar.get("sha256")


def _opened(path: Path) -> io.BufferedReader:
    """Open a regular file; ValueError for a link, a pipe or anything else."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise (ValueError("link") if error.errno == errno.ELOOP else error) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError("not a file")
    return os.fdopen(handle, "rb")


def _event(sidecar: dict[str, Any], common: dict[str, str]) -> Event:
    kind, outcome = sidecar["event"], sidecar.get("outcome", "")
    if kind not in get_args(EventKind) or outcome not in ("", "released", "aborted"):
        raise ValueError("event")
    return Event(
        kind=cast(EventKind, kind),
        outcome=outcome,
        transaction_uid=_match(_UID, sidecar["transaction_uid"]) if kind == "commitment" else "",
        succeeded=tuple((_match(_UID, a), _match(_UID, b)) for a, b in _rows(sidecar.get("succeeded", []))),
        failed=tuple(
            (_match(_UID, a), _match(_UID, b), _reason(reason)) for a, b, reason in _rows(sidecar.get("failed", []))
        ),
        **common,
    )


def _rows(value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise ValueError("list")
    return value


def _reason(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 0xFFFF:
        raise ValueError("reason")
    return value


def _match(pattern: re.Pattern[str], value: Any) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError("text")
    return value


def _printable(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 64 or (value and not value.isprintable()):
        raise ValueError("text")
    return value
