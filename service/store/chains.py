"""Which analysis replaced which: a chain that stays whole when one of it is deleted. All inside the caller's transaction."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from service.store import database as db


def newest(connection: Connection, identity: str | None) -> str | None:
    """The newest analysis that replaced this one, or itself; None when it is gone. It is locked until the transaction ends."""
    a, found = db.analyses.c, None
    while identity is not None:
        row = connection.execute(select(a.superseded_by).where(a.id == identity).with_for_update()).first()
        if row is None:
            break
        found, identity = identity, row.superseded_by
    return found


def rejoin(connection: Connection, identity: str, before: str | None, after: str | None) -> None:
    """Join the one that a deleted analysis replaced with the one that replaced it."""
    a = db.analyses.c
    older = update(db.analyses).where(a.id == before, a.superseded_by == identity)
    newer = update(db.analyses).where(a.id == after, a.supersedes == identity)
    connection.execute(older.values(superseded_by=after))
    connection.execute(newer.values(supersedes=before))


def hand_on(connection: Connection, identity: str) -> None:
    """Deliveries of objects that the successor made again are its own now: they are not planned twice."""
    a, d, link = db.analyses.c, db.deliveries.c, db.analysis_objects.c
    heir = select(a.superseded_by).where(a.id == identity).scalar_subquery()
    shared = select(link.sop_instance_uid).where(link.analysis == heir)
    step = update(db.deliveries).where(d.analysis == identity, d.sop_instance_uid.in_(shared))
    connection.execute(step.values(analysis=heir))
