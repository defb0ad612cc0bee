"""One summary of both eyes of a patient: the worst grade of each, what is missing, what contradicts, and what to do.

Made from the stored analyses of one study and the readers' verdicts on them, each time anew; nothing of it is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.pipeline import screening
from service.pipeline.body import DISCLAIMER, PREFIX
from service.pipeline.screening import EYES, Answer
from service.store.assessments import Assessment
from service.store.rows import Analysis

APART = 2
"""Grades between two photographs of one eye that contradict each other."""
_SIDES = ("R", "L")
_DECISIONS = {"mtmDR": "more than mild", "vtDR": "vision-threatening"}


@dataclass(frozen=True)
class Photograph:
    """A photograph by its newest completed analysis. `answer` is the grade that counts, None where there is none."""

    analysis: Analysis
    eye: str
    """R, L, or empty where it is not known."""
    answer: Answer | None
    verdict: Assessment | None

    @property
    def result(self) -> Mapping[str, Any]:
        return self.analysis.result or {}

    @property
    def finding(self) -> Mapping[str, Any] | None:
        """The model's answer, whatever a reader says."""
        return self.result["findings"][0] if self.result["findings"] else None

    @property
    def severity(self) -> tuple[int, int]:
        """The grade that counts, then what the decisions say; below every grade where there is none."""
        return (self.answer.grade, self.answer.urgency) if self.answer else (-1, -1)


def summary(
    study: str,
    analyses: Sequence[Analysis],
    verdicts: Mapping[str, Mapping[str, Assessment]],
    labels: Mapping[str, str],
    unanswered: Mapping[str, str],
) -> dict[str, Any]:
    """The summary of a study, as the HTTP contract has it.

    Parameters
    ----------
    study : str
        Study Instance UID.
    analyses : sequence of Analysis
        Those of its photographs, the newest first. Superseded ones are left out here; of several analyses of one photograph
        the newest completed one counts.
    verdicts : mapping
        The verdict that counts, by analysis and finding. It goes before the model's answer: a corrected grade takes its
        place, a rejected one leaves the photograph without any.
    labels : mapping
        Names of the grades for people, by class.
    unanswered : mapping
        SOP Instance UID of the photograph of each analysis that is not completed.
    """
    current = [one for one in analyses if one.superseded_by is None]
    shots: dict[str, Photograph] = {}
    for one in current:
        if one.result is not None:
            shots.setdefault(one.result["input"]["instances"][0], _photograph(one, verdicts.get(one.id, {}), labels))
    by_eye = {eye: [one for one in shots.values() if one.eye == eye] for eye in EYES}
    running = [one.id for one in current if not one.ended]
    failed = [one.id for one in current if one.status == "failed" and unanswered.get(one.id) not in shots]
    lacking = [*_missing(by_eye), *_incomplete(running, failed)]
    answers = {eye: [one.answer for one in found if one.answer] for eye, found in by_eye.items()}
    return {
        "study": study,
        "eyes": [_eye(eye, found) for eye, found in by_eye.items() if eye or found],
        "worse_eye": _worse(*(worst(by_eye[eye]) for eye in _SIDES)),
        "missing": lacking,
        "contradictions": [one for eye, found in by_eye.items() for one in _contradictions(eye, found)],
        "decision": screening.decide(answers, lacking),
        "scheme": dict(screening.SCHEME),
        "caveats": list(screening.CAVEATS),
        "disclaimer": DISCLAIMER,
    }


def worst(shots: Iterable[Photograph]) -> Photograph | None:
    """The photograph with the highest grade that counts, of equal ones the newest; None where none has a grade."""
    return max((one for one in shots if one.answer), key=lambda one: one.severity, default=None)


def _photograph(analysis: Analysis, verdicts: Mapping[str, Assessment], labels: Mapping[str, str]) -> Photograph:
    result = analysis.result or {}
    eye = result["input"]["laterality"]
    finding = result["findings"][0] if result["findings"] else None
    verdict = verdicts.get(finding["id"]) if finding else None
    return Photograph(analysis, eye if eye in _SIDES else "", _answer(finding, verdict, labels), verdict)


def _answer(finding: Mapping[str, Any] | None, verdict: Assessment | None, labels: Mapping[str, str]) -> Answer | None:
    if finding is None:
        return None
    classes, grade = list(finding["probabilities"]), int(finding["grade"])
    if verdict is None or verdict.verdict == "accepted":
        sure = float(finding["probabilities"][classes[grade]])
        return Answer(grade, finding["label"], sure, finding.get("referable", {}), "model")
    value = verdict.value or ""
    if verdict.verdict == "modified" and value in classes:
        grade = classes.index(value)
        return Answer(grade, labels.get(value, value), None, screening.implied(grade), "reader")
    return None


# -- parts of the body ------------------------------------------------------------------------------------------------------


def _eye(eye: str, shots: Sequence[Photograph]) -> dict[str, Any]:
    chosen = worst(shots)
    given = [one.answer for one in shots if one.answer]
    referable = {name: any(one.referable.get(name, False) for one in given) for name in _DECISIONS}
    return {
        "laterality": eye or None,
        "worst": chosen.analysis.id if chosen else None,
        "referable": referable if given else None,
        "grades": sorted(one.grade for one in given),
        "photographs": [_body(one) for one in shots],
    }


def _body(shot: Photograph) -> dict[str, Any]:
    described, quality, answer, verdict = shot.result["input"], shot.result["quality"], shot.answer, shot.verdict
    return {
        "analysis": shot.analysis.id,
        "href": f"{PREFIX}/{shot.analysis.id}",
        "sop_instance_uid": described["instances"][0],
        "created": shot.analysis.created,
        "outcome": shot.result["outcome"],
        "laterality_source": described.get("laterality_source"),
        "laterality_confidence": described.get("laterality_confidence"),
        "quality": {name: quality[name] for name in ("gradable", "score", "reasons")},
        "answer": {
            "grade": answer.grade,
            "label": answer.label,
            "probability": answer.probability,
            "referable": dict(answer.referable),
            "by": answer.by,
        }
        if answer
        else None,
        "model_grade": shot.finding["grade"] if shot.finding else None,
        "verdict": {name: getattr(verdict, name) for name in ("verdict", "value", "reader", "created")}
        if verdict
        else None,
    }


def _worse(right: Photograph | None, left: Photograph | None) -> str | None:
    """R, L or equal; None while one of them has no grade."""
    if right is None or left is None:
        return None
    if right.severity == left.severity:
        return "equal"
    return "R" if right.severity > left.severity else "L"


def _missing(by_eye: Mapping[str, Sequence[Photograph]]) -> Iterator[dict[str, Any]]:
    """What the photographs lack: codes no_photograph, not_gradable, rejected (of an eye), laterality_unknown."""
    for eye in _SIDES:
        shots, name = by_eye[eye], EYES[eye]
        if any(one.answer for one in shots):
            continue
        if not shots:
            said = (
                f"No photograph is known to be of the {name}."
                if by_eye[""]
                else f"No photograph of the {name} was analysed."
            )
            yield _lack(eye, "no_photograph", said, f"Photograph the {name}.")
        elif any(one.finding for one in shots):
            said, advice = f"A reader rejected the grade of the {name}.", "Correct it to a grade, or photograph again."
            yield _lack(eye, "rejected", said, advice, shots)
        else:
            reasons = {r["code"]: r for one in reversed(shots) for r in one.result["quality"]["reasons"]}.values()
            why = "; ".join(r["message"] for r in reasons) or "it is not what the model was made for"
            advice = " ".join(r["retake"] for r in reasons) or f"Photograph the {name} again."
            yield _lack(eye, "not_gradable", f"No photograph of the {name} can be graded: {why}.", advice, shots)
    if unknown := by_eye[""]:
        said = f"{len(unknown)} of the photographs: not known which eye."
        yield _lack(None, "laterality_unknown", said, "Send again with laterality R or L.", unknown)


def _incomplete(running: Sequence[str], failed: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What the analyses lack: codes unfinished, failed."""
    if running:
        said = f"Analyses that have not ended: {len(running)}."
        yield {**_lack(None, "unfinished", said, "Wait for the answer."), "analyses": list(running)}
    if failed:
        said = f"Analyses that failed: {len(failed)}."
        yield {**_lack(None, "failed", said, "Analyse again, or photograph again."), "analyses": list(failed)}


def _contradictions(eye: str, shots: Sequence[Photograph]) -> Iterator[dict[str, Any]]:
    """Codes: grades_apart, grade_and_decision, laterality."""
    graded = sorted((one for one in shots if one.answer), key=lambda one: one.severity)
    if eye and len(graded) > 1:
        low, high = graded[0].severity[0], graded[-1].severity[0]
        if high - low >= APART:
            said = f"Photographs of the {EYES[eye]} are {high - low} grades apart ({low} and {high}): look at both."
            yield _contradiction(eye, "grades_apart", said, [graded[0], graded[-1]])
    for one in shots:
        if one.answer:
            implied = screening.implied(one.answer.grade)
            for name, decided in one.answer.referable.items():
                if decided != implied.get(name, decided):
                    said = f"grade {one.answer.grade}, but {_DECISIONS[name]} ({name}): {'yes' if decided else 'no'}."
                    yield _contradiction(eye, "grade_and_decision", f"{EYES[eye].capitalize()}: {said}", [one])
        for check in one.result["input"]["checks"]:
            if check["id"] == "laterality" and check["result"] != "pass":
                said = check["message"][:1].upper() + check["message"][1:].rstrip(".") + "."
                yield _contradiction(eye, "laterality", said, [one])


def _lack(eye: str | None, code: str, message: str, advice: str, shots: Sequence[Photograph] = ()) -> dict[str, Any]:
    return {
        "eye": eye,
        "code": code,
        "message": message,
        "advice": advice,
        "analyses": [one.analysis.id for one in shots],
    }


def _contradiction(eye: str, code: str, message: str, shots: Sequence[Photograph]) -> dict[str, Any]:
    return {"eye": eye or None, "code": code, "message": message, "analyses": [one.analysis.id for one in shots]}
