"""One association with a DICOM destination, opened with limits on everything that could hang."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydicom.uid import UID
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.transport import AddressInformation, AssociationSocket

from service import uids
from service.delivery import tls
from service.delivery.attempt import TryAgain
from service.delivery.destinations import Dicom

Syntaxes = tuple[str, str]
"""(abstract syntax, transfer syntax) of one presentation context."""

_REJECTIONS = {  # (source, reason): PS3.8 table 9-21
    (1, 2): "it does not know our application context",
    (1, 3): "our AE title {ours} is not known there: add it there, or correct calling_ae",
    (1, 7): "the AE title {theirs} is not known there: correct ae_title",
    (2, 2): "it does not speak our protocol version",
    (3, 1): "it is congested",
    (3, 2): "it has too many associations",
}


class _Socket(AssociationSocket):
    """pynetdicom 3.0.4 leaves the socket of a refused connection open until it is collected."""

    def _shutdown_socket(self) -> None:
        super()._shutdown_socket()
        if self.socket is not None:
            self.socket.close()


class _Entity(AE):
    def __init__(self, ae_title: str) -> None:
        super().__init__(ae_title=ae_title)
        self.implementation_class_uid = UID(uids.IMPLEMENTATION_CLASS_UID)
        self.implementation_version_name = uids.IMPLEMENTATION_VERSION

    def _create_socket(
        self, assoc: Association, address: AddressInformation, tls_args: tuple[ssl.SSLContext, str] | None
    ) -> AssociationSocket:
        created = _Socket(assoc, address=address)
        created.tls_args = tls_args
        return created


@contextmanager
def opened(
    destination: Dicom, syntaxes: Sequence[Syntaxes], handlers: Sequence[EventHandlerType] = ()
) -> Iterator[Association | TryAgain]:
    """An established association, released at the end; or why there is none.

    Parameters
    ----------
    destination : Dicom
    syntaxes : sequence of (str, str)
        What to propose: one presentation context each. At least one of them is accepted when an association is given.
    handlers : sequence
        Event handlers of pynetdicom.
    """
    entity = _Entity(ae_title=destination.calling_ae)
    entity.connection_timeout = destination.timeout_s
    entity.acse_timeout = destination.timeout_s
    entity.dimse_timeout = destination.timeout_s
    entity.network_timeout = None  # we never wait without a timeout of our own
    connected: list[bool] = []

    def prepare(event: Event) -> None:
        """Send small PDUs at once (Nagle costs 40 ms an object), and never block for ever on a peer that stalls."""
        connected.append(True)
        transport = event.assoc.dul.socket
        if transport is not None and transport.socket is not None:
            transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport.socket.settimeout(destination.timeout_s)

    try:
        arguments = (context(destination), destination.host) if destination.tls else None
    except ValueError as error:
        yield TryAgain(f"TLS files: {error}")
        return
    try:
        association = entity.associate(
            destination.host,
            destination.port,
            contexts=[build_context(abstract, transfer) for abstract, transfer in dict.fromkeys(syntaxes)],
            ae_title=destination.ae_title,
            tls_args=arguments,
            evt_handlers=[(evt.EVT_CONN_OPEN, prepare), *handlers],
        )
    except (OSError, UnicodeError) as error:
        yield TryAgain(_unconnected(destination, error))
        return
    if not association.is_established:
        yield TryAgain(_refusal(destination, association, bool(connected)))
        return
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def context(destination: Dicom) -> ssl.SSLContext:
    """TLS context of a destination."""
    return tls.client_context(
        destination.tls_ca, destination.tls_cert, destination.tls_key, destination.tls_verify_hostname
    )


def accepted(association: Association, syntaxes: Syntaxes) -> bool:
    """Whether the peer takes this SOP class in this transfer syntax."""
    return any(
        entry.abstract_syntax == syntaxes[0] and syntaxes[1] in entry.transfer_syntax
        for entry in association.accepted_contexts
    )


def not_accepted(destination: Dicom, syntaxes: Syntaxes) -> TryAgain:
    """Outcome for a SOP class that the peer did not accept: somebody can enable it there."""
    return TryAgain(
        f"{destination.ae_title} does not accept {UID(syntaxes[0]).name} in {UID(syntaxes[1]).name}: enable it there, "
        "or leave this kind out of objects"
    )


def _refusal(destination: Dicom, association: Association, connected: bool) -> str:
    """Why a call to associate did not give an association."""
    if not connected:
        return _unconnected(destination, None)
    if association.is_rejected and association.acceptor.primitive is not None:
        answer = association.acceptor.primitive
        lasting = "" if answer.result == 2 else " (permanently)"
        known = (int(answer.result_source or 0), int(answer.diagnostic or 0))
        why = _REJECTIONS.get(known, f"source {known[0]}, reason {known[1]}")
        return f"association rejected{lasting}: " + why.format(ours=destination.calling_ae, theirs=destination.ae_title)
    refused = association.rejected_contexts
    if refused and refused[0].abstract_syntax is not None:
        return not_accepted(destination, (refused[0].abstract_syntax, refused[0].transfer_syntax[0])).reason
    return "the peer did not answer the association request as DICOM asks, or not in time"


def _unconnected(destination: Dicom, error: Exception | None) -> str:
    """Why there is no connection; pynetdicom only logs it, so it is asked once more where the cause is not known."""
    if error is None:
        try:
            with socket.create_connection((destination.host, destination.port), destination.timeout_s) as plain:
                if destination.tls:
                    context(destination).wrap_socket(plain, server_hostname=destination.host).close()
            return "the connection failed"
        except (OSError, UnicodeError) as found:
            error = found
    match error:
        case ssl.SSLError():
            return tls.failure(error)
        case socket.gaierror() | UnicodeError():
            return "the host name cannot be resolved"
        case ConnectionRefusedError():
            return "connection refused: nothing listens at this host and port"
        case TimeoutError():
            return f"no connection within {destination.timeout_s:g} s"
        case _:
            return "the host cannot be reached"
