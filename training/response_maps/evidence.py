"""Evidence numbers of response maps, each with its formula; in numpy, on maps from any source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from models.perturbation import changed
from training.metrics import resample
from training.metrics import summary as interval

FORMULAS = {
    "share_inside": "sum of positive R inside the region / sum of positive R; null: the region's share of the image",
    "lift": "share inside the region / the region's share of the image; at most 1 / the region's share",
    "lift_of_means": "mean share inside the region / mean of the region's share of the image",
    "chance_corrected": "(share inside the region - the region's share) / (1 - the region's share): 0 as chance, 1 perfect",
    "pointing": "share of images whose argmax R lies inside the region (tolerance 0 px)",
    "iou": "intersection / union of the region and the equally many pixels with the largest R (positive ones only)",
    "iou_half_maximum": "intersection / union of the region and the pixels with R > max R / 2, R positive",
    "class_correlation": "mean Pearson correlation of R(.|c) and R(.|c'), c != c', over an image's maps that are not constant",
    "shared_response": (
        "sum over pixels of the second largest positive R(.|c) / sum of the largest: 0 no class responds where another does, "
        "1 all classes have the same map"
    ),
    "deletion_auc": "mean of p(c) while pixels give way to the baseline in falling order of R, 0 to 100 % in equal steps",
    "insertion_auc": "mean of p(c) while pixels come back on the baseline in falling order of R, 0 to 100 % in equal steps",
    "deletion": (
        "area under p(c) over the share of patches that have given way to the baseline, in falling order of their positive R; "
        "trapezoids between the shares named in the settings; lower is better"
    ),
    "insertion": (
        "area under p(c) over the share of patches that have come back on the baseline, in falling order of their positive R; "
        "trapezoids between the shares named in the settings; higher is better"
    ),
    "stability": "max over draws of |R(x + e) - R(x)| / |R(x)| (Euclidean), e uniform in +-radius; lower is steadier",
    "randomisation": (
        "Spearman correlation of |R| before and after the last layers' weights were put in random order (Adebayo et al. 2018); "
        "near 0: the map depends on what was learnt there"
    ),
}

DRAWS = 1000
"""Of the bootstrap."""
FRACTIONS = (0, 0.01, 0.02, 0.04, 0.07, 0.12, 0.2, 0.35, 0.6, 1)
"""Shares of the patches at which `curves` look: dense where a nodule or a lesion ends."""


def share_inside(response: np.ndarray, region: np.ndarray) -> float:
    """Share of the positive response inside a region; NaN without positive response. Both shape (H, W)."""
    positive = np.maximum(response, 0)
    total = float(positive.sum())
    return float(positive[region].sum()) / total if total > 0 else float("nan")


def chance_corrected(share: float, null: float) -> float:
    """How far a share lies from its null on the way to 1; NaN where the region is the whole image."""
    return (share - null) / (1 - null) if null < 1 else float("nan")


def pointing(response: np.ndarray, region: np.ndarray) -> bool | None:
    """Is the largest response inside the region? None without positive response."""
    if response.max() <= 0:
        return None
    return bool(region[np.unravel_index(int(response.argmax()), response.shape)])


def largest(response: np.ndarray, count: int) -> np.ndarray:
    """The `count` pixels with the largest response, fewer where fewer are positive: bool, shape (H, W).

    Of equal pixels a fixed random choice is taken, so that none is preferred for its place.
    """
    flat = response.ravel()
    mixed = np.random.default_rng(0).permutation(len(flat))
    chosen = mixed[np.argsort(-flat[mixed], kind="stable")[:count]]
    found = np.zeros(len(flat), bool)
    found[chosen[flat[chosen] > 0]] = True
    return found.reshape(response.shape)


def above_half_maximum(response: np.ndarray) -> np.ndarray:
    """Pixels with more than half of the largest response; none where that is not positive: bool, shape (H, W)."""
    peak = response.max()
    return np.asarray(response > peak / 2) if peak > 0 else np.zeros(response.shape, bool)


def iou(found: np.ndarray, region: np.ndarray) -> float:
    """Intersection over union of two masks; NaN where both are empty."""
    union = int((found | region).sum())
    return int((found & region).sum()) / union if union else float("nan")


def placed(response: np.ndarray, region: np.ndarray) -> dict[str, float]:
    """All measures of place of one map, with the region's share of the image (`null`), both shape (H, W).

    A map without positive response (`empty`) finds nothing: it counts 0 in all of them.
    """
    null = float(region.mean())
    share = float(np.nan_to_num(share_inside(response, region)))
    return {
        "share_inside": share,
        "lift": share / null,
        "chance_corrected": chance_corrected(share, null),
        "pointing": float(bool(pointing(response, region))),
        "iou": iou(largest(response, int(region.sum())), region),
        "iou_half_maximum": iou(above_half_maximum(response), region),
        "empty": float(response.max() <= 0),
        "null": null,
    }


def class_correlation(maps: np.ndarray) -> float:
    """Mean correlation of one image's class maps, shape (N, H, W); NaN where fewer than two are not constant."""
    alive = [m.ravel() for m in maps if m.std() > 0]
    if len(alive) < 2:
        return float("nan")
    matrix = np.corrcoef(alive)
    return float(matrix[~np.eye(len(alive), dtype=bool)].mean())


def shared_response(maps: np.ndarray) -> float:
    """How much of the positive response of one image's class maps, shape (N, H, W), another class claims too.

    NaN without positive response. Unlike a correlation it does not ask where all maps are silent.
    """
    *_, second, first = np.sort(np.maximum(maps, 0), axis=0)
    total = float(first.sum())
    return float(second.sum()) / total if total > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[place])


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman correlation of |R| of two maps of one shape; NaN where one is constant."""
    a, b = (_ranks(np.abs(r).ravel()) for r in (first, second))
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else float("nan")


def stability(
    explain: Callable[[np.ndarray], np.ndarray], images: np.ndarray, radius: float, draws: int = 3, seed: int = 0
) -> np.ndarray:
    """Largest relative change of each image's map under small noise, shape (B,); NaN where the map is zero.

    Parameters
    ----------
    explain : callable
        (B, C, H, W) -> (B, H, W).
    images : ndarray, shape (B, C, H, W)
    radius : float
        Noise is uniform in +-radius, in the images' own units (infidelity and sensitivity: Yeh et al. 2019).
    """
    generator = np.random.default_rng(seed)
    before = explain(images).reshape(len(images), -1)
    norm = np.linalg.norm(before, axis=1)
    change = np.zeros(len(images))
    for _ in range(draws):
        noise = generator.uniform(-radius, radius, images.shape).astype(images.dtype)
        after = explain(images + noise).reshape(len(images), -1)
        change = np.maximum(change, np.linalg.norm(after - before, axis=1))
    return np.divide(change, norm, out=np.full(len(images), np.nan), where=norm > 0)


def perturbation_curve(
    predict: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    order: np.ndarray,
    baseline: np.ndarray,
    *,
    insert: bool,
    steps: int = 16,
) -> float:
    """Insertion or deletion AUC (Petsiuk et al. 2018) of the score that `predict` gives.

    Parameters
    ----------
    predict : callable
        (n, C, H, W) -> (n,) scores.
    image, baseline : ndarray, shape (C, H, W)
    order : ndarray, int, shape (H * W,)
        Flat pixel indices, most important first.
    insert : bool
        True restores pixels on the baseline, False removes them from the image.
    """
    start, end = (baseline, image) if insert else (image, baseline)
    height, width = image.shape[1:]
    return float(predict(np.stack([np.where(m, end, start) for m in changed(order, (height, width), 1, steps)])).mean())


def curves(
    predict: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    baseline: np.ndarray,
    orders: Sequence[np.ndarray],
    patch: int,
    fractions: Sequence[float] = FRACTIONS,
) -> tuple[np.ndarray, np.ndarray]:
    """Deletion and insertion curves of one image for several orders of its patches, each shape (len(orders), len(fractions)).

    Unlike in `perturbation_curve` the steps need not be equal: 2 % of the image are gone before the first of 16 equal steps.

    Parameters
    ----------
    predict : callable
        (n, C, H, W) -> (n,) scores; asked once for the two ends and once for everything between.
    image, baseline : ndarray, shape (C, H, W)
    orders : sequence of ndarray, int
        Patches, most important first (`models.perturbation.by_response`).
    patch : int
        Side of a patch, px; divides H and W.
    fractions : sequence of float
        Rising from 0 to 1.
    """
    height, width = image.shape[1:]
    masks = [
        list(changed(order[: round(len(order) * fraction)], (height, width), patch, 1))[1]
        for order in orders
        for fraction in fractions[1:-1]
    ]
    whole, empty = predict(np.stack([image, baseline]))
    between = predict(
        np.stack([np.where(m, *pair) for pair in ((baseline, image), (image, baseline)) for m in masks])
    ).reshape(2, len(orders), len(fractions) - 2)
    deletion, insertion = (
        np.column_stack([np.full(len(orders), first), part, np.full(len(orders), last)])
        for first, part, last in zip((whole, empty), between, (empty, whole), strict=True)
    )
    return deletion, insertion


def area(values: np.ndarray, fractions: Sequence[float] = FRACTIONS) -> np.ndarray:
    """Area under curves (..., len(fractions)) by trapezoids."""
    return np.asarray(np.trapezoid(values, fractions, axis=-1))


def summary(top: np.ndarray, groups: np.ndarray, bottom: np.ndarray | None = None) -> dict[str, Any]:
    """Mean of the finite values of `top`, or sum(top) / sum(bottom): value, bootstrap 95 % interval over groups (patients), n."""
    use = np.isfinite(top)
    if not use.any():
        return {"value": None, "interval": None, "n": 0}
    draws = resample(groups[use], DRAWS)
    below = draws.sums((np.ones(len(top)) if bottom is None else bottom)[use])
    return {**interval(draws.sums(top[use]) / below), "n": int(use.sum())}
