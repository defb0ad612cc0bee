"""What the pictures of an analysis say: one page a slice of a nodule, one for a photograph, one of words for all the rest.

No patient data is written into a picture: no names, no identifiers of patient, study or image, and findings are numbered
because the sender chooses their names.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from service.maps import render
from service.records import Instance, ResponseMap
from service.results import sheet, wording
from service.results.report import Report
from service.results.sheet import Line

MOST_SLICES = 8
"""Slices of all nodules together, about 30 MB; of many nodules each keeps the slices round its strongest response."""
OVERLAY = 0.8
_HALF = (sheet.WIDTH - 3 * sheet.MARGIN) // 2
_EYE = 640
_UID = re.compile(r"\b\d+(?:\.\d+){4,}\b")
_NAMED = re.compile(r"\bregion [\w.-]+(: | was not classified)")
_ORIGINS = {
    "reference": "Place marked in a DICOM object",
    "candidate": "Place found by software, not confirmed by a reader",
}
_TITLES = {
    "ungradable": "Not graded: the image quality is not sufficient",
    "out_of_scope": "Not analysed: this is not what the model was made for",
    "no_region": "Nothing was classified: no nodule was pointed out",
    "rejected": "A reader rejected every finding of the model",
}


@dataclass(frozen=True)
class Page:
    """One picture, what it was drawn from, and its short name (VR SH)."""

    image: Image.Image
    sources: tuple[str, ...]
    label: str


def pages(report: Report) -> list[Page]:
    """All pictures of an analysis, at least one; all of one size."""
    findings = report.result["findings"]
    drawn: list[Page] = []
    shown = [finding for finding in report.findings if finding["id"] in report.maps]
    for number, finding in enumerate(findings, 1):
        maps = report.standing_maps.get(finding["id"])
        if maps is None:
            continue
        if "grade" in finding:
            drawn.append(_eye(report, finding, maps))
        else:
            chosen = _slices(maps, max(1, MOST_SLICES // len(shown)))
            drawn += [_slice(report, finding, maps, at, number) for at in chosen]
    summary = not shown or (len(shown) < len(findings)) or (_spatial(shown) and (len(findings) > 1 or _remarks(report)))
    if summary:
        drawn.insert(0, _summary(report))
    images = sheet.alike([page.image for page in drawn])
    return [Page(image, page.sources, page.label) for image, page in zip(images, drawn, strict=True)]


def _spatial(findings: Sequence[Mapping[str, Any]]) -> bool:
    return all("grade" not in finding for finding in findings)


def _slices(maps: ResponseMap, most: int) -> list[int]:
    """Up to `most` slices, in order, those nearest to the strongest response."""
    nearest = sorted(range(len(maps.response)), key=lambda at: (abs(at - maps.peak_slice), at))
    return sorted(nearest[:most])


def _overlay(report: Report, maps: ResponseMap, at: int, size: int) -> Image.Image:
    drawn = render.png(
        maps,
        "clear",
        report.bundle.colors,
        [str(entry["label"]) for entry in report.bundle.description["classes"]],
        overlay=OVERLAY,
        scale="per_image",
        legend=True,
        slice_index=at,
        size=size,
    )
    return Image.open(io.BytesIO(drawn)).convert("RGB")


def _slice(report: Report, finding: Mapping[str, Any], maps: ResponseMap, at: int, number: int) -> Page:
    """Left the plain window and the facts, right the map over it with its legend."""
    instance = next(i for i in report.instances if i.key == maps.sources[at])
    plain = maps.background[at]
    scale = _HALF / max(plain.shape[:2])
    size = (round(plain.shape[1] * scale), round(plain.shape[0] * scale))
    picture = Image.fromarray(plain).convert("RGB").resize(size, Image.Resampling.BICUBIC)
    letters = _letters(instance)
    x0, y0, x1, y1 = maps.box_px[at]
    caption = "CT, lung window" if instance.media == "dicom" else "Image"
    if instance.pixel_spacing:
        caption += f", {(x1 - x0) * instance.pixel_spacing[1]:.0f} x {(y1 - y0) * instance.pixel_spacing[0]:.0f} mm"
    total = len(report.result["findings"])
    which = f"Nodule {number} of {total}" if total > 1 else "Lung nodule"
    place = f"Slice {at + 1} of {len(maps.sources)} of this nodule"
    if instance.instance_number is not None:
        place += f", image {instance.instance_number} of the series"
    if at == maps.peak_slice:
        place += "; strongest response"
    facts = [
        Line(place),
        *_decision(report, finding),
        *_correction(report, finding),
        *_place(report, finding),
        *_foot(report),
    ]
    left = sheet.stacked([sheet.captioned(picture, caption, letters), sheet.column(facts, _HALF)])
    over = _overlay(report, maps, at, _HALF)
    right = sheet.captioned(over, "Response map (CLEAR) over the same window", letters, size[1])
    title = f"{which}: {_verdict(report, finding)}"
    label = f"{finding['id'][:10]} {at + 1}/{len(maps.sources)}"
    return Page(sheet.sheet(title, [left, right]), (maps.sources[at],), label)


def _eye(report: Report, finding: Mapping[str, Any], maps: ResponseMap) -> Page:
    """Left the facts, right the map over the photograph with its legend."""
    width = sheet.WIDTH - _EYE - 3 * sheet.MARGIN
    facts = [
        *_referrals(report, finding),
        *_decision(report, finding),
        *_correction(report, finding),
        *_foot(report),
    ]
    columns = [sheet.column(facts, width), _overlay(report, maps, 0, _EYE)]
    return Page(sheet.sheet(_eye_title(report, finding), columns), maps.sources, str(finding["id"])[:16])


def _summary(report: Report) -> Page:
    """What was found out, in words: all findings, or why there is none and what to do."""
    result = report.result
    lines: list[Line] = []
    findings = result["findings"]
    for number, finding in enumerate(findings, 1):
        if report.struck(finding):
            which = wording.eye(report) if "grade" in finding else f"Nodule {number}"
            lines.append(Line(f"{which}: {wording.rejection(report, finding)}", strong=True, gap=True))
        elif "grade" in finding:
            lines += [*_referrals(report, finding), *_decision(report, finding), *_correction(report, finding)]
        else:
            title = f"Nodule {number}: {_verdict(report, finding)}"
            lines += [Line(title, strong=True, gap=True), *_decision(report, finding)[1:]]
            lines += [*_correction(report, finding), *_place(report, finding)]
    if result["outcome"] == "no_region":
        lines += [Line(text, strong=True) for text in wording.summary(report)]
    for reason in result["quality"]["reasons"] if not findings else ():
        lines += [
            Line(wording.sentence(str(reason["message"])), strong=True, gap=True),
            Line(f"What to do: {reason['retake']}"),
        ]
    if not lines:
        lines += [Line(text, strong=True) for text in wording.summary(report)]
    elif report.findings and "grade" not in findings[0]:
        lines.append(Line(wording.summary(report)[-1], gap=True))
    lines += _foot(report)
    title = _TITLES.get(wording.outcome(report)) or _overview(report)
    sources = tuple(instance.key for instance in report.instances)
    return Page(sheet.sheet(title, [sheet.column(lines, sheet.WIDTH - 2 * sheet.MARGIN)]), sources, "summary")


def _overview(report: Report) -> str:
    findings = report.findings
    if len(findings) == 1 and "grade" in findings[0]:
        return _eye_title(report, findings[0])
    positive = sum(finding["operating_point"]["decision"] == "positive" for finding in findings)
    return f"Lung nodules: {positive} of {len(findings)} positive"


def _verdict(report: Report, finding: Mapping[str, Any]) -> str:
    point = finding["operating_point"]
    names = " or ".join(wording.labels(report)[name].lower() for name in _counted(report, finding))
    return f"{str(point['decision']).upper()} ({names} {point['score']:.2f}, positive from {point['threshold']:.2f})"


def _eye_title(report: Report, finding: Mapping[str, Any]) -> str:
    return f"{wording.eye(report)}: {finding['label']} (retinopathy grade {finding['grade']} of 0-4)"


def _referrals(report: Report, finding: Mapping[str, Any]) -> list[Line]:
    referable = finding.get("referable") or {}
    return [
        Line(f"{wording.REFERRALS.get(name, name)}: {'YES' if positive else 'no'}", strong=True)
        for name, positive in referable.items()
    ]


def _decision(report: Report, finding: Mapping[str, Any]) -> list[Line]:
    point = finding["operating_point"]
    names = " + ".join(wording.labels(report)[name] for name in _counted(report, finding))
    return [
        Line(f"Operating point {point['name']}: {str(point['decision']).upper()}", strong=True, gap=True),
        Line(f"Score {point['score']:.3f} ({names}), positive from {point['threshold']:.3f}"),
        Line(f"Sensitivity {point['sensitivity']:.2f}, specificity {point['specificity']:.2f} (n = {point['n']})"),
    ]


def _correction(report: Report, finding: Mapping[str, Any]) -> list[Line]:
    text = wording.correction(report, finding).strip()
    return [Line(text, strong=True, gap=True)] if text else []


def _counted(report: Report, finding: Mapping[str, Any]) -> tuple[str, ...]:
    return report.bundle.operating_point(finding["operating_point"]["name"]).score_classes


def _place(report: Report, finding: Mapping[str, Any]) -> list[Line]:
    origin = wording.origin(report, finding)
    judged = origin == "candidate" and finding["id"] in report.verdicts
    lines = [Line("Place found by software" if judged else _ORIGINS[origin])] if origin in _ORIGINS else []
    if (center := finding["location"]["center_mm"]) is not None:
        lines.append(Line("Centre x {:.1f}, y {:.1f}, z {:.1f} mm (DICOM patient coordinates)".format(*center)))
    return lines


def _foot(report: Report) -> list[Line]:
    """Quality, remarks and the model."""
    result, bundle = report.result, report.bundle
    remarks = [Line(text, strong=True, gap=True) for text in _remarks(report)]
    title = str(bundle.description["title"])
    return [
        *remarks,
        Line(f"Input quality: {result['quality']['code']['meaning']}", gap=True),
        Line(f"Model: {title}; {bundle.name}, version {bundle.version}"),
    ]


def _remarks(report: Report) -> list[str]:
    """Warnings of the analysis, without UIDs and the sender's names of regions."""
    return [wording.sentence(_UID.sub("(UID)", _NAMED.sub(_unnamed, str(text)))) for text in report.result["warnings"]]


def _unnamed(found: re.Match[str]) -> str:
    return "" if found[1] == ": " else f"a region{found[1]}"


def _letters(instance: Instance) -> tuple[str, str]:
    """Where the left and the upper border of the image lie in the patient: R, L, A, P, H or F (PS3.3 C.7.6.1.1.1)."""
    if not instance.orientation:
        return ("", "")
    rows, columns = np.asarray(instance.orientation, float).reshape(2, 3)
    return (_direction(-rows), _direction(-columns))


def _direction(way: np.ndarray) -> str:
    axis = int(np.abs(way).argmax())
    return ("RL", "AP", "FH")[axis][int(way[axis] > 0)]
