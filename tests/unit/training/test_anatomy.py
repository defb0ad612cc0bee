"""Anatomy: the official files' form, and maps, patches and ablations that a person can check."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from training.anatomy import data as sets
from training.anatomy import evaluate, networks, pictures
from training.anatomy import landmarks as lm
from training.anatomy.__main__ import main
from training.anatomy.data import Anatomy, irma_class, read_codes, read_imageclef
from training.digits import train as learning
from training.networks import Architecture, Conv, Sequencer
from training.response_maps.layers import Convolution, Rectifier
from training.response_maps.reference import dominant_units, unit_map

CODES = ("1121-127-700-500", "1121-120-942-700", "1123-211-500-000")
HEADER = "image_id;irma_code;05_irma_code;05_class;06_irma_code;06_class;07_irma_code;08_irma_code"


def write_part(folder, part, version, codes, nested):
    """One part of the official download: a CSV and a folder of PNG files."""
    where = folder / f"ImageCLEFmed2009_{part}.{version}"
    where = where / where.name if nested else where
    where.mkdir(parents=True)
    lines = [HEADER]
    for image, code in codes.items():
        lines.append(f"{image};{code};\\N;12;\\N;7;{code};{code}")
        shade = 40 + 60 * CODES.index(code) if code in CODES else 0
        Image.fromarray(np.full((30, 20), shade, np.uint8)).save(where / f"{image}.png")
    (folder / f"ImageCLEFmed2009_{part}_codes.{version}.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def imageclef(tmp_path):
    """Six, four and two training images of three codes, two test images, and one image without a code."""
    train = {1877 + k: CODES[(0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2)[k]] for k in range(12)} | {5: "\\N"}
    write_part(tmp_path, "train", "02", train, nested=True)
    write_part(tmp_path, "test", "03", {3000: CODES[1], 3001: CODES[2]}, nested=False)
    return tmp_path


@pytest.fixture
def layers():
    torch.manual_seed(0)
    return Sequencer(Architecture(1, 3, ((Conv(4),), (Conv(6), Conv(8, 1))))).eval().folded()


def test_irma_codes_by_their_axes():
    assert irma_class("1121-127-700-500") == "1121-127-700-500"
    assert irma_class("1121127700500", "A") == "700"
    assert irma_class("1121-12F-466-7**", "DB") == "12f-7**"
    for wrong in ("1121-127-700-50", "1121-127-700-5000", "1121-127-700-5?0", ""):
        with pytest.raises(ValueError, match="not an IRMA code"):
            irma_class(wrong)


def test_the_official_table_is_read_by_the_names_of_its_columns(tmp_path):
    path = tmp_path / "codes.csv"
    path.write_text("05_class;irma_code;image_id\n3;1121-127-700-500;00017\n\\N;\\N;18\n", encoding="utf-8-sig")
    assert read_codes(path) == {17: "1121-127-700-500"}
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no columns image_id and irma_code"):
        read_codes(path)


def test_imageclef_takes_the_large_classes_in_the_official_split(imageclef):
    found = read_imageclef(imageclef, least=3, side=24)
    assert found.classes == tuple(sorted(CODES[:2]))
    assert found.images.shape == (11, 24, 24)
    assert found.test.tolist() == [False] * 10 + [True]  # the other test image is of the smallest class
    assert [found.classes[k] for k in found.labels] == [CODES[0]] * 6 + [CODES[1]] * 5
    # 20 x 30 px become 16 x 24 px between black stripes of 4 px
    assert not found.images[:, :, :4].any()
    assert not found.images[:, :, -4:].any()
    assert (found.images[0, :, 4:-4] == 40).all()
    assert (found.images[-1, :, 4:-4] == 100).all()
    assert read_imageclef(imageclef, least=3, classes=1).classes == CODES[:1]
    assert read_imageclef(imageclef, "T", least=3).classes == ("1121",)


def test_what_is_missing_of_imageclef_is_said(imageclef):
    with pytest.raises(ValueError, match="no class has 50"):
        read_imageclef(imageclef)
    next(imageclef.rglob("1880.png")).unlink()
    with pytest.raises(FileNotFoundError, match=r"1 images of train are missing, the first is 1880\.png"):
        read_imageclef(imageclef, least=3)
    (imageclef / "ImageCLEFmed2009_train_codes.02.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"no ImageCLEFmed2009_train_codes\.02\.csv"):
        read_imageclef(imageclef, least=3)
    with pytest.raises(FileNotFoundError, match="name the folder"):
        sets.prepare("imageclef", imageclef)


def test_mednist_and_its_split(data):
    found = sets.read_mednist(data / "mednist" / "mednist_2400.npz")
    assert found.classes == ("AbdomenCT", "BreastMRI", "CXR", "ChestCT", "Hand", "HeadCT")
    assert found.images.shape == (2400, 64, 64)
    by_class = np.bincount(found.labels[found.test])
    assert all(70 <= count <= 130 for count in by_class)  # 100 +- 3.5 standard deviations of a quarter of 400
    assert len(found.part(True)) + len(found.part(False)) == 2400
    assert found.part(True).images.shape[1:] == (1, 64, 64)


@pytest.mark.parametrize("rule", ["linear", "guided"])
def test_maps_of_the_top_units_are_those_of_the_reference(layers, rule):
    x = torch.randn(3, 1, 12, 12, dtype=torch.float64)
    place = lm.last_hidden(layers)
    maps = lm.top_maps(layers, x, 4, rule)
    assert isinstance(layers[place], Rectifier)
    for image in range(3):
        activation = [float(torch.relu(a).sum()) for a in hidden(layers, x[image : image + 1], place)[0]]
        order = np.argsort(-np.array(activation), kind="stable")
        for rank in range(4):
            expected = unit_map(layers, x[image : image + 1], place, int(order[rank]), rule)[0]
            torch.testing.assert_close(maps[image, rank], expected)
    found = lm.dominant(layers, x, 4, rule, batch=2)
    np.testing.assert_allclose(found, dominant_units(layers, x, place, 4, rule).numpy())


def hidden(layers, x, place):
    """The input of layer `place`, step by step."""
    for layer in layers[:place]:
        if isinstance(layer, Convolution):
            x = torch.nn.functional.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding)
        elif isinstance(layer, Rectifier):
            x = torch.relu(x)
        else:
            x = torch.nn.functional.max_pool2d(x, 2)
    return x


def test_patches_and_what_they_leave_by_hand():
    response = np.zeros((1, 8, 8))
    response[0, 5, 1], response[0, 0, 6], response[0, 6, 6] = 3.0, 1.0, -9.0
    quarter, half = lm.patch_masks(response, 0.25), lm.patch_masks(response, 0.5)
    assert quarter[0, 4:, :4].all()
    assert quarter.sum() == 16
    assert half[0, :4, 4:].all()
    assert half.sum() == 32
    x = torch.full((1, 1, 8, 8), 0.2)
    x[0, 0, 5, 1] = 0.9
    assert torch.equal(lm.kept(x, quarter), x)
    assert torch.equal(lm.kept(x, ~quarter), torch.full_like(x, 0.2))


def test_concentration_and_likeness_by_hand():
    response = np.zeros((2, 8, 8))
    response[0, :4, :4], response[0, 7, 7] = 1.0, 4.0  # 16 of 20 in one of four patches
    assert lm.concentration(response, 0.25) == pytest.approx(0.8)  # the empty map is left out
    a, b = np.zeros((1, 2, 2)), np.zeros((1, 2, 2))
    a[0], b[0] = [[1, 2], [3, 4]], [[2, 1], [4, 3]]
    assert lm.likeness(a, b) == pytest.approx(0.6)  # sum of products of deviations 3 / 5
    assert lm.likeness(a, -2 * a + 1) == pytest.approx(-1)


def test_an_ablation_whose_outcome_is_known():
    """Class 1 is said where anything is bright: all evidence lies in one patch, which every good map must name."""
    network = Sequencer(Architecture(1, 2, ((Conv(2, 1),),))).eval()
    with torch.no_grad():
        network.layers[0].weight.copy_(torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1))
        network.layers[-1].weight.copy_(torch.tensor([[0.0, 0.0], [50.0, 0.0]]).reshape(2, 2, 1, 1))
        network.layers[-1].bias.copy_(torch.tensor([0.1, 0.0]))
    x = torch.zeros(30, 1, 20, 20)
    x[:, 0, 8:12, 4:8] = 1
    assert (learning.predict(network, x).argmax(1) == 1).all()
    found = evaluate.responses(network, x)
    table = evaluate.ablation(network, x, np.ones(30, int), found)
    for name in ("top 25 units, linear", "top 25 units, guided", "class map, guided + contrast", "brightness"):
        for point in table[name][1:]:  # 25 patches: one from a share of 0.05 on, if half of one is rounded up
            expected = (1, 0) if round(25 * point["share"]) >= 1 else (0, 1)
            assert (point["only"], point["without"]) == expected, (name, point)
    tenth, half = table["random"][2], table["random"][-1]
    assert tenth["only"] == pytest.approx(2 / 25, abs=0.09)
    assert half["without"] == pytest.approx(13 / 25, abs=0.15)


def test_pictures_by_hand():
    picture = pictures.heat(np.array([[0.0, -5.0], [2.0, 2.0]]))
    assert picture[0].max() < 0.05
    np.testing.assert_allclose(picture[1], 1)
    assert pictures.heat(np.zeros((2, 2))).max() < 0.05
    tiles = pictures.mosaic(np.ones((10, 3, 4)))
    assert tiles.shape == (2 * 4, 5 * 5, 3)
    anatomy = Anatomy(
        np.zeros((5, 4, 4), np.uint8), np.array([0, 1, 0, 1, 1]), np.array([0, 0, 1, 1, 1], bool), ("a", "b")
    )
    assert pictures.examples(anatomy) == [2, 3]


def test_commands_from_prepared_images_to_the_page(tmp_path, monkeypatch):
    """Two kinds of stripes; small networks, one epoch."""
    generator = np.random.default_rng(0)
    labels = np.arange(32) % 2
    images = generator.integers(0, 60, (32, 16, 16))
    images[labels == 0, ::4] += 150
    images[labels == 1, :, ::4] += 150
    (tmp_path / "runs" / "mednist").mkdir(parents=True)
    np.savez(
        tmp_path / "runs" / "mednist" / "prepared.npz",
        images=images.astype(np.uint8),
        labels=labels,
        test=np.arange(32) >= 22,
        classes=np.array(["rows", "columns"]),
    )
    for name, variant in networks.VARIANTS.items():
        cells = ((Conv(26),),) if name == "shallow" else ((Conv(4),), (Conv(26, 1),))
        small = replace(variant, cells=cells, plan=replace(variant.plan, epochs=1, batch=8, threads=1))
        monkeypatch.setitem(networks.VARIANTS, name, small)
    for module in (networks, evaluate):
        monkeypatch.setattr(module, "KEPT", (0, 1))
    where = ["--data", str(tmp_path / "runs"), "--results", str(tmp_path / "docs")]
    for command in ("train", "evaluate", "report"):
        main([*where, command])
    found = json.loads((tmp_path / "docs" / "anatomy.json").read_text())["mednist"]
    assert found["images"] == {"train": 22, "test": 10, "maps": 10}
    for each in found["networks"].values():
        assert [row["epoch"] for row in each["epochs"]] == [0, 1]
        assert each["epochs"][1]["likeness"] == pytest.approx(1)
        assert each["epochs"][1]["accuracy"] == each["test"]["value"]
        assert each["epochs"][0]["likeness"] < 0.999
    text = (tmp_path / "docs" / "anatomy.md").read_text()
    assert "ImageCLEF 2009, the thesis' set, was not run" in text
    for kind in ("ablation", "progress"):
        ElementTree.parse(tmp_path / "docs" / f"anatomy_mednist_{kind}.svg")
    for kind in ("units", "dominant", "epochs"):
        content = (tmp_path / "docs" / f"anatomy_mednist_{kind}.png").read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        assert min(struct.unpack(">II", content[16:24])) > 150
        assert len(content) < 300_000
        assert f"anatomy_mednist_{kind}.png" in text
