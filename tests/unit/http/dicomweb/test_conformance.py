"""What the conformance statement says of the web services is what they do; `GET /conformance` gives it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pydicom
import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydicom.uid import EncapsulatedPDFStorage

from tests.statement import DOCS, rows

Make = Callable[..., bytes]
Send = Callable[..., Any]
STUDY, SERIES, SOP = "2.25.900", "2.25.900.1", "2.25.900.1.1"
TEXTS: dict[str, Any] = {
    "StudyDate": "20250203",
    "StudyTime": "040506",
    "AccessionNumber": "ACC77",
    "ReferringPhysicianName": "Seldom^Ref",
    "StudyDescription": "Conformance",
    "TimezoneOffsetFromUTC": "+0300",
    "PatientName": "Singular^Name",
    "PatientID": "PID77",
    "IssuerOfPatientID": "ISS77",
    "PatientBirthDate": "19420203",
    "PatientSex": "O",
    "StudyInstanceUID": STUDY,
    "StudyID": "SID77",
    "Modality": "CT",
    "SeriesDate": "20250204",
    "SeriesTime": "050607",
    "SeriesDescription": "Series77",
    "SeriesInstanceUID": SERIES,
    "SeriesNumber": 77,
    "BodyPartExamined": "THORAX",
    "Laterality": "R",
    "Manufacturer": "Maker77",
    "InstitutionName": "Place77",
    "PerformedProcedureStepStartDate": "20250205",
    "PerformedProcedureStepStartTime": "060708",
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.3",
    "SOPInstanceUID": SOP,
    "InstanceNumber": 7777,
    "ImageType": ["ORIGINAL", "SEVENTY"],
    "ContentDate": "20250206",
    "ContentTime": "070809",
    "AcquisitionDate": "20250207",
    "AcquisitionTime": "080910",
    "Rows": 4,
    "Columns": 6,
    "BitsAllocated": 16,
    "NumberOfFrames": 3,
}
LEVELS = {"study": "studies", "series": "series", "instance": "instances"}


@pytest.fixture(scope="module")
def stored(app: Flask, make: Make) -> FlaskClient:
    """A client, after one instance with a value for every key was stored."""
    own = {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "NumberOfFrames", "SOPClassUID"}
    changes = {name: value for name, value in TEXTS.items() if name not in own}
    client = app.test_client()
    data = make(STUDY, SERIES, SOP, frames=3, **changes)
    answer = client.post("/dicomweb/studies", data=data, content_type="application/dicom")
    assert answer.status_code == 200, answer.text
    return client


def found(client: FlaskClient, level: str, **query: Any) -> bool:
    """Whether the stored object is among the matches."""
    answer = client.get(f"/dicomweb/{LEVELS[level]}", query_string={"limit": "1000", **query})
    assert answer.status_code == 200 and "Warning" not in answer.headers, (query, answer.text, answer.headers)
    tag = {"study": "0020000D", "series": "0020000E", "instance": "00080018"}[level]
    return any(one[tag]["Value"] == [{"study": STUDY, "series": SERIES, "instance": SOP}[level]] for one in answer.json)


def values(keyword: str) -> tuple[str, str]:
    """A value that matches, and one that does not."""
    if keyword == "ModalitiesInStudy":
        return "CT", "MG"
    if keyword == "SOPClassesInStudy":
        return TEXTS["SOPClassUID"], "1.2.3"
    value = TEXTS[keyword]
    right = str(value[1] if isinstance(value, list) else value)
    wrong = {
        str: right[:-1] + ("1" if right[-1] != "1" else "2"),
        int: str(int(value) + 1) if isinstance(value, int) else "",
    }
    return right, wrong[type(value) if isinstance(value, int) else str]


@pytest.mark.parametrize("row", rows("4.2.2 QIDO-RS", "attribute"), ids=lambda row: row["attribute"])
def test_every_stated_key_matches_as_stated_at_every_stated_level(stored: FlaskClient, row: dict[str, str]) -> None:
    keyword = ".".join(part.split(" ")[0] for part in row["attribute"].split(" > "))
    for level in row["levels"].split(", "):
        if row["note"]:
            assert "matches nothing" in row["note"] and not found(stored, level, **{keyword: "anything"})
            continue
        right, wrong = values(keyword)
        assert found(stored, level, **{keyword: right}), (level, right)
        assert not found(stored, level, **{keyword: wrong}), (level, wrong)
        if "wild card" in row["matching"]:
            assert found(stored, level, **{keyword: right[0] + "*"}) and found(
                stored, level, **{keyword: "?" + right[1:]}
            )
        if "range" in row["matching"]:
            assert found(stored, level, **{keyword: f"-{right}"}) and found(
                stored, level, **{keyword: f"{right}-{right}"}
            )
            assert not found(stored, level, **{keyword: f"-{'00' if keyword.endswith('Time') else '19000101'}"})
        if "list" in row["matching"]:
            assert found(stored, level, **{keyword: f"1.2.3,{right}"})
        if "word beginnings" in row["matching"]:
            last = right.split("^")[1]
            assert found(stored, level, **{keyword: last, "fuzzymatching": "true"}) and not found(
                stored, level, **{keyword: last}
            )


def test_keys_below_the_level_are_ignored_with_a_warning(stored: FlaskClient) -> None:
    for row in rows("4.2.2 QIDO-RS", "attribute"):
        if "study" not in row["levels"].split(", "):
            keyword = ".".join(part.split(" ")[0] for part in row["attribute"].split(" > "))
            answer = stored.get("/dicomweb/studies", query_string={keyword: "1"})
            assert answer.status_code == 200 and "ignored" in answer.headers["Warning"]


@pytest.mark.parametrize("title", ["4.2.2 QIDO-RS", "4.2.3 WADO-RS"])
def test_every_stated_resource_is_there(stored: FlaskClient, title: str) -> None:
    for row in rows(title, "method"):
        names = {"study": STUDY, "series": SERIES, "sop": SOP, "numbers": "1,3", "number": "2", "path": "7FE00010"}
        path = row["path"].format(**names)
        assert stored.open(path, method=row["method"]).status_code == 200, path


def test_representations_are_the_stated_ones(stored: FlaskClient) -> None:
    instance = f"/dicomweb/studies/{STUDY}/series/{SERIES}/instances/{SOP}"
    places = {"metadata": "/metadata", "rendered": "/rendered", "thumbnail": "/thumbnail"}
    for row in rows("4.2.3 WADO-RS", "resource"):
        for media in row["media types"].split(", ") if row["resource"] in places else ():
            answer = stored.get(instance + places[row["resource"]], headers={"Accept": media})
            assert answer.status_code == 200 and answer.mimetype == media
    default = stored.get(instance, headers={"Accept": "application/dicom"})
    assert pydicom.dcmread(io.BytesIO(default.data)).file_meta.TransferSyntaxUID.name == "Explicit VR Little Endian"
    assert (
        stored.get(instance, headers={"Accept": "application/dicom; transfer-syntax=1.2.840.10008.1.2"}).status_code
        == 406
    )
    assert stored.get(instance + "/metadata", headers={"Accept": "application/dicom+xml"}).status_code == 406


def test_every_stated_failure_reason_can_be_had(client: FlaskClient, send: Send, make: Make) -> None:
    other = make("2.25.901", "2.25.901.1", "2.25.901.1.1")
    assert send(other).status_code == 200
    answers = [
        send(make("2.25.901", "2.25.901.1", "2.25.901.1.1", PatientName="Other^Name")),
        send(b"\0" * 132 + b"nothing"),
        send(make("2.25.902", "2.25.902.1", "2.25.902.1.1"), path="/dicomweb/studies/2.25.903"),
        send(make("2.25.902", "2.25.902.1", "2.25.902.1.2", Rows=60000, Columns=60000)),
        send(
            make("2.25.902", "2.25.902.1", "2.25.902.1.3").replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
        ),
    ]
    reasons = set()
    for answer in answers:
        assert answer.status_code == 409
        body = answer.json
        (item,) = (body.get("00081198") or body["0008119A"])["Value"]
        reasons.add(item["00081197"]["Value"][0])
    assert reasons == {int(row["Failure Reason"], 16) for row in rows("4.2.1 STOW-RS", "Failure Reason")}


def test_any_sop_class_is_stored(send: Send, make: Make) -> None:
    document = make("2.25.904", "2.25.904.1", "2.25.904.1.1", SOPClassUID=EncapsulatedPDFStorage, PixelData=None)
    assert send(document).status_code == 200


def test_a_destination_is_treated_as_stated() -> None:
    from service.delivery import stow
    from service.delivery.attempt import GiveUp, Sent, TryAgain
    from service.delivery.web import Answer

    words = {Sent: "delivered", TryAgain: "tried again", GiveUp: "set aside for a person"}
    for row in rows("4.2.5 STOW-RS as user agent", "HTTP status"):
        (outcome,) = stow.outcomes(Answer(int(row["HTTP status"]), {}, b""), ["1.2.3"])
        assert words[type(outcome)] == row["what happens"]


def test_the_running_service_gives_its_statement(client: FlaskClient) -> None:
    answer = client.get("/conformance")
    assert answer.status_code == 200 and answer.mimetype == "text/markdown"
    committed = (DOCS / "conformance.md").read_text(encoding="utf-8")
    assert answer.text.split("### 1.4")[0] == committed.split("### 1.4")[0]
    assert "| setting | default | here | what it is |" in answer.text
    assert "| `arrivals` | `analyze` | `store` |" in answer.text  # as this application is set
    assert "/tmp" not in answer.text and "pellucid-data" not in answer.text
    page = client.get("/conformance", headers={"Accept": "text/html"})
    assert page.mimetype == "text/html" and "<h2>4 Services</h2>" in page.text
