"""The gallery: which photographs it shows, where the box lies, and that the picture and its page say the same."""

from __future__ import annotations

import csv
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from models.bundle import Bundle
from training.retina import gallery
from training.retina.gallery import Graded, attentive, bar, chosen

COLORS = ("#00B87A", "#3DA5FF", "#FFE100", "#FF8A00", "#FF3DBE")


def answer(name: str, truth: int, said: int, p: float) -> Graded:
    probabilities = np.full(5, (1 - p) / 4)
    probabilities[said] = p
    return Graded(name, truth, probabilities)


def test_the_most_certain_right_and_wrong_one_of_each_grade():
    photographs = [
        answer("a", 0, 0, 0.6),
        answer("b", 0, 0, 0.9),
        answer("c", 0, 2, 0.5),
        answer("d", 0, 1, 0.7),
        answer("e", 3, 2, 0.4),
    ]
    found = chosen(photographs)
    assert {place: one.name for place, one in found.items()} == {(0, True): "b", (0, False): "d", (3, False): "e"}


def test_the_box_holds_the_region_with_most_response_not_the_largest_pixel():
    maps = np.full((5, 64, 64), -1, np.float32)
    maps[2, 20:32, 8:22] = 1
    maps[3, 20:32, 8:10] = 1.1  # the largest mean over 5 x 5 px is (2 * 1.1 + 3) / 5 = 1.04
    maps[4, 10, 50] = 12  # its mean is 0.48, less than half of that
    maps[1, 50:53, 40:60] = 1  # as strong, but smaller
    box, grade = attentive(maps)
    assert box == (8, 20, 22, 32)
    assert grade == 2
    assert attentive(np.minimum(maps, 0)) is None


def test_a_bar_is_divided_as_the_probabilities_are():
    p = np.array([0.5, 0.25, 0.0, 0.25, 0.0])
    colors = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in COLORS], np.uint8)
    pixels = np.asarray(bar(p, colors, 400, 19))
    top = pixels[0]
    widths = [(top == color).all(1).sum() for color in colors]
    assert widths == [200, 100, 0, 100, 0]
    assert (pixels[:, :200] == 0).any()  # a number stands in it


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    classes = [{"name": str(k), "label": f"Label {k}", "color": color} for k, color in enumerate(COLORS)]
    step = {"step": "fundus_square", "parameters": {"size_px": 64, "grid": 8, "margin": 0.95}}
    description = {
        "name": "clear_dr",
        "version": "9.9.9",
        "weights": {"file": "model.onnx", "sha256": "0123456789abcdef" * 4},
        "classes": classes,
        "input": {"preprocessing": [step]},
        "response_maps": {"rule": "guided", "start": "contrast", "reference": 1.0},
    }
    return Bundle(tmp_path, description)


class Graph:
    """Stands in for an exported model: the brighter the photograph's middle, the worse the grade; grade 1 is never said."""

    def __init__(self, path: object) -> None:
        assert str(path).endswith("model.onnx")

    def run(self, images: np.ndarray, *outputs: str) -> list[np.ndarray]:
        spot = images[0, :, 24:40, 24:40].max()
        maps = np.zeros((1, 5, 64, 64), np.float32)
        grade = 4 if spot > 2 else 0
        maps[0, grade, 24:40, 24:40] = 1
        p = np.full((1, 5), 0.05, np.float32)
        p[0, grade] = 0.8
        return [{"probabilities": p, "response_maps": maps}[name] for name in outputs]


def test_picture_and_page(tmp_path, bundle, monkeypatch):
    (tmp_path / "data/idrid").mkdir(parents=True)
    y, x = np.mgrid[:80, :100]
    disc = (x - 50) ** 2 + (y - 40) ** 2 < 39**2
    rows = [
        ("test/a.jpg", "test", 0),
        ("test/b.jpg", "test", 4),
        ("test/c.jpg", "test", 4),
        ("train/d.jpg", "train", 1),
    ]
    with zipfile.ZipFile(tmp_path / "data/idrid/grading.zip", "w") as archive:
        for name, _, grade in rows:
            pixels = np.where(disc[..., None], [150, 90, 40], 0)
            if grade == 4 and "b" in name:
                pixels[36:44, 46:54] += 80
            stream = io.BytesIO()
            Image.fromarray(pixels.astype(np.uint8)).save(stream, "JPEG", quality=95)
            archive.writestr(name, stream.getvalue())
    with (tmp_path / "data/idrid/grading.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("file", "split", "grade"), *rows])
    monkeypatch.setattr(gallery, "Model", Graph)
    path = gallery.write(tmp_path / "docs/results", bundle, tmp_path / "data")
    assert path == tmp_path / "docs/images/retina_gallery.jpg"
    assert len(path.read_bytes()) < 700_000
    with Image.open(path) as picture:
        assert picture.format == "JPEG"
        assert picture.width < picture.height
    page = (tmp_path / "docs/results/retina_gallery.md").read_text()
    assert "3 photographs, 2 graded rightly" in page
    assert "../images/retina_gallery.jpg" in page
    assert "0123456789ab" in page
    assert "CC BY 4.0" in page
    lines = [line.split(" | ")[0:4] for line in page.splitlines() if "test/" in line]
    assert lines == [
        ["| 0", "rightly", "test/a.jpg", "0"],
        ["| 4", "rightly", "test/b.jpg", "4"],
        ["| 4", "wrongly", "test/c.jpg", "0"],
    ]
