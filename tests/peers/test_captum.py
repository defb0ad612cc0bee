"""Captum as a peer: its Deconvolution and GuidedBackprop on the same scalars."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import Deconvolution, GuidedBackprop
from torch import nn
from torch.nn import functional as F

from training.networks import Architecture, Conv, Sequencer
from training.response_maps.layers import fold
from training.response_maps.reference import response_maps


class Scalar(nn.Module):
    """The scalar whose gradient is the start signal: sum of z_c^2 / 2, or of relu(z_c - max z_k)^2 / 2."""

    def __init__(self, network: Sequencer, start: str) -> None:
        super().__init__()
        self.network, self.start = network, start

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.network.raw(x)
        if self.start == "class":
            return 0.5 * (z**2).sum((2, 3))
        columns = []
        for c in range(z.shape[1]):
            margin = z[:, c] - torch.cat([z[:, :c], z[:, c + 1 :]], 1).amax(1)
            columns.append(0.5 * (margin * (margin > 0)).pow(2).sum((1, 2)))
        return torch.stack(columns, 1)


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU:UserWarning")
@pytest.mark.parametrize("start", ["class", "contrast"])
@pytest.mark.parametrize(("rule", "method"), [("deconvnet", Deconvolution), ("guided", GuidedBackprop)])
def test_deconvnet_and_guided_are_captums(rule, method, start):
    torch.manual_seed(1)
    network = (
        Sequencer(Architecture(3, 4, ((Conv(6, 5, 2),), (Conv(7), Conv(8)), (Conv(8), Conv(8, 1))))).eval().double()
    )
    network.layers[-1].weight.data.mul_(10)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    x = torch.randn(2, 3, 24, 32, dtype=torch.float64)
    found = response_maps(fold(network.layers), x, rule, start)
    for c in range(4):
        expected = method(Scalar(network, start)).attribute(x.clone().requires_grad_(), target=c).sum(1).detach()
        np.testing.assert_allclose(found[:, c], expected, atol=1e-9 * float(expected.abs().max() + 1))


def test_the_scalars_gradient_is_the_start_signal():
    """What makes the comparison above one of like with like."""
    z = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    margin = z[:, 0] - z[:, 1:].amax(1)
    (gradient,) = torch.autograd.grad(0.5 * F.relu(margin).pow(2).sum(), z)
    from training.response_maps.reference import start_signal

    np.testing.assert_allclose(start_signal(z.detach(), 0, "contrast"), gradient)
