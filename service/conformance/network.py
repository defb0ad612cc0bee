"""The DIMSE side: SOP classes with their roles and transfer syntaxes, statuses, association policies."""

from __future__ import annotations

from collections.abc import Iterator
from string import ascii_uppercase

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from service.config import Settings
from service.conformance import objects
from service.conformance.tables import size, status, table, uid
from service.delivery import association as initiator
from service.delivery import attempt, commitment, cstore
from service.dimse import association as acceptor
from service.dimse import command, contexts, receiver
from service.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION

STORE_STATUSES: dict[int, tuple[str, str]] = {
    command.SUCCESS: (
        "Success",
        "The data set was read, is the instance that was announced, and is on the disk (fsync).",
    ),
    command.OUT_OF_RESOURCES: (
        "Refused: out of resources",
        "The free space of the disk is at its reserve (`free_bytes`), or memory is short. Send it again later.",
    ),
    command.MISMATCH: (
        "Error: data set does not match SOP class",
        "SOP Class or SOP Instance UID is not the announced one, or Study or Series UID is missing; Offending Element says it.",
    ),
    command.CANNOT_UNDERSTAND: (
        "Error: cannot understand",
        "There is no data set, it is damaged or incomplete, or its pixels are not stored as its transfer syntax says.",
    ),
    command.TOO_LARGE: (
        "Error: cannot understand",
        "Larger than `upload_bytes`, `pixels` or another decoding limit allows. Sending it again does not help.",
    ),
    command.INVALID_INSTANCE: (
        "Failure: invalid SOP instance",
        "Affected SOP Instance UID is missing, or is not made of digits and dots.",
    ),
    command.NOT_SUPPORTED: (
        "Failure: SOP class not supported",
        "The Affected SOP Class UID is not that of the presentation context.",
    ),
    command.UNRECOGNIZED: (
        "Failure: unrecognized operation",
        "Any request but C-ECHO, C-STORE and N-EVENT-REPORT.",
    ),
    command.PROCESSING_FAILURE: (
        "Failure: processing failure",
        "A fault of this software. Error Comment gives the number under which the log has it.",
    ),
}
"""Each status that a request is answered with: meaning, and when. Error Comment (0000,0902) says the same in words."""

REPORT_STATUSES: dict[int, str] = {
    command.SUCCESS: "The report is on the disk.",
    0x0113: "Event Type ID is neither 1 nor 2.",
    0x0115: "The report cannot be understood.",
    0x0213: "No room for the report now; send it again later.",
    command.PROCESSING_FAILURE: "A fault of this software.",
}
"""Statuses that answer an N-EVENT-REPORT of the Storage Commitment Push Model."""

_TRIED = (
    0x0000, 0x0001, 0x0107, 0x0111, 0x0116, 0xB000, 0xB006, 0xB007,
    0xA700, 0x0110, 0x0122, 0x0124, 0x0211, 0x0117, 0xA900, 0xC000,
)  # fmt: skip
"""Statuses whose treatment is stated; one of each group of PS3.4 table B.2-1 and PS3.7 annex C."""
_REJECTIONS = (
    (
        acceptor.CALLED_NOT_RECOGNIZED,
        "called AE title not recognized",
        "`dicom_called` is `own` and another AE title was called.",
    ),
    (
        acceptor.CALLING_NOT_RECOGNIZED,
        "calling AE title not recognized",
        "`dicom_peers` does not name this AE title at this address.",
    ),
    (
        acceptor.LIMIT_EXCEEDED,
        "local limit exceeded",
        "More than `dicom_associations` associations, or the service is about to stop.",
    ),
)


def transfer_syntaxes() -> dict[tuple[str, ...], str]:
    """Letters for the lists of transfer syntaxes that are accepted, in the order of choice."""
    lists = dict.fromkeys(tuple(map(str, context.transfer_syntax or ())) for context in contexts.supported())
    return dict(zip(lists, ascii_uppercase, strict=False))


def _roles() -> Iterator[tuple[str, str, str]]:
    """SOP class, role as acceptor, letter of its transfer syntaxes."""
    letters = transfer_syntaxes()
    for context in contexts.supported():
        role = "SCU" if context.scp_role else "SCP"  # a role is stated only where it is inverted
        yield (
            str(context.abstract_syntax),
            role,
            letters[tuple(map(str, context.transfer_syntax or ()))],
        )


def accepted() -> str:
    """SOP classes that an association may be opened for, with our role."""
    header = ("SOP class", "UID", "our role", "transfer syntaxes")
    return table(header, [(uid(name), f"`{name}`", role, letter) for name, role, letter in _roles()])


def syntax_lists() -> str:
    """The lists of transfer syntaxes, one row a syntax."""
    letters = transfer_syntaxes()
    all_of_them = dict.fromkeys(syntax for syntaxes in letters for syntax in syntaxes)

    def rank(syntax: str, syntaxes: tuple[str, ...]) -> str:
        return str(syntaxes.index(syntax) + 1) if syntax in syntaxes else "-"

    return table(
        ("transfer syntax", "UID", *letters.values()),
        [(uid(syntax), f"`{syntax}`", *(rank(syntax, syntaxes) for syntaxes in letters)) for syntax in all_of_them],
    )


def sent() -> str:
    """SOP classes that are proposed to destinations."""
    rows = [
        (uid(name), f"`{name}`", "SCU", uid(ExplicitVRLittleEndian), kind)
        for kind, names in objects.SOP_CLASSES.items()
        for name in names
    ]
    push = contexts.COMMITMENT
    syntaxes = f"{uid(ExplicitVRLittleEndian)}; {uid(ImplicitVRLittleEndian)}"
    return table(
        ("SOP class", "UID", "our role", "transfer syntaxes", "object kind"),
        [*rows, (uid(push), f"`{push}`", "SCU", syntaxes, "")],
    )


def store_statuses() -> str:
    """Statuses of the Storage SCP."""
    rows = [(status(number), meaning, when) for number, (meaning, when) in STORE_STATUSES.items()]
    return table(("status", "meaning", "when"), rows)


def report_statuses() -> str:
    """Statuses that answer a commitment report."""
    return table(("status", "when"), [(status(number), when) for number, when in REPORT_STATUSES.items()])


def treatment() -> str:
    """What a status of a destination means for a delivery, asked from the code that decides it."""
    return table(
        ("status", "what happens", "what is noted"),
        [(status(number), *outcome(attempt.of_status(number, "C-STORE"))) for number in _TRIED],
    )


def outcome(found: attempt.Outcome) -> tuple[str, str]:
    """What becomes of a delivery after an attempt, and its reason without the status."""
    match found:
        case attempt.Sent():
            what, text = "delivered", found.detail
        case attempt.TryAgain():
            what, text = "tried again", found.reason
        case _:
            what, text = "set aside for a person", found.reason
    return what, text.partition(": ")[2] or text


def rejections() -> str:
    """When an association is rejected."""
    rows = [("{} / {} / {}".format(*answer), meaning, when) for answer, meaning, when in _REJECTIONS]
    return table(("result / source / reason", "meaning", "when"), rows)


def failure_reasons() -> str:
    """Failure Reasons of a commitment report that are known by name."""
    rows = [(status(number), meaning) for number, meaning in commitment.FAILURE_REASONS.items()]
    return table(("Failure Reason (0008,1197)", "meaning"), rows)


def as_acceptor(settings: Settings) -> str:
    """Properties of an association that a peer opens."""
    return table(
        ("property", "value"),
        [
            ("application context", "`1.2.840.10008.3.1.1.1`"),
            ("AE title", f"`{settings.ae_title}` (`ae_title`)"),
            ("port", f"{settings.dicom_port} (`dicom_port`) of `host`, IPv4 or IPv6"),
            ("largest PDU that we receive", f"{size(settings.dicom_pdu_bytes)} (`dicom_pdu_bytes`)"),
            ("associations at the same time", f"{settings.dicom_associations} (`dicom_associations`)"),
            ("receiving processes", f"{settings.dicom_processes} (`dicom_processes`)"),
            ("time for TLS handshake and association request", f"{receiver.NEGOTIATION_S:g} s"),
            ("an established association may be silent for", f"{settings.dicom_idle_s:g} s (`dicom_idle_s`), then it is aborted"),
            ("running C-STOREs have to end at a stop", f"within {receiver.STOP_S:g} s"),
            ("asynchronous operations window", "not negotiated: one operation at a time"),
            ("SOP class extended negotiation, user identity", "not answered"),
            ("role selection", f"for {uid(contexts.COMMITMENT)} only"),
            ("Implementation Class UID", f"`{IMPLEMENTATION_CLASS_UID}`"),
            ("Implementation Version Name", f"`{IMPLEMENTATION_VERSION}`"),
        ],
    )  # fmt: skip


def as_initiator(settings: Settings) -> str:
    """Properties of an association that we open to a destination."""
    entity = initiator._Entity(ae_title=settings.ae_title)
    return table(
        ("property", "value"),
        [
            ("calling AE title", f"`calling_ae` of the destination, else `{settings.ae_title}` (`ae_title`)"),
            ("largest PDU that we receive", f"{entity.maximum_pdu_size} bytes"),
            ("associations at the same time", "one a destination and host"),
            ("time for connection, association, and each answer", "`timeout_s` of the destination (default 30 s)"),
            ("time for a C-STORE answer", f"`timeout_s` and the object's size by {cstore.SLOWEST_BYTES_S} bytes/s"),
            ("asynchronous operations window", "not negotiated: one operation at a time"),
            ("Implementation Class UID", f"`{entity.implementation_class_uid}`"),
            ("Implementation Version Name", f"`{entity.implementation_version_name}`"),
        ],
    )
