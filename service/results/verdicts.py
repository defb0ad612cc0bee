"""What a reader says against the model's answer, as a content item of the structured report.

The item has an observer of its own, a person, because the rest of the report is the model's (PS3.16 TID 1001, 1003). A rejected
finding is named by its tracking identifiers and is no measurement group any more; a corrected one keeps its group and carries
the item.
"""

from __future__ import annotations

from collections.abc import Iterator

from highdicom.sr import ContentItem
from pydicom.sr.coding import Code

from service.results import codes, common, content, wording
from service.results.report import NOT_A_NODULE, Report, Verdict
from service.results.wording import Finding

LONGEST_REASON = 2000


def item(report: Report, finding: Finding) -> ContentItem:
    """CODE: the verdict on a finding, below it whose it is, what the reader says instead, and why.

    Observation DateTime (0040,A032) is when it was given (PS3.3 C.17.3), in the time zone of the other dates.
    """
    verdict = report.verdicts[finding["id"]]
    made = content.code(
        codes.VERDICT,
        codes.VERDICTS[verdict.verdict],
        *_observer(verdict),
        *(tracking(report, finding) if verdict.strikes else ()),
        *_instead(report, finding, verdict),
        *_reason(verdict),
    )
    made.add_new("ObservationDateTime", "DT", common.local(report, verdict.moment).strftime("%Y%m%d%H%M%S"))
    return made


def tracking(report: Report, finding: Finding) -> list[ContentItem]:
    """Tracking identifiers, as observation context."""
    return [
        content.text(codes.TRACKING_IDENTIFIER, wording.name(report, finding), content.CONTEXT),
        content.uid(codes.TRACKING_UID, finding["tracking_uid"], content.CONTEXT),
    ]


def _observer(verdict: Verdict) -> Iterator[ContentItem]:
    if verdict.reader:
        yield content.code(codes.OBSERVER_TYPE, codes.PERSON, relation=content.CONTEXT)
        yield content.person(codes.PERSON_NAME, verdict.reader, content.CONTEXT)


def _instead(report: Report, finding: Finding, verdict: Verdict) -> Iterator[ContentItem]:
    if verdict.verdict != "modified" or verdict.value is None:
        return
    if verdict.value == NOT_A_NODULE:
        yield content.code(codes.CORRECTION, codes.NOT_A_NODULE, relation=content.PROPERTY)
    elif "grade" in finding and verdict.value in report.bundle.classes:
        side = report.result["input"]["laterality"]
        severity = codes.SEVERITY.get(side, codes.SEVERITY_OF_UNKNOWN_EYE)
        grade = codes.GRADES[report.bundle.classes.index(verdict.value)]
        yield content.code(severity, grade, relation=content.PROPERTY)
    elif verdict.value in report.bundle.classes:
        entry = report.bundle.description["classes"][report.bundle.classes.index(verdict.value)]
        meant = Code(entry["code"]["value"], entry["code"]["scheme"], entry["code"]["meaning"])
        yield content.code(codes.FINDING, meant, relation=content.PROPERTY)
    else:
        yield content.text(codes.CORRECTION, verdict.value, content.PROPERTY)


def _reason(verdict: Verdict) -> Iterator[ContentItem]:
    if verdict.reason:
        yield content.text(codes.COMMENT, verdict.reason, content.PROPERTY, LONGEST_REASON)
