"""Refusals of the worklist service: a problem, and the Warning that PS3.18 prescribes for it."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from service.errors import InputError
from service.http import problems
from service.http.dicomweb import negotiate
from service.pipeline import problem

INCONSISTENT = "The submitted request is inconsistent with the state of the UPS Instance."
MISSING, INCORRECT = "The Transaction UID is missing.", "The Transaction UID is incorrect."


class Refused(InputError):
    """A transaction that PS3.18 has refused.

    Parameters
    ----------
    detail : str
        What was wrong and what to do.
    warning : str, optional
        Text of the Warning header.
    errors : list of dict, optional
        As in InputError.
    """

    title = "The worklist service cannot do this"

    def __init__(self, detail: str, warning: str = "", errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(detail, errors)
        self.warning = warning


class Inconsistent(Refused):
    status, slug = 409, "conflict"


def warn(response: Response, text: str) -> Response:
    """Add a Warning header (PS3.18 8.4.2)."""
    response.headers.add("Warning", f"299 {negotiate.root()}: {text}")
    return response


def install(blueprint: Blueprint) -> None:
    """Answer refusals with their Warning."""

    @blueprint.errorhandler(Refused)
    def refused(error: Refused) -> Response:
        response = problems.respond(problem.of_input(error))
        return warn(response, error.warning) if error.warning else response
