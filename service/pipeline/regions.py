"""Where the nodules are, as other systems' reports, segmentations and structure sets say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from service.errors import Busy, InputError, NoSpace
from service.intake.references import Reference
from service.intake.sandbox import Sandbox
from service.pipeline.request import MAX_REGIONS
from service.records import Instance, Region

MODALITIES = ("SR", "SEG", "RTSTRUCT")


def names_places(instance: Instance) -> bool:
    """Whether an instance is of a kind that marks places in other images, and is not a result of ours."""
    return instance.media == "dicom" and instance.modality in MODALITIES and not own(instance)


def own(instance: Instance) -> bool:
    """Whether an instance says that this software made it: results that come back are no input."""
    return "0018A001" in instance.attributes


def named(
    sandbox: Sandbox, places: Sequence[Instance], images: Sequence[Instance]
) -> tuple[tuple[Region, ...], list[str]]:
    """Regions that `places` mark in the series of `images`, and notes for the reader.

    The order is that of the SOP Instance UIDs, so that it does not depend on the way in. An object that cannot be read is
    left out with a note; it must not keep the series from its answer.
    """
    here = _Images(images)
    found: list[Region] = []
    notes: list[str] = []
    for place in sorted(places, key=lambda instance: instance.sop_instance_uid):
        name = f"the {place.modality} {place.sop_instance_uid}"
        try:
            references = sandbox.references(place)
        except (Busy, NoSpace):
            raise  # that passes; the mark must not be lost to it
        except InputError as error:
            notes.append(f"{name} was not used: {error.detail}")
            continue
        if references.own:
            continue
        notes += [f"{name}: {text}" for text in references.skipped]
        for reference in references.places:
            if here.hold(reference):
                region = _region(f"{place.modality.lower()}-{len(found) + 1}", reference, place.sop_instance_uid)
                if not any(_same(region, other) for other in found):
                    found.append(region)
    if len(found) > MAX_REGIONS:
        notes.append(f"{len(found)} places are marked in the series; only the first {MAX_REGIONS} were answered for")
    return tuple(found[:MAX_REGIONS]), notes


class _Images:
    """The images that are asked about."""

    def __init__(self, images: Sequence[Instance]) -> None:
        self._series = {instance.series_uid for instance in images}
        self._instances = {instance.sop_instance_uid for instance in images}
        self._frames = {instance.frame_of_reference_uid for instance in images}

    def hold(self, reference: Reference) -> bool:
        """Whether a place lies in one of them: by its image, its series, or its frame of reference, whichever it names."""
        if reference.sop_instance_uid:
            return reference.sop_instance_uid in self._instances
        if reference.sop_instance_uids:
            return not self._instances.isdisjoint(reference.sop_instance_uids)
        if reference.series_uid:
            return reference.series_uid in self._series
        return reference.frame_of_reference_uid in self._frames


def _region(identity: str, reference: Reference, source_uid: str) -> Region:
    in_space = reference.center_mm is not None
    return Region(
        id=identity,
        center_mm=reference.center_mm,
        sop_instance_uid=None if in_space else reference.sop_instance_uid,
        center_px=None if in_space else reference.center_px,
        frame=0 if in_space else reference.frame,
        origin="reference",
        diameter_mm=reference.diameter_mm,
        source_uid=source_uid,
        tracking_uid=reference.tracking_uid,
    )


def _same(one: Region, two: Region) -> bool:
    """Whether two objects mark the same place: the same lesion by its tracking UID, or the same point."""
    if one.tracking_uid and one.tracking_uid == two.tracking_uid:
        return True
    return replace(one, id="", source_uid="", tracking_uid="") == replace(two, id="", source_uid="", tracking_uid="")
