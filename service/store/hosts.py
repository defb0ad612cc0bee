"""Hosts that work on one database, by their signs of life."""

from __future__ import annotations

from sqlalchemy import Engine, delete, select, update

from service.store import database as db
from service.store.rows import now


class Hosts:
    """Rows of `database.hosts`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def beat(self, host: str) -> None:
        """Note a sign of life of a host."""
        with self._engine.begin() as connection:
            known = connection.execute(update(db.hosts).where(db.hosts.c.id == host).values(seen=now()))
            if known.rowcount == 0:
                db.add_new(connection, db.hosts, [{"id": host, "seen": now()}])

    def seen(self) -> dict[str, str]:
        """The latest sign of life of every host; whose clock wrote it is not known."""
        with self._engine.connect() as connection:
            return {row.id: row.seen for row in connection.execute(select(db.hosts))}

    def forget(self, host: str, seen: str) -> None:
        """Drop a host that gave no sign of life since."""
        with self._engine.begin() as connection:
            connection.execute(delete(db.hosts).where(db.hosts.c.id == host, db.hosts.c.seen == seen))
