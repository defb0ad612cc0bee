"""The analyses interface through a test client: contract, idempotency, maps, verdicts, deletion."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

Post = Callable[..., TestResponse]
REQUEST = {"model": "sisc_lung", "pixel_spacing_mm": 0.6}
KEYS = {"id", "status", "outcome", "created", "timing_ms", "model", "input", "quality", "findings", "warnings"} | {
    "objects",
    "delivery",
    "disclaimer",
}


def problem(response: TestResponse, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    body = dict(response.get_json())
    assert {"type", "title", "status", "detail", "instance"} <= set(body)
    assert body["status"] == status
    return body


def test_the_body_has_the_contracts_keys(done: dict[str, Any]) -> None:
    assert set(done) >= KEYS
    assert done["status"] == "completed" and done["outcome"] in ("positive", "negative")
    assert set(done["model"]) == {"name", "version", "sha256", "device_uid", "card"}
    finding = done["findings"][0]
    assert abs(sum(finding["probabilities"].values()) - 1) < 1e-6
    assert [set(s["probabilities"]) for s in finding["slices"]] == [{"benign", "malignant"}] * 2
    assert finding["tracking_uid"].startswith("2.25.")
    assert set(finding["evidence"]["maps"]) == {"clear", "two-sided", "class-benign", "class-malignant"}
    assert (done["objects"], done["delivery"]) == ([], [])
    assert set(done["timing_ms"]) == {"queue", "decode", "quality", "model", "maps", "objects", "total"}


def test_it_can_be_fetched_again_and_is_in_the_list(client: FlaskClient, done: dict[str, Any]) -> None:
    assert client.get(f"/api/v1/analyses/{done['id']}").get_json() == {
        **done,
        "assessments": client.get(f"/api/v1/analyses/{done['id']}").get_json()["assessments"],
    }
    rows = client.get("/api/v1/analyses?model=sisc_lung&status=completed&limit=500").get_json()
    assert done["id"] in [row["id"] for row in rows["analyses"]]
    assert client.get("/api/v1/analyses?study=9.9").get_json() == {"analyses": [], "next": None}
    assert client.get("/api/v1/analyses?since=2999-01-01T00:00:00Z").get_json()["analyses"] == []
    assert client.get("/api/v1/analyses?since=2000-01-01T00:00:00%2B02:00&limit=1").get_json()["analyses"]


@pytest.mark.parametrize("query", ["status=done", "since=yesterday", "cursor=xyz", "limit=0", "limit=x", "patiant=1"])
def test_wrong_list_parameters_are_named(client: FlaskClient, query: str) -> None:
    body = problem(client.get(f"/api/v1/analyses?{query}"), 422)
    assert query.split("=")[0] in body["detail"]


def test_pages_join_up(client: FlaskClient, post: Post, crop: bytes) -> None:
    for n in range(3):
        assert post([("x.png", crop)], {**REQUEST, "pixel_spacing_mm": 0.5 + n / 10}).status_code == 200
    whole = [row["id"] for row in client.get("/api/v1/analyses?limit=500").get_json()["analyses"]]
    pages: list[str] = []
    cursor = ""
    while cursor is not None:
        page = client.get(
            f"/api/v1/analyses?limit=2&cursor={cursor}" if cursor else "/api/v1/analyses?limit=2"
        ).get_json()
        pages += [row["id"] for row in page["analyses"]]
        cursor = page["next"]
    assert pages == whole and len(whole) >= 3


def test_every_byte_of_a_part_arrives(
    app: Flask, client: FlaskClient, post: Post, crop: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsers that strip line ends damage images whose last bytes are CR LF, or hold what looks like a boundary."""
    service = app.extensions["pellucid"]
    arrived: list[bytes] = []
    prepare = service.pipeline.prepare

    def watched(files: Any, request: Any) -> Any:
        arrived.extend(file.read_bytes() for file in files)
        return prepare(files, request)

    monkeypatch.setattr(service.pipeline, "prepare", watched)
    payloads = [
        crop + tail
        for tail in (
            b"\r\n",
            b"\r\n\r\n",
            b"\n",
            b"\r",
            b"--B",
            b"\r\n--B",
            b"\r\n--B0x",
            b"",
            b"\0" * 70_000 + b"\r\n",
        )
    ]
    post([(f"{n}.png", data) for n, data in enumerate(payloads)], REQUEST)
    assert arrived == payloads


def test_the_request_may_be_a_field_or_a_file_part(client: FlaskClient, crop: bytes) -> None:
    for part in (json.dumps(REQUEST), (io.BytesIO(json.dumps(REQUEST).encode()), "request.json", "application/json")):
        response = client.post("/api/v1/analyses", data={"files": (io.BytesIO(crop), "a.png"), "request": part})
        assert response.status_code == 200, response.text
        assert response.get_json()["model"]["name"] == "sisc_lung"


@pytest.mark.parametrize(
    ("request_part", "status", "word"),
    [
        ("{", 400, "JSON"),
        ('{"pixel_spacing_mm": NaN}', 400, "JSON"),
        ("[" * 100_000, 400, "JSON"),
        ("[]", 422, "object"),
        ({"modle": "x"}, 422, "modle"),
        ({"model": 3}, 422, "model"),
        ({"model": "nothing"}, 404, "clear_dr, sisc_lung"),
        ({"model": "sisc_lung", "operating_point": "x"}, 422, "balanced, sensitivity_90"),
    ],
)
def test_a_wrong_request_part_is_explained(post: Post, crop: bytes, request_part: Any, status: int, word: str) -> None:
    assert word in problem(post([("a.png", crop)], request_part), status)["detail"]


def test_wrong_parts_are_named(client: FlaskClient, post: Post, crop: bytes) -> None:
    assert "file" in problem(client.post("/api/v1/analyses", data={"file": (io.BytesIO(crop), "a.png")}), 422)["detail"]
    assert (
        "filename"
        in problem(client.post("/api/v1/analyses", data={"files": "text"}, content_type="multipart/form-data"), 422)[
            "detail"
        ]
    )
    assert (
        "no file"
        in problem(client.post("/api/v1/analyses", data=b"", content_type="multipart/form-data; boundary=x"), 422)[
            "detail"
        ]
    )
    assert "multipart" in problem(client.post("/api/v1/analyses", data="{}", content_type="text/plain"), 415)["detail"]
    twice = '--B0\r\nContent-Disposition: form-data; name="request"\r\n\r\n{}\r\n'
    assert "more than once" in problem(post([("a.png", crop)], REQUEST, extra=twice), 422)["detail"]


def test_nothing_is_left_in_the_spool(app: Flask, post: Post, crop: bytes) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("a.png", crop)
        z.writestr("readme.txt", "hello")
    response = post([("a.zip", archive.getvalue())], REQUEST)
    assert response.status_code == 200
    assert "1 of 2 files are not images" in " ".join(response.get_json()["warnings"])
    problem(post([("a.zip", archive.getvalue())], {"model": "clear_dr"}), 422)
    problem(post([("t.txt", b"hello")]), 415)
    assert list(app.extensions["pellucid"].spool.iterdir()) == []


def test_too_large_and_too_many(client: FlaskClient, post: Post, crop: bytes) -> None:
    problem(post([("a.png", b"\0" * (5 << 20))]), 413)
    problem(post([(f"{n}.png", crop) for n in range(60)], REQUEST), 413)
    problem(post([("a.png", crop)], '{"model": "' + "x" * (2 << 20) + '"}'), 413)


def test_an_idempotency_key_gives_the_same_analysis(post: Post, crop: bytes, other_crop: bytes) -> None:
    key = {"Idempotency-Key": "abc-1"}
    first = post([("a.png", crop), ("b.png", other_crop)], REQUEST, key)
    again = post([("renamed.png", crop), ("b.png", other_crop)], dict(reversed(REQUEST.items())), key)
    assert first.status_code == again.status_code == 200
    assert first.get_json()["id"] == again.get_json()["id"]
    assert "other content" in problem(post([("a.png", crop)], REQUEST, key), 409)["detail"]
    problem(post([("a.png", crop), ("b.png", other_crop)], {**REQUEST, "pixel_spacing_mm": 0.7}, key), 409)
    assert post([("a.png", crop)], REQUEST).get_json()["id"] != first.get_json()["id"]
    problem(post([("a.png", crop)], REQUEST, {"Idempotency-Key": "a b"}), 422)


def test_a_key_of_a_refused_request_may_be_used_again(post: Post, crop: bytes) -> None:
    key = {"Idempotency-Key": "abc-2"}
    problem(post([("t.txt", b"hello")], None, key), 415)
    assert post([("a.png", crop)], REQUEST, key).status_code == 200


def test_respond_async_gives_a_place_to_look(client: FlaskClient, post: Post, crop: bytes) -> None:
    response = post([("a.png", crop)], REQUEST, {"Prefer": "respond-async"})
    assert response.status_code in (200, 202)
    body = response.get_json()
    assert set(body) >= KEYS
    assert response.headers["Preference-Applied"] == "respond-async"
    if response.status_code == 202:
        assert response.headers["Location"] == f"/api/v1/analyses/{body['id']}"
    events = client.get(f"/api/v1/analyses/{body['id']}/events")
    assert events.content_type == "text/event-stream"
    states = [json.loads(line.removeprefix("data: ")) for line in events.text.splitlines() if line.startswith("data: ")]
    assert states[-1]["status"] == "completed"
    assert all(state["id"] == body["id"] for state in states)


def damaged_png() -> bytes:
    """A grey PNG of 100 x 100 px whose chunks are whole and whose compressed pixels are nonsense."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 100, 100, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", b"nonsense" * 50)
        + chunk(b"IEND", b"")
    )


def test_an_input_error_in_the_run_is_the_answer_and_is_kept(client: FlaskClient, post: Post) -> None:
    response = post([("a.png", damaged_png())], REQUEST)
    body = problem(response, 400)
    stored = client.get(response.headers["Location"]).get_json()
    assert stored["status"] == "failed"
    assert stored["error"]["detail"] == body["detail"]
    assert set(stored) >= KEYS


def test_unknown_analyses_are_404(client: FlaskClient) -> None:
    for path in ("nothing", "0" * 32, "nothing/events", "nothing/maps/n/clear.png", "nothing/objects/SR"):
        problem(client.get(f"/api/v1/analyses/{path}"), 404)
    problem(client.delete("/api/v1/analyses/nothing"), 404)
    problem(client.post("/api/v1/analyses/nothing/assessment", json={"finding": "a", "verdict": "accepted"}), 404)


def test_maps_are_pictures_of_the_asked_size(client: FlaskClient, done: dict[str, Any]) -> None:
    for href in done["findings"][0]["evidence"]["maps"].values():
        response = client.get(f"{href}?overlay=0.5&size=128&slice=1&scale=per_model")
        assert response.content_type == "image/png"
        assert Image.open(io.BytesIO(response.data)).size == (128, 128)
        assert Image.open(io.BytesIO(client.get(f"{href}?legend=1&size=128").data)).height > 128


def test_map_arrays_hold_the_networks_response(client: FlaskClient, done: dict[str, Any]) -> None:
    """The tiny network's malignant response is 4 x - 2 of the min-max scaled window: -2 at its darkest, 2 at its brightest."""
    href = done["findings"][0]["evidence"]["maps"]["class-malignant"].replace(".png", ".npz")
    response = client.get(href)
    with np.load(io.BytesIO(response.data), allow_pickle=False) as found:
        values = found["response"]
        assert values.shape == (2, 96, 96)
        assert np.allclose([values.min(), values.max()], [-2, 2], atol=1e-5)
        assert list(found["source_uids"]) == done["input"]["instances"]


@pytest.mark.parametrize(
    "query",
    [
        "overlay=2",
        "overlay=nan",
        "overlay=x",
        "scale=mine",
        "legend=yes",
        "slice=2",
        "slice=-1",
        "slice=x",
        "size=1",
        "size=99999",
        "colour=red",
    ],
)
def test_wrong_map_parameters_are_named(client: FlaskClient, done: dict[str, Any], query: str) -> None:
    href = done["findings"][0]["evidence"]["maps"]["clear"]
    assert query.split("=")[0] in problem(client.get(f"{href}?{query}"), 422)["detail"]


def test_unknown_maps_and_findings_are_404(client: FlaskClient, done: dict[str, Any]) -> None:
    root = f"/api/v1/analyses/{done['id']}/maps"
    assert "nodule" in problem(client.get(f"{root}/other/clear.png"), 404)["detail"]
    assert "class-benign" in problem(client.get(f"{root}/nodule/class-x.npz"), 404)["detail"]
    problem(client.get(f"{root}/..%2f..%2fpellucid/clear.png"), 404)


def test_only_the_maps_asked_for_are_there(client: FlaskClient, post: Post, crop: bytes) -> None:
    body = post([("a.png", crop)], {**REQUEST, "maps": ["two_sided"]}).get_json()
    assert list(body["findings"][0]["evidence"]["maps"]) == ["two-sided"]
    problem(client.get(f"/api/v1/analyses/{body['id']}/maps/nodule/clear.png"), 404)
    bare = post([("a.png", crop)], {**REQUEST, "maps": []}).get_json()
    assert bare["findings"][0]["evidence"]["maps"] == {}
    problem(client.get(f"/api/v1/analyses/{bare['id']}/maps/nodule/clear.png"), 404)


def test_a_crop_without_a_patient_has_no_objects(client: FlaskClient, post: Post, crop: bytes) -> None:
    body = post([("a.png", crop)], {**REQUEST, "objects": ["SR"]}).get_json()
    assert body["objects"] == [] and any("no DICOM objects were made" in text for text in body["warnings"])
    assert "it has none" in problem(client.get(f"/api/v1/analyses/{body['id']}/objects/SR"), 404)["detail"]
    problem(client.get(f"/api/v1/analyses/{body['id']}/objects/PDF"), 404)


def test_deletion_takes_everything(app: Flask, client: FlaskClient, post: Post, crop: bytes) -> None:
    unique = crop + b"unique"
    body = post([("a.png", unique)], REQUEST).get_json()
    href = body["findings"][0]["evidence"]["maps"]["clear"]
    root: Path = app.extensions["pellucid"].store.folder
    assert (root / "results" / body["id"]).is_dir()
    before = {path for path in (root / "blobs").rglob("*") if path.is_file()}
    assert client.delete(f"/api/v1/analyses/{body['id']}").status_code == 204
    gone = before - {path for path in (root / "blobs").rglob("*") if path.is_file()}
    assert len(gone) == 1
    assert not (root / "results" / body["id"]).exists()
    problem(client.get(href), 404)
    problem(client.get(f"/api/v1/analyses/{body['id']}"), 404)


def test_when_too_many_wait_the_answer_comes_at_once(app: Flask, client: FlaskClient, post: Post, crop: bytes) -> None:
    """Half of the threads may wait; then a POST answers 202 and an event stream is refused, so that health still answers."""
    places = app.extensions["pellucid-waiting"]
    taken = 0
    while places.acquire(blocking=False):
        taken += 1
    try:
        assert taken == 8
        response = post([("a.png", crop)], REQUEST)
        assert response.status_code in (200, 202)
        place = f"/api/v1/analyses/{response.get_json()['id']}"
        assert problem(client.get(f"{place}/events"), 503) and client.get("/v2/health/ready").status_code == 200
    finally:
        for _ in range(taken):
            places.release()
    assert client.get(f"{place}/events").status_code == 200
    assert places.acquire(blocking=False)  # the stream gave its place back
    places.release()
