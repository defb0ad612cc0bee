"""Similar known cases through a test client: order, truth, shares, who is left out, what is kept."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from werkzeug.test import TestResponse

from models import bundle as bundles
from models import cases as known
from service.phantoms import write_fundus

Post = Callable[..., TestResponse]
REQUEST = {"model": "sisc_lung", "pixel_spacing_mm": 0.6}
OPHTHALMIC = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
EVIDENCE = {
    "name": "AUC, 6 nearest",
    "value": 0.75,
    "interval": [0.5, 1.0],
    "n": 10,
    "data_set": "made up",
    "split": "test",
    "formula": "by hand",
    "date": "2026-01-01",
}


def add_cases(folder: Path, features: np.ndarray, labels: str, patients: str, probabilities: np.ndarray) -> None:
    """Give a tiny bundle known cases, and say so in its model.json."""
    description = json.loads((folder / "model.json").read_text())
    count = len(features)
    cases = known.KnownCases(
        weights_sha256=description["weights"]["sha256"],
        features=known.unit(features),
        probabilities=probabilities,
        ids=tuple(f"case {k}" for k in range(count)),
        patients=tuple(patients.split()),
        data_sets=("made up",) * count,
        splits=("train", "validation", "test", "test")[:count],
        labels=tuple(labels.split()),
        truths=tuple({"text": f"truth {k}", "votes": [k]} for k in range(count)),
    )
    known.write(cases, folder / "cases.npz")
    description["cases"] = {
        "file": "cases.npz",
        "sha256": bundles.digest(folder / "cases.npz"),
        "n": count,
        "data_set": "four made up",
        "date": "2026-01-01",
        "evidence": [EVIDENCE, {**EVIDENCE, "null": 0.5}],
    }
    (folder / "model.json").write_text(json.dumps(description))


@pytest.fixture(scope="module")
def tiny_models(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundles with known cases. Features are the logits: of the lung (a, -a), the direction (1, -1) of dark crops."""
    models = tmp_path_factory.mktemp("known") / "models"
    shutil.copytree(tiny_models, models)
    add_cases(
        models / "sisc_lung",
        np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, 1.0], [1.0, -0.5]]),
        "malignant benign malignant indeterminate",
        "a b c d",
        np.array([[0.75, 0.25], [0.25, 0.75], [0.0, 1.0], [0.5, 0.5]], np.float32),
    )
    add_cases(
        models / "clear_dr",
        np.array([[0.0, 0, 1, 0, 0], [0.0, 0.1, 1, 0.2, 0.1], [0.0, 0, 0, 0, 1]]),
        "2 2 4",
        "EYE-1 EYE-2 EYE-1",
        np.full((3, 5), 0.2, np.float32),
    )
    return models


def similar(client: FlaskClient, analysis: str, finding: str, asked: str = "", status: int = 200) -> dict[str, Any]:
    response = client.get(f"/api/v1/analyses/{analysis}/findings/{finding}/similar{asked}")
    assert response.status_code == status, response.text
    return dict(response.get_json())


def test_the_nearest_come_first_with_their_truth(client: FlaskClient, post: Post, crop: bytes) -> None:
    body = similar(client, post([("a.png", crop)], REQUEST).get_json()["id"], "nodule", "?k=3")
    # Angles to (1, -1): 135, 45, 180 and 18.43 degrees.
    assert [case["id"] for case in body["cases"]] == ["case 3", "case 1", "case 0"]
    expected = 1 - np.cos([np.pi / 4 - np.arctan(0.5), np.pi / 4, 3 * np.pi / 4])
    assert [case["distance"] for case in body["cases"]] == pytest.approx(expected, abs=1e-3)
    assert body["cases"][1] == {
        "id": "case 1",
        "data_set": "made up",
        "split": "validation",
        "label": "benign",
        "truth": {"text": "truth 1", "votes": [1]},
        "distance": body["cases"][1]["distance"],
        "same_image": False,
        "probabilities": {"benign": 0.25, "malignant": 0.75},
        "correct": False,
    }
    assert [case["correct"] for case in body["cases"]] == [None, False, False]
    assert body["share"] == pytest.approx({"benign": 1 / 3, "malignant": 1 / 3, "indeterminate": 1 / 3})
    assert (body["model"], body["data_set"], body["n"], body["distance"]) == ("sisc_lung", "four made up", 4, "cosine")
    assert body["evidence"] == [{**EVIDENCE, "null": None}, {**EVIDENCE, "null": 0.5}]


def test_without_a_number_there_are_six_or_all(client: FlaskClient, post: Post, crop: bytes) -> None:
    identity = post([("a.png", crop)], REQUEST).get_json()["id"]
    assert len(similar(client, identity, "nodule")["cases"]) == 4
    assert len(similar(client, identity, "nodule", "?k=1")["cases"]) == 1
    for wrong in ("?k=0", "?k=51", "?k=many", "?n=6"):
        similar(client, identity, "nodule", wrong, 422)


def test_features_are_kept_without_maps_and_are_the_mean_of_the_slices(
    app: Flask, client: FlaskClient, post: Post, crop: bytes, other_crop: bytes
) -> None:
    files = [("a.png", crop), ("b.png", other_crop)]
    found = []
    for maps in ([], ["clear"]):
        identity = post(files, {**REQUEST, "maps": maps}).get_json()["id"]
        path = app.extensions["pellucid"].store.maps_path(identity, "nodule")
        assert path.exists() == bool(maps)
        found.append(np.load(path.with_suffix(".npy")))
        assert len(similar(client, identity, "nodule")["cases"]) == 4
    np.testing.assert_array_equal(*found)
    alone = [
        np.load(
            app.extensions["pellucid"]
            .store.maps_path(post([one], REQUEST).get_json()["id"], "nodule")
            .with_suffix(".npy")
        )
        for one in files
    ]
    np.testing.assert_allclose(found[0], np.mean(alone, axis=0), rtol=1e-5)


def test_what_there_is_not_is_said(app: Flask, client: FlaskClient, post: Post, crop: bytes) -> None:
    identity = post([("a.png", crop)], REQUEST).get_json()["id"]
    assert "it has nodule" in similar(client, identity, "eye", status=404)["detail"]
    similar(client, "0" * 32, "nodule", status=404)
    app.extensions["pellucid"].store.maps_path(identity, "nodule").with_suffix(".npy").unlink()
    assert "re-run" in similar(client, identity, "nodule", status=404)["detail"]


def test_a_model_without_cases_is_named(
    app: Flask, client: FlaskClient, post: Post, crop: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = post([("a.png", crop)], REQUEST).get_json()["id"]
    all_bundles = app.extensions["pellucid"].pipeline.bundles
    bare = bundles.Bundle(all_bundles["sisc_lung"].folder, all_bundles["sisc_lung"].description)
    monkeypatch.setattr(type(app.extensions["pellucid"].tools.engine), "bundles", {**all_bundles, "sisc_lung": bare})
    detail = similar(client, identity, "nodule", status=404)["detail"]
    assert "sisc_lung 0.0.1 has no known cases" in detail


def ophthalmic(photograph: Path, patient: str) -> bytes:
    """A photograph as a DICOM object of a patient."""
    pixels = np.asarray(Image.open(photograph).resize((800, 600)))
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, OPHTHALMIC
    meta.MediaStorageSOPInstanceUID = generate_uid()
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = OPHTHALMIC, meta.MediaStorageSOPInstanceUID
    made.StudyInstanceUID, made.SeriesInstanceUID = generate_uid(), generate_uid()
    made.Modality, made.PatientID, made.PatientName = "OP", patient, "Nobody"
    made.Rows, made.Columns, made.SamplesPerPixel = *pixels.shape[:2], 3
    made.PhotometricInterpretation, made.PlanarConfiguration = "RGB", 0
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    made.PixelData = pixels.tobytes()
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def test_no_other_case_of_the_patient_is_shown(client: FlaskClient, post: Post, tmp_path: Path) -> None:
    write_fundus(tmp_path / "eye.jpg")
    for patient, expected in (("EYE-1", {"case 1"}), ("EYE-3", {"case 0", "case 1", "case 2"})):
        done = post([("eye.dcm", ophthalmic(tmp_path / "eye.jpg", patient))]).get_json()
        assert done["outcome"] == "graded", done
        body = similar(client, done["id"], "eye")
        assert {case["id"] for case in body["cases"]} == expected
        assert patient not in json.dumps(body)
