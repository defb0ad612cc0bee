"""A stack of CT slices in space: from a place in millimetres to a pixel and back, and the slices around one.

All geometry comes from the headers. Source: DICOM PS3.3 C.7.6.2.1.1 (Image Position, Image Orientation, equation
C.7.6.2.1-1): the centre of pixel (column, row) lies at position + column * spacing[1] * X + row * spacing[0] * Y, with X and
Y the first and the last three direction cosines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.errors import OutOfContract
from service.records import Check, Instance, Region

UNKNOWN_HALF_THICKNESS_MM = 5.0
_ROUNDING_MM = 0.01


@dataclass(frozen=True)
class Stack:
    """Slices of one series in order, with what was found out about them.

    Attributes
    ----------
    instances : tuple of Instance
        Sorted along the normal (X cross Y), ascending.
    pixel_spacing : (row spacing, column spacing)
        Of the first slice, mm; all agree within 1 %.
    slice_spacing_mm : float or None
        Median distance of neighbours; of a single slice its thickness, None where that is unknown.
    checks : tuple of Check
    left_out : dict
        `Instance.key` to the reason, for slices that are not part of the stack.
    """

    instances: tuple[Instance, ...]
    pixel_spacing: tuple[float, float]
    slice_spacing_mm: float | None
    checks: tuple[Check, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)

    def locate(self, region: Region) -> tuple[int, tuple[float, float]]:
        """Slice and pixel of a region's centre.

        Returns
        -------
        index : int
            Slice: the one the sender names, or the nearest to a centre in mm.
        (column, row) : tuple of float
            Zero-based, pixel centres at whole numbers; not rounded.

        Raises
        ------
        OutOfContract
            Outside the images, or in a slice that is not part of the stack; with the value and the limit.
        """
        if region.center_mm is not None:
            index, pixel = self._nearest(region.id, region.center_mm)
        elif region.sop_instance_uid is not None and region.center_px is not None:
            index, pixel = self._index(region, region.sop_instance_uid), region.center_px
        else:
            raise _outside(region.id, "has no centre: give center_mm, or sop_instance_uid and center_px", None, None)
        columns, rows = self.instances[index].columns, self.instances[index].rows
        if not (-0.5 <= pixel[0] < columns - 0.5 and -0.5 <= pixel[1] < rows - 0.5):
            limit = [columns - 1, rows - 1]
            text = f"its centre is column {pixel[0]:.1f}, row {pixel[1]:.1f}; the image ends at column {limit[0]}, row {limit[1]}"
            raise _outside(region.id, text, [round(pixel[0], 2), round(pixel[1], 2)], limit)
        return index, (float(pixel[0]), float(pixel[1]))

    def to_mm(self, index: int, pixel: tuple[float, float]) -> tuple[float, float, float]:
        """Patient coordinates (x, y, z) in mm of a pixel (column, row) of a slice; PS3.3 equation C.7.6.2.1-1."""
        x_axis, y_axis, _ = axes(self.instances[index])
        way = pixel[0] * self.pixel_spacing[1] * x_axis + pixel[1] * self.pixel_spacing[0] * y_axis
        point = position(self.instances[index]) + way
        return (float(point[0]), float(point[1]), float(point[2]))

    def around(self, index: int, half_depth_mm: float) -> list[int]:
        """Slices at most `half_depth_mm` from slice `index` along the normal; that slice is always among them."""
        distances = self._along() - self._along()[index]
        return [int(k) for k in np.flatnonzero(np.abs(distances) <= half_depth_mm + _ROUNDING_MM)]

    def _along(self) -> np.ndarray:
        normal = axes(self.instances[0])[2]
        return np.array([normal @ position(instance) for instance in self.instances])

    def _nearest(self, name: str, center_mm: tuple[float, float, float]) -> tuple[int, tuple[float, float]]:
        center = np.asarray(center_mm, float)
        if center.shape != (3,) or not np.isfinite(center).all():
            raise _outside(name, "its centre must be three finite numbers (x, y, z) in mm", None, None)
        x_axis, y_axis, normal = axes(self.instances[0])
        distances = normal @ center - self._along()
        index = int(np.abs(distances).argmin())
        limit = self._half_thickness()
        if abs(distances[index]) > limit + _ROUNDING_MM:
            text = f"its centre lies {abs(distances[index]):.1f} mm from the nearest slice; at most {limit:.1f} mm is accepted"
            raise _outside(name, text, round(float(abs(distances[index])), 2), round(limit, 2))
        offset = center - position(self.instances[index])
        return index, (float(x_axis @ offset) / self.pixel_spacing[1], float(y_axis @ offset) / self.pixel_spacing[0])

    def _half_thickness(self) -> float:
        """How far from the plane of its nearest slice a place may lie, mm."""
        known = [size for size in (self.slice_spacing_mm, self.instances[0].slice_thickness) if size is not None]
        return max(known) / 2 if known else UNKNOWN_HALF_THICKNESS_MM

    def _index(self, region: Region, uid: str) -> int:
        frames = {k: instance.frame for k, instance in enumerate(self.instances) if instance.sop_instance_uid == uid}
        for index, frame in frames.items():
            if frame in (0, region.frame) or (len(frames) == 1 and not region.frame):
                return index
        if frames:
            text = f"its image has {len(frames)} frames in the stack; name one of them, or give center_mm"
            raise _outside(region.id, text, region.frame or None, max(frames.values()))
        reasons = [why for key, why in self.left_out.items() if key.partition("#")[0] == uid]
        if reasons:
            raise _outside(region.id, f"its image was left out: {reasons[0]}", uid, None)
        raise _outside(region.id, "its image is not among those of the series; send it too, or name another", uid, None)


def _outside(name: str, text: str, value: Any, limit: Any) -> OutOfContract:
    entry = {"where": f"region {name}", "message": text, "value": value, "limit": limit}
    return OutOfContract(f"region {name}: {text}", [{key: part for key, part in entry.items() if part is not None}])


def axes(instance: Instance) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors in patient space: along a row (growing column), along a column (growing row), and their cross product."""
    cosines = np.asarray(instance.orientation, float)
    x_axis, y_axis = (part / np.linalg.norm(part) for part in (cosines[:3], cosines[3:]))
    return x_axis, y_axis, np.cross(x_axis, y_axis)


def position(instance: Instance) -> np.ndarray:
    """Centre of the first pixel, mm."""
    return np.asarray(instance.position, float)
