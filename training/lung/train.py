"""Training of SISC: the readers' votes as soft labels, and what else the readers said about a nodule as supervision.

Four things are learnt at once from one network's last hidden layer:

- malignancy: the readers' mean score as a soft label; one network serves the sets "I", "B" and "M";
- the seven other ratings (calcification, spiculation ...) and the diameter;
- the readers' contours;
- evidence where it belongs: the share of |z_malignant - z_benign| that lies outside the contours, or speaks against the
  readers, is part of the loss. So the logit is an integral over the nodule, and its response maps can lie there.

Only the first is part of the exported graph.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from training.data import assert_apart, fold_of
from training.lung.data import ATTRIBUTES, FINE_MM, PREPROCESSING, TEST_FOLDS, Nodule, Prepared, label
from training.metrics import auc
from training.networks import Sequencer, sisc
from training.run import Average, Run, seed_everything


@dataclass(frozen=True)
class Plan:
    """What a training does; the defaults are the published run."""

    width: int = 16
    epochs: int = 40
    slices: int = 3
    """Slices of every nodule drawn in an epoch, without repetition."""
    batch: int = 64
    rate: float = 3e-3
    decay: float = 0.05
    ratings: float = 0.3
    """Weights of the losses beside that of the malignancy."""
    contours: float = 0.3
    evidence: float = 1.0
    seed: int = 0
    threads: int = 1
    """Of one process; two trainings side by side are faster than one with two threads."""


@dataclass(frozen=True)
class Split:
    """Which nodules one training learns from, and on which slices it is measured."""

    train: list[tuple[Nodule, list[int]]]
    """Nodules with the rows that may be learnt from."""
    held: list[tuple[Nodule, list[int]]]


def by_patient(prepared: Prepared, fold: int, share: float = 1.0) -> Split:
    """Leave out a fold and the test folds: seven tenths of the patients, or a `share` of them, are learnt from.

    So such networks may be put together to an ensemble that has not seen a test patient. Measured on all that is left out.
    """
    left_out = {fold, *TEST_FOLDS}
    names = {n.patient for n in prepared.nodules if n.fold not in left_out}
    kept = set(sorted(names, key=lambda name: fold_of(name, 1 << 30, seed=1))[: round(share * len(names))])
    train = [n for n in prepared.nodules if n.patient in kept]
    held = prepared.chosen(left_out, "B")
    assert_apart({n.patient for n in train}, {n.patient for n in held})
    return Split([(n, n.rows) for n in train], [(n, n.rows) for n in held])


def by_slice(prepared: Prepared, fold: int) -> Split:
    """The published protocol, 80/10/10 by slice: slices of one nodule stand on both sides. Only to show the gap.

    Of the ten parts one is held, and one more is left out as the thesis leaves out its validation part.
    """
    part = np.random.default_rng(0).permutation(len(prepared.windows)) % 10
    groups: dict[bool, list[tuple[Nodule, list[int]]]] = {True: [], False: []}
    for nodule in prepared.nodules:
        for held, group in groups.items():
            rows = [r for r in nodule.rows if (part[r] == fold if held else part[r] not in (fold, (fold + 1) % 10))]
            if rows and not (held and nodule.match == "partial"):
                group.append((nodule, rows))
    return Split(groups[False], groups[True])


def soft_label(nodule: Nodule) -> float:
    """Probability of malignancy that the readers' mean score stands for: 1 -> 0.05, 3 -> 0.5, 5 -> 0.95."""
    return 0.05 + 0.9 * (nodule.malignancy - 1) / 4


def trust(nodule: Nodule) -> float:
    """Weight of a nodule: two thirds with one reader, 16/15 with four. One reader's score says less than the mean of four."""
    return 4 / 3 * nodule.readers / (nodule.readers + 1)


def ratings(nodule: Nodule) -> np.ndarray:
    """What the readers rated, each on 0..1 (not rated: 0.5), and the diameter's logarithm (e mm to 33 mm on 0..1)."""
    highest = np.array([6.0 if name == "calcification" else 5.0 for name in ATTRIBUTES])
    rated = np.nan_to_num((np.array(nodule.attributes) - 1) / (highest - 1), nan=0.5)
    return np.append(rated, (math.log(nodule.diameter_mm) - 1) / 2.5).astype(np.float32)


def augment(windows: Tensor, contours: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flips, any rotation, +-10 % scale, shifts up to 2 mm, noise, blur, and other extremes of the grey levels.

    Parameters
    ----------
    windows, contours : Tensor, uint8, shape (B, 112, 112)
        Larger than the network's input, so that nothing is missing after a shift.

    Returns
    -------
    x, contours : Tensor, float32, shape (B, 1, 72, 72), 0..1
    """
    count, size = len(windows), int(PREPROCESSING["size_px"])
    device = windows.device

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator, device=device)

    def sometimes(chance: float, most: float) -> Tensor:
        value = uniform(0, most)
        return torch.where(uniform(0, 1) < chance, value, torch.zeros_like(value))[:, None, None, None]

    side_mm = windows.shape[-1] * FINE_MM
    zoom = torch.exp(uniform(-0.1, 0.1)) * size * PREPROCESSING["scale_mm"] / side_mm
    angle, flip = uniform(0, 2 * math.pi), torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    shift = 2 / (side_mm / 2)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = [
        torch.stack([cos * flip, -sin, uniform(-shift, shift)], 1),
        torch.stack([sin * flip, cos, uniform(-shift, shift)], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), [count, 1, size, size], align_corners=False)
    both = torch.stack([windows, contours], 1).float() / 255
    x, drawn = F.grid_sample(both, grid, padding_mode="border", align_corners=False).split(1, 1)
    x = x / torch.lerp(torch.ones_like(x), x.amax((2, 3), keepdim=True).clamp_min(0.1), sometimes(0.3, 1))
    x = torch.lerp(x, F.avg_pool2d(x, 3, 1, 1), sometimes(0.3, 0.8))
    x = x + sometimes(0.4, 0.04) * torch.randn(x.shape, generator=generator, device=device)
    return x, drawn


class Readers(nn.Module):
    """What is learnt from the readers besides malignancy, from the last hidden layer; training only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.contour = nn.Conv2d(channels, 1, 1)
        self.ratings = nn.Linear(channels, len(ATTRIBUTES) + 1)

    def forward(self, hidden: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the contour, shape (B, 1, h, w), and the ratings, shape (B, 8), read off inside it."""
        weight = inside + 1e-3
        pooled = (hidden.float() * weight).sum((2, 3)) / weight.sum((2, 3))
        return self.contour(hidden).float(), torch.sigmoid(self.ratings(pooled))


def stray_evidence(z: Tensor, inside: Tensor, soft: Tensor) -> Tensor:
    """Share of the local evidence d = z_malignant - z_benign that lies outside the nodule or speaks against the readers.

    Without the second part evidence for both classes cancels itself inside a nodule, and its two maps are the same picture. It
    counts the more, the surer the readers are: not at all for a nodule of score 3.

    Parameters
    ----------
    z : Tensor, shape (B, 2, h, w)
    inside : Tensor, shape (B, 1, h, w)
        Share of each place that the readers drew; the places next to it count as inside, too.
    soft : Tensor, shape (B,)
        Soft label of malignancy.

    Returns
    -------
    Tensor, shape (B,), 0 to 3
    """
    d, sure = z[:, 1] - z[:, 0], 2 * soft - 1
    total = d.abs().sum((1, 2)) + 0.05
    near = (F.max_pool2d(inside, 3, 1, 1) > 0.05)[:, 0]
    outside = (d.abs() * ~near).sum((1, 2)) / total
    against = (F.relu(-d * sure.sign()[:, None, None]) * near).sum((1, 2)) / total
    return outside + 3 * sure**2 * against


def ramp(progress: float) -> float:
    """Weight of `stray_evidence` from 0 to 1: a network must find evidence before it can keep it in order."""
    return min(1.0, max(0.0, (progress - 0.15) / 0.35))


@torch.no_grad()
def log_odds(network: nn.Module, inputs: np.ndarray, batch: int = 256) -> np.ndarray:
    """Log-odds of malignancy of network inputs (n, 72, 72), float64, shape (n,)."""
    device = next(network.parameters()).device
    parts = []
    for start in range(0, len(inputs), batch):
        x = torch.from_numpy(inputs[start : start + batch].astype(np.float32))[:, None].to(device)
        logits = network(x.contiguous(memory_format=torch.channels_last)).double()
        parts.append((logits[:, 1] - logits[:, 0]).cpu())
    return torch.cat(parts).numpy()


def _prior(nodules: Sequence[Nodule]) -> Tensor:
    """Prior of the logits: zero for benign, log odds of malignancy among the nodules learnt from for malignant."""
    weight = np.array([trust(n) for n in nodules])
    share = float((weight * [soft_label(n) for n in nodules]).sum() / weight.sum())
    return torch.tensor([0.0, math.log(share / (1 - share))])


def _drawn(split: Split, slices: int, generator: np.random.Generator) -> list[tuple[int, int]]:
    """(nodule, row) of the slices of one epoch, in random order."""
    pairs = [
        (k, int(row))
        for k, (_, rows) in enumerate(split.train)
        for row in generator.choice(rows, min(slices, len(rows)), replace=False)
    ]
    return [pairs[k] for k in generator.permutation(len(pairs))]


def train(prepared: Prepared, split: Split, folder: Path, plan: Plan = Plan()) -> Sequencer:
    """Train, or go on where the last checkpoint of `folder` ends; returns the averaged network on the CPU."""
    torch.set_num_threads(plan.threads)
    seed_everything(plan.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    nodules = [n for n, _ in split.train]
    soft = torch.tensor([soft_label(n) for n in nodules], device=device)
    weight = torch.tensor([trust(n) for n in nodules], device=device)
    rated = torch.from_numpy(np.stack([ratings(n) for n in nodules])).to(device)
    network = Sequencer(sisc(plan.width))
    network.prior.copy_(_prior(nodules))
    network = network.to(device, memory_format=torch.channels_last)
    readers = Readers(network.layers[-1].in_channels).to(device)
    average = Average(network)
    optimiser = torch.optim.AdamW([*network.parameters(), *readers.parameters()], plan.rate, weight_decay=plan.decay)
    run, first = Run(folder), 0
    if state := run.resume():
        network.load_state_dict(state["network"])
        readers.load_state_dict(state["readers"])
        average.network.load_state_dict(state["average"])
        average.steps = state["steps"]
        optimiser.load_state_dict(state["optimiser"])
        first = state["epoch"]
    for epoch in range(first, plan.epochs):
        began = time.time()
        generator = torch.Generator(device).manual_seed(plan.seed * 1000 + epoch)
        drawn = _drawn(split, plan.slices, np.random.default_rng([plan.seed, epoch]))
        steps = len(drawn) // plan.batch
        network.train()
        losses = []
        for step in tqdm(range(steps), desc=f"{folder.name} epoch {epoch + 1}/{plan.epochs}", mininterval=30):
            progress = (epoch * steps + step) / (plan.epochs * steps)
            for group in optimiser.param_groups:
                group["lr"] = plan.rate * min(1, (progress + 1e-3) / 0.06) * (0.5 + 0.5 * math.cos(math.pi * progress))
            batch = drawn[step * plan.batch : (step + 1) * plan.batch]
            which, rows = torch.tensor([k for k, _ in batch], device=device), [row for _, row in batch]
            windows = torch.from_numpy(prepared.windows[rows]).to(device)
            x, inside = augment(windows, torch.from_numpy(prepared.contours[rows]).to(device), generator)
            with torch.autocast(device.type, torch.bfloat16):
                hidden = network.hidden(x.contiguous(memory_format=torch.channels_last))
                z = network.classify(hidden)
                inside = F.adaptive_avg_pool2d(inside, z.shape[2:])
                contour, rating = readers(hidden, inside)
            logits = z.mean((2, 3)) + network.prior
            target = torch.stack([1 - soft[which], soft[which]], 1)
            loss = (weight[which] * F.cross_entropy(logits, target, reduction="none")).mean()
            losses.append(loss.item())
            loss = loss + plan.evidence * ramp(progress) * stray_evidence(z, inside, soft[which]).mean()
            loss = loss + 5 * plan.contours * F.binary_cross_entropy_with_logits(contour, inside)
            loss = loss + 10 * plan.ratings * (weight[which, None] * (rating - rated[which]) ** 2).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            average.update(network)
        held = [(n, rows) for n, rows in split.held if n.fold not in TEST_FOLDS and label(n) is not None]
        values = log_odds(average.network, prepared.inputs[[row for _, rows in held for row in rows]])
        truth = np.array([label(n) for n, rows in held for _ in rows])
        run.log(
            epoch=epoch + 1,
            loss=round(float(np.mean(losses)), 4),
            held_auc_by_slice=round(auc(truth, values), 4),
            seconds=round(time.time() - began, 1),
        )
        run.save(
            network=network,
            readers=readers,
            average=average.network,
            steps=average.steps,
            optimiser=optimiser,
            epoch=epoch + 1,
        )
    trained: Sequencer = average.network.cpu().eval()
    return trained
