"""The thesis' own preprocessing of fundus photographs, to train with it for comparison.

The thesis crops a photograph to its circle, standardises each channel by its mean and standard deviation over the training set,
and flips at random. So brightness, pigmentation and the colours of a camera stay in the picture, and all photographs share one
scale. The shipped model's `models.preprocessing.fundus_square` takes them out of each photograph by itself: the local mean of
every channel goes, and what remains is divided by its own standard deviation. Prepared with either, arrays are augmented alike
by `training.retina.train.augment`: flips, and what the thesis does not do: rotation, scale, shifts, gain, blur and noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.preprocessing import Field, crop_square


def circle(size_px: int) -> np.ndarray:
    """Pixels inside the circle that fills a square: bool, shape (S, S)."""
    offset = np.arange(size_px) - (size_px - 1) / 2
    return np.asarray(offset[:, None] ** 2 + offset[None] ** 2 < (size_px / 2) ** 2)


def moments(pixels: np.ndarray, field: Field, size_px: int) -> np.ndarray:
    """Means and mean squares of the channels inside the circle of one photograph: float64, shape (2, 3)."""
    values = crop_square(pixels, field.box, size_px)[circle(size_px)].astype(np.float64)
    return np.stack([values.mean(0), (values**2).mean(0)])


def statistics(of_photographs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over all pixels of a set, from the `moments` of its photographs.

    Returns
    -------
    mean, std : ndarray, float64, shape (3,)
        Grey levels 0-255.
    """
    mean, square = np.mean(of_photographs, axis=0)
    return mean, np.sqrt(square - mean**2)


def thesis_square(pixels: np.ndarray, field: Field, size_px: int, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """A network's input by the thesis' recipe.

    Parameters
    ----------
    pixels : ndarray, uint8, shape (H, W, 3)
    field : Field
        From `models.preprocessing.fundus_field`.
    size_px : int
    mean, std : ndarray, shape (3,)
        Of the training set, see `statistics`.

    Returns
    -------
    ndarray, float32, shape (3, size_px, size_px)
        Standard deviations from the mean, clipped to -4..4; 0, the mean, outside the circle, so that rotated pictures have no
        other edges than these.
    """
    square = (crop_square(pixels, field.box, size_px) - mean) / std * circle(size_px)[:, :, None]
    return np.clip(square.transpose(2, 0, 1), -4, 4).astype(np.float32)
