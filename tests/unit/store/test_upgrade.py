"""A database that an older version wrote is opened, keeps what it holds, and ends as a new one is; on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Engine, inspect, text

from service.store import database as db
from service.store.analyses import Store

TABLES_OF_1 = """
CREATE TABLE schema_version (version INTEGER NOT NULL, PRIMARY KEY (version));
CREATE TABLE analyses (
    id VARCHAR(32) NOT NULL, created VARCHAR(27) NOT NULL, status VARCHAR(16) NOT NULL, attempts INTEGER NOT NULL,
    model VARCHAR(64) NOT NULL, study VARCHAR(64) NOT NULL, series VARCHAR(64) NOT NULL, modality VARCHAR(16) NOT NULL,
    patient TEXT NOT NULL, request TEXT NOT NULL, warnings TEXT NOT NULL, result TEXT, error TEXT, PRIMARY KEY (id));
CREATE INDEX analyses_by_time ON analyses (created, id);
CREATE INDEX analyses_by_status ON analyses (status, created);
CREATE INDEX analyses_by_study ON analyses (study);
CREATE INDEX analyses_by_patient ON analyses (patient);
CREATE TABLE instances (
    sha256 VARCHAR(64) NOT NULL, sop_instance_uid VARCHAR(64) NOT NULL, series_uid VARCHAR(64) NOT NULL,
    study_uid VARCHAR(64) NOT NULL, header TEXT NOT NULL, PRIMARY KEY (sha256));
CREATE INDEX instances_by_uid ON instances (sop_instance_uid);
CREATE TABLE analysis_instances (
    analysis VARCHAR(32) NOT NULL, position INTEGER NOT NULL, sha256 VARCHAR(64) NOT NULL, PRIMARY KEY (analysis, position),
    FOREIGN KEY (analysis) REFERENCES analyses (id) ON DELETE CASCADE, FOREIGN KEY (sha256) REFERENCES instances (sha256));
CREATE INDEX analysis_instances_by_content ON analysis_instances (sha256);
CREATE TABLE idempotency (
    key VARCHAR(255) NOT NULL, fingerprint VARCHAR(64) NOT NULL, analysis VARCHAR(32) NOT NULL, PRIMARY KEY (key),
    FOREIGN KEY (analysis) REFERENCES analyses (id) ON DELETE CASCADE);
CREATE INDEX ix_idempotency_analysis ON idempotency (analysis);
CREATE TABLE assessments (
    id {serial} NOT NULL, analysis VARCHAR(32) NOT NULL, finding VARCHAR(64) NOT NULL, verdict VARCHAR(16) NOT NULL, value TEXT,
    reason TEXT, created VARCHAR(27) NOT NULL, PRIMARY KEY (id),
    FOREIGN KEY (analysis) REFERENCES analyses (id) ON DELETE CASCADE);
CREATE INDEX ix_assessments_analysis ON assessments (analysis)
"""
"""As they were made by version 1."""
ADDED_BY_2 = """
ALTER TABLE analyses ADD COLUMN door VARCHAR(8) NOT NULL DEFAULT 'http';
ALTER TABLE analyses ADD COLUMN supersedes VARCHAR(32);
ALTER TABLE analyses ADD COLUMN superseded_by VARCHAR(32)
"""
"""To these tables; it made others beside them, which are as they were."""

RESULT = {
    "outcome": "positive",
    "model": {"name": "sisc_lung", "version": "0.1.0"},
    "findings": [
        {
            "id": "n1",
            "label": "Malignant",
            "probabilities": {"benign": 0.3, "malignant": 0.7},
            "operating_point": {"decision": "positive", "score": 0.9},
            "location": {},
        }
    ],
}
MOMENT = "2026-01-15T10:00:00.000000Z"


@pytest.fixture
def place(tmp_path: Path, database: str) -> str:
    """URL of an empty database, where a store on `tmp_path/data` with the setting `database` looks for it."""
    (tmp_path / "data").mkdir()
    return database or f"sqlite:///{tmp_path / 'data' / 'pellucid.sqlite'}"


def write_old(place: str, version: int) -> None:
    """A database of version 1 or 2 with a completed analysis, one that waits, their image, and three verdicts."""
    engine = sqlalchemy.create_engine(place)
    serial = "SERIAL" if engine.dialect.name == "postgresql" else "INTEGER"
    analysis: dict[str, Any] = {
        "created": MOMENT, "attempts": 1, "model": "sisc_lung", "study": "1.1", "series": "1.2", "modality": "CT",
        "patient": "P1", "request": "{}", "warnings": "[]",
    }  # fmt: skip
    header = {
        "media": "dicom", "rows": 512, "columns": 512, "sop_instance_uid": "1.3", "series_uid": "1.2", "study_uid": "1.1",
        "modality": "CT", "patient_id": "P1",
    }  # fmt: skip
    image = {"sha256": "c" * 64, "sop_instance_uid": "1.3", "series_uid": "1.2", "study_uid": "1.1"}
    with engine.begin() as connection:

        def write(table: str, **row: Any) -> None:
            places = ", ".join(f":{name}" for name in row)
            connection.execute(text(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})"), row)

        for statement in (TABLES_OF_1 + (f";{ADDED_BY_2}" if version == 2 else "")).split(";"):
            connection.execute(text(statement.format(serial=serial)))
        write("schema_version", version=version)
        write("instances", **image, header=json.dumps(header))
        for identity, status, result in (("a" * 32, "completed", json.dumps(RESULT)), ("b" * 32, "queued", None)):
            write("analyses", **analysis, id=identity, status=status, result=result)
            write("analysis_instances", analysis=identity, position=0, sha256="c" * 64)
        for identity, finding in (("a" * 32, "n1"), ("a" * 32, "gone"), ("b" * 32, "n1")):
            write("assessments", analysis=identity, finding=finding, verdict="modified", value="benign", created=MOMENT)
    engine.dispose()


def form(engine: Engine) -> dict[str, Any]:
    """Tables with their columns, keys and indexes, whatever their order."""
    found = inspect(engine)
    return {
        table: (
            {c["name"]: (str(c["type"]), c["nullable"]) for c in found.get_columns(table)},
            found.get_pk_constraint(table)["constrained_columns"],
            sorted((str(i["name"]), tuple(i["column_names"]), bool(i["unique"])) for i in found.get_indexes(table)),
            sorted((tuple(k["constrained_columns"]), k["referred_table"]) for k in found.get_foreign_keys(table)),
        )
        for table in found.get_table_names()
    }


@pytest.fixture
def fresh(tmp_path: Path, request: pytest.FixtureRequest, database: str) -> Iterator[Engine]:
    """A new database of the same kind."""
    engine = db.open_database(request.getfixturevalue("cluster").create() if database else tmp_path / "new.sqlite")
    yield engine
    engine.dispose()


@pytest.mark.parametrize("version", [1, 2])
def test_an_old_database_becomes_as_a_new_one(place: str, fresh: Engine, version: int) -> None:
    write_old(place, version)
    engine = db.open_database(place)
    assert form(engine) == form(fresh)
    with engine.connect() as connection:
        assert connection.scalar(sqlalchemy.select(db.schema.c.version)) == 3
    engine.dispose()
    db.open_database(place).dispose()  # and once more, as it is now


@pytest.mark.parametrize("version", [1, 2])
def test_it_keeps_what_it_holds(tmp_path: Path, place: str, database: str, version: int) -> None:
    write_old(place, version)
    store = Store(tmp_path / "data", 0, database)
    try:
        done = store.get("a" * 32)
        assert (done.door, done.supersedes, done.revision, done.result) == ("http", None, 0, RESULT)
        judged, gone = store.assessments.of_analysis("a" * 32)
        assert (judged.verdict, judged.value, judged.reader, judged.account, judged.created) == (
            "modified", "benign", None, None, MOMENT,
        )  # fmt: skip
        assert (judged.model, judged.version, judged.answered, judged.decision) == (
            "sisc_lung", "0.1.0", "malignant", "positive",
        )  # fmt: skip
        assert (gone.version, gone.answered, gone.decision) == ("0.1.0", None, None)
        (waiting,) = store.assessments.of_analysis("b" * 32)
        assert (waiting.version, waiting.answered) == (None, None)
        store.assessments.add("a" * 32, "n1", "accepted", reader="Dr. A")
        assert store.assessments.latest("a" * 32)["n1"].reader == "Dr. A"
        assert {m.version: m.whole.n for m in store.assessments.agreement("day")} == {"0.1.0": 2, None: 1}
    finally:
        store.close()
