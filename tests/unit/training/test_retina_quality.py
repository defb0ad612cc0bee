"""How the limits of the quality gate are set, the degradations, and the pictures of other things."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from service.intake import circle, fundus_quality
from training.retina import degradations, other_pictures, quality

FIELD = circle.Circle(100.0, 80.0, 60.0, 1.0, 0.0)


@pytest.fixture
def photograph() -> np.ndarray:
    """A disc of grain about `FIELD`."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[0:160, 0:200]
    inside = np.hypot(columns - 100, rows - 80) < 60
    grain = random.integers(-20, 20, (160, 200, 3)) + np.array([150, 80, 40])
    return np.where(inside[:, :, None], grain, 3).astype(np.uint8)


def judged(**measures: float) -> quality.Judged:
    names = {measure for measure, _ in quality.LIMITS.values()} | {"red_contrast"}
    return quality.Judged("IDRiD", "x.jpg", True, "", (), dict.fromkeys(names, 1.0) | measures)


def test_limits_lie_beyond_the_most_extreme_good_photograph() -> None:
    found = quality.limits(
        [judged(sharpness=0.6, veil=0.105, dark=0.001, red_contrast=2.0), judged(sharpness=0.8, veil=0.02, dark=0.0)],
        [8.0, 30.0],
    )
    assert found["LEAST_SHARPNESS"] == 0.54, "0.6 less a tenth"
    assert found["MOST_VEIL"] == 0.13, "0.105 and a fortieth"
    assert found["MOST_DARK"] == 0.05, "never less"
    assert found["MOST_RED_CONTRAST"] == 4.0, "the geometric middle of 2 and 8"


def test_both_eyes_of_a_patient_are_on_one_half(data: Path) -> None:
    with (data / "eyepacs" / "raw_pairs.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    sides: dict[str, set[bool]] = {}
    for row in rows:
        sides.setdefault(row["patient"], set()).add(quality.setting_half("EyePACS, natural", row["file"]))
    assert all(len(side) == 1 for side in sides.values())
    assert 0.3 < np.mean([side == {True} for side in sides.values()]) < 0.7


def test_bad_photographs_are_in_the_archive_and_have_a_code(data: Path) -> None:
    with zipfile.ZipFile(data / quality.ARCHIVES["EyePACS, natural"]) as archive:
        names = set(archive.namelist())
    listed = quality.bad_photographs()
    assert len(listed) == 30
    assert set(listed) <= names
    assert {reason for reason, _ in listed.values()} <= set(quality.CODES) - {"not_a_fundus"}


def test_counted() -> None:
    found = quality.counted([(), ("too_dark",), ("artefact", "too_dark"), ()])
    assert (found["refused"], found["n"], found["codes"]) == (2, 4, {"too_dark": 2, "artefact": 1})
    peer = binomtest(2, 4).proportion_ci(method="wilson")
    assert found["interval"] == pytest.approx([peer.low, peer.high], abs=1e-4)


def test_the_committed_limits_are_those_of_the_code() -> None:
    found = json.loads(quality.RESULT.read_text(encoding="utf-8"))
    for name, both in found["limits"].items():
        assert both["code"] == getattr(fundus_quality, name), f"{name}: run python -m training.retina.quality"
    assert found["good"]["both"]["measured"]["share"] <= 0.03


class TestDegradations:
    def test_all_change_the_photograph_and_stronger_ones_more(self, photograph: np.ndarray) -> None:
        changes: dict[str, list[float]] = {}
        for name, _, pixels in degradations.degraded(photograph, FIELD, np.random.default_rng(0)):
            assert pixels.dtype == np.uint8 and pixels.ndim == 3
            same = photograph[:, photograph.shape[1] - pixels.shape[1] :]
            size = photograph.size - pixels.size if "cut off" in name else 0
            changes.setdefault(name, []).append(size + float(np.abs(pixels - same.astype(float)).sum()))
        assert set(changes) == set(degradations.DEGRADATIONS)
        for name, values in changes.items():
            assert values[0] > 0, name
            assert values[-1] > values[0], name

    def test_motion_smears_a_line_over_its_length(self) -> None:
        line = np.zeros((5, 100, 3), np.uint8)
        line[:, 50] = 200
        smeared = degradations.motion(line, circle.Circle(50, 2, 100, 1, 0), 0.1, np.random.default_rng(0))
        assert np.flatnonzero(smeared[2, :, 0]).tolist() == list(range(50, 60))
        assert set(smeared[2, 50:60, 0]) == {20}

    def test_haze_mixes_inside_the_field_only(self, photograph: np.ndarray) -> None:
        hazy = degradations.haze(photograph, FIELD, 0.6, np.random.default_rng(0))
        mixed = 0.4 * photograph[80, 100] + 0.6 * degradations.VEIL
        assert hazy[80, 100] == pytest.approx(mixed, abs=0.51)
        assert (hazy[0, 0] == photograph[0, 0]).all()

    def test_lid_and_cut_reach_as_deep_as_said(self, photograph: np.ndarray) -> None:
        shaded = degradations.lid(photograph, FIELD, 0.5, np.random.default_rng(0)) / np.maximum(photograph, 1.0)
        assert shaded[40, 100].mean() == pytest.approx(0.1, abs=0.02), "above the middle: a tenth"
        assert shaded[100, 100].mean() == pytest.approx(1.0), "below it: all"
        cut = degradations.cut(photograph, FIELD, 0.5, np.random.default_rng(0))
        assert cut.shape == (160, 100, 3), "what is right of the centre"


class TestOtherPictures:
    def test_masked_is_a_round_field(self) -> None:
        found = circle.find(other_pictures.masked(np.full((400, 500, 3), (200, 150, 90), np.uint8)))
        assert found is not None
        assert (found.x, found.y, found.radius) == pytest.approx((200, 200, 188), abs=2)

    def test_round_natural_photographs_are_refused(self) -> None:
        """But for skin from near, enlarged threefold and cut round: warm and smooth in red light as a retina."""
        words = {
            name: quality.codes(picture)
            for group, name, picture in other_pictures.photographs()
            if group == "natural photograph, round" and name != "face, closer"
        }
        assert len(words) == 9
        assert [name for name, found in words.items() if found != ("not_a_fundus",)] == []

    def test_groups(self) -> None:
        groups = {group for group, _, _ in other_pictures.made()}
        assert groups == {"noise", "noise, round", "flat colour", "flat colour, round", "ball"}
