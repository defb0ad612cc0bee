"""The optic disc: on the phantom, whose disc is known, and on scores that a person can work out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.preprocessing import Field, fundus_field
from service.intake import disc
from service.phantoms import write_fundus

R = disc.RASTER


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, tuple[float, float]]:
    """A right eye, and its disc in radii from the centre of the field; this seed's vessels tell up from down."""
    path = tmp_path_factory.mktemp("fundus") / "fundus.jpg"
    known = write_fundus(path, seed=2)
    x, y, radius = known["field"]
    with Image.open(path) as image:
        photograph = np.asarray(image.convert("RGB"))
    return photograph, ((known["disc_px"][0] - x) / radius, (known["disc_px"][1] - y) / radius)


def found(photograph: np.ndarray) -> disc.Disc:
    field = fundus_field(photograph)
    assert field is not None
    return disc.find(photograph, field)


def test_the_phantom_is_a_right_eye(phantom: tuple[np.ndarray, tuple[float, float]]) -> None:
    photograph, (x, y) = phantom
    upright = found(photograph)
    assert upright.right > 0.95
    assert np.hypot(upright.x - x, upright.y - y) < 0.07  # half of the disc's radius: 74 of 575 px


def test_mirrored_it_is_a_left_eye_and_turned_it_stays_a_right_one(
    phantom: tuple[np.ndarray, tuple[float, float]],
) -> None:
    photograph, (x, y) = phantom
    mirrored, turned = found(photograph[:, ::-1]), found(photograph[::-1, ::-1])
    assert mirrored.right < 0.05
    assert np.hypot(mirrored.x + x, mirrored.y - y) < 0.07
    assert turned.right > 0.5
    assert np.hypot(turned.x + x, turned.y + y) < 0.07


def test_an_empty_field_tells_nothing() -> None:
    row, column = np.mgrid[:400, :400]
    inside = np.hypot(row - 199.5, column - 199.5) < 200
    plain = np.repeat(np.where(inside, 120, 0).astype(np.uint8)[..., None], 3, axis=2)
    for photograph in (plain, np.zeros_like(plain)):
        assert disc.find(photograph, Field(200, 200, 200)).right == pytest.approx(0.5, abs=0.02)


def test_maps_see_a_bright_spot_and_the_direction_of_lines() -> None:
    """A bright disc about (98, 66) lies in column 24, row 16 of the raster of 4 px; dark lines cross the left half."""
    row, column = np.mgrid[: disc.SIZE_PX, : disc.SIZE_PX]
    square = np.full((disc.SIZE_PX, disc.SIZE_PX, 3), 100, np.uint8)
    square[np.hypot(row - 66, column - 98) < 9] = 220
    square[30:50, 40:42] = 60  # upright, about (41, 40)
    square[90:92, 30:50] = 60  # level, about (40, 91)
    red, green, upright, level = disc.maps(square)
    for bright in (red, green):
        assert bright[16, 24] == bright.max() > 4
        assert np.argwhere(bright > 2).mean(0) == pytest.approx([16, 24], abs=0.5)
    assert upright[10, 10] > 3 * level[10, 10] and level[22, 10] > 3 * upright[22, 10]


def test_a_mirrored_square_has_mirrored_maps() -> None:
    square = np.random.default_rng(3).integers(20, 255, (disc.SIZE_PX, disc.SIZE_PX, 3), np.uint8)
    assert np.allclose(disc.maps(square[:, ::-1]), disc.maps(square)[..., ::-1], atol=1e-4)


def test_a_mirrored_photograph_gets_the_opposite_answer() -> None:
    seen = np.random.default_rng(1).normal(size=(4, R, R)).astype(np.float32)
    one, other = (disc.judge(each, disc.WEIGHTS, disc.TURNED) for each in (seen, seen[..., ::-1]))
    assert other.right == pytest.approx(1 - one.right)
    assert (other.x, other.y) == pytest.approx((-one.x, one.y), abs=1e-6)


def test_features_look_round_each_place() -> None:
    """Green at row 10, column 4 lies 3 rows above and 9 columns left of (13, 13), 9 below and 3 right of (1, 1)."""
    seen = np.zeros((4, R, R), np.float32)
    seen[1, 10, 4], seen[2, 20, 20], seen[3, 20, 20] = 7, 2, 1
    found = dict(zip(disc.FEATURES, disc.features(seen), strict=True))
    assert found["green -3 -9"][13, 13] == 7 == found["green 0 0"][10, 4] == found["green 9 3"][1, 1]
    assert found["green -3 -9"].sum() == 7 and found["red"].sum() == 0
    assert found["vessels 6 6"][14, 14] == 3 and found["upright_vessels"][20, 20] == 2
    assert found["x"][0, 0] == pytest.approx(1 / R - 1) and found["y_squared"][0, 5] == pytest.approx((1 / R - 1) ** 2)
    assert found["x_squared"][3, 31] == pytest.approx((1 - 1 / R) ** 2)


def test_the_probability_is_that_of_the_likelihoods() -> None:
    """A red spot so bright that no other place counts, and weight 2 of x: upright, exp(2 x) for a right eye and exp(-2 x) for a
    left one; upside down, with a prior of 0.2, the other way round."""
    seen = np.zeros((4, R, R), np.float32)
    seen[0, 16, 26] = 1
    weights = [{"red": 100.0, "x": 2.0}.get(name, 0.0) for name in disc.FEATURES]
    x = (26.5 - 16) / 16
    right, left = np.exp(2 * x), np.exp(-2 * x)
    answer = disc.judge(seen, weights, 0.2)
    assert answer.right == pytest.approx((0.8 * right + 0.2 * left) / (right + left))
    assert (answer.x, answer.y) == pytest.approx((x, 0.5 / 16))


def test_on_a_camera_s_own_photograph(data: Path) -> None:
    """Photograph 003 of IDRiD, 4288 x 2848 px: a left eye by the fovea, right of the disc and below it."""
    with Image.open(data / "idrid" / "original" / "IDRiD_003.jpg") as image:
        image.draft("RGB", (1072, 712))
        answer = found(np.asarray(image.convert("RGB")))
    assert answer.right < 0.05
    assert (answer.x, answer.y) == pytest.approx((-0.68, -0.13), abs=0.05)
