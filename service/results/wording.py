"""What a result says in words, for the structured report and for the key object selection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.bundle import OperatingPoint
from service.results.report import Report

Finding = Mapping[str, Any]

_REJECTED = "A reader rejected every finding of the model: none is left."
EYES = {"R": "Right eye", "L": "Left eye"}
REFERRALS = {"mtmDR": "More than mild diabetic retinopathy", "vtDR": "Vision-threatening diabetic retinopathy"}


def outcome(report: Report) -> str:
    """The outcome of what stands: that of the analysis, unless a reader rejected findings."""
    stated, standing = str(report.result["outcome"]), report.findings
    if not report.rejected:
        return stated
    if not standing:
        return "rejected"
    if stated != "positive" or any(one["operating_point"]["decision"] == "positive" for one in standing):
        return stated
    return "negative"


def eye(report: Report) -> str:
    """Which eye a photograph shows."""
    return EYES.get(report.result["input"]["laterality"], "Eye (side not stated)")


def origin(report: Report, finding: Finding) -> str:
    """Who named the place of a finding: request, reference, candidate."""
    region = report.regions.get(finding["id"])
    return region.origin if region else str(finding["location"].get("origin", "request"))


def name(report: Report, finding: Finding) -> str:
    """What a finding is called in every object."""
    if "grade" in finding:
        return eye(report)
    identity = str(finding["id"])
    unsaid = origin(report, finding) == "candidate" and not identity.startswith("candidate")
    return f"Nodule {'candidate ' if unsaid else ''}{identity}"


def rule(point: OperatingPoint, labels: Mapping[str, str]) -> str:
    """What an operating point decides by, and how well."""
    classes = ", ".join(labels[name] for name in point.score_classes)
    return (
        f"{point.name}: positive when the probability ({classes}) is at least {point.threshold:g}; sensitivity "
        f"{point.sensitivity:.1%}, specificity {point.specificity:.1%} in {point.n} cases ({point.data_set})"
    )


def labels(report: Report) -> dict[str, str]:
    """Names of the classes for people."""
    return {str(entry["name"]): str(entry["label"]) for entry in report.bundle.description["classes"]}


def summary(report: Report) -> list[str]:
    """The result in a few sentences, the most important one first."""
    match outcome(report):
        case "rejected":
            return [_REJECTED, *rejections(report)]
        case "graded":
            return [_graded(report, finding) + correction(report, finding) for finding in report.findings]
        case "ungradable":
            return [f"{eye(report)}: not graded. The photograph is not good enough.", *_reasons(report, retake=True)]
        case "out_of_scope":
            return ["Not analysed: the input is outside what the model was made for.", *_reasons(report, retake=False)]
        case "no_region":
            return ["No nodule was classified. This is no statement about whether there are nodules."]
    return _nodules(report)


def rejections(report: Report) -> list[str]:
    """Each finding that a reader rejected, without the reasons: these are free texts."""
    return [f"{name(report, finding)}: {rejection(report, finding)}." for finding in report.rejected]


def rejection(report: Report, finding: Finding) -> str:
    """How a reader rejected a finding."""
    verdict = report.verdicts[finding["id"]]
    return "rejected by a reader" if verdict.verdict == "rejected" else "no nodule, as a reader says"


def correction(report: Report, finding: Finding) -> str:
    """A sentence with what a reader says instead, behind a space; empty where nobody corrected the finding."""
    verdict = report.verdicts.get(finding["id"])
    if verdict is None:
        return ""
    instead = labels(report).get(verdict.value or "")
    return f" A reader corrects this to: {instead}." if instead else " A reader does not agree with this."


def _graded(report: Report, finding: Finding) -> str:
    grade = finding["grade"]
    sure = finding["probabilities"][report.bundle.classes[grade]]
    decided = [_referral(report, finding, name) for name in finding.get("referable", {})]
    return " ".join([f"{eye(report)}: {finding['label']} (grade {grade} of 0-4), probability {sure:.2f}.", *decided])


def _referral(report: Report, finding: Finding, name: str) -> str:
    """A decision of its own, by threshold: it may be positive where the likeliest grade alone would not be."""
    point = report.bundle.operating_point(name)
    score = point.score(dict(finding["probabilities"]))
    answer = "positive" if finding["referable"][name] else "negative"
    return f"{REFERRALS.get(name, name)}: {answer} (probability {score:.2f}, threshold {point.threshold:.2f})."


def _nodules(report: Report) -> list[str]:
    found = report.findings
    sentences = []
    if len(found) > 1:
        positive = sum(finding["operating_point"]["decision"] == "positive" for finding in found)
        sentences.append(f"{positive} of {len(found)} places are positive: malignancy is suspected there.")
    sentences += [_nodule(report, finding) + correction(report, finding) for finding in found]
    sentences += rejections(report)
    if any(finding["operating_point"]["decision"] == "negative" for finding in found):
        sentences.append("A negative decision does not exclude malignancy: see the sensitivity of the operating point.")
    candidates = [one for one in found if origin(report, one) == "candidate"]
    if candidates:
        unseen = (
            " and no reader has confirmed them" if any(one["id"] not in report.verdicts for one in candidates) else ""
        )
        return [
            *sentences,
            f"Candidates were found by software{unseen}: some are no nodules, and nodules are missed.",
        ]
    return [*sentences, "Only the places that were named were looked at, not the rest of the images."]


def _nodule(report: Report, finding: Finding) -> str:
    point = finding["operating_point"]
    meant = " (malignancy suspected)" if point["decision"] == "positive" else ""
    return (
        f"{name(report, finding)}: {point['decision']} at operating point {point['name']}{meant}, probability of "
        f"malignancy {point['score']:.2f}, threshold {point['threshold']:.2f}{_where(finding)}."
    )


def _where(finding: Finding) -> str:
    center = finding["location"]["center_mm"]
    return "" if center is None else ", centre ({:.1f}, {:.1f}, {:.1f}) mm".format(*center)


def _reasons(report: Report, retake: bool) -> list[str]:
    failed = [check for check in missed_checks(report) if check["result"] == "fail"]
    if failed:
        return [sentence(check["message"]) for check in failed]
    reasons = report.result["quality"]["reasons"]
    return [sentence(reason["message"]) + (f" {reason['retake']}" if retake else "") for reason in reasons]


def missed_checks(report: Report) -> list[Mapping[str, Any]]:
    """The input checks that did not pass."""
    return [check for check in report.result["input"]["checks"] if check["result"] != "pass"]


def sentence(text: str) -> str:
    """Text with a capital letter and a full stop."""
    stripped = text.strip()
    return stripped[:1].upper() + stripped[1:] + ("" if stripped.endswith((".", "!", "?")) else ".")
