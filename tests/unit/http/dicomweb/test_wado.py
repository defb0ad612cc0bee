"""WADO-RS: instances, metadata, frames, bulk data, pictures: what is given for which Accept (PS3.18 8.7, 10.4)."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pydicom
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from pydicom.uid import ImplicitVRLittleEndian, JPEGLSLossless
from werkzeug.test import TestResponse

from service.errors import Busy, InputError
from service.http.dicomweb import wado
from service.http.dicomweb.metadata import Recent
from service.records import Instance

from .conftest import Client, make_instance, related

Parts = Callable[[TestResponse], list[tuple[dict[str, str], bytes]]]
STUDY = "/dicomweb/studies/2.25.50"
SERIES = f"{STUDY}/series/2.25.50.1"
ONE, MULTI, REPORT, IMPLICIT = (
    f"{STUDY}/series/2.25.50.{series}/instances/2.25.50.{series}.1" for series in (1, 2, 3, 4)
)
JLS = f"{STUDY}/series/2.25.50.5/instances/2.25.50.5.1"
FRAMES = 3
DICOM = 'multipart/related; type="application/dicom"'
OCTETS = 'multipart/related; type="application/octet-stream"'
GREY = np.arange(24, dtype="<u2").reshape(4, 6) * 50


def converted(data: bytes, syntax: str) -> bytes:
    ds = pydicom.dcmread(io.BytesIO(data))
    if syntax == ImplicitVRLittleEndian:
        ds.file_meta.TransferSyntaxUID = syntax
    else:
        ds.compress(syntax, generate_instance_uid=False)
    stream = io.BytesIO()
    ds.save_as(stream, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    return stream.getvalue()


@pytest.fixture(scope="module")
def sent(app: Flask) -> dict[str, bytes]:
    """What was stored, by path."""

    def uids(series: int, number: int = 1) -> dict[str, Any]:
        name = f"2.25.50.{series}"
        return {"study": "2.25.50", "series": name, "sop": f"{name}.{number}"}

    long = "long text " * 200
    files = {
        ONE: make_instance(**uids(1), ImageComments=long),
        f"{SERIES}/instances/2.25.50.1.2": make_instance(**uids(1, 2), InstanceNumber=2),
        MULTI: make_instance(**uids(2), frames=FRAMES, Modality="OT"),
        REPORT: make_instance(**uids(3), Modality="SR", PixelData=None, Rows=None, Columns=None),
        IMPLICIT: converted(make_instance(**uids(4)), ImplicitVRLittleEndian),
        JLS: converted(make_instance(**uids(5), frames=FRAMES, Modality="OT"), JPEGLSLossless),
    }
    kind = 'multipart/related; type="application/dicom"; boundary=B0'
    response = Client(app).post("/dicomweb/studies", data=related(list(files.values())), content_type=kind)
    assert response.status_code == 200, response.text
    return files


@pytest.fixture
def get(client: FlaskClient, sent: dict[str, bytes]) -> Callable[..., TestResponse]:
    def ask(path: str, accept: str | None = None, **headers: str) -> TestResponse:
        return client.get(path, headers={**({"Accept": accept} if accept else {}), **headers})

    return ask


Get = Callable[..., TestResponse]


# -- instances ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [ONE, MULTI, REPORT, IMPLICIT, JLS])
def test_as_stored_is_byte_for_byte(get: Get, parts: Parts, sent: dict[str, bytes], path: str) -> None:
    whole = get(path, f"{DICOM}; transfer-syntax=*")
    ((fields, content),) = parts(whole)
    assert content == sent[path]
    syntax = pydicom.dcmread(io.BytesIO(content)).file_meta.TransferSyntaxUID
    assert fields["Content-Type"] == f"application/dicom; transfer-syntax={syntax}"
    assert fields["Content-Location"] == f"http://localhost{path}"
    single = get(path, "application/dicom; transfer-syntax=*")
    assert single.data == content and single.content_length == len(content)
    assert single.headers["Content-Location"] == f"http://localhost{path}"
    exact = get(path, f"{DICOM}; transfer-syntax={syntax}")
    assert parts(exact)[0][1] == content


@pytest.mark.parametrize("path", [IMPLICIT, JLS])
@pytest.mark.parametrize(
    "accept", [None, "*/*", DICOM, f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.1", "multipart/related"]
)
def test_without_a_wish_it_is_explicit_little_endian(
    get: Get, parts: Parts, sent: dict[str, bytes], path: str, accept: str | None
) -> None:
    ((fields, content),) = parts(get(path, accept))
    assert fields["Content-Type"] == "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
    got, stored = pydicom.dcmread(io.BytesIO(content)), pydicom.dcmread(io.BytesIO(sent[path]))
    assert got.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert np.array_equal(got.pixel_array, stored.pixel_array)
    assert got.PatientName == stored.PatientName and got.SOPInstanceUID == stored.SOPInstanceUID


def test_what_is_in_the_default_syntax_already_is_not_touched(get: Get, parts: Parts, sent: dict[str, bytes]) -> None:
    assert parts(get(ONE))[0][1] == sent[ONE]
    assert get(ONE, "application/dicom").data == sent[ONE]


def test_the_order_of_wishes_counts(get: Get, parts: Parts, sent: dict[str, bytes]) -> None:
    either = f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.4.90, {DICOM}; transfer-syntax=1.2.840.10008.1.2.4.80;q=0.5"
    assert parts(get(JLS, either))[0][1] == sent[JLS]
    decoded = f"{DICOM}; transfer-syntax=*; q=0.1, {DICOM}; transfer-syntax=1.2.840.10008.1.2.1"
    assert parts(get(JLS, decoded))[0][0]["Content-Type"].endswith("1.2.1")
    unquoted = "multipart/related;type=application/dicom;transfer-syntax=*"
    assert parts(get(JLS, unquoted))[0][1] == sent[JLS]


def test_series_and_studies_come_as_parts_in_order(get: Get, parts: Parts, sent: dict[str, bytes]) -> None:
    found = parts(get(SERIES, f"{DICOM}; transfer-syntax=*"))
    assert [content for _, content in found] == [sent[ONE], sent[f"{SERIES}/instances/2.25.50.1.2"]]
    found = parts(get(STUDY, f"{DICOM}; transfer-syntax=*"))
    assert sorted(content for _, content in found) == sorted(sent.values())
    mixed = parts(get(STUDY))
    assert {fields["Content-Type"] for fields, _ in mixed} == {"application/dicom; transfer-syntax=1.2.840.10008.1.2.1"}
    assert len(mixed) == len(sent)


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        (ONE, "text/html"),
        (ONE, "application/dicom+json"),
        (ONE, f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.4.90"),
        (ONE, "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.90"),
        (ONE, 'multipart/related; type="image/jpeg"'),
        (SERIES, "application/dicom"),
        (STUDY, "application/dicom"),
        (STUDY, f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.4.80"),
        (f"{ONE}/metadata", "application/dicom+xml"),
        (f"{ONE}/frames/1", "image/jpeg"),
        (f"{ONE}/frames/1", 'multipart/related; type="image/jls"'),
        (f"{JLS}/frames/1", 'multipart/related; type="image/jp2"'),
        (f"{JLS}/frames/1,2", "application/octet-stream"),
        (f"{JLS}/frames/1", 'multipart/related; type="image/jls"; transfer-syntax=1.2.840.10008.1.2.4.81'),
        (f"{ONE}/rendered", "image/gif"),
        (f"{ONE}/rendered", "text/html"),
        (f"{REPORT}/rendered", None),
        (f"{REPORT}/thumbnail", None),
        (f"{MULTI}/frames/1,2/rendered", None),
        (f"{ONE}/bulkdata/00204000", "image/png"),
    ],
)
def test_what_cannot_be_given_is_406(get: Get, path: str, accept: str | None) -> None:
    response = get(path, accept)
    assert response.status_code == 406, response.data[:200]
    assert response.content_type == "application/problem+json"


@pytest.mark.parametrize(
    "path",
    [
        "/dicomweb/studies/2.25.51", f"{STUDY}/series/2.25.51", f"{SERIES}/instances/2.25.51",
        f"{STUDY}/series/2.25.50.2/instances/2.25.50.1.1", "/dicomweb/studies/2.25.51/metadata", f"{SERIES}/instances/1/frames/1",
        f"{ONE}/frames/2", f"{MULTI}/frames/1,4", f"{REPORT}/frames/1", f"{MULTI}/frames/4/rendered", f"{ONE}/bulkdata/00081111",
        f"{ONE}/bulkdata/nonsense", f"{ONE}/bulkdata/00082112/1/00081155", "/dicomweb/studies/2.25.51/thumbnail",
        f"{STUDY}/series/2.25.50.3/thumbnail", "/dicomweb/nothing",
    ],
)  # fmt: skip
def test_what_is_not_there_is_404(get: Get, path: str) -> None:
    response = get(path)
    assert response.status_code == 404 and response.content_type == "application/problem+json"


@pytest.mark.parametrize("numbers", ["0", "a", "1,", ",1", "-1", "1;2", "1.5", "1,,2", "9" * 20])
def test_frame_numbers_that_are_none_are_400(get: Get, numbers: str) -> None:
    assert get(f"{MULTI}/frames/{numbers}").status_code == 400


def test_an_instance_that_cannot_be_decoded(
    app: Flask, get: Get, parts: Parts, sent: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone it is refused with a hint; among others it comes as it is stored, and says so."""

    def broken(*_: Any) -> None:
        raise InputError("its pixels are damaged")

    monkeypatch.setattr(app.extensions["pellucid"].tools.sandbox, "transcode", broken)
    for accept in (DICOM, "application/dicom"):
        response = get(JLS, accept)
        assert response.status_code == 406 and "transfer-syntax=*" in response.get_json()["detail"]
    found = {fields["Content-Location"]: (fields, content) for fields, content in parts(get(STUDY, DICOM))}
    fields, content = found[f"http://localhost{JLS}"]
    assert content == sent[JLS] and fields["Content-Type"].endswith("transfer-syntax=1.2.840.10008.1.2.4.80")


def test_a_busy_decoder_is_503(app: Flask, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: Any, **__: Any) -> None:
        raise Busy("all decoders are at work")

    for name, path in (("transcode", JLS), ("frame", f"{ONE}/frames/1"), ("rendered", f"{ONE}/rendered")):
        monkeypatch.setattr(app.extensions["pellucid"].tools.sandbox, name, busy)
        assert get(path).status_code == 503


def test_nothing_is_left_in_the_spool(app: Flask, get: Get) -> None:
    for path in (JLS, STUDY):
        get(path)
    get(JLS, "application/dicom")
    assert list(app.extensions["pellucid"].spool.glob("wado-*")) == []


def test_a_part_of_a_single_instance_can_be_asked_for(get: Get, sent: dict[str, bytes]) -> None:
    response = get(ONE, "application/dicom", Range="bytes=10-19")
    assert response.status_code == 206 and response.data == sent[ONE][10:20]


# -- caching ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "accept"),
    [(ONE, DICOM), (ONE, "application/dicom"), (JLS, "application/dicom"), (f"{SERIES}/metadata", None),
     (f"{ONE}/frames/1", None), (f"{ONE}/rendered", None), (f"{ONE}/thumbnail", None), (f"{ONE}/bulkdata/00204000", None),
     (STUDY, None)],
)  # fmt: skip
def test_what_the_client_has_already_is_304(get: Get, path: str, accept: str | None) -> None:
    first = get(path, accept)
    assert first.status_code == 200
    assert first.headers["Cache-Control"] == "private, no-cache"
    assert {"Accept", "Authorization"} <= set(first.headers["Vary"].split(", "))
    again = get(path, accept, **{"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304 and again.data == b""
    assert get(path, accept, **{"If-None-Match": '"other"'}).status_code == 200


# -- metadata and bulk data ---------------------------------------------------------------------------------------------


def test_metadata_at_all_levels(get: Get, sent: dict[str, bytes]) -> None:
    for path, count in ((STUDY, len(sent)), (SERIES, 2), (ONE, 1)):
        response = get(f"{path}/metadata")
        assert response.content_type == "application/dicom+json"
        assert len(response.get_json()) == count
    (found,) = get(f"{ONE}/metadata").get_json()
    stored = pydicom.dcmread(io.BytesIO(sent[ONE]))
    got = pydicom.Dataset.from_json(found, lambda *_: b"")
    for keyword in ("PatientName", "StudyDate", "Rows", "RescaleIntercept", "SOPInstanceUID", "SpecificCharacterSet"):
        assert got[keyword].value == stored[keyword].value, keyword
    assert "00020010" not in found
    assert found["7FE00010"]["BulkDataURI"] == f"http://localhost{ONE}/bulkdata/7FE00010"


def test_bulk_data_lead_to_the_values(get: Get, parts: Parts, sent: dict[str, bytes]) -> None:
    (found,) = get(f"{ONE}/metadata").get_json()
    stored = pydicom.dcmread(io.BytesIO(sent[ONE]))
    for tag, expected in (("7FE00010", stored.PixelData), ("00204000", stored.ImageComments.encode())):
        place = found[tag]["BulkDataURI"].removeprefix("http://localhost")
        ((fields, content),) = parts(get(place))
        assert content.rstrip(b" ") == expected.rstrip(b" ")
        assert fields["Content-Type"] == "application/octet-stream"
        assert get(place, "application/octet-stream").data == content
        assert get(place, "application/octet-stream", Range="bytes=0-3").data == content[:4]


def test_compressed_pixels_as_bulk_data_are_their_frames(get: Get, parts: Parts) -> None:
    assert parts(get(f"{JLS}/bulkdata/7FE00010", OCTETS)) == parts(get(f"{JLS}/frames/1,2,3", OCTETS))


def test_a_value_that_looks_like_an_address_stays_as_it_is(get: Get, client: FlaskClient) -> None:
    trick = '"BulkDataURI":"bulkdata/'
    data = make_instance("2.25.52", "2.25.52.1", "2.25.52.1.1", StudyDescription=trick)
    client.post("/dicomweb/studies", data=data, content_type="application/dicom")
    (found,) = get("/dicomweb/studies/2.25.52/metadata").get_json()
    assert found["00081030"]["Value"] == [trick]


def test_metadata_are_read_once(app: Flask, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    first = get(f"{SERIES}/metadata").data

    def never(_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(app.extensions["pellucid"].tools.sandbox, "metadata", never)
    assert get(f"{SERIES}/metadata").data == first


def test_remembered_metadata_are_bounded() -> None:
    class Reader:
        def __init__(self) -> None:
            self.asked: list[str] = []

        def metadata(self, instance: Instance) -> dict[str, str]:
            self.asked.append(instance.sha256)
            return {"x": "y" * 90}

    def one(name: str) -> Instance:
        return Instance(path=None, sha256=name, media="dicom", rows=1, columns=1, sop_instance_uid=name)  # type: ignore[arg-type]

    reader, recent = Reader(), Recent(250)
    for name in ("a", "b", "a", "c", "a", "b"):
        assert json.loads(recent.get(reader, one(name))) == {"x": "y" * 90}  # type: ignore[arg-type]
    assert reader.asked == ["a", "b", "c", "b"]


# -- frames -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [MULTI, JLS])
@pytest.mark.parametrize("accept", [None, "*/*", OCTETS, 'multipart/related; type="*/*"'])
def test_frames_come_decoded(get: Get, parts: Parts, sent: dict[str, bytes], path: str, accept: str | None) -> None:
    expected = pydicom.dcmread(io.BytesIO(sent[path])).pixel_array.astype("<u2")
    found = parts(get(f"{path}/frames/3,1", accept))
    assert [content for _, content in found] == [expected[2].tobytes(), expected[0].tobytes()]
    assert found[0][0] == {
        "Content-Type": "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1",
        "Content-Location": f"http://localhost{path}/frames/3",
    }


@pytest.mark.parametrize(
    "accept",
    [
        'multipart/related; type="image/jls"',
        'multipart/related; type="image/jls"; transfer-syntax=1.2.840.10008.1.2.4.80',
        "multipart/related; type=application/octet-stream; transfer-syntax=*",
        'multipart/related; type="*/*"; transfer-syntax=*',
        'multipart/related; type="image/jp2", multipart/related; type="image/jls"; q=0.2',
        "image/*, multipart/related; type=image/*",
    ],
)
def test_frames_come_as_stored(get: Get, parts: Parts, sent: dict[str, bytes], accept: str) -> None:
    stored = pydicom.dcmread(io.BytesIO(sent[JLS]))
    expected = list(pydicom.encaps.generate_frames(stored.PixelData, number_of_frames=FRAMES))
    response = get(f"{JLS}/frames/1,2", accept)
    assert response.content_type.startswith('multipart/related; type="image/jls"')
    found = parts(response)
    assert [content for _, content in found] == expected[:2]
    assert found[0][0]["Content-Type"] == "image/jls; transfer-syntax=1.2.840.10008.1.2.4.80"
    native = parts(get(f"{MULTI}/frames/1", 'multipart/related; type="*/*"; transfer-syntax=*'))
    assert native[0][1] == GREY.tobytes()


def test_one_frame_may_come_alone(get: Get, sent: dict[str, bytes]) -> None:
    response = get(f"{ONE}/frames/1", "application/octet-stream")
    assert response.data == GREY.tobytes() and response.content_length == GREY.nbytes
    assert response.headers["Content-Location"] == f"http://localhost{ONE}/frames/1"
    response = get(f"{JLS}/frames/2", "image/jls")
    assert response.content_type == "image/jls; transfer-syntax=1.2.840.10008.1.2.4.80"
    assert response.data.startswith(b"\xff\xd8")


# -- pictures -----------------------------------------------------------------------------------------------------------


def picture(response: TestResponse) -> np.ndarray:
    assert response.status_code == 200, response.data[:300]
    return np.asarray(Image.open(io.BytesIO(response.data))).astype(float)


def test_a_picture_is_drawn_through_the_window(get: Get) -> None:
    response = get(f"{ONE}/rendered?window=-700,800")
    assert response.content_type == "image/png"
    # PS3.3 C.11.2.1.2.1: y = ((x - (c - 0.5)) / (w - 1) + 0.5) * 255, clipped
    expected = np.clip(((GREY - 1024.0 + 700.5) / 799 + 0.5) * 255, 0, 255)
    assert np.abs(picture(response) - expected).max() <= 0.51
    lung = np.clip(((GREY - 1024.0 + 600.5) / 1499 + 0.5) * 255, 0, 255)
    assert np.abs(picture(get(f"{ONE}/rendered")) - lung).max() <= 0.51


def test_each_frame_has_its_picture_and_the_first_is_the_default(get: Get) -> None:
    first, third = (picture(get(f"{MULTI}/frames/{n}/rendered?window=1000,4000")) for n in (1, 3))
    assert np.array_equal(picture(get(f"{MULTI}/rendered?window=1000,4000")), first)
    assert third.mean() > first.mean() + 50


def test_pictures_take_the_form_that_is_accepted(get: Get) -> None:
    assert get(f"{ONE}/rendered", "image/jpeg").content_type == "image/jpeg"
    assert get(f"{ONE}/rendered?accept=image/jpeg").content_type == "image/jpeg"
    assert get(f"{ONE}/rendered", "image/avif,image/webp,image/*,*/*;q=0.8").content_type == "image/png"
    large, small = (len(get(f"{ONE}/rendered?viewport=64,64&quality={q}", "image/jpeg").data) for q in (100, 5))
    assert small < large


def test_a_viewport_scales_and_cuts(get: Get) -> None:
    assert picture(get(f"{ONE}/rendered?viewport=60,60")).shape == (40, 60)
    assert picture(get(f"{ONE}/rendered?viewport=3,100")).shape == (2, 3)
    part = picture(get(f"{ONE}/rendered?viewport=2,2,3,1,2,2&window=-700,800"))
    assert np.array_equal(part, picture(get(f"{ONE}/rendered?window=-700,800"))[1:3, 3:5])


@pytest.mark.parametrize(
    "query", ["viewport=0,5", "viewport=5", "viewport=5,5,1", "viewport=99999,5", "viewport=a,b", "viewport=5,5,4,0,9,9",
              "viewport=5,5,0,0,0,0", "quality=0", "quality=101", "quality=x", "window=1", "nonsense=1"],
)  # fmt: skip
def test_drawing_parameters_are_checked(get: Get, query: str) -> None:
    assert get(f"{ONE}/rendered?{query}").status_code == 422


def test_what_is_not_drawn_is_told(get: Get) -> None:
    response = get(f"{ONE}/rendered?annotation=patient")
    assert response.status_code == 200 and "annotation" in response.headers["Warning"]


@pytest.mark.parametrize("path", [STUDY, SERIES, ONE, MULTI, f"{MULTI}/frames/2", JLS])
def test_thumbnails_at_every_level(get: Get, path: str) -> None:
    response = get(f"{path}/thumbnail")
    assert response.content_type == "image/jpeg" and max(picture(response).shape) <= 128
    assert get(f"{path}/thumbnail", "image/png").content_type == "image/png"


def test_deleted_instances_are_gone_from_all_doors(app: Flask, get: Get, client: FlaskClient) -> None:
    data = make_instance("2.25.53", "2.25.53.1", "2.25.53.1.1")
    client.post("/dicomweb/studies", data=data, content_type="application/dicom")
    place = "/dicomweb/studies/2.25.53/series/2.25.53.1/instances/2.25.53.1.1"
    assert get(f"{place}/metadata").status_code == 200
    app.extensions["pellucid"].store.archive.remove(["2.25.53.1.1"])
    for path in (place, f"{place}/metadata", f"{place}/frames/1", f"{place}/rendered", "/dicomweb/studies/2.25.53"):
        assert get(path).status_code == 404


def test_large_studies_are_read_as_they_are_sent(app: Flask, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is opened before the client has taken what comes before it."""
    opened: list[str] = []
    given = wado._given

    def noted(*arguments: Any) -> Any:
        opened.append(arguments[2].sop_instance_uid)
        return given(*arguments)

    monkeypatch.setattr(wado, "_given", noted)
    with app.test_request_context(headers={"Accept": f"{DICOM}; transfer-syntax=*"}):
        response = wado.study_retrieve("2.25.50")
        pieces = iter(response.response)
        assert opened == []
        next(pieces)
        next(pieces)
        assert len(opened) == 1
        response.close()
