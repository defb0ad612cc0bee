"""A trained network of the family as a list of the only four layers that matter to a response map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Convolution:
    """Cross-correlation with zero padding; batch norm is already folded in."""

    weight: Tensor
    """Shape (out, in / groups, k, k)."""
    bias: Tensor
    stride: int = 1
    padding: int = 0
    groups: int = 1
    """Of channels that do not meet; as many as channels for a depthwise convolution."""


class Residual(nn.Module):
    """x + body(x)."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


@dataclass(frozen=True)
class Rectifier:
    """ReLU."""


@dataclass(frozen=True)
class Pool:
    """2x2 max pooling with stride 2; an odd last row or column is dropped."""


@dataclass(frozen=True)
class Sum:
    """x + layers(x): a folded `Residual`."""

    layers: tuple[Layer, ...]


Layer = Convolution | Rectifier | Pool | Sum


class UnsupportedLayer(TypeError):
    """The network has a layer for which response maps are not defined here."""


def every_convolution(layers: Sequence[Layer]) -> Iterator[Convolution]:
    """Every convolution in the order of the forward pass, those inside of sums too."""
    for layer in layers:
        if isinstance(layer, Convolution):
            yield layer
        elif isinstance(layer, Sum):
            yield from every_convolution(layer.layers)


def _plain(layer: nn.Conv2d) -> bool:
    k, s, p = layer.kernel_size, layer.stride, layer.padding
    square = k[0] == k[1] and s[0] == s[1] and not isinstance(p, str) and p[0] == p[1]
    return square and layer.dilation == (1, 1) and layer.padding_mode == "zeros"


def _pool(layer: nn.MaxPool2d) -> bool:
    return (
        layer.kernel_size == 2
        and layer.stride == 2
        and layer.padding == 0
        and layer.dilation == 1
        and not layer.ceil_mode
    )


def _convolution(layer: nn.Conv2d) -> Convolution:
    weight = layer.weight.detach().double()
    bias = torch.zeros(len(weight), dtype=torch.float64) if layer.bias is None else layer.bias.detach().double()
    return Convolution(weight, bias, layer.stride[0], int(layer.padding[0]), layer.groups)


def _normalised(before: Convolution, layer: nn.BatchNorm2d) -> Convolution:
    """The convolution with the batch norm behind it (inference mode) folded in."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    scale = (layer.running_var.double() + layer.eps) ** -0.5
    shift = torch.zeros_like(scale)
    if layer.affine:
        scale, shift = scale * layer.weight.detach().double(), layer.bias.detach().double()
    bias = (before.bias - layer.running_mean.double()) * scale + shift
    return replace(before, weight=before.weight * scale[:, None, None, None], bias=bias)


def _keeps_shape(body: Sequence[Layer]) -> bool:
    """Whether the layers return what they are given in number of channels and size."""
    inside = list(every_convolution(body))
    size = all(layer.stride == 1 and 2 * layer.padding + 1 == layer.weight.shape[2] for layer in inside)
    return size and Pool() not in body and len(inside[-1].weight) == inside[0].weight.shape[1] * inside[0].groups


def _fold(network: nn.Sequential, inside: str = "") -> tuple[Layer, ...]:
    """`fold` of a network, or of the body of the sum whose place is `inside`."""
    layers: list[Layer] = []
    for number, layer in enumerate(network):
        place = f"{inside}{number}"
        if isinstance(layer, nn.Conv2d) and _plain(layer):
            layers.append(_convolution(layer))
        elif (
            isinstance(layer, nn.BatchNorm2d)
            and layers
            and isinstance(layers[-1], Convolution)
            and layer.running_mean is not None
        ):
            layers[-1] = _normalised(layers[-1], layer)
        elif isinstance(layer, nn.ReLU):
            layers.append(Rectifier())
        elif isinstance(layer, nn.MaxPool2d) and _pool(layer):
            layers.append(Pool())
        elif isinstance(layer, Residual):
            body = _fold(layer.body, f"{place}.")
            if not body or not isinstance(body[-1], Convolution):
                raise UnsupportedLayer(f"layer {place}: the body of a residual sum must end with a convolution")
            if not _keeps_shape(body):
                raise UnsupportedLayer(f"layer {place}: the body of a residual sum must keep its input's shape")
            layers.append(Sum(body))
        elif not isinstance(layer, nn.Dropout | nn.Dropout2d | nn.Identity):
            raise UnsupportedLayer(
                f"layer {place}, {layer}, has no response map here: the family is convolution, batch norm, ReLU, 2x2 max pool, "
                "residual sum"
            )
    return tuple(layers)


def fold(network: nn.Sequential) -> tuple[Layer, ...]:
    """Fold batch norm (inference mode) into the convolutions before it and drop dropout.

    Parameters
    ----------
    network : nn.Sequential
        Convolutions, grouped or not, batch norms directly after them, dropout, ReLU, 2x2 max pools, and `Residual`s of the
        same whose body ends with a convolution and keeps its input's shape; the network ends with a convolution of one
        kernel a class.

    Returns
    -------
    tuple of Layer
        Float64, detached from the network.

    Raises
    ------
    UnsupportedLayer
        For any other layer; the message names it and its place (3.1: the second layer in the body of the fourth).
    """
    layers = _fold(network)
    if not layers or not isinstance(layers[-1], Convolution):
        raise UnsupportedLayer("the network must end with a convolution of one kernel a class")
    return layers
