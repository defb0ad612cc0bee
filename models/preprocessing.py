"""Preprocessing of both models: ONE implementation, used by training and by the service.

Everything here is plain numpy and Pillow and works on arrays, never on files. The steps and their parameters are named in
each bundle's ``model.json`` (``input.preprocessing``) and `nodule_window` / `fundus_square` take those parameters as keywords.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

Box = tuple[float, float, float, float]


def resample(image: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Cut `box` out of a grey image and resample it to a square, bilinear with antialiasing.

    Parameters
    ----------
    image : ndarray, shape (H, W)
        Any real dtype.
    box : (x0, y0, x1, y1)
        In pixels, borders of pixels at whole numbers (pixel k covers k..k+1). May reach beyond the image: what lies outside
        is filled with the smallest value inside the box, so that it cannot widen the range that `min_max` uses.
    size : int
        Side of the result, px.

    Returns
    -------
    ndarray, float32, shape (size, size)

    Raises
    ------
    ValueError
        When the box does not touch the image or has no extent.
    """
    x0, y0, x1, y1 = box
    height, width = image.shape
    if not (x1 > x0 and y1 > y0):
        raise ValueError(f"box {box} has no extent")
    left, top, right, bottom = int(np.floor(x0)), int(np.floor(y0)), int(np.ceil(x1)), int(np.ceil(y1))
    inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)].astype(np.float32)
    if inside.size == 0:
        raise ValueError(f"box {box} does not touch the image of {width} x {height} px")
    pad = ((max(-top, 0), max(bottom - max(height, top), 0)), (max(-left, 0), max(right - max(width, left), 0)))
    patch = np.pad(inside, pad, constant_values=inside.min())
    local = (x0 - left, y0 - top, x1 - left, y1 - top)
    return np.asarray(
        Image.fromarray(patch).resize((size, size), Image.Resampling.BILINEAR, box=local), dtype=np.float32
    )


def min_max(window: np.ndarray) -> np.ndarray:
    """Scale a window to [0, 1] by its own extremes; a flat window becomes zeros.

    The LIDC training slices carry no Hounsfield units, so the model's contract is min-max over its own crop; a scanner's
    padding (below -1024 HU) inside the crop takes part, in training and in the service alike.
    """
    low, high = float(window.min()), float(window.max())
    if high <= low:
        return np.zeros_like(window, dtype=np.float32)
    return ((window - low) / (high - low)).astype(np.float32)


def nodule_box(
    center_px: tuple[float, float], spacing_mm: tuple[float, float], *, size_px: int, scale_mm: float
) -> Box:
    """Field of view of the lung model around a nodule, in pixels of the slice.

    Parameters
    ----------
    center_px : (column, row)
        Zero-based pixel coordinates, pixel centres at whole numbers (DICOM PS3.3 C.7.6.2.1.1).
    spacing_mm : (row spacing, column spacing)
        Pixel Spacing (0028,0030), mm.
    size_px, scale_mm : int, float
        Side of the model's window in its own pixels and the true size of one of them.
    """
    half_x, half_y = (0.5 * size_px * scale_mm / spacing for spacing in (spacing_mm[1], spacing_mm[0]))
    x, y = center_px[0] + 0.5, center_px[1] + 0.5
    return (x - half_x, y - half_y, x + half_x, y + half_y)


def nodule_window(
    image: np.ndarray, center_px: tuple[float, float], spacing_mm: tuple[float, float], *, size_px: int, scale_mm: float
) -> np.ndarray:
    """The lung model's input for one axial slice: true-scale window round the nodule, min-max scaled.

    Parameters are those of `nodule_box`; `image` has shape (H, W) in HU or any linear grey scale.

    Returns
    -------
    ndarray, float32, shape (1, size_px, size_px), values 0..1
    """
    box = nodule_box(center_px, spacing_mm, size_px=size_px, scale_mm=scale_mm)
    return min_max(resample(image, box, size_px))[None]


@dataclass(frozen=True)
class Field:
    """Circular field of view of a fundus photograph, in pixels: the square round it is what the retina model sees."""

    x: float
    y: float
    radius: float

    @property
    def box(self) -> Box:
        """Square (x0, y0, x1, y1) round the field; may reach beyond the photograph where the field is cut off."""
        return (self.x - self.radius, self.y - self.radius, self.x + self.radius, self.y + self.radius)


def fundus_field(photograph: np.ndarray, *, threshold: float = 0.06) -> Field | None:
    """Find the illuminated field of a fundus photograph.

    A pixel is lit when its brightest channel exceeds `threshold` of full scale. The field is the extent of the rows and
    columns in which at least 5 % of the pixels are lit (so stray text or noise outside does not count).

    Parameters
    ----------
    photograph : ndarray, uint8, shape (H, W, 3)

    Returns
    -------
    Field or None
        None where nothing is lit.
    """
    step = max(1, max(photograph.shape[:2]) // 512)
    lit = photograph[::step, ::step].max(axis=2) > threshold * 255
    columns, rows = (np.flatnonzero(lit.mean(axis=axis) > 0.05) for axis in (0, 1))
    if len(columns) == 0 or len(rows) == 0:
        return None
    x0, x1, y0, y1 = (step * float(v) for v in (columns[0], columns[-1] + 1, rows[0], rows[-1] + 1))
    return Field((x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0) / 2)


def crop_square(photograph: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Cut a square out of a photograph, black outside it, and scale it to `size` px (antialiased). uint8 (size, size, 3)."""
    x0, y0, x1, y1 = (round(v) for v in box)
    image = Image.fromarray(photograph).crop((x0, y0, x1, y1))  # Pillow fills what lies outside with black
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0))


def local_contrast(square: np.ndarray, *, grid: int, margin: float) -> np.ndarray:
    """Make photographs from different cameras (and the equalised EyePACS copies) alike.

    Each channel is freed of its local mean (taken over a `grid` x `grid` raster inside the field and interpolated back, so
    illumination and pigmentation vanish) and divided by the standard deviation of what remains inside the field.

    Parameters
    ----------
    square : ndarray, uint8, shape (S, S, 3)
        Photograph cropped to its field.
    grid : int
        Raster of the local mean.
    margin : float
        Share of the radius beyond which everything is 0 (the bright rim of many cameras).

    Returns
    -------
    ndarray, float32, shape (3, S, S)
        Zero outside the field; clipped to -4..4 standard deviations.
    """
    size = square.shape[0]
    offset = (np.arange(size) - (size - 1) / 2) / (size / 2)
    inside = ((offset[:, None] ** 2 + offset[None] ** 2) < margin**2) & (square.max(axis=2) > 0.06 * 255)
    weight = inside.astype(np.float32)

    def smooth(values: np.ndarray) -> np.ndarray:
        small = Image.fromarray(values).resize((grid, grid), Image.Resampling.BOX)
        return np.asarray(small.resize((size, size), Image.Resampling.BICUBIC))

    share = np.maximum(smooth(weight), 0.05)
    result = np.zeros((3, size, size), np.float32)
    for channel in range(3):
        values = square[:, :, channel].astype(np.float32) * weight
        flat = (values - smooth(values) / share) * weight
        deviation = float(np.sqrt((flat**2).sum() / max(weight.sum(), 1.0)))
        result[channel] = np.clip(flat / max(deviation, 1.0), -4, 4)
    return result


def fundus_square(photograph: np.ndarray, field: Field, *, size_px: int, grid: int, margin: float) -> np.ndarray:
    """The retina model's input for one photograph: float32, shape (3, size_px, size_px). See `local_contrast`."""
    return local_contrast(crop_square(photograph, field.box, size_px), grid=grid, margin=margin)
