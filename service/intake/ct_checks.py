"""Whether a CT series, and a place in it, is what the lung model was made for: one `Check` each, with value and limit.

A check that fails means the model must not answer (for this place); one that warns travels with the answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from models.preprocessing import HU_RANGE, Box
from service.intake.stack import Stack, axes, position
from service.records import Check

_Result = Literal["pass", "warn", "fail"]
_ROUNDING_MM = 0.01

AXIAL_WARN_DEGREES, AXIAL_FAIL_DEGREES = 10.0, 35.0
"""A gantry tilts by up to 30 degrees."""
COARSER_FAIL = 1.5
"""Pixels or slices coarser than the training set's coarsest by this factor fail; finer ones only warn, they are averaged."""
LEAST_CONTRAST_HU = 50.0
MOST_OUTSIDE, MOST_PADDING, MOST_METAL = 0.05, 0.05, 0.0
"""Shares of the window that are passed over; more warns."""
MOST_UNSEEN = 0.5
"""Share of the window, or of its middle, that may be missing: beyond it, what is seen is more filling than image."""
UNSTATED_DIAMETER_MM = 10.0
"""Taken for a nodule that nobody measured where the question is whether it reaches beyond the image."""
TISSUE_HU = -850.0


def check(stack: Stack, ranges: Mapping[str, Sequence[float]]) -> tuple[Check, ...]:
    """All checks on headers: those of the stack, then those against the model's contract.

    Parameters
    ----------
    stack : Stack
    ranges : mapping
        A bundle's ``input.ranges``: "pixel_spacing_mm" and "slice_thickness_mm" to [smallest, largest] of its training set.
    """
    largest_pixel = max(max(instance.pixel_spacing or (0.0, 0.0)) for instance in stack.instances)
    thickness = stack.instances[0].slice_thickness or stack.slice_spacing_mm
    return (
        *stack.checks,
        _modality(stack),
        _axial(stack),
        _within("pixel_spacing_mm", "pixel spacing", largest_pixel, ranges),
        _within("slice_thickness_mm", "slice thickness", thickness, ranges),
        _sampling(stack),
        _rescale(stack),
        _original(stack),
    )


def window_checks(window: np.ndarray) -> tuple[Check, ...]:
    """Checks on the pixels round one centre, before padding and metal are taken out of them.

    Parameters
    ----------
    window : ndarray, shape (h, w)
        Hounsfield units; the centre of the region is the centre of the window.

    Returns
    -------
    tuple of Check
        "window_contrast" (fails on a flat window, whose noise min-max scaling would blow up), "window_padding" and
        "window_metal" (fail where they are most of the window or of its middle), "window_tissue".
    """
    finite = bool(np.isfinite(window).all())
    low, high = np.percentile(window, [1, 99]) if finite else (0.0, 0.0)
    contrast = Check(
        "window_contrast",
        "pass" if high - low >= LEAST_CONTRAST_HU else "fail",
        f"grey values round the centre span {high - low:.0f} HU" + ("" if finite else " (some are no numbers)"),
        round(float(high - low), 1),
        LEAST_CONTRAST_HU,
    )
    tissue = float(_middle(window).max())
    return (
        contrast,
        _foreign("window_padding", "padding of the scanner", window < HU_RANGE[0], MOST_PADDING),
        _foreign("window_metal", "metal", window > HU_RANGE[1], MOST_METAL),
        Check(
            "window_tissue",
            "pass" if tissue > TISSUE_HU else "warn",
            "there is tissue at the centre"
            if tissue > TISSUE_HU
            else "there is only air at the centre: is it the right place?",
            round(tissue, 1),
            TISSUE_HU,
        ),
    )


def _middle(window: np.ndarray) -> np.ndarray:
    height, width = window.shape
    return window[height * 2 // 5 : height - height * 2 // 5, width * 2 // 5 : width - width * 2 // 5]


def _foreign(name: str, what: str, where: np.ndarray, most: float) -> Check:
    share, middle = float(where.mean()), float(_middle(where).mean())
    if middle > MOST_UNSEEN >= share:
        return Check(
            name, "fail", f"{100 * middle:.0f} % of the window's middle is {what}", round(middle, 4), MOST_UNSEEN
        )
    return _share(name, f"is {what}", share, most)


def _share(name: str, what: str, share: float, most: float) -> Check:
    result: _Result = "fail" if share > MOST_UNSEEN else "warn" if share > most else "pass"
    limit = MOST_UNSEEN if result == "fail" else most
    return Check(name, result, f"{100 * share:.1f} % of the window {what}", round(share, 4), limit)


def border(box: Box, shape: tuple[int, int]) -> Check:
    """Check "window_border": how much of the window lies outside the image, where the nearest pixels are repeated.

    Parameters
    ----------
    box : (x0, y0, x1, y1)
        The window in pixels of the image.
    shape : (rows, columns)
    """
    x0, y0, x1, y1 = box
    across, down = min(x1, shape[1]) - max(x0, 0.0), min(y1, shape[0]) - max(y0, 0.0)
    share = 1 - max(across, 0.0) * max(down, 0.0) / ((x1 - x0) * (y1 - y0))
    return _share("window_border", "lies outside the image", max(share, 0.0), MOST_OUTSIDE)


def place_checks(
    stack: Stack,
    index: int,
    center: tuple[float, float],
    box: Box,
    *,
    diameter_mm: float | None,
    half_depth_mm: float,
    ranges: Mapping[str, Sequence[float]],
) -> tuple[Check, ...]:
    """Checks on a place that need no pixels.

    Parameters
    ----------
    stack : Stack
    index : int
        Slice of the centre.
    center : (column, row)
    box : (x0, y0, x1, y1)
        The window, in pixels.
    diameter_mm : float, optional
        Of the nodule, where somebody measured it.
    half_depth_mm : float
        The answer is the mean over the slices that lie so near to the centre's.
    ranges : mapping
        "nodule_diameter_mm" to [smallest, largest] nodule the model is for; without it, or without a diameter, nothing is said.

    Returns
    -------
    tuple of Check
        "nodule_diameter_mm" (fails out of range), "window_border", "nodule_border" (fails where the image ends in the nodule),
        "window_depth" (warns where the volume ends within `half_depth_mm`).
    """
    shape = (stack.instances[index].rows, stack.instances[index].columns)
    return (
        *_diameter(diameter_mm, ranges),
        border(box, shape),
        _cut(center, shape, stack.pixel_spacing, diameter_mm),
        _depth(stack, index, half_depth_mm),
    )


def _diameter(value: float | None, ranges: Mapping[str, Sequence[float]]) -> tuple[Check, ...]:
    if value is None or "nodule_diameter_mm" not in ranges:
        return ()
    low, high = (float(limit) for limit in ranges["nodule_diameter_mm"])
    good = low <= value <= high
    text = f"a diameter of {value:.1f} mm" + (
        "" if good else f"; the model is for nodules of {low:g} to {high:g} mm and says nothing about others"
    )
    return (Check("nodule_diameter_mm", "pass" if good else "fail", text, round(value, 2), [low, high]),)


def _cut(
    center: tuple[float, float], shape: tuple[int, int], spacing: tuple[float, float], diameter_mm: float | None
) -> Check:
    """Distance from the centre to the nearest border of the image against the nodule's radius."""
    (x, y), (rows, columns) = center, shape
    away = min(min(x + 0.5, columns - 0.5 - x) * spacing[1], min(y + 0.5, rows - 0.5 - y) * spacing[0])
    radius = (UNSTATED_DIAMETER_MM if diameter_mm is None else diameter_mm) / 2
    good = away >= radius
    text = f"the image ends {away:.1f} mm from the centre" + ("" if good else f", within a nodule of {2 * radius:g} mm")
    return Check("nodule_border", "pass" if good else "fail", text, round(away, 2), round(radius, 2))


def _depth(stack: Stack, index: int, half_depth_mm: float) -> Check:
    """How far the volume goes on from the centre's slice on its shorter side."""
    normal = axes(stack.instances[0])[2]
    along = [float(normal @ position(instance)) for instance in (stack.instances[k] for k in (0, index, -1))]
    thickness = stack.slice_spacing_mm or stack.instances[index].slice_thickness or 0.0
    depth = min(along[1] - along[0], along[2] - along[1]) + thickness / 2
    good = depth >= half_depth_mm - _ROUNDING_MM
    text = f"the volume goes on for {depth:.1f} mm" + ("" if good else ": slices of the nodule may be missing")
    return Check("window_depth", "pass" if good else "warn", text, round(depth, 2), half_depth_mm)


def neighbours(
    others: Mapping[str, tuple[tuple[float, float, float], float]], reach_mm: tuple[float, float, float]
) -> Check:
    """Check "window_neighbours": other nodules that reach into the window; the answer is for the one at its centre.

    Parameters
    ----------
    others : mapping
        By id: how far the other centre is away along a row, a column and the normal, mm, and its radius (0: not measured), mm.
    reach_mm : tuple of float
        Half of what the model sees along the same three.
    """
    near = {
        name: round(math.hypot(*offset), 1)
        for name, (offset, radius) in others.items()
        if all(abs(part) <= reach + radius for part, reach in zip(offset, reach_mm, strict=True))
    }
    if not near:
        return Check("window_neighbours", "pass", "no other region reaches into the window", [], reach_mm[0])
    names = ", ".join(f"{name} ({distance:g} mm away)" for name, distance in near.items())
    return Check(
        "window_neighbours",
        "warn",
        f"the window also holds {names}; the answer is for the nodule at its centre",
        [{"id": name, "distance_mm": distance} for name, distance in near.items()],
        reach_mm[0],
    )


def _modality(stack: Stack) -> Check:
    found = sorted({instance.modality for instance in stack.instances})
    good = found == ["CT"]
    text = "modality is CT" if good else "Modality (0008,0060) is not CT; the model reads chest CT only"
    return Check("modality", "pass" if good else "fail", text, found, ["CT"])


def _axial(stack: Stack) -> Check:
    """Angle between the slices' normal and the patient's long axis (z)."""
    normal = axes(stack.instances[0])[2]
    degrees = math.degrees(math.acos(min(1.0, abs(float(normal[2])))))
    result: _Result = "fail" if degrees > AXIAL_FAIL_DEGREES else "warn" if degrees > AXIAL_WARN_DEGREES else "pass"
    limit = AXIAL_FAIL_DEGREES if result == "fail" else AXIAL_WARN_DEGREES
    text = f"slices are {degrees:.0f} degrees off axial" if result != "pass" else "slices are axial"
    return Check("axial", result, text, round(degrees, 1), limit)


def _within(key: str, what: str, value: float | None, ranges: Mapping[str, Sequence[float]]) -> Check:
    if key not in ranges:
        return Check(key, "pass", f"the model states no range for the {what}", value)
    low, high = (float(limit) for limit in ranges[key])
    if value is None:
        return Check(
            key,
            "warn",
            f"the {what} is not stated; the model was trained with {low:g} to {high:g} mm",
            None,
            [low, high],
        )
    if low * 0.999 <= value <= high * 1.001:
        return Check(key, "pass", f"{what} {value:g} mm", value, [low, high])
    result: _Result = "fail" if value > COARSER_FAIL * high else "warn"
    return Check(
        key,
        result,
        f"{what} {value:g} mm is outside the model's training range of {low:g} to {high:g} mm",
        value,
        [low, high],
    )


def _sampling(stack: Stack) -> Check:
    """Slices that are much thinner than their distance leave tissue unseen between them."""
    thickness, spacing = stack.instances[0].slice_thickness, stack.slice_spacing_mm
    if thickness is None or spacing is None:
        return Check("slice_sampling", "pass", "slice distance or thickness is not stated", spacing)
    good = spacing <= 1.5 * thickness
    text = f"slices of {thickness:g} mm every {spacing:g} mm" + ("" if good else ": tissue between them is not imaged")
    return Check("slice_sampling", "pass" if good else "warn", text, round(spacing, 3), round(1.5 * thickness, 3))


def _rescale(stack: Stack) -> Check:
    missing = sum(instance.rescale is None for instance in stack.instances)
    different = len({instance.rescale for instance in stack.instances if instance.rescale}) > 1
    if missing:
        text = f"{missing} slice(s) have no Rescale Slope (0028,1053): stored values are taken for Hounsfield units"
    else:
        text = (
            "Rescale Slope and Intercept differ between slices"
            if different
            else "Rescale Slope and Intercept are present"
        )
    return Check("rescale", "warn" if missing else "pass", text, missing, 0)


def _original(stack: Stack) -> Check:
    """Image Type values 1 and 2 (PS3.3 C.7.6.1.1.2): derived and secondary images may be projections or reformats."""
    derived = sum(
        bool({"DERIVED", "SECONDARY", "MIP", "PROJECTION IMAGE"} & set(instance.image_type))
        for instance in stack.instances
    )
    text = (
        f"{derived} slice(s) are derived or secondary images: projections or reformats?"
        if derived
        else "no derived images"
    )
    return Check("original", "warn" if derived else "pass", text, derived, 0)
