"""The shipped models' known cases, in the service: a case that is sent finds itself, with the features of training."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from PIL import Image

from models import bundle as bundles
from service.config import Settings
from service.http import create_app
from training import cases as training_cases
from training.lung.data import read_stack
from training.retina.data import Photograph, read


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    made = create_app(Settings(data_dir=tmp_path_factory.mktemp("data"), threads=1, free_bytes=0, dicom_processes=0))
    yield made
    made.extensions["pellucid"].close()


def similar(app: Flask, analysis: str, finding: str) -> dict[str, Any]:
    response = app.test_client().get(f"/api/v1/analyses/{analysis}/findings/{finding}/similar")
    assert response.status_code == 200, response.text
    return dict(response.get_json())


def sent(app: Flask, files: list[bytes], names: str, request: dict[str, Any]) -> str:
    """Id of a completed analysis of these files."""
    response = app.test_client().post(
        "/api/v1/analyses",
        data={
            "files": [(io.BytesIO(one), names.format(k)) for k, one in enumerate(files)],
            "request": (io.BytesIO(json.dumps(request).encode()), "", "application/json"),
        },
        content_type="multipart/form-data",
    )
    assert response.status_code == 200, response.text
    return str(response.get_json()["id"])


def test_a_known_nodule_finds_itself_with_the_features_of_training(shipped: Flask, data: Path) -> None:
    rows = training_cases._rows(data / "lidc_nodules/nodules.csv")
    row = next(r for r in rows if r["n_annotations"] == "4" and int(r["n_slices"]) >= 5 and r["match"] == "exact")
    with zipfile.ZipFile(data / "lidc_nodules/slices.zip") as archive:
        stack = read_stack(archive, row["file"], int(row["n_slices"]))
        windows = training_cases.nodule_images(archive, row)
    reach, middle = len(windows) // 2, (len(stack) - 1) // 2
    files = []
    for image in stack[middle - reach : middle + reach + 1]:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        files.append(stream.getvalue())
    asked = {"model": "sisc_lung", "pixel_spacing_mm": float(row["pixel_spacing_mm"]), "maps": []}
    identity = sent(shipped, files, "{}.png", asked)
    kept = np.load(shipped.extensions["pellucid"].store.maps_path(identity, "nodule").with_suffix(".npy"))
    vector, _ = training_cases.features(training_cases.Model(bundles.ROOT / "sisc_lung/model.onnx"), windows)
    np.testing.assert_allclose(kept, vector, rtol=1e-4, atol=1e-5)
    body = similar(shipped, identity, "nodule")
    first, *rest = body["cases"]
    assert first["id"] == f"{row['patient_id']} {row['nodule']}"
    assert first["same_image"]
    assert first["truth"]["readers"] == 4
    assert len(rest) == 5
    assert not any(case["same_image"] or case["id"].startswith(row["patient_id"]) for case in rest)
    assert [case["distance"] for case in rest] == sorted(case["distance"] for case in rest)
    labels = [case["label"] for case in rest]
    assert body["share"] == pytest.approx({label: labels.count(label) / 5 for label in body["share"]})


def test_a_known_photograph_finds_itself_with_the_features_of_training(shipped: Flask, data: Path) -> None:
    member = "test/IDRiD_003.jpg"
    with zipfile.ZipFile(data / "idrid/grading.zip") as archive:
        file = archive.read(member)
    identity = sent(shipped, [file], "{}.jpg", {"maps": []})
    kept = np.load(shipped.extensions["pellucid"].store.maps_path(identity, "eye").with_suffix(".npy"))
    pixels = read(data, Photograph("idrid/grading.zip", member, "idrid", "", 0, "test"))
    vector, _ = training_cases.features(
        training_cases.Model(bundles.ROOT / "clear_dr/model.onnx"), training_cases.photograph_images(pixels)
    )
    np.testing.assert_allclose(kept, vector, rtol=1e-4, atol=1e-5)
    first = similar(shipped, identity, "eye")["cases"][0]
    assert (first["id"], first["same_image"], first["split"]) == ("IDRiD_003 (testing set)", True, "test")
