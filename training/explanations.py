"""Explanations of a network of the family by other people's methods (Captum, zennit), beside our own response maps.

All maps have shape (B, N, H, W), signed: positive speaks for the class. Colour inputs: the sum over the channels, as in ours.

Every peer explains the same signal for class c: the log-odds ``logit_c - logit_k`` of the whole network, k the strongest other
class of that image. With two classes the map of one class is minus that of the other wherever a method is linear in what it
explains (gradient x input, Integrated Gradients, LRP, occlusion). Methods that look inside a network (Grad-CAM, LRP) are the
mean over the members, like our maps.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType

import torch
from captum.attr import InputXGradient, IntegratedGradients, LayerGradCam, Occlusion, Saliency
from torch import Tensor, nn
from torch.nn import functional as F

from training.response_maps.layers import Convolution, Layer, Rectifier, Residual, Sum, every_convolution
from training.response_maps.reference import RULES, STARTS, Rule, Start, response_maps

Members = Sequence[Sequence[Layer]]
BATCH = 64
"""Images in one pass of the methods that need many passes for one image."""


class Addition(nn.Module):
    """Sum over the last axis: a module of its own, for LRP to have a rule there."""

    def forward(self, terms: Tensor) -> Tensor:
        return terms.sum(-1)


class JoinedResidual(Residual):
    """x + body(x), added up by an `Addition`."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__(*body)
        self.join = Addition()

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.stack([x, self.body(x)], -1))


def _module(layer: Layer) -> nn.Module:
    if isinstance(layer, Rectifier):
        return nn.ReLU()
    if isinstance(layer, Sum):
        return JoinedResidual(*map(_module, layer.layers))
    if not isinstance(layer, Convolution):
        return nn.MaxPool2d(2)
    outputs, inputs, kernel, _ = layer.weight.shape
    groups = layer.groups
    convolution = nn.Conv2d(inputs * groups, outputs, kernel, layer.stride, layer.padding, groups=groups)
    convolution.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    return convolution.requires_grad_(False)


class Network(nn.Module):
    """Folded layers as plain PyTorch modules in float32: logits = mean over the members of GAP(z_L), plus the prior.

    Parameters
    ----------
    members : sequence of sequences of Layer
        Networks of the same architecture; one for a single network.
    prior : Tensor, shape (N,), optional
        Added to the logits; zero unless given.
    """

    prior: Tensor

    def __init__(self, members: Members, prior: Tensor | None = None) -> None:
        super().__init__()
        self.folded = tuple(tuple(layers) for layers in members)
        self.members = nn.ModuleList(nn.Sequential(*map(_module, layers)) for layers in self.folded)
        last = self.folded[0][-1]
        assert isinstance(last, Convolution)
        self.register_buffer("prior", torch.zeros(len(last.weight)) if prior is None else prior.detach().float())
        self.eval().to(memory_format=torch.channels_last)

    def raw(self, x: Tensor) -> Tensor:
        """Mean of the members' z_L, shape (B, N, h, w)."""
        return torch.stack([member(x) for member in self.members]).mean(0)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (B, N)."""
        return self.raw(x).mean((2, 3)) + self.prior


def flat(x: Tensor) -> Tensor:
    """Images without information: every channel its own median (a nodule's window: the lung around it), shape of x."""
    return x.flatten(2).median(2).values[..., None, None].expand_as(x)


def directions(logits: Tensor) -> Tensor:
    """What makes log-odds of logits (B, N): for class c (second axis) e_c - e_k, k the strongest other class. (B, N, N)."""
    classes = logits.shape[1]
    own = torch.eye(classes, dtype=logits.dtype)
    others = logits[:, None].expand(-1, classes, -1).masked_fill(own.bool(), -torch.inf)
    return own - F.one_hot(others.argmax(2), classes)


def log_odds(network: Network) -> Callable[[Tensor, Tensor], Tensor]:
    """The function that peers explain: images (B, C, H, W) and one direction an image (B, N) to log-odds (B,)."""
    return lambda x, direction: (network(x) * direction).sum(1)


def each_class(network: Network, x: Tensor, explain: Callable[[Tensor, Tensor], Tensor], *, linear: bool) -> Tensor:
    """Maps of every class, shape (B, N, H, W), from `explain`: images and directions (B, N) to (B, C, H, W).

    With two classes, a method that is `linear` in what it explains needs to be asked once.
    """
    with torch.no_grad():
        direction = directions(network(x))
    x = x.detach().requires_grad_()
    if linear and direction.shape[1] == 2:
        one = explain(x, direction[:, 1]).detach().sum(1)
        return torch.stack([-one, one], 1)
    return torch.stack([explain(x, d).detach().sum(1) for d in direction.unbind(1)], 1)


def own(rule: Rule, start: Start) -> Callable[[Network, Tensor], Tensor]:
    """Our response maps, mean over the members' own."""

    @torch.no_grad()
    def maps(network: Network, x: Tensor) -> Tensor:
        return torch.stack([response_maps(layers, x, rule, start) for layers in network.folded]).mean(0)

    return maps


@torch.no_grad()
def class_map(network: Network, x: Tensor) -> Tensor:
    """Class activation map (Zhou et al. 2016): z_c itself, bilinear to the input's size."""
    return F.interpolate(network.raw(x), x.shape[2:], mode="bilinear", align_corners=False)


def grad_cam(network: Network, x: Tensor) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017), Captum, at the last hidden ReLU, which is what the class layer sees; bilinear."""

    def explain(x: Tensor, direction: Tensor) -> Tensor:
        maps = []
        for member in network.members:
            method = LayerGradCam(lambda x, d, m=member: (m(x).mean((2, 3)) * d).sum(1), list(member.children())[-2])
            maps.append(method.attribute(x, additional_forward_args=direction, relu_attributions=True).detach())
        return F.interpolate(torch.stack(maps).mean(0), x.shape[2:], mode="bilinear", align_corners=False)

    return each_class(network, x, explain, linear=False)


def gradient(network: Network, x: Tensor) -> Tensor:
    """Saliency (Simonyan et al. 2013), Captum: absolute gradient, so it cannot tell for from against."""

    def explain(x: Tensor, direction: Tensor) -> Tensor:
        return Saliency(log_odds(network)).attribute(x, abs=True, additional_forward_args=direction)

    return each_class(network, x, explain, linear=False)


def input_x_gradient(network: Network, x: Tensor) -> Tensor:
    """Gradient times input (Shrikumar et al. 2016), Captum, signed."""

    def explain(x: Tensor, direction: Tensor) -> Tensor:
        return InputXGradient(log_odds(network)).attribute(x, additional_forward_args=direction)

    return each_class(network, x, explain, linear=True)


def integrated_gradients(steps: int) -> Callable[[Network, Tensor], Tensor]:
    """Integrated Gradients (Sundararajan et al. 2017), Captum, Gauss-Legendre with `steps` points from the `flat` image."""

    def maps(network: Network, x: Tensor) -> Tensor:
        def explain(x: Tensor, direction: Tensor) -> Tensor:
            return IntegratedGradients(log_odds(network)).attribute(
                x,
                baselines=flat(x.detach()),
                additional_forward_args=direction,
                n_steps=steps,
                internal_batch_size=max(len(x), BATCH),
            )

        return each_class(network, x, explain, linear=True)

    return maps


def occlusion(patch: int, stride: int) -> Callable[[Network, Tensor], Tensor]:
    """Occlusion (Zeiler & Fergus 2014), Captum: how much the log-odds fall under a patch of the `flat` image."""

    def maps(network: Network, x: Tensor) -> Tensor:
        @torch.no_grad()
        def explain(x: Tensor, direction: Tensor) -> Tensor:
            whole = Occlusion(log_odds(network)).attribute(
                x,
                sliding_window_shapes=(x.shape[1], patch, patch),
                strides=(x.shape[1], stride, stride),
                baselines=flat(x),
                additional_forward_args=direction,
                perturbations_per_eval=max(1, BATCH // len(x)),
            )
            return whole / x.shape[1]  # each of the channels under a patch was given the whole difference

        return each_class(network, x, explain, linear=True)

    return maps


def zennit_composites() -> ModuleType:
    """``zennit.composites``, also without torchvision: zennit imports that only to name two ResNet blocks.

    torchvision's wheel would bring a CUDA build of PyTorch along, or fail beside a CPU build.
    """
    if "zennit" not in sys.modules:
        try:
            importlib.import_module("torchvision.models.resnet")
        except (ImportError, RuntimeError):
            resnet = ModuleType("torchvision.models.resnet")
            resnet.Bottleneck = resnet.BasicBlock = type("NotUsed", (nn.Module,), {})  # type: ignore[attr-defined]
            parents = {name: ModuleType(name) for name in ("torchvision", "torchvision.models")}
            sys.modules.update({**parents, resnet.__name__: resnet})
            try:
                importlib.import_module("zennit")
            finally:
                for name in (*parents, resnet.__name__):
                    del sys.modules[name]
    return importlib.import_module("zennit.composites")


def lrp(composite: str) -> Callable[[Network, Tensor], Tensor]:
    """Layer-wise relevance propagation (Bach et al. 2015), zennit.

    The relevance at z_L is what each position adds to the log-odds, (z_c e_c - z_k e_k) / (h w); the prior has no place.
    `composite`: "EpsilonGammaBox" (gamma 0.25, the first layer bounded by each channel's extremes in the image) or
    "EpsilonPlus" (z+ in every convolution). A residual sum splits its relevance in proportion to its two terms, as zennit's
    own composites do for the residual networks that they know; terms that nearly cancel get large shares of opposite sign.
    """

    def maps(network: Network, x: Tensor) -> Tensor:
        composites = zennit_composites()
        sums = [(Addition, composites.Norm(stabilizer=1e-6))]
        bounds = {"low": x.detach().amin((2, 3), keepdim=True), "high": x.detach().amax((2, 3), keepdim=True)}

        def explain(x: Tensor, direction: Tensor) -> Tensor:
            found = []
            for member in network.members:
                rules = getattr(composites, composite)(
                    layer_map=sums, **(bounds if composite == "EpsilonGammaBox" else {})
                )
                with rules.context(member) as modified:
                    z = modified(x)
                    relevance = (z * direction[:, :, None, None]).detach() / z[0, 0].numel()
                    found.append(torch.autograd.grad(z, x, relevance)[0])
            return torch.stack(found).mean(0)

        return each_class(network, x, explain, linear=True)

    return maps


@dataclass(frozen=True)
class Method:
    """One way to explain: what it is and the maps it gives, images (B, C, H, W) to (B, N, H, W)."""

    text: str
    maps: Callable[[Network, Tensor], Tensor]
    ours: bool = False


def methods(steps: int = 16, patch: int = 12, stride: int = 6) -> dict[str, Method]:
    """All methods by name: our four rules from both starts, then the peers.

    Parameters
    ----------
    steps : int
        Of Integrated Gradients.
    patch, stride : int
        Of occlusion, px.
    """
    signal = "log-odds of the class against its strongest rival"
    found = {
        f"{rule}, {start}": Method(f"response map, rule {rule}, start {start}", own(rule, start), ours=True)
        for start in STARTS
        for rule in RULES
    }
    return found | {
        "class map": Method("z_c, bilinear to the input's size (CAM)", class_map),
        "Grad-CAM": Method(f"Captum, last hidden ReLU, {signal}", grad_cam),
        "|gradient|": Method(f"Captum Saliency, absolute, {signal}", gradient),
        "gradient x input": Method(f"Captum, signed, {signal}", input_x_gradient),
        "Integrated Gradients": Method(
            f"Captum, {steps} Gauss-Legendre points from the image's median grey, {signal}", integrated_gradients(steps)
        ),
        "LRP-gamma": Method(f"zennit EpsilonGammaBox, gamma 0.25, {signal}", lrp("EpsilonGammaBox")),
        "LRP-z+": Method(f"zennit EpsilonPlus, {signal}", lrp("EpsilonPlus")),
        "occlusion": Method(
            f"Captum, {patch} px patch of the image's median grey, stride {stride} px, {signal}",
            occlusion(patch, stride),
        ),
    }


def convolutions(members: Members) -> int:
    """Number of convolutions of each member."""
    return len(list(every_convolution(members[0])))


def shuffled(members: Members, count: int, seed: int = 0) -> tuple[tuple[Layer, ...], ...]:
    """The members with the last `count` convolutions' weights in random order: what was learnt there is gone, the scale stays."""
    generator = torch.Generator().manual_seed(seed)

    def mixed(values: Tensor) -> Tensor:
        return values.flatten()[torch.randperm(values.numel(), generator=generator)].reshape(values.shape)

    def shuffle(layers: Sequence[Layer], left: int) -> tuple[tuple[Layer, ...], int]:
        """The layers with the last `left` convolutions mixed, and how many of these lie before the layers."""
        new = list(layers)
        for place in reversed(range(len(new))):
            layer = new[place]
            if isinstance(layer, Sum):
                body, left = shuffle(layer.layers, left)
                new[place] = Sum(body)
            elif isinstance(layer, Convolution) and left:
                new[place] = replace(layer, weight=mixed(layer.weight), bias=mixed(layer.bias))
                left -= 1
        return tuple(new), left

    return tuple(shuffle(layers, count)[0] for layers in members)
