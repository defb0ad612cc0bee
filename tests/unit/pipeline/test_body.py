"""Pieces of the Analysis body, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from service.pipeline import body
from service.records import Check, Quality, Request, ResponseMap


def maps(response: np.ndarray, box: tuple[float, ...], peak_slice: int = 0) -> ResponseMap:
    count = len(response)
    return ResponseMap(
        response.astype(np.float32), np.zeros((count, 4, 4), np.uint8), ("a", "b"), np.array([box] * count),
        tuple(f"1.{n}" for n in range(count)), np.array([0.5, 0.5]), "guided", "contrast", 2.5, peak_slice,
    )  # fmt: skip


def test_the_peak_is_given_in_pixels_of_the_source() -> None:
    """A map of 4 x 8 over columns 10..26 and rows 20..24: 2 px a map pixel across, 1 px down. Column 5, row 3 covers
    20..22 and 23..24; its middle is (21, 23.5) on the border scale, (20.5, 23) where pixel centres are whole numbers."""
    response = np.full((2, 2, 4, 8), -1.0)
    response[1, 1, 3, 5] = 3.0
    response[1, 0, 0, 0] = 1.0
    assert body.peak_slice(response) == 1
    found = body.evidence(maps(response, (10.0, 20.0, 26.0, 24.0), 1), "n", ("clear",))
    assert found["peak_px"] == [20.5, 23.0]
    assert (found["peak_slice"], found["peak_sop_instance_uid"]) == (1, "1.1")
    assert found["dominant_class_share"] == {"a": 0.25, "b": 0.75}
    assert found["scale"] == {"per_image": 3.0, "per_model": 2.5}
    assert found["maps"] == {"clear": "maps/n/clear.png"}


def test_without_a_positive_response_there_is_no_peak() -> None:
    found = body.evidence(maps(np.full((1, 2, 4, 8), -1.0), (0.0, 0.0, 8.0, 4.0)), "n", ())
    assert found["peak_px"] is None
    assert found["dominant_class_share"] == {"a": 0.0, "b": 0.0}


@pytest.mark.parametrize(
    ("asked", "kinds"),
    [
        ((), ()),
        (("clear",), ("clear",)),
        (("class",), ("class-a", "class-b")),
        (("two_sided", "clear"), ("clear", "two-sided")),
    ],
)
def test_kinds_of_map(asked: tuple[str, ...], kinds: tuple[str, ...]) -> None:
    assert body.map_kinds(Request(maps=asked), ("a", "b")) == kinds


REASON = {"code": "c", "message": "m", "retake": "r"}


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Quality(True, 1.0), "111237"),
        (Quality(True, 0.6, (REASON,)), "111236"),
        (Quality(False, 0.2, (REASON,)), "111235"),
    ],
)
def test_quality_is_coded(verdict: Quality, code: str) -> None:
    found = body.quality(verdict)
    assert (found["code"]["value"], found["code"]["scheme"], found["gradable"]) == (code, "DCM", verdict.gradable)


def test_the_quality_of_a_series_is_that_of_its_checks() -> None:
    checks = [
        Check("a", "pass", "good"),
        Check("b", "warn", "hm", 3, 2),
        Check("c", "pass", "good"),
        Check("d", "pass", "good"),
    ]
    found = body.quality_of_checks(checks)
    assert (found["gradable"], found["score"], [r["code"] for r in found["reasons"]]) == (True, 0.75, ["b"])
    assert not body.quality_of_checks([*checks, Check("e", "fail", "no")])["gradable"]
