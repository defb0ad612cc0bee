"""The comparison against lesions, on small photographs and a network that sees bright spots: they speak for severe disease."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch

from training import explanations as ex
from training.comparison import code
from training.response_maps.layers import Convolution, Rectifier
from training.response_maps.onnx_graph import build
from training.retina import comparison, comparison_page, figures
from training.retina.comparison import DEFAULT, Settings, Task, measure, perform_all, tasks
from training.retina.lesions import KINDS, Drawn
from training.retina.questions import asked, logits, occlusion, referable_map, sides, softmax

SIDE = 32
SETTINGS = Settings(2, 8, 8, costly=2, occluded=1, curves=1, checked=1)
CORNERS = {"test/IDRiD_55.jpg": (8, 8), "test/IDRiD_56.jpg": (18, 6), "test/IDRiD_57.jpg": (9, 20)}


def convolution(weight: list, bias: list) -> Convolution:
    return Convolution(torch.tensor(weight)[:, :, None, None].double(), torch.tensor(bias).double())


def layers() -> tuple:
    """a = relu(x_0 - 1), b = relu(1 - x_0): bright speaks for grades 2 to 4, most for 3; dark a little for 0."""
    kernels = [[0.0, 0.5], [0.0, 0.0], [40.0, 0.0], [100.0, 0.0], [20.0, 0.0]]
    return convolution([[1.0, 0, 0], [-1.0, 0, 0]], [-1.0, 1.0]), Rectifier(), convolution(kernels, [0.0] * 5)


def photograph(name: str) -> Drawn:
    """A bright exudate of 6 x 6 px whose middle is brightest, a disc of 5 x 5 px, an unlit rim of 2 px."""
    top, left = CORNERS[name]
    image = np.zeros((3, SIDE, SIDE), np.float32)
    image[:, 2:-2, 2:-2] = 0.1
    image[:, top : top + 6, left : left + 6] = 2
    image[:, top + 3, left + 3] = 3
    masks = np.zeros((len(KINDS), SIDE, SIDE), bool)
    masks[KINDS.index("EX"), top : top + 6, left : left + 6] = True
    masks[KINDS.index("OD"), 25:30, 25:30] = True
    square = np.full((SIDE, SIDE, 3), 90, np.uint8)
    return Drawn(name, 3 if name.endswith("55.jpg") else -1, square, image, masks)


@pytest.fixture(scope="module")
def network() -> ex.Network:
    return ex.Network([layers()])


def test_the_sides_of_referable_are_the_gradient_of_its_log_odds():
    z = torch.tensor([0.3, -0.2, 1.0, 0.4, -1.0], dtype=torch.float64, requires_grad=True)
    p = z.softmax(0)
    (p[2:].sum().log() - p[:2].sum().log()).backward()
    against, speaks = sides(z.detach().numpy(), "referable")
    np.testing.assert_allclose(speaks - against, z.grad.numpy(), atol=1e-12)
    np.testing.assert_array_equal(sides(z.detach().numpy(), "grade"), np.eye(5)[[3, 2]])


def test_a_question_is_a_network_of_two_classes(network):
    x = torch.from_numpy(photograph("test/IDRiD_55.jpg").image)[None]
    weights = np.random.default_rng(0).random((2, 5))
    with_prior = ex.Network([layers()], torch.arange(5.0))
    np.testing.assert_allclose(
        logits(asked(with_prior, weights), x.numpy(), 1)[0], weights @ logits(with_prior, x.numpy(), 1)[0], rtol=1e-5
    )
    # the map of the answered grade against its rival is the whole network's own
    own = ex.input_x_gradient(network, x)[0, 3]
    pair = sides(logits(network, x.numpy(), 1)[0], "grade")
    np.testing.assert_allclose(ex.input_x_gradient(asked(network, pair), x)[0, 1], own, atol=1e-5)


def test_softmax_and_the_referable_map():
    np.testing.assert_allclose(softmax(np.array([[0.0, np.log(3)], [1000, 1000]])), [[0.25, 0.75], [0.5, 0.5]])
    maps = np.array([5.0, 5, -1, 2, 3])[:, None, None]
    assert referable_map(maps) == 5


@pytest.mark.parametrize(("patch", "stride"), [(4, 4), (8, 4)])
def test_occlusion_of_all_classes_is_captums(patch, stride):
    generator = torch.Generator().manual_seed(0)

    def random(outputs: int, inputs: int, kernel: int) -> Convolution:
        weight = torch.randn(outputs, inputs, kernel, kernel, generator=generator).double()
        return Convolution(weight, torch.zeros(outputs).double(), 1, kernel // 2)

    small = ex.Network([(random(4, 3, 3), Rectifier(), random(5, 4, 1))])
    x = torch.zeros(1, 3, 16, 16)
    x[:, :, 2:10, 3:11] = torch.randn(1, 3, 8, 8, generator=generator)  # the median, Captum's baseline here, is zero
    falls = occlusion(small, x[0].numpy(), patch, stride, 3)
    expected = ex.occlusion(patch, stride)(small, x)[0]
    found = np.tensordot(ex.directions(small(x).detach())[0].numpy(), falls, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


def test_where_a_map_lies_by_hand():
    drawn = photograph("test/IDRiD_55.jpg")
    response = np.zeros((SIDE, SIDE))
    response[9, 9], response[27, 27], response[15, 3], response[20, 20] = 3, 2, 1, -50
    found = comparison.placed(response, drawn)
    assert found["lesions"] == found["EX"] == pytest.approx(3 / 6)
    assert found["OD"] == pytest.approx(2 / 6)
    assert found["MA"] == 0
    assert (found["pointing"], found["pointing_exact"]) == (1, 1)
    response[9, 9], response[13, 15] = 0, 9  # two columns beside the exudate
    found = comparison.placed(response, drawn)
    assert (found["lesions"], found["pointing"], found["pointing_exact"]) == (0, 1, 0)
    assert set(comparison.placed(-np.ones((SIDE, SIDE)), drawn).values()) == {0.0}
    nulls = comparison.nulls(drawn)
    assert nulls["lesions"] == nulls["EX"] == pytest.approx(36 / 28**2)
    assert nulls["OD"] == pytest.approx(25 / 28**2)
    assert set(nulls) == set(found)


def test_one_photograph(network):
    drawn = photograph("test/IDRiD_55.jpg")
    numbers, maps = measure(network, drawn, Task(drawn.name, costly=True, occluded=True, curves=True), SETTINGS)
    assert int(np.argmax(numbers["logits"])) == 3
    for question in ("grade", "referable"):
        for name in (DEFAULT, "guided, class", "Grad-CAM", "LRP-z+", "Integrated Gradients"):
            place = numbers["place"][question][name]
            assert place["pointing_exact"] == 1, (question, name)
            assert place["lesions"] > 0.8, (question, name)
        assert numbers["place"][question]["noise"]["lesions"] == pytest.approx(numbers["nulls"]["lesions"], rel=0.2)
        assert numbers["place"][question]["drawn lesions"]["lesions"] == 1
    assert set(numbers["place"]["grade"]) == set(ex.methods()) | set(comparison.CONTROL_TEXTS)
    effects = {change: np.array(p) for change, p in numbers["effects"].items()}
    np.testing.assert_allclose(effects["photograph"], softmax(np.array(numbers["logits"])))
    np.testing.assert_allclose(effects["disc filled"], effects["photograph"], atol=1e-3)
    assert effects["lesions filled"].argmax() == 0
    assert effects["turned lesions filled"].argmax() == 3
    deletion = {name: values["deletion"] for name, values in numbers["curves"].items()}
    assert deletion["drawn lesions"] < min(deletion["noise"], deletion["turned lesions"])
    assert maps["classes"].shape == (5, SIDE, SIDE)
    np.testing.assert_array_equal(maps[DEFAULT], maps["classes"][3])


def test_small_subsets_are_within_larger_ones():
    todo = tasks([f"test/{k}.jpg" for k in range(10)], Settings(costly=6, occluded=3, curves=4, checked=1))
    counts = [sum(getattr(task, part) for task in todo) for part in ("costly", "occluded", "curves", "checked")]
    assert counts == [6, 3, 4, 1]
    assert len({task.name for task in todo}) == 10
    assert all(task.costly for task in todo if task.occluded or task.curves or task.checked)


def test_passes_are_as_small_as_they_are_asked_to_be():
    before = ex.BATCH
    with comparison.passes_of(3):
        assert ex.BATCH == 3
    assert before == ex.BATCH


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retina")
    weights = folder / "model.onnx"
    onnx.save(build([layers()], (3, SIDE, SIDE)), weights)
    classes = [{"name": str(k), "label": f"Grade {k}", "color": f"#{k}0{k}0FF"} for k in range(5)]
    about = {"classes": classes, "response_maps": {"rule": "guided", "start": "contrast", "reference": 1.0}}
    (folder / "model.json").write_text(json.dumps(about))
    with pytest.MonkeyPatch.context() as patch:
        for module in (comparison, figures):
            patch.setattr(module, "read", lambda data, name: photograph(name))
        patch.setattr(comparison_page, "names", lambda data, split: sorted(CORNERS))
        result = comparison_page.write(
            folder / "results",
            weights,
            [["test/IDRiD_56.jpg", "test/IDRiD_57.jpg"]],
            SETTINGS,
            workers=0,
            data=folder,
            cache=folder / "cache",
        )
    return folder, result


def test_numbers_of_the_page(written):
    folder, result = written
    assert json.loads((folder / "results/retina_evidence.json").read_text()) == result
    assert (result["photographs"], result["graded"], result["right"]) == (3, 1, 1)
    assert result["said"] == {"0": 0, "1": 0, "2": 0, "3": 3, "4": 0}
    ours = result["methods"][DEFAULT]
    assert ours["grade"]["lesions"]["value"] == pytest.approx(1, abs=0.01)
    assert ours["grade"]["lesions"]["ratio"]["value"] == pytest.approx(28**2 / 36, rel=0.01)
    assert ours["grade"]["default_minus_this"]["value"] == 0
    assert ours["types"]["EX"]["n"] == 3
    assert ours["types"]["MA"]["n"] == 0
    assert ours["said"]["3"]["lesions"]["n"] == 3
    assert ours["true"]["3"]["lesions"]["n"] == 1
    counts = {name: result["methods"][name]["grade"]["lesions"]["n"] for name in ("LRP-gamma", "occlusion", "noise")}
    assert counts == {"LRP-gamma": 2, "occlusion": 1, "noise": 3}
    assert result["methods"]["Grad-CAM"]["class_correlation"]["n"] <= ours["class_correlation"]["n"] == 3
    assert ours["deletion"]["n"] == ours["stability"]["n"] == 1
    assert result["effects"]["lesions filled"]["answer_changes"]["value"] == 1
    assert result["effects"]["lesions filled"]["expected_grade_change"]["value"] < -1
    held = result["held_out"]
    assert held["photographs"] == 2
    assert held["methods"][DEFAULT]["grade"]["pointing"]["value"] == 1
    assert set(held["methods"]) == {name for name, method in ex.methods().items() if method.ours}


def test_page_and_picture(written):
    folder, result = written
    page = (folder / "results/retina_evidence.md").read_text()
    assert (folder / "results/retina_evidence.png").read_bytes().startswith(b"\x89PNG")
    assert "CC BY 4.0" in page
    for method in result["methods"].values():
        assert method["text"].replace("|", "\\|") in page
    for line in page.splitlines():
        assert "nan" not in line
    table = page.split("## Does the grade's map lie on lesions?")[1].split("## ")[0]
    bold = {name for name in ex.methods() if f"| {code(name)} | 3 | **" in table}
    shares = {name: result["methods"][name]["grade"]["lesions"] for name in ex.methods()}
    everywhere = {name: entry["value"] for name, entry in shares.items() if entry["n"] == 3}
    assert bold == {name for name, value in everywhere.items() if value == max(everywhere.values())}


def test_the_first_are_equal_methods_measured_on_as_many_photographs_as_the_default():
    figures = {DEFAULT: (0.5, 3), "a": (0.7, 3), "b": (0.7, 3), "on fewer": (0.9, 2), "not at all": (None, 0)}
    methods = {name: {"kind": "peer", "share": {"value": v, "n": n}} for name, (v, n) in figures.items()}
    methods["control"] = {"kind": "control", "share": {"value": 1.0, "n": 3}}
    assert comparison_page.first({"methods": methods}, lambda of: of["share"]) == {"a", "b"}


def test_what_was_measured_is_not_measured_again(written, monkeypatch):
    folder, _ = written
    cache = folder / "cache" / comparison.key(folder / "model.onnx", SETTINGS)

    def fail(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(comparison, "measure", fail)
    todo = tasks(sorted(CORNERS), SETTINGS)
    numbers = perform_all(todo, folder / "model.onnx", folder, cache, SETTINGS, 0)
    assert [of["name"] for of in numbers] == sorted(CORNERS)
    assert comparison.key(folder / "model.onnx", Settings()) != cache.name


def test_one_part_a_network_is_held_out(written, tmp_path):
    folder, _ = written
    with pytest.raises(ValueError, match="1 networks cannot have left out 2 parts"):
        comparison_page.write(tmp_path, folder / "model.onnx", [[], []])
