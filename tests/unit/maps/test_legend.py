from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageFont

from service.maps.legend import PAPER, Entry, ramp, strip, wrap

LONG = "Severe nonproliferative retinopathy with_an_unbroken_word_" + "m" * 80


@pytest.fixture
def font() -> ImageFont.FreeTypeFont:
    found = ImageFont.load_default(size=16)
    assert isinstance(found, ImageFont.FreeTypeFont)
    return found


@pytest.mark.parametrize("width", [40, 150, 400])
def test_wrapped_lines_fit_and_lose_nothing(font: ImageFont.FreeTypeFont, width: int) -> None:
    lines = wrap(LONG, font, width)
    assert all(font.getlength(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == LONG.replace(" ", "")


def test_a_short_text_stays_on_one_line(font: ImageFont.FreeTypeFont) -> None:
    assert wrap("one two", font, 400) == ["one two"]
    assert wrap("", font, 400) == []


def test_ramp_runs_from_colour_to_colour() -> None:
    pixels = np.asarray(ramp(((0, 0, 0), (200, 100, 0)), 11, 4))
    assert pixels.shape == (4, 11, 3)
    np.testing.assert_array_equal(pixels[2, [0, 5, 10]], [[0, 0, 0], [100, 50, 0], [200, 100, 0]])


@pytest.mark.parametrize("width", [320, 768])
def test_no_text_reaches_the_border(width: int) -> None:
    entries = [Entry(((0, 0, 0), (255, 0, 0)), LONG), Entry(((0, 0, 0), (0, 0, 255)), "short")]
    drawn = np.asarray(strip(LONG, entries, [LONG, "Scale: 0 .. 1"], width=width, text_px=16))
    assert drawn.shape[1] == width
    border = np.concatenate(
        [drawn[:, :8].reshape(-1, 3), drawn[:, -8:].reshape(-1, 3), drawn[:8].reshape(-1, 3), drawn[-8:].reshape(-1, 3)]
    )
    assert (border == PAPER).all()
    assert (drawn[:, 8:-8] != PAPER).any()


def test_short_entries_share_a_row() -> None:
    entries = [Entry(((0, 0, 0), (255, 0, 0)), text) for text in ("a", "b", "c", "d")]
    alone = strip("t", entries[:1], [], width=600, text_px=16).height
    assert strip("t", entries[:2], [], width=600, text_px=16).height == alone
    assert strip("t", entries, [], width=600, text_px=16).height > alone
