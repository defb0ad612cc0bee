"""The DICOM objects of a result: made from the images' own headers, a sample checked by a validator, listed in the body."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from models.bundle import Bundle
from service import __version__
from service.intake import multiframe
from service.intake.sandbox import Sandbox
from service.pipeline import problem, request
from service.pipeline.work import Work
from service.records import Outcome, Region, ResponseMap, ResultObject

if TYPE_CHECKING:
    from service.results.report import Predecessor, Report, Verdict

Made = tuple[tuple[ResultObject, ...], list[dict[str, Any]], list[str]]


@dataclass(frozen=True)
class Answer:
    """What is known of an answer when its objects are made.

    Attributes
    ----------
    work : Work
    result : mapping
        Its Analysis body.
    bundle : Bundle
        The model that answered.
    maps, regions : mapping
        Finding id to its response maps, and to the place that it answers for.
    """

    work: Work
    result: Mapping[str, Any]
    bundle: Bundle
    maps: Mapping[str, ResponseMap] = field(default_factory=dict)
    regions: Mapping[str, Region] = field(default_factory=dict)


@dataclass(frozen=True)
class Revision:
    """Why objects are made anew.

    Attributes
    ----------
    number : int
        1 for the first time.
    verdicts : mapping
        Finding id to what a reader says against the model's answer.
    moment : datetime
        When the newest verdict was given.
    replaced : tuple of ResultObject
        The objects that no longer hold; their `data` may be empty.
    """

    number: int
    verdicts: Mapping[str, Verdict]
    moment: datetime
    replaced: tuple[ResultObject, ...]


class Objects:
    """Makes objects.

    Parameters
    ----------
    sandbox : Sandbox
        Reads the images' headers.
    kinds : sequence of str
        What is made where the request names nothing.
    region_share : float
        Share of its peak above which a map counts as the critical region.
    validation_share : float
        Share of objects that are validated at once.
    """

    def __init__(self, sandbox: Sandbox, kinds: Sequence[str], region_share: float, validation_share: float) -> None:
        self._sandbox = sandbox
        self._kinds, self._region_share, self._validation_share = tuple(kinds), region_share, validation_share

    def make(
        self,
        work: Work,
        outcome: Outcome,
        result: Mapping[str, Any],
        bundle: Bundle,
        *,
        supersedes: tuple[str, str] | None = None,
        needed: bool = False,
    ) -> Made:
        """The objects, their part of the Analysis body, and warnings.

        Parameters
        ----------
        work, outcome, result, bundle
            What was asked, what was found, its Analysis body, and the model that answered.
        supersedes : (str, str), optional
            SOP Instance UID and Series Instance UID of the report that this result replaces.
        needed : bool
            Where a PACS waits for the objects a fault is an error; who sent files over HTTP gets the answer without them.
        """
        kinds = self._wanted(work)
        if not kinds:
            return (), [], []
        if work.instances[0].media != "dicom":
            asked = [
                "photographs and crops without a DICOM header have no patient or study: no DICOM objects were made"
            ]
            return (), [], asked if work.request.objects else []
        maps = {finding.id: finding.maps for finding in outcome.findings if finding.maps is not None}
        regions = {finding.id: finding.region for finding in outcome.findings if finding.region is not None}
        try:
            made = self.build(Answer(work, result, bundle, maps, regions), supersedes)
        except Exception as error:
            if needed:
                raise
            fault = problem.of_fault(error)
            return (), [], [f"the DICOM objects could not be made (incident {fault['incident']})"]
        return made, [self._described(one) for one in made], []

    def build(self, answer: Answer, supersedes: tuple[str, str] | None = None) -> tuple[ResultObject, ...]:
        """The first version of an answer's objects: the same from a run and from what is stored of it."""
        from service.results import build  # highdicom takes a second to import
        from service.results.report import Predecessor

        predecessor = Predecessor(*supersedes) if supersedes else None
        report = self._report(answer, self._configuration(answer.work), predecessor)
        return build.build(report, self._wanted(answer.work), region_share=self._region_share)

    def revise(self, answer: Answer, revision: Revision) -> tuple[tuple[ResultObject, ...], list[dict[str, Any]]]:
        """The objects with readers' verdicts in them, a rejection note for those they replace, and their part of the body."""
        from service.results import build, rejection
        from service.results.report import Predecessor

        old = next((one for one in revision.replaced if one.kind == "SR"), None)
        predecessor = Predecessor(old.sop_instance_uid, old.series_uid) if old else None
        configuration = self._configuration(answer.work, revision)
        report = self._report(answer, configuration, predecessor, revision.verdicts, revision.moment)
        made = build.build(report, self._wanted(answer.work), region_share=self._region_share)
        made = (*made, rejection.build(report, revision.replaced, made))
        return made, [self._described(one) for one in made]

    def _wanted(self, work: Work) -> tuple[str, ...]:
        return self._kinds if work.request.objects is None else work.request.objects

    def _report(
        self,
        answer: Answer,
        configuration: str,
        predecessor: Predecessor | None,
        verdicts: Mapping[str, Verdict] | None = None,
        revised: datetime | None = None,
    ) -> Report:
        from service.results.report import Report

        order = {key: n for n, key in enumerate(answer.result["input"]["instances"])}
        slices = [frame for one in answer.work.instances for frame in multiframe.frames(one)]
        instances = tuple(sorted((one for one in slices if one.key in order), key=lambda one: order[one.key]))
        return Report(
            result=answer.result,
            bundle=answer.bundle,
            instances=instances,
            headers=self._sandbox.headers(instances),
            maps=answer.maps,
            regions=answer.regions,
            configuration=configuration,
            predecessor=predecessor,
            verdicts=verdicts or {},
            revised=revised,
        )

    def _configuration(self, work: Work, revision: Revision | None = None) -> str:
        """All that changes the objects besides images and weights."""
        asked = {name: value for name, value in request.to_json(work.request).items() if name != "objects"}
        settings: dict[str, Any] = {"region_share": self._region_share, "service": __version__}
        if revision is not None:
            verdicts = {name: vars(verdict) for name, verdict in revision.verdicts.items()}
            settings |= {"revision": revision.number, "moment": revision.moment, "verdicts": verdicts}
        whole = {"request": asked, **settings}
        return json.dumps(whole, sort_keys=True, separators=(",", ":"), default=datetime.isoformat)

    def _described(self, made: ResultObject) -> dict[str, Any]:
        from service.results import validation

        chosen = validation.chosen(made.sop_instance_uid, self._validation_share)
        return {
            "kind": made.kind,
            "sop_class_uid": made.sop_class_uid,
            "sop_instance_uid": made.sop_instance_uid,
            "series_uid": made.series_uid,
            "href": f"objects/{made.kind}",
            "validation": validation.validate(made.data) if chosen else None,
        }
