"""Which eye it is: what file names tell, and who is followed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.intake.disc import Disc
from service.pipeline.laterality import LEAST_ASIDE, LEAST_CONFIDENCE, Eye, decide, named
from service.records import Instance, Request

RIGHT, LEFT, DOUBT = (Disc(0.6, 0.0, right) for right in (0.999, 0.001, 0.5))


def decided(disc: Disc | None = DOUBT, header: str = "", **request: Any) -> Eye:
    return decide(Request(**request), Instance(Path(), "", "photograph", 1, 1, "1.2", laterality=header), disc)


def told(eye: Eye) -> list[tuple[str, Any, Any]]:
    assert all(check.result == "warn" for check in eye.checks)
    return [(check.id, check.value, check.limit) for check in eye.checks]


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("10_left.jpeg", "L"), ("10_right.jpeg", "R"), ("A-OS.png", "L"), ("A-OD.png", "R"), ("P12OD.jpg", "R"), ("7_L.jpg", "L"),
        ("7-R.dcm", "R"), ("RightEye.tif", "R"), ("left_eye", "L"), ("lefteye_2.png", "L"), ("1_rechts.jpg", "R"),
        ("Linkes Auge.png", "L"), ("RIGHT.JPG", "R"), ("C:\\photos\\LEFT\\3_R.jpg", "R"), ("left/3.jpg", None),
    ],
)  # fmt: skip
def test_names_that_tell_an_eye(name: str, side: str | None) -> None:
    assert named([name]) == side


@pytest.mark.parametrize(
    "name",
    [
        "", "eye.jpg", "copyright.png", "wright.jpg", "cleft.jpg", "Rodriguez.png", "foo.L", "L.Meier_3.jpg", "7_l.jpg",
        "12R.jpg", "model.png", "DE_LA_CRUZ.jpg", "both_left_and_right.jpg", "OD_OS.png", "7_left_R.jpg", "IMG_0042.JPG",
    ],
)  # fmt: skip
def test_names_that_tell_none_or_both(name: str) -> None:
    assert named([name]) is None


def test_several_names_must_tell_one_eye() -> None:
    assert named(["1_left.jpg", "2.jpg"]) == "L"
    assert named(["1_left.jpg", "2_right.jpg"]) is None
    assert named([]) is None


def test_who_is_followed() -> None:
    everybody = decided(LEFT, header="L", laterality="R", named_eye="L")
    assert (everybody.side, everybody.source, everybody.confidence) == ("R", "request", None)
    header = decided(RIGHT, header="L", named_eye="R")
    assert (header.side, header.source, header.confidence) == ("L", "header", None)
    name = decided(LEFT, named_eye="R")
    assert (name.side, name.source, name.confidence) == ("R", "file_name", None)
    by_disc = decided(LEFT)
    assert (by_disc.side, by_disc.source, by_disc.confidence) == ("L", "disc", 0.999)
    assert decided(RIGHT).side == "R"


def test_who_agrees_says_nothing() -> None:
    assert decided(RIGHT, header="R", laterality="R", named_eye="R").checks == ()
    assert decided(DOUBT, laterality="R").checks == () == decided(None, laterality="R").checks


def test_every_contradiction_is_said() -> None:
    eye = decided(LEFT, header="L", laterality="R", named_eye="L")
    assert told(eye) == [("laterality", "R", "L")] * 3
    header, name, disc = (check.message for check in eye.checks)
    assert header == "the request says R, the image's header L; the request was followed"
    assert name == "the request says R, the file's name L; the request was followed"
    assert "looks like a left eye" in disc and "0.999" in disc and "swapped" in disc
    (only,) = decided(LEFT, header="R").checks
    assert only.message.startswith("the image's header says R, but")
    assert told(decided(DOUBT, header="B", named_eye="R")) == [("laterality", "R", "B")]


def test_the_disc_is_followed_from_the_limit_on() -> None:
    at, below = LEAST_CONFIDENCE, LEAST_CONFIDENCE - 0.002
    assert (decided(Disc(0.6, 0, at)).side, decided(Disc(-0.6, 0, 1 - at)).side) == ("R", "L")
    assert told(decided(Disc(0.6, 0, at))) == [("laterality_stated", at, at)]
    unknown = decided(Disc(0.6, 0, below))
    assert (unknown.side, unknown.source, unknown.confidence) == ("", None, None)
    assert told(unknown) == [("laterality_stated", pytest.approx(below), at)]
    assert "send `laterality`" in unknown.checks[0].message
    assert told(decided(Disc(0.6, 0, at), laterality="L")) == [("laterality", "L", "R")]
    assert decided(Disc(0.6, 0, below), laterality="L").checks == ()


def test_a_disc_in_the_middle_tells_nothing() -> None:
    middle = Disc(-LEAST_ASIDE + 0.01, 0.0, 0.999)
    assert decided(middle).side == "" and decided(middle, laterality="L").checks == ()
    assert told(decided(middle)) == [("laterality_stated", 0.24, LEAST_ASIDE)]
    assert "in the middle" in decided(middle).checks[0].message
    assert decided(Disc(-LEAST_ASIDE, 0.0, 0.999)).side == "R", "upside down"


def test_nothing_is_guessed_where_the_disc_was_not_looked_for() -> None:
    assert decided(None) == Eye()
    assert decided(None, header="B") == Eye()
