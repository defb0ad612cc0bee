"""What is to be sent where: one row an object and destination, from waiting to committed, or set aside for a person."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Engine, func, select, update

from service.errors import NotFound
from service.store import database as db
from service.store.rows import now

CALLBACK = "callback"
STATES = ("waiting", "sending", "sent", "committed", "dead", "superseded")
"""`superseded`: what was to be sent, or was sent, has been replaced; it is not sent any more."""
OPEN = ("waiting", "sending")


@dataclass(frozen=True)
class Delivery:
    """One object (or one callback) on its way to one destination.

    A callback has no SOP Instance UID; there stands the revision that it tells of, nothing for the first version.
    """

    id: str
    analysis: str
    destination: str
    sop_instance_uid: str
    kind: str
    state: str
    round: int
    attempts: int
    last_error: str
    due: str
    created: str
    changed: str
    transaction: str


def row(analysis: str, destination: str, kind: str, sop_instance_uid: str = "") -> dict[str, Any]:
    """A new delivery, to be stored with what it sends."""
    moment = now()
    return {
        "id": uuid.uuid4().hex,
        "analysis": analysis,
        "destination": destination,
        "sop_instance_uid": sop_instance_uid,
        "kind": kind,
        "state": "waiting",
        "round": 0,
        "attempts": 0,
        "last_error": "",
        "due": moment,
        "created": moment,
        "changed": moment,
        "transaction": "",
    }


class Deliveries:
    """Rows of `database.deliveries`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def _find(self, *conditions: Any, limit: int = 10_000) -> list[Delivery]:
        d = db.deliveries.c
        query = select(db.deliveries).where(*conditions).order_by(d.created, d.id).limit(limit)
        with self._engine.connect() as connection:
            return [_delivery(found) for found in connection.execute(query)]

    def of_analysis(self, analysis: str) -> list[Delivery]:
        """All deliveries of an analysis."""
        return self._find(db.deliveries.c.analysis == analysis)

    def get(self, identity: str) -> Delivery:
        """One delivery; raises NotFound."""
        found = self._find(db.deliveries.c.id == identity)
        if not found:
            raise NotFound("there is no delivery with this id; GET /api/v1/deliveries lists them")
        return found[0]

    def page(self, filters: Mapping[str, str], limit: int) -> list[Delivery]:
        """Deliveries with these values of destination, state, analysis; the latest change first."""
        d = db.deliveries.c
        query = select(db.deliveries).order_by(d.changed.desc(), d.id).limit(limit)
        for name, value in filters.items():
            query = query.where(d[name] == value)
        with self._engine.connect() as connection:
            return [_delivery(found) for found in connection.execute(query)]

    def pending(self, analysis: str, destination: str) -> list[Delivery]:
        """What of an analysis is not sent yet to a destination."""
        d = db.deliveries.c
        return self._find(d.state.in_(OPEN), d.analysis == analysis, d.destination == destination)

    def due(self, moment: str) -> list[Delivery]:
        """What is to be tried at this moment, the longest waiting first."""
        d = db.deliveries.c
        return self._find(d.state.in_(OPEN), d.due <= moment, limit=1000)

    def known(self, destination: str, objects: Sequence[str]) -> set[str]:
        """Those of these SOP instances that go or went to a destination already, for whatever analysis."""
        d = db.deliveries.c
        query = select(d.sop_instance_uid).where(
            d.destination == destination, d.sop_instance_uid.in_(list(objects)), d.sop_instance_uid != ""
        )
        with self._engine.connect() as connection:
            return set(connection.scalars(query))

    def sent(self, before: str) -> list[Delivery]:
        """What was sent under a storage commitment transaction before a time and is not committed yet."""
        d = db.deliveries.c
        return self._find(d.state == "sent", d.transaction != "", d.changed < before)

    def of_transaction(self, transaction: str) -> list[Delivery]:
        """What a storage commitment transaction is about."""
        return self._find(db.deliveries.c.transaction == transaction)

    def change(self, identities: Sequence[str], states: Sequence[str] = STATES, **values: Any) -> None:
        """Write new values, with the moment of the change, where a delivery is in one of these states."""
        d = db.deliveries.c
        with self._engine.begin() as connection:
            step = update(db.deliveries).where(d.id.in_(list(identities)), d.state.in_(states))
            connection.execute(step.values(changed=now(), **values))

    def replay(self, deliveries: Sequence[Delivery]) -> int:
        """Send again what was set aside (or sent); how many are waiting now."""
        d, moment = db.deliveries.c, now()
        with self._engine.begin() as connection:
            step = update(db.deliveries).where(
                d.id.in_([one.id for one in deliveries]), d.state.in_(("dead", "sent", "committed"))
            )
            values = {"state": "waiting", "attempts": 0, "last_error": "", "due": moment, "changed": moment}
            return connection.execute(step.values(round=d.round + 1, transaction="", **values)).rowcount

    def counts(self) -> dict[tuple[str, str], int]:
        """How many deliveries of each (destination, state)."""
        d = db.deliveries.c
        query = select(d.destination, d.state, func.count()).group_by(d.destination, d.state)
        with self._engine.connect() as connection:
            return {(found[0], found[1]): found[2] for found in connection.execute(query)}


def supersede(connection: Connection, analysis: str, objects: Sequence[str]) -> set[str]:
    """Send these replaced objects no more, for whatever analysis, nor callbacks about this one that wait.

    Returns
    -------
    set of str
        Destinations that may have one of the objects: it was tried there.
    """
    d = db.deliveries.c
    about = d.sop_instance_uid.in_(list(objects))
    query = select(d.destination, d.state, d.attempts).where(about).with_for_update()
    found = connection.execute(query).all()
    unsent = (d.analysis == analysis) & (d.kind == CALLBACK) & d.state.in_((*OPEN, "dead"))
    connection.execute(update(db.deliveries).where(about | unsent).values(state="superseded", changed=now()))
    return {row.destination for row in found if row.attempts or row.state in ("sending", "sent", "committed")}


def _delivery(found: Any) -> Delivery:
    return Delivery(**{entry.name: getattr(found, entry.name) for entry in fields(Delivery)})
