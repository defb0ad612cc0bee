"""The lane alone, over a socket pair, with fragments as no ordinary sender makes them."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from service.dimse import command
from service.dimse.lane import Lane

CONTEXT = 3


class Recorded:
    def __init__(self) -> None:
        self.data, self.ended, self.abandoned = b"", False, False

    def write(self, data: memoryview) -> None:
        self.data += bytes(data)

    def end(self) -> command.Answer:
        self.ended = True
        return command.Answer()

    def abandon(self) -> None:
        self.abandoned = True


class Peer:
    """The sender's end, and the lane in a thread."""

    def __init__(self, idle_s: float = 60.0, limit: int = 16384, first: bytes = b"") -> None:
        self.socket, self.other = socket.socketpair()
        self.socket.sendall(first)
        self.operations: list[Recorded] = []
        self.lane = Lane(self.other, {CONTEXT: None}, self._begin, limit, idle_s)
        self.ending: list[str] = []
        self.thread = threading.Thread(target=lambda: self.ending.append(self.lane.run()))
        self.thread.start()

    def _begin(self, request: command.Command, context: int) -> Any:
        assert context == CONTEXT
        self.operations.append(Recorded())
        return self.operations[-1]

    def finish(self) -> str:
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.ending[0]

    def close(self) -> None:
        self.socket.close()
        self.thread.join(60)
        self.other.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.close()


def element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, number, len(value)) + value


def store(message: int = 1, field: int = 1) -> bytes:
    return (
        element(0x0002, b"1.2.3\0")
        + element(0x0100, struct.pack("<H", field))
        + element(0x0110, struct.pack("<H", message))
        + element(0x0800, b"\1\0")
        + element(0x1000, b"1.2.3.4\0")
    )


def pdv(control: int, data: bytes, context: int = CONTEXT) -> bytes:
    return struct.pack(">LBB", len(data) + 2, context, control) + data


def pdu(*pdvs: bytes) -> bytes:
    body = b"".join(pdvs)
    return struct.pack(">BxL", 4, len(body)) + body


def answer(peer: Peer) -> int:
    """Message id of the next answer."""
    peer.socket.settimeout(60)
    head = peer.socket.recv(6, socket.MSG_WAITALL)
    body = peer.socket.recv(struct.unpack(">L", head[2:])[0], socket.MSG_WAITALL)
    at = body.index(struct.pack("<HHL", 0, 0x0120, 2)) + 8
    return int(struct.unpack_from("<H", body, at)[0])


DATA = bytes(range(256)) * 200


@pytest.mark.parametrize("size", [1, 2, 7, 255, 4000, 16000])
def test_fragments_of_any_size_make_the_same_data_set(peer: Peer, size: int) -> None:
    data = DATA[: 40 * size]
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    peer.socket.sendall(pdu(pdv(1, store()[:9])) + pdu(pdv(1, store()[9:11]), pdv(3, store()[11:])))
    for number, piece in enumerate(pieces):
        peer.socket.sendall(pdu(pdv(2 if number == len(pieces) - 1 else 0, piece)))
    assert answer(peer) == 1
    assert peer.operations[0].data == data and peer.operations[0].ended


def test_command_and_data_in_one_pdu_and_two_messages_in_one_packet(peer: Peer) -> None:
    one = pdu(pdv(3, store(1)), pdv(0, b"ab"), pdv(2, b"cd"))
    peer.socket.sendall(one + pdu(pdv(3, store(2)), pdv(2, b"ef")))
    assert [answer(peer), answer(peer)] == [1, 2]
    assert [operation.data for operation in peer.operations] == [b"abcd", b"ef"]


def test_bytes_that_trickle_in(peer: Peer) -> None:
    for byte in pdu(pdv(3, store())) + pdu(pdv(2, b"abc")):
        peer.socket.sendall(bytes([byte]))
    assert answer(peer) == 1 and peer.operations[0].data == b"abc"


def test_an_empty_last_fragment(peer: Peer) -> None:
    peer.socket.sendall(pdu(pdv(3, store()), pdv(0, b"ab"), pdv(2, b"")))
    assert answer(peer) == 1 and peer.operations[0].data == b"ab"


def test_another_pdu_is_left_for_the_state_machine(peer: Peer) -> None:
    release = struct.pack(">BxLL", 5, 4, 0)
    peer.socket.sendall(pdu(pdv(3, store()), pdv(2, b"ab")) + release)
    assert peer.finish() == "other"
    assert peer.lane.unread() == release


@pytest.mark.parametrize(
    "bytes_",
    [
        struct.pack(">BxL", 4, 16385),  # longer than negotiated
        struct.pack(">BxL", 4, 5) + b"12345",  # no room for a PDV
        pdu(struct.pack(">LBB", 100, CONTEXT, 3) + b"12"),  # a PDV beyond its PDU
        pdu(struct.pack(">LBB", 1, CONTEXT, 3)),  # a PDV without a control header
        pdu(pdv(3, store(), context=5)),  # a context that was not accepted
        pdu(pdv(2, b"data")),  # a data set without a command
        pdu(pdv(3, store()), pdv(2, b"ab", context=5)),  # a data set on another context
        pdu(pdv(3, store()), pdv(3, store())),  # a command within a message
        pdu(pdv(3, b"no command set")),
        pdu(pdv(3, store(field=0x8001))),  # a response to nothing
        pdu(pdv(1, bytes(9000))) + pdu(pdv(1, bytes(9000))),  # a command set without end
    ],
)
def test_a_broken_protocol_ends_the_lane(peer: Peer, bytes_: bytes) -> None:
    peer.socket.sendall(bytes_)
    assert peer.finish() == "violation"
    assert all(operation.abandoned and not operation.ended for operation in peer.operations)


def test_a_connection_that_closes_abandons_the_message(peer: Peer) -> None:
    peer.socket.sendall(pdu(pdv(3, store()), pdv(0, b"ab")))
    peer.socket.shutdown(socket.SHUT_WR)
    assert peer.finish() == "closed"
    assert peer.operations[0].abandoned


def test_silence_ends_the_lane() -> None:
    peer = Peer(idle_s=0.2, first=pdu(pdv(3, store()), pdv(0, b"ab"))[:-1])
    assert peer.finish() == "idle"
    peer.close()
    assert peer.operations[0].abandoned


def test_a_stop_ends_an_idle_lane_at_once(peer: Peer) -> None:
    peer.lane.stop()
    assert peer.finish() == "stopped"


def test_a_stop_waits_for_the_message_under_way(peer: Peer) -> None:
    peer.socket.sendall(pdu(pdv(3, store()), pdv(0, b"ab")))
    while not peer.operations:
        threading.Event().wait(0.01)
    peer.lane.stop()
    peer.socket.sendall(pdu(pdv(2, b"cd")))
    assert answer(peer) == 1
    assert peer.operations[0].data == b"abcd" and peer.operations[0].ended
    assert peer.finish() == "stopped"
