"""The worklist over HTTP: rows derived by hand from what was sent, filters, paging, 304, progress; on its own data folder."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.config import Settings
from service.errors import OutOfContract
from service.http import create_app
from service.phantoms import write_fundus
from service.store import entries
from tests.unit.http.conftest import Client, multipart, png

LIST = "/api/v1/worklist"
STUDY_KEYS = {
    "study", "key", "patient", "study_date", "study_time", "description", "accession", "modalities", "series", "changed",
    "arriving", "analyses",
}  # fmt: skip
ANALYSIS_KEYS = {
    "id", "status", "stage", "outcome", "created", "model", "series", "laterality", "findings", "positive", "top", "gradable",
    "error", "assessed", "rejected", "supersedes", "superseded_by", "files",
}  # fmt: skip


@pytest.fixture(scope="module")
def app(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"),
        models_dir=tiny_models,
        threads=1,
        free_bytes=0,
        objects=(),
        sync_wait_s=60,
    )
    made = create_app(settings)
    made.test_client_class = Client
    yield made
    made.extensions["pellucid"].close()


def rows(client: FlaskClient, query: str = "") -> list[dict[str, Any]]:
    response = client.get(f"{LIST}?{query}")
    assert response.status_code == 200, response.text
    return list(response.get_json()["studies"])


def send(client: FlaskClient, data: bytes, request: Any) -> dict[str, Any]:
    body, kind = multipart([("x", data)], request)
    response = client.post("/api/v1/analyses", data=body, content_type=kind)
    assert response.status_code == 200, response.text
    return dict(response.get_json())


@pytest.fixture(scope="module")
def eye(app: Flask, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("fundus") / "fundus.jpg"
    write_fundus(path)
    return send(app.test_client(), path.read_bytes(), {"laterality": "L"})


@pytest.fixture(scope="module")
def nodule(app: Flask, eye: dict[str, Any], crop: bytes) -> dict[str, Any]:
    return send(app.test_client(), crop, {"model": "sisc_lung", "pixel_spacing_mm": 0.6})


def test_photographs_and_crops_are_rows_of_their_own(
    client: FlaskClient, eye: dict[str, Any], nodule: dict[str, Any]
) -> None:
    first, second = rows(client)
    assert set(first) == STUDY_KEYS and set(first["analyses"][0]) == ANALYSIS_KEYS
    assert [one["key"] for one in (first, second)] == [f"analysis:{nodule['id']}", f"analysis:{eye['id']}"]
    assert (second["study"], second["series"], second["arriving"]) == (None, [], [])
    assert second["patient"] == {"name": "", "id": "", "birth_date": "", "sex": ""}
    (graded,) = second["analyses"]
    finding = eye["findings"][0]
    assert graded["top"] == {
        "finding": "eye",
        "label": finding["label"],
        "probability": max(finding["probabilities"].values()),
        "grade": finding["grade"],
        "decision": finding["operating_point"]["decision"],
    }
    assert (graded["outcome"], graded["laterality"], graded["gradable"]) == ("graded", "L", True)
    assert graded["model"] == {"name": "clear_dr", "version": eye["model"]["version"]}
    (scored,) = first["analyses"]
    assert scored["top"]["probability"] == nodule["findings"][0]["probabilities"]["malignant"]
    assert scored["top"]["grade"] is None and scored["outcome"] == nodule["outcome"]
    assert scored["positive"] == (nodule["outcome"] == "positive")
    assert (scored["findings"], scored["files"], scored["stage"], scored["error"]) == (1, 1, None, None)
    assert first["changed"] >= scored["created"] == nodule["created"]
    assert client.get(LIST).get_json()["counts"] == {"queued": 0, "running": 0, "completed": 2, "failed": 0}


def test_verdicts_are_counted(client: FlaskClient, nodule: dict[str, Any]) -> None:
    for verdict, rejected in (("rejected", 1), ("accepted", 0)):
        body = {"finding": nodule["findings"][0]["id"], "verdict": verdict}
        assert client.post(f"/api/v1/analyses/{nodule['id']}/assessment", json=body).status_code == 200
        shown = rows(client, f"q={nodule['id']}")[0]["analyses"][0]
        assert (shown["assessed"], shown["rejected"]) == (1, rejected)


def test_filters_and_pages(client: FlaskClient, eye: dict[str, Any], nodule: dict[str, Any]) -> None:
    def ids(query: str) -> list[str]:
        return [one["analyses"][0]["id"] for one in rows(client, query)]

    assert ids("outcome=graded") == ids("model=clear_dr") == ids(f"q={eye['id'][:10]}") == [eye["id"]]
    assert ids("status=completed&limit=1") == [nodule["id"]]
    assert ids("status=none") == ids("status=arriving") == ids("modality=CT") == ids("until=2020-01-01") == []
    assert ids("since=2020-01-01T00:00:00%2B01:00") == [nodule["id"], eye["id"]]
    page = client.get(f"{LIST}?limit=1").get_json()
    following = client.get(f"{LIST}?limit=1&cursor={page['next']}").get_json()
    assert [one["analyses"][0]["id"] for one in following["studies"]] == [eye["id"]] and following["next"] is None


@pytest.mark.parametrize(
    "query",
    [
        "status=done", "outcome=good", "since=yesterday", "cursor=xyz", "limit=0", "limit=201", "patient=1",
        "q=" + "a" * 257, "q=a+b+c+d+e+f+g+h+i",
    ],
)  # fmt: skip
def test_wrong_parameters_are_named(client: FlaskClient, query: str) -> None:
    response = client.get(f"{LIST}?{query}")
    assert response.status_code == 422 and query.split("=")[0] in response.get_json()["detail"]


def test_nothing_new_is_304_until_something_happens(client: FlaskClient, nodule: dict[str, Any], crop: bytes) -> None:
    known = client.get(LIST)
    etag = {"If-None-Match": known.headers["ETag"]}
    unchanged = client.get(LIST, headers=etag)
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    assert unchanged.headers["ETag"] == known.headers["ETag"] and "private" in known.headers["Cache-Control"]
    body = {"finding": nodule["findings"][0]["id"], "verdict": "rejected"}
    client.post(f"/api/v1/analyses/{nodule['id']}/assessment", json=body)
    assert client.get(LIST, headers=etag).status_code == 200


def test_the_stage_of_what_runs_is_told(app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = app.extensions["pellucid"].pipeline
    seen, go, run = threading.Event(), threading.Event(), pipeline.run

    def held(work: Any, report: Any) -> Any:
        report("model")
        seen.set()
        go.wait(60)
        return run(work, report)

    monkeypatch.setattr(pipeline, "run", held)
    body, kind = multipart([("x.png", png(np.full((100, 100), 77, np.uint8)))], {"model": "sisc_lung"})
    sent = client.post("/api/v1/analyses", data=body, content_type=kind, headers={"Prefer": "respond-async"})
    identity = sent.get_json()["id"]
    try:
        assert seen.wait(60)
        running = client.get(f"{LIST}?status=running")
        (one,) = running.get_json()["studies"][0]["analyses"]
        assert (one["id"], one["status"], one["stage"], one["top"]) == (identity, "running", "model", None)
        assert running.get_json()["counts"]["running"] == 1
    finally:
        go.set()
    app.extensions["pellucid"].queue.wait(identity, 60)
    assert rows(client, f"q={identity}")[0]["analyses"][0]["status"] == "completed"
    assert rows(client, "status=running") == []
    assert client.get(f"{LIST}?status=running", headers={"If-None-Match": running.headers["ETag"]}).status_code == 200
    client.delete(f"/api/v1/analyses/{identity}")


def test_a_failure_says_why_and_done_again_it_is_one_row(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(work: Any, report: Any) -> Any:
        raise OutOfContract("on purpose")

    monkeypatch.setattr(app.extensions["pellucid"].pipeline, "run", fails)
    body, kind = multipart([("x.png", png(np.full((100, 100), 78, np.uint8)))], {"model": "sisc_lung"})
    failed = client.post("/api/v1/analyses", data=body, content_type=kind)
    monkeypatch.undo()
    (row,) = rows(client, "status=failed")
    assert row["analyses"][0]["error"] == {"title": OutOfContract.title, "detail": "on purpose", "status": 422}
    assert failed.status_code == 422
    again = client.post("/api/v1/analyses", json={"analysis": row["analyses"][0]["id"]}).get_json()
    (same,) = rows(client, f"q={again['id']}")
    assert same["key"] == row["key"] and [one["id"] for one in same["analyses"]] == [again["id"]]
    assert same["analyses"][0]["supersedes"] == row["analyses"][0]["id"] and rows(client, "status=failed") == []
    for identity in (again["id"], row["analyses"][0]["id"]):
        client.delete(f"/api/v1/analyses/{identity}")


def test_what_arrives_says_what_it_waits_for(app: Flask, client: FlaskClient) -> None:
    store = app.extensions["pellucid"].store
    assert rows(client, "status=arriving") == []
    with store._engine.begin() as connection:
        connection.execute(
            entries.entries.insert(),
            {"key": "9.9", "study": "9.9", "changed": "2026-01-15T10:00:00.000000Z", "words": "9.9"}
            | dict.fromkeys(entries.FIELDS, ""),
        )
    store.series.touch([("9.9.1", "9.9", "XX")])
    (one,) = rows(client, "status=arriving")
    assert one["arriving"] == [
        {"series": "9.9.1", "modality": "XX", "instances": 0, "waiting_for": "more of it may come"}
    ]
    store.series.settle(store.series.known("9.9.1"), "ignored", "a test")
    with store._engine.begin() as connection:
        entries.gone(connection, ["9.9"])


@pytest.mark.slow
def test_a_nodule_of_a_real_series_is_asked_about_without_sending_it_again(
    app: Flask, client: FlaskClient, data: Path
) -> None:
    file = data / "dicom" / "ct_lungfcp_0001.zip"
    body, kind = multipart([("ct.zip", file.read_bytes())])
    sent = client.post("/api/v1/analyses", data=body, content_type=kind)
    identity = (sent.get_json() if sent.status_code == 200 else {"id": sent.headers["Location"][-32:]})["id"]
    app.extensions["pellucid"].queue.wait(identity, 300)
    (row,) = rows(client, "modality=CT")
    (first,) = row["analyses"]
    assert (first["id"], row["modalities"], row["study"]) == (identity, ["CT"], sent.get_json()["input"]["study"])
    assert first["files"] == row["series"][0]["instances"] > 20 and row["patient"]["id"]
    assert rows(client, f"q={row['patient']['id'].lower()}+{row['study']}") == [row]
    images = client.get(f"/api/v1/analyses/{identity}").get_json()["input"]["instances"]
    place = {"sop_instance_uid": images[len(images) // 2], "center_px": [150, 250]}
    begin = time.monotonic()
    click = client.post("/api/v1/analyses", json={"analysis": identity, "request": {"regions": [place]}})
    assert click.status_code == 200, click.text
    assert time.monotonic() - begin < 60
    (finding,) = click.get_json()["findings"]
    assert finding["location"]["sop_instance_uid"] == place["sop_instance_uid"]
    (row,) = rows(client, "modality=CT")
    assert [one["id"] for one in row["analyses"]] == [click.get_json()["id"], identity]
