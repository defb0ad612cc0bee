"""Measurement groups of the structured report: one a nodule (TID 1411 or 1410), one an eye (TID 1501).

A nodule whose region is among the segments of our segmentation refers to it (TID 1411); otherwise it is marked on its
slice (TID 1410). Every group has tracking identifier and unique identifier, and coordinates on an image: viewers stop at a
group without them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from highdicom.sr import AlgorithmIdentification, ContentItem, FindingSite
from pydicom.sr.coding import Code

from models.bundle import OperatingPoint
from service.records import Instance
from service.results import codes, common, content, verdicts, wording
from service.results.report import Report
from service.results.wording import Finding


@dataclass(frozen=True)
class Segment:
    """A segment of our segmentation."""

    sop_class_uid: str
    sop_instance_uid: str
    number: int


def build(report: Report, segments: Mapping[str, Segment]) -> list[ContentItem]:
    """A group for each finding that no reader rejected.

    Parameters
    ----------
    segments : mapping
        Tracking UID to the segment that shows the finding.
    """
    return [
        _eye(report, finding) if "grade" in finding else _nodule(report, finding, segments.get(finding["tracking_uid"]))
        for finding in report.findings
    ]


def _nodule(report: Report, finding: Finding, segment: Segment | None) -> ContentItem:
    origin = wording.origin(report, finding)
    items = [
        *verdicts.tracking(report, finding),
        content.code(codes.FINDING_CATEGORY, codes.ABNORMAL_STRUCTURE),
        content.code(codes.FINDING, codes.NODULE),
        FindingSite(codes.LUNG),
        *_algorithm(report),
    ]
    centre = content.instance(report, finding["location"]["sop_instance_uid"])
    if segment is not None:
        items.append(
            content.image(
                codes.REFERENCED_SEGMENT, segment.sop_class_uid, segment.sop_instance_uid, segment=segment.number
            )
        )
        seen = (content.instance(report, part["sop_instance_uid"]) for part in finding.get("slices", ()))
        items += [
            content.image(codes.SOURCE_OF_SEGMENTATION, instance.sop_class_uid, instance.key)
            for instance in seen
            if instance is not None
        ]
    if centre is not None:
        items.append(_mark(finding, centre, codes.IMAGE_REGION if segment is None else codes.CENTER))
    items += _probabilities(report, finding)
    if origin == "candidate":
        items += _candidate(report, finding)
    items.append(content.code(codes.ORIGIN, codes.ORIGINS[origin]))
    items.append(_decision(report, codes.DECISION, finding["operating_point"]["name"], finding))
    items += _correction(report, finding)
    return content.container(codes.MEASUREMENT_GROUP, items, "1410" if segment is None else "1411")


def _candidate(report: Report, finding: Finding) -> Iterator[ContentItem]:
    """What our own search measured; a size that somebody else measured is theirs to report."""
    region = report.regions.get(finding["id"])
    diameter = finding["location"]["diameter_mm"]
    if diameter is not None:
        yield content.number(codes.DIAMETER, diameter, codes.MILLIMETRE)
    if region is not None and region.score is not None:
        yield content.number(codes.CERTAINTY, round(100 * region.score, 1), codes.PERCENT)


def _mark(finding: Finding, slice_: Instance, concept: Code) -> ContentItem:
    """The place on its slice: a circle where an image region of known size is asked for, else a point."""
    x0, y0, x1, y1 = finding["location"]["box_px"]
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    diameter = finding["location"]["diameter_mm"]
    if concept is codes.IMAGE_REGION and diameter and slice_.pixel_spacing:
        return content.place(concept, "CIRCLE", [(x, y), (x + diameter / 2 / slice_.pixel_spacing[1], y)], slice_)
    return content.place(concept, "POINT", [(x, y)], slice_)


def _eye(report: Report, finding: Finding) -> ContentItem:
    instance = report.instances[0]
    side = report.result["input"]["laterality"]
    severity = codes.SEVERITY.get(side, codes.SEVERITY_OF_UNKNOWN_EYE)
    grade = finding["grade"]
    sure = finding["probabilities"][report.bundle.classes[grade]]
    certainty = content.number(codes.CERTAINTY, round(100 * sure, 1), codes.PERCENT, relation=content.PROPERTY)
    named = [*finding.get("referable", {})]
    if finding["operating_point"]["name"] not in named:
        named.append(finding["operating_point"]["name"])
    return content.container(
        codes.MEASUREMENT_GROUP,
        [
            *verdicts.tracking(report, finding),
            FindingSite(codes.RETINA, laterality=codes.LATERALITY.get(side)),
            *_algorithm(report),
            content.image(codes.SOURCE_OF_MEASUREMENT, instance.sop_class_uid, instance.key),
            content.place(codes.GRADED_FIELD, "POLYLINE", _outline(finding, instance), instance),
            *_probabilities(report, finding),
            content.code(severity, codes.GRADES[grade], certainty),
            *(_decision(report, codes.REFERRALS.get(name, codes.DECISION), name, finding) for name in named),
            *_correction(report, finding),
        ],
        "1501",
    )


def _outline(finding: Finding, instance: Instance) -> list[tuple[float, float]]:
    """The graded square, closed, as far as it lies on the photograph."""
    x0, y0, x1, y1 = finding["location"]["box_px"]
    left, right = max(x0, 0.0), min(x1, float(instance.columns))
    top, bottom = max(y0, 0.0), min(y1, float(instance.rows))
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


def _correction(report: Report, finding: Finding) -> list[ContentItem]:
    """What a reader says instead; the model's own answer stays beside it."""
    return [verdicts.item(report, finding)] if finding["id"] in report.verdicts else []


def _algorithm(report: Report) -> AlgorithmIdentification:
    maps = report.bundle.description["response_maps"]
    return AlgorithmIdentification(
        name=common.model_name(report),
        version=common.line(report.bundle.version),
        parameters=[
            f"weights sha256 {report.bundle.sha256}",
            f"response maps: rule {maps['rule']}, start {maps['start']}",
            *_aggregation(report),
        ],
        family=codes.ARTIFICIAL_INTELLIGENCE,
        manufacturer=common.MANUFACTURER,
    )


def _aggregation(report: Report) -> list[str]:
    found = report.bundle.description.get("aggregation")
    return [f"slices within {found['half_depth_mm']} mm of the centre, {found['slices']}"] if found else []


def _probabilities(report: Report, finding: Finding) -> Iterator[ContentItem]:
    """One NUM a class, the class as modifier of the concept.

    That of cancer comes first: some viewers list the numbers of a group without their modifiers.
    """
    for entry in sorted(report.bundle.description["classes"], key=lambda entry: entry["name"] != "malignant"):
        value = finding["probabilities"][entry["name"]]
        if entry["name"] == "malignant":
            yield content.number(codes.PROBABILITY_OF_CANCER, value, codes.NO_UNITS)
            continue
        meant = Code(entry["code"]["value"], entry["code"]["scheme"], entry["code"]["meaning"])
        modifier = content.code(codes.FINDING, meant, relation=content.MODIFIER)
        yield content.number(codes.PROBABILITY, value, codes.NO_UNITS, modifier)


def _decision(report: Report, concept: Code, name: str, finding: Finding) -> ContentItem:
    """What an operating point decides, with all that it was decided by."""
    point: OperatingPoint = report.bundle.operating_point(name)
    probabilities = dict(finding["probabilities"])
    answer = codes.POSITIVE if point.decide(probabilities) else codes.NEGATIVE
    property_ = content.PROPERTY
    return content.code(
        concept,
        answer,
        content.number(codes.PROBABILITY, point.score(probabilities), codes.NO_UNITS, relation=property_),
        content.number(codes.OPERATING_POINT, point.threshold, codes.NO_UNITS, relation=property_),
        content.number(codes.SENSITIVITY, round(100 * point.sensitivity, 1), codes.PERCENT, relation=property_),
        content.number(codes.SPECIFICITY, round(100 * point.specificity, 1), codes.PERCENT, relation=property_),
        content.text(codes.OPERATING_POINT_DESCRIPTION, wording.rule(point, wording.labels(report)), property_),
    )
