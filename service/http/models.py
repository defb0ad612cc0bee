"""``/v2``: models by the Open Inference Protocol v2, with their cards, operating points and statistics."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
from flask import Blueprint, Response, jsonify, request

from models.bundle import Bundle
from service import __version__
from service.http import markdown
from service.http.context import json_body, service
from service.http.security import PAGE_POLICY
from service.inference.engine import OUTPUTS
from service.inference.routing import named
from service.pipeline import problem
from service.pipeline.request import InvalidRequest

blueprint = Blueprint("models", __name__, url_prefix="/v2")

DATATYPE = "FP32"


def _bundle(name: str) -> Bundle:
    return named(service().pipeline.bundles, name)


@blueprint.get("")
def server() -> Response:
    """Server metadata, and the names of the models."""
    return jsonify(
        {"name": "pellucid", "version": __version__, "extensions": [], "models": sorted(service().pipeline.bundles)}
    )


@blueprint.get("/health/live")
def live() -> Response:
    """The process answers."""
    return jsonify({"live": True})


@blueprint.get("/health/ready")
def ready() -> tuple[Response, int]:
    """Ready when models are loaded (they are before the port opens), analyses are taken up and the database answers."""
    parts = service()
    good = parts.queue.working and bool(parts.pipeline.bundles)
    try:
        parts.store.check()
    except Exception as error:  # noqa: BLE001 - whatever the database raises, the answer is no
        problem.of_fault(error)
        good = False
    return jsonify({"ready": good}), 200 if good else 503


@blueprint.get("/models/<name>")
def metadata(name: str) -> Response:
    """Inputs and outputs, and what the numbers mean."""
    bundle = _bundle(name)
    described = service().tools.engine.describe(name)
    return jsonify(
        {
            "name": bundle.name,
            "versions": [bundle.version],
            "platform": "onnxruntime_onnx",
            **described,
            "parameters": {
                "title": bundle.description["title"],
                "task": bundle.task,
                "version": bundle.version,
                "sha256": bundle.sha256,
                "classes": bundle.description["classes"],
                "input": bundle.description["input"],
                "response_maps": bundle.description["response_maps"],
                "limits_of_use": bundle.description["limits_of_use"],
                "provider": service().tools.engine.provider(name),
            },
        }
    )


@blueprint.get("/models/<name>/ready")
def model_ready(name: str) -> Response:
    """A model that exists is loaded, and so ready."""
    return jsonify({"name": _bundle(name).name, "ready": True})


@blueprint.get("/models/<name>/card")
def card(name: str) -> Response:
    """The model card: Markdown, or a page for a browser."""
    text = (_bundle(name).folder / "CARD.md").read_text(encoding="utf-8")
    best = request.accept_mimetypes.best_match(["text/markdown", "text/plain", "text/html"], default="text/markdown")
    if best == "text/html":
        response = Response(markdown.page(f"Model card of {name}", text), content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = PAGE_POLICY
    else:
        response = Response(text, content_type="text/markdown; charset=utf-8")
    response.headers["Vary"] = "Accept"
    return response


@blueprint.get("/models/<name>/operating-points")
def operating_points(name: str) -> Response:
    """Decision thresholds with what they do on a named data set."""
    bundle = _bundle(name)
    return jsonify(
        {
            "model": bundle.name,
            "weights_sha256": bundle.sha256,
            "operating_points": [asdict(p) for p in bundle.operating_points],
        }
    )


@blueprint.get("/models/<name>/evidence")
def evidence(name: str) -> Response:
    """How good the model was measured to be, on what, and where that ends; from its description."""
    bundle = _bundle(name)
    told = ("metrics", "evidence", "limits_of_use", "training", "calibration")
    return jsonify(
        {
            "model": bundle.name,
            "version": bundle.version,
            "sha256": bundle.sha256,
            **{part: bundle.description[part] for part in told},
        }
    )


@blueprint.get("/models/<name>/stats")
def stats(name: str) -> Response:
    """What the model did since the start."""
    return jsonify({"model": _bundle(name).name, **asdict(service().tools.engine.statistics(name))})


@blueprint.post("/models/<name>/infer")
def infer(name: str) -> Response:
    """Run the model on a tensor of preprocessed images."""
    bundle, parts = _bundle(name), service()
    body = json_body(parts.settings.infer_bytes)
    if not isinstance(body, dict) or not isinstance(body.get("inputs"), list) or len(body["inputs"]) != 1:
        raise _wrong("inputs", "must be a list with the model's one input")
    tensor = _tensor(body["inputs"][0], parts.tools.engine.describe(name)["inputs"][0], parts.settings.infer_batch)
    wanted = body.get("outputs") or [{"name": output} for output in OUTPUTS]
    if not isinstance(wanted, list) or not all(
        isinstance(item, dict) and item.get("name") in OUTPUTS for item in wanted
    ):
        raise _wrong("outputs", f"must be a list of objects with a name out of {', '.join(OUTPUTS)}")
    names = list(dict.fromkeys(item["name"] for item in wanted))
    result = parts.tools.engine.run(bundle, tensor, names)
    answer: dict[str, Any] = {
        "model_name": bundle.name,
        "model_version": bundle.version,
        "outputs": [
            {
                "name": output,
                "shape": list(result[output].shape),
                "datatype": DATATYPE,
                "data": result[output].ravel().tolist(),
            }
            for output in names
        ],
    }
    if isinstance(body.get("id"), str):
        answer["id"] = body["id"][:255]
    return jsonify(answer)


def _tensor(sent: Any, expected: dict[str, Any], batch_limit: int) -> np.ndarray:
    """The input tensor, with every part of it checked; data may be flat or nested."""
    if not isinstance(sent, dict) or sent.get("name") != expected["name"]:
        raise _wrong("inputs[0].name", f"must be {expected['name']!r}")
    if sent.get("datatype") != DATATYPE:
        raise _wrong("inputs[0].datatype", f"must be {DATATYPE}")
    shape, sizes = sent.get("shape"), expected["shape"]
    if (
        not isinstance(shape, list)
        or not all(type(size) is int and size > 0 for size in shape)
        or shape[1:] != sizes[1:]
    ):
        raise _wrong(
            "inputs[0].shape",
            f"must be {sizes} (-1 = number of images)",
            value=shape if isinstance(shape, list) else None,
        )
    if shape[0] > batch_limit:
        raise _wrong(
            "inputs[0].shape", f"has {shape[0]} images, the limit is {batch_limit}", value=shape[0], limit=batch_limit
        )
    try:
        data = np.asarray(sent.get("data"), dtype=np.float64)
    except (TypeError, ValueError):
        raise _wrong("inputs[0].data", "must be numbers, flat in row-major order or nested as the shape says") from None
    if data.size != math.prod(shape) or (data.ndim != 1 and list(data.shape) != shape):
        raise _wrong(
            "inputs[0].data",
            f"has {data.size} numbers, the shape says {math.prod(shape)}",
            value=data.size,
            limit=math.prod(shape),
        )
    if not np.abs(data).max() <= np.finfo(np.float32).max:  # NaN fails here, too
        raise _wrong("inputs[0].data", "must be finite float32 numbers")
    return data.reshape(shape).astype(np.float32)


def _wrong(where: str, message: str, **more: Any) -> InvalidRequest:
    return InvalidRequest(f"{where}: {message}", [{"where": where, "message": message, **more}])
