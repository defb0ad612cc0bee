"""Verdicts on their way into the objects: when they are taken up, what is made, what is sent, what is not sent any more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from sqlalchemy import update

from service.delivery import tables
from service.delivery.attempt import Notice, Outcome, Sent
from service.errors import InputError
from service.pipeline import body, revisions, sending
from service.pipeline.analysis import Pipeline
from service.pipeline.objects import Answer, Objects
from service.pipeline.queue import Queue
from service.pipeline.request import parse
from service.pipeline.revisions import Revisions
from service.pipeline.sending import Sending
from service.pipeline.work import Work
from service.store import database as db
from service.store.analyses import Store
from service.store.rows import STORED, Analysis
from tests.unit.pipeline.conftest import WriteSeries
from tests.waiting import until

KINDS = ("SR", "SEG", "PM", "SC", "KOS")
X, Y = -50.0 + 70 * 0.75, -40.0 + 60 * 0.75
PLACES = [{"id": "n1", "center_mm": [X, Y, 105.0]}, {"id": "n2", "center_mm": [X, Y, 103.0]}]
PACS = {"kind": "dicom", "name": "pacs", "host": "127.0.0.1", "port": 11, "ae_title": "PACS", "objects": ["SR", "SEG"]}
OTHER = {**PACS, "name": "other", "objects": ["SC"], "models": ["another"]}
HOOK = {"kind": "callback", "name": "hook", "url": "http://127.0.0.1/x", "secret": "s" * 16}


class Bench:
    """Store, pipeline with tiny models, and a queue that is not started: its steps are called by hand."""

    def __init__(self, folder: Path, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.pipeline = Store(folder / "data", free_bytes=0), pipeline
        self.objects = Objects(pipeline.tools.sandbox, KINDS, 0.5, 0.0)
        self.sent: list[str] = []
        monkeypatch.setattr(sending, "send", self._send)
        self.sending = Sending(
            self.store, tables.parse((PACS, OTHER, HOOK)), lambda analysis: b"{}", attempts=3, backoff_s=1, longest_s=1
        )
        self.revisions = Revisions(self.store, pipeline, self.objects, self.sending, settle_s=0)
        self.queue = Queue(
            self.store, pipeline, self.objects, self.sending,
            engine_url=f"sqlite:///{folder / 'workflows.sqlite'}", revisions=self.revisions,
        )  # fmt: skip

    def _send(self, target: object, what: Any) -> tuple[Outcome, ...]:
        names = [what.delivery] if isinstance(what, Notice) else [one.sop_instance_uid for one in what]
        self.sent += names
        return tuple(Sent() for _ in names)

    def analyse(self, files: list[Path], supersedes: str | None = None, **asked: Any) -> str:
        """A completed analysis; its id."""
        with self.pipeline.prepare(files, parse(asked)) as work:
            identity = self.store.accept(
                model=work.model, instances=work.instances, request=sent(work), supersedes=supersedes, door="dicom"
            )
        self.queue._analyse(identity)
        assert self.get(identity).status == "completed", self.get(identity).error
        return identity

    def get(self, identity: str) -> Analysis:
        return self.store.get(identity)

    def result(self, identity: str) -> dict[str, Any]:
        found = self.get(identity).result
        assert found is not None
        return found

    def made(self, identity: str) -> dict[str, str]:
        """Kind to SOP Instance UID of the current objects."""
        return {one["kind"]: one["sop_instance_uid"] for one in self.result(identity)["objects"]}

    def read(self, uid: str) -> pydicom.Dataset:
        return pydicom.dcmread(self.store.archive.by_uid(uid).path)

    def judge(self, identity: str, finding: str, verdict: str, **more: str) -> None:
        self.store.assessments.add(identity, finding, verdict, **more)
        self.revisions.judged(identity)

    def states(self, identity: str) -> dict[tuple[str, str, str], str]:
        """(destination, kind, SOP Instance UID or what a callback tells) to state."""
        found = self.store.deliveries.of_analysis(identity)
        return {(one.destination, one.kind, one.sop_instance_uid): one.state for one in found}


def sent(work: Work) -> dict[str, Any]:
    from service.pipeline.request import to_json

    return to_json(work.request)


@pytest.fixture
def bench(tmp_path: Path, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path, pipeline, monkeypatch)
    yield made
    made.store.close()


@pytest.fixture
def analysis(bench: Bench, write_series: WriteSeries) -> str:
    """An answer with two nodules."""
    return bench.analyse(write_series(), regions=PLACES)


def answer(bench: Bench, identity: str) -> Answer:
    return bench.revisions._answer(bench.get(identity), bench.result(identity))


# -- what is stored of an answer -------------------------------------------------------------------------------------------


def test_without_verdicts_the_stored_answer_gives_the_very_objects_of_the_run(bench: Bench, analysis: str) -> None:
    again = bench.objects.build(answer(bench, analysis))
    assert [one.kind for one in again] == list(KINDS)
    for one in again:
        stored = bench.store.archive.by_uid(one.sop_instance_uid).path.read_bytes()
        assert hashlib.sha256(one.data).digest() == hashlib.sha256(stored).digest(), one.kind


def test_a_candidate_is_rebuilt_with_what_the_search_knew_of_it(
    bench: Bench, write_series: WriteSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.intake import candidates
    from service.records import Region

    found = Region("candidate-1", (X, Y, 105.0), origin="candidate", diameter_mm=9.25, score=0.873)
    monkeypatch.setattr(candidates, "find", lambda slices, stack: candidates.Search((found,), 5000.0, ""))
    monkeypatch.setattr(bench.pipeline, "tools", replace(bench.pipeline.tools, candidates=True))
    identity = bench.analyse(write_series())
    assert answer(bench, identity).regions == {"candidate-1": found}
    report = bench.objects.build(answer(bench, identity))[0]
    assert report.data == bench.store.archive.by_uid(report.sop_instance_uid).path.read_bytes()
    assert "regions" not in body.full(bench.store, bench.pipeline.bundles, bench.get(identity))


def test_results_of_older_versions_name_the_places_that_were_asked_for(bench: Bench, analysis: str) -> None:
    known = answer(bench, analysis)
    old = {name: value for name, value in known.result.items() if name != "regions"}
    assert revisions.regions(known.work, old) == known.regions != {}


# -- when ------------------------------------------------------------------------------------------------------------------


def test_a_verdict_is_taken_up_when_no_other_has_followed_for_a_while(
    bench: Bench, analysis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = Revisions(bench.store, bench.pipeline, bench.objects, bench.sending, settle_s=600)

    def after(seconds: float) -> list[Any]:
        """What is due so much later."""

        class Later(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return datetime.now(tz) + timedelta(seconds=seconds)

        monkeypatch.setattr(revisions, "datetime", Later)
        return patient.due()

    assert patient.due() == []
    bench.store.assessments.add(analysis, "n1", "rejected")
    patient.judged(analysis)
    assert after(0) == [] and after(500) == []
    assert [(one.analysis, one.verdicts, one.attempts) for one in after(601)] == [(analysis, 1, 0)]
    bench.store.assessments.add(analysis, "n2", "rejected")
    assert after(500) == [], "another one followed"
    assert [one.verdicts for one in after(601)] == [2]
    monkeypatch.setattr(revisions, "datetime", datetime)
    patient.make(analysis)
    assert after(601) == [] and bench.get(analysis).revision == 1, "one revision of both"


def test_verdicts_nobody_told_us_of_are_found(bench: Bench, analysis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a process that was killed before `judged`, or taken by another host."""
    assert bench.revisions.due() == []
    bench.store.assessments.add(analysis, "n1", "rejected")
    assert bench.revisions.due() == [], "not at every look"
    assert [one.analysis for one in Revisions(*_parts(bench)).due()] == [analysis], "at the start"
    monkeypatch.setattr(bench.revisions, "_next_sweep", 0.0)
    assert [one.analysis for one in bench.revisions.due()] == [analysis], "and from time to time"


def _parts(bench: Bench) -> tuple[Any, ...]:
    return bench.store, bench.pipeline, bench.objects, bench.sending, 0.0


def test_a_clock_that_is_ahead_holds_nothing_up(bench: Bench, analysis: str) -> None:
    bench.judge(analysis, "n1", "rejected")
    ahead = (datetime.now(UTC) + timedelta(hours=1)).strftime(STORED)
    with bench.store._engine.begin() as connection:
        connection.execute(update(db.assessments).values(created=ahead))
    assert len(Revisions(*_parts(bench)).due()) == 1


def test_an_acceptance_changes_nothing(bench: Bench, analysis: str) -> None:
    before = bench.made(analysis)
    bench.judge(analysis, "n1", "accepted", reader="A")
    assert len(bench.revisions.due()) == 1
    bench.revisions.make(analysis)
    assert bench.revisions.due() == [] and bench.made(analysis) == before
    assert bench.get(analysis).revision == 0


def test_the_same_again_changes_nothing_and_another_reason_does(bench: Bench, analysis: str) -> None:
    for number, reason in ((1, "vessel"), (1, "vessel"), (2, "scar")):
        bench.judge(analysis, "n1", "rejected", reason=reason)
        bench.revisions.make(analysis)
        assert bench.get(analysis).revision == number
        assert bench.revisions.due() == []


def test_a_superseded_analysis_is_not_revised(bench: Bench, analysis: str, write_series: WriteSeries) -> None:
    newer = bench.analyse(write_series(), supersedes=analysis, regions=PLACES[:1])
    bench.judge(analysis, "n1", "rejected")
    assert bench.revisions.due() == []
    bench.revisions.make(analysis)
    assert bench.get(analysis).revision == 0
    bench.store.delete(newer)
    bench.revisions.judged(analysis)
    assert [one.analysis for one in bench.revisions.due()] == [analysis], "it is the newest again"


def test_without_objects_there_is_nothing_to_revise(bench: Bench, write_series: WriteSeries) -> None:
    identity = bench.analyse(write_series(), regions=PLACES, objects=[])
    bench.judge(identity, "n1", "rejected")
    bench.revisions.make(identity)
    assert bench.revisions.due() == [] and bench.get(identity).revision == 0


# -- what ------------------------------------------------------------------------------------------------------------------


def predecessor(ds: pydicom.Dataset) -> str:
    series = ds.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    return str(series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)


def rejected(ds: pydicom.Dataset) -> set[str]:
    found = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    return {one.ReferencedSOPInstanceUID for series in found for one in series.ReferencedSOPSequence}


def test_a_rejection_and_its_taking_back(bench: Bench, analysis: str) -> None:
    first = bench.made(analysis)
    bench.judge(analysis, "n1", "rejected", reason="a vessel", reader="Dr. Who")
    bench.revisions.make(analysis)
    second = bench.made(analysis)
    assert set(second) == {*KINDS, "RN"} and not set(first.values()) & set(second.values())
    assert predecessor(bench.read(second["SR"])) == first["SR"]
    assert rejected(bench.read(second["RN"])) == set(first.values())
    assert len(bench.read(second["SEG"]).SegmentSequence) == 1
    given = datetime.strptime(bench.store.assessments.latest(analysis)["n1"].created, STORED).replace(tzinfo=UTC)
    local = given.astimezone()
    assert (bench.read(second["SR"]).ContentDate, bench.read(second["SR"]).ContentTime) == (
        local.strftime("%Y%m%d"), local.strftime("%H%M%S"),
    )  # fmt: skip

    bench.judge(analysis, "n1", "accepted")
    bench.revisions.make(analysis)
    third = bench.made(analysis)
    assert bench.get(analysis).revision == 2
    assert predecessor(bench.read(third["SR"])) == second["SR"]
    assert rejected(bench.read(third["RN"])) == {second[kind] for kind in KINDS}, "the note itself still holds"
    assert len(bench.read(third["SEG"]).SegmentSequence) == 2
    assert len({*first.values(), *second.values(), *third.values()}) == 5 + 6 + 6, "never the rejected ones again"
    for uid in (*first.values(), *second.values()):
        assert bench.store.archive.by_uid(uid).path.exists(), "the archive keeps the history"

    shown = body.full(bench.store, bench.pipeline.bundles, bench.get(analysis))
    assert shown["revision"] == 2 and {one["kind"] for one in shown["objects"]} == {*KINDS, "RN"}
    assert all("the window also holds" in text for text in shown["warnings"])
    bench.store.delete(analysis)
    with pytest.raises(InputError):
        bench.store.archive.by_uid(first["SR"])


def test_everything_rejected(bench: Bench, analysis: str) -> None:
    for finding in ("n1", "n2"):
        bench.judge(analysis, finding, "rejected")
    bench.revisions.make(analysis)
    assert set(bench.made(analysis)) == {"SR", "SC", "RN"}


def test_a_retry_makes_the_same_bytes(bench: Bench, analysis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.judge(analysis, "n1", "rejected")
    tried: list[dict[str, str]] = []

    def fail(identity: str, number: int, result: Any, objects: Any, *more: Any) -> bool:
        tried.append({one.kind: hashlib.sha256(one.data).hexdigest() for one in objects})
        raise RuntimeError("the database is away")

    revise = bench.store.revise
    monkeypatch.setattr(bench.store, "revise", fail)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            bench.revisions.make(analysis)
    monkeypatch.setattr(bench.store, "revise", revise)
    bench.revisions.make(analysis)
    kept = {kind: hashlib.sha256(bench.store.archive.by_uid(uid).path.read_bytes()).hexdigest()
            for kind, uid in bench.made(analysis).items()}  # fmt: skip
    assert tried == [kept, kept]


def test_what_a_cut_off_attempt_filed_is_removed(bench: Bench, analysis: str) -> None:
    """It was killed after its objects were filed, and another verdict came before it was taken up again."""
    bench.judge(analysis, "n1", "rejected", reason="first")
    verdicts = bench.store.assessments.latest(analysis)
    revision = revisions.Revision(
        1, revisions._against(verdicts), datetime.now(UTC),
        tuple(revisions._named(one) for one in bench.result(analysis)["objects"]),
    )  # fmt: skip
    made, _ = bench.objects.revise(answer(bench, analysis), revision)
    bench.store.archive.add_results(analysis, made)
    bench.judge(analysis, "n1", "rejected", reason="second")
    bench.revisions.make(analysis)
    for one in made:
        with pytest.raises(InputError):
            bench.store.archive.by_uid(one.sop_instance_uid)
    assert all(bench.store.archive.by_uid(uid) for uid in bench.made(analysis).values())


def test_who_is_overtaken_looks_again(bench: Bench, analysis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hosts, one verdict: the second finds that it is done, and nothing of its own is left."""
    bench.judge(analysis, "n1", "rejected")
    revise, calls = bench.store.revise, []

    def late(*arguments: Any) -> bool:
        calls.append(arguments)
        if len(calls) == 1:
            Revisions(*_parts(bench)).make(analysis)
        return revise(*arguments)

    monkeypatch.setattr(bench.store, "revise", late)
    bench.revisions.make(analysis)
    assert len(calls) == 2 and bench.get(analysis).revision == 1
    assert len(bench.states(analysis)) == 2 + 1 + 2 + 1, "SR, SEG and a callback, twice, and no note: nothing was sent"


# -- deliveries ------------------------------------------------------------------------------------------------------------


def test_what_waits_is_superseded_and_no_note_goes_where_nothing_went(bench: Bench, analysis: str) -> None:
    first = bench.made(analysis)
    bench.judge(analysis, "n1", "rejected")
    bench.revisions.make(analysis)
    second = bench.made(analysis)
    assert bench.states(analysis) == {
        ("pacs", "SR", first["SR"]): "superseded",
        ("pacs", "SEG", first["SEG"]): "superseded",
        ("hook", "callback", ""): "superseded",
        ("pacs", "SR", second["SR"]): "waiting",
        ("pacs", "SEG", second["SEG"]): "waiting",
        ("hook", "callback", "revision 1"): "waiting",
    }
    for place in ("pacs", "hook"):
        bench.sending.attempt(analysis, place)
    objects, told = bench.sent[:-1], bench.sent[-1]
    assert set(objects) == {second["SR"], second["SEG"]}
    (callback,) = (one for one in bench.store.deliveries.of_analysis(analysis) if one.sop_instance_uid == "revision 1")
    assert told == callback.id, "an event of its own"
    assert body.delivery(callback)["object"] is None


def test_the_note_goes_where_old_objects_went(bench: Bench, analysis: str) -> None:
    bench.sending.attempt(analysis, "pacs")
    bench.sending.attempt(analysis, "hook")
    first = bench.made(analysis)
    bench.judge(analysis, "n1", "rejected")
    bench.revisions.make(analysis)
    second = bench.made(analysis)
    states = bench.states(analysis)
    assert states["pacs", "RN", second["RN"]] == "waiting", "although its kinds do not name it"
    assert states["pacs", "SR", first["SR"]] == "superseded" and states["hook", "callback", ""] == "sent"
    bench.sent.clear()
    bench.sending.attempt(analysis, "pacs")
    assert set(bench.sent) == {second[kind] for kind in ("SR", "SEG", "RN")}
    # a further revision rejects the second version, and leaves the first note alone
    bench.judge(analysis, "n1", "accepted")
    bench.revisions.make(analysis)
    assert bench.states(analysis)["pacs", "RN", second["RN"]] == "sent"


@pytest.mark.parametrize(("state", "attempts", "told"), [("sending", 0, True), ("dead", 3, True), ("dead", 0, False)])
def test_the_note_goes_where_old_objects_may_be(
    bench: Bench, analysis: str, state: str, attempts: int, told: bool
) -> None:
    rows = [one.id for one in bench.store.deliveries.pending(analysis, "pacs")]
    bench.store.deliveries.change(rows, state=state, attempts=attempts)
    bench.judge(analysis, "n1", "rejected")
    bench.revisions.make(analysis)
    assert ("pacs" in {place for place, kind, _ in bench.states(analysis) if kind == "RN"}) == told


def test_a_superseded_delivery_stays_so(bench: Bench, analysis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was being sent when the verdict came; its end, a commitment and a replay do not bring it back."""
    first = bench.made(analysis)

    def send(target: Any, what: Any) -> tuple[Outcome, ...]:
        bench.judge(analysis, "n1", "rejected")
        bench.revisions.make(analysis)
        return tuple(Sent() for _ in what)

    monkeypatch.setattr(sending, "send", send)
    bench.sending.attempt(analysis, "pacs")
    states = bench.states(analysis)
    assert states["pacs", "SR", first["SR"]] == "superseded"
    assert states["pacs", "RN", bench.made(analysis)["RN"]] == "waiting"
    old = [one for one in bench.store.deliveries.of_analysis(analysis) if one.state == "superseded"]
    assert bench.sending.replay(old) == 0


def test_what_is_superseded_just_before_it_is_sent_is_not_sent(
    bench: Bench, analysis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = bench.store.deliveries
    pending: Callable[..., Any] = table.pending
    calls: list[int] = []

    def slow(*arguments: str) -> Any:
        found = pending(*arguments)
        if not calls:
            calls.append(1)
            bench.judge(analysis, "n1", "rejected")
            bench.revisions.make(analysis)
        return found

    monkeypatch.setattr(table, "pending", slow)
    bench.sending.attempt(analysis, "pacs")
    assert bench.sent == [] and not [kind for _, kind, _ in bench.states(analysis) if kind == "RN"]


def test_another_analysis_of_the_same_images_does_not_send_what_was_rejected(
    bench: Bench, analysis: str, write_series: WriteSeries
) -> None:
    twin = bench.analyse(write_series(), regions=PLACES)
    assert bench.made(twin) == bench.made(analysis)
    bench.judge(twin, "n1", "rejected")
    bench.revisions.make(twin)
    bench.sending.attempt(analysis, "pacs")
    assert bench.sent == []
    bench.store.delete(twin)
    assert all(bench.store.archive.by_uid(uid) for uid in bench.made(analysis).values())


# -- what goes wrong -------------------------------------------------------------------------------------------------------


def test_without_the_model_that_answered_it_is_said_and_tried_again_later(
    bench: Bench, analysis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bench.pipeline.bundles["sisc_lung"]
    newer = {"sisc_lung": replace(bundle, description={**bundle.description, "version": "99.0.0"})}
    monkeypatch.setattr(bench.revisions, "_pipeline", type("Newer", (), {"bundles": newer})())
    monkeypatch.setattr(revisions, "BACKOFF_S", 600.0)
    bench.judge(analysis, "n1", "rejected")
    bench.queue._revise(analysis)
    shown = body.full(bench.store, bench.pipeline.bundles, bench.get(analysis))
    assert shown["revision"] == 0 and f"sisc_lung {bundle.version}, which answered" in shown["warnings"][-1]
    assert bench.revisions.due() == [], "not at once"
    known = bench.store.revisions.known(analysis)
    assert known.attempts == 1 and known.due > datetime.now(UTC).strftime(STORED)
    monkeypatch.setattr(bench.revisions, "_pipeline", bench.pipeline)
    bench.queue._revise(analysis)
    shown = body.full(bench.store, bench.pipeline.bundles, bench.get(analysis))
    assert shown["revision"] == 1 and all("the window also holds" in text for text in shown["warnings"])


def test_a_fault_is_told_without_what_it_says(
    bench: Bench, analysis: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: Any) -> Any:
        raise RuntimeError("DOE^JANE")

    monkeypatch.setattr(bench.objects, "revise", fail)
    bench.judge(analysis, "n1", "rejected")
    bench.queue._revise(analysis)
    told = body.full(bench.store, bench.pipeline.bundles, bench.get(analysis))["warnings"][-1]
    assert "incident" in told and "DOE" not in told + caplog.text


def test_an_attempt_that_ended_without_a_word_counts(bench: Bench, analysis: str) -> None:
    bench.judge(analysis, "n1", "rejected")
    (one,) = bench.revisions.due()
    bench.revisions.lost(one)
    assert bench.store.revisions.known(analysis).attempts == 1
    bench.revisions.lost(one)
    assert bench.store.revisions.known(analysis).attempts == 1, "that attempt was counted"
    bench.revisions.make(analysis)
    bench.revisions.lost(one)
    assert bench.store.revisions.known(analysis).attempts == 0


def test_the_queue_takes_it_up(bench: Bench, analysis: str) -> None:
    bench.queue.start()
    try:
        bench.judge(analysis, "n1", "rejected")
        until(lambda: bench.get(analysis).revision == 1)
    finally:
        assert bench.queue.stop(60)


def test_a_revision_needs_no_attempt_of_the_first_version(bench: Bench, analysis: str) -> None:
    """Its deliveries count from nothing again; the engine must not take them for the ones that it has done."""
    bench.sending._attempts = 1
    bench.queue.start()
    try:
        until(lambda: set(delivered(bench, analysis).values()) == {("sent", 1)})
        first = set(delivered(bench, analysis))
        bench.judge(analysis, "n1", "rejected")
        until(lambda: bench.get(analysis).revision == 1)
        until(lambda: not {"waiting", "sending"} & {state for state, _ in delivered(bench, analysis).values()})
        new = {name: how for name, how in delivered(bench, analysis).items() if name not in first}
        assert {kind for _, kind, _ in new} == {"SR", "SEG", "RN", "callback"}
        assert set(new.values()) == {("sent", 1)}, "at the first attempt, which is the only one"
    finally:
        bench.queue.stop(60)


def delivered(bench: Bench, analysis: str) -> dict[tuple[str, str, str], tuple[str, int]]:
    """(destination, kind, what) to its state and how often it was tried."""
    found = bench.store.deliveries.of_analysis(analysis)
    return {(one.destination, one.kind, one.sop_instance_uid): (one.state, one.attempts) for one in found}


def test_a_deleted_analysis_ends_it(bench: Bench, analysis: str) -> None:
    bench.judge(analysis, "n1", "rejected")
    (one,) = bench.revisions.due()
    bench.store.delete(analysis)
    bench.revisions.make(analysis)
    bench.revisions.lost(one)
    assert bench.revisions.due() == []
    assert bench.store.revisions.known(analysis).attempts == 0


def test_uids_depend_on_everything_that_a_revision_says(bench: Bench, analysis: str) -> None:
    work = answer(bench, analysis).work
    plain = bench.objects._configuration(work)
    assert json.loads(plain).keys() == {"request", "region_share", "service"}
    first = revisions.Revision(1, {}, datetime(2026, 1, 1, tzinfo=UTC), ())
    others = (first, replace(first, number=2), replace(first, moment=datetime(2026, 1, 2, tzinfo=UTC)))
    assert len({plain, *(bench.objects._configuration(work, one) for one in others)}) == 4
