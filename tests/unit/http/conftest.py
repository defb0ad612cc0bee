"""The application with tiny models and the real sandbox, and a client that sends multipart bodies byte by byte."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from service.config import Settings
from service.http import create_app

Post = Callable[..., TestResponse]


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="session")
def crop() -> bytes:
    """A grey nodule crop of 100 x 100 px: dark with a bright square."""
    array = np.full((100, 100), 40, np.uint8)
    array[40:60, 40:60] = 200
    return png(array)


@pytest.fixture(scope="session")
def other_crop() -> bytes:
    return png(np.tile(np.arange(100, dtype=np.uint8), (100, 1)))


class Client(FlaskClient):
    """Reads every answer to its end, so that no file stays open."""

    def open(self, *arguments: Any, **more: Any) -> TestResponse:
        return super().open(*arguments, **{"buffered": True, **more})


@pytest.fixture(scope="module")
def app(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"),
        models_dir=tiny_models,
        threads=1,
        free_bytes=0,
        sync_wait_s=60,
        infer_batch=2,
        upload_bytes=4 << 20,
        upload_parts=50,
    )
    made = create_app(settings)
    made.test_client_class = Client
    yield made
    made.extensions["pellucid"].close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def multipart(files: list[tuple[str, bytes]], request: Any = None, extra: str = "") -> tuple[bytes, str]:
    """Body and content type, written by hand so that every byte is known."""
    head = '--B0\r\nContent-Disposition: form-data; name="{}"{}\r\nContent-Type: {}\r\n\r\n'
    body = b""
    for name, data in files:
        body += head.format("files", f'; filename="{name}"', "application/octet-stream").encode() + data + b"\r\n"
    if request is not None:
        text = request if isinstance(request, str) else json.dumps(request)
        body += (head.format("request", "", "application/json") + text + "\r\n").encode()
    return body + extra.encode() + b"--B0--\r\n", "multipart/form-data; boundary=B0"


@pytest.fixture
def post(client: FlaskClient) -> Post:
    def send(
        files: list[tuple[str, bytes]], request: Any = None, headers: dict[str, str] | None = None, extra: str = ""
    ) -> TestResponse:
        body, kind = multipart(files, request, extra)
        return client.post("/api/v1/analyses", data=body, content_type=kind, headers=headers)

    return send


@pytest.fixture(scope="module")
def done(app: Flask, crop: bytes, other_crop: bytes) -> dict[str, Any]:
    """A completed analysis of two slices of one nodule."""
    body, kind = multipart([("a.png", crop), ("b.png", other_crop)], {"model": "sisc_lung", "pixel_spacing_mm": 0.6})
    response = app.test_client().post("/api/v1/analyses", data=body, content_type=kind)
    assert response.status_code == 200, response.text
    return dict(response.get_json())
