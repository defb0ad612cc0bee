"""Lung nodules in a CT series: which series and which place is meant, and the windows that the network sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models import preprocessing
from service.errors import InputError, OutOfContract
from service.intake import ct_checks, multiframe
from service.intake.series import Stack, arrange, group
from service.intake.stack import axes
from service.pipeline import body, nodule
from service.pipeline.request import invalid
from service.pipeline.work import Case
from service.records import Check, Finding, Instance, Outcome, Region, Request

DISPLAY_HU = (-1350.0, 150.0)
"""Lung window (level -600, width 1500) of the picture below the maps."""


@dataclass(frozen=True)
class Place:
    """A region, found in a stack: its slice and its centre (column, row) there."""

    region: Region
    index: int
    center: tuple[float, float]


def prepare(instances: Sequence[Instance], request: Request) -> tuple[list[Instance], list[str]]:
    """Choose the images that are looked at and check the regions; fast, decodes nothing.

    Returns
    -------
    instances : list of Instance
    warnings : list of str

    Raises
    ------
    OutOfContract, InvalidRequest
        When there are no pixels, a region lies in no series, or it is not decidable which series is meant.
    """
    if request.pixel_spacing_mm is not None:
        raise invalid("pixel_spacing_mm", "is for grey crops without a header; a CT series carries its own spacing")
    usable = [instance for instance in instances if instance.has_pixels]
    if not usable:
        raise OutOfContract("none of the DICOM instances holds pixel data; send the image instances of the series")
    series = group(usable)
    if len(series) == 1:
        stack = _arranged(usable)
        for region in request.regions:
            if region.origin == "request":
                stack.locate(region)
        return usable, []
    uid = _chosen_series(series, request.regions)
    return series[uid], [f"{len(series)} CT series were sent; only series {uid} was looked at"]


def _arranged(instances: Sequence[Instance]) -> Stack:
    """The slices in space; the frames of an enhanced object count as slices."""
    return arrange([frame for instance in instances for frame in multiframe.frames(instance)])


def _chosen_series(series: dict[str, list[Instance]], regions: Sequence[Region]) -> str:
    stacks: dict[str, Stack] = {}
    for uid, instances in series.items():
        try:
            stacks[uid] = _arranged(instances)
        except InputError:
            continue  # a scout or a report: no volume, so no region can lie in it
    if not regions and len(stacks) == 1:
        return next(iter(stacks))
    if not regions:
        raise OutOfContract(
            f"{len(series)} CT series were sent and no region says which one is meant; send one series, or name a region"
        )
    chosen = set()
    for region in regions:
        places = [uid for uid, stack in stacks.items() if _inside(stack, region)]
        if len(places) != 1:
            found = "none" if not places else f"{len(places)}"
            raise OutOfContract(
                f"region {region.id} lies in {found} of the {len(series)} CT series; "
                "name it by sop_instance_uid and center_px, or send one series",
                [
                    {
                        "where": f"regions.{region.id}",
                        "message": f"lies in {found} of the series",
                        "value": list(region.center_mm or region.center_px or ()),
                    }
                ],
            )
        chosen.add(places[0])
    if len(chosen) > 1:
        raise OutOfContract("the regions lie in different CT series; send each series on its own")
    return chosen.pop()


def _inside(stack: Stack, region: Region) -> bool:
    if region.sop_instance_uid is not None and all(
        i.sop_instance_uid != region.sop_instance_uid for i in stack.instances
    ):
        return False
    try:
        stack.locate(region)
    except OutOfContract:
        if region.sop_instance_uid is not None:
            raise  # the instance is the right one, the pixel is not
        return False
    return True


def run(case: Case) -> Outcome:
    """Answer for every region.

    Outcomes: ``positive`` when any finding is at or above its operating point, ``negative`` when none is, ``no_region``
    when no place was given, ``out_of_scope`` when the series is none the model was made for.
    """
    with case.watch("quality"):
        stack = _arranged(case.work.instances)
        checks = ct_checks.check(stack, nodule.ranges(case.bundle))
    if body.failed(checks):
        why = f"out of scope: {nodule.failures(checks)}"
        return nodule.outcome(case, "out_of_scope", stack.instances, checks, warnings=[why])
    regions = case.work.request.regions
    notes: list[str] = []
    if not regions:
        regions, hint = _candidates(case, stack)
        notes.append(hint)
    if not regions:
        return nodule.outcome(case, "no_region", stack.instances, checks, warnings=notes)
    findings: list[Finding] = []
    warnings = notes
    refused: list[Check] = []
    places: list[Place] = []
    for region in regions:
        try:
            places.append(Place(region, *stack.locate(region)))
        except OutOfContract as error:
            _pass_over(region, error, warnings)
    for place in places:
        try:
            seen, more = _nodule(case, stack, place, [other for other in places if other is not place])
        except OutOfContract as error:
            _pass_over(place.region, error, warnings)
            continue
        if seen is None or body.failed(more):
            refused.extend(more)
            warnings.append(f"region {place.region.id} was not classified: {nodule.failures(more)}")
        else:
            checks += more
            warnings += [check.message for check in more if check.id == "window_neighbours" and check.result == "warn"]
            findings.append(nodule.answer(case, seen))
    if not findings:
        searched = all(region.origin == "candidate" for region in regions)
        result: nodule.Result = "no_region" if searched else "out_of_scope"
        return nodule.outcome(case, result, stack.instances, (*checks, *refused), warnings=warnings)
    outcome = nodule.outcome(case, nodule.sign(findings), stack.instances, checks, findings, warnings)
    return replace(outcome, input=body.input_part(stack.instances, checks=(*checks, *refused)))


def _pass_over(region: Region, error: OutOfContract, warnings: list[str]) -> None:
    """A mark or a candidate that cannot be looked at is left out with a warning; what was asked for is refused."""
    if region.origin == "request":
        raise error
    warnings.append(f"{error.detail}; it was not classified")


def _candidates(case: Case, stack: Stack) -> tuple[tuple[Region, ...], str]:
    """What the built-in search finds where nobody named a place, and what the reader is to know about it."""
    how = "name each nodule, by a report, segmentation or structure set of the study, or in the request"
    with case.watch("decode"):  # also where nothing is searched: a series that cannot be read is no answered one
        case.tools.sandbox.hounsfield(stack.instances[len(stack.instances) // 2])
    if not case.tools.candidates:
        return (), f"no region was given, so nothing was classified: {how}"
    from service.intake import candidates  # SimpleITK takes a while to import

    with case.watch("decode"):
        search = candidates.find(case.tools.sandbox.slices(stack.instances), stack)
    if not search.regions:
        why = f" ({search.reason})" if search.reason else ""
        return (), f"no region was given and the search found no candidate{why}; it misses nodules: {how}"
    return search.regions, (
        f"no region was given: {len(search.regions)} candidate(s) of the built-in search were classified; it misses nodules and "
        "finds what is none (docs/candidates.md)"
    )


def _half_depth(case: Case) -> float:
    return float(case.bundle.description["aggregation"]["half_depth_mm"])


def _checks(case: Case, stack: Stack, place: Place, others: Sequence[Place]) -> tuple[Check, ...]:
    """Checks on a place and on what else was named near it, without a look at the pixels."""
    found = ct_checks.place_checks(
        stack,
        place.index,
        place.center,
        nodule.window_box(case.bundle, place.center, stack.pixel_spacing),
        diameter_mm=place.region.diameter_mm,
        half_depth_mm=_half_depth(case),
        ranges=nodule.ranges(case.bundle),
    )
    if not others:
        return found
    window = case.bundle.step("nodule_window")
    half = 0.5 * window["size_px"] * window["scale_mm"]
    away = {other.region.id: (_offset(stack, place, other), (other.region.diameter_mm or 0) / 2) for other in others}
    return (*found, ct_checks.neighbours(away, (half, half, _half_depth(case))))


def _named(region: Region, checks: Sequence[Check]) -> tuple[Check, ...]:
    return tuple(replace(check, message=f"region {region.id}: {check.message}") for check in checks)


def _offset(stack: Stack, place: Place, other: Place) -> tuple[float, float, float]:
    """From one centre to another along a row, a column and the slices' normal, mm."""
    way = np.subtract(stack.to_mm(other.index, other.center), stack.to_mm(place.index, place.center))
    x, y, z = (float(axis @ way) for axis in axes(stack.instances[place.index]))
    return x, y, z


def _nodule(
    case: Case, stack: Stack, place: Place, others: Sequence[Place]
) -> tuple[nodule.Nodule | None, tuple[Check, ...]]:
    """Check a place, read the slices round it and cut out the network's windows; None where no pixel need be read."""
    index, center, region = place.index, place.center, place.region
    checks = _named(region, _checks(case, stack, place, others))
    if body.failed(checks):
        return None, checks
    around = stack.around(index, _half_depth(case))
    box = nodule.window_box(case.bundle, center, stack.pixel_spacing)
    windows, backgrounds = [], []
    with case.watch("decode"):
        for position in around:
            image = case.tools.sandbox.hounsfield(stack.instances[position])
            windows.append(nodule.window(case.bundle, image, box, hounsfield=True))
            shown = preprocessing.resample(image, box, nodule.DISPLAY_PX)
            backgrounds.append(nodule.display(shown, DISPLAY_HU))
            if position == index:
                checks += _named(region, ct_checks.window_checks(shown))
    x, y, z = stack.to_mm(index, center)
    return nodule.Nodule(
        id=region.id,
        place=f"{x:.1f},{y:.1f},{z:.1f}",
        windows=np.stack(windows),
        backgrounds=np.stack(backgrounds),
        boxes=(box,) * len(around),
        sources=tuple(stack.instances[position].key for position in around),
        centre_slice=around.index(index),
        center_mm=(x, y, z),
        region=region,
    ), checks
