"""The strip below a map that says what the picture shows: kind of map, classes, probabilities, scale, disclaimer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER, INK, FAINT = (16, 18, 22), (236, 238, 242), (172, 178, 188)
FRAME = (90, 94, 102)
DISCLAIMER = "Research use, not for primary diagnosis."


@dataclass(frozen=True)
class Entry:
    """One swatch: a ramp of colours from weak to strong response, and what it means."""

    ramp: tuple[tuple[int, int, int], ...]
    """Colours met from left to right, evenly spaced."""
    text: str


def wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Break `text` into lines no wider than `width` px: at spaces, inside a word only where it alone is too wide."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and font.getlength(f"{line} {word}") <= width:
            line = f"{line} {word}"
            continue
        if line:
            lines.append(line)
        while len(word) > 1 and font.getlength(word) > width:
            fits = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or font.getlength(word[:n]) <= width)
            lines.append(word[:fits])
            word = word[fits:]
        line = word
    return [*lines, line] if line else lines


def ramp(colors: Sequence[tuple[int, int, int]], width: int, height: int) -> Image.Image:
    """A swatch that runs through `colors`."""
    at = np.linspace(0, len(colors) - 1, width)
    row = np.stack([np.interp(at, np.arange(len(colors)), channel) for channel in np.asarray(colors, float).T], axis=-1)
    return Image.fromarray(np.repeat(row[None].round().astype(np.uint8), height, axis=0))


def strip(title: str, entries: Sequence[Entry], notes: Sequence[str], *, width: int, text_px: int) -> Image.Image:
    """Draw the legend.

    Entries share a row where two fit side by side; every text is wrapped, so nothing is cut off.

    Parameters
    ----------
    title : str
        Kind of map.
    entries : sequence of Entry
    notes : sequence of str
        Scale, rule and start, warnings: one paragraph each. The disclaimer is added.
    width : int
        Of the strip, px; its height follows from the text.
    text_px : int
        Size of the text.
    """
    font = cast(ImageFont.FreeTypeFont, ImageFont.load_default(size=text_px))
    margin, line_px, swatch = text_px, round(1.35 * text_px), (3 * text_px, round(0.85 * text_px))
    indent = swatch[0] + margin // 2
    full = width - 2 * margin
    half = (full - margin) // 2
    pairs = len(entries) > 1 and all(font.getlength(entry.text) <= half - indent for entry in entries)
    column = half if pairs else full

    marks: list[tuple[int, int, str, tuple[int, int, int]]] = []
    swatches: list[tuple[int, int, Entry]] = []
    y = margin
    for line in wrap(title, font, full):
        marks.append((margin, y, line, INK))
        y += line_px
    y += line_px // 3
    step = 2 if pairs else 1
    for row in range(0, len(entries), step):
        tallest = 0
        for place, entry in enumerate(entries[row : row + step]):
            x = margin + place * (column + margin)
            lines = wrap(entry.text, font, column - indent)
            swatches.append((x, y, entry))
            marks.extend((x + indent, y + k * line_px, line, INK) for k, line in enumerate(lines))
            tallest = max(tallest, len(lines), 1)
        y += tallest * line_px
    y += line_px // 3
    for note in (*notes, DISCLAIMER):
        for line in wrap(note, font, full):
            marks.append((margin, y, line, INK if note == DISCLAIMER else FAINT))
            y += line_px
    image = Image.new("RGB", (width, y + margin), PAPER)
    draw = ImageDraw.Draw(image)
    offset = round(0.22 * text_px)
    for x, top, entry in swatches:
        image.paste(ramp(entry.ramp, *swatch), (x, top + offset))
        draw.rectangle((x, top + offset, x + swatch[0] - 1, top + offset + swatch[1] - 1), outline=FRAME)
    for x, top, line, ink in marks:
        draw.text((x, top), line, fill=ink, font=font)
    return image
