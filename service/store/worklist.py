"""The worklist: studies with their series, what still arrives and what was answered, the latest event first.

A page reads its own rows only; what narrows is decided by the database, from the tables of `store.entries`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, exists, func, or_, select, tuple_

from service.store import database as db
from service.store import entries as kept

STATUSES = ("queued", "running", "completed", "failed")
"""Of analyses."""
ARRIVING, NONE = "arriving", "none"
"""Further values of the filter: images are still awaited, and nothing was analysed."""
LONGEST_SEARCH = 256
MOST_WORDS = 8
_ID = re.compile(r"[0-9a-f]{4,32}")
_PLACE = re.compile(r"([0-9TZ:.-]{27}) ([0-9a-z.:-]{1,80})")
_E, _N, _A = kept.entries.c, kept.answers.c, db.analyses.c


@dataclass(frozen=True)
class Wanted:
    """What narrows the list. `status`, `outcome` and `model` are of one and the same analysis that is not superseded."""

    words: tuple[str, ...] = ()
    """Each stands in the patient's name or ID, accession number, description or UID of the study, or begins an analysis' id."""
    status: str | None = None
    """Of an analysis, or `ARRIVING`, or `NONE`."""
    outcome: str | None = None
    model: str | None = None
    modality: str | None = None
    since: str | None = None
    until: str | None = None
    """Times as they are stored: the latest event lies at or after the first and before the second."""


@dataclass(frozen=True)
class ListedSeries:
    """A series of images."""

    series: str
    modality: str
    description: str
    instances: int


@dataclass(frozen=True)
class ArrivingSeries:
    """A series that is not complete."""

    series: str
    modality: str
    instances: int
    waiting_for: str


@dataclass(frozen=True)
class ListedAnalysis:
    """An analysis in few words. `answer` is its digest (see `entries.digest`), `error` a problem object."""

    id: str
    status: str
    outcome: str | None
    created: str
    model: str
    series: str
    supersedes: str | None
    superseded_by: str | None
    files: int
    answer: dict[str, Any]
    error: dict[str, Any] | None
    assessed: int
    rejected: int


@dataclass(frozen=True)
class Entry:
    """A study, or a photograph that has none."""

    key: str
    study: str | None
    changed: str
    name: str
    patient: str
    birth_date: str
    sex: str
    study_date: str
    study_time: str
    description: str
    accession: str
    series: tuple[ListedSeries, ...] = ()
    arriving: tuple[ArrivingSeries, ...] = ()
    analyses: tuple[ListedAnalysis, ...] = field(default=())
    """Newest first. Superseded ones are left out unless there is no other; then it is the newest of them."""


class Worklist:
    """Reads the tables of `store.entries`, which it brings up to date when it is opened."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        with engine.begin() as connection:
            kept.prepare(connection)

    def page(self, wanted: Wanted, cursor: str | None = None, limit: int = 50) -> tuple[list[Entry], str | None]:
        """Entries, the latest event first, and the cursor of the next page.

        Raises
        ------
        ValueError
            When the cursor is none of ours.
        """
        lite = self._engine.dialect.name == "sqlite"
        query = select(kept.entries).where(*_conditions(wanted, lite)).order_by(_E.changed.desc(), _E.key.desc())
        if cursor is not None:
            place = _PLACE.fullmatch(base64.urlsafe_b64decode(cursor.encode()).decode())
            if place is None:
                raise ValueError("this is no cursor of ours")
            query = query.where(tuple_(_E.changed, _E.key) < (place[1], place[2]))
        with self._engine.connect() as connection:
            found = connection.execute(query.limit(limit + 1)).all()
            listed = _whole(connection, found[:limit])
        if len(found) <= limit:
            return listed, None
        last = listed[-1]
        return listed, base64.urlsafe_b64encode(f"{last.changed} {last.key}".encode()).decode()

    def holds(self, series: str) -> bool:
        """Whether a series is one of images that came here: no result, report or mark."""
        query = select(kept.series.c.series_uid).where(kept.series.c.series_uid == series)
        with self._engine.connect() as connection:
            return connection.scalar(query) is not None


def words(text: str) -> tuple[str, ...]:
    """The words of a search, without case; `^` and `=` separate as blanks do."""
    return tuple(dict.fromkeys(text.replace("^", " ").replace("=", " ").casefold().split()))


# -- which entries ----------------------------------------------------------------------------------------------------------


def _conditions(wanted: Wanted, lite: bool) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for word in wanted.words:
        named = _E.words.contains(word, autoescape=True)
        if _ID.fullmatch(word):
            ids = select(_N.key).where(_N.analysis >= word, _N.analysis <= f"{word:f<32}")
            named = or_(named, _E.key.in_(ids))
        found.append(named)
    if wanted.since is not None:
        found.append(_E.changed >= wanted.since)
    if wanted.until is not None:
        found.append(_E.changed < wanted.until)
    if wanted.modality is not None:
        s = kept.series.c
        found.append(exists().where(s.study_uid == _E.key, s.modality == wanted.modality))
    if wanted.status == ARRIVING:
        found.append(_E.key.in_(select(db.series.c.study_uid).where(db.series.c.state == "open")))
    if wanted.status == NONE:
        found.append(~exists().where(_N.key == _E.key))
    return [*found, *_of_analysis(wanted, lite)]


def _of_analysis(wanted: Wanted, lite: bool) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.status in STATUSES:
        # SQLite would go through all analyses with this status for each entry; an expression has no index
        conditions.append((_A.status.concat("") if lite else _A.status) == wanted.status)
    if wanted.model is not None:
        conditions.append(_A.model == wanted.model)
    if wanted.outcome is not None:
        conditions.append(_N.outcome == wanted.outcome)
    if not conditions:
        return []
    return [exists().where(_N.key == _E.key, _A.id == _N.analysis, _A.superseded_by.is_(None), *conditions)]


# -- what stands in them ----------------------------------------------------------------------------------------------------


def _whole(connection: Connection, found: Sequence[Any]) -> list[Entry]:
    keys = [row.key for row in found]
    series, arriving = _series(connection, keys)
    analyses = _analyses(connection, keys)
    names = ("key", "study", "changed", *kept.FIELDS)
    return [
        Entry(
            **{name: getattr(row, name) for name in names},
            series=tuple(series.get(row.key, ())),
            arriving=tuple(arriving.get(row.key, ())),
            analyses=_current(analyses.get(row.key, [])),
        )
        for row in found
    ]


def _current(analyses: Sequence[ListedAnalysis]) -> tuple[ListedAnalysis, ...]:
    return tuple(one for one in analyses if one.superseded_by is None) or tuple(analyses[:1])


def _series(
    connection: Connection, studies: Sequence[str]
) -> tuple[dict[str, list[ListedSeries]], dict[str, list[ArrivingSeries]]]:
    s, o = kept.series.c, db.series.c
    images = select(kept.series).where(s.study_uid.in_(studies)).order_by(s.modality, s.series_uid)
    open_ones = select(db.series).where(o.state == "open", o.study_uid.in_(studies)).order_by(o.first, o.series_uid)
    listed, awaited = connection.execute(images).all(), connection.execute(open_ones).all()
    a = db.archive.c
    counts = _counted(connection, a.series_uid, {row.series_uid for row in [*listed, *awaited]})
    series: dict[str, list[ListedSeries]] = {}
    for row in listed:
        one = ListedSeries(row.series_uid, row.modality, row.description, counts.get(row.series_uid, 0))
        series.setdefault(row.study_uid, []).append(one)
    arriving: dict[str, list[ArrivingSeries]] = {}
    for row in awaited:
        waiting = ArrivingSeries(row.series_uid, row.modality, counts.get(row.series_uid, 0), row.reason)
        arriving.setdefault(row.study_uid, []).append(waiting)
    return series, arriving


def _analyses(connection: Connection, keys: Sequence[str]) -> dict[str, list[ListedAnalysis]]:
    columns = (_A.id, _A.status, _A.created, _A.model, _A.series, _A.error, _A.supersedes, _A.superseded_by)
    query = (
        select(*columns, _N.key, _N.outcome, _N.digest)
        .join_from(kept.answers, db.analyses)
        .where(_N.key.in_(keys))
        .order_by(_A.created.desc(), _A.id.desc())
    )
    found = connection.execute(query).all()
    identities = [row.id for row in found]
    files = _counted(connection, db.analysis_instances.c.analysis, identities)
    verdicts = _verdicts(connection, identities)
    analyses: dict[str, list[ListedAnalysis]] = {}
    for row in found:
        judged = list(verdicts.get(row.id, {}).values())
        one = ListedAnalysis(
            row.id,
            row.status,
            row.outcome,
            row.created,
            row.model,
            row.series,
            row.supersedes,
            row.superseded_by,
            files.get(row.id, 0),
            json.loads(row.digest),
            json.loads(row.error) if row.error else None,
            len(judged),
            judged.count("rejected"),
        )
        analyses.setdefault(row.key, []).append(one)
    return analyses


def _counted(connection: Connection, column: ColumnElement[str], values: Iterable[str]) -> dict[str, int]:
    query = select(column, func.count()).where(column.in_(list(values))).group_by(column)
    return {row[0]: row[1] for row in connection.execute(query)}


def _verdicts(connection: Connection, analyses: Sequence[str]) -> dict[str, dict[str, str]]:
    """The newest verdict on each finding of these analyses."""
    v = db.assessments.c
    found: dict[str, dict[str, str]] = {}
    query = select(v.analysis, v.finding, v.verdict).where(v.analysis.in_(analyses)).order_by(v.id)
    for row in connection.execute(query):
        found.setdefault(row.analysis, {})[row.finding] = row.verdict
    return found
