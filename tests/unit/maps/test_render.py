from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.errors import NotFound
from service.maps import render
from service.records import ResponseMap

COLORS = np.array([[200, 0, 0], [0, 100, 200], [40, 240, 80]], np.uint8)
LABELS = ("Alpha", "Beta", "Gamma")
Make = Callable[..., ResponseMap]


def draw(maps: ResponseMap, kind: str = "clear", **given: Any) -> np.ndarray:
    """The picture at the maps' own resolution, so that nothing is interpolated unless asked for."""
    options: dict[str, Any] = {"overlay": None, "scale": "per_image", "legend": False, "slice_index": None}
    options |= {"size": max(maps.response.shape[2:])} | given
    colors, labels = options.pop("colors", COLORS), options.pop("labels", LABELS)
    return np.asarray(Image.open(io.BytesIO(render.png(maps, kind, colors, labels, **options))))


def said(monkeypatch: pytest.MonkeyPatch, maps: ResponseMap, kind: str = "clear", **given: Any) -> str:
    """All words of the legend."""
    texts: list[str] = []

    def note(title: str, entries: Any, notes: Any, *, width: int, text_px: int) -> Image.Image:
        texts.extend([title, *(entry.text for entry in entries), *notes])
        return Image.new("RGB", (width, text_px))

    monkeypatch.setattr(render, "strip", note)
    draw(maps, kind, legend=True, **given)
    return "\n".join(texts)


def test_bare_clear_map_is_palette_times_strength(make: Make, response: np.ndarray) -> None:
    black = [0, 0, 0]
    expected = [[COLORS[0], black, black], [COLORS[1] * 0.75**0.5, black, COLORS[0] * 0.5**0.5]]
    np.testing.assert_array_equal(draw(make(response[None])), np.rint(expected))


def test_per_model_scale_divides_by_the_reference_and_clips(make: Make, response: np.ndarray) -> None:
    picture = draw(make(response[None], reference=3.2), scale="per_model")
    np.testing.assert_array_equal(picture[:, 0], [COLORS[0], np.rint(COLORS[1] * (3 / 3.2) ** 0.5)])
    np.testing.assert_array_equal(picture[1, 2], np.rint(COLORS[0] * (2 / 3.2) ** 0.5))


def test_slices_of_a_nodule_share_the_scale_per_image(make: Make, response: np.ndarray) -> None:
    maps = make(np.stack([response, 2 * response]))
    np.testing.assert_array_equal(draw(maps, slice_index=0)[0, 0], np.rint(COLORS[0] * 0.5**0.5))
    np.testing.assert_array_equal(draw(maps, slice_index=1)[0, 0], COLORS[0])


def test_overlay_on_a_grey_image(make: Make, response: np.ndarray) -> None:
    picture = draw(make(response[None], np.full((1, 2, 3), 120, np.uint8)), overlay=0.5).astype(float)
    opacity = 0.5 * 0.75**0.5
    np.testing.assert_allclose(picture[1, 0], (1 - opacity) * 120 + opacity * COLORS[1], atol=0.51)
    np.testing.assert_array_equal(picture[0, 1], [120, 120, 120])


def test_photograph_fades_to_its_luminance_where_there_is_no_evidence(make: Make, response: np.ndarray) -> None:
    photograph = np.tile(np.array([200, 90, 30], np.uint8), (1, 2, 3, 1))
    maps = make(response[None], photograph)
    luminance = 0.299 * 200 + 0.587 * 90 + 0.114 * 30
    np.testing.assert_array_equal(draw(maps, overlay=0.0), photograph[0])
    np.testing.assert_allclose(draw(maps, overlay=1.0)[0, 1], [luminance] * 3, atol=1)
    np.testing.assert_array_equal(draw(maps, overlay=1.0)[0, 0], COLORS[0])


@pytest.mark.parametrize("kind", ["clear", "class-b", "two-sided"])
def test_overlay_is_linear_so_that_two_stacked_pictures_can_be_faded(make: Make, kind: str) -> None:
    rng = np.random.default_rng(0)
    maps = make(rng.normal(size=(1, 3, 12, 12)), rng.integers(0, 255, (1, 30, 30, 3)).astype(np.uint8))
    none, half, full = (draw(maps, kind, overlay=o, size=48).astype(float) for o in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(half, (none + full) / 2, atol=1.01)


def test_colours_never_mix_when_enlarged(make: Make) -> None:
    picture = draw(make(np.random.default_rng(1).normal(size=(1, 3, 8, 8))), size=200).astype(float)
    pixels = picture.reshape(-1, 3)
    value = pixels.max(axis=1) / COLORS.max(axis=1)[:, None]
    error = np.abs(pixels - value[..., None] * COLORS[:, None]).max(axis=2).min(axis=0)
    assert error.max() <= 1, "a pixel is not a multiple of one palette colour"
    assert len(np.unique(picture[..., 0])) > 50, "strength is interpolated smoothly"


def test_no_colour_where_no_class_is_dominant_even_beside_strong_pixels(make: Make) -> None:
    response = np.full((1, 3, 2, 2), -1.0)
    response[0, 0, 0, 0] = 5
    picture = draw(make(response), size=64)
    assert picture[:32, :32].any()
    assert not picture[32:].any()
    assert not picture[:, 32:].any()


def test_one_class_shows_both_signs_in_different_hues(make: Make, response: np.ndarray) -> None:
    picture = draw(make(response[None]), "class-b")
    np.testing.assert_array_equal(picture[0, 0], np.rint(COLORS[1] * 0.5**0.5))
    negative = np.array(
        max(render.NEGATIVE, key=lambda pale: np.square(np.subtract(pale, COLORS[1], dtype=float)).sum())
    )
    np.testing.assert_array_equal(picture[0, 1], np.rint(negative * 0.75**0.5))
    assert not picture[0, 2].any()


def test_two_sided_adds_both_sides(make: Make, response: np.ndarray) -> None:
    picture = draw(make(response[None], probabilities=np.array([0.2, 0.7, 0.1])), "two-sided").astype(float)
    hot, against = np.array(render.HOT), np.array(render.AGAINST)
    np.testing.assert_allclose(picture[0, 0], np.minimum(0.5**0.5 * hot + 1.0 * against, 255), atol=0.51)
    np.testing.assert_allclose(picture[1, 0], np.minimum(0.75**0.5 * hot + 0.25**0.5 * against, 255), atol=0.51)
    assert not picture[:, 1].any()


@pytest.mark.parametrize(
    "vision",
    [  # Machado, Oliveira & Fernandes 2009, severity 1.0
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ],
    ids=["protanopia", "deuteranopia"],
)
def test_two_sided_colours_differ_for_the_colour_blind(vision: list[list[float]]) -> None:
    seen = [
        np.clip(np.array(vision) @ (np.array(c) / 255) ** 2.2, 0, 1) ** (1 / 2.2) for c in (render.HOT, render.AGAINST)
    ]
    assert np.abs(seen[0] - seen[1]).max() > 0.4


def test_more_than_ten_classes_share_one_colour(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    response = np.zeros((1, 12, 1, 12))
    response[0, np.arange(12), 0, np.arange(12)] = 1
    colors = np.stack([np.arange(12) * 10 + 60, np.full(12, 30), np.full(12, 90)], axis=1).astype(np.uint8)
    probabilities = np.array([0.01, 0.02] + [0.097] * 10)
    maps = make(response, probabilities=probabilities)
    labels = [f"label {k}" for k in range(12)]
    picture = draw(maps, colors=colors, labels=labels)
    np.testing.assert_array_equal(picture[0], [render.OTHER, render.OTHER, *colors[2:]])
    np.testing.assert_array_equal(draw(maps, "class-a", colors=colors, labels=labels)[0, 0], colors[0])
    words = said(monkeypatch, maps, colors=colors, labels=labels)
    assert "label 1:" not in words
    assert "label 2: 0.10" in words
    assert "other (2 classes): 0.03" in words


def test_legend_says_what_is_shown(make: Make, response: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = make(np.stack([response, 3.1 * response]))
    words = said(monkeypatch, maps)
    assert "Alpha: 0.17\nBeta: 0.33\nGamma: 0.50" in words
    assert "Scale: 0 .. 12.4 (these 2 slices), brightness by square root" in words
    assert "Rule guided, start contrast; slice 2 of 2" in words
    assert "orrelation" not in words
    words = said(monkeypatch, maps, "class-b", scale="per_model", slice_index=0)
    assert "Response map of one class: Beta (probability 0.33)" in words
    assert "against Beta" in words
    assert (
        "Scale: -2 .. 2 (the same for all images), brightness by square root; the strongest here, 3, is drawn as the limit"
        in words
    )
    assert "Scale: 0 .. 4 (this image)" in said(monkeypatch, make(response[None]))
    assert "Scale: 0 .. 4000 (this image)" in said(monkeypatch, make(1e3 * response[None]))
    words = said(monkeypatch, maps, "two-sided")
    assert "Gamma: 0.50" in words
    assert "others: 0.50 together" in words


def test_legend_warns_when_the_start_makes_classes_alike(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = np.arange(6.0).reshape(2, 3)
    words = said(monkeypatch, make(np.stack([one, 2 * one, 3 * one])[None], start="class"))
    assert "Correlation of the classes' maps: 1.00" in words


@pytest.mark.parametrize("kind", ["clear", "class-a", "two-sided"])
@pytest.mark.parametrize("level", [0, -1])
@pytest.mark.parametrize("scale", ["per_image", "per_model"])
def test_nothing_positive_is_drawn_and_said(
    make: Make, monkeypatch: pytest.MonkeyPatch, kind: str, level: int, scale: str
) -> None:
    maps = make(np.full((1, 3, 4, 4), level))
    assert draw(maps, kind, scale=scale).any() == (kind == "class-a" and level < 0)
    assert draw(maps, kind, legend=True).shape[0] > 40
    words = said(monkeypatch, maps, kind, scale=scale)
    assert "No positive response" in words
    assert ("Scale" in words) == (kind == "class-a" and level < 0)


def test_legend_leaves_the_picture_as_it_is(make: Make, response: np.ndarray) -> None:
    wide = draw(make(response[None]), size=600)
    sheet = draw(make(response[None]), size=600, legend=True)
    np.testing.assert_array_equal(sheet[: len(wide)], wide)
    assert sheet[len(wide) :].max() > 200, "bright text"
    small = draw(make(response[None]), size=96, legend=True)
    assert small.shape[1] == render.LEGEND_WIDTH_PX


def test_size_is_the_longer_side_and_keeps_the_shape(make: Make) -> None:
    assert draw(make(np.zeros((1, 3, 8, 8)), np.zeros((1, 50, 100), np.uint8)), size=300).shape == (150, 300, 3)


def test_slices(make: Make, response: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = make(np.stack([response, 0 * response, -response]))
    assert not draw(maps).any()
    assert draw(maps, slice_index=0)[0, 0].any()
    assert "No positive response in this slice." in said(monkeypatch, maps)
    for outside in (-1, 3):
        with pytest.raises(NotFound, match="slices 0 to 2"):
            draw(maps, slice_index=outside)


def test_what_cannot_be_drawn(make: Make, response: np.ndarray) -> None:
    with pytest.raises(NotFound, match="class-d"):
        draw(make(response[None]), "class-d")
    with pytest.raises(ValueError, match="per_week"):
        draw(make(response[None]), scale="per_week")
    with pytest.raises(ValueError, match="overlay"):
        draw(make(response[None]), overlay=1.5)


def test_the_scale_travels_inside_the_file(make: Make, response: np.ndarray) -> None:
    content = render.png(
        make(response[None]),
        "clear",
        COLORS,
        LABELS,
        overlay=0.3,
        scale="per_model",
        legend=False,
        slice_index=None,
        size=64,
    )
    text = Image.open(io.BytesIO(content)).info
    assert (text["kind"], text["scale"], text["scale maximum"]) == ("clear", "per_model", "2")
    assert (text["rule"], text["start"]) == ("guided", "contrast")
    assert "not for primary diagnosis" in text["Disclaimer"]
