"""Training of CLEAR-DR: ordinal soft labels, lesions and macular oedema as further teachers, evidence where lesions are.

Four things are learnt at once, and only the first is part of the exported graph:

- the grade, as an ordinal soft label, and the distance of the expected grade from it;
- IDRiD's drawn microaneurysms, haemorrhages, hard and soft exudates, by a 1x1 convolution on the third stage: dense labels,
  worth far more a photograph than one grade;
- the risk of macular oedema (IDRiD), by a linear layer on the last hidden layer's means;
- evidence where it belongs: on photographs with drawn lesions the share of the evidence for retinopathy that lies off them is
  part of the loss.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import softmax  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from training.data import assert_apart
from training.metrics import quadratic_weighted_kappa
from training.networks import Architecture, Inverted, Sequencer
from training.retina.data import LESIONS, PREPROCESSING, Photograph, Prepared, answered
from training.run import Average, Run, seed_everything

SIZE = int(PREPROCESSING["size_px"])

SHARES = {"idrid": 0.28, "idrid_lesions": 0.14, "eyepacs_natural": 0.14, "eyepacs_equalised": 0.44, "aptos": 0.3}
"""Shares of the sources in an epoch; those that are not there leave theirs to the others in proportion. IDRiD's few photographs
are soon known by heart."""


HEALTHY = 2.0
"""So much log-odds a whole photograph may say for grade 0; lesions must be able to outvote it."""
RATES = {"layer": 0.1, "prior": 20.0}
"""Of a one-sided class layer, where steps add up over the channels, and of its prior, in learning rates."""


@dataclass(frozen=True)
class Plan:
    """What a training does; the defaults are the published run."""

    pretraining: tuple[tuple[int, int], ...] = ((256, 12),)
    stages: tuple[tuple[int, int], ...] = ((384, 3), (512, 1))
    """(input size in px, epochs), in order: of the network that the members start from, and of a member."""
    draws: int = 2400
    """Photographs an epoch."""
    batch: int = 16
    pretraining_rate: float = 1.5e-3
    rate: float = 6e-4
    decay: float = 0.05
    softness: float = 1.6
    """Soft label of grade j when the truth is i: proportional to exp(-softness * |i - j|)."""
    distance: float = 0.2
    """Weights of the losses beside that of the soft label."""
    lesions: float = 1.0
    oedema: float = 0.2
    evidence: float = 0.5
    healthy: float = 0.1
    """Of evidence for grade 0 beyond `HEALTHY`, where evidence is one-sided."""
    seed: int = 0
    threads: int = 1
    """Of one process; two trainings side by side are faster than one with two threads."""


@dataclass(frozen=True)
class Split:
    """Which photographs one training learns from, with how much of an epoch each source has, and which it leaves out."""

    train: np.ndarray
    held: np.ndarray
    shares: dict[str, float]


def twins(items: Sequence[Photograph]) -> set[str]:
    """Patients of EyePACS of whom there is a photograph in natural colour."""
    return {item.patient for item in items if item.source == "eyepacs_natural"}


def pretraining_split(prepared: Prepared) -> Split:
    """What all members may learn from: the equalised photographs of patients of whom there is no other photograph.

    Measured on the other patients' photographs in natural colour.
    """
    others = twins(prepared.items)
    train = [k for k in prepared.rows("train", "eyepacs_equalised") if prepared.items[k].patient not in others]
    return _split(prepared, train, list(prepared.rows("train", "eyepacs_natural")), {"eyepacs_equalised": 1.0})


def member_split(prepared: Prepared, folds: Sequence[int]) -> Split:
    """Leave out the test part and, of IDRiD and of EyePACS' patients with a natural-colour photograph, some folds.

    A photograph in natural colour is what the model is for. So these are kept for measuring, and a patient's equalised copies
    with them; patients of whom there are equalised copies alone are learnt from by every member.
    """
    others = twins(prepared.items)
    train: list[int] = []
    held: list[int] = []
    for k, item in enumerate(prepared.items):
        if item.part == "test":
            continue
        apart = item.fold in folds and (item.source != "eyepacs_equalised" or item.patient in others)
        (held if apart else train).append(k)
    return _split(prepared, train, held, SHARES)


def _split(prepared: Prepared, train: list[int], held: list[int], shares: dict[str, float]) -> Split:
    assert_apart({prepared.items[k].patient for k in train}, {prepared.items[k].patient for k in held})
    present = {prepared.items[k].source for k in train}
    total = sum(share for source, share in shares.items() if source in present)
    return Split(np.array(train), np.array(held), {s: share / total for s, share in shares.items() if s in present})


class Taught(nn.Module):
    """The sequencer with the heads that teach it: lesions on its middle layers, macular oedema on its last hidden layer."""

    def __init__(self, architecture: Architecture | Inverted) -> None:
        super().__init__()
        self.sequencer = Sequencer(architecture)
        self.middle, channels = architecture.middle()
        self.lesions = nn.Conv2d(channels, len(LESIONS), 1)
        self.oedema = nn.Linear(architecture.hidden()[1], 3)
        assert self.lesions.bias is not None
        nn.init.constant_(self.lesions.bias, -3.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z_L (B, 5, h, w), lesions (B, 4, 2h, 2w) and macular oedema (B, 3), all as logits."""
        middle = self.sequencer.layers[: self.middle](x)
        hidden = self.sequencer.layers[self.middle : -1](middle)
        return self.sequencer.classify(hidden), self.lesions(middle), self.oedema(hidden.mean((2, 3)))

    def groups(self, rate: float) -> list[dict[str, Any]]:
        """Parameters with their learning rates, for an optimiser."""
        if not self.sequencer.one_sided:
            return [{"params": list(self.parameters()), "lr": rate, "full": rate}]
        layer, prior = list(self.sequencer.layers[-1].parameters()), [self.sequencer.prior]
        apart = {id(parameter) for parameter in (*layer, *prior)}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in apart]
        rates = ((rest, 1.0), (layer, RATES["layer"]), (prior, RATES["prior"]))
        return [{"params": found, "lr": rate * factor, "full": rate * factor} for found, factor in rates]


def soft_labels(grade: Tensor, softness: float) -> Tensor:
    """Ordinal soft labels, shape (B, 5)."""
    distance = (grade[:, None] - torch.arange(5)[None]).abs()
    return F.softmax(-softness * distance.float(), dim=1)


def stray(z: Tensor, lesions: Tensor, grade: Tensor) -> Tensor:
    """Share of the evidence for the true grade against grade 0 that lies off the lesions, mean over grades 1 to 3.

    New vessels (grade 4) are not drawn, so nothing is asked of it.

    Parameters
    ----------
    z : Tensor, shape (B, 5, h, w)
    lesions : Tensor, shape (B, 4, 2h, 2w)
        1 where any lesion lies.
    grade : Tensor, int, shape (B,)
    """
    asked = (grade > 0) & (grade < 4) & lesions.flatten(1).any(1)
    if not asked.any():
        return z.new_zeros(())
    z, lesions, grade = z[asked], lesions[asked], grade[asked]
    speaks = F.relu(z[torch.arange(len(z)), grade] - z[:, 0])
    near = F.max_pool2d(F.max_pool2d(lesions.amax(1, keepdim=True), 2), 3, 1, 1)[:, 0]
    return ((speaks * (1 - near)).sum((1, 2)) / (speaks.sum((1, 2)) + 1e-3)).mean()


def augment(images: Tensor, lesions: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A field cut off at both ends, flips, any rotation, +-15 % scale, shifts, per-channel gain, blur and noise.

    Parameters
    ----------
    images : Tensor, uint8, shape (B, 3, 512, 512)
    lesions : Tensor, shape (B, 4, 64, 64)

    Returns
    -------
    x : Tensor, float32, shape (B, 3, size, size)
    lesions : Tensor, float32, shape (B, 4, size / 8, size / 8), 0 or 1
    """
    count = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    def sometimes(share: float, highest: float) -> Tensor:
        return torch.where(uniform(0, 1) < share, uniform(0, highest), torch.zeros(count))[:, None, None, None]

    ends = torch.cat([sometimes(0.4, 0.2), sometimes(0.4, 0.2)], 1)

    def cut(values: Tensor) -> Tensor:
        """0 where the field is cut off: a straight border means nothing."""
        height = values.shape[-2]
        row = (torch.arange(height) + 0.5)[:, None] / height
        return values * ((row > ends[:, :1]) & (row < 1 - ends[:, 1:]))

    x = cut(images.float() / 31.875 - 4)
    if size <= SIZE // 2:
        x = F.avg_pool2d(x, 2)
    angle, zoom = uniform(0, 2 * math.pi), torch.exp(uniform(-0.15, 0.15))
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = [
        torch.stack([cos * flip, -sin, uniform(-0.06, 0.06)], 1),
        torch.stack([sin * flip, cos, uniform(-0.06, 0.06)], 1),
    ]
    theta = torch.stack(rows, 1)
    x = F.grid_sample(x, F.affine_grid(theta, [count, 3, size, size], align_corners=False), align_corners=False)
    grid = size // 8
    y = F.grid_sample(
        cut(lesions.float()),
        F.affine_grid(theta, [count, len(LESIONS), grid, grid], align_corners=False),
        align_corners=False,
    )
    x = x * torch.exp(0.25 * torch.randn(count, 3, 1, 1, generator=generator))
    x = torch.lerp(x, F.avg_pool2d(x, 3, 1, 1), sometimes(0.3, 1))
    return x + sometimes(0.3, 0.3) * torch.randn(x.shape, generator=generator), (y > 0.3).float()


def draw(prepared: Prepared, split: Split, count: int, generator: np.random.Generator) -> np.ndarray:
    """Indices of one epoch: fixed shares of the sources, grades by the inverse root of their number within a source."""
    chosen = []
    for source, share in split.shares.items():
        rows = np.array([k for k in split.train if prepared.items[k].source == source])
        grades = np.array([prepared.items[k].grade for k in rows])
        size = np.array([(grades == grade).sum() for grade in grades], dtype=float)
        weight = 1 / np.sqrt(size)
        chosen.append(generator.choice(rows, round(count * share), p=weight / weight.sum()))
    return generator.permutation(np.concatenate(chosen))


def at_size(images: np.ndarray, size: int = SIZE) -> Tensor:
    """Prepared photographs as the network sees them at `size` px."""
    x = torch.from_numpy(images).float() / 31.875 - 4
    return x if size == SIZE else F.interpolate(x, (size, size), mode="bilinear", antialias=True)


@torch.no_grad()
def predict(network: nn.Module, prepared: Prepared, rows: np.ndarray, size: int = SIZE, batch: int = 16) -> np.ndarray:
    """What the network says of photographs, one row each, float64: of a `Sequencer` the logits, shape (n, 5)."""
    parts = []
    for start in range(0, len(rows), batch):
        x = at_size(np.stack([prepared.images[k] for k in rows[start : start + batch]]), size)
        parts.append(network(x.contiguous(memory_format=torch.channels_last)).double().numpy())
    return np.concatenate(parts)


def validate(network: nn.Module, prepared: Prepared, held: np.ndarray, size: int) -> dict[str, float]:
    """Quadratic weighted kappa of the answered grade on what was left out, by source."""
    result = {}
    for source in ("idrid", "eyepacs_natural"):
        rows = np.array([k for k in held if prepared.items[k].source == source])
        if len(rows):
            truth = np.array([prepared.items[k].grade for k in rows])
            said = answered(softmax(predict(network, prepared, rows, size), axis=1))
            result[source] = round(quadratic_weighted_kappa(truth, said), 4)
    return result


def _loss(
    network: Taught, prepared: Prepared, rows: np.ndarray, size: int, plan: Plan, noise: torch.Generator
) -> Tensor:
    items = [prepared.items[k] for k in rows]
    raw = torch.from_numpy(np.stack([prepared.images[k] for k in rows]))
    x, y = augment(raw, torch.from_numpy(prepared.lesions[rows]), size, noise)
    grade, risk = torch.tensor([item.grade for item in items]), torch.tensor([item.dme for item in items])
    drawn = torch.tensor([item.source == "idrid_lesions" for item in items])
    z, lesions, oedema = network(x.contiguous(memory_format=torch.channels_last))
    local, graded, rated = z.mean((2, 3)), grade >= 0, risk >= 0
    logits = local + network.sequencer.prior
    loss = F.cross_entropy(logits[graded], soft_labels(grade[graded], plan.softness))
    expected = F.softmax(logits[graded], 1) @ torch.arange(5.0)
    loss = loss + plan.distance * F.mse_loss(expected, grade[graded].float())
    if network.sequencer.one_sided:
        loss = loss + plan.healthy * F.relu(local[:, 0] - HEALTHY).square().mean()
    if rated.any():
        loss = loss + plan.oedema * F.cross_entropy(oedema[rated], risk[rated])
    if drawn.any():
        rare = torch.tensor([6.0, 4.0, 3.0, 6.0])[None, :, None, None]
        loss = loss + plan.lesions * F.binary_cross_entropy_with_logits(lesions[drawn], y[drawn], pos_weight=rare)
        loss = loss + plan.evidence * stray(z[drawn], y[drawn], grade[drawn])
    return loss


def train(
    network: Taught,
    prepared: Prepared,
    split: Split,
    folder: Path,
    stages: Sequence[tuple[int, int]],
    rate: float,
    plan: Plan,
) -> Taught:
    """Train, or go on where the last checkpoint of `folder` ends; returns the network averaged over time."""
    torch.set_num_threads(plan.threads)
    network = network.to(memory_format=torch.channels_last)
    average = Average(network)
    optimiser = torch.optim.AdamW(network.groups(rate), weight_decay=plan.decay)
    sizes = [size for size, epochs in stages for _ in range(epochs)]
    run, first = Run(folder), 0
    if state := run.resume():
        network.load_state_dict(state["network"])
        average.network.load_state_dict(state["average"])
        average.steps = state["steps"]
        optimiser.load_state_dict(state["optimiser"])
        first = state["epoch"]
    steps = plan.draws // plan.batch
    for epoch in range(first, len(sizes)):
        size, began = sizes[epoch], time.time()
        order = draw(prepared, split, plan.draws, np.random.default_rng([plan.seed, epoch]))
        noise = torch.Generator().manual_seed(plan.seed * 1000 + epoch)
        seed_everything(plan.seed * 1000 + epoch)
        network.train()
        losses = []
        for step in tqdm(
            range(steps), desc=f"{folder.name} epoch {epoch + 1}/{len(sizes)} at {size} px", mininterval=30
        ):
            progress = (epoch * steps + step) / (len(sizes) * steps)
            for group in optimiser.param_groups:
                group["lr"] = (
                    group["full"] * min(1, (progress + 1e-3) / 0.05) * (0.5 + 0.5 * math.cos(math.pi * progress))
                )
            rows = order[step * plan.batch : (step + 1) * plan.batch]
            loss = _loss(network, prepared, rows, size, plan, noise)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            network.sequencer.keep_one_sided()
            average.update(network)
            losses.append(loss.item())
        kappa = validate(average.network.sequencer, prepared, split.held, size)
        run.log(
            epoch=epoch + 1,
            size=size,
            loss=round(float(np.mean(losses)), 4),
            kappa=kappa,
            seconds=round(time.time() - began),
        )
        run.save(network=network, average=average.network, steps=average.steps, optimiser=optimiser, epoch=epoch + 1)
    result: Taught = average.network
    return result.eval()
