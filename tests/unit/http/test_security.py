"""Access: tokens, the loopback-only mode, other web sites, headers, errors that tell nothing, and a log without patients."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service.config import ConfigError, Settings
from service.http import create_app

Post = Callable[..., TestResponse]
TOKENS = ("first-token-of-the-test", "second-token-of-the-test")


@pytest.fixture
def guarded(app: Flask, tiny_models: Path) -> Iterator[FlaskClient]:
    """The same service behind tokens."""
    settings = Settings(host="0.0.0.0", tokens=TOKENS, models_dir=tiny_models, dicom_processes=0)
    told = app.extensions["pellucid"].queue.on_end
    yield create_app(settings, app.extensions["pellucid"]).test_client()
    app.extensions["pellucid"].queue.on_end = told


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()}


def test_without_a_token_only_health_answers(guarded: FlaskClient) -> None:
    for path in ("/health", "/v2/health/live", "/v2/health/ready"):
        assert guarded.get(path).status_code == 200
    for path in (
        "/",
        "/viewer/",
        "/docs",
        "/openapi.json",
        "/metrics",
        "/v2",
        "/v2/models/sisc_lung",
        "/api/v1/analyses",
        "/nothing",
        "/health/",
    ):
        response = guarded.get(path)
        assert response.status_code == 401, path
        assert response.content_type == "application/problem+json"
        kinds = [value.split()[0].lower() for value in response.headers.getlist("WWW-Authenticate")]
        assert kinds == ["bearer", "basic"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": f"Bearer {TOKENS[0]}"}, 200),
        ({"Authorization": f"Bearer {TOKENS[1]}"}, 200),
        (basic(TOKENS[1]), 200),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": f"Bearer {TOKENS[0]}x"}, 401),
        ({"Authorization": "Bearer t\u00f6ken"}, 401),
        (basic("wrong"), 401),
        (basic(""), 401),
        ({"Authorization": "Basic !!!"}, 401),
        ({"Authorization": f"Digest {TOKENS[0]}"}, 401),
    ],
)
def test_tokens(guarded: FlaskClient, headers: dict[str, str], status: int) -> None:
    assert guarded.get("/v2", headers=headers).status_code == status


def test_the_log_has_the_name_of_a_token_and_never_the_token(
    app: Flask, tiny_models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(
        host="0.0.0.0", tokens=(f"ward-3={TOKENS[0]}", TOKENS[1]), models_dir=tiny_models, dicom_processes=0
    )
    told = app.extensions["pellucid"].queue.on_end
    client = create_app(settings, app.extensions["pellucid"]).test_client()
    app.extensions["pellucid"].queue.on_end = told
    with caplog.at_level(logging.DEBUG):
        statuses = [
            client.get("/v2", headers=headers).status_code
            for headers in (
                {"Authorization": f"Bearer {TOKENS[0]}"},
                basic(TOKENS[0]),
                {"Authorization": f"Bearer {TOKENS[1]}"},
                {"Authorization": f"Bearer ward-3={TOKENS[0]}"},  # the name is no part of the secret
                basic("ward-3"),
            )
        ]
    assert statuses == [200, 200, 200, 401, 401]
    lines = [r.getMessage() for r in caplog.records if r.name == "pellucid.access"]
    assert [line.rsplit(" ms ", 1)[1] for line in lines] == ["- ward-3", "- ward-3", "-", "-", "-"]
    assert not any(token in record.getMessage() for record in caplog.records for token in TOKENS)


def test_a_network_address_without_tokens_does_not_start(tiny_models: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="PELLUCID_TOKENS"):
        create_app(Settings(host="0.0.0.0", models_dir=tiny_models, data_dir=tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:80", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 403),
        ("[", 403),
        ("", 403),
    ],
)
def test_without_tokens_a_foreign_host_header_is_refused(client: FlaskClient, host: str, status: int) -> None:
    """A page at evil.example may have its name rebound to 127.0.0.1; its requests then carry its own name."""
    assert client.get("/v2", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Origin": "http://localhost"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://localhost:9999"}, False),
        ({"Origin": "null"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
    ],
)
def test_other_sites_may_not_change_anything(client: FlaskClient, headers: dict[str, str], allowed: bool) -> None:
    for method in (client.post, client.delete):
        response = method(
            "/api/v1/analyses/nothing" if method == client.delete else "/api/v1/analyses", headers=headers
        )
        assert (response.status_code != 403) is allowed


@pytest.mark.parametrize(
    "path", ["/", "/viewer/", "/docs", "/v2", "/health", "/metrics", "/nothing", "/api/v1/analyses"]
)
def test_every_answer_carries_the_security_headers(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert headers["Cache-Control"] in ("no-store", "no-cache")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("PUT", "/api/v1/analyses", 405),
        ("POST", "/health", 405),
        ("GET", "/viewer/nothing.js", 404),
        ("GET", "/viewer/__init__.py", 404),
        ("GET", "/viewer/..%2f..%2fconfig.py", 404),
        ("GET", "/viewer/%2e%2e/config.py", 404),
    ],
)
def test_errors_are_problems(client: FlaskClient, method: str, path: str, status: int) -> None:
    response = client.open(path, method=method)
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    assert response.get_json()["status"] == status
    assert status != 405 or response.headers["Allow"]


def test_a_fault_tells_an_incident_number_and_nothing_else(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(*_: Any, **__: Any) -> None:
        raise RuntimeError("DOE^JANE in /secret/path")

    monkeypatch.setattr(app.extensions["pellucid"].store, "page", breaks)
    response = client.get("/api/v1/analyses")
    assert response.status_code == 500
    body = response.get_json()
    assert body["incident"] in caplog.text and "RuntimeError" in caplog.text
    assert "DOE" not in response.text + caplog.text
    assert "Traceback" not in response.text and "/secret" not in response.text


def test_the_log_names_route_and_status_but_nothing_that_was_sent(
    post: Post, client: FlaskClient, crop: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        body = post([("DOE_JANE_1970.png", crop)], {"model": "sisc_lung"}).get_json()
        client.get("/api/v1/analyses?patient=PATIENT-7&study=1.2.3.4.5")
        client.get("/api/v1/analyses/1.2.3.4.5")
        client.get("/dicomweb/studies/1.2.3.4.5/series/1/instances/2/rendered")
        client.get("/DOE_JANE")
    lines = [r.getMessage() for r in caplog.records if r.name == "pellucid.access"]
    assert len(lines) == 5
    assert lines[0].startswith("POST /api/v1/analyses 200 ") and lines[0].endswith(f" ms {body['id']}")
    assert lines[2].startswith("GET /api/v1/analyses/<analysis> 404 ")
    everything = "\n".join(r.getMessage() for r in caplog.records)
    for secret in ("DOE", "1970", "PATIENT", "1.2.3.4.5", body["input"]["instances"][0]):
        assert secret not in everything


def test_a_dicom_listener_for_a_network_needs_named_senders(tiny_models: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="PELLUCID_DICOM_PEERS"):
        create_app(Settings(host="0.0.0.0", tokens=TOKENS, models_dir=tiny_models, data_dir=tmp_path))
    assert list(tmp_path.iterdir()) == []
