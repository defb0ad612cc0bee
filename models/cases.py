"""Known cases of a bundle: public, labelled cases with their feature vectors, and the search for those nearest to a new one.

They are the file ``cases.npz`` in the bundle's folder, read with ``numpy.load(..., allow_pickle=False)``. For n cases, N
classes and feature vectors of length D it holds

===================  ==================  ==========================================================================
``weights_sha256``   str                 the weights that the features and probabilities were computed with
``features``         float16, (n, D)     the network's last feature vector, scaled to length 1; see `mean_feature`
``probabilities``    float16, (n, N)     the network's answer, mean over the slices of a nodule
``ids``              str, (n,)           public identifier; unique
``patients``         str, (n,)           public identifier of the patient; where none is known that of the case
``data_sets``        str, (n,)           data set that the case is from
``splits``           str, (n,)           side of the model's split: one of `SPLITS`
``labels``           str, (n,)           true class, or a label that no class carries (a doubtful truth)
``truths``           str, (n,)           JSON object: where the label comes from; ``text`` says it in words
===================  ==================  ==========================================================================

No image and nothing about a patient beyond public research identifiers belongs into it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SPLITS = ("train", "validation", "test")
SAME_IMAGE = 1e-4
"""Cosine distance below which a case is the analysed image itself."""
_TEXTS = ("ids", "patients", "data_sets", "splits", "labels")


class CasesError(ValueError):
    """A file of known cases that must not be used; the message names the fault."""


@dataclass(frozen=True, eq=False)
class KnownCases:
    """Known cases, one a row; see the module for what each column holds."""

    weights_sha256: str
    features: np.ndarray
    """float32, shape (n, D); rows of length 1, or 0 where a vector was all zeros."""
    probabilities: np.ndarray
    """float32, shape (n, N)."""
    ids: tuple[str, ...]
    patients: tuple[str, ...]
    data_sets: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]
    truths: tuple[dict[str, Any], ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Neighbour:
    """One known case near a new one."""

    index: int
    """Row among the known cases."""
    distance: float
    """Cosine distance, 0 to 2."""
    same_image: bool
    """It is the new case itself: nearer than `SAME_IMAGE`."""


def mean_feature(per_slice: np.ndarray) -> np.ndarray:
    """One feature vector for a finding of several slices: the mean over the slices that its probability is the mean of.

    Parameters
    ----------
    per_slice : ndarray, shape (S, D)

    Returns
    -------
    ndarray, float32, shape (D,)
    """
    return np.asarray(np.asarray(per_slice, np.float64).mean(axis=0), np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors scaled to length 1, float32; zeros stay zeros. Shape (..., D)."""
    values = np.asarray(vectors, np.float64)
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    return np.asarray(np.divide(values, length, out=np.zeros_like(values), where=length > 0), np.float32)


def distances(known: np.ndarray, feature: np.ndarray) -> np.ndarray:
    """Cosine distance 1 - <a, b> / (|a| |b|) of each known vector to a new one; 1 where either is all zeros.

    Parameters
    ----------
    known : ndarray, shape (n, D)
        Rows of length 1 (`unit`).
    feature : ndarray, shape (D,)
        Of any length.

    Returns
    -------
    ndarray, float64, shape (n,), values 0..2
    """
    cosine = known.astype(np.float64) @ unit(feature).astype(np.float64)
    return np.asarray(np.clip(1.0 - cosine, 0.0, 2.0))


def nearest(cases: KnownCases, feature: np.ndarray, k: int, patients: Collection[str] = ()) -> list[Neighbour]:
    """The k nearest cases of other patients, nearest first; equal distances in the order of the file.

    A case that is the new image itself stays among them, marked; the other cases of its patient are left out, as are all
    cases of `patients`. So fewer than k come back where there are no more.

    Parameters
    ----------
    cases : KnownCases
    feature : ndarray, shape (D,)
        As `mean_feature` gives it.
    k : int
        At least 1.
    patients : collection of str
        Public identifiers that the new case may belong to.

    Raises
    ------
    ValueError
        When the vector has another length than those of the cases.
    """
    if feature.shape != cases.features.shape[1:]:
        raise ValueError(f"the feature vector has shape {feature.shape}, the cases have {cases.features.shape[1:]}")
    distance = distances(cases.features, feature)
    same = distance < SAME_IMAGE
    own = {cases.patients[row] for row in np.flatnonzero(same)} | set(patients)
    allowed = np.array([patient not in own for patient in cases.patients]) | same
    order = np.argsort(distance, kind="stable")
    return [Neighbour(int(row), float(distance[row]), bool(same[row])) for row in order[allowed[order]][:k]]


def write(cases: KnownCases, path: Path) -> None:
    """Write the file; it appears complete or not at all. The same cases give the same bytes."""
    columns: dict[str, np.ndarray] = {name: np.array(getattr(cases, name)) for name in _TEXTS}
    columns["truths"] = np.array([json.dumps(truth, ensure_ascii=False) for truth in cases.truths])
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        np.savez_compressed(
            stream,
            allow_pickle=False,
            weights_sha256=np.array(cases.weights_sha256),
            features=unit(cases.features).astype(np.float16),
            probabilities=cases.probabilities.astype(np.float16),
            **columns,
        )
    part.replace(path)


def read(path: Path) -> KnownCases:
    """Read what `write` wrote.

    Raises
    ------
    CasesError
        When the file cannot be read, a column is missing, or the columns do not fit each other.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            columns = {name: stored[name] for name in stored.files}
        texts = {name: tuple(str(value) for value in columns[name]) for name in _TEXTS}
        cases = KnownCases(
            weights_sha256=str(columns["weights_sha256"]),
            features=unit(columns["features"]),
            probabilities=columns["probabilities"].astype(np.float32),
            truths=tuple(json.loads(str(text)) for text in columns["truths"]),
            **texts,
        )
    except Exception as error:  # a damaged zip raises what zipfile, zlib and numpy happen to raise
        raise CasesError(f"cannot be read ({type(error).__name__})") from error
    _check_columns(cases)
    return cases


def _check_columns(cases: KnownCases) -> None:
    n = len(cases)
    if n == 0:
        raise CasesError("holds no case")
    odd = [name for name in (*_TEXTS, "truths", "features", "probabilities") if len(getattr(cases, name)) != n]
    if odd:
        raise CasesError(f"has columns of another length than ids: {', '.join(odd)}")
    if cases.features.ndim != 2 or cases.probabilities.ndim != 2:
        raise CasesError("features and probabilities must have two axes")
    if not (np.isfinite(cases.features).all() and np.isfinite(cases.probabilities).all()):
        raise CasesError("has features or probabilities that are not finite")
    if len(set(cases.ids)) != n:
        raise CasesError("has an id twice")
    if not set(cases.splits) <= set(SPLITS):
        raise CasesError(f"has splits other than {', '.join(SPLITS)}")
    if not all("text" in truth for truth in cases.truths):
        raise CasesError("has a truth that does not say it in words (text)")


def check(cases: KnownCases, weights_sha256: str, classes: Sequence[str], length: int) -> None:
    """See that cases belong to a model.

    Parameters
    ----------
    cases : KnownCases
    weights_sha256 : str
        Of the model's weights.
    classes : sequence of str
        Its classes.
    length : int
        Of its feature vectors.

    Raises
    ------
    CasesError
        When they were computed with other weights, or have another number of classes or features.
    """
    if cases.weights_sha256 != weights_sha256:
        raise CasesError("was computed with other weights")
    if cases.features.shape[1] != length:
        raise CasesError(f"has feature vectors of length {cases.features.shape[1]}, the model's have {length}")
    if cases.probabilities.shape[1] != len(classes):
        raise CasesError(f"has probabilities of {cases.probabilities.shape[1]} classes, the model has {len(classes)}")
