"""Connected volumes of a sparse stack of masks, from their runs of foreground pixels. Runs in the child only.

A labelling library would need the whole volume; a segmentation of small nodules in hundreds of slices has a few thousand runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Slice:
    """Foreground of one frame.

    Attributes
    ----------
    frame : int
        Any number the caller knows it by.
    along_mm : float
        Position along the normal.
    runs : ndarray, int, shape (n, 3)
        Row, first column, last column; by row, then column.
    """

    frame: int
    along_mm: float
    runs: np.ndarray


def of_mask(mask: np.ndarray) -> np.ndarray:
    """Runs of a mask (rows, columns), shape (n, 3): row, first column, last column."""
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), np.int8)
    padded[:, 1:-1] = mask != 0
    steps = np.diff(padded, axis=1)
    rows, first = np.nonzero(steps == 1)
    _, after = np.nonzero(steps == -1)
    return np.stack([rows, first, after - 1], axis=1)


def volumes(slices: Sequence[Slice], gap_mm: float) -> list[list[Slice]]:
    """Connected parts, touching at sides, edges or corners (26 neighbours); the largest first.

    Parameters
    ----------
    slices : sequence of Slice
        Of one segment, in any order.
    gap_mm : float
        Slices that are farther apart are no neighbours.

    Returns
    -------
    list of list of Slice
        Each part's own runs.
    """
    ordered = sorted((one for one in slices if len(one.runs)), key=lambda one: one.along_mm)
    starts = np.cumsum([0, *(len(one.runs) for one in ordered)])
    parents = list(range(int(starts[-1])))
    for k, one in enumerate(ordered):
        _join(parents, one.runs, one.runs, int(starts[k]), int(starts[k]), (1,))
        if k and one.along_mm - ordered[k - 1].along_mm <= gap_mm:
            _join(parents, ordered[k - 1].runs, one.runs, int(starts[k - 1]), int(starts[k]), (-1, 0, 1))
    roots = np.array([_root(parents, k) for k in range(len(parents))])
    parts = []
    for root in np.unique(roots):
        mine = [
            Slice(one.frame, one.along_mm, one.runs[roots[starts[k] : starts[k + 1]] == root])
            for k, one in enumerate(ordered)
        ]
        parts.append([one for one in mine if len(one.runs)])
    return sorted(parts, key=lambda part: (-sum(pixels(one.runs) for one in part), part[0].along_mm, part[0].frame))


def pixels(runs: np.ndarray) -> int:
    """How many pixels the runs have."""
    return int((runs[:, 2] - runs[:, 1] + 1).sum())


def centroid(runs: np.ndarray) -> tuple[float, float]:
    """(column, row) of the mean pixel."""
    lengths = runs[:, 2] - runs[:, 1] + 1
    column = float(((runs[:, 1] + runs[:, 2]) / 2 * lengths).sum() / lengths.sum())
    return column, float((runs[:, 0] * lengths).sum() / lengths.sum())


def corners(runs: np.ndarray) -> np.ndarray:
    """(column, row) of the outer pixel corners of the runs' ends, shape (4 n, 2)."""
    row, first, last = runs.astype(float).T
    found = [np.stack([side, row + half], axis=1) for side in (first - 0.5, last + 0.5) for half in (-0.5, 0.5)]
    return np.concatenate(found)


def _join(
    parents: list[int], upper: np.ndarray, lower: np.ndarray, upper_at: int, lower_at: int, offsets: Sequence[int]
) -> None:
    """Unite runs of `upper` and `lower` that touch, a run of row r with those of row r + each offset."""
    rows = lower[:, 0]
    for k, (row, first, last) in enumerate(upper.tolist()):
        for offset in offsets:
            begin, end = np.searchsorted(rows, [row + offset, row + offset + 1])
            for m in range(int(begin), int(end)):
                if lower[m, 1] <= last + 1 and lower[m, 2] >= first - 1:
                    one, two = _root(parents, upper_at + k), _root(parents, lower_at + m)
                    parents[max(one, two)] = min(one, two)


def _root(parents: list[int], k: int) -> int:
    while parents[k] != k:
        parents[k] = parents[parents[k]]
        k = parents[k]
    return k
