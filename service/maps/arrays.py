"""Response maps as npz: the whole set as the store keeps it, and one map to take away.

Every file is read back with ``numpy.load(..., allow_pickle=False)``.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from service.maps.clear import class_of, dominant, scale_per_image, two_sided
from service.records import ResponseMap

FIELDS = tuple(ResponseMap.__dataclass_fields__)


def npz(maps: ResponseMap, kind: str) -> bytes:
    """One kind of map with all that is needed to use it elsewhere.

    Parameters
    ----------
    maps : ResponseMap
    kind : str
        ``clear`` gives ``dominant_class`` (int8, -1 = none) and ``strength``; ``class-<name>`` gives ``response``;
        ``two-sided`` gives ``hot`` and ``other`` with ``chosen_class``. Float arrays are float32,
        unnormalised; all have shape (S, H, W).

    Returns
    -------
    bytes
        A compressed npz. Beside the arrays: ``kind``, ``classes``, ``probabilities``, ``rule``, ``start``,
        ``scale_per_image`` (the largest positive response over all slices), ``scale_per_model`` (the bundle's
        reference), ``box_px`` (field of view in pixels of the source image), ``source_uids`` (SOP Instance UIDs),
        ``peak_slice``.

    Raises
    ------
    NotFound
        When there is no map of this kind.
    """
    chosen = class_of(kind, maps.classes)
    arrays: dict[str, np.ndarray]
    if chosen is not None:
        arrays = {"response": maps.response[:, chosen].astype(np.float32)}
    elif kind == "clear":
        index, strength = dominant(maps.response)
        arrays = {"dominant_class": index, "strength": strength}
    else:
        best = int(np.argmax(maps.probabilities))
        hot, other = two_sided(maps.response, best)
        arrays = {"hot": hot, "other": other, "chosen_class": np.array(maps.classes[best])}
    arrays |= {
        "kind": np.array(kind),
        "classes": np.array(maps.classes),
        "probabilities": np.asarray(maps.probabilities, np.float64),
        "rule": np.array(maps.rule),
        "start": np.array(maps.start),
        "scale_per_image": np.array(scale_per_image(maps.response)),
        "scale_per_model": np.array(maps.reference),
        "box_px": maps.box_px,
        "source_uids": np.array(maps.sources),
        "peak_slice": np.array(maps.peak_slice),
    }
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def save(maps: ResponseMap, path: Path) -> None:
    """Write the whole set, uncompressed. The file appears complete or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **{name: np.asarray(getattr(maps, name)) for name in FIELDS})
    part.replace(path)


def load(path: Path) -> ResponseMap:
    """Read a set that `save` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        found = {name: stored[name] for name in FIELDS}
    for name in ("classes", "sources"):
        found[name] = tuple(str(value) for value in found[name])
    for name in ("rule", "start", "reference", "peak_slice"):
        found[name] = found[name].item()
    return ResponseMap(**found)
