"""A small durable queue on the database: what was accepted is answered, also after a crash, and never runs for ever.

States: queued -> running -> completed | failed. An analysis that takes the process down is taken up again at the next start,
at most `attempts` times in all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from service.errors import Busy, InputError
from service.maps import arrays
from service.pipeline import body, problem
from service.pipeline.analysis import Pipeline
from service.pipeline.request import parse, to_json
from service.pipeline.work import Work
from service.records import Finding, Outcome
from service.store.analyses import Store
from service.store.rows import Analysis

log = logging.getLogger("pellucid.queue")

POLL_S = 1.0


class Queue:
    """Takes analyses from the store and runs them in worker threads.

    Parameters
    ----------
    store : Store
    pipeline : Pipeline
    workers : int
        Analyses at the same time.
    limit : int
        Waiting analyses before new ones are refused.
    attempts : int
        How often one analysis is taken up before it counts as failed.
    on_end : callable, optional
        Told every ended analysis, for metrics.
    """

    def __init__(
        self,
        store: Store,
        pipeline: Pipeline,
        *,
        workers: int = 1,
        limit: int = 256,
        attempts: int = 3,
        on_end: Callable[[Analysis], None] = lambda analysis: None,
    ) -> None:
        self._store, self._pipeline, self._limit, self._attempts = store, pipeline, limit, attempts
        self.on_end = on_end
        self._changed = threading.Condition()
        self._changes = 0
        self._stopping = False
        self._stages: dict[str, str] = {}
        """Stage of each running analysis."""
        self._threads = [threading.Thread(target=self._work, name=f"analysis-{n}", daemon=True) for n in range(workers)]

    # -- life -----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take up what a crash left running, then begin to work."""
        error = problem.problem(
            500,
            "attempts",
            "This analysis stopped the service several times",
            f"It was given up after {self._attempts} attempts; other analyses are not affected. "
            "Send the input to the maintainers if you may.",
        )
        taken_up = self._store.recover(self._attempts, error)
        if taken_up:
            log.warning("%d analyses were running when the service ended; they are taken up again", taken_up)
        for thread in self._threads:
            thread.start()

    @property
    def working(self) -> bool:
        """Whether all worker threads are alive and not about to stop."""
        return not self._stopping and all(thread.is_alive() for thread in self._threads)

    def interrupt(self) -> None:
        """Take no more analyses and send waiting callers away; returns at once."""
        self._stopping = True

    def stop(self, wait_s: float) -> bool:
        """Let the running analyses end, at most `wait_s` seconds; give the others back to the queue. True when none was left."""
        self.interrupt()
        self._notify()
        end = time.monotonic() + wait_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))
        left = list(self._stages)
        for identity in left:
            self._store.requeue(identity, counted=False)
        return not left

    # -- callers --------------------------------------------------------------------------------------------------------

    def check_room(self) -> None:
        """Raise Busy when no more analyses are taken."""
        if self._stopping:
            raise Busy("the service is about to stop; send the input again in a moment")
        waiting = self._store.counts().get("queued", 0)
        if waiting >= self._limit:
            raise Busy(f"{waiting} analyses are waiting, the limit is {self._limit}; send the input again later")

    def submit(self, work: Work, key: str | None = None, fingerprint: str = "") -> str:
        """Store prepared work and queue it; its id. Raises Busy, NoSpace, Conflict."""
        self.check_room()
        identity = self._store.accept(
            model=work.model,
            instances=work.instances,
            request=to_json(work.request),
            warnings=work.warnings,
            key=key,
            fingerprint=fingerprint,
        )
        self._notify()
        return identity

    def wait(self, identity: str, seconds: float) -> Analysis:
        """The analysis when it has ended, or as it is after `seconds`. Raises NotFound when it is deleted meanwhile."""
        end = time.monotonic() + seconds
        for analysis, _ in self.follow(identity, min(0.5, seconds)):
            if analysis.ended or time.monotonic() >= end:
                break
        return analysis

    def follow(self, identity: str, tick_s: float) -> Iterator[tuple[Analysis, str]]:
        """The analysis and its stage: at once, then at every change and at least every `tick_s` seconds until it ends.

        Ends early when the service stops. Raises NotFound when the analysis does not exist or is deleted.
        """
        while True:
            seen, stage = self._changes, self._stages.get(identity, "")
            analysis = self._store.get(identity)
            yield analysis, stage if analysis.status == "running" else ""
            if analysis.ended or self._stopping:
                return
            self._await_change(seen, tick_s)

    def _await_change(self, seen: int, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._changes != seen or self._stopping, seconds)

    # -- workers --------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stopping:
            try:
                with self._changed:  # held, so that no submit is missed between looking and waiting
                    analysis = self._store.claim()
                    if analysis is None:
                        self._changed.wait(POLL_S)
                        continue
                self._run(analysis)
            except Exception as error:  # noqa: BLE001 - the worker outlives a locked or full database
                problem.of_fault(error)
                time.sleep(POLL_S)

    def _notify(self) -> None:
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def _report(self, identity: str, stage: str) -> None:
        self._stages[identity] = stage
        self._notify()

    def _run(self, analysis: Analysis) -> None:
        identity = analysis.id
        self._stages[identity] = ""
        try:
            work = Work(analysis.model, tuple(self._store.instances(identity)), parse(analysis.request))
            outcome = self._pipeline.run(work, lambda stage: self._report(identity, stage))
            if not self._store.complete(identity, self._result(analysis, outcome)):
                self._store.discard_maps(identity)  # deleted meanwhile
        except InputError as error:
            self._store.fail(identity, problem.of_input(error))
        except Exception as error:  # noqa: BLE001 - a fault of ours ends this analysis, not the worker
            fault = problem.of_fault(error)
            if analysis.attempts < self._attempts:
                self._store.requeue(identity)
            else:
                self._store.fail(identity, fault)
        finally:
            self._stages.pop(identity, None)
            self._notify()
        self._tell(identity)

    def _tell(self, identity: str) -> None:
        try:
            analysis = self._store.get(identity)
        except InputError:
            return
        if analysis.ended:
            self.on_end(analysis)

    def _result(self, analysis: Analysis, outcome: Outcome) -> dict[str, Any]:
        """Store the maps and complete the clock: waiting is from acceptance until the run began."""
        begin = time.monotonic()
        self._save(analysis.id, outcome.findings)
        timing = dict(outcome.timing_ms)
        timing["maps"] += (time.monotonic() - begin) * 1000
        total = _age_ms(analysis.created)
        timing["queue"] = max(0.0, total - timing["total"] - (time.monotonic() - begin) * 1000)
        timing["total"] = total
        return body.result(
            replace(outcome, timing_ms=timing), self._pipeline.bundles[analysis.model], analysis.warnings
        )

    def _save(self, identity: str, findings: tuple[Finding, ...]) -> None:
        for finding in findings:
            if finding.maps is not None:
                arrays.save(finding.maps, self._store.maps_path(identity, finding.id, create=True))


def _age_ms(created: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds() * 1000
