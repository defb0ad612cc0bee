"""The way back of a network as ONNX nodes: start signals at z_L, and every layer in reverse.

Five things make it cheap:

- transposed convolutions are written as plain convolutions with flipped, swapped kernels, which ONNX Runtime runs fastest;
- behind a strided convolution every second row and column of the way back sees other taps of the kernel. So the signal comes out
  in four phases, (even, odd) rows x (even, odd) columns, and stays so back through a ReLU and a 1x1 convolution that widened: a
  quarter of the work of a signal stuffed with zeros, and of its memory at a time;
- an inverted block goes back some of its hidden channels at a time: what is widest is never whole in memory;
- the map is the sum over the input's channels, so the first layer's kernel is summed before, not the maps after;
- only (image, class) pairs whose start signal is not zero are sent back: with the start ``contrast`` a class that wins nowhere
  has an exactly zero map, and most classes win nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto, helper

from training.response_maps.layers import Convolution, Layer, Pool, Rectifier, Sum
from training.response_maps.nodes import Graph
from training.response_maps.reference import Rule, Start

LAST = int(np.iinfo(np.int64).max)
"""Where a slice to the end ends."""
PORTION = 1 << 20
"""Numbers of one image that a block's hidden channels may have on the way back at a time; more are taken in portions."""
BLOCK = 5
"""Layers of an inverted block: convolution, ReLU, depthwise convolution, ReLU, 1x1 convolution."""
UP = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def _open(g: Graph, activation: str) -> str:
    """1 where a ReLU's output is positive, else 0; as a steep HardSigmoid, for ONNX Runtime's Sign keeps to one thread."""
    return g.add("HardSigmoid", activation, alpha=float(np.finfo(np.float32).max), beta=0.0)


def _double(g: Graph, x: str) -> str:
    """Every pixel twice in both directions."""
    return g.add("Resize", x, "", g.constant([1, 1, 2, 2]), **UP)


def _switches(g: Graph, x: str, pooled: str, size: tuple[int, int]) -> str:
    """Mask of each window's FIRST maximum in row-major order, float 0/1, shape of x.

    Windows whose maximum recurs are settled by rank: maxima carry 4, 3, 2, 1 by place, and the largest rank wins.
    """
    peak = g.add("Cast", g.add("Equal", x, _double(g, pooled)), to=TensorProto.FLOAT)
    ranks = np.tile(np.array([[4, 3], [2, 1]], np.float32), (size[0] // 2, size[1] // 2))
    ranked = g.add("Mul", peak, g.constant(ranks[None, None]))
    best = g.add("MaxPool", ranked, kernel_shape=[2, 2], strides=[2, 2])
    return g.add("Cast", g.add("Equal", ranked, _double(g, best)), to=TensorProto.FLOAT)


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


def _is_inverted(block: Sequence[Layer]) -> bool:
    """Whether layers are a convolution, a ReLU, a depthwise convolution, a ReLU and a 1x1 convolution."""
    if [type(layer) for layer in block] != [Convolution, Rectifier, Convolution, Rectifier, Convolution]:
        return False
    wide, _, apart, _, narrow = block
    assert isinstance(wide, Convolution)
    assert isinstance(apart, Convolution)
    return wide.groups == 1 and _is_pointwise(narrow) and apart.groups == len(apart.weight)


def _joined(g: Graph, phases: list[str]) -> str:
    if len(phases) == 1:
        return phases[0]
    return g.add("DepthToSpace", g.add("Concat", *phases, axis=1), blocksize=math.isqrt(len(phases)))


def _phase(g: Graph, x: str, number: int, count: int) -> str:
    """Phase `number` of `count` of x: every so many rows and columns."""
    if count == 1:
        return x
    stride = math.isqrt(count)
    steps = g.integers(stride, stride)
    return g.add("Slice", x, g.integers(*divmod(number, stride)), g.integers(LAST, LAST), g.integers(2, 3), steps)


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
    """Names of what the forward nodes made: every layer's input with its (height, width), the pools' outputs, z_L."""

    entries: list[str]
    sizes: list[tuple[int, int]]
    pooled: dict[int, str]
    bodies: dict[int, Trace]
    """Of the residual sums."""
    z: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Signals:
    """The signals on their way back: which (image, class) pairs they belong to, and how an image's mask meets them."""

    g: Graph
    classes: int
    image: str | None
    """Index of each signal's image, where only some pairs are sent back; None: all pairs, image by image."""

    def masked(self, r: str, mask: str) -> str:
        """Multiply signals (M, C, H, W) with the masks of their images (B, C, H, W)."""
        g = self.g
        if self.image is not None:
            return g.add("Mul", r, g.add("Gather", mask, self.image, axis=0))
        apart = g.add("Reshape", mask, g.integers(0, 1, -1))
        shape = g.add("Shape", r)
        product = g.add(
            "Mul",
            g.add("Reshape", r, g.add("Concat", g.integers(-1, self.classes), g.add("Shape", apart, start=2), axis=0)),
            apart,
        )
        return g.add("Reshape", product, shape)


def _start(g: Graph, z: str, size: tuple[int, int], classes: int, start: Start) -> tuple[str, str | None, str]:
    """Start signals at z_L: (M, N, h, w), the image of each (None: all pairs), and their places among the B * N maps."""
    identity = np.eye(classes, dtype=np.float32)
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
    if classes == 2 or start == "class":  # hardly a map is zero: sorting out costs more than it saves
        signal = g.add("Reshape", own, g.integers(-1, classes, 1, *size))
        direction = g.constant(identity[None, :, :, None, None])
        if against is not None:
            direction = g.add("Sub", direction, g.add("Unsqueeze", against, g.integers(1)))
        return g.add("Reshape", g.add("Mul", signal, direction), g.integers(-1, classes, *size)), None, ""
    largest = g.add("ReduceMax", g.add("Abs", own), axes=[2, 3], keepdims=0)
    pairs = g.add("NonZero", g.add("Greater", largest, g.constant(0)))
    image, klass = (g.add("Gather", pairs, g.constant(k, np.int64), axis=0) for k in (0, 1))
    flat = g.add("Add", g.add("Mul", image, g.constant(classes, np.int64)), klass)
    signal = g.add("Gather", g.add("Reshape", own, g.integers(-1, 1, *size)), flat, axis=0)
    direction = g.add("Reshape", g.add("Gather", g.constant(identity), klass, axis=0), g.integers(-1, classes, 1, 1))
    assert against is not None
    direction = g.add("Sub", direction, g.add("Gather", against, image, axis=0))
    return g.add("Mul", signal, direction), image, flat


@dataclass(frozen=True)
class Route:
    """How signals go back through layers: between the start signals and the first layer of a network."""

    g: Graph
    signals: Signals
    rule: Rule

    def through(self, layers: Sequence[Layer], trace: Trace, r: str) -> list[str]:
        """Signal at the output of `layers` back to their input, in phases."""
        g, phases, number = self.g, [r], len(layers)
        while number:
            block = layers[max(0, number - BLOCK) : number]
            if _is_inverted(block):
                number -= BLOCK
                phases = self._in_portions(block, trace, number, _joined(g, phases))
                continue
            number -= 1
            layer = layers[number]
            if isinstance(layer, Rectifier):
                if number + 1 == len(layers) or not isinstance(layers[number + 1], Pool):
                    # Asking the ReLU's output, not its input, lets ONNX Runtime keep convolution and ReLU in one.
                    phases = self._gated(phases, trace.entries[number + 1])
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
                r = _joined(g, self._gated(phases, trace.pooled[number]) if closed else phases)
                switches = _switches(g, trace.entries[number], trace.pooled[number], trace.sizes[number])
                phases = [self.signals.masked(_double(g, r), switches)]
        return phases

    def _in_portions(self, block: Sequence[Layer], trace: Trace, number: int, r: str) -> list[str]:
        """An inverted block, whose first layer is layer `number`: back through some of its hidden channels at a time.

        Between its dense convolutions no channel meets another, so what the portions bring back adds up to the block's.
        """
        wide, _, apart, _, narrow = block
        assert isinstance(wide, Convolution)
        assert isinstance(apart, Convolution)
        assert isinstance(narrow, Convolution)
        g, (height, width), channels = self.g, trace.sizes[number + 2], len(wide.weight)
        count = min(channels, max(1, round(channels * height * width / PORTION)))
        portions = []
        for some in np.array_split(np.arange(channels), count):
            part = slice(int(some[0]), int(some[-1]) + 1)
            first, second = (self._channels(trace.entries[number + k], part, count) for k in (2, 4))
            phases = self._gated(_back(g, r, replace(narrow, weight=narrow.weight[:, part])), second)
            phases = _back(g, phases[0], replace(apart, weight=apart.weight[part], groups=len(some)))
            phases, layer = self._gated(phases, first), replace(wide, weight=wide.weight[part])
            if _is_pointwise(wide):
                portions.append([_back(g, phase, layer)[0] for phase in phases])
            else:
                portions.append(self._dense(phases, layer))
        return [phase[0] if count == 1 else g.add("Sum", *phase) for phase in zip(*portions, strict=True)]

    def _dense(self, phases: list[str], layer: Convolution) -> list[str]:
        """Where a single channel is left, phases would be too thin for ONNX Runtime's fast layout."""
        return _back(self.g, _joined(self.g, phases), layer, phased=layer.weight.shape[1] > 1)

    def _channels(self, x: str, part: slice, portions: int) -> str:
        g = self.g
        return x if portions == 1 else g.add("Slice", x, g.integers(part.start), g.integers(part.stop), g.integers(1))

    def _gated(self, phases: list[str], output: str) -> list[str]:
        """The rule at a ReLU with this output."""
        found = []
        for number, phase in enumerate(phases):
            r = self.g.add("Relu", phase) if self.rule in ("deconvnet", "guided") else phase
            if self.rule in ("gradient", "guided"):
                r = self.signals.masked(r, _open(self.g, _phase(self.g, output, number, len(phases))))
            found.append(r)
        return found


def way_back(
    g: Graph, layers: Sequence[Layer], trace: Trace, shape: tuple[int, int, int], rule: Rule, start: Start, parts: int
) -> str:
    """Add one network's response maps: start signals, the pairs that are not zero, and the layers in reverse.

    Returns
    -------
    str
        R(x|c) / `parts`, shape (B, N, H, W): the sum over `parts` such outputs is their mean.
    """
    classes = int(layers[-1].weight.shape[0])  # type: ignore[union-attr]
    r, image, flat = _start(g, trace.z, trace.size, classes, start)
    first = layers[0]
    assert isinstance(first, Convolution)
    summed = replace(first, weight=first.weight.sum(1, keepdim=True) / parts)
    r = _joined(g, Route(g, Signals(g, classes, image), rule).through((summed, *layers[1:]), trace, r))
    _, height, width = shape
    if image is None:
        return g.add("Reshape", r, g.integers(-1, classes, height, width))
    count = g.add("Mul", g.add("Shape", trace.entries[0], start=0, end=1), g.integers(classes))
    empty = g.add("Concat", count, g.integers(height * width), axis=0)
    blank = g.add("ConstantOfShape", empty, value=helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]))
    index = g.add("Unsqueeze", flat, g.integers(1))
    filled = g.add("ScatterND", blank, index, g.add("Reshape", r, g.integers(-1, height * width)))
    return g.add("Reshape", filled, g.integers(-1, classes, height, width))
