"""Analysing what is here: the same again, another place in the same images, a series of the archive."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pydicom
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service.errors import OutOfContract
from service.pipeline import again
from tests.unit.pipeline.conftest import COLUMNS, ROWS, write_slice

Post = Callable[..., TestResponse]
PLACE, OTHER = [2.5, 5.0, 104.0], [12.0, 20.0, 103.0]
"""Patient coordinates of the bright disk (column 70, row 60) and of a place in the air beside it."""


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[tuple[str, bytes]]]:
    """A CT series of 6 slices as files to send; another series another series UID."""

    def make(uid: str) -> list[tuple[str, bytes]]:
        folder = tmp_path_factory.mktemp("ct")
        row, column = np.mgrid[:ROWS, :COLUMNS]
        disk = np.hypot(row - 60, column - 70) <= 8
        paths = [
            write_slice(
                folder / f"{n}.dcm", n + 1, series=uid, z=101.0 + n * 1.25, thickness=1.25, spacing=0.75,
                pixels=np.where(disk, 40, -850),
            )
            for n in range(6)
        ]  # fmt: skip
        return [(path.name, path.read_bytes()) for path in paths]

    return make


@pytest.fixture
def ask(client: FlaskClient) -> Callable[..., TestResponse]:
    def send(body: Any, **headers: str) -> TestResponse:
        return client.post("/api/v1/analyses", json=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return send


@pytest.fixture
def first(post: Post, series: Any, request: pytest.FixtureRequest) -> dict[str, Any]:
    """An answered series of its own."""
    uid = f"1.2.{abs(hash(request.node.name)) % 10**9}"
    response = post(series(uid), {"regions": [{"id": "n1", "center_mm": PLACE}]})
    assert response.status_code == 200, response.text
    return dict(response.get_json())


def answered(response: TestResponse) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return dict(response.get_json())


def refused(response: TestResponse, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    return str(response.get_json()["detail"])


def made(analysis: dict[str, Any]) -> dict[str, str]:
    """SOP Instance UID of each kind of object."""
    return {one["kind"]: one["sop_instance_uid"] for one in analysis["objects"]}


def predecessors(client: FlaskClient, analysis: dict[str, Any]) -> list[str]:
    data = client.get(f"/api/v1/analyses/{analysis['id']}/objects/SR").data
    found = pydicom.dcmread(io.BytesIO(data)).get("PredecessorDocumentsSequence", [])
    return [sop.ReferencedSOPInstanceUID for one in found for part in one.ReferencedSeriesSequence
            for sop in part.ReferencedSOPSequence]  # fmt: skip


# -- the same again ---------------------------------------------------------------------------------------------------------


def test_done_again_it_replaces_the_first_with_the_very_same_objects(
    client: FlaskClient, ask: Any, first: dict[str, Any]
) -> None:
    second = answered(ask({"analysis": first["id"]}))
    third = answered(ask({"analysis": second["id"]}))
    assert len({first["id"], second["id"], third["id"]}) == 3
    assert [one["supersedes"] for one in (second, third)] == [first["id"], second["id"]]
    shown = [client.get(f"/api/v1/analyses/{one['id']}").get_json() for one in (first, second, third)]
    assert [one["superseded_by"] for one in shown] == [second["id"], third["id"], None]
    assert set(made(first)) >= {"SR", "SEG"} and made(first) == made(second) == made(third)
    assert predecessors(client, third) == []
    assert second["findings"][0]["probabilities"] == first["findings"][0]["probabilities"]
    assert second["findings"][0]["tracking_uid"] == first["findings"][0]["tracking_uid"]
    for one in (first, second):
        client.delete(f"/api/v1/analyses/{one['id']}")
    assert client.get(f"/api/v1/analyses/{third['id']}").get_json()["supersedes"] is None
    assert client.get(f"/api/v1/analyses/{third['id']}/objects/SR").status_code == 200


def test_with_other_settings_the_report_names_the_one_it_replaces(
    app: Flask, client: FlaskClient, ask: Any, first: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.extensions["pellucid"].queue._objects, "_region_share", 0.4)
    second = answered(ask({"analysis": first["id"]}))
    assert not set(made(first).values()) & set(made(second).values())
    assert predecessors(client, second) == [made(first)["SR"]]
    third = answered(ask({"analysis": second["id"]}))
    assert made(third) == made(second), "a repetition names what its like named, never itself"
    monkeypatch.undo()
    fourth = answered(ask({"analysis": third["id"]}))
    assert predecessors(client, fourth) == [made(third)["SR"]]


def test_a_failed_one_is_done_again_from_the_images_that_are_kept(
    app: Flask, client: FlaskClient, post: Post, ask: Any, series: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = app.extensions["pellucid"].pipeline

    def fails(work: Any, report: Any) -> Any:
        raise OutOfContract("on purpose")

    monkeypatch.setattr(pipeline, "run", fails)
    response = post(series("1.2.77"), {"regions": [{"id": "n1", "center_mm": PLACE}]})
    assert refused(response, 422) == "on purpose"
    failed = response.headers["Location"].rsplit("/", 1)[1]
    monkeypatch.undo()
    second = answered(ask({"analysis": failed}))
    assert (second["status"], second["supersedes"], len(second["findings"])) == ("completed", failed, 1)
    assert predecessors(client, second) == []


def test_a_failure_in_between_does_not_change_the_objects(
    app: Flask, client: FlaskClient, ask: Any, first: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(work: Any, report: Any) -> Any:
        raise OutOfContract("on purpose")

    monkeypatch.setattr(app.extensions["pellucid"].pipeline, "run", fails)
    failed = ask({"analysis": first["id"]}).headers["Location"].rsplit("/", 1)[1]
    monkeypatch.undo()
    assert made(answered(ask({"analysis": failed}))) == made(first)


def test_crops_without_a_header_are_done_again(client: FlaskClient, ask: Any, done: dict[str, Any]) -> None:
    second = answered(ask({"analysis": done["id"]}))
    assert (second["supersedes"], second["findings"][0]["probabilities"]) == (
        done["id"],
        done["findings"][0]["probabilities"],
    )
    assert second["warnings"] == done["warnings"]


def test_what_was_replaced_or_has_not_ended_is_not_done_again(
    app: Flask, client: FlaskClient, ask: Any, first: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    second = answered(ask({"analysis": first["id"]}))
    assert second["id"] in refused(ask({"analysis": first["id"]}), 409)
    store = app.extensions["pellucid"].store
    monkeypatch.setattr(app.extensions["pellucid"].queue, "_hand_over", lambda: None)
    waiting = ask({"analysis": second["id"]}, Prefer="respond-async")
    assert (waiting.status_code, waiting.headers["Preference-Applied"]) == (202, "respond-async")
    identity = waiting.get_json()["id"]
    assert waiting.headers["Location"].endswith(identity)
    assert "has not ended" in refused(ask({"analysis": identity}), 409)
    store.delete(identity)
    assert client.get(f"/api/v1/analyses/{second['id']}").get_json()["superseded_by"] is None


# -- another place ----------------------------------------------------------------------------------------------------------


def test_another_place_in_the_same_images_replaces_nothing(
    client: FlaskClient, ask: Any, first: dict[str, Any]
) -> None:
    second = answered(ask({"analysis": first["id"], "request": {"regions": [{"id": "click", "center_mm": OTHER}]}}))
    assert [one["id"] for one in second["findings"]] == ["click"]
    assert second["supersedes"] is None and second["input"]["instances"] == first["input"]["instances"]
    assert client.get(f"/api/v1/analyses/{first['id']}").get_json()["superseded_by"] is None
    assert predecessors(client, second) == []
    pixel = {"sop_instance_uid": first["input"]["instances"][2], "center_px": [70, 60]}
    third = answered(ask({"analysis": first["id"], "request": {"regions": [pixel]}}))
    assert third["findings"][0]["location"]["center_mm"] == pytest.approx([2.5, 5.0, 103.5])


def test_a_request_is_checked_as_that_of_a_form(ask: Any, first: dict[str, Any]) -> None:
    for request, word in (
        ({"regions": [{"center_mm": [0, 0, 999]}]}, "region-1"),
        ({"regins": []}, "regins"),
        ({"model": "clear_dr"}, "clear_dr"),
        ({"operating_point": "x"}, "balanced"),
        ([], "object"),
    ):
        assert word in refused(ask({"analysis": first["id"], "request": request}), 422)


# -- a series of the archive ------------------------------------------------------------------------------------------------


def test_a_series_that_is_here(client: FlaskClient, ask: Any, first: dict[str, Any]) -> None:
    place = {"study": first["input"]["study"], "series": first["input"]["series"]}
    regions = {"regions": [{"id": "n1", "center_mm": PLACE}]}
    second = answered(ask({**place, "request": regions}))
    assert second["supersedes"] is None and made(second) == made(first)
    some = first["input"]["instances"][1:5]
    third = answered(ask({**place, "instances": some, "request": regions}))
    assert sorted(third["input"]["instances"]) == sorted(some)
    assert answered(ask(place))["outcome"] in ("no_region", "positive", "negative")
    assert "1.2.3.4.5" in refused(ask({**place, "instances": [some[0], "1.2.3.4.5"]}), 404)
    refused(ask({**place, "series": "1.2.3.4.5"}), 404)
    refused(ask({**place, "study": "1.2.3.4.5"}), 404)


def test_images_that_are_gone(app: Flask, ask: Any, first: dict[str, Any]) -> None:
    refused(ask({"analysis": "0" * 32}), 404)
    store = app.extensions["pellucid"].store
    instance = store.instances(first["id"])[0]
    moved = instance.path.rename(instance.path.with_suffix(".moved"))
    place = {"study": first["input"]["study"], "series": first["input"]["series"]}
    for body in ({"analysis": first["id"]}, place):
        assert "send them again" in refused(ask(body), 404)
    moved.rename(instance.path)


def test_results_of_ours_are_no_input(ask: Any, first: dict[str, Any]) -> None:
    report = next(one for one in first["objects"] if one["kind"] == "SR")
    body = {"study": first["input"]["study"], "series": report["series_uid"]}
    assert "results of this software" in refused(ask(body), 422)


def test_what_came_through_a_dicom_door_is_delivered_and_does_not_wait_behind_the_others(
    app: Flask, ask: Any, first: dict[str, Any], series: Any
) -> None:
    """Its PACS waits for the objects, so making them must not fail in silence; and a person waits for the answer."""
    parts = app.extensions["pellucid"]
    study, uid = first["input"]["study"], first["input"]["series"]

    def door(body: Any) -> str:
        return again.prepare(parts.store, parts.pipeline, again.read(body)).door

    assert door({"analysis": first["id"]}) == door({"study": study, "series": uid}) == "http"
    parts.store.series.touch([(uid, study, "CT")])
    found = parts.store.series.known(uid)
    parts.store.series.settle(found, "answered", "a test")
    assert door({"study": study, "series": uid}) == "again"
    work = again.prepare(parts.store, parts.pipeline, again.read({"analysis": first["id"]})).work
    asked: list[tuple[str, bool]] = []
    enqueue = parts.queue._engine.enqueue_analysis
    parts.queue._engine.enqueue_analysis = lambda i, n, urgent: asked.append((i, urgent)) or enqueue(i, n, urgent)
    try:
        dicom = parts.queue.submit(work, door="dicom")
        parts.queue.wait(dicom, 60)
        click = answered(ask({"analysis": dicom, "request": {"regions": [{"id": "c", "center_mm": OTHER}]}}))
    finally:
        del parts.queue._engine.enqueue_analysis
    assert parts.store.get(click["id"]).door == "again"
    assert (dicom, False) in asked and (click["id"], True) in asked and (click["id"], False) not in asked
    assert door({"analysis": click["id"]}) == "again"


# -- the body ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ([], "object"),
        ({}, "analysis"),
        ({"study": "1.2"}, "series"),
        ({"series": "1.2"}, "study"),
        ({"analysis": "x"}, "analysis"),
        ({"analysis": 3}, "analysis"),
        ({"analysis": "0" * 32, "series": "1.2"}, "series"),
        ({"study": "1.2", "series": "../x"}, "series"),
        ({"study": ["1.2"], "series": "1.2"}, "study"),
        ({"study": "1.2", "series": "1.2", "instances": []}, "instances"),
        ({"study": "1.2", "series": "1.2", "instances": "1.2"}, "instances"),
        ({"study": "1.2", "series": "1.2", "instances": [7]}, "instances"),
        ({"analysis": "0" * 32, "requst": {}}, "requst"),
    ],
)
def test_a_wrong_body_is_explained(ask: Any, body: Any, word: str) -> None:
    assert word in refused(ask(body), 422)


def test_no_json_and_too_much_of_it(client: FlaskClient) -> None:
    for data, status in ((b"{", 400), (b'{"analysis": NaN}', 400), (b" " * (2 << 20), 413)):
        response = client.post("/api/v1/analyses", data=data, content_type="application/json")
        assert response.status_code == status, response.text


def test_an_idempotency_key_belongs_to_one_body(ask: Any, first: dict[str, Any], post: Post, crop: bytes) -> None:
    key = {"Idempotency_Key": f"again-{first['id']}"}
    second = answered(ask({"analysis": first["id"]}, **key))
    assert answered(ask({"analysis": first["id"], "request": None}, **key))["id"] == second["id"]
    assert "other content" in refused(ask({"analysis": second["id"]}, **key), 409)
    response = post([("a.png", crop)], {"model": "sisc_lung"}, {"Idempotency-Key": key["Idempotency_Key"]})
    assert "other content" in refused(response, 409)
    assert refused(ask({"analysis": first["id"]}, Idempotency_Key="a b"), 422)
