"""zennit as a peer: its DeconvNet and GuidedBackprop composites on the same scalars."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.explanations import zennit_composites
from training.response_maps.layers import fold
from training.response_maps.reference import response_maps


@pytest.mark.parametrize("start", ["class", "contrast"])
@pytest.mark.parametrize(("rule", "name"), [("deconvnet", "DeconvNet"), ("guided", "GuidedBackprop")])
def test_deconvnet_and_guided_are_zennits(rule, name, start, network, scalar, images):
    found = response_maps(fold(network.layers), images, rule, start)
    for c in range(4):
        x = images.clone().requires_grad_()
        with getattr(zennit_composites(), name)().context(scalar(network, start)) as modified:
            (expected,) = torch.autograd.grad(modified(x)[:, c].sum(), x)
        np.testing.assert_allclose(found[:, c], expected.sum(1), atol=1e-9 * float(expected.abs().max() + 1))
