"""Rejection note: a key object selection that tells an archive which objects were replaced (IHE IOCM; TID 2010).

Title (113001, DCM, "Rejected for Quality Reasons"), which demands a modifier of CID 7011: none of them means that a reader said
otherwise, so it is the general one. What the archive does with rejected objects is its administrator's decision.
"""

from __future__ import annotations

from collections.abc import Sequence

import highdicom as hd
from highdicom.sr import ContentItem

from service.records import ResultObject
from service.results import codes, common, content
from service.results.report import Report

_DOCUMENTS = ("SR", "KOS")


def build(report: Report, replaced: Sequence[ResultObject], made: Sequence[ResultObject]) -> ResultObject:
    """The note.

    Parameters
    ----------
    report : Report
        The new version.
    replaced : sequence of ResultObject
        What it replaces, at least one; only their names are used.
    made : sequence of ResultObject
        The objects of the new version.
    """
    details = [one.sop_instance_uid for one in replaced]
    root = content.container(
        codes.REJECTED,
        [
            content.code(codes.TITLE_MODIFIER, codes.OTHER_FAILURE, relation=content.MODIFIER),
            *content.observer(report),
            content.text(codes.KEY_OBJECT_DESCRIPTION, _said(made)),
            *(_reference(one) for one in replaced),
        ],
        "2010",
        root=True,
    )
    document = hd.ko.KeyObjectSelectionDocument(
        evidence=content.evidence(report, (), replaced),
        content=hd.ko.KeyObjectSelection.from_sequence([root]),
        series_instance_uid=common.series_uid(report, "RN", *details),
        series_number=common.SERIES["RN"][0],
        sop_instance_uid=common.instance_uid(report, "RN", *details),
        instance_number=1,
        manufacturer=common.MANUFACTURER,
    )
    return common.finish(document, report, "RN", *details)


def _said(made: Sequence[ResultObject]) -> str:
    text = "These objects no longer hold: a reader has judged what they say, and they were made anew."
    report = next((one.sop_instance_uid for one in made if one.kind == "SR"), None)
    return f"{text} The report that replaces theirs is {report}." if report else text


def _reference(one: ResultObject) -> ContentItem:
    if one.kind in _DOCUMENTS:
        return content.composite(codes.SOURCE, one)
    return content.image(codes.SOURCE, one.sop_class_uid, one.sop_instance_uid)
