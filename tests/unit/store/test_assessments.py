"""Verdicts: all are kept, the newest of a finding counts, and agreement is counted as by hand; on both databases."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
import sqlalchemy
from scipy.stats import binomtest

from service.errors import NotFound
from service.records import Instance
from service.store import agreement
from service.store import database as db
from service.store.agreement import Tally
from service.store.analyses import Store

Make = Callable[..., Instance]
Complete = Callable[..., str]


def finding(
    name: str, probabilities: dict[str, float], decision: str, grade: int | None = None, origin: str | None = None
) -> dict[str, Any]:
    return {
        "id": name,
        "label": f"label of {name}",
        "probabilities": probabilities,
        "operating_point": {"decision": decision, "score": probabilities.get("malignant", 0.7)},
        "location": {"origin": origin} if origin else {},
        **({} if grade is None else {"grade": grade}),
    }


NODULES = [
    finding("n1", {"benign": 0.2, "malignant": 0.8}, "positive", origin="candidate"),
    finding("n2", {"benign": 0.9, "malignant": 0.1}, "negative", origin="request"),
]
EYE = [finding("eye", {"0": 0.1, "1": 0.2, "2": 0.3, "3": 0.29, "4": 0.11}, "positive", grade=2)]


@pytest.fixture
def complete(store: Store, make: Make) -> Complete:
    """An analysis that is completed with these findings."""

    def run(findings: list[dict[str, Any]], model: str = "sisc_lung", version: str = "1.0", **more: Any) -> str:
        identity = store.accept(model=model, instances=[make(b"x")], request={}, **more)
        store.begin(identity)
        store.complete(
            identity, {"outcome": "positive", "model": {"name": model, "version": version}, "findings": findings}
        )
        return identity

    return run


def date_back(store: Store, **moments: str) -> None:
    """Move verdicts, named v<id>, to another time."""
    with store._engine.begin() as connection:
        for name, moment in moments.items():
            step = sqlalchemy.update(db.assessments).where(db.assessments.c.id == int(name[1:]))
            connection.execute(step.values(created=moment))


def test_history_is_kept_oldest_first_and_the_newest_counts(store: Store, complete: Complete) -> None:
    one, other = complete(NODULES), complete(EYE, "clear_dr", "2.0")
    store.assessments.add(one, "n1", "rejected", reason="scar", reader="Dr. A")
    store.assessments.add(one, "n2", "accepted", account="ward-3")
    store.assessments.add(one, "n1", "modified", value="benign", reader="Dr. B", account="ward-3")
    store.assessments.add(other, "eye", "accepted")
    found = store.assessments.of_analysis(one)
    assert [(a.finding, a.verdict, a.value, a.reason, a.reader, a.account) for a in found] == [
        ("n1", "rejected", None, "scar", "Dr. A", None),
        ("n2", "accepted", None, None, "ward-3", "ward-3"),
        ("n1", "modified", "benign", None, "Dr. B", "ward-3"),
    ]
    assert [(a.model, a.version, a.answered, a.decision) for a in found] == [
        ("sisc_lung", "1.0", "malignant", "positive"),
        ("sisc_lung", "1.0", "benign", "negative"),
        ("sisc_lung", "1.0", "malignant", "positive"),
    ]
    latest = store.assessments.latest(one)
    assert {name: a.verdict for name, a in latest.items()} == {"n1": "modified", "n2": "accepted"}
    (eye,) = store.assessments.of_analysis(other)
    assert (eye.model, eye.version, eye.answered, eye.decision) == ("clear_dr", "2.0", "2", "positive")
    assert len({a.id for a in [*found, eye]}) == 4
    with pytest.raises(NotFound):
        store.assessments.add("0" * 32, "n1", "accepted")


def test_what_was_answered_is_what_the_operating_point_decided(store: Store, complete: Complete) -> None:
    """At a sensitive threshold a nodule that is more likely benign is called malignant: that is what a reader corrects."""
    nodule = finding("n1", {"benign": 0.53, "malignant": 0.47}, "positive")
    one = complete([nodule])
    store.assessments.add(one, "n1", "modified", value="benign")
    (judged,) = store.assessments.of_analysis(one)
    assert judged.answered == "malignant"


def test_a_page_tells_what_was_judged(store: Store, complete: Complete) -> None:
    one = complete(NODULES)
    for verdict in ("accepted", "rejected"):
        store.assessments.add(one, "n1", verdict)
    (now, before), following = store.assessments.page({})
    assert following is None
    assert (now.assessment.verdict, now.current, before.assessment.verdict, before.current) == (
        "rejected",
        True,
        "accepted",
        False,
    )
    assert (now.study, now.outcome, now.finding) == ("1.1", "positive", NODULES[0])


def test_pages_join_up(store: Store, complete: Complete) -> None:
    one = complete(NODULES)
    for _ in range(5):
        store.assessments.add(one, "n1", "accepted")
    same = "2026-01-05T10:00:00.000000Z"
    date_back(store, v1=same, v2=same, v3=same)  # ties are broken by the id
    seen: list[int] = []
    cursor = None
    while True:
        rows, cursor = store.assessments.page({}, cursor=cursor, limit=2)
        seen += [row.assessment.id for row in rows]
        if cursor is None:
            break
    assert seen == [5, 4, 3, 2, 1] == [row.assessment.id for row in store.assessments.every({})]


@pytest.mark.parametrize("cursor", ["%%%", "", "Zm9v", "MjAyNi0wMS0wNVQxMDowMDowMC4wMDAwMDBaIC0x", "/w=="])
def test_foreign_cursors_are_refused(store: Store, cursor: str) -> None:
    with pytest.raises(ValueError, match=".*"):
        store.assessments.page({}, cursor=cursor)


def test_filters(store: Store, complete: Complete) -> None:
    lung, eye = complete(NODULES), complete(EYE, "clear_dr", "2.0")
    store.assessments.add(lung, "n1", "accepted", reader="A")
    store.assessments.add(eye, "eye", "modified", value="3", reader="B")
    store.assessments.add(eye, "eye", "rejected", account="A")
    date_back(store, v1="2026-01-01T00:00:00.000000Z", v2="2026-01-02T00:00:00.000000Z")

    def ids(since: str | None = None, until: str | None = None, **filters: str) -> list[int]:
        return [one.assessment.id for one in store.assessments.page(filters, since, until)[0]]

    assert ids(model="sisc_lung") == ids(version="1.0") == ids(verdict="accepted") == [1]
    assert ids(model="clear_dr") == ids(version="2.0") == [3, 2]
    assert ids(reader="A") == [3, 1] and ids(reader="A", model="clear_dr") == [3] and ids(reader="a") == []
    assert ids(since="2026-01-02T00:00:00.000000Z") == [3, 2]
    assert ids(until="2026-01-02T00:00:00.000000Z") == [1]


def test_agreement_counts_the_newest_verdict_of_each_finding(store: Store, complete: Complete) -> None:
    first, second, newer = complete(NODULES), complete(NODULES), complete(NODULES, version="1.1")
    eye = complete(EYE, "clear_dr", "2.0")
    store.assessments.add(first, "n1", "accepted")  # v1: overruled by v2
    store.assessments.add(first, "n1", "rejected")
    store.assessments.add(first, "n2", "accepted")
    store.assessments.add(second, "n1", "modified", value="benign")
    store.assessments.add(newer, "n1", "modified", value="benign")
    store.assessments.add(newer, "n2", "modified", value="malignant")
    store.assessments.add(eye, "eye", "modified", value="3")
    date_back(
        store,
        v1="2026-01-30T10:00:00.000000Z",  # a Friday
        v2="2026-02-01T23:59:59.999999Z",  # the Sunday of the same week
        v3="2026-02-02T00:00:00.000000Z",  # Monday
        v4="2026-02-28T00:00:00.000000Z",
        v5="2026-03-01T00:00:00.000000Z",
        v6="2026-03-01T00:00:00.000000Z",
        v7="2026-03-01T00:00:00.000000Z",
    )
    dr, old, new = store.assessments.agreement("month")
    assert [(m.name, m.version) for m in (dr, old, new)] == [
        ("clear_dr", "2.0"),
        ("sisc_lung", "1.0"),
        ("sisc_lung", "1.1"),
    ]
    assert old.whole == Tally(accepted=1, modified=1, rejected=1)
    assert old.periods == {date(2026, 2, 1): Tally(1, 1, 1)}
    assert old.by_decision == {"positive": Tally(modified=1, rejected=1), "negative": Tally(accepted=1)}
    assert old.corrections == {("malignant", "benign"): 1}
    assert new.corrections == {("malignant", "benign"): 1, ("benign", "malignant"): 1}
    assert dr.corrections == {("2", "3"): 1} and dr.by_decision["negative"] == Tally()

    (week,) = store.assessments.agreement("week", "sisc_lung", until="2026-03-01T00:00:00.000000Z")
    assert week.periods == {
        date(2026, 1, 26): Tally(rejected=1),
        date(2026, 2, 2): Tally(accepted=1),
        date(2026, 2, 23): Tally(modified=1),
    }
    (day,) = store.assessments.agreement(
        "day", since="2026-02-01T00:00:00.000000Z", until="2026-02-03T00:00:00.000000Z"
    )
    assert list(day.periods) == [date(2026, 2, 1), date(2026, 2, 2)]
    assert store.assessments.agreement("day", until="2026-02-01T00:00:00.000000Z") == [], "v1 does not count any more"


def test_unassessed_findings_are_counted(store: Store, complete: Complete) -> None:
    assert store.assessments.unassessed() == 0
    one, _, eye = complete(NODULES), complete(NODULES), complete(EYE, "clear_dr")
    complete([])
    store.accept(model="sisc_lung", instances=store.instances(one), request={})  # waits
    assert store.assessments.unassessed() == 5
    store.assessments.add(one, "n1", "accepted")
    store.assessments.add(one, "n1", "rejected")
    store.assessments.add(eye, "eye", "accepted")
    assert store.assessments.unassessed() == 3
    assert (store.assessments.unassessed("sisc_lung"), store.assessments.unassessed("clear_dr")) == (3, 0)
    complete(NODULES, supersedes=one)
    assert store.assessments.unassessed() == 4, "of the superseded one neither findings nor verdicts count"
    assert store.assessments.unassessed(until=store.get(one).created) == 0
    assert store.assessments.unassessed(since=store.get(eye).created) == 2


@pytest.mark.parametrize("n", [1, 2, 10, 263, 1000])
def test_wilson_as_scipy_has_it(n: int) -> None:
    for successes in {0, 1, n // 3, n - 1, n}:
        peer = binomtest(successes, n).proportion_ci(0.95, "wilson")
        assert agreement.wilson(successes, n) == pytest.approx((peer.low, peer.high), abs=1e-12)
        tally = Tally(accepted=successes, modified=n - successes)
        assert (tally.n, tally.agreement, tally.interval) == (n, successes / n, agreement.wilson(successes, n))


def test_wilson_as_printed() -> None:
    """Newcombe 1998 (Stat Med 17:857-872), table I, method 3: 81 of 263."""
    assert agreement.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_wilson_bounds_solve_the_score_equation() -> None:
    """At both bounds p, |k/n - p| = z sqrt(p (1 - p) / n)."""
    for successes, n in ((1, 3), (7, 10), (40, 41), (500, 1234)):
        for bound in agreement.wilson(successes, n):
            assert abs(successes / n - bound) == pytest.approx(1.959964 * (bound * (1 - bound) / n) ** 0.5, rel=1e-6)


def test_without_verdicts_there_is_no_share() -> None:
    assert (Tally().n, Tally().agreement, Tally().interval) == (0, None, None)


def test_many_verdicts_are_counted_quickly(store: Store, complete: Complete) -> None:
    """A hospital's year: the newest verdict of 5000 findings of 1000 analyses, each judged twice."""
    one = complete(NODULES)
    with store._engine.begin() as connection:
        row = dict(connection.execute(sqlalchemy.select(db.analyses)).one()._mapping)
        ids = [f"{n:032x}" for n in range(1000)]
        connection.execute(sqlalchemy.insert(db.analyses), [{**row, "id": identity} for identity in ids])
        verdict = {"verdict": "accepted", "created": row["created"], "version": "1.0"}
        for _ in range(2):
            connection.execute(
                sqlalchemy.insert(db.assessments),
                [{**verdict, "analysis": identity, "finding": f"f{n}"} for identity in ids for n in range(5)],
            )
    store.assessments.add(one, "n1", "rejected")
    begun = time.perf_counter()
    (found,) = store.assessments.agreement("day")
    assert time.perf_counter() - begun < 10
    assert found.whole == Tally(accepted=5000, rejected=1)
