"""The fast lane of an established association: P-DATA-TF PDUs from the socket to the operations, and answers back, in one thread.

pynetdicom's own loops poll every millisecond in two threads and read 4 KiB at a time: 5 ms an object, and a busy processor while
nothing happens. Here the thread sleeps in the socket. Any PDU but P-DATA-TF is left unread for pynetdicom's state machine.
Sources: PS3.8 9.3.5 and annex E, PS3.7 6.3.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Literal

from service.dimse import command as dimse
from service.dimse.operations import Operation

P_DATA_TF = 4
_BUFFER = 1 << 18
_HEADERS = 12
"""Bytes of the headers of a PDU and its first PDV."""

Ending = Literal["other", "closed", "idle", "stopped", "violation"]
"""Why a lane ended: another PDU waits, the connection closed, silence, `stop` was called, the peer broke the protocol."""

Begin = Callable[[dimse.Command, int], Operation]
"""Starts the operation of a request on a presentation context."""


class Lane:
    """Serves requests until something else than P-DATA arrives.

    Parameters
    ----------
    connection : socket
        Its timeout is changed.
    contexts : mapping
        Accepted presentation contexts by their ids.
    begin : callable
    pdu_bytes : int
        Largest PDU that was negotiated.
    idle_s : float
        How long the peer may be silent.
    """

    def __init__(
        self, connection: socket.socket, contexts: Mapping[int, object], begin: Begin, pdu_bytes: int, idle_s: float
    ) -> None:
        self._flags = 0 if isinstance(connection, ssl.SSLSocket) else socket.MSG_WAITALL
        connection.settimeout(None if self._flags else idle_s)
        if self._flags:  # the kernel's own timeouts: with Python's, MSG_WAITALL has no effect
            timeout = struct.pack("ll", int(idle_s), int(idle_s % 1 * 1e6))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        self._connection, self._contexts, self._begin, self._limit = connection, contexts, begin, pdu_bytes
        self._view = memoryview(bytearray(_BUFFER))
        self._start = self._stop = 0
        self._command = b""
        self._request: dimse.Command | None = None
        self._context = 0
        self._operation: Operation | None = None
        self._stopping, self._lock, self._within = False, threading.Lock(), False

    def run(self) -> Ending:
        """Serve; why it ended. An incomplete operation is abandoned."""
        try:
            while True:
                with self._lock:
                    self._within = self._operation is not None or bool(self._command)
                    if self._stopping and not self._within:
                        return "stopped"
                if not self._pdu():
                    return "other"
        except (TimeoutError, BlockingIOError):
            return "idle"
        except (EOFError, OSError):
            return "stopped" if self._stopping else "closed"
        except ValueError:
            return "violation"
        finally:
            if self._operation is not None:
                self._operation.abandon()
                self._operation = None

    def stop(self) -> None:
        """End the lane between two messages: at once where none is under way. From another thread."""
        with self._lock:
            self._stopping = True
            if not self._within:
                with suppress(OSError):  # not SSLSocket.shutdown, which would go on in clear text
                    socket.socket.shutdown(self._connection, socket.SHUT_RD)

    def unread(self) -> bytes:
        """Bytes that were received and belong to what follows the lane."""
        return bytes(self._view[self._start : self._stop])

    def _pdu(self) -> bool:
        """Serve one PDU; False, and nothing read, where it is no P-DATA-TF."""
        self._need(6)
        kind, left = struct.unpack_from(">BxL", self._view, self._start)
        if kind != P_DATA_TF:
            return False
        if left > self._limit:
            raise ValueError("PDU longer than negotiated")
        with self._lock:
            self._within = True
        self._start += 6
        while left:
            if left < 6:
                raise ValueError("PDV")
            self._need(6)
            length, context, control = struct.unpack_from(">LBB", self._view, self._start)
            if not 2 <= length <= left - 4:
                raise ValueError("PDV")
            self._start += 6
            left -= length + 4
            if control & 1:
                self._command_fragment(context, length - 2, bool(control & 2))
            else:
                self._data_fragment(context, length - 2, bool(control & 2))
        return True

    def _command_fragment(self, context: int, count: int, last: bool) -> None:
        if self._operation is not None or context not in self._contexts:
            raise ValueError("command")
        if len(self._command) + count > dimse.COMMAND_BYTES:
            raise ValueError("command")
        self._need(count)
        self._command += bytes(self._view[self._start : self._start + count])
        self._start += count
        if last:
            self._request, self._context = dimse.parse(self._command), context
            self._command = b""
            if self._request.field & dimse.RESPONSE:
                raise ValueError("a response to nothing")
            self._operation = self._begin(self._request, context)
            if not self._request.has_data:
                self._answer()

    def _data_fragment(self, context: int, count: int, last: bool) -> None:
        operation = self._operation
        if operation is None or context != self._context:
            raise ValueError("data set")
        while count:
            if self._start == self._stop:
                self._fill(count if last else count + _HEADERS)
            part = self._view[self._start : min(self._stop, self._start + count)]
            operation.write(part)
            self._start += len(part)
            count -= len(part)
        if last:
            self._answer()

    def _answer(self) -> None:
        request, operation = self._request, self._operation
        if request is None or operation is None:
            raise ValueError("no request")
        answer = operation.end()
        self._request = self._operation = None
        if answer is not None:
            self._connection.sendall(dimse.pdu(self._context, dimse.response(request, answer)))

    def _need(self, count: int) -> None:
        """Have `count` bytes in one piece in the buffer."""
        if self._start + count > len(self._view):
            kept = self._stop - self._start
            self._view[:kept] = bytes(self._view[self._start : self._stop])
            self._start, self._stop = 0, kept
        while self._stop - self._start < count:
            self._fill()

    def _fill(self, expected: int = 0) -> None:
        """Receive what is there; with `expected`, wait until that many bytes or the buffer are full: fewer, larger pieces."""
        if self._start == self._stop:
            self._start = self._stop = 0
        if expected and self._flags:
            count = self._connection.recv_into(self._view, min(expected, len(self._view)), self._flags)
        else:
            count = self._connection.recv_into(self._view[self._stop :])
        if count == 0:
            raise EOFError
        self._stop += count
