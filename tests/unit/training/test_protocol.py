"""The protocol on synthetic answers: what is measured on which cases, thresholds from other folds, and leaks noticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score

from training import metrics as m
from training.lung import protocol as p
from training.lung.data import FOLDS, Nodule

FACTS = {
    "protocol": "patient",
    "fold": 0,
    "share": 1.0,
    "train_nodules": 9,
    "train_slices": 9,
    "seconds": 1.0,
    "parameters": 9,
}


def nodule(patient: str, scores: tuple[int, ...], first: int, **changes) -> Nodule:
    given = {"diameter_mm": 9.0, "spacing_mm": 0.7, "thickness_mm": 2.0, "slices": 5} | changes
    return Nodule(patient, "n", scores, (), first=first, **given)


@pytest.fixture(scope="module")
def nodules() -> list[Nodule]:
    """200 nodules of about 110 patients, 1 to 5 readers; malignant ones are larger; four are matched "partial"."""
    generator, found, first = np.random.default_rng(0), [], 0
    for k in range(200):
        middle = generator.choice([1.5, 3, 4.5])
        scores = np.clip(np.round(middle + generator.normal(scale=0.5, size=generator.integers(1, 5))), 1, 5)
        slices = int(generator.integers(1, 6))
        found.append(
            nodule(
                f"p{generator.integers(0, 150)}",
                tuple(int(s) for s in scores),
                first,
                slices=slices,
                diameter_mm=float(np.round(4 + 2 * middle + generator.gamma(2, 2), 2)),
                match="partial" if k % 50 == 7 else "exact",
            )
        )
        first += slices
    return found


def answer(nodules: list[Nodule], noise: float = 1.0, seed: int = 1) -> np.ndarray:
    """Log-odds by row that know the score and add noise."""
    generator = np.random.default_rng(seed)
    z = np.full(max(n.rows[-1] for n in nodules) + 1, np.nan)
    for n in nodules:
        z[n.rows] = n.malignancy - 3 + noise * (generator.normal() + 0.5 * generator.normal(size=n.slices))
    return z


def write_folds(folder: Path, nodules: list[Nodule]) -> np.ndarray:
    z = answer(nodules)
    for k in range(FOLDS):
        rows = np.array([row for n in nodules if n.fold == k and n.match != "partial" for row in n.rows])
        p.Trained(rows, z[rows], FACTS | {"fold": k}).write(folder / str(k))
    return z


@pytest.fixture
def folds(tmp_path: Path, nodules: list[Nodule]) -> Path:
    write_folds(tmp_path, nodules)
    return tmp_path


def test_cross_validation_puts_ten_networks_together(folds: Path, nodules: list[Nodule]) -> None:
    answers, trained = p.cross_validation(folds, nodules)
    assert answers.nodules == [n for n in nodules if n.match != "partial"]
    assert [t.facts["fold"] for t in trained] == list(range(10))
    rows = p.rows_of(answers.nodules, "slice")[0]
    np.testing.assert_allclose(answers.log_odds[rows], answer(nodules)[rows], rtol=1e-6)
    assert all(np.isnan(answers.log_odds[n.rows]).all() for n in nodules if n.match == "partial" and n != nodules[-1])


def test_missing_folds_are_named(folds: Path, nodules: list[Nodule]) -> None:
    for k in ("3", "7"):
        (folds / k / "predictions.npz").unlink()
    with pytest.raises(FileNotFoundError, match="no predictions of fold 3, 7 in"):
        p.cross_validation(folds, nodules)


def test_a_patient_in_two_folds_is_noticed(folds: Path, nodules: list[Nodule]) -> None:
    first, other = p.read(folds / "0"), p.read(folds / "1")
    stray = next(n for n in nodules if n.fold == 1 and n.match != "partial").rows[0]
    p.Trained(np.r_[first.rows, stray], np.r_[first.log_odds, 0.0], first.facts).write(folds / "0")
    with pytest.raises(ValueError, match="1 patients are on two sides of the split"):
        p.cross_validation(folds, nodules)
    p.Trained(first.rows[1:], first.log_odds[1:], first.facts).write(folds / "0")
    with pytest.raises(ValueError, match=f"not the {len(first.rows)} slices of the patients of fold 0"):
        p.cross_validation(folds, nodules)
    first.write(folds / "1")
    other.write(folds / "0")
    with pytest.raises(ValueError, match="slices of the patients of fold 0"):
        p.cross_validation(folds, nodules)


def test_a_network_of_the_leaky_split_is_no_fold(folds: Path, nodules: list[Nodule]) -> None:
    t = p.read(folds / "4")
    replace(t, facts=t.facts | {"protocol": "slice"}).write(folds / "4")
    with pytest.raises(ValueError, match="fold 4"):
        p.cross_validation(folds, nodules)


@pytest.mark.parametrize(("rows", "z"), [([1, 1], [0.0, 0.0]), ([1, 2], [0.0, np.nan]), ([1, 2], [0.0])])
def test_broken_answers_are_refused(tmp_path: Path, rows: list[int], z: list[float]) -> None:
    p.Trained(np.array(rows), np.array(z), FACTS).write(tmp_path)
    with pytest.raises(ValueError, match="a row comes twice or an answer is not finite"):
        p.read(tmp_path)


def test_sets_and_levels(nodules: list[Nodule]) -> None:
    answers = p.Answers(nodules, answer(nodules))
    middle = {n.name + n.patient + str(n.first) for n in nodules if n.score == 3}
    assert len(answers.chosen("I")) == len(nodules) - len(middle)
    b, i, malignant = (p.cases(answers, s, "nodule") for s in ("B", "I", "M"))
    assert len(b.truth) == len(malignant.truth) == len(nodules)
    assert malignant.truth.sum() - b.truth.sum() == len(middle)
    assert i.truth.sum() == b.truth.sum() == sum(n.score > 3 for n in nodules)
    slices = p.cases(answers, "B", "slice")
    np.testing.assert_array_equal(slices.patient, [n.patient for n in nodules for _ in range(n.slices)])
    np.testing.assert_allclose(slices.score, 1 / (1 + np.exp(-answers.log_odds)))


def test_aggregations_by_hand() -> None:
    """Five slices 2 mm apart: the middle one and its neighbours are central."""
    odds = np.array([9.0, 1, 1 / 3, 3, 1 / 9])
    chance = np.array([0.9, 0.5, 0.25, 0.75, 0.1])
    n = nodule("a", (5,), first=2)
    answers = p.Answers([n], np.r_[np.nan, np.nan, np.log(odds)])
    score = {rule: p.by_nodule(answers, [n], rule)[0] for rule in p.AGGREGATIONS}
    weights = np.exp(-(np.array([4.0, 2, 0, 2, 4]) ** 2) / (2 * 2.5**2))
    assert score == pytest.approx(
        {
            "mean probability, central slices": 0.5,
            "mean log-odds, central slices": 0.5,
            "centre slice alone": 0.25,
            "mean probability, all slices": 0.5,
            "mean log-odds, all slices": 0.5,
            "maximum over all slices": 0.9,
            "mean probability, higher half of the slices": (0.9 + 0.75 + 0.5) / 3,
            "mean probability, Gaussian weights": (weights * chance).sum() / weights.sum(),
        }
    )
    thick = replace(n, thickness_mm=3.0)
    assert p.by_nodule(answers, [thick])[0] == pytest.approx(0.25)
    odds[1] = 27
    answers = p.Answers([n], np.r_[np.nan, np.nan, np.log(odds)])
    assert p.by_nodule(answers, [n], "mean log-odds, central slices")[0] == pytest.approx(0.75)


def test_thresholds_never_come_from_their_own_fold(nodules: list[Nodule]) -> None:
    """Whatever a fold's cases are called, its own threshold stays; those of the other folds move."""
    c = p.cases(p.Answers(nodules, answer(nodules)), "I", "nodule")
    for choose in p.OPERATING_POINTS.values():
        before = p.thresholds(c, c.score, choose)
        own = c.fold == 3
        truth, score = c.truth.copy(), c.score.copy()
        truth[own], score[own] = 1 - truth[own], score[own] * 0.1
        after = p.thresholds(replace(c, truth=truth), score, choose)
        np.testing.assert_array_equal(after[own], before[own])
        assert (after[~own] != before[~own]).any()
        assert before[own][0] == choose(c.truth[~own], c.score[~own])


def test_comparison_with_the_diameter(nodules: list[Nodule]) -> None:
    c = p.cases(p.Answers(nodules, answer(nodules)), "I", "nodule")
    found = p.compare(c, m.resample(c.patient, 50))
    whole = found["groups"]["all"]
    said = c.score >= p.thresholds(c, c.score, m.threshold_balanced)
    network = whole["network"]
    assert network["auc"]["value"] == pytest.approx(roc_auc_score(c.truth, c.score))
    assert network["accuracy"]["value"] == pytest.approx(accuracy_score(c.truth, said))
    assert network["sensitivity"]["value"] == pytest.approx(recall_score(c.truth, said))
    assert network["specificity"]["value"] == pytest.approx(recall_score(c.truth, said, pos_label=0))
    gap = roc_auc_score(c.truth, c.score) - roc_auc_score(c.truth, c.diameter)
    assert whole["difference"]["auc"]["value"] == pytest.approx(gap)
    assert whole["commoner class"]["value"] == pytest.approx(max(c.truth.mean(), 1 - c.truth.mean()))
    each = [roc_auc_score(c.truth[c.fold == k], c.score[c.fold == k]) for k in range(10)]
    assert found["folds"]["network"]["auc"]["folds"] == pytest.approx(each)
    assert found["folds"]["network"]["auc"]["sd"] == pytest.approx(np.std(each, ddof=1))
    keep = c.readers >= 3
    assert found["groups"]["at least three readers"]["n"] == keep.sum()
    assert found["groups"]["at least three readers"]["diameter"]["auc"]["value"] == pytest.approx(
        roc_auc_score(c.truth[keep], c.diameter[keep])
    )


def test_a_network_that_has_learnt_size_only_differs_by_exactly_nothing(nodules: list[Nodule]) -> None:
    c = p.cases(p.Answers(nodules, answer(nodules)), "B", "nodule")
    found = p.compare(replace(c, score=c.diameter / 100), m.resample(c.patient, 50))
    for group in found["groups"].values():
        for difference in group["difference"].values():
            values = np.array([difference["value"], *difference["interval"]])
            assert (values[np.isfinite(values)] == 0).all()


def test_strata_share_their_borders_out() -> None:
    diameter = np.array([3, 7.99, 8, 15, 15.01, 30])
    c = p.Cases(np.zeros(6, int), diameter, diameter, np.full(6, "a"), np.zeros(6, int), np.arange(6))
    masks = p.groups(c)
    np.testing.assert_array_equal(masks["below 8 mm"], [1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(masks["8 to 15 mm"], [0, 0, 1, 1, 0, 0])
    np.testing.assert_array_equal(masks["above 15 mm"], [0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(masks["at least three readers"], [0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("level", p.LEVELS)
def test_calibration_comes_from_the_other_folds_and_helps(nodules: list[Nodule], level: str) -> None:
    answers = p.Answers(nodules, 3 * answer(nodules, noise=2.0) + 2)
    c = p.cases(answers, "B", level)
    after, lines = p.calibrated(answers, "B", level, c)
    draws = m.resample(c.patient, 20)
    before, now = p.calibration(c, draws, c.score), p.calibration(c, draws, after)
    for name in ("ECE, equal width", "ECE, equal mass", "Brier"):
        assert now[name]["value"] < before[name]["value"]
    assert sum(b["n"] for b in now["bins"]) == len(c.truth)
    assert (lines[:, 0] < 0.5).all()
    own = c.fold == 2
    rows, member = p.rows_of(answers.chosen("B"), level)
    changed = answers.log_odds.copy()
    changed[rows[own[member]]] = 0
    _, again = p.calibrated(p.Answers(nodules, changed), "B", level, c)
    np.testing.assert_array_equal(again[own], lines[own])
    assert (again[~own] != lines[~own]).all()
