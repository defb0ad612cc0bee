"""Learning which eye the optic disc tells: gradient, limit, figures by hand, and the constants of the service."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.optimize import check_grad  # type: ignore[import-untyped]

from models.preprocessing import Field
from service.intake import disc
from service.pipeline import laterality as service
from training.retina import laterality
from training.retina.laterality import Answers, Example
from training.retina.laterality_page import page

R = disc.RASTER


def example(eye: str, x: float, seed: int = 0, *, learning: bool = True, name: str = laterality.EQUALISED) -> Example:
    """Noise with one bright spot at `x`, on the level line through the centre."""
    seen = np.random.default_rng(seed).normal(0, 0.1, (4, R, R)).astype(np.float32)
    seen[:2, R // 2, int((x + 1) * R / 2)] = 4
    drawn = (x, 0.0, 0.3) if name == laterality.IDRID else None
    return Example(name, f"patient {seed}", learning, eye, drawn, seen, True)


def answers(confidence: list[float], right: list[bool], x: float = 0.6) -> Answers:
    count = len(right)
    return Answers(np.arange(count), np.array(confidence), np.array(right), np.full(count, x), np.array(right))


def test_the_gradient_is_that_of_the_loss() -> None:
    rng = np.random.default_rng(4)
    seen = rng.normal(size=(3, 4, 5, 7)).astype(np.float32)
    allowed = rng.random((3, 4, 7)) < 0.4
    allowed[:, 0, 0] = True
    parameters = rng.normal(size=6)

    def value(at: np.ndarray) -> float:
        return laterality.loss(at, seen, allowed)[0]

    def gradient(at: np.ndarray) -> np.ndarray:
        return laterality.loss(at, seen, allowed)[1]

    assert check_grad(value, gradient, parameters, epsilon=1e-3) < 2e-3
    everything = np.ones_like(allowed)
    assert laterality.loss(np.zeros(6), seen, everything)[0] == pytest.approx(0), "nothing is known: nothing is lost"


def test_what_is_known_of_a_photograph() -> None:
    right, left = (laterality.hypotheses(example(eye, 0.5)) for eye in "RL")
    assert right[[0, 2]].all() and not right[[1, 3]].any()
    assert left[[1, 3]].all() and not left[[0, 2]].any()
    drawn = laterality.hypotheses(example("", 0.5, name=laterality.IDRID))
    at = disc.places()
    assert drawn[0].sum() == drawn[1].sum() == (np.hypot(at[None] - 0.5, at[:, None]) < 0.15).sum() > 10
    assert not drawn[2:].any() and not drawn[0, :, : R // 2].any()


def test_learnt_from_spots_the_eye_is_that_of_their_side() -> None:
    learning = [example(eye, 0.6 if eye == "R" else -0.6, seed) for seed in range(6) for eye in "RL"]
    weights, turned = laterality.learn(learning)
    for eye, x in (("R", 0.6), ("L", -0.6)):
        found = disc.judge(example(eye, x, 99).seen, weights, turned)
        assert found.x == pytest.approx(x, abs=0.1)
        assert (found.right > 0.9) if eye == "R" else (found.right < 0.1)


def test_the_limit_is_the_smallest_that_is_right_enough() -> None:
    """300 of 300 right from 0.95 on, 300 of 302 (99.3 %) from 0.9 on."""
    found = answers([0.96] * 300 + [0.91] * 2, [True] * 300 + [False] * 2)
    assert laterality.limit(found) == 0.95
    assert laterality.limit(answers([0.85], [True])) == 0.8
    assert laterality.limit(answers([0.999], [False])) == 1.0
    assert laterality.limit(answers([0.999], [True], x=0.1)) == 1.0, "in the middle there is no answer"


def test_figures_by_hand() -> None:
    """Four of five right; answered from 0.95 on: two, one of them wrong. One lies in the middle."""
    found = answers([0.99, 0.96, 0.7, 0.6, 0.999], [True, False, True, True, True])
    found.x[4] = -0.2
    made = laterality.figures(found, 0.95)
    assert (made["n"], made["patients"], made["n_answered"], made["wrong_answered"]) == (5, 5, 2, 1)
    assert made["accuracy"]["value"] == 0.8 and made["answered"]["value"] == 0.4
    assert made["accuracy_answered"]["value"] == 0.5
    assert made["middle"] == {"n": 1, "right": 1, "probable": 1, "right_probable": 1}
    bins = [(one["from"], one["n"], one["right"]) for one in made["reliability"]]
    assert bins == [(0.6, 1, 1), (0.7, 1, 1), (0.95, 1, 0), (0.99, 2, 2)]


def test_places_by_hand() -> None:
    """A disc drawn at 0.5, 0.3 wide; found 0.03 and 0.3 away: a tenth of its diameter, and one whole diameter."""
    one = example("", 0.5, name=laterality.IDRID)
    near, far = disc.Disc(0.53, 0.0, 0.99), disc.Disc(0.5, 0.3, 0.02)
    made = laterality.place_figures([(one, near), (one, far), (one, disc.Disc(0.5, 0, 0.9))], 0.95)
    assert (made["n"], made["inside"], made["answered"], made["agreeing"]) == (3, 2, 2, 1)
    assert (made["median"], made["worst"]) == pytest.approx((0.1, 1.0))


def test_the_drawn_disc_in_radii_of_the_field() -> None:
    mask = np.zeros((100, 100, 3), np.uint8)
    mask[40:50, 70:80] = 255
    x, y, diameter = laterality.outline(mask, Field(50, 50, 40)) or (0, 0, 0)
    assert (x, y) == pytest.approx((25 / 40, -5 / 40))
    assert np.pi * (diameter * 40 / 2) ** 2 == pytest.approx(100)
    assert laterality.outline(np.zeros((9, 9, 3), np.uint8), Field(4, 4, 4)) is None


def test_the_service_has_the_weights_and_the_limit_that_were_measured() -> None:
    found = json.loads(laterality.RESULT.read_text(encoding="utf-8"))
    assert tuple(found["weights"]) == disc.FEATURES
    assert tuple(found["weights"].values()) == disc.WEIGHTS
    assert (found["turned"], found["limit"], found["every"]) == (disc.TURNED, service.LEAST_CONFIDENCE, 1)
    assert laterality.RESULT.with_suffix(".md").read_text(encoding="utf-8") == page(found)
