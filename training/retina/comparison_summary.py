"""What the numbers of single photographs come to: means with intervals over photographs, nulls, by question, type and grade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from training.explanations import Method
from training.response_maps import evidence as ev
from training.retina.comparison import CONTROL_TEXTS, DEFAULT
from training.retina.data import answered
from training.retina.lesions import KINDS, TOLERANCE_PX
from training.retina.questions import QUESTIONS, REFERABLE, softmax

Numbers = Sequence[Mapping[str, Any]]
"""Of each photograph: `training.retina.comparison.measure`."""
PLACE = ("lesions", "pointing", "pointing_exact")
CLASSES = ("class_correlation", "shared_response")
CURVES = ("deletion", "insertion")
FORMULAS = {
    "share": "sum of positive R on drawn lesions (of one type, on the disc) / sum of positive R; without positive R it is 0",
    "null": "the lesions' share of the lit field: the share of a map that is equal everywhere in it",
    "ratio": "mean share / mean null",
    "pointing": (
        f"share of photographs whose argmax R lies at most {TOLERANCE_PX} px of the input's 512 px away from a lesion; null: the "
        "share of the lit field that does"
    ),
    "pointing, exact": "the same without tolerance; null: the lesions' share of the lit field",
    "default - this": (
        f"mean over the photographs that both were measured on of the share of `{DEFAULT}` minus the share of this method"
    ),
    "expected grade": "sum over the grades of grade * probability",
    **{figure: ev.FORMULAS[figure] for figure in (*CLASSES, *CURVES, "stability", "randomisation")},
}


def column(numbers: Numbers, *path: str) -> np.ndarray:
    """One figure of every photograph, float64, shape (n,); NaN where it was not measured."""
    values = []
    for photograph in numbers:
        value: Any = photograph
        for part in path:
            value = value.get(part) if isinstance(value, Mapping) else None
        values.append(np.nan if value is None else float(value))
    return np.array(values)


def answers(numbers: Numbers) -> np.ndarray:
    """Probabilities, float64, shape (n, 5)."""
    return softmax(np.array([photograph["logits"] for photograph in numbers]))


def summed(numbers: Numbers, rows: np.ndarray, path: Sequence[str], null: str = "") -> dict[str, Any]:
    """Mean of a figure over some photographs with its interval, and with a null the mean of that and their ratio."""
    who = np.array([photograph["name"] for photograph in numbers])[rows]
    values = column(numbers, *path)[rows]
    found = ev.summary(values, who)
    if not null or not found["n"]:
        return found
    chance = column(numbers, "nulls", null)[rows]
    ratio = ev.summary(values, who, chance) if chance[np.isfinite(values)].all() else None
    return found | {"null": float(chance[np.isfinite(values)].mean()), "ratio": ratio}


def of_method(numbers: Numbers, name: str) -> dict[str, Any]:
    """All figures of one method or control."""
    said = answered(answers(numbers))
    everywhere = np.ones(len(numbers), bool)
    rows = {"grade": said >= REFERABLE, "referable": everywhere}
    found: dict[str, Any] = {}
    for question in QUESTIONS:
        found[question] = {f: summed(numbers, rows[question], ("place", question, name, f), f) for f in PLACE}
        ahead = [column(numbers, "place", question, of, "lesions")[rows[question]] for of in (DEFAULT, name)]
        who = np.array([photograph["name"] for photograph in numbers])[rows[question]]
        found[question]["default_minus_this"] = ev.summary(ahead[0] - ahead[1], who)
    found["types"] = {
        kind: summed(numbers, column(numbers, "nulls", kind) > 0, ("place", "referable", name, kind), kind)
        for kind in KINDS
    }
    truth = column(numbers, "grade")
    for group, grades in (("said", said), ("true", truth)):
        found[group] = {
            str(grade): {f: summed(numbers, grades == grade, ("place", "grade", name, f), f) for f in PLACE}
            for grade in range(5)
            if (grades == grade).any()
        }
    for figure in CLASSES:
        measured = "classes" if np.isfinite(column(numbers, "classes", name, figure)).any() else "checks"
        found[figure] = summed(numbers, everywhere, (measured, name, figure))
    for figure in CURVES:
        found[figure] = summed(numbers, rows["grade"], ("curves", name, figure))
    checks: list[Mapping[str, Any]] = [photograph.get("checks", {}).get(name, {}) for photograph in numbers]
    for figure in dict.fromkeys(figure for values in checks for figure in values if figure not in CLASSES):
        found[figure] = summed(numbers, everywhere, ("checks", name, figure))
    seconds = column(numbers, "seconds", name)
    found["seconds"] = float(np.nanmean(seconds)) if np.isfinite(seconds).any() else None
    return found


def of_effects(numbers: Numbers) -> dict[str, Any]:
    """What the answers become when parts of the photographs are filled."""
    who = np.array([photograph["name"] for photograph in numbers])
    before = np.array([photograph["effects"]["photograph"] for photograph in numbers])
    found = {}
    for change in numbers[0]["effects"]:
        p = np.array([photograph["effects"][change] for photograph in numbers])
        expected, was = p @ np.arange(5), before @ np.arange(5)
        found[change] = {
            "referable": ev.summary(p[:, REFERABLE:].sum(1), who),
            "expected_grade": ev.summary(expected, who),
            "expected_grade_change": ev.summary(expected - was, who),
            "answer_changes": ev.summary((answered(p) != answered(before)).astype(float), who),
        }
    return found


def summarise(numbers: Numbers, choices: Numbers, explain: Mapping[str, Method]) -> dict[str, Any]:
    """Everything that the page says, from the numbers of the test photographs and of the held-out ones."""
    said, truth = answered(answers(numbers)), column(numbers, "grade")
    texts = {name: method.text for name, method in explain.items()} | CONTROL_TEXTS
    found = {
        name: {
            "kind": "control" if name not in explain else "ours" if explain[name].ours else "peer",
            "text": text,
            **of_method(numbers, name),
        }
        for name, text in texts.items()
    }
    held = {
        name: {
            "grade": {
                f: summed(choices, answered(answers(choices)) >= REFERABLE, ("place", "grade", name, f), f)
                for f in PLACE
            },
            "class_correlation": summed(choices, np.ones(len(choices), bool), ("classes", name, "class_correlation")),
        }
        for name, method in explain.items()
        if choices and method.ours
    }
    return {
        "data_set": "IDRiD, lesion segmentation, official test split; none of the photographs was trained on",
        "photographs": len(numbers),
        "said": {str(grade): int((said == grade).sum()) for grade in range(5)},
        "graded": int((truth >= 0).sum()),
        "right": int((said == truth).sum()),
        "methods": found,
        "effects": of_effects(numbers),
        "held_out": {"photographs": len(choices), "methods": held},
        "formulas": FORMULAS,
    }
