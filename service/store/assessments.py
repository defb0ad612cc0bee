"""What readers say about findings: every verdict is kept, the newest of a finding counts."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import JSON, ColumnElement, Engine, cast, exists, func, insert, select, tuple_
from sqlalchemy.exc import IntegrityError

from service.errors import NotFound
from service.store import agreement, rows
from service.store import database as db

FILTERS = ("model", "version", "verdict", "reader")
_CHUNK = 500
_PLACE = re.compile(r"([0-9TZ:.-]{27}) ([0-9]{1,18})")


@dataclass(frozen=True)
class Assessment:
    """A verdict on a finding. `model`, `version`, `answered` (a class) and `decision` say what was judged."""

    id: int
    analysis: str
    finding: str
    verdict: str
    value: str | None
    reason: str | None
    reader: str | None
    account: str | None
    created: str
    model: str
    version: str | None
    answered: str | None
    decision: str | None


@dataclass(frozen=True)
class Judged:
    """A verdict with the analysis it is about; `current` where no later one is on the same finding."""

    assessment: Assessment
    current: bool
    study: str
    outcome: str | None
    finding: Mapping[str, Any]
    """Body of the finding, empty when the analysis has none of this id."""


class Assessments:
    """Rows of `database.assessments`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(
        self,
        analysis: str,
        finding: str,
        verdict: str,
        *,
        value: str | None = None,
        reason: str | None = None,
        reader: str | None = None,
        account: str | None = None,
    ) -> None:
        """Store a verdict with what the model had answered; `account` stands for `reader` where that is not given.

        Raises
        ------
        NotFound
            When there is no such analysis.
        """
        a = db.analyses.c
        try:
            with self._engine.begin() as connection:
                result = connection.scalar(select(a.result).where(a.id == analysis))
                row = {
                    "analysis": analysis,
                    "finding": finding,
                    "verdict": verdict,
                    "value": value,
                    "reason": reason,
                    "reader": reader or account,
                    "account": account,
                    "created": rows.now(),
                    **rows.answer(json.loads(result) if result else None, finding),
                }
                connection.execute(insert(db.assessments), row)
        except IntegrityError:
            raise NotFound("there is no analysis with this id; GET /api/v1/analyses lists them") from None

    def of_analysis(self, analysis: str) -> list[Assessment]:
        """All verdicts on an analysis, oldest first."""
        query = _assessments().where(db.assessments.c.analysis == analysis).order_by(db.assessments.c.id)
        with self._engine.connect() as connection:
            return [_assessment(row) for row in connection.execute(query)]

    def latest(self, analysis: str) -> dict[str, Assessment]:
        """The verdict that counts, by finding."""
        return {one.finding: one for one in self.of_analysis(analysis)}

    def page(
        self,
        filters: Mapping[str, str],
        since: str | None = None,
        until: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> tuple[list[Judged], str | None]:
        """Verdicts, newest first, and the cursor of the next page.

        Parameters
        ----------
        filters : mapping
            Exact values of some of `FILTERS`.
        since, until : str, optional
            Stored form of a time (see `rows.now`): from the first, before the second.
        cursor : str, optional
            From the page before.

        Raises
        ------
        ValueError
            When the cursor is none of ours.
        """
        s = db.assessments.c
        query = _assessments(_newest().label("current")).order_by(s.created.desc(), s.id.desc()).limit(limit + 1)
        for name, value in filters.items():
            query = query.where((db.analyses if name == "model" else db.assessments).c[name] == value)
        query = query.where(*_between(s.created, since, until))
        if cursor is not None:
            place = _PLACE.fullmatch(base64.urlsafe_b64decode(cursor.encode()).decode())
            if place is None:
                raise ValueError("this is no cursor of ours")
            query = query.where(tuple_(s.created, s.id) < (place[1], int(place[2])))
        a = db.analyses.c
        with self._engine.connect() as connection:
            found = connection.execute(query).all()
            wanted = {row.analysis for row in found[:limit]}
            about = select(a.id, a.study, a.result).where(a.id.in_(wanted))
            known = {
                row.id: (row.study, json.loads(row.result) if row.result else {}) for row in connection.execute(about)
            }
        judged = [_judged(row, *known[row.analysis]) for row in found[:limit] if row.analysis in known]
        if len(found) <= limit:
            return judged, None
        last = found[limit - 1]
        return judged, base64.urlsafe_b64encode(f"{last.created} {last.id}".encode()).decode()

    def every(self, filters: Mapping[str, str], since: str | None = None, until: str | None = None) -> Iterator[Judged]:
        """All verdicts, newest first, read in portions; for the arguments see `page`."""
        cursor = None
        while True:
            portion, cursor = self.page(filters, since, until, cursor, _CHUNK)
            yield from portion
            if cursor is None:
                return

    def agreement(
        self,
        by: agreement.Period,
        model: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> list[agreement.ModelAgreement]:
        """How far readers agree with each version of each model. Only the newest verdict of a finding counts.

        Parameters
        ----------
        by : {"day", "week", "month"}
            Length of a period, in UTC by the time of the verdict; weeks begin on Monday.
        model : str, optional
            Only this one.
        since, until : str, optional
            Stored form of a time (see `rows.now`) of the verdicts: from the first, before the second.
        """
        a, s = db.analyses.c, db.assessments.c
        day = func.substr(s.created, 1, 10).label("day")
        keys = (a.model, s.version, day, s.verdict, s.decision, s.answered, s.value)
        query = (
            select(*keys, func.count().label("n"))
            .join_from(db.assessments, db.analyses)
            .where(_newest(), *_between(s.created, since, until))
            .group_by(*keys)
            .order_by(a.model, s.version)
        )
        if model is not None:
            query = query.where(a.model == model)
        with self._engine.connect() as connection:
            counted = [agreement.Counted(**row._mapping) for row in connection.execute(query)]
        return agreement.of_models(by, counted)

    def unassessed(self, model: str | None = None, since: str | None = None, until: str | None = None) -> int:
        """How many findings of completed analyses made in this time, and not superseded, have no verdict."""
        a, s = db.analyses.c, db.assessments.c
        among = [a.status == "completed", a.superseded_by.is_(None), *_between(a.created, since, until)]
        if model is not None:
            among.append(a.model == model)
        if self._engine.dialect.name == "postgresql":
            number = func.json_array_length(cast(a.result, JSON)["findings"])
        else:
            number = func.json_array_length(a.result, "$.findings")
        judged = select(s.analysis, s.finding).join_from(db.assessments, db.analyses).where(*among).distinct()
        with self._engine.connect() as connection:
            findings = connection.scalar(select(func.coalesce(func.sum(number), 0)).where(*among))
            done = connection.scalar(select(func.count()).select_from(judged.subquery()))
        return int(findings or 0) - int(done or 0)


# -- rows -------------------------------------------------------------------------------------------------------------------


def _assessments(*more: ColumnElement[Any]) -> Any:
    return select(db.assessments, db.analyses.c.model, *more).join_from(db.assessments, db.analyses)


def _assessment(row: Any) -> Assessment:
    return Assessment(**{entry.name: getattr(row, entry.name) for entry in fields(Assessment)})


def _judged(row: Any, study: str, result: Mapping[str, Any]) -> Judged:
    finding: Mapping[str, Any] = next((f for f in result.get("findings", []) if f["id"] == row.finding), {})
    return Judged(_assessment(row), bool(row.current), study, result.get("outcome"), finding)


def _newest() -> ColumnElement[bool]:
    """No later verdict is on the same finding."""
    s, later = db.assessments.c, db.assessments.alias("later")
    return ~exists().where(later.c.analysis == s.analysis, later.c.finding == s.finding, later.c.id > s.id)


def _between(column: ColumnElement[str], since: str | None, until: str | None) -> list[ColumnElement[bool]]:
    return [*([column >= since] if since is not None else []), *([column < until] if until is not None else [])]
