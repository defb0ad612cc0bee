"""Each check passes on an ordinary chest CT and speaks up for its own fault, with value and limit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.intake.ct_checks import check, window_checks
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
        assert results(window_checks(metal)) == {"window_metal": "warn"}
        assert results(window_checks(air)) == {"window_tissue": "warn"}
        assert [entry.value for entry in window_checks(padded) if entry.id == "window_padding"] == [0.1]


def test_real_series(data: Path, sandbox: Sandbox) -> None:
    found = arrange(sandbox.inspect(sandbox.expand(data / "dicom" / "ct_lungfcp_0001.zip")))
    assert results(check(found, {"pixel_spacing_mm": [0.45, 0.98], "slice_thickness_mm": [0.6, 5.0]})) == {}
    tumour = sandbox.hounsfield(found.instances[60])[206:306, 100:200]
    assert all(entry.result != "fail" for entry in window_checks(tumour))
