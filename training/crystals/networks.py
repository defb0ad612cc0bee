"""The network of table 3.1, and the same as layers that response maps are defined on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.response_maps.layers import Layer, fold

FILTERS = (32, 32, 16, 16, 8, 8)
KERNEL = 7
HIDDEN = 128
DROPOUT = 0.25
CONVOLUTIONS = (0, 2, 5, 7, 10, 12)
"""Places of the six convolutions in `Classifier.features`."""


class Classifier(nn.Module):
    """Table 3.1 (sizes as in Ziletti et al.'s published code, Apache-2.0).

    Three pairs of 7x7 convolutions (32, 32, 16, 16, 8, 8) with ReLU, a 2x2 max pool after the first two pairs; 25 percent
    dropout, a fully connected layer of 128 with ReLU, batch norm, and a fully connected layer of the classes.

    Input: fingerprints, float32, shape (B, 3, 64, 64). Output: logits, shape (B, classes).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for number, filters in enumerate(FILTERS):
            layers += [nn.Conv2d(channels, filters, KERNEL, padding=KERNEL // 2), nn.ReLU()]
            if number in (1, 3):
                layers.append(nn.MaxPool2d(2))
            channels = filters
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(DROPOUT)
        self.hidden = nn.Linear(channels * 16 * 16, HIDDEN)
        self.norm = nn.BatchNorm1d(HIDDEN)
        self.last = nn.Linear(HIDDEN, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.orthogonal_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        flat = self.dropout(self.features(x).flatten(1))
        return self.last(self.norm(self.hidden(flat).relu()))

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.last.out_features


def layers_of(network: Classifier) -> tuple[Layer, ...]:
    """The trained network as convolutions, ReLUs and pools only.

    The fully connected layers are convolutions over the whole 16x16 map and over one pixel. The batch norm, which stands
    behind a ReLU, is folded into the last layer: W (scale * h + shift) + b = (W scale) h + (W shift + b).
    """
    hidden = nn.Conv2d(FILTERS[-1], HIDDEN, 16)
    hidden.weight.data = network.hidden.weight.detach().reshape(HIDDEN, FILTERS[-1], 16, 16)
    hidden.bias = nn.Parameter(network.hidden.bias.detach())
    norm, last = network.norm, nn.Conv2d(HIDDEN, network.classes, 1).double()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.detach().double() - norm.running_mean.double() * scale
    weight = network.last.weight.detach().double()
    last.weight.data = (weight * scale)[:, :, None, None]
    last.bias = nn.Parameter(network.last.bias.detach().double() + weight @ shift)
    return fold(nn.Sequential(*network.features, hidden, nn.ReLU(), last))


@torch.inference_mode()
def probabilities(network: Classifier, images: Tensor, batch: int = 64) -> Tensor:
    """Class probabilities of fingerprints (n, 3, 64, 64), shape (n, classes)."""
    network.eval()
    return torch.cat([network(part.float()).softmax(1) for part in images.split(batch)])
