"""Geometry against values worked out by hand, and against SimpleITK on a real series."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK

from service.errors import OutOfContract
from service.intake.sandbox import Sandbox
from service.intake.series import Stack, arrange, group
from service.records import Instance, Region

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def slice_at(z: float, number: int = 0, **changes: Any) -> Instance:
    """An axial slice of 40 rows and 50 columns, 0.5 mm apart in a column and 0.8 mm in a row, first pixel at (-10, -20, z)."""
    values: dict[str, Any] = {
        "path": Path("none"),
        "sha256": f"{z}-{number}",
        "media": "dicom",
        "rows": 40,
        "columns": 50,
        "sop_instance_uid": f"2.25.{number}",
        "series_uid": "2.25.999",
        "frame_of_reference_uid": "2.25.998",
        "modality": "CT",
        "pixel_spacing": (0.5, 0.8),
        "orientation": AXIAL,
        "position": (-10.0, -20.0, z),
        "slice_thickness": 2.0,
        "instance_number": number,
        "rescale": (1.0, -1024.0),
        "bits": 16,
    }
    return Instance(**{**values, **changes})


def regular(count: int = 10, step: float = 2.0, **changes: Any) -> list[Instance]:
    return [slice_at(100.0 + step * k, k, **changes) for k in range(count)]


def warned(stack: Stack) -> set[str]:
    return {check.id for check in stack.checks if check.result == "warn"}


class TestArrange:
    def test_sorted_along_the_normal_whatever_the_numbers_say(self) -> None:
        shuffled = [slice_at(z, number) for number, z in enumerate([106, 100, 104, 102])]
        stack = arrange(shuffled)
        assert [instance.position[2] for instance in stack.instances if instance.position] == [100, 102, 104, 106]
        assert stack.slice_spacing_mm == 2
        assert stack.pixel_spacing == (0.5, 0.8)
        assert not warned(stack)

    def test_normal_points_to_rising_slices_in_any_orientation(self) -> None:
        """Coronal: rows run to the left (x), columns downwards (-z); x cross -z = y: slices rise with y."""
        coronal = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
        stack = arrange(
            [slice_at(0, k, orientation=coronal, position=(0.0, float(y), 0.0)) for k, y in enumerate([9, 3, 6])]
        )
        assert [instance.instance_number for instance in stack.instances] == [1, 2, 0]
        assert stack.to_mm(0, (10, 4)) == pytest.approx((8, 3, -2))

    def test_single_slice(self) -> None:
        stack = arrange([slice_at(100)])
        assert (len(stack.instances), stack.slice_spacing_mm) == (1, 2.0)
        assert arrange([slice_at(100, slice_thickness=None)]).slice_spacing_mm is None

    def test_localizer_left_out(self) -> None:
        scout = slice_at(0, 77, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"), rows=900, position=None)
        stack = arrange([scout, *regular()])
        assert warned(stack) == {"localizer"}
        assert stack.left_out == {"2.25.77": "it is a localiser"}
        with pytest.raises(OutOfContract, match="only localisers"):
            arrange([scout])

    def test_same_file_twice_counts_once(self) -> None:
        assert len(arrange([*regular(), *regular()]).instances) == 10

    def test_one_uid_with_two_contents(self) -> None:
        with pytest.raises(OutOfContract, match="two different images"):
            arrange([*regular(), slice_at(500, 3)])

    def test_few_copies_of_a_position_are_left_out(self) -> None:
        stack = arrange([*regular(20), slice_at(104.0, 50)])
        assert len(stack.instances) == 20
        assert warned(stack) == {"duplicates"}
        assert "2.25.50" in stack.left_out

    def test_two_phases_in_one_series(self) -> None:
        second = [slice_at(100.0 + 2 * k, 100 + k) for k in range(10)]
        with pytest.raises(OutOfContract, match="phases") as caught:
            arrange([*regular(), *second])
        assert caught.value.errors[0]["value"] == 0.5

    def test_gap(self) -> None:
        stack = arrange([instance for k, instance in enumerate(regular(12)) if k not in (5, 6)])
        assert warned(stack) == {"gaps"}
        [check] = [check for check in stack.checks if check.id == "gaps"]
        assert (check.value, check.limit) == (6.0, 3.0)

    @pytest.mark.parametrize(
        ("changes", "name"),
        [
            ({"rows": 512}, "image_size"),
            ({"orientation": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)}, "orientation"),
            ({"pixel_spacing": (0.7, 0.8)}, "pixel_spacing"),
            ({"frame_of_reference_uid": "2.25.5"}, "frame_of_reference"),
        ],
    )
    def test_odd_slice_out(self, changes: dict[str, Any], name: str) -> None:
        stack = arrange([*regular(), slice_at(300, 60, **changes)])
        assert warned(stack) == {name}
        assert set(stack.left_out) == {"2.25.60"}
        others = [slice_at(300 + 2 * k, 60 + k, **changes) for k in range(8)]
        with pytest.raises(OutOfContract, match="only 10 of 18 agree"):
            arrange([*regular(), *others])

    def test_rounding_in_headers_is_no_difference(self) -> None:
        tilted = tuple(c + 0.0004 for c in AXIAL)
        assert not warned(arrange([*regular(), slice_at(120, 60, orientation=tilted, pixel_spacing=(0.5004, 0.7996))]))

    def test_gantry_tilt(self) -> None:
        """Each slice 2 mm along z and 0.5 mm along y: atan(0.25) = 14 degrees."""
        sheared = [slice_at(0, k, position=(0.0, 0.5 * k, 2.0 * k)) for k in range(8)]
        stack = arrange(sheared)
        assert warned(stack) == {"tilt"}
        assert [check.value for check in stack.checks if check.id == "tilt"] == [
            pytest.approx(math.degrees(math.atan(0.25)), abs=0.01)
        ]
        with pytest.raises(OutOfContract, match="off the slices' normal"):
            arrange([slice_at(0, k, position=(0.0, 9.0 * k, 2.0 * k)) for k in range(8)])

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"frames": 40}, "enhanced"),
            ({"has_pixels": False}, "no Pixel Data"),
            ({"position": None}, r"no Image Position .*\(0020,0032\)"),
            ({"orientation": None}, r"\(0020,0037\)"),
            ({"pixel_spacing": None}, r"no Pixel Spacing \(0028,0030\)"),
            ({"orientation": (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)}, "perpendicular"),
            ({"series_uid": "2.25.7"}, "several series"),
        ],
    )
    def test_no_meaningful_answer(self, changes: dict[str, Any], text: str) -> None:
        with pytest.raises(OutOfContract, match=text):
            arrange([*regular(), slice_at(300, 60, **changes)])
        with pytest.raises(OutOfContract, match="no slices"):
            arrange([])

    def test_group(self) -> None:
        one, two = slice_at(0, 1, series_uid="1"), slice_at(0, 2, series_uid="2")
        photograph = dataclasses.replace(one, media="photograph", series_uid="")
        assert group([one, two, photograph, one]) == {"1": [one, one], "2": [two], "": [photograph]}


class TestPlaces:
    STACK = arrange(regular())

    def test_millimetres_to_pixel_by_hand(self) -> None:
        """Column spacing is the second number: (7 + 10) / 0.8 columns, (-3 + 20) / 0.5 rows; z 107 is nearer to 106 or 108."""
        index, (column, row) = self.STACK.locate(Region("a", center_mm=(7, -3, 106.4)))
        assert (index, column, row) == (3, pytest.approx(21.25), pytest.approx(34.0))

    def test_there_and_back(self) -> None:
        tilted = arrange(
            [
                slice_at(0, k, orientation=(0.8, 0.6, 0.0, -0.6, 0.8, 0.0), position=(1.0 * k, 2.0, 3.0 * k))
                for k in range(5)
            ]
        )
        for pixel in [(0.0, 0.0), (49.0, 39.0), (12.25, 7.5)]:
            point = tilted.to_mm(3, pixel)
            index, found = tilted.locate(Region("a", center_mm=point))
            assert index == 3
            assert found == pytest.approx(pixel)

    def test_pixel_of_an_instance(self) -> None:
        assert self.STACK.locate(Region("a", sop_instance_uid="2.25.4", center_px=(49, 39))) == (4, (49.0, 39.0))

    @pytest.mark.parametrize(
        ("region", "text", "limit"),
        [
            (Region("a", center_mm=(99999, 0, 104)), "column 125011.2", [49, 39]),
            (Region("a", center_mm=(7, -3, 121)), "3.0 mm from the nearest", 1.0),
            (Region("a", center_mm=(7, -3, 98.9)), "1.1 mm from the nearest", 1.0),
            (Region("a", center_mm=(7, float("nan"), 100)), "finite", None),
            (Region("a", sop_instance_uid="2.25.4", center_px=(50, 3)), "column 50.0", [49, 39]),
            (Region("a", sop_instance_uid="2.25.4", center_px=(-1, 3)), "column -1.0", [49, 39]),
            (Region("a", sop_instance_uid="2.25.4711", center_px=(5, 3)), "not among", None),
            (Region("a"), "no centre", None),
        ],
    )
    def test_outside(self, region: Region, text: str, limit: Any) -> None:
        with pytest.raises(OutOfContract, match=text) as caught:
            self.STACK.locate(region)
        [entry] = caught.value.errors
        assert entry["where"] == "region a"
        assert entry.get("limit") == limit

    def test_slice_that_was_left_out(self) -> None:
        stack = arrange([*regular(), slice_at(300, 60, rows=512)])
        with pytest.raises(OutOfContract, match="left out: its rows and columns differ"):
            stack.locate(Region("a", sop_instance_uid="2.25.60", center_px=(5, 3)))

    def test_depth_of_a_single_slice(self) -> None:
        thin, unknown = arrange([slice_at(100)]), arrange([slice_at(100, slice_thickness=None)])
        assert thin.locate(Region("a", center_mm=(7, -3, 101)))[0] == 0
        with pytest.raises(OutOfContract, match="at most 1.0 mm"):
            thin.locate(Region("a", center_mm=(7, -3, 101.5)))
        assert unknown.locate(Region("a", center_mm=(7, -3, 104.9)))[0] == 0
        with pytest.raises(OutOfContract, match="at most 5.0 mm"):
            unknown.locate(Region("a", center_mm=(7, -3, 105.5)))

    def test_around(self) -> None:
        assert self.STACK.around(5, 2.5) == [4, 5, 6]
        assert self.STACK.around(0, 4.0) == [0, 1, 2]
        assert self.STACK.around(9, 0.1) == [9]


def test_real_series_against_simpleitk(data: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    """Order of the slices, spacing, and 50 places in the volume of a real CT."""
    files = sandbox.expand(data / "dicom" / "ct_lungfcp_0001.zip")
    stack = arrange(sandbox.inspect(files))
    assert len(stack.instances) == 98
    assert not warned(stack)
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(files[0].parent))
    peer = SimpleITK.ImageSeriesReader()
    peer.SetFileNames(names)
    image = peer.Execute()
    assert [str(instance.path) for instance in stack.instances] == list(names)
    assert image.GetSpacing() == pytest.approx((stack.pixel_spacing[1], stack.pixel_spacing[0], stack.slice_spacing_mm))
    random = np.random.default_rng(0)
    for place in random.uniform(0, 1, (50, 3)) * [511, 511, 97]:
        point = image.TransformContinuousIndexToPhysicalPoint([float(v) for v in place])
        index, (column, row) = stack.locate(Region("a", center_mm=point))
        assert (column, row) == pytest.approx(tuple(place[:2]), abs=1e-6)
        assert index == round(place[2])
        assert stack.to_mm(index, (column, row)) == pytest.approx(
            image.TransformContinuousIndexToPhysicalPoint([*place[:2], float(index)]), abs=1e-6
        )
    middle = stack.instances[40]
    np.testing.assert_array_equal(sandbox.hounsfield(middle), SimpleITK.GetArrayViewFromImage(image)[40])
