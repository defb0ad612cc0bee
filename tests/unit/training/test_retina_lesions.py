"""IDRiD's lesion photographs on the grid of the network's input: geometry, filling, and the bundle's own evidence, by hand."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.retina import lesions
from training.retina.data import Photograph
from training.retina.lesions import KINDS, evidence, filled, grown, read

SIDE = 600
SPOT = (150, 180, 390, 450)
"""Rows and columns of the drawn exudate in the photograph."""


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **({"quality": 98} if kind == "JPEG" else {}))
    return stream.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two photographs of 700 x 600 px with a lit disc of 600 px, 50 px from the left, in IDRiD's form."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "idrid").mkdir()
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    disc = np.zeros((SIDE, SIDE + 100), bool)
    disc[:, 50 : 50 + SIDE] = x**2 + y**2 < (SIDE / 2) ** 2
    texture = 120 + 40 * np.sin(np.arange(SIDE + 100) / 9)[None, :, None] + np.zeros((SIDE, 1, 3))
    photograph = np.where(disc[..., None], texture, 0).astype(np.uint8)
    mask = np.zeros(disc.shape, np.uint8)
    mask[SPOT[0] : SPOT[1], SPOT[2] + 50 : SPOT[3] + 50] = 255
    with zipfile.ZipFile(folder / "idrid/lesions.zip", "w") as archive:
        for name in ("test/IDRiD_55", "test/IDRiD_56", "train/IDRiD_01"):
            archive.writestr(f"{name}.jpg", encoded(photograph, "JPEG"))
            archive.writestr(f"{name}_EX.png", encoded(mask, "PNG"))
    for file, head, rows in (
        ("lesions.csv", ("file", "split"), [(f"test/IDRiD_{k}.jpg", "test") for k in (55, 56)]),
        ("lesions_to_grading.csv", ("seg_image", "retinopathy_grade"), [("IDRiD_55.jpg", ""), ("IDRiD_56.jpg", "3")]),
    ):
        with (folder / "idrid" / file).open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([head, *rows])
    return folder


def test_masks_lie_on_the_grid_of_the_input(data):
    drawn = read(data, "test/IDRiD_56.jpg")
    assert drawn.grade == 3
    assert read(data, "test/IDRiD_55.jpg").grade == -1
    assert drawn.image.shape == (3, 512, 512)
    assert drawn.masks.shape == (5, 512, 512)
    expected = np.array(SPOT) * 512 / SIDE
    rows, columns = np.nonzero(drawn.masks[KINDS.index("EX")])
    np.testing.assert_allclose([rows.min(), rows.max() + 1, columns.min(), columns.max() + 1], expected, atol=1.5)
    assert not drawn.masks[[k for k, kind in enumerate(KINDS) if kind != "EX"]].any()
    np.testing.assert_array_equal(drawn.lesions, drawn.masks[2])
    # the network sees a disc of 95 % of the radius
    assert drawn.lit.mean() == pytest.approx(np.pi / 4 * 0.95**2, rel=0.01)
    assert drawn.null(drawn.lesions) == pytest.approx(drawn.lesions.sum() / drawn.lit.sum())
    assert lesions.names(data, "test") == ["test/IDRiD_55.jpg", "test/IDRiD_56.jpg"]


def test_a_region_grows_by_whole_circles():
    region = np.zeros((21, 21), bool)
    region[10, 10] = True
    y, x = np.mgrid[:21, :21] - 10
    np.testing.assert_array_equal(grown(region, 3), x**2 + y**2 <= 9)
    assert not grown(np.zeros((5, 5), bool), 3).any()


def test_what_is_filled_takes_the_colour_around_it():
    image = np.zeros((3, 60, 60), np.float32)
    image[:, :, 5:] = np.array([0.5, -1.0, 2.0])[:, None, None]
    region = np.zeros((60, 60), bool)
    region[20:30, :15] = True
    spoilt = image.copy()
    spoilt[:, 22:28, 8:12] = 4
    np.testing.assert_allclose(filled(spoilt, region), image, atol=1e-5)
    np.testing.assert_array_equal(filled(spoilt, np.zeros_like(region)), spoilt)


class Graph:
    """Stands in for an exported model: grade 2, and maps that are what the test says."""

    def __init__(self, maps: np.ndarray, grade: int) -> None:
        self.maps, self.p = maps, np.eye(5)[[grade]]

    def run(self, images: np.ndarray, *outputs: str) -> list[np.ndarray]:
        return [self.p, self.maps[None]]


def test_evidence_of_the_bundle(data, monkeypatch):
    monkeypatch.setattr(lesions, "shared_data", lambda: data)
    drawn = read(data, "test/IDRiD_56.jpg")
    maps = np.zeros((5, 512, 512), np.float32)
    maps[2] = drawn.lesions
    maps[2, 256, 256] = drawn.lesions.sum()  # half of the response, and the peak, lie elsewhere
    # one map that varies has nothing to be like: no class correlation
    share, pointing, disc = evidence(Graph(maps, 2))  # type: ignore[arg-type]
    assert (share["value"], share["n"]) == (pytest.approx(0.5), 2)
    assert share["null"] == pytest.approx(drawn.null(drawn.lesions))
    assert (pointing["value"], pointing["null"]) == (0, pytest.approx(drawn.null(drawn.near)))
    assert (disc["value"], disc["null"]) == (0, 0)
    maps[2, 256, 256] = 0
    corner = np.argwhere(drawn.lesions)[0] - [lesions.TOLERANCE_PX, 0]
    maps[2, corner[0], corner[1]] = 2
    assert evidence(Graph(maps, 2))[1]["value"] == 1  # type: ignore[arg-type]
    maps[2, corner[0], corner[1]], maps[2, corner[0] - 1, corner[1]] = 0, 2
    assert evidence(Graph(maps, 2))[1]["value"] == 0  # type: ignore[arg-type]


def test_photographs_without_a_referable_answer_are_not_measured(data, monkeypatch):
    monkeypatch.setattr(lesions, "shared_data", lambda: data)
    maps = np.random.default_rng(0).random((5, 512, 512), np.float32)
    (correlation,) = evidence(Graph(maps, 1))  # type: ignore[arg-type]
    assert (correlation["name"], correlation["n"]) == ("class correlation", 2)
    assert abs(correlation["value"]) < 0.02


def test_what_each_network_left_out(data, monkeypatch):
    def photograph(source: str, member: str, fold: int) -> Photograph:
        return Photograph("idrid/lesions.zip", member, source, member, 2, "train", fold=fold)

    found = [photograph("idrid_lesions", name, fold) for name, fold in (("a", 0), ("b", 5), ("c", 4), ("d", 7))]
    monkeypatch.setattr(lesions, "photographs", lambda folder: [*found, photograph("idrid", "e", 0)])
    assert lesions.left_out(data, [(0, 4), (1, 5), (2, 6)]) == [["a", "c"], ["b"], []]
