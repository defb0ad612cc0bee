"""The interface's description, ``/openapi.json``. A test compares it with the routes that exist."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from service import __version__
from service.http import schemas

blueprint = Blueprint("openapi", __name__)


def _answer(text: str, schema: str | None = None, media: str = "application/json") -> dict[str, Any]:
    if schema is None and media == "application/json":
        return {"description": text}
    body = {"$ref": f"#/components/schemas/{schema}"} if schema else {"type": "string", "format": "binary"}
    return {"description": text, "content": {media: {"schema": body}}}


def _parameter(name: str, place: str, text: str, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": text,
        "schema": schema or {"type": "string"},
    }


def _operation(
    identity: str,
    summary: str,
    answers: dict[str, Any],
    parameters: list[dict[str, Any]] | None = None,
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": identity, "summary": summary}
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = body
    operation["responses"] = {**answers, "default": {"$ref": "#/components/responses/Problem"}}
    return operation


def _json_body(schema: str) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}}


_ID = _parameter("analysis", "path", "Id of the analysis.")
_FINDING = _parameter("finding", "path", "Id of the finding: the region's id, or `eye`, or `nodule`.")
_KIND = _parameter("kind", "path", "`clear`, `two-sided` or `class-<name>`.")
_MODEL = _parameter("name", "path", "Name of the model, e.g. `sisc_lung`.")

_UPLOAD = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["files"],
                "properties": {
                    "files": {
                        "type": "array",
                        "items": {"type": "string", "format": "binary"},
                        "description": "DICOM Part 10 instances, PNG, JPEG or TIFF files, or a ZIP of these.",
                    },
                    "request": {"$ref": "#/components/schemas/Request"},
                },
            },
            "encoding": {"request": {"contentType": "application/json"}},
        }
    },
}


def _analyses() -> dict[str, Any]:
    root = "/api/v1/analyses"
    filters = [_parameter(name, "query", f"Exact {name}.") for name in ("patient", "study", "status", "model")]
    return {
        root: {
            "post": _operation(
                "createAnalysis",
                "Send images for analysis. Ungradable and out-of-scope inputs are answers (outcome), not errors.",
                {
                    "200": _answer("Done.", "Analysis"),
                    "202": _answer("Accepted; Location says where the result will be.", "Analysis"),
                },
                [
                    _parameter(
                        "Idempotency-Key",
                        "header",
                        "The same key and content give the same analysis; other content is 409.",
                    ),
                    _parameter("Prefer", "header", "`respond-async`: answer 202 at once."),
                ],
                _UPLOAD,
            ),
            "get": _operation(
                "listAnalyses",
                "Analyses, newest first.",
                {"200": _answer("One page; `next` is the cursor of the next one or null.", "AnalysisList")},
                [
                    *filters,
                    _parameter(
                        "since", "query", "ISO 8601 time; older ones are left out.", type="string", format="date-time"
                    ),
                    _parameter("cursor", "query", "`next` of the page before."),
                    _parameter(
                        "limit", "query", "Rows of one page.", type="integer", minimum=1, maximum=500, default=50
                    ),
                ],
            ),
        },
        f"{root}/{{analysis}}": {
            "get": _operation("getAnalysis", "One analysis.", {"200": _answer("The analysis.", "Analysis")}, [_ID]),
            "delete": _operation(
                "deleteAnalysis",
                "Delete an analysis with its maps, and its images unless another analysis uses them.",
                {"204": _answer("Deleted.")},
                [_ID],
            ),
        },
        f"{root}/{{analysis}}/events": {
            "get": _operation(
                "followAnalysis",
                "Server-sent events: one `status` event {id, status, stage} at every change until the end.",
                {"200": _answer("The stream.", None, "text/event-stream")},
                [_ID],
            )
        },
        f"{root}/{{analysis}}/maps/{{finding}}/{{kind}}.png": {
            "get": _operation(
                "getMapPicture",
                "A response map as a picture.",
                {"200": _answer("The picture.", None, "image/png")},
                [
                    _ID,
                    _FINDING,
                    _KIND,
                    _parameter(
                        "overlay",
                        "query",
                        "Opacity over the image; without it the bare map.",
                        type="number",
                        minimum=0,
                        maximum=1,
                    ),
                    _parameter(
                        "scale",
                        "query",
                        "`per_image`, or `per_model` to compare patients.",
                        type="string",
                        enum=["per_image", "per_model"],
                    ),
                    _parameter("legend", "query", "1 adds a legend.", type="integer", enum=[0, 1]),
                    _parameter(
                        "slice",
                        "query",
                        "Index into the finding's slices; without it the one with the peak.",
                        type="integer",
                        minimum=0,
                    ),
                    _parameter(
                        "size", "query", "Longer side, px.", type="integer", minimum=64, maximum=2048, default=768
                    ),
                ],
            )
        },
        f"{root}/{{analysis}}/maps/{{finding}}/{{kind}}.npz": {
            "get": _operation(
                "getMapArrays",
                "A response map as arrays, for numpy.load.",
                {"200": _answer("The arrays.", None, "application/x-npz")},
                [_ID, _FINDING, _KIND],
            )
        },
        f"{root}/{{analysis}}/objects/{{kind}}": {
            "get": _operation(
                "getObject",
                "A DICOM object of the result. This version produces none: always 404.",
                {"404": {"$ref": "#/components/responses/Problem"}},
                [
                    _ID,
                    _parameter("kind", "path", "Kind of object.", type="string", enum=["SR", "SEG", "PM", "SC", "KOS"]),
                ],
            )
        },
        f"{root}/{{analysis}}/assessment": {
            "post": _operation(
                "assessFinding",
                "Store a reader's verdict on a finding.",
                {"200": _answer("The analysis.", "Analysis")},
                [_ID],
                _json_body("Assessment"),
            )
        },
    }


def _models() -> dict[str, Any]:
    def get(
        identity: str, summary: str, schema: str = "Anything", media: str = "application/json", model: bool = True
    ) -> dict[str, Any]:
        return {
            "get": _operation(
                identity, summary, {"200": _answer("The answer.", schema, media)}, [_MODEL] if model else None
            )
        }

    root = "/v2/models/{name}"
    return {
        "/v2": get("getServer", "Server metadata, and the names of the models.", model=False),
        "/v2/health/live": get("getLive", "The process answers. Needs no token.", model=False),
        "/v2/health/ready": get(
            "getReady", "Models are loaded and analyses are taken up; 503 if not. Needs no token.", model=False
        ),
        root: get(
            "getModel",
            "Model metadata by the Open Inference Protocol; `parameters` holds classes, version, hash, limits of use.",
        ),
        f"{root}/ready": get("getModelReady", "Whether the model can be used."),
        f"{root}/card": get(
            "getModelCard", "The model card as Markdown, or as a page with Accept: text/html.", "Text", "text/markdown"
        ),
        f"{root}/operating-points": get(
            "getOperatingPoints", "Decision thresholds with sensitivity, specificity, n and data set."
        ),
        f"{root}/stats": get("getModelStats", "What the model did since the start."),
        f"{root}/infer": {
            "post": _operation(
                "infer",
                "Run the model on a tensor of preprocessed images (Open Inference Protocol).",
                {"200": _answer("The outputs.", "Inference")},
                [_MODEL],
                _json_body("InferenceRequest"),
            )
        },
    }


def _rest() -> dict[str, Any]:
    def page(identity: str, summary: str, media: str, parameters: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        return {"get": _operation(identity, summary, {"200": _answer("The answer.", None, media)}, parameters)}

    uid = [
        _parameter(name, "path", f"{text} Instance UID.")
        for name, text in (("study", "Study"), ("series", "Series"), ("sop", "SOP"))
    ]
    window = _parameter("window", "query", "`center,width`; lung window without it.")
    return {
        "/": {"get": _operation("frontDoor", "To the viewer.", {"302": _answer("See /viewer/.")})},
        "/health": {
            "get": _operation(
                "getHealth",
                "Health by dependency; 503 when one fails. Needs no token.",
                {"200": _answer("All pass.", "Health")},
            )
        },
        "/metrics": page("getMetrics", "Prometheus metrics.", "text/plain"),
        "/openapi.json": page("getOpenApi", "This document.", "application/json"),
        "/docs": page("getDocs", "This document for people.", "text/html"),
        "/docs/style.css": page("getDocsStyle", "Style of the plain pages.", "text/css"),
        "/viewer/": page("getViewer", "The viewer.", "text/html"),
        "/viewer/{name}": page(
            "getViewerFile", "A file of the viewer.", "application/octet-stream", [_parameter("name", "path", "File.")]
        ),
        "/dicomweb/studies/{study}/series/{series}/instances/{sop}/rendered": page(
            "getRendered", "A stored instance as a picture (WADO-RS).", "image/png", [*uid, window]
        ),
    }


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document; lists every route of the application."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pellucid",
            "version": __version__,
            "description": "Predictions with response maps for chest CT and fundus photographs. Research use only.",
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"bearer": []}, {"basic": []}],
        "paths": {**_analyses(), **_models(), **_rest()},
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic", "description": "The token is the password."},
            },
            "responses": {"Problem": _answer("An error (RFC 9457).", "Problem", "application/problem+json")},
            "schemas": schemas.SCHEMAS,
        },
    }


@blueprint.get("/openapi.json")
def openapi_json() -> Response:
    """The document."""
    return jsonify(document())
