"""Performs work items of the worklist that ask for what this service does (IHE AI Workflow for Imaging: Task Performer).

SCHEDULED -> IN PROGRESS -> COMPLETED | CANCELED. The worklist says what is to be done and the queue does it, under a key that
belongs to the work item; a crash at any moment repeats a step and never loses or doubles one. Work items that somebody else
claimed are left alone, and so are those whose images are not all here yet.
"""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from service.config import Settings
from service.errors import Busy, Conflict, InputError, NoSpace, NotFound
from service.inference import routing
from service.pipeline import orders, problem
from service.pipeline.analysis import Pipeline
from service.pipeline.orders import SCHEME, Order
from service.pipeline.queue import Queue
from service.records import Instance
from service.store.analyses import Store
from service.store.moments import stamp
from service.store.rows import Analysis
from service.store.subscriptions import attribute, code, first
from service.store.workitems import IN_PROGRESS, PERFORMED, PROGRESS, SCHEDULED, Workitem

log = logging.getLogger("pellucid.performer")

AHEAD = 2
"""Claimed work items a worker that wait in the queue; the others stay SCHEDULED, where priority counts and anybody may cancel."""
PAUSE_S, LONGEST_S = 0.5, 5.0
"""A work item that cannot begin yet is looked at again after a pause that doubles."""
FAULTS = 3
PERCENT = {"decode": 10, "quality": 30, "model": 40, "maps": 70, "objects": 85}
"""Procedure Step Progress when each stage begins."""

_FORMAT, _TYPE = ("110521", "Objects incorrectly formatted"), ("110522", "Object Types not supported")
_REASONS = {"unreadable": _FORMAT, "unknown-media": _TYPE, "out-of-contract": _TYPE, "too-large": _TYPE}
_FAULT, _OTHER = ("110501", "Equipment failure"), ("110513", "Discontinued for unspecified reason")
"""Procedure Discontinuation Reasons (PS3.16 CID 9300, 9302)."""


class Performer:
    """Takes up, follows and ends work items; `look` is called again and again from one thread.

    Parameters
    ----------
    store : Store
    pipeline : Pipeline
    queue : Queue
    settings : Settings
    """

    def __init__(self, store: Store, pipeline: Pipeline, queue: Queue, settings: Settings) -> None:
        self._store, self._pipeline, self._queue, self._settings = store, pipeline, queue, settings
        self._workitems = store.workitems
        self._pauses: dict[str, tuple[str, float, float]] = {}
        """When each waiting work item changed last, before what moment it is not looked at again, and the pause till then."""
        self._faults: dict[str, int] = {}

    def look(self) -> None:
        """Do what can be done now. Raises what the database raises."""
        for uid, analysis in self._workitems.abandoned():
            self._drop(uid, analysis)
        held = 0
        for item in self._workitems.performing():
            with self._guarding(item.uid):
                held += self._follow(item)
        self._take_up(held)

    @contextmanager
    def _guarding(self, uid: str) -> Iterator[None]:
        """A fault with one work item does not keep the others waiting; it is tried again, then given up."""
        try:
            yield
        except SQLAlchemyError:
            raise
        except Exception as error:  # noqa: BLE001
            body = problem.of_fault(error)
            self._faults[uid] = self._faults.get(uid, 0) + 1
            item = self._workitems.get(uid)
            if self._faults[uid] >= FAULTS and item.ours and item.state == IN_PROGRESS:
                self._discontinue(item, "fault", body["detail"])

    # -- begin ----------------------------------------------------------------------------------------------------------

    def _take_up(self, held: int) -> None:
        """Claim what may begin, by priority and age."""
        waiting = self._workitems.waiting()
        self._pauses = {uid: self._pauses[uid] for uid, _ in waiting if uid in self._pauses}
        ready = []
        for uid, changed in waiting:
            before, until, pause = self._pauses.get(uid, ("", 0.0, 0.0))
            if before == changed and time.monotonic() < until:
                continue
            pause = min(LONGEST_S, 2 * pause) if before == changed and pause else PAUSE_S
            self._pauses[uid] = (changed, time.monotonic() + pause, pause)
            with self._guarding(uid):
                found = self._ready(uid)
                if found is not None:
                    ready.append(found)
        for item, _ in sorted(ready, key=lambda pair: pair[1].priority):
            if held >= AHEAD * self._settings.workers:
                self._pauses.pop(item.uid, None)
                continue
            try:
                self._queue.check_room()
            except Busy:
                return
            held += 1
            with self._guarding(item.uid):
                claimed = self._claim(item)
                if claimed is not None:
                    self._submit(claimed)

    def _ready(self, uid: str) -> tuple[Workitem, Order] | None:
        """A work item that is for us and whose images are all here."""
        item = self._workitems.get(uid)
        order = self._order(item)
        if order is None or item.state != SCHEDULED or not orders.due(item.dataset):
            return None
        if self._workitems.absent(one.sop_instance_uid for one in order.inputs):
            return None
        if not order.explicit and not self._taken(self._inputs(order)):
            return None
        return item, order

    def _order(self, item: Workitem) -> Order | None:
        return orders.read(item.dataset, self._settings.ae_title, self._pipeline.bundles)

    def _taken(self, instances: Sequence[Instance]) -> bool:
        return any(routing.takes(bundle, one) for bundle in self._pipeline.bundles.values() for one in instances)

    def _inputs(self, order: Order) -> list[Instance]:
        """The referenced instances, all of which are in the archive."""
        archive = self._store.archive
        known: dict[str, Instance] = {}
        for study, series in dict.fromkeys((one.study_uid, one.series_uid) for one in order.inputs):
            try:
                known |= {one.sop_instance_uid: one for one in archive.series_instances(study, series)}
            except NotFound:
                continue
        uids = [one.sop_instance_uid for one in order.inputs]
        return [known.get(uid) or archive.by_uid(uid) for uid in uids]

    def _claim(self, item: Workitem) -> Workitem | None:
        """Make a work item ours; None when it is no longer what was looked at."""
        transaction = f"2.25.{uuid.uuid4().int}"
        station = code(self._settings.ae_title, SCHEME, "Pellucid")

        def rule(found: Workitem) -> Sequence[Workitem]:
            if found.state != SCHEDULED or found.changed != item.changed:
                return []
            begun = found.within(
                PERFORMED,
                attribute("PerformedStationNameCodeSequence", station),
                attribute("PerformedStationClassCodeSequence", code(orders.STATION_CLASS, SCHEME, "Pellucid")),
                attribute("PerformedStationGeographicLocationCodeSequence"),
                attribute("PerformedProcedureStepStartDateTime", stamp()),
                attribute("OutputInformationSequence"),
            )
            return [_at(begun, 0, "queued").to(IN_PROGRESS, transaction=transaction, analysis="")]

        claimed = self._workitems.change(item.uid, rule)
        return claimed if claimed.transaction == transaction else None

    def _submit(self, item: Workitem) -> None:
        """Queue the analysis of a claimed work item, once."""
        key = _key(item.uid)
        known = self._store.by_key(key)
        if known is None:
            try:
                known = key, self._queued(item, key)
            except (Busy, NoSpace):
                return  # it is ours and comes again
            except Conflict:  # another host was first
                known = self._store.by_key(key)
            except InputError as error:
                self._discontinue(item, error.slug, error.detail)
                return
        if known is None:
            return
        identity = known[1]

        def rule(found: Workitem) -> Sequence[Workitem]:
            return [replace(found, analysis=identity)] if found.state == IN_PROGRESS and found.analysis == "" else []

        if self._workitems.change(item.uid, rule).analysis != identity:
            self._forget_analysis(identity)  # canceled meanwhile

    def _queued(self, item: Workitem, key: str) -> str:
        order = self._order(item)
        if order is None or not order.inputs:
            raise InputError("the work item references no DICOM instances of this archive in its input information")
        request = orders.requested(item.dataset, order)
        if not (self._settings.objects if request.objects is None else request.objects):
            request = replace(request, objects=("SR",))  # a completed work item has an output
        work = self._pipeline.work(self._inputs(order), request)
        return self._queue.submit(work, key, key, door="ups")

    # -- follow and end -------------------------------------------------------------------------------------------------

    def _follow(self, item: Workitem) -> bool:
        """Bring a work item to where its analysis is; whether it still waits in the queue."""
        if not item.analysis:
            self._submit(item)
            return True
        try:
            analysis, stage = next(iter(self._queue.follow(item.analysis, 0)))
        except NotFound:
            self._discontinue(item, "", "the analysis of this work item was deleted")
            return False
        if analysis.status == "completed":
            self._complete(item, analysis)
        elif analysis.status == "failed":
            error = analysis.error or {}
            self._discontinue(item, _slug(error), str(error.get("detail", "")))
        elif PERCENT.get(stage, 0) > _percent(item):
            self._workitems.change(
                item.uid, lambda found: [_at(found, PERCENT[stage], stage)] if _same(found, item) else []
            )
        return analysis.status == "queued"

    def _complete(self, item: Workitem, analysis: Analysis) -> None:
        result = analysis.result or {}
        bundle = self._pipeline.bundles.get(analysis.model)
        model = code(analysis.model[:16], SCHEME, str(bundle.description["title"])[:64] if bundle else analysis.model)

        def rule(found: Workitem) -> Sequence[Workitem]:
            if not _same(found, item):
                return []
            ended = found.within(
                PERFORMED,
                attribute("PerformedProcedureStepEndDateTime", stamp()),
                attribute("PerformedWorkitemCodeSequence", model),
                attribute("PerformedProcessingParametersSequence", *_parameters(result.get("model", {}))),
                attribute("CommentsOnThePerformedProcedureStep", f"Outcome: {result.get('outcome')}"),
                attribute("OutputInformationSequence", *_outputs(analysis.study, result.get("objects", []))),
            )
            return [_at(ended, 100, "completed").to("COMPLETED")]

        self._workitems.change(item.uid, rule)
        self._faults.pop(item.uid, None)

    def _discontinue(self, item: Workitem, slug: str, text: str) -> None:
        """End a work item of ours that cannot be completed."""
        value, meaning = _REASONS.get(slug) or (_FAULT if slug in ("fault", "attempts") else _OTHER)
        reason = code(value, "DCM", meaning)
        self._workitems.change(item.uid, lambda found: [found.discontinued(reason, text)] if _same(found, item) else [])
        self._faults.pop(item.uid, None)

    def _drop(self, uid: str, analysis: str) -> None:
        """Delete the analysis of a work item that was canceled, with what it made."""
        if not analysis:
            known = self._store.by_key(_key(uid))
            analysis = known[1] if known else ""
        if analysis:
            self._forget_analysis(analysis)
        self._workitems.change(uid, lambda found: [replace(found, analysis=None)])

    def _forget_analysis(self, identity: str) -> None:
        try:
            self._store.delete(identity)
        except NotFound:
            log.debug("the analysis of a canceled work item is gone already")


def _key(uid: str) -> str:
    """Idempotency key of a work item's analysis."""
    return hashlib.sha256(f"workitem:{uid}".encode()).hexdigest()


def _same(found: Workitem, item: Workitem) -> bool:
    """Whether a work item is still ours as it was claimed."""
    return found.state == IN_PROGRESS and found.transaction == item.transaction


def _slug(error: dict[str, Any]) -> str:
    return str(error.get("type", "")).rpartition("#problem-")[2]


def _percent(item: Workitem) -> float:
    return float(first(item.dataset, PROGRESS, "ProcedureStepProgress") or 0)


def _at(item: Workitem, percent: int, stage: str) -> Workitem:
    return item.within(
        PROGRESS,
        attribute("ProcedureStepProgress", percent),
        attribute("ProcedureStepProgressDescription", stage),
    )


def _parameters(model: dict[str, Any]) -> list[dict[str, Any]]:
    """Which algorithm answered: name, version, device UID of its weights (content items, PS3.3 10.2)."""
    concepts = (
        ("111001", "Algorithm Name", model.get("name")),
        ("111003", "Algorithm Version", model.get("version")),
        ("121012", "Device Observer UID", model.get("device_uid")),
    )
    return [
        {
            **attribute("ValueType", "UIDREF" if value == "121012" else "TEXT"),
            **attribute("ConceptNameCodeSequence", code(value, "DCM", meaning)),
            **attribute("UID" if value == "121012" else "TextValue", text),
        }
        for value, meaning, text in concepts
        if text
    ]


def _outputs(study: str, objects: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Referenced Instances and Access Macro (PS3.3 10.26), one item a series.

    Retrieve URLs begin at the DICOMweb root; the entrance completes them with the address by which it was reached.
    """
    series: dict[str, list[dict[str, Any]]] = {}
    for one in objects:
        reference = {
            **attribute("ReferencedSOPClassUID", one["sop_class_uid"]),
            **attribute("ReferencedSOPInstanceUID", one["sop_instance_uid"]),
        }
        series.setdefault(one["series_uid"], []).append(reference)
    return [
        {
            **attribute("ReferencedSOPSequence", *references),
            **attribute("StudyInstanceUID", study),
            **attribute("SeriesInstanceUID", uid),
            **attribute("TypeOfInstances", "DICOM"),
            **attribute("WADORSRetrievalSequence", attribute("RetrieveURL", f"/studies/{study}/series/{uid}")),
        }
        for uid, references in series.items()
    ]
