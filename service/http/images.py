"""``/api/v1/analyses/<id>/images/<n>``: the source images of an analysis as pictures, also those that are no DICOM."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict

import numpy as np
from flask import Blueprint, Response, g
from PIL import Image

from service.errors import NotFound
from service.http import keeping
from service.http.context import query, service, whole
from service.http.dicomweb.rendered import LUNG_WINDOW
from service.intake.sandbox import Sandbox
from service.pipeline import seen
from service.pipeline.request import invalid
from service.records import Instance

blueprint = Blueprint("images", __name__, url_prefix="/api/v1/analyses/<analysis>/images")

LONGEST_PX, SHORTEST_PX = 8192, 16
VIEWS = ("natural", "red_free")
QUALITY = 92
GREEN = 1
KEPT_BYTES = 96 << 20
"""Decoded pictures that are kept: the photographs of both eyes at full size."""


class Pictures:
    """Decodes images and keeps the last ones. Thread-safe.

    Parameters
    ----------
    limit : int
        Bytes to keep.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._lock = limit, threading.Lock()
        self._kept: OrderedDict[tuple[str, int, int], np.ndarray] = OrderedDict()

    def get(self, sandbox: Sandbox, instance: Instance, longest_px: int) -> np.ndarray:
        """An image as uint8 (h, w) or (h, w, 3), upright, the longer side at most `longest_px`.

        Raises
        ------
        InputError
            When it cannot be read.
        """
        key = (instance.sha256, instance.frame, longest_px)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        picture = _decoded(sandbox, instance, longest_px)
        with self._lock:
            self._kept[key] = picture
            while self._kept and sum(one.nbytes for one in self._kept.values()) > self._limit:
                self._kept.popitem(last=False)
        return picture


def _decoded(sandbox: Sandbox, instance: Instance, longest_px: int) -> np.ndarray:
    if instance.media == "photograph":
        return sandbox.photograph(instance, longest_px)
    window = LUNG_WINDOW if instance.modality == "CT" and instance.samples == 1 else None
    return sandbox.rendered(instance, instance.frame or 1, window, longest_px)


pictures = Pictures(KEPT_BYTES)


@blueprint.get("/<int:number>.jpg")
def jpeg(analysis: str, number: int) -> Response:
    """A source image as JPEG."""
    return _picture(analysis, number, "jpg")


@blueprint.get("/<int:number>.png")
def png(analysis: str, number: int) -> Response:
    """A source image as PNG."""
    return _picture(analysis, number, "png")


def _picture(analysis: str, number: int, form: str) -> Response:
    asked = query(("size", "view"))
    view = asked.get("view", VIEWS[0])
    if view not in VIEWS:
        raise invalid("view", f"must be one of {', '.join(VIEWS)}")
    size = whole(asked, "size", LONGEST_PX, SHORTEST_PX, LONGEST_PX)
    instance = _instance(analysis, number)
    longest = min(size, max(instance.rows, instance.columns))
    tag = keeping.tag(instance.sha256, instance.frame, longest, view, form)
    if (same := keeping.unchanged(tag)) is not None:
        return same
    pixels = pictures.get(service().tools.sandbox, instance, longest)
    if view == "red_free" and pixels.ndim == 3:
        pixels = np.ascontiguousarray(pixels[:, :, GREEN])
    stream = io.BytesIO()
    if form == "jpg":
        Image.fromarray(pixels).save(stream, "JPEG", quality=QUALITY)
    else:
        Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return keeping.kept(stream.getvalue(), "image/jpeg" if form == "jpg" else "image/png", tag)


def _instance(analysis: str, number: int) -> Instance:
    """The n-th image, in the order of the Analysis body's `input.instances`."""
    stored = service().store.get(analysis)
    g.analysis = stored.id
    instances = service().store.instances(analysis)
    keys = (stored.result or {}).get("input", {}).get("instances") or [one.key for one in instances]
    if number >= len(keys):
        raise NotFound(f"this analysis has no image {number}; its images are 0 to {len(keys) - 1}")
    (instance,) = seen.images(instances, [keys[number]])
    if not instance.path.is_file():
        raise NotFound("the images of this analysis are no longer stored")
    return instance
