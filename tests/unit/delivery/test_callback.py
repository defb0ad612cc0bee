"""Callbacks: signed so that a receiver can check it, and every answer ends in the outcome it deserves."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

import pytest

from service.delivery import callback
from service.delivery.attempt import GiveUp, Notice, Sent, TryAgain
from service.delivery.callback import sign, verify_signature
from tests.orthanc import free_port
from tests.unit.delivery.conftest import Certificates, Site, destination, reply

SECRET = "0123456789abcdef"
BODY = '{"id": "a", "status": "completed", "name": "Müller\\r\\n"}\r\n'.encode()
NOTICE = Notice("delivery-1", BODY)


def to(url: str, **more: object) -> object:
    return destination(**{"kind": "callback", "url": url, "secret": SECRET, "timeout_s": 20, **more})


def send(url: str, **more: object) -> object:
    return callback.send(to(url, **more), NOTICE)  # type: ignore[arg-type]


def test_what_is_sent(site: Callable[..., Site]) -> None:
    found = site(reply(204))
    assert callback.send(to(found.url + "/hook?a=1"), NOTICE, now=1_790_000_000.7) == Sent("HTTP 204")  # type: ignore[arg-type]
    (request,) = found.requests
    assert request.path == "/hook?a=1"
    assert request.body == BODY
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Pellucid-Delivery"] == "delivery-1"
    computed = subprocess.run(
        ["openssl", "dgst", "-sha256", "-hmac", SECRET, "-r"],
        input=b"1790000000." + BODY,
        capture_output=True,
        check=True,
    )
    assert request.headers["Pellucid-Signature"] == f"t=1790000000,v1={computed.stdout.split()[0].decode()}"


def test_proxies_of_the_environment_are_not_used(site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert send(site(reply(200)).url) == Sent("HTTP 200")


def test_configured_proxy_is_used(site: Callable[..., Site]) -> None:
    proxy = site(reply(200))
    assert send("http://ris.invalid/hook", proxy=proxy.url, insecure=True) == Sent("HTTP 200")
    assert proxy.requests[0].path == "http://ris.invalid/hook"
    assert send("http://ris.invalid/hook", proxy=f"http://127.0.0.1:{free_port()}", insecure=True) == TryAgain(
        "the proxy refuses, or cannot be reached"
    )


class TestSignature:
    header = sign(SECRET, BODY, 1000)

    def test_right(self) -> None:
        assert verify_signature(SECRET, self.header, BODY, 1000)
        assert verify_signature(SECRET, self.header, BODY, 1300) and verify_signature(SECRET, self.header, BODY, 700)

    def test_while_a_secret_is_replaced(self) -> None:
        two = self.header + "," + sign("another-secret-16", BODY, 1000).split(",")[1]
        assert verify_signature(SECRET, two, BODY, 1000) and verify_signature("another-secret-16", two, BODY, 1000)

    def test_wrong(self) -> None:
        assert not verify_signature("another-secret-16", self.header, BODY, 1000)
        assert not verify_signature(SECRET, self.header, BODY + b" ", 1000)
        assert not verify_signature(SECRET, self.header, BODY, 1301)
        assert not verify_signature(SECRET, self.header, BODY, 699)
        assert not verify_signature(SECRET, self.header.replace("t=1000", "t=1001"), BODY, 1000)
        assert not verify_signature(SECRET, self.header.replace("v1=", "v0="), BODY, 1000)

    @pytest.mark.parametrize("header", ["", "t=1000", "v1=00", "t=x,v1=00", "t=1000,v1=", "t=1000;v1=00", "t=٣,v1=00"])
    def test_malformed(self, header: str) -> None:
        assert not verify_signature(SECRET, header, BODY, 1000)

    def test_now_by_default(self) -> None:
        assert verify_signature(SECRET, sign(SECRET, BODY, time.time()), BODY)
        assert not verify_signature(SECRET, self.header, BODY)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, Sent),
        (201, Sent),
        (202, Sent),
        (299, Sent),
        *((status, TryAgain) for status in (301, 302, 307, 308, 400, 401, 403, 404, 405, 408, 409, 422, 425, 429)),
        *((status, TryAgain) for status in (500, 502, 503, 504)),
        (410, GiveUp),
        (413, GiveUp),
    ],
)
def test_status(site: Callable[..., Site], status: int, kind: type) -> None:
    other = site(reply(200))
    outcome = send(site(reply(status, Location=other.url)).url)
    assert type(outcome) is kind
    assert f"HTTP {status}" in str(outcome)
    assert not other.requests, "redirects are not followed"


@pytest.mark.parametrize(
    ("value", "expected"), [("120", 120.0), ("0", 0.0), ("9999999999", 21600.0), ("soon", None), ("-5", None)]
)
def test_retry_after(site: Callable[..., Site], value: str, expected: float | None) -> None:
    outcome = send(site(reply(503, Retry_After=value)).url)
    assert isinstance(outcome, TryAgain) and outcome.after_s == expected


def test_retry_after_as_a_date(site: Callable[..., Site]) -> None:
    then = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 1000))
    outcome = send(site(reply(429, Retry_After=then)).url)
    assert isinstance(outcome, TryAgain) and outcome.after_s is not None and 900 < outcome.after_s <= 1000


def test_refused_connection() -> None:
    assert send(f"http://127.0.0.1:{free_port()}") == TryAgain("connection refused: nothing listens at this address")


def test_unknown_host() -> None:
    assert send("https://no-such-host.invalid/") == TryAgain("the host name cannot be resolved")


def test_silent_listener(silent: int) -> None:
    began = time.monotonic()
    assert send(f"http://127.0.0.1:{silent}", timeout_s=1) == TryAgain("no answer within 1 s")
    assert time.monotonic() - began < 20


def test_reset(site: Callable[..., Site]) -> None:
    def hang_up(handler: BaseHTTPRequestHandler) -> None:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        handler.connection.close()

    assert send(site(hang_up).url) == TryAgain("the connection broke before there was an answer")


def test_not_a_web_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"220 mail ready\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        outcome = send(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert outcome == TryAgain("the connection broke before there was an answer")


def test_answer_without_end(site: Callable[..., Site]) -> None:
    """The status counts; the body is neither needed nor waited for."""

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b"x")
            time.sleep(0.2)

    began = time.monotonic()
    assert send(site(drip).url, timeout_s=1) == Sent("HTTP 200")
    assert time.monotonic() - began < 15


def test_huge_answer(site: Callable[..., Site]) -> None:
    assert send(site(reply(200, bytes(20_000_000))).url) == Sent("HTTP 200")


class TestTls:
    def test_trusted(self, site: Callable[..., Site], certificates: Certificates) -> None:
        found = site(reply(200), certificates.server())
        assert send(found.url, ca_file=certificates.file("ca.pem")) == Sent("HTTP 200")

    def test_unknown_authority(self, site: Callable[..., Site], certificates: Certificates) -> None:
        found = site(reply(200), certificates.server())
        outcome = send(found.url)
        assert isinstance(outcome, TryAgain) and "the certificate is not trusted" in outcome.reason
        assert not found.requests

    def test_other_name(self, site: Callable[..., Site], certificates: Certificates) -> None:
        outcome = send(site(reply(200), certificates.server("other")).url, ca_file=certificates.file("ca.pem"))
        assert isinstance(outcome, TryAgain) and "mismatch" in outcome.reason

    def test_client_certificate(self, site: Callable[..., Site], certificates: Certificates) -> None:
        found = site(reply(200), certificates.server(ask=True))
        ours = {"cert_file": certificates.file("client.pem"), "key_file": certificates.file("client.key")}
        assert isinstance(send(found.url, ca_file=certificates.file("ca.pem")), TryAgain)
        assert send(found.url, ca_file=certificates.file("ca.pem"), **ours) == Sent("HTTP 200")


def test_delivery_id_fits_into_a_header() -> None:
    with pytest.raises(ValueError, match="delivery id"):
        Notice("a\r\nX: y", b"{}")
