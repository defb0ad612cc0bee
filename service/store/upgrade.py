"""Brings an older database up to date, step by step; new tables are made afterwards from `database.metadata`."""

from __future__ import annotations

import json
from collections.abc import Callable

from sqlalchemy import Connection, text

from service.store import rows

NEWEST = 3


def _run(*statements: str) -> Callable[[Connection], None]:
    def step(connection: Connection) -> None:
        for statement in statements:
            connection.execute(text(statement))

    return step


def _to_3(connection: Connection) -> None:
    """Verdicts know who judged, and what; for old ones the latter is taken from the analysis' result."""
    _run(
        "ALTER TABLE analyses ADD COLUMN revision INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE assessments ADD COLUMN reader TEXT",
        "ALTER TABLE assessments ADD COLUMN account TEXT",
        "ALTER TABLE assessments ADD COLUMN version TEXT",
        "ALTER TABLE assessments ADD COLUMN answered TEXT",
        "ALTER TABLE assessments ADD COLUMN decision TEXT",
        "CREATE INDEX assessments_by_time ON assessments (created, id)",
    )(connection)
    old = connection.execute(
        text("SELECT s.id, s.finding, a.result FROM assessments s JOIN analyses a ON a.id = s.analysis")
    ).all()
    for row in old:
        known = rows.answer(json.loads(row.result) if row.result else None, row.finding)
        change = "UPDATE assessments SET version = :version, answered = :answered, decision = :decision WHERE id = :id"
        connection.execute(text(change), {"id": row.id, **known})


_STEPS = {
    1: _run(
        "ALTER TABLE analyses ADD COLUMN door VARCHAR(8) NOT NULL DEFAULT 'http'",
        "ALTER TABLE analyses ADD COLUMN supersedes VARCHAR(32)",
        "ALTER TABLE analyses ADD COLUMN superseded_by VARCHAR(32)",
    ),
    2: _to_3,
}


def upgrade(connection: Connection, version: int) -> None:
    """Change the tables that a database of an older version has, up to `NEWEST`."""
    for known in range(version, NEWEST):
        _STEPS[known](connection)
