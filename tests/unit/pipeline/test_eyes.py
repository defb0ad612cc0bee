"""The summary of both eyes, from analyses that are written by hand: what it must say is worked out beside each."""

from __future__ import annotations

from typing import Any

import pytest

from service.pipeline import eyes, screening
from service.pipeline.screening import Answer
from service.store.assessments import Assessment
from service.store.rows import Analysis

LABELS = {"0": "No retinopathy", "1": "Mild NPDR", "2": "Moderate NPDR", "3": "Severe NPDR", "4": "Proliferative DR"}
BLURRED = {"code": "out_of_focus", "message": "the retina is out of focus", "retake": "Refocus."}


def analysis(
    identity: str,
    eye: str = "R",
    grade: int | None = 0,
    *,
    instance: str = "",
    reasons: tuple[dict[str, str], ...] = (),
    checks: tuple[dict[str, Any], ...] = (),
    referable: dict[str, bool] | None = None,
    **row: Any,
) -> Analysis:
    """One of a photograph of its own, with probability 0.6 for its grade; `grade` None: not graded."""
    finding = {
        "id": "eye",
        "grade": grade,
        "label": LABELS[str(grade)],
        "probabilities": {name: 0.6 if name == str(grade) else 0.1 for name in LABELS},
        "referable": screening.implied(grade) if referable is None else referable,
    } if grade is not None else None  # fmt: skip
    result = {
        "outcome": "graded" if finding else "ungradable",
        "input": {"laterality": eye, "instances": [instance or f"1.{identity}"], "checks": list(checks)},
        "quality": {"gradable": finding is not None, "score": 0.9, "code": {}, "reasons": list(reasons)},
        "findings": [finding] if finding else [],
    }
    if row.get("status", "completed") != "completed":
        result = None  # type: ignore[assignment]
    values = {"status": "completed", "result": result, "created": f"2026-01-01T00:00:{identity:0>2}.000000Z", **row}
    return Analysis(
        id=identity, attempts=1, model="clear_dr", study="1.2", series="1.2.3", modality="OP", request={}, warnings=[],
        **values,
    )  # fmt: skip


def verdict(kind: str, value: str | None = None) -> dict[str, Assessment]:
    return {
        "eye": Assessment(
            1, "", "eye", kind, value, None, "Dr. A", None, "2026-01-02T00:00:00.000000Z", "clear_dr", "1", "0", None
        )
    }


def summary(*analyses: Analysis, verdicts: Any = None, unanswered: Any = None) -> dict[str, Any]:
    return eyes.summary("1.2", analyses, verdicts or {}, LABELS, unanswered or {})


def eye(found: dict[str, Any], side: str | None) -> dict[str, Any]:
    (one,) = [one for one in found["eyes"] if one["laterality"] == side]
    return dict(one)


def codes(found: dict[str, Any]) -> list[tuple[str | None, str]]:
    return [(one["eye"], one["code"]) for one in found["missing"]]


def test_the_worst_photograph_of_each_eye_counts() -> None:
    found = summary(analysis("4", "L", 1), analysis("3", "R", 1), analysis("2", "R", 3), analysis("1", "R", 2))
    right, left = eye(found, "R"), eye(found, "L")
    assert (right["worst"], right["grades"], right["referable"]) == ("2", [1, 2, 3], {"mtmDR": True, "vtDR": True})
    assert [one["analysis"] for one in right["photographs"]] == ["3", "2", "1"]
    assert (left["worst"], left["grades"], left["referable"]) == ("4", [1], {"mtmDR": False, "vtDR": False})
    assert found["worse_eye"] == "R" and found["missing"] == []
    shown = right["photographs"][1]
    assert (shown["sop_instance_uid"], shown["href"]) == ("1.2", "/api/v1/analyses/2")
    assert shown["answer"] == {
        "grade": 3,
        "label": "Severe NPDR",
        "probability": 0.6,
        "referable": {"mtmDR": True, "vtDR": True},
        "by": "model",
    }
    assert shown["quality"] == {"gradable": True, "score": 0.9, "reasons": []}


def test_of_equal_grades_the_decisions_tell_the_worse_eye_then_neither() -> None:
    mtm = {"mtmDR": True, "vtDR": False}
    found = summary(analysis("2", "R", 1), analysis("1", "L", 1, referable=mtm))
    assert found["worse_eye"] == "L"
    assert summary(analysis("2", "R", 1), analysis("1", "L", 1))["worse_eye"] == "equal"
    assert summary(analysis("2", "R", 1), analysis("1", "L", None))["worse_eye"] is None


@pytest.mark.parametrize(
    ("right", "left", "action", "months"),
    [
        (0, 0, "rescreen", 12),
        (1, 0, "rescreen", 12),
        (0, 2, "refer", 6),
        (3, 2, "refer", 3),
        (0, 4, "refer", 1),
        (2, None, "refer", 6),
        (1, None, "retake", None),
        (None, None, "retake", None),
    ],
)
def test_what_the_scheme_advises(right: int | None, left: int | None, action: str, months: int | None) -> None:
    """ICO 2017, high-resource settings: moderate 3 to 6 months, severe 3, proliferative 1; mild 6 to 12, none 12 to 24."""
    decision = summary(analysis("2", "R", right), analysis("1", "L", left))["decision"]
    assert (decision["action"], decision["within_months"]) == (action, months)
    assert decision["because"]


def test_a_positive_decision_refers_whatever_the_grade() -> None:
    for referable, months in (({"mtmDR": True, "vtDR": False}, 6), ({"mtmDR": True, "vtDR": True}, 3)):
        found = summary(analysis("2", "R", 1, referable=referable), analysis("1", "L", 0))
        assert (found["decision"]["action"], found["decision"]["within_months"]) == ("refer", months)
        assert "decision" in found["decision"]["because"][0] and "Right eye" in found["decision"]["because"][0]
    negative = summary(analysis("2", "R", 2, referable={"mtmDR": False, "vtDR": False}), analysis("1", "L", 0))
    assert negative["decision"]["within_months"] == 6, "nor does a negative one take a grade back"
    assert [one["code"] for one in negative["contradictions"]] == ["grade_and_decision"]


def test_what_is_missing_is_named_with_what_to_do() -> None:
    found = summary(analysis("1", "R", 0))
    assert codes(found) == [("L", "no_photograph")] and found["decision"]["action"] == "retake"
    assert found["missing"][0]["advice"] == "Photograph the left eye."
    found = summary(analysis("2", "R", 0), analysis("1", "L", None, reasons=(BLURRED,)))
    (lack,) = found["missing"]
    assert (lack["eye"], lack["code"], lack["advice"], lack["analyses"]) == ("L", "not_gradable", "Refocus.", ["1"])
    assert "out of focus" in lack["message"] and found["decision"]["because"] == [lack["message"]]


def test_an_ungradable_photograph_beside_a_gradable_one_lacks_nothing() -> None:
    found = summary(analysis("3", "L", None, reasons=(BLURRED,)), analysis("2", "L", 0), analysis("1", "R", 0))
    assert found["missing"] == [] and found["decision"]["action"] == "rescreen"


def test_an_unknown_eye_stands_for_neither_but_may_refer() -> None:
    found = summary(analysis("2", "", 0), analysis("1", "R", 0))
    assert codes(found) == [("L", "no_photograph"), (None, "laterality_unknown")]
    assert found["decision"]["action"] == "undecided", "the photograph may be the missing one"
    assert eye(found, None)["worst"] == "2" and found["worse_eye"] is None
    assert summary(analysis("2", "", 4), analysis("1", "R", 0))["decision"]["within_months"] == 1
    assert summary(analysis("2", "", None), analysis("1", "R", 0))["decision"]["action"] == "retake"
    third = summary(analysis("3", "", 0), analysis("2", "L", 0), analysis("1", "R", 0))
    assert third["decision"]["action"] == "rescreen" and codes(third) == [(None, "laterality_unknown")]


def test_a_readers_verdict_goes_before_the_model() -> None:
    pair = analysis("2", "R", 3), analysis("1", "L", 0)
    accepted = summary(*pair, verdicts={"2": verdict("accepted")})
    assert accepted["decision"]["within_months"] == 3
    assert eye(accepted, "R")["photographs"][0]["verdict"]["reader"] == "Dr. A"

    corrected = summary(*pair, verdicts={"2": verdict("modified", "1")})
    shown = eye(corrected, "R")["photographs"][0]
    assert (shown["answer"]["grade"], shown["answer"]["label"], shown["answer"]["by"]) == (1, "Mild NPDR", "reader")
    assert shown["answer"]["probability"] is None and shown["model_grade"] == 3
    assert corrected["decision"]["action"] == "rescreen" and corrected["worse_eye"] == "R"

    raised = summary(*pair, verdicts={"1": verdict("modified", "4"), "2": verdict("modified", "0")})
    assert (raised["decision"]["within_months"], raised["worse_eye"]) == (1, "L")
    assert "as a reader says" in raised["decision"]["because"][0]

    for said in (verdict("rejected"), verdict("modified")):
        rejected = summary(*pair, verdicts={"2": said})
        assert eye(rejected, "R")["photographs"][0]["answer"] is None and eye(rejected, "R")["worst"] is None
        assert codes(rejected) == [("R", "rejected")] and rejected["decision"]["action"] == "undecided"


def test_only_the_newest_completed_analysis_of_a_photograph_counts() -> None:
    old, new = analysis("1", "R", 4, instance="1.9"), analysis("2", "R", 0, instance="1.9")
    left = analysis("3", "L", 0)
    found = summary(left, new, old)
    assert eye(found, "R")["grades"] == [0] and found["decision"]["action"] == "rescreen"
    replaced = analysis("1", "R", 4, superseded_by="2")
    assert eye(summary(left, new, replaced), "R")["grades"] == [0]


def test_what_has_not_ended_leaves_it_undecided_what_failed_too() -> None:
    pair = analysis("2", "R", 0), analysis("1", "L", 0)
    for status, code in (("queued", "unfinished"), ("running", "unfinished"), ("failed", "failed")):
        late = analysis("3", status=status)
        found = summary(late, *pair, unanswered={"3": "1.77"})
        assert codes(found) == [(None, code)] and found["decision"]["action"] == "undecided"
        assert found["missing"][0]["analyses"] == ["3"]
    repeated = summary(analysis("3", status="failed"), *pair, unanswered={"3": "1.2"})
    assert repeated["missing"] == [], "the photograph has an answer"
    urgent = summary(analysis("3", status="running"), analysis("2", "R", 4), unanswered={"3": "1.77"})
    assert urgent["decision"]["action"] == "refer", "a referral needs no second eye"


def test_photographs_of_one_eye_that_are_far_apart_contradict() -> None:
    found = summary(analysis("3", "R", 0), analysis("2", "R", 2), analysis("1", "L", 1))
    (said,) = found["contradictions"]
    assert (said["eye"], said["code"], said["analyses"]) == ("R", "grades_apart", ["3", "2"])
    assert "2 grades apart (0 and 2)" in said["message"]
    assert summary(analysis("3", "R", 0), analysis("2", "R", 1), analysis("1", "L", 4))["contradictions"] == []
    assert summary(analysis("2", "", 0), analysis("1", "", 4))["contradictions"] == [], "they may be of two eyes"


def test_a_doubt_about_the_side_is_passed_on() -> None:
    doubt = {"id": "laterality", "result": "warn", "message": "the request says R, the image's header L"}
    (said,) = summary(analysis("1", "R", 0, checks=(doubt,)))["contradictions"]
    assert (said["code"], said["message"]) == ("laterality", "The request says R, the image's header L.")


def test_where_the_side_is_from_is_told_when_the_analysis_does() -> None:
    told = analysis("1", "R", 0)
    assert told.result is not None
    told.result["input"] |= {"laterality_source": "disc", "laterality_confidence": 0.96}
    (first,) = eye(summary(told), "R")["photographs"]
    assert (first["laterality_source"], first["laterality_confidence"]) == ("disc", 0.96)
    (second,) = eye(summary(analysis("1", "R", 0)), "R")["photographs"]
    assert (second["laterality_source"], second["laterality_confidence"]) == (None, None)


def test_the_scheme_and_the_caveats_go_with_every_advice() -> None:
    found = summary(analysis("1", "R", 0))
    assert "ICO" in found["scheme"]["name"] and found["scheme"]["doi"] == "10.1016/j.ophtha.2018.04.007"
    assert any("Research use" in one for one in found["caveats"]) and any("oedema" in one for one in found["caveats"])


def test_the_most_urgent_photograph_decides_even_below_the_worst_grade() -> None:
    """Grade 2 alone: 6 months; the other photograph's grade 1 with a vision-threatening decision: 3."""
    threat = Answer(1, "Mild NPDR", 0.4, {"mtmDR": True, "vtDR": True}, "model")
    moderate = Answer(2, "Moderate NPDR", 0.4, {"mtmDR": True, "vtDR": False}, "model")
    assert screening.decide({"R": [moderate, threat], "L": []}, [])["within_months"] == 3
