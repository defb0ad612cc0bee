"""Nodule candidates in a plainly sent chest CT: places that look like a nodule, for a model and a person to judge.

Blobs of 3 to 30 mm in the closed lung field, solid or ground glass, with a score of how much each looks like a nodule. How many
nodules are found, and how much else: ``docs/candidates.md``, measured by ``python -m benchmarks.candidates``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from service.errors import OutOfContract
from service.intake import blobs, lungs, volume
from service.intake.blobs import Blob
from service.intake.stack import Stack
from service.records import Region

MOST, LEAST_SCORE = 6, 0.4
"""How many are kept, and how good they must be: the operating setting of ``docs/candidates.md``."""
LEAST_MM, LARGEST_MM = 3.0, 40.0
LEAST_FLATNESS = 0.25
"""Flatter is a plate: a fissure, a scar, a sliver of the wall."""
MOST_GOING_ON = 0.8
"""What runs on as thick as it is, is a vessel, also where it leaves the lung field."""
APART_MM = 6.0

WEIGHTS = {
    "bias": -3.67,
    "agreement": 1.73,
    "compactness": 0.9,
    "flatness": 1.6,
    "going_on": -1.4,
    "contrast": 1.97,
    "response": 1.61,
}
"""Logistic regression: ``python -m benchmarks.candidates --fit``."""


@dataclass(frozen=True)
class Search:
    """What a search gave.

    Attributes
    ----------
    regions : tuple of Region
        Best first: "candidate-1" and so on, origin "candidate".
    lung_ml : float
        Air-filled lung that was looked at.
    reason : str
        Why there are no regions; empty when there are.
    """

    regions: tuple[Region, ...]
    lung_ml: float
    reason: str


def find(
    slices: Iterable[np.ndarray] | Callable[[int], np.ndarray],
    stack: Stack,
    *,
    most: int = MOST,
    least_score: float = LEAST_SCORE,
) -> Search:
    """Look for nodule candidates; the same input gives the same answer.

    Parameters
    ----------
    slices : iterable of ndarray, or callable
        Hounsfield units (rows, columns) in the order of `stack.instances`; or a function that reads the slice of an index.
    stack : Stack
    most : int
        Candidates that are kept at most.
    least_score : float
        Score from which a blob is a candidate, 0 to 1.
    """
    if len(stack.instances) < 2:
        return Search((), 0.0, "one slice alone is not searched")
    grid = volume.read(slices, stack)
    found = lungs.find(grid.hounsfield, grid.step_mm)
    measured = [blob for lung in found.lungs for blob in blobs.find(lung, grid.hounsfield, grid.step_mm)]
    regions: list[Region] = []
    for blob, score in ranked(measured, grid.step_mm):
        if len(regions) == most or score < least_score:
            break
        region = Region(
            id=f"candidate-{len(regions) + 1}",
            center_mm=grid.to_mm(blob.at),
            origin="candidate",
            diameter_mm=round(blob.extent_mm, 1),
            score=round(score, 3),
        )
        if _inside(stack, region):
            regions.append(region)
    reason = found.reason or ("" if regions else "nothing in the lung field looks like a nodule")
    return Search(tuple(regions), round(found.ml, 1), reason)


def ranked(measured: Iterable[Blob], step_mm: float) -> list[tuple[Blob, float]]:
    """Blobs that may be nodules with their scores, best first, each place once."""
    scored = sorted(((blob, score(blob)) for blob in measured if may_be(blob)), key=lambda pair: (-pair[1], pair[0].at))
    kept: list[tuple[Blob, float]] = []
    for blob, value in scored:
        distances = [step_mm * float(np.linalg.norm(np.subtract(blob.at, other.at))) for other, _ in kept]
        if all(d > max(APART_MM, 0.6 * other.extent_mm) for d, (other, _) in zip(distances, kept, strict=True)):
            kept.append((blob, value))
    return kept


def may_be(blob: Blob) -> bool:
    """Whether a blob has a nodule's size, is no plate and no vessel."""
    return (
        LEAST_MM <= blob.extent_mm <= LARGEST_MM and blob.flatness >= LEAST_FLATNESS and blob.going_on < MOST_GOING_ON
    )


def features(blob: Blob) -> dict[str, float]:
    """What the score depends on, each about 0 to 1."""
    return {
        "bias": 1.0,
        "agreement": blob.peak.agreement,
        "compactness": min(blob.compactness, 1.0),
        "flatness": blob.flatness,
        "going_on": blob.going_on,
        "contrast": min(blob.contrast / 900, 1.0),
        "response": min(blob.peak.response / 900, 1.0),
    }


def score(blob: Blob) -> float:
    """How much a blob looks like a nodule, 0 to 1."""
    total = sum(WEIGHTS[name] * value for name, value in features(blob).items())
    return float(1 / (1 + np.exp(-total)))


def _inside(stack: Stack, region: Region) -> bool:
    """Whether it lies in a slice: not in a gap."""
    try:
        stack.locate(region)
    except OutOfContract:
        return False
    return True
