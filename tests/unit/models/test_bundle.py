"""A bundle is refused unless description, weights and operating points belong together; the card says what model.json says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models import bundle as bundles
from models.card import render


@pytest.fixture
def folder(tmp_path):
    """A copy of the shipped lung bundle that a test may damage."""
    return shutil.copytree(bundles.ROOT / "sisc_lung", tmp_path / "sisc_lung")


def change(folder, **values):
    description = json.loads((folder / "model.json").read_text())
    description.update(values)
    (folder / "model.json").write_text(json.dumps(description))


@pytest.mark.parametrize("name", ["sisc_lung", "clear_dr"])
def test_the_shipped_bundles_are_whole(name):
    bundle = bundles.load(bundles.ROOT / name)
    assert bundle.operating_point().default
    assert (bundle.folder / "CARD.md").read_text(encoding="utf-8") == render(bundle.description)
    assert bundle.colors.shape == (len(bundle.classes), 3)


def test_other_weights_are_refused(folder):
    with (folder / "model.onnx").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(bundles.BundleError, match="sisc_lung.*has sha256"):
        bundles.load(folder)


def test_operating_points_of_other_weights_are_refused(folder):
    description = json.loads((folder / "model.json").read_text())
    description["operating_points"][0]["weights_sha256"] = "0" * 64
    change(folder, operating_points=description["operating_points"])
    with pytest.raises(bundles.BundleError, match="measured on other weights"):
        bundles.load(folder)


def test_the_schema_is_enforced(folder):
    change(folder, version="one")
    with pytest.raises(bundles.BundleError, match=r"\$\.version"):
        bundles.load(folder)


def test_a_missing_file_and_a_wrong_name_are_named(folder):
    moved = folder.rename(folder.with_name("other"))
    with pytest.raises(bundles.BundleError, match="the same name"):
        bundles.load(moved)
    change(moved, name="other")
    (moved / "model.onnx").unlink()
    with pytest.raises(bundles.BundleError, match="is missing"):
        bundles.load(moved)
    (moved / "model.json").write_text("{")
    with pytest.raises(bundles.BundleError, match="cannot be read"):
        bundles.load(moved)


def test_two_default_operating_points_are_refused(folder):
    description = json.loads((folder / "model.json").read_text())
    for point in description["operating_points"]:
        point["default"] = True
    change(folder, operating_points=description["operating_points"])
    with pytest.raises(bundles.BundleError, match="exactly one"):
        bundles.load(folder)


def test_decisions_follow_the_threshold():
    point = bundles.OperatingPoint("mtmDR", ("2", "3", "4"), 0.5, 0.9, 0.8, 100, "somewhere")
    assert point.score({"0": 0.2, "1": 0.25, "2": 0.25, "3": 0.2, "4": 0.1}) == pytest.approx(0.55)
    assert point.decide({"0": 0.2, "1": 0.3, "2": 0.5, "3": 0, "4": 0})
    assert not point.decide({"0": 0.3, "1": 0.3, "2": 0.4, "3": 0, "4": 0})


@pytest.mark.parametrize("quantile", [0.3, 0.5, 0.6])
def test_the_quantile_grade_costs_least_on_average(quantile) -> None:
    """Checked against all grades, with a grade too low costing quantile / (1 - quantile) times as much as one too high."""
    p = np.random.default_rng(0).dirichlet(np.ones(5) / 2, 200)
    short = np.subtract.outer(range(5), range(5))
    expected = p @ np.where(short > 0, quantile * short, (quantile - 1) * short)
    chosen = bundles.quantile_class(p, quantile)
    np.testing.assert_allclose(expected[np.arange(200), chosen], expected.min(1))
    assert (chosen != p.argmax(1)).any()


@pytest.mark.parametrize(("rule", "index"), [({"answer_quantile": 0.6}, 1), ({}, 0)])
def test_which_class_is_answered(rule, index) -> None:
    assert bundles.Bundle(Path(), rule).answer(np.array([0.5, 0.3, 0.2])) == index
