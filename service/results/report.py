"""What the DICOM objects of one analysis are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset

from models.bundle import Bundle
from service.records import Instance, Region, ResponseMap


@dataclass(frozen=True)
class Predecessor:
    """The structured report that this one supersedes."""

    sop_instance_uid: str
    series_uid: str


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
    """

    result: Mapping[str, Any]
    bundle: Bundle
    instances: tuple[Instance, ...]
    headers: tuple[Dataset, ...]
    maps: Mapping[str, ResponseMap] = field(default_factory=dict)
    regions: Mapping[str, Region] = field(default_factory=dict)
    configuration: str = "{}"
    predecessor: Predecessor | None = None
