"""Table 3.1's network, its training, its layers for response maps, and what the maps are measured with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from training.crystals import data, landmarks, train
from training.crystals import prototypes as p
from training.crystals.networks import CONVOLUTIONS, Classifier, layers_of, probabilities
from training.response_maps.layers import Convolution, Rectifier
from training.response_maps.reference import forward, unit_map


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def network() -> Classifier:
    torch.manual_seed(0)
    made = Classifier(7)
    assert made.norm.running_mean is not None and made.norm.running_var is not None
    made.norm.running_mean.normal_()
    made.norm.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(made.norm.weight)
    torch.nn.init.normal_(made.norm.bias)
    torch.nn.init.normal_(made.last.bias)
    return made.eval()


def test_table_31(network: Classifier) -> None:
    """Weights and biases counted by hand: 7 x 7 x in x out + out for convolutions, 2048 x 128, batch norm, 128 x 7."""
    convolutions = sum(49 * i * o + o for i, o in ((3, 32), (32, 32), (32, 16), (16, 16), (16, 8), (8, 8)))
    assert sum(weight.numel() for weight in network.parameters()) == convolutions + 2048 * 128 + 128 + 256 + 128 * 7 + 7
    assert network.dropout.p == 0.25
    x = torch.rand(1, 3, 64, 64)
    assert network.features(x).shape == (1, 8, 16, 16)
    assert all(isinstance(network.features[place], torch.nn.Conv2d) for place in CONVOLUTIONS)
    assert network(x).shape == (1, 7)


def test_layers_are_the_same_function(network: Classifier) -> None:
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    layers = layers_of(network)
    with torch.no_grad():
        expected = network.double()(x)
        network.float()
    assert forward(layers, x).output[:, :, 0, 0].numpy() == pytest.approx(expected.numpy(), abs=1e-10)
    assert all(isinstance(layers[place], Convolution) for place in CONVOLUTIONS)
    assert all(isinstance(layers[place], Rectifier) for place in landmarks.LAYERS.values())
    assert list(landmarks.LAYERS.values()) == [CONVOLUTIONS[k] + 1 for k in (0, 2, 5)]
    told = probabilities(network, x.float(), batch=1)
    assert told.numpy() == pytest.approx(expected.softmax(1).numpy(), abs=1e-5)


def test_a_template_is_the_sum_of_the_units_maps(network: Classifier) -> None:
    """The way back is linear in its start, with `linear`: eight maps added are one map of all."""
    layers, x = layers_of(network), torch.rand(1, 3, 64, 64, dtype=torch.float64)
    last = landmarks.LAYERS["last"]
    one_by_one = sum(unit_map(layers, x, last, unit) for unit in range(8))
    whole = landmarks.template(layers, x, "linear")
    assert isinstance(one_by_one, torch.Tensor)
    assert whole.numpy() == pytest.approx(one_by_one.numpy(), rel=1e-9, abs=1e-9 * float(whole.abs().max()))
    strongest = landmarks.unit_maps(layers, x, last, "linear")
    sums = forward(layers[: last + 1], x).output.sum((2, 3))[0]
    assert strongest.shape == (4, 64, 64)
    assert torch.equal(strongest[0], unit_map(layers, x, last, int(sums.argmax()))[0])


def test_share_in_spots_by_hand() -> None:
    """Half of the positive response on the one spot; the negative does not count; a map of zeros is left out."""
    x = torch.zeros(2, 3, 64, 64, dtype=torch.float64)
    x[:, 1, 20, 20], x[:, 0, 40, 40] = 1.0, 0.05
    maps = torch.zeros(2, 64, 64, dtype=torch.float64)
    maps[0, 20, 20], maps[0, 40, 40], maps[0, 5, 5] = 3.0, 2.0, 1.0
    maps[0, 20, 21] = -100.0
    found = landmarks.share_in_spots(maps, x)
    assert found["share"] == pytest.approx(0.5) and found["peak"] == 1.0 and found["n"] == 1
    assert found["null"] == pytest.approx(1 / landmarks.ring().sum())
    stripes = torch.rand(3, 64, 64, dtype=torch.float64)
    assert landmarks.correlation(stripes, 3 * stripes + 1) == pytest.approx(1)
    assert landmarks.correlation(stripes, -stripes) == pytest.approx(-1)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Two structures a class of one element a part, each class lit in a place of its own."""
    elements = {data.part_of(symbol): symbol for symbol in ("Fe", "Al", "V", "Ac", "Cs", "Ba", "Au", "Cu")}
    assert set(elements) == {"train", "validate", "test"}
    for state in data.STATES:
        for number, kind in enumerate(p.CLASSES):
            images = np.zeros((6, 3, 64, 64), np.float16)
            images[:, number % 3, 7 * number : 7 * number + 7] = 1
            np.savez(tmp_path / f"{state}_{kind}.npz", images=images, elements=np.repeat(list(elements.values()), 2))
    return tmp_path


def test_loading_keeps_elements_apart(prepared: Path) -> None:
    known, tested = data.load(prepared, "train", data.STATES), data.load(prepared, "test", ("pristine",))
    assert len(known.kind) == 32 and len(tested.kind) == 16
    assert not set(known.elements) & set(tested.elements)
    assert all(image[k % 3, 7 * k].min() == 1 for image, k in zip(known.images, known.kind, strict=True))
    with pytest.raises(FileNotFoundError, match="training.crystals prepare"):
        data.load(prepared / "none", "train", data.STATES)


def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    task, plan = train.TASKS[0], train.Plan(epochs=2, batch=8)
    whole = train.train(prepared, task, plan)
    again = tmp_path_factory.mktemp("again")
    for path in prepared.glob("*.npz"):
        (again / path.name).write_bytes(path.read_bytes())
    calls = []

    def stop_in_the_second(network: Classifier, images: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return probabilities(network, images)

    with monkeypatch.context() as patch:
        patch.setattr(train, "probabilities", stop_in_the_second)
        with pytest.raises(KeyboardInterrupt):
            train.train(again, task, plan)
    resumed = train.train(again, task, plan)
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(train.load_network(again, task).last.weight, whole.last.weight)
    found = train.summary(again)["networks"]["thesis"]
    assert found["structures"] == 16 and found["elements"] == 1 and found["epochs"] == 2
    assert found["pristine"]["n"] == 16 and sum(map(sum, found["pristine"]["confusion"])) == 16
    with pytest.raises(FileNotFoundError, match="training.crystals train"):
        train.load_network(again, train.TASKS[1])


def test_classes_and_schedule() -> None:
    assert [p.MERGED[k] for k in p.TO_MERGED] == ["bct139", "bct141", "hex/rh", "hex/rh", "sc", "fcc", "diam", "bcc"]
    assert train.TASKS[0].target(np.array([2, 3, 7])).tolist() == [2, 2, 6]
    assert train.TASKS[1].target(np.array([2, 3, 7])).tolist() == [2, 3, 7]
    assert [train.schedule(step, 8) for step in (0, 3, 4, 6, 8)] == pytest.approx([1, 1, 1, 0.5, 0])
