"""``/viewer/``: the radiologist's page, static files under a strict Content Security Policy."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, send_from_directory

from service.http.security import PAGE_POLICY

blueprint = Blueprint("viewer", __name__, url_prefix="/viewer")

FOLDER = Path(__file__).resolve().parent.parent / "viewer"
SUFFIXES = (".html", ".js", ".css", ".svg", ".png", ".ico", ".woff2")


@blueprint.get("/", defaults={"name": "index.html"})
@blueprint.get("/<path:name>")
def page(name: str) -> Response:
    """A file of the viewer; other files of the folder are not served."""
    response = send_from_directory(FOLDER, name if name.endswith(SUFFIXES) else "-", max_age=0)
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    response.headers["Cache-Control"] = "no-cache"
    return response
