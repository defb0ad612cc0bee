"""Errors that a sender can do something about.

Each carries what was wrong, where, and what to do; the HTTP entrance turns it into problem+json (RFC 9457) and the command
line into one line on standard error. Texts never hold patient data or paths of this host.
"""

from __future__ import annotations

from typing import Any


class InputError(Exception):
    """Something the sender sent cannot be answered.

    Parameters
    ----------
    detail : str
        What was wrong, where (SOP Instance UID, tag, part of the request) and what to do about it.
    errors : list of dict, optional
        One entry a single problem: {"where", "message", "value"?, "limit"?}.
    """

    status = 400
    slug = "unreadable"
    title = "The input cannot be read"

    def __init__(self, detail: str, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or []


class NotFound(InputError):
    status, slug, title = 404, "not-found", "There is nothing under this name"


class Conflict(InputError):
    status, slug, title = 409, "conflict", "This contradicts what was sent before"


class TooLarge(InputError):
    status, slug, title = 413, "too-large", "The input is larger than this service accepts"


class UnknownMedia(InputError):
    status, slug, title = 415, "unknown-media", "This is not an image this service knows"


class OutOfContract(InputError):
    status, slug, title = 422, "out-of-contract", "The input can be read but is outside what the model was made for"


class Busy(InputError):
    status, slug, title = 503, "busy", "The service has no free capacity now"


class NoSpace(InputError):
    status, slug, title = 507, "no-space", "The service has no room to store the input"
