"""Both eyes over HTTP: two DICOM photographs of one study, the schema, what a verdict changes, 304, and refusals."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pydicom
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from service.config import Settings
from service.http import create_app, openapi
from service.phantoms import write_fundus
from tests.unit.http.conftest import Client, multipart


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


@pytest.fixture(scope="module")
def fundus(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The phantom's photograph, 640 x 480 px."""
    path = tmp_path_factory.mktemp("fundus") / "fundus.jpg"
    write_fundus(path)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((640, 480)))


def send(app: Flask, fundus: np.ndarray, study: str, number: int, eye: str, patient: str = "P") -> dict[str, Any]:
    """Analyse the photograph as instance `study`.`number`."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        "1.2.840.10008.5.1.4.1.1.77.1.5.1",
        f"{study}.{number}",
    )
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("eye.dcm", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality, ds.ImageLaterality = study, f"{study}.0", "OP", eye
    ds.PatientID = patient
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PlanarConfiguration = *fundus.shape[:2], 3, 0
    ds.PhotometricInterpretation, ds.BitsAllocated, ds.BitsStored, ds.HighBit = "RGB", 8, 8, 7
    ds.PixelRepresentation, ds.NumberOfFrames = 0, 1
    ds.PixelData = fundus.tobytes()
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, ds, enforce_file_format=True)
    body, kind = multipart([("eye.dcm", stream.getvalue())])
    response = app.test_client().post("/api/v1/analyses", data=body, content_type=kind)
    assert response.status_code == 200, response.text
    return dict(response.get_json())


def judge(client: FlaskClient, analysis: str, **verdict: str) -> None:
    response = client.post(f"/api/v1/analyses/{analysis}/assessment", json={"finding": "eye", **verdict})
    assert response.status_code == 200, response.text


def test_both_eyes_of_a_study(app: Flask, client: FlaskClient, fundus: np.ndarray) -> None:
    place = "/api/v1/studies/1.2.70/eyes"
    right = send(app, fundus, "1.2.70", 1, "R")
    alone = client.get(place).get_json()
    assert [one["code"] for one in alone["missing"]] == ["no_photograph"]
    left = send(app, fundus[:, ::-1], "1.2.70", 2, "L")
    answer = client.get(place)
    found = answer.get_json()
    schemas = openapi.document()["components"]["schemas"]
    root = {"components": {"schemas": schemas}, "$ref": "#/components/schemas/Eyes"}
    jsonschema.Draft202012Validator(root).validate(found)
    assert [one["laterality"] for one in found["eyes"]] == ["R", "L"]
    for eye, made in zip(found["eyes"], (right, left), strict=True):
        (shown,) = eye["photographs"]
        (finding,) = made["findings"]
        assert eye["worst"] == shown["analysis"] == made["id"]
        assert shown["sop_instance_uid"] == made["input"]["instances"][0]
        assert shown["answer"]["grade"] == finding["grade"] and shown["answer"]["referable"] == finding["referable"]
        assert shown["answer"]["probability"] == finding["probabilities"][str(finding["grade"])]
        assert shown["quality"]["score"] == made["quality"]["score"]
    assert found["missing"] == []

    same = client.get(place, headers={"If-None-Match": answer.headers["ETag"]})
    assert same.status_code == 304
    judge(client, right["id"], verdict="modified", value="4")
    judge(client, left["id"], verdict="modified", value="0")
    changed = client.get(place, headers={"If-None-Match": answer.headers["ETag"]})
    assert changed.status_code == 200
    found = changed.get_json()
    jsonschema.Draft202012Validator(root).validate(found)
    assert (found["worse_eye"], found["decision"]["within_months"]) == ("R", 1)
    assert found["eyes"][0]["photographs"][0]["answer"]["label"] == label_of(app, "4")

    judge(client, right["id"], verdict="rejected")
    found = client.get(place).get_json()
    assert [(one["eye"], one["code"]) for one in found["missing"]] == [("R", "rejected")]
    assert found["decision"]["action"] == "undecided"


def label_of(app: Flask, name: str) -> str:
    """Of a grade, in the words of the bundle."""
    classes = app.extensions["pellucid"].pipeline.bundles["clear_dr"].description["classes"]
    return next(str(one["label"]) for one in classes if one["name"] == name)


def test_an_analysis_that_was_done_again_counts_once(app: Flask, client: FlaskClient, fundus: np.ndarray) -> None:
    first = send(app, fundus, "1.2.71", 1, "R")
    again = client.post("/api/v1/analyses", json={"analysis": first["id"]}).get_json()
    (shown,) = client.get("/api/v1/studies/1.2.71/eyes").get_json()["eyes"][0]["photographs"]
    assert shown["analysis"] == again["id"] != first["id"]


def test_photographs_of_two_patients_make_no_summary(app: Flask, client: FlaskClient, fundus: np.ndarray) -> None:
    send(app, fundus, "1.2.72", 1, "R", "A")
    send(app, fundus, "1.2.72", 2, "L", "B")
    refused = client.get("/api/v1/studies/1.2.72/eyes")
    assert refused.status_code == 409 and "several patients" in refused.get_json()["detail"]


def test_unknown_studies_and_parameters_are_refused(client: FlaskClient) -> None:
    assert client.get("/api/v1/studies/1.2.999/eyes").status_code == 404
    assert client.get("/api/v1/studies/1.2.999/eyes?x=1").status_code == 422
