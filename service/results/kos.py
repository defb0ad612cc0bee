"""Key Object Selection: which images to look at first (TID 2010).

Findings: the slice with the centre and the one with the strongest response. Rejected images: all that were looked at, with
the reason. Sources: PS3.3 A.35.4; PS3.16 TID 2010, CID 7010, CID 7011.
"""

from __future__ import annotations

import highdicom as hd
from pydicom.sr.coding import Code

from service.records import Instance, ResultObject
from service.results import codes, common, content, wording
from service.results.report import Report

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.88.59"


def build(report: Report) -> ResultObject | None:
    """The selection; None where there is nothing to select."""
    rejected = report.result["outcome"] in ("ungradable", "out_of_scope")
    selected = list(report.instances) if rejected else key_images(report)
    if not selected:
        return None
    reasons = rejections(report) if rejected else []
    root = content.container(
        codes.QUALITY_ISSUE if rejected else codes.OF_INTEREST,
        [
            *(content.code(codes.TITLE_MODIFIER, reason, relation=content.MODIFIER) for reason in reasons),
            *content.observer(report),
            content.text(codes.KEY_OBJECT_DESCRIPTION, " ".join(wording.summary(report))),
            *(content.image(codes.SOURCE, image.sop_class_uid, image.key) for image in selected),
        ],
        "2010",
        root=True,
    )
    document = hd.ko.KeyObjectSelectionDocument(
        evidence=content.evidence(report, selected),
        content=hd.ko.KeyObjectSelection.from_sequence([root]),
        series_instance_uid=common.series_uid(report, "KOS"),
        series_number=common.SERIES["KOS"][0],
        sop_instance_uid=common.instance_uid(report, "KOS"),
        instance_number=1,
        manufacturer=common.MANUFACTURER,
    )
    return common.finish(document, report, "KOS")


def key_images(report: Report) -> list[Instance]:
    """Of each finding the slice with its centre and the one with the strongest response, in stack order."""
    keys: dict[str, None] = {}
    for finding in report.findings:
        keys |= dict.fromkeys(
            (finding["location"]["sop_instance_uid"], finding["evidence"].get("peak_sop_instance_uid"))
        )
    order = {key: index for index, key in enumerate(report.result["input"]["instances"])}
    found = (content.instance(report, key) for key in sorted(filter(None, keys), key=lambda key: order.get(key, 0)))
    return [instance for instance in found if instance is not None]


def rejections(report: Report) -> list[Code]:
    """Why images were rejected (CID 7011), each reason once."""
    reasons = [codes.REJECTIONS.get(r["code"], codes.OTHER_FAILURE) for r in report.result["quality"]["reasons"]]
    return list(dict.fromkeys(reasons)) or [codes.OTHER_FAILURE]
