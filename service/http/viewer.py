"""``/viewer/``: the radiologist's page as `service/viewer` was built, under a strict Content Security Policy."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, send_from_directory

from service.http.security import PAGE_POLICY

blueprint = Blueprint("viewer", __name__, url_prefix="/viewer")

FOLDER = Path(__file__).resolve().parent.parent / "viewer" / "dist"
SUFFIXES = (".html", ".js", ".css", ".svg", ".md")


@blueprint.get("/", defaults={"name": "index.html"})
@blueprint.get("/<path:name>")
def page(name: str) -> Response:
    """A file of the page; other files of the folder are not served."""
    response = send_from_directory(FOLDER, name if name.endswith(SUFFIXES) else "-", max_age=0)
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    # Names in assets/ carry a hash of their content.
    response.headers["Cache-Control"] = (
        "private, max-age=31536000, immutable" if name.startswith("assets/") else "no-cache"
    )
    return response
