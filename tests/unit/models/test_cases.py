"""Known cases: the order of neighbours in two dimensions, who is left out, what the file keeps, which files are refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from models import bundle as bundles
from models import cases as known

WEIGHTS = "a" * 64


def degrees(*angles: float) -> np.ndarray:
    """Directions in the plane: their cosine distance is 1 - cos of the angle between them."""
    return np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], axis=1)


@pytest.fixture
def cases() -> known.KnownCases:
    return known.KnownCases(
        weights_sha256=WEIGHTS,
        features=known.unit(degrees(0, 80, 30, 10, 180)),
        probabilities=np.array([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [1, 0], [0, 1]], np.float32),
        ids=("a", "b", "c", "d", "e"),
        patients=("p1", "p2", "p3", "p1", "p4"),
        data_sets=("here", "here", "there", "there", "there"),
        splits=("train", "train", "validation", "test", "test"),
        labels=("benign", "malignant", "benign", "malignant", "indeterminate"),
        truths=tuple({"text": f"case {k}", "votes": [k]} for k in range(5)),
    )


def ids(cases: known.KnownCases, found: list[known.Neighbour]) -> list[str]:
    return [cases.ids[one.index] for one in found]


def test_neighbours_come_in_the_order_of_their_angle_whatever_the_length(cases):
    found = known.nearest(cases, 7 * degrees(22)[0], 5)
    assert ids(cases, found) == ["c", "d", "a", "b", "e"]  # 8, 12, 22, 58 and 158 degrees away
    expected = 1 - np.cos(np.radians([8, 12, 22, 58, 158]))
    assert [one.distance for one in found] == pytest.approx(expected, abs=1e-6)
    assert not any(one.same_image for one in found)
    assert ids(cases, known.nearest(cases, degrees(22)[0], 2)) == ["c", "d"]


def test_of_the_analysed_image_itself_no_other_case_of_the_patient_is_shown(cases):
    found = known.nearest(cases, degrees(0)[0], 5)
    assert ids(cases, found) == ["a", "c", "b", "e"]  # d is of the patient of a
    assert [one.same_image for one in found] == [True, False, False, False]
    assert found[0].distance < 1e-6


def test_cases_of_the_patient_are_left_out(cases):
    assert ids(cases, known.nearest(cases, degrees(22)[0], 5, {"p1", "p4", "somebody"})) == ["c", "b"]


def test_the_same_image_is_a_matter_of_the_last_digits(cases):
    assert known.nearest(cases, degrees(0.5)[0], 1)[0].same_image  # 1 - cos 0.5 deg = 3.8e-5
    assert not known.nearest(cases, degrees(-1)[0], 1)[0].same_image  # 1.5e-4


def test_a_vector_of_zeros_is_like_nothing(cases):
    assert {one.distance for one in known.nearest(cases, np.zeros(2), 5)} == {1.0}
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        known.nearest(cases, np.zeros(3), 5)


def test_a_nodule_is_the_mean_of_its_slices():
    mean = known.mean_feature(np.array([[1, 4, 0], [3, 0, 0]], np.float32))
    assert mean.dtype == np.float32
    np.testing.assert_array_equal(mean, [2, 2, 0])


def test_the_file_keeps_what_was_written_and_is_the_same_each_time(cases, tmp_path):
    first, second = tmp_path / "cases.npz", tmp_path / "again.npz"
    known.write(cases, first)
    known.write(cases, second)
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []
    found = known.read(first)
    np.testing.assert_allclose(found.features, cases.features, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found.features, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(found.probabilities, cases.probabilities)
    for name in ("weights_sha256", "ids", "patients", "data_sets", "splits", "labels", "truths"):
        assert getattr(found, name) == getattr(cases, name)
    known.check(found, WEIGHTS, ("benign", "malignant"), 2)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"ids": ("a", "b", "c", "d", "d")}, "id twice"),
        ({"labels": ("benign",)}, "another length than ids: labels"),
        ({"splits": ("train",) * 4 + ("secret",)}, "splits other than"),
        ({"truths": ({},) * 5}, "in words"),
        ({"probabilities": np.full((5, 2), np.nan, np.float32)}, "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(cases, tmp_path, change, fault):
    known.write(replace(cases, **change), tmp_path / "cases.npz")
    with pytest.raises(known.CasesError, match=fault):
        known.read(tmp_path / "cases.npz")


def test_a_damaged_file_is_refused(cases, tmp_path):
    path = tmp_path / "cases.npz"
    known.write(cases, path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(known.CasesError, match="cannot be read"):
        known.read(path)


def test_cases_of_another_model_do_not_belong(cases):
    with pytest.raises(known.CasesError, match="other weights"):
        known.check(cases, "b" * 64, ("benign", "malignant"), 2)
    with pytest.raises(known.CasesError, match="length 2, the model's have 128"):
        known.check(cases, WEIGHTS, ("benign", "malignant"), 128)
    with pytest.raises(known.CasesError, match="2 classes, the model has 5"):
        known.check(cases, WEIGHTS, "01234", 2)


# -- as part of a bundle --------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A copy of the shipped lung bundle that a test may damage."""
    return shutil.copytree(bundles.ROOT / "sisc_lung", tmp_path / "sisc_lung")


def state(folder, **values):
    """Change what model.json says about the cases."""
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    description["cases"] |= values
    (folder / "model.json").write_text(json.dumps(description), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "labels", "length", "sets"),
    [
        ("sisc_lung", {"benign", "malignant", "indeterminate"}, 8 * 128, {"LIDC-IDRI"}),
        (
            "clear_dr",
            set("01234"),
            1024,
            {"IDRiD", "EyePACS, natural colour", "EyePACS, equalised copy at 256 px"},
        ),
    ],
)
def test_the_shipped_cases_belong_to_their_model(name, labels, length, sets):
    cases = bundles.load(bundles.ROOT / name).cases
    assert cases is not None
    assert set(cases.labels) == labels
    assert cases.features.shape == (len(cases), length)
    assert set(cases.data_sets) == sets
    by_split = [{p for p, s in zip(cases.patients, cases.splits, strict=True) if s == split} for split in known.SPLITS]
    assert by_split[0]
    assert by_split[2]
    assert not (by_split[0] & by_split[1] or by_split[0] & by_split[2] or by_split[1] & by_split[2])
    np.testing.assert_allclose(cases.probabilities.sum(axis=1), 1, atol=2e-3)
    assert (bundles.ROOT / name / "cases.npz").stat().st_size < 8e6


def test_a_bundle_without_cases_is_whole(folder):
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    del description["cases"]
    (folder / "model.json").write_text(json.dumps(description), encoding="utf-8")
    assert bundles.load(folder).cases is None


def test_a_bundle_whose_cases_are_missing_or_changed_is_refused(folder):
    path = folder / "cases.npz"
    with path.open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(bundles.BundleError, match=r"sisc_lung: cases.npz has sha256 .* make the cases again"):
        bundles.load(folder)
    path.unlink()
    with pytest.raises(bundles.BundleError, match=r"cases.npz is missing"):
        bundles.load(folder)


def test_a_bundle_with_cases_of_other_weights_is_refused(folder):
    path = folder / "cases.npz"
    known.write(replace(known.read(path), weights_sha256=WEIGHTS), path)
    state(folder, sha256=bundles.digest(path))
    with pytest.raises(bundles.BundleError, match="computed with other weights"):
        bundles.load(folder)


def test_a_wrong_number_of_cases_is_refused(folder):
    state(folder, n=7)
    with pytest.raises(bundles.BundleError, match=r"holds \d+ cases, model.json says 7"):
        bundles.load(folder)


def test_the_schema_knows_the_cases(folder):
    state(folder, file="../cases.npz")
    with pytest.raises(bundles.BundleError, match=r"\$\.cases\.file"):
        bundles.load(folder)
