"""Every error as problem+json (RFC 9457): ours, Werkzeug's, and faults, which leave only an incident number."""

from __future__ import annotations

import json
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from service.errors import Busy, InputError
from service.pipeline import problem
from service.store import trouble

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
SLUGS = {
    400: "unreadable",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method",
    413: "too-large",
    415: "unknown-media",
}


def respond(body: dict[str, Any], response: Response | None = None) -> Response:
    """A problem as a response. Under /v2 it also carries the Open Inference Protocol's ``error``."""
    body = {**body, "instance": request.path}
    if request.path.startswith("/v2"):
        body["error"] = body["detail"]
    response = response or Response()
    response.status_code = body["status"]
    response.data = json.dumps(body)
    response.content_type = MEDIA_TYPE
    if response.status_code == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def install(app: Flask) -> None:
    """Answer all errors of an application as problems."""

    @app.errorhandler(InputError)
    def input_error(error: InputError) -> Response:
        return respond(problem.of_input(error))

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        base = error.get_response()
        if error.code is None or error.code < 400:  # a redirect
            return Response(base.get_data(), error.code or 500, base.headers)
        response = Response()
        for name, value in base.headers:
            if name in ("Allow", "WWW-Authenticate", "Retry-After"):
                response.headers.add(name, value)
        slug = SLUGS.get(error.code, "http")
        return respond(problem.problem(error.code, slug, error.name, error.description or error.name), response)

    @app.errorhandler(Exception)
    def fault(error: Exception) -> Response:
        if trouble.passes(error):
            problem.of_fault(error)
            return respond(
                problem.of_input(Busy("the database or the disk is busy or full now; try again in a moment"))
            )
        return respond(problem.of_fault(error))
