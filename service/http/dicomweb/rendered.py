"""WADO-RS: instances and frames as pictures, and thumbnails (DICOM PS3.18 10.4.1.1.3, 10.4.1.1.4, 8.3.5)."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from flask import Blueprint, Response, request
from PIL import Image
from werkzeug.exceptions import NotAcceptable

from service.errors import NotFound
from service.http.context import query, service
from service.http.dicomweb import frames, negotiate
from service.http.dicomweb.caching import private
from service.pipeline.request import invalid
from service.records import Instance

blueprint = Blueprint("rendered", __name__)

LUNG_WINDOW = (-600.0, 1500.0)
"""(center, width) in HU of a CT slice when the request names none."""
LONGEST_PX, THUMBNAIL_PX = 4096, 128
QUALITY = 90
PNG, JPEG = "image/png", "image/jpeg"
_UNSUPPORTED = ("annotation", "iccprofile")
_KNOWN = ("window", "viewport", "quality", "accept", *_UNSUPPORTED)


@blueprint.get("/studies/<study>/series/<series>/instances/<sop>/rendered")
def rendered(study: str, series: str, sop: str) -> Response:
    """An instance as a picture; the first frame of several."""
    return _rendered(study, series, sop, "1")


@blueprint.get("/studies/<study>/series/<series>/instances/<sop>/frames/<number>/rendered")
def rendered_frame(study: str, series: str, sop: str, number: str) -> Response:
    """A frame as a picture."""
    return _rendered(study, series, sop, number)


@blueprint.get("/studies/<study>/thumbnail")
def study_thumbnail(study: str) -> Response:
    """A small picture of a study."""
    return _thumbnail(_typical(service().store.archive.study_instances(study)))


@blueprint.get("/studies/<study>/series/<series>/thumbnail")
def series_thumbnail(study: str, series: str) -> Response:
    """A small picture of a series: of its middle."""
    return _thumbnail(_typical(service().store.archive.series_instances(study, series)))


@blueprint.get("/studies/<study>/series/<series>/instances/<sop>/thumbnail")
def instance_thumbnail(study: str, series: str, sop: str) -> Response:
    """A small picture of an instance."""
    return _thumbnail(service().store.archive.instance(study, series, sop))


@blueprint.get("/studies/<study>/series/<series>/instances/<sop>/frames/<number>/thumbnail")
def frame_thumbnail(study: str, series: str, sop: str, number: str) -> Response:
    """A small picture of a frame."""
    return _thumbnail(service().store.archive.instance(study, series, sop), _one(number))


def _rendered(study: str, series: str, sop: str, number: str) -> Response:
    asked = query(_KNOWN)
    window = _window(asked["window"]) if "window" in asked else None
    viewport = _viewport(asked["viewport"]) if "viewport" in asked else None
    quality = _quality(asked.get("quality", str(QUALITY)))
    instance = service().store.archive.instance(study, series, sop)
    frame = _one(number)
    media = negotiate.one_of(PNG, JPEG)
    picture = _picture(instance, frame, window, LONGEST_PX)
    if viewport is not None:
        picture = _fit(picture, instance, *viewport)
    response = _answer(picture, media, quality, f"{instance.sha256} {frame} {sorted(asked.items())}")
    response.headers["Content-Location"] = request.url
    ignored = [name for name in _UNSUPPORTED if name in asked]
    if ignored:
        response.headers.add(
            "Warning",
            f"299 {negotiate.root()}: These parameters are not supported and were ignored: {', '.join(ignored)}.",
        )
    return response


def _thumbnail(instance: Instance, frame: int = 1) -> Response:
    query(("accept", "viewport"))
    longest = THUMBNAIL_PX
    if "viewport" in request.args:
        longest = min(max(_viewport(request.args["viewport"])[0]), 1024)
    media = negotiate.one_of(JPEG, PNG)
    picture = _picture(instance, frame, None, longest)
    return _answer(picture, media, QUALITY, f"{instance.sha256} {frame} thumbnail {longest}")


def _typical(instances: Sequence[Instance]) -> Instance:
    """The middle one of the images; sources before results. NotFound where there is no image."""
    images = [instance for instance in instances if instance.has_pixels]
    sources = [instance for instance in images if instance.modality not in ("SEG", "OT")] or images
    if not sources:
        raise NotFound("there is nothing to show: none of these instances has pixels")
    return sources[len(sources) // 2]


def _one(number: str) -> int:
    found = frames.parse(number)
    if len(found) != 1:
        raise NotAcceptable("A picture shows one frame: ask for them one by one.")
    return found[0]


def _picture(instance: Instance, frame: int, window: tuple[float, float] | None, longest_px: int) -> Image.Image:
    if not instance.has_pixels:
        raise NotAcceptable(
            "This instance has no pixels and cannot be shown as a picture; its metadata can be retrieved."
        )
    frames.check(instance, [frame])
    if window is None and instance.modality == "CT" and instance.samples == 1:
        window = LUNG_WINDOW
    return Image.fromarray(np.asarray(service().tools.sandbox.rendered(instance, frame, window, longest_px)))


def _fit(
    picture: Image.Image, instance: Instance, size: tuple[int, int], part: tuple[float, float, float, float] | None
) -> Image.Image:
    """The picture, or a rectangle of the image's pixels, as large as fits a viewport (PS3.18 8.3.5.1.3)."""
    if part is not None:
        scale = (picture.width / max(instance.columns, 1), picture.height / max(instance.rows, 1))
        left, top, width, height = part
        box = (left * scale[0], top * scale[1], (left + width) * scale[0], (top + height) * scale[1])
        rounded = tuple(round(side) for side in box)
        if not (0 <= rounded[0] < rounded[2] <= picture.width and 0 <= rounded[1] < rounded[3] <= picture.height):
            raise invalid("viewport", "names a region outside the image")
        picture = picture.crop((rounded[0], rounded[1], rounded[2], rounded[3]))
    factor = min(size[0] / picture.width, size[1] / picture.height)
    return picture.resize((max(1, round(picture.width * factor)), max(1, round(picture.height * factor))))


def _answer(picture: Image.Image, media: str, quality: int, name: str) -> Response:
    stream = io.BytesIO()
    if media == PNG:
        picture.save(stream, "PNG", compress_level=1)
    else:
        picture.save(stream, "JPEG", quality=quality)
    return private(Response(stream.getvalue(), content_type=media), f"{name} {media} {quality}")


def _window(text: str) -> tuple[float, float]:
    """``center,width`` or, as the standard has it, ``center,width,linear``."""
    try:
        center, width = (float(part) for part in text.lower().removesuffix(",linear").split(","))
    except ValueError:
        raise invalid("window", "must be center,width in the image's units, e.g. -600,1500") from None
    if not (math.isfinite(center) and 1 <= width <= 1e6):
        raise invalid("window", "needs a finite center and a width of at least 1", value=text[:64])
    return center, width


def _viewport(text: str) -> tuple[tuple[int, int], tuple[float, float, float, float] | None]:
    """``width,height`` in px and, if wanted, ``left,top,width,height`` of a region of the image."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 6) or not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise invalid("viewport", "must be width,height or width,height,left,top,width,height, none of them negative")
    if not all(1 <= side <= LONGEST_PX for side in numbers[:2]):
        raise invalid("viewport", f"must be 1 to {LONGEST_PX} px wide and high", value=text[:64])
    size = (int(numbers[0]), int(numbers[1]))
    return size, (numbers[2], numbers[3], numbers[4], numbers[5]) if len(numbers) == 6 else None


def _quality(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= 100:
        raise invalid("quality", "must be a whole number from 1 to 100", value=text[:64])
    return value
