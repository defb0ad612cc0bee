"""From instances that come through the DICOM doors to analyses: file them, wait until their series is complete, submit it.

The database says what came and what became of it, so a crash at any moment repeats a step and never loses or doubles one.
A series is complete by what its sender announced and by its geometry; a quiet time comes on top, a short one for a series
without gaps. What comes later reopens it, and its new answer supersedes the old one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from service.config import Settings
from service.delivery.attempt import Commitment
from service.errors import Busy, Conflict, InputError, NoSpace, NotFound
from service.inference import routing
from service.intake import multiframe
from service.intake.inbox import Event, Inbox
from service.pipeline import completeness, problem, regions
from service.pipeline.analysis import Pipeline
from service.pipeline.performer import Performer
from service.pipeline.queue import Queue
from service.pipeline.request import stored
from service.pipeline.work import Work
from service.records import Arrival, Instance, Request
from service.store.analyses import Store
from service.store.filing import Filed
from service.store.series import Series

log = logging.getLogger("pellucid.arrivals")

BATCH = 200
POLL_S = 0.25
STACKS = ("CT",)
"""Modalities whose series grow slice by slice."""
LEAST_QUIET_S = 0.3
"""Such a series is looked at when nothing came for so long, and then again after `PAUSE_S`."""
PAUSE_S = 0.5
FAULT_PAUSE_S = 10.0
"""The same after a fault of ours, so that it holds up no other series."""
REFERENCE_QUIET_S = 1.0
"""After a report or segmentation came, its series waits at least so long for others."""


class Arrivals:
    """The one thread that files what arrives on this host and watches over open series.

    Parameters
    ----------
    store : Store
    pipeline : Pipeline
    queue : Queue
    inbox : Inbox
    settings : Settings
    """

    def __init__(self, store: Store, pipeline: Pipeline, queue: Queue, inbox: Inbox, settings: Settings) -> None:
        self._store, self._pipeline, self._queue, self._inbox, self._settings = store, pipeline, queue, inbox, settings
        self._wake = threading.Event()
        self._stopping = False
        self.caught_up = threading.Event()
        """Set when all that lay in the inbox at the start is filed."""
        self._pauses: dict[str, tuple[str, float]] = {}
        """When each open series came last and before what moment it is not looked at again."""
        self._thread = threading.Thread(target=self._work, name="arrivals", daemon=True)
        self.performer: Performer | None = None
        """Does what work items ask for."""
        self.on_commitment: Callable[[Commitment], None] = lambda report: None
        self.on_arrival: Callable[[Arrival, str], None] = lambda arrival, outcome: None
        """Told every arrival and what became of it, for metrics."""

    def start(self) -> None:
        """Tidy up what a crash left, then begin."""
        self._inbox.recover()
        if not self._store.shared:
            self._store.series.forget_associations("")
        self._thread.start()

    def wake(self) -> None:
        """Something lies in the inbox."""
        self._wake.set()

    def stop(self) -> None:
        """End after the step at hand; what lies in the inbox stays there."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(10)

    @property
    def working(self) -> bool:
        return self._thread.is_alive() and not self._stopping

    def _work(self) -> None:
        while not self._stopping:
            try:
                busy = self._drain()
                if not busy:
                    self.caught_up.set()
                if self._settings.workers:
                    self._watch()
                    if self.performer is not None:
                        self.performer.look()
            except Exception as error:  # noqa: BLE001 - outlives a locked, full or absent database
                problem.of_fault(error)
                time.sleep(1.0)
                continue
            if not busy:
                self._wake.wait(POLL_S)
                self._wake.clear()

    # -- filing ---------------------------------------------------------------------------------------------------------

    def _drain(self) -> bool:
        """File what lies in the inbox; whether there may be more."""
        entries = self._inbox.entries(BATCH)
        for entry in entries:
            if entry.event is not None and entry.event.kind == "association-opened":
                self._store.series.opened(entry.event.association)
        genuine = []
        for entry in entries:
            if entry.arrival is not None and self._genuine(entry.arrival):
                genuine.append(entry.arrival)
            elif entry.arrival is not None:
                self._inbox.set_aside(entry.id, "content")
        for arrival, one in zip(genuine, self.received(genuine), strict=True):
            if one.outcome == "conflict":
                log.warning("an instance came again under its UID with other content; the first is kept in the archive")
                self._store.reject(self._placed(arrival), "its SOP Instance UID is here with other content")
        for entry in entries:
            if entry.event is not None:
                self._happened(entry.event)
        self._inbox.done(entries)
        return len(entries) == BATCH

    def _genuine(self, arrival: Arrival) -> bool:
        """Whether an arrival's content is what its receiver wrote of it, or was moved to its place before a crash."""
        path, sha256 = arrival.instance.path, arrival.instance.sha256
        if not path.exists():
            return self._store.blobs.path(sha256).exists()
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == sha256

    def received(self, arrivals: Sequence[Arrival]) -> list[Filed]:
        """File arrivals and watch over their series.

        Raises
        ------
        NoSpace
            When the disk has no room; what was not filed is still where it was.
        """
        filed = self._store.archive.add([self._placed(arrival) for arrival in arrivals])
        self.watch(arrivals, filed)
        if any(one.outcome == "no_space" for one in filed):
            raise NoSpace("the disk ran full while instances were filed; they wait in the inbox")
        return filed

    def _placed(self, arrival: Arrival) -> Arrival:
        """The arrival with the path of its content, wherever a crash left it."""
        path = self._store.blobs.path(arrival.instance.sha256)
        if arrival.instance.path.exists() or not path.exists():
            return arrival
        return replace(arrival, instance=replace(arrival.instance, path=path))

    def watch(self, arrivals: Sequence[Arrival], filed: Sequence[Filed]) -> None:
        """What was filed reopens its series, whatever they were; results of ours that come back are no input."""
        self._store.series.touch(
            (one.instance.series_uid, one.instance.study_uid, one.instance.modality)
            for one in filed
            if one.outcome in ("stored", "repeated") and one.origin != "result" and not regions.own(one.instance)
        )
        for arrival, one in zip(arrivals, filed, strict=True):
            self.on_arrival(arrival, one.outcome)
        if filed:
            self.wake()

    def _happened(self, event: Event) -> None:
        if event.kind == "association-closed":
            self._store.series.closed(event.association)
        elif event.kind == "receiver-lost":
            self._store.series.forget_associations(event.association)
        elif event.kind == "commitment":
            self.on_commitment(Commitment(event.transaction_uid, event.succeeded, event.failed))

    # -- watching over series -------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        waiting = self._store.series.waiting()
        self._pauses = {series.series_uid: self._pauses.get(series.series_uid, ("", 0.0)) for series in waiting}
        for series in waiting:
            if self._stopping:
                return
            last, until = self._pauses[series.series_uid]
            growing = series.modality in STACKS and _age_s(series.last) < LEAST_QUIET_S
            if growing or (last == series.last and time.monotonic() < until):
                continue
            self._pauses[series.series_uid] = (series.last, time.monotonic() + PAUSE_S)
            try:
                self._look(series)
            except (Busy, NoSpace) as error:
                self._store.series.note(series, error.detail)
            except NotFound as error:  # its images were purged or deleted meanwhile
                self._store.series.settle(series, "ignored", error.detail)
            except Exception as error:  # noqa: BLE001 - a series that cannot be looked at holds up no other
                fault = problem.of_fault(error)
                self._pauses[series.series_uid] = (series.last, time.monotonic() + FAULT_PAUSE_S)
                self._store.series.note(
                    series, f"it could not be looked at (incident {fault['incident']}); tried again"
                )

    def _look(self, series: Series) -> None:
        if self._settings.arrivals == "store":
            self._store.series.settle(series, "ignored", "the settings say: store only")
            return
        instances = self._store.archive.series_instances(series.study_uid, series.series_uid)
        sources = [one for one in instances if not regions.own(one)]
        if not sources:
            self._store.series.settle(series, "ignored", "results of this software")
        elif all(regions.names_places(one) for one in sources):
            self._reopen_marked(series, sources)
        elif not any(routing.takes(bundle, one) for bundle in self._pipeline.bundles.values() for one in sources):
            self._store.series.settle(series, "ignored", f"no model takes {routing.kind(sources[0])}")
        elif self._photographs(sources):
            self._submit_photographs(series, sources)
        else:
            self._look_at_stack(series, sources)

    def _photographs(self, sources: Sequence[Instance]) -> bool:
        retina = [bundle for bundle in self._pipeline.bundles.values() if bundle.task == routing.RETINA]
        return any(routing.takes(bundle, one) for bundle in retina for one in sources)

    def _reopen_marked(self, series: Series, marks: Sequence[Instance]) -> None:
        """A report or segmentation came: the series of the study that it may speak about are looked at again."""
        if _age_s(series.last) < REFERENCE_QUIET_S:
            return
        others = [
            other for other in self._store.series.of_study(series.study_uid) if other.series_uid != series.series_uid
        ]
        if self._store.series.settle(series, "answered", "names places in images; used with their series"):
            self._store.series.touch(
                (other.series_uid, other.study_uid, other.modality)
                for other in others
                if other.modality not in regions.MODALITIES
            )

    def _submit_photographs(self, series: Series, sources: Sequence[Instance]) -> None:
        """Each photograph is an analysis of its own, at once; one that cannot be answered for does not keep the others."""
        answered: list[str | None] = []
        why = ""
        for instance in sources:
            try:
                work = self._pipeline.work([instance], Request())
            except (Busy, NoSpace):
                raise
            except InputError as error:
                why = error.detail
                continue
            answered.append(self._submit(work, f"photograph:{instance.sop_instance_uid}:{instance.sha256}", None))
        if not answered:
            self._store.series.settle(series, "ignored", why)
            return
        text = f"{len(answered)} photograph(s)" + (f", {len(sources) - len(answered)} left out: {why}" if why else "")
        self._store.series.settle(series, "answered", text, analysis=answered[-1])

    def _look_at_stack(self, series: Series, sources: list[Instance]) -> None:
        slices = [frame for one in sources for frame in multiframe.frames(one)]
        verdict = completeness.judge(slices)
        quiet = _age_s(series.last)
        needed = self._settings.series_stable_s if verdict.whole else self._settings.series_wait_s
        sending = self._store.series.sending(series.series_uid)
        if verdict.announced and not sending:
            needed = 0.0
        if quiet < needed or (sending and quiet < max(needed, self._settings.dicom_idle_s)):
            self._store.series.note(series, verdict.reason)
            return
        marks = [one for one in self._store.archive.study_instances(series.study_uid) if regions.names_places(one)]
        used = _fingerprint([*sources, *marks])
        if used == series.fingerprint:
            self._store.series.settle(series, "answered", verdict.reason)
            return
        try:
            work = self._pipeline.work([*sources, *marks], Request())
        except (Busy, NoSpace):
            raise
        except InputError as error:
            self._store.series.settle(series, "ignored", error.detail, used)
            return
        missing = () if verdict.whole else (f"the series may be incomplete: {verdict.reason}",)
        work = work.noting(missing)
        if series.analysis is not None and self._same_request(series.analysis, work.request, sources):
            self._store.series.settle(series, "answered", verdict.reason, used)
            return
        identity = self._submit(work, f"series:{series.series_uid}:{used}", series.analysis)
        self._store.series.settle(series, "answered", verdict.reason, used, identity)

    def _same_request(self, analysis: str, request: Request, sources: Sequence[Instance]) -> bool:
        """Whether an earlier analysis had the same images and regions: a mark that concerns other images changes nothing."""
        try:
            before = self._store.get(analysis)
        except InputError:
            return False
        images = {one.sha256 for one in self._store.instances(analysis)}
        return stored(before.request).regions == request.regions and images == {one.sha256 for one in sources}

    def _submit(self, work: Work, key: str, supersedes: str | None) -> str | None:
        """Submit once, whoever asks: the key belongs to the images."""
        fingerprint = hashlib.sha256(key.encode()).hexdigest()
        known = self._store.by_key(fingerprint)
        if known is not None:
            return known[1]
        try:
            return self._queue.submit(work, fingerprint, fingerprint, door="dicom", supersedes=supersedes)
        except Conflict:  # another host was first
            known = self._store.by_key(fingerprint)
            return known[1] if known else None


def _fingerprint(instances: Sequence[Instance]) -> str:
    return hashlib.sha256(json.dumps(sorted({one.sha256 for one in instances})).encode()).hexdigest()


def _age_s(moment: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
