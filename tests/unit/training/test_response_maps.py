"""Response maps re-derived: by hand, by autograd, by PyTorch's own unpooling, and ONNX Runtime against the reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from training.networks import Architecture, Conv, Sequencer, clear_dr, sisc
from training.response_maps.compose import binary, clear, two_sided
from training.response_maps.layers import Convolution, Pool, Rectifier, UnsupportedLayer, fold
from training.response_maps.onnx_graph import build, is_mirrored, read_members
from training.response_maps.reference import (
    RULES,
    STARTS,
    dominant_units,
    ensemble_forward,
    ensemble_maps,
    forward,
    ranked_units,
    response_maps,
    start_signal,
    unit_map,
)

SMALL = Architecture(1, 3, ((Conv(4), Conv(5)), (Conv(6), Conv(6, 1))))


def random_network(architecture: Architecture, seed: int = 0) -> Sequencer:
    """A network with batch norms that do something and class maps that differ."""
    torch.manual_seed(seed)
    network = Sequencer(architecture).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
    network.layers[-1].weight.data.mul_(10)
    return network


def session(model) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def by_hand() -> tuple[tuple, torch.Tensor]:
    """One 1x1 convolution to two units, ReLU, 2x2 pool, one 1x1 convolution to two classes; a 2x4 image.

    Units: a = x, b = -2x + 3. Image rows: [1 4 | 0 2], [3 2 | 5 1]. Unit a pools to 4 (row 0, column 1) and 5 (row 1,
    column 2). Unit b is [1 -5 | 3 -1], [-3 -1 | -7 1], after ReLU [1 0 | 3 0], [0 0 | 0 1]: pools to 1 (0, 0), 3 (0, 2).
    z_0 = a + b: 5, 8.  z_1 = 2a - b: 7, 7.
    """
    layers = (
        Convolution(
            torch.tensor([[[[1.0]]], [[[-2.0]]]], dtype=torch.float64), torch.tensor([0.0, 3.0], dtype=torch.float64)
        ),
        Rectifier(),
        Pool(),
        Convolution(
            torch.tensor([[1.0, 1.0], [2.0, -1.0]], dtype=torch.float64)[:, :, None, None],
            torch.zeros(2, dtype=torch.float64),
        ),
    )
    return layers, torch.tensor([[1.0, 4, 0, 2], [3, 2, 5, 1]], dtype=torch.float64)[None, None]


# Signal at z, class start: (5, 8) for class 0, (7, 7) for class 1. Back through the last kernel: unit a gets 1 * z_0 or
# 2 * z_1, unit b 1 * z_0 or -1 * z_1; unpooled to the places above; then through the first kernel: a * 1 + b * -2.
HAND = {
    ("linear", "class"): ([[-10, 5, -16, 0], [0, 0, 8, 0]], [[14, 14, 14, 0], [0, 0, 14, 0]]),
    ("gradient", "class"): ([[-10, 5, -16, 0], [0, 0, 8, 0]], [[14, 14, 14, 0], [0, 0, 14, 0]]),
    ("deconvnet", "class"): ([[-10, 5, -16, 0], [0, 0, 8, 0]], [[0, 14, 0, 0], [0, 0, 14, 0]]),
    ("guided", "class"): ([[-10, 5, -16, 0], [0, 0, 8, 0]], [[0, 14, 0, 0], [0, 0, 14, 0]]),
    # contrast: class 0 wins by 1 at the right window, class 1 by 2 at the left. e_0 - e_1 sends (1 - 2, 1 + 1) = (-1, 2) to
    # the units a, b; e_1 - e_0 sends (1, -2).
    ("linear", "contrast"): ([[0, 0, -4, 0], [0, 0, -1, 0]], [[8, 2, 0, 0], [0, 0, 0, 0]]),
    ("guided", "contrast"): ([[0, 0, -4, 0], [0, 0, 0, 0]], [[0, 2, 0, 0], [0, 0, 0, 0]]),
}


@pytest.mark.parametrize(("rule", "start"), HAND)
def test_two_layer_network_worked_out_by_hand(rule, start):
    layers, x = by_hand()
    found = response_maps(layers, x, rule, start)[0]
    np.testing.assert_allclose(found, np.array(HAND[rule, start], float))


@pytest.mark.parametrize("architecture", [SMALL, Architecture(3, 4, ((Conv(5, 5, 2),), (Conv(6), Conv(7, 1))))])
def test_gradient_rule_is_autograd(architecture):
    layers = fold(random_network(architecture).layers)
    x = torch.randn(2, architecture.in_channels, 12, 16, dtype=torch.float64)
    for c in range(architecture.classes):
        for start in STARTS:
            leaf = x.clone().requires_grad_()
            z = forward(layers, leaf).output
            if start == "class":
                scalar = (z[:, c] * z[:, c].detach()).sum()
            else:
                others = torch.cat([z[:, :c], z[:, c + 1 :]], 1).amax(1)
                scalar = 0.5 * (F.relu(z[:, c] - others) ** 2).sum()
            (expected,) = torch.autograd.grad(scalar, leaf)
            found = response_maps(layers, x, "gradient", start)[:, c]
            np.testing.assert_allclose(found, expected.sum(1), atol=1e-9 * float(expected.abs().max() + 1))


def test_folded_batch_norm_gives_the_same_output():
    network = random_network(SMALL).double()
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    np.testing.assert_allclose(forward(fold(network.layers), x).output, network.raw(x).detach(), atol=1e-10)


def test_odd_sizes_go_back_to_the_input_size():
    layers = fold(random_network(SMALL).layers)
    maps = response_maps(layers, torch.randn(1, 1, 11, 13, dtype=torch.float64), "linear", "class")
    assert maps.shape == (1, 3, 11, 13)


def test_odd_sizes_are_refused_in_the_graph():
    with pytest.raises(ValueError, match="not divisible by 2"):
        build([fold(random_network(SMALL).layers)], (1, 11, 12))


def test_too_small_an_input_is_refused():
    with pytest.raises(ValueError, match="too small"):
        forward(fold(random_network(SMALL).layers), torch.zeros(1, 1, 1, 8, dtype=torch.float64))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 1, 3, dilation=2),
        nn.MaxPool2d(3, 2),
        nn.AvgPool2d(2),
        nn.Sigmoid(),
        nn.Conv2d(1, 1, 3, padding="same"),
    ],
)
def test_layers_outside_the_family_are_refused(layer):
    with pytest.raises(UnsupportedLayer, match="layer 0"):
        fold(nn.Sequential(layer, nn.Conv2d(1, 2, 1)))


def test_a_network_must_end_with_its_class_layer():
    with pytest.raises(UnsupportedLayer, match="end with"):
        fold(nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU()))


def test_contrast_starts_only_where_a_class_wins():
    z = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0]], dtype=torch.float64).T[None, :, None, :]
    # position 0: class 0 wins by 1 over class 2; position 1: classes 0 and 1 tie, nobody wins.
    np.testing.assert_array_equal(start_signal(z, 0, "contrast")[0, :, 0], [[1, 0], [0, 0], [-1, 0]])
    assert not start_signal(z, 1, "contrast").any()
    assert not start_signal(z, 2, "contrast").any()


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("rule", RULES)
def test_onnx_runtime_against_the_float64_reference(rule, start):
    for architecture, shape in (
        (SMALL, (1, 16, 24)),
        (Architecture(3, 5, ((Conv(8, 5, 2),), (Conv(9), Conv(7)), (Conv(6), Conv(6, 1)))), (3, 32, 32)),
    ):
        network = random_network(architecture)
        layers = fold(network.layers)
        run = session(build([layers], shape, rule, start))
        for batch in (1, 5):
            x = torch.rand(batch, *shape, generator=torch.Generator().manual_seed(batch))
            logits, probabilities, maps, features = run.run(None, {"image": x.numpy()})
            expected = response_maps(layers, x.double(), rule, start).numpy()
            # One near-tie in a pool may fall to the other side in float32: the correlation stays, exactness is for the rest.
            assert np.corrcoef(maps.ravel(), expected.ravel())[0, 1] > 0.9999
            close = np.isclose(maps, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
            assert close.reshape(batch, -1).mean(1).max() > 0.9999
            trace = forward(layers, x.double())
            z = trace.output.mean((2, 3))
            np.testing.assert_allclose(logits, z, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(probabilities, z.softmax(1), atol=1e-5)
            np.testing.assert_allclose(features, trace.inputs[-1].mean((2, 3)), rtol=1e-4, atol=1e-5)
            assert maps.shape == (batch, architecture.classes, *shape[1:])


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_tied_windows_follow_max_unpool2d(value):
    """Flat areas tie in every window: the FIRST maximum in row-major order gets the signal, in torch and in the graph."""
    layers = (
        Convolution(torch.eye(2, dtype=torch.float64)[:, :, None, None], torch.zeros(2, dtype=torch.float64)),
        Rectifier(),
        Pool(),
        Convolution(
            torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)[:, :, None, None],
            torch.tensor([1.0, 0.0], dtype=torch.float64),
        ),
    )
    x = torch.full((1, 2, 8, 8), value)
    x[:, 0, :, 4:] = torch.rand(8, 4, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    for rule in RULES:
        (maps,) = session(build([layers], (2, 8, 8), rule, "class")).run(["response_maps"], {"image": x.numpy()})
        np.testing.assert_allclose(maps, response_maps(layers, x.double(), rule, "class"), atol=1e-6)
    # The linear map of class 1 is its channel, pooled and unpooled: every window's first pixel where all four are equal.
    linear = response_maps(layers, x.double(), "linear", "class")[0, 1]
    np.testing.assert_array_equal(linear[:, :4], np.tile([[value, 0], [0, 0]], (4, 2)))
    pooled, switches = F.max_pool2d(x[:, 1:], 2, return_indices=True)
    np.testing.assert_allclose(linear, F.max_unpool2d(pooled, switches, 2)[0, 0])


def test_without_maps_the_graph_is_the_plain_forward_pass():
    layers = fold(random_network(SMALL).layers)
    run = session(build([layers], (1, 16, 16)))
    x = np.random.default_rng(0).random((2, 1, 16, 16), np.float32)
    full = run.run(["logits", "response_maps"], {"image": x})
    plain = run.run(["logits", "response_maps"], {"image": x, "with_maps": np.array(False)})
    np.testing.assert_array_equal(full[0], plain[0])
    assert plain[1].shape == (0, 3, 16, 16)


@pytest.mark.parametrize("architecture", [sisc(16), clear_dr()])
def test_the_graph_uses_common_operators_only(architecture):
    size = 96 if architecture.in_channels == 1 else 128
    model = build([fold(random_network(architecture).layers)], (architecture.in_channels, size, size))
    assert model.opset_import[0].version <= 18
    branches = [a.g for a in model.graph.node[0].attribute]
    used = {node.op_type for branch in branches for node in branch.node}
    assert not used & {"MaxUnpool", "Loop", "Scan", "If"}


FIVE = Architecture(3, 5, ((Conv(8, 5, 2),), (Conv(9), Conv(7, 3, 2)), (Conv(6), Conv(6, 1))))
PRIOR = torch.tensor([0.5, -1.25, 2.0, 0.0, -0.75], dtype=torch.float64)
OTHER = Architecture(3, 5, ((Conv(4),), (Conv(5), Conv(3, 1))))


def ensemble(*architectures: Architecture) -> list[tuple]:
    return [fold(random_network(architecture, seed).layers) for seed, architecture in enumerate(architectures, 3)]


def images(batch: int, channels: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(batch).random((batch, channels, height, width), np.float32)


def assert_same_maps(found: np.ndarray, expected: np.ndarray) -> None:
    """As for one network: a near-tie in a pool of one member may fall to the other side in float32."""
    assert found.shape == expected.shape
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9999
    close = np.isclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    assert close.reshape(len(found), -1).mean(1).max() > 0.999


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    ("architectures", "prior"),
    [([SMALL] * 3, None), ([FIVE, FIVE, OTHER], PRIOR)],
    ids=["three alike", "two strided and another, with prior"],
)
def test_an_ensemble_against_the_float64_reference(architectures, prior, start, mirrored):
    members = ensemble(*architectures)
    shape = (architectures[0].in_channels, 32, 48)
    run = session(build(members, shape, "guided", start, prior=prior, mirrored=mirrored))
    for batch in (1, 5):
        x = images(batch, *shape)
        exact = torch.from_numpy(x).double()
        logits, probabilities, maps, features = run.run(None, {"image": x})
        expected, hidden = ensemble_forward(members, exact, prior=prior, mirrored=mirrored)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(probabilities, expected.softmax(1), atol=1e-5)
        np.testing.assert_allclose(features, hidden, rtol=1e-4, atol=1e-5)
        assert_same_maps(maps, ensemble_maps(members, exact, "guided", start, mirrored=mirrored).numpy())
        plain = run.run(None, {"image": x, "with_maps": np.array(False)})
        for k, full in ((0, logits), (1, probabilities), (3, features)):
            np.testing.assert_allclose(plain[k], full, atol=1e-6)
        assert plain[2].shape == (0, *maps.shape[1:])


def test_the_reference_of_an_ensemble_is_the_mean_of_its_members():
    """Spelt out member by member and look by look."""
    members = ensemble(FIVE, OTHER)
    x = torch.from_numpy(images(2, 3, 32, 32)).double()
    traces = [forward(layers, look) for layers in members for look in (x, x.flip(3))]
    logits, features = ensemble_forward(members, x, prior=PRIOR, mirrored=True)
    np.testing.assert_allclose(logits, sum(t.output.mean((2, 3)) for t in traces) / 4 + PRIOR)
    hidden = [t.inputs[-1].mean((2, 3)) for t in traces]
    np.testing.assert_allclose(features[:, :6], (hidden[0] + hidden[1]) / 2)
    np.testing.assert_allclose(features[:, 6:], (hidden[2] + hidden[3]) / 2)
    maps = [response_maps(layers, x) + response_maps(layers, x.flip(3)).flip(3) for layers in members]
    np.testing.assert_allclose(ensemble_maps(members, x, mirrored=True), (maps[0] + maps[1]) / 4)


def autograd_maps(networks: list[Sequencer], x: torch.Tensor) -> torch.Tensor:
    """Mean over the networks of each one's vector-Jacobian product of z_L with the cotangent z_c e_c, by autograd."""
    total = torch.zeros(len(x), networks[0].architecture.classes, *x.shape[2:], dtype=torch.float64)
    for network in networks:
        for c in range(total.shape[1]):
            leaf = x.clone().requires_grad_()
            z = network.layers(leaf)
            (product,) = torch.autograd.grad(z[:, c], leaf, z[:, c].detach())
            total[:, c] += product.sum(1) / len(networks)
    return total


@pytest.mark.parametrize("architecture", [SMALL, FIVE])
def test_an_ensembles_map_is_the_mean_of_vector_jacobian_products(architecture):
    networks = [random_network(architecture, seed).double() for seed in (3, 4, 5)]
    members = [fold(network.layers) for network in networks]
    shape = (architecture.in_channels, 32, 32)
    x = images(2, *shape)
    expected = autograd_maps(networks, torch.from_numpy(x).double()).numpy()
    found = ensemble_maps(members, torch.from_numpy(x).double(), "gradient", "class")
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())
    (maps,) = session(build(members, shape, "gradient", "class")).run(["response_maps"], {"image": x})
    assert_same_maps(maps, expected)


def run_all(shape: tuple[int, int, int], **given) -> Callable[[np.ndarray], list[np.ndarray]]:
    run = session(build(shape=shape, **given))
    return lambda x: run.run(None, {"image": x})


@pytest.mark.parametrize("mirrored", [False, True])
def test_two_identical_members_are_the_one(mirrored):
    (layers,) = ensemble(FIVE)
    x = images(3, 3, 32, 32)
    one = run_all((3, 32, 32), members=[layers], mirrored=mirrored)(x)
    two = run_all((3, 32, 32), members=[layers, layers], mirrored=mirrored)(x)
    for k in range(3):
        np.testing.assert_allclose(two[k], one[k], rtol=1e-5, atol=1e-6 * np.abs(one[k]).max())
    np.testing.assert_allclose(two[3], np.tile(one[3], 2), rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2])
def test_a_prior_shifts_the_logits_and_leaves_the_maps(count):
    members = ensemble(*[FIVE] * count)
    x = images(3, 3, 32, 32)
    without = run_all((3, 32, 32), members=members)(x)
    with_prior = run_all((3, 32, 32), members=members, prior=PRIOR)(x)
    np.testing.assert_array_equal(with_prior[0], without[0] + PRIOR.float().numpy())
    np.testing.assert_allclose(with_prior[1], torch.from_numpy(with_prior[0]).softmax(1), atol=1e-6)
    for k in (2, 3):
        np.testing.assert_array_equal(with_prior[k], without[k])


@pytest.mark.parametrize("count", [1, 2])
def test_a_mirrored_graph_knows_no_left_and_right(count):
    members = ensemble(*[FIVE] * count)
    x = images(3, 3, 32, 48)
    run = run_all((3, 32, 48), members=members, mirrored=True)
    once = run_all((3, 32, 48), members=members)
    mirror = np.ascontiguousarray(x[..., ::-1])
    (here, there), (plain, other) = (run(x), run(mirror)), (once(x), once(mirror))
    for k in (0, 1, 3):
        np.testing.assert_allclose(here[k], there[k], atol=1e-5)
    scale = np.abs(here[2]).max()
    np.testing.assert_allclose(here[2], there[2][..., ::-1], atol=1e-5 * scale)
    np.testing.assert_allclose(here[0], (plain[0] + other[0]) / 2, atol=1e-5)
    np.testing.assert_allclose(here[2], (plain[2] + other[2][..., ::-1]) / 2, atol=1e-5 * scale)
    np.testing.assert_allclose(here[3], (plain[3] + other[3]) / 2, atol=1e-5)
    assert np.abs(plain[2] - other[2][..., ::-1]).max() > 0.01 * scale  # the strided network alone does know


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("prior", [None, PRIOR])
@pytest.mark.parametrize("count", [1, 3])
def test_what_a_graph_was_built_from_is_read_back(count, prior, mirrored):
    members = ensemble(*[FIVE, OTHER, FIVE][:count])
    model = build(members, (3, 32, 32), prior=prior, mirrored=mirrored)
    read, known = read_members(model)
    assert is_mirrored(model) == mirrored
    assert (known is None) == (prior is None)
    if prior is not None:
        np.testing.assert_array_equal(known, prior)
    assert [len(layers) for layers in read] == [len(layers) for layers in members]
    for layer, expected in ((a, b) for pair in zip(read, members, strict=True) for a, b in zip(*pair, strict=True)):
        assert type(layer) is type(expected)
        if isinstance(layer, Convolution):
            np.testing.assert_array_equal(layer.weight, expected.weight.float().double())
            np.testing.assert_array_equal(layer.bias, expected.bias.float().double())
            assert (layer.stride, layer.padding) == (expected.stride, expected.padding)


def test_an_ensemble_keeps_each_kernel_once():
    """Neither the branch without maps nor the way back stores a second copy."""
    members = ensemble(*[sisc(8)] * 3)
    kernels = sum(layer.weight.numel() for layers in members for layer in layers if isinstance(layer, Convolution))
    size = len(build(members, (1, 64, 64)).SerializeToString())
    assert 4 * kernels < size < 4 * kernels + 200_000


def test_unit_maps_and_dominant_units():
    layers = fold(random_network(SMALL).layers)
    x = torch.randn(2, 1, 12, 12, dtype=torch.float64)
    last = len(layers) - 1
    np.testing.assert_allclose(
        unit_map(layers, x, last, 1, "guided"), response_maps(layers, x, "guided", "class")[:, 1]
    )
    layer = 3  # the ReLU of the second convolution
    sums = forward(layers[: layer + 1], x).output.sum((2, 3))
    order = ranked_units(layers, x, layer)
    assert (sums.gather(1, order).diff(dim=1) <= 0).all()
    first = torch.stack([unit_map(layers, x[k : k + 1], layer, int(order[k, 0]))[0] for k in range(2)])
    second = torch.stack([unit_map(layers, x[k : k + 1], layer, int(order[k, 1]))[0] for k in range(2)])
    np.testing.assert_allclose(dominant_units(layers, x, layer, 2), torch.maximum(first, second))


def test_composed_maps():
    maps = torch.tensor([[[3.0, -1.0, 0.0, 1.0]], [[2.0, -2.0, 0.0, 4.0]], [[-1.0, -3.0, 0.0, 2.0]]])[None]
    index, strength = clear(maps)
    assert index[0, 0].tolist() == [0, -1, -1, 1]
    assert strength[0, 0].tolist() == [3, 0, 0, 4]
    hot, other = two_sided(maps, 0)
    assert hot[0, 0].tolist() == [3, 0, 0, 1]
    assert other[0, 0].tolist() == [2, 0, 0, 4]
    assert binary(maps, 0, 0.5)[0, 0].tolist() == [1, 0, 0, -1]
