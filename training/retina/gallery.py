"""Rightly and wrongly graded photographs of every grade with their CLEAR maps, as figure 5.9 of the thesis has them.

Chosen by rule: of IDRiD's official test photographs of each grade the one that was graded rightly with the largest
probability, and the one that was graded wrongly with the largest probability.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import label, maximum_filter, uniform_filter  # type: ignore[import-untyped]

from models.bundle import Bundle
from models.preprocessing import crop_square, fundus_field, fundus_square
from service.maps.clear import dominant
from service.maps.legend import FAINT, INK, PAPER, Entry, strip
from training.bundles import Model, today
from training.comparison import table
from training.data import shared_data
from training.retina.data import answered
from training.retina.figures import clear_map
from training.retina.lesions import PIXELS

PANEL = 304
BAND = 0.08
"""Of a panel's height, cut off above and below: IDRiD's fields are wider than high."""
GAP, HEAD, FOOT, TEXT = 10, 40, 50, 15
ATTENTION_SHARE, ATTENTION_WINDOW = 0.5, 1 / 16
"""The viewer's: of the largest mean response, and the side of the square over which the mean is taken, in the map's width."""
THICKNESS_PX = 3
"""A map's pixel is drawn as the largest response in a square of so many pixels round it: a panel is smaller than its map."""


@dataclass(frozen=True)
class Graded:
    """A test photograph and what the model said of it."""

    name: str
    truth: int
    probabilities: np.ndarray
    """Float64, shape (5,)."""

    @property
    def said(self) -> int:
        return int(answered(self.probabilities))


def read(data: Path, name: str) -> np.ndarray:
    """A photograph of ``idrid/grading.zip``, uint8, shape (H, W, 3)."""
    with zipfile.ZipFile(data / "idrid/grading.zip") as archive:
        return np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))


def seen(photograph: np.ndarray, bundle: Bundle) -> tuple[np.ndarray, np.ndarray]:
    """The network's input, float32 (3, S, S), and the photograph cropped to the same field, uint8 (S, S, 3)."""
    field = fundus_field(photograph)
    assert field is not None
    step = bundle.step("fundus_square")
    return fundus_square(photograph, field, **step), crop_square(photograph, field.box, int(step["size_px"]))


def graded(data: Path, model: Model, bundle: Bundle) -> list[Graded]:
    """The official test photographs with the model's answers."""
    with (data / "idrid/grading.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "test"]
    found = []
    for row in rows:
        image, _ = seen(read(data, row["file"]), bundle)
        p = model.run(image[None], "probabilities")[0][0]
        found.append(Graded(row["file"], int(row["grade"]), p.astype(np.float64)))
    return found


def chosen(photographs: Sequence[Graded]) -> dict[tuple[int, bool], Graded]:
    """By (true grade, graded rightly) the photograph with the most certain answer; nothing where there is none."""
    found: dict[tuple[int, bool], Graded] = {}
    for photograph in photographs:
        place = photograph.truth, photograph.said == photograph.truth
        if place not in found or photograph.probabilities.max() > found[place].probabilities.max():
            found[place] = photograph
    return found


def attentive(maps: np.ndarray) -> tuple[tuple[int, int, int, int], int] | None:
    """The most attentive region of a CLEAR map, by the viewer's rule, and the class that dominates it.

    Dominant responses are averaged over a square; of the connected regions with at least half of the largest mean it is the one
    with the largest sum of response.

    Parameters
    ----------
    maps : ndarray, shape (N, S, S)

    Returns
    -------
    box : (x0, y0, x1, y1)
        In pixels of the map, the last ones excluded.
    class : int
    None where nothing is positive.
    """
    index, strength = dominant(maps)
    if not strength.any():
        return None
    side = 2 * max(1, round(ATTENTION_WINDOW * strength.shape[1] / 2)) + 1
    mean = uniform_filter(strength.astype(np.float64), side, mode="constant")
    regions, count = label(mean >= ATTENTION_SHARE * mean.max(), np.ones((3, 3)))
    sums = [strength[regions == k].sum(dtype=np.float64) for k in range(1, count + 1)]
    region = regions == 1 + int(np.argmax(sums))
    by_class = [strength[region & (index == c)].sum(dtype=np.float64) for c in range(len(maps))]
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    return box, int(np.argmax(by_class))


def _font(size: int) -> ImageFont.FreeTypeFont:
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size=size))


def bar(p: np.ndarray, colors: np.ndarray, width: int, height: int) -> Image.Image:
    """Probabilities side by side in their classes' colours; those that have the room carry their number."""
    image = Image.new("RGB", (width, height), PAPER)
    draw, font = ImageDraw.Draw(image), _font(height - 5)
    ends = np.rint(np.concatenate([[0], np.cumsum(p)]) * width).astype(int)
    for start, end, value, color in zip(ends[:-1], ends[1:], p, colors, strict=True):
        if end > start:
            draw.rectangle((int(start), 0, int(end) - 1, height - 1), fill=tuple(int(v) for v in color))
        text = f"{value:.2f}"
        if font.getlength(text) + 6 < end - start:
            draw.text(((start + end) / 2, height / 2), text, fill=(0, 0, 0), font=font, anchor="mm")
    return image


def panels(photograph: Graded, data: Path, model: Model, bundle: Bundle) -> tuple[Image.Image, str]:
    """A photograph beside its CLEAR map, both with the most attentive region, above what was said; and that region's class."""
    image, square = seen(read(data, photograph.name), bundle)
    maps = model.run(image[None], "response_maps")[0][0]
    region = attentive(maps)
    zoom, top = PANEL / maps.shape[1], round(BAND * PANEL)
    drawn = clear_map(
        maximum_filter(maps, (1, THICKNESS_PX, THICKNESS_PX)), square, photograph.probabilities, bundle, PANEL
    )
    plain = Image.fromarray(square).resize((PANEL, PANEL), Image.Resampling.LANCZOS)
    height = PANEL - 2 * top
    sheet = Image.new("RGB", (2 * PANEL + 2, height + FOOT), PAPER)
    for place, picture in enumerate((plain, drawn)):
        if region is not None:
            x0, y0, x1, y1 = (round(edge * zoom) for edge in region[0])
            frame, color = ImageDraw.Draw(picture), tuple(int(v) for v in bundle.colors[region[1]])
            frame.rectangle((x0 - 1, y0 - 1, x1, y1), outline=(0, 0, 0), width=4)
            frame.rectangle((x0, y0, x1 - 1, y1 - 1), outline=color, width=2)
        sheet.paste(picture.crop((0, top, PANEL, PANEL - top)), (place * (PANEL + 2), 0))
    stem = photograph.name.split("/")[1].removesuffix(".jpg")
    text = f"{stem}: said {photograph.said}, reference {photograph.truth}"
    ImageDraw.Draw(sheet).text((2, height + 5), text, fill=INK, font=_font(TEXT))
    sheet.paste(bar(photograph.probabilities, bundle.colors, sheet.width, 19), (0, height + 27))
    return sheet, "" if region is None else bundle.classes[region[1]]


def compose(cells: dict[tuple[int, bool], Image.Image], bundle: Bundle) -> Image.Image:
    """All panels by grade, with the legend of the service's pictures below."""
    width, height = next(iter(cells.values())).size
    total = 2 * width + 3 * GAP
    labels = [entry["label"] for entry in bundle.description["classes"]]
    stated = bundle.description["response_maps"]
    entries = [
        Entry(((0, 0, 0), (int(r), int(g), int(b))), f"{name}: {text}")
        for name, text, (r, g, b) in zip(bundle.classes, labels, bundle.colors, strict=True)
    ]
    notes = [
        (
            "Left of each pair: the photograph. Right: the CLEAR map over its luminance. The box is the most attentive region, "
            "in the colour of the grade that dominates it. The bar: the probabilities of the five grades."
        ),
        (
            f"Scale: each map's own 99.9th percentile, brightness by square root. Rule {stated['rule']}, start "
            f"{stated['start']}. Photographs: {PIXELS}, official test split."
        ),
    ]
    title = "CLEAR map: colour = grade with the strongest response, intensity = its strength"
    below = strip(title, entries, notes, width=total, text_px=16)
    sheet = Image.new("RGB", (total, HEAD + len(labels) * (height + 28 + GAP) + below.height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, text in enumerate(("graded rightly, most certain", "graded wrongly, most certain")):
        draw.text((GAP + place * (width + GAP) + width / 2, HEAD / 2), text, fill=INK, font=_font(19), anchor="mm")
    for grade, text in enumerate(labels):
        y = HEAD + grade * (height + 28 + GAP)
        draw.text((GAP, y + 3), f"Reference: grade {grade}, {text}", fill=INK, font=_font(17))
        for place, right in enumerate((True, False)):
            x = GAP + place * (width + GAP)
            if (grade, right) in cells:
                sheet.paste(cells[grade, right], (x, y + 28))
            else:
                none = f"no photograph of this grade was graded {'rightly' if right else 'wrongly'}"
                middle = (x + width / 2, y + 28 + height / 2)
                draw.text(middle, none, fill=FAINT, font=_font(TEXT), anchor="mm")
    sheet.paste(below, (0, sheet.height - below.height))
    return sheet


def page(
    photographs: Sequence[Graded],
    picked: dict[tuple[int, bool], Graded],
    regions: dict[tuple[int, bool], str],
    bundle: Bundle,
) -> str:
    """Which photographs the picture shows, and what was said of them."""
    lines = [
        ["reference", "graded", "photograph", "said", *(f"p({name})" for name in bundle.classes), "grade in the box"]
    ]
    for (truth, right), one in sorted(picked.items(), key=lambda item: (item[0][0], not item[0][1])):
        lines.append(
            [
                str(truth),
                "rightly" if right else "wrongly",
                one.name,
                str(one.said),
                *(f"{p:.3f}" for p in one.probabilities),
                regions[truth, right] or "none",
            ]
        )
    count = sum(one.said == one.truth for one in photographs)
    about = (
        f"Written by `python -m training.retina gallery`, {today()}; {bundle.name} {bundle.version}, weights "
        f"{bundle.sha256[:12]}. IDRiD, official test split of the grading data: {len(photographs)} photographs, {count} graded "
        "rightly. Of each grade the picture shows the one that was graded rightly with the largest probability and the one that "
        f"was graded wrongly with the largest probability. Pixels: {PIXELS}."
    )
    picture = "![Photographs and CLEAR maps by grade](../images/retina_gallery.jpg)"
    return "\n\n".join(["# CLEAR maps of rightly and wrongly graded photographs", about, picture, table(lines)]) + "\n"


def write(results: Path, bundle: Bundle, data: Path | None = None) -> Path:
    """Write ``retina_gallery.md`` into a folder and ``retina_gallery.jpg`` into ``images`` beside it; the picture's path."""
    data, model = data or shared_data(), Model(bundle.weights)
    photographs = graded(data, model, bundle)
    picked = chosen(photographs)
    drawn = {place: panels(photograph, data, model, bundle) for place, photograph in picked.items()}
    path = results.parent / "images" / "retina_gallery.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    results.mkdir(parents=True, exist_ok=True)
    sheet = compose({place: image for place, (image, _) in drawn.items()}, bundle)
    sheet.save(path, quality=85, optimize=True, progressive=True)
    regions = {place: name for place, (_, name) in drawn.items()}
    (results / "retina_gallery.md").write_text(page(photographs, picked, regions, bundle), encoding="utf-8")
    return path
