"""Deliveries over HTTP: what is where, and sending again."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.exc import OperationalError

from service.delivery import tables
from service.store import deliveries
from service.store.database import deliveries as rows

HOOK = {"kind": "callback", "name": "hook", "url": "http://127.0.0.1:9/x", "secret": "s" * 16}


@pytest.fixture
def planned(app: Flask, done: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """One delivery that was set aside, to a destination that is never reached."""
    parts = app.extensions["pellucid"]
    (hook,) = tables.parse([HOOK])
    monkeypatch.setitem(parts.sending.destinations, "hook", hook)
    monkeypatch.setattr(parts.sending, "_backoff_s", 600.0)
    row = {
        **deliveries.row(done["id"], "hook", deliveries.CALLBACK),
        "state": "dead",
        "attempts": 12,
        "last_error": "away",
    }
    with parts.store._engine.begin() as connection:
        connection.execute(rows.delete())
        connection.execute(rows.insert(), row)
    return row


def test_what_was_set_aside_is_listed_with_the_reason(client: FlaskClient, planned: dict[str, Any]) -> None:
    (one,) = client.get("/api/v1/deliveries?state=dead&destination=hook").get_json()["deliveries"]
    assert (one["id"], one["last_error"], one["attempts"], one["object"]) == (planned["id"], "away", 12, None)
    assert client.get("/api/v1/deliveries?state=sent").get_json() == {"deliveries": []}
    (shown,) = client.get(f"/api/v1/analyses/{planned['analysis']}").get_json()["delivery"]
    assert shown["state"] == "dead"
    assert client.get("/api/v1/deliveries?state=lost").status_code == 422
    assert client.get("/api/v1/deliveries?when=now").status_code == 422


@pytest.mark.parametrize("way", ["one", "all", "destination"])
def test_it_is_sent_again_when_a_person_says_so(client: FlaskClient, planned: dict[str, Any], way: str) -> None:
    if way == "one":
        response = client.post(f"/api/v1/deliveries/{planned['id']}/replay")
    else:
        response = client.post("/api/v1/deliveries/replay", json={} if way == "all" else {"destination": "hook"})
    assert (response.status_code, response.get_json()) == (202, {"waiting": 1})
    (one,) = client.get("/api/v1/deliveries").get_json()["deliveries"]
    assert one["state"] in ("waiting", "sending") and one["attempts"] <= 1


def test_only_what_exists_is_sent_again(client: FlaskClient, planned: dict[str, Any]) -> None:
    assert client.post("/api/v1/deliveries/nothing/replay").status_code == 404
    assert client.post("/api/v1/deliveries/replay", json={"destination": "other"}).get_json() == {"waiting": 0}
    assert client.post("/api/v1/deliveries/replay", json={"where": "hook"}).status_code == 422
    assert client.post("/api/v1/deliveries/replay", data="x").status_code == 400


def test_a_destination_that_is_gone_is_named(client: FlaskClient, app: Flask, planned: dict[str, Any]) -> None:
    app.extensions["pellucid"].sending.destinations.pop("hook")
    answer = client.post(f"/api/v1/deliveries/{planned['id']}/replay")
    assert answer.status_code == 400 and "hook" in answer.get_json()["detail"]


def test_open_series_are_listed(client: FlaskClient, app: Flask) -> None:
    table = app.extensions["pellucid"].store.series
    assert client.get("/api/v1/series").get_json() == {"series": []}
    table.touch([("1.2.3", "1.2", "XX")])
    (one,) = client.get("/api/v1/series").get_json()["series"]
    assert (one["series_uid"], one["state"]) == ("1.2.3", "open")
    found = table.known("1.2.3")
    assert found is not None
    table.settle(found, "ignored", "a test")


def test_a_locked_database_is_busy_and_no_fault(
    client: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*arguments: Any) -> Any:
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise OperationalError("SELECT", {}, error)

    monkeypatch.setattr(app.extensions["pellucid"].store.deliveries, "page", locked)
    answer = client.get("/api/v1/deliveries")
    assert answer.status_code == 503 and "Retry-After" in answer.headers and "locked" not in answer.text


def test_what_could_not_be_filed_is_listed(client: FlaskClient) -> None:
    assert client.get("/api/v1/rejected").get_json() == {"rejected": []}
