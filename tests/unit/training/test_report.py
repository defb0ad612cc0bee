"""The whole report from synthetic answers: its numbers are the measured ones, and the same answers give the same bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from training.lung import protocol as p
from training.lung import report as r
from training.lung import tables
from training.lung.data import Nodule

FACTS = {
    "protocol": "patient",
    "fold": 0,
    "share": 1.0,
    "train_nodules": 90,
    "train_slices": 270,
    "seconds": 20.0,
    "parameters": 9,
}
HARDWARE = "one abacus"


@pytest.fixture(scope="module")
def nodules() -> list[Nodule]:
    """360 nodules of three slices, two a patient; every score in every fold, larger where malignant."""
    generator, found = np.random.default_rng(0), []
    for k in range(360):
        score = (1, 2, 3, 4, 5)[k % 5]
        size = float(np.round(4 + 1.5 * score + generator.gamma(2, 2), 2))
        readers = (score,) * int(generator.integers(1, 5))
        match = "partial" if k == 7 else "exact"
        found.append(Nodule(f"p{k // 2}", f"n{k % 2}", readers, (3.0,) * 7, size, 0.7, 2.5, 3 * k, 3, match))
    return found


def answers(nodules: list[Nodule], seed: int, gain: float = 1.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.concatenate([gain * (n.malignancy - 3) + generator.normal(size=3) for n in nodules])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, nodules: list[Nodule]) -> Path:
    """Answers of ten folds, two leaky networks, a study of two sizes and an ensemble."""
    folder, z = tmp_path_factory.mktemp("runs"), answers(nodules, 1)
    measured = [n for n in nodules if n.match != "partial"]
    for k in range(10):
        rows = np.array([row for n in measured if n.fold == k for row in n.rows])
        p.Trained(rows, z[rows], FACTS | {"fold": k, "images": 5000}).write(folder / "folds" / str(k))
    for k in range(2):
        rows = np.random.default_rng(k).choice(len(z), 300, replace=False)
        p.Trained(rows, answers(nodules, 2, gain=3)[rows], FACTS | {"protocol": "slice"}).write(
            folder / "leaky" / str(k)
        )
    rows = np.array([row for n in measured if n.part == "test" for row in n.rows])
    for share, gain in ((0.5, 0.5), (1.0, 1.0)):
        facts = FACTS | {"share": share, "train_nodules": int(200 * share)}
        p.Trained(rows, answers(nodules, 3, gain)[rows], facts).write(folder / "study" / str(share))
    p.Trained(rows, answers(nodules, 4, 2)[rows], FACTS).write(folder / "ensemble")
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, nodules: list[Nodule], runs: Path) -> list[Path]:
    return r.report(nodules, runs, tmp_path_factory.mktemp("results"), HARDWARE, draws=20)


def auc(nodules: list[Nodule], z: np.ndarray) -> float:
    """By nodule on set I; all three slices are central."""
    chosen = [n for n in nodules if n.score != 3 and n.match != "partial"]
    score = [(1 / (1 + np.exp(-z[n.rows]))).mean() for n in chosen]
    return float(roc_auc_score([n.score > 3 for n in chosen], score))


def test_numbers_in_the_page_are_the_measured_ones(written: list[Path], nodules: list[Nodule]) -> None:
    data, page = json.loads(written[0].read_text()), written[1].read_text()
    network = auc(nodules, answers(nodules, 1))
    assert data["sets"]["I"]["nodule"]["groups"]["all"]["network"]["auc"]["value"] == pytest.approx(network, rel=1e-5)
    assert f"**AUC {network:.3f} (" in page
    chosen = [n for n in nodules if n.score != 3 and n.match != "partial"]
    diameter = roc_auc_score([n.score > 3 for n in chosen], [n.diameter_mm for n in chosen])
    assert f"diameter alone reaches {diameter:.3f} (" in page
    difference = data["sets"]["I"]["nodule"]["groups"]["all"]["difference"]["auc"]
    assert difference["value"] == pytest.approx(network - diameter, abs=1e-5)
    assert f"{network - diameter:+.3f} (".replace("-", "−") in page
    assert "0.8936 ± 0.0120 | 0.9028 | 0.8825 | 0.9601" in page and "0.9434" in page and "0.8906" in page
    assert f"Means of one network, the ensemble's members together, on {HARDWARE}." in page
    assert "| cross-validation | 10 | 90 | 270 | 9 | 20 | 250 |" in page
    assert "| split by slice | 2 | 90 | 270 | 9 | 20 | – |" in page


def test_table_41_counts_slices_and_nodules(written: list[Path]) -> None:
    page = written[1].read_text()
    assert "| 1 | 72 | 216 | 72 | 216 | 1376 |" in page
    assert "| 3 | 72 | 216 | 71 | 213 | 5657 |" in page
    assert "| 5 | 72 | 216 | 72 | 216 | 1603 |" in page


def test_leaky_and_honest_networks_meet_on_the_same_slices(written: list[Path], nodules: list[Nodule]) -> None:
    """The mean over the two leaky networks of what each gains on its own test slices."""
    found = json.loads(written[0].read_text())["leaky"]
    label = np.repeat([n.score for n in nodules], 3)
    measured = np.repeat([n.match != "partial" for n in nodules], 3)
    gaps, count = [], 0
    for k in range(2):
        rows = np.random.default_rng(k).choice(1080, 300, replace=False)
        rows = rows[measured[rows] & (label[rows] != 3)]
        leaky, honest = (
            roc_auc_score(label[rows] > 3, z[rows]) for z in (answers(nodules, 2, gain=3), answers(nodules, 1))
        )
        gaps.append(leaky - honest)
        count += len(rows)
    assert found["I"]["n"] == count
    assert found["I"]["difference"]["auc"]["value"] == pytest.approx(np.mean(gaps), abs=1e-5)
    assert found["seen"] > 0.9


def test_size_study_and_ensemble(written: list[Path], nodules: list[Nodule]) -> None:
    data = json.loads(written[0].read_text())
    test = [n for n in nodules if n.part == "test"]
    assert [point["train_nodules"] for point in data["study"]] == [100, 200]
    for point, gain in zip(data["study"], (0.5, 1.0), strict=True):
        assert point["I, nodule"]["network"]["value"] == pytest.approx(auc(test, answers(nodules, 3, gain)), rel=1e-5)
    found = data["ensemble"]["I, nodule"]
    joint, single = auc(test, answers(nodules, 4, 2)), auc(test, answers(nodules, 1))
    assert found["to single"]["value"] == pytest.approx(joint - single, abs=1e-5)


def test_figures_are_small_readable_and_undated(written: list[Path]) -> None:
    names = [path.name for path in written[2:]]
    assert names == ["lung_roc_slice.svg", "lung_roc_nodule.svg", "lung_reliability.svg", "lung_training_size.svg"]
    for path in written[2:]:
        text = path.read_text()
        assert len(text) < 200_000 and "dc:date" not in text
        said = " ".join(
            element.text or "" for element in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}text")
        )
        assert {"roc": "sensitivity", "rel": "share of malignant", "tra": "training nodules"}[path.name[5:8]] in said
        assert path.name in written[1].read_text()


def test_rebuilt_to_the_byte_and_without_what_is_not_there(
    tmp_path: Path, written: list[Path], nodules: list[Nodule], runs: Path
) -> None:
    """Twice the same: the figures, and the page's part that the cross-validation alone gives."""
    for k in range(10):
        p.read(runs / "folds" / str(k)).write(tmp_path / "runs" / "folds" / str(k))
    again = r.report(nodules, tmp_path / "runs", tmp_path / "results", HARDWARE, draws=20)
    assert [path.name for path in again] == [path.name for path in written[:5]]
    for old, new in zip(written[2:5], again[2:], strict=True):
        assert old.read_bytes() == new.read_bytes()
    pages = [paths[1].read_text().split("## What the leaky split adds") for paths in (written, again)]
    assert pages[0][0] == pages[1][0]
    assert pages[1][1].count("Not measured") == 3
    assert "lung_training_size.svg" not in pages[1][1]


def test_what_must_not_be_mixed_is_refused(tmp_path: Path, nodules: list[Nodule], runs: Path) -> None:
    folds, _ = p.cross_validation(runs / "folds", nodules)
    with pytest.raises(ValueError, match="leaky: a network of protocol 'patient'"):
        r.leaky(r.found_in(runs / "folds"), folds, "I", 2)
    study = r.found_in(runs / "study")
    other = replace(study[0], rows=study[0].rows[3:], log_odds=study[0].log_odds[3:])
    with pytest.raises(ValueError, match="answered to different nodules"):
        r.study([other, study[1]], nodules, 2)
    p.read(runs / "folds" / "5").write(tmp_path)
    with pytest.raises(ValueError, match="outside of the test folds"):
        r.ensemble(tmp_path, folds, nodules, 2)


def test_an_ensemble_of_ten_folds(nodules: list[Nodule], runs: Path) -> None:
    folds, _ = p.cross_validation(runs / "folds", nodules)
    found = r.ensemble(runs / "folds", folds, nodules, 5)
    assert found["M, slice"]["n"] == 3 * 359
    assert all(entry["to single"] == {"value": 0, "interval": [0, 0]} for entry in found.values())


def test_numbers_as_a_reader_sees_them() -> None:
    assert tables.number(None) == "–"
    assert tables.number(-0.0004, sign="+") == "+0.000"
    assert tables.interval({"value": -0.0123, "interval": [-0.05, 0.04]}, "+") == "−0.012 (−0.050 to +0.040)"
    assert tables.verdict({"interval": [0.01, 0.02]}) == "better than the diameter alone"
    assert tables.verdict({"interval": [-0.02, -0.01]}) == "worse than the diameter alone"
    assert tables.verdict({"interval": [-0.02, 0.01]}) == "not told apart from the diameter alone"
    assert r.rounded({"a": [0.123456789, float("nan"), 3, "x"], "b": (1.5, True)}) == {
        "a": [0.123457, None, 3, "x"],
        "b": [1.5, True],
    }
