"""The network family: convolution, batch norm, dropout, ReLU, 2x2 max pooling, a last convolution with one kernel a class, GAP.

SISC (interpretable sequencing cells) and CLEAR-DR's sequencer are both written down as an `Architecture`. The thesis shows
their layer sizes only in pictures that are not available; the sizes here are our choice and configuration.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn


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

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> Architecture:
        cells = tuple(tuple(Conv(**conv) for conv in cell) for cell in value["cells"])
        return Architecture(value["in_channels"], value["classes"], cells)


def sisc(width: int = 16, dropout: float = 0.1) -> Architecture:
    """SISC: four interpretable sequencing cells of three convolutions; the last two convolutions are 1x1.

    The very last one is the class layer (one kernel a class, no batch norm, no ReLU), added by `Sequencer`.
    """
    cells = []
    for index in range(4):
        channels = width * 2**index
        kernels = (3, 3, 3) if index < 3 else (3, 1)
        cells.append(
            tuple(Conv(channels, kernel, dropout=dropout if k == 1 else 0.0) for k, kernel in enumerate(kernels))
        )
    return Architecture(1, 2, tuple(cells))


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
    """

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
        last = nn.Conv2d(channels, architecture.classes, 1)
        self.layers = nn.Sequential(*layers, last)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        last.weight.data.mul_(0.1)

    def raw(self, x: Tensor) -> Tensor:
        """z_L, shape (B, N, h, w)."""
        return self.layers(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (B, N)."""
        return self.raw(x).mean((2, 3))
