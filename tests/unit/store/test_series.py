"""Series on their way to an analysis, and the associations that bring them: what a race or a restart must not confuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from service.records import Arrival, Instance
from service.store.analyses import Store
from service.store.series import Series

Make = Callable[..., Instance]


def touched(store: Store, uid: str = "1.5", modality: str = "CT") -> Series:
    store.series.touch([(uid, "1.1", modality)])
    found = store.series.known(uid)
    assert found is not None
    return found


def test_what_comes_opens_its_series_and_opens_it_again(store: Store) -> None:
    first = touched(store)
    assert (first.state, first.study_uid, first.modality, first.analysis) == ("open", "1.1", "CT", None)
    assert store.series.settle(first, "answered", "whole", "f" * 64, "a" * 32)
    assert store.series.waiting() == []
    again = touched(store)
    assert again.open and again.first == first.first and again.last > first.last
    assert (again.fingerprint, again.analysis) == ("f" * 64, "a" * 32), "what it was analysed as is still known"


def test_the_longest_waiting_comes_first(store: Store) -> None:
    for uid in ("1.7", "1.6", "1.8"):
        touched(store, uid)
    touched(store, "1.7")
    assert [one.series_uid for one in store.series.waiting()] == ["1.6", "1.8", "1.7"]
    assert {one.series_uid for one in store.series.of_study("1.1")} == {"1.6", "1.7", "1.8"}
    assert store.series.of_study("1.2") == []


def test_a_series_that_grew_meanwhile_stays_open_and_knows_its_analysis(store: Store) -> None:
    """A slice came between the look at a series and the note of its analysis: the next analysis must supersede this one."""
    seen = touched(store)
    touched(store)
    assert not store.series.settle(seen, "answered", "whole", "f" * 64, "a" * 32)
    found = store.series.known("1.5")
    assert found is not None and found.open
    assert (found.fingerprint, found.analysis) == ("f" * 64, "a" * 32)


def test_a_later_analysis_is_not_overwritten_by_an_earlier_one(store: Store) -> None:
    """Two hosts looked at the same series; the slower one's note is about less."""
    seen = touched(store)
    newer = touched(store)
    assert store.series.settle(newer, "answered", "whole", "2" * 64, "b" * 32)
    assert not store.series.settle(seen, "answered", "whole", "1" * 64, "a" * 32)
    found = store.series.known("1.5")
    assert found is not None and (found.state, found.fingerprint, found.analysis) == ("answered", "2" * 64, "b" * 32)


def test_a_note_is_about_what_was_seen(store: Store) -> None:
    seen = touched(store)
    store.series.note(seen, "3 of 4 are here")
    assert store.series.waiting()[0].reason == "3 of 4 are here"
    touched(store)
    store.series.note(replace(seen, reason=""), "old news")
    assert store.series.waiting()[0].reason == "3 of 4 are here"


@pytest.fixture
def sent(store: Store, make: Make) -> Store:
    """An association that is open and has brought one instance of series 1.5."""
    store.series.opened("abc.1")
    instance = replace(make(b"x"), sop_class_uid="1.2.840.10008.5.1.4.1.1.2", transfer_syntax_uid="1.2.840.10008.1.2.1")
    store.archive.add([Arrival(instance, "dimse", "CT1", "abc.1", "2026-01-15T10:00:00.000000Z")])
    return store


def test_a_series_is_being_sent_until_its_association_ends(sent: Store) -> None:
    assert sent.series.sending("1.5") and not sent.series.sending("1.6")
    sent.series.closed("abc.1")
    assert not sent.series.sending("1.5")


def test_an_association_that_is_opened_twice_is_one(sent: Store) -> None:
    """The inbox is read again after a crash."""
    sent.series.closed("abc.1")
    sent.series.opened("abc.1")
    assert not sent.series.sending("1.5")


@pytest.mark.parametrize(
    ("prefix", "sending"), [("abc.", False), ("abd.", True), ("", False), ("%", True), ("a_c.", True)]
)
def test_the_associations_of_a_dead_receiver_end(sent: Store, prefix: str, sending: bool) -> None:
    sent.series.forget_associations(prefix)
    assert sent.series.sending("1.5") is sending


def test_old_associations_are_dropped(sent: Store) -> None:
    sent.series.closed("abc.1")
    sent.series.forget_associations("", before="9999")
    sent.series.opened("abc.1")
    assert sent.series.sending("1.5"), "it is known no more, so it is a new one"


def test_a_modality_that_is_none_does_not_hold_up_the_others(store: Store) -> None:
    """PostgreSQL refuses what is too long for its column."""
    store.series.touch([("1.8", "1.1", "X" * 200), ("1.9", "1.1", "CT")])
    assert [one.modality for one in sorted(store.series.waiting(), key=lambda one: one.series_uid)] == ["X" * 16, "CT"]
