"""When a series counts as complete: announced numbers, instance numbers, geometry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.pipeline.completeness import expected, judge
from service.records import Instance


def slice_(number: int, z: float | None = None, announced: dict[str, Any] | None = None, **more: Any) -> Instance:
    attributes = {tag: {"vr": "IS", "Value": [value]} for tag, value in (announced or {}).items()}
    values: dict[str, Any] = {
        "pixel_spacing": (0.7, 0.7),
        "orientation": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "position": (0.0, 0.0, 1.25 * number if z is None else z),
        "instance_number": number,
        "series_uid": "1.2",
        "modality": "CT",
    }
    return Instance(Path(), f"{number}", "dicom", 8, 8, f"1.2.{number}", attributes=attributes, **{**values, **more})


def test_a_series_without_gaps_is_whole() -> None:
    verdict = judge([slice_(n) for n in (3, 1, 2, 4)])
    assert (verdict.whole, verdict.announced) == (True, False)


def test_a_missing_number_is_named() -> None:
    verdict = judge([slice_(n) for n in (1, 2, 3, 5, 6, 7, 8, 9)])
    assert not verdict.whole and "4" in verdict.reason


def test_a_gap_in_space_counts_where_numbers_say_nothing() -> None:
    whole = [slice_(n, instance_number=None) for n in range(1, 10)]
    assert judge(whole).whole
    verdict = judge([one for one in whole if one.sop_instance_uid != "1.2.5"])
    assert not verdict.whole and "gap" in verdict.reason


def test_numbers_that_count_something_else_are_no_gaps() -> None:
    assert judge([slice_(n, z=1.25 * n) for n in (1, 3, 5, 7, 9)]).whole, "every second number: not a count"
    assert judge([slice_(100 + n) for n in range(5)]).whole, "a series that starts at 100"


@pytest.mark.parametrize("tag", ["00201209", "00201002"])
def test_what_the_sender_announced_decides(tag: str) -> None:
    slices = [slice_(n, announced={tag: 4}) for n in (1, 2, 3)]
    verdict = judge(slices)
    assert (verdict.whole, verdict.announced) == (False, False) and "3 of 4" in verdict.reason
    verdict = judge([*slices, slice_(4, announced={tag: 4})])
    assert (verdict.whole, verdict.announced) == (True, True)


def test_an_acquisition_smaller_than_the_series_announces_nothing() -> None:
    assert expected([slice_(n, announced={"00201002": 2}) for n in (1, 2, 3)]) is None
    assert expected([slice_(1, announced={"00201002": 0}), slice_(2)]) is None


def test_a_series_that_is_no_stack_is_judged_by_numbers() -> None:
    verdict = judge([slice_(1, orientation=None), slice_(2)])
    assert verdict.whole and "no regular stack" in verdict.reason
    assert not judge([slice_(1, position=None), slice_(2), slice_(4), slice_(5), slice_(6)]).whole


def test_localisers_and_copies_leave_the_verdict_alone() -> None:
    scout = slice_(99, z=500.0, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"), instance_number=None)
    assert judge([scout, *(slice_(n) for n in range(1, 9))]).whole
