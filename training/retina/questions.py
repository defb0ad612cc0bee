"""What is asked of the retina network, as a network of two classes, and occlusion of all its classes at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from training.explanations import Network
from training.response_maps.layers import Convolution

QUESTIONS = ("grade", "referable")
REFERABLE = 2
"""First of the referable grades."""


@torch.no_grad()
def logits(network: Network, images: np.ndarray, batch: int) -> np.ndarray:
    """Float64, shape (n, N)."""
    return torch.cat([network(part) for part in torch.from_numpy(images).split(batch)]).double().numpy()


def softmax(values: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    powers = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def sides(said: np.ndarray, question: str) -> np.ndarray:
    """The two sides of a question as weights of the logits (N,), float64, shape (2, N): against, for.

    `grade`: the strongest rival, and the likeliest grade. `referable`: the grades 0 and 1, and 2 to 4, each weighted by its share
    of its side's probability, which makes the difference of the sides the gradient of the log-odds.
    """
    if question == "grade":
        second, first = np.argsort(said, kind="stable")[-2:]
        return np.eye(len(said))[[second, first]]
    weights = np.zeros((2, len(said)))
    weights[0, :REFERABLE], weights[1, REFERABLE:] = softmax(said[:REFERABLE]), softmax(said[REFERABLE:])
    return weights


def asked(network: Network, weights: np.ndarray) -> Network:
    """A network of two classes that weighs the classes of another one: its log-odds are what a question is about.

    Parameters
    ----------
    network : Network
        Of N classes.
    weights : ndarray, shape (2, N)
    """
    mix = torch.from_numpy(weights)
    members = []
    for layers in network.folded:
        last = layers[-1]
        assert isinstance(last, Convolution)
        kernels = torch.tensordot(mix, last.weight.double(), dims=1)
        members.append((*layers[:-1], replace(last, weight=kernels, bias=mix @ last.bias.double())))
    return Network(members, mix @ network.prior.double())


def referable_map(maps: np.ndarray) -> np.ndarray:
    """Sum of the positive responses of the referable grades, shape (H, W), of maps (5, H, W)."""
    return np.asarray(np.maximum(maps[REFERABLE:], 0).sum(0))


@torch.no_grad()
def occlusion(network: Network, image: np.ndarray, patch: int, stride: int, batch: int) -> np.ndarray:
    """How much every logit falls under a patch of zeros (Zeiler & Fergus 2014), mean of the patches over a pixel: (N, H, W).

    One pass a patch serves all classes. Patches without a lit pixel change nothing and are not tried.
    """
    height, width = image.shape[1:]
    corners = [
        (top, left)
        for top in range(0, height - patch + 1, stride)
        for left in range(0, width - patch + 1, stride)
        if image[:, top : top + patch, left : left + patch].any()
    ]
    whole = logits(network, image[None], batch)[0]
    total, count = np.zeros((len(whole), height, width)), np.zeros((height, width))
    for top in range(0, height - patch + 1, stride):
        for left in range(0, width - patch + 1, stride):
            count[top : top + patch, left : left + patch] += 1
    for start in range(0, len(corners), batch):
        part = corners[start : start + batch]
        hidden = np.repeat(image[None], len(part), 0)
        for k, (top, left) in enumerate(part):
            hidden[k, :, top : top + patch, left : left + patch] = 0
        for (top, left), fall in zip(part, whole - logits(network, hidden, batch), strict=True):
            total[:, top : top + patch, left : left + patch] += fall[:, None, None]
    return np.asarray(total / np.maximum(count, 1), np.float32)
