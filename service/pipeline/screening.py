"""What a screening scheme advises for a patient whose eyes were graded: refer, take again, rescreen, or not decided yet.

The intervals are those of the ICO Guidelines for Diabetic Eye Care (updated 2017), high-resource settings: referral from
moderate non-proliferative retinopathy on, re-examination within 3 to 6 months (moderate), 3 months (severe) and 1 month
(proliferative); none 1 to 2 years and mild 6 to 12 months without referral [1]_. "Take again" and "undecided" are no part of
the scheme: they say that it cannot be asked yet.

.. [1] T. Y. Wong, J. Sun, R. Kawasaki et al., Ophthalmology 125 (2018) 1608-1622, doi 10.1016/j.ophtha.2018.04.007.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

SCHEME = {
    "name": "ICO Guidelines for Diabetic Eye Care, updated 2017, high-resource settings",
    "citation": "Wong TY, Sun J, Kawasaki R, et al. Guidelines on Diabetic Eye Care: The International Council of "
    "Ophthalmology Recommendations for Screening, Follow-up, Referral, and Treatment Based on Resource Settings. "
    "Ophthalmology 2018;125(10):1608-1622.",
    "doi": "10.1016/j.ophtha.2018.04.007",
}
CAVEATS = (
    "Research use only, not for primary diagnosis: a clinician decides.",
    "Macular oedema, visual acuity and other disease are not looked at; any of them may need a referral.",
    "Only what the photographs show was judged; the rest of the retina was not.",
)
EYES = {"R": "right eye", "L": "left eye", "": "unknown eye"}
MORE_THAN_MILD, THREATENING, PROLIFERATIVE = 2, 3, 4
"""Grades from which retinopathy is more than mild (mtmDR), threatens vision (vtDR), and is proliferative (ICDR scale)."""
SEEN_WITHIN = {MORE_THAN_MILD: 6, THREATENING: 3, PROLIFERATIVE: 1}
"""Months, by grade."""
RESCREEN = 12
"""Months: the longest interval that the scheme allows for both none and mild retinopathy."""


@dataclass(frozen=True)
class Answer:
    """The grade of a photograph that counts; `probability` is the model's for this grade, None where a reader gave it."""

    grade: int
    label: str
    probability: float | None
    referable: Mapping[str, bool]
    by: Literal["model", "reader"]

    @property
    def urgency(self) -> int:
        """The grade, raised to what a positive decision stands for: decisions have thresholds of their own."""
        decided = {"mtmDR": MORE_THAN_MILD, "vtDR": THREATENING}
        return max([self.grade, *(grade for name, grade in decided.items() if self.referable.get(name))])


def implied(grade: int) -> dict[str, bool]:
    """The decisions that a grade implies by definition; the model's own have thresholds, and may differ."""
    return {"mtmDR": grade >= MORE_THAN_MILD, "vtDR": grade >= THREATENING}


def decide(answers: Mapping[str, Collection[Answer]], missing: Collection[Mapping[str, Any]]) -> dict[str, Any]:
    """The advice for the patient.

    Parameters
    ----------
    answers : mapping
        Those that count, by eye: "R", "L", and "" where it is not known which; a photograph of an unknown eye can lead to a
        referral, but stands for neither.
    missing : collection of mapping
        What the summary lacks, with `code` and `message`: see `service.pipeline.eyes`.

    Returns
    -------
    dict
        `action` (refer, undecided, retake, rescreen; the first that applies), `within_months` or None, `text`, and
        `because`: one sentence a reason.
    """
    most = {eye: max(found, key=lambda one: (one.urgency, one.grade)) for eye, found in answers.items() if found}
    referred = {eye: one for eye, one in most.items() if one.urgency >= MORE_THAN_MILD}
    if referred:
        months = SEEN_WITHIN[max(one.urgency for one in referred.values())]
        text = f"Refer to an ophthalmologist, to be seen within {months} month{'s' if months > 1 else ''}."
        return _decision("refer", text, months, [_reason(eye, one) for eye, one in referred.items()])
    codes = {one["code"] for one in missing}
    lacking = [str(one["message"]) for one in missing]
    unseen = {"not_gradable"} if "" in most else {"not_gradable", "no_photograph"}
    if codes & {"unfinished", "failed"}:
        return _decision("undecided", "Not decided yet: analyses are missing.", None, lacking)
    if codes & unseen:
        return _decision("retake", "Retake: each eye needs a photograph that can be graded.", None, lacking)
    if not {"R", "L"} <= most.keys():
        return _decision("undecided", "Not decided yet: an eye has no grade that counts.", None, lacking)
    because = [_reason(eye, one) for eye, one in most.items()]
    if any(one.grade for one in most.values()):
        because.append("With mild retinopathy the scheme gives 6 to 12 months.")
    return _decision("rescreen", f"Rescreen in {RESCREEN} months.", RESCREEN, because)


def _reason(eye: str, one: Answer) -> str:
    said = f"{EYES[eye].capitalize()}: {one.label} (grade {one.grade})"
    if one.by == "reader":
        said += ", as a reader says"
    if one.urgency > one.grade:
        name = "vision-threatening (vtDR)" if one.urgency == THREATENING else "more than mild (mtmDR)"
        said += f", and the decision for {name} retinopathy is positive"
    return f"{said}."


def _decision(action: str, text: str, months: int | None, because: list[str]) -> dict[str, Any]:
    return {"action": action, "text": text, "within_months": months, "because": because}
