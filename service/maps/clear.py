"""Composition of class response maps into one map, and the numbers that describe them.

Source: D. Kumar, *Class Based Strategies for Understanding Neural Networks*, Waterloo 2020, eqs. 5.4-5.6 (CLEAR) and
section 5.2.3 (two-sided heat map). The class axis is always the third from the end, so one image (N, H, W) and a
stack of slices (S, N, H, W) work alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.errors import NotFound

CLASS_PREFIX = "class-"


def kinds(classes: Sequence[str]) -> tuple[str, ...]:
    """Names of the maps that exist for these classes: ``clear``, ``two-sided`` and one ``class-<name>`` a class."""
    return ("clear", "two-sided", *(CLASS_PREFIX + name for name in classes))


def class_of(kind: str, classes: Sequence[str]) -> int | None:
    """Index of the class that a kind of map shows; None for a map of all classes.

    Raises
    ------
    NotFound
        When there is no map of this kind.
    """
    if kind not in kinds(classes):
        raise NotFound(f"there is no map {kind[:80]!r}; the maps of this finding are {', '.join(kinds(classes))}")
    return list(classes).index(kind.removeprefix(CLASS_PREFIX)) if kind.startswith(CLASS_PREFIX) else None


def dominant(response: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dominant class and dominant response of every pixel (thesis eqs. 5.4 and 5.5).

    ``index = argmax_c R(x|c)`` and ``strength = R(x|index)``. Where no class has a positive response there is no
    dominant class (our decision: else the argmax would paint the background with class 0).
    A tie goes to the first class.

    Parameters
    ----------
    response : ndarray, float32, shape (..., N, H, W)
        Signed responses of at most 127 classes.

    Returns
    -------
    index : ndarray, int8, shape (..., H, W)
        -1 where nothing is positive.
    strength : ndarray, float32, shape (..., H, W)
        0 where nothing is positive.
    """
    if response.shape[-3] > np.iinfo(np.int8).max:
        raise ValueError(f"{response.shape[-3]} classes do not fit into the int8 class index")
    strength = response.max(axis=-3)
    positive = strength > 0
    index = np.where(positive, response.argmax(axis=-3), -1).astype(np.int8)
    return index, np.where(positive, strength, 0).astype(np.float32)


def two_sided(response: np.ndarray, c: int) -> tuple[np.ndarray, np.ndarray]:
    """Positive response of class `c`, and of the strongest of all other classes (thesis section 5.2.3).

    Parameters
    ----------
    response : ndarray, float32, shape (..., N, H, W)
    c : int
        The chosen class.

    Returns
    -------
    hot, other : ndarray, float32, shape (..., H, W)
        Both >= 0.
    """
    hot = np.maximum(np.take(response, c, axis=-3), 0)
    other = np.delete(response, c, axis=-3).max(axis=-3, initial=0)
    return hot.astype(np.float32), other.astype(np.float32)


def dominant_share(response: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Share of each class in the dominant response.

    ``share(c) = sum of D over pixels with dominant class c / sum of D over all pixels``: weighted by strength, because
    a count of pixels would let many pixels of next to no response outvote a few strong ones. Sums run over all slices.

    Returns
    -------
    dict
        Sums to 1; all 0 when nothing is positive.
    """
    index, strength = dominant(response)
    sums = [float(strength[index == c].sum(dtype=np.float64)) for c in range(len(classes))]
    total = sum(sums)
    return {name: value / total if total > 0 else 0.0 for name, value in zip(classes, sums, strict=True)}


def class_correlation(response: np.ndarray) -> float | None:
    """How alike the maps of different classes are: mean Pearson correlation over all pairs of classes.

    1 means the maps say nothing about the class. Pairs with a constant map have no correlation and are left out.

    Parameters
    ----------
    response : ndarray, float32, shape (..., N, H, W)
        Over slices, all pixels of a class count as one sample.

    Returns
    -------
    float or None
        None when no pair of maps varies.
    """
    flat = np.moveaxis(response, -3, 0).reshape(response.shape[-3], -1).astype(np.float64)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1)
    flat = flat[length > 0] / length[length > 0, None]
    if len(flat) < 2:
        return None
    return float((flat @ flat.T)[np.triu_indices(len(flat), 1)].mean())


def positive_maximum(response: np.ndarray) -> float:
    """Largest positive response of any class. 0 when nothing is positive."""
    return float(max(response.max(), 0))


def scale_per_image(response: np.ndarray) -> float:
    """Response that the scale ``per_image`` draws at full strength: the 99.9th percentile of positive dominant responses.

    Ours: the thesis takes the maximum, but guided maps have heavy tails and one pixel would dim all others. The scale
    ``per_model`` takes the same percentile over the validation set. 0 when nothing is positive.
    """
    strength = response.max(axis=-3)
    positive = strength[strength > 0]
    return float(np.percentile(positive, 99.9, method="higher")) if positive.size else 0.0
