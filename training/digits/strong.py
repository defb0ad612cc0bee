"""Table 5.3: accuracy with only the strong features of an image, and without them.

A pixel is strong when its response exceeds a share t of the image's largest, R > t max R. What is taken out is replaced by the
image's median grey (black in MNIST). Two controls take equally much: as many pixels anywhere, and as many of the pixels that
differ from that grey at all (ink), since a random pixel of MNIST is mostly empty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import IntegratedGradients, LayerGradCam
from torch import Tensor
from torch.nn import functional as F

from training.explanations import Network, directions, flat, log_odds
from training.response_maps.compose import clear
from training.response_maps.layers import Layer
from training.response_maps.reference import Rule, Start, forward, response_maps, send_back, start_signal

THRESHOLDS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)
PUBLISHED = {"only": 0.7989, "without": 0.4345}
"""Thesis, table 5.3."""
STEPS = 16
"""Of Integrated Gradients."""

Explain = Callable[[Network, Tensor, Tensor], Tensor]
"""Network, images (B, C, H, W), the class to explain of each (B,): responses (B, H, W)."""


def chosen_maps(layers: tuple[Layer, ...], x: Tensor, chosen: Tensor, rule: Rule, start: Start) -> Tensor:
    """Response map of one class an image, R(x|chosen), shape (B, H, W): one way back instead of one a class."""
    trace = forward(layers, x)
    signal = torch.zeros_like(trace.output)
    for c in chosen.unique():
        rows = chosen == c
        signal[rows] = start_signal(trace.output[rows], int(c), start)
    return send_back(layers, trace, signal, rule).sum(1)


def _own(rule: Rule, start: Start) -> Explain:
    return lambda network, x, chosen: chosen_maps(network.folded[0], x, chosen, rule, start)


def _dominant(rule: Rule, start: Start) -> Explain:
    return lambda network, x, chosen: clear(response_maps(network.folded[0], x, rule, start))[1]


def _direction(network: Network, x: Tensor, chosen: Tensor) -> Tensor:
    with torch.no_grad():
        return directions(network(x))[torch.arange(len(x)), chosen]


def grad_cam(network: Network, x: Tensor, chosen: Tensor) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017), Captum, of the log-odds against the strongest rival at the last hidden ReLU; bilinear."""
    member = next(iter(network.members))
    method = LayerGradCam(lambda x, d: (member(x).mean((2, 3)) * d).sum(1), list(member.children())[-2])
    x = x.detach().requires_grad_()
    maps = method.attribute(x, additional_forward_args=_direction(network, x, chosen), relu_attributions=True).detach()
    return F.interpolate(maps, x.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def integrated_gradients(network: Network, x: Tensor, chosen: Tensor) -> Tensor:
    """Integrated Gradients (Sundararajan et al. 2017), Captum, of the same log-odds, from the image's median grey."""
    return (
        IntegratedGradients(log_odds(network))
        .attribute(
            x.detach().requires_grad_(),
            baselines=flat(x.detach()),
            additional_forward_args=_direction(network, x, chosen),
            n_steps=STEPS,
            internal_batch_size=max(len(x), 500),
        )
        .detach()
        .sum(1)
    )


METHODS: dict[str, tuple[str, Explain]] = {
    "CLEAR, linear": (
        "dominant response D (eqs. 5.4-5.6), rule linear, start class: the equation as printed",
        _dominant("linear", "class"),
    ),
    "CLEAR, guided": ("dominant response D, rule guided, start contrast", _dominant("guided", "contrast")),
    "guided, contrast": (
        "response map of the predicted class, rule guided, start contrast",
        _own("guided", "contrast"),
    ),
    "deconvnet": ("response map of the predicted class, rule deconvnet, start class", _own("deconvnet", "class")),
    "Grad-CAM": (
        "Captum, last hidden ReLU, log-odds of the predicted class against its strongest rival",
        grad_cam,
    ),
    "Integrated Gradients": (
        f"Captum, {STEPS} points from the image's median grey, the same log-odds",
        integrated_gradients,
    ),
}
"""What finds strong features: what it is, and the function."""


def strong(response: Tensor, threshold: float) -> Tensor:
    """Pixels with R > threshold * max R, none in an image without positive response: bool, shape (B, H, W)."""
    top = response.amax((1, 2), keepdim=True)
    return (response > threshold * top) & (top > 0)


def only(x: Tensor, mask: Tensor) -> Tensor:
    """Images (B, C, H, W) of which nothing is left but the pixels of the masks (B, H, W)."""
    return torch.where(mask[:, None], x, flat(x))


def ink(x: Tensor) -> Tensor:
    """Pixels that differ from the image's median grey: bool, shape (B, H, W)."""
    return (x != flat(x)).any(1)


def drawn(among: Tensor, count: Tensor, generator: torch.Generator) -> Tensor:
    """`count` (B,) random pixels of each mask (B, H, W), all where it has fewer: bool, shape (B, H, W)."""
    order = torch.rand(among.shape, generator=generator).masked_fill(~among, 2.0).flatten(1)
    rank = order.argsort(1).argsort(1).reshape(among.shape)
    return (rank < count[:, None, None]) & among


def _right(network: Network, x: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        said = torch.cat(
            [network(part.contiguous(memory_format=torch.channels_last)).argmax(1) for part in x.split(500)]
        )
    return float((said == labels).float().mean())


def curve(network: Network, x: Tensor, labels: Tensor, explain: Explain, seed: int = 0) -> list[dict[str, Any]]:
    """What is left of the accuracy at each threshold.

    Parameters
    ----------
    network : Network
    x : Tensor, shape (n, C, H, W)
    labels : Tensor, int64, shape (n,)
    explain : callable
        Explains what the network says, not what is true.

    Returns
    -------
    list of dict
        Of each threshold: ``area`` and ``ink``, the strong pixels' mean share of all pixels and of those with ink; accuracy
        with ``only`` them and ``without`` them; the same two under ``pixels`` and ``ink_control``, the equal-area controls.
    """
    responses = []
    for part in x.split(250):
        with torch.no_grad():
            said = network(part).argmax(1)
        responses.append(explain(network, part, said).detach())
    response, drawing = torch.cat(responses), ink(x)
    everything = torch.ones_like(drawing)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for threshold in THRESHOLDS:
        mask = strong(response, threshold)
        inked = (mask & drawing).sum((1, 2))
        masks = {
            "strong": mask,
            "pixels": drawn(everything, mask.sum((1, 2)), generator),
            "ink_control": drawn(drawing, inked, generator),
        }
        accuracies = {
            name: {"only": _right(network, only(x, m), labels), "without": _right(network, only(x, ~m), labels)}
            for name, m in masks.items()
        }
        found.append(
            {
                "threshold": threshold,
                "area": float(mask.float().mean()),
                "ink": float(inked.sum() / drawing.sum()),
                **accuracies.pop("strong"),
                **accuracies,
            }
        )
    return found


def nearest(points: list[dict[str, Any]], published: dict[str, float] = PUBLISHED) -> dict[str, Any]:
    """The point of a curve whose two accuracies lie nearest to the published pair (Euclidean)."""
    return min(points, key=lambda p: sum((p[name] - value) ** 2 for name, value in published.items()))
