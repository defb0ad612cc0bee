"""What both peers need: the scalar whose gradient is the start signal, and a network to try it on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.networks import Architecture, Conv, Sequencer


class Scalar(nn.Module):
    """Per class: sum of z_c^2 / 2 (start `class`) or of relu(z_c - max z_k)^2 / 2 (start `contrast`)."""

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


@pytest.fixture
def network() -> Sequencer:
    torch.manual_seed(1)
    network = Sequencer(Architecture(3, 4, ((Conv(6, 5, 2),), (Conv(7), Conv(8)), (Conv(8), Conv(8, 1)))))
    network = network.eval().double()
    network.layers[-1].weight.data.mul_(10)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    return network


@pytest.fixture
def scalar(network: Sequencer) -> type[Scalar]:
    return Scalar


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 24, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
