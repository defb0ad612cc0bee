"""Who is told about work items, and what: subscriptions and event reports (PS3.4 CC.2.3, CC.2.4).

Event reports are written in the transaction of the change that they tell of, one row a subscriber, and kept for a day.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from pydicom.datadict import dictionary_VR
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    text,
    update,
)

from service.errors import NotFound
from service.store import database as db
from service.store.moments import criterion
from service.store.rows import now
from service.store.search import Attributes, Criterion, tag, values

WORKLIST, FILTERED = "1.2.840.10008.5.1.4.34.5", "1.2.840.10008.5.1.4.34.5.1"
"""UPS Global Subscription and UPS Filtered Global Subscription SOP Instance (PS3.6 table A-1)."""
GLOBAL = (WORKLIST, FILTERED)
PUSH = "1.2.840.10008.5.1.4.34.6.1"
"""UPS Push SOP Class: that of every work item."""
KEEP = timedelta(days=1)

STATE_REPORT, CANCEL_REQUESTED, PROGRESS_REPORT, ASSIGNED = 1, 2, 3, 5
"""Event Type IDs of table CC.2.4-1."""

events = Table(
    "workitem_events",
    db.metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("subscriber", String(64), nullable=False),
    Column("body", Text, nullable=False),  # JSON: DICOM JSON Model of the event report, without its Message ID
    Column("created", String(27), nullable=False),
    Index("workitem_events_by_subscriber", "subscriber", "id"),
    Index("workitem_events_by_time", "created"),
)
filters = Table(  # the matching keys of filtered global subscriptions
    "subscription_filters",
    db.metadata,
    Column("subscriber", String(64), primary_key=True),
    Column("criteria", Text, nullable=False),  # JSON: [[path, text], ...]
)

_S, _W = db.subscriptions.c, db.workitems.c


def attribute(keyword: str, *found: Any) -> dict[str, Any]:
    """One attribute in the DICOM JSON Model, by its tag; empty without values."""
    vr = dictionary_VR(keyword)
    return {tag(keyword): {"vr": vr, "Value": list(found)} if found else {"vr": vr}}


def code(value: str, scheme: str, meaning: str) -> dict[str, Any]:
    """An item of a code sequence."""
    coded = {**attribute("CodeValue", value), **attribute("CodingSchemeDesignator", scheme)}
    return {**coded, **attribute("CodeMeaning", meaning)}


def items(dataset: Attributes, *keywords: str) -> list[Any]:
    """All values at a path of keywords, those of every item where it leads through sequences."""
    return list(values(dataset, tuple(tag(keyword) for keyword in keywords)))


def first(dataset: Attributes, *keywords: str) -> Any:
    """The first value at a path of keywords, or None."""
    return next(values(dataset, tuple(tag(keyword) for keyword in keywords)), None)


# -- event reports ----------------------------------------------------------------------------------------------------------


def report(uid: str, kind: int, *parts: Mapping[str, Any]) -> dict[str, Any]:
    """An event report about a work item (PS3.18 11.13)."""
    head = {**attribute("AffectedSOPClassUID", PUSH), **attribute("AffectedSOPInstanceUID", uid)}
    whole = {**head, **attribute("EventTypeID", kind)}
    for part in parts:
        whole |= part
    return dict(sorted(whole.items()))


def picked(dataset: Attributes, *keywords: str) -> dict[str, Any]:
    """Those attributes that the data set has."""
    return {tag(keyword): dataset[tag(keyword)] for keyword in keywords if tag(keyword) in dataset}


def state_report(uid: str, dataset: Attributes) -> dict[str, Any]:
    """The state of a work item as it is."""
    progress = first(dataset, "ProcedureStepProgressInformationSequence") or {}
    reasons = picked(progress, "ReasonForCancellation", "ProcedureStepDiscontinuationReasonCodeSequence")
    return report(uid, STATE_REPORT, picked(dataset, "ProcedureStepState", "InputReadinessState"), reasons)


def reports(uid: str, before: Attributes | None, after: Attributes) -> list[dict[str, Any]]:
    """What subscribers are told of a change; `before` None: the work item is new (PS3.4 CC.2.4.3)."""

    def changed(*paths: tuple[str, ...]) -> bool:
        return any(items(before or {}, *path) != items(after, *path) for path in paths)

    made = []
    if changed(("ProcedureStepState",), ("InputReadinessState",)):
        made.append(state_report(uid, after))
    if changed(("ScheduledStationNameCodeSequence",), ("ScheduledHumanPerformersSequence",)):
        human = first(after, "ScheduledHumanPerformersSequence") or {}
        performer = picked(human, "HumanPerformerCodeSequence", "HumanPerformerOrganization")
        made.append(report(uid, ASSIGNED, picked(after, "ScheduledStationNameCodeSequence"), performer))
    progress = "ProcedureStepProgressInformationSequence"
    if changed(
        (progress, "ProcedureStepProgress"),
        (progress, "ProcedureStepProgressDescription"),
        (progress, "ProcedureStepCommunicationsURISequence"),
    ):
        made.append(report(uid, PROGRESS_REPORT, picked(after, progress)))
    return made


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that changes work items. One at a time, so that event reports are numbered in the order they appear.

    SQLite has one writer anyway; the first statement must write, so that the transaction begins there.
    """
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(7304962)"))
        yield connection


def tell(connection: Connection, uid: str, made: Sequence[Mapping[str, Any]]) -> int:
    """Give event reports to all who are subscribed to a work item; how many those are."""
    told = list(connection.scalars(select(_S.subscriber).where(_S.workitem == uid).order_by(_S.subscriber)))
    _write(connection, [(subscriber, body) for body in made for subscriber in told])
    return len(told)


def _write(connection: Connection, made: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    moment = now()
    rows = [{"subscriber": one, "body": json.dumps(body), "created": moment} for one, body in made]
    if rows:
        connection.execute(delete(events).where(events.c.created < _before(KEEP)))
        connection.execute(insert(events), rows)


def _before(age: timedelta) -> str:
    return (datetime.now(UTC) - age).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def inherit(connection: Connection, uid: str, dataset: Attributes) -> None:
    """Subscribe to a new work item those who subscribed to all, or to all that match."""
    query = select(_S.workitem, _S.subscriber, _S.deletion_lock).where(_S.workitem.in_(GLOBAL))
    for target, subscriber, lock in connection.execute(query).all():
        if target == WORKLIST or all(one.matches(dataset) for one in _kept(connection, subscriber)):
            db.add_new(connection, db.subscriptions, [_row(uid, subscriber, bool(lock))])


def _kept(connection: Connection, subscriber: str) -> list[Criterion]:
    kept = connection.scalar(select(filters.c.criteria).where(filters.c.subscriber == subscriber))
    return [criterion(tuple(path), sought) for path, sought in json.loads(kept or "[]")]


def _row(target: str, subscriber: str, lock: bool) -> dict[str, Any]:
    return {"workitem": target, "subscriber": subscriber, "deletion_lock": int(lock), "created": now()}


# -- subscriptions ----------------------------------------------------------------------------------------------------------


class Subscriptions:
    """Rows of `database.subscriptions` and the event reports of each subscriber (state table CC.2.3-2)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def subscribe(self, target: str, subscriber: str, lock: bool, keys: Sequence[Criterion] = ()) -> None:
        """Subscribe an AE to a work item, to all, or to all that match.

        Parameters
        ----------
        target : str
            UID of a work item, `WORKLIST` or `FILTERED`.
        subscriber : str
            AE title.
        lock : bool
            The work items stay until the subscription ends.
        keys : sequence of Criterion
            With `FILTERED`.

        Raises
        ------
        NotFound
            When there is no such work item.
        """
        with writing(self._engine) as connection:
            same = (_S.workitem == target, _S.subscriber == subscriber)
            connection.execute(delete(db.subscriptions).where(*same))
            connection.execute(insert(db.subscriptions), _row(target, subscriber, lock))
            if target not in GLOBAL:
                found = connection.scalar(select(_W.dataset).where(_W.uid == target))
                if found is None:
                    raise NotFound("there is no work item with this UID")
                _write(connection, [(subscriber, state_report(target, json.loads(found)))])
                return
            if target == FILTERED:
                connection.execute(delete(filters).where(filters.c.subscriber == subscriber))
                kept = json.dumps([[one.path, one.text] for one in keys])
                connection.execute(insert(filters), {"subscriber": subscriber, "criteria": kept})
            self._to_all(connection, subscriber, lock, keys)

    def _to_all(self, connection: Connection, subscriber: str, lock: bool, keys: Sequence[Criterion]) -> None:
        own = select(_S.workitem).where(_S.subscriber == subscriber)
        for uid, stored in connection.execute(select(_W.uid, _W.dataset).where(_W.uid.not_in(own))).all():
            dataset = json.loads(stored)
            if all(one.matches(dataset) for one in keys):
                db.add_new(connection, db.subscriptions, [_row(uid, subscriber, lock)])
                if lock:
                    _write(connection, [(subscriber, state_report(uid, dataset))])

    def unsubscribe(self, target: str, subscriber: str) -> None:
        """End a subscription; a global one with all that came from it. Raises NotFound."""
        with writing(self._engine) as connection:
            self._drop(connection, target, subscriber)
            rest = select(_S.workitem).where(_S.subscriber == subscriber, _S.workitem.in_(GLOBAL))
            if target in GLOBAL and not connection.scalars(rest).all():
                connection.execute(delete(db.subscriptions).where(_S.subscriber == subscriber))

    def suspend(self, target: str, subscriber: str) -> None:
        """No longer subscribe an AE to new work items; what it is subscribed to stays. Raises NotFound."""
        with writing(self._engine) as connection:
            self._drop(connection, target, subscriber)

    def _drop(self, connection: Connection, target: str, subscriber: str) -> None:
        step = delete(db.subscriptions).where(_S.workitem == target, _S.subscriber == subscriber)
        if connection.execute(step).rowcount == 0:
            raise NotFound("there is no such subscription")
        if target == FILTERED:
            connection.execute(delete(filters).where(filters.c.subscriber == subscriber))

    def tell(self, uid: str, *made: Mapping[str, Any]) -> int:
        """Give event reports to all who are subscribed to a work item; how many those are."""
        with writing(self._engine) as connection:
            connection.execute(update(db.workitems).where(_W.uid == uid).values(uid=uid))
            return tell(connection, uid, made)

    def events(self, subscriber: str, after: int = 0, most: int = 100) -> list[tuple[int, dict[str, Any]]]:
        """Event reports of a subscriber by number, those behind `after`."""
        e = events.c
        query = select(e.id, e.body).where(e.subscriber == subscriber, e.id > after).order_by(e.id).limit(most)
        with self._engine.connect() as connection:
            return [(row.id, json.loads(row.body)) for row in connection.execute(query)]
