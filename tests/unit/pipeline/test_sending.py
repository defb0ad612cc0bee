"""Deliveries from waiting to sent, committed, or set aside: what each answer of a destination does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.delivery import tables
from service.delivery.attempt import Commitment, GiveUp, Notice, Outcome, Sent, TryAgain
from service.errors import InputError
from service.pipeline import sending as module
from service.pipeline.sending import Sending
from service.records import Instance, ResultObject
from service.store import deliveries
from service.store.analyses import Store
from service.store.rows import Analysis
from tests.waiting import until

PACS = {"kind": "dicom", "name": "pacs", "host": "127.0.0.1", "port": 11, "ae_title": "PACS", "objects": ["SR"]}
HOOK = {
    "kind": "callback",
    "name": "hook",
    "url": "http://127.0.0.1/x",
    "secret": "s" * 16,
    "events": ["completed", "failed"],
}


class Bench:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = Store(folder / "data", free_bytes=0)
        self.answers: list[Outcome] = []
        self.sent: list[list[str]] = []
        self.asked: list[tuple[list[tuple[str, str]], str]] = []
        self.commitment: Callable[[str], Outcome] = lambda transaction: Sent(transaction_uid=transaction)
        monkeypatch.setattr(module, "send", self._send)
        monkeypatch.setattr(module.commitment, "request", self._request)
        self.folder = folder

    def _send(self, target: object, delivery: object) -> tuple[Outcome, ...]:
        names = [delivery.delivery] if isinstance(delivery, Notice) else [o.sop_instance_uid for o in delivery]  # type: ignore[attr-defined]
        self.sent.append(names)
        return tuple(self.answers.pop(0) if self.answers else Sent() for _ in names)

    def _request(self, target: object, references: list[tuple[str, str]], transaction: str) -> Outcome:
        self.asked.append((references, transaction))
        return self.commitment(transaction)

    def sending(self, *described: dict[str, object], attempts: int = 3) -> Sending:
        return Sending(
            self.store,
            tables.parse(described),
            lambda analysis: b"{}",
            attempts=attempts,
            backoff_s=0.01,
            longest_s=0.02,
        )

    def analysis(self, sending: Sending, *objects: ResultObject) -> Analysis:
        """A completed analysis with its deliveries."""
        content = self.folder / "image"
        content.write_bytes(b"image")
        sha256 = hashlib.sha256(b"image").hexdigest()
        image = Instance(content, sha256, "dicom", 4, 4, "1.2.3", series_uid="1.5", study_uid="1.4", modality="CT")
        identity = self.store.accept(model="sisc_lung", instances=[image], request={})
        begun = self.store.begin(identity)
        assert begun is not None
        planned = sending.plan(begun, "positive", objects)
        # the archive's own tests cover files; here the rows are enough
        self.store.archive.add_results = lambda *arguments: []  # type: ignore[method-assign]
        assert self.store.complete(identity, {}, objects, planned)
        return begun

    def states(self, analysis: Analysis) -> dict[str, tuple[str, int, str]]:
        return {
            one.sop_instance_uid or one.kind: (one.state, one.attempts, one.last_error)
            for one in self.store.deliveries.of_analysis(analysis.id)
        }


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path, monkeypatch)
    monkeypatch.setattr(
        made.store.archive,
        "by_uid",
        lambda uid: Instance(tmp_path / "x", "0" * 64, "dicom", 0, 0, uid, sop_class_uid="1.9"),
    )
    yield made
    made.store.close()


def made(kind: str, uid: str) -> ResultObject:
    return ResultObject(kind, "1.9", uid, "1.8", b"")  # type: ignore[arg-type]


def test_each_destination_gets_what_it_wants_and_knows_nothing_twice(bench: Bench) -> None:
    sending = bench.sending(PACS, HOOK)
    first = bench.analysis(sending, made("SR", "1.1"), made("SC", "1.2"))
    assert set(bench.states(first)) == {"1.1", "callback"}, "the PACS wants no SC"
    second = bench.analysis(sending, made("SR", "1.1"))
    assert set(bench.states(second)) == {"callback"}, "the same object goes there already"


def test_sent_is_sent_and_waiting_comes_again_until_it_is_set_aside(bench: Bench) -> None:
    sending = bench.sending(PACS)
    analysis = bench.analysis(sending, made("SR", "1.1"))
    bench.answers = [TryAgain("away"), TryAgain("away"), TryAgain("still away")]
    for attempts, state in ((1, "waiting"), (2, "waiting"), (3, "dead")):
        until(sending.due)
        sending.attempt(analysis.id, "pacs")
        assert bench.states(analysis)["1.1"][:2] == (state, attempts)
    assert bench.states(analysis)["1.1"][2] == "still away"
    assert not sending.due()
    assert sending.replay(bench.store.deliveries.of_analysis(analysis.id)) == 1
    assert sending.due()[0].round == 1
    sending.attempt(analysis.id, "pacs")
    assert bench.states(analysis)["1.1"][:2] == ("sent", 1)


def test_one_refused_object_does_not_hold_the_others(bench: Bench) -> None:
    sending = bench.sending({**PACS, "objects": ["SR", "SEG"]})
    analysis = bench.analysis(sending, made("SR", "1.1"), made("SEG", "1.2"))
    bench.answers = [GiveUp("never"), Sent("coerced")]
    sending.attempt(analysis.id, "pacs")
    states = bench.states(analysis)
    assert sorted(state[:2] for state in states.values()) == [("dead", 1), ("sent", 1)]


def test_a_fault_while_sending_counts_and_is_no_loss(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sending = bench.sending(PACS)
    analysis = bench.analysis(sending, made("SR", "1.1"))

    def broken(*arguments: object) -> tuple[Outcome, ...]:
        raise RuntimeError("DOE^JANE")

    monkeypatch.setattr(module, "send", broken)
    sending.attempt(analysis.id, "pacs")
    state, attempts, error = bench.states(analysis)["1.1"]
    assert (state, attempts) == ("waiting", 1) and "incident" in error and "DOE" not in error


def test_a_destination_that_is_gone_from_the_settings_sets_aside(bench: Bench) -> None:
    analysis = bench.analysis(bench.sending(PACS), made("SR", "1.1"))
    other = bench.sending(HOOK)
    other.attempt(analysis.id, "pacs")
    assert bench.states(analysis)["1.1"][0] == "dead" and not bench.sent
    with pytest.raises(InputError, match="not in the settings"):
        other.replay(bench.store.deliveries.of_analysis(analysis.id))


def test_failed_analyses_are_called_back_about(bench: Bench) -> None:
    sending = bench.sending(HOOK, PACS)
    analysis = bench.analysis(sending)
    assert [row["kind"] for row in sending.plan_failure(analysis)] == [deliveries.CALLBACK]


class TestCommitment:
    def ready(self, bench: Bench) -> tuple[Sending, Analysis, str]:
        sending = bench.sending({**PACS, "commitment": True, "commitment_wait_s": 600})
        analysis = bench.analysis(sending, made("SR", "1.1"))
        sending.attempt(analysis.id, "pacs")
        (asked,) = bench.asked
        assert asked[0] == [("1.9", "1.1")]
        return sending, analysis, asked[1]

    def test_what_is_reported_is_committed(self, bench: Bench) -> None:
        sending, analysis, transaction = self.ready(bench)
        assert bench.states(analysis)["1.1"][0] == "sent"
        sending.committed(Commitment("1.0", committed=(("1.9", "1.1"),)))
        assert bench.states(analysis)["1.1"][0] == "sent", "another transaction says nothing about it"
        sending.committed(Commitment(transaction, committed=(("1.9", "1.1"),)))
        assert bench.states(analysis)["1.1"][0] == "committed"

    def test_what_was_lost_there_is_sent_again(self, bench: Bench) -> None:
        sending, analysis, transaction = self.ready(bench)
        sending.committed(Commitment(transaction, failed=(("1.9", "1.1", 0x0112),)))
        state, _, error = bench.states(analysis)["1.1"]
        assert state == "waiting" and "0x0112" in error
        until(sending.due)
        sending.attempt(analysis.id, "pacs")
        assert len(bench.sent) == 2 and len(bench.asked) == 2 and bench.asked[1][1] != transaction

    def test_a_report_on_the_same_association_is_taken(self, bench: Bench) -> None:
        bench.commitment = lambda uid: Sent(transaction_uid=uid, commitment=Commitment(uid, (("1.9", "1.1"),)))
        _, analysis, _ = self.ready(bench)
        assert bench.states(analysis)["1.1"][0] == "committed"

    def test_a_request_without_a_report_is_repeated(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        sending, _, transaction = self.ready(bench)
        sending.ask_again()
        assert len(bench.asked) == 1, "not before the time is up"
        later = module._later
        monkeypatch.setattr(module, "_later", lambda seconds: later(seconds + 605))
        sending.ask_again()
        assert len(bench.asked) == 2 and bench.asked[1][1] != transaction
