"""What the DICOM objects of one analysis are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pydicom.dataset import Dataset

from models.bundle import Bundle
from service.records import Instance, Region, ResponseMap


@dataclass(frozen=True)
class Predecessor:
    """The structured report that this one supersedes."""

    sop_instance_uid: str
    series_uid: str


NOT_A_NODULE = "not_a_nodule"
"""A correction that strikes the finding."""


@dataclass(frozen=True)
class Verdict:
    """What a reader says against the model's answer on a finding.

    Attributes
    ----------
    verdict : {"rejected", "modified"}
    moment : datetime
        When it was given, with its time zone.
    value : str, optional
        What the reader says instead: a class of the model, `NOT_A_NODULE`, or any text.
    reason : str, optional
    reader : str, optional
    """

    verdict: Literal["rejected", "modified"]
    moment: datetime
    value: str | None = None
    reason: str | None = None
    reader: str | None = None

    @property
    def strikes(self) -> bool:
        """Whether the finding is none any more."""
        return self.verdict == "rejected" or self.value == NOT_A_NODULE


@dataclass(frozen=True)
class Report:
    """One completed analysis with its images.

    Attributes
    ----------
    result : mapping
        The Analysis body of the HTTP contract (`pipeline.body.result`): outcome, model, input, quality, findings, warnings.
        Its `objects` are filled from what is built here.
    bundle : Bundle
        The model that answered.
    instances : tuple of Instance
        The images that were looked at, in stack order (`result["input"]["instances"]`); for a photograph one.
    headers : tuple of Dataset
        Their headers without pixels, in the same order, parsed by the intake.
    maps : mapping
        Finding id to its response maps; findings without maps are missing.
    regions : mapping
        Finding id to the region it answers for (lung); empty for a photograph.
    configuration : str
        All that changes the answer besides images and weights, as canonical JSON; part of every UID.
    predecessor : Predecessor, optional
    verdicts : mapping
        Finding id to a reader's verdict against it; findings that a reader accepted, or has not judged, are missing.
    revised : datetime, optional
        When the newest verdict was given, with its time zone; None: this is the first version.
    """

    result: Mapping[str, Any]
    bundle: Bundle
    instances: tuple[Instance, ...]
    headers: tuple[Dataset, ...]
    maps: Mapping[str, ResponseMap] = field(default_factory=dict)
    regions: Mapping[str, Region] = field(default_factory=dict)
    configuration: str = "{}"
    predecessor: Predecessor | None = None
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    revised: datetime | None = None

    def struck(self, finding: Mapping[str, Any]) -> bool:
        """Whether a reader rejected a finding."""
        verdict = self.verdicts.get(finding["id"])
        return verdict is not None and verdict.strikes

    @property
    def findings(self) -> list[dict[str, Any]]:
        """The findings that no reader rejected, in the order of the body."""
        return [finding for finding in self.result["findings"] if not self.struck(finding)]

    @property
    def rejected(self) -> list[dict[str, Any]]:
        """The findings that a reader rejected."""
        return [finding for finding in self.result["findings"] if self.struck(finding)]

    @property
    def standing_maps(self) -> dict[str, ResponseMap]:
        """Maps of the findings that no reader rejected."""
        return {finding["id"]: self.maps[finding["id"]] for finding in self.findings if finding["id"] in self.maps}
