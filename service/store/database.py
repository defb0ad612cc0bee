"""The database: tables, connection settings, schema version. SQLite in WAL mode by default, PostgreSQL across hosts."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
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
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import SQLAlchemyError

from service.store.upgrade import NEWEST, upgrade

SCHEMA_VERSION = NEWEST
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
    Column("door", String(8), nullable=False, default="http"),
    Column("supersedes", String(32)),
    Column("superseded_by", String(32)),
    Column("revision", Integer, nullable=False, default=0, server_default="0"),  # how often its objects were made anew
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
    Column("reader", Text),  # who judged, as the sender says
    Column("account", Text),  # name of the token it came with
    Column("version", Text),  # of the model that had answered
    Column("answered", Text),  # its class
    Column("decision", Text),  # positive | negative, at the operating point
    Column("created", String(27), nullable=False),
    Index("assessments_by_time", "created", "id"),
)

archive = Table(  # the DICOM view: what QIDO-RS finds and WADO-RS gives, sources and results alike
    "archive",
    metadata,
    Column("sop_instance_uid", String(64), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("modality", String(16), nullable=False),
    Column("patient_id", String(64), nullable=False),
    Column("patient_name", Text, nullable=False),  # all component groups, as received
    Column("study_date", String(8), nullable=False),
    Column("study_time", String(16), nullable=False),
    Column("accession_number", String(64), nullable=False),
    Column("instance_number", Integer),
    Column("frames", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("attributes", Text, nullable=False),  # JSON: DICOM JSON Model of what a search returns
    Column("origin", String(8), nullable=False),  # dimse | stow | http | result
    Column("sender", String(64), nullable=False),
    Column("association", String(64), nullable=False),
    Column("received", String(27), nullable=False),
    Column("analysis", String(32)),  # of a result
    Column("kind", String(3)),  # SR, SEG, PM, SC, KOS of a result, RN of a rejection note
    Index("archive_by_series", "series_uid"),
    Index("archive_by_study", "study_uid"),
    Index("archive_by_patient", "patient_id"),
    Index("archive_by_date", "study_date"),
    Index("archive_by_analysis", "analysis"),
    Index("archive_by_content", "sha256"),
)

rejected = Table(  # what came in and could not be filed; kept for a person to look at
    "rejected",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("received", String(27), nullable=False),
    Column("sender", String(64), nullable=False),
    Column("reason", Text, nullable=False),
)

analysis_objects = Table(  # two analyses of the same images share their objects
    "analysis_objects",
    metadata,
    Column("analysis", String(32), ForeignKey("analyses.id", ondelete="CASCADE"), primary_key=True),
    Column("sop_instance_uid", String(64), primary_key=True),
    Index("analysis_objects_by_uid", "sop_instance_uid"),
)

series = Table(  # series that came through a DICOM door, on their way to an analysis
    "series",
    metadata,
    Column("series_uid", String(64), primary_key=True),
    Column("study_uid", String(64), nullable=False),
    Column("modality", String(16), nullable=False),
    Column("first", String(27), nullable=False),
    Column("last", String(27), nullable=False),
    Column("state", String(12), nullable=False),  # open | answered | ignored
    Column("reason", Text, nullable=False),  # why it is in this state, or what it waits for
    Column("fingerprint", String(64), nullable=False),  # of the instances of the last analysis
    Column("analysis", String(32)),
    Index("series_by_state", "state", "last"),
)

associations = Table(  # who is sending now and who has finished
    "associations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("opened", String(27), nullable=False),
    Column("closed", String(27)),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("analysis", String(32), ForeignKey("analyses.id", ondelete="CASCADE"), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("sop_instance_uid", String(64), nullable=False),  # of a callback empty, or "revision n"
    Column("kind", String(8), nullable=False),  # SR, SEG, ... or callback
    Column("state", String(12), nullable=False),  # waiting | sending | sent | committed | dead | superseded
    Column("round", Integer, nullable=False, default=0),  # one more each time a person sends it again
    Column("attempts", Integer, nullable=False, default=0),
    Column("last_error", Text, nullable=False, default=""),
    Column("due", String(27), nullable=False),
    Column("created", String(27), nullable=False),
    Column("changed", String(27), nullable=False),
    Column("transaction", String(64), nullable=False, default=""),  # of a storage commitment request
    Index("deliveries_by_state", "state", "due"),
    Index("deliveries_by_analysis", "analysis"),
    Index("deliveries_once", "destination", "sop_instance_uid", "analysis", unique=True),
)

workitems = Table(  # UPS-RS (PS3.18 chapter 11)
    "workitems",
    metadata,
    Column("uid", String(64), primary_key=True),
    Column("state", String(16), nullable=False),  # SCHEDULED | IN PROGRESS | COMPLETED | CANCELED
    Column("transaction", String(64), nullable=False, default=""),
    Column("dataset", Text, nullable=False),  # JSON: DICOM JSON Model
    Column("analysis", String(32)),
    Column("created", String(27), nullable=False),
    Column("changed", String(27), nullable=False),
    Index("workitems_by_state", "state"),
    Index("workitems_by_analysis", "analysis"),
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("workitem", String(64), primary_key=True),  # a UID, or a well-known one
    Column("subscriber", String(64), primary_key=True),
    Column("deletion_lock", Integer, nullable=False),
    Column("created", String(27), nullable=False),
)


hosts = Table(  # who works on this database: a host whose heartbeat stopped has its work taken over
    "hosts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("seen", String(27), nullable=False),
)


class DatabaseError(Exception):
    """The database cannot be used; the message says why and what to do."""


def open_database(place: str | Path) -> Engine:
    """Open or create the database; bring an older schema up to date.

    Parameters
    ----------
    place : str or Path
        A URL, ``postgresql+psycopg://...`` or ``sqlite:///FILE``, or the file itself.

    Raises
    ------
    DatabaseError
        When it cannot be reached, is no database of ours, or was written by a newer version.
    """
    url = f"sqlite:///{place}" if isinstance(place, Path) else place
    try:
        pool: dict[str, Any] = {} if url.startswith("sqlite") else {"pool_pre_ping": True, "pool_size": 20}
        engine = create_engine(url, hide_parameters=True, **pool)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise DatabaseError("the setting database is no URL that can be used; see docs/configuration.md") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare)
    name = Path(engine.url.database or "").name
    try:
        with engine.begin() as connection:
            _check_schema(connection)
    except SQLAlchemyError as error:
        engine.dispose()
        raise DatabaseError(
            f"database {name} cannot be opened ({type(error).__name__}); check that it can be reached, or restore a backup"
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
    if connection.dialect.name == "postgresql":  # two hosts may start at the same time
        connection.execute(text("SELECT pg_advisory_xact_lock(7304961)"))
    metadata.create_all(connection, tables=[schema])
    found = connection.scalar(select(schema.c.version))
    if found is None:
        metadata.create_all(connection)
        connection.execute(insert(schema).values(version=SCHEMA_VERSION))
    elif 1 <= found < SCHEMA_VERSION:
        upgrade(connection, found)
        metadata.create_all(connection)
        connection.execute(update(schema).values(version=SCHEMA_VERSION))
    elif found != SCHEMA_VERSION:
        raise DatabaseError(
            f"the database has schema version {found}, this service needs {SCHEMA_VERSION}; "
            "start the version that wrote it, or use another data folder"
        )


def add_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows; those whose key is there already are left out."""
    if not rows:
        return
    make = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
    connection.execute(make(table).on_conflict_do_nothing(), [dict(row) for row in rows])


def alive(engine: Engine) -> None:
    """Write-check for the health report; raises what SQLAlchemy raises."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE IF NOT EXISTS probe (x INTEGER)"))
        connection.execute(select(schema.c.version))
