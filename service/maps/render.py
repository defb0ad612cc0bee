"""Response maps as pictures: bare on black or over the image they explain, with a legend.

Brightness V (or opacity, over an image) is the square root of the response divided by a scale and clipped to 0..1. (Ours:
the thesis draws V linear in the response. Guided maps have heavy tails: a lesion's response is often a tenth of the
image's largest and would be drawn black.) Two scales: `per_image`, the 99.9th percentile of the finding's positive
dominant response (for a nodule over all its slices, so that they compare), and `per_model`, the reference of the bundle,
which makes the pictures of two patients comparable. All kinds of map share the scale, so a weak class looks weak beside a
strong one.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, PngImagePlugin

from service.errors import NotFound
from service.maps.clear import class_correlation, class_of, dominant, positive_maximum, scale_per_image, two_sided
from service.maps.legend import DISCLAIMER, Entry, strip
from service.records import ResponseMap

Scale = Literal["per_image", "per_model"]
Color = tuple[int, int, int]

MOST_CLASSES = 10
"""Thesis 6.1.1: with more classes the most probable ten keep their colours, the rest is "other"."""
OTHER: Color = (150, 150, 150)
HOT: Color = (255, 96, 0)
AGAINST: Color = (0, 159, 140)
"""Two-sided map: orange for the chosen class, bluish green for the rest. They differ along blue-yellow, too, and so
stay apart in red-green colour blindness; where both respond the sum is pale yellow."""
NEGATIVE: tuple[Color, Color] = ((165, 180, 255), (255, 226, 120))
"""Pale blue and pale yellow: negative responses take the one further from the class's own colour."""
BLACK: Color = (0, 0, 0)
LEGEND_WIDTH_PX = 360


def png(
    maps: ResponseMap,
    kind: str,
    colors: np.ndarray,
    labels: Sequence[str],
    *,
    overlay: float | None,
    scale: Scale,
    legend: bool,
    slice_index: int | None,
    size: int = 768,
) -> bytes:
    """Draw one map.

    Parameters
    ----------
    maps : ResponseMap
    kind : str
        ``clear``: palette colour of the dominant class (eq. 5.6: H = class, S = 1, V = strength). ``class-<name>``:
        positive response in the class's colour, negative in a pale contrasting one. ``two-sided``: the most probable
        class in orange (`HOT`) against the strongest of all others in bluish green (`AGAINST`): colour-blind safe
        stand-ins for the thesis' hot / green.
    colors : ndarray, uint8, shape (N, 3)
        The bundle's palette.
    labels : sequence of str
        Names of the classes for people, in the order of the palette.
    overlay : float or None
        Opacity 0..1 of the map over the image: ``(1 - overlay) * image + overlay * ((1 - V) * grey + V * colour)``. So
        anatomy without evidence stays visible, and a photograph fades to its luminance (ours: an orange class cannot
        be seen on an orange retina); a grey image keeps ``(1 - overlay * V) * image + overlay * V * colour``. None: the
        bare map on black.
    scale : "per_image" or "per_model"
    legend : bool
        Add the legend below the picture.
    slice_index : int or None
        None: the slice with the peak.
    size : int
        Longer side of the picture without the legend, px.

    Returns
    -------
    bytes
        PNG; its text chunks repeat kind, scale, scale maximum, rule, start and the disclaimer.

    Raises
    ------
    NotFound
        When there is no map of this kind or no such slice.
    ValueError
        When the scale is unknown or the opacity is not in 0..1.
    """
    view = _view(maps, kind, colors, labels, scale, slice_index)
    if overlay is not None and not 0 <= overlay <= 1:
        raise ValueError(f"overlay {overlay} is not in 0..1")
    background = maps.background[view.at]
    zoom = size / max(background.shape[:2])
    shape = (max(1, round(background.shape[1] * zoom)), max(1, round(background.shape[0] * zoom)))
    color, value = _painted(view, shape)
    if overlay is None:
        picture = color * value[..., None]
    else:
        below = Image.fromarray(background).convert("RGB").resize(shape, Image.Resampling.BICUBIC)
        grey = np.asarray(below.convert("L"), np.float32)[..., None]
        full = (1 - value[..., None]) * grey + value[..., None] * color
        picture = (1 - overlay) * np.asarray(below, np.float32) + overlay * full
    image = Image.fromarray(np.rint(np.clip(picture, 0, 255)).astype(np.uint8))
    if legend:
        image = _with_legend(image, _legend(view, max(image.width, LEGEND_WIDTH_PX)))
    info = PngImagePlugin.PngInfo()
    said = {
        "kind": kind,
        "scale": scale,
        "scale maximum": f"{view.top:.6g}",
        "rule": maps.rule,
        "start": maps.start,
        "Disclaimer": DISCLAIMER,
    }
    for key, text in said.items():
        info.add_text(key, text)
    stream = io.BytesIO()
    image.save(stream, "PNG", pnginfo=info, compress_level=4)
    return stream.getvalue()


@dataclass(frozen=True)
class _View:
    """What one picture shows: a kind of map of one slice at one scale."""

    maps: ResponseMap
    kind: str
    at: int
    chosen: int | None
    """Class of a ``class-<name>`` map."""
    palette: np.ndarray
    labels: Sequence[str]
    scale: Scale
    top: float
    """Response that is drawn at full strength."""

    @property
    def response(self) -> np.ndarray:
        """float32, shape (N, H, W)."""
        return np.asarray(self.maps.response[self.at])


def _view(
    maps: ResponseMap, kind: str, colors: np.ndarray, labels: Sequence[str], scale: Scale, slice_index: int | None
) -> _View:
    chosen = class_of(kind, maps.classes)
    at = maps.peak_slice if slice_index is None else slice_index
    if not 0 <= at < len(maps.response):
        raise NotFound(f"there is no slice {at}; this finding has slices 0 to {len(maps.response) - 1}")
    palette = np.array(colors, np.uint8)
    if chosen is None:
        palette[_ranked(maps.probabilities)[MOST_CLASSES:]] = OTHER
    if scale == "per_model":
        top = float(maps.reference)
    elif scale == "per_image":  # without any positive response the largest magnitude, at last 1
        top = scale_per_image(maps.response) or float(np.abs(maps.response).max()) or 1.0
    else:
        raise ValueError(f"scale {scale!r} is neither 'per_image' nor 'per_model'")
    return _View(maps, kind, at, chosen, palette, labels, scale, top)


def _ranked(probabilities: np.ndarray) -> np.ndarray:
    """Classes from most to least probable; equals keep their order."""
    return np.argsort(-np.asarray(probabilities, np.float64), kind="stable")


def _smooth(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bilinear resize of a float map to (width, height)."""
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(shape, Image.Resampling.BILINEAR))


def _brightness(response: np.ndarray, top: float) -> np.ndarray:
    """Signed V, -1..1: the square root of the share of the scale."""
    share = np.clip(response / top, -1, 1)
    return np.asarray(np.sign(share) * np.sqrt(np.abs(share)))


def _painted(view: _View, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Colours, float32 (h, w, 3) in 0..255, and strengths, float32 (h, w) in 0..1."""
    if view.chosen is not None:
        signed = _smooth(_brightness(view.response[view.chosen], view.top), shape)
        own = view.palette[view.chosen]
        return np.array([own, _negative(own)], np.float32)[(signed < 0).astype(np.intp)], np.abs(signed)
    if view.kind == "clear":  # classes by nearest neighbour, so that colours never mix
        index, strength = dominant(view.response)
        nearest = np.asarray(Image.fromarray((index + 1).astype(np.uint8)).resize(shape, Image.Resampling.NEAREST))
        value = np.where(nearest > 0, _smooth(_brightness(strength, view.top), shape), 0)
        return np.concatenate([[BLACK], view.palette]).astype(np.float32)[nearest], value
    parts = two_sided(view.response, int(np.argmax(view.maps.probabilities)))
    hot, other = (_smooth(_brightness(part, view.top), shape) for part in parts)
    value = np.maximum(hot, other)
    total = hot[..., None] * np.array(HOT, np.float32) + other[..., None] * np.array(AGAINST, np.float32)
    return np.minimum(total / np.maximum(value, 1e-12)[..., None], 255), value


def _negative(color: np.ndarray) -> Color:
    return max(NEGATIVE, key=lambda pale: float(np.square(np.subtract(pale, color, dtype=float)).sum()))


def _entries(view: _View) -> tuple[str, list[Entry]]:
    """Title and swatches."""
    p, labels = view.maps.probabilities, view.labels
    color: list[Color] = [(int(r), int(g), int(b)) for r, g, b in view.palette]
    if view.chosen is not None:
        label = labels[view.chosen]
        ramp = (_negative(view.palette[view.chosen]), BLACK, color[view.chosen])
        entry = Entry(ramp, f"left: speaks against {label}, right: speaks for it")
        return f"Response map of one class: {label} (probability {p[view.chosen]:.2f})", [entry]
    order = _ranked(p)
    if view.kind == "two-sided":
        entries = [
            Entry((BLACK, HOT), f"{labels[order[0]]}: {p[order[0]]:.2f}"),
            Entry((BLACK, AGAINST), f"strongest of the others: {p[order[1:]].sum():.2f} together"),
        ]
        return "Two-sided map: the most probable class against all others; numbers are probabilities", entries
    entries = [Entry((BLACK, color[c]), f"{labels[c]}: {p[c]:.2f}") for c in sorted(order[:MOST_CLASSES])]
    if rest := len(order[MOST_CLASSES:]):
        entries.append(Entry((BLACK, OTHER), f"other ({rest} classes): {p[order[MOST_CLASSES:]].sum():.2f}"))
    title = "CLEAR map: colour = class with the strongest response, intensity = its strength; numbers are probabilities"
    return title, entries


def _digits(value: float) -> str:
    """Three significant digits, thousands without an exponent."""
    return f"{float(f'{value:.3g}'):g}"


def _notes(view: _View) -> list[str]:
    """What has to be known to read the picture: scale, rule and start, and what is odd about this one."""
    top, maps = view.top, view.maps
    signed = view.chosen is not None
    shown = view.response[view.chosen] if view.chosen is not None else view.response
    strongest = float(np.abs(shown).max()) if signed else positive_maximum(shown)
    several = len(maps.response) > 1
    notes = []
    if positive_maximum(shown) == 0:
        notes.append(f"No positive response{' of this class' if signed else ''}{' in this slice' if several else ''}.")
    own = f"these {len(maps.response)} slices" if several else "this image"
    whose = own if view.scale == "per_image" else "the same for all images"
    over = f"; the strongest here, {_digits(strongest)}, is drawn as the limit" if strongest > top * (1 + 1e-6) else ""
    if strongest > 0:
        notes.append(
            f"Scale: {f'-{_digits(top)}' if signed else '0'} .. {_digits(top)} ({whose}), brightness by square root{over}"
        )
    if maps.start == "class" and (alike := class_correlation(view.response)) is not None:
        notes.append(f"Correlation of the classes' maps: {alike:.2f} (1 = the map says nothing about the class)")
    place = f"; slice {view.at + 1} of {len(maps.response)}" if several else ""
    notes.append(f"Rule {maps.rule}, start {maps.start}{place}")
    return notes


def _legend(view: _View, width: int) -> Image.Image:
    title, entries = _entries(view)
    return strip(title, entries, _notes(view), width=width, text_px=max(14, round(width / 44)))


def _with_legend(picture: Image.Image, below: Image.Image) -> Image.Image:
    """The picture, centred, on top of its legend."""
    sheet = Image.new("RGB", (below.width, picture.height + below.height))
    sheet.paste(picture, ((below.width - picture.width) // 2, 0))
    sheet.paste(below, (0, picture.height))
    return sheet
