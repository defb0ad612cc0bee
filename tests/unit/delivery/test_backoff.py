"""Waits double, end at the longest, differ between deliveries, and are the same on every run."""

from __future__ import annotations

import pytest

from service.delivery.backoff import wait_s


def test_doubles_up_to_the_longest() -> None:
    for attempt, whole in [(1, 5), (2, 10), (3, 20), (8, 640), (11, 3600), (1000, 3600), (10**9, 3600)]:
        assert 0.75 * whole < wait_s(attempt, 5.0, 3600.0, "a") <= whole


def test_first_above_longest() -> None:
    assert 1.5 < wait_s(1, 5.0, 2.0, "a") <= 2


def test_same_every_time_and_spread_between_deliveries() -> None:
    waits = [wait_s(1, 100.0, 3600.0, str(number)) for number in range(200)]
    assert waits == [wait_s(1, 100.0, 3600.0, str(number)) for number in range(200)]
    assert len(set(waits)) == 200
    assert min(waits) < 78 and max(waits) > 97, "all of the spread is used"
    assert wait_s(1, 100.0, 100.0, "a") != wait_s(2, 100.0, 100.0, "a")


def test_attempts_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        wait_s(0, 5.0, 3600.0, "a")
