"""Source images as pictures: photographs without and with a DICOM header, in both views, sizes, and what is kept."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from werkzeug.test import TestResponse

from service.http.images import Pictures
from service.phantoms import write_fundus
from service.records import Instance

Post = Callable[..., TestResponse]


@pytest.fixture(scope="module")
def fundus(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The phantom's photograph, 640 x 480 px."""
    path = tmp_path_factory.mktemp("fundus") / "fundus.jpg"
    write_fundus(path)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((640, 480)))


def picture(answer: TestResponse) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.data)))


def images_of(app: Flask, data: bytes) -> str:
    """Where the images of an analysis of one file are."""
    head = b'--B0\r\nContent-Disposition: form-data; name="files"; filename="eye"\r\n\r\n'
    sent = app.test_client().post(
        "/api/v1/analyses", data=head + data + b"\r\n--B0--\r\n", content_type="multipart/form-data; boundary=B0"
    )
    return f"/api/v1/analyses/{sent.get_json()['id']}/images"


@pytest.fixture(scope="module")
def eye(app: Flask, fundus: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(fundus).save(stream, "PNG")
    return images_of(app, stream.getvalue())


@pytest.fixture(scope="module")
def dicom_eye(app: Flask, fundus: np.ndarray) -> str:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.5.1", "1.2.9"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("eye.dcm", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality, ds.ImageLaterality = "1.2.7", "1.2.8", "OP", "R"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PlanarConfiguration = *fundus.shape[:2], 3, 0
    ds.PhotometricInterpretation, ds.BitsAllocated, ds.BitsStored, ds.HighBit = "RGB", 8, 8, 7
    ds.PixelRepresentation, ds.NumberOfFrames = 0, 1
    ds.PixelData = fundus.tobytes()
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, ds, enforce_file_format=True)
    return images_of(app, stream.getvalue())


def test_a_photograph_comes_as_it_is(client: FlaskClient, eye: str, fundus: np.ndarray) -> None:
    answer = client.get(f"{eye}/0.png")
    assert answer.content_type == "image/png"
    assert np.array_equal(picture(answer), fundus)
    answer = client.get(f"{eye}/0.jpg")
    assert answer.content_type == "image/jpeg" and answer.data[:2] == b"\xff\xd8"
    assert np.abs(picture(answer).astype(int) - fundus).mean() < 2


def test_red_free_is_the_green_channel_as_grey(client: FlaskClient, eye: str, fundus: np.ndarray) -> None:
    grey = picture(client.get(f"{eye}/0.png?view=red_free"))
    assert np.array_equal(grey, fundus[:, :, 1])
    assert picture(client.get(f"{eye}/0.jpg?view=red_free")).ndim == 2


def test_a_dicom_photograph_comes_as_well(client: FlaskClient, dicom_eye: str, fundus: np.ndarray) -> None:
    assert np.array_equal(picture(client.get(f"{dicom_eye}/0.png")), fundus)
    assert np.array_equal(picture(client.get(f"{dicom_eye}/0.png?view=red_free")), fundus[:, :, 1])


def test_the_size_is_that_of_the_longer_side_and_never_more_than_the_image(client: FlaskClient, eye: str) -> None:
    assert picture(client.get(f"{eye}/0.jpg?size=320")).shape == (240, 320, 3)
    assert picture(client.get(f"{eye}/0.jpg?size=5000")).shape == (480, 640, 3)
    assert client.get(f"{eye}/0.jpg?size=5000").headers["ETag"] == client.get(f"{eye}/0.jpg").headers["ETag"]


def test_images_are_numbered_as_in_the_answer(
    client: FlaskClient, done: dict[str, Any], crop: bytes, other_crop: bytes
) -> None:
    root = f"/api/v1/analyses/{done['id']}/images"
    for number, data in enumerate((crop, other_crop)):
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.array_equal(picture(client.get(f"{root}/{number}.png")), expected)
    gone = client.get(f"{root}/2.png")
    assert gone.status_code == 404 and "0 to 1" in gone.get_json()["detail"]


def test_slices_of_a_series_come_in_the_order_of_the_stack(client: FlaskClient, post: Post, tmp_path: Path) -> None:
    """Sent from head to feet; the answer lists them from feet to head. A slice of -600 HU is mid-grey in the lung window."""
    files = []
    for number, z in enumerate((30.0, 20.0, 10.0)):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.3.{number}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds = FileDataset("slice.dcm", {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID, ds.Modality = "1.3", "1.3.9", "1.3.8", "CT"
        ds.PixelSpacing, ds.SliceThickness, ds.ImageType = [0.7, 0.7], 10, ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, z]
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 64, 64, 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleSlope, ds.RescaleIntercept = 1, 0
        ds.PixelData = np.full((64, 64), (-1000, -600, 0)[number], "<i2").tobytes()
        pydicom.dcmwrite(tmp_path / "slice.dcm", ds, enforce_file_format=True)
        files.append((f"{number}.dcm", (tmp_path / "slice.dcm").read_bytes()))
    sent = post(files).get_json()
    order = sent["input"]["instances"]
    assert order == ["1.3.2", "1.3.1", "1.3.0"]
    shown = [int(picture(client.get(f"/api/v1/analyses/{sent['id']}/images/{k}.png")).reshape(-1)[0]) for k in range(3)]
    assert shown[1] in (127, 128) and shown[0] > 220 and 50 < shown[2] < 70


def test_a_client_keeps_them_and_asks_in_vain(client: FlaskClient, eye: str) -> None:
    first = client.get(f"{eye}/0.jpg?size=64")
    assert first.headers["Cache-Control"] == "private, max-age=3600"
    again = client.get(f"{eye}/0.jpg?size=64", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    tags = {
        client.get(f"{eye}/{name}").headers["ETag"]
        for name in ("0.jpg", "0.png", "0.jpg?view=red_free", "0.jpg?size=64")
    }
    assert len(tags) == 4


@pytest.mark.parametrize("wrong", ["size=15", "size=8193", "size=x", "view=blue", "vew=natural"])
def test_wrong_parameters_are_named(client: FlaskClient, eye: str, wrong: str) -> None:
    answer = client.get(f"{eye}/0.jpg?{wrong}")
    assert answer.status_code == 422 and wrong.split("=")[0] in answer.get_json()["detail"]


def test_there_are_only_images_of_this_analysis(client: FlaskClient, eye: str) -> None:
    for path in (f"{eye}/1.jpg", f"{eye}/-1.jpg", f"{eye}/x.jpg", f"/api/v1/analyses/{'0' * 32}/images/0.jpg"):
        assert client.get(path).status_code == 404


def test_an_image_is_decoded_once_while_there_is_room(app: Flask, tmp_path: Path) -> None:
    asked: list[tuple[str, int]] = []

    class Sandbox:
        def photograph(self, instance: Instance, longest_px: int) -> np.ndarray:
            asked.append((instance.sha256, longest_px))
            return np.zeros((10, 10, 3), np.uint8)

    def image(name: str) -> Instance:
        return Instance(tmp_path, name, "photograph", 10, 10, "2.25.1")

    kept = Pictures(2 * 300)
    for name, size in (("a", 10), ("a", 10), ("b", 10), ("a", 10), ("c", 10), ("a", 10), ("b", 10), ("a", 5)):
        kept.get(Sandbox(), image(name), size)  # type: ignore[arg-type]
    # c pushed out b, which was used least lately; b then c, or a, and so on; another size is another picture
    assert asked == [("a", 10), ("b", 10), ("c", 10), ("b", 10), ("a", 5)]
    asked.clear()
    none = Pictures(0)
    none.get(Sandbox(), image("a"), 10)  # type: ignore[arg-type]
    none.get(Sandbox(), image("a"), 10)  # type: ignore[arg-type]
    assert len(asked) == 2
