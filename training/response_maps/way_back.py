"""The way back of a network as ONNX nodes: start signals at z_L, and every layer in reverse.

Six things make it cheap:

- transposed convolutions are written as plain convolutions with flipped, swapped kernels, which ONNX Runtime runs fastest;
- behind a strided convolution every second row and column of the way back sees other taps of the kernel. So the signal comes out
  in four phases, (even, odd) rows x (even, odd) columns, and stays so back through a ReLU and a 1x1 convolution that widened: a
  quarter of the work of a signal stuffed with zeros, and of its memory at a time;
- the classes go back one after the other, so a signal has the shape of the activations that it meets: ONNX Runtime stays in its
  fast layout, and only one class's signals are in memory;
- what a ReLU lets through is asked by a depthwise convolution, which stays in that layout too, once for all classes;
- under the rule ``guided`` a closed ReLU is a large negative number added to the signal before its own ReLU. ONNX Runtime makes
  one convolution of all three;
- the map is the sum over the input's channels, so the first layer's kernel is summed before, not the maps after.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto

from training.response_maps.layers import Convolution, Layer, Pool, Rectifier, Sum
from training.response_maps.nodes import Graph
from training.response_maps.reference import Rule, Start

SHUT = 2.0**60
"""Larger than any signal on its way back."""
STEEP = 2.0**120
"""Times the smallest activation that counts as positive (2**-60): SHUT."""
UP = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def _double(g: Graph, x: str) -> str:
    """Every pixel twice in both directions."""
    return g.add("Resize", x, "", g.constant([1, 1, 2, 2]), **UP)


def _taps(layer: Convolution, phase: int) -> tuple[range, tuple[int, int]]:
    """What of a kernel meets the input's places `phase`, `phase` + stride, ... on the way back, along one axis.

    The forward pass gives place s j + f to output j - d through tap s d + f + p (s stride, p padding, f phase).

    Returns
    -------
    taps : range
        Backwards.
    pads : (before, after)
        Zeros that the signal needs there.
    """
    stride, kernel = layer.stride, layer.weight.shape[2]
    first = (phase + layer.padding) % stride
    taps = range(first, kernel, stride)[::-1]
    after = (phase + layer.padding - first) // stride
    return taps, (len(taps) - 1 - after, after)


def _back(g: Graph, r: str, layer: Convolution, *, phased: bool = True) -> list[str]:
    """Transposed convolution with a forward layer's kernel: its phases in row-major order, or all in one.

    It is one where the stride is 1, where some phase would meet no tap, and unless `phased`.
    """
    weight = layer.weight.numpy()
    if not phased or weight.shape[2] - layer.padding < layer.stride:
        return [_transposed(g, r, g.kernel(weight), layer)]
    phases = []
    for i, j in np.ndindex(layer.stride, layer.stride):
        (rows, (top, bottom)), (columns, (left, right)) = _taps(layer, i), _taps(layer, j)
        kernel = g.kernel_back(weight, layer.groups, rows, columns)
        size, pads = (len(rows), len(columns)), (top, left, bottom, right)
        phases.append(g.convolve(r, kernel, kernel=size, pads=pads, groups=layer.groups))
    return phases


def _is_pointwise(layer: Layer) -> bool:
    """Whether a convolution meets no neighbour and all channels."""
    return (
        isinstance(layer, Convolution)
        and layer.weight.shape[2] == layer.stride == layer.groups == 1
        and not layer.padding
    )


def _narrows(layer: Convolution) -> bool:
    """Whether a signal is better joined behind the way back than before: nothing meets a neighbour, and channels get fewer."""
    out, inputs, *_ = layer.weight.shape
    return _is_pointwise(layer) and inputs <= out


def _joined(g: Graph, phases: list[str]) -> str:
    if len(phases) == 1:
        return phases[0]
    return g.add("DepthToSpace", g.add("Concat", *phases, axis=1), blocksize=math.isqrt(len(phases)))


def _transposed(g: Graph, r: str, weight: str, layer: Convolution) -> str:
    stride, padding, kernel = layer.stride, layer.padding, layer.weight.shape[2]
    return g.add(
        "ConvTranspose",
        r,
        weight,
        kernel_shape=[kernel] * 2,
        strides=[stride] * 2,
        pads=[padding] * 4,
        output_padding=[(2 * padding - kernel) % stride] * 2,
        group=layer.groups,
    )


@dataclass(frozen=True)
class Trace:
    """Names of what the forward nodes made: every layer's input with its (C, H, W), the pools' outputs, z_L."""

    entries: list[str]
    shapes: list[tuple[int, int, int]]
    pooled: dict[int, str]
    bodies: dict[int, Trace]
    """Of the residual sums."""
    z: str


def _starts(g: Graph, z: str, classes: int, start: Start) -> list[str]:
    """Start signals at z_L, shape (B, N, h, w) each, class by class."""
    if start == "class":
        own, against = z, None
    else:
        values, places = g.many("TopK", z, g.integers(2), outputs=2, axis=1)
        first, second = g.many("Split", values, outputs=2, axis=1)
        winner, rival = g.many("Split", places, outputs=2, axis=1)
        rows = g.constant(np.arange(classes).reshape(1, -1, 1, 1), np.int64)
        wins = g.add("Cast", g.add("Equal", winner, rows), to=TensorProto.FLOAT)
        against = g.add("Cast", g.add("Equal", rival, rows), to=TensorProto.FLOAT)
        own = g.add("Mul", g.add("Sub", first, second), wins)
    found = []
    for row, signal in zip(np.eye(classes), g.many("Split", own, outputs=classes, axis=1), strict=True):
        direction = g.constant(row.reshape(1, -1, 1, 1))
        if against is not None:
            direction = g.add("Sub", direction, against)
        found.append(g.add("Mul", signal, direction))
    return found


class Route:
    """How signals go back through layers: between the start signals and the first layer of a network."""

    def __init__(self, g: Graph, rule: Rule) -> None:
        self.g, self.rule = g, rule
        self._masks: dict[tuple[str, ...], str] = {}
        """What all classes meet."""

    def through(self, layers: Sequence[Layer], trace: Trace, r: str) -> list[str]:
        """Signal at the output of `layers` back to their input, in phases."""
        g, phases = self.g, [r]
        for number in reversed(range(len(layers))):
            layer, channels = layers[number], trace.shapes[number][0]
            if isinstance(layer, Rectifier):
                if number + 1 == len(layers) or not isinstance(layers[number + 1], Pool):
                    # Asking the ReLU's output, not its input, lets ONNX Runtime keep convolution and ReLU in one.
                    phases = self._gated(phases, trace.entries[number + 1], channels)
            elif isinstance(layer, Convolution) and _narrows(layer):
                phases = [part for phase in phases for part in _back(g, phase, layer)]
            elif isinstance(layer, Convolution):
                phases = self._dense(phases, layer)
            elif isinstance(layer, Sum):
                r = _joined(g, phases)
                body = self.through(layer.layers, trace.bodies[number], r)
                phases = [g.add("Add", r, _joined(g, body))]
            else:
                # A ReLU before the pool closes at the pooled size, a quarter of the work: it commutes with unpooling.
                closed = isinstance(layers[number - 1], Rectifier)
                r = _joined(g, self._gated(phases, trace.pooled[number], channels) if closed else phases)
                phases = [g.add("Mul", _double(g, r), self._switches(trace, number))]
        return phases

    def _dense(self, phases: list[str], layer: Convolution) -> list[str]:
        """Where a single channel is left, phases would be too thin for ONNX Runtime's fast layout."""
        return _back(self.g, _joined(self.g, phases), layer, phased=layer.weight.shape[1] * layer.groups > 1)

    def _gated(self, phases: list[str], output: str, channels: int) -> list[str]:
        """The rule at a ReLU with this output, of so many channels."""
        g, found = self.g, []
        for number, signal in enumerate(phases):
            r = signal
            if self.rule in ("gradient", "guided"):
                mask = self._mask(output, channels, number, len(phases))
                r = g.add("Mul" if self.rule == "gradient" else "Add", r, mask)
            found.append(g.add("Relu", r) if self.rule in ("deconvnet", "guided") else r)
        return found

    def _mask(self, output: str, channels: int, number: int, count: int) -> str:
        """Phase `number` of `count` of what to multiply with (``gradient``) or to add (``guided``) at a ReLU with this output."""
        key = (output, str(number), str(count))
        if key not in self._masks:
            g, stride = self.g, math.isqrt(count)
            shut, opened = (0.0, 1.0) if self.rule == "gradient" else (-SHUT, 0.0)
            weight = np.zeros((channels, 1, stride, stride))
            weight[:, 0, number // stride, number % stride] = STEEP
            inputs = [output, g.constant(weight), g.constant(np.full(channels, shut))]
            steep = g.convolve(*inputs, kernel=[stride] * 2, pads=[0] * 4, stride=stride, groups=channels)
            self._masks[key] = g.add("Clip", steep, g.constant(shut), g.constant(opened))
        return self._masks[key]

    def _switches(self, trace: Trace, number: int) -> str:
        """Mask of the FIRST maximum, in row-major order, of each window of pool `number`: 0/1, shape (B, C, H, W).

        Windows whose maximum recurs are settled by rank: maxima carry 4, 3, 2, 1 by place, and the largest rank wins.
        """
        pooled = trace.pooled[number]
        if (pooled,) not in self._masks:
            g, (channels, height, width) = self.g, trace.shapes[number]
            peak = g.add("Cast", g.add("Equal", trace.entries[number], _double(g, pooled)), to=TensorProto.FLOAT)
            ranks = np.tile(np.array([[4, 3], [2, 1]]), (height // 2, width // 2))
            ranked = g.add("Mul", peak, g.constant(ranks[None, None]))
            best = g.add("MaxPool", ranked, kernel_shape=[2, 2], strides=[2, 2])
            switches = g.add("Cast", g.add("Equal", ranked, _double(g, best)), to=TensorProto.FLOAT)
            same = g.constant(np.ones((channels, 1, 1, 1)))  # so that ONNX Runtime takes them to its fast layout once
            self._masks[pooled,] = g.convolve(switches, same, kernel=[1, 1], pads=[0] * 4, groups=channels)
        return self._masks[pooled,]


def way_back(g: Graph, layers: Sequence[Layer], trace: Trace, rule: Rule, start: Start, parts: int) -> str:
    """Add one network's response maps: start signals, and the layers in reverse, for each class.

    Returns
    -------
    str
        R(x|c) / `parts`, shape (B, N, H, W): the sum over `parts` such outputs is their mean.
    """
    classes = int(layers[-1].weight.shape[0])  # type: ignore[union-attr]
    first = layers[0]
    assert isinstance(first, Convolution)
    summed = replace(first, weight=first.weight.sum(1, keepdim=True) / parts)
    route = Route(g, rule)
    starts = _starts(g, trace.z, classes, start)
    return g.add("Concat", *(_joined(g, route.through((summed, *layers[1:]), trace, r)) for r in starts), axis=1)
