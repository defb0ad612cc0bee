"""Training runs end to end on small data: they learn, stop, and go on as if they had not been stopped."""

from __future__ import annotations

import csv
import json
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.lung import data as lung_data
from training.lung import train as lung
from training.lung.evaluate import consensus
from training.retina import data as retina_data
from training.retina import train as retina
from training.retina.data import idrid_duplicates, photographs


@pytest.fixture
def nodules(tmp_path: Path) -> Path:
    """Bright large discs are malignant, small ones benign, middling ones doubtful."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:112, :112] - 55.5
    found, windows = [], []
    for k in range(60):
        score = (1.0, 5.0, 3.0)[k % 3]
        radius = {1.0: 4, 5.0: 16, 3.0: 9}[score]
        slices = (np.hypot(x, y) < radius) * 180 + generator.normal(30, 10, (2, 112, 112))
        windows.append(slices.clip(0, 255).astype(np.uint8))
        part = ("train", "train", "validation", "test")[(k // 3) % 4]
        found.append(lung_data.Nodule(f"p{k}", "n", score, 4, 2.0 * radius, 0.7, 2.0, 2 * k, 2, part))
    np.save(tmp_path / "windows.npy", np.concatenate(windows))
    (tmp_path / "nodules.json").write_text(json.dumps([asdict(n) for n in found]))
    return tmp_path


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_lung_training_learns_and_resumes(nodules: Path) -> None:
    plan = lung.Plan(epochs=4, batch=8, doubtful_from=2, threads=1, rate=4e-3)
    lung.train(nodules, nodules / "whole", plan)
    assert log(nodules / "whole")[-1]["validation_auc"] > 0.9

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
            lung.train(nodules, nodules / "halves", plan)
    lung.train(nodules, nodules / "halves", plan)
    assert [row["epoch"] for row in log(nodules / "halves")] == [1, 2, 3, 4]
    states = [torch.load(nodules / name / "checkpoint.pt", weights_only=True) for name in ("whole", "halves")]
    # Dropout draws from the global generator, which a restart seeds anew: alike, not equal to the bit.
    first, second = (state["average"]["layers.0.weight"] for state in states)
    assert torch.nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0) > 0.99


def test_nodules_are_answered_from_their_central_slices() -> None:
    nodule = lung_data.Nodule("p", "n", 4.0, 4, 9.0, 0.7, 1.25, 100, 9, "train")
    assert nodule.central == [102, 103, 104, 105, 106]  # the middle one and 2 x 1.25 mm to both sides
    assert replace(nodule, thickness_mm=3.0).central == [104]
    assert replace(nodule, slices=1).central == [100]


def test_labels_of_the_three_sets() -> None:
    nodule = lung_data.Nodule("p", "n", 2.5, 4, 9.0, 0.7, 1.25, 0, 1, "train")
    assert nodule.score == 3  # half up
    assert [lung_data.label(nodule, subset) for subset in "IBM"] == [None, 0, 1]
    assert [lung_data.label(replace(nodule, malignancy=m)) for m in (1, 2.4, 3.5, 5)] == [0, 0, 1, 1]


def test_nothing_prepared_is_said(tmp_path: Path) -> None:
    for module in (lung_data, retina_data):
        with pytest.raises(FileNotFoundError, match="prepare"):
            module.load(tmp_path)


def test_retina_training_runs_through_its_stages(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    items = [
        retina_data.Photograph("a", f"{k}", source, f"{source} {k} {part}", k % 5, part)
        for source in retina.SOURCE_SHARE
        for part in ("train", "validation")
        for k in range(5)
        if (source, part) != ("idrid_lesions", "validation")
    ]
    images = generator.integers(90, 160, (len(items), 3, 512, 512), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "lesions.npy", generator.integers(0, 2, (len(items), 4, 64, 64), dtype=np.uint8))
    (tmp_path / "photographs.json").write_text(json.dumps([asdict(item) for item in items]))
    plan = retina.Plan(stages=((64, 1), (96, 1)), draws=12, batch=4, threads=1)
    retina.train(tmp_path, tmp_path / "run", plan)
    assert [row["size"] for row in log(tmp_path / "run")] == [64, 96]
    assert set(log(tmp_path / "run")[0]["kappa"]) == {"idrid", "eyepacs_natural", "eyepacs_equalised"}


def test_augmentation_moves_lesions_with_their_photograph() -> None:
    """A bright block and its label stay together under flips, rotation, scale and shift."""
    images = torch.full((8, 3, 512, 512), 128, dtype=torch.uint8)
    images[:, :, 192:256, 320:384] = 250
    labels = torch.zeros(8, 4, 64, 64, dtype=torch.uint8)
    labels[:, :, 24:32, 40:48] = 1
    x, y = retina.augment(images, labels, 512, torch.Generator().manual_seed(0))
    bright = torch.nn.functional.avg_pool2d(x.mean(1, keepdim=True), 8)[:, 0]
    for picture, label in zip(bright, y[:, 0], strict=True):
        seen = picture > (picture.max() + picture.median()) / 2
        assert (seen & (label > 0)).sum() / (seen | (label > 0)).sum() > 0.6


def test_soft_labels_are_ordinal() -> None:
    labels = retina.soft_labels(torch.tensor([0, 2]), 1.6)
    assert torch.allclose(labels.sum(1), torch.ones(2))
    assert (labels[0].diff() < 0).all()
    assert torch.allclose(labels[1], labels[1].flip(0))


def test_the_retina_split(data: Path) -> None:
    """Both copies and both eyes of a patient on one side; nothing that a later figure is measured on is trained on."""
    items = photographs(data)
    sides: dict[str, set[str]] = {}
    for item in items:
        sides.setdefault(item.patient, set()).add(item.part)
    assert all(len(parts) == 1 for parts in sides.values())
    members = {item.member for item in items if item.part != "test"}
    assert not members & idrid_duplicates()
    assert sum(item.source == "idrid" and item.part == "test" for item in items) == 103
    with (data / "idrid/lesions_to_grading.csv").open() as stream:
        pairs = list(csv.DictReader(stream))
    lesion_test = {
        f"train/{p['grading_image']}" for p in pairs if p["seg_split"].startswith("b") and p["grading_image"]
    }
    assert len(lesion_test) == 15
    assert not members & lesion_test


def test_real_nodules_are_read_and_lie_in_the_middle(data: Path) -> None:
    """What the readers drew is in the middle of the window, at its true size."""
    prepared = [
        lung_data.Nodule("LIDC-IDRI-0009", "nodule-0", 2.0, 1, 7.37, 0.78125, 1.25, 0, 3, "train"),
        lung_data.Nodule("LIDC-IDRI-0065", "nodule-0", 3.0, 2, 6.093, 0.871094, 1.25, 0, 2, "train"),
    ]
    with zipfile.ZipFile(data / "lidc_nodules/slices.zip") as archive:
        for nodule in prepared:
            stack = lung_data.read_stack(archive, f"{nodule.patient}_{nodule.name}", nodule.slices)
            assert lung_data.windows(stack, nodule.spacing_mm).shape == (nodule.slices, 112, 112)
            rows, columns = np.nonzero(consensus(archive, nodule))
            assert abs(rows.mean() - 47.5) < 5
            assert abs(columns.mean() - 47.5) < 5
            diameter = 2 * (len(rows) * 0.5**2 / np.pi) ** 0.5
            assert 0.5 * nodule.diameter_mm < diameter < 1.5 * nodule.diameter_mm
