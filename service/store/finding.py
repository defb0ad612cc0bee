"""Searching the archive: the database narrows by its columns, all other keys are compared row by row (PS3.18 10.6)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Engine, Row, Select, and_, func, select

from service.store import database as db
from service.store.search import CLASSES, MODALITIES, Attributes, Criterion, Query, tag

CHUNK = 500
"""Values in one IN (...)."""
_A = db.archive.c
_COLUMNS: dict[str, Any] = {
    tag("StudyInstanceUID"): _A.study_uid,
    tag("SeriesInstanceUID"): _A.series_uid,
    tag("SOPInstanceUID"): _A.sop_instance_uid,
    tag("SOPClassUID"): _A.sop_class_uid,
    tag("Modality"): _A.modality,
    tag("PatientID"): _A.patient_id,
    tag("AccessionNumber"): _A.accession_number,
    tag("StudyDate"): _A.study_date,
    tag("PatientName"): _A.patient_name,
}


@dataclass(frozen=True)
class Found:
    """One study, series or instance that a search found, with what is counted and not stored."""

    attributes: Attributes
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    study_series: int
    study_instances: int
    series_instances: int
    modalities: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """Some matches of a search; `more` tells that others follow."""

    found: tuple[Found, ...]
    more: bool


def chunks(values: Iterable[str]) -> Iterator[list[str]]:
    """Values in portions that fit one statement."""
    listed = list(values)
    for start in range(0, len(listed), CHUNK):
        yield listed[start : start + CHUNK]


def search(engine: Engine, query: Query) -> Page:
    """Matches of a query: studies newest first, series and instances by their study and number.

    Attributes of a study or series are those of one of its instances. The database narrows by what it has columns for;
    all other keys are compared with each of the rows that are left.
    """
    statement = _statement(engine, query)
    rest = [one for one in query.criteria if not _exact(one)]
    found: list[tuple[Row[Any], Attributes]] = []
    skipped = 0
    with engine.connect() as connection:
        if not rest:
            statement, skipped = statement.limit(query.limit + 1).offset(query.offset), query.offset
        with connection.execution_options(yield_per=CHUNK).execute(statement) as answer:
            for row in answer:
                attributes = json.loads(row.attributes)
                if not all(one.matches(attributes) for one in rest):
                    continue
                if skipped < query.offset:
                    skipped += 1
                    continue
                found.append((row, attributes))
                if len(found) > query.limit:
                    break
    more = len(found) > query.limit
    return Page(_counted(engine, found[: query.limit]), more)


def _statement(engine: Engine, query: Query) -> Select[Any]:
    of_study = [condition for one in query.criteria if (condition := _in_study(engine, one)) is not None]
    of_row = [condition for one in query.criteria if (condition := _narrow(one)) is not None]
    order: list[Any]
    if query.level == "instance":
        order = [_A.study_uid, _A.series_uid, func.coalesce(_A.instance_number, 1 << 30), _A.sop_instance_uid]
        return select(db.archive).where(*of_study, *of_row).order_by(*order)
    keys = [_A.study_uid] if query.level == "study" else [_A.study_uid, _A.series_uid]
    some = select(keys[-1]).where(*of_row)
    first = (
        select(func.min(_A.sop_instance_uid).label("uid"))
        .where(*of_study, *([keys[-1].in_(some)] if of_row else []))
        .group_by(*keys)
        .subquery()
    )
    order = [_A.study_date.desc(), _A.study_uid] if query.level == "study" else [_A.study_uid, _A.series_uid]
    # `of_row` again: what narrows must hold for the row whose attributes are answered
    return select(db.archive).join(first, first.c.uid == _A.sop_instance_uid).where(*of_row).order_by(*order)


def _in_study(engine: Engine, one: Criterion) -> ColumnElement[bool] | None:
    """Keys that hold for a study when any of its instances has the value."""
    if one.path == (CLASSES,):
        return _A.study_uid.in_(select(_A.study_uid).where(_A.sop_class_uid.in_(one.uids)))
    if one.path == (MODALITIES,):
        with engine.connect() as connection:
            known = connection.scalars(select(_A.modality).distinct()).all()
        wanted = [modality for modality in known if one.accepts(modality)]
        return _A.study_uid.in_(select(_A.study_uid).where(_A.modality.in_(wanted)))
    return None


def _counted(engine: Engine, found: Sequence[tuple[Row[Any], Attributes]]) -> tuple[Found, ...]:
    studies = dict.fromkeys(row.study_uid for row, _ in found)
    of_series: dict[tuple[str, str], int] = {}
    modalities: dict[str, set[str]] = {study: set() for study in studies}
    classes: dict[str, set[str]] = {study: set() for study in studies}
    keys = (_A.study_uid, _A.series_uid, _A.modality, _A.sop_class_uid)
    with engine.connect() as connection:
        for some in chunks(studies):
            query = select(*keys, func.count().label("n")).where(_A.study_uid.in_(some)).group_by(*keys)
            for row in connection.execute(query):
                pair = (row.study_uid, row.series_uid)
                of_series[pair] = of_series.get(pair, 0) + row.n
                modalities[row.study_uid].add(row.modality)
                classes[row.study_uid].add(row.sop_class_uid)
    series, instances = dict.fromkeys(studies, 0), dict.fromkeys(studies, 0)
    for (study, _), count in of_series.items():
        series[study] += 1
        instances[study] += count
    return tuple(
        Found(
            attributes,
            row.study_uid,
            row.series_uid,
            row.sop_instance_uid,
            series.get(row.study_uid, 0),
            instances.get(row.study_uid, 0),
            of_series.get((row.study_uid, row.series_uid), 0),
            tuple(sorted(filter(None, modalities[row.study_uid]))),
            tuple(sorted(filter(None, classes[row.study_uid]))),
        )
        for row, attributes in found
    )


def _exact(one: Criterion) -> bool:
    """Whether the database alone decides this key."""
    return one.path in ((MODALITIES,), (CLASSES,)) or (one.vr == "UI" and one.path[0] in _COLUMNS)


def _narrow(one: Criterion) -> ColumnElement[bool] | None:
    """A condition that every row holds which matches the key; None where there is no column for it."""
    column = _COLUMNS.get(one.path[0]) if len(one.path) == 1 else None
    if column is None:
        return None
    result: ColumnElement[bool] | None = None
    if one.vr == "UI":
        result = column.in_(one.uids)
    elif one.vr == "DA":
        first, hyphen, last = (one.text[:-1], "-", "") if one.text.endswith("-") else one.text.partition("-")
        bounds = [column >= first, *([column <= last] if last else [])]
        result = and_(*bounds) if hyphen else column == first
    elif one.vr == "PN":
        if one.text.isascii() and not one.fuzzy and "=" not in one.text:
            result = func.lower(column).like(f"%{_like(one.text.strip('^ *').lower())}%", escape="\\")
    elif one.wild:
        result = column.like(_like(one.text.strip()), escape="\\")
    elif len(one.text) <= 64:
        result = column == one.text.strip()
    return result


def _like(text: str) -> str:
    """A pattern with * and ? as one of SQL's LIKE."""
    for sign in "\\%_":
        text = text.replace(sign, "\\" + sign)
    return text.replace("*", "%").replace("?", "_")
