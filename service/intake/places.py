"""Extents, names and reasons that all kinds of referencing objects share. Runs in the child only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from service.intake import elements
from service.intake.references import LARGEST_MM, MOST, MOST_IMAGES, Reference, References

_EXACT_POINTS = 512
_DIRECTIONS = 256
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_ORGANS = frozenset(
    _WORD.findall(
        "lung lungs heart body external skin liver spleen kidney kidneys aorta trachea carina bronchus bronchi airway airways "
        "oesophagus esophagus stomach thyroid cord spine vertebra vertebrae rib ribs bone bones couch table breast breasts "
        "pericardium mediastinum vessel vessels thorax wall pleura lobe lobes"
    )
)
_QUALIFIERS = frozenset(
    _WORD.findall(
        "l r lt rt left right upper lower middle all both total whole normal great chest spinal field fields canal of the and "
        "minus wo"
    )
)


def is_organ(label: str) -> bool:
    """Whether a label names an organ or a side of it and nothing else: "Lung_L", "SpinalCord", but not "lung nodule"."""
    words = {word.lower() for word in _WORD.findall(label)}
    return bool(words & _ORGANS) and words <= _ORGANS | _QUALIFIERS


def label(text: object) -> str:
    """Any text, printable and short."""
    return "".join(filter(str.isprintable, str(text or ""))).strip()[:64]


def uid(text: object) -> str:
    """A well-formed UID; else empty."""
    found = str(text or "").strip("\0 ")
    return found if elements.UID_PATTERN.fullmatch(found) else ""


def code(item: Dataset, sequence: str) -> tuple[str, str]:
    """(value, scheme) of the first code of a code sequence; empty where there is none."""
    for entry in (item.get(sequence, None) or ())[:1]:
        return str(entry.get("CodeValue", "")), str(entry.get("CodingSchemeDesignator", ""))
    return "", ""


def diameter(points: np.ndarray) -> float:
    """Largest distance of two points, shape (n, d); of many points, of those that lie outermost in 256 directions."""
    if len(points) > _EXACT_POINTS:
        ways = np.random.default_rng(0).normal(size=(_DIRECTIONS, points.shape[1]))  # fixed seed: the same every time
        outer = [k for way in ways for along in (points @ way,) for k in (int(along.argmax()), int(along.argmin()))]
        points = points[np.unique(outer)]
    apart = points[:, None, :] - points[None, :, :]
    return float(np.sqrt((apart**2).sum(axis=2).max()))


def triple(point: Any) -> tuple[float, float, float]:
    """Three floats."""
    x, y, z = (float(part) for part in point)
    return x, y, z


def images(uids: Iterable[str]) -> tuple[str, ...]:
    """Distinct UIDs in order of appearance, bounded."""
    return tuple(dict.fromkeys(filter(None, uids)))[:MOST_IMAGES]


def result(found: list[Reference], skipped: list[str]) -> References:
    """The places without what is too large for a nodule, and bounded; the reasons too."""
    small = [place for place in found if (place.diameter_mm or 0) <= LARGEST_MM]
    kept = [place for place in small if place.center_mm is not None or (place.sop_instance_uid and place.center_px)]
    segments = [place for place in small if place not in kept and place.segmentation_uid]
    skipped = skipped + [
        f"{place.id} extends {place.diameter_mm:.0f} mm: an organ rather than a nodule"
        for place in found
        if (place.diameter_mm or 0) > LARGEST_MM
    ]
    if len(kept) > MOST:
        skipped.insert(0, f"{len(kept) - MOST} of {len(kept)} places beyond the first {MOST}")
    return References(False, tuple(kept[:MOST]), tuple(segments[:MOST]), tuple(skipped[:MOST]))
