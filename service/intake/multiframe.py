"""An enhanced CT as the slices it consists of: one record a frame, so that a series of them is a stack like any other."""

from __future__ import annotations

from dataclasses import replace

from service.records import Instance

NUMBERS = 14
"""Of a plane: position (3), orientation (6), spacing (2), thickness or 0, rescale slope or 0, rescale intercept."""


def frames(instance: Instance) -> tuple[Instance, ...]:
    """The frames of an instance whose header gave the geometry of each; any other instance alone, as it is.

    A frame has `frame` = 1, 2, ... (as in Referenced Frame Number (0008,1160)), its own position, orientation, spacing,
    thickness and rescale, and the file, content hash and UIDs of its instance; `Instance.key` tells frames apart.
    """
    if instance.frame or not instance.planes or len(instance.planes) != NUMBERS * instance.frames:
        return (instance,)
    return tuple(_frame(instance, number) for number in range(1, instance.frames + 1))


def _frame(instance: Instance, number: int) -> Instance:
    plane = instance.planes[NUMBERS * (number - 1) : NUMBERS * number]
    x, y, z = plane[:3]
    return replace(
        instance,
        frame=number,
        planes=(),
        position=(x, y, z),
        orientation=plane[3:9],
        pixel_spacing=(plane[9], plane[10]),
        slice_thickness=plane[11] if plane[11] > 0 else None,
        rescale=(plane[12], plane[13]) if plane[12] else None,
    )
