"""STOW-RS: what is stored, what is refused, and with which status and reason (PS3.18 10.5, annex I)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.errors import NoSpace

from .conftest import RELATED, UPLOAD_BYTES, UPLOAD_PARTS, Make, Send, related

FAILED, REFERENCED, OTHER, REASON = "00081198", "00081199", "0008119A", "00081197"
SOP, SOP_CLASS, RETRIEVE = "00081155", "00081150", "00081190"


def reasons(body: dict[str, Any]) -> list[int]:
    return [item[REASON]["Value"][0] for item in body.get(FAILED, {}).get("Value", [])]


def test_stored_instances_are_referenced_and_can_be_retrieved_as_they_came(
    client: FlaskClient, send: Send, make: Make
) -> None:
    one, two = make("2.25.10", "2.25.10.1", "2.25.10.1.1"), make("2.25.10", "2.25.10.1", "2.25.10.1.2")
    response = send(one, two)
    assert (response.status_code, response.content_type) == (200, "application/dicom+json")
    body = response.get_json()
    assert FAILED not in body and OTHER not in body and "Warning" not in response.headers
    assert body[RETRIEVE] == {"vr": "UR", "Value": ["http://localhost/dicomweb/studies/2.25.10"]}
    items = body[REFERENCED]["Value"]
    assert [item[SOP]["Value"][0] for item in items] == ["2.25.10.1.1", "2.25.10.1.2"]
    assert items[0][SOP_CLASS]["Value"] == ["1.2.840.10008.5.1.4.1.1.2"]
    place = items[1][RETRIEVE]["Value"][0]
    assert place == "http://localhost/dicomweb/studies/2.25.10/series/2.25.10.1/instances/2.25.10.1.2"
    got = client.get(place, headers={"Accept": "application/dicom; transfer-syntax=*"})
    assert got.data == two


@pytest.mark.parametrize("ending", [b"\r\n", b"\r\r", b"\n\n", b"\x0d\x0a\x0d\x0a"])
def test_pixels_that_end_in_line_ends_survive(client: FlaskClient, send: Send, make: Make, ending: bytes) -> None:
    uid = f"2.25.11.1.{int.from_bytes(ending, 'big')}"
    sent = make("2.25.11", "2.25.11.1", uid)[: -len(ending)] + ending
    assert send(sent).status_code == 200
    got = client.get(
        f"/dicomweb/studies/2.25.11/series/2.25.11.1/instances/{uid}",
        headers={"Accept": "application/dicom; transfer-syntax=*"},
    )
    assert got.data == sent and got.data.endswith(ending)


def test_the_same_again_is_200_and_other_content_a_conflict(client: FlaskClient, send: Send, make: Make) -> None:
    first, other = make("2.25.12", sop="2.25.12.1.1"), make("2.25.12", sop="2.25.12.1.1", PatientName="Other")
    assert send(first).status_code == 200
    assert send(first).status_code == 200
    response = send(other)
    assert response.status_code == 409 and reasons(response.get_json()) == [0x0111]
    assert response.get_json()[FAILED]["Value"][0][SOP]["Value"] == ["2.25.12.1.1"]
    assert "new UIDs" in response.headers["Warning"]
    got = client.get(
        "/dicomweb/studies/2.25.12/series/2.25.1.1/instances/2.25.12.1.1",
        headers={"Accept": "application/dicom; transfer-syntax=*"},
    )
    assert got.data == first
    both = send(make("2.25.12", sop="2.25.12.1.2"), make("2.25.12", sop="2.25.12.1.2", PatientName="Other"))
    assert both.status_code == 202 and reasons(both.get_json()) == [0x0111]
    twice = send(make("2.25.12", sop="2.25.12.1.3"), make("2.25.12", sop="2.25.12.1.3"))
    assert twice.status_code == 200 and len(twice.get_json()[REFERENCED]["Value"]) == 2


def test_one_bad_part_does_not_lose_the_others(client: FlaskClient, send: Send, make: Make) -> None:
    good = [make("2.25.13", sop=f"2.25.13.1.{n}") for n in (1, 2)]
    cut = make("2.25.13", sop="2.25.13.1.3")[:-20]
    response = send(good[0], b"junk", cut, b"", good[1])
    assert response.status_code == 202
    body = response.get_json()
    assert [item[SOP]["Value"][0] for item in body[REFERENCED]["Value"]] == ["2.25.13.1.1", "2.25.13.1.2"]
    assert reasons(body) == [0xC000, 0xC000, 0xC000]
    assert [item[REASON]["Value"][0] for item in body[OTHER]["Value"]] == [0xC000, 0xC000, 0xC000]
    assert all("Value" not in item[SOP] for item in body[FAILED]["Value"])
    assert len(response.headers.getlist("Warning")) == 3
    assert len(client.get("/dicomweb/studies/2.25.13/instances").get_json()) == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"StudyInstanceUID": None}, 0xA900),
        ({"SeriesInstanceUID": ""}, 0xA900),
        ({"SOPInstanceUID": None}, 0xC000),
        ({"StudyInstanceUID": "not a uid"}, 0xC000),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value:UserWarning")
def test_what_cannot_be_filed_is_409_with_its_reason(
    send: Send, make: Make, changes: dict[str, Any], reason: int
) -> None:
    response = send(make("2.25.14", sop="2.25.14.1.1", **changes))
    assert response.status_code == 409 and response.content_type == "application/dicom+json"
    assert reasons(response.get_json()) == [reason]
    assert REFERENCED not in response.get_json()


def test_an_unknown_transfer_syntax_is_told_apart_from_junk(send: Send, make: Make) -> None:
    mpeg = make("2.25.15", sop="2.25.15.1.1").replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.7\0")
    assert reasons(send(mpeg).get_json()) == [0xC122]


def test_a_study_in_the_path_must_be_that_of_each_instance(client: FlaskClient, send: Send, make: Make) -> None:
    fits, other = make("2.25.16", sop="2.25.16.1.1"), make("2.25.17", sop="2.25.17.1.1")
    response = send(fits, other, path="/dicomweb/studies/2.25.16")
    assert response.status_code == 202 and reasons(response.get_json()) == [0xA900]
    assert response.get_json()[FAILED]["Value"][0][SOP]["Value"] == ["2.25.17.1.1"]
    assert send(other, path="/dicomweb/studies/2.25.16").status_code == 409
    assert client.get("/dicomweb/studies/2.25.17/instances").get_json() == []
    assert send(fits, path="/dicomweb/studies/nonsense").status_code == 400


def test_one_instance_may_come_alone(client: FlaskClient, make: Make) -> None:
    sent = make("2.25.18", sop="2.25.18.1.1")
    for kind in ("application/dicom", "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"):
        assert client.post("/dicomweb/studies", data=sent, content_type=kind).status_code == 200
    assert client.post("/dicomweb/studies", data=b"junk", content_type="application/dicom").status_code == 409


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/related; type=application/dicom; boundary=B0",
        'Multipart/Related; TYPE="APPLICATION/DICOM"; Boundary="B0"',
        "multipart/related;boundary=B0",
        'multipart/related; start="<x>"; boundary=B0; type="application/dicom"',
    ],
)
@pytest.mark.parametrize("fields", ["", "content-type:application/dicom\r\nContent-Length: 7\r\n", "X: y\r\n"])
def test_usual_ways_to_write_the_type_are_taken(client: FlaskClient, make: Make, kind: str, fields: str) -> None:
    body = related([make("2.25.19", sop="2.25.19.1.1")], fields)
    assert client.post("/dicomweb/studies", data=body, content_type=kind).status_code == 200


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 415),
        ("multipart/form-data; boundary=B0", 415),
        ('multipart/related; type="application/dicom+xml"; boundary=B0', 415),
        ('multipart/related; type="application/dicom+json"; boundary=B0', 415),
        ("", 415),
        ('multipart/related; type="application/dicom"', 400),
        ('multipart/related; type="application/dicom"; boundary=""', 400),
        ('multipart/related; type="application/dicom"; boundary="B1"', 400),
    ],
)
def test_other_bodies_are_refused(client: FlaskClient, make: Make, kind: str, status: int) -> None:
    response = client.post("/dicomweb/studies", data=related([make("2.25.20")]), content_type=kind)
    assert response.status_code == status and response.content_type == "application/problem+json"


@pytest.mark.parametrize("fields", ["Content-Type: image/png\r\n", "Content-Transfer-Encoding: base64\r\n"])
def test_parts_of_another_type_are_415_when_nothing_else_came(client: FlaskClient, make: Make, fields: str) -> None:
    alone = client.post("/dicomweb/studies", data=related([make("2.25.21")], fields), content_type=RELATED)
    assert alone.status_code == 415
    good = related([make("2.25.21", sop="2.25.21.1.1")])
    mixed = related([make("2.25.21", sop="2.25.21.1.2")], fields).removesuffix(b"--B0--\r\n") + good
    response = client.post("/dicomweb/studies", data=mixed, content_type=RELATED)
    assert response.status_code == 202 and reasons(response.get_json()) == [0xC000]


@pytest.mark.parametrize("body", [b"", b"--B0--\r\n", b"--B0\r\n\r\nx"])
def test_a_body_without_parts_or_without_its_end_is_400(client: FlaskClient, body: bytes) -> None:
    assert client.post("/dicomweb/studies", data=body, content_type=RELATED).status_code == 400


def test_a_body_that_was_cut_off_stores_nothing(client: FlaskClient, make: Make) -> None:
    body = related([make("2.25.22", sop=f"2.25.22.1.{n}") for n in (1, 2)]).removesuffix(b"\r\n--B0--\r\n")
    assert client.post("/dicomweb/studies", data=body, content_type=RELATED).status_code == 400
    assert client.get("/dicomweb/studies/2.25.22/instances").get_json() == []


def test_too_much_is_413(client: FlaskClient, make: Make) -> None:
    body = related([bytes(UPLOAD_BYTES)])
    assert client.post("/dicomweb/studies", data=body, content_type=RELATED).status_code == 413
    body = related([b""] * (UPLOAD_PARTS + 1))
    assert client.post("/dicomweb/studies", data=body, content_type=RELATED).status_code == 413


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/dicom+json", 200),
        ("application/json", 200),
        ("*/*", 200),
        ("application/dicom+xml;q=0.9, application/dicom+json;q=0.1", 200),
        ("application/dicom+xml", 406),
        ("application/dicom+json;q=0", 406),
    ],
)
def test_answers_are_json_only(client: FlaskClient, send: Send, make: Make, accept: str, status: int) -> None:
    study = f"2.25.23.{status}"
    assert send(make(study, sop=f"{study}.1"), headers={"Accept": accept}).status_code == status
    assert len(client.get(f"/dicomweb/studies/{study}/instances").get_json()) == (status == 200)


def test_a_full_disk_is_507(app: Flask, send: Send, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = app.extensions["pellucid"].store.blobs
    monkeypatch.setattr(blobs, "_free_bytes", 1 << 60)
    response = send(make("2.25.24", sop="2.25.24.1.1"))
    assert response.status_code == 507 and response.content_type == "application/problem+json"


def test_a_disk_that_runs_full_on_the_way_keeps_what_is_filed(
    app: Flask, client: FlaskClient, send: Send, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = app.extensions["pellucid"].store.blobs
    adopt, count = blobs.adopt, iter(range(9))

    def once(source: Path, sha256: str) -> Path:
        if next(count):
            raise OSError(28, "full")
        return Path(adopt(source, sha256))

    monkeypatch.setattr(blobs, "adopt", once)
    response = send(make("2.25.25", sop="2.25.25.1.1"), make("2.25.25", sop="2.25.25.1.2"))
    assert response.status_code == 202 and reasons(response.get_json()) == [0xA700]
    assert len(client.get("/dicomweb/studies/2.25.25/instances").get_json()) == 1
    assert send(make("2.25.25", sop="2.25.25.1.3")).status_code == 507


def test_a_busy_reader_is_no_fault_of_the_instance(
    app: Flask, send: Send, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(_: Any) -> Any:
        raise NoSpace("no room now")

    monkeypatch.setattr(app.extensions["pellucid"].tools.sandbox, "inspect", busy)
    assert send(make("2.25.26")).status_code == 507


def test_the_pipeline_hears_of_what_came(app: Flask, send: Send, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(app.extensions["pellucid"].arrivals, "watch", lambda _, filed: heard.append(filed))
    send(make("2.25.27", sop="2.25.27.1.1"), b"junk")
    assert [[(one.outcome, one.instance.sop_instance_uid) for one in batch] for batch in heard if batch] == [
        [("stored", "2.25.27.1.1")]
    ]
    assert next(filter(None, heard))[0].instance.path.is_file()


def test_nothing_is_left_in_the_spool_and_nothing_of_the_patient_in_errors(app: Flask, send: Send, make: Make) -> None:
    response = send(b"junk DOE^JANE", make("2.25.28", sop="2.25.28.1.1", PatientName="DOE^JANE")[:-9])
    assert response.status_code == 409
    assert "DOE" not in json.dumps(response.get_json()) + str(response.headers)
    assert list(app.extensions["pellucid"].spool.glob("stow-*")) == []


def test_a_browser_on_another_site_may_not_store(send: Send, make: Make) -> None:
    assert send(make("2.25.29"), headers={"Origin": "http://evil.example"}).status_code == 403
