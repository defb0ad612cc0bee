"""Preprocessing of both models: ONE implementation, used by training and by the service.

Everything here is plain numpy and Pillow and works on arrays, never on files. The steps and their parameters are named in
each bundle's ``model.json`` (``input.preprocessing``) and `nodule_window` / `fundus_square` take those parameters as keywords.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

Box = tuple[float, float, float, float]
Range = tuple[float, float]

ALL: Range = (-np.inf, np.inf)
"""Every value is valid: images without Hounsfield units."""
HU_RANGE: Range = (-1024.0, 2500.0)
"""Step ``hu_range``: below it lies a scanner's padding; above it metal, no bone or calcification of the chest is as dense."""
METAL_RIM_PX = 2
"""Metal is blurred by the scanner: so far round it values are a mixture."""


def resample(image: np.ndarray, box: Box, size: int, valid: Range = ALL) -> np.ndarray:
    """Cut `box` out of a grey image and resample it to a square, bilinear with antialiasing.

    Pixels next to the box take part where the filter reaches them, so a larger box, cropped, gives the same pixels.

    What is not there is filled with the nearest pixel that is (`fill`): beyond the border of the image, and where a value is
    not valid. So it cannot widen the range that `min_max` uses, and no edge appears that is none of the patient's: p(malignant)
    moves by a fraction of what padding, metal or a dark fill move it (``docs/results/lung_shift.json``).

    Parameters
    ----------
    image : ndarray, shape (H, W)
        Any real dtype.
    box : (x0, y0, x1, y1)
        In pixels, borders of pixels at whole numbers (pixel k covers k..k+1). May reach beyond the image.
    size : int
        Side of the result, px.
    valid : (low, high)
        Smaller values are a scanner's padding; larger ones are metal, which takes a rim of `METAL_RIM_PX` with it. In the units
        of the image: for Hounsfield units a bundle's step ``hu_range``.

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
    if min(x1, width) <= max(x0, 0) or min(y1, height) <= max(y0, 0):
        raise ValueError(f"box {box} does not touch the image of {width} x {height} px")
    reach_x, reach_y = (np.ceil(max(1.0, extent / size)) for extent in (x1 - x0, y1 - y0))
    left, top = int(np.floor(x0) - reach_x), int(np.floor(y0) - reach_y)
    right, bottom = int(np.ceil(x1) + reach_x), int(np.ceil(y1) + reach_y)
    part = image[max(top, 0) : bottom, max(left, 0) : right].astype(np.float32)
    part = fill(part, _present(part, valid))
    beyond = ((max(-top, 0), max(bottom - height, 0)), (max(-left, 0), max(right - width, 0)))
    patch = np.pad(part, beyond, mode="edge")
    local = (x0 - left, y0 - top, x1 - left, y1 - top)
    return np.asarray(
        Image.fromarray(patch).resize((size, size), Image.Resampling.BILINEAR, box=local), dtype=np.float32
    )


def _present(image: np.ndarray, valid: Range) -> np.ndarray:
    """Which pixels show the patient: no padding, no metal, no rim of metal."""
    low, high = valid
    metal = image > high
    if metal.any():
        metal = (
            np.asarray(Image.fromarray(metal.astype(np.uint8)).filter(ImageFilter.MaxFilter(2 * METAL_RIM_PX + 1))) > 0
        )
    return ~((image < low) | metal)


def fill(image: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Replace what is not present by the nearest pixel of its row or column that is; unchanged where nothing is.

    Parameters
    ----------
    image : ndarray, shape (H, W)
    present : ndarray, bool, shape (H, W)
    """
    while present.any() and not present.all():  # a second round for pixels whose row and column hold nothing
        (x, away_x), (y, away_y) = (_nearest(present, axis) for axis in (1, 0))
        across, along = np.take_along_axis(image, x, 1), np.take_along_axis(image, y, 0)
        image = np.where(present, image, np.where(away_x <= away_y, across, along))
        present = present | np.isfinite(np.minimum(away_x, away_y))
    return image


def _nearest(present: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Index along `axis` of the nearest present pixel and its distance; infinite where there is none."""
    count = present.shape[axis]
    here = np.expand_dims(np.arange(count), 1 - axis)
    before = np.maximum.accumulate(np.where(present, here, -count), axis)
    after = np.flip(np.minimum.accumulate(np.flip(np.where(present, here, 2 * count), axis), axis), axis)
    nearest = np.where(here - before <= after - here, before, after)
    found = (nearest >= 0) & (nearest < count)
    return np.where(found, nearest, 0), np.where(found, np.abs(nearest - here), np.inf)


def min_max(window: np.ndarray) -> np.ndarray:
    """Scale a window to [0, 1] by its own extremes; a flat window becomes zeros.

    What is neither body nor air would squeeze the contrast of all the rest: `resample` takes it out before, where the image has
    Hounsfield units.
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
    image: np.ndarray,
    center_px: tuple[float, float],
    spacing_mm: tuple[float, float],
    *,
    size_px: int,
    scale_mm: float,
    range_px: int | None = None,
    valid: Range = ALL,
) -> np.ndarray:
    """The lung model's input for one axial slice: true-scale window round the nodule, scaled to 0..1.

    Parameters
    ----------
    image : ndarray, shape (H, W)
        HU or any linear grey scale; uint8 has been scaled already, see `grey_range`.
    center_px, spacing_mm, size_px, scale_mm
        See `nodule_box`.
    range_px : int, optional
        0 and 1 are the extremes of so large a square, see `grey_range`; None: those of the window itself.
    valid : (low, high)
        See `resample`.

    Returns
    -------
    ndarray, float32, shape (1, size_px, size_px), values 0..1
    """
    box = nodule_box(center_px, spacing_mm, size_px=size_px, scale_mm=scale_mm)
    return scaled_window(image, box, size_px=size_px, range_px=range_px, valid=valid)


def scaled_window(
    image: np.ndarray, box: Box, *, size_px: int, range_px: int | None = None, valid: Range = ALL
) -> np.ndarray:
    """`nodule_window` of a box that is known."""
    if range_px and image.dtype == np.uint8 and valid == ALL:
        valid = (float(tissue_level(image)), np.inf)
    window = resample(image, box, size_px, valid)
    if range_px is None:
        return min_max(window)[None]
    low, high = grey_range(image, box, range_px, valid)
    return np.asarray(np.clip((window - low) / max(high - low, 1e-6), 0, 1), np.float32)[None]


def grey_range(image: np.ndarray, box: Box, range_px: int, valid: Range = ALL) -> Range:
    """The grey values that become 0 and 1: the extremes of the valid pixels in a square round the middle of a box.

    The nodules of LIDC-IDRI that the model learnt from carry no Hounsfield units: each slice was min-max scaled over 128 x 128
    px of the scanner round the nodule. So large a square holds air and, nearly always, bone, so grey levels come close to an
    absolute scale and show calcification; the extremes of the network's own window do not. The same is done to a CT in HU.

    A uint8 image is taken for such a scaled one, or a part of it: 0 (or the level above padding) and 255 are its ends, whether
    a pixel reaches them or not.
    """
    if image.dtype == np.uint8:
        return max(valid[0], 0.0), 255.0
    x, y = (int(np.floor((first + last) / 2 + 0.5)) for first, last in ((box[0], box[2]), (box[1], box[3])))
    half = range_px // 2
    part = image[max(y - half, 0) : max(y + half, 0), max(x - half, 0) : max(x + half, 0)]
    present = _present(part, valid)
    values = part[present] if present.any() else part
    return float(values.min()), float(values.max())


def tissue_level(image: np.ndarray) -> int:
    """Lowest grey level above a scanner's padding in a slice that was scaled to 0..255, or a part of it; 0 without padding.

    Noise fills the levels from air upwards without a gap, so an empty range above the darkest level is that between padding and
    air: at -2000 HU and less, padding lies more than a tenth of the widest range below. It may lie beside the part.

    Parameters
    ----------
    image : ndarray, uint8, shape (H, W)
    """
    above = image[image > 2]  # near-lossless coding moves level 0 by a little
    lowest = int(above.min()) if above.size else 0
    return lowest if lowest >= 30 else 0


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
