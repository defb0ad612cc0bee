"""``/docs``: the interface for people, one plain page made from the OpenAPI document, without anything from elsewhere."""

from __future__ import annotations

import html
from typing import Any

from flask import Blueprint, Response

from service import errors
from service.http import markdown, openapi, schemas
from service.http.security import PAGE_POLICY
from service.pipeline.request import InvalidRequest

blueprint = Blueprint("docs", __name__, url_prefix="/docs")

_PROBLEMS: dict[str, str] = {
    **{
        kind.slug: f"{kind.status}: {kind.title}"
        for kind in (
            errors.InputError,
            errors.NotFound,
            errors.Conflict,
            errors.TooLarge,
            errors.UnknownMedia,
            errors.OutOfContract,
            InvalidRequest,
            errors.Busy,
            errors.NoSpace,
        )
    },
    "unauthorized": "401: A token is needed",
    "forbidden": "403: Another web site or another computer asked",
    "method": "405: The path exists, the method does not",
    "fault": "500: A fault of this service; the incident number is in its log",
    "attempts": "500: The analysis stopped the service several times and was given up",
    "http": "Another error of HTTP",
}
"""Every problem that `type` may point to."""


@blueprint.get("")
def docs() -> Response:
    """Every operation, body and problem."""
    whole = openapi.document()
    about = whole["info"]
    rows = [
        f"<h1>{about['title']} {about['version']}</h1><p>{html.escape(about['description'])}</p>",
        '<p>For programs: <a href="/openapi.json">/openapi.json</a>. Results: <a href="/viewer/">/viewer/</a>.</p>',
    ]
    for path, operations in whole["paths"].items():
        rows.extend(_operation(path, method, operation) for method, operation in operations.items())
    rows.append("<h2>Bodies</h2>")
    for name, schema in schemas.SCHEMAS.items():
        rows.append(f'<h3 id="schema-{name}">{name}</h3><pre>{html.escape(schemas.outline(schema))}</pre>')
    rows.append("<h2>Problems</h2><dl>")
    rows.extend(f'<dt id="problem-{slug}">{slug}</dt><dd>{html.escape(text)}</dd>' for slug, text in _PROBLEMS.items())
    rows.append("</dl>")
    page = markdown.document("Pellucid: interface", "\n".join(rows))
    response = Response(page, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    return response


def _part(schema: dict[str, Any]) -> str:
    """One part of a request's body: its description, or a link to its form."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f'<a href="#schema-{name}">{name}</a>'
    return markdown.inline(schema.get("description", ""))


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    told = [(p["name"], p["in"], markdown.inline(p["description"])) for p in operation.get("parameters", [])]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        parts = content["schema"].get("properties", {"": content["schema"]})
        told += [(name or "body", kind, _part(part)) for name, part in parts.items()]
    rows = "".join(
        f"<tr><td><code>{name}</code></td><td>{place}</td><td>{text}</td></tr>" for name, place, text in told
    )
    table = f"<table><tbody>{rows}</tbody></table>" if rows else ""
    codes = ", ".join(code for code in operation["responses"] if code != "default")
    return (
        f'<h2 id="{operation["operationId"]}"><code>{method.upper()} {html.escape(path)}</code></h2>'
        f"<p>{markdown.inline(operation['summary'])}</p>{table}<p>Answers: {codes}; else a problem.</p>"
    )


@blueprint.get("/style.css")
def style() -> Response:
    """How the plain pages look."""
    return Response(_STYLE, content_type="text/css; charset=utf-8")


_STYLE = """\
:root { color-scheme: light dark; }
body { font: 16px/1.55 system-ui, sans-serif; margin: 0; }
main { max-width: 56rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1, h2, h3 { line-height: 1.25; margin: 2em 0 .4em; overflow-wrap: anywhere; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { border: 1px solid #8886; padding: .3em .7em; text-align: left; vertical-align: top; }
pre { background: #8882; padding: .8em; overflow-x: auto; }
code { font-size: .93em; }
dt { font-weight: 600; margin-top: .6em; }
"""
