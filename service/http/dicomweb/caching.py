"""What a client may keep of an answer."""

from __future__ import annotations

import hashlib

from flask import Response, request


def private(response: Response, tag: str, weak: bool = False, complete: int | None = None) -> Response:
    """Let only the client itself keep the answer, and have it ask each time whether it is still good and it still may."""
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Vary"] = "Accept, Authorization"
    response.set_etag(hashlib.sha256(tag.encode()).hexdigest()[:32], weak)
    response.direct_passthrough = not response.is_sequence  # else Werkzeug reads a stream whole to know its length
    response.make_conditional(request, accept_ranges=complete is not None, complete_length=complete)
    return response
