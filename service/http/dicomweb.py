"""``/dicomweb``: rendered pictures of stored instances (WADO-RS, DICOM PS3.18 10.4.1.1.3)."""

from __future__ import annotations

import io
import math

import numpy as np
from flask import Blueprint, Response
from PIL import Image

from service.http.context import query, service
from service.pipeline.request import invalid

blueprint = Blueprint("dicomweb", __name__, url_prefix="/dicomweb")

LUNG_WINDOW = (-600.0, 1500.0)
"""(center, width) in HU when the request names none."""


@blueprint.get("/studies/<study>/series/<series>/instances/<sop>/rendered")
def rendered(study: str, series: str, sop: str) -> Response:
    """A stored instance as PNG: grey through a window, colour as it is."""
    asked = query(("window",))
    center, width = _window(asked["window"]) if "window" in asked else LUNG_WINDOW
    instance = service().store.instance(study, series, sop)
    sandbox = service().tools.sandbox
    if instance.samples > 1:
        picture = sandbox.photograph(instance)
    else:
        # The linear window function of PS3.3 C.11.2.1.2.1
        values = (sandbox.hounsfield(instance) - (center - 0.5)) / max(width - 1, 1e-6) + 0.5
        picture = np.asarray(np.clip(values, 0, 1) * 255 + 0.5, np.uint8)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", compress_level=1)
    return Response(stream.getvalue(), content_type="image/png")


def _window(text: str) -> tuple[float, float]:
    """``center,width`` or, as the standard has it, ``center,width,linear``."""
    try:
        center, width = (float(part) for part in text.lower().removesuffix(",linear").split(","))
    except ValueError:
        raise invalid("window", "must be center,width in the image's units, e.g. -600,1500") from None
    if not (math.isfinite(center) and 1 <= width <= 1e6):
        raise invalid("window", "needs a finite center and a width of at least 1", value=text[:64])
    return center, width
