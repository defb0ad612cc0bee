"""Work items in the store: of two who change one at the same time one wins, and who subscribed is told, in order."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.errors import NotFound
from service.store import moments
from service.store.analyses import Store
from service.store.moments import criterion, interval
from service.store.subscriptions import FILTERED, WORKLIST, attribute, code, first, items
from service.store.workitems import CANCELED, COMPLETED, IN_PROGRESS, PROGRESS, SCHEDULED, Workitem, Workitems

STATE, TYPE, ABOUT = "00741000", "00001002", "00001000"


@pytest.fixture
def worklist(store: Store) -> Workitems:
    return store.workitems


def new(**more: Any) -> dict[str, Any]:
    dataset: dict[str, Any] = {
        **attribute("ProcedureStepLabel", "lung"),
        **attribute("InputReadinessState", "READY"),
        **attribute("PatientID", "P1"),
    }
    for keyword, value in more.items():
        dataset |= attribute(keyword, value)
    return dataset


def claim(transaction: str, **more: Any) -> Any:
    def rule(item: Workitem) -> Sequence[Workitem]:
        return [item.to(IN_PROGRESS, transaction=transaction, **more)] if item.state == SCHEDULED else []

    return rule


def told(worklist: Workitems, ae: str, after: int = 0) -> list[tuple[str, int, str | None]]:
    """(about, event type, state) of a subscriber's event reports."""
    found = [body for _, body in worklist.subscriptions.events(ae, after)]
    return [
        (body[ABOUT]["Value"][0], body[TYPE]["Value"][0], body.get(STATE, {}).get("Value", [None])[0]) for body in found
    ]


def test_a_new_work_item_is_read_back_scheduled_and_once(worklist: Workitems) -> None:
    assert worklist.create("1.2", new())
    assert not worklist.create("1.2", new(ProcedureStepLabel="another"))
    item = worklist.get("1.2")
    assert (item.state, item.transaction, item.analysis, item.ours) == (SCHEDULED, "", None, False)
    assert first(item.dataset, "ProcedureStepLabel") == "lung"
    assert first(item.dataset, "SOPClassUID") == "1.2.840.10008.5.1.4.34.6.1"
    assert (first(item.dataset, "SOPInstanceUID"), first(item.dataset, "ProcedureStepState")) == ("1.2", SCHEDULED)
    with pytest.raises(NotFound):
        worklist.get("1.3")
    with pytest.raises(NotFound):
        worklist.change("1.3", claim("9"))


def test_of_many_claims_at_the_same_time_one_wins(worklist: Workitems) -> None:
    worklist.create("1.2", new())
    start, won = threading.Barrier(8), []

    def one(transaction: str) -> None:
        start.wait()
        if worklist.change("1.2", claim(transaction)).transaction == transaction:
            won.append(transaction)

    threads = [threading.Thread(target=one, args=(f"9.{n}",)) for n in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(won) == 1
    assert worklist.get("1.2").transaction == won[0]


def test_updates_at_the_same_time_are_not_lost(worklist: Workitems) -> None:
    worklist.create("1.2", new(CommentsOnTheScheduledProcedureStep="0"))

    def add() -> None:
        def rule(item: Workitem) -> Sequence[Workitem]:
            count = int(first(item.dataset, "CommentsOnTheScheduledProcedureStep"))
            return [item.having(attribute("CommentsOnTheScheduledProcedureStep", str(count + 1)))]

        for _ in range(10):
            worklist.change("1.2", rule)

    threads = [threading.Thread(target=add) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert first(worklist.get("1.2").dataset, "CommentsOnTheScheduledProcedureStep") == "40"


def test_a_rule_that_refuses_changes_nothing(worklist: Workitems) -> None:
    worklist.create("1.2", new())
    worklist.subscriptions.subscribe("1.2", "WATCH", lock=False)

    def refuse(item: Workitem) -> Sequence[Workitem]:
        raise NotFound("no")

    before = worklist.get("1.2")
    with pytest.raises(NotFound):
        worklist.change("1.2", refuse)
    assert worklist.get("1.2") == before and len(told(worklist, "WATCH")) == 1


def test_a_discontinued_work_item_has_what_its_final_state_requires(worklist: Workitems) -> None:
    worklist.create("1.2", new())
    reason = code("110513", "DCM", "Discontinued for unspecified reason")
    worklist.change("1.2", lambda item: [item.to(IN_PROGRESS), item.discontinued(reason, "text")])
    item = worklist.get("1.2")
    progress = first(item.dataset, PROGRESS)
    assert item.state == CANCELED and item.ended
    assert first(progress, "ReasonForCancellation") == "text"
    assert items(progress, "ProcedureStepDiscontinuationReasonCodeSequence", "CodeValue") == ["110513"]
    at = interval(first(progress, "ProcedureStepCancellationDateTime"))[0]
    assert abs(at - datetime.now(UTC)) < timedelta(minutes=1)


# -- subscriptions: state table CC.2.3-2 ------------------------------------------------------------------------------------


def test_a_subscriber_is_told_of_each_state_readiness_progress_and_assignment(worklist: Workitems) -> None:
    worklist.create("1.2", new(InputReadinessState="INCOMPLETE"))
    worklist.create("1.9", new())
    worklist.subscriptions.subscribe("1.2", "WATCH", lock=False)
    worklist.change("1.2", lambda item: [item.having(attribute("InputReadinessState", "READY"))])
    station = attribute("ScheduledStationNameCodeSequence", code("CT1", "99X", "one"))
    worklist.change("1.2", lambda item: [item.having(station)])
    worklist.change("1.2", lambda item: [item.having(attribute("ProcedureStepLabel", "tells nobody"))])
    worklist.change("1.2", claim("9.1"))
    worklist.change("1.2", lambda item: [item.within(PROGRESS, attribute("ProcedureStepProgress", 50))])
    worklist.change("1.2", lambda item: [item.to(COMPLETED)])
    worklist.change("1.9", claim("9.2"))
    assert told(worklist, "WATCH") == [
        ("1.2", 1, SCHEDULED),  # the initial event
        ("1.2", 1, SCHEDULED),
        ("1.2", 5, None),
        ("1.2", 1, IN_PROGRESS),
        ("1.2", 3, None),
        ("1.2", 1, COMPLETED),
    ]
    bodies = [body for _, body in worklist.subscriptions.events("WATCH")]
    assert [first(body, "InputReadinessState") for body in bodies[:2]] == ["INCOMPLETE", "READY"]
    assert items(bodies[2], "ScheduledStationNameCodeSequence", "CodeValue") == ["CT1"]
    assert items(bodies[4], PROGRESS, "ProcedureStepProgress") == [50]
    assert {first(body, "AffectedSOPClassUID") for body in bodies} == {"1.2.840.10008.5.1.4.34.6.1"}
    assert "00081195" not in str(bodies) and "9.1" not in str(bodies)


def test_events_are_read_on_behind_a_number(worklist: Workitems) -> None:
    worklist.create("1.2", new())
    worklist.subscriptions.subscribe("1.2", "WATCH", lock=False)
    ((number, _),) = worklist.subscriptions.events("WATCH")
    worklist.change("1.2", claim("9"))
    assert told(worklist, "WATCH", number) == [("1.2", 1, IN_PROGRESS)]
    assert worklist.subscriptions.events("OTHER") == []


def test_a_global_subscription_takes_in_what_is_there_and_what_comes(worklist: Workitems) -> None:
    worklist.create("1.1", new())
    worklist.subscriptions.subscribe(WORKLIST, "LOCKED", lock=True)
    worklist.subscriptions.subscribe(WORKLIST, "FREE", lock=False)
    worklist.create("1.2", new())
    assert told(worklist, "LOCKED") == [("1.1", 1, SCHEDULED), ("1.2", 1, SCHEDULED)]
    assert told(worklist, "FREE") == [("1.2", 1, SCHEDULED)]  # without a lock no initial events
    worklist.change("1.1", claim("9"))
    assert told(worklist, "FREE")[-1] == ("1.1", 1, IN_PROGRESS)


def test_suspending_keeps_the_subscriptions_there_are_and_unsubscribing_ends_them(worklist: Workitems) -> None:
    worklist.create("1.1", new())
    worklist.subscriptions.subscribe(WORKLIST, "A", lock=False)
    worklist.subscriptions.suspend(WORKLIST, "A")
    worklist.create("1.2", new())
    worklist.change("1.1", claim("9"))
    assert told(worklist, "A") == [("1.1", 1, IN_PROGRESS)]
    with pytest.raises(NotFound):
        worklist.subscriptions.suspend(WORKLIST, "A")
    worklist.subscriptions.subscribe(WORKLIST, "A", lock=False)
    worklist.subscriptions.unsubscribe(WORKLIST, "A")
    worklist.change("1.1", lambda item: [item.to(COMPLETED)])
    assert told(worklist, "A") == [("1.1", 1, IN_PROGRESS)]
    with pytest.raises(NotFound):
        worklist.subscriptions.unsubscribe("1.1", "A")


def test_a_filtered_subscription_takes_in_what_matches(worklist: Workitems) -> None:
    worklist.create("1.1", new(PatientID="P1"))
    worklist.create("1.2", new(PatientID="P2"))
    keys = [criterion(("00100020",), "P2")]
    worklist.subscriptions.subscribe(FILTERED, "A", lock=True, keys=keys)
    worklist.create("1.3", new(PatientID="P1"))
    worklist.create("1.4", new(PatientID="P2"))
    assert [about for about, _, _ in told(worklist, "A")] == ["1.2", "1.4"]
    worklist.subscriptions.suspend(FILTERED, "A")
    worklist.create("1.5", new(PatientID="P2"))
    assert [about for about, _, _ in told(worklist, "A")] == ["1.2", "1.4"]


def test_the_end_of_one_subscription_leaves_the_others(worklist: Workitems) -> None:
    for uid in ("1.1", "1.2"):
        worklist.create(uid, new())
        worklist.subscriptions.subscribe(uid, "A", lock=False)
    worklist.subscriptions.unsubscribe("1.1", "A")
    for uid in ("1.1", "1.2"):
        worklist.change(uid, claim("9"))
    assert told(worklist, "A")[2:] == [("1.2", 1, IN_PROGRESS)]
    worklist.subscriptions.subscribe(WORKLIST, "A", lock=False)
    worklist.subscriptions.subscribe(FILTERED, "A", lock=False, keys=[criterion(("00100020",), "P2")])
    worklist.subscriptions.unsubscribe(FILTERED, "A")
    worklist.create("1.3", new())
    assert told(worklist, "A")[3:] == [("1.3", 1, SCHEDULED)]


def test_a_subscription_to_nothing_is_not_kept(worklist: Workitems) -> None:
    with pytest.raises(NotFound):
        worklist.subscriptions.subscribe("1.2", "A", lock=False)
    worklist.create("1.2", new())
    assert told(worklist, "A") == []


def test_a_deletion_lock_keeps_what_ended(worklist: Workitems) -> None:
    for uid in ("1.1", "1.2", "1.3"):
        worklist.create(uid, new())
    for uid in ("1.1", "1.2"):
        worklist.change(uid, lambda item: [item.to(COMPLETED)])
    worklist.subscriptions.subscribe("1.1", "A", lock=True)
    worklist.subscriptions.subscribe("1.2", "A", lock=False)
    assert worklist.forget("2000") == 0
    assert worklist.forget("2999") == 1
    assert [one.uid for one in worklist.find([], 9)[0]] == ["1.1", "1.3"]
    worklist.subscriptions.unsubscribe("1.1", "A")
    assert worklist.forget("2999") == 1


# -- finding ----------------------------------------------------------------------------------------------------------------


def test_search_matches_and_pages(worklist: Workitems) -> None:
    for n in range(5):
        worklist.create(f"1.{n}", new(PatientID=f"P{n % 2}", ScheduledProcedureStepStartDateTime=f"2026010{n + 1}"))
    worklist.change("1.3", claim("9"))
    patient, state = criterion(("00100020",), "P1"), criterion((STATE,), SCHEDULED)
    assert [one.uid for one in worklist.find([patient], 9)[0]] == ["1.1", "1.3"]
    assert [one.uid for one in worklist.find([patient, state], 9)[0]] == ["1.1"]
    page, more = worklist.find([], 2, 1)
    assert ([one.uid for one in page], more) == (["1.1", "1.2"], True)
    page, more = worklist.find([], 2, 3)
    assert ([one.uid for one in page], more) == (["1.3", "1.4"], False)
    start = criterion(("00404005",), "20260102-20260103")
    assert [one.uid for one in worklist.find([start], 9)[0]] == ["1.1", "1.2"]
    assert [one.uid for one in worklist.find([criterion(("00080018",), "1.0,1.4")], 9)[0]] == ["1.0", "1.4"]


def test_what_is_ours_and_what_waits_is_told_apart(worklist: Workitems) -> None:
    for uid in ("1.1", "1.2", "1.3", "1.4"):
        worklist.create(uid, new())
    worklist.change("1.2", claim("9"))
    worklist.change("1.3", claim("9", analysis=""))
    worklist.change("1.4", claim("9", analysis=""))
    worklist.change("1.4", lambda item: [item.to(CANCELED)])
    assert [uid for uid, _ in worklist.waiting()] == ["1.1"]
    assert [one.uid for one in worklist.performing()] == ["1.3"]
    assert worklist.abandoned() == [("1.4", "")]
    worklist.change("1.4", lambda item: [replace(item, analysis=None)])
    assert worklist.abandoned() == []
    assert worklist.absent(["1.9"]) == {"1.9"}


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("2026", "2026-01-01T00:00:00", "2026-12-31T23:59:59.999999"),
        ("202602", "2026-02-01T00:00:00", "2026-02-28T23:59:59.999999"),
        ("20260228", "2026-02-28T00:00:00", "2026-02-28T23:59:59.999999"),
        ("2026022823", "2026-02-28T23:00:00", "2026-02-28T23:59:59.999999"),
        ("20260228120000.25", "2026-02-28T12:00:00.250000", "2026-02-28T12:00:00.259999"),
        ("20260101000000+0200", "2025-12-31T22:00:00", "2025-12-31T22:00:00.999999"),
        ("99991231", "9999-12-31T00:00:00", "9999-12-31T23:59:59.999999"),
    ],
)
def test_what_a_dt_value_leaves_open_counts_from_begin_to_end(text: str, begin: str, end: str) -> None:
    low, high = interval(text)
    assert low == datetime.fromisoformat(begin).replace(tzinfo=UTC)
    assert high == datetime.fromisoformat(end).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "26", "20260230", "20261301", "2026010125", "20260101 120000", "now", "2026+9900"]
)
def test_what_is_no_dt_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="date and time"):
        interval(text)


def test_dt_keys_match_values_and_ranges_across_time_zones() -> None:
    def matches(key: str, value: str) -> bool:
        return moments.criterion(("00404005",), key).accepts(value)

    assert matches("20260101", "20260101235959") and not matches("20260101", "20260102")
    assert matches("20260101-", "2027") and not matches("-20260101", "20260102")
    assert matches("20260101100000+0200-20260101110000+0200", "20260101083000+0000")
    assert matches("2025-2026", "20261231235959") and not matches("2025-2026", "nonsense")
    for wrong in ("-", "x", "2026-x"):
        with pytest.raises(ValueError, match="date and time"):
            moments.criterion(("00404005",), wrong)
