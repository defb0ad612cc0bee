"""Accepted analyses on their way to an answer: what was accepted is answered, also after a crash, and never runs for ever.

States: queued -> running -> completed | failed. The database says what is to be done; a dispatcher hands it to the durable
engine (`workflow`), which runs it here or, where several hosts share the database, on any of them. An analysis that takes a
process down is taken up again, at most `attempts` times in all.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from service.errors import Busy, InputError, NotFound
from service.maps import arrays
from service.pipeline import body, problem, request, similar
from service.pipeline.analysis import Pipeline
from service.pipeline.objects import Made, Objects
from service.pipeline.revisions import REGIONS, Revisions
from service.pipeline.sending import Sending
from service.pipeline.work import Work
from service.pipeline.workflow import Interrupted, Workflows
from service.records import Finding, Outcome, Request
from service.store import trouble
from service.store.analyses import Store
from service.store.deliveries import Delivery
from service.store.rows import Analysis

log = logging.getLogger("pellucid.queue")

POLL_S = 1.0
HEARTBEATS = 3
"""Signs of life, at least, in the time after which a host counts as lost."""
PURGE_S = 600.0
URGENT = ("http", "again")
"""Doors behind which a person waits."""
KEEP_RECORDS = timedelta(days=1)
"""How long the engine's record of something that ended is kept."""


class Queue:
    """Accepts analyses, runs them and has their results sent.

    Parameters
    ----------
    store : Store
    pipeline : Pipeline
    objects : Objects
        Makes the DICOM objects of a result.
    sending : Sending
        Sends them.
    engine_url : str
        Database of the durable engine.
    host : str
        Name of this host.
    workers : int
        Analyses at the same time; 0: this host only accepts, others work.
    limit : int
        Waiting analyses before new ones are refused.
    attempts : int
        How often one analysis is taken up before it counts as failed.
    host_lost_s : float
        A host without a sign of life for so long has its work taken over.
    retention : timedelta, optional
        How long analyses and received images are kept; for ever where there is none.
    revisions : Revisions, optional
        Makes objects anew after verdicts; without it nobody does.
    on_end : callable, optional
        Told every analysis that ended here.
    """

    def __init__(
        self,
        store: Store,
        pipeline: Pipeline,
        objects: Objects,
        sending: Sending,
        *,
        engine_url: str,
        host: str = "local",
        workers: int = 1,
        limit: int = 256,
        attempts: int = 3,
        host_lost_s: float = 45.0,
        retention: timedelta | None = None,
        revisions: Revisions | None = None,
        on_end: Callable[[Analysis], None] = lambda analysis: None,
    ) -> None:
        self._store, self._pipeline, self._objects, self._sending = store, pipeline, objects, sending
        self._limit, self._attempts, self._workers, self._lost_s = limit, attempts, workers, host_lost_s
        self.on_end = on_end
        self._changed = threading.Condition()
        self._changes = 0
        self._stopping = False
        self._stages: dict[str, str] = {}
        """Stage of each analysis that runs here."""
        self._delivering: set[tuple[str, str]] = set()
        """(analysis, destination) of what is being sent here."""
        self._given_back: set[str] = set()
        """What a stop did not wait for."""
        self._handed: set[tuple[str, ...]] = set()
        """What the engine has been told."""
        self._revisions, self._revising = revisions, set[str]()
        if revisions is not None:
            revisions.wake = self._notify
        self._engine = Workflows(engine_url, host, self._analyse, self._deliver, self._revise, workers)
        self._dispatcher = threading.Thread(target=self._dispatch, name="dispatcher", daemon=True)
        self._heart = threading.Thread(target=self._beat, name="heart", daemon=True)
        self._next_look = self._last_look = 0.0
        self._others: dict[str, tuple[str, float]] = {}
        """The other hosts' latest sign of life, and when it was new here."""
        sending.stopping = lambda: self._stopping
        self._retention, self._next_purge = retention, 0.0

    # -- life -----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take up what a crash left, then begin to work."""
        if self._workers:
            self._engine.start()
            self._dispatcher.start()
            if self._store.shared:
                self._heart.start()

    @property
    def working(self) -> bool:
        """Whether what is accepted here is worked on here, or is not meant to be."""
        return not self._stopping and (self._workers == 0 or self._dispatcher.is_alive())

    def interrupt(self) -> None:
        """Take no more analyses and send waiting callers away; returns at once."""
        self._stopping = True

    def stop(self, wait_s: float) -> bool:
        """Let what runs end, at most `wait_s` seconds; give the rest back to the queue. True when none was left."""
        self.interrupt()
        self._notify()
        if not self._dispatcher.is_alive() and not self._stages:
            return True
        end = time.monotonic() + wait_s
        self._dispatcher.join(wait_s)
        while (self._stages or self._delivering or self._revising) and time.monotonic() < end:
            time.sleep(0.02)
        left = list(self._stages)
        self._given_back.update(left)
        for identity in left:
            try:
                self._store.requeue(identity, counted=False)
            except Exception as error:  # noqa: BLE001 - it is taken up again in any case, but counted
                problem.of_fault(error)
        self._engine.stop(0)
        return not left and not self._delivering and not self._revising

    # -- callers --------------------------------------------------------------------------------------------------------

    def check_room(self) -> None:
        """Raise Busy when no more analyses are taken."""
        if self._stopping:
            raise Busy("the service is about to stop; send the input again in a moment")
        waiting = self._store.counts().get("queued", 0)
        if waiting >= self._limit:
            raise Busy(f"{waiting} analyses are waiting, the limit is {self._limit}; send the input again later")

    def submit(
        self,
        work: Work,
        key: str | None = None,
        fingerprint: str = "",
        door: str = "http",
        supersedes: str | None = None,
    ) -> str:
        """Store prepared work and queue it; its id.

        `door` is how the images came: "http", "dicom", "ups"; "again" where a person asks about those that came through a
        DICOM door. Raises Busy, NoSpace, Conflict, and NotFound when stored images are deleted meanwhile.
        """
        self.check_room()
        identity = self._store.accept(
            model=work.model,
            instances=work.instances,
            request=request.to_json(work.request),
            warnings=work.warnings,
            key=key,
            fingerprint=fingerprint,
            door=door,
            supersedes=supersedes,
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

    def stage(self, identity: str) -> str | None:
        """The stage of an analysis that runs on this host."""
        return self._stages.get(identity) or None

    def wake(self) -> None:
        """Something in the database is to be done: look at once."""
        self._notify()

    def _await_change(self, seen: int, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._changes != seen or self._stopping, seconds)

    def _notify(self) -> None:
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    # -- dispatcher -----------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        while not self._stopping:
            seen = self._changes
            try:
                self._hand_over()
                self._look_after_hosts()
            except Exception as error:  # noqa: BLE001 - outlives a locked, full or absent database
                problem.of_fault(error)
                time.sleep(POLL_S)
            self._await_change(seen, POLL_S)

    def _hand_over(self) -> None:
        """Tell the engine what is to be done; telling it again does nothing."""
        told: set[tuple[str, ...]] = set()
        for identity, attempts, door in self._store.queued():
            name: tuple[str, ...] = (identity, str(attempts))
            told.add(name)
            if name not in self._handed and not self._engine.enqueue_analysis(identity, attempts, door in URGENT):
                self._store.count_attempt(identity, attempts)  # its worker ended without a word
        first: dict[tuple[str, str], Delivery] = {}
        for delivery in self._sending.due():  # one attempt sends all that is due of an analysis to a destination
            first.setdefault((delivery.analysis, delivery.destination), delivery)
        for (analysis, destination), delivery in first.items():
            # named after the first of them: others of the same analysis (a revision's) count their attempts anew
            attempt = f"{delivery.id}.{delivery.round}.{delivery.attempts}"
            name = (analysis, destination, attempt)
            told.add(name)
            if name not in self._handed and not self._engine.enqueue_delivery(analysis, destination, attempt):
                self._sending.lost(delivery)
        if self._revisions is not None:
            for behind in self._revisions.due():
                attempt = f"{behind.verdicts}.{behind.attempts}"
                name = ("revision", behind.analysis, attempt)
                told.add(name)
                if name not in self._handed and not self._engine.enqueue_revision(behind.analysis, attempt):
                    self._revisions.lost(behind)
        self._handed = told

    def _look_after_hosts(self) -> None:
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + self._lost_s / HEARTBEATS
        if self._store.shared:
            self._take_over()
        self._engine.forget(datetime.now(UTC) - KEEP_RECORDS)
        self._sending.ask_again()
        if self._retention is not None and time.monotonic() >= self._next_purge:
            self._next_purge = time.monotonic() + PURGE_S
            before = _stored(datetime.now(UTC) - self._retention)
            count = self._store.purge(before) + self._store.workitems.forget(before)
            if count:
                log.info("%d analyses, images and work items were purged here: their time was up", count)

    def _beat(self) -> None:
        """Give signs of life. A thread of its own: the engine holds the dispatcher for a while after the database was away."""
        while not self._stopping:
            try:
                self._store.hosts.beat(self._engine.host)
            except Exception as error:  # noqa: BLE001 - the database is away
                problem.of_fault(error)
            trouble.rest(self._lost_s / HEARTBEATS, lambda: self._stopping)

    def _take_over(self) -> None:
        """Take over the work of hosts whose sign of life stands still.

        Only this host's own clock is asked, and only while it can see the others: their clocks may be wrong, and while the
        database was away nobody could give a sign.
        """
        moment = time.monotonic()
        blind, self._last_look = moment - self._last_look > self._lost_s, moment
        seen = self._store.hosts.seen()
        seen.pop(self._engine.host, None)
        before = {} if blind else self._others
        self._others = {
            host: before[host] if host in before and before[host][0] == sign else (sign, moment)
            for host, sign in seen.items()
        }
        for host, (sign, since) in self._others.items():
            if moment - since > self._lost_s:
                log.warning("a host gave no sign of life for %.0f s; its work is taken over", moment - since)
                self._engine.take_over([host])
                self._store.hosts.forget(host, sign)

    # -- workers --------------------------------------------------------------------------------------------------------

    def _analyse(self, identity: str) -> None:
        """Do an analysis; troubles of the database and the disk are waited out and are no attempt of their own.

        Raises
        ------
        Interrupted
            When the service stops: the engine must not note that this has ended.
        """
        analysis: Analysis | None = None
        pause = trouble.FIRST_PAUSE_S
        self._stages[identity] = ""
        try:
            while not self._stopping:
                try:
                    analysis = analysis or self._store.begin(identity)
                    if analysis is not None:
                        self._run(analysis)
                    break
                except Exception as error:  # noqa: BLE001 - a locked, full or absent database, a full disk
                    problem.of_fault(error)
                trouble.rest(pause, lambda: self._stopping)
                pause = min(2 * pause, trouble.LONGEST_PAUSE_S)
            else:
                raise Interrupted
            if identity in self._given_back:
                raise Interrupted
        finally:
            self._stages.pop(identity, None)
            self._notify()
        if analysis is not None:
            self._tell(identity)

    def _deliver(self, analysis: str, destination: str) -> None:
        if self._stopping:
            raise Interrupted
        self._delivering.add((analysis, destination))
        try:
            self._sending.attempt(analysis, destination)
        except Exception as error:  # noqa: BLE001 - it is still waiting in the database and comes again
            problem.of_fault(error)
            if self._stopping:
                raise Interrupted from None
            time.sleep(POLL_S)
        finally:
            self._delivering.discard((analysis, destination))
            self._notify()

    def _revise(self, analysis: str) -> None:
        revisions = self._revisions
        if self._stopping:
            raise Interrupted
        if revisions is None:
            return
        self._revising.add(analysis)
        try:
            revisions.make(analysis)
        except Exception as error:  # noqa: BLE001 - it is still to be done and comes again
            if self._stopping:
                raise Interrupted from None
            fault = error
            trouble.wait_out(lambda: revisions.failed(analysis, fault), lambda: self._stopping)
        finally:
            self._revising.discard(analysis)
            self._notify()

    def _report(self, identity: str, stage: str) -> None:
        self._stages[identity] = stage
        self._notify()

    def _run(self, analysis: Analysis) -> None:
        identity = analysis.id
        if analysis.attempts > self._attempts:
            self._fail(analysis, _given_up(self._attempts))
            return
        try:
            instances = tuple(self._store.instances(identity))
            work = Work(analysis.model, instances, request.stored(analysis.request))
            outcome = self._pipeline.run(work, lambda stage: self._report(identity, stage))
            self._complete(analysis, work, outcome)
        except Exception as error:  # a fault of ours ends this analysis, not the worker
            if trouble.passes(error):
                raise
            told = problem.of_input(error) if isinstance(error, InputError) else problem.of_fault(error)
            if isinstance(error, InputError) or analysis.attempts >= self._attempts:
                self._fail(analysis, told)
            else:
                self._waiting_out(lambda: self._store.requeue(identity))

    def _fail(self, analysis: Analysis, error: dict[str, Any]) -> None:
        planned = self._sending.plan_failure(analysis)
        self._waiting_out(lambda: self._store.fail(analysis.id, error, planned))

    def _waiting_out(self, action: Callable[[], bool]) -> bool:
        return trouble.wait_out(action, lambda: self._stopping)

    def _complete(self, analysis: Analysis, work: Work, outcome: Outcome) -> None:
        """Store maps, objects, result and what is to be sent, and complete the clock: waiting is from acceptance to the run."""
        begin = time.monotonic()
        bundle = self._pipeline.bundles[analysis.model]
        self._save(analysis.id, outcome.findings)
        timing = dict(outcome.timing_ms)
        timing["maps"] += (time.monotonic() - begin) * 1000
        result = body.result(replace(outcome, timing_ms=timing), bundle, analysis.warnings)
        self._report(analysis.id, "objects")
        made = time.monotonic()
        objects, described, warnings = self._make_objects(analysis, work, outcome, result)
        timing["objects"] = (time.monotonic() - made) * 1000
        total = _age_ms(analysis.created)
        timing["queue"] = max(0.0, total - timing["total"] - (time.monotonic() - begin) * 1000)
        timing["total"] = total
        result["objects"], result["warnings"] = described, [*result["warnings"], *warnings]
        places = tuple(finding.region for finding in outcome.findings if finding.region is not None)
        result[REGIONS] = request.to_json(Request(regions=places))["regions"]
        result["timing_ms"] = {stage: round(ms, 1) for stage, ms in timing.items()}
        planned = self._sending.plan(analysis, outcome.outcome, objects)
        if not self._waiting_out(lambda: self._store.complete(analysis.id, result, objects, planned)):
            self._discard_maps_of_deleted(analysis.id)

    def _make_objects(self, analysis: Analysis, work: Work, outcome: Outcome, result: dict[str, Any]) -> Made:
        """The objects of a result. The report names the one that it replaces, unless it is the very same again."""
        bundle, needed = self._pipeline.bundles[analysis.model], analysis.door != "http"
        reports = self._store.reports(analysis.supersedes)
        replaced, older = ([report for _, report in reports] + [None, None])[:2]
        if replaced is not None and _repeats(reports[0][0], analysis, result):
            made = self._objects.make(work, outcome, result, bundle, supersedes=older, needed=needed)
            if replaced[0] in [one.sop_instance_uid for one in made[0]]:
                return made
        return self._objects.make(work, outcome, result, bundle, supersedes=replaced, needed=needed)

    def _discard_maps_of_deleted(self, identity: str) -> None:
        """Unless it was completed meanwhile: by another host, or by a commit whose answer got lost."""
        try:
            self._store.get(identity)
        except NotFound:
            self._store.discard_maps(identity)

    def _tell(self, identity: str) -> None:
        try:
            analysis = self._store.get(identity)
        except InputError:
            return
        if analysis.ended:
            self.on_end(analysis)

    def _save(self, identity: str, findings: tuple[Finding, ...]) -> None:
        for finding in findings:
            if finding.maps is not None:
                arrays.save(finding.maps, self._store.maps_path(identity, finding.id, create=True))
            if finding.features is not None:
                similar.keep(finding.features, self._store.maps_path(identity, finding.id, create=True))


def _repeats(before: Analysis, analysis: Analysis, result: dict[str, Any]) -> bool:
    """Whether an analysis asked the same of the same images and weights as an earlier one."""
    told = json.loads(json.dumps([result["model"], result["input"]]))
    known = before.result or {}
    return before.request == analysis.request and told == [known.get("model"), known.get("input")]


def _given_up(attempts: int) -> dict[str, Any]:
    return problem.problem(
        500,
        "attempts",
        "This analysis stopped the service several times",
        f"It was given up after {attempts} attempts; other analyses are not affected. "
        "Send the input to the maintainers if you may.",
    )


def _stored(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _age_ms(created: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds() * 1000
