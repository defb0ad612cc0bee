"""The service's end of the DICOM listener: opens the port, starts the receiving processes on it, and replaces those that die."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from service.config import ConfigError, Settings
from service.dimse.access import Peers
from service.dimse.crowd import SharedCrowd
from service.dimse.receiver import STOP_S, Configuration, tls_context
from service.errors import NoSpace
from service.intake.child import ENVIRONMENT
from service.intake.deposit import Writer
from service.intake.limits import Limits

_START_S = 60.0
_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 30.0
_STEADY_S = 60.0
"""A receiver that ran this long is replaced at once when it dies."""
_BACKLOG = 256
_log = logging.getLogger(__name__)


@dataclass
class _Slot:
    """One receiving process, and its successors."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    prefix: str = ""
    started: float = 0.0
    backoff: float = _BACKOFF_S
    due: float = 0.0
    said: bytearray = field(default_factory=bytearray)
    ready: bool = False


class Listener:
    """Receives DICOM in processes of its own. Thread-safe; a context manager once started.

    Parameters
    ----------
    settings : Settings
        host, dicom_*, ae_title, upload_bytes, free_bytes.
    inbox : Path
        Folder where what arrives is laid down; see `service.intake.inbox`.
    limits : Limits
    """

    def __init__(self, settings: Settings, inbox: Path, limits: Limits) -> None:
        self._settings, self._inbox, self._limits = settings, inbox.resolve(), limits
        self._socket: socket.socket | None = None
        self._port = 0
        self._slots = [_Slot(number) for number in range(settings.dicom_processes)]
        self._memory = SharedCrowd.make(max(1, len(self._slots)))
        self._crowd = SharedCrowd(self._memory, max(1, len(self._slots)), -1, settings.dicom_associations)
        self.wake_fd, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        """Readable when something was laid down; read and throw away. `writer` gives other entrances the same."""
        self.writer = Writer(self._inbox, limits, settings.free_bytes, self._wake)
        self._stopping, self._tell = os.pipe2(os.O_CLOEXEC)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    def start(self) -> None:
        """Open the port and start the receivers; returns when all of them accept.

        Raises
        ------
        ConfigError
            For TLS files or peers that cannot be used.
        OSError
            When the port cannot be opened.
        """
        settings = self._settings
        try:
            Peers(settings.dicom_peers)
            tls_context(settings.dicom_tls_cert, settings.dicom_tls_key, settings.dicom_tls_ca)
        except ValueError as error:
            raise ConfigError(f"dicom_peers: {error}") from None
        except OSError as error:
            raise ConfigError(
                f"dicom_tls_cert, dicom_tls_key, dicom_tls_ca: cannot be used ({error.strerror}); "
                "give readable PEM files that belong together"
            ) from None
        if settings.dicom_tls_ca and not settings.dicom_tls_cert:
            raise ConfigError("dicom_tls_ca: needs dicom_tls_cert and dicom_tls_key")
        if not self._slots:
            return
        self._socket = _listen(settings.host, settings.dicom_port)
        self._port = int(self._socket.getsockname()[1])
        for slot in self._slots:
            self._spawn(slot)
        end = time.monotonic() + _START_S
        while not all(slot.ready for slot in self._slots):
            self._hear(0.5)
            if time.monotonic() > end or any(self._dead(slot) for slot in self._slots):
                self.stop()
                raise ConfigError("a DICOM receiver did not start; the log says why")
        self._thread = threading.Thread(target=self._watch, name="dicom-listener", daemon=True)
        self._thread.start()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port that is really listened on; 0 where there is no listener."""
        return self._port

    @property
    def alive(self) -> bool:
        """Whether at least one receiver accepts associations; True where none is configured."""
        return not self._slots or any(slot.ready for slot in self._slots)

    @property
    def pids(self) -> list[int]:
        """Process ids of the running receivers."""
        return [slot.process.pid for slot in self._slots if slot.process is not None and slot.process.poll() is None]

    @property
    def associations(self) -> int:
        """Open associations of all receivers."""
        return self._crowd.associations()

    def stop(self) -> None:
        """Close the port, let running C-STOREs finish for some seconds, end the receivers. May be called again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        os.write(self._tell, b"\0")
        if self._thread is not None:
            self._thread.join()
        running = [slot.process for slot in self._slots if slot.process is not None]
        for process in running:
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
        if self._socket is not None:
            self._socket.close()
        end = time.monotonic() + STOP_S + 1
        for process in running:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        for descriptor in (self.wake_fd, self._wake, self._stopping, self._tell, self._memory):
            os.close(descriptor)
        self.writer.close()

    def _spawn(self, slot: _Slot) -> None:
        settings = self._settings
        if self._socket is None:
            raise RuntimeError("the port is not open")
        shared = (self._socket.fileno(), self._wake, self._memory)
        told = Configuration(
            inbox=str(self._inbox),
            ae_title=settings.ae_title,
            called=settings.ae_title if settings.dicom_called == "own" else None,
            peers=settings.dicom_peers,
            tls_cert=settings.dicom_tls_cert,
            tls_key=settings.dicom_tls_key,
            tls_ca=settings.dicom_tls_ca,
            associations=settings.dicom_associations,
            pdu_bytes=settings.dicom_pdu_bytes,
            idle_s=settings.dicom_idle_s,
            free_bytes=settings.free_bytes,
            limits=asdict(self._limits),
            listening=shared[0],
            wake=shared[1],
            crowd=shared[2],
            slots=len(self._slots),
            slot=slot.number,
        )
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "service.dimse.receiver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders print values of what they read
            cwd=Path.cwd(),  # the settings may name TLS files relative to it
            env={**ENVIRONMENT, "MALLOC_ARENA_MAX": "2"},
            bufsize=0,
            pass_fds=shared,
            start_new_session=True,  # Ctrl-C at the service's terminal is the service's business
        )
        slot.process, slot.prefix, slot.ready, slot.started = process, "", False, time.monotonic()
        slot.said.clear()
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.write(told.line())

    def _watch(self) -> None:
        """The supervising thread: hears what receivers say, and replaces the dead."""
        while not self._hear(1.0):
            for slot in self._slots:
                if slot.process is not None and slot.process.poll() is not None:
                    self._bury(slot)
                if slot.process is None and time.monotonic() >= slot.due:
                    self._respawn(slot)

    def _respawn(self, slot: _Slot) -> None:
        try:
            self._spawn(slot)
        except OSError as error:  # no memory, no process: it may pass
            slot.due = time.monotonic() + slot.backoff
            _log.error("DICOM receiver %d cannot be started (%s); tried again later", slot.number, error.strerror)

    def _bury(self, slot: _Slot) -> None:
        process = slot.process
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        self._crowd.gone(slot.number)
        if slot.prefix:
            try:
                self.writer.event("receiver-lost", association=slot.prefix)
            except (NoSpace, OSError):
                _log.warning("DICOM receiver %d: no room to note its end", slot.number)
        if time.monotonic() - slot.started > _STEADY_S:
            slot.backoff = _BACKOFF_S
        _log.error(
            "DICOM receiver %d ended (exit code %s); started anew in %.1f s",
            slot.number,
            process.returncode,
            slot.backoff,
        )
        slot.process, slot.ready, slot.due = None, False, time.monotonic() + slot.backoff
        slot.backoff = min(2 * slot.backoff, _LONGEST_BACKOFF_S)

    def _hear(self, seconds: float) -> bool:
        """Wait for receivers to say something or to end; True when the listener is to stop."""
        poll = select.poll()
        poll.register(self._stopping, select.POLLIN)
        speakers = {}
        for slot in self._slots:
            if slot.process is not None and slot.process.stdout is not None:
                descriptor = slot.process.stdout.fileno()
                speakers[descriptor] = slot
                poll.register(descriptor, select.POLLIN)
        due = min((slot.due for slot in self._slots if slot.process is None), default=None)
        if due is not None:
            seconds = min(seconds, max(0.0, due - time.monotonic()))
        for descriptor, _ in poll.poll(1000 * seconds):
            if descriptor == self._stopping:
                return True
            slot = speakers[descriptor]
            got = os.read(descriptor, 1 << 16)
            if not got and slot.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    slot.process.wait(1.0)  # its output ends when it does
            slot.said += got
            while b"\n" in slot.said:
                line, _, rest = slot.said.partition(b"\n")
                slot.said = bytearray(rest)
                self._understand(slot, bytes(line))
            del slot.said[: -(1 << 16)]
        return False

    def _understand(self, slot: _Slot, line: bytes) -> None:
        """One line of a receiver, which a hostile data set may have taken over."""
        try:
            message = json.loads(line)
            if "ready" in message:
                prefix = str(message["ready"])
                slot.ready, slot.prefix = True, prefix if prefix.isascii() and len(prefix) < 32 else ""
            else:
                text = str(message.get("log") or message.get("failed") or "")
                _log.warning("DICOM receiver %d: %s", slot.number, "".join(filter(str.isprintable, text))[:300])
        except (ValueError, AttributeError, TypeError, RecursionError):
            _log.warning("DICOM receiver %d says something that is not understood", slot.number)

    @staticmethod
    def _dead(slot: _Slot) -> bool:
        return slot.process is not None and slot.process.poll() is not None


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket that many processes may accept on."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and address[0] == "::":
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # :: means every address of this computer
        opened.bind(address)
        opened.listen(_BACKLOG)
        opened.setblocking(False)
    except OSError:
        opened.close()
        raise
    return opened
