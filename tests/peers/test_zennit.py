"""zennit as a peer: its DeconvNet and GuidedBackprop composites on the same scalars."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from training.response_maps.layers import fold
from training.response_maps.reference import response_maps


@pytest.fixture(scope="module")
def composites():
    """zennit.composites. zennit imports torchvision only to name two ResNet blocks; its wheel would bring CUDA along."""
    resnet = ModuleType("torchvision.models.resnet")
    resnet.Bottleneck = resnet.BasicBlock = type("NotUsed", (torch.nn.Module,), {})  # type: ignore[attr-defined]
    names = {
        "torchvision": ModuleType("torchvision"),
        "torchvision.models": ModuleType("torchvision.models"),
        resnet.__name__: resnet,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, module in names.items():
            patch.setitem(sys.modules, name, module)
        import zennit.composites

        yield zennit.composites


@pytest.mark.parametrize("start", ["class", "contrast"])
@pytest.mark.parametrize(("rule", "name"), [("deconvnet", "DeconvNet"), ("guided", "GuidedBackprop")])
def test_deconvnet_and_guided_are_zennits(rule, name, start, composites, network, scalar, images):
    found = response_maps(fold(network.layers), images, rule, start)
    for c in range(4):
        x = images.clone().requires_grad_()
        with getattr(composites, name)().context(scalar(network, start)) as modified:
            (expected,) = torch.autograd.grad(modified(x)[:, c].sum(), x)
        np.testing.assert_allclose(found[:, c], expected.sum(1), atol=1e-9 * float(expected.abs().max() + 1))
