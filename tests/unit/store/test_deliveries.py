"""Deliveries in the store: one row an object and destination, changed only by who knows its latest state."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.errors import NotFound
from service.records import Instance
from service.store import deliveries as table
from service.store.analyses import Store
from service.store.rows import now

Make = Callable[..., Instance]


@pytest.fixture
def analysis(store: Store, make: Make) -> str:
    """A completed analysis with a report and a segmentation for one destination, and a callback."""
    identity = store.accept(model="m", instances=[make(b"x")], request={})
    store.begin(identity)
    planned = [
        table.row(identity, "pacs", "SR", "1.1"),
        table.row(identity, "pacs", "SEG", "1.2"),
        table.row(identity, "hook", table.CALLBACK),
    ]
    assert store.complete(identity, {}, (), planned)
    return identity


def one(store: Store, uid: str = "1.1") -> table.Delivery:
    return next(d for page in [store.deliveries.page({}, 100)] for d in page if d.sop_instance_uid == uid)


def test_what_was_planned_waits_and_is_due(store: Store, analysis: str) -> None:
    due = store.deliveries.due(now())
    assert sorted((d.destination, d.kind, d.state, d.round, d.attempts) for d in due) == [
        ("hook", "callback", "waiting", 0, 0), ("pacs", "SEG", "waiting", 0, 0), ("pacs", "SR", "waiting", 0, 0),
    ]  # fmt: skip
    assert store.deliveries.due("2000") == []
    assert {d.sop_instance_uid for d in store.deliveries.pending(analysis, "pacs")} == {"1.1", "1.2"}
    assert len(store.deliveries.of_analysis(analysis)) == 3
    assert store.deliveries.counts() == {("pacs", "waiting"): 2, ("hook", "waiting"): 1}


def test_one_object_goes_to_a_destination_once(store: Store, analysis: str, make: Make) -> None:
    assert store.deliveries.known("pacs", ["1.1", "1.3"]) == {"1.1"}
    assert store.deliveries.known("other", ["1.1"]) == set()
    again = store.accept(model="m", instances=[make(b"y", "1.2.4")], request={})
    store.begin(again)
    twice = [table.row(again, "pacs", "SR", "1.9"), table.row(again, "pacs", "SR", "1.9")]
    assert store.complete(again, {}, (), twice)
    assert len(store.deliveries.of_analysis(again)) == 1


def test_a_change_is_made_only_in_the_states_it_is_meant_for(store: Store, analysis: str) -> None:
    found = one(store)
    store.deliveries.change([found.id], table.OPEN, state="sent", attempts=1)
    store.deliveries.change([found.id], table.OPEN, state="waiting", attempts=2)
    assert (one(store).state, one(store).attempts) == ("sent", 1)
    assert one(store).changed > found.changed
    store.deliveries.change([found.id], ("sent",), state="waiting", attempts=2)
    assert one(store).state == "waiting"


def test_what_is_open_is_not_replayed(store: Store, analysis: str) -> None:
    store.deliveries.change([one(store).id], state="dead", attempts=3, last_error="refused", transaction="1.9")
    assert store.deliveries.replay([one(store), one(store, "1.2")]) == 1
    found = one(store)
    assert (found.state, found.round, found.attempts, found.last_error, found.transaction) == ("waiting", 1, 0, "", "")
    assert one(store, "1.2").round == 0


def test_commitment_is_asked_for_what_was_sent_under_a_transaction(store: Store, analysis: str) -> None:
    store.deliveries.change([one(store).id], state="sent", transaction="1.9")
    assert [d.sop_instance_uid for d in store.deliveries.of_transaction("1.9")] == ["1.1"]
    assert [d.sop_instance_uid for d in store.deliveries.sent("9999")] == ["1.1"]
    assert store.deliveries.sent("2000") == [] and store.deliveries.of_transaction("1.8") == []


def test_pages_are_filtered_and_the_latest_change_is_first(store: Store, analysis: str) -> None:
    store.deliveries.change([one(store).id], state="dead")
    assert [d.sop_instance_uid for d in store.deliveries.page({}, 1)] == ["1.1"]
    assert [d.state for d in store.deliveries.page({"state": "dead", "destination": "pacs"}, 9)] == ["dead"]
    assert store.deliveries.page({"analysis": "0" * 32}, 9) == []


def test_deliveries_go_with_their_analysis(store: Store, analysis: str) -> None:
    identity = one(store).id
    assert store.deliveries.get(identity).id == identity
    store.delete(analysis)
    with pytest.raises(NotFound):
        store.deliveries.get(identity)
