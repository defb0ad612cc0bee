"""Evidence numbers of response maps, each with its formula; in numpy, on maps from any source."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.perturbation import changed

FORMULAS = {
    "share_inside": "sum of positive R inside the region / sum of positive R; null: the region's share of the image",
    "pointing": "share of images whose argmax R lies inside the region (tolerance 0 px)",
    "class_correlation": "mean Pearson correlation of R(.|c) and R(.|c'), c != c', over an image's maps that are not constant",
    "deletion_auc": "mean of p(c) while pixels give way to the baseline in falling order of R, 0 to 100 % in equal steps",
    "insertion_auc": "mean of p(c) while pixels come back on the baseline in falling order of R, 0 to 100 % in equal steps",
}


def share_inside(response: np.ndarray, region: np.ndarray) -> float:
    """Share of the positive response inside a region; NaN without positive response. Both shape (H, W)."""
    positive = np.maximum(response, 0)
    total = float(positive.sum())
    return float(positive[region].sum()) / total if total > 0 else float("nan")


def pointing(response: np.ndarray, region: np.ndarray) -> bool | None:
    """Is the largest response inside the region? None without positive response."""
    if response.max() <= 0:
        return None
    return bool(region[np.unravel_index(int(response.argmax()), response.shape)])


def class_correlation(maps: np.ndarray) -> float:
    """Mean correlation of one image's class maps, shape (N, H, W); NaN where fewer than two are not constant."""
    alive = [m.ravel() for m in maps if m.std() > 0]
    if len(alive) < 2:
        return float("nan")
    matrix = np.corrcoef(alive)
    return float(matrix[~np.eye(len(alive), dtype=bool)].mean())


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
