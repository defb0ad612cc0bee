"""Attentive response maps of the strongest units, and what is left of an image that keeps only the landmarks they show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.perturbation import by_response, changed
from training.explanations import flat
from training.response_maps.layers import Layer
from training.response_maps.reference import Rule, forward, ranked_units, send_back

UNITS = 25
"""Thesis, ch. 3: the top 25 units."""
PATCH = 4
"""Side of the pieces of an image that are kept or taken out, px: landmarks are places, not single pixels."""
SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
"""Of the patches that are kept, or taken out."""
KEY = 0.1
"""Share of the patches that count as the key landmarks in figures."""


def last_hidden(layers: Sequence[Layer]) -> int:
    """Number of the layer whose units are asked: what the class layer sees."""
    return len(layers) - 2


def top_maps(layers: Sequence[Layer], x: Tensor, n: int = UNITS, rule: Rule = "linear") -> Tensor:
    """Attentive response maps (eq. 3.2) of each image's n strongest units of the last hidden layer, strongest first.

    Parameters
    ----------
    layers : sequence of Layer
    x : Tensor, shape (B, C, H, W)
    n : int
        Units are ranked by the sum of their activations; all, where a layer has fewer.
    rule : Rule
        ``linear`` is the thesis' equation.

    Returns
    -------
    Tensor, shape (B, n, H, W)
    """
    place = last_hidden(layers)
    head = layers[: place + 1]
    units, trace = ranked_units(layers, x, place)[:, :n], forward(head, x)
    images, maps = torch.arange(len(x)), []
    for rank in range(units.shape[1]):
        signal = torch.zeros_like(trace.output)
        signal[images, units[:, rank]] = trace.output[images, units[:, rank]]
        maps.append(send_back(head, trace, signal, rule).sum(1))
    return torch.stack(maps, 1)


def dominant(layers: Sequence[Layer], x: Tensor, n: int = UNITS, rule: Rule = "linear", batch: int = 50) -> np.ndarray:
    """Per pixel the largest of `top_maps` (eq. 3.3), float32, shape (B, H, W)."""
    with torch.no_grad():
        return torch.cat([top_maps(layers, part, n, rule).amax(1) for part in x.split(batch)]).numpy()


def patch_masks(response: np.ndarray, share: float) -> np.ndarray:
    """The share of each image's patches with the largest positive response: bool, shape (B, H, W), as `response`."""
    masks = []
    for each in response:
        order = by_response(each, PATCH)
        masks.append(list(changed(order[: round(len(order) * share)], each.shape, PATCH, 1))[1])
    return np.stack(masks)


def kept(x: Tensor, masks: np.ndarray) -> Tensor:
    """Images (B, C, H, W) of which only the masks (B, H, W) are left; the rest is the image's median grey."""
    return torch.where(torch.from_numpy(masks)[:, None], x, flat(x))


def concentration(response: np.ndarray, share: float = KEY) -> float:
    """Mean share of the positive response that lies in the strongest patches; images without any are left out."""
    positive = np.maximum(response, 0)
    total, inside = positive.sum((1, 2)), (positive * patch_masks(response, share)).sum((1, 2))
    return float((inside[total > 0] / total[total > 0]).mean())


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """Mean Pearson correlation of the maps (B, H, W) of the same images, where neither is constant."""
    pairs = zip(first.reshape(len(first), -1), second.reshape(len(second), -1), strict=True)
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs if a.std() > 0 and b.std() > 0]))
