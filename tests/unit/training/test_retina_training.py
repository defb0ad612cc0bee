"""The retina networks learn in stages and leave out whom they must; calibration and figures on answers made by hand."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from scipy.special import softmax

from models.bundle import ROOT
from models.bundle import load as load_bundle
from training.networks import EFFICIENTNET_LITE0, Inverted, Sequencer, clear_dr, load_pretrained
from training.response_maps.onnx_graph import read_members
from training.response_maps.reference import ensemble_forward, forward
from training.retina import evaluate, export, networks, study
from training.retina import train as retina
from training.retina.data import Photograph, Prepared, load

SMALL = Inverted(tuple(replace(stage, blocks=1) for stage in EFFICIENTNET_LITE0[:4]), last=8)


def photograph(source: str, patient: str, **changed) -> Photograph:
    plain = {"archive": "a", "member": patient, "grade": 0, "part": "train", "eye": "", "dme": -1, "fold": 0}
    return Photograph(source=source, patient=patient, **plain | changed)


@pytest.fixture(scope="module")
def prepared_arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every source in every fold, all grades."""
    folder = tmp_path_factory.mktemp("retina")
    generator = np.random.default_rng(0)
    items = []
    for fold in range(8):
        part = "test" if fold == 0 else "train"
        grade, name = (fold + 3) % 5, f"eyepacs {fold}"
        items.append(photograph("eyepacs_equalised", f"{name} alone", grade=grade, fold=fold, part=part))
        for source in ("eyepacs_natural", "eyepacs_equalised"):
            items.append(photograph(source, f"{name} both", grade=grade, fold=fold, part=part))
        name = f"idrid {fold}"
        items.append(photograph("idrid", name, grade=fold % 5, fold=fold, dme=fold % 3))
        items.append(photograph("idrid_lesions", name, grade=fold % 5, fold=fold))
    images = generator.integers(100, 120, (len(items), 3, 512, 512), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    np.save(folder / "lesions.npy", generator.integers(0, 2, (len(items), 4, 64, 64), dtype=np.uint8))
    (folder / "photographs.json").write_text(json.dumps([asdict(item) for item in items]))
    return folder


@pytest.fixture
def folder(tmp_path: Path, prepared_arrays: Path) -> Path:
    """The prepared arrays in a folder of their own."""
    for name in ("images.npy", "lesions.npy", "photographs.json"):
        (tmp_path / name).symlink_to(prepared_arrays / name)
    return tmp_path


def patients(prepared: Prepared, rows: np.ndarray) -> set[str]:
    return {prepared.items[k].patient for k in rows}


def test_a_member_leaves_out_the_test_part_and_its_folds(folder: Path) -> None:
    prepared = load(folder)
    for member in networks.MEMBERS:
        split = retina.member_split(prepared, member.folds)
        learnt = [prepared.items[k] for k in split.train]
        held = [prepared.items[k] for k in split.held]
        assert not any(item.part == "test" for item in learnt + held)
        assert not {item.patient for item in learnt} & {item.patient for item in held}
        assert {item.fold for item in held} <= set(member.folds)
        assert not any(item.fold in member.folds for item in learnt if item.source != "eyepacs_equalised")
        assert any(item.fold in member.folds for item in learnt if item.source == "eyepacs_equalised")
        assert not any("alone" in item.patient for item in held)
    held = np.concatenate([retina.member_split(prepared, member.folds).held for member in networks.MEMBERS])
    asked = [k for k, i in enumerate(prepared.items) if i.part == "train" and "alone" not in i.patient]
    assert sorted(held) == asked  # together they answer every photograph once


def test_nobody_whom_a_member_answers_taught_the_network_that_it_started_from(folder: Path) -> None:
    prepared = load(folder)
    learnt = patients(prepared, retina.pretraining_split(prepared).train)
    for member in networks.MEMBERS:
        assert not learnt & patients(prepared, retina.member_split(prepared, member.folds).held)
    assert learnt and all("alone" in name for name in learnt)


def test_an_epoch_has_the_shares_of_its_sources(folder: Path) -> None:
    prepared = load(folder)
    split = retina.member_split(prepared, (1, 5))
    rows = retina.draw(prepared, split, 200, np.random.default_rng(0))
    found = {source: sum(prepared.items[k].source == source for k in rows) for source in split.shares}
    assert found == {source: round(200 * share) for source, share in split.shares.items()}
    assert set(rows) <= set(split.train)


def test_training_goes_through_its_stages_and_answers_what_was_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "ARCHITECTURE", SMALL)
    monkeypatch.setattr(networks, "load_pretrained", lambda *_: None)
    monkeypatch.setattr(networks, "imagenet_weights", Path)
    plan = retina.Plan(pretraining=((64, 1),), stages=((64, 1), (96, 1)), draws=16, batch=8)
    networks.pretrain(folder, plan)
    member = networks.MEMBERS[1]
    networks.perform(member, folder, plan)
    log = [json.loads(line) for line in (folder / member.name / "log.jsonl").read_text().splitlines()]
    assert [entry["size"] for entry in log] == [64, 96]
    assert set(log[0]["kappa"]) == {"idrid", "eyepacs_natural"}
    with pytest.raises(FileNotFoundError):
        networks.held_out(folder)
    monkeypatch.setattr(networks, "MEMBERS", (member,))
    answers, prepared = networks.held_out(folder), load(folder)
    assert {prepared.items[k].fold for k in answers.rows} == set(member.folds)
    assert answers.logits.shape == (len(answers.rows), 5) and answers.oedema.shape == (len(answers.rows), 3)
    x = retina.at_size(prepared.images[answers.rows[:2]])
    with torch.no_grad():
        again = networks.network(folder / member.name)(x)
    np.testing.assert_allclose(answers.logits[:2], again.double(), atol=1e-4)
    # A second call finds everything done and trains nothing.
    networks.perform(member, folder, plan)
    assert len((folder / member.name / "log.jsonl").read_text().splitlines()) == 2


def test_without_equalised_copies_the_members_start_from_imagenet(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The official download of EyePACS has natural colours only."""
    monkeypatch.setattr(networks, "ARCHITECTURE", SMALL)
    monkeypatch.setattr(networks, "load_pretrained", lambda network, _: network.layers[0].weight.data.fill_(0.25))
    items = [item for item in load(folder).items if item.source != "eyepacs_equalised"]
    (folder / "photographs.json").unlink()
    (folder / "photographs.json").write_text(json.dumps([asdict(item) for item in items]))
    networks.pretrain(folder, retina.Plan())
    assert (networks.network(folder / networks.PRETRAINING).layers[0].weight == 0.25).all()
    shares = retina.member_split(load(folder), (1, 5)).shares
    assert sum(shares.values()) == pytest.approx(1) and set(shares) == {"idrid", "idrid_lesions", "eyepacs_natural"}
    assert shares["idrid"] / shares["eyepacs_natural"] == pytest.approx(
        retina.SHARES["idrid"] / retina.SHARES["eyepacs_natural"]
    )


def test_stray_evidence() -> None:
    """Four places in a row, a lesion in the first: its neighbour counts as near, a third of the evidence lies far. By hand."""
    lesions = torch.zeros(3, 4, 2, 8)
    lesions[:, 1, 0, 1] = 1
    z = torch.zeros(3, 5, 1, 4)
    z[:, 2, 0] = torch.tensor([1.0, 1.0, 0.0, 1.0])
    grade = torch.tensor([2, 4, 0])
    assert retina.stray(z, lesions, grade).item() == pytest.approx(1 / 3, abs=1e-3)  # grades 4 and 0 are not asked
    z[:, 2, 0, 3] = 0
    assert retina.stray(z, lesions, grade).item() == pytest.approx(0)
    assert retina.stray(z, lesions * 0, grade).item() == 0


def test_one_sided_evidence_speaks_against_no_grade(folder: Path, tmp_path: Path) -> None:
    architecture = replace(SMALL, evidence=(8.0, 16.0, 16.0, 16.0, 16.0), one_sided=True)
    torch.manual_seed(0)
    network = retina.Taught(architecture)
    network.sequencer.layers[-1].weight.data.mul_(0.01)
    prepared = load(folder)
    plan = replace(retina.Plan(), draws=64, batch=8)
    split = retina.member_split(prepared, (0, 4))
    learnt = retina.train(network, prepared, split, tmp_path / "one", ((64, 2),), 0.05, plan).sequencer
    kernels = network.sequencer.layers[-1].weight.detach()
    assert kernels.min() == 0 < kernels.max()  # some would have become negative
    assert learnt.prior.abs().max() > 0
    with torch.no_grad():
        x = torch.randn(2, 3, 64, 64)
        z = learnt.raw(x)
        assert z.min() >= 0
        torch.testing.assert_close(learnt(x), z.mean((2, 3)) + learnt.prior)
        torch.testing.assert_close(forward(learnt.folded(), x.double()).output.float(), z, rtol=1e-3, atol=1e-3)


def test_an_ensemble_answers_with_the_priors_that_its_members_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    trained = {member.name: Sequencer(replace(SMALL, one_sided=True)).eval() for member in networks.MEMBERS}
    for each in trained.values():
        each.prior.data.normal_()
    monkeypatch.setattr(export, "network", lambda folder: trained[folder.name])
    slope, shift = 0.5, np.arange(5.0)
    members, prior = export.ensemble(Path(), slope, shift)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = torch.stack([slope * each(x) for each in trained.values()]).mean(0) + torch.from_numpy(shift)
    logits, _ = ensemble_forward(members, x.double(), prior=prior)
    torch.testing.assert_close(logits, expected.double(), rtol=1e-4, atol=1e-4)


def test_the_card_says_what_the_shipped_network_is() -> None:
    """A place never speaks against a grade, and the prior that is answered without any evidence is the one in the card."""
    bundle = load_bundle(ROOT / "clear_dr")
    members, prior = read_members(onnx.load(ROOT / "clear_dr" / "model.onnx"))
    assert prior is not None and len(members) == 4
    assert all((last.weight >= 0).all() and (last.bias >= 0).all() for *_, last in members)
    assert bundle.description["calibration"]["prior_logits"] == pytest.approx(prior.tolist(), abs=1e-5)
    healthy = f"no retinopathy, with probability {softmax(prior.numpy())[0]:.2f}"
    assert any(healthy in line for line in bundle.description["limits_of_use"])


def test_soft_labels_fall_with_the_distance() -> None:
    labels = retina.soft_labels(torch.tensor([0, 2]), 1.6)
    torch.testing.assert_close(labels.sum(1), torch.ones(2))
    assert (labels[0].diff() < 0).all() and labels[1].argmax() == 2
    torch.testing.assert_close(labels[1, 1], labels[1, 3])
    torch.testing.assert_close(labels[0, 1] / labels[0, 0], torch.exp(torch.tensor(-1.6)))


def test_augmentation_moves_lesions_with_their_photograph() -> None:
    """A bright block and its label stay together under flips, rotation, scale and shift."""
    images = torch.full((6, 3, 512, 512), 128, dtype=torch.uint8)
    images[:, :, 200:264, 280:344] = 250
    labels = torch.zeros(6, 4, 64, 64, dtype=torch.uint8)
    labels[:, :, 25:33, 35:43] = 1
    x, y = retina.augment(images, labels, 512, torch.Generator().manual_seed(0))
    for image, label in zip(x, y, strict=True):
        bright = torch.nn.functional.avg_pool2d(image.mean(0)[None], 8)[0] > 1.5
        marked = label[0] > 0.5
        assert (bright & marked).sum() / (bright | marked).sum() > 0.6


def test_augmentation_cuts_fields_off_with_their_lesions() -> None:
    """Of a photograph that is bright everywhere, more goes than turning and shrinking take, and no lesion stays in the dark."""
    images = torch.full((40, 3, 512, 512), 250, dtype=torch.uint8)
    x, y = retina.augment(images, torch.ones(40, 4, 64, 64, dtype=torch.uint8), 512, torch.Generator().manual_seed(1))
    bright = torch.nn.functional.avg_pool2d(x.mean(1, keepdim=True), 8)[:, 0] > 1
    area = bright.float().mean((1, 2))
    assert area.min() < 0.65 < area.median()  # by geometry alone never below 0.7
    assert (bright == (y[:, 0] > 0)).float().mean() > 0.99


def test_imagenet_weights_go_into_their_places() -> None:
    weights = networks.imagenet_weights()
    state = torch.load(weights, map_location="cpu", weights_only=True)
    network = Sequencer(networks.ARCHITECTURE)
    before = network.layers[-1].weight.clone()
    load_pretrained(network, weights)
    torch.testing.assert_close(network.layers[0].weight, state["_conv_stem.weight"])
    block = network.layers[networks.ARCHITECTURE.depth(5) - 1].body
    torch.testing.assert_close(block[3].weight, state["_blocks.10._depthwise_conv.weight"])
    torch.testing.assert_close(block[7].running_var, state["_blocks.10._bn2.running_var"])
    torch.testing.assert_close(network.layers[-1].weight, before)


@pytest.mark.parametrize("architecture", [SMALL, clear_dr((4, 4, 8, 8, 8))])
def test_the_middle_has_a_value_for_eight_pixels(architecture) -> None:
    taught = retina.Taught(architecture).eval()
    with torch.no_grad():
        z, lesions, oedema = taught(torch.zeros(1, 3, 128, 128))
        assert lesions.shape == (1, 4, 16, 16) and oedema.shape == (1, 3)
        torch.testing.assert_close(z.mean((2, 3)), taught.sequencer(torch.zeros(1, 3, 128, 128)))


def test_calibration_finds_the_slope_and_shift_that_made_the_answers() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (20000, 5))
    shift = np.array([1.0, -1.0, 0.5, 0.0, -0.5])
    p = softmax(0.6 * logits + shift, axis=1)
    grade = (generator.random((len(p), 1)) > p.cumsum(1)[:, :-1]).sum(1)
    slope, found = networks.calibrate(logits, grade)
    assert slope == pytest.approx(0.6, abs=0.03)
    np.testing.assert_allclose(found, shift, atol=0.1)


def cases(grades: list[int], said: list[int], certain: float = 0.75) -> evaluate.Cases:
    p = np.full((len(said), 5), (1 - certain) / 4)
    p[np.arange(len(said)), said] = certain
    return evaluate.Cases(np.array(grades), np.array([f"p{k}" for k in range(len(said))]), p)


def test_figures_of_answers_made_by_hand() -> None:
    c = cases([0, 0, 0, 1, 2, 3, 4, 4], [0, 0, 2, 0, 2, 3, 4, 2])
    found = {entry["name"]: entry for entry in evaluate.figures(c, "d", "s")}
    assert found["accuracy"]["value"] == pytest.approx(5 / 8)
    assert found["accuracy of always answering the commonest grade"]["value"] == pytest.approx(3 / 8)
    assert found["recall of grade 0"]["value"] == pytest.approx(2 / 3) and found["recall of grade 0"]["n"] == 3
    assert found["recall of grade 1"]["value"] == 0
    # 4 photographs of grade >= 2 against 4 below: all four are called so, of the others one is.
    assert found["AUC, referable (grade >= 2)"]["value"] == pytest.approx((3 * 4 + 4 * 0.5) / 16)
    weights = np.subtract.outer(range(5), range(5)) ** 2
    observed = np.zeros((5, 5))
    np.add.at(observed, (c.grade, c.said), 1)
    expected = np.outer(observed.sum(1), observed.sum(0)) / 8
    kappa = 1 - (weights * observed).sum() / (weights * expected).sum()
    assert found["quadratic weighted kappa"]["value"] == pytest.approx(kappa)


def test_thresholds_come_from_what_was_left_out_and_figures_from_the_test() -> None:
    known = cases([0, 0, 1, 2, 3, 4], [0, 0, 0, 2, 3, 4])
    test = cases([0, 1, 2, 3], [0, 2, 2, 0])
    points = {point["name"]: point for point in evaluate.operating_points(known, test)}
    assert set(points) == {
        f"{name}{s}" for name in ("mtmDR", "vtDR") for s in ("", "_sensitivity_90", "_sensitivity_95")
    }
    assert [name for name, point in points.items() if point["default"]] == ["mtmDR"]
    assert points["mtmDR"]["sensitivity"] == points["mtmDR"]["specificity"] == 0.5
    assert 0.18 < points["mtmDR"]["threshold"] <= 0.88 and points["vtDR"]["score_classes"] == ["3", "4"]


def test_the_study_measures_and_writes_its_page(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variants = {
        "small": study.Variant("small", SMALL),
        "thesis": study.Variant("thesis", clear_dr((4, 4, 8, 8, 8)), "thesis"),
    }
    monkeypatch.setattr(study, "VARIANTS", variants)
    monkeypatch.setattr(study, "load_pretrained", lambda *_: None)
    monkeypatch.setattr(study, "imagenet_weights", Path)
    made = []

    def prepare(place: Path, recipe: str) -> None:
        made.append(recipe)
        place.mkdir()
        for name in ("images.npy", "lesions.npy", "photographs.json"):
            (place / name).symlink_to(folder / name)

    monkeypatch.setattr(study, "prepare", prepare)
    monkeypatch.setattr(study, "STAGES", ((64, 1),))
    plan = replace(retina.Plan(), draws=16, batch=8)
    study.perform(folder, tmp_path, plan, ["thesis"])
    path = tmp_path / "retina_study.json"
    assert made == ["thesis"]
    assert list(json.loads(path.read_text())["variants"]) == ["thesis"]
    study.perform(folder, tmp_path, plan)
    result = json.loads(path.read_text())
    assert result["photographs"] == 7 and result["learnt"] == 7
    result["variants"]["thesis"]["auc"]["value"] = 0.123
    path.write_text(json.dumps(result))
    study.perform(folder, tmp_path, plan, ["small"])
    assert json.loads(path.read_text())["variants"]["thesis"]["auc"]["value"] == 0.123
    text = (tmp_path / "retina_study.md").read_text()
    assert "| small |" in text and "| thesis |" in text and "python -m training.retina study" in text
