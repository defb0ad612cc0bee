"""After a reader's verdict: the objects of the analysis are made anew with it, sent, and the old ones rejected.

What a reader says against the model (a rejection, a correction) changes the objects, and so does taking it back. An acceptance
alone does not: they say what the model said, and a click is no signature under a report. The verdict in the database is the
order; `judged` only makes it quicker. Verdicts that follow one another soon make one revision.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from models.bundle import Bundle
from service.delivery import backoff
from service.errors import Conflict, InputError, NotFound
from service.maps import arrays
from service.pipeline import problem, request
from service.pipeline.analysis import Pipeline
from service.pipeline.objects import Answer, Objects, Revision
from service.pipeline.sending import Sending
from service.pipeline.work import Work
from service.records import MadeKind, Region, ResultObject
from service.store.analyses import Store
from service.store.assessments import Assessment
from service.store.revisions import Behind, Known
from service.store.rows import STORED, Analysis

if TYPE_CHECKING:
    from service.results.report import Verdict

log = logging.getLogger("pellucid.revisions")

AGAINST = ("rejected", "modified")
"""Verdicts that the objects repeat."""
SETTLE_S = 5.0
"""So long after a verdict another one is waited for."""
SWEEP_S = 15.0
"""So often all verdicts are looked at: those that another host took, or that came before a crash."""
BACKOFF_S, LONGEST_S = 5.0, 3600.0
REGIONS = "regions"
"""Key of the stored result under which the places stand that its findings answer for."""


class Revisions:
    """Makes objects anew; thread-safe.

    Parameters
    ----------
    store : Store
    pipeline : Pipeline
        Has the models.
    objects : Objects
    sending : Sending
    settle_s : float
        So long after a verdict another one is waited for.
    """

    def __init__(
        self, store: Store, pipeline: Pipeline, objects: Objects, sending: Sending, settle_s: float = SETTLE_S
    ) -> None:
        self._store, self._pipeline, self._objects, self._sending = store, pipeline, objects, sending
        self._settle = timedelta(seconds=settle_s)
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        """Analyses that are looked at without waiting for the next sweep."""
        self._next_sweep = 0.0
        self.wake: Callable[[], None] = lambda: None
        """Has `due` looked at soon."""

    def judged(self, identity: str) -> None:
        """A verdict on an analysis was stored."""
        with self._lock:
            self._asked.add(identity)
        self.wake()

    def due(self) -> list[Behind]:
        """Analyses whose objects are to be made anew now."""
        with self._lock:
            asked, self._asked = self._asked, set()
        everything = time.monotonic() >= self._next_sweep
        if not everything and not asked:
            return []
        behind = self._store.revisions.behind(None if everything else asked)
        if everything:
            self._next_sweep = time.monotonic() + SWEEP_S
        with self._lock:
            self._asked |= {one.analysis for one in behind}
        moment = datetime.now(UTC)
        return [one for one in behind if self._settled(one, moment) and one.due <= moment.strftime(STORED)]

    def _settled(self, one: Behind, moment: datetime) -> bool:
        newest = _moment(one.newest)
        return not moment - self._settle < newest <= moment  # a clock that is ahead must not hold it up

    # -- a worker's steps -----------------------------------------------------------------------------------------------

    def make(self, identity: str) -> None:
        """Make an analysis' objects say what its readers say; does nothing where they do. Repeating it is fine.

        Raises
        ------
        InputError
            When that cannot be done now, with what is to be done.
        """
        while not self._made(identity):
            log.info("the objects were made anew by somebody else meanwhile; looking again")

    def _made(self, identity: str) -> bool:
        try:
            analysis = self._store.get(identity)
        except NotFound:
            return True
        verdicts = self._store.assessments.of_analysis(identity)
        known = self._store.revisions.known(identity)
        result = analysis.result
        if result is None or analysis.superseded_by is not None or len(verdicts) <= known.verdicts:
            return True
        latest = {one.finding: one for one in verdicts}
        said = _said(latest)
        replaced = tuple(_named(one) for one in result["objects"] if one["kind"] != "RN")
        if not replaced or said == known.said:
            self._store.revisions.note(identity, Known(len(verdicts), said))
            return True
        revision = Revision(
            analysis.revision + 1, _against(latest), max(_moment(one.created) for one in verdicts), replaced
        )
        made, described = self._objects.revise(self._answer(analysis, result), revision)
        sent = [one for one in made if one.kind != "RN"]
        done = self._store.revise(
            identity,
            revision.number,
            {**result, "objects": described},
            made,
            [one.sop_instance_uid for one in replaced],
            self._sending.plan(analysis, result["outcome"], sent, revision.number),
            Known(len(verdicts), said),
        )
        if done:
            log.info("revision %d of analysis %s: its objects were made anew", revision.number, identity)
        return done

    def _answer(self, analysis: Analysis, result: Mapping[str, Any]) -> Answer:
        """What is stored of an answer, as it was when its objects were made first."""
        work = Work(analysis.model, tuple(self._store.instances(analysis.id)), request.stored(analysis.request))
        paths = {one["id"]: self._store.maps_path(analysis.id, one["id"]) for one in result["findings"]}
        maps = {name: arrays.load(path) for name, path in paths.items() if path.exists()}
        return Answer(work, result, self._bundle(analysis.model, result), maps, regions(work, result))

    def _bundle(self, name: str, result: Mapping[str, Any]) -> Bundle:
        bundle, model = self._pipeline.bundles.get(name), result["model"]
        if bundle is None or (bundle.sha256, bundle.version) != (model["sha256"], model["version"]):
            raise Conflict(
                f"model {name} {model['version']}, which answered, is not installed any more, so the DICOM objects do not say "
                "what the reader says; install it, or analyse the images again"
            )
        return bundle

    def failed(self, identity: str, error: Exception) -> None:
        """Note why objects could not be made anew; it is tried again after a while."""
        if isinstance(error, InputError):
            told = error.detail
            log.warning("revision of analysis %s: %s", identity, told)
        else:
            told = f"the DICOM objects could not be made anew (incident {problem.of_fault(error)['incident']})"
        known = self._store.revisions.known(identity)
        self._later(identity, replace(known, problem=told))

    def lost(self, one: Behind) -> None:
        """The engine has ended an attempt and nothing came of it."""
        known = self._store.revisions.known(one.analysis)
        if known.attempts == one.attempts and known.verdicts < one.verdicts:
            self._later(one.analysis, known)

    def _later(self, identity: str, known: Known) -> None:
        attempts = known.attempts + 1
        due = datetime.now(UTC) + timedelta(seconds=backoff.wait_s(attempts, BACKOFF_S, LONGEST_S, identity))
        self._store.revisions.note(identity, replace(known, attempts=attempts, due=due.strftime(STORED)))


def regions(work: Work, result: Mapping[str, Any]) -> dict[str, Region]:
    """Finding id to the place that it answers for. Results of older versions name only those that somebody asked for."""
    if REGIONS in result:
        return {one.id: one for one in request.stored({"regions": result[REGIONS]}).regions}
    named = {one.id: one for one in work.request.regions}
    return {one["id"]: named[one["id"]] for one in result["findings"] if one["id"] in named}


def _against(latest: Mapping[str, Assessment]) -> dict[str, Verdict]:
    """What is said against the model, by finding."""
    from service.results.report import Verdict  # highdicom takes a second to import

    return {
        name: Verdict(cast(Any, one.verdict), _moment(one.created), one.value, one.reason, one.reader)
        for name, one in sorted(latest.items())
        if one.verdict in AGAINST
    }


def _said(latest: Mapping[str, Assessment]) -> str:
    """The same without the time, as text: who repeats a verdict says nothing new."""
    against = {
        name: [one.verdict, one.value, one.reason, one.reader] for name, one in latest.items() if one.verdict in AGAINST
    }
    return json.dumps(against, sort_keys=True)


def _named(described: Mapping[str, Any]) -> ResultObject:
    """An object by its part of the body, without its bytes."""
    kind = cast(MadeKind, described["kind"])
    return ResultObject(kind, described["sop_class_uid"], described["sop_instance_uid"], described["series_uid"], b"")


def _moment(stored: str) -> datetime:
    return datetime.strptime(stored, STORED).replace(tzinfo=UTC)
