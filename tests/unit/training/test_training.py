"""Training runs end to end on small data: they learn, stop, and go on as if they had not been stopped."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.lung import data as lung_data
from training.lung import train as lung
from training.lung.networks import LEAKY, MEMBERS, perform
from training.lung.protocol import read
from training.networks import Sequencer, sisc
from training.retina import data as retina_data


def nodule(**changed) -> lung_data.Nodule:
    """A nodule of four slices of 1.25 mm."""
    plain = {
        "patient": "p", "name": "n", "scores": (2, 3), "attributes": (3.0,) * 7, "diameter_mm": 9.0, "spacing_mm": 0.7,
        "thickness_mm": 1.25, "first": 100, "slices": 9,
    }  # fmt: skip
    return lung_data.Nodule(**plain | changed)


@pytest.fixture
def nodules(tmp_path: Path) -> Path:
    """Bright large discs are malignant, small ones benign, middling ones doubtful; the readers drew the discs."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:112, :112] - 55.5
    found, windows, contours = [], [], []
    for k in range(60):
        score = (1, 5, 3)[k % 3]
        radius = {1: 4, 5: 16, 3: 9}[score]
        disc = np.hypot(x, y) < radius
        windows.append((disc * 180 + generator.normal(30, 10, (2, 112, 112))).clip(0, 255).astype(np.uint8))
        contours.append(np.stack([disc, disc]).astype(np.uint8) * 255)
        found.append(nodule(patient=f"p{k}", scores=(score,) * 4, diameter_mm=1.0 * radius, first=2 * k, slices=2))
    arrays = {"windows": np.concatenate(windows), "contours": np.concatenate(contours)}
    small = [
        np.asarray(Image.fromarray(w[8:-8, 8:-8]).resize((72, 72), Image.Resampling.BILINEAR))
        for w in arrays["windows"]
    ]
    arrays["inputs"] = (np.stack(small) / 255).astype(np.float16)
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "nodules.json").write_text(json.dumps([asdict(n) for n in found]))
    return tmp_path


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_lung_training_learns_and_resumes(nodules: Path) -> None:
    plan = lung.Plan(width=8, epochs=6, batch=8)
    prepared = lung_data.load(nodules)
    split = lung.by_patient(prepared, 2)
    whole = lung.train(prepared, split, nodules / "whole", plan)
    assert log(nodules / "whole")[-1]["held_auc_by_slice"] > 0.9

    class Stopped(Exception):
        pass

    def stop_after_two(self, **state) -> None:
        save(self, **state)
        if state["epoch"] == 2:
            raise Stopped

    save = lung.Run.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lung.Run, "save", stop_after_two)
        with pytest.raises(Stopped):
            lung.train(prepared, split, nodules / "halves", plan)
    halves = lung.train(prepared, split, nodules / "halves", plan)
    assert [row["epoch"] for row in log(nodules / "halves")] == [1, 2, 3, 4, 5, 6]
    # Dropout draws from the global generator, which a restart seeds anew: alike, not equal to the bit.
    first, second = (trained.layers[0].weight for trained in (whole, halves))
    assert torch.nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0) > 0.99


def test_a_network_answers_to_its_fold_and_to_no_patient_that_it_learnt_from(nodules: Path) -> None:
    plan = lung.Plan(width=4, epochs=1, batch=8)
    prepared = lung_data.load(nodules)
    for task in (MEMBERS[0], LEAKY):
        perform(task, nodules, plan)
    of = {row: n for n in prepared.nodules for row in n.rows}
    learnt = {n.patient for n, _ in MEMBERS[0].split(prepared).train}
    for fold in (0, 2):
        answered = read(nodules / "folds" / str(fold))
        assert {of[row].fold for row in answered.rows} == {fold}
        assert not {of[row].patient for row in answered.rows} & learnt
        assert answered.facts["protocol"] == "patient"
    assert {n.fold for n in prepared.nodules if n.patient in learnt} == set(range(3, 10))
    # The published split has slices of one nodule on both sides, each slice on one only.
    leaky = LEAKY.split(prepared)
    rows = [{row for _, rows in side for row in rows} for side in (leaky.train, leaky.held)]
    assert not rows[0] & rows[1]
    assert {of[row].patient for row in rows[0]} & {of[row].patient for row in rows[1]}
    assert read(nodules / "leaky" / "2").facts["protocol"] == "slice"


def test_a_part_of_the_patients_is_a_part_of_any_larger_one(nodules: Path) -> None:
    prepared = lung_data.load(nodules)
    names = [{n.patient for n, _ in lung.by_patient(prepared, 2, share).train} for share in (0.25, 0.5, 1)]
    assert names[0] < names[1] < names[2]
    assert len(names[1]) == round(len(names[2]) / 2)


def test_stray_evidence() -> None:
    """Four places, the nodule at the first; the places next to it count as inside. By hand."""
    inside = torch.zeros(1, 1, 1, 4)
    inside[..., 0] = 1

    def stray(*d: float, soft: float) -> float:
        z = torch.stack([torch.zeros(1, 1, 4), torch.tensor(d)[None, None]], 1)
        return lung.stray_evidence(z, inside, torch.tensor([soft])).item()

    assert stray(9.95, 0, 0, 0, soft=1) == pytest.approx(0)
    assert stray(5, 0, 0, -4.95, soft=1) == pytest.approx(0.495)  # a half outside
    assert stray(-9.95, 0, 0, 0, soft=1) == pytest.approx(3 * 0.995)  # all of it against the readers
    assert stray(-9.95, 0, 0, 0, soft=0) == pytest.approx(0)
    assert stray(-9.95, 0, 0, 0, soft=0.5) == pytest.approx(0)  # the readers do not know either


def test_augmentation_moves_contours_with_their_nodule() -> None:
    windows = torch.full((8, 112, 112), 20, dtype=torch.uint8)
    windows[:, 50:62, 58:66] = 200
    x, drawn = lung.augment(windows, (windows > 100).to(torch.uint8) * 255, torch.Generator().manual_seed(0))
    assert x.shape == drawn.shape == (8, 1, 72, 72)
    for image, contour in zip(x[:, 0], drawn[:, 0], strict=True):
        bright, marked = image > (image.max() + image.min()) / 2, contour > 0.5
        assert (bright & marked).sum() / (bright | marked).sum() > 0.8


def test_log_odds_are_the_prior_plus_the_sum_of_local_evidence() -> None:
    network = Sequencer(sisc(4)).eval()
    network.prior.copy_(torch.tensor([0.0, -0.8]))
    x = torch.rand(2, 1, 72, 72)
    z = network.raw(x)
    assert z.shape == (2, 2, 18, 18)
    summed = network.layers(x).sum((2, 3)) / 8  # the factor of 40.5 over 324 places
    torch.testing.assert_close(network(x), summed + torch.tensor([0.0, -0.8]), rtol=1e-4, atol=1e-5)
    *_, last = network.folded()
    torch.testing.assert_close(last.weight, network.layers[-1].weight.double() * 40.5)
    assert not last.bias.any()


def test_nodules_are_answered_from_their_central_slices() -> None:
    assert nodule().central == [102, 103, 104, 105, 106]  # the middle one and 2 x 1.25 mm to both sides
    assert nodule(thickness_mm=3.0).central == [104]
    assert nodule(slices=1).central == [100]


def test_labels_of_the_three_sets() -> None:
    assert nodule(scores=(2, 3)).score == 3  # half up
    assert [lung_data.label(nodule(scores=(2, 3)), subset) for subset in "IBM"] == [None, 0, 1]
    assert [lung_data.label(nodule(scores=scores)) for scores in ((1,), (2, 2, 3), (3, 4), (5,))] == [0, 0, 1, 1]
    assert lung.soft_label(nodule(scores=(5, 5))) == pytest.approx(0.95)
    assert lung.trust(nodule(scores=(5,))) == pytest.approx(2 / 3)
    rated = lung.ratings(nodule(attributes=(1.0, 6.0, 5.0, 3.0, float("nan"), 1.0, 5.0), diameter_mm=np.e))
    np.testing.assert_allclose(rated, [0, 1, 1, 0.5, 0.5, 0, 1, 0], atol=1e-6)


def test_nothing_prepared_is_said(tmp_path: Path) -> None:
    for module in (lung_data, retina_data):
        with pytest.raises(FileNotFoundError, match="prepare"):
            module.load(tmp_path)


def test_real_nodules_are_read_and_lie_in_the_middle(data: Path) -> None:
    """What the readers drew is in the middle of the window, at its true size."""
    prepared = [
        nodule(patient="LIDC-IDRI-0009", name="nodule-0", diameter_mm=7.37, spacing_mm=0.78125, slices=3),
        nodule(patient="LIDC-IDRI-0065", name="nodule-0", diameter_mm=6.093, spacing_mm=0.871094, slices=2),
    ]
    with zipfile.ZipFile(data / "lidc_nodules/slices.zip") as archive:
        for each in prepared:
            name = f"{each.patient}_{each.name}"
            stack = lung_data.read_stack(archive, name, each.slices)
            assert lung_data.windows(stack, each.spacing_mm).shape == (each.slices, 112, 112)
            assert lung_data.inputs(stack, each.spacing_mm).shape == (each.slices, 72, 72)
            drawn = lung_data.contours(archive, name, each.slices, each.spacing_mm)[(each.slices - 1) // 2]
            rows, columns = np.nonzero(drawn >= 128)
            assert abs(rows.mean() - 55.5) < 5
            assert abs(columns.mean() - 55.5) < 5
            diameter = 2 * (len(rows) * 0.5**2 / np.pi) ** 0.5
            assert 0.5 * each.diameter_mm < diameter < 1.5 * each.diameter_mm
