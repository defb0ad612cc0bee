"""A service class provider of pynetdicom that leaves nothing behind when its peer hangs up."""

from __future__ import annotations

from pynetdicom import evt


def close_for_good(event: evt.Event) -> None:
    """Handler of EVT_CONN_OPEN: pynetdicom 3.0.4 leaves a socket open whose peer has gone; found in some later test."""
    transport = event.assoc.dul.socket
    shut_down = transport._shutdown_socket

    def close() -> None:
        shut_down()
        if transport.socket is not None:
            transport.socket.close()

    transport._shutdown_socket = close
