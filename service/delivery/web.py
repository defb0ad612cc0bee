"""One POST to a web destination: verified TLS, no redirects, no proxies of the environment, bounded in time and size."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InvalidHeader,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from service.delivery import tls
from service.delivery.attempt import TryAgain
from service.delivery.destinations import Web

LONGEST_WAIT_S = 21600.0
_CHUNK = 65536


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; `body` is None where it was longer than allowed, encoded, or broke off."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)

    @property
    def retry_after_s(self) -> float | None:
        """Seconds of Retry-After (RFC 9110 section 10.2.3), at most six hours."""
        value = self.headers.get("Retry-After")
        try:
            return None if value is None else min(float(urllib3.Retry().parse_retry_after(value)), LONGEST_WAIT_S)
        except (InvalidHeader, OverflowError, ValueError):
            return None


def post(destination: Web, url: str, body: Any, headers: Mapping[str, str], largest_answer: int) -> Answer | TryAgain:
    """POST once.

    Parameters
    ----------
    destination : Web
        Timeouts, authorities, certificate and proxy.
    url : str
        Of the destination, or below it.
    body : bytes or readable
        A readable needs its Content-Length among the headers.
    headers : mapping
        Request headers.
    largest_answer : int
        Bytes of the answer that are read at most.
    """
    try:
        context = tls.client_context(destination.ca_file, destination.cert_file, destination.key_file)
    except ValueError as error:
        return TryAgain(f"TLS files: {error}")
    options: dict[str, Any] = {"num_pools": 1, "ssl_context": context, "blocksize": _CHUNK}
    pool = urllib3.ProxyManager(destination.proxy, **options) if destination.proxy else urllib3.PoolManager(**options)
    try:
        with pool:
            response = pool.request(
                "POST",
                url,
                body=body,
                headers={"User-Agent": "pellucid", "Accept-Encoding": "identity", **headers},
                timeout=urllib3.Timeout(destination.timeout_s),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            try:
                content = _bounded(response, largest_answer, time.monotonic() + destination.timeout_s)
            finally:
                response.close()
            return Answer(response.status, response.headers, content)
    except (HTTPError, OSError) as error:
        return TryAgain(_reason(error, destination))


def _bounded(response: urllib3.BaseHTTPResponse, largest: int, until: float) -> bytes | None:
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        return None
    found = bytearray()
    try:
        while chunk := response.read1(_CHUNK, decode_content=False):
            found += chunk
            if len(found) > largest or time.monotonic() > until:
                return None
    except (HTTPError, OSError):
        return None
    return bytes(found)


def _reason(error: BaseException, destination: Web) -> str:
    """Why there was no answer. The library's texts hold addresses, so none of them is repeated."""
    if isinstance(error, ProxyError):
        return "the proxy refuses, or cannot be reached"
    if isinstance(error, SSLError):
        return tls.failure(error.args[0] if error.args and isinstance(error.args[0], BaseException) else error)
    if isinstance(error, NameResolutionError):
        return "the host name cannot be resolved"
    if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
        return f"no connection within {destination.timeout_s:g} s"
    if isinstance(error, NewConnectionError):
        refused = isinstance(error.__cause__, ConnectionRefusedError)
        return "connection refused: nothing listens at this address" if refused else "the host cannot be reached"
    if isinstance(error, (ReadTimeoutError, TimeoutError, socket.timeout)):
        return f"no answer within {destination.timeout_s:g} s"
    return "the connection broke before there was an answer"
