"""Other people's methods on our networks: worked out by hand on two layers, and by what each method promises on any network."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from training import explanations as ex
from training.response_maps.layers import Convolution, Pool, Rectifier, Sum
from training.response_maps.reference import forward, response_maps


def convolution(weight: list, bias: list) -> Convolution:
    return Convolution(torch.tensor(weight)[:, :, None, None].double(), torch.tensor(bias).double())


@pytest.fixture
def by_hand() -> tuple[ex.Network, torch.Tensor]:
    """1x1 to the units a = relu(x), b = relu(3 - 2x), 1x1 to z_0 = a + b, z_1 = 2a - b; the image [1 2 | 0.5 3].

    a = [1 2 | 0.5 3], b = [1 0 | 2 0], z_0 = [2 2 | 2.5 3], z_1 = [1 4 | -1 6]. Log-odds of class 1 are the mean of
    z_1 - z_0 = a - 2b = [-1 2 | -3.5 3], and the image's median is 1, of the two in the middle the smaller.
    """
    layers = (
        convolution([[1.0], [-2.0]], [0.0, 3.0]),
        Rectifier(),
        convolution([[1.0, 1.0], [2.0, -1.0]], [0.0, 0.0]),
    )
    return ex.Network([layers]), torch.tensor([[1.0, 2.0], [0.5, 3.0]])[None, None]


HAND = {
    "class map": ([2, 2, 2.5, 3], [1, 4, -1, 6]),
    # weight of a unit: mean of its gradient, 1/4 and -2/4; then (a - 2b) / 4, positive part
    "Grad-CAM": ([0.25, 0, 0.875, 0], [0, 0.5, 0, 0.75]),
    # d(a - 2b)/dx = 1 + 4 where b is open (x < 1.5), else 1
    "|gradient|": ([1.25, 0.25, 1.25, 0.25], [1.25, 0.25, 1.25, 0.25]),
    "gradient x input": ([-1.25, -0.5, -0.625, -0.75], [1.25, 0.5, 0.625, 0.75]),
    # every pixel is on its own: (a - 2b) less its value -1 at the median, over 4
    "Integrated Gradients": ([0, -0.75, 0.625, -1], [0, 0.75, -0.625, 1]),
    "occlusion": ([0, -0.75, 0.625, -1], [0, 0.75, -0.625, 1]),
    # z+: z_1 gives all to a, z_0 takes a and b from them; b passes nothing to x, its kernel is negative: (a - b) / 4
    "LRP-z+": ([0, -0.5, 0.375, -0.75], [0, 0.5, -0.375, 0.75]),
}


@pytest.mark.parametrize("name", HAND)
def test_two_layer_network_worked_out_by_hand(name, by_hand):
    network, x = by_hand
    maps = ex.methods(steps=400, patch=1, stride=1)[name].maps(network, x)
    np.testing.assert_allclose(maps[0].flatten(1), HAND[name], atol=4e-3 if name == "Integrated Gradients" else 1e-5)


def test_the_rival_is_the_strongest_other_class():
    expected = [[1, 0, -1], [-1, 1, 0], [-1, 0, 1]]
    np.testing.assert_array_equal(ex.directions(torch.tensor([[3.0, 1, 2]]))[0], expected)


def random_layers(seed: int, classes: int = 2, bias: float = 0.1) -> tuple:
    generator = torch.Generator().manual_seed(seed)

    def random(outputs: int, inputs: int, kernel: int) -> Convolution:
        weight = torch.randn(outputs, inputs, kernel, kernel, generator=generator).double() / kernel
        return Convolution(weight, bias * torch.randn(outputs, generator=generator).double(), 1, kernel // 2)

    return random(4, 1, 3), Rectifier(), Pool(), random(5, 4, 3), Rectifier(), random(classes, 5, 1)


def residual_layers(seed: int, classes: int = 2, bias: float = 0.1) -> tuple:
    """A strided depthwise convolution and a residual sum with a depthwise body."""
    generator = torch.Generator().manual_seed(seed)

    def random(outputs: int, inputs: int, kernel: int, stride: int = 1, groups: int = 1) -> Convolution:
        weight = torch.randn(outputs, inputs // groups, kernel, kernel, generator=generator).double() / kernel
        noise = bias * torch.randn(outputs, generator=generator).double()
        return Convolution(weight, noise, stride, kernel // 2, groups)

    body = (random(6, 4, 1), Rectifier(), random(6, 6, 3, groups=6), Rectifier(), random(4, 6, 1))
    before = (random(4, 1, 3), Rectifier(), random(4, 4, 3, 2, groups=4), Rectifier())
    return (*before, Sum(body), random(5, 4, 1), Rectifier(), random(classes, 5, 1))


NETWORKS = (random_layers, residual_layers)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(5))


METHODS = ex.methods(steps=5, patch=4, stride=4)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("classes", [2, 3])
def test_logits_are_the_mean_of_the_members_and_the_prior(classes, network, images):
    members, prior = [network(1, classes), network(2, classes)], torch.arange(classes).float()
    expected = torch.stack([forward(layers, images.double()).output.mean((2, 3)) for layers in members]).mean(0) + prior
    np.testing.assert_allclose(ex.Network(members, prior)(images), expected, atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", METHODS)
def test_exchanged_classes_exchange_their_maps(name, network, images):
    layers = network(3)
    last = replace(layers[-1], weight=layers[-1].weight.flip(0), bias=layers[-1].bias.flip(0))
    maps = METHODS[name].maps(ex.Network([layers]), images)
    exchanged = METHODS[name].maps(ex.Network([(*layers[:-1], last)]), images)
    assert maps.shape == (2, 2, 12, 12)
    assert maps.abs().max() > 0
    np.testing.assert_allclose(exchanged.flip(1), maps, atol=1e-4 * float(maps.abs().max()))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "|gradient|"])
def test_an_ensembles_map_is_the_mean_of_its_members(name, images):
    members = [random_layers(1), random_layers(2)]
    together = METHODS[name].maps(ex.Network(members), images)
    apart = torch.stack([METHODS[name].maps(ex.Network([layers]), images) for layers in members]).mean(0)
    np.testing.assert_allclose(together, apart, atol=1e-4 * float(apart.abs().max()))


@pytest.mark.parametrize("name", ["gradient x input", "Integrated Gradients", "LRP-gamma", "LRP-z+", "occlusion"])
def test_two_classes_are_asked_once_and_that_changes_nothing(name, images, monkeypatch):
    network = ex.Network([random_layers(4)])
    short = METHODS[name].maps(network, images)
    whole = ex.each_class
    monkeypatch.setattr(ex, "each_class", lambda *given, linear: whole(*given, linear=False))
    np.testing.assert_allclose(short, METHODS[name].maps(network, images), atol=1e-5 * float(short.abs().max()))


@pytest.mark.parametrize("layers", NETWORKS)
@pytest.mark.parametrize("classes", [2, 3])
def test_integrated_gradients_are_complete(classes, layers, images):
    network = ex.Network([layers(6, classes)])
    with torch.no_grad():
        direction = ex.directions(network(images))
        change = ((network(images) - network(ex.flat(images)))[:, None] * direction).sum(2)
    maps = ex.integrated_gradients(200)(network, images)
    np.testing.assert_allclose(maps.sum((2, 3)), change, atol=5e-3 * float(change.abs().max()))


@pytest.mark.parametrize("name", ["LRP-gamma", "LRP-z+"])
def test_relevance_is_conserved_without_biases(name, images):
    """What z_L adds to the log-odds arrives at the pixels; z+ keeps it only where a positive contribution is there to take it."""
    network = ex.Network([random_layers(7, bias=0.0)], torch.tensor([0.0, 0.3]))
    with torch.no_grad():
        odds = (network.raw(images).mean((2, 3)) * torch.tensor([-1.0, 1.0])).sum(1)
    total = METHODS[name].maps(network, images)[:, 1].sum((1, 2))
    np.testing.assert_allclose(total, odds, rtol=2e-2 if name == "LRP-gamma" else 0.5)


def test_a_sum_splits_its_relevance_in_proportion():
    """y = x + 3 x(left neighbour) of [1 2] is [1 5]; z_1 = y, z_0 = 0, so the log-odds' relevance at y is [0.5 2.5].

    Of 2.5, 2/5 are the pixel's own and 3/5 its neighbour's: [0.5 + 1.5, 1].
    """
    left = Convolution(torch.tensor([[[[0.0, 0, 0], [3, 0, 0], [0, 0, 0]]]]).double(), torch.zeros(1).double(), 1, 1)
    layers = (convolution([[1.0]], [0.0]), Sum((left,)), Rectifier(), convolution([[0.0], [1.0]], [0.0, 0.0]))
    maps = METHODS["LRP-z+"].maps(ex.Network([layers]), torch.tensor([1.0, 2.0])[None, None, None])
    np.testing.assert_allclose(maps[0].flatten(1), [[-2, -1], [2, 1]], atol=1e-4)


def test_relevance_is_conserved_through_residual_sums(images):
    network = ex.Network([residual_layers(7, bias=0.0)])
    with torch.no_grad():
        odds = (network.raw(images).mean((2, 3)) * torch.tensor([-1.0, 1.0])).sum(1)
    total = METHODS["LRP-gamma"].maps(network, images)[:, 1].sum((1, 2))
    np.testing.assert_allclose(total, odds, rtol=2e-2)


@pytest.mark.parametrize("network", NETWORKS)
def test_our_maps_are_the_references(network, images):
    layers = network(8)
    for name in ("linear, class", "guided, contrast"):
        expected = response_maps(layers, images.double(), *name.split(", "))
        np.testing.assert_allclose(METHODS[name].maps(ex.Network([layers]), images), expected, atol=1e-5)


def test_colours_are_summed():
    layers = random_layers(9)
    grey = replace(layers[0], weight=layers[0].weight.sum(1, keepdim=True).repeat(1, 3, 1, 1) / 3)
    x = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    for name in ("gradient x input", "Integrated Gradients", "occlusion"):
        coloured = METHODS[name].maps(ex.Network([(grey, *layers[1:])]), x.repeat(1, 3, 1, 1))
        np.testing.assert_allclose(coloured, METHODS[name].maps(ex.Network([layers]), x), atol=1e-5)


def test_randomisation_shuffles_the_top_layers_only():
    layers = random_layers(10)
    (mixed,) = ex.shuffled([layers], 2)
    assert ex.convolutions([layers]) == 3
    assert torch.equal(mixed[0].weight, layers[0].weight)
    for place in (3, 5):
        assert not torch.equal(mixed[place].weight, layers[place].weight)
        assert torch.equal(mixed[place].weight.flatten().sort().values, layers[place].weight.flatten().sort().values)


def test_randomisation_reaches_into_residual_sums():
    """Of seven convolutions the last four: the two behind the sum and two of the three in it."""
    layers = residual_layers(11)
    (mixed,) = ex.shuffled([layers], 4)
    assert ex.convolutions([layers]) == 7
    before, after = ([*new[:4], *new[4].layers, *new[5:]] for new in (layers, mixed))
    kept = [torch.equal(a.weight, b.weight) for a, b in zip(before, after, strict=True) if isinstance(a, Convolution)]
    assert kept == [True, True, True, False, False, False, False]
    for a, b in zip(before, after, strict=True):
        if isinstance(a, Convolution):
            assert torch.equal(a.weight.flatten().sort().values, b.weight.flatten().sort().values)


def test_zennit_comes_without_torchvision():
    assert hasattr(ex.zennit_composites(), "EpsilonGammaBox")
    assert "torchvision" not in sys.modules or hasattr(sys.modules["torchvision"], "__version__")
