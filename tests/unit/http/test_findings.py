"""Pictures and numbers of a finding: the arrays byte by byte, outlines against the region and the segmentation, curves."""

from __future__ import annotations

import gzip
import io
import json
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jsonschema
import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from models.preprocessing import nodule_window
from service.http import findings, openapi
from service.maps import clear, region
from service.maps.region import CriticalRegion

Post = Callable[..., TestResponse]
CROP = {"model": "sisc_lung", "pixel_spacing_mm": 0.6}


def filled(polygons: list[Any], shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre lies inside by the even-odd rule."""
    inside = np.zeros(shape, bool)
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    for ring in polygons:
        for (x0, y0), (x1, y1) in pairwise(ring):
            if x0 == x1:
                inside ^= (x0 < x) & (min(y0, y1) < y) & (y < max(y0, y1))
    return inside


def fits(body: Any, schema: str) -> None:
    root = {"components": {"schemas": openapi.document()["components"]["schemas"]}}
    jsonschema.Draft202012Validator({**root, "$ref": f"#/components/schemas/{schema}"}).validate(body)


@pytest.fixture
def place(done: dict[str, Any]) -> str:
    return f"/api/v1/analyses/{done['id']}/findings/nodule"


@pytest.fixture
def fresh(post: Post, crop: bytes) -> str:
    """The finding of an analysis of its own."""
    return f"/api/v1/analyses/{post([('a.png', crop)], CROP).get_json()['id']}/findings/nodule"


# -- response.bin -----------------------------------------------------------------------------------------------------------


def test_the_response_is_the_maps_byte_by_byte(
    app: Flask, client: FlaskClient, done: dict[str, Any], place: str
) -> None:
    answer = client.get(f"{place}/response.bin")
    assert (answer.status_code, answer.content_type) == (200, "application/octet-stream")
    head = json.loads(answer.headers["X-Pellucid-Map"])
    fits(head, "ResponseMaps")
    values = np.frombuffer(answer.data, "<f4").reshape(head["shape"])
    with np.load(app.extensions["pellucid"].store.maps_path(done["id"], "nodule")) as stored:
        assert np.array_equal(values, stored["response"])
        assert np.allclose(head["box_px"], stored["box_px"], atol=1e-4)
    assert head["shape"] == [2, 2, 96, 96] and head["classes"] == ["benign", "malignant"]
    assert head["sources"] == done["input"]["instances"]
    evidence = done["findings"][0]["evidence"]
    assert head["peak_slice"] == evidence["peak_slice"]
    assert head["scale"] == {"per_image": clear.scale_per_image(values), "per_model": 1.5} == evidence["scale"]


def test_the_response_is_compressed_only_where_that_is_accepted(client: FlaskClient, place: str) -> None:
    plain = client.get(f"{place}/response.bin", headers={"Accept-Encoding": "br, gzip;q=0"})
    packed = client.get(f"{place}/response.bin", headers={"Accept-Encoding": "gzip, br"})
    assert "Content-Encoding" not in plain.headers and packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert plain.headers["ETag"] != packed.headers["ETag"]
    assert "Accept-Encoding" in packed.headers["Vary"]


@pytest.mark.parametrize("what", ["response.bin", "region.json", "window.png", "faithfulness"])
def test_what_does_not_change_is_kept_by_the_client_alone(client: FlaskClient, place: str, what: str) -> None:
    first = client.get(f"{place}/{what}")
    assert first.status_code == 200, first.text
    assert first.headers["Cache-Control"] == "private, max-age=3600"
    again = client.get(f"{place}/{what}", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert client.get(f"{place}/{what}", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("what", ["response.bin", "region.json", "window.png", "faithfulness"])
def test_what_there_is_not_is_404_and_misspelt_parameters_are_refused(
    client: FlaskClient, done: dict[str, Any], place: str, what: str
) -> None:
    assert client.get(f"/api/v1/analyses/{'0' * 32}/findings/nodule/{what}").status_code == 404
    other = client.get(f"/api/v1/analyses/{done['id']}/findings/liver/{what}")
    assert other.status_code == 404 and "it has nodule" in other.get_json()["detail"]
    assert client.get(f"{place}/{what}?sise=3").status_code == 422


def test_a_deleted_analysis_is_gone_although_a_client_kept_its_tag(client: FlaskClient, fresh: str) -> None:
    tag = client.get(f"{fresh}/response.bin").headers["ETag"]
    client.delete(fresh.removesuffix("/findings/nodule"))
    assert client.get(f"{fresh}/response.bin", headers={"If-None-Match": tag}).status_code == 404


def test_a_finding_without_maps_has_a_window_and_says_why_not_more(
    client: FlaskClient, post: Post, crop: bytes
) -> None:
    identity = post([("a.png", crop)], {**CROP, "maps": []}).get_json()["id"]
    root = f"/api/v1/analyses/{identity}/findings/nodule"
    assert client.get(f"{root}/window.png").status_code == 200
    for what in ("response.bin", "region.json", "faithfulness"):
        answer = client.get(f"{root}/{what}")
        assert answer.status_code == 404 and "no response maps" in answer.get_json()["detail"]


def test_other_weights_draw_no_conclusions_about_this_answer(
    app: Flask, client: FlaskClient, fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = app.extensions["pellucid"].pipeline.bundles["sisc_lung"]
    monkeypatch.setitem(bundle.description, "weights", {**bundle.description["weights"], "sha256": "0" * 64})
    for what in ("region.json", "window.png", "faithfulness"):
        answer = client.get(f"{fresh}/{what}")
        assert answer.status_code == 404 and "no longer installed" in answer.get_json()["detail"]
    assert client.get(f"{fresh}/response.bin").status_code == 200


# -- window.png -------------------------------------------------------------------------------------------------------------


def test_the_window_is_the_networks_input(client: FlaskClient, place: str, crop: bytes, other_crop: bytes) -> None:
    for at, data in enumerate((crop, other_crop)):
        answer = client.get(f"{place}/window.png?slice={at}")
        assert answer.content_type == "image/png"
        shown = np.asarray(Image.open(io.BytesIO(answer.data)))
        image = np.asarray(Image.open(io.BytesIO(data)))
        tensor = nodule_window(image, (49.5, 49.5), (0.6, 0.6), size_px=96, scale_mm=0.5)
        assert shown.shape == (96, 96) and np.abs(shown / 255 - tensor[0]).max() <= 0.5 / 255 + 1e-6
    large = np.asarray(Image.open(io.BytesIO(client.get(f"{place}/window.png?slice=0&size=192").data)))
    small = np.asarray(Image.open(io.BytesIO(client.get(f"{place}/window.png?slice=0").data)))
    assert np.array_equal(large, small.repeat(2, 0).repeat(2, 1))


def test_without_a_slice_the_window_is_that_of_the_peak(client: FlaskClient, done: dict[str, Any], place: str) -> None:
    peak = done["findings"][0]["evidence"]["peak_slice"]
    assert client.get(f"{place}/window.png").data == client.get(f"{place}/window.png?slice={peak}").data
    for wrong in ("slice=2", "slice=-1", "slice=x", "size=15", "size=2049"):
        assert client.get(f"{place}/window.png?{wrong}").status_code == 422


def test_three_channels_are_shown_with_their_zero_in_the_middle() -> None:
    tensor = np.zeros((3, 2, 2), np.float32)
    tensor[0, 0, 0], tensor[1, 0, 0], tensor[2, 0, 0] = -4, 4, 2
    shown = findings.shown(tensor)
    assert shown[0, 0].tolist() == [0, 255, 191] and shown[1, 1].tolist() == [128] * 3


# -- region.json ------------------------------------------------------------------------------------------------------------


def test_the_outline_encloses_the_critical_region(
    app: Flask, client: FlaskClient, done: dict[str, Any], place: str
) -> None:
    body = client.get(f"{place}/region.json").get_json()
    fits(body, "Outline")
    service = app.extensions["pellucid"]
    finding, bundle = done["findings"][0], service.pipeline.bundles["sisc_lung"]
    maps = findings.arrays.load(service.store.maps_path(done["id"], "nodule"))
    expected = region.of_finding(maps, finding, bundle, (100, 100), service.settings.region_share)
    assert isinstance(expected, CriticalRegion)
    assert (body["class"], body["share"], body["size_px"]) == (expected.class_name, expected.share, [100, 100])
    masks = {at: expected.to_image(at) for at in range(2) if expected.to_image(at).any()}
    assert [one["index"] for one in body["slices"]] == list(masks) and masks
    for one in body["slices"]:
        assert np.array_equal(filled(one["polygons"], (100, 100)), masks[one["index"]])
        assert one["sop_instance_uid"] == done["input"]["instances"][one["index"]]
        assert one["area_px"] == masks[one["index"]].sum()
        assert one["area_mm2"] == pytest.approx(one["area_px"] * 0.36, abs=0.01)


def test_a_flat_map_is_outlined_as_its_whole_window(client: FlaskClient, post: Post) -> None:
    stream = io.BytesIO()
    Image.new("L", (100, 100), 7).save(stream, "PNG")
    # A flat crop is 0 everywhere: p(malignant) = 1 / (1 + exp(4)) = 0.018, below 0.05, and benign responds with 2 everywhere.
    identity = post([("flat.png", stream.getvalue())], {**CROP, "operating_point": "sensitivity_90"}).get_json()["id"]
    root = f"/api/v1/analyses/{identity}/findings/nodule"
    (only,) = client.get(f"{root}/region.json").get_json()["slices"]
    # The window is 80 px wide and 10 px from every border.
    assert only["polygons"] == [[[10, 10], [90, 10], [90, 90], [10, 90], [10, 10]]]


# -- faithfulness -----------------------------------------------------------------------------------------------------------


def test_the_curves_of_a_network_of_one_pixel(client: FlaskClient, fresh: str, crop: bytes) -> None:
    """p(malignant) = 1 / (1 + exp(4 - 8 mean(x))), so every point of a curve follows from the mean that is left."""
    body = client.get(f"{fresh}/faithfulness").get_json()
    fits(body, "Faithfulness")
    assert body["steps"] == 16 and len(body["fraction"]) == 17 and body["slice"] == 0
    window = nodule_window(
        np.asarray(Image.open(io.BytesIO(crop))), (49.5, 49.5), (0.6, 0.6), size_px=96, scale_mm=0.5
    )[0]
    assert body["class"] == "benign" and "median" in body["filler"] and np.median(window) == 0

    def said(mean: float) -> float:
        return 1 - 1 / (1 + np.exp(4 - 8 * mean))

    assert body["deletion"]["curve"][0] == pytest.approx(said(window.mean()), abs=1e-4)
    assert body["deletion"]["curve"][-1] == pytest.approx(said(0), abs=1e-4)
    assert body["insertion"]["curve"][0] == body["deletion"]["curve"][-1]
    assert body["deletion"]["auc"] == pytest.approx(np.mean(body["deletion"]["curve"]), abs=1e-4)
    assert body["random"]["n"] >= 5
    # Only bright patches differ from the filler, and to remove any of them makes it more benign.
    assert np.all(np.diff(body["deletion"]["curve"]) >= -1e-6)
    assert body["patches"] == (window.reshape(12, 8, 12, 8).max(axis=(1, 3)) > 0).sum()


def test_the_curves_are_measured_once(
    app: Flask, client: FlaskClient, fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = client.get(f"{fresh}/faithfulness").get_json()
    monkeypatch.setattr(findings.faithfulness, "measure", lambda *a, **b: pytest.fail("measured again"))
    assert client.get(f"{fresh}/faithfulness").get_json() == first
    folder = app.extensions["pellucid"].store.maps_path(fresh.split("/")[4], "nodule").parent
    assert not list(folder.glob("*.part"))
    kept = folder / "nodule.faithfulness.json"
    assert json.loads(kept.read_text()) == first
    client.delete(fresh.removesuffix("/findings/nodule"))
    assert not folder.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"method": 0}'])
def test_what_an_older_method_or_a_crash_left_is_measured_anew(
    app: Flask, client: FlaskClient, fresh: str, content: str
) -> None:
    kept = app.extensions["pellucid"].store.maps_path(fresh.split("/")[4], "nodule")
    kept = kept.with_name("nodule.faithfulness.json")
    kept.write_text(content)
    assert client.get(f"{fresh}/faithfulness").get_json()["steps"] == 16
    assert json.loads(kept.read_text())["method"] == findings.faithfulness.METHOD


def test_one_is_measured_at_a_time(
    app: Flask, client: FlaskClient, fresh: str, done: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    measure = findings.faithfulness.measure

    def slow(*given: Any, **more: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return measure(*given, **more)

    monkeypatch.setattr(findings.faithfulness, "measure", slow)
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(app.test_client().get(f"{fresh}/faithfulness").status_code))
    thread.start()
    try:
        assert begun.wait(60)
        busy = client.get(f"{fresh}/faithfulness")
        assert (busy.status_code, busy.headers["Retry-After"]) == (503, "5")
    finally:
        go_on.set()
        thread.join()
    assert answers == [200]
    assert client.get(f"{fresh}/faithfulness").status_code == 200


def test_an_analysis_that_is_deleted_meanwhile_leaves_nothing(
    app: Flask, client: FlaskClient, fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = findings.faithfulness.measure

    def deleted(*given: Any, **more: Any) -> Any:
        app.test_client().delete(fresh.removesuffix("/findings/nodule"))
        return measure(*given, **more)

    monkeypatch.setattr(findings.faithfulness, "measure", deleted)
    assert client.get(f"{fresh}/faithfulness").status_code == 404
    assert not app.extensions["pellucid"].store.maps_path(fresh.split("/")[4], "nodule").parent.exists()
