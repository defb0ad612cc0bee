"""Photographs in PNG, JPEG and TIFF: header and pixels with Pillow, after `containers` has checked the sizes. Child only."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from service.errors import InputError, OutOfContract, TooLarge
from service.intake import containers
from service.intake.damage import reading
from service.intake.limits import Limits

warnings.simplefilter("ignore")  # Pillow warns of odd metadata, which is never used

_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF Orientation (CIPA DC-008 4.6.4) to what makes the photograph upright."""

_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")


def inspect(stream: BinaryIO, kind: str, limits: Limits) -> dict[str, Any]:
    """Header of a photograph: rows and columns as displayed (orientation applied), samples, bits, frames."""
    image, frames, orientation = _open(stream, kind, limits)
    with image:
        columns, rows = image.size if orientation < 5 else image.size[::-1]
        grey = image.mode in _GREY
        bits = 16 if image.mode.startswith("I;16") else 8
        return {
            "media": "photograph",
            "rows": rows,
            "columns": columns,
            "samples": 1 if grey else 3,
            "bits": bits,
            "frames": frames,
            "photometric": "MONOCHROME2" if grey else "RGB",
        }


def photograph(stream: BinaryIO, kind: str, longest_px: int, limits: Limits) -> np.ndarray:
    """Pixels as uint8 RGB, shape (h, w, 3), upright, the longer side at most `longest_px`."""
    image, frames, orientation = _open(stream, kind, limits)
    with image:
        _check_single(frames)
        image.draft(
            "RGB", (longest_px, longest_px)
        )  # JPEG only: decode at 1/2, 1/4 or 1/8 where that is still large enough
        _load(image, limits)
        small = _shrink(image, longest_px)
    return np.asarray(small.transpose(_ORIENTATIONS[orientation]) if orientation in _ORIENTATIONS else small)


def dicom_jpeg(encoded: BinaryIO, photometric: str, longest_px: int, limits: Limits) -> np.ndarray:
    """Like `photograph` for the 8-bit JPEG frame of a DICOM instance, whose EXIF data has no meaning.

    The stream's own colour markers (JFIF, Adobe) decide the colour space; without any, Photometric Interpretation does
    (PS3.5 8.2.1).
    """
    image, _, _ = _open(encoded, "jpeg", limits)
    with image:
        unmarked_rgb = photometric == "RGB" and "adobe_transform" not in image.info and "jfif" not in image.info
        image.draft("YCbCr" if unmarked_rgb else "RGB", (longest_px, longest_px))
        _load(image, limits)
        if unmarked_rgb and image.mode == "YCbCr":
            image = Image.frombytes("RGB", image.size, image.tobytes())
        return np.asarray(_shrink(image, longest_px))


def grey(stream: BinaryIO, kind: str, limits: Limits) -> np.ndarray:
    """Grey values as float32, shape (rows, columns), upright."""
    image, frames, orientation = _open(stream, kind, limits)
    with image:
        _check_single(frames)
        if image.mode != "L" and not image.mode.startswith("I;16"):
            raise OutOfContract(
                f"a grey image of 8 or 16 bits is needed; this one is stored as {image.mode}: save it as grey"
            )
        if image.width * image.height > limits.slice_pixels:
            raise TooLarge(
                f"the image has {image.width} x {image.height} px; at most {limits.slice_pixels} are accepted for a grey image"
            )
        _load(image, limits)
        upright = image.transpose(_ORIENTATIONS[orientation]) if orientation in _ORIENTATIONS else image
    return np.asarray(upright).astype(np.float32)


def shrink(width: int, height: int, longest_px: int, strip: Callable[[int, int], Image.Image]) -> Image.Image:
    """Scale an image down so that the longer side is at most `longest_px`.

    Parameters
    ----------
    width, height, longest_px : int
    strip : callable
        (first row, row after the last) to an RGB image of these rows. A large image goes strip by strip, so that no second
        full copy of it is held.
    """
    longer = max(width, height)
    factor = max(1, longer // longest_px)
    step = factor * max(1, 512 // factor) if factor > 1 else height
    strips = [strip(y, min(y + step, height)).reduce(factor) for y in range(0, height, step)]
    reduced = Image.fromarray(np.concatenate([np.asarray(part) for part in strips])) if len(strips) > 1 else strips[0]
    if longer <= longest_px:
        return reduced
    size = (max(1, round(width * longest_px / longer)), max(1, round(height * longest_px / longer)))
    return reduced.resize(size, Image.Resampling.LANCZOS, box=(0, 0, width / factor, height / factor))


def _shrink(image: Image.Image, longest_px: int) -> Image.Image:
    return shrink(*image.size, longest_px, lambda top, end: _rgb(image.crop((0, top, image.width, end))))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise OutOfContract("the image has 32 bits a sample; save it with 8 or 16 bits")
    return image.convert("RGB")


def _open(stream: BinaryIO, kind: str, limits: Limits) -> tuple[Image.Image, int, int]:
    """The image, not yet decoded; frames; EXIF orientation 1..8 that is still to be applied."""
    found = containers.check(kind, stream, stream.seek(0, os.SEEK_END), limits)
    Image.MAX_IMAGE_PIXELS = limits.pixels
    with _reading(f"the {kind.upper()} cannot be read: it is damaged or of an unusual variant; save it again", limits):
        image = Image.open(stream, formats=(kind.upper(),))
        orientation = _orientation(image, kind)
    if sorted(image.size) != sorted((found.width, found.height)):
        raise InputError(f"the {kind.upper()} states two different sizes: it is damaged; save it again")
    return image, found.frames, orientation


def _orientation(image: Image.Image, kind: str) -> int:
    """EXIF orientation; 1 where there is none. Pillow turns a TIFF by itself, and would decode a PNG to look for more."""
    if kind == "tiff" or (kind == "png" and "exif" not in image.info):
        return 1
    value = image.getexif().get(0x0112, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _check_single(frames: int) -> None:
    if frames != 1:
        raise OutOfContract("the file holds several pages or an animation; save one photograph a file")


def _load(image: Image.Image, limits: Limits) -> None:
    with _reading(
        f"the {image.format or 'image'} is damaged or incomplete: its pixels cannot be decoded; send it again", limits
    ):
        image.load()


@contextmanager
def _reading(detail: str, limits: Limits) -> Iterator[None]:
    try:
        with reading(detail):
            yield
    except InputError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise TooLarge(f"the image has more than the {limits.pixels} pixels that are accepted") from error
        raise
