"""One ONNX graph that gives predictions and response maps.

The graph is written node by node (no exporter), so every operator in it is chosen: no MaxUnpool, no operator whose tie rule
matters, nothing newer than opset 17. Three things make the way back cheap:

- transposed convolutions are written as plain convolutions with flipped, swapped kernels, which ONNX Runtime runs fastest;
- the map is the sum over the input's channels, so the first layer's kernel is summed before, not the maps after;
- only (image, class) pairs whose start signal is not zero are sent back: with the start ``contrast`` a class that wins nowhere
  has an exactly zero map, and most classes win nowhere.

ONNX Runtime computes every output of a graph whatever is asked for. So both passes stand in the branches of one ``If``: feed
``with_maps`` = false and a prediction does not pay for the maps (``service`` does so when they are not asked for). Each
branch holds its own copy of the weights: ONNX Runtime does not choose its fast layout for weights from outside a branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from training.response_maps.layers import Convolution, Layer, Pool, Rectifier
from training.response_maps.reference import Rule, Start

OPSET = 17


class Graph:
    """Nodes and constants of a graph under construction; every call returns the name of what it made."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.made = 0

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        array = np.array(value, dtype=dtype, order="C")
        for name, known in self.constants.items():
            if known.dtype == array.dtype and known.shape == array.shape and np.array_equal(known, array):
                return name
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name

    def integers(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def _next(self) -> int:
        self.made += 1
        return self.made

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"{operator.lower()}_{self._next()}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def many(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        names = [f"{operator.lower()}_{self._next()}" for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def convolve(
        self, x: str, weight: np.ndarray, bias: np.ndarray | None = None, *, stride: int = 1, pads: Sequence[int]
    ) -> str:
        inputs = [x, self.constant(weight)] + ([] if bias is None else [self.constant(bias)])
        return self.add("Conv", *inputs, strides=[stride, stride], pads=list(pads), kernel_shape=list(weight.shape[2:]))


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


def _back(g: Graph, r: str, layer: Convolution, *, summed: bool) -> str:
    """Transposed convolution with a forward layer's kernel; `summed` adds up its input channels."""
    weight = layer.weight.numpy()
    stride, padding, kernel = layer.stride, layer.padding, weight.shape[2]
    if summed:
        weight = weight.sum(1, keepdims=True)
    if stride == 1 and not summed:
        return g.convolve(r, weight[:, :, ::-1, ::-1].swapaxes(0, 1), pads=[kernel - 1 - padding] * 4)
    return g.add(
        "ConvTranspose",
        r,
        g.constant(weight),
        kernel_shape=[kernel] * 2,
        strides=[stride] * 2,
        pads=[padding] * 4,
        output_padding=[(2 * padding - kernel) % stride] * 2,
    )


def build(
    layers: Sequence[Layer], shape: tuple[int, int, int], rule: Rule = "guided", start: Start = "contrast"
) -> onnx.ModelProto:
    """Write the graph.

    Parameters
    ----------
    layers : sequence of Layer
        A folded network; the last layer is the class convolution, the one before it a ReLU.
    shape : (C, H, W)
        Of one input; the batch axis is dynamic.
    rule, start
        See `training.response_maps.reference`.

    Returns
    -------
    onnx.ModelProto
        Inputs ``image`` (batch, C, H, W) and, optional, ``with_maps`` (bool, default true): false makes it the plain forward
        pass and ``response_maps`` empty. Outputs ``logits`` (batch, N), ``probabilities`` (batch, N), ``response_maps``
        (batch, N, H, W), ``features`` (batch, K): the GAP of the last hidden layer.

    Raises
    ------
    ValueError
        When a pooling or strided layer would meet an odd size: choose H and W divisible by the network's total stride.
    """
    channels, height, width = shape
    g = Graph()
    classes, hidden = (int(v) for v in layers[-1].weight.shape[:2])  # type: ignore[union-attr]
    outputs = {
        "logits": [classes],
        "probabilities": [classes],
        "response_maps": [classes, height, width],
        "features": [hidden],
    }
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", channels, height, width])
    switch = helper.make_tensor_value_info("with_maps", TensorProto.BOOL, [])
    branches = {
        "then_branch": _branch(g, "prediction_and_maps", layers, shape, outputs, rule, start),
        "else_branch": _branch(g, "prediction", layers, shape, outputs, rule, None),
    }
    node = helper.make_node("If", ["with_maps"], list(outputs), **branches)
    graph = helper.make_graph(
        [node],
        "pellucid",
        [image, switch],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *rest]) for name, rest in outputs.items()],
        [numpy_helper.from_array(np.array(True), "with_maps")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="pellucid")
    model.ir_version = 9
    onnx.checker.check_model(model, full_check=True)
    return model


def _branch(
    g: Graph,
    name: str,
    layers: Sequence[Layer],
    shape: tuple[int, int, int],
    outputs: dict[str, list[int]],
    rule: Rule,
    start: Start | None,
) -> onnx.GraphProto:
    """One branch of the graph: the forward pass, and with a `start` the way back."""
    _, height, width = shape
    g.nodes = []
    entries: list[str] = []
    sizes: list[tuple[int, int]] = []
    pooled: dict[int, str] = {}
    x, size = "image", (height, width)
    for number, layer in enumerate(layers):
        entries.append(x)
        sizes.append(size)
        step = 2 if isinstance(layer, Pool) else layer.stride if isinstance(layer, Convolution) else 1
        if size[0] % step or size[1] % step:
            raise ValueError(
                f"layer {number} would meet {size[1]} x {size[0]} px, not divisible by {step}: choose another input size"
            )
        size = (size[0] // step, size[1] // step)
        if isinstance(layer, Convolution):
            x = g.convolve(x, layer.weight.numpy(), layer.bias.numpy(), stride=layer.stride, pads=[layer.padding] * 4)
        elif isinstance(layer, Rectifier):
            x = g.add("Relu", x)
        else:
            x = pooled[number] = g.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    logits = g.add("Flatten", g.add("GlobalAveragePool", x))
    made = {"logits": logits, "probabilities": g.add("Softmax", logits, axis=-1)}
    if start is None:
        none = g.integers(0, *outputs["response_maps"])
        made["response_maps"] = g.add(
            "ConstantOfShape", none, value=helper.make_tensor("none", TensorProto.FLOAT, [1], [0.0])
        )
    else:
        made["response_maps"] = _way_back(g, layers, Trace(entries, sizes, pooled, x, size), shape, rule, start)
    made["features"] = g.add("Flatten", g.add("GlobalAveragePool", entries[-1]))
    values = [
        helper.make_tensor_value_info(made[key], TensorProto.FLOAT, [None, *rest]) for key, rest in outputs.items()
    ]
    used = {name for node in g.nodes for name in node.input}
    constants = [numpy_helper.from_array(value, key) for key, value in g.constants.items() if key in used]
    return helper.make_graph(g.nodes, name, [], values, constants)


@dataclass(frozen=True)
class Trace:
    """Names of what the forward nodes made: every layer's input with its (height, width), the pools' outputs, z_L."""

    entries: list[str]
    sizes: list[tuple[int, int]]
    pooled: dict[int, str]
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


def _way_back(
    g: Graph, layers: Sequence[Layer], trace: Trace, shape: tuple[int, int, int], rule: Rule, start: Start
) -> str:
    """Add the response maps: start signals, the pairs that are not zero, and the layers in reverse."""
    classes = int(layers[-1].weight.shape[0])  # type: ignore[union-attr]
    r, image, flat = _start(g, trace.z, trace.size, classes, start)
    signals = Signals(g, classes, image)
    keeps_positive, keeps_open = rule in ("deconvnet", "guided"), rule in ("gradient", "guided")
    for number in reversed(range(len(layers))):
        layer = layers[number]
        if isinstance(layer, Convolution):
            r = _back(g, r, layer, summed=number == 0)
        elif isinstance(layer, Pool):
            # A ReLU before the pool closes at the pooled size, a quarter of the work: it commutes with unpooling.
            if isinstance(layers[number - 1], Rectifier):
                r = g.add("Relu", r) if keeps_positive else r
                r = signals.masked(r, _open(g, trace.pooled[number])) if keeps_open else r
            switches = _switches(g, trace.entries[number], trace.pooled[number], trace.sizes[number])
            r = signals.masked(_double(g, r), switches)
        elif not isinstance(layers[number + 1], Pool):
            r = g.add("Relu", r) if keeps_positive else r
            # Asking the ReLU's output, not its input, lets ONNX Runtime keep convolution and ReLU in one.
            r = signals.masked(r, _open(g, trace.entries[number + 1])) if keeps_open else r
    _, height, width = shape
    if image is None:
        return g.add("Reshape", r, g.integers(-1, classes, height, width))
    count = g.add("Mul", g.add("Shape", "image", start=0, end=1), g.integers(classes))
    empty = g.add("Concat", count, g.integers(height * width), axis=0)
    blank = g.add("ConstantOfShape", empty, value=helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]))
    index = g.add("Unsqueeze", flat, g.integers(1))
    filled = g.add("ScatterND", blank, index, g.add("Reshape", r, g.integers(-1, height * width)))
    return g.add("Reshape", filled, g.integers(-1, classes, height, width))


def read_layers(model: onnx.ModelProto) -> tuple[Layer, ...]:
    """The layers of a graph that `build` wrote: an exported bundle back in the form the reference works on.

    Weights are the exported float32 ones, as float64.
    """
    forward = next(a.g for a in model.graph.node[0].attribute if a.name == "else_branch")
    constants = {entry.name: torch.from_numpy(numpy_helper.to_array(entry).copy()) for entry in forward.initializer}
    layers: list[Layer] = []
    for node in forward.node:
        if node.op_type == "Conv":
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            weight, bias = (constants[name].double() for name in node.input[1:3])
            layers.append(Convolution(weight, bias, attributes["strides"][0], attributes["pads"][0]))
        elif node.op_type == "Relu":
            layers.append(Rectifier())
        elif node.op_type == "MaxPool":
            layers.append(Pool())
    return tuple(layers)
