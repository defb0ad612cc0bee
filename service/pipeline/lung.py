"""Lung nodules in a CT series: which series and which place is meant, and the windows that the network sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from models import preprocessing
from service.errors import InputError, OutOfContract
from service.intake import ct_checks, multiframe
from service.intake.series import Stack, arrange, group
from service.pipeline import body, nodule
from service.pipeline.request import invalid
from service.pipeline.work import Case
from service.records import Check, Finding, Instance, Outcome, Region, Request

DISPLAY_HU = (-1350.0, 150.0)
"""Lung window (level -600, width 1500) of the picture below the maps."""


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
    for region in regions:
        try:
            seen, more = _nodule(case, stack, region)
        except OutOfContract as error:
            if region.origin == "request":
                raise
            warnings.append(f"{error.detail}; it was not classified")
            continue
        if body.failed(more):
            refused.extend(more)
            warnings.append(f"region {region.id} was not classified: {nodule.failures(more)}")
        else:
            checks += more
            findings.append(nodule.answer(case, seen))
    if not findings:
        searched = all(region.origin == "candidate" for region in regions)
        result: nodule.Result = "no_region" if searched else "out_of_scope"
        return nodule.outcome(case, result, stack.instances, (*checks, *refused), warnings=warnings)
    outcome = nodule.outcome(case, nodule.sign(findings), stack.instances, checks, findings, warnings)
    return replace(outcome, input=body.input_part(stack.instances, checks=(*checks, *refused)))


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


def _nodule(case: Case, stack: Stack, region: Region) -> tuple[nodule.Nodule, tuple[Check, ...]]:
    """Read the slices round a region and cut out the network's windows."""
    index, center = stack.locate(region)
    around = stack.around(index, float(case.bundle.description["aggregation"]["half_depth_mm"]))
    parameters = case.bundle.step("nodule_window")
    box = preprocessing.nodule_box(center, stack.pixel_spacing, **parameters)
    windows, backgrounds = [], []
    checks: tuple[Check, ...] = ()
    with case.watch("decode"):
        for position in around:
            image = case.tools.sandbox.hounsfield(stack.instances[position])
            windows.append(preprocessing.nodule_window(image, center, stack.pixel_spacing, **parameters))
            backgrounds.append(nodule.display(preprocessing.resample(image, box, nodule.DISPLAY_PX), DISPLAY_HU))
            if position == index:
                seen = ct_checks.window_checks(preprocessing.resample(image, box, parameters["size_px"]))
                checks = tuple(replace(check, message=f"region {region.id}: {check.message}") for check in seen)
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
