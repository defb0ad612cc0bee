"""The network family: convolution, batch norm, dropout, ReLU, 2x2 max pooling, a last convolution with one kernel a class, GAP.

SISC (interpretable sequencing cells) and CLEAR-DR's sequencer are both written down as an `Architecture`. The thesis shows
their layer sizes only in pictures that are not available; the sizes here are our choice and configuration.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from training.response_maps.layers import Convolution, Layer, fold


@dataclass(frozen=True)
class Conv:
    """One convolution with its batch norm, dropout and ReLU."""

    channels: int
    kernel: int = 3
    stride: int = 1
    dropout: float = 0.0


@dataclass(frozen=True)
class Architecture:
    """A network of the family: cells of convolutions, a 2x2/2 max pool after every cell but the last."""

    in_channels: int
    classes: int
    cells: tuple[tuple[Conv, ...], ...]
    evidence: float = 0.0
    """Greater than 0: the class layer has no bias but this constant factor, and a prior is added after GAP; see `Sequencer`."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> Architecture:
        cells = tuple(tuple(Conv(**conv) for conv in cell) for cell in value["cells"])
        return Architecture(value["in_channels"], value["classes"], cells, value.get("evidence", 0.0))


def sisc(width: int = 16, dropout: float = 0.1) -> Architecture:
    """SISC: three interpretable sequencing cells of 3, 3 and 5 convolutions; the last hidden convolution is 1x1.

    The class layer (one kernel a class, no batch norm, no ReLU, no bias) is added by `Sequencer`. Its maps z_L have one value a
    4 x 4 px of the input. The factor makes the sum of z_L over an input of 72 px, divided by 8, the log-odds.
    """
    kernels = ((3, 3, 3), (3, 3, 3), (3, 3, 3, 3, 1))
    cells = []
    for index, cell in enumerate(kernels):
        channels = width * 2**index
        cells.append(
            tuple(
                Conv(channels * (2 if kernel == 1 else 1), kernel, dropout=dropout if k == 1 else 0.0)
                for k, kernel in enumerate(cell)
            )
        )
    return Architecture(1, 2, tuple(cells), evidence=40.5)


def clear_dr(widths: tuple[int, ...] = (32, 48, 96, 160, 256), dropout: float = 0.1) -> Architecture:
    """CLEAR-DR's sequencer: all-convolutional, 512 px colour in, five grades out.

    A strided 5x5 stem, then cells of two convolutions; microaneurysms (about 2 px at 512 px) survive the stem and its max
    pool. The last cell ends in a 1x1 convolution.
    """
    stem, *rest = widths
    cells: list[tuple[Conv, ...]] = [(Conv(stem, 5, stride=2),)]
    cells += [(Conv(channels), Conv(channels, dropout=dropout / 2)) for channels in rest[:-1]]
    cells.append((Conv(rest[-1]), Conv(rest[-1], 1, dropout=dropout)))
    return Architecture(3, 5, tuple(cells))


class Sequencer(nn.Module):
    """A network of the family.

    `layers` is one flat sequence, so that the response maps can be followed layer by layer; `forward` returns the logits,
    `raw` the N maps of the last convolution before GAP.

    With `Architecture.evidence`, logits = GAP(z_L) + prior: log-odds are the log prior odds plus the sum of local evidence
    (Good 1950, *Probability and the Weighing of Evidence*), so z_L can be zero where an image says nothing.
    """

    prior: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        layers: list[nn.Module] = []
        channels = architecture.in_channels
        for number, cell in enumerate(architecture.cells):
            if number:
                layers.append(nn.MaxPool2d(2))
            for conv in cell:
                layers += [
                    nn.Conv2d(channels, conv.channels, conv.kernel, conv.stride, conv.kernel // 2, bias=False),
                    nn.BatchNorm2d(conv.channels),
                ]
                if conv.dropout:
                    layers.append(nn.Dropout2d(conv.dropout))
                layers.append(nn.ReLU())
                channels = conv.channels
        last = nn.Conv2d(channels, architecture.classes, 1, bias=not architecture.evidence)
        self.layers = nn.Sequential(*layers, last)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        last.weight.data.mul_(0.1)
        self.register_buffer("prior", torch.zeros(architecture.classes))

    def hidden(self, x: Tensor) -> Tensor:
        """The last hidden layer's output, shape (B, K, h, w)."""
        return self.layers[:-1](x)

    def classify(self, hidden: Tensor) -> Tensor:
        """z_L, shape (B, N, h, w), of the last hidden layer's output; never in half precision."""
        z = self.layers[-1](hidden)
        return (z.float() if z.dtype == torch.bfloat16 else z) * (self.architecture.evidence or 1.0)

    def raw(self, x: Tensor) -> Tensor:
        """z_L, shape (B, N, h, w)."""
        return self.classify(self.hidden(x))

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (B, N)."""
        return self.raw(x).mean((2, 3)) + self.prior

    def folded(self) -> tuple[Layer, ...]:
        """The network as the layers that response maps are defined on: batch norm and the factor of the class layer folded in."""
        *hidden, last = fold(self.layers)
        assert isinstance(last, Convolution)
        factor = self.architecture.evidence or 1.0
        return (*hidden, replace(last, weight=last.weight * factor, bias=last.bias * factor))
