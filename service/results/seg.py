"""Segmentation (PS3.3 A.51): the critical region of every finding, binary, on the pixel grid of the source images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from service.maps import region
from service.maps.region import CriticalRegion
from service.records import ResultObject
from service.results import codes, common, planes, wording
from service.results.report import Report

LESION = Code("52988006", "SCT", "Lesion")
_FRAMES_AT_ONCE = 8
"""Any eight frames have a whole number of bytes."""


def details(share: float) -> str:
    """What the object depends on besides the report; part of its UIDs."""
    return f"share {share:g}"


def regions(report: Report, share: float = region.SHARE) -> dict[str, CriticalRegion]:
    """Finding id to its critical region; without findings that have none, rejected ones, and eyes without retinopathy.

    The map of grade 0 says where the retina looks healthy: a segment that calls this place a lesion would be wrong.
    """
    size = (report.instances[0].rows, report.instances[0].columns)
    found = {}
    for finding in report.findings:
        maps = report.maps.get(finding["id"])
        if maps is None or finding.get("grade") == 0:
            continue
        one = region.of_finding(maps, finding, report.bundle, size, share)
        if one is not None:
            found[str(finding["id"])] = one
    return found


def build(report: Report, share: float = region.SHARE) -> ResultObject | None:
    """Make the object.

    One segment a finding, numbered in the order of the findings that have a region, with the finding's tracking UID; only
    frames with content. Common viewers show no fractional segmentations, therefore BINARY.

    Parameters
    ----------
    report : Report
    share : float
        Of the peak, that a pixel of the region reaches: `service.maps.region`.

    Returns
    -------
    ResultObject or None
        None where no finding has a region, or the images are no DICOM objects.
    """
    found = regions(report, share)
    if not found or not planes.referable(report):
        return None
    rank = {instance.key: at for at, instance in enumerate(report.instances)}
    places = {
        (segment, rank[key]): one.to_image(at)
        for segment, one in enumerate(found.values(), 1)
        for at, key in enumerate(one.sources)
        if one.mask[at].any()
    }
    places = {place: mask for place, mask in places.items() if mask.any()}
    used = sorted({at for _, at in places})
    presence = np.zeros((len(used), 1, len(found)), np.uint8)  # segment n holds column n of its frames
    for segment, at in places:
        presence[used.index(at), 0, segment - 1] = segment
    dataset = _described(report, found, [planes.placeholder(report, at, presence.shape[1:]) for at in used], presence)
    dataset.SegmentsOverlap = "YES" if _overlap(places) else "NO"
    dataset.Rows, dataset.Columns = report.instances[0].rows, report.instances[0].columns
    dataset.PixelData = _packed([places[place] for place in _frames(dataset, report)])
    dataset.ContentDescription = common.line(f"Response of the answered class at least {share:.0%} of its peak")
    dataset.BodyPartExamined = planes.body_part(report)
    planes.describe_sources(dataset, report)
    if not planes.spatial(report):
        dataset.PatientOrientation = _orientation(report.headers[0])
    return common.finish(dataset, report, "SEG", details(share))


def _described(
    report: Report, found: Mapping[str, CriticalRegion], sources: Sequence[Dataset], presence: np.ndarray
) -> Dataset:
    findings = {str(finding["id"]): finding for finding in report.result["findings"]}
    segments = [_segment(number, findings[name], one, report) for number, (name, one) in enumerate(found.items(), 1)]
    described = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=presence,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=common.series_uid(report, "SEG"),
        series_number=1,
        sop_instance_uid=common.instance_uid(report, "SEG"),
        instance_number=1,
        manufacturer=common.MANUFACTURER,
        manufacturer_model_name=common.model_name(report),
        software_versions=common.software_versions(report)[0],
        device_serial_number=common.serial_number(report),
        content_label="CRITICAL_REGION",
    )
    return Dataset(described)


def _segment(number: int, finding: Mapping[str, Any], one: CriticalRegion, report: Report) -> hd.seg.SegmentDescription:
    bundle = report.bundle
    index = bundle.classes.index(one.class_name)
    retina = "grade" in finding
    label = f"{wording.name(report, finding)}: {bundle.description['classes'][index]['label']}"
    if finding["id"] in report.verdicts:
        label = f"Disputed by a reader: {label}"
    algorithm = hd.AlgorithmIdentificationSequence(
        name=common.line(bundle.name),
        family=codes.ARTIFICIAL_INTELLIGENCE,
        version=common.line(bundle.version),
        source=common.MANUFACTURER,
        parameters={"class": one.class_name, "share": f"{one.share:g}"},
    )
    described = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=common.line(label),
        segmented_property_category=codes.ABNORMAL_STRUCTURE,
        segmented_property_type=LESION if retina else codes.NODULE,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=str(finding["tracking_uid"]),
        tracking_id=wording.name(report, finding),
        anatomic_regions=[codes.RETINA if retina else codes.LUNG],
        display_color=hd.color.CIELabColor.from_rgb(*(int(v) for v in bundle.colors[index])),
    )
    side = codes.LATERALITY.get(planes.side(report))
    if retina and side is not None:
        described.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [hd.sr.CodedConcept.from_code(side)]
    return described


def _packed(frames: Sequence[np.ndarray]) -> bytes:
    """Pixel Data of one bit a pixel, frames one after the other without padding between (PS3.5 8.1.1, annex D)."""
    packed = bytearray()
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        some = np.concatenate([mask.ravel() for mask in frames[start : start + _FRAMES_AT_ONCE]])
        packed += np.packbits(some, bitorder="little").tobytes()
    return bytes(packed + b"\0" * (len(packed) % 2))


def _frames(dataset: Dataset, report: Report) -> Iterator[tuple[int, int]]:
    """Segment number and number of the source image of every frame."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    order = planes.frame_sources(dataset, report)
    for frame, at in zip(dataset.PerFrameFunctionalGroupsSequence, order, strict=True):
        holder = frame if "SegmentIdentificationSequence" in frame else shared
        yield int(holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber), at


def _overlap(places: Mapping[tuple[int, int], np.ndarray]) -> bool:
    for at in {at for _, at in places}:
        here = [mask for (_, there), mask in places.items() if there == at]
        if len(here) > 1 and np.sum(here, axis=0, dtype=np.int16).max() > 1:
            return True
    return False


def _orientation(header: Dataset) -> list[str]:
    """Patient Orientation (0020,0020) of a photograph, where its header states a valid one."""
    value = header.get("PatientOrientation")
    stated = [] if value is None or isinstance(value, str) else [str(part) for part in value]
    return stated if len(stated) == 2 and all(part and set(part) <= set("LRAPHF") for part in stated) else []
