"""Answers about a finished analysis: they never change, so a browser may keep them for a while."""

from __future__ import annotations

import gzip
import hashlib

from flask import Response, request

from service import __version__

KEPT_S = 3600
"""How long without asking again: about as long as a study is read."""


def tag(*parts: object, encoded: bool = False) -> str:
    """An entity tag for what these parts and this version of the software decide.

    Parameters
    ----------
    *parts
        All that tells the answer apart from others.
    encoded : bool
        Whether the answer is a `compressed` one: with and without gzip it then has two tags (RFC 9110 8.8.3.3).
    """
    text = " ".join(map(str, (__version__, *parts)))
    return hashlib.sha256(text.encode()).hexdigest()[:32] + ("-gzip" if encoded and _takes_gzip() else "")


def unchanged(name: str) -> Response | None:
    """304 where the client has the answer with this tag already."""
    return _kept(Response(status=304), name) if request.if_none_match.contains(name) else None


def kept(data: bytes, media: str, name: str) -> Response:
    """An answer that only the client itself may keep."""
    return _kept(Response(data, content_type=media), name)


def compressed(data: bytes, media: str, name: str) -> Response:
    """The same, as gzip where the client takes it: quickly rather than small."""
    if not _takes_gzip():
        return kept(data, media, name)
    response = kept(gzip.compress(data, 1, mtime=0), media, name)
    response.headers["Content-Encoding"] = "gzip"
    return response


def _takes_gzip() -> bool:
    return float(request.accept_encodings.quality("gzip")) > 0


def _kept(response: Response, name: str) -> Response:
    response.set_etag(name)
    response.headers["Cache-Control"] = f"private, max-age={KEPT_S}"
    response.headers["Vary"] = "Accept-Encoding, Authorization"
    return response
