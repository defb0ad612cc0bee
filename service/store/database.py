"""The database: tables, connection settings, schema version. SQLite in WAL mode by default."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    insert,
    select,
    text,
)
from sqlalchemy.exc import SQLAlchemyError

SCHEMA_VERSION = 1
BUSY_TIMEOUT_MS = 10_000

metadata = MetaData()

schema = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

analyses = Table(
    "analyses",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("created", String(27), nullable=False),  # ISO 8601, UTC, microseconds: sorts by time
    Column("status", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("model", String(64), nullable=False),
    Column("study", String(64), nullable=False),
    Column("series", String(64), nullable=False),
    Column("modality", String(16), nullable=False),
    Column("patient", Text, nullable=False),
    Column("request", Text, nullable=False),  # JSON
    Column("warnings", Text, nullable=False),  # JSON
    Column("result", Text),  # JSON, when completed
    Column("error", Text),  # JSON, when failed
    Index("analyses_by_time", "created", "id"),
    Index("analyses_by_status", "status", "created"),
    Index("analyses_by_study", "study"),
    Index("analyses_by_patient", "patient"),
)

instances = Table(
    "instances",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("header", Text, nullable=False),  # JSON of records.Instance without its path
    Index("instances_by_uid", "sop_instance_uid"),
)

analysis_instances = Table(
    "analysis_instances",
    metadata,
    Column("analysis", String(32), ForeignKey("analyses.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("sha256", String(64), ForeignKey("instances.sha256"), nullable=False),
    Index("analysis_instances_by_content", "sha256"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("analysis", String(32), ForeignKey("analyses.id", ondelete="CASCADE"), nullable=False, index=True),
)

assessments = Table(
    "assessments",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("analysis", String(32), ForeignKey("analyses.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("finding", String(64), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("value", Text),
    Column("reason", Text),
    Column("created", String(27), nullable=False),
)


class DatabaseError(Exception):
    """The database cannot be used; the message says why and what to do."""


def open_database(file: Path) -> Engine:
    """Open or create the database.

    Raises
    ------
    DatabaseError
        When the file is no database of ours or was written by another version of the schema.
    """
    engine = create_engine(f"sqlite:///{file}")
    event.listen(engine, "connect", _prepare)
    try:
        with engine.begin() as connection:
            _check_schema(connection)
    except SQLAlchemyError as error:
        engine.dispose()
        raise DatabaseError(
            f"database {file.name} cannot be opened ({type(error).__name__}); move it away or restore a backup"
        ) from error
    except DatabaseError:
        engine.dispose()
        raise
    return engine


def _prepare(connection: sqlite3.Connection, record: Any) -> None:
    """Readers never wait, a commit survives a power cut, foreign keys are checked, what is deleted is overwritten."""
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "foreign_keys = ON",
        "secure_delete = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _check_schema(connection: Connection) -> None:
    metadata.create_all(connection, tables=[schema])
    found = connection.scalar(select(schema.c.version))
    if found is None:
        metadata.create_all(connection)
        connection.execute(insert(schema).values(version=SCHEMA_VERSION))
    elif found != SCHEMA_VERSION:
        raise DatabaseError(
            f"the database has schema version {found}, this service needs {SCHEMA_VERSION}; "
            "start the version that wrote it, or use another data folder"
        )


def alive(engine: Engine) -> None:
    """Write-check for the health report; raises what SQLAlchemy raises."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE IF NOT EXISTS probe (x INTEGER)"))
        connection.execute(select(schema.c.version))
