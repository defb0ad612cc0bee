"""Captum as a peer: its Deconvolution and GuidedBackprop on the same scalars."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import Deconvolution, GuidedBackprop
from torch.nn import functional as F

from training.response_maps.layers import fold
from training.response_maps.reference import response_maps, start_signal


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU:UserWarning")
@pytest.mark.parametrize("start", ["class", "contrast"])
@pytest.mark.parametrize(("rule", "method"), [("deconvnet", Deconvolution), ("guided", GuidedBackprop)])
def test_deconvnet_and_guided_are_captums(rule, method, start, network, scalar, images):
    found = response_maps(fold(network.layers), images, rule, start)
    for c in range(4):
        expected = method(scalar(network, start)).attribute(images.clone().requires_grad_(), target=c).sum(1).detach()
        np.testing.assert_allclose(found[:, c], expected, atol=1e-9 * float(expected.abs().max() + 1))


def test_the_scalars_gradient_is_the_start_signal():
    """What makes the comparison above one of like with like."""
    z = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    margin = z[:, 0] - z[:, 1:].amax(1)
    (gradient,) = torch.autograd.grad(0.5 * F.relu(margin).pow(2).sum(), z)
    np.testing.assert_allclose(start_signal(z.detach(), 0, "contrast"), gradient)
