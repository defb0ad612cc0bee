"""The known cases that are most like a finding: its feature vector is kept at analysis time and compared when asked for."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from models import cases as known
from models.bundle import Bundle
from service.errors import NotFound


def _place(maps: Path) -> Path:
    return maps.with_name(maps.name.removesuffix(".npz") + ".npy")


def keep(features: np.ndarray, maps: Path) -> None:
    """Write a finding's feature vector beside its maps. The file appears complete or not at all.

    Parameters
    ----------
    features : ndarray, float32, shape (D,)
    maps : Path
        File of the finding's maps, whether there are any or not.
    """
    path = _place(maps)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        np.save(stream, features, allow_pickle=False)
    part.replace(path)


def kept(maps: Path) -> np.ndarray:
    """The feature vector that `keep` wrote.

    Raises
    ------
    NotFound
        When the analysis is older than the keeping of feature vectors.
    """
    try:
        with _place(maps).open("rb") as stream:
            return np.asarray(np.load(stream, allow_pickle=False))
    except FileNotFoundError:
        raise NotFound("the feature vector of this finding was not kept (an older analysis); re-run it") from None


def answer(bundle: Bundle, maps: Path, k: int, patients: Collection[str]) -> dict[str, Any]:
    """The k nearest known cases with their truth, as the HTTP contract has them.

    Parameters
    ----------
    bundle : Bundle
        The model that answered.
    maps : Path
        File of the finding's maps; its feature vector lies beside it.
    k : int
    patients : collection of str
        Patients of the analysed images: no other case of theirs is shown.

    Returns
    -------
    dict
        `share` counts every label among the cases that are not the analysed image itself.

    Raises
    ------
    NotFound
        When the bundle has no known cases, or the feature vector was not kept.
    """
    cases = bundle.cases
    if cases is None:
        raise NotFound(f"model {bundle.name} {bundle.version} has no known cases to compare with")
    found = known.nearest(cases, kept(maps), k, patients)
    shown = [_case(bundle, cases, neighbour) for neighbour in found]
    others = [one["label"] for one in shown if not one["same_image"]]
    labels = [*bundle.classes, *sorted(set(cases.labels) - set(bundle.classes))]
    stated = bundle.description["cases"]
    return {
        "model": bundle.name,
        "sha256": bundle.sha256,
        "data_set": stated["data_set"],
        "n": len(cases),
        "distance": "cosine",
        "cases": shown,
        "share": {label: others.count(label) / max(len(others), 1) for label in labels},
        "evidence": [{"null": None, **one} for one in stated["evidence"]],
    }


def _case(bundle: Bundle, cases: known.KnownCases, neighbour: known.Neighbour) -> dict[str, Any]:
    row = neighbour.index
    label, probabilities = cases.labels[row], cases.probabilities[row].astype(float)
    said = bundle.classes[bundle.answer(probabilities)]
    return {
        "id": cases.ids[row],
        "data_set": cases.data_sets[row],
        "split": cases.splits[row],
        "label": label,
        "truth": cases.truths[row],
        "distance": neighbour.distance,
        "same_image": neighbour.same_image,
        "probabilities": dict(zip(bundle.classes, probabilities.tolist(), strict=True)),
        "correct": said == label if label in bundle.classes else None,
    }
