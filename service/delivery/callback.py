"""Signed callbacks: the Analysis, POSTed as JSON, with a signature that the receiver can check.

Headers of a callback::

    Content-Type: application/json
    Pellucid-Delivery: <id, the same on every attempt: do not act twice on one id>
    Pellucid-Signature: t=<seconds since 1970>,v1=<HMAC-SHA256 of "<t>.<body>" with the secret, hexadecimal>

A receiver answers with any 2xx status once it has the result safely. 410 Gone and 413 Content Too Large end the attempts; any
other answer is tried again, because a receiver that is deployed wrongly (404, 401, 400 ...) can be put right.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time

from service.delivery import web
from service.delivery.attempt import GiveUp, Notice, Outcome, Sent, TryAgain
from service.delivery.destinations import Callback

SIGNATURE, DELIVERY = "Pellucid-Signature", "Pellucid-Delivery"
TOLERANCE_S = 300.0
LARGEST_ANSWER = 65536


def send(destination: Callback, notice: Notice, now: float | None = None) -> Outcome:
    """POST a notice once.

    Parameters
    ----------
    destination : Callback
    notice : Notice
    now : float, optional
        Seconds since 1970, for the signature; default: the clock.
    """
    headers = {
        "Content-Type": "application/json",
        DELIVERY: notice.delivery,
        SIGNATURE: sign(destination.secret, notice.body, time.time() if now is None else now),
    }
    answer = web.post(destination, destination.url, notice.body, headers, LARGEST_ANSWER)
    if isinstance(answer, TryAgain):
        return answer
    shown = f"HTTP {answer.status}"
    if 200 <= answer.status < 300:
        return Sent(shown)
    if answer.status == 410:
        return GiveUp(f"{shown}: the receiver is gone for good")
    if answer.status == 413:
        return GiveUp(f"{shown}: the receiver does not take a body of {len(notice.body)} bytes")
    if 300 <= answer.status < 400:
        return TryAgain(f"{shown}: the receiver redirects, which is not followed: set url to the final address")
    return TryAgain(f"{shown}: the receiver did not accept the callback", answer.retry_after_s)


def sign(secret: str, body: bytes, now: float) -> str:
    """Value of the signature header: HMAC-SHA256 (RFC 2104) of the time, a full stop and the body."""
    moment = str(int(now))
    return f"t={moment},v1={_digest(secret, moment, body)}"


def verify_signature(
    secret: str, header: str, body: bytes, now: float | None = None, tolerance_s: float = TOLERANCE_S
) -> bool:
    """What a receiver does with the signature header, over the body's bytes before anything parses them.

    Parameters
    ----------
    secret : str
        The shared secret.
    header : str
        Value of Pellucid-Signature; several v1 are allowed (while a secret is being replaced), one must match.
    body : bytes
        The body as received.
    now : float, optional
        Seconds since 1970; default: the clock.
    tolerance_s : float
        A signature further from `now` than this is refused: somebody may be sending a recorded callback again.
    """
    if not re.fullmatch(r"t=[0-9]{1,15}(,v[0-9]+=[0-9a-f]+)+", header):
        return False
    moment, *signatures = header.split(",")
    moment = moment.removeprefix("t=")
    if abs((time.time() if now is None else now) - int(moment)) > tolerance_s:
        return False
    expected = f"v1={_digest(secret, moment, body)}"
    return any(hmac.compare_digest(expected, signature) for signature in signatures)


def _digest(secret: str, moment: str, body: bytes) -> str:
    return hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
