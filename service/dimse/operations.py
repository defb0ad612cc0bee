"""What a receiver does with each request: verification, storage (PS3.4 annex B), and an archive's commitment report (annex J)."""

from __future__ import annotations

import io
import logging
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode

from service.dimse import command as dimse
from service.dimse.command import Answer, Command
from service.dimse.contexts import COMMITMENT, STORAGE, VERIFICATION
from service.errors import InputError, NoSpace, TooLarge
from service.intake import inspection
from service.intake.deposit import Incoming, Writer, file_meta

_REPORT_BYTES = 4 << 20
_REPORT_INSTANCES = 4096
_UID = re.compile(r"[0-9.]{1,64}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """Where a request comes from: id of the association, calling AE title, IP address."""

    association: str
    sender: str
    remote: str


class Operation(Protocol):
    """One request; its data set, if it has one, is written piece by piece."""

    def write(self, data: memoryview) -> None: ...

    def end(self) -> Answer | None:
        """The answer, once everything was written; None where there is none."""

    def abandon(self) -> None:
        """The association ended before the request was complete."""


class Reception:
    """Makes the operation of each request.

    Parameters
    ----------
    writer : Writer
        Of the inbox.
    """

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self._inspections: dict[int, float] = {}

    def begin(self, origin: Origin, request: Command, sop_class: str, transfer_syntax: str) -> Operation:
        """The operation for a request on a presentation context; one that refuses where it is none of ours."""
        if request.field == dimse.C_CANCEL:
            return Refusal(None)
        if request.field == dimse.C_ECHO and sop_class == VERIFICATION:
            return Refusal(Answer())
        if request.field == dimse.C_STORE and sop_class in STORAGE and request.sop_class == sop_class:
            if not request.has_data:
                return Refusal(Answer(dimse.CANNOT_UNDERSTAND, "there is no data set"))
            if not request.sop_instance:
                return Refusal(Answer(dimse.INVALID_INSTANCE, "Affected SOP Instance UID is missing or malformed"))
            return Store(self, origin, request, transfer_syntax)
        if request.field == dimse.N_EVENT_REPORT and sop_class == COMMITMENT == request.sop_class:
            return CommitmentReport(self, origin, request, transfer_syntax)
        if request.field in (dimse.C_ECHO, dimse.C_STORE, dimse.N_EVENT_REPORT):
            return Refusal(Answer(dimse.NOT_SUPPORTED, "the SOP class does not belong to this presentation context"))
        return Refusal(Answer(dimse.UNRECOGNIZED))

    @contextmanager
    def inspecting(self) -> Iterator[None]:
        """Notes that this thread parses foreign bytes, for `overdue`."""
        thread = threading.get_ident()
        self._inspections[thread] = time.monotonic()
        try:
            yield
        finally:
            del self._inspections[thread]

    def overdue(self) -> bool:
        """Whether parsing one data set takes longer than the limits allow."""
        latest = time.monotonic() - self.writer.limits.seconds
        return any(began < latest for began in list(self._inspections.values()))


class Refusal:
    """A request that is answered without looking at its data set."""

    def __init__(self, answer: Answer | None) -> None:
        self._answer = answer

    def write(self, data: memoryview) -> None:
        pass

    def end(self) -> Answer | None:
        return self._answer

    def abandon(self) -> None:
        pass


class Store:
    """One C-STORE: success is answered when the instance is in the inbox, on the disk."""

    def __init__(self, reception: Reception, origin: Origin, request: Command, transfer_syntax: str) -> None:
        self._reception, self._origin, self._request = reception, origin, request
        self._failure: Answer | None = None
        self._incoming: Incoming | None = None
        meta = file_meta(request.sop_class, request.sop_instance, transfer_syntax, origin.sender)
        with self._failing():
            self._incoming = reception.writer.begin(meta)

    def write(self, data: memoryview) -> None:
        if self._incoming is not None:
            with self._failing():
                self._incoming.write(data)

    def end(self) -> Answer:
        if self._incoming is not None:
            with self._failing():
                self._keep(self._incoming)
        return self._failure or Answer()

    def abandon(self) -> None:
        if self._incoming is not None:
            self._incoming.discard()
            self._incoming = None

    def _keep(self, incoming: Incoming) -> None:
        limits = self._reception.writer.limits
        with incoming.reading() as stream, self._reception.inspecting():
            found = inspection.inspect(stream, limits)
        for name, tag, expected in (
            ("sop_class_uid", (0x0008, 0x0016), self._request.sop_class),
            ("sop_instance_uid", (0x0008, 0x0018), self._request.sop_instance),
        ):
            if found[0][name] != expected:
                raise _Refused(Answer(dimse.MISMATCH, "the data set is not the instance that was announced", (tag,)))
        for name, tag in (("study_uid", (0x0020, 0x000D)), ("series_uid", (0x0020, 0x000E))):
            if not found[0][name]:
                raise _Refused(Answer(dimse.MISMATCH, "the data set does not name its study or its series", (tag,)))
        origin = self._origin
        incoming.keep(found, "dimse", origin.sender, origin.association, origin.remote)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Whatever goes wrong becomes the failure that is answered; the rest of the data set is then let pass."""
        try:
            yield
            return
        except _Refused as refused:
            self._failure = refused.answer
        except (NoSpace, MemoryError):
            self._failure = Answer(dimse.OUT_OF_RESOURCES, "no room for this instance now; send it again later")
        except TooLarge as error:
            self._failure = Answer(dimse.TOO_LARGE, _shortened(error.detail))
        except InputError as error:
            self._failure = Answer(dimse.CANNOT_UNDERSTAND, _shortened(error.detail))
        except Exception as error:  # noqa: BLE001 - the association must go on, and the log says what happened
            self._failure = Answer(dimse.PROCESSING_FAILURE, f"fault of the receiver, incident {incident(error)}")
        self.abandon()


class CommitmentReport:
    """An N-EVENT-REPORT of the Storage Commitment Push Model (PS3.4 J.3.3): laid down as an event."""

    def __init__(self, reception: Reception, origin: Origin, request: Command, transfer_syntax: str) -> None:
        self._reception, self._origin, self._request = reception, origin, request
        self._implicit = transfer_syntax == "1.2.840.10008.1.2"
        self._data: io.BytesIO | None = io.BytesIO()

    def write(self, data: memoryview) -> None:
        if self._data is not None:
            self._data.write(data)
            if self._data.tell() > _REPORT_BYTES:
                self._data = None

    def end(self) -> Answer:
        if self._request.event_type not in (1, 2):
            return Answer(0x0113, "no such event type")
        try:
            if self._data is None:
                raise ValueError("size")
            with self._reception.inspecting():
                ds = decode(self._data, self._implicit, True)
                transaction = _identifier(ds, "TransactionUID")
                succeeded = [_reference(item) for item in ds.get("ReferencedSOPSequence") or ()]
                failed = [
                    (*_reference(item), int(item.get("FailureReason") or 0))
                    for item in ds.get("FailedSOPSequence") or ()
                ]
            if len(succeeded) + len(failed) > _REPORT_INSTANCES or not all(0 <= row[2] <= 0xFFFF for row in failed):
                raise ValueError("content")
        except Exception:  # noqa: BLE001 - what a parser raises on foreign bytes is the sender's fault
            return Answer(0x0115, "the report cannot be understood")
        try:
            self._reception.writer.event(
                "commitment",
                association=self._origin.association,
                sender=self._origin.sender,
                transaction_uid=transaction,
                succeeded=succeeded,
                failed=failed,
            )
        except NoSpace:
            return Answer(0x0213, "no room for the report now; send it again later")
        except (OSError, ValueError) as error:
            return Answer(dimse.PROCESSING_FAILURE, f"fault of the receiver, incident {incident(error)}")
        return Answer()

    def abandon(self) -> None:
        pass


class _Refused(Exception):
    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


def incident(error: BaseException) -> str:
    """Log a fault of ours by where it happened, without its text, which may hold foreign data; the incident's number."""
    number, steps, trace = uuid.uuid4().hex[:12], [], error.__traceback__
    while trace is not None:
        steps.append(f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    _log.error("incident %s: %s in %s", number, type(error).__name__, " > ".join(steps))
    return number


def _shortened(text: str) -> str:
    """At most 64 characters (VR LO), cut between words."""
    if len(text) <= 64:
        return text
    return text[:64].rpartition(" ")[0] or text[:64]


def _identifier(ds: Dataset, keyword: str) -> str:
    text = str(ds.get(keyword) or "").strip("\0 ")
    if not _UID.fullmatch(text):
        raise ValueError(keyword)
    return text


def _reference(item: Dataset) -> tuple[str, str]:
    return _identifier(item, "ReferencedSOPClassUID"), _identifier(item, "ReferencedSOPInstanceUID")
