"""One ONNX graph that gives predictions and response maps, of one network or of an ensemble.

The graph is written node by node (no exporter), so every operator in it is chosen: no MaxUnpool, no operator whose tie rule
matters, nothing newer than opset 17. `training.response_maps.way_back` says what makes the maps cheap.

ONNX Runtime computes every output of a graph whatever is asked for. So both passes stand in the branches of one ``If``: feed
``with_maps`` = false and a prediction does not pay for the maps (``service`` does so when they are not asked for).

The networks of an ensemble stand one after the other, each with its way back behind it. One chain of grouped convolutions is
a twentieth faster at batch 1 and a tenth slower at batch 5 (eight members of `sisc(16)`, 72 px, with maps), and falls further
behind on larger inputs, where it leaves the processor's cache.

ONNX Runtime chooses its fast layout only for weights that belong to the branch. One network has a copy of them in each
branch. An ensemble has one copy outside, which reaches a branch through nodes that ONNX Runtime computes when it opens the
graph: a third of the file, the same speed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from training.response_maps.layers import Convolution, Layer, Pool, Rectifier, Sum
from training.response_maps.nodes import Graph
from training.response_maps.reference import Rule, Start
from training.response_maps.way_back import Trace, way_back

OPSET = 17
LAYERS = ("Conv", "Relu", "MaxPool", "Add")
"""Operators that end a layer."""

Back = Callable[[Graph, Sequence[Layer], Trace], str]
"""Adds one network's response maps to a graph."""


def build(
    members: Sequence[Sequence[Layer]],
    shape: tuple[int, int, int],
    rule: Rule = "guided",
    start: Start = "contrast",
    *,
    prior: Tensor | None = None,
    mirrored: bool = False,
) -> onnx.ModelProto:
    """Write the graph.

    Parameters
    ----------
    members : sequence of sequences of Layer
        Folded networks of the same classes, one or more; the last layer of each is its class convolution, the one before it a
        ReLU.
    shape : (C, H, W)
        Of one input; the batch axis is dynamic.
    rule, start
        See `training.response_maps.reference`.
    prior : Tensor, shape (N,), optional
        Log prior odds: added to the logits, and to nothing that a map starts from.
    mirrored : bool
        Look at each image's left-right mirror image as well; every output is the mean over both looks.

    Returns
    -------
    onnx.ModelProto
        Inputs ``image`` (batch, C, H, W) and, optional, ``with_maps`` (bool, default true): false makes it the plain forward
        pass and ``response_maps`` empty. Outputs ``logits`` (batch, N): the mean over the members, plus the prior;
        ``probabilities`` (batch, N): their softmax; ``response_maps`` (batch, N, H, W): the mean over the members of each
        one's own; ``features`` (batch, K): the GAP of each member's last hidden layer, one after the other.

    Raises
    ------
    ValueError
        When a pooling or strided layer would meet an odd size: choose H and W divisible by the network's total stride. When a
        convolution would do more to the size than divide it by its stride.
    """
    channels, height, width = shape
    g = Graph(shared=len(members) > 1)
    heads = [layers[-1].weight.shape for layers in members]  # type: ignore[union-attr]
    outputs = {
        "logits": [heads[0][0]],
        "probabilities": [heads[0][0]],
        "response_maps": [heads[0][0], height, width],
        "features": [sum(head[1] for head in heads)],
    }
    looks = 2 if mirrored else 1
    back = partial(way_back, rule=rule, start=start, parts=len(members) * looks)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", channels, height, width])
    switch = helper.make_tensor_value_info("with_maps", TensorProto.BOOL, [])
    branches = {
        "then_branch": _branch(g, "prediction_and_maps", members, shape, outputs, prior, looks, back),
        "else_branch": _branch(
            g, "prediction", members, shape, outputs, prior, looks, partial(_no_maps, outputs["response_maps"])
        ),
    }
    node = helper.make_node("If", ["with_maps"], list(outputs), **branches)
    graph = helper.make_graph(
        [node],
        "pellucid",
        [image, switch],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *rest]) for name, rest in outputs.items()],
        [
            numpy_helper.from_array(np.array(True), "with_maps"),
            *(numpy_helper.from_array(value, key) for key, value in g.kernels.items()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="pellucid")
    model.ir_version = 9
    onnx.checker.check_model(model, full_check=True)
    return model


def _branch(
    g: Graph,
    name: str,
    members: Sequence[Sequence[Layer]],
    shape: tuple[int, int, int],
    outputs: dict[str, list[int]],
    prior: Tensor | None,
    looks: int,
    back: Back,
) -> onnx.GraphProto:
    """One branch of the graph: the forward pass, and the maps that `back` adds."""
    g.branch()
    x = "image" if looks == 1 else g.add("Concat", "image", g.flipped("image", 3), axis=0)
    logits: list[str] = []
    maps: list[str] = []
    features: list[str] = []
    made = {}
    for layers in members:
        trace = _forward(g, layers, x, shape)
        logits.append(_gap(g, trace.z))
        if len(logits) == len(members):  # all are known, and the last way back is still to come
            made["logits"] = _over_looks(g, _sum(g, logits), looks, len(members) * looks)
            if prior is not None:
                made["logits"] = g.add("Add", made["logits"], g.constant(prior.reshape(1, -1).numpy()))
            made["probabilities"] = g.add("Softmax", made["logits"], axis=-1)
        maps.append(back(g, layers, trace))
        features.append(_gap(g, trace.entries[-1]))
    # The maps' last node must be the last of all: ONNX Runtime orders the nodes from there backwards, and so runs each member's
    # way back right after its forward pass. All forward passes first take a sixth longer and more memory.
    together = features[0] if len(features) == 1 else g.add("Concat", *features, axis=1)
    made["features"] = _over_looks(g, together, looks, looks)
    made["response_maps"] = _over_looks(g, _sum(g, maps), looks, images=True)
    values = [
        helper.make_tensor_value_info(made[key], TensorProto.FLOAT, [None, *rest]) for key, rest in outputs.items()
    ]
    used = {name for node in g.nodes for name in node.input}
    constants = [numpy_helper.from_array(value, key) for key, value in g.constants.items() if key in used]
    return helper.make_graph(g.nodes, name, [], values, constants)


def _no_maps(shape: list[int], g: Graph, layers: Sequence[Layer], trace: Trace) -> str:
    """Stand-in for `way_back` in the branch without maps: shape (0, N, H, W)."""
    none = helper.make_tensor("none", TensorProto.FLOAT, [1], [0.0])
    return g.add("ConstantOfShape", g.integers(0, *shape), value=none)


def _gap(g: Graph, x: str) -> str:
    return g.add("Flatten", g.add("GlobalAveragePool", x))


def _sum(g: Graph, names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else g.add("Sum", *names)


def _over_looks(g: Graph, x: str, looks: int, divisor: int = 1, *, images: bool = False) -> str:
    """Sum over the looks, which share the batch axis, divided by `divisor`; `images` are mirrored back before."""
    if looks == 2:
        plain, mirror = g.many("Split", x, outputs=2, axis=0)
        x = g.add("Add", plain, g.flipped(mirror, 3) if images else mirror)
    return x if divisor == 1 else g.add("Mul", x, g.constant(1 / divisor))


def _forward(g: Graph, layers: Sequence[Layer], x: str, shape: tuple[int, int, int]) -> Trace:
    """Add one network's forward pass over x, images of `shape` (C, H, W)."""
    entries: list[str] = []
    shapes: list[tuple[int, int, int]] = []
    pooled: dict[int, str] = {}
    bodies: dict[int, Trace] = {}
    for number, layer in enumerate(layers):
        entries.append(x)
        shapes.append(shape)
        channels, height, width = shape
        step = 2 if isinstance(layer, Pool) else layer.stride if isinstance(layer, Convolution) else 1
        if height % step or width % step:
            raise ValueError(
                f"layer {number} would meet {width} x {height} px, not divisible by {step}: choose another input size"
            )
        shape = (channels, height // step, width // step)
        if isinstance(layer, Convolution):
            shape = (len(layer.weight), *shape[1:])
            if not 0 <= 2 * layer.padding - layer.weight.shape[2] + step < step:
                raise ValueError(f"layer {number}: a kernel of {layer.weight.shape[2]} px needs another padding")
            inputs = [x, g.kernel(layer.weight.numpy()), g.constant(layer.bias.numpy())]
            kernel, pads = layer.weight.shape[2:], [layer.padding] * 4
            x = g.convolve(*inputs, kernel=kernel, pads=pads, stride=layer.stride, groups=layer.groups)
        elif isinstance(layer, Rectifier):
            x = g.add("Relu", x)
        elif isinstance(layer, Sum):
            bodies[number] = _forward(g, layer.layers, x, shape)
            x = g.add("Add", x, bodies[number].z)
        else:
            x = pooled[number] = g.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    return Trace(entries, shapes, pooled, bodies, x)


def _prediction(model: onnx.ModelProto) -> onnx.GraphProto:
    """The branch without maps."""
    return next(a.g for a in model.graph.node[0].attribute if a.name == "else_branch")


def is_mirrored(model: onnx.ModelProto) -> bool:
    """Whether a graph that `build` wrote looks at the mirror image as well."""
    return any(node.op_type == "Slice" for node in _prediction(model).node)


def read_members(model: onnx.ModelProto) -> tuple[tuple[tuple[Layer, ...], ...], Tensor | None]:
    """What `build` wrote into a graph: an exported bundle back in the form that the reference works on.

    Returns
    -------
    members : tuple of tuples of Layer
        Weights are the exported float32 ones, as float64.
    prior : Tensor, shape (N,), or None
        Float64.
    """
    branch = _prediction(model)
    initializers = (*model.graph.initializer, *branch.initializer)
    constants = {entry.name: torch.from_numpy(numpy_helper.to_array(entry).copy()) for entry in initializers}
    members: list[list[Layer]] = []
    prior, images = None, {"image"}
    before: dict[str, int] = {}
    """How many layers of its member come before an output of the graph's nodes."""
    for node in branch.node:
        if node.op_type == "Transpose":
            constants[node.output[0]] = constants[node.input[0]].transpose(0, 1)
        elif node.op_type == "Concat" and node.input[0] == "image":
            images.add(node.output[0])
        elif node.op_type == "Add" and node.input[1] in constants:
            prior = constants[node.input[1]][0].double()
        elif node.op_type == "Add" and node.input[0] in before:
            start = before[node.input[0]]
            members[-1][start:] = [Sum(tuple(members[-1][start:]))]
        elif node.op_type == "Conv":
            if node.input[0] in images:
                members.append([])
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            weight, bias = (constants[name].double() for name in node.input[1:3])
            stride, padding = attributes["strides"][0], attributes["pads"][0]
            members[-1].append(Convolution(weight, bias, stride, padding, attributes.get("group", 1)))
        elif node.op_type == "Relu":
            members[-1].append(Rectifier())
        elif node.op_type == "MaxPool":
            members[-1].append(Pool())
        if node.op_type in LAYERS and members:
            before[node.output[0]] = len(members[-1])
    return tuple(map(tuple, members)), prior
