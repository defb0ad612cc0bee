"""Comprehensive 3D SR of one analysis: Measurement Report, TID 1500. Every outcome has one, also when nothing was found.

The report is complete but unverified: no person answers for it, also where a reader's verdict on a finding stands in it.
Sources: PS3.3 A.35.13; PS3.16 TID 1500, 1600.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import highdicom as hd
import pydicom
from highdicom.sr import ContentItem, LanguageOfContentItemAndDescendants
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from service.records import Instance, ResultObject
from service.results import codes, common, content, groups, verdicts, wording
from service.results.report import Report

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.88.34"


def build(report: Report, others: Sequence[ResultObject] = ()) -> ResultObject:
    """The structured report.

    Parameters
    ----------
    report : Report
    others : sequence of ResultObject
        The other objects of the same analysis; the report refers to each.
    """
    details = [other.sop_instance_uid for other in others]
    document = hd.sr.Comprehensive3DSR(
        evidence=content.evidence(report, report.instances, others),
        content=_root(report, others),
        series_instance_uid=common.series_uid(report, "SR", *details),
        series_number=common.SERIES["SR"][0],
        sop_instance_uid=common.instance_uid(report, "SR", *details),
        instance_number=1,
        manufacturer=common.MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
        previous_versions=_previous(report),
        coding_schemes=content.scheme(),
    )
    return common.finish(document, report, "SR", *details)


def _previous(report: Report) -> list[Dataset] | None:
    if report.predecessor is None:
        return None
    item = Dataset()
    item.StudyInstanceUID, item.SeriesInstanceUID = common.study_uid(report), report.predecessor.series_uid
    item.SOPClassUID, item.SOPInstanceUID = SOP_CLASS, report.predecessor.sop_instance_uid
    return [item]


def _root(report: Report, others: Sequence[ResultObject]) -> ContentItem:
    items: list[ContentItem] = [
        *LanguageOfContentItemAndDescendants(hd.sr.CodedConcept.from_code(codes.ENGLISH)),
        *content.observer(report),
        content.code(codes.PROCEDURE_REPORTED, procedure(report), relation=content.MODIFIER),
        _library(report),
    ]
    found = groups.build(report, _segments(others))
    if found:
        items.append(content.container(codes.IMAGING_MEASUREMENTS, found))
    items.append(content.container(codes.QUALITATIVE_EVALUATIONS, _evaluations(report)))
    if others:
        items.append(content.container(codes.KEY_IMAGES, [_reference(report, other) for other in others]))
    return content.container(codes.REPORT, items, "1500", root=True)


def procedure(report: Report) -> Code:
    """The imaging procedure: as the source images code it, else by modality. Never the algorithm."""
    for item in report.headers[0].get("ProcedureCodeSequence") or ():
        value, scheme = (common.line(str(item.get(key) or ""), 16) for key in ("CodeValue", "CodingSchemeDesignator"))
        meaning = common.line(str(item.get("CodeMeaning") or ""))
        if value and scheme and meaning:
            return Code(value, scheme, meaning)
    return codes.CT_PROCEDURE if report.instances[0].modality == "CT" else codes.IMAGING_PROCEDURE


def _library(report: Report) -> ContentItem:
    first = report.instances[0]
    described: list[ContentItem] = []
    if first.modality in codes.MODALITIES:
        modality = codes.MODALITIES[first.modality]
        described.append(content.code(codes.MODALITY, modality, relation=content.ACQUISITION))
    frames = {instance.frame_of_reference_uid for instance in report.instances}
    if len(frames) == 1 and first.frame_of_reference_uid:
        described.append(content.uid(codes.FRAME_OF_REFERENCE, first.frame_of_reference_uid, content.ACQUISITION))
    unique = {instance.sop_instance_uid: instance for instance in _seen(report)}
    images = [content.image(codes.SOURCE, image.sop_class_uid, uid) for uid, image in unique.items()]
    group = content.container(codes.IMAGE_LIBRARY_GROUP, [*described, *images])
    return content.container(codes.IMAGE_LIBRARY, [group])


def _seen(report: Report) -> list[Instance]:
    """The images that the model saw, all where it saw none; the evidence sequence lists all in any case."""
    parts = [part for finding in report.result["findings"] for part in finding.get("slices", ())]
    uids = {part["sop_instance_uid"].partition("#")[0] for part in parts}
    return [instance for instance in report.instances if instance.sop_instance_uid in uids] or list(report.instances)


def _segments(others: Sequence[ResultObject]) -> dict[str, groups.Segment]:
    """Tracking UID to segment, of the segmentations among the objects."""
    found = {}
    for other in others:
        if other.kind == "SEG":
            dataset = pydicom.dcmread(
                io.BytesIO(other.data), stop_before_pixels=True, specific_tags=["SegmentSequence"]
            )
            for item in dataset.get("SegmentSequence", ()):
                number = int(item.SegmentNumber)
                found[str(item.get("TrackingUID", ""))] = groups.Segment(
                    other.sop_class_uid, other.sop_instance_uid, number
                )
    return found


def _evaluations(report: Report) -> Iterator[ContentItem]:
    """What is to be said about the input as a whole."""
    result = report.result
    yield content.code(codes.SUMMARY_OF_RUN, run_status(report))
    yield content.code(codes.OUTCOME, codes.OUTCOMES[wording.outcome(report)])
    for sentence in wording.summary(report):
        yield content.text(codes.SUMMARY, sentence)
    for finding in report.rejected:
        yield verdicts.item(report, finding)
    yield _quality(report)
    said = {reason["message"] for reason in result["quality"]["reasons"]}
    for check in wording.missed_checks(report):
        if check["message"] not in said:
            yield content.text(codes.CHECK, wording.sentence(check["message"]))
    if not report.result["input"]["laterality"] and result["outcome"] in ("graded", "ungradable"):
        yield content.text(
            codes.COMMENT, "The images do not state which eye they show, and the sender did not name it."
        )
    for warning in result["warnings"]:
        yield content.text(codes.COMMENT, wording.sentence(warning))
    for limit in report.bundle.description["limits_of_use"]:
        yield content.text(codes.LIMIT_OF_USE, limit)
    yield content.text(codes.INTENDED_USE, result["disclaimer"])


def _quality(report: Report) -> ContentItem:
    """Image quality; where it is not met, why, and what to do."""
    quality = report.result["quality"]
    checks = {check["id"] for check in report.result["input"]["checks"]}
    below = []
    for reason in quality["reasons"]:
        below.append(content.text(codes.QUALITY_ISSUE, wording.sentence(reason["message"]), content.PROPERTY))
        if reason["retake"] and reason["code"] not in checks:
            below.append(content.text(codes.RECOMMENDATION, reason["retake"], content.PROPERTY))
    return content.code(codes.IMAGE_QUALITY, codes.QUALITIES[quality["code"]["value"]], *below)


def run_status(report: Report) -> Code:
    """How the run ended (CID 6047): a part that was not done is never a clean negative."""
    result = report.result
    if result["outcome"] in ("ungradable", "out_of_scope"):
        return codes.RUN_FAILED
    if result["outcome"] == "no_region":
        return codes.RUN_IN_PART_WITHOUT_FINDINGS
    if any(check["result"] == "fail" for check in result["input"]["checks"]):
        return codes.RUN_IN_PART
    found = any(finding.get("grade", 1) > 0 for finding in report.findings)
    return codes.RUN_WITH_FINDINGS if found else codes.RUN_WITHOUT_FINDINGS


def _reference(report: Report, other: ResultObject) -> ContentItem:
    """What another object of this analysis is to the reader."""
    if other.kind == "KOS":
        return content.composite(codes.OF_INTEREST if report.findings else codes.QUALITY_ISSUE, other)
    picture = codes.ILLUSTRATION if report.findings else codes.PICTURE
    concept = {"SEG": codes.SEGMENTATION, "PM": codes.SALIENCY}.get(other.kind, picture)
    return content.image(concept, other.sop_class_uid, other.sop_instance_uid)
