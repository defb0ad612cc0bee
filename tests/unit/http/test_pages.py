"""The rest of the interface: its description against the real routes, health, metrics, rendered slices."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from service.errors import InputError
from service.http import markdown, openapi
from service.records import Instance


def test_the_description_lists_exactly_the_routes_that_exist(app: Flask) -> None:
    routes = {
        (re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    document = openapi.document()
    described = {(path, method) for path, operations in document["paths"].items() for method in operations}
    assert described == routes


def test_the_description_is_sound(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    operations = [(path, o) for path, item in document["paths"].items() for o in item.values()]
    names = [o["operationId"] for _, o in operations]
    assert len(names) == len(set(names))
    for path, operation in operations:
        declared = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path)), path
    text = client.get("/openapi.json").text
    for kind, name in set(re.findall(r'"#/components/(\w+)/(\w+)"', text)):
        assert name in document["components"][kind]


def test_answers_fit_their_schemas(client: FlaskClient, done: dict[str, Any]) -> None:
    text = openapi.document()["components"]["schemas"]
    root = {"components": {"schemas": text}, "$ref": "#/components/schemas/Analysis"}
    jsonschema.Draft202012Validator(root).validate(client.get(f"/api/v1/analyses/{done['id']}").get_json())
    for path, name in (("/api/v1/analyses", "AnalysisList"), ("/health", "Health"), ("/nothing", "Problem")):
        jsonschema.Draft202012Validator({**root, "$ref": f"#/components/schemas/{name}"}).validate(
            client.get(path).get_json()
        )


def test_the_page_for_people_has_every_operation_and_every_problem(client: FlaskClient, app: Flask) -> None:
    text = client.get("/docs").text
    assert all(f"{path}</code>" in text for path in openapi.document()["paths"])
    kinds, slugs = [InputError], set()
    while kinds:
        kind = kinds.pop()
        slugs.add(kind.slug)
        kinds += kind.__subclasses__()
    assert all(f'id="problem-{slug}"' in text for slug in slugs), slugs
    assert not re.search(r'(src|href)="(https?:)?//', text) and "<script" not in text
    assert client.get("/docs/style.css").content_type.startswith("text/css")


def test_a_problems_type_leads_to_its_description(client: FlaskClient) -> None:
    kind = client.get("/api/v1/analyses/nothing").get_json()["type"]
    page, anchor = kind.split("#")
    assert f'id="{anchor}"' in client.get(page).text


def test_health_names_every_dependency(client: FlaskClient) -> None:
    body = client.get("/health").get_json()
    assert body["status"] == "pass"
    assert [c["check"] for c in body["checks"]] == [
        "database",
        "disk space",
        "model clear_dr",
        "model sisc_lung",
        "sandbox",
        "queue",
        "arrivals",
        "deliveries",
    ]
    assert all(c["result"] == "pass" for c in body["checks"])
    assert "CPUExecutionProvider" in body["checks"][2]["detail"]


def test_health_says_what_is_broken(app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    service = app.extensions["pellucid"]
    monkeypatch.setattr(service.store.blobs, "_free_bytes", 1 << 60)
    response = client.get("/health")
    assert response.status_code == 503
    assert {c["check"]: c["result"] for c in response.get_json()["checks"]}["disk space"] == "fail"


def test_a_database_that_does_not_answer_is_not_ready(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise OSError("gone")

    monkeypatch.setattr(app.extensions["pellucid"].store, "check", gone)
    assert client.get("/v2/health/ready").status_code == 503
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/health").status_code == 503


def test_metrics_count_requests_and_analyses(client: FlaskClient, done: dict[str, Any]) -> None:
    client.get("/v2")
    text = client.get("/metrics").text
    assert re.search(r'pellucid_request_seconds_count\{method="GET",route="/v2",status="200"\} [1-9]', text)
    assert re.search(
        rf'pellucid_analyses_total\{{model="sisc_lung",outcome="{done["outcome"]}",status="completed"\}} [1-9]', text
    )
    assert re.search(r'pellucid_stage_seconds_count\{model="sisc_lung",stage="model"\} [1-9]', text)
    assert re.search(r'pellucid_stored_analyses\{status="completed"\} [1-9]', text)
    assert re.search(r'pellucid_model_images_total\{model="sisc_lung",provider="CPUExecutionProvider"\} [1-9]', text)
    assert "# TYPE process_resident_memory_bytes gauge" in text


def test_markdown_cannot_bring_its_own_html() -> None:
    text = markdown.render("# <script>\n\n- **a**\n  b\n- `c<d`\n\n| x |\n|---|\n| <i> |\n\n```\n<b>\n```\ntail")
    assert text == (
        "<h1>&lt;script&gt;</h1>\n<ul><li><strong>a</strong> b</li><li><code>c&lt;d</code></li></ul>\n"
        "<table><thead><tr><th>x</th></tr></thead><tbody><tr><td>&lt;i&gt;</td></tr></tbody></table>\n<pre>&lt;b&gt;\n</pre>\n<p>tail</p>"
    )


@pytest.fixture
def stored(app: Flask, data: Path, tmp_path: Path) -> Instance:
    """A CT slice in the store."""
    source = tmp_path / "slice.dcm"
    shutil.copy(data / "dicom/transfer_syntaxes/CT_original.dcm", source)
    service = app.extensions["pellucid"]
    (instance,) = service.tools.sandbox.inspect([source])
    service.store.accept(model="sisc_lung", instances=[instance], request={"regions": []})
    return Instance(**vars(instance))


def test_a_stored_slice_is_rendered_through_the_asked_window(app: Flask, client: FlaskClient, stored: Instance) -> None:
    place = (
        f"/dicomweb/studies/{stored.study_uid}/series/{stored.series_uid}/instances/{stored.sop_instance_uid}/rendered"
    )
    response = client.get(f"{place}?window=40,400")
    assert response.content_type == "image/png"
    got = np.asarray(Image.open(io.BytesIO(response.data))).astype(float)
    hu = app.extensions["pellucid"].tools.sandbox.hounsfield(stored).astype(float)
    # PS3.3 C.11.2.1.2.1: y = ((x - (c - 0.5)) / (w - 1) + 0.5) * (max - min) + min, clipped
    expected = np.clip(((hu - 39.5) / 399 + 0.5) * 255, 0, 255)
    assert np.abs(got - expected).max() <= 0.51
    assert client.get(place).data != response.data
    assert client.get(f"{place}?window=40,400,LINEAR").data == response.data


@pytest.mark.parametrize("window", ["", "40", "a,b", "40,0", "nan,400", "40,400,sigmoid"])
def test_a_wrong_window_is_refused(client: FlaskClient, window: str) -> None:
    response = client.get(f"/dicomweb/studies/1/series/2/instances/3/rendered?window={window}")
    assert response.status_code == 422 and "window" in response.get_json()["detail"]


def test_an_unknown_instance_is_404(client: FlaskClient) -> None:
    assert client.get("/dicomweb/studies/1/series/2/instances/3/rendered").status_code == 404


def test_an_escaped_pipe_stays_in_its_cell() -> None:
    assert "<td>R(.|c)</td><td>1</td>" in markdown.render("| a | b |\n|---|---|\n| R(.\\|c) | 1 |")


def test_metrics_that_alerts_and_dashboard_need_exist(client: FlaskClient, done: dict[str, Any]) -> None:
    from tests.unit.test_deploy import METRICS

    text = client.get("/metrics").text
    served = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line and not line.startswith("#")}
    declared = {line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE")}
    missing = {name for name in METRICS if name not in served and not {name, name.removesuffix("_total")} & declared}
    assert not missing
