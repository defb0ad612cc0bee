"""Each check passes on an ordinary chest CT and speaks up for its own fault, with value and limit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.intake.ct_checks import MOST_UNSEEN, check, neighbours, place_checks, window_checks
from service.intake.sandbox import Sandbox
from service.intake.series import arrange
from service.intake.stack import Stack
from service.records import Check, Instance

RANGES = {"pixel_spacing_mm": [0.5, 0.9], "slice_thickness_mm": [0.6, 3.0]}


def stack(degrees: float = 0.0, step: float = 2.0, **changes: Any) -> Stack:
    """Six slices turned by `degrees` about the x axis."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    slices = []
    for k in range(6):
        values: dict[str, Any] = {
            "path": Path("none"),
            "sha256": str(k),
            "media": "dicom",
            "rows": 40,
            "columns": 50,
            "sop_instance_uid": f"2.25.{k}",
            "series_uid": "2.25.99",
            "modality": "CT",
            "pixel_spacing": (0.7, 0.7),
            "orientation": (1.0, 0.0, 0.0, 0.0, cosine, sine),
            "position": (0.0, -sine * step * k, cosine * step * k),
            "slice_thickness": 2.0,
            "rescale": (1.0, -1024.0),
            "image_type": ("ORIGINAL", "PRIMARY", "AXIAL"),
        }
        slices.append(Instance(**{**values, **changes}))
    return arrange(slices)


def results(checks: tuple[Check, ...]) -> dict[str, str]:
    """Checks that did not pass."""
    return {entry.id: entry.result for entry in checks if entry.result != "pass"}


def test_ordinary_series_passes_everything() -> None:
    found = check(stack(), RANGES)
    assert results(found) == {}
    assert {
        "localizer",
        "gaps",
        "duplicates",
        "tilt",
        "modality",
        "axial",
        "rescale",
        "pixel_spacing_mm",
        "slice_thickness_mm",
    } <= {c.id for c in found}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"modality": "MR"}, {"modality": "fail"}),
        ({"degrees": 15}, {"axial": "warn"}),
        ({"degrees": 90}, {"axial": "fail"}),
        ({"degrees": -20}, {"axial": "warn"}),
        ({"pixel_spacing": (1.0, 1.0)}, {"pixel_spacing_mm": "warn"}),
        ({"pixel_spacing": (0.7, 1.4)}, {"pixel_spacing_mm": "fail"}),
        ({"pixel_spacing": (0.2, 0.2)}, {"pixel_spacing_mm": "warn"}),
        ({"slice_thickness": 4.0}, {"slice_thickness_mm": "warn"}),
        ({"slice_thickness": 8.0}, {"slice_thickness_mm": "fail"}),
        ({"step": 10.0, "slice_thickness": 1.0}, {"slice_sampling": "warn"}),
        ({"slice_thickness": None, "step": 2.5}, {}),
        ({"rescale": None}, {"rescale": "warn"}),
        ({"image_type": ("DERIVED", "SECONDARY", "MIP")}, {"original": "warn"}),
    ],
)
def test_each_fault(changes: dict[str, Any], expected: dict[str, str]) -> None:
    found = check(stack(**changes), RANGES)
    assert results(found) == expected
    for entry in found:
        if entry.id in expected:
            assert entry.value is not None
            assert entry.limit is not None


def test_unknown_range_and_unknown_thickness() -> None:
    assert results(check(stack(pixel_spacing=(9.0, 9.0)), {})) == {}
    [single] = [
        entry
        for entry in check(arrange(stack(slice_thickness=None).instances[:1]), RANGES)
        if entry.id == "slice_thickness_mm"
    ]
    assert (single.result, single.value, single.limit) == ("warn", None, [0.6, 3.0])


class TestWindow:
    def window(self) -> np.ndarray:
        """Lung (-850 HU) with a nodule (30 HU) in the middle."""
        y, x = np.mgrid[0:100, 0:100] - 49.5
        return np.where(x**2 + y**2 < 100, 30.0, -850.0).astype(np.float32)

    def test_nodule_in_lung_passes(self) -> None:
        assert results(window_checks(self.window())) == {}

    def test_flat_window(self) -> None:
        found = window_checks(np.full((100, 100), 40.0) + np.random.default_rng(0).normal(0, 5, (100, 100)))
        assert results(found) == {"window_contrast": "fail"}
        assert found[0].value == pytest.approx(2 * 2.326 * 5, rel=0.1)

    def test_numbers_that_are_none(self) -> None:
        broken = self.window()
        broken[0, 0] = np.nan
        assert results(window_checks(broken))["window_contrast"] == "fail"

    def test_padding_metal_and_air(self) -> None:
        padded, metal, air = self.window(), self.window(), self.window()
        padded[:10] = -2000
        metal[40:60, 40:60] = 4000
        air[30:70, 30:70] = -1000
        assert results(window_checks(padded)) == {"window_padding": "warn"}
        assert results(window_checks(metal)) == {"window_metal": "fail"}
        assert results(window_checks(air)) == {"window_tissue": "warn"}
        assert [entry.value for entry in window_checks(padded) if entry.id == "window_padding"] == [0.1]

    @pytest.mark.parametrize(
        ("rows", "hounsfield", "expected"),
        [
            (3, -2000, {}),  # 3 % of the window
            (50, -1025, {"window_padding": "warn"}),
            (51, -1025, {"window_padding": "fail"}),
            (51, -1024, {}),
            (1, 2501, {"window_metal": "warn"}),  # any metal would squeeze the contrast of the rest
            (1, 2499, {}),
        ],
    )
    def test_limits_of_padding_and_metal(self, rows: int, hounsfield: float, expected: dict[str, str]) -> None:
        window = self.window()
        window[:rows] = hounsfield
        assert results(window_checks(window)) == expected

    @pytest.mark.parametrize(("value", "name"), [(-3024, "window_padding"), (12000, "window_metal")])
    def test_a_centre_that_is_no_part_of_the_patient_fails(self, value: float, name: str) -> None:
        """The middle fifth is 20 x 20 px: with 8 of its rows it is in doubt, with 11 it is gone."""
        for rows, result in ((8, "warn"), (11, "fail")):
            window = self.window()
            window[40 : 40 + rows, 30:70] = value
            window[:3] = value  # in both cases more than is passed over, in all
            found = {entry.id: entry for entry in window_checks(window)}
            assert found[name].result == result
            if result == "fail":
                assert (found[name].value, found[name].limit) == (0.55, MOST_UNSEEN)
                assert "55 % of the window's middle" in found[name].message


class TestPlace:
    """A stack of six slices of 50 x 40 px of 0.7 mm, 2 mm apart; the window is 16 px wide."""

    def found(
        self, x: float = 25, y: float = 20, index: int = 3, size: float = 16, **more: Any
    ) -> dict[str, tuple[str, Any, Any]]:
        box = (x + 0.5 - size / 2, y + 0.5 - size / 2, x + 0.5 + size / 2, y + 0.5 + size / 2)
        settings = {"diameter_mm": None, "half_depth_mm": 2.5, "ranges": {"nodule_diameter_mm": [3, 30]}, **more}
        checks = place_checks(stack(), index, (x, y), box, **settings)
        return {check.id: (check.result, check.value, check.limit) for check in checks}

    def test_in_the_middle_all_is_well(self) -> None:
        assert self.found() == {
            "window_border": ("pass", 0.0, 0.05),
            "nodule_border": ("pass", 13.65, 5.0),  # 19.5 px to the last row
            "window_depth": ("pass", 5.0, 2.5),  # two slices above, and half of the last
        }

    @pytest.mark.parametrize(
        ("diameter", "result"), [(2.9, "fail"), (3.0, "pass"), (12.5, "pass"), (30.0, "pass"), (30.1, "fail")]
    )
    def test_diameter(self, diameter: float, result: str) -> None:
        assert self.found(diameter_mm=diameter, size=4)["nodule_diameter_mm"] == (result, diameter, [3.0, 30.0])

    def test_nothing_is_said_about_a_diameter_that_nobody_measured_or_limits(self) -> None:
        assert "nodule_diameter_mm" not in self.found()
        assert "nodule_diameter_mm" not in self.found(diameter_mm=80.0, ranges={})

    @pytest.mark.parametrize(
        ("x", "y", "share", "result"),
        [
            (7.5, 20, 0.0, "pass"),
            (6.75, 20, 0.75 / 16, "pass"),
            (5.5, 20, 0.125, "warn"),
            (-0.5, 20, 0.5, "warn"),  # on the left border
            (3.5, 35.5, 1 - 12 / 16 * 12 / 16, "warn"),
            (0.5, 37.5, 1 - 9 / 16 * 10 / 16, "fail"),
            (49.4, 39.4, 1 - 8.1 / 16 * 8.1 / 16, "fail"),
        ],
    )
    def test_share_outside(self, x: float, y: float, share: float, result: str) -> None:
        found = self.found(x, y)["window_border"]
        assert found == (result, pytest.approx(share, abs=1e-3), 0.5 if result == "fail" else 0.05)

    def test_a_nodule_that_the_image_ends_in_fails(self) -> None:
        """Column 9.5 lies 10 px, 7 mm from the border; unmeasured, a nodule is taken for one of 10 mm."""
        assert self.found(9.5)["nodule_border"] == ("pass", 7.0, 5.0)
        assert self.found(9.5, diameter_mm=14.0)["nodule_border"] == ("pass", 7.0, 7.0)
        assert self.found(9.5, diameter_mm=14.2)["nodule_border"] == ("fail", 7.0, 7.1)
        assert self.found(6.5)["nodule_border"] == ("fail", 4.9, 5.0)
        assert self.found(6.5, diameter_mm=9.0)["nodule_border"] == ("pass", 4.9, 4.5)
        assert self.found(25, 38.5)["nodule_border"] == ("fail", 0.7, 5.0)

    @pytest.mark.parametrize(
        ("index", "depth", "result"),
        [(0, 1.0, "warn"), (1, 3.0, "pass"), (4, 3.0, "pass"), (5, 1.0, "warn")],
    )
    def test_the_first_and_the_last_slice(self, index: int, depth: float, result: str) -> None:
        assert self.found(index=index)["window_depth"] == (result, depth, 2.5)

    def test_a_single_slice_is_as_deep_as_it_is_thick(self) -> None:
        single = arrange(stack(slice_thickness=4.0).instances[:1])
        (*_, depth) = place_checks(
            single, 0, (25, 20), (20, 15, 30, 25), diameter_mm=None, half_depth_mm=2.5, ranges={}
        )
        assert (depth.id, depth.result, depth.value) == ("window_depth", "warn", 2.0)


class TestNeighbours:
    REACH = (24.0, 24.0, 2.5)

    def test_those_in_the_window_are_named_with_their_distance(self) -> None:
        others = {
            "near": ((3.0, -4.0, 0.0), 0.0),
            "corner": ((24.0, 24.0, 2.5), 0.0),
            "beside": ((24.1, 0.0, 0.0), 0.0),
            "above": ((0.0, 0.0, 2.6), 0.0),
        }
        found = neighbours(others, self.REACH)
        assert (found.id, found.result, found.limit) == ("window_neighbours", "warn", 24.0)
        assert found.value == [{"id": "near", "distance_mm": 5.0}, {"id": "corner", "distance_mm": 34.0}]
        assert "near (5 mm away), corner (34 mm away)" in found.message

    def test_a_large_one_beside_the_window_reaches_into_it(self) -> None:
        assert neighbours({"mass": ((30.0, 0.0, 0.0), 7.0)}, self.REACH).value == [{"id": "mass", "distance_mm": 30.0}]
        assert neighbours({"mass": ((30.0, 0.0, 0.0), 5.0)}, self.REACH).result == "pass"
        assert neighbours({"mass": ((0.0, 9.0, -12.0), 10.0)}, self.REACH).value == [
            {"id": "mass", "distance_mm": 15.0}
        ]

    def test_nobody_near(self) -> None:
        found = neighbours({"far": ((0.0, 60.0, 0.0), 3.0)}, self.REACH)
        assert (found.result, found.value) == ("pass", [])


def test_real_series(data: Path, sandbox: Sandbox) -> None:
    found = arrange(sandbox.inspect(sandbox.expand(data / "dicom" / "ct_lungfcp_0001.zip")))
    assert results(check(found, {"pixel_spacing_mm": [0.45, 0.98], "slice_thickness_mm": [0.6, 5.0]})) == {}
    tumour = sandbox.hounsfield(found.instances[60])[206:306, 100:200]
    assert all(entry.result != "fail" for entry in window_checks(tumour))
