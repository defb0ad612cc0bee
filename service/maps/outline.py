"""Outlines of a mask: rings along the borders of its pixels, exact, for programs that draw or compute with polygons."""

from __future__ import annotations

import numpy as np

Ring = list[tuple[int, int]]
"""Corners (x, y), the first one repeated at the end."""


def rings(mask: np.ndarray) -> list[Ring]:
    """The border of a mask as closed rings of horizontal and vertical edges.

    Filled by the even-odd rule they give the mask back exactly. Pixel (row, column) covers x = column..column + 1 and
    y = row..row + 1, so every corner lies at whole numbers. Straight runs have no points in between. With y downwards outer
    rings run clockwise and holes counter-clockwise. Pixels that touch at a corner only belong to different rings or to different
    passages of one; edges never cross.

    Parameters
    ----------
    mask : ndarray, bool, shape (H, W)

    Returns
    -------
    list of rings
        From top to bottom, then left to right, by the first corner of each. Empty for an empty mask.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    top, left = int(rows[0]), int(columns[0])
    cells = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1)
    y, x, beside, above = _corners(cells)
    along, across = _mates(y, x, beside), _mates(x, y, above)
    found: list[Ring] = []
    seen = np.zeros(len(y), bool)
    for start in range(len(y)):
        if seen[start]:
            continue
        ring: Ring = []
        at = start
        while not seen[at]:
            for corner in (at, along[at]):
                seen[corner] = True
                ring.append((int(x[corner]) + left, int(y[corner]) + top))
            at = across[along[at]]
        if not cells[y[start] + 1, x[start] + 1]:  # below the ring's uppermost edge: a hole
            ring = [ring[0], *reversed(ring[1:])]
        found.append([*ring, ring[0]])
    return found


def _corners(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Corners of the border of padded cells, sorted by row and column; where four edges meet there are two.

    Returns
    -------
    y, x : ndarray, int
        In pixels of what was padded.
    beside, above : ndarray, int
        Order of the two corners at one place along the row and along the column: 0 ends the edge before it, 1 begins the next.
    """
    nw, ne, sw, se = cells[:-1, :-1], cells[:-1, 1:], cells[1:, :-1], cells[1:, 1:]
    count = nw.astype(np.int8) + ne + sw + se
    crossing = (nw == se) & (ne == sw) & (nw != ne)
    y, x = np.nonzero((count == 1) | (count == 3) | crossing)
    twice = crossing[y, x]
    repeat = 1 + twice
    beside = np.zeros(int(repeat.sum()), np.intp)
    beside[np.cumsum(repeat)[twice] - 1] = 1
    # Pixels are joined by their edges only: where nw and se are set, the edge to the left turns upwards, else downwards.
    turned = np.repeat(twice & ~nw[y, x], repeat)
    above = np.where(turned, 1 - beside, beside)
    return np.repeat(y, repeat), np.repeat(x, repeat), beside, above


def _mates(line: np.ndarray, place: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """For every corner the other end of its edge along a line: corners in order of place, two by two."""
    order = np.lexsort((rank, place, line))
    mates = np.empty(len(order), np.intp)
    mates[order[0::2]], mates[order[1::2]] = order[1::2], order[0::2]
    return mates
