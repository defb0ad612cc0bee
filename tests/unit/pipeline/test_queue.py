"""The durable queue: everything accepted ends, in order, once, whatever goes wrong on the way."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models import bundle as bundles
from service.errors import Busy, NotFound, OutOfContract
from service.maps import arrays
from service.pipeline.queue import Queue
from service.pipeline.sending import Sending
from service.pipeline.work import STAGES, Work
from service.records import Finding, Instance, Outcome, Request, ResponseMap
from service.store.analyses import Store
from tests.waiting import until

Run = Callable[[Work, Callable[[str], None]], Outcome]


def outcome(work: Work) -> Outcome:
    maps = ResponseMap(
        np.ones((1, 2, 4, 4), np.float32), np.zeros((1, 8, 8), np.uint8), ("benign", "malignant"), np.zeros((1, 4)), ("1.2",),
        np.array([0.5, 0.5]), "guided", "contrast", 1.0,
    )  # fmt: skip
    finding = Finding("n1", {"id": "n1", "evidence": {"maps": {"clear": "maps/n1/clear.png"}}}, maps)
    return Outcome("negative", work.model, {}, {}, (finding,), ("from the run",), dict.fromkeys(STAGES, 1.0))


class Bench:
    """A queue whose pipeline is one function."""

    def __init__(self, tmp_path: Path, tiny_models: Path) -> None:
        self.store = Store(tmp_path / "data", free_bytes=0)
        self.folder = tmp_path
        self.run: Run = lambda work, report: outcome(work)
        self.make: Callable[[], Any] = lambda: ((), [], [])
        """The DICOM objects, their part of the body, warnings."""
        self.pipeline: Any = SimpleNamespace(
            bundles={"sisc_lung": bundles.load(tiny_models / "sisc_lung")},
            run=lambda work, report: self.run(work, report),
        )
        self.ended: list[str] = []
        self.queue = self.open()

    def open(self, **more: Any) -> Queue:
        sending = Sending(self.store, (), lambda analysis: b"", attempts=2, backoff_s=0.1, longest_s=1)
        objects: Any = SimpleNamespace(make=lambda *arguments, **more: self.make())
        return Queue(
            self.store,
            self.pipeline,
            objects,
            sending,
            engine_url=f"sqlite:///{self.folder / 'workflows.sqlite'}",
            on_end=lambda analysis: self.ended.append(analysis.status),
            **more,
        )

    def work(self, content: bytes = b"x") -> Work:
        path = self.folder / hashlib.sha256(content).hexdigest()[:8]
        path.write_bytes(content)
        return Work(
            "sisc_lung",
            (Instance(path, hashlib.sha256(content).hexdigest(), "dicom", 4, 4, "1.2"),),
            Request(),
            ("from prepare",),
        )

    def close(self) -> None:
        self.queue.stop(30)
        self.store.close()


@pytest.fixture
def bench(tmp_path: Path, tiny_models: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, tiny_models)
    yield made
    made.close()


def set_when_stopping(bench: Bench, go: threading.Event) -> None:
    """Set an event a moment after the queue was told to stop, however late that is."""

    def watch() -> None:
        until(lambda: not bench.queue.working)
        time.sleep(0.2)
        go.set()

    threading.Thread(target=watch).start()


def test_what_is_submitted_is_completed_with_maps_and_timing(bench: Bench) -> None:
    bench.queue.start()
    analysis = bench.queue.wait(bench.queue.submit(bench.work()), 60)
    assert analysis.status == "completed" and analysis.result is not None
    assert analysis.result["warnings"] == ["from prepare", "from the run"]
    assert set(analysis.result["timing_ms"]) == set(STAGES)
    assert analysis.result["timing_ms"]["total"] >= analysis.result["timing_ms"]["queue"] >= 0
    assert arrays.load(bench.store.maps_path(analysis.id, "n1")).response.shape == (1, 2, 4, 4)
    until(lambda: bench.ended)
    assert bench.queue.stop(60)
    assert bench.ended == ["completed"]


def test_what_was_accepted_before_the_start_is_done(bench: Bench) -> None:
    ids = [bench.queue.submit(bench.work(bytes([n]))) for n in range(3)]
    assert [bench.queue.wait(i, 0).status for i in ids] == ["queued"] * 3
    order: list[str] = []
    bench.run = lambda work, report: (order.append(work.instances[0].sha256), outcome(work))[1]
    bench.queue.start()
    assert [bench.queue.wait(i, 60).status for i in ids] == ["completed"] * 3
    assert order == [hashlib.sha256(bytes([n])).hexdigest() for n in range(3)]


def test_an_input_error_is_kept_as_a_problem_and_not_tried_again(bench: Bench) -> None:
    calls: list[int] = []

    def run(work: Work, report: Callable[[str], None]) -> Outcome:
        calls.append(1)
        raise OutOfContract("too thick", [{"where": "thickness", "message": "m", "value": 12, "limit": 5}])

    bench.run = run
    bench.queue.start()
    analysis = bench.queue.wait(bench.queue.submit(bench.work()), 60)
    assert (analysis.status, len(calls)) == ("failed", 1)
    assert analysis.error is not None
    assert (analysis.error["status"], analysis.error["detail"], analysis.error["errors"][0]["value"]) == (
        422,
        "too thick",
        12,
    )


def test_a_fault_is_tried_again_and_given_up_after_three_attempts(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def run(work: Work, report: Callable[[str], None]) -> Outcome:
        calls.append(1)
        raise RuntimeError("DOE^JANE must not be logged")

    bench.run = run
    bench.queue.start()
    analysis = bench.queue.wait(bench.queue.submit(bench.work()), 60)
    assert (analysis.status, len(calls)) == ("failed", 3)
    assert analysis.error is not None and analysis.error["status"] == 500
    assert "DOE" not in str(analysis.error) and "DOE" not in caplog.text
    assert analysis.error["incident"] in caplog.text and "RuntimeError" in caplog.text
    bench.run = lambda work, report: outcome(work)
    assert bench.queue.wait(bench.queue.submit(bench.work(b"next")), 60).status == "completed"


def test_a_fault_that_passes_is_forgiven(bench: Bench) -> None:
    calls: list[int] = []

    def run(work: Work, report: Callable[[str], None]) -> Outcome:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("a moment's trouble")
        return outcome(work)

    bench.run = run
    bench.queue.start()
    assert bench.queue.wait(bench.queue.submit(bench.work()), 60).status == "completed"


def crash(bench: Bench, tiny_models: Path) -> None:
    """A process takes up what is queued and is killed in the middle of it."""
    bench.store.close()
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("crashing.py")), str(bench.folder), str(tiny_models)],
        check=False,
        timeout=180,
    )
    assert done.returncode == -signal.SIGKILL
    bench.store = Store(bench.folder / "data", free_bytes=0)


def test_after_a_crash_the_running_analysis_is_taken_up_again(bench: Bench, tiny_models: Path) -> None:
    identity = bench.queue.submit(bench.work())
    crash(bench, tiny_models)
    assert (bench.store.get(identity).status, bench.store.get(identity).attempts) == ("running", 1)
    bench.queue = bench.open()
    bench.queue.start()
    assert bench.queue.wait(identity, 60).status == "completed"
    assert bench.store.get(identity).attempts == 2


def test_an_analysis_that_kills_the_process_three_times_is_given_up(bench: Bench, tiny_models: Path) -> None:
    identity = bench.queue.submit(bench.work())
    for _ in range(3):
        crash(bench, tiny_models)
    bench.queue = bench.open()
    bench.queue.start()
    analysis = bench.queue.wait(identity, 60)
    assert analysis.status == "failed" and analysis.error is not None
    assert "3 attempts" in analysis.error["detail"]


def test_a_full_queue_says_so(bench: Bench) -> None:
    small = bench.open(limit=1)
    small.submit(bench.work(b"1"))
    with pytest.raises(Busy, match="limit is 1"):
        small.submit(bench.work(b"2"))
    assert bench.store.counts() == {"queued": 1}


def test_a_stop_waits_for_the_running_one_and_leaves_the_rest_queued(bench: Bench) -> None:
    started, go = threading.Event(), threading.Event()

    def run(work: Work, report: Callable[[str], None]) -> Outcome:
        started.set()
        go.wait(60)
        return outcome(work)

    bench.run = run
    bench.queue.start()
    first, second = bench.queue.submit(bench.work(b"1")), bench.queue.submit(bench.work(b"2"))
    assert started.wait(60)
    set_when_stopping(bench, go)
    assert bench.queue.stop(60)
    assert (bench.store.get(first).status, bench.store.get(second).status) == ("completed", "queued")
    with pytest.raises(Busy, match="about to stop"):
        bench.queue.submit(bench.work(b"3"))


def test_a_stop_that_cannot_wait_gives_the_running_one_back_uncounted(bench: Bench) -> None:
    started, go = threading.Event(), threading.Event()

    def run(work: Work, report: Callable[[str], None]) -> Outcome:
        started.set()
        go.wait(60)
        return outcome(work)

    bench.run = run
    bench.queue.start()
    identity = bench.queue.submit(bench.work())
    assert started.wait(60)
    assert not bench.queue.stop(0.05)
    assert (bench.store.get(identity).status, bench.store.get(identity).attempts) == ("queued", 0)
    go.set()
    until(lambda: not bench.queue._stages)
    assert bench.store.get(identity).status == "queued"  # the late result does not count


def test_an_analysis_deleted_in_mid_run_leaves_no_maps(bench: Bench) -> None:
    started, go = threading.Event(), threading.Event()

    def run(work: Work, report: Callable[[str], None]) -> Outcome:
        started.set()
        go.wait(60)
        return outcome(work)

    bench.run = run
    bench.queue.start()
    identity = bench.queue.submit(bench.work())
    assert started.wait(60)
    bench.store.delete(identity)
    go.set()
    assert bench.queue.stop(60)
    assert not bench.store.maps_path(identity, "n1").exists()
    with pytest.raises(NotFound):
        bench.queue.wait(identity, 1)


def test_followers_see_every_stage(bench: Bench) -> None:
    seen: list[tuple[str, str]] = []
    steps = threading.Semaphore(0)

    def run(work: Work, report: Callable[[str], None]) -> Outcome:
        for stage in ("decode", "model"):
            report(stage)
            steps.acquire(timeout=60)
        return outcome(work)

    bench.run = run
    bench.make = lambda: (steps.acquire(timeout=60), ((), [], []))[1]
    identity = bench.queue.submit(bench.work())
    bench.queue.start()
    for analysis, stage in bench.queue.follow(identity, 1):
        seen.append((analysis.status, stage))
        if stage and seen.count((analysis.status, stage)) == 1:
            steps.release()
    assert [s for n, s in enumerate(seen) if s[1] and s not in seen[:n]] == [
        ("running", "decode"),
        ("running", "model"),
        ("running", "objects"),
    ]
    assert seen[-1] == ("completed", "")


def test_waiting_ends_in_time_and_at_once_when_it_is_done(bench: Bench) -> None:
    identity = bench.queue.submit(bench.work())
    begin = time.monotonic()
    assert bench.queue.wait(identity, 0.3).status == "queued"
    assert 0.25 < time.monotonic() - begin < 30
    bench.run = lambda work, report: (time.sleep(0.2), outcome(work))[1]
    begin = time.monotonic()
    bench.queue.start()
    assert bench.queue.wait(identity, 300).status == "completed"
    assert time.monotonic() - begin < 60
