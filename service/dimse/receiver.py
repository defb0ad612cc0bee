"""A receiving process: ``python -P -m service.dimse.receiver``, started by the `listener`. Accepts on the socket it inherits.

Its first line on standard input is the configuration as JSON; a further line, or the end, stops it. What it has to say goes to
standard output as lines of JSON.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import resource
import select
import signal
import socket
import ssl
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydicom.uid import UID
from pynetdicom import _config
from pynetdicom.ae import ApplicationEntity

from service.dimse.access import Peers
from service.dimse.association import Acceptance, Acceptor
from service.dimse.contexts import supported
from service.dimse.crowd import SharedCrowd
from service.dimse.operations import Reception
from service.intake.deposit import Writer
from service.intake.limits import Limits
from service.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION

NEGOTIATION_S = 15.0
"""Seconds for a TLS handshake, for an A-ASSOCIATE-RQ to arrive, and for a rejected peer to go."""
STOP_S = 5.0
"""Seconds that running C-STOREs have to finish after a stop."""
EXIT_OVERDUE = 70

_STACK_BYTES = 1 << 20
_MEMORY_PER_CONNECTION = 4 << 20
_MAPPED_BYTES = 512 << 20
_WAITING = 32
"""Connections beyond the limit that are still listened to, to reject them politely."""
_DEFER_S = 0.002
_DEFERRALS = 10


@dataclass(frozen=True)
class Configuration:
    """All that a receiver is told."""

    inbox: str
    ae_title: str
    called: str | None
    peers: tuple[str, ...]
    tls_cert: str
    tls_key: str
    tls_ca: str
    associations: int
    pdu_bytes: int
    idle_s: float
    free_bytes: int
    limits: dict[str, Any]
    listening: int
    wake: int
    crowd: int
    slots: int
    slot: int

    def line(self) -> bytes:
        """As the first line on the receiver's standard input."""
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"


def tls_context(certificate: str, key: str, authorities: str) -> ssl.SSLContext | None:
    """TLS as acceptor, 1.2 or newer (BCP 195, PS3.15 B.12); None without a certificate.

    Raises
    ------
    OSError
        Files that cannot be read or do not belong together (ssl.SSLError).
    """
    if not certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key or None)
    if authorities:
        context.load_verify_locations(authorities)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class Receiver:
    """Accepts connections and runs their associations until it is stopped."""

    def __init__(self, told: Configuration) -> None:
        self._told, limits = told, Limits(**told.limits)
        self._listening = socket.socket(fileno=told.listening)
        self._crowd = SharedCrowd(told.crowd, told.slots, told.slot, told.associations)
        self._writer = Writer(Path(told.inbox), limits, told.free_bytes, told.wake)
        self._reception = Reception(self._writer)
        entity = ApplicationEntity(told.ae_title)
        entity.maximum_pdu_size = told.pdu_bytes
        entity.maximum_associations = 1 << 16  # the crowd's business
        entity.acse_timeout, entity.network_timeout, entity.dimse_timeout = NEGOTIATION_S, told.idle_s, told.idle_s
        entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        entity.implementation_version_name = IMPLEMENTATION_VERSION
        self._acceptance = Acceptance(
            entity=entity,
            called=told.called,
            peers=Peers(told.peers),
            contexts=supported(),
            reception=self._reception,
            crowd=self._crowd,
            tls=tls_context(told.tls_cert, told.tls_key, told.tls_ca),
            idle_s=told.idle_s,
        )
        self._all: set[Acceptor] = set()
        self._lock = threading.Lock()
        self._number = 0

    @property
    def prefix(self) -> str:
        """What the ids of all associations of this receiver begin with."""
        return f"{self._writer.token}."

    def serve(self, control: int) -> None:
        """Accept until `control` is readable, then let running C-STOREs finish."""
        self._crowd.connections(0)
        poll = select.poll()
        poll.register(control, select.POLLIN)
        poll.register(self._listening, select.POLLIN)
        deferred = 0
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(1000)}
            if self._reception.overdue():
                say({"log": "a data set took too long to read; the receiver is started anew"})
                os._exit(EXIT_OVERDUE)
            if control in ready:
                break
            if self._listening.fileno() not in ready:
                continue
            if self._crowd.busiest() and deferred < _DEFERRALS:
                deferred += 1
                time.sleep(_DEFER_S)  # another receiver has less to do: let it have this one
                continue
            deferred = 0
            self._accept()
        self._listening.close()
        self._end()

    def _accept(self) -> None:
        try:
            connection, address = self._listening.accept()
        except OSError:  # another receiver was faster, or the peer has gone
            return
        if len(self._all) >= self._told.associations + _WAITING:
            connection.close()
            return
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._number += 1
            acceptor = Acceptor(self._acceptance, connection, address, f"{self.prefix}{self._number}", self._left)
            with self._lock:
                self._all.add(acceptor)
                self._crowd.connections(len(self._all))
            acceptor.start()

    def _left(self, acceptor: Acceptor) -> None:
        with self._lock:
            self._all.discard(acceptor)
            self._crowd.connections(len(self._all))

    def _end(self) -> None:
        end = time.monotonic() + STOP_S
        with self._lock:
            running = list(self._all)
        for acceptor in running:
            acceptor.stop()
        for acceptor in running:
            acceptor.join(max(0.0, end - time.monotonic()))


def say(message: dict[str, Any]) -> None:
    """Tell the parent something, as one line; what does not fit into its pipe is dropped."""
    with suppress(OSError):
        os.write(1, json.dumps(message).encode()[:4000] + b"\n")


class _Saying(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say({"log": record.getMessage()[:300]})


def confine(told: Configuration) -> None:
    """Bound this process for good: private memory, address space, size of written files, descriptors, no core dump."""
    limits = Limits(**told.limits)
    connections = told.associations + _WAITING
    data = limits.child_memory_bytes + connections * _MEMORY_PER_CONNECTION
    for which, value in (
        (resource.RLIMIT_DATA, data),
        (resource.RLIMIT_AS, data + _MAPPED_BYTES),
        (resource.RLIMIT_FSIZE, limits.file_bytes + (1 << 20)),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64 + 4 * connections),
    ):
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def main() -> None:
    """Run one receiver."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    os.umask(0o077)
    os.set_blocking(1, False)
    line = bytearray()
    while not line.endswith(b"\n"):
        got = os.read(0, 1)
        if not got:
            return
        line += got
    told = Configuration(**json.loads(line))
    _config.LOG_HANDLER_LEVEL = "none"
    logging.getLogger("pynetdicom").disabled = True
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("pynetdicom", "pydicom")):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # their messages quote what was received
    logging.getLogger("service").addHandler(_Saying())
    threading.stack_size(_STACK_BYTES)
    try:
        receiver = Receiver(told)
    except (OSError, ValueError) as error:
        reason = (
            "TLS files cannot be used" if isinstance(error, ssl.SSLError) else getattr(error, "strerror", None) or error
        )
        say({"failed": str(reason)[:300]})
        return
    confine(told)
    gc.freeze()
    say({"ready": receiver.prefix})
    receiver.serve(0)
    os._exit(0)  # without waiting for associations that hang


if __name__ == "__main__":
    main()
    sys.exit(1)
