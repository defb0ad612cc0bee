"""Errors as problem objects (RFC 9457), for the HTTP entrance and for analyses that failed in the queue."""

from __future__ import annotations

import logging
import traceback
import uuid
from pathlib import Path
from typing import Any

from service.errors import InputError

log = logging.getLogger("pellucid")


def problem(status: int, slug: str, title: str, detail: str, **more: Any) -> dict[str, Any]:
    """A problem object; `type` is a part of this service's own documentation."""
    return {"type": f"/docs#problem-{slug}", "title": title, "status": status, "detail": detail, **more}


def of_input(error: InputError) -> dict[str, Any]:
    """What the sender can do something about."""
    more = {"errors": error.errors} if error.errors else {}
    return problem(error.status, error.slug, error.title, error.detail, **more)


def of_fault(error: BaseException) -> dict[str, Any]:
    """A fault of ours: logged under an incident number, which is all that leaves the process.

    The log holds where it happened and the kind of error, not its message, which may quote an input.
    """
    incident = uuid.uuid4().hex[:12]
    steps = [
        f"{'/'.join(Path(s.filename).parts[-2:])}:{s.lineno} {s.name}"
        for s in traceback.extract_tb(error.__traceback__)
    ]
    log.error("incident %s: %s in %s", incident, type(error).__name__, " > ".join(steps))
    return problem(
        500,
        "fault",
        "Something is wrong with this service",
        f"Incident {incident}; the service's log says where. Nothing about the input is known to be wrong.",
        incident=incident,
    )
