"""Who may do what: tokens, the loopback-only mode, cross-origin requests, and the headers of every answer."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from flask import Flask, Response, g, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, Unauthorized

from service.config import LOOPBACK, Settings, account

access = logging.getLogger("pellucid.access")

OPEN_PATHS = ("/health", "/v2/health/live", "/v2/health/ready")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; font-src 'self'; "
    "worker-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Content Security Policy of our pages: nothing from elsewhere, no inline script."""
API_POLICY = "default-src 'none'; frame-ancestors 'none'"

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": API_POLICY,
    "Cache-Control": "no-store",
}


def install(app: Flask, settings: Settings) -> None:
    """Guard every request of an application and sign off every answer; `g.account` is the name of the token that came."""
    accounts = [account(entry) for entry in settings.tokens]

    @app.before_request
    def guard() -> None:
        g.begin = time.monotonic()
        if not settings.tokens:
            _check_host()
        elif request.path not in OPEN_PATHS and not _token_is_known(accounts):
            raise Unauthorized(
                "Send a token of this service: Authorization: Bearer <token>, or HTTP Basic with the token as the password.",
                www_authenticate=[
                    WWWAuthenticate("bearer", {"realm": "pellucid"}),
                    WWWAuthenticate("basic", {"realm": "pellucid"}),
                ],
            )
        if request.method not in SAFE_METHODS:
            _check_origin()

    @app.after_request
    def sign_off(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        ms = (time.monotonic() - g.get("begin", time.monotonic())) * 1000
        route = request.url_rule.rule if request.url_rule else "(no route)"
        about = f"{g.get('analysis', '-')} {g.get('account') or ''}".rstrip()
        access.info("%s %s %d %.0f ms %s", request.method, route, response.status_code, ms, about)
        return response


def _check_host() -> None:
    """Without tokens only this computer is let in; a foreign Host means that a web page rebound its name to us."""
    try:
        host = urlsplit(f"//{request.host}").hostname
    except ValueError:
        host = None
    if host not in LOOPBACK:
        raise Forbidden(
            "This service runs without tokens and answers only to localhost. Use http://127.0.0.1, or set PELLUCID_TOKENS."
        )


def _token_is_known(accounts: Sequence[tuple[str | None, str]]) -> bool:
    """Compare in constant time with every token, and note the name of the one that it is."""
    sent = request.authorization
    given = (sent.token if sent.type == "bearer" else sent.password if sent.type == "basic" else None) if sent else None
    if not given:
        return False
    found = [name for name, token in accounts if hmac.compare_digest(given.encode(), token.encode())]
    g.account = found[0] if found else None
    return bool(found)


def _check_origin() -> None:
    """Refuse state-changing requests that a browser sends for another site: it would add the user's access by itself."""
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    origin = request.headers.get("Origin")
    if site not in ("same-origin", "none") or (origin is not None and urlsplit(origin).netloc != request.host):
        raise Forbidden("Requests from another web site are not accepted.")
