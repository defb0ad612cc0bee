"""Known cases: what a row of the data sets becomes, and figures of neighbours that can be worked out by hand."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from models import bundle as bundles
from models import cases as known
from models.card import render
from training import cases as made
from training import neighbours
from training.lung import data as lung
from training.retina.data import Photograph

ROW = {
    "patient_id": "LIDC-IDRI-0001",
    "nodule": "nodule-2",
    "malignancy_scores": "3 4 5 2",
    "malignancy_mean": "3.5",
    "diameter_mm_mean": "12.345",
    "subtlety": "4.5",
    "internalStructure": "",
    "calcification": "6.0",
    "sphericity": "3.0",
    "margin": "5.0",
    "lobulation": "1.0",
    "spiculation": "1.25",
    "texture": "5.0",
}


def test_a_nodule_becomes_a_case() -> None:
    entry = made.nodule_entry(ROW, "test")
    assert (entry.id, entry.patient, entry.split) == ("LIDC-IDRI-0001 nodule-2", "LIDC-IDRI-0001", "test")
    assert entry.label == "malignant"  # 3.5 is rounded up
    assert entry.truth["text"] == "malignant: malignancy scores 3, 4, 5, 2 (1 to 5), mean 3.5"
    assert (entry.truth["readers"], entry.truth["votes"], entry.truth["mean"]) == (4, [3, 4, 5, 2], 3.5)
    assert entry.truth["diameter_mm"] == 12.3
    assert "internalStructure" not in entry.truth["attributes"]
    assert entry.truth["attributes"]["spiculation"] == 1.25
    labels = [made.nodule_entry({**ROW, "malignancy_mean": mean}, "test").label for mean in ("1", "2.4", "2.5", "3.49")]
    assert labels == ["benign", "benign", "indeterminate", "indeterminate"]
    alone = made.nodule_entry({**ROW, "malignancy_scores": "2", "malignancy_mean": "2.0"}, "test")
    assert alone.truth["text"] == "benign: malignancy score 2 (1 to 5)"


def test_a_photograph_becomes_a_case() -> None:
    labels = {"2": "Moderate NPDR"}
    risk = {"test/IDRiD_001.jpg": 1}
    item = Photograph("idrid/grading.zip", "test/IDRiD_001.jpg", "idrid", "idrid test/IDRiD_001.jpg", 2, "test")
    entry = made.photograph_entry(item, labels, risk)
    assert entry.id == entry.patient == "IDRiD_001 (testing set)"  # the training set has an IDRiD_001, too
    assert entry.truth == {"text": "grade 2: Moderate NPDR", "grade": 2, "attributes": {"macular_edema_risk": 1}}
    eye = Photograph("eyepacs/raw_pairs_512.zip", "10_left.jpg", "eyepacs_natural", "eyepacs 10", 2, "train")
    entry = made.photograph_entry(eye, labels, risk)
    assert (entry.id, entry.patient, entry.data_set) == ("EyePACS 10_left", "EyePACS 10", "EyePACS, natural colour")
    assert entry.truth == {"text": "grade 2: Moderate NPDR", "grade": 2}


@pytest.fixture
def blobs() -> known.KnownCases:
    """Three bundles of directions, one a label, of 60 patients with two cases each; half of the patients are unseen."""
    generator = np.random.default_rng(0)
    labels = [("benign", "malignant", "indeterminate")[k // 2 % 3] for k in range(120)]
    angle = np.radians([{"benign": 10, "malignant": 70, "indeterminate": 40}[label] for label in labels])
    angle = angle + generator.normal(0, 0.05, 120)
    return known.KnownCases(
        weights_sha256="0" * 64,
        features=known.unit(np.stack([np.cos(angle), np.sin(angle), *generator.normal(0, 0.05, (4, 120))], axis=1)),
        probabilities=np.stack([np.cos(angle), 1 - np.cos(angle)], axis=1).astype(np.float32),
        ids=tuple(f"case {k}" for k in range(120)),
        patients=tuple(f"patient {k // 2}" for k in range(120)),
        data_sets=("blobs",) * 120,
        splits=tuple("test" if k >= 60 else "train" for k in range(120)),
        labels=tuple(labels),
        truths=({"text": "made up"},) * 120,
    )


def test_neighbours_are_those_of_scikit_learn_without_the_patients_own(blobs) -> None:
    queries = np.array([3, 60, 119])
    found = neighbours.neighbours(blobs, queries)
    for query, near in zip(queries, found, strict=True):
        others = np.array([k for k in range(120) if k // 2 != query // 2])
        peer = NearestNeighbors(n_neighbors=neighbours.K, metric="cosine").fit(blobs.features[others])
        assert near.tolist() == others[peer.kneighbors(blobs.features[[query]])[1][0]].tolist()


def test_random_neighbours_are_of_others_and_differ(blobs) -> None:
    queries = np.arange(60, 120)
    first, second = (neighbours.random_neighbours(blobs, queries, seed) for seed in (0, 1))
    assert not (first // 2 == queries[:, None] // 2).any()
    assert all(len(set(row)) == neighbours.K for row in first.tolist())
    assert (first != second).any()


def test_the_figure_is_perfect_where_labels_are_apart_and_its_null_is_chance(blobs) -> None:
    near, model = neighbours.lung_evidence(blobs)
    assert near["value"] == 1
    assert near["null"] == pytest.approx(0.5, abs=0.05)
    assert near["n"] == model["n"] == 40  # the indeterminate third is not asked
    assert near["interval"] == [1, 1]
    assert model["value"] == 1
    assert "null" not in model


def test_labels_without_a_pattern_give_chance(blobs) -> None:
    generator = np.random.default_rng(1)
    shuffled = known.KnownCases(**{**vars(blobs), "labels": tuple(generator.permutation(blobs.labels).tolist())})
    near, _ = neighbours.lung_evidence(shuffled)
    assert near["interval"][0] < 0.5 < near["interval"][1]


def test_the_commonest_grade_and_its_ties() -> None:
    grades = np.array([[1, 2, 2, 0, 0, 0], [3, 4, 4, 3, 1, 0], [0, 1, 2, 3, 4, 4], [4, 3, 2, 1, 0, 0]])
    assert neighbours.commonest(grades).tolist() == [0, 3, 4, 0]
    assert neighbours.commonest(np.array([[2, 1, 1, 2, 0, 3]])).tolist() == [2]


def test_publishing_binds_cases_to_the_bundle(blobs, tmp_path) -> None:
    folder = shutil.copytree(bundles.ROOT / "sisc_lung", tmp_path / "sisc_lung")
    before = bundles.load(folder)
    cases = known.KnownCases(
        **{
            **vars(blobs),
            "weights_sha256": before.sha256,
            "features": known.unit(
                np.pad(blobs.features, ((0, 0), (0, before.feature_length - blobs.features.shape[1])))
            ),
        }
    )
    bundle = made.publish(folder, cases, "blobs", neighbours.lung_evidence)
    assert bundle.cases is not None
    assert len(bundle.cases) == bundle.description["cases"]["n"] == 120
    assert bundle.description["rebuild"]["commands"].count("make cases") == 1
    assert (folder / "CARD.md").read_text(encoding="utf-8") == render(bundle.description)
    assert "## Similar known cases" in render(bundle.description)
    same = [key for key in before.description if key not in ("cases", "rebuild")]
    assert {key: bundle.description[key] for key in same} == {key: before.description[key] for key in same}
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize(("name", "result"), [("sisc_lung", "lung"), ("clear_dr", "retina")])
def test_the_results_are_those_of_the_bundle(name: str, result: str) -> None:
    path = Path(__file__).parents[3] / "docs" / "results" / f"cases_{result}.json"
    assert json.loads(path.read_text())["cases"] == bundles.load(bundles.ROOT / name).description["cases"]


def test_real_nodules_are_cases_as_evaluated(data: Path) -> None:
    """The shipped features are those of the shipped graph; its answers are those that the evaluation has, but for rounding."""
    bundle = bundles.load(bundles.ROOT / "sisc_lung")
    assert bundle.cases is not None
    model = made.Model(bundle.weights)
    rows = [row for row in made._rows(data / "lidc_nodules/nodules.csv") if row["match"] == "exact"][::400]
    with zipfile.ZipFile(data / "lidc_nodules/slices.zip") as archive:
        for row in rows:
            vector, answer = made.features(model, made.nodule_images(archive, row))
            at = bundle.cases.ids.index(f"{row['patient_id']} {row['nodule']}")
            assert known.distances(bundle.cases.features[[at]], vector)[0] < 1e-6
            np.testing.assert_allclose(bundle.cases.probabilities[at], answer, atol=1e-3)
            spacing = float(row["pixel_spacing_mm"])
            inputs = lung.inputs(lung.read_stack(archive, row["file"], int(row["n_slices"])), spacing)
            nodule = lung.Nodule(
                patient=row["patient_id"],
                name=row["nodule"],
                scores=(1,),
                attributes=(),
                diameter_mm=float(row["diameter_mm_mean"]),
                spacing_mm=spacing,
                thickness_mm=float(row["slice_thickness_mm"]),
                first=0,
                slices=len(inputs),
            )
            evaluated = model.run(inputs[nodule.central, None], "probabilities")[0][:, 1].mean()
            assert answer[1] == pytest.approx(evaluated, abs=0.01)
