"""Digits: file formats, training that goes on, strong features and galleries that a person can check."""

from __future__ import annotations

import gzip
import struct
from dataclasses import replace
from functools import partial
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from scipy.io import savemat

from training.digits import gallery, strong
from training.digits import train as learning
from training.digits.__main__ import main
from training.digits.data import Digits, load, read_idx, read_svhn
from training.digits.evaluate import share
from training.digits.report import page
from training.explanations import Network
from training.networks import Architecture, Conv, Sequencer
from training.response_maps.layers import Convolution, Rectifier
from training.response_maps.reference import response_maps

TINY = Architecture(3, 10, ((Conv(4),), (Conv(6),)))


def idx(array: np.ndarray) -> bytes:
    return b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def svhn(tmp_path_factory):
    """Small files in SVHN's official form: 60 + 12 images whose brightness says the digit."""
    folder = tmp_path_factory.mktemp("svhn")
    generator = np.random.default_rng(0)
    for part, count in (("train", 60), ("test", 12)):
        y = np.arange(count)[:, None] % 10 + 1
        x = generator.integers(0, 20, (32, 32, 3, count)) + 20 * y[:, 0]
        savemat(folder / f"{part}_32x32.mat", {"X": x.astype(np.uint8), "y": y.astype(np.uint8)})
    return folder


@pytest.fixture
def layers():
    """Three classes on 8 x 8 px; float32 weights drawn once."""
    torch.manual_seed(0)
    network = Sequencer(Architecture(1, 3, ((Conv(5),), (Conv(6), Conv(6, 1))))).eval()
    return network.folded()


def test_idx_files_plain_and_gzipped(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "plain").write_bytes(idx(array))
    (tmp_path / "packed").write_bytes(gzip.compress(idx(array)))
    for name in ("plain", "packed"):
        np.testing.assert_array_equal(read_idx(tmp_path / name), array)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x00\x00\x0d\x01" + bytes(8), "unsigned bytes"),
        (idx(np.zeros(5, np.uint8))[:-1], "4 values"),
        (b"", "not an idx"),
    ],
)
def test_other_files_are_not_taken_for_idx(tmp_path, content, said):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_idx(tmp_path / "file")


def test_mnist_as_published(data):
    prepared = load("mnist")
    assert [len(part) for part in (prepared.train, prepared.held, prepared.test)] == [55000, 5000, 10000]
    assert prepared.train.images.shape[1:] == (1, 28, 28)
    assert prepared.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert prepared.test.labels[:5].tolist() == [7, 2, 1, 0, 4]


def test_svhn_axes_and_the_digit_zero(tmp_path):
    x = np.zeros((32, 32, 3, 2), np.uint8)
    x[5, 7, 2, 1] = 255  # row 5, column 7, blue, second image
    savemat(tmp_path / "a.mat", {"X": x, "y": np.array([[10], [3]], np.uint8)})
    found = read_svhn(tmp_path / "a.mat")
    assert found.labels.tolist() == [0, 3]
    assert np.argwhere(found.images).tolist() == [[1, 2, 5, 7]]
    for wrong, said in (
        ({"X": x}, "no X and y"),
        ({"X": x, "y": [[11], [1]]}, "not 1..10"),
        ({"X": x, "y": [[1]]}, "1 labels"),
    ):
        savemat(tmp_path / "b.mat", wrong)
        with pytest.raises(ValueError, match=said):
            read_svhn(tmp_path / "b.mat")


def test_svhn_is_split_at_its_end_and_extra_images_are_only_learnt(svhn, tmp_path):
    prepared = load("svhn", svhn)
    assert [len(part) for part in (prepared.train, prepared.held, prepared.test)] == [54, 6, 12]
    whole = read_svhn(svhn / "train_32x32.mat")
    np.testing.assert_array_equal(prepared.held.images, whole.images[54:])
    for name in ("train", "test"):
        (tmp_path / f"{name}_32x32.mat").write_bytes((svhn / f"{name}_32x32.mat").read_bytes())
    (tmp_path / "extra_32x32.mat").write_bytes((svhn / "test_32x32.mat").read_bytes())
    more = load("svhn", tmp_path)
    assert [len(part) for part in (more.train, more.held, more.test)] == [66, 6, 12]
    with pytest.raises(FileNotFoundError, match="name the folder"):
        load("svhn")


def test_augmentation_moves_by_no_more_than_the_plan_says():
    still = learning.Plan(turn=0, stretch=0, shift=0, light=0)
    x = torch.rand(5, 3, 12, 12)
    torch.testing.assert_close(learning.augment(x, still, torch.Generator()), x, atol=1e-5, rtol=0)
    blob = torch.exp(-((torch.arange(28) - 13.5) ** 2)[:, None] / 8 - (torch.arange(28) - 13.5) ** 2 / 8)
    blobs = blob.expand(200, 1, 28, 28)

    def centres(plan):
        moved = learning.augment(blobs, plan, torch.Generator().manual_seed(1))[:, 0]
        weight = moved / moved.sum((1, 2), keepdim=True)
        place = torch.arange(28) - 13.5
        return (weight.sum(1) * place).sum(1), (weight.sum(2) * place).sum(1)

    for axis in centres(replace(still, shift=3.0)):
        assert 2.7 < axis.abs().max() < 3.05
        assert axis.abs().mean() == pytest.approx(1.5, abs=0.25)  # uniform in +-3 px
    for axis in centres(replace(still, turn=90.0)):  # about the centre
        assert axis.abs().max() < 0.01


def test_a_turn_keeps_distances_and_angles():
    plan = learning.Plan(turn=30, stretch=0, shift=0)
    x = torch.zeros(20, 1, 28, 28)
    x[:, 0, 13:15, 20:22] = 1  # 7 px right of the centre
    moved = learning.augment(x, plan, torch.Generator().manual_seed(0))[:, 0]
    weight, place = moved / moved.sum((1, 2), keepdim=True), torch.arange(28) - 13.5
    across, down = (weight.sum(1) * place).sum(1), (weight.sum(2) * place).sum(1)
    torch.testing.assert_close(torch.hypot(across, down), torch.full((20,), 7.0), atol=0.15, rtol=0)
    angle = torch.rad2deg(torch.atan2(down, across)).abs()
    assert 20 < angle.max() < 31


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    labels = np.arange(24) % 10
    digits = Digits((generator.random((24, 3, 8, 8)) * 20 * (1 + labels[:, None, None, None])).astype(np.uint8), labels)
    plan = learning.Plan(epochs=2, batch=8, threads=1)
    whole = learning.train(digits, digits, TINY, tmp_path / "whole", plan)
    watched = learning.accuracy
    calls = []

    def stop_at_the_second(network, held):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return watched(network, held)

    monkeypatch.setattr(learning, "accuracy", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        learning.train(digits, digits, TINY, tmp_path / "parts", plan)
    monkeypatch.setattr(learning, "accuracy", watched)
    parts = learning.train(digits, digits, TINY, tmp_path / "parts", plan)
    read = learning.trained(TINY, tmp_path / "parts")
    for a, b, c in zip(whole.parameters(), parts.parameters(), read.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(b, c)
    assert any(not torch.equal(a, b) for a, b in zip(whole.parameters(), Sequencer(TINY).parameters(), strict=True))
    assert learning.accuracy(whole, digits) == (learning.predict(whole, digits.inputs()).argmax(1) == labels).mean()


@pytest.mark.parametrize(("rule", "start"), [("linear", "class"), ("deconvnet", "class"), ("guided", "contrast")])
def test_one_way_back_gives_the_map_of_each_image_s_own_class(layers, rule, start):
    x = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    chosen = torch.tensor([2, 0, 1, 0])
    expected = response_maps(layers, x, rule, start)[torch.arange(4), chosen]
    torch.testing.assert_close(strong.chosen_maps(layers, x, chosen, rule, start), expected)


def test_grad_cam_by_hand():
    hidden = Convolution(torch.tensor([1.0, -1.0]).double().reshape(2, 1, 1, 1), torch.tensor([0.0, 0.5]).double())
    weight = torch.tensor([[2.0, -1.0], [0.5, 3.0], [-9.0, -9.0]]).double()
    last = Convolution(weight.reshape(3, 2, 1, 1), torch.zeros(3).double())
    network = Network([(hidden, Rectifier(), last)])
    x = torch.tensor([[[[1.0, 0.2], [0.0, 0.1]]]])
    # A_0 = relu(x), A_1 = relu(0.5 - x); class 0 against its strongest rival, class 1: weights (1.5, -4) / 4 positions
    expected = torch.relu((1.5 * x - 4 * torch.relu(0.5 - x)) / 4)[:, 0]
    assert expected.max() > 0
    torch.testing.assert_close(strong.grad_cam(network, x, torch.tensor([0])), expected)


def test_integrated_gradients_are_complete(layers):
    network = Network([layers])
    x = torch.rand(3, 1, 8, 8)
    chosen = torch.tensor([0, 1, 2])
    found = strong.integrated_gradients(network, x, chosen).sum((1, 2))
    with torch.no_grad():
        logits, median = network(x), network(x.flatten(1).median(1).values[:, None, None, None].expand_as(x))
    for k in range(3):
        rival = max((c for c in range(3) if c != k), key=lambda c, k=k: float(logits[k, c]))
        difference = (logits - median)[k, k] - (logits - median)[k, rival]
        assert float(found[k]) == pytest.approx(float(difference), abs=0.03 * max(0.05, abs(float(difference))))


def test_strong_pixels_by_hand():
    response = torch.tensor([[[4.0, 2.0], [1.9, -3.0]], [[-1.0, -2.0], [0.0, -1.0]]])
    assert strong.strong(response, 0.5).tolist() == [[[True, False], [False, False]], [[False, False], [False, False]]]
    assert strong.strong(response, 0.0).tolist() == [[[True, True], [True, False]], [[False, False], [False, False]]]
    x = torch.tensor([[[[5.0, 7.0], [5.0, 5.0]]]])  # median 5
    mask = torch.tensor([[[True, False], [True, False]]])
    assert strong.only(x, mask).tolist() == [[[[5, 5], [5, 5]]]]
    assert strong.only(x, ~mask).tolist() == [[[[5, 7], [5, 5]]]]
    assert strong.ink(x).tolist() == [[[False, True], [False, False]]]


def test_random_pixels_are_as_many_as_asked_for_and_evenly_drawn():
    among = torch.zeros(3000, 3, 3, dtype=torch.bool)
    among[:, 1] = True
    count = torch.tensor([0, 2, 5]).repeat(1000)
    found = strong.drawn(among, count, torch.Generator().manual_seed(0))
    assert found.sum((1, 2)).tolist() == count.clamp(max=3).tolist()
    assert not found[:, [0, 2]].any()
    two = found[count == 2][:, 1].float().mean(0)
    assert two.tolist() == pytest.approx([2 / 3] * 3, abs=0.05)


def test_strong_features_carry_a_decision_that_was_made_to_hang_on_them():
    """Three colours, three classes, logit = mean of the colour: bright red on four pixels, faint green on four others."""
    identity = Convolution(torch.eye(3).double().reshape(3, 3, 1, 1), torch.zeros(3).double())
    network = Network([(identity, Rectifier(), identity)])
    x = torch.zeros(40, 3, 8, 8)
    x[:, 0, 2, 2:6], x[:, 1, 5, 2:6] = 0.9, 0.1
    labels = torch.zeros(40, dtype=torch.int64)
    points = strong.curve(network, x, labels, lambda _, images, said: images[torch.arange(len(images)), said])
    assert [p["threshold"] for p in points] == list(strong.THRESHOLDS)
    for point in points:
        assert (point["only"], point["without"]) == (1, 0)
        assert point["area"] == pytest.approx(4 / 64)
        assert point["ink"] == pytest.approx(0.5)
        assert point["pixels"]["without"] == 1  # four random pixels hardly ever hold all the red
        assert 0.9 < point["ink_control"]["only"] <= 1  # C(8, 4) = 70 draws, one without red
    wrong = strong.curve(network, x, labels + 1, lambda _, images, said: images[torch.arange(len(images)), said])
    assert (wrong[0]["only"], wrong[0]["without"]) == (0, 1)


def test_the_point_nearest_to_the_published_pair():
    points = [{"only": 0.9, "without": 0.4}, {"only": 0.8, "without": 0.5}, {"only": 0.6, "without": 0.43}]
    assert strong.nearest(points, {"only": 0.7989, "without": 0.4345}) is points[1]


def test_pictures_by_hand():
    index, strength = torch.tensor([[0, 5], [-1, 5]]), torch.tensor([[4.0, 2.0], [0.0, 1.0]])
    picture = gallery.clear_picture(index, strength)
    np.testing.assert_allclose(picture[0, 0], [1, 0, 0])  # hue 0, the strongest
    np.testing.assert_allclose(picture[0, 1], [0, 0.5, 0.5])  # hue 1/2, half as strong
    assert picture[1, 0].tolist() == [0, 0, 0]
    assert gallery.owners(index, strength) == "0 57 %, 5 43 %"
    assert gallery.owners(index, strength * 0) == "none"
    assert gallery.clear_picture(index, strength * 0).max() == 0
    sides = gallery.two_sided_picture(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]]))
    np.testing.assert_allclose(sides[0], [[1, 1, 1], [0, 0.5, 0]], atol=1e-6)
    red, blue, black = gallery.binary_picture(torch.tensor([[1, -1, 0]]))[0]
    assert red.argmax() == 0
    assert blue.argmax() == 2
    assert black.max() == 0


def test_examples_are_the_first_of_their_kind():
    labels = np.array([1, 0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6], [0.6, 0.4]])
    x = torch.arange(5.0).reshape(5, 1, 1, 1)
    wrong = gallery.choose(x, labels, probabilities, wrong=True)
    assert [(e.image.item(), e.truth, e.said, e.probability) for e in wrong] == [
        (0, 1, 0, 0.9),
        (1, 0, 1, 0.8),
        (4, 1, 0, 0.6),
    ]
    right = gallery.choose(x, labels, probabilities, wrong=False, count=2)
    assert [(e.image.item(), e.truth) for e in right] == [(2, 0), (3, 1)]


def test_wilson_interval_by_its_formula():
    found = share(np.arange(200) < 190)
    p, n, z = 0.95, 200, 1.959964
    middle, half = (
        (p + z * z / 2 / n) / (1 + z * z / n),
        z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + (z / 2 / n) ** 2),
    )
    assert found["interval"] == pytest.approx([middle - half, middle + half], abs=1e-6)
    assert (found["value"], found["n"], found["errors"]) == (0.95, 200, 10)


def test_commands_from_official_files_to_the_page(svhn, tmp_path, monkeypatch):
    monkeypatch.setitem(learning.NETWORKS, "svhn", TINY)
    monkeypatch.setattr(gallery, "choose", partial(gallery.choose, count=2))
    where = ["--data", str(tmp_path / "runs"), "--results", str(tmp_path / "docs")]
    options = ["--set", "svhn", "--folder", str(svhn)]
    main([*where, "train", *options, "--epochs", "1", "--batch", "16", "--threads", "1"])
    main([*where, "evaluate", *options, "--images", "6"])
    main([*where, "report"])
    text = (tmp_path / "docs" / "digits.md").read_text()
    assert "MNIST was not run" in text
    assert "| SVHN | 3x3/4, pool, 3x3/6, 1x1/10, GAP, softmax |" in text
    assert "n = 6 test images" in text
    assert "1 epochs of 54 images" in text
    ElementTree.parse(tmp_path / "docs" / "digits_svhn_strong.svg")
    assert page({}).count("was not run") == 2
    pictures = list((tmp_path / "docs").glob("digits_svhn_*.png"))
    assert pictures
    for content in (path.read_bytes() for path in pictures):
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">I", content[16:20]) == (660,)
        assert len(content) < 300_000
