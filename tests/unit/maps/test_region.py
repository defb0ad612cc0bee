"""The critical region against places worked out by hand, and against a loop over pixel centres."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.bundle import load
from service.maps import region
from service.records import ResponseMap

Make = Callable[..., ResponseMap]


def one_class(values: list[list[float]] | np.ndarray) -> np.ndarray:
    """Responses (1, 2, H, W): `values` for class a, nothing for class b."""
    a = np.asarray(values, np.float32)
    return np.stack([a, np.zeros_like(a)])[None]


def boxes(*edges: float) -> np.ndarray:
    return np.array([edges], np.float64)


def test_pixels_at_or_above_the_share_of_the_peak(make: Make) -> None:
    maps = make(one_class([[8, 4, 3.99], [0, -9, 4.01]]), box_px=boxes(0, 0, 3, 2))
    found = region.critical(maps, "a", (2, 3))
    assert found is not None and (found.peak, found.peak_at, found.share) == (8.0, (0, 0, 0), 0.5)
    assert found.mask[0].tolist() == [[True, True, False], [False, False, True]]
    whole = region.critical(maps, "a", (2, 3), share=1)
    assert whole is not None and whole.mask.sum() == 1


def test_one_threshold_holds_for_all_slices(make: Make) -> None:
    response = np.zeros((3, 2, 2, 2), np.float32)
    response[0, 1, 0, 0], response[1, 1, 1, 1], response[2, 1, 0, 1] = 3, 10, 6
    maps = make(response, box_px=np.tile([0.0, 0, 2, 2], (3, 1)))
    found = region.critical(maps, "b", (2, 2))
    assert found is not None and found.peak_at == (1, 1, 1)
    assert found.areas() == (0, 1, 1)


def test_nothing_that_speaks_for_the_class(make: Make) -> None:
    assert region.critical(make(one_class([[-1, 0], [-3, -2]])), "a", (50, 50)) is None


def test_whole_map_pixels_land_on_whole_image_pixels(make: Make) -> None:
    # Four map pixels of 2 x 2 image pixels each, from column 1 and row 2 on.
    found = region.critical(make(one_class([[0, 9], [0, 0]]), box_px=boxes(1, 2, 5, 6)), "a", (7, 6))
    assert found is not None
    expected = np.zeros((7, 6), bool)
    expected[2:4, 3:5] = True
    assert np.array_equal(found.to_image(0), expected)


def test_centres_of_pixels_decide_at_half_pixels(make: Make) -> None:
    # Map pixel (1, 1) covers 1.5..2.5 both ways: of the centres 0.5, 1.5, 2.5 only 1.5 lies in it, the far border is open.
    found = region.critical(make(one_class([[0, 0], [0, 9]]), box_px=boxes(0.5, 0.5, 2.5, 2.5)), "a", (3, 3))
    assert found is not None
    # And (2, 2) holds the centre of the peak, which lies at 2.0.
    assert np.argwhere(found.to_image(0)).tolist() == [[1, 1], [2, 2]]


def test_what_lies_beyond_the_border_of_the_image_neither_counts_nor_shows(make: Make) -> None:
    values = np.zeros((4, 4))
    values[0, 0], values[2, 2], values[2, 3] = 100, 8, 5  # the first lies at column -2, row -2
    found = region.critical(make(one_class(values), box_px=boxes(-2, -2, 2, 2)), "a", (9, 9))
    assert found is not None and found.peak == 8
    assert np.argwhere(found.to_image(0)).tolist() == [[0, 0], [0, 1]]
    beyond = region.critical(make(one_class(values[::-1, ::-1]), box_px=boxes(7, 7, 11, 11)), "a", (9, 9))
    assert beyond is not None and beyond.peak == 8
    assert np.argwhere(beyond.to_image(0)).tolist() == [[8, 7], [8, 8]]


def test_a_window_outside_the_image_has_no_region(make: Make) -> None:
    assert region.critical(make(one_class([[5, 5], [5, 5]]), box_px=boxes(20, 20, 24, 24)), "a", (9, 9)) is None


@pytest.mark.parametrize("seed", range(6))
def test_like_a_loop_over_pixel_centres(make: Make, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns, height, width = (int(v) for v in rng.integers(22, 40, 4))
    x0, y0 = rng.uniform(-10, 20, 2)
    box = (x0, y0, x0 + rng.uniform(15, 40), y0 + rng.uniform(15, 40))
    response = rng.normal(size=(1, 2, height, width)).astype(np.float32)
    found = region.critical(make(response, box_px=boxes(*box)), "b", (rows, columns), share=0.2)
    assert found is not None
    expected = np.zeros((rows, columns), bool)
    for r in range(rows):
        for c in range(columns):
            i = (r + 0.5 - box[1]) / (box[3] - box[1]) * height
            j = (c + 0.5 - box[0]) / (box[2] - box[0]) * width
            if 0 <= i < height and 0 <= j < width:
                expected[r, c] = response[0, 1, int(i), int(j)] >= np.float32(0.2 * found.peak)
    _, i, j = found.peak_at
    y, x = box[1] + (i + 0.5) / height * (box[3] - box[1]), box[0] + (j + 0.5) / width * (box[2] - box[0])
    expected[int(y), int(x)] = True
    assert np.array_equal(found.to_image(0), expected)


def test_a_region_smaller_than_an_image_pixel_is_not_lost(make: Make) -> None:
    values = np.zeros((8, 8))
    values[0, 7] = 1  # covers columns 1.75..2, rows 0..0.25: no centre of an image pixel lies there
    found = region.critical(make(one_class(values), box_px=boxes(0, 0, 2, 2)), "a", (2, 2))
    assert found is not None
    assert found.to_image(0).tolist() == [[False, True], [False, False]]
    assert found.areas() == (1,)


def test_the_dark_surround_of_a_photograph_does_not_count(make: Make) -> None:
    background = np.full((1, 4, 4, 3), 200, np.uint8)
    background[0, :2, :2] = (15, 3, 0)  # lit above 15.3
    values = [[9.0, 4], [3, 1]]
    lit = region.critical(make(one_class(values), background, box_px=boxes(0, 0, 2, 2)), "a", (2, 2))
    assert lit is not None and lit.peak == 4
    assert lit.mask[0].tolist() == [[False, True], [True, False]]
    background[0, :2, :2, 2] = 16
    blue = region.critical(make(one_class(values), background, box_px=boxes(0, 0, 2, 2)), "a", (2, 2))
    assert blue is not None and blue.peak == 9
    grey = make(one_class(values), np.zeros((1, 4, 4), np.uint8), box_px=boxes(0, 0, 2, 2))
    dark = region.critical(grey, "a", (2, 2))
    assert dark is not None and dark.peak == 9  # air in a lung window is black, and is part of it


def test_the_rim_of_a_photograph_does_not_count(make: Make) -> None:
    values = np.ones((10, 10))
    values[0, 5] = values[0, 0] = 7  # centre of the first: 0.9 up and 0.1 right of the middle, 0.906 half widths away
    maps = make(one_class(values), np.full((1, 10, 10, 3), 200, np.uint8), box_px=boxes(0, 0, 10, 10))
    inner, outer = (region.critical(maps, "a", (10, 10), margin=margin) for margin in (0.9, 0.91))
    assert inner is not None and inner.peak == 1
    assert outer is not None and outer.peak == 7 and outer.peak_at == (0, 0, 5)


def test_measures_of_the_largest_slice(make: Make) -> None:
    response = np.zeros((2, 2, 4, 4), np.float32)
    response[0, 0, 0, 0], response[1, 0, :2, :3] = 10, 6
    maps = make(response, box_px=np.tile([0.0, 0, 8, 8], (2, 1)))
    found = region.critical(maps, "a", (8, 8))
    assert found is not None
    assert region.measured(found, (0.7, 0.5)) == {
        "class": "a",
        "share": 0.5,
        "sop_instance_uid": "2.25.2",
        "area_px": 24,  # 2 x 3 map pixels of 2 x 2 image pixels
        "area_mm2": 8.4,
        "slices": 2,
    }
    assert region.measured(found, None)["area_mm2"] is None


@pytest.mark.parametrize("share", [0, -0.1, 1.1])
def test_a_share_that_makes_no_sense_is_refused(make: Make, share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        region.critical(make(one_class([[1.0]])), "a", (50, 50), share=share)


def test_the_decision_chooses_the_class(tiny_models: Path, make: Make) -> None:
    lung = load(tiny_models / "sisc_lung")
    finding = {
        "probabilities": {"benign": 0.9, "malignant": 0.1},
        "operating_point": {"name": "sensitivity_90", "decision": "positive"},
    }
    assert region.answered(finding, lung) == "malignant"
    finding["operating_point"] = {"name": "balanced", "decision": "negative"}
    assert region.answered(finding, lung) == "benign"
    response = np.zeros((1, 2, 2, 2), np.float32)
    response[0, 0, 0, 0], response[0, 1, 1, 1] = 1, 5
    maps = make(response, classes=lung.classes, box_px=boxes(0, 0, 2, 2))
    found = region.of_finding(maps, finding, lung, (2, 2))
    assert found is not None and found.class_name == "benign" and found.peak == 1


def test_the_grade_chooses_the_class(tiny_models: Path, make: Make) -> None:
    retina = load(tiny_models / "clear_dr")
    response = np.zeros((1, 5, 20, 20), np.float32)
    response[0, 3, 10, 10], response[0, 3, 0, 10] = 2, 50  # the second lies beyond the margin of 0.95
    maps = make(
        response,
        np.full((1, 8, 8, 3), 90, np.uint8),
        classes=retina.classes,
        probabilities=np.full(5, 0.2),
        box_px=boxes(0, 0, 20, 20),
    )
    found = region.of_finding(maps, {"grade": 3}, retina, (20, 20))
    assert found is not None and found.class_name == "3" and found.peak == 2
