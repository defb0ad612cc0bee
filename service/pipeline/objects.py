"""The DICOM objects of a result: made from the images' own headers, a sample checked by a validator, listed in the body."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from models.bundle import Bundle
from service import __version__
from service.intake import multiframe
from service.intake.sandbox import Sandbox
from service.pipeline import problem, request
from service.pipeline.work import Work
from service.records import Outcome, ResultObject

Made = tuple[tuple[ResultObject, ...], list[dict[str, Any]], list[str]]


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
        kinds = self._kinds if work.request.objects is None else work.request.objects
        if not kinds:
            return (), [], []
        if work.instances[0].media != "dicom":
            asked = [
                "photographs and crops without a DICOM header have no patient or study: no DICOM objects were made"
            ]
            return (), [], asked if work.request.objects else []
        try:
            made = self._build(work, outcome, result, bundle, kinds, supersedes)
        except Exception as error:
            if needed:
                raise
            fault = problem.of_fault(error)
            return (), [], [f"the DICOM objects could not be made (incident {fault['incident']})"]
        return made, [self._described(one) for one in made], []

    def _build(
        self,
        work: Work,
        outcome: Outcome,
        result: Mapping[str, Any],
        bundle: Bundle,
        kinds: Sequence[str],
        supersedes: tuple[str, str] | None,
    ) -> tuple[ResultObject, ...]:
        from service.results import build  # highdicom takes a second to import
        from service.results.report import Predecessor, Report

        order = {key: n for n, key in enumerate(result["input"]["instances"])}
        slices = [frame for one in work.instances for frame in multiframe.frames(one)]
        instances = tuple(sorted((one for one in slices if one.key in order), key=lambda one: order[one.key]))
        report = Report(
            result=result,
            bundle=bundle,
            instances=instances,
            headers=self._sandbox.headers(instances),
            maps={finding.id: finding.maps for finding in outcome.findings if finding.maps is not None},
            regions={finding.id: finding.region for finding in outcome.findings if finding.region is not None},
            configuration=self._configuration(work),
            predecessor=Predecessor(*supersedes) if supersedes else None,
        )
        return build.build(report, kinds, region_share=self._region_share)

    def _configuration(self, work: Work) -> str:
        """All that changes the objects besides images and weights."""
        asked = {name: value for name, value in request.to_json(work.request).items() if name != "objects"}
        settings = {"region_share": self._region_share, "service": __version__}
        return json.dumps({"request": asked, **settings}, sort_keys=True, separators=(",", ":"))

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
