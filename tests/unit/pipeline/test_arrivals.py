"""From the inbox to analyses: each instance is filed once, each series answered when it is complete, and again when it grows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from models import bundle as bundles
from service.config import Settings
from service.delivery.attempt import Commitment
from service.errors import Busy, NoSpace, OutOfContract
from service.intake.deposit import Writer
from service.intake.inbox import Inbox
from service.intake.limits import Limits
from service.pipeline import arrivals as module
from service.pipeline import regions
from service.pipeline.arrivals import Arrivals
from service.pipeline.request import to_json
from service.pipeline.work import Work
from service.records import Instance, Region, Request
from service.store import series as series_table
from service.store.analyses import Store
from service.store.filing import Filed
from service.store.rows import STORED
from tests.waiting import until

CT, OPHTHALMIC, STRUCTURES = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.77.1.5.1",
    "1.2.840.10008.5.1.4.1.1.481.3",
)
STUDY, SERIES, MARKS = "1.3", "1.3.1", "1.3.9"


def image(number: int, series: str = SERIES, **more: Any) -> Instance:
    """Slice `number` of an axial series with 1.25 mm between slices, as the sandbox describes it."""
    values: dict[str, Any] = {
        "rows": 8,
        "columns": 8,
        "sop_instance_uid": f"{series}.{number}",
        "sop_class_uid": CT,
        "series_uid": series,
        "study_uid": STUDY,
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "modality": "CT",
        "pixel_spacing": (0.7, 0.7),
        "orientation": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "position": (0.0, 0.0, 1.25 * number),
        "instance_number": number,
        **more,
    }
    return Instance(Path(), "", "dicom", **values)


def announcing(count: int, number: int) -> Instance:
    return image(number, attributes={"00201209": {"vr": "IS", "Value": [count]}})


def photograph(number: int) -> Instance:
    return image(
        number, sop_class_uid=OPHTHALMIC, modality="OP", samples=3, photometric="RGB", orientation=None, position=None
    )


def structures(number: int = 1) -> Instance:
    more = {"orientation": None, "position": None, "pixel_spacing": None, "rows": 0, "columns": 0}
    return image(number, MARKS, sop_class_uid=STRUCTURES, modality="RTSTRUCT", has_pixels=False, **more)


OURS = {"0018A001": {"vr": "SQ", "Value": [{}]}}
"""Contributing Equipment: what says that this software made an object."""


class Bench:
    """Arrivals whose pipeline and queue are a few lines; the store and the inbox are real."""

    def __init__(self, folder: Path, models: Path, **settings: Any) -> None:
        self.folder = folder
        self.store = Store(folder / "data", free_bytes=0)
        self.writer = Writer(folder / "inbox", Limits(), free_bytes=0)
        self.bundles = {name: bundles.load(models / name) for name in ("sisc_lung", "clear_dr")}
        self.refuse: Callable[[Sequence[Instance]], Exception | None] = lambda instances: None
        self.busy: Exception | None = None
        self.places: dict[str, tuple[float, float, float]] = {}
        """What each structure set marks."""
        self.settings = Settings(**{"series_stable_s": 0.2, "series_wait_s": 600.0, "dicom_idle_s": 600.0, **settings})
        self.passed = 0.0
        self.arrivals = self.open()

    def open(self) -> Arrivals:
        pipeline: Any = SimpleNamespace(bundles=self.bundles, work=self._work)
        queue: Any = SimpleNamespace(submit=self._submit)
        return Arrivals(self.store, pipeline, queue, Inbox(self.folder / "inbox", Limits()), self.settings)

    def _work(self, instances: Sequence[Instance], request: Request) -> Work:
        if (error := self.refuse(instances)) is not None:
            raise error
        marks = [one for one in instances if regions.names_places(one)]
        found = [
            Region(f"m{n}", center_mm=self.places[one.sop_instance_uid], origin="reference")
            for n, one in enumerate(marks)
            if one.sop_instance_uid in self.places
        ]
        images = tuple(one for one in instances if one not in marks)
        model = "clear_dr" if images[0].modality == "OP" else "sisc_lung"
        return Work(model, images, replace(request, regions=tuple(found)))

    def _submit(self, work: Work, key: str, fingerprint: str, door: str, supersedes: str | None) -> str:
        if self.busy is not None:
            raise self.busy
        return self.store.accept(
            model=work.model, instances=work.instances, request=to_json(work.request), warnings=work.warnings,
            key=key, fingerprint=fingerprint, door=door, supersedes=supersedes,
        )  # fmt: skip

    # -- what arrives -----------------------------------------------------------------------------------------------

    def lay(self, *instances: Instance, association: str = "r.1", content: bytes = b"") -> list[str]:
        ids = []
        for one in instances:
            incoming = self.writer.begin()
            incoming.write(content or one.sop_instance_uid.encode())
            ids.append(incoming.keep(one, "dimse", "CT1", association))
        return ids

    def waiting(self) -> list[Path]:
        return list((self.folder / "inbox").glob("*.json"))

    # -- what becomes of it -----------------------------------------------------------------------------------------

    def drain(self) -> None:
        while self.arrivals._drain():
            pass

    def look(self, seconds: float = 0.0) -> None:
        """Look at open series as the thread does, again and again for so long, and once when the time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.arrivals._watch()
            time.sleep(0.01)
        self.arrivals._watch()

    def settle(self) -> None:
        """Look until no series is open."""
        self._look_until(lambda: not self.store.series.waiting())

    def pass_time(self, seconds: float) -> None:
        """Let a time go by for the series: all that came is so much older now."""
        self.passed += seconds

    def submitted(self) -> list[Any]:
        """The analyses, oldest first."""
        return self.store.page({})[0][::-1]

    def until(self, count: int) -> list[Any]:
        """The analyses when there are so many."""
        self._look_until(lambda: len(self.submitted()) >= count)
        return self.submitted()

    def _look_until(self, condition: Callable[[], bool]) -> None:
        def met() -> bool:
            return condition() or (self.look(), condition())[1]

        until(met, what=lambda: [(one.series_uid, one.state, one.reason) for one in self.known()])

    def known(self) -> list[Any]:
        return self.store.series.of_study(STUDY)

    def series(self, uid: str = SERIES) -> Any:
        return self.store.series.known(uid)

    def images(self, identity: str) -> set[str]:
        return {one.sop_instance_uid for one in self.store.instances(identity)}


@pytest.fixture
def make(tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Bench]]:
    monkeypatch.setattr(module, "LEAST_QUIET_S", 0.02)
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    monkeypatch.setattr(module, "REFERENCE_QUIET_S", 0.05)
    benches: list[Bench] = []
    moment = series_table.now

    def passed() -> timedelta:
        return timedelta(seconds=sum(one.passed for one in benches))

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + passed()

    monkeypatch.setattr(module, "datetime", Clock)
    monkeypatch.setattr(series_table, "now", lambda: (datetime.strptime(moment(), STORED) + passed()).strftime(STORED))

    def bench(**settings: Any) -> Bench:
        benches.append(Bench(tmp_path, tiny_models, **settings))
        return benches[-1]

    yield bench
    for one in benches:
        one.arrivals.stop()
        one.writer.close()
        one.store.close()


@pytest.fixture
def bench(make: Callable[..., Bench]) -> Bench:
    return make()


# -- filing -------------------------------------------------------------------------------------------------------------


def test_what_lies_in_the_inbox_is_filed_and_then_forgotten_there(bench: Bench) -> None:
    told: list[tuple[str, str]] = []
    bench.arrivals.on_arrival = lambda arrival, outcome: told.append((arrival.instance.sop_instance_uid, outcome))
    bench.lay(*(image(n) for n in range(1, 4)))
    bench.drain()
    assert [one.sop_instance_uid for one in bench.store.archive.study_instances(STUDY)] == [
        f"{SERIES}.{n}" for n in (1, 2, 3)
    ]
    assert bench.store.archive.by_uid(f"{SERIES}.2").path.read_bytes() == f"{SERIES}.2".encode()
    assert bench.series().state == "open"
    assert list((bench.folder / "inbox").iterdir()) == []
    assert told == [(f"{SERIES}.{n}", "stored") for n in (1, 2, 3)]


@pytest.mark.parametrize("step", ["archive.add", "series.touch", "inbox.done"])
def test_a_crash_at_any_step_repeats_it_and_loses_and_doubles_nothing(
    make: Callable[..., Bench], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends while a step is done: before its row is written, or after it."""
    bench = make()
    bench.lay(*(image(n) for n in range(1, 6)))
    part, name = step.split(".")
    owner: Any = {"archive": bench.store.archive, "series": bench.store.series, "inbox": bench.arrivals._inbox}[part]
    whole = getattr(owner, name)
    for before in (True, False):

        def broken(*arguments: Any, before: bool = before) -> Any:
            if not before:
                whole(*arguments)
            raise KeyboardInterrupt

        monkeypatch.setattr(owner, name, broken)
        with pytest.raises(KeyboardInterrupt):
            bench.drain()
        monkeypatch.undo()
    bench.drain()
    assert len(bench.store.archive.study_instances(STUDY)) == 5 and bench.waiting() == []
    (analysis,) = bench.until(1)
    bench.look(0.3)
    assert len(bench.submitted()) == 1 and len(bench.images(analysis.id)) == 5


def test_a_crash_after_a_file_was_moved_and_before_its_row_was_written(bench: Bench) -> None:
    """The sweep of the next start must not take the file for a leftover."""
    bench.lay(image(1))
    (entry,) = bench.arrivals._inbox.entries()
    assert entry.arrival is not None
    bench.store.blobs.adopt(entry.arrival.instance.path, entry.arrival.instance.sha256)
    assert not bench.arrivals.caught_up.is_set(), "this is what the sweep waits for"
    bench.arrivals.start()
    assert bench.arrivals.caught_up.wait(60)
    bench.store.sweep(time.time() + 60)
    assert bench.store.archive.by_uid(f"{SERIES}.1").path.read_bytes() == f"{SERIES}.1".encode()


def test_content_that_is_not_what_its_receiver_wrote_is_set_aside(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = bench.lay(image(1), image(2))
    file = bench.folder / "inbox" / f"{bad}.dcm"
    file.write_bytes(b"x" * file.stat().st_size)
    bench.drain()
    assert [one.sop_instance_uid for one in bench.store.archive.study_instances(STUDY)] == [f"{SERIES}.1"]
    assert good not in [path.stem for path in bench.waiting()] and "(content)" in caplog.text
    assert SERIES not in caplog.text
    kept = {path.name for path in (bench.folder / "inbox" / "garbled").iterdir()}
    assert kept == {f"{bad}.dcm", f"{bad}.json"}, "it was acknowledged: a person may want it"


def test_a_sidecar_that_cannot_be_read_is_set_aside(bench: Bench) -> None:
    first, second = bench.lay(image(1), image(2))
    (bench.folder / "inbox" / f"{first}.json").write_text("{")
    bench.drain()
    assert [one.sop_instance_uid for one in bench.store.archive.study_instances(STUDY)] == [f"{SERIES}.2"]
    assert (bench.folder / "inbox" / "garbled" / f"{first}.dcm").read_bytes() == f"{SERIES}.1".encode()
    assert second not in [path.stem for path in bench.waiting()]


def test_no_space_leaves_the_inbox_as_it_is(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.lay(*(image(n) for n in range(1, 4)))
    add = bench.store.archive.add

    def full(arrivals: Any) -> list[Filed]:
        return [*add(arrivals[:2]), *(Filed("no_space", one.instance) for one in arrivals[2:])]

    monkeypatch.setattr(bench.store.archive, "add", full)
    with pytest.raises(NoSpace, match="wait in the inbox"):
        bench.drain()
    assert len(bench.waiting()) == 3
    monkeypatch.undo()
    bench.drain()
    assert len(bench.store.archive.study_instances(STUDY)) == 3 and bench.waiting() == []


def test_the_thread_outlives_a_locked_database(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add, calls = bench.store.archive.add, []

    def locked_once(arrivals: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise OperationalError("INSERT 'DOE^JANE'", {}, Exception("database is locked"))
        return add(arrivals)

    monkeypatch.setattr(bench.store.archive, "add", locked_once)
    bench.lay(image(1))
    bench.arrivals.start()
    assert bench.arrivals.caught_up.wait(60) and bench.arrivals.working
    assert len(bench.store.archive.study_instances(STUDY)) == 1
    assert "OperationalError" in caplog.text and "DOE" not in caplog.text


def test_the_same_uid_with_other_content_is_kept_beside_the_archive(bench: Bench) -> None:
    bench.lay(image(1))
    bench.drain()
    bench.lay(image(1), content=b"other")
    bench.drain()
    assert bench.store.archive.by_uid(f"{SERIES}.1").path.read_bytes() == f"{SERIES}.1".encode(), "the first stays"
    (kept,) = bench.store.rejected()
    assert bench.store.blobs.path(kept["sha256"]).read_bytes() == b"other" and kept["sender"] == "CT1"
    assert bench.waiting() == []


def test_reports_of_storage_commitment_are_passed_on(bench: Bench) -> None:
    reports: list[Commitment] = []
    bench.arrivals.on_commitment = reports.append
    bench.writer.event("commitment", transaction_uid="1.9", succeeded=[["1.1", "1.2"]], failed=[["1.1", "1.3", 0x0112]])
    bench.drain()
    assert reports == [Commitment("1.9", (("1.1", "1.2"),), (("1.1", "1.3", 0x0112),))]


# -- when a series is complete --------------------------------------------------------------------------------------------


def test_a_series_without_gaps_is_answered_after_the_stable_time(make: Callable[..., Bench]) -> None:
    bench = make(series_stable_s=300.0)
    bench.lay(*(image(n) for n in range(1, 6)))
    bench.drain()
    bench.look(0.1)
    assert bench.submitted() == [] and bench.series().reason == "5 slices are here, without a gap"
    bench.pass_time(200)
    bench.look(0.1)
    assert bench.submitted() == []
    bench.pass_time(101)
    (analysis,) = bench.until(1)
    assert (analysis.door, analysis.model, len(bench.images(analysis.id))) == ("dicom", "sisc_lung", 5)
    assert (bench.series().state, bench.series().analysis) == ("answered", analysis.id)
    bench.look(0.3)
    assert len(bench.submitted()) == 1


def test_each_new_slice_begins_the_stable_time_anew(make: Callable[..., Bench]) -> None:
    bench = make(series_stable_s=300.0)
    for number in range(1, 7):
        bench.lay(image(number))
        bench.drain()
        bench.pass_time(200)
        bench.look(0.05)
    assert bench.submitted() == []
    bench.pass_time(101)
    (analysis,) = bench.until(1)
    assert len(bench.images(analysis.id)) == 6


def test_what_was_announced_is_not_waited_for_any_longer(make: Callable[..., Bench]) -> None:
    bench = make(series_stable_s=600.0)
    bench.lay(*(announcing(4, n) for n in range(1, 4)))
    bench.drain()
    bench.look(0.3)
    assert bench.submitted() == [] and bench.series().reason == "3 of 4 announced instances are here"
    bench.lay(announcing(4, 4))
    bench.drain()
    (analysis,) = bench.until(1)
    assert len(bench.images(analysis.id)) == 4


@pytest.mark.parametrize("gone", [[3], [3, 4]])
def test_a_series_with_gaps_waits_longer_and_says_what_may_be_missing(
    make: Callable[..., Bench], gone: list[int]
) -> None:
    bench = make(series_stable_s=100.0, series_wait_s=600.0)
    bench.lay(*(image(n) for n in range(1, 8) if n not in gone))
    bench.drain()
    bench.pass_time(300)
    bench.look(0.1)
    assert bench.submitted() == [] and "missing" in bench.series().reason
    bench.pass_time(301)
    (analysis,) = bench.until(1)
    assert any("may be incomplete" in warning and str(gone[0]) in warning for warning in analysis.warnings)


def test_an_open_association_is_waited_for_and_its_end_is_enough(bench: Bench) -> None:
    bench.writer.event("association-opened", association="r.1", sender="CT1")
    bench.lay(*(image(n) for n in range(1, 6)))
    bench.drain()
    bench.look(0.5)
    assert bench.submitted() == []
    bench.writer.event("association-closed", association="r.1", outcome="released")
    bench.drain()
    bench.until(1)


def test_a_receiver_that_died_and_a_start_after_a_crash_end_associations(bench: Bench) -> None:
    for name in ("r.1", "s.1"):
        bench.writer.event("association-opened", association=name, sender="CT1")
    bench.lay(image(1), association="r.1")
    bench.lay(image(1, "1.3.2"), association="s.1")
    bench.drain()
    bench.writer.event("receiver-lost", association="r.")
    bench.drain()
    assert [bench.store.series.sending(uid) for uid in (SERIES, "1.3.2")] == [False, True]
    bench.arrivals.start()
    assert bench.arrivals.caught_up.wait(60)
    assert not bench.store.series.sending("1.3.2"), "nobody sends to a process that has ended"


def test_an_association_that_hangs_is_not_waited_for_for_ever(make: Callable[..., Bench]) -> None:
    bench = make(dicom_idle_s=600.0)
    bench.writer.event("association-opened", association="r.1", sender="CT1")
    bench.lay(*(image(n) for n in range(1, 6)))
    bench.drain()
    bench.pass_time(300)
    bench.look(0.1)
    assert bench.submitted() == []
    bench.pass_time(301)
    bench.until(1)


# -- what comes later -----------------------------------------------------------------------------------------------------


def test_late_slices_lead_to_an_analysis_that_supersedes_the_first(bench: Bench) -> None:
    bench.lay(*(image(n) for n in range(1, 6)))
    bench.drain()
    bench.until(1)
    bench.lay(*(image(n) for n in range(6, 9)))
    bench.drain()
    first, second = bench.until(2)
    assert (second.supersedes, first.superseded_by) == (first.id, second.id)
    assert len(bench.images(second.id)) == 8 and bench.series().analysis == second.id


def test_the_same_study_again_changes_nothing(bench: Bench) -> None:
    slices = [image(n) for n in range(1, 6)]
    bench.lay(*slices)
    bench.drain()
    (analysis,) = bench.until(1)
    bench.lay(*slices)
    bench.drain()
    assert bench.series().state == "open"
    bench.look(0.5)
    assert (bench.series().state, [one.id for one in bench.submitted()]) == ("answered", [analysis.id])


def test_a_slice_that_comes_while_its_series_is_submitted_leads_to_a_superseding_analysis(bench: Bench) -> None:
    """STOW-RS files in its own thread."""
    bench.lay(*(image(n) for n in range(1, 6)))
    bench.drain()

    def late(instances: Sequence[Instance]) -> None:
        if len(instances) == 5:
            bench.lay(image(6))
            bench.drain()

    bench.refuse = late
    first, second = bench.until(2)
    assert (second.supersedes, len(bench.images(second.id))) == (first.id, 6)


def test_a_structure_set_that_comes_later_reopens_the_series_it_marks(bench: Bench) -> None:
    bench.lay(*(image(n) for n in range(1, 6)))
    bench.drain()
    (first,) = bench.until(1)
    bench.places[f"{MARKS}.1"] = (1.0, 2.0, 3.0)
    bench.lay(structures())
    bench.drain()
    _, second = bench.until(2)
    assert second.supersedes == first.id
    assert [region["center_mm"] for region in second.request["regions"]] == [[1.0, 2.0, 3.0]]
    assert bench.series(MARKS).state == "answered" and bench.series(MARKS).analysis is None


def test_a_structure_set_about_other_images_changes_nothing(bench: Bench) -> None:
    bench.lay(*(image(n) for n in range(1, 6)))
    bench.drain()
    bench.until(1)
    bench.lay(structures())
    bench.drain()
    bench.settle()
    bench.look(0.3)
    assert (
        len(bench.submitted()) == 1 and bench.series().state == "answered" and bench.series(MARKS).state == "answered"
    )


def test_a_structure_set_that_comes_first_waits_for_its_images(bench: Bench) -> None:
    bench.places[f"{MARKS}.1"] = (1.0, 2.0, 3.0)
    bench.lay(structures())
    bench.drain()
    bench.look(0.3)
    assert bench.submitted() == [] and bench.series(MARKS).state == "answered"
    bench.lay(*(image(n) for n in range(1, 6)))
    bench.drain()
    (analysis,) = bench.until(1)
    bench.look(0.3)
    assert len(analysis.request["regions"]) == 1 and len(bench.submitted()) == 1


# -- what is no series of slices --------------------------------------------------------------------------------------------


def test_each_photograph_is_answered_on_its_own_and_at_once(make: Callable[..., Bench]) -> None:
    bench = make(series_stable_s=600.0)
    bench.lay(photograph(1), photograph(2))
    bench.drain()
    found = bench.until(2)
    assert [bench.images(one.id) for one in found] in (
        [{f"{SERIES}.1"}, {f"{SERIES}.2"}],
        [{f"{SERIES}.2"}, {f"{SERIES}.1"}],
    )
    assert {one.model for one in found} == {"clear_dr"} and {one.supersedes for one in found} == {None}
    bench.lay(photograph(2), photograph(3))
    bench.drain()
    assert bench.images(bench.until(3)[2].id) == {f"{SERIES}.3"}
    bench.look(0.2)
    assert len(bench.submitted()) == 3


def test_a_photograph_that_cannot_be_answered_for_does_not_keep_the_others(bench: Bench) -> None:
    bench.refuse = lambda instances: OutOfContract("too dark") if instances[0].instance_number == 1 else None
    bench.lay(*(photograph(n) for n in (1, 2, 3)))
    bench.drain()
    assert {uid for one in bench.until(2) for uid in bench.images(one.id)} == {f"{SERIES}.2", f"{SERIES}.3"}
    bench.look(0.1)
    assert bench.series().state == "answered" and "1 left out: too dark" in bench.series().reason
    bench.refuse = lambda instances: OutOfContract("too dark")
    bench.lay(replace(photograph(4), series_uid="1.3.4", sop_instance_uid="1.3.4.1"))
    bench.drain()
    bench.look(0.2)
    assert (bench.series("1.3.4").state, bench.series("1.3.4").reason) == ("ignored", "too dark")


def test_our_own_results_are_no_input(bench: Bench) -> None:
    bench.lay(image(1, "1.3.7", modality="SR", attributes=OURS), image(1, "1.3.8", attributes=OURS))
    bench.drain()
    bench.look(0.4)
    assert bench.submitted() == [] and bench.store.series.waiting() == []


def test_what_no_model_takes_is_ignored_with_the_reason(bench: Bench) -> None:
    bench.lay(image(1, modality="MR", sop_class_uid="1.2.840.10008.5.1.4.1.1.4"))
    bench.drain()
    bench.look(0.4)
    assert (bench.series().state, bench.series().reason) == ("ignored", "no model takes DICOM MR")


def test_a_series_out_of_contract_is_ignored_with_the_reason(bench: Bench) -> None:
    bench.refuse = lambda instances: OutOfContract("slices of 12 mm; at most 5 mm")
    bench.lay(*(image(n) for n in range(1, 6)))
    bench.drain()
    bench.look(0.5)
    assert (bench.series().state, bench.series().reason) == ("ignored", "slices of 12 mm; at most 5 mm")


def test_store_only_stores(make: Callable[..., Bench]) -> None:
    bench = make(arrivals="store")
    bench.lay(*(image(n) for n in range(1, 6)), photograph(9))
    bench.drain()
    bench.look(0.5)
    assert bench.submitted() == [] and bench.series().state == "ignored" and "store only" in bench.series().reason
    assert len(bench.store.archive.study_instances(STUDY)) == 6


# -- troubles and races -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [Busy("the queue is full"), NoSpace("the disk is full")])
def test_a_full_house_is_waited_out(bench: Bench, trouble: Exception) -> None:
    bench.busy = trouble
    bench.lay(*(image(n) for n in range(1, 6)))
    bench.drain()
    bench.look(0.5)
    assert bench.submitted() == [] and bench.series().state == "open" and "is full" in bench.series().reason
    bench.busy = None
    bench.until(1)


def test_busy_decoders_are_waited_out(bench: Bench) -> None:
    """An InputError by its class, but nothing is wrong with the input."""
    bench.refuse = lambda instances: Busy("all decoders are at work")
    bench.lay(*(image(n) for n in range(1, 6)))
    bench.lay(replace(photograph(4), series_uid="1.3.4", sop_instance_uid="1.3.4.1"))
    bench.drain()
    bench.look(0.5)
    assert [one.state for one in bench.known()] == ["open", "open"]
    bench.refuse = lambda instances: None
    bench.until(2)


def test_a_series_that_cannot_be_looked_at_holds_up_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FAULT_PAUSE_S", 0.1)
    poison: list[str] = [SERIES]

    def refuse(instances: Sequence[Instance]) -> Exception | None:
        return RuntimeError("DOE^JANE") if instances[0].series_uid in poison else None

    bench.refuse = refuse
    bench.lay(*(image(n) for n in range(1, 6)))
    bench.drain()
    bench.lay(*(image(n, "1.3.2") for n in range(1, 6)))
    bench.drain()
    (analysis,) = bench.until(1)
    assert analysis.series == "1.3.2"
    bench.look(0.3)
    assert bench.series().state == "open" and "incident" in bench.series().reason
    assert "RuntimeError" in caplog.text and "DOE" not in caplog.text
    poison.clear()
    bench.until(2)


def test_a_series_whose_images_are_gone_is_settled(bench: Bench) -> None:
    bench.lay(*(image(n) for n in range(1, 6)))
    bench.drain()
    bench.store.archive.remove([f"{SERIES}.{n}" for n in range(1, 6)])
    bench.look(0.6)
    assert bench.series().state == "ignored"


def test_a_crash_between_the_analysis_and_its_note_makes_no_second_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*arguments: Any) -> bool:
        raise KeyboardInterrupt

    bench.lay(*(image(n) for n in range(1, 6)))
    bench.drain()
    monkeypatch.setattr(bench.store.series, "settle", crash)
    with pytest.raises(KeyboardInterrupt):
        bench.look(5)
    monkeypatch.undo()
    assert bench.series().state == "open"
    bench.arrivals = bench.open()
    bench.look(0.5)
    (analysis,) = bench.submitted()
    assert (bench.series().state, bench.series().analysis) == ("answered", analysis.id)


def test_of_hosts_that_find_a_series_complete_at_the_same_time_one_submits_it(bench: Bench) -> None:
    bench.lay(*(image(n) for n in range(1, 6)))
    bench.drain()
    time.sleep(0.3)
    hosts = [bench.open() for _ in range(4)]
    gate = threading.Barrier(len(hosts))

    def together(instances: Sequence[Instance]) -> None:
        gate.wait(60)  # all have looked before the first submits

    bench.refuse = together

    def look(host: Arrivals) -> None:
        host._watch()

    threads = [threading.Thread(target=look, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (analysis,) = bench.submitted()
    assert (bench.series().state, bench.series().analysis) == ("answered", analysis.id)


def test_a_host_without_workers_files_and_leaves_the_rest_to_others(tmp_path: Path, make: Callable[..., Bench]) -> None:
    bench = make(workers=0)
    bench.lay(*(image(n) for n in range(1, 6)))
    bench.arrivals.start()
    assert bench.arrivals.caught_up.wait(60)
    time.sleep(0.6)
    assert bench.submitted() == [] and bench.series().state == "open"


def test_an_idle_thread_waits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It once woke itself and took a whole core from the analyses."""
    looks: list[float] = []
    entries = bench.arrivals._inbox.entries
    monkeypatch.setattr(
        bench.arrivals._inbox, "entries", lambda limit: (looks.append(time.monotonic()), entries(limit))[1]
    )
    begin = time.monotonic()
    bench.arrivals.start()
    assert bench.arrivals.caught_up.wait(60)
    time.sleep(1.0)
    bench.arrivals.stop()
    seconds = time.monotonic() - begin
    assert 1 <= len(looks) <= 10 * seconds, f"{len(looks)} looks into an empty inbox in {seconds:.1f} s"
