"""The Open Inference Protocol part: metadata, tensors in and out, cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from flask.testing import FlaskClient

from models.bundle import folders, load
from service.http.schemas import SCHEMAS

INFER = "/v2/models/sisc_lung/infer"


def tensor(shape: list[int], data: Any, **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "image", "shape": shape, "datatype": "FP32", "data": data, **more}]}


def test_metadata(client: FlaskClient) -> None:
    assert client.get("/v2").get_json()["models"] == ["clear_dr", "sisc_lung"]
    body = client.get("/v2/models/sisc_lung").get_json()
    assert {"name", "versions", "platform", "inputs", "outputs", "parameters"} <= set(body)
    assert body["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 96, 96]}]
    assert [c["name"] for c in body["parameters"]["classes"]] == ["benign", "malignant"]
    assert len(body["parameters"]["sha256"]) == 64
    assert client.get("/v2/models/sisc_lung/ready").get_json()["ready"] is True
    points = client.get("/v2/models/sisc_lung/operating-points").get_json()["operating_points"]
    assert [(p["name"], p["default"]) for p in points] == [("balanced", True), ("sensitivity_90", False)]


def test_the_evidence_is_that_of_the_description(client: FlaskClient, tiny_models: Path) -> None:
    told = json.loads((tiny_models / "sisc_lung" / "model.json").read_text())
    body = client.get("/v2/models/sisc_lung/evidence").get_json()
    assert (body["model"], body["version"]) == ("sisc_lung", "0.0.1")
    for part in ("metrics", "evidence", "limits_of_use", "training", "calibration"):
        assert body[part] == told[part]
    assert body["metrics"][0]["n"] == 10 and body["metrics"][0]["interval"] == [0.4, 0.6]


def test_the_evidence_of_the_real_models_fits_its_schema() -> None:
    root = {"components": {"schemas": SCHEMAS}, "$ref": "#/components/schemas/Evidence"}
    for folder in folders():
        bundle = load(folder)
        told = {"model": bundle.name, "version": bundle.version, "sha256": bundle.sha256}
        jsonschema.Draft202012Validator(root).validate({**bundle.description, **told})


def test_an_unknown_model_is_a_problem_with_the_protocols_error(client: FlaskClient) -> None:
    for path in ("", "/ready", "/card", "/operating-points", "/evidence", "/stats"):
        response = client.get(f"/v2/models/nothing{path}")
        assert response.status_code == 404
        assert "clear_dr, sisc_lung" in response.get_json()["error"] == response.get_json()["detail"]


def test_the_card_is_markdown_for_programs_and_a_page_for_people(client: FlaskClient) -> None:
    response = client.get("/v2/models/sisc_lung/card")
    assert response.content_type.startswith("text/markdown") and response.text.startswith("# Tiny sisc_lung")
    browser = client.get("/v2/models/sisc_lung/card", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert browser.content_type.startswith("text/html")
    assert "<h1>Tiny sisc_lung</h1>" in browser.text
    assert (
        "<strong>not</strong>" in browser.text
        and "<td>&lt;y&gt;</td>" in browser.text
        and "<td><code>x</code></td>" in browser.text
    )


def test_a_tensor_gives_what_the_network_computes(client: FlaskClient) -> None:
    x = np.stack([np.full((1, 96, 96), 0.25), np.full((1, 96, 96), 0.75)])
    for data in (x.ravel().tolist(), x.tolist()):
        body = client.post(
            INFER, json={"id": "42", **tensor([2, 1, 96, 96], data), "outputs": [{"name": "probabilities"}]}
        ).get_json()
        (output,) = body["outputs"]
        assert (body["model_name"], body["id"], output["shape"], output["datatype"]) == (
            "sisc_lung",
            "42",
            [2, 2],
            "FP32",
        )
        low = 1 / (1 + np.exp(2))
        assert np.allclose(output["data"], [1 - low, low, low, 1 - low], atol=1e-5)


def test_without_outputs_all_are_given(client: FlaskClient) -> None:
    body = client.post(INFER, json=tensor([1, 1, 96, 96], [0.5] * 9216)).get_json()
    assert {o["name"]: o["shape"] for o in body["outputs"]} == {
        "logits": [1, 2], "probabilities": [1, 2], "response_maps": [1, 2, 96, 96], "features": [1, 2],
    }  # fmt: skip


def test_statistics_count(client: FlaskClient) -> None:
    before = client.get("/v2/models/sisc_lung/stats").get_json()["images"]
    client.post(INFER, json=tensor([2, 1, 96, 96], [0.5] * 18432))
    assert client.get("/v2/models/sisc_lung/stats").get_json()["images"] == before + 2


GOOD = [0.5] * 9216


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ([], "inputs"),
        ({}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [1]}, "name"),
        (tensor([1, 1, 96, 96], GOOD, name="picture"), "name"),
        (tensor([1, 1, 96, 96], GOOD, datatype="UINT8"), "datatype"),
        (tensor([1, 3, 96, 96], GOOD * 3), "shape"),
        (tensor([1, 96, 96], GOOD), "shape"),
        (tensor([0, 1, 96, 96], []), "shape"),
        (tensor([True, 1, 96, 96], GOOD), "shape"),
        (tensor([3, 1, 96, 96], GOOD * 3), "limit is 2"),
        (tensor([1 << 40, 1, 96, 96], GOOD), "limit is 2"),
        (tensor([1, 1, 96, 96], GOOD[:-1]), "9215 numbers"),
        (tensor([1, 1, 96, 96], [GOOD]), "data"),
        (tensor([1, 1, 96, 96], ["a"] * 9216), "data"),
        (tensor([1, 1, 96, 96], [[1], [1, 2]]), "data"),
        (tensor([1, 1, 96, 96], None), "data"),
        (tensor([1, 1, 96, 96], [1e300] * 9216), "finite"),
        ({**tensor([1, 1, 96, 96], GOOD), "outputs": [{"name": "secrets"}]}, "outputs"),
        ({**tensor([1, 1, 96, 96], GOOD), "outputs": "logits"}, "outputs"),
    ],
)
def test_wrong_tensors_are_explained(client: FlaskClient, body: Any, word: str) -> None:
    response = client.post(INFER, json=body)
    assert response.status_code == 422
    assert word in response.get_json()["error"]


def test_numbers_json_does_not_have_are_refused(client: FlaskClient) -> None:
    text = json.dumps(tensor([1, 1, 96, 96], [float("nan")] * 9216))
    assert client.post(INFER, data=text, content_type="application/json").status_code == 400
