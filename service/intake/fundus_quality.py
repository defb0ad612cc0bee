"""Is this a photograph of the retina, and is it good enough to be graded? Simple measures, each with a limit and advice.

The limits were set on one half of the patients of two camera families (IDRiD, EyePACS in natural colour) and measured on the
other, on photographs made worse in a known way and on pictures of other things: ``python -m training.retina.quality``, whose
figures are in ``docs/results/retina_quality.md``. A first gate against wrong, blurred, dark, bright, cut and spoilt
photographs, not a clinical gradability score.
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
LEAST_COLOURED, LEAST_WARM, MOST_VIVID, LEAST_DEPTH, MOST_GRAINY = 0.02, 0.1, 0.25, 1.6, 2.0
"""Share of what is lit whose channels differ by a tenth; the others limit `Measures`, the last one `sharpness`: only grain."""
MOST_RED_CONTRAST = 5.5
LEAST_SHARPNESS, LEAST_DETAIL, LEAST_BRIGHTNESS = 0.41, 0.7, 56.0
MOST_DARK, MOST_WASHED, MOST_CLIPPED, MOST_CUT_OFF, MOST_SHADOW, MOST_VEIL = 0.05, 0.087, 0.44, 0.17, 0.13, 0.078
LEAST_READABLE = 0.1
"""Share of the field that is neither black nor clipped, from which on its colours tell what it is."""
SHADOW, GLOW, VEILED = 0.4, 1.3, 0.7
"""Of the upper quartile of the light, of its median, and of the median of the local contrast: see `Measures`."""
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
    "artefact": "shadows or stray light hide a part of the retina",
}
_RETAKE = {
    "not_a_fundus": "Send the camera's own colour photograph, with the dark border round its field.",
    "out_of_focus": "Refocus on the vessels, clean the lens, and take the photograph again.",
    "too_dark": "Raise the flash or widen the pupil, and take the photograph again.",
    "too_bright": "Lower the flash, check the distance to the eye, and take the photograph again.",
    "field_cut_off": "Centre the eye, and send the photograph without cropping it.",
    "artefact": "Open the lids wide, clean the lens, centre the pupil at the right distance, and take the photograph again.",
}


@dataclass(frozen=True)
class Measures:
    """What was measured inside the field; shares are of its area.

    Attributes
    ----------
    readable : float
        Share that is neither black nor clipped in any channel: what `warm`, `vivid` and `depth` look at.
    warm : float
        Share of these pixels with red a tenth above blue and not below green.
    vivid : float
        Share of these pixels with blue or green 1.6 times the red: a retina has none.
    depth : float
        Spread of colours among pixels of equal brightness, in percent of the brightness. A grey image, or one drawn from
        grey values with a colour table, has none: there is one number a pixel in it.
    red_contrast : float
        Standard deviation of red details of 0.5 to 2 % of the field's diameter, in percent of the red round them. Red light
        shines through the vessels, so a retina is smooth in it; other pictures, and tables of many colours, are not.
    sharpness : float
        Standard deviation of details below 1 % of the field's diameter by that of details of 1 to 3 %, green channel.
    detail : float
        Median of the local standard deviation of green details of 0.5 to 2 %, in percent of the green round them: vessels.
    brightness : float
        Median of the brightest channel, 0..255.
    dark, washed, clipped : float
        Share whose brightest channel is below 30; whose red is above 250 and green above 200; whose red is above 250.
    shadow : float
        Share with less than 0.4 of the upper quartile of the light: shadow of an iris, a lid, lashes.
    veil : float
        Share with more than 1.3 times the median of the light and less than 0.7 of the median of the local contrast: stray
        light, where a retina that is bright by itself shows its vessels.
    """

    readable: float
    warm: float
    vivid: float
    depth: float
    red_contrast: float
    sharpness: float
    detail: float
    brightness: float
    dark: float
    washed: float
    clipped: float
    shadow: float
    veil: float


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
        Codes: not_a_fundus (alone), too_dark, too_bright, field_cut_off, out_of_focus, artefact.
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
    if not _is_retina(found, overexposed < 0.5):
        return _refused("not_a_fundus", "its colours are not those of a retina")
    judged = {
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
    if found.washed <= 0.5:  # on white there is nothing to focus on, and no shadow
        limits = f"at least {LEAST_SHARPNESS}; contrast of the vessels {found.detail:.1f} %, at least {LEAST_DETAIL}"
        judged["out_of_focus"] = (
            min(_at_least(found.sharpness, LEAST_SHARPNESS), _at_least(found.detail, LEAST_DETAIL)),
            f"sharpness {found.sharpness:.2f}, {limits}",
        )
        if judged["too_dark"][0] >= 0.5:  # else the shadow is all of it
            judged["artefact"] = (
                min(_at_most(found.shadow, MOST_SHADOW), _at_most(found.veil, MOST_VEIL)),
                f"{_percent(found.shadow, MOST_SHADOW)} in shadow, {_percent(found.veil, MOST_VEIL)} behind stray light",
            )
    reasons = tuple(_reason(code, text) for code, (score, text) in judged.items() if score < 0.5)
    return Quality(not reasons, round(min(shape, *(score for score, _ in judged.values())), 3), reasons)


def _is_retina(found: Measures, overexposed: bool) -> bool:
    """Whether colours and contrasts may be those of a retina. Where hardly a pixel is readable, they cannot tell."""
    if found.red_contrast > MOST_RED_CONTRAST:
        return False
    if found.readable < LEAST_READABLE:
        return True
    flat = found.depth < LEAST_DEPTH and not overexposed
    if flat or found.sharpness > MOST_GRAINY:
        return False
    return found.warm >= LEAST_WARM and found.vivid <= MOST_VIVID


def measure(photograph: np.ndarray, field: circle.Circle) -> Measures:
    """Measure inside 90 % of the field's radius."""
    square, inside = _square(photograph, field)
    if not inside.any():
        inside = np.ones_like(inside)
    pixels = square[inside]
    brightest = pixels.max(axis=1)
    dark = brightest < 30
    readable = pixels[~dark & (brightest <= 250)]
    red, green, blue = (readable if len(readable) else np.zeros((1, 3), np.float32)).T
    smooth, smoother = (_gauss(square[:, :, 1], inside, sigma) for sigma in (2.0, 8.0))
    fine, coarse = (square[:, :, 1] - smooth)[inside], (smooth - smoother)[inside]
    contrast = _contrast(square[:, :, 1], inside)
    local = np.sqrt(_gauss(contrast**2, inside, 8.0))
    light = _gauss(square.max(axis=2), inside, 8.0)
    lit, detail = light[inside], float(np.median(local[inside]))
    veiled = (lit > GLOW * np.median(lit)) & (local[inside] < VEILED * detail)
    return Measures(
        readable=len(readable) / len(pixels),
        warm=float(((red > 1.1 * blue) & (red >= green)).mean()),
        vivid=float((np.maximum(green, blue) > 1.6 * red).mean()),
        depth=_depth(np.stack([red, green, blue], axis=1)),
        red_contrast=float(_contrast(square[:, :, 0], inside)[inside].std()),
        sharpness=float(fine.std() / max(float(coarse.std()), 0.1)),
        detail=detail,
        brightness=float(np.median(brightest)),
        dark=float(dark.mean()),
        washed=float(((pixels[:, 0] > 250) & (pixels[:, 1] > 200)).mean()),
        clipped=float((pixels[:, 0] > 250).mean()),
        shadow=float((lit < SHADOW * np.quantile(lit, 0.75)).mean()),
        veil=float(veiled.mean()),
    )


def _contrast(channel: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Details of 0.5 to 2 % of the diameter (difference of Gaussians of 1 and 4 px), percent of what is round them."""
    fine, coarse, level = (_gauss(channel, inside, sigma) for sigma in (1.0, 4.0, 8.0))
    return np.asarray(100 * (fine - coarse) / np.maximum(level, 5.0))


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
