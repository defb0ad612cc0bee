"""Is this a photograph of the retina, and is it good enough to be graded? Simple measures, each with a limit and advice.

The limits were set on photographs of two camera families (IDRiD, EyePACS in natural colour) so that almost none of them is
refused; the tests measure that. They are a first gate against wrong, blurred, dark, bright and cut photographs, not a
clinical gradability score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from service.intake import circle
from service.records import Quality

SIZE_PX = 256
"""Side of the square, cut round the field, on which everything is measured: figures don't depend on the camera's pixels."""
LEAST_ROUND, LEAST_DIAMETER, LEAST_DIAMETER_PX = 0.5, 0.5, 160
"""Share of the outline on a circle; diameter of the field in shorter sides of the photograph, and in pixels."""
LEAST_COLOURED, LEAST_WARM, MOST_VIVID, LEAST_DEPTH = 0.02, 0.1, 0.25, 1.6
"""Share of what is lit whose channels differ by a tenth; the others limit `Measures`."""
LEAST_SHARPNESS, LEAST_BRIGHTNESS = 0.42, 48.0
MOST_DARK, MOST_WASHED, MOST_CLIPPED, MOST_CUT_OFF = 0.25, 0.15, 0.5, 0.2
_LIT = 8
"""Brightness above which a pixel counts for `LEAST_COLOURED`."""
_BLACK = 60.0
"""With nine tenths of a photograph darker than this nothing can be said about what it shows."""

_MESSAGES = {
    "not_a_fundus": "this is not recognised as a colour photograph of the retina",
    "out_of_focus": "the retina is out of focus",
    "too_dark": "the photograph is too dark",
    "too_bright": "the photograph is overexposed",
    "field_cut_off": "too much of the round field is cut off",
}
_RETAKE = {
    "not_a_fundus": "Send the camera's own colour photograph, with the dark border round its field.",
    "out_of_focus": "Refocus on the vessels, clean the lens, and take the photograph again.",
    "too_dark": "Raise the flash or widen the pupil, and take the photograph again.",
    "too_bright": "Lower the flash, check the distance to the eye, and take the photograph again.",
    "field_cut_off": "Centre the eye, and send the photograph without cropping it.",
}


@dataclass(frozen=True)
class Measures:
    """What was measured inside the field; shares are of its area.

    Attributes
    ----------
    warm : float
        Share with red a tenth above blue and not below green, of the pixels that are neither black nor white.
    vivid : float
        Share with blue or green 1.6 times the red, of the same pixels: a retina has none.
    depth : float
        Spread of colours among pixels of equal brightness, in percent of the brightness. A grey image, or one drawn from
        grey values with a colour table, has none: there is one number a pixel in it.
    sharpness : float
        Standard deviation of details below 1 % of the field's diameter by that of details of 1 to 3 %, green channel.
    brightness : float
        Median of the brightest channel, 0..255.
    dark, washed, clipped : float
        Share whose brightest channel is below 30; whose red is above 250 and green above 200; whose red is above 250.
    """

    warm: float
    vivid: float
    depth: float
    sharpness: float
    brightness: float
    dark: float
    washed: float
    clipped: float


def assess(photograph: np.ndarray) -> Quality:
    """Judge one photograph.

    Parameters
    ----------
    photograph : ndarray, uint8, shape (h, w, 3)
        RGB, upright, any resolution.

    Returns
    -------
    Quality
        `gradable` exactly when no reason is given; `score` 0..1, at least 0.5 when gradable: the worst measure by its limit.
        Codes: not_a_fundus (alone), out_of_focus, too_dark, too_bright, field_cut_off.
    """
    step = max(1, min(photograph.shape[:2]) // 256)
    overview = photograph[::step, ::step].reshape(-1, 3).astype(np.int16)
    brightest, darkest = overview.max(axis=1), overview.min(axis=1)
    light = float(np.percentile(brightest, 90))
    lit = brightest > _LIT
    if lit.any() and float((10 * (brightest - darkest) > brightest)[lit].mean()) < LEAST_COLOURED:
        return _refused("not_a_fundus", "it is grey")
    field = circle.find(photograph)
    shape = 0.0 if field is None else _shape_score(field, min(photograph.shape[:2]))
    if field is None or shape < 0.5:
        if light < _BLACK:
            return _refused("too_dark", f"nine tenths of it are darker than {light:.0f} of 255")
        return _refused("not_a_fundus", "no round field on a dark border was found")
    found = measure(photograph, field)
    overexposed = min(_at_most(found.washed, MOST_WASHED), _at_most(found.clipped, MOST_CLIPPED))
    # Where most is white, or a channel is clipped, the colours no longer tell what it is: then it is overexposed.
    pale = found.warm < LEAST_WARM and found.washed <= 0.5
    flat = found.depth < LEAST_DEPTH and overexposed >= 0.5
    if pale or flat or found.vivid > MOST_VIVID:
        return _refused("not_a_fundus", "its colours are not those of a retina")
    judged = {
        "out_of_focus": (
            _at_least(found.sharpness, LEAST_SHARPNESS),
            f"sharpness {found.sharpness:.2f}, at least {LEAST_SHARPNESS}",
        ),
        "too_dark": (
            min(_at_least(found.brightness, LEAST_BRIGHTNESS), _at_most(found.dark, MOST_DARK)),
            f"brightness {found.brightness:.0f} of 255, at least {LEAST_BRIGHTNESS:.0f}; {_percent(found.dark, MOST_DARK)} black",
        ),
        "too_bright": (
            overexposed,
            f"{_percent(found.washed, MOST_WASHED)} white, red is clipped in {_percent(found.clipped, MOST_CLIPPED)}",
        ),
        "field_cut_off": (_at_most(field.cut_off, MOST_CUT_OFF), f"{_percent(field.cut_off, MOST_CUT_OFF)} missing"),
    }
    reasons = tuple(_reason(code, text) for code, (score, text) in judged.items() if score < 0.5)
    return Quality(not reasons, round(min(shape, *(score for score, _ in judged.values())), 3), reasons)


def measure(photograph: np.ndarray, field: circle.Circle) -> Measures:
    """Measure inside 90 % of the field's radius."""
    square, inside = _square(photograph, field)
    pixels = square[inside] if inside.any() else np.zeros((1, 3), np.float32)
    brightest = pixels.max(axis=1)
    dark, washed = brightest < 30, (pixels[:, 0] > 250) & (pixels[:, 1] > 200)
    coloured = pixels[~dark & ~washed]
    if len(coloured) < 0.01 * len(pixels):
        coloured = pixels
    red, green, blue = coloured.T
    smooth, smoother = (_gauss(square[:, :, 1], inside, sigma) for sigma in (2.0, 8.0))
    fine, coarse = (square[:, :, 1] - smooth)[inside], (smooth - smoother)[inside]
    return Measures(
        warm=float(((red > 1.1 * blue) & (red >= green)).mean()),
        vivid=float((np.maximum(green, blue) > 1.6 * red).mean()),
        depth=_depth(coloured),
        sharpness=float(fine.std() / max(float(coarse.std()), 0.1)) if inside.any() else 0.0,
        brightness=float(np.median(brightest)),
        dark=float(dark.mean()),
        washed=float(washed.mean()),
        clipped=float((pixels[:, 0] > 250).mean()),
    )


def _depth(pixels: np.ndarray) -> float:
    """Root mean square of the colour differences (red-green, green-blue, blue-red) about their mean at equal brightness."""
    total = pixels.sum(axis=1)
    bins = (total * (200 / max(float(total.max()), 1.0))).astype(int)
    count = np.maximum(np.bincount(bins), 1)
    squares = 0.0
    for difference in (pixels - np.roll(pixels, 1, axis=1)).T:
        mean = np.bincount(bins, difference) / count
        squares += float(((difference - mean[bins]) ** 2).mean())
    return 100 * float(np.sqrt(squares / 3)) / max(float(np.median(pixels.max(axis=1))), 1.0)


def _square(photograph: np.ndarray, field: circle.Circle) -> tuple[np.ndarray, np.ndarray]:
    """The field scaled to `SIZE_PX`, float32, and which pixels lie inside field and photograph."""
    height, width = photograph.shape[:2]
    left, top = round(field.x - field.radius), round(field.y - field.radius)
    side = max(1, round(2 * field.radius))
    cut = Image.fromarray(photograph).crop((left, top, left + side, top + side))
    square = np.asarray(cut.resize((SIZE_PX, SIZE_PX), Image.Resampling.LANCZOS, reducing_gap=3.0), np.float32)
    offset = (np.arange(SIZE_PX) + 0.5) / SIZE_PX
    columns, rows, margin = left + side * offset, top + side * offset, 0.01 * side
    tall, wide = (rows > margin) & (rows < height - margin), (columns > margin) & (columns < width - margin)
    disc = (2 * offset[:, None] - 1) ** 2 + (2 * offset[None] - 1) ** 2 < 0.9**2
    return square, tall[:, None] & wide[None] & disc


def _gauss(values: np.ndarray, inside: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur that takes only pixels of the mask into account (normalised convolution, Knutsson and Westin 1993)."""
    place = np.arange(len(values))
    kernel = np.exp(-0.5 * ((place[:, None] - place[None]) / sigma) ** 2).astype(np.float32)
    weight = kernel @ inside.astype(np.float32) @ kernel
    return np.asarray(kernel @ (values * inside) @ kernel / np.maximum(weight, 1e-6))


def _shape_score(field: circle.Circle, shorter_px: int) -> float:
    diameter = 2 * field.radius
    return min(
        _at_least(field.roundness, LEAST_ROUND),
        _at_least(diameter / shorter_px, LEAST_DIAMETER),
        _at_least(diameter, LEAST_DIAMETER_PX),
    )


def _at_least(value: float, limit: float) -> float:
    """0.5 at the limit, 1 at twice the limit."""
    return min(1.0, max(0.0, 0.5 * value / limit))


def _at_most(value: float, limit: float) -> float:
    """1 at zero, 0.5 at the limit."""
    return max(0.0, 1 - 0.5 * value / limit)


def _percent(value: float, limit: float) -> str:
    return f"{100 * value:.0f} % of the field (at most {100 * limit:.0f} %)"


def _reason(code: str, text: str) -> dict[str, str]:
    return {"code": code, "message": f"{_MESSAGES[code]}: {text}", "retake": _RETAKE[code]}


def _refused(code: str, text: str) -> Quality:
    return Quality(False, 0.0, (_reason(code, text),))
