"""``/conformance``: the DICOM Conformance Statement of this service, with its settings and models."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, request

from service.http import markdown
from service.http.context import service
from service.http.security import PAGE_POLICY

blueprint = Blueprint("conformance", __name__)

_KEPT = "pellucid-conformance"
_TITLE = "Pellucid: DICOM Conformance Statement"


def _text() -> str:
    """The statement, made at the first request: neither settings nor models change while a service runs."""
    if _KEPT not in current_app.extensions:
        from service.conformance import statement  # imports what makes the objects, which takes seconds

        running = service()
        current_app.extensions[_KEPT] = statement.text(running.settings, running.pipeline.bundles, running=True)
    return str(current_app.extensions[_KEPT])


@blueprint.get("/conformance")
def conformance() -> Response:
    """The statement: Markdown, or a page for a browser."""
    text = _text()
    best = request.accept_mimetypes.best_match(["text/markdown", "text/plain", "text/html"], default="text/markdown")
    if best == "text/html":
        response = Response(markdown.page(_TITLE, text), content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = PAGE_POLICY
    else:
        response = Response(text, content_type="text/markdown; charset=utf-8")
    response.headers["Vary"] = "Accept"
    return response
