"""Pictures that state a result for people who see nothing but pictures: a title, facts, the map with its legend, or words alone.

Every text is wrapped to its column and every column is as tall as its text needs: nothing is cut off, nothing overlaps.
Nothing in here knows patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from PIL import Image, ImageDraw, ImageFont

from service.maps.legend import FAINT, INK, PAPER, wrap

WIDTH, LEAST_HEIGHT = 1024, 576
MARGIN = 20
WARNING = "Research use only. Not for primary diagnosis."
AMBER = (255, 196, 84)
BAR = (34, 38, 46)
TITLE_PX, WARNING_PX, TEXT_PX, STRONG_PX = 28, 20, 17, 21


@dataclass(frozen=True)
class Line:
    """One paragraph of a column."""

    text: str
    strong: bool = False
    """Larger and brighter: what the reader must not miss."""
    gap: bool = False
    """Leave a space above."""


def column(lines: Sequence[Line], width: int) -> Image.Image:
    """Draw paragraphs one below the other, `width` px wide and as tall as they need."""
    marks: list[tuple[int, str, int, tuple[int, int, int]]] = []
    y = 0
    for line in lines:
        size, ink = (STRONG_PX, INK) if line.strong else (TEXT_PX, FAINT)
        y += size if line.gap and marks else 0
        for part in wrap(line.text, _font(size), width):
            marks.append((y, part, size, ink))
            y += round(1.32 * size)
        y += size // 4
    image = Image.new("RGB", (width, max(1, y)), PAPER)
    draw = ImageDraw.Draw(image)
    for top, part, size, ink in marks:
        draw.text((0, top), part, fill=ink, font=_font(size))
    return image


def captioned(
    picture: Image.Image, text: str, letters: tuple[str, str] = ("", ""), height: int | None = None
) -> Image.Image:
    """A picture with a line of text above it, and letters for the directions at its left and its upper border.

    `height` is that of the part of the picture that shows anatomy: all of it unless a legend follows below.
    """
    words = column([Line(text)], picture.width)
    image = Image.new("RGB", (picture.width, words.height + picture.height), PAPER)
    image.paste(words, (0, 0))
    image.paste(picture, (0, words.height))
    draw = ImageDraw.Draw(image)
    middle = words.height + (height or picture.height) // 2
    for letter, (x, y, anchor) in zip(
        letters, ((6, middle, "lm"), (picture.width // 2, words.height + 5, "mt")), strict=True
    ):
        draw.text((x, y), letter, fill=INK, font=_font(STRONG_PX), anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
    return image


def stacked(parts: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one width, one below the other, with a small space between."""
    space = MARGIN // 2
    height = sum(part.height for part in parts) + space * (len(parts) - 1)
    image = Image.new("RGB", (parts[0].width, height), PAPER)
    y = 0
    for part in parts:
        image.paste(part, (0, y))
        y += part.height + space
    return image


def sheet(title: str, columns: Sequence[Image.Image]) -> Image.Image:
    """The whole picture: a bar with title and warning, and columns below it from left to right.

    `WIDTH` px wide and at least `LEAST_HEIGHT` px tall.
    """
    font, small = _font(TITLE_PX), _font(WARNING_PX)
    lines = wrap(title, font, WIDTH - 2 * MARGIN)
    step = round(1.3 * TITLE_PX)
    bar = MARGIN + step * len(lines) + round(1.3 * WARNING_PX) + MARGIN // 2
    height = bar + MARGIN + max(part.height for part in columns) + MARGIN
    image = Image.new("RGB", (WIDTH, max(height, LEAST_HEIGHT)), PAPER)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, WIDTH, bar), fill=BAR)
    for k, line in enumerate(lines):
        draw.text((MARGIN, MARGIN // 2 + k * step), line, fill=INK, font=font)
    draw.text((MARGIN, MARGIN // 2 + len(lines) * step + 4), WARNING, fill=AMBER, font=small)
    x = MARGIN
    for part in columns:
        image.paste(part, (x, bar + MARGIN))
        x += part.width + MARGIN
    return image


def alike(sheets: Sequence[Image.Image]) -> list[Image.Image]:
    """The same pictures, all as tall as the tallest: frames of one object have one size."""
    height = max(image.height for image in sheets)
    filled = []
    for image in sheets:
        whole = Image.new("RGB", (image.width, height), PAPER)
        whole.paste(image, (0, 0))
        filled.append(whole)
    return filled


def _font(size: int) -> ImageFont.FreeTypeFont:
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size=size))
