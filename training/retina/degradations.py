"""Photographs of the retina made worse in a known way, to a known strength. Lengths are in radii of the field."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from service.intake.circle import Circle

STRAY_LIGHT, VEIL = np.array([215, 230, 195], np.float32), np.array([150, 140, 125], np.float32)
"""Colours of a crescent of stray light and of haze, RGB."""

Degradation = Callable[[np.ndarray, Circle, float, np.random.Generator], np.ndarray]


def _bytes(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _polar(photograph: np.ndarray, field: Circle) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X and y about the centre of the field, and the distance from it."""
    rows, columns = np.mgrid[0 : photograph.shape[0], 0 : photograph.shape[1]]
    x, y = (columns - field.x) / field.radius, (rows - field.y) / field.radius
    return x, y, np.hypot(x, y)


def blur(photograph: np.ndarray, field: Circle, sigma: float, _: np.random.Generator) -> np.ndarray:
    """Out of focus: Gaussian blur."""
    return np.asarray(Image.fromarray(photograph).filter(ImageFilter.GaussianBlur(sigma * field.radius)))


def motion(photograph: np.ndarray, field: Circle, length: float, _: np.random.Generator) -> np.ndarray:
    """The eye moved sideways during the exposure: mean over `length`."""
    steps = max(2, round(length * field.radius))
    padded = np.pad(photograph, ((0, 0), (steps, 0), (0, 0)), mode="edge").astype(np.float32)
    total = np.cumsum(padded, axis=1, dtype=np.float64)
    return _bytes((total[:, steps:] - total[:, :-steps]) / steps)


def gain(photograph: np.ndarray, _: Circle, factor: float, __: np.random.Generator) -> np.ndarray:
    """Less or more light, clipped at 255."""
    return _bytes(photograph * np.float32(factor))


def cut(photograph: np.ndarray, field: Circle, share: float, _: np.random.Generator) -> np.ndarray:
    """Cropped on the left so that the share of the diameter is gone."""
    return photograph[:, max(0, round(field.x + (2 * share - 1) * field.radius)) :]


def crescent(photograph: np.ndarray, field: Circle, depth: float, random: np.random.Generator) -> np.ndarray:
    """Stray light from one side, as deep as `depth` of the diameter, where it hides nine tenths of what is there."""
    x, y, distance = _polar(photograph, field)
    angle = random.uniform(0, 2 * np.pi)
    inwards = np.hypot(x - np.cos(angle), y - np.sin(angle)) / (2 * depth)
    weight = (0.9 * np.clip(1.6 - 1.2 * inwards, 0, 1) * (distance < 1)).astype(np.float32)[:, :, None]
    return _bytes(photograph * (1 - weight) + weight * STRAY_LIGHT)


def haze(photograph: np.ndarray, field: Circle, weight: float, _: np.random.Generator) -> np.ndarray:
    """Grey light over the whole field: `weight` of the mixture."""
    inside = (_polar(photograph, field)[2] < 1)[:, :, None]
    return np.where(inside, _bytes(photograph * (1 - weight) + weight * VEIL), photograph)


def shadow(photograph: np.ndarray, field: Circle, radius: float, random: np.random.Generator) -> np.ndarray:
    """A soft round shadow of an iris or a lens, a tenth of the light in its middle, somewhere near the centre."""
    x, y = _polar(photograph, field)[:2]
    centre_x, centre_y = random.uniform(-0.4, 0.4, 2)
    distance = np.hypot(x - centre_x, y - centre_y) / radius
    return _bytes(photograph * (1 - 0.9 * np.clip(2.5 - 2 * distance, 0, 1))[:, :, None])


def lid(photograph: np.ndarray, field: Circle, depth: float, _: np.random.Generator) -> np.ndarray:
    """The upper lid's soft shadow, down to `depth` of the diameter; a tenth of the light is left."""
    y = _polar(photograph, field)[1]
    return _bytes(photograph * (1 - 0.9 * np.clip((2 * depth - 1 - y) / 0.2 + 0.5, 0, 1))[:, :, None])


def lashes(photograph: np.ndarray, field: Circle, count: float, random: np.random.Generator) -> np.ndarray:
    """Soft dark strokes of lashes from below, half the radius long; a fifth of the light is left."""
    height, width = photograph.shape[:2]
    drawn = Image.new("L", (width, height))
    pen = ImageDraw.Draw(drawn)
    for x in random.uniform(-0.7, 0.7, round(count)):
        start = field.x + x * field.radius
        end = start + random.uniform(-0.2, 0.2) * field.radius
        bottom = min(field.y + field.radius, height)
        pen.line([start, bottom, end, bottom - 0.6 * field.radius], fill=204, width=max(1, round(0.04 * field.radius)))
    weight = np.asarray(drawn.filter(ImageFilter.GaussianBlur(0.02 * field.radius)), np.float32)[:, :, None] / 255
    return _bytes(photograph * (1 - weight))


def jpeg(photograph: np.ndarray, _: Circle, quality: float, __: np.random.Generator) -> np.ndarray:
    """Written as JPEG and read again."""
    stream = io.BytesIO()
    Image.fromarray(photograph).save(stream, "JPEG", quality=round(quality))
    return np.asarray(Image.open(stream).convert("RGB"))


DEGRADATIONS: dict[str, tuple[Degradation, tuple[float, ...], tuple[str, ...]]] = {
    "blur, sigma in radii": (blur, (0.005, 0.01, 0.015, 0.02, 0.03), ("out_of_focus",)),
    "motion blur, length in radii": (motion, (0.03, 0.06, 0.12), ("out_of_focus",)),
    "darker, times the light": (gain, (0.5, 0.3, 0.2, 0.1), ("too_dark",)),
    "brighter, times the light": (gain, (1.5, 2.0, 3.0, 5.0), ("too_bright",)),
    "cut off, share of the diameter": (cut, (0.15, 0.3, 0.4, 0.5), ("field_cut_off",)),
    "crescent of stray light, depth in diameters": (crescent, (0.2, 0.35, 0.5), ("artefact", "too_bright")),
    "haze, share of grey": (haze, (0.3, 0.6, 0.8), ("artefact", "out_of_focus")),
    "round shadow, radius in radii": (shadow, (0.2, 0.35, 0.5), ("artefact", "too_dark")),
    "shadow of the lid, depth in diameters": (lid, (0.15, 0.3, 0.5), ("artefact", "too_dark")),
    "lashes, strokes": (lashes, (5, 15, 30), ("artefact",)),
    "JPEG quality": (jpeg, (30, 10, 5), ("artefact", "out_of_focus")),
}
"""What is done, with which strengths, weakest first, and the codes that name it rightly."""


def degraded(
    photograph: np.ndarray, field: Circle, random: np.random.Generator
) -> Iterator[tuple[str, float, np.ndarray]]:
    """All degradations of one photograph: name, strength, pixels."""
    for name, (make, strengths, _) in DEGRADATIONS.items():
        for strength in strengths:
            yield name, strength, make(photograph, field, strength, random)
