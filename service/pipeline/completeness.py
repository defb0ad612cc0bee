"""Whether a series that comes slice by slice is complete: by what the sender announced and by geometry, not by a timer alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.errors import InputError
from service.intake.series import arrange
from service.intake.stack import axes, position
from service.records import Instance

_ANNOUNCED = ("00201209", "00201002")
"""Number of Series Related Instances; Images in Acquisition (PS3.3 C.7.6.1): how many instances the sender says there are."""


@dataclass(frozen=True)
class Verdict:
    """What is known about a series now.

    Attributes
    ----------
    whole : bool
        Nothing is known to be missing.
    announced : bool
        As many instances as the sender announced are here.
    reason : str
        What is missing, or why it counts as whole; for people.
    """

    whole: bool
    announced: bool
    reason: str


def judge(instances: Sequence[Instance]) -> Verdict:
    """Judge the slices (frames of enhanced objects expanded) that are here.

    Raises nothing: a series whose geometry cannot be arranged (several orientations, one slice, no positions) is judged by
    numbers alone.
    """
    count = len({instance.sop_instance_uid for instance in instances})
    announced = expected(instances)
    if announced is not None and count >= announced:
        return Verdict(True, True, f"all {announced} announced instances are here")
    if announced is not None:
        return Verdict(False, False, f"{count} of {announced} announced instances are here")
    missing = _missing_numbers(instances)
    if missing:
        return Verdict(False, False, f"{count} instances are here; instance number(s) {missing} are missing")
    try:
        stack = arrange(instances)
    except InputError as error:
        return Verdict(True, False, f"{count} instances are here, which are no regular stack: {error.detail}")
    if len(stack.instances) > 2:
        normal = axes(stack.instances[0])[2]
        distances = np.diff([normal @ position(instance) for instance in stack.instances])
        gaps = int((distances > 1.5 * np.median(distances)).sum())
        if gaps:
            return Verdict(False, False, f"{count} slices are here, with {gaps} gap(s) between them")
    return Verdict(True, False, f"{count} slices are here, without a gap")


def expected(instances: Sequence[Instance]) -> int | None:
    """How many instances the sender announced, where it did; Images in Acquisition counts where there is one acquisition."""
    for tag in _ANNOUNCED:
        said = {_number(instance, tag) for instance in instances} - {None}
        if len(said) == 1 and (number := said.pop()) is not None and number > 0:
            if tag == "00201002" and number < len(instances):
                continue  # several acquisitions in one series
            return number
    return None


def _number(instance: Instance, tag: str) -> int | None:
    try:
        return int(instance.attributes[tag]["Value"][0])
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _missing_numbers(instances: Sequence[Instance]) -> str:
    """Gaps in Instance Number (0020,0013), as text; only where the numbers are a plain count."""
    numbers = sorted({i.instance_number for i in instances if i.instance_number is not None})
    whole = {instance.sop_instance_uid for instance in instances}
    if len(numbers) < 2 or len(numbers) != len(whole) or numbers[0] not in (0, 1):
        return ""
    steps = np.diff(numbers)
    if (steps > 1).sum() * 4 > len(numbers):  # every second number, say: not a count
        return ""
    gone = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    return ", ".join(map(str, gone[:5])) + (" ..." if len(gone) > 5 else "")
