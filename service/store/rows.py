"""Rows of the database as records, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from service.records import Instance

ENDED = ("completed", "failed")
STORED = "%Y-%m-%dT%H:%M:%S.%fZ"
"""Times as they are stored: ISO 8601 in UTC with microseconds; as texts they sort by time."""


@dataclass(frozen=True)
class Analysis:
    """One stored analysis. `result` is there when it is completed, `error` (a problem object) when it failed."""

    id: str
    created: str
    status: str
    attempts: int
    model: str
    study: str
    series: str
    modality: str
    request: dict[str, Any]
    warnings: list[str]
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    patient: str = ""
    door: str = "http"
    supersedes: str | None = None
    superseded_by: str | None = None
    revision: int = 0

    @property
    def ended(self) -> bool:
        return self.status in ENDED


def now() -> str:
    """The time as it is stored: see `STORED`."""
    return datetime.now(UTC).strftime(STORED)


def header(instance: Instance) -> dict[str, str]:
    """An instance as a row of `database.instances`; its path is where the images lie, not part of it."""
    values = asdict(replace(instance, path=Path()))
    return {
        "sha256": values.pop("sha256"),
        "sop_instance_uid": instance.sop_instance_uid,
        "series_uid": instance.series_uid,
        "study_uid": instance.study_uid,
        "header": json.dumps({name: value for name, value in values.items() if name != "path"}),
    }


def instance(row: Any, path: Path) -> Instance:
    """The instance of a row with sha256 and header, whose file lies at `path`."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(row.header).items()
    }
    return Instance(path=path, sha256=row.sha256, **values)


def analysis(row: Any) -> Analysis:
    """The analysis of a row."""
    values = {entry.name: getattr(row, entry.name) for entry in fields(Analysis)}
    for name in ("request", "warnings", "result", "error"):
        values[name] = json.loads(values[name]) if values[name] is not None else None
    return Analysis(**values)


def answer(result: Mapping[str, Any] | None, finding: str) -> dict[str, str | None]:
    """What a model answered on a finding: `version` of the model, `answered` (its class), `decision` at the operating point."""
    known: dict[str, str | None] = {"version": None, "answered": None, "decision": None}
    if result is None:
        return known
    known["version"] = result["model"]["version"]
    for body in result["findings"]:
        if body["id"] == finding:
            known["answered"] = str(body["grade"]) if "grade" in body else _decided(body)
            known["decision"] = body["operating_point"]["decision"]
    return known


def _decided(finding: Mapping[str, Any]) -> str:
    """Class that the operating point decided for: the one whose probability is its score, or the likeliest of the others."""
    p: dict[str, float] = finding["probabilities"]
    point = finding["operating_point"]
    scored = min(p, key=lambda name: abs(p[name] - point["score"]))
    if point["decision"] == "positive" or len(p) == 1:
        return scored
    return max((name for name in p if name != scored), key=p.__getitem__)
