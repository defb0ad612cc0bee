"""From instances to a stack of slices: grouping, what belongs together, order, copies, gaps and tilt.

All geometry comes from the headers; `stack` has its source.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from service.errors import OutOfContract
from service.intake import multiframe
from service.intake.stack import Stack, axes, position
from service.records import Check, Instance

__all__ = ["Stack", "arrange", "group"]

SAME_POSITION_MM = 0.01
MOST_COPIES = 0.1
"""Share of a series that may lie at a position another slice has; more is several phases or reconstructions in one series."""
LEAST_MAJORITY = 2 / 3
"""Share of a series that must agree in size, spacing, orientation and frame of reference."""
GAP = 1.5
"""A distance between neighbours larger than this multiple of the median is a gap."""
TILT_WARN_DEGREES, TILT_FAIL_DEGREES = 0.5, 45.0
_NO_SPACING = "has no Pixel Spacing (0028,0030): its size in mm is unknown; send it with its spacing"


def group(instances: Sequence[Instance]) -> dict[str, list[Instance]]:
    """Instances by Series Instance UID, in order of appearance; photographs, which have none, are under ""."""
    found: dict[str, list[Instance]] = {}
    for instance in instances:
        found.setdefault(instance.series_uid, []).append(instance)
    return found


def arrange(instances: Sequence[Instance]) -> Stack:
    """Put the slices of one series into their order in space.

    An enhanced CT counts as its frames (`multiframe.frames`). What leaves a meaningful stack is done and reported as a check
    that warns: localisers, copies, single slices of another geometry, gaps and gantry tilt.

    Raises
    ------
    OutOfContract
        No slices; several series; several frames without a plane for each; no pixels, position, orientation or pixel
        spacing; no geometry that most slices share; many slices at one position; positions that run along the plane.
    """
    left_out: dict[str, str] = {}
    checks: list[Check] = []
    slices = [frame for instance in instances for frame in multiframe.frames(instance)]
    kept = _without_localizers(slices, left_out, checks)
    _refuse_unusable(kept)
    kept = _without_repeated(kept)
    for rule in _AGREEMENTS:
        kept = _majority(kept, *rule, left_out, checks)
    kept = _in_order(kept)
    kept = _without_copies(kept, left_out, checks)
    spacing = _check_distances(kept, checks)
    _check_tilt(kept, checks)
    return Stack(tuple(kept), _pixel_spacing(kept[0]), spacing, tuple(checks), left_out)


def _pixel_spacing(instance: Instance) -> tuple[float, float]:
    if instance.pixel_spacing is None:
        raise OutOfContract(f"instance {instance.sop_instance_uid} {_NO_SPACING}")
    return instance.pixel_spacing


def _check(checks: list[Check], name: str, bad: bool, good_text: str, bad_text: str, value: Any, limit: Any) -> None:
    checks.append(Check(name, "warn" if bad else "pass", bad_text if bad else good_text, value, limit))


def _without_localizers(instances: Sequence[Instance], left_out: dict[str, str], checks: list[Check]) -> list[Instance]:
    """Scout images (Image Type value 3, PS3.3 C.8.2.1.1.1) do not belong to the volume."""
    kept = [instance for instance in instances if "LOCALIZER" not in instance.image_type]
    count = len(instances) - len(kept)
    if not kept:
        raise OutOfContract(
            "there are only localisers (scout images) in the series; send the slices"
            if count
            else "the series has no slices; send the slices"
        )
    left_out.update({instance.key: "it is a localiser" for instance in instances if "LOCALIZER" in instance.image_type})
    _check(checks, "localizer", count > 0, "no localisers", f"{count} localiser(s) left out", count, 0)
    return kept


def _refuse_unusable(instances: list[Instance]) -> None:
    if len({instance.series_uid for instance in instances}) > 1:
        raise OutOfContract("the slices belong to several series; send one series")
    needed: tuple[tuple[str, Callable[[Instance], bool]], ...] = (
        (
            "has several frames and does not say where each of them lies (only an enhanced CT does); send single-frame slices",
            lambda i: i.frames == 1 or i.frame > 0,
        ),
        ("has no Pixel Data (7FE0,0010)", lambda i: i.has_pixels and i.rows > 0 and i.columns > 0),
        ("has no Image Position (Patient) (0020,0032)", lambda i: i.position is not None),
        ("has no Image Orientation (Patient) (0020,0037)", lambda i: i.orientation is not None),
        (_NO_SPACING, lambda i: i.pixel_spacing is not None),
        ("has an Image Orientation (Patient) (0020,0037) that is not two perpendicular unit vectors", _is_orthonormal),
    )
    for text, holds in needed:
        bad = [instance for instance in instances if not holds(instance)]
        if bad:
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            detail = f"instance {bad[0].sop_instance_uid}{more} {text}"
            raise OutOfContract(
                detail, [{"where": f"instance {instance.sop_instance_uid}", "message": text} for instance in bad[:10]]
            )


def _is_orthonormal(instance: Instance) -> bool:
    x_axis, y_axis = np.split(np.asarray(instance.orientation, float), 2)
    return bool(max(abs(x_axis @ x_axis - 1), abs(y_axis @ y_axis - 1), abs(x_axis @ y_axis)) < 0.02)


def _without_repeated(instances: list[Instance]) -> list[Instance]:
    """The same file twice counts once; one UID with two contents is a contradiction."""
    found: dict[str, Instance] = {}
    for instance in instances:
        other = found.setdefault(instance.key, instance)
        if other.sha256 != instance.sha256:
            raise OutOfContract(
                f"two different images carry the SOP Instance UID {instance.sop_instance_uid}; export the series again"
            )
    return list(found.values())


Rule = tuple[str, str, Callable[[Instance], tuple[float | str, ...]], float]

_AGREEMENTS: tuple[Rule, ...] = (
    ("frame_of_reference", "Frame of Reference UID (0020,0052)", lambda i: (i.frame_of_reference_uid,), 0.0),
    ("image_size", "rows and columns", lambda i: (i.rows, i.columns), 0.0),
    ("orientation", "Image Orientation (Patient) (0020,0037)", lambda i: i.orientation or (), 0.01),
    (
        "pixel_spacing",
        "Pixel Spacing (0028,0030)",
        lambda i: tuple(math.log(side) for side in i.pixel_spacing or ()),
        0.01,
    ),
)
"""Check, what must agree, how it is read, and how far two slices may differ (cosines; 1 % of the spacing)."""


def _majority(
    instances: list[Instance],
    name: str,
    what: str,
    read: Callable[[Instance], tuple[float | str, ...]],
    tolerance: float,
    left_out: dict[str, str],
    checks: list[Check],
) -> list[Instance]:
    """The slices that agree with most others; the rest is left out, or the series refused where there is no clear majority."""
    clusters: list[list[Instance]] = []
    for instance in instances:
        for cluster in clusters:
            if _agree(read(cluster[0]), read(instance), tolerance):
                cluster.append(instance)
                break
        else:
            clusters.append([instance])
    kept = max(clusters, key=len)
    count = len(instances) - len(kept)
    if len(kept) < LEAST_MAJORITY * len(instances):
        text = f"the slices differ in {what}: only {len(kept)} of {len(instances)} agree; send one reconstruction"
        raise OutOfContract(
            text, [{"where": name, "message": text, "value": len(kept) / len(instances), "limit": LEAST_MAJORITY}]
        )
    chosen = {id(instance) for instance in kept}
    left_out.update({i.key: f"its {what} differs from most slices'" for i in instances if id(i) not in chosen})
    _check(
        checks,
        name,
        count > 0,
        f"all slices agree in {what}",
        f"{count} slice(s) with another {what} left out",
        count,
        0,
    )
    return kept


def _agree(one: tuple[float | str, ...], two: tuple[float | str, ...], tolerance: float) -> bool:
    pairs = zip(one, two, strict=True)
    return all(a == b if isinstance(a, str) or isinstance(b, str) else abs(a - b) <= tolerance for a, b in pairs)


def _in_order(instances: list[Instance]) -> list[Instance]:
    normal = axes(instances[0])[2]
    return sorted(
        instances, key=lambda i: (float(normal @ position(i)), i.instance_number or 0, i.sop_instance_uid, i.frame)
    )


def _without_copies(instances: list[Instance], left_out: dict[str, str], checks: list[Check]) -> list[Instance]:
    """Of several slices at one position the first (by Instance Number) stays."""
    normal = axes(instances[0])[2]
    kept = instances[:1]
    for instance in instances[1:]:
        if abs(normal @ (position(instance) - position(kept[-1]))) < SAME_POSITION_MM:
            left_out[instance.key] = "another slice has the same position"
        else:
            kept.append(instance)
    count = len(instances) - len(kept)
    if count > MOST_COPIES * len(instances):
        text = f"{count} of {len(instances)} slices lie where another slice lies (phases or reconstructions?); send one of them"
        raise OutOfContract(
            text, [{"where": "duplicates", "message": text, "value": count / len(instances), "limit": MOST_COPIES}]
        )
    _check(
        checks,
        "duplicates",
        count > 0,
        "one slice a position",
        f"{count} slice(s) at a position that another has left out",
        count,
        0,
    )
    return kept


def _check_distances(instances: list[Instance], checks: list[Check]) -> float | None:
    """Median distance of neighbours, mm, with a check for gaps."""
    if len(instances) == 1:
        return instances[0].slice_thickness
    normal = axes(instances[0])[2]
    distances = np.diff([normal @ position(instance) for instance in instances])
    median = float(np.median(distances))
    gaps = int((distances > GAP * median).sum())
    text = f"{gaps} gap(s): slices are missing, the largest distance is {distances.max():.2f} mm where {median:.2f} mm is usual"
    _check(checks, "gaps", gaps > 0, "no gaps", text, round(float(distances.max()), 3), round(GAP * median, 3))
    return median


def _check_tilt(instances: list[Instance], checks: list[Check]) -> None:
    """Angle between the line through the positions and the normal: a tilted gantry shears the volume, not the slices."""
    normal = axes(instances[0])[2]
    way = position(instances[-1]) - position(instances[0])
    along = float(normal @ way)
    degrees = (
        math.degrees(math.atan2(float(np.linalg.norm(way - along * normal)), along)) if len(instances) > 1 else 0.0
    )
    if degrees > TILT_FAIL_DEGREES:
        text = f"the positions run {degrees:.0f} degrees off the slices' normal; at most {TILT_FAIL_DEGREES:.0f} is accepted"
        raise OutOfContract(
            text, [{"where": "tilt", "message": text, "value": round(degrees, 1), "limit": TILT_FAIL_DEGREES}]
        )
    text = f"gantry tilt or shifted slices: {degrees:.1f} degrees"
    _check(checks, "tilt", degrees > TILT_WARN_DEGREES, "no gantry tilt", text, round(degrees, 2), TILT_WARN_DEGREES)
