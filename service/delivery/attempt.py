"""What is sent, and how one attempt to send it can end.

Reasons are for a person who looks after the destination: short, with what to do where we know it, and without patient data:
texts of the other side are never repeated, only their codes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydicom.uid import ExplicitVRLittleEndian

from service.records import ObjectKind

DUPLICATE = 0x0111
"""Duplicate SOP Instance (PS3.7 annex C): what we send is there already, which is what we want."""

_WARNINGS = {
    0x0001: "requested optional attributes are not supported",
    0x0107: "attribute list error",
    0x0116: "attribute value out of range",
    0xB000: "elements were coerced",
    0xB006: "elements were discarded",
    0xB007: "the data set does not match its SOP class",
}
_TRANSIENT = {
    0x0110: "processing failure",
    0x0122: "SOP class not supported there: enable it",
    0x0124: "not authorised: allow our AE title or account to store",
    0x0211: "unrecognised operation: storage is not enabled there",
}


@dataclass(frozen=True)
class Outgoing:
    """One result object on its way.

    Attributes
    ----------
    kind : str
        Object kind of the HTTP contract.
    sop_class_uid, sop_instance_uid, transfer_syntax_uid : str
        As in the file's meta information.
    content : bytes or Path
        A whole Part 10 file (PS3.10 section 7), or where it lies.
    """

    kind: ObjectKind
    sop_class_uid: str
    sop_instance_uid: str
    content: bytes | Path = field(repr=False)
    transfer_syntax_uid: str = str(ExplicitVRLittleEndian)

    def size(self) -> int:
        """Length in bytes; raises OSError where the file is gone."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


@dataclass(frozen=True)
class Notice:
    """One callback: the Analysis body of the HTTP contract as JSON, and the id that every attempt to deliver it shares."""

    delivery: str
    body: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", self.delivery):
            raise ValueError("a delivery id has 1 to 128 letters, digits or . _ : -")


@dataclass(frozen=True)
class Commitment:
    """What the other side says about the instances it was asked to keep (PS3.4 annex J.3.3).

    `committed` holds (SOP Class UID, SOP Instance UID), `failed` these with the Failure Reason (0008,1197).
    """

    transaction_uid: str
    committed: tuple[tuple[str, str], ...] = ()
    failed: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True)
class Sent:
    """It arrived; `detail` says what was not quite as it should be.

    `transaction_uid` and `commitment` belong to storage commitment: the request that was accepted, and its report where that
    came on the same association.
    """

    detail: str = ""
    transaction_uid: str = ""
    commitment: Commitment | None = None


@dataclass(frozen=True)
class TryAgain:
    """It did not arrive, and a later attempt may succeed: the destination was away, or a person can put it right there."""

    reason: str
    after_s: float | None = None
    """Seconds that the other side asks us to wait."""


@dataclass(frozen=True)
class GiveUp:
    """It did not arrive, and no repetition can change that: this object, as it is, is not acceptable there."""

    reason: str


Outcome = Sent | TryAgain | GiveUp


def gone(outgoing: Outgoing) -> GiveUp:
    """Outcome for an object whose file is no longer here."""
    return GiveUp(f"the {outgoing.kind} {outgoing.sop_instance_uid} is no longer stored here")


def of_status(status: int, protocol: Literal["C-STORE", "STOW-RS"]) -> Outcome:
    """What a storage status or failure reason means for the delivery.

    Only what says that this object can never be accepted ends the attempts; what an administrator can put right is tried
    again and reported meanwhile.

    Parameters
    ----------
    status : int
        Status (0000,0900) of a C-STORE response (PS3.4 table B.2-1, PS3.7 annex C), or Failure Reason (0008,1197) of a STOW-RS
        response (PS3.18 table I.2-2).
    protocol : str
        For the text.
    """
    shown = f"{protocol} status 0x{status:04X}"
    if status == 0x0000:
        return Sent()
    if status == DUPLICATE:
        return Sent(f"{shown}: was there already")
    if status in _WARNINGS or status & 0xF000 == 0xB000:
        return Sent(f"{shown}: {_WARNINGS.get(status, 'warning')}")
    if status & 0xFF00 == 0xA700:
        return TryAgain(f"{shown}: out of resources there")
    if status & 0xFF00 == 0xA900:
        return GiveUp(f"{shown}: the data set is refused as not matching its SOP class")
    if status & 0xF000 == 0xC000:
        return GiveUp(f"{shown}: the data set is refused as not understood")
    if status == 0x0117:
        return GiveUp(f"{shown}: the SOP instance is refused as invalid")
    return TryAgain(f"{shown}: {_TRANSIENT.get(status, 'not stored')}")
