"""One door for all kinds of destination."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.delivery.attempt import Notice, Sent
from service.delivery.send import send
from tests.unit.delivery.conftest import Peer, Site, destination, outgoing, reply


def test_each_kind(provider: Callable[..., Peer], site: Callable[..., Site]) -> None:
    peer, web = provider(), site(reply(200))
    assert send(destination(**peer.table()), [outgoing(), outgoing()]) == (Sent(), Sent())
    assert send(destination(kind="stow", url=web.url), (outgoing(),)) == (Sent(),)
    assert send(destination(kind="callback", url=web.url, secret="s" * 16), Notice("d", b"{}")) == (Sent("HTTP 200"),)
    assert [request.path for request in web.requests] == ["/studies", "/"]


def test_what_does_not_belong_together() -> None:
    hook = destination(kind="callback", url="https://ris.example", secret="s" * 16)
    archive = destination(kind="stow", url="https://archive.example")
    with pytest.raises(TypeError, match="a callback does not take a list"):
        send(hook, [outgoing()])
    with pytest.raises(TypeError, match="a stow does not take a Notice"):
        send(archive, Notice("d", b"{}"))
