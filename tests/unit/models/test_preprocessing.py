"""Preprocessing re-derived, and training's batched version held against it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.preprocessing import (
    crop_square,
    fundus_field,
    fundus_square,
    local_contrast,
    min_max,
    nodule_box,
    nodule_window,
    resample,
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
    np.testing.assert_allclose(window[2:-2, 2:-2], np.add.outer(3 * position, position)[2:-2, 2:-2], atol=1e-3)


def test_outside_the_image_is_filled_with_the_smallest_value_inside_the_box():
    image = np.full((20, 20), 7.0)
    image[0, 0], image[19, 19] = 3.0, -50.0
    window = resample(image, (-8, -8, 8, 8), 16)
    assert window[0, 0] == 3.0
    assert window.min() == 3.0
    assert window[15, 15] == 7.0


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


def test_training_and_service_cut_the_same_nodule_window():
    """Training cuts a wider window first and crops it: inside, pixel for pixel the service's window."""
    from training.lung.data import MARGIN, PREPROCESSING, windows
    from training.lung.train import plain

    grey = np.clip(np.random.default_rng(0).normal(128, 40, (30, 30)).repeat(4, 0).repeat(4, 1), 0, 255)[:104, :104]
    stack = grey.astype(np.uint8)[None]
    prepared = windows(stack, 0.7)
    assert prepared.shape[1] == PREPROCESSING["size_px"] + 2 * MARGIN
    service = nodule_window(stack[0], (51.5, 51.5), (0.7, 0.7), **PREPROCESSING)
    trained = plain(prepared).numpy()[0]
    assert np.abs(service - trained).max() < 2 / 255  # the prepared arrays are rounded to grey levels


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
