"""``/api/v1/analyses/<id>/findings/<finding>``: pictures and numbers of one finding, for programs that draw it."""

from __future__ import annotations

import io
import json
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flask import Blueprint, Response, g
from PIL import Image

from models.bundle import Bundle
from service.errors import Busy, NotFound
from service.http import keeping
from service.http.context import query, service, whole
from service.maps import arrays, clear, faithfulness, outline, region
from service.pipeline import seen
from service.records import ResponseMap
from service.store.rows import Analysis

blueprint = Blueprint("findings", __name__, url_prefix="/api/v1/analyses/<analysis>/findings/<finding>")

SHOWN_PX = (16, 2048)
"""Smallest and largest side of `window.png`."""
STANDARD_DEVIATIONS = 4
"""What the network sees of a photograph lies within so many of them (`models.preprocessing.local_contrast`)."""

_measuring = threading.Lock()
"""One measurement of faithfulness at a time."""


@dataclass(frozen=True)
class Asked:
    """A finding of a completed analysis."""

    analysis: Analysis
    body: dict[str, Any]
    """Its part of the Analysis body."""

    @property
    def id(self) -> str:
        return str(self.body["id"])

    def bundle(self) -> Bundle:
        """The model that answered; NotFound where the installed one has other weights."""
        name = self.analysis.model
        bundle = service().pipeline.bundles.get(name)
        if bundle is None or bundle.sha256 != (self.analysis.result or {})["model"]["sha256"]:
            raise NotFound(
                f"the weights of model {name} that gave this answer are no longer installed; analyse the images again"
            )
        return bundle

    def maps(self) -> ResponseMap:
        """Its response maps; NotFound where none were asked for."""
        try:
            return arrays.load(service().store.maps_path(self.analysis.id, self.id))
        except FileNotFoundError:
            raise NotFound(
                "this finding has no response maps; ask for them when the images are sent (request: maps)"
            ) from None


def asked_for(analysis: str, finding: str) -> Asked:
    """The finding that the address names.

    Raises
    ------
    NotFound
        When there is no such analysis or finding; names the findings that there are.
    """
    stored = service().store.get(analysis)
    g.analysis = stored.id
    found = {str(one["id"]): one for one in (stored.result or {}).get("findings", [])}
    if finding not in found:
        raise NotFound(f"this analysis has no such finding; it has {', '.join(found) or 'none'}")
    return Asked(stored, found[finding])


@blueprint.get("/response.bin")
def response(analysis: str, finding: str) -> Response:
    """All response maps as bare numbers; what they are is in the header ``X-Pellucid-Map``."""
    query(())
    asked = asked_for(analysis, finding)
    tag = keeping.tag(analysis, finding, "response", encoded=True)
    if (same := keeping.unchanged(tag)) is not None:
        return same
    maps = asked.maps()
    values = maps.response
    described = {
        "shape": list(values.shape),
        "classes": list(maps.classes),
        "box_px": [[round(float(edge), 4) for edge in box] for box in maps.box_px],
        "sources": list(maps.sources),
        "peak_slice": maps.peak_slice,
        "scale": {
            "per_image": clear.scale_per_image(values) or float(np.abs(values).max()) or 1.0,
            "per_model": maps.reference,
        },
    }
    answer = keeping.compressed(values.astype("<f4").tobytes(), "application/octet-stream", tag)
    answer.headers["X-Pellucid-Map"] = json.dumps(described, separators=(",", ":"))
    return answer


@blueprint.get("/region.json")
def critical_region(analysis: str, finding: str) -> Response:
    """The outline of the critical region, on the pixels of the source images."""
    query(())
    asked, share = asked_for(analysis, finding), service().settings.region_share
    bundle = asked.bundle()
    tag = keeping.tag(analysis, finding, "region", share, encoded=True)
    if (same := keeping.unchanged(tag)) is not None:
        return same
    maps = asked.maps()
    instances = seen.images(service().store.instances(analysis), maps.sources)
    first = instances[0]
    found = region.of_finding(maps, asked.body, bundle, (first.rows, first.columns), share)
    slices = [] if found is None else _outlines(found, first.pixel_spacing or _stated_spacing(asked.analysis))
    described = {
        "class": region.answered(asked.body, bundle),
        "share": share,
        "size_px": [first.columns, first.rows],
        "in_segmentation": bool(slices) and asked.body.get("grade") != 0,
        "slices": slices,
    }
    return keeping.compressed(json.dumps(described, separators=(",", ":")).encode(), "application/json", tag)


def _outlines(found: region.CriticalRegion, spacing: tuple[float, float] | None) -> list[dict[str, Any]]:
    """The slices that the region reaches."""
    slices = []
    for at, source in enumerate(found.sources):
        mask = found.to_image(at)
        if area := int(np.count_nonzero(mask)):
            slices.append(
                {
                    "index": at,
                    "sop_instance_uid": source,
                    "area_px": area,
                    "area_mm2": None if spacing is None else round(area * spacing[0] * spacing[1], 2),
                    "polygons": outline.rings(mask),
                }
            )
    return slices


def _stated_spacing(analysis: Analysis) -> tuple[float, float] | None:
    """Of grey crops, which have no header: what the request said."""
    stated = analysis.request.get("pixel_spacing_mm")
    return None if stated is None else (float(stated), float(stated))


@blueprint.get("/window.png")
def window(analysis: str, finding: str) -> Response:
    """What the network saw of one slice, after all preprocessing."""
    asked_query = query(("slice", "size"))
    asked = asked_for(analysis, finding)
    bundle, sources = asked.bundle(), seen.sources(asked.body)
    peak = int(asked.body["evidence"].get("peak_slice", len(sources) // 2))
    at = whole(asked_query, "slice", peak, 0, len(sources) - 1)
    size = whole(asked_query, "size", 0, *SHOWN_PX) if "size" in asked_query else None
    tag = keeping.tag(analysis, finding, "window", at, size)
    if (same := keeping.unchanged(tag)) is not None:
        return same
    instances = service().store.instances(analysis)
    tensor = seen.network_input(service().tools.sandbox, bundle, asked.body, instances, at)
    picture = Image.fromarray(shown(tensor))
    if size is not None:
        sampling = Image.Resampling.NEAREST if size >= picture.width else Image.Resampling.LANCZOS
        picture = picture.resize((size, size), sampling)
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=4)
    return keeping.kept(stream.getvalue(), "image/png", tag)


def shown(tensor: np.ndarray) -> np.ndarray:
    """A network's input as a picture.

    Parameters
    ----------
    tensor : ndarray, float32, shape (C, H, W)
        One channel in 0..1, or three in -4..4 standard deviations of local contrast.

    Returns
    -------
    ndarray, uint8, shape (H, W) or (H, W, 3)
        0..255 for the whole range; of three channels 0 is 128, so mid-grey is what equals its surroundings.
    """
    values = tensor[0] if len(tensor) == 1 else (tensor.transpose(1, 2, 0) / STANDARD_DEVIATIONS + 1) / 2
    return np.asarray(np.clip(values, 0, 1) * 255 + 0.5, np.uint8)


@blueprint.get("/faithfulness")
def measured(analysis: str, finding: str) -> Response:
    """Deletion and insertion curves of the answered class, beside random orders; measured once, then kept."""
    query(())
    asked = asked_for(analysis, finding)
    tag = keeping.tag(analysis, finding, "faithfulness", faithfulness.METHOD)
    if (same := keeping.unchanged(tag)) is not None:
        return same
    file = service().store.maps_path(analysis, finding).with_name(f"{finding}.faithfulness.json")
    known = _kept(file)
    if known is None:
        if not _measuring.acquire(blocking=False):
            raise Busy("the faithfulness of another finding is being measured; ask again in a few seconds")
        try:
            known = _kept(file) or _keep(file, _measure(asked))
        finally:
            _measuring.release()
    return keeping.kept(json.dumps(known).encode(), "application/json", tag)


def _measure(asked: Asked) -> dict[str, Any]:
    parts, bundle, maps = service(), asked.bundle(), asked.maps()
    name = region.answered(asked.body, bundle)
    chosen = bundle.classes.index(name)
    response = maps.response[:, chosen]
    at = int(response.max(axis=(1, 2)).argmax())
    if not response[at].max() > 0:
        raise NotFound(
            f"nothing in the map speaks for class {name}: there is no order in which to take the image apart"
        )
    image = seen.network_input(parts.tools.sandbox, bundle, asked.body, parts.store.instances(asked.analysis.id), at)

    def predict(batch: np.ndarray) -> np.ndarray:
        return parts.tools.engine.run(bundle, batch, ["probabilities"])["probabilities"][:, chosen]

    found = faithfulness.measure(predict, image, response[at]).body()
    return {
        **found,
        "class": name,
        "filler": faithfulness.filler(image)[1],
        "slice": at,
        "method": faithfulness.METHOD,
    }


def _kept(file: Path) -> dict[str, Any] | None:
    """What was measured before by today's method."""
    try:
        known = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return known if isinstance(known, dict) and known.get("method") == faithfulness.METHOD else None


def _keep(file: Path, found: dict[str, Any]) -> dict[str, Any]:
    """Write it beside the maps; the file appears complete or not at all. NotFound when the analysis was deleted meanwhile."""
    part = file.with_name(f"{uuid.uuid4().hex}.part")
    try:
        part.write_text(json.dumps(found), encoding="ascii")
        part.replace(file)
    except FileNotFoundError:
        raise NotFound("the analysis was deleted while this was measured") from None
    return found
