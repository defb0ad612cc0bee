"""What the network saw for a finding of a stored analysis: its input once more, from the stored images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models import preprocessing
from models.bundle import Bundle
from models.preprocessing import Box
from service.errors import NotFound
from service.inference import routing
from service.intake import multiframe
from service.intake.sandbox import Sandbox
from service.pipeline import nodule
from service.records import Instance


def images(instances: Sequence[Instance], keys: Sequence[str]) -> list[Instance]:
    """The images of an analysis that `keys` name, in their order; frames of an enhanced object are images of their own.

    Raises
    ------
    NotFound
        When one of them is no longer stored.
    """
    known = {frame.key: frame for instance in instances for frame in multiframe.frames(instance)}
    if any(key not in known for key in keys):
        raise NotFound("the images of this analysis are no longer stored")
    return [known[key] for key in keys]


def sources(finding: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys of the images that a finding was answered from, slice by slice."""
    slices = finding.get("slices") or [finding["location"]]
    return tuple(str(one["sop_instance_uid"]) for one in slices)


def network_input(
    sandbox: Sandbox, bundle: Bundle, finding: Mapping[str, Any], instances: Sequence[Instance], at: int
) -> np.ndarray:
    """The tensor that the network was given for one slice, by the same steps as in the analysis.

    Parameters
    ----------
    sandbox : Sandbox
        Reads the image.
    bundle : Bundle
        The model that answered.
    finding : mapping
        Its part of the Analysis body.
    instances : sequence of Instance
        Images of the analysis.
    at : int
        Index into `sources`.

    Returns
    -------
    ndarray, float32, shape (C, H, W)

    Raises
    ------
    NotFound
        When the image is no longer stored.
    InputError
        When it cannot be read.
    """
    (instance,) = images(instances, [sources(finding)[at]])
    if not instance.path.is_file():
        raise NotFound("the images of this analysis are no longer stored")
    if bundle.task == routing.RETINA:
        photograph = sandbox.photograph(instance)
        field = preprocessing.fundus_field(photograph)
        if field is None:
            raise NotFound("no field of view was found in this photograph")
        return preprocessing.fundus_square(photograph, field, **bundle.step("fundus_square"))
    crop = instance.media == "photograph"
    image = nodule.crop(sandbox, instance) if crop else sandbox.hounsfield(instance)
    return nodule.window(bundle, image, _box(finding, image.shape if crop else None), hounsfield=not crop)


def _box(finding: Mapping[str, Any], crop: tuple[int, ...] | None) -> Box:
    """Field of view of a nodule: the same in all slices of a series, in a crop of that size (rows, columns) round its middle."""
    x0, y0, x1, y1 = (float(edge) for edge in finding["location"]["box_px"])
    if crop is None:
        return x0, y0, x1, y1
    half_x, half_y, x, y = (x1 - x0) / 2, (y1 - y0) / 2, crop[1] / 2, crop[0] / 2
    return x - half_x, y - half_y, x + half_x, y + half_y
