"""Composed maps of the thesis: CLEAR (eqs. 5.4-5.6), two-sided and binary heat maps (5.2.3). The reference in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def clear(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Dominant class and its response.

    Parameters
    ----------
    maps : Tensor, shape (B, N, H, W)

    Returns
    -------
    index : Tensor, int64, shape (B, H, W)
        argmax_c R(x|c); -1 where the dominant response is not positive: there no class dominates.
    strength : Tensor, shape (B, H, W)
        D = R(x|C^), zero where no class dominates.
    """
    strength, index = maps.max(1)
    none = strength <= 0
    return index.masked_fill(none, -1), strength.masked_fill(none, 0)


def two_sided(maps: Tensor, c: int) -> tuple[Tensor, Tensor]:
    """Positive response of class c, and the largest positive response of all others; each shape (B, H, W)."""
    others = torch.cat([maps[:, :c], maps[:, c + 1 :]], 1)
    return F.relu(maps[:, c]), F.relu(others.amax(1))


def binary(maps: Tensor, c: int, threshold: float) -> Tensor:
    """Two-sided map thresholded: 1 where class c exceeds `threshold` and is the larger side, -1 where the others are, else 0."""
    hot, other = two_sided(maps, c)
    return torch.where((hot > threshold) & (hot >= other), 1, torch.where(other > threshold, -1, 0))
