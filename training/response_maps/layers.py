"""A trained network of the family as a flat list of the only three layers that matter to a response map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Convolution:
    """Cross-correlation with zero padding; batch norm is already folded in."""

    weight: Tensor
    """Shape (out, in, k, k)."""
    bias: Tensor
    stride: int = 1
    padding: int = 0


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


Layer = Convolution | Rectifier | Pool


class UnsupportedLayer(TypeError):
    """The network has a layer for which response maps are not defined here."""


def _plain(layer: nn.Conv2d) -> bool:
    k, s, p = layer.kernel_size, layer.stride, layer.padding
    square = k[0] == k[1] and s[0] == s[1] and not isinstance(p, str) and p[0] == p[1]
    return square and layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros"


def _pool(layer: nn.MaxPool2d) -> bool:
    return (
        layer.kernel_size == 2
        and layer.stride == 2
        and layer.padding == 0
        and layer.dilation == 1
        and not layer.ceil_mode
    )


def fold(network: nn.Sequential) -> tuple[Layer, ...]:
    """Fold batch norm (inference mode) into the convolutions before it and drop dropout.

    Parameters
    ----------
    network : nn.Sequential
        Convolutions, batch norms directly after them, dropout, ReLU, 2x2 max pools; it ends with a convolution of one
        kernel a class.

    Returns
    -------
    tuple of Layer
        Float64, detached from the network.

    Raises
    ------
    UnsupportedLayer
        For any other layer; the message names it and its place.
    """
    layers: list[Layer] = []
    for place, layer in enumerate(network):
        if isinstance(layer, nn.Conv2d) and _plain(layer):
            weight = layer.weight.detach().double()
            bias = torch.zeros(len(weight), dtype=torch.float64) if layer.bias is None else layer.bias.detach().double()
            layers.append(Convolution(weight, bias, layer.stride[0], int(layer.padding[0])))
        elif (
            isinstance(layer, nn.BatchNorm2d)
            and layers
            and isinstance(layers[-1], Convolution)
            and layer.running_mean is not None
        ):
            before = layers[-1]
            assert layer.running_var is not None
            scale = (layer.running_var.double() + layer.eps) ** -0.5
            shift = torch.zeros_like(scale)
            if layer.affine:
                scale, shift = scale * layer.weight.detach().double(), layer.bias.detach().double()
            bias = (before.bias - layer.running_mean.double()) * scale + shift
            layers[-1] = Convolution(before.weight * scale[:, None, None, None], bias, before.stride, before.padding)
        elif isinstance(layer, nn.ReLU):
            layers.append(Rectifier())
        elif isinstance(layer, nn.MaxPool2d) and _pool(layer):
            layers.append(Pool())
        elif not isinstance(layer, nn.Dropout | nn.Dropout2d | nn.Identity):
            raise UnsupportedLayer(
                f"layer {place}, {layer}, has no response map here: the family is convolution, batch norm, ReLU, 2x2 max pool"
            )
    if not layers or not isinstance(layers[-1], Convolution):
        raise UnsupportedLayer("the network must end with a convolution of one kernel a class")
    return tuple(layers)
