"""Response maps, the slow and plain way: the reference that the ONNX graph is held against.

``R(x|c) = G_1 U_1 ... G_{L-1} U_{L-1} G_L s`` (thesis eqs. 3.2, 4.2, 5.3): the start signal ``s`` at the raw outputs ``z_L``
goes back through transposed convolutions ``G`` (folded kernels, no bias) and unpooling ``U`` with the forward pass's switches
(Zeiler & Fergus 2014). Two named options say what a map means and travel with it:

``rule``, at every ReLU with input a: ``linear`` R (the equation as printed), ``deconvnet`` R [R > 0] (eq. 2.12),
``gradient`` R [a > 0] (eq. 2.11), ``guided`` R [R > 0] [a > 0] (eq. 2.13).

Given switches and gates, every layer is linear. So the way back of a residual sum x + f(x) is R + f's way back of R.

``start``: ``class`` s = z_c e_c (the thesis), ``contrast`` s = relu(z_c - z_k) (e_c - e_k), k the strongest other class at each
position: only where class c wins, and only what speaks for it against its strongest rival.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from training.response_maps.layers import Convolution, Layer, Pool, Sum

Rule = Literal["linear", "deconvnet", "guided", "gradient"]
Start = Literal["class", "contrast"]
RULES: tuple[Rule, ...] = get_args(Rule)
STARTS: tuple[Start, ...] = get_args(Start)


@dataclass(frozen=True)
class Trace:
    """What the forward pass leaves behind: every layer's input, the last one's output, the pools' switches, the sums' bodies."""

    inputs: tuple[Tensor, ...]
    output: Tensor
    switches: dict[int, Tensor]
    bodies: dict[int, Trace]


def forward(layers: Sequence[Layer], x: Tensor) -> Trace:
    """Run the layers on x, shape (B, C, H, W)."""
    inputs, switches, bodies = [], {}, {}
    for number, layer in enumerate(layers):
        inputs.append(x)
        if isinstance(layer, Convolution):
            x = F.conv2d(x, layer.weight.to(x), layer.bias.to(x), layer.stride, layer.padding, 1, layer.groups)
        elif isinstance(layer, Sum):
            bodies[number] = forward(layer.layers, x)
            x = x + bodies[number].output
        elif isinstance(layer, Pool):
            if min(x.shape[2:]) < 2:
                raise ValueError(
                    f"layer {number}: {x.shape[3]} x {x.shape[2]} px cannot be pooled; the input is too small"
                )
            x, switches[number] = F.max_pool2d(x, 2, return_indices=True)
        else:
            x = F.relu(x)
    return Trace(tuple(inputs), x, switches, bodies)


def start_signal(z: Tensor, c: int, start: Start) -> Tensor:
    """The signal that is sent back for class c, shape of z (B, N, h, w)."""
    signal = torch.zeros_like(z)
    if start == "class":
        signal[:, c] = z[:, c]
        return signal
    others = z.clone()
    others[:, c] = -torch.inf
    rival, k = others.max(1, keepdim=True)
    margin = F.relu(z[:, c : c + 1] - rival)
    signal.scatter_(1, k, -margin)
    signal[:, c : c + 1] = margin
    return signal


def send_back(layers: Sequence[Layer], trace: Trace, signal: Tensor, rule: Rule) -> Tensor:
    """Send a signal at the output of `layers` back to the input: shape (B, C, H, W).

    `layers` may be the beginning of a network (any layer as L); `trace` must come from the same layers and input.
    """
    for number in reversed(range(len(layers))):
        layer, entry = layers[number], trace.inputs[number]
        if isinstance(layer, Convolution):
            spare = [
                entry.shape[d] - ((signal.shape[d] - 1) * layer.stride - 2 * layer.padding + layer.weight.shape[d])
                for d in (2, 3)
            ]
            signal = F.conv_transpose2d(
                signal,
                layer.weight.to(signal),
                stride=layer.stride,
                padding=layer.padding,
                output_padding=(spare[0], spare[1]),
                groups=layer.groups,
            )
        elif isinstance(layer, Sum):
            signal = signal + send_back(layer.layers, trace.bodies[number], signal, rule)
        elif isinstance(layer, Pool):
            signal = F.max_unpool2d(signal, trace.switches[number], [2, 2], output_size=entry.shape[2:])
        else:
            if rule in ("deconvnet", "guided"):
                signal = F.relu(signal)
            if rule in ("gradient", "guided"):
                signal = signal * (entry > 0)
    return signal


def response_maps(layers: Sequence[Layer], x: Tensor, rule: Rule = "guided", start: Start = "contrast") -> Tensor:
    """Class maps R(x|c) of every class, shape (B, N, H, W), signed and unnormalised.

    Colour inputs: the map is the sum over the input's channels, which keeps it linear in them.
    """
    trace = forward(layers, x)
    classes = trace.output.shape[1]
    maps = [send_back(layers, trace, start_signal(trace.output, c, start), rule).sum(1) for c in range(classes)]
    return torch.stack(maps, 1)


def ensemble_forward(
    members: Sequence[Sequence[Layer]], x: Tensor, *, prior: Tensor | None = None, mirrored: bool = False
) -> tuple[Tensor, Tensor]:
    """Prediction of an ensemble: the mean of its members' GAP(z_L), plus the prior.

    Parameters
    ----------
    members : sequence of sequences of Layer
        One network or more, of the same classes.
    x : Tensor, shape (B, C, H, W)
    prior : Tensor, shape (N,), optional
        Log prior odds. z_L holds evidence only, so no map starts from it.
    mirrored : bool
        Every output is the mean over x and its left-right mirror image.

    Returns
    -------
    logits : Tensor, shape (B, N)
    features : Tensor, shape (B, M * K)
        GAP of each member's last hidden layer, one after the other.
    """
    if mirrored:
        looks = [ensemble_forward(members, look, prior=prior) for look in (x, x.flip(3))]
        logits, features = (torch.stack(column).mean(0) for column in zip(*looks, strict=True))
        return logits, features
    traces = [forward(layers, x) for layers in members]
    logits = torch.stack([trace.output.mean((2, 3)) for trace in traces]).mean(0)
    return logits if prior is None else logits + prior.to(x), torch.cat([t.inputs[-1].mean((2, 3)) for t in traces], 1)


def ensemble_maps(
    members: Sequence[Sequence[Layer]],
    x: Tensor,
    rule: Rule = "guided",
    start: Start = "contrast",
    *,
    mirrored: bool = False,
) -> Tensor:
    """Class maps of an ensemble, shape (B, N, H, W): the mean of its members' own R(x|c).

    `mirrored`: the mean of that and of the mirror image's maps, mirrored back.
    """
    if mirrored:
        return (ensemble_maps(members, x, rule, start) + ensemble_maps(members, x.flip(3), rule, start).flip(3)) / 2
    return torch.stack([response_maps(layers, x, rule, start) for layers in members]).mean(0)


def unit_map(layers: Sequence[Layer], x: Tensor, layer: int, unit: int, rule: Rule = "linear") -> Tensor:
    """Attentive response map of unit `unit` of layer `layer` (ch. 3, eq. 3.2), shape (B, H, W)."""
    head = layers[: layer + 1]
    trace = forward(head, x)
    signal = torch.zeros_like(trace.output)
    signal[:, unit] = trace.output[:, unit]
    return send_back(head, trace, signal, rule).sum(1)


def ranked_units(layers: Sequence[Layer], x: Tensor, layer: int) -> Tensor:
    """Units of a layer by the sum of their activations, strongest first, shape (B, K)."""
    return forward(layers[: layer + 1], x).output.sum((2, 3)).argsort(dim=1, descending=True, stable=True)


def dominant_units(layers: Sequence[Layer], x: Tensor, layer: int, n: int, rule: Rule = "linear") -> Tensor:
    """Per pixel the maximum over the maps of the top n units of each image (eq. 3.3; the text's maximum), shape (B, H, W)."""
    rows = []
    for image, units in zip(x, ranked_units(layers, x, layer)[:, :n], strict=True):
        maps = torch.cat([unit_map(layers, image[None], layer, int(unit), rule) for unit in units])
        rows.append(maps.amax(0))
    return torch.stack(rows)
