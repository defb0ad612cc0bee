"""The two ways to the lung model's input, held against each other; and the figures about them, by hand."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import jpeg_ls
import numpy as np
import pytest

from models.preprocessing import HU_RANGE
from training.lung import shift
from training.lung.data import PREPROCESSING

SIDE = int(PREPROCESSING["size_px"])


@pytest.fixture(scope="module")
def ct(data: Path) -> shift.Ct:
    return shift.read_ct(data / "dicom" / "ct_lungfcp_0001.zip")


@pytest.fixture(scope="module")
def spots(ct: shift.Ct) -> list[shift.Place]:
    return shift.places(ct, 30)


def test_places_are_dense_spots_of_the_lung_and_the_nodule(ct: shift.Ct, spots: list[shift.Place]) -> None:
    assert spots[0] == (63, 284, 182), "the slice at 57.5 mm, and the pixel of the known nodule there"
    assert len(set(spots)) == 30
    assert len({index for index, _, _ in spots}) >= 6
    near = [ct.hounsfield[k, row - 1 : row + 2, column - 1 : column + 2].mean() for k, row, column in spots]
    assert np.median(near) > -600 and np.mean(np.array(near) > -750) > 0.8, "denser than lung, of about -880 HU"
    for k, row, column in spots[1:]:
        assert (ct.hounsfield[k, row - 20 : row + 21, column - 20 : column + 21] < shift.AIR_HU).any(), "lung beside it"


def test_each_step_of_the_training_sets_way_moves_the_input_by_no_more_than_it_must(
    ct: shift.Ct, spots: list[shift.Place]
) -> None:
    """Half a grey level for 8 bits, one more for near-lossless coding, and float16; nothing else is between the two ways."""
    seen = 0.0
    for index, row, column in spots[::5]:
        image = ct.hounsfield[index]
        around = image[row - 64 : row + 64, column - 64 : column + 64]
        assert HU_RANGE[0] <= around.min() and around.max() <= HU_RANGE[1]
        served = shift.service_window(image, row - 0.5, column - 0.5, ct.spacing)
        bits, coded, fine = shift.training_windows(image, row, column, ct.spacing[0]).values()
        assert served.shape == bits.shape == coded.shape == fine.shape == (SIDE, SIDE)
        assert np.abs(bits - served).max() < 0.5 / 255 + 0.0005
        assert np.abs(coded - served).max() < 1.5 / 255 + 0.0005
        assert np.abs(fine - served).mean() < 0.03
        seen = max(seen, float(np.abs(coded - bits).max()))
    assert seen > 0.5 / 255, "the coding is lossy"


def test_at_rest_a_ramp_stays_a_ramp() -> None:
    """Pixel k of the input has its middle (k + 0.5) * 0.6667 mm from the input's edge, which lies 4 mm inside the fine window."""
    fine = np.add.outer(2 * np.arange(112), np.zeros(112)).astype(np.uint8)
    centre_mm = (np.arange(SIDE) + 0.5) * float(PREPROCESSING["scale_mm"]) + 28 - SIDE * PREPROCESSING["scale_mm"] / 2
    expected = 2 * (centre_mm / 0.5 - 0.5) / 255
    np.testing.assert_allclose(shift.at_rest(fine), np.tile(expected[:, None], (1, SIDE)), atol=1e-4)


def test_padding_and_metal_lie_where_they_are_said_to() -> None:
    image, spacing = np.full((101, 101), -800.0, np.float32), (0.5, 0.5)
    padding = shift.padded(image, spacing, away_mm=20.0)
    assert (padding[:, :90] == -800).all() and (padding[:, 90:] == -2000).all()
    metal = shift.with_metal(image, spacing, radius_mm=3.0, away_mm=10.0, highest_hu=3071.0)
    assert metal[50, 70] == 3071 and (metal <= 3071).all()
    far = np.hypot(*(np.mgrid[:101, :101] - np.array([50, 70])[:, None, None])) * 0.5 > 3 + 2.5
    np.testing.assert_allclose(metal[far], -800, atol=1)
    assert 3**2 < (metal == 3071).sum() * 0.25 / np.pi < 4**2, "blurred, a little more than the disk is off the scale"


def test_figures_by_hand() -> None:
    assert shift.differences(np.array([0.0, -1.0, 1.0, 2.0])) == {
        "mean": 1.0,
        "p95": 1.85,
        "max": 2.0,
        "signed_mean": 0.5,
    }
    one = np.array([[[[1.0, 2.0, 3.0]]], [[[1.0, 2.0, 3.0]]], [[[0.0, 0.0, 0.0]]]])
    two = np.array([[[[2.0, 4.0, 6.0]]], [[[3.0, 2.0, 1.0]]], [[[1.0, 2.0, 3.0]]]])
    assert shift.correlations(one, two) == {"mean": 0.0, "p05": -0.9, "min": -1.0, "n": 2}
    assert shift.correlations(one[2:], two[2:]) == {"n": 0}


class Mean:
    """A model whose p(malignant) is the mean of its input, and whose maps are the input."""

    def __init__(self, path: Path, threads: int) -> None: ...

    def run(self, images: np.ndarray, *outputs: str) -> list[np.ndarray]:
        p = images.mean((1, 2, 3))
        answers = {"probabilities": np.stack([1 - p, p], 1), "response_maps": np.concatenate([-images, images], 1)}
        return [answers[name] for name in outputs]


def test_measured_with_a_model_that_can_be_checked(
    ct: shift.Ct, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shift, "Model", Mean)
    monkeypatch.setattr(shift, "read_ct", lambda archive: ct)
    monkeypatch.setattr(shift, "survey", lambda: {"slices": 3})
    monkeypatch.setattr(shift, "PLACES", 4)
    (tmp_path / "model.onnx").write_bytes(b"weights")
    found = shift.write(tmp_path / "model.onnx", tmp_path / "shift.json")
    assert json.loads((tmp_path / "shift.json").read_text()) == found
    assert (found["places"], found["slices"], found["training_set"]) == (4, 20, {"slices": 3})
    assert len(found["steps"]) == 3
    for step in found["steps"].values():
        signed = step["input"]["signed_mean"]
        assert step["p_malignant_by_slice"]["signed_mean"] == pytest.approx(signed, abs=2e-5)
        assert step["p_malignant_by_place"]["signed_mean"] == pytest.approx(signed, abs=2e-5)
        assert step["p_malignant_by_place"]["mean"] <= step["p_malignant_by_slice"]["mean"] + 1e-5
        assert step["map_correlation"]["n"] == 20 and step["map_correlation"]["min"] > 0.95
    for case in (*found["padding"], *found["metal"]):
        assert case["taken_out"]["mean"] < 0.5 * case["taken_in"]["mean"]
        assert case["darkest"]["mean"] > 0
    assert found["metal"][1]["taken_in"]["mean"] > found["metal"][0]["taken_in"]["mean"], "a longer scale squeezes more"


def test_the_training_set_is_surveyed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two nodules of two slices: one with padding in one slice; the marks of each lie (2, 1) px beside the middle."""
    folder = tmp_path / "lidc_nodules"
    folder.mkdir()
    (folder / "nodules.csv").write_text(
        "patient_id,n_slices,file,match\nA,2,a,exact\nB,2,b,near\nC,9,c,none\n", encoding="utf-8"
    )
    lung = np.random.default_rng(0).integers(0, 256, (2, 104, 104)).astype(np.uint8)
    padded = lung.copy()
    padded[1] = np.where(np.arange(104) < 20, 0, np.maximum(padded[1], 110))
    marks = np.zeros((2, 104, 104), np.uint8)
    marks[:, 50:56, 51:57] |= 1  # centroid at column 53.5, row 52.5
    marks[:, 50:56, 51:57] |= 2
    marks[0, 0:9, 0:9] |= 4  # one reader of three: not the consensus
    with zipfile.ZipFile(folder / "slices.zip", "w") as archive:
        for name, pixels in (("a", lung), ("a.readers", marks), ("b", padded), ("b.readers", marks)):
            archive.writestr(f"{name}.jls", bytes(jpeg_ls.encode(pixels.reshape(-1, 104))))
    monkeypatch.setattr(shift, "shared_data", lambda: tmp_path)
    found: dict[str, Any] = shift.survey()
    assert found == {
        "slices": 4,
        "slices_with_padding": 1,
        "patients_with_padding": 1,
        "off_centre_px": [53.5 - shift.CENTRE[0], 52.5 - shift.CENTRE[1]],
    }
