"""Preprocessing re-derived, and training's batched version held against it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.preprocessing import (
    HU_RANGE,
    crop_square,
    fill,
    fundus_field,
    fundus_square,
    grey_range,
    local_contrast,
    min_max,
    nodule_box,
    nodule_window,
    resample,
    scaled_window,
    tissue_level,
)


def test_nodule_box_is_centred_on_the_pixel_and_has_the_true_size():
    x0, y0, x1, y1 = nodule_box((10, 20), (0.5, 0.25), size_px=8, scale_mm=0.5)
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == (10.5, 20.5)  # the centre of pixel (10, 20)
    assert (x1 - x0) * 0.25 == (y1 - y0) * 0.5 == 4.0  # mm


def test_window_at_the_models_own_spacing_is_the_plain_crop():
    image = np.random.default_rng(0).normal(size=(40, 50))
    window = resample(image, (10, 12, 26, 28), 16)
    np.testing.assert_allclose(window, image[12:28, 10:26], atol=1e-6)


def test_a_linear_ramp_survives_resampling():
    image = np.add.outer(3.0 * np.arange(60), np.arange(60))
    window = resample(image, (10, 10, 34, 34), 48)
    position = 10 + (np.arange(48) + 0.5) * 24 / 48 - 0.5
    np.testing.assert_allclose(window, np.add.outer(3 * position, position), atol=1e-3)


@pytest.mark.parametrize("spacing", [0.3, 0.460938, 0.5, 0.703125, 0.976562, 1.3])
def test_a_larger_box_cropped_is_the_smaller_box(spacing: float):
    """Training cuts 112 px and crops, the service cuts 96 px: up to the border the same pixels."""
    image = np.random.default_rng(1).normal(-800, 200, (420, 420)).astype(np.float32)
    small, large = (
        resample(image, nodule_box((210.3, 208.9), (spacing, 1.1 * spacing), size_px=side, scale_mm=0.5), side)
        for side in (96, 112)
    )
    np.testing.assert_allclose(large[8:-8, 8:-8], small, atol=0.02)


def test_outside_the_image_its_border_goes_on():
    image = np.random.default_rng(2).normal(size=(20, 20)).astype(np.float32)
    window = resample(image, (-8, -8, 8, 8), 16)
    np.testing.assert_allclose(window, np.pad(image[:8, :8], ((8, 0), (8, 0)), mode="edge"), atol=1e-6)
    window = resample(image, (14, 2, 30, 18), 16)
    np.testing.assert_allclose(window, np.pad(image[2:18, 14:], ((0, 0), (0, 10)), mode="edge"), atol=1e-6)


def test_fill_by_hand():
    image = np.array([[1, 2, 9, 9], [3, 9, 9, 4], [9, 9, 9, 9]], np.float32)
    assert fill(image, image < 9).tolist() == [[1, 2, 2, 4], [3, 3, 4, 4], [3, 2, 2, 4]]
    nothing = np.zeros((3, 4), bool)
    assert fill(image, nothing) is image
    assert fill(image, ~nothing) is image


def test_fill_takes_the_nearest_of_row_and_column():
    generator = np.random.default_rng(3)
    image = generator.normal(size=(12, 15))
    present = generator.random((12, 15)) < 0.2
    filled = fill(image, present)
    seen = 0
    for row, column in np.argwhere(~present):
        known = [(abs(x - column), image[row, x]) for x in np.flatnonzero(present[row])]
        known += [(abs(y - row), image[y, column]) for y in np.flatnonzero(present[:, column])]
        if known:
            seen += 1
            nearest = min(distance for distance, _ in known)
            assert filled[row, column] in [value for distance, value in known if distance == nearest]
    assert seen > 100
    assert np.array_equal(filled[present], image[present])


@pytest.mark.parametrize("padding", [-2000, -3024])
def test_padding_is_as_if_the_image_ended_there(padding: int):
    image = np.random.default_rng(4).normal(-800, 60, (60, 60)).clip(-1024)
    padded = image.copy()
    padded[:, 40:] = padding
    for box in ((15.2, 11.7, 55.2, 51.7), (20, 20, 44, 44)):
        window, ended = resample(padded, box, 96, HU_RANGE), resample(image[:, :40], box, 96)
        np.testing.assert_allclose(window, ended, atol=1e-3)
    assert resample(padded, box, 96).min() < -1900, "without a range it takes part"
    flat = np.full((30, 30), float(padding))
    assert np.all(resample(flat, (2, 2, 9, 9), 8, HU_RANGE) == padding), "nothing to fill it with"


def test_metal_is_taken_out_with_its_rim():
    """A plate of 9000 HU with a blurred rim in soft tissue of 40 HU, and bone of 1200 HU, which stays."""
    image = np.full((40, 40), 40.0)
    image[30:34, 30:34] = 1200
    blurred = image.copy()
    blurred[8:16, 8:16], blurred[9:15, 9:15], blurred[10:14, 10:14] = 700, 2400, 9000
    window = resample(blurred, (0, 0, 40, 40), 40, HU_RANGE)
    np.testing.assert_allclose(window, image, atol=1e-4)
    assert min_max(resample(blurred, (0, 0, 40, 40), 40))[20, 20] == 0


def test_values_within_the_range_stay_as_they_are():
    image = np.random.default_rng(5).uniform(-1024, 2500, (40, 40))
    box = (-3.3, 4.2, 20.1, 38.8)
    assert np.array_equal(resample(image, box, 24, HU_RANGE), resample(image, box, 24))


def test_a_box_off_the_image_is_refused():
    with pytest.raises(ValueError, match="does not touch"):
        resample(np.zeros((10, 10)), (20, 20, 30, 30), 8)
    with pytest.raises(ValueError, match="no extent"):
        resample(np.zeros((10, 10)), (5, 5, 5, 9), 8)


def test_min_max_ignores_the_units():
    window = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    np.testing.assert_allclose(min_max(window * 700 - 400), min_max(window), atol=1e-5)
    assert min_max(window).min() == 0
    assert min_max(window).max() == 1
    assert not min_max(np.full((4, 4), 5.0)).any()


def test_training_and_service_make_the_same_input_of_a_crop():
    from training.lung.data import CENTRE, PREPROCESSING, inputs

    grey = np.clip(np.random.default_rng(0).normal(128, 40, (30, 30)).repeat(4, 0).repeat(4, 1), 0, 255)[:104, :104]
    stack = grey.astype(np.uint8)[None]
    service = nodule_window(stack[0], CENTRE, (0.7, 0.7), **PREPROCESSING)
    assert inputs(stack, 0.7).shape == service.shape
    np.testing.assert_allclose(inputs(stack, 0.7), service, atol=1 / 2048)  # float16


def hand_scaled(window: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((window - low) / (high - low), 0, 1)


def test_grey_levels_are_those_of_a_square_of_the_scanner():
    """The darkest and the brightest pixel of 40 x 40 px round the middle are 0 and 1, although the window is 16 px."""
    image = np.random.default_rng(6).uniform(-900, 100, (100, 100))
    image[30, 69], image[69, 30] = -1000, 900  # corners of the square
    image[29, 50], image[50, 70] = -1010, 2000  # just beside it
    window = nodule_window(image, (49.5, 49.5), (0.5, 0.5), size_px=16, scale_mm=0.5, range_px=40, valid=HU_RANGE)
    np.testing.assert_allclose(window[0], hand_scaled(image[42:58, 42:58], -1000, 900), atol=1e-6)


def test_padding_and_metal_beside_the_window_do_not_move_the_grey_levels():
    image = np.random.default_rng(7).uniform(-900, 100, (100, 100))
    image[34, 34], image[60, 60] = -1000, 900
    step = {"size_px": 16, "scale_mm": 0.5, "range_px": 40}
    clean = nodule_window(image, (49.5, 49.5), (0.5, 0.5), valid=HU_RANGE, **step)
    image[:, 64:], image[31, 50] = -2000, 9000
    assert np.array_equal(nodule_window(image, (49.5, 49.5), (0.5, 0.5), valid=HU_RANGE, **step), clean)
    assert grey_range(image, (42, 42, 58, 58), 40) == (-2000, 9000)
    assert grey_range(image, (42, 42, 58, 58), 40, HU_RANGE) == (-1000, 900)
    nothing = np.full((50, 50), -2000.0)
    assert grey_range(nothing, (20, 20, 30, 30), 40, HU_RANGE) == (-2000, -2000)


def test_a_slice_of_8_bits_keeps_its_levels():
    """It is a part of what was scaled to 0..255, so its own extremes mean nothing; but the level above padding does."""
    image = np.random.default_rng(8).integers(7, 180, (104, 104)).astype(np.uint8)
    step = {"size_px": 16, "scale_mm": 0.5, "range_px": 128}
    window = nodule_window(image, (51.5, 51.5), (0.5, 0.5), **step)
    np.testing.assert_allclose(window[0], image[44:60, 44:60] / 255, atol=1e-6)
    padded = np.maximum(image, 90)
    window = nodule_window(padded, (51.5, 51.5), (0.5, 0.5), **step)  # the padding lies beside the crop
    np.testing.assert_allclose(window[0], hand_scaled(padded[44:60, 44:60], 90, 255), atol=1e-6)
    padded[:, 58:] = np.random.default_rng(9).integers(0, 3, (104, 46))  # and in it, coded with an error
    window = nodule_window(padded, (51.5, 51.5), (0.5, 0.5), **step)
    ended = np.pad(padded[44:60, 44:58], ((0, 0), (0, 2)), mode="edge")
    np.testing.assert_allclose(window[0], hand_scaled(ended, 90, 255), atol=1e-6)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [([0, 0, 1, 5, 90], 0), ([0, 1, 2, 30, 90], 30), ([64, 65, 200], 64), ([29, 65], 0), ([0, 1, 2], 0)],
)
def test_the_level_above_padding(levels: list[int], expected: int):
    assert tissue_level(np.array([levels], np.uint8)) == expected


def test_a_known_box_gives_the_same_window():
    image = np.random.default_rng(10).normal(-800, 100, (90, 90))
    step = {"size_px": 24, "scale_mm": 0.7}
    box = nodule_box((44.2, 40.9), (0.6, 0.8), **step)
    window = nodule_window(image, (44.2, 40.9), (0.6, 0.8), range_px=50, **step)
    assert np.array_equal(window, scaled_window(image, box, size_px=24, range_px=50))
    assert np.array_equal(min_max(resample(image, box, 24))[None], scaled_window(image, box, size_px=24))


def test_training_quantises_the_photograph_finely_enough():
    from training.retina.data import quantise

    values = np.linspace(-4, 4, 1001, dtype=np.float32)
    assert np.abs(quantise(values) / 31.875 - 4 - values).max() < 0.02
    assert torch.from_numpy(quantise(values)).dtype == torch.uint8


def disc(size: int = 300, radius: float = 120, centre: tuple[float, float] = (150, 150)) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    inside = (x + 0.5 - centre[0]) ** 2 + (y + 0.5 - centre[1]) ** 2 < radius**2
    image = np.zeros((size, size, 3), np.uint8)
    image[inside] = (180, 90, 40)
    return image


def test_field_of_a_disc():
    field = fundus_field(disc(centre=(140, 160)))
    assert field is not None
    np.testing.assert_allclose((field.x, field.y, field.radius), (140, 160, 120), atol=5)


def test_field_cut_off_above_and_below_keeps_its_width():
    field = fundus_field(disc()[70:230])
    assert field is not None
    np.testing.assert_allclose((field.x, field.y, field.radius), (150, 80, 120), atol=5)


def test_no_field_in_the_dark():
    assert fundus_field(np.zeros((100, 100, 3), np.uint8)) is None


def test_crop_square_is_black_outside():
    square = crop_square(np.full((10, 20, 3), 200, np.uint8), (0, -5, 20, 15), 40)
    assert square.shape == (40, 40, 3)
    assert square[2, 20].tolist() == [0, 0, 0]
    assert square[20, 20].tolist() == [200, 200, 200]


def test_local_contrast_removes_illumination_and_colour_cast():
    generator = np.random.default_rng(0)
    texture = generator.normal(0, 12, (512, 512, 1)).repeat(3, 2)
    even = np.clip(110 + texture, 20, 250).astype(np.uint8)
    slope = np.linspace(-50, 50, 512)[None, :, None]
    uneven = np.clip((110 + slope) * np.array([1.2, 0.9, 0.7]) + texture, 20, 250).astype(np.uint8)
    first, second = (local_contrast(image, grid=16, margin=0.95) for image in (even, uneven))
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.97
    assert not first[:, 0].any()  # outside the field
    assert abs(first[:, 200:300, 200:300].mean()) < 0.1


def test_scale_of_the_photograph_hardly_matters():
    """A 4288-pixel photograph and its copy at half the size give nearly the same input."""
    generator = np.random.default_rng(0)
    coarse = generator.normal(128, 40, (64, 64, 3)).clip(40, 255).astype(np.uint8)
    from PIL import Image

    big = np.asarray(Image.fromarray(coarse).resize((2048, 2048), Image.Resampling.BICUBIC))
    small = np.asarray(Image.fromarray(coarse).resize((1024, 1024), Image.Resampling.BICUBIC))
    inputs = []
    for image in (big, small):
        field = fundus_field(image)
        assert field is not None
        inputs.append(fundus_square(image, field, size_px=512, grid=16, margin=0.95))
    assert np.corrcoef(inputs[0].ravel(), inputs[1].ravel())[0, 1] > 0.999
