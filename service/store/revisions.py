"""How far an analysis' objects know the readers' verdicts on it: what is left to be said is to be made anew.

Verdicts are counted, not numbered: two that are stored at the same time may become visible in any order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    ForeignKey,
    Integer,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    text,
)

from service.store import database as db

revisions = Table(
    "revisions",
    db.metadata,
    Column("analysis", String(32), ForeignKey("analyses.id", ondelete="CASCADE"), primary_key=True),
    Column("verdicts", Integer, nullable=False),  # how many verdicts the objects know
    Column("said", Text, nullable=False),  # JSON: what those that count say
    Column("attempts", Integer, nullable=False),  # in vain, since then
    Column("due", String(27), nullable=False),  # of the next attempt; empty: now
    Column("problem", Text, nullable=False),  # of the last attempt; empty: none
)
_LOCK = 7304963


@dataclass(frozen=True)
class Known:
    """What an analysis' objects know of the verdicts on it."""

    verdicts: int = 0
    said: str = "{}"
    attempts: int = 0
    due: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Behind:
    """An analysis with verdicts that its objects do not know yet.

    Attributes
    ----------
    analysis : str
    verdicts : int
        How many there are in all.
    newest : str
        When the newest was given.
    attempts : int
        How often they were taken up in vain.
    due : str
        Not before this time; empty: now.
    """

    analysis: str
    verdicts: int
    newest: str
    attempts: int
    due: str


class RevisionTable:
    """Rows of `revisions`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":  # two hosts may start at the same time
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            db.metadata.create_all(connection, tables=[revisions])

    def behind(self, analyses: Iterable[str] | None = None) -> list[Behind]:
        """Completed analyses that are not superseded, with new verdicts; of these ids, or of all."""
        a, s, r = db.analyses.c, db.assessments.c, revisions.c
        known, attempts, due = func.coalesce(r.verdicts, 0), func.coalesce(r.attempts, 0), func.coalesce(r.due, "")
        query = (
            select(s.analysis, func.count().label("verdicts"), func.max(s.created).label("newest"), attempts, due)
            .select_from(db.assessments.join(db.analyses).outerjoin(revisions, r.analysis == s.analysis))
            .where(a.status == "completed", a.superseded_by.is_(None))
            .group_by(s.analysis, r.verdicts, r.attempts, r.due)
            .having(func.count() > known)
        )
        if analyses is not None:
            query = query.where(s.analysis.in_(list(analyses)))
        with self._engine.connect() as connection:
            return [Behind(*row) for row in connection.execute(query)]

    def known(self, analysis: str) -> Known:
        """What the objects of an analysis know."""
        r = revisions.c
        query = select(r.verdicts, r.said, r.attempts, r.due, r.problem).where(r.analysis == analysis)
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return Known(*row) if row else Known()

    def note(self, analysis: str, known: Known) -> None:
        """Write it down, where the analysis is still there."""
        with self._engine.begin() as connection:
            write(connection, analysis, known)


def write(connection: Connection, analysis: str, known: Known) -> None:
    """Replace what is known, where the analysis is still there."""
    connection.execute(delete(revisions).where(revisions.c.analysis == analysis))
    a = db.analyses.c
    there = select(a.id).where(a.id == analysis).with_for_update()
    if connection.scalar(there) is not None:
        connection.execute(insert(revisions).values(analysis=analysis, **vars(known)))
