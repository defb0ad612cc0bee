"""Response maps of strided, grouped and residual networks: by hand, by autograd, by zennit; the graph against the reference."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.explanations import zennit_composites
from training.response_maps.layers import Convolution, Layer, Rectifier, Residual, Sum, UnsupportedLayer, fold
from training.response_maps.onnx_graph import build, is_mirrored, read_members
from training.response_maps.reference import (
    RULES,
    STARTS,
    Start,
    dominant_units,
    ensemble_forward,
    ensemble_maps,
    forward,
    response_maps,
    unit_map,
)

CLASSES = 5
PRIOR = torch.tensor([0.5, -1.25, 2.0, 0.0, -0.75], dtype=torch.float64)


def normed(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]


def rectified(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [*normed(inputs, outputs, kernel, stride, groups), nn.ReLU()]


def random_network(seed: int) -> nn.Sequential:
    """Every kind of layer between a strided stem and a pool; a pixel of z_L stands for 16 px. Float64."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        *rectified(3, 8, 3, 2),
        *normed(8, 6, 1),
        *(*rectified(6, 12, 1), *rectified(12, 12, 5, 2, groups=12), *normed(12, 8, 1)),
        Residual(*rectified(8, 16, 1), *rectified(16, 16, 3, groups=16), nn.Dropout2d(0.2), *normed(16, 8, 1)),
        Residual(nn.ReLU(), Residual(*normed(8, 8, 3, groups=2)), *rectified(8, 8, 1), *normed(8, 8, 3, groups=4)),
        *rectified(8, 12, 3, 2, groups=4),
        nn.MaxPool2d(2),
        *rectified(12, 10, 1),
        nn.Conv2d(10, CLASSES, 1, bias=False),
    )
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
    return network.eval().double().requires_grad_(False)


def images(batch: int, height: int = 32, width: int = 48) -> Tensor:
    """Float64, but what float32 can hold."""
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(batch)).double()


def convolution(weight: list, bias: list, stride: int = 1, groups: int = 1) -> Convolution:
    return Convolution(torch.tensor(weight).double(), torch.tensor(bias).double(), stride, 0, groups)


def by_hand() -> tuple[tuple[Layer, ...], Tensor]:
    """Two units, a residual sum with a depthwise body, a strided depthwise convolution, two classes; a 2x2 image.

    Image [1 2 | 3 4]. Units after ReLU: u = x, v = relu(3 - x) = [2 1 | 0 0]. Body: p = relu(2u - 4) = [0 0 | 2 4],
    q = relu(v - 1) = [1 0 | 0 0]; it adds p + q to u and -q to v: U = [2 2 | 5 8], V = [1 1 | 0 0]. The strided kernels
    [1 0 | 0 1] and [1 2 | 0 0] leave 10 and 3. z_0 = 10 + 3 = 13, z_1 = 10 - 3 = 7.
    """
    layers = (
        convolution([[[[1.0]]], [[[-1.0]]]], [0.0, 3.0]),
        Rectifier(),
        Sum(
            (
                convolution([[[[2.0]]], [[[1.0]]]], [-4.0, -1.0], groups=2),
                Rectifier(),
                convolution([[[[1.0]], [[1.0]]], [[[0.0]], [[-1.0]]]], [0.0, 0.0]),
            )
        ),
        convolution([[[[1.0, 0.0], [0.0, 1.0]]], [[[1.0, 2.0], [0.0, 0.0]]]], [0.0, 0.0], stride=2, groups=2),
        convolution([[[[1.0]], [[1.0]]], [[[1.0]], [[-1.0]]]], [0.0, 0.0]),
    )
    return layers, torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double()[None, None]


# Class 0 sends 13 to both units: at U [13 0 | 0 13], at V [13 26 | 0 0]; in the body p gets U, q gets U - V = [0 -26 | 0 13].
# Class 1 sends 7 and -7: at U [7 0 | 0 7], at V [-7 -14 | 0 0]; p gets U, q gets [14 14 | 0 7].
# Then u = U + 2p, v = V + q, x = u - v. Gates: p [0 0 | 1 1], q [1 0 | 0 0], u everywhere, v [1 1 | 0 0].
HAND = {
    ("linear", "class"): ([26, 0, 0, 26], [14, 0, 0, 14]),
    ("deconvnet", "class"): ([26, -26, 0, 26], [14, 0, 0, 14]),
    ("gradient", "class"): ([0, -26, 0, 39], [0, 14, 0, 21]),
    ("guided", "class"): ([0, -26, 0, 39], [0, 0, 0, 21]),
    # Class 0 wins by 6: e_0 - e_1 sends nothing to U and 12 to V = [12 24 | 0 0], q gets [-12 -24 | 0 0].
    ("gradient", "contrast"): ([0, -24, 0, 0], [0, 0, 0, 0]),
    ("guided", "contrast"): ([-12, -24, 0, 0], [0, 0, 0, 0]),
}


@pytest.mark.parametrize(("rule", "start"), HAND)
def test_small_network_worked_out_by_hand(rule, start):
    layers, x = by_hand()
    np.testing.assert_array_equal(forward(layers, x).output.flatten(), [13, 7])
    np.testing.assert_allclose(response_maps(layers, x, rule, start)[0].flatten(1), HAND[rule, start])
    (maps,) = session([layers], (1, 2, 2), rule, start).run(["response_maps"], {"image": x.float().numpy()})
    np.testing.assert_allclose(maps[0].reshape(2, 4), HAND[rule, start])


def session(members, shape=(3, 32, 48), rule="guided", start="contrast", **given) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    model = build(members, shape, rule, start, **given)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class Scalar(nn.Module):
    """One number a class whose gradient at z_L is the start signal, shape (B, N)."""

    def __init__(self, network: nn.Sequential, start: Start) -> None:
        super().__init__()
        self.network = network
        self.start = start

    def forward(self, x: Tensor) -> Tensor:
        z = self.network(x)
        if self.start == "class":
            return 0.5 * z.pow(2).sum((2, 3))
        others = [torch.cat([z[:, :c], z[:, c + 1 :]], 1).amax(1) for c in range(CLASSES)]
        return 0.5 * F.relu(z - torch.stack(others, 1)).pow(2).sum((2, 3))


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("size", [(32, 48), (31, 45)])
def test_gradient_rule_is_autograd(size, start):
    network = random_network(0)
    leaf = images(2, *size).requires_grad_()
    scalar = Scalar(network, start)(leaf).sum(0)
    expected = [torch.autograd.grad(value, leaf, retain_graph=True)[0].sum(1) for value in scalar]
    found = response_maps(fold(network), leaf.detach(), "gradient", start)
    scale = float(found.abs().max())
    assert scale > 0
    np.testing.assert_allclose(found, torch.stack(expected, 1), atol=1e-9 * scale)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(("rule", "name"), [("deconvnet", "DeconvNet"), ("guided", "GuidedBackprop")])
def test_deconvnet_and_guided_are_zennits(rule, name, start):
    """Captum's hooks see the gradient of a ReLU's input as a whole, with what passes the body of a sum by."""
    network, x = random_network(1), images(2)
    found = response_maps(fold(network), x, rule, start)
    for c in range(CLASSES):
        leaf = x.clone().requires_grad_()
        with getattr(zennit_composites(), name)().context(Scalar(network, start)) as modified:
            (expected,) = torch.autograd.grad(modified(leaf)[:, c].sum(), leaf)
        np.testing.assert_allclose(found[:, c], expected.sum(1), atol=1e-9 * float(found.abs().max()))


def test_a_folded_network_gives_the_same_output():
    network, x = random_network(2), images(2)
    np.testing.assert_allclose(forward(fold(network), x).output, network(x), atol=1e-10)


def test_unit_maps_behind_a_sum():
    layers = fold(random_network(3))
    place = next(number for number, layer in enumerate(layers) if isinstance(layer, Sum))
    leaf = images(2).requires_grad_()
    activation = forward(layers[: place + 1], leaf).output[:, 1]
    (expected,) = torch.autograd.grad(activation, leaf, activation.detach())
    found = unit_map(layers, leaf.detach(), place, 1, "gradient")
    np.testing.assert_allclose(found, expected.sum(1), atol=1e-9 * float(expected.abs().max()))
    assert (dominant_units(layers, leaf.detach(), place, 8, "gradient") >= found - 1e-9).all()


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Residual(*rectified(3, 3, 3)), "layer 1: .* must end with a convolution"),
        (Residual(), "layer 1: .* must end with a convolution"),
        (Residual(*normed(3, 3, 3, stride=2)), "layer 1: .* must keep its input's shape"),
        (Residual(*normed(3, 4, 3)), "layer 1: .* must keep its input's shape"),
        (Residual(nn.MaxPool2d(2), *normed(3, 3, 1)), "layer 1: .* must keep its input's shape"),
        (Residual(nn.Conv2d(3, 3, 3)), "layer 1: .* must keep its input's shape"),
        (Residual(nn.Conv2d(3, 3, 1), nn.Sigmoid(), nn.Conv2d(3, 3, 1)), r"layer 1\.1, Sigmoid"),
        (Residual(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)), r"layer 1\.0, BatchNorm2d"),
        (nn.Sequential(Residual(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3)), "layer 1, Sequential"),
    ],
)
def test_sums_outside_the_family_are_refused(layer, message):
    with pytest.raises(UnsupportedLayer, match=message):
        fold(nn.Sequential(nn.ReLU(), layer, nn.Conv2d(3, 2, 1)))


def assert_same_maps(found: np.ndarray, expected: np.ndarray) -> None:
    """A near-tie in a pool, or a ReLU that hardly opens, may fall to the other side in float32."""
    assert found.shape == expected.shape
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9999
    close = np.isclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    assert close.mean() > 0.999


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("rule", RULES)
def test_onnx_runtime_against_the_float64_reference(rule, start, count):
    members = [fold(random_network(seed)) for seed in range(count)]
    run = session(members, rule=rule, start=start, prior=PRIOR)
    x = images(2)
    logits, probabilities, maps, features = run.run(None, {"image": x.float().numpy()})
    expected, hidden = ensemble_forward(members, x, prior=PRIOR)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(probabilities, expected.softmax(1), atol=1e-5)
    np.testing.assert_allclose(features, hidden, rtol=1e-4, atol=1e-5)
    assert_same_maps(maps, ensemble_maps(members, x, rule, start).numpy())
    plain = run.run(["logits", "response_maps"], {"image": x.float().numpy(), "with_maps": np.array(False)})
    np.testing.assert_allclose(plain[0], logits, atol=1e-5)
    assert plain[1].shape == (0, *maps.shape[1:])


@pytest.mark.parametrize("rule", RULES)
def test_inverted_blocks_go_back(rule):
    """Behind a stem with a neighbourhood, and behind a 1x1 convolution; with and without a stride."""
    torch.manual_seed(3)
    network = nn.Sequential(
        *(*rectified(3, 8, 3, 2), *rectified(8, 8, 3, groups=8), *normed(8, 6, 1)),
        *(*rectified(6, 12, 1), *rectified(12, 12, 5, 2, groups=12), *normed(12, 8, 1)),
        Residual(*rectified(8, 16, 1), *rectified(16, 16, 3, groups=16), *normed(16, 8, 1)),
        *rectified(8, 12, 1),
        nn.Conv2d(12, CLASSES, 1),
    )
    layers, x = fold(network.eval().double().requires_grad_(False)), images(2)
    for members in ([layers], [layers, layers]):
        (maps,) = session(members, rule=rule).run(["response_maps"], {"image": x.float().numpy()})
        assert_same_maps(maps, response_maps(layers, x, rule, "contrast").numpy())


@pytest.mark.parametrize(("kernel", "stride", "groups"), [(1, 2, 1), (3, 3, 4), (5, 3, 2), (7, 2, 4), (4, 4, 4)])
def test_any_kernel_and_stride_goes_back(kernel, stride, groups):
    """Also those with phases that no tap meets."""
    torch.manual_seed(kernel)
    padding = (kernel - 1) // 2
    strided = nn.Conv2d(4, 8, kernel, stride, padding if kernel % 2 else 0, groups=groups)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), strided, nn.ReLU(), nn.Conv2d(8, 3, 1)).double()
    x = images(1, 24, 36)[:, :1]
    layers = fold(network.requires_grad_(False))
    for members in ([layers], [layers, layers]):
        run = session(members, (1, 24, 36), "gradient", "class")
        (maps,) = run.run(["response_maps"], {"image": x.float().numpy()})
        assert_same_maps(maps, response_maps(layers, x, "gradient", "class").numpy())


@pytest.mark.parametrize("scale", [1e-9, 1e9])
@pytest.mark.parametrize("rule", ["gradient", "guided"])
def test_activations_may_be_small_or_large(rule, scale):
    """What a ReLU lets through does not depend on how much that is, and no signal is too strong to be held back."""
    torch.manual_seed(1)
    shapes = [(3, 8, 3, 2, 1), (8, 12, 1), (12, 12, 3, 2, 1, 1, 12)]
    body = [part for shape in shapes for part in (nn.Conv2d(*shape, bias=False), nn.ReLU())]
    network = nn.Sequential(*body, nn.Conv2d(12, CLASSES, 1, bias=False)).double().requires_grad_(False)
    body[0].weight *= scale
    layers, x = fold(network), images(2)
    (maps,) = session([layers], rule=rule).run(["response_maps"], {"image": x.float().numpy()})
    assert_same_maps(maps, response_maps(layers, x, rule, "contrast").numpy())


@pytest.mark.parametrize(("kernel", "padding", "stride"), [(3, 0, 1), (3, 2, 1), (2, 1, 2), (5, 1, 2)])
def test_convolutions_that_change_the_size_otherwise_are_refused(kernel, padding, stride):
    network = nn.Sequential(nn.Conv2d(1, 4, kernel, stride, padding), nn.ReLU(), nn.Conv2d(4, 3, 1))
    with pytest.raises(ValueError, match=f"layer 0: a kernel of {kernel} px needs another padding"):
        build([fold(network)], (1, 16, 16))


def flat(layers: tuple[Layer, ...]) -> list[Layer]:
    """Layers with a `Sum` spelt out: itself, then its body."""
    return [part for layer in layers for part in ([layer, *flat(layer.layers)] if isinstance(layer, Sum) else [layer])]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_what_a_graph_was_built_from_is_read_back(count, mirrored):
    members = [fold(random_network(seed)) for seed in range(count)]
    model = build(members, (3, 32, 48), prior=PRIOR, mirrored=mirrored)
    assert is_mirrored(model) == mirrored
    read, prior = read_members(model)
    np.testing.assert_array_equal(prior, PRIOR)
    assert len(read) == count
    for found, expected in zip(read, members, strict=True):
        assert [type(layer) for layer in found] == [type(layer) for layer in expected]
        for a, b in zip(flat(found), flat(expected), strict=True):
            assert type(a) is type(b)
            if isinstance(a, Convolution):
                assert isinstance(b, Convolution)
                np.testing.assert_array_equal(a.weight, b.weight.float().double())
                np.testing.assert_array_equal(a.bias, b.bias.float().double())
                assert (a.stride, a.padding, a.groups) == (b.stride, b.padding, b.groups)
            elif isinstance(a, Sum):
                assert isinstance(b, Sum)
                assert len(a.layers) == len(b.layers)


def test_a_mirrored_ensemble_is_the_reference_too():
    members = [fold(random_network(seed)) for seed in range(2)]
    x = images(2)
    logits, maps = session(members, mirrored=True).run(["logits", "response_maps"], {"image": x.float().numpy()})
    np.testing.assert_allclose(logits, ensemble_forward(members, x, mirrored=True)[0], rtol=1e-4, atol=1e-4)
    assert_same_maps(maps, ensemble_maps(members, x, mirrored=True).numpy())
