"""Content items of structured reports and key object selections, and the documents' common parts.

Source: PS3.3 C.17.3 (value types and relationships); PS3.16 TID 1001 to 1004 (observer).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import highdicom as hd
import numpy as np
from highdicom.sr import (
    CodeContentItem,
    CompositeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    NumContentItem,
    ObserverContext,
    PnameContentItem,
    ScoordContentItem,
    TextContentItem,
    UIDRefContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from service import uids
from service.records import Instance, ResultObject
from service.results import codes, common
from service.results.report import Report

CONTAINS, PROPERTY, MODIFIER = "CONTAINS", "HAS PROPERTIES", "HAS CONCEPT MOD"
CONTEXT, ACQUISITION, SELECTED = "HAS OBS CONTEXT", "HAS ACQ CONTEXT", "SELECTED FROM"
DEVICE = Code("121007", "DCM", "Device")


def instance(report: Report, key: str | None) -> Instance | None:
    """The image, or the frame of one, that a key of the body names (`Instance.key`)."""
    uid, _, frame = (key or "").partition("#")
    return next((replace(i, frame=int(frame or 0)) for i in report.instances if i.sop_instance_uid == uid), None)


def with_children(item: ContentItem, children: Iterable[ContentItem]) -> ContentItem:
    """The item with its children, which keep their relationship to it."""
    below = list(children)
    if below:
        item.ContentSequence = ContentSequence(below)
    return item


def container(
    name: Code, children: Iterable[ContentItem], template: str | None = None, root: bool = False
) -> ContentItem:
    """CONTAINER of items that stand for themselves (SEPARATE)."""
    item = ContainerContentItem(name, template_id=template, relationship_type=None if root else CONTAINS)
    return with_children(item, children)


def code(name: Code, value: Code, *children: ContentItem, relation: str = CONTAINS) -> ContentItem:
    """CODE: a concept and its coded value."""
    return with_children(CodeContentItem(name, value, relation), children)


def text(name: Code, value: str, relation: str = CONTAINS, limit: int = 1024) -> ContentItem:
    """TEXT; control characters become spaces."""
    return TextContentItem(name, common.line(value, limit) or "-", relation)


def person(name: Code, value: str, relation: str = CONTAINS) -> ContentItem:
    """PNAME of a name as somebody wrote it: all of it stands where the family name does (PS3.5 6.2.1)."""
    plain = common.line("".join(" " if character in "^=" else character for character in value)) or "-"
    return PnameContentItem(name, f"{plain}^", relation)


def number(name: Code, value: float, unit: Code, *children: ContentItem, relation: str = CONTAINS) -> ContentItem:
    """NUM, to four decimals."""
    return with_children(NumContentItem(name, round(float(value), 4), unit, relationship_type=relation), children)


def uid(name: Code, value: str, relation: str = CONTAINS) -> ContentItem:
    """UIDREF."""
    return UIDRefContentItem(name, value, relation)


def image(name: Code, sop_class: str, key: str, relation: str = CONTAINS, segment: int | None = None) -> ContentItem:
    """IMAGE: reference to an image, to a frame of one (`Instance.key`), or to a segment."""
    sop_instance, _, frame = key.partition("#")
    frames = int(frame) if frame else None
    return ImageContentItem(name, sop_class, sop_instance, frames, segment, relation)


def composite(name: Code, other: ResultObject) -> ContentItem:
    """COMPOSITE: reference to an object that is no image."""
    return CompositeContentItem(name, other.sop_class_uid, other.sop_instance_uid, CONTAINS)


def place(name: Code, kind: str, points: Sequence[tuple[float, float]], on: Instance) -> ContentItem:
    """SCOORD on an image.

    Parameters
    ----------
    kind : str
        Graphic Type: POINT, POLYLINE, CIRCLE.
    points : sequence of (column, row)
        Borders of pixels at whole numbers, (0, 0) the outer corner of the first pixel (PS3.3 C.18.6.1.1).
    """
    item = ScoordContentItem(name, kind, np.array(points, np.float64), relationship_type=CONTAINS)
    below = image(codes.SOURCE, on.sop_class_uid, on.key, SELECTED)
    return with_children(item, [below])


def observer(report: Report) -> ObserverContext:
    """The model as device observer (TID 1004)."""
    identity = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=uids.device(report.bundle.sha256),
        name=common.MANUFACTURER,
        manufacturer_name=common.MANUFACTURER,
        model_name=common.model_name(report),
        serial_number=common.serial_number(report),
    )
    return ObserverContext(hd.sr.CodedConcept.from_code(DEVICE), identity)


def evidence(report: Report, instances: Iterable[Instance], others: Sequence[ResultObject] = ()) -> list[Dataset]:
    """What a document refers to, as highdicom's documents take it; patient and study stay empty until `common.finish`."""
    listed = [(i.sop_class_uid, i.sop_instance_uid, common.source_series_uid(i)) for i in instances]
    listed += [(other.sop_class_uid, other.sop_instance_uid, other.series_uid) for other in others]
    items: list[Dataset] = []
    for sop_class, sop_instance, series in dict.fromkeys(listed):
        item = Dataset()
        for keyword in common.TYPE_2:
            setattr(item, keyword, "")
        item.StudyInstanceUID = common.study_uid(report)
        item.SOPClassUID, item.SOPInstanceUID, item.SeriesInstanceUID = sop_class, sop_instance, series
        items.append(item)
    return items


def scheme() -> list[hd.coding_schemes.CodingSchemeIdentificationItem]:
    """Coding Scheme Identification Sequence (0008,0110) of documents with codes of 99PELLUCID."""
    item = hd.coding_schemes.CodingSchemeIdentificationItem(
        codes.PRIVATE, name=codes.PRIVATE_NAME, responsible_organization=common.MANUFACTURER
    )
    return [item]
