"""The comparison against contours, on bright discs and a network that sees brightness: what is bright speaks for malignant."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from training.explanations import methods
from training.lung import comparison_page
from training.lung.comparison import CONTEST, Settings
from training.lung.contours import controls, first_of_each, read
from training.lung.data import Nodule, Prepared
from training.response_maps.layers import Convolution, Rectifier

RADII_MM = (6.0, 2.4, 7.0, 2.6, 6.5, 2.4)
"""Of the discs: every second is small, and benign."""


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    def scene(size: int, scale_mm: float) -> tuple[np.ndarray, np.ndarray]:
        y, x = (np.mgrid[:size, :size] - (size - 1) / 2) * scale_mm
        discs = np.stack([x**2 + y**2 <= radius**2 for radius in RADII_MM])
        peak = 1 - 0.0004 * (x**2 + y**2)  # the brightest pixel is in the middle, not at an edge
        return discs, np.where(discs, peak, 0.2 + 0.06 * np.sin(0.6 * x) * np.cos(0.4 * y))

    nodules = [
        Nodule(f"LIDC-IDRI-{k:04d}", "0", (5,) if k % 2 == 0 else (1,), (), 2 * radius, 0.6, 1.0, k, 1)
        for k, radius in enumerate(RADII_MM)
    ]
    discs, fine = scene(112, 0.5)
    _, coarse = scene(72, 0.6667)
    windows = np.round(255 * fine).astype(np.uint8)
    return Prepared(windows, coarse.astype(np.float16), (discs * 255).astype(np.uint8), nodules)


def layers() -> tuple:
    """a = relu(x - 0.5), b = relu(0.5 - x): bright is malignant evidence, dark a little benign evidence."""

    def convolution(weight: list, bias: list) -> Convolution:
        return Convolution(torch.tensor(weight)[:, :, None, None].double(), torch.tensor(bias).double())

    return (
        convolution([[1.0], [-1.0]], [-0.5, 0.5]),
        Rectifier(),
        convolution([[0.0, 1.0], [200.0, 0.0]], [0.0, 0.0]),
    )


METHODS = set(methods())
SETTINGS = Settings(steps=4, stride_px=9, curves=2, moved=2, checked=1, draws=1)


@pytest.fixture(scope="module")
def written(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    result = comparison_page.write(folder, [layers()], torch.tensor([1.2, -0.2]), prepared, prepared.nodules, SETTINGS)
    return folder, result


def test_windows_contours_and_nulls(prepared):
    cases = read(prepared, prepared.nodules)
    assert cases.images.shape == (6, 1, 72, 72)
    np.testing.assert_array_equal(cases.images[:, 0], prepared.inputs.astype(np.float32))
    area = cases.of_window * 48.0024**2
    np.testing.assert_allclose(area, np.pi * np.square(RADII_MM), rtol=0.1)
    # a source slice has 104 px of 0.6 mm
    np.testing.assert_allclose(cases.of_source * 62.4**2, area, rtol=1e-6)


def test_moved_windows_move_image_and_contour_together(prepared):
    cases = read(prepared, prepared.nodules, 4.0)
    centres = [(np.argwhere(region).mean(0).round(1)).tolist() for region in cases.regions]
    near, far = 35.5 - 6, 35.5 + 6
    assert centres == [[near, near], [near, far], [far, near], [far, far], [near, near], [near, far]]
    for image, drawn in zip(cases.images[:, 0].numpy(), cases.drawn, strict=True):
        assert image[drawn == 1].min() > 0.95
        assert image[drawn == 0].max() < 0.3


def test_windows_cannot_move_beyond_what_is_prepared(prepared):
    with pytest.raises(ValueError, match="end 4 mm beyond"):
        read(prepared, prepared.nodules, 4.5)


def test_a_nodule_without_consensus_is_left_out(prepared):
    nobody = prepared.contours.copy()
    nobody[1] = 100
    assert len(read(replace(prepared, contours=nobody), prepared.nodules).nodules) == 5


def test_the_same_number_of_each_class(prepared):
    labels = read(prepared, prepared.nodules).labels
    rows = first_of_each(labels, 2)
    assert labels[rows].sum() == 2
    assert len(rows) == 4
    assert len(first_of_each(labels, 99)) == 6


def test_controls_know_the_centre_or_nothing(prepared):
    known = controls(read(prepared, prepared.nodules), 8.0)
    assert np.unravel_index(known["centre"][0].argmax(), (72, 72)) in {(35, 35), (35, 36), (36, 35), (36, 36)}
    assert known["centre"][0, 35, 35 + 8] / known["centre"][0, 35, 35] == pytest.approx(
        np.exp(-(7.5**2 - 0.5**2) / 128)
    )
    assert len({int(bump.argmax()) for bump in known["elsewhere"]}) == 6


def test_a_map_of_what_is_bright_finds_the_discs(written):
    _, result = written
    found = result["methods"]
    for name in ("guided, contrast", "guided, class", "Grad-CAM", "readers' contour"):
        for group in ("malignant", "malignant, moved"):
            assert found[name][group]["pointing"]["value"] == 1
            assert found[name][group]["share_inside"]["value"] > 0.95
            assert found[name][group]["iou"]["value"] > 0.95
    assert found["noise"]["malignant"]["lift"]["value"] == pytest.approx(1, abs=0.2)
    # dark is what speaks for benign: such a map lies around the nodule, not in it
    assert found["guided, contrast"]["benign"]["pointing"]["value"] == 0
    assert found["centre"]["benign"]["pointing"]["value"] == 1
    assert found["centre"]["benign, moved"]["pointing"]["value"] == 0
    assert found["gradient x input"]["both"]["class_correlation"]["value"] == pytest.approx(-1)
    assert (
        found["readers' contour"]["malignant"]["deletion"]["value"] < found["noise"]["malignant"]["deletion"]["value"]
    )


def test_ratios_to_both_nulls_are_shares_over_areas(written):
    _, result = written
    found = result["methods"]["guided, contrast"]["malignant"]
    null = result["null"]["malignant"]
    assert found["share_inside"]["null"] == null["window"]
    share = found["share_inside"]["value"]
    assert found["lift_of_means"]["value"] == pytest.approx(share / null["window"], rel=2e-3)
    assert found["lift_of_source"]["value"] == pytest.approx(share / null["source"], rel=2e-3)
    assert 0.95 * null["largest_lift"] < found["lift"]["value"] <= null["largest_lift"]


def test_winners_follow_from_the_numbers(written):
    _, result = written
    for figure, groups in result["first"].items():
        for group, entry in groups.items():
            values = {
                name: method[group][figure]["value"]
                for name, method in result["methods"].items()
                if name in entry["ranking"]
            }
            assert set(values) | set(entry["left_out"]) <= METHODS
            assert values[entry["first"]] == CONTEST[figure](values.values())
            assert entry["first"] in (entry["ours"], entry["peer"])
            difference = values[entry["ours"]] - values[entry["peer"]]
            assert entry["ours_minus_peer"]["value"] == pytest.approx(difference, abs=2e-3)
    assert set(result["first"]) == set(CONTEST)
    left_out = result["first"]["class_correlation"]["both"]["left_out"]
    assert {"gradient x input", "Integrated Gradients", "LRP-gamma", "LRP-z+", "occlusion"} == set(left_out)


def test_a_filled_nodule_is_an_empty_window(written):
    _, result = written
    said = result["baseline"]
    assert said["window"]["value"] > 0.9
    assert said["nodule_filled"]["value"] == pytest.approx(said["baseline"]["value"], abs=0.02)
    assert said["prior"] == pytest.approx(1 / (1 + np.exp(1.4)), abs=1e-3)


def test_page_picture_and_numbers_are_written(written):
    folder, result = written
    assert json.loads((folder / "lung_evidence.json").read_text()) == result
    picture = (folder / "lung_evidence.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 300_000
    page = (folder / "lung_evidence.md").read_text()
    assert "CC BY 3.0" in page
    assert "LIDC-IDRI-0002" in page or "LIDC-IDRI-0000" in page
    assert "| `\\|gradient\\|` |" in page
    for name, method in result["methods"].items():
        assert method["text"] in page, name
    winner = result["first"]["pointing"]["malignant"]["first"]
    line = next(line for line in page.splitlines() if line.startswith("| pointing (higher) | malignant |"))
    assert line.split(" | ")[2] == f"`{winner}`"
    for line in page.splitlines():
        assert "nan" not in line.split("|")


def test_an_ensemble_is_asked_for_less():
    one, eight = Settings.affordable(1), Settings.affordable(8)
    assert one == Settings()
    assert (eight.steps, eight.stride_px, eight.curves) == (6, 9, 25)
