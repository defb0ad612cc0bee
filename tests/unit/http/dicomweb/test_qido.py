"""QIDO-RS: keys, levels, attributes, paging (PS3.18 10.6, PS3.4 C.2.2.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.http.dicomweb import qido
from service.store.search import Query

from .conftest import Client, make_instance, related

Search = Callable[..., list[dict[str, Any]]]
STUDY, SERIES, SOP = "0020000D", "0020000E", "00080018"


@pytest.fixture(scope="module", autouse=True)
def stored(app: Flask) -> Iterator[None]:
    """Three studies; the first has two series (CT with three instances, SR with one). All else is gone."""
    archive = app.extensions["pellucid"].store.archive
    page = archive.search(Query("instance", (), 1000))
    archive.remove([found.sop_instance_uid for found in page.found])
    sent = [make_instance("2.25.1", "2.25.1.1", f"2.25.1.1.{n}", InstanceNumber=n) for n in (3, 10, 1)]
    sent += [
        make_instance("2.25.1", "2.25.1.2", "2.25.1.2.1", Modality="SR", SeriesDescription="Report", Rows=5, PixelData=None),
        make_instance(
            "2.25.2", "2.25.2.1", "2.25.2.1.1", PatientName="Müller^Änne=山田^花子", PatientID="P-2", StudyDate="20260301",
            StudyTime="235959", AccessionNumber="A-2", StudyDescription="Thorax 100%",
        ),
        make_instance(
            "2.25.3", "2.25.3.1", "2.25.3.1.1", PatientName="DOE^JOHN^^^", PatientID="P_2*", StudyDate=None, StudyTime="10",
            StudyDescription="a" * 64,
            AccessionNumber=None, Modality="OP", ReferringPhysicianName=None,
        ),
    ]  # fmt: skip
    client = Client(app)
    response = client.post(
        "/dicomweb/studies",
        data=related(sent),
        content_type='multipart/related; type="application/dicom"; boundary=B0',
    )
    assert response.status_code == 200, response.text
    yield
    archive.remove([found.sop_instance_uid for found in archive.search(Query("instance", (), 1000)).found])


@pytest.fixture
def search(client: FlaskClient) -> Search:
    def ask(path: str, **query: str) -> list[dict[str, Any]]:
        response = client.get(f"/dicomweb{path}", query_string=query)
        assert response.status_code == 200, response.text
        assert response.content_type == "application/dicom+json"
        return list(response.get_json())

    return ask


def uids(found: list[dict[str, Any]], tag: str = STUDY) -> list[str]:
    return [entry[tag]["Value"][0] for entry in found]


def test_studies_carry_the_attributes_of_the_standard(search: Search) -> None:
    (found,) = search("/studies", StudyInstanceUID="2.25.1")
    assert found == {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080020": {"vr": "DA", "Value": ["20260115"]},
        "00080030": {"vr": "TM", "Value": ["101500"]},
        "00080050": {"vr": "SH", "Value": ["A-1"]},
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "00080061": {"vr": "CS", "Value": ["CT", "SR"]},
        "00080090": {"vr": "PN", "Value": [{"Alphabetic": "Ref^Erring"}]},
        "00081030": {"vr": "LO", "Value": ["Chest"]},
        "00081190": {"vr": "UR", "Value": ["http://localhost/dicomweb/studies/2.25.1"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
        "00100020": {"vr": "LO", "Value": ["P-1"]},
        "00100030": {"vr": "DA", "Value": ["19700101"]},
        "00100040": {"vr": "CS", "Value": ["F"]},
        "0020000D": {"vr": "UI", "Value": ["2.25.1"]},
        "00200010": {"vr": "SH", "Value": ["S1"]},
        "00201206": {"vr": "IS", "Value": [2]},
        "00201208": {"vr": "IS", "Value": [4]},
    }


def test_missing_required_attributes_are_there_but_empty(search: Search) -> None:
    (found,) = search("/studies", StudyInstanceUID="2.25.3")
    assert found["00080020"] == {"vr": "DA"} and found["00080090"] == {"vr": "PN"}


def test_series_and_instances_carry_theirs(search: Search) -> None:
    ct, sr = search("/studies/2.25.1/series")
    assert (ct["00080060"]["Value"], ct["00201209"]["Value"]) == (["CT"], [3])
    assert (sr["00080060"]["Value"], sr["0008103E"]["Value"], sr["00201209"]["Value"]) == (["SR"], ["Report"], [1])
    assert ct["00081190"]["Value"] == ["http://localhost/dicomweb/studies/2.25.1/series/2.25.1.1"]
    assert "00100020" not in ct and STUDY in search("/series")[0] and "00100020" in search("/series")[0]
    found = search("/studies/2.25.1/series/2.25.1.1/instances")
    assert [entry["00200013"]["Value"][0] for entry in found] == [1, 3, 10]  # by number, not by text
    assert (found[0]["00280010"]["Value"], found[0]["00280011"]["Value"]) == ([4], [6])
    assert found[0]["00081190"]["Value"][0].endswith("/studies/2.25.1/series/2.25.1.1/instances/2.25.1.1.1")
    assert "00080060" not in found[0] and "00100020" not in found[0]
    assert "00080060" in search("/studies/2.25.1/instances")[0]
    assert "00100020" in search("/instances")[0]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "213"),
        ({"PatientID": "P-1"}, "1"),
        ({"00100020": "P-1"}, "1"),
        ({"PatientID": "p-1"}, ""),
        ({"PatientID": "P*"}, "213"),
        ({"PatientID": "P?2"}, "2"),
        ({"PatientID": "P_2"}, ""),
        ({"PatientID": "*2*"}, "23"),
        ({"PatientID": "*"}, "213"),
        ({"PatientID": ""}, "213"),
        ({"StudyDescription": "Thorax 100%"}, "2"),
        ({"StudyDescription": "Thorax*%"}, "2"),
        ({"StudyDescription": "T%"}, ""),
        ({"StudyDescription": "[CT]hest"}, ""),
        ({"PatientName": "doe^jane"}, "1"),
        ({"PatientName": "DOE^J*"}, "13"),
        ({"PatientName": "doe^john"}, "3"),
        ({"PatientName": "DOE^JOHN^^"}, "3"),
        ({"PatientName": "doe"}, ""),
        ({"PatientName": "*JANE"}, "1"),
        ({"PatientName": "müller*"}, "2"),
        ({"PatientName": "MÜLLER^ÄNNE"}, "2"),
        ({"PatientName": "muller*"}, ""),
        ({"PatientName": "山田*"}, "2"),
        ({"PatientName": "Müller*=山田^花子"}, "2"),
        ({"PatientName": "Müller*=鈴木*"}, ""),
        ({"PatientName": "muller", "fuzzymatching": "true"}, "2"),
        ({"PatientName": "jane doe", "fuzzymatching": "true"}, "1"),
        ({"PatientName": "jo do", "fuzzymatching": "true"}, "3"),
        ({"PatientName": "ane", "fuzzymatching": "true"}, ""),
        ({"StudyDate": "20260115"}, "1"),
        ({"StudyDate": "20260101-20260131"}, "1"),
        ({"StudyDate": "20260115-20260301"}, "21"),
        ({"StudyDate": "20260116-"}, "2"),
        ({"StudyDate": "-20260115"}, "1"),
        ({"StudyTime": "10"}, "13"),
        ({"StudyTime": "1015"}, "1"),
        ({"StudyTime": "101501"}, ""),
        ({"StudyTime": "2359-"}, "2"),
        ({"StudyTime": "-1100"}, "13"),
        ({"StudyTime": "101500-235959.5"}, "21"),
        ({"StudyInstanceUID": "2.25.1,2.25.3"}, "13"),
        ({"StudyInstanceUID": "2.25.1\\2.25.2"}, "21"),
        ({"AccessionNumber": "A-2", "PatientID": "P-2"}, "2"),
        ({"AccessionNumber": "A-2", "PatientID": "P-1"}, ""),
        ({"ModalitiesInStudy": "SR"}, "1"),
        ({"ModalitiesInStudy": "?T"}, "21"),
        ({"ModalitiesInStudy": "MR"}, ""),
        ({"SOPClassesInStudy": "1.2.840.10008.5.1.4.1.1.2"}, "213"),
        ({"PatientSex": "F", "StudyID": "S1", "ReferringPhysicianName": "ref*"}, "21"),
    ],
)
def test_keys_match_as_the_standard_says(search: Search, query: dict[str, str], expected: str) -> None:
    """Newest first; a study without a date comes last."""
    assert "".join(uid[-1] for uid in uids(search("/studies", **query))) == expected


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/series", {"Modality": "CT"}, ["2.25.1.1", "2.25.2.1"]),
        ("/series", {"Modality": "S?"}, ["2.25.1.2"]),
        ("/series", {"SeriesNumber": "02", "PatientID": "P-2"}, ["2.25.2.1"]),
        ("/series", {"SeriesNumber": "3"}, []),
        ("/series", {"ModalitiesInStudy": "SR"}, ["2.25.1.1", "2.25.1.2"]),
        ("/series", {"SeriesInstanceUID": "2.25.1.2,2.25.3.1"}, ["2.25.1.2", "2.25.3.1"]),
        ("/studies/2.25.1/series", {"SeriesDescription": "Rep*"}, ["2.25.1.2"]),
        ("/studies/2.25.9/series", {}, []),
        ("/instances", {"InstanceNumber": "10"}, ["2.25.1.1.10"]),
        ("/instances", {"Rows": "5"}, ["2.25.1.2.1"]),
        ("/instances", {"SOPInstanceUID": "2.25.1.1.3"}, ["2.25.1.1.3"]),
        ("/instances", {"Modality": "OP"}, ["2.25.3.1.1"]),
        ("/studies/2.25.1/instances", {"Modality": "SR"}, ["2.25.1.2.1"]),
        ("/studies/2.25.1/series/2.25.1.2/instances", {}, ["2.25.1.2.1"]),
        ("/studies/2.25.2/series/2.25.1.2/instances", {}, []),
    ],
)
def test_series_and_instances_are_found_by_their_keys(
    search: Search, path: str, query: dict[str, str], expected: list[str]
) -> None:
    assert uids(search(path, **query), SERIES if path.endswith("series") else SOP) == expected


@pytest.mark.parametrize("keys", [{}, {"PatientID": "P*"}, {"PatientSex": "F"}])
def test_pages_follow_one_another(client: FlaskClient, search: Search, keys: dict[str, str]) -> None:
    whole = uids(search("/instances", **keys), SOP)
    assert len(whole) == 6
    paged: list[str] = []
    for offset in range(0, 8, 2):
        response = client.get("/dicomweb/instances", query_string={**keys, "limit": "2", "offset": str(offset)})
        paged += uids(response.get_json(), SOP)
        assert ("Additional results" in response.headers.get("Warning", "")) == (offset < 4)
    assert paged == whole
    assert search("/instances", limit="0", **keys) == []


def test_one_answer_holds_at_most_so_many(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qido, "MOST", 2)
    response = client.get("/dicomweb/instances?limit=999999")
    assert len(response.get_json()) == 2 and "exceeded the maximum" in response.headers["Warning"]


def test_fields_are_added_when_asked_for(search: Search) -> None:
    plain = search("/series", Modality="SR")[0]
    assert "00080070" not in plain and "00280010" not in plain
    named = search("/studies/2.25.1/instances", includefield="PatientName,00080061", SOPInstanceUID="2.25.1.1.1")[0]
    assert "00100010" in named and named["00080061"]["Value"] == ["CT", "SR"] and "00100030" not in named
    everything = search("/studies/2.25.1/series/2.25.1.1/instances", includefield="all")[0]
    assert {"00100030", "0008103E", "00280100", "00201208"} <= set(everything)
    study = search("/studies", StudyInstanceUID="2.25.1", includefield="all")[0]
    assert "00080062" in study and "00080060" not in study and "00280010" not in study
    below = search("/studies", StudyInstanceUID="2.25.1", includefield="Modality")[0]
    assert "00080060" not in below  # 10.6.3.3.1: attributes of a lower level are not returned


def test_keys_that_are_not_supported_are_ignored_and_told(client: FlaskClient) -> None:
    response = client.get("/dicomweb/studies?Modality=CT&EchoTime=3&nonsense%0d%0aX:y=1&00100020=P-1")
    assert uids(response.get_json()) == ["2.25.1"]
    warning = response.headers["Warning"]
    assert warning.startswith("299 http://localhost/dicomweb: ")
    assert "Modality" in warning and "EchoTime" in warning and "nonsense" not in warning
    assert "Warning" not in client.get("/dicomweb/studies?fuzzymatching=true&PatientName=doe").headers
    assert "emptyvaluematching" in client.get("/dicomweb/studies?emptyvaluematching=true").headers["Warning"]


@pytest.mark.parametrize(
    "query",
    [
        "StudyDate=2026-01-15", "StudyDate=20261345", "StudyDate=-", "StudyDate=2026", "StudyTime=1", "StudyTime=10-xx",
        "StudyInstanceUID=1.2*", "StudyInstanceUID=abc", "StudyInstanceUID=,",
        "limit=-1", "limit=x", "offset=1.5", "fuzzymatching=maybe",
        "&".join(f"PatientID=P{n}" for n in range(40)),
    ],
)  # fmt: skip
def test_values_that_cannot_be_understood_are_400(client: FlaskClient, query: str) -> None:
    response = client.get(f"/dicomweb/studies?{query}")
    assert response.status_code == 400 and response.content_type == "application/problem+json"


def test_a_number_key_must_be_a_number(client: FlaskClient) -> None:
    assert client.get("/dicomweb/series?SeriesNumber=x").status_code == 400


@pytest.mark.parametrize("pattern", ["*" * 200 + "x", "*a" * 60 + "x", "?" * 300])
def test_patterns_cannot_hang_the_service(client: FlaskClient, pattern: str) -> None:
    for key in ("PatientName", "PatientID", "StudyDescription"):
        assert client.get("/dicomweb/studies", query_string={key: pattern}).get_json() == []


@pytest.mark.parametrize(
    ("accept", "status"), [("application/dicom+json", 200), ("application/json", 200), ("application/*", 200),
                           ('multipart/related; type="application/dicom+xml"', 406), ("application/dicom+xml", 406),
                           ("text/html", 406)],
)  # fmt: skip
def test_answers_are_json_only(client: FlaskClient, accept: str, status: int) -> None:
    for path in ("studies", "series", "instances"):
        assert client.get(f"/dicomweb/{path}", headers={"Accept": accept}).status_code == status
    assert (
        client.get(f"/dicomweb/studies?accept={accept.replace(';', '%3B').replace('+', '%2B')}").status_code == status
    )


def test_addresses_are_as_the_client_reached_us(client: FlaskClient) -> None:
    found = client.get("/dicomweb/studies", base_url="https://localhost:8443").get_json()
    assert found[0]["00081190"]["Value"] == ["https://localhost:8443/dicomweb/studies/2.25.2"]


def test_patients_do_not_stay_in_shared_caches(client: FlaskClient) -> None:
    assert client.get("/dicomweb/studies").headers["Cache-Control"] == "private, no-cache"
