"""An association as acceptor: pynetdicom negotiates, releases and aborts; between, a `Lane` serves the requests.

Bounds that pynetdicom leaves open are closed here: how long a PDU may be, how long it may take to arrive, and a TLS handshake
that never ends. The three classes below override pynetdicom's own and are tested against its pinned version.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, cast

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, AssociationSocket

from service.dimse import command as dimse
from service.dimse.access import Peers
from service.dimse.contexts import STORAGE
from service.dimse.lane import Lane
from service.dimse.operations import Operation, Origin, Reception, incident
from service.errors import NoSpace

CALLING_NOT_RECOGNIZED, CALLED_NOT_RECOGNIZED, LIMIT_EXCEEDED = (1, 1, 3), (1, 1, 7), (2, 3, 2)
"""(result, source, reason) of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

_CONTROL_PDU_BYTES = 1 << 20
"""Longest PDU that is no P-DATA-TF: an A-ASSOCIATE-RQ with all 128 presentation contexts has about 100 KiB."""


class Crowd(Protocol):
    """Counts the associations of all receivers."""

    def enter(self) -> bool:
        """Count one more; False, and not counted, where there would be more than allowed."""

    def leave(self) -> None:
        """Count one less."""


@dataclass(frozen=True)
class Acceptance:
    """What all associations of a receiver share."""

    entity: ApplicationEntity
    called: str | None
    """Called AE title that is demanded; None: any."""
    peers: Peers
    contexts: list[PresentationContext]
    reception: Reception
    crowd: Crowd
    tls: ssl.SSLContext | None
    idle_s: float


class BoundedSocket(AssociationSocket):
    """A connection from which nothing can be read that is too long or takes too long."""

    unread = b""
    """Bytes that were received already and come first."""

    @property
    def ready(self) -> bool:
        if self.unread:
            return True
        if self.socket is None or not self._is_connected:
            return False
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            return True
        poll = select.poll()  # select.select refuses descriptors beyond 1023
        try:
            poll.register(self.socket, select.POLLIN)
            return bool(poll.poll(0))
        except (OSError, ValueError):
            self.event_queue.put("Evt17")
            return False

    def recv(self, nr_bytes: int) -> bytearray:
        if nr_bytes > _CONTROL_PDU_BYTES:
            raise OSError("PDU too long")
        result = bytearray(self.unread[:nr_bytes])
        self.unread = self.unread[nr_bytes:]
        connection = cast(socket.socket, self.socket)
        end = time.monotonic() + (connection.gettimeout() or 60)
        while len(result) < nr_bytes and time.monotonic() < end:
            got = connection.recv(nr_bytes - len(result))
            if not got:
                break
            result += got
        return result


class UpperLayer(DULServiceProvider):
    """pynetdicom's state machine, standing aside while a lane reads the connection."""

    def __init__(self, association: Association) -> None:
        super().__init__(association)
        self._lane_ended = threading.Event()

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        finally:
            self.to_user_queue.put(None)  # type: ignore[arg-type]  # ends the wait for a request that will not come

    def resume(self) -> None:
        """The lane has ended: read the connection again."""
        self._lane_ended.set()

    def send_pdu(self, primitive: Any) -> None:
        super().send_pdu(primitive)
        if self.state_machine.current_state == "Sta6":  # an abort
            self.resume()

    def _is_transport_event(self) -> bool:
        if self.state_machine.current_state == "Sta6" and not self._lane_ended.is_set():
            self._lane_ended.wait()
            return True  # restarts the idle timer
        return super()._is_transport_event()


class Acceptor(Association):
    """One association from a connection on.

    Parameters
    ----------
    acceptance : Acceptance
    connection : socket
        Accepted, TLS not begun.
    address : tuple
        Of the peer, as `socket.accept` gives it.
    name : str
        Id of the association in events and entries.
    left : callable
        Called at the very end.
    """

    def __init__(
        self,
        acceptance: Acceptance,
        connection: socket.socket,
        address: Any,
        name: str,
        left: Callable[[Acceptor], None],
    ) -> None:
        super().__init__(acceptance.entity, "acceptor")
        self.dul = UpperLayer(self)
        entity = acceptance.entity
        self.acse_timeout, self.network_timeout = entity.acse_timeout, entity.network_timeout  # now of the new layer
        self.id, self._acceptance, self._connection, self._left = name, acceptance, connection, left
        self._address = AddressInformation.from_tuple(address)
        self._lane: Lane | None = None
        self._stop_asked = self._counted = False
        self.name = f"association-{name}"
        self.acceptor.maximum_length = entity.maximum_pdu_size
        self.acceptor.ae_title = entity.ae_title
        self.acceptor.implementation_class_uid = entity.implementation_class_uid
        self.acceptor.implementation_version_name = entity.implementation_version_name
        self.acceptor.supported_contexts = acceptance.contexts
        self.acceptor.address_info = AddressInformation.from_tuple(connection.getsockname())
        self.requestor.address_info = self._address
        self.bind(evt.EVT_REQUESTED, self._admit)

    def stop(self) -> None:
        """End after the message that is under way. From another thread."""
        self._stop_asked = True
        if self._lane is not None:
            self._lane.stop()
        elif not self.is_established:
            with suppress(OSError):
                socket.socket.shutdown(self._connection, socket.SHUT_RDWR)

    def run_reactor(self) -> None:
        """All of the association, in its own thread."""
        try:
            self._connection.settimeout(self.acse_timeout)
            if self._acceptance.tls is not None:
                self._connection = self._acceptance.tls.wrap_socket(self._connection, server_side=True)
            self.set_socket(BoundedSocket(self, client_socket=self._connection))
            super().run_reactor()
            if self.is_rejected:
                self.kill()  # waits until the peer has read why
        except OSError:  # a handshake that failed, a peer that went
            pass
        except Exception as error:  # noqa: BLE001 - one association must not take the receiver with it
            incident(error)
        finally:
            self.dul.kill_dul()
            self.resume()
            if self._counted:
                self._acceptance.crowd.leave()
            self._left(self)
            with suppress(OSError):
                self._connection.close()

    def resume(self) -> None:
        """Let the state machine go on."""
        cast(UpperLayer, self.dul).resume()

    def _admit(self, event: evt.Event) -> None:
        """Reject whom the settings do not let in. Fails closed: pynetdicom would accept after an exception."""
        try:
            reason = self._refusal(cast(A_ASSOCIATE, self.requestor.primitive))
        except Exception as error:  # noqa: BLE001
            incident(error)
            reason = CALLING_NOT_RECOGNIZED
        if reason is not None:
            self.acse.send_reject(*reason)

    def _refusal(self, request: A_ASSOCIATE) -> tuple[int, int, int] | None:
        acceptance = self._acceptance
        if acceptance.called is not None and (request.called_ae_title or "").strip() != acceptance.called:
            return CALLED_NOT_RECOGNIZED
        if not acceptance.peers.allow((request.calling_ae_title or "").strip(), self._address.address):
            return CALLING_NOT_RECOGNIZED
        self._counted = not self._stop_asked and acceptance.crowd.enter()
        return None if self._counted else LIMIT_EXCEEDED

    def _run_reactor(self) -> None:
        """Between negotiation and release: the lane, then pynetdicom's loop for what follows it."""
        origin = Origin(self.id, self.requestor.ae_title.strip(), self._address.address)
        storing = any(str(context.abstract_syntax) in STORAGE for context in self.accepted_contexts)
        try:
            if storing:
                self._note("association-opened", origin)
            self._serve(origin)
            super()._run_reactor()
        finally:
            if storing:
                self._note("association-closed", origin, outcome="released" if self.is_released else "aborted")

    def _serve(self, origin: Origin) -> None:
        acceptance = self._acceptance
        contexts = {
            number: (str(context.abstract_syntax), str(context.transfer_syntax[0]))
            for number, context in self._accepted_cx.items()
        }

        def begin(request: dimse.Command, context: int) -> Operation:
            return acceptance.reception.begin(origin, request, *contexts[context])

        self._lane = Lane(self._connection, contexts, begin, acceptance.entity.maximum_pdu_size, acceptance.idle_s)
        if self._stop_asked:
            self._lane.stop()
        ending = self._lane.run()
        transport = cast(BoundedSocket, self.dul.socket)
        transport.unread = self._lane.unread()
        self._connection.settimeout(self.acse_timeout)
        if ending in ("idle", "stopped"):
            self.abort()
        elif ending == "violation":
            transport.unread = b""
            self.dul.event_queue.put("Evt19")  # an invalid PDU: the state machine aborts (PS3.8 table 9-10)
        self.resume()

    def _note(self, kind: Any, origin: Origin, **fields: str) -> None:
        try:
            self._acceptance.reception.writer.event(
                kind, association=origin.association, sender=origin.sender, **fields
            )
        except (NoSpace, OSError) as error:  # an event is a hint to the assembly of series; its timers work without it
            incident(error)
