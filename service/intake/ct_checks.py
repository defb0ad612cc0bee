"""Whether a CT series is what the lung model was made for: one `Check` each, with value and limit.

A check that fails means the model must not answer; one that warns travels with the answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from service.intake.stack import Stack, axes
from service.records import Check

_Result = Literal["pass", "warn", "fail"]

AXIAL_WARN_DEGREES, AXIAL_FAIL_DEGREES = 10.0, 35.0
"""A gantry tilts by up to 30 degrees."""
COARSER_FAIL = 1.5
"""Pixels or slices coarser than the training set's coarsest by this factor fail; finer ones only warn, they are averaged."""
LEAST_CONTRAST_HU = 50.0
LOWEST_HU, HIGHEST_HU = -1024.0, 3071.0
"""Range of a 12-bit CT scale; below it lies a scanner's padding, above it metal on an extended scale."""
MOST_PADDING, MOST_METAL = 0.05, 0.01
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
    """Checks on the pixels the model sees round one centre.

    Parameters
    ----------
    window : ndarray, shape (h, w)
        Hounsfield units; the centre of the region is the centre of the window.

    Returns
    -------
    tuple of Check
        "window_contrast" (fails on a flat window, whose noise min-max scaling would blow up), "window_padding",
        "window_metal", "window_tissue".
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
    height, width = window.shape
    middle = window[height * 2 // 5 : height - height * 2 // 5, width * 2 // 5 : width - width * 2 // 5]
    tissue = float(middle.max())
    return (
        contrast,
        _share("window_padding", "padding of the scanner", float((window < LOWEST_HU).mean()), MOST_PADDING),
        _share("window_metal", "metal", float((window > HIGHEST_HU).mean()), MOST_METAL),
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


def _share(name: str, what: str, share: float, most: float) -> Check:
    return Check(
        name, "pass" if share <= most else "warn", f"{100 * share:.1f} % of the window is {what}", round(share, 4), most
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
