"""C-STORE as a service class user (PS3.4 annex B): the bytes of the file, unchanged, several objects on one association."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from service.delivery.association import accepted, not_accepted, opened
from service.delivery.attempt import Outcome, Outgoing, Sent, TryAgain, gone, of_status
from service.delivery.destinations import Dicom

_config.STORE_SEND_CHUNKED_DATASET = True
"""A file given by its path is sent as it lies there; otherwise pynetdicom decodes it and encodes it anew."""

SLOWEST_BYTES_S = 250_000
"""Bytes a second below which a transfer counts as stalled: an answer is waited for `timeout_s` plus the object's size by this."""

_ENDED = "the association ended before this object was sent"


def send(destination: Dicom, objects: Sequence[Outgoing]) -> tuple[Outcome, ...]:
    """Send objects on one association, one outcome each, in their order.

    Each SOP class is proposed in the transfer syntax the object is stored in, and in no other: nothing is converted.

    Parameters
    ----------
    destination : Dicom
    objects : sequence of Outgoing
    """
    if not objects:
        return ()
    wanted = [(entry.sop_class_uid, entry.transfer_syntax_uid) for entry in objects]
    with opened(destination, wanted) as association:
        if isinstance(association, TryAgain):
            return (association,) * len(objects)
        outcomes: list[Outcome] = []
        for number, (entry, syntaxes) in enumerate(zip(objects, wanted, strict=True), 1):
            if not association.is_established:
                outcomes.append(TryAgain(_ENDED))
            elif not accepted(association, syntaxes):
                outcomes.append(not_accepted(destination, syntaxes))
            else:
                outcomes.append(_one(association, destination, entry, number))
    return tuple(outcomes)


def echo(destination: Dicom) -> Sent | TryAgain:
    """Ask by C-ECHO (PS3.4 annex A) whether the destination is there and knows us."""
    with opened(destination, [(str(Verification), str(ImplicitVRLittleEndian))]) as association:
        if isinstance(association, TryAgain):
            return association
        status = association.send_c_echo().get("Status")
    if status is None:
        return TryAgain(f"no answer to C-ECHO within {destination.timeout_s:g} s")
    return Sent() if status == 0 else TryAgain(f"C-ECHO status 0x{status:04X}")


def _one(association: Association, destination: Dicom, entry: Outgoing, number: int) -> Outcome:
    try:
        patience = destination.timeout_s + entry.size() / SLOWEST_BYTES_S
        association.dimse_timeout = patience
        began = time.monotonic()
        with _on_disk(entry) as path:
            answer = association.send_c_store(path, msg_id=(number - 1) % 65535 + 1)
    except FileNotFoundError:
        return gone(entry)
    except RuntimeError:
        return TryAgain(_ENDED)
    status = answer.get("Status")
    if status is not None:
        return of_status(int(status), "C-STORE")
    association.abort()  # whatever else comes on it cannot be told from the answer that is missing
    if time.monotonic() - began >= patience:
        return TryAgain(f"no answer to C-STORE within {patience:.0f} s")
    return TryAgain("the peer aborted the association or the connection broke")


@contextmanager
def _on_disk(entry: Outgoing) -> Iterator[Path]:
    if isinstance(entry.content, Path):
        yield entry.content
        return
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(entry.content)
        file.flush()
        yield Path(file.name)
