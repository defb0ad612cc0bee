"""The eye that a file's name tells, over HTTP: only R or L of the name is kept, and an analysis done again has it too."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from service.http import openapi
from service.phantoms import write_fundus

Post = Callable[..., TestResponse]


@pytest.fixture(scope="module")
def fundus(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The phantom's photograph, 640 x 480 px."""
    path = tmp_path_factory.mktemp("fundus") / "fundus.jpg"
    write_fundus(path)
    stream = io.BytesIO()
    with Image.open(path) as image:
        image.resize((640, 480)).save(stream, "PNG")
    return stream.getvalue()


def sent(post: Post, name: str, fundus: bytes, request: Any = None, **headers: str) -> dict[str, Any]:
    response = post([(name, fundus)], request, headers)
    assert response.status_code == 200, response.text
    return dict(response.get_json())


def eye(analysis: dict[str, Any]) -> tuple[str, str | None]:
    return analysis["input"]["laterality"], analysis["input"]["laterality_source"]


def test_the_name_tells_the_eye_and_is_not_kept(app: Flask, post: Post, fundus: bytes) -> None:
    analysis = sent(post, "Meier_Anna_right.png", fundus)
    assert eye(analysis) == ("R", "file_name")
    assert analysis["input"]["laterality_confidence"] is None
    schema = {"components": openapi.document()["components"], "$ref": "#/components/schemas/Analysis"}
    jsonschema.Draft202012Validator(schema).validate(analysis)
    stored = app.extensions["pellucid"].store.get(analysis["id"])
    assert stored.request["named_eye"] == "R"
    assert "Meier" not in json.dumps([analysis, stored.request])
    folder = app.extensions["pellucid"].settings.data_dir
    assert not [path for path in Path(folder).rglob("*") if path.is_file() and b"Meier" in path.read_bytes()]


def test_the_request_goes_before_the_name(post: Post, fundus: bytes) -> None:
    analysis = sent(post, "eye_OD.png", fundus, {"laterality": "L"})
    assert eye(analysis) == ("L", "request")
    said = [check["message"] for check in analysis["input"]["checks"] if check["id"] == "laterality"]
    assert "the request says L, the file's name R; the request was followed" in said


def test_the_same_photograph_under_another_name_is_answered_by_that_name(post: Post, fundus: bytes) -> None:
    assert eye(sent(post, "1_left.png", fundus)) == ("L", "file_name")
    assert eye(sent(post, "1_right.png", fundus)) == ("R", "file_name")


def test_done_again_it_is_the_same_eye(post: Post, client: FlaskClient, fundus: bytes) -> None:
    first = sent(post, "x_links.png", fundus)
    for body in ({"analysis": first["id"], "request": {"maps": []}}, {"analysis": first["id"]}):
        response = client.post("/api/v1/analyses", json=body)
        assert response.status_code == 200, response.text
        assert eye(response.get_json()) == ("L", "file_name")


def test_nobody_may_send_it(post: Post, fundus: bytes) -> None:
    response = post([("a.png", fundus)], {"named_eye": "R"})
    assert response.status_code == 422 and "named_eye" in response.text


def test_an_idempotency_key_belongs_to_the_eye_that_was_named(post: Post, fundus: bytes) -> None:
    first = sent(post, "1_left.png", fundus, **{"Idempotency-Key": "eye-1"})
    assert sent(post, "another_left.png", fundus, **{"Idempotency-Key": "eye-1"})["id"] == first["id"]
    assert post([("1_right.png", fundus)], None, {"Idempotency-Key": "eye-1"}).status_code == 409
