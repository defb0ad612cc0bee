"""The queue and the deliveries when the database, the disk, another host or a stop gets in the way."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from service.delivery import tables
from service.delivery.attempt import Sent, TryAgain
from service.errors import Busy, OutOfContract
from service.pipeline import queue as module
from service.pipeline import sending as sending_module
from service.pipeline.sending import Sending
from service.pipeline.work import Work
from service.records import Outcome
from service.store import deliveries as table
from service.store import trouble
from tests.unit.pipeline.test_queue import Bench, outcome, set_when_stopping
from tests.waiting import until

PACS = {"kind": "dicom", "name": "pacs", "host": "127.0.0.1", "port": 11, "ae_title": "PACS"}


class Locked(Exception):
    """What sqlite3 raises, as far as it matters."""

    sqlite_errorcode = 5


def locked() -> OperationalError:
    error = OperationalError("UPDATE 'DOE^JANE'", {}, Locked("database is locked"))
    assert not trouble.passes(error), "only what sqlite3 itself raises is believed"
    return error


@pytest.fixture
def bench(tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(trouble, "FIRST_PAUSE_S", 0.01)
    made = Bench(tmp_path, tiny_models)
    yield made
    made.close()


def failing(action: Callable[..., Any], *errors: BaseException) -> Callable[..., Any]:
    """The same, but the first calls raise."""
    left = list(errors)

    def attempt(*arguments: Any, **more: Any) -> Any:
        if left:
            raise left.pop(0)
        return action(*arguments, **more)

    return attempt


FULL = OSError(errno.ENOSPC, "no space")


@pytest.mark.parametrize("step", ["begin", "instances", "complete"])
def test_a_full_disk_or_a_locked_database_is_no_attempt(
    bench: Bench, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.queue = bench.open(attempts=1)
    monkeypatch.setattr(bench.store, step, failing(getattr(bench.store, step), FULL, Busy("all decoders are at work")))
    bench.queue.start()
    analysis = bench.queue.wait(bench.queue.submit(bench.work()), 60)
    assert (analysis.status, analysis.attempts) == ("completed", 1)


def test_busy_decoders_are_no_fault_of_the_input(bench: Bench) -> None:
    bench.run = failing(lambda work, report: outcome(work), Busy("all decoders are at work"))
    bench.queue.start()
    assert bench.queue.wait(bench.queue.submit(bench.work()), 60).status == "completed"


def test_a_failure_is_written_down_when_the_database_takes_it_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(work: Work, report: Callable[[str], None]) -> Outcome:
        raise OutOfContract("too thick")

    bench.run = refuse
    monkeypatch.setattr(bench.store, "fail", failing(bench.store.fail, FULL, FULL))
    bench.queue.start()
    analysis = bench.queue.wait(bench.queue.submit(bench.work()), 60)
    assert analysis.status == "failed" and analysis.error is not None and analysis.error["detail"] == "too thick"


def test_an_error_of_the_database_that_does_not_pass_counts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.store, "complete", failing(bench.store.complete, *(locked() for _ in range(3))))
    bench.queue.start()
    analysis = bench.queue.wait(bench.queue.submit(bench.work()), 60)
    assert (analysis.status, analysis.attempts) == ("failed", 3)


def test_a_completion_whose_answer_got_lost_keeps_its_maps(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection broke in the commit; or another host was taken to have died and had not."""
    complete = bench.store.complete

    def broken(*arguments: Any) -> bool:
        complete(*arguments)
        monkeypatch.undo()
        raise OSError(errno.ENOSPC, "after the commit")

    monkeypatch.setattr(bench.store, "complete", broken)
    bench.queue.start()
    analysis = bench.queue.wait(bench.queue.submit(bench.work()), 60)
    bench.queue.stop(60)
    assert analysis.status == "completed" and bench.store.maps_path(analysis.id, "n1").exists()


# -- stops ----------------------------------------------------------------------------------------------------------------


def test_what_a_stop_lets_wait_or_interrupts_is_no_attempt(bench: Bench) -> None:
    started, go = threading.Event(), threading.Event()

    def run(work: Work, report: Callable[[str], None]) -> Outcome:
        started.set()
        go.wait(60)
        return outcome(work)

    bench.run = run
    bench.queue.start()
    ids = [bench.queue.submit(bench.work(bytes([n]))) for n in range(3)]
    assert started.wait(60)
    until(lambda: {(identity, "0") for identity in ids[1:]} <= bench.queue._handed)  # the engine knows of all of them
    set_when_stopping(bench, go)
    assert bench.queue.stop(60)
    assert [bench.store.get(i).status for i in ids] == ["completed", "queued", "queued"]
    bench.queue = bench.open()
    bench.queue.start()
    assert [bench.queue.wait(i, 60).status for i in ids] == ["completed"] * 3
    assert [bench.store.get(i).attempts for i in ids] == [1, 1, 1]


# -- hosts ----------------------------------------------------------------------------------------------------------------


class Clock:
    """A monotonic clock that the test moves, hosts in a table, and what was taken over."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.signs, self.taken = 1000.0, {"local": "x"}, []
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=time.sleep))
        monkeypatch.setattr(bench.store.hosts, "seen", lambda: dict(self.signs))
        monkeypatch.setattr(bench.store.hosts, "forget", lambda host, sign: self.signs.pop(host))
        monkeypatch.setattr(bench.queue._engine, "take_over", self.taken.extend)
        self.queue = bench.queue

    def look(self, after: float) -> list[str]:
        self.now += after
        self.queue._take_over()
        return self.taken


def test_a_host_whose_sign_stands_still_is_taken_over_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(bench, monkeypatch)
    clock.signs |= {"dead": "2026-01-01T00:00:00Z", "alive": "0"}
    for step in range(5):
        clock.signs["alive"] = str(step)
        assert clock.look(10) == ([] if step < 5 else ["dead"])
    clock.signs["alive"] = "6"
    assert clock.look(10) == ["dead"], "50 s without a new sign; the limit is 45"
    assert clock.look(10) == ["dead"] and "dead" not in clock.signs


def test_a_clock_that_is_wrong_elsewhere_does_not_matter(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(bench, monkeypatch)
    for second in range(30):
        clock.signs["slow"] = f"1999-12-31T23:59:{second:02d}.000000Z"
        assert clock.look(10) == []


def test_nobody_is_dead_because_the_database_was_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(bench, monkeypatch)
    clock.signs["other"] = "1"
    assert clock.look(10) == [] and clock.look(10) == []
    assert clock.look(300) == [], "we could not look; it could not give a sign"
    assert clock.look(15) == [] and clock.look(15) == []
    assert clock.look(20) == ["other"], "but now it could have"


# -- deliveries -----------------------------------------------------------------------------------------------------------


class Post:
    """Deliveries of one analysis to one destination, whose answers the test gives."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.sent = bench.store, 0
        self.sending = Sending(
            bench.store, tables.parse([PACS]), lambda analysis: b"{}", attempts=3, backoff_s=0.01, longest_s=0.02
        )
        self.identity = bench.queue.submit(bench.work())
        bench.store.begin(self.identity)
        assert bench.store.complete(self.identity, {}, (), [table.row(self.identity, "pacs", "SR", "1.1")])
        self.answer: Callable[[], Any] = Sent
        monkeypatch.setattr(sending_module, "send", self._send)
        monkeypatch.setattr(self.sending, "_outgoing", lambda delivery: delivery)

    def _send(self, target: Any, deliveries: Any) -> list[Any]:
        self.sent += 1
        return [self.answer() for _ in deliveries]

    @property
    def delivery(self) -> table.Delivery:
        (one,) = self.store.deliveries.of_analysis(self.identity)
        return one


@pytest.fixture
def post(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Post:
    return Post(bench, monkeypatch)


def test_what_was_sent_is_noted_when_the_database_takes_it_again(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    change = post.store.deliveries.change

    def full(identities: Any, *states: Any, **values: Any) -> None:
        if values.get("state") == "sent" and not tried:
            tried.append(1)
            raise FULL
        change(identities, *states, **values)

    tried: list[int] = []
    monkeypatch.setattr(post.store.deliveries, "change", full)
    post.sending.attempt(post.identity, "pacs")
    assert tried and (post.delivery.state, post.delivery.attempts, post.sent) == ("sent", 1, 1)


def test_an_attempt_that_ended_just_now_is_not_lost(post: Post) -> None:
    """Another host listed the delivery as due, and then found that the engine had ended that attempt."""
    listed = post.delivery
    post.sending.attempt(post.identity, "pacs")
    post.sending.lost(listed)
    assert (post.delivery.state, post.delivery.attempts) == ("sent", 1), "else it would be sent twice"


def test_an_attempt_that_ended_without_a_word_is_made_again(post: Post) -> None:
    post.sending.lost(post.delivery)
    assert (post.delivery.state, post.delivery.attempts, post.delivery.last_error) == (
        "waiting", 1, "the attempt was interrupted",
    )  # fmt: skip


def test_of_two_hosts_that_send_the_same_the_one_that_succeeds_is_believed(post: Post) -> None:
    """One was taken for dead and was not."""

    def other_host() -> TryAgain:
        post.store.deliveries.change([post.delivery.id], state="sent", attempts=1)
        return TryAgain("busy there: the same instance is just being stored")

    post.answer = other_host
    post.sending.attempt(post.identity, "pacs")
    assert (post.delivery.state, post.delivery.attempts) == ("sent", 1)
