"""Training of SISC on set "I": readers' votes as soft labels, every nodule once an epoch."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from training.lung.data import MARGIN, PREPROCESSING, Nodule, Prepared, label, load
from training.metrics import auc
from training.networks import Sequencer, sisc
from training.run import Average, Run, seed_everything


@dataclass(frozen=True)
class Plan:
    """What a training does; the defaults are the published run."""

    width: int = 16
    epochs: int = 64
    doubtful_from: int = 25
    """Epoch from which the nodules of score 3 are learnt too (soft label 0.5): they tell what size alone does not."""
    slices: int = 3
    """Slices of every nodule drawn in an epoch, without repetition."""
    batch: int = 64
    rate: float = 2e-3
    decay: float = 0.05
    seed: int = 0
    threads: int = 2


def soft_label(nodule: Nodule) -> float:
    """Probability of malignancy that the readers' mean score stands for: 1 -> 0.05, 3 -> 0.5, 5 -> 0.95."""
    return 0.05 + 0.9 * (nodule.malignancy - 1) / 4


def scale_windows(x: Tensor) -> Tensor:
    """`models.preprocessing.min_max` for a batch, shape (B, 1, H, W)."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return (x - low) / (high - low).clamp_min(1e-6)


def augment(windows: Tensor, generator: torch.Generator) -> Tensor:
    """Flips, any rotation, +-8 % scale, shifts up to 4 px (2 mm), noise and blur; then min-max as in the service.

    Windows come as uint8, shape (B, 112, 112), with `MARGIN` to spare.
    """
    count, size = len(windows), int(PREPROCESSING["size_px"])

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    share = size / (size + 2 * MARGIN)
    angle, zoom = uniform(0, 2 * math.pi), torch.exp(uniform(-0.08, 0.08)) * share
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    shift = 4 / (size / 2 + MARGIN)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = [
        torch.stack([cos * flip, -sin, uniform(-shift, shift)], 1),
        torch.stack([sin * flip, cos, uniform(-shift, shift)], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), [count, 1, size, size], align_corners=False)
    x = F.grid_sample(windows[:, None].float() / 255, grid, padding_mode="border", align_corners=False)
    amount = torch.where(uniform(0, 1) < 0.3, uniform(0, 0.8), torch.zeros(count))[:, None, None, None]
    x = torch.lerp(x, F.avg_pool2d(x, 3, 1, 1), amount)
    noise = torch.where(uniform(0, 1) < 0.4, uniform(0, 0.04), torch.zeros(count))[:, None, None, None]
    return scale_windows(x + noise * torch.randn(x.shape, generator=generator))


def plain(windows: np.ndarray) -> Tensor:
    """Windows as the service cuts them: centred, min-max scaled, shape (B, 1, 96, 96)."""
    size = int(PREPROCESSING["size_px"])
    x = torch.from_numpy(windows[:, MARGIN : MARGIN + size, MARGIN : MARGIN + size].astype(np.float32))
    return scale_windows(x[:, None])


@torch.no_grad()
def predict(network: nn.Module, windows: np.ndarray, batch: int = 256) -> np.ndarray:
    """Probability of malignancy of each window, float64, shape (n,)."""
    parts = [
        F.softmax(network(plain(windows[k : k + batch]).contiguous(memory_format=torch.channels_last)).double(), 1)[
            :, 1
        ]
        for k in range(0, len(windows), batch)
    ]
    return torch.cat(parts).numpy()


def by_nodule(network: nn.Module, prepared: Prepared, nodules: list[Nodule]) -> np.ndarray:
    """Probability of malignancy by nodule: the mean over its central slices, as in the service."""
    rows = [nodule.central for nodule in nodules]
    values = predict(network, prepared.windows[np.concatenate(rows)])
    ends = np.cumsum([len(row) for row in rows])
    return np.array([part.mean() for part in np.split(values, ends[:-1])])


def train(prepared_folder: Path, run_folder: Path, plan: Plan = Plan()) -> None:
    """Train, or go on where the last checkpoint of `run_folder` ends."""
    torch.set_num_threads(plan.threads)
    seed_everything(plan.seed)
    prepared = load(prepared_folder)
    decided, held = prepared.part("train"), prepared.part("validation")
    doubtful = [n for n in prepared.nodules if n.part == "train" and label(n) is None]
    truth = np.array([label(n) for n in held])
    weight: dict[int | None, float] = {k: len(decided) / 2 / sum(label(n) == k for n in decided) for k in (0, 1)}
    weight[None] = 1.0
    network = Sequencer(sisc(plan.width)).to(memory_format=torch.channels_last)
    average = Average(network)
    optimiser = torch.optim.AdamW(network.parameters(), plan.rate, weight_decay=plan.decay)
    run, first = Run(run_folder), 0
    if state := run.resume():
        network.load_state_dict(state["network"])
        average.network.load_state_dict(state["average"])
        average.steps = state["steps"]
        optimiser.load_state_dict(state["optimiser"])
        first = state["epoch"]
    for epoch in range(first, plan.epochs):
        began = time.time()
        generator = np.random.default_rng([plan.seed, epoch])
        torch_generator = torch.Generator().manual_seed(plan.seed * 1000 + epoch)
        nodules = decided + (doubtful if epoch >= plan.doubtful_from else [])
        drawn = [
            (nodule, nodule.first + k)
            for nodule in nodules
            for k in generator.choice(nodule.slices, min(plan.slices, nodule.slices), replace=False)
        ]
        order = generator.permutation(len(drawn))
        steps = len(order) // plan.batch
        network.train()
        losses = []
        for step in tqdm(range(steps), desc=f"lung epoch {epoch + 1}/{plan.epochs}", mininterval=5):
            progress = (epoch * steps + step) / (plan.epochs * steps)
            for group in optimiser.param_groups:
                group["lr"] = plan.rate * min(1, (progress + 1e-3) / 0.04) * (0.5 + 0.5 * math.cos(math.pi * progress))
            batch = [drawn[k] for k in order[step * plan.batch : (step + 1) * plan.batch]]
            x = augment(torch.from_numpy(prepared.windows[[row for _, row in batch]]), torch_generator)
            malignant = torch.tensor([soft_label(nodule) for nodule, _ in batch])
            weights = torch.tensor([weight[label(nodule)] for nodule, _ in batch])
            logits = network(x.contiguous(memory_format=torch.channels_last))
            target = torch.stack([1 - malignant, malignant], 1)
            loss = (weights * F.cross_entropy(logits, target, reduction="none")).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            average.update(network)
            losses.append(loss.item())
        value = auc(truth, by_nodule(average.network.to(memory_format=torch.channels_last), prepared, held))
        run.log(
            epoch=epoch + 1,
            loss=round(float(np.mean(losses)), 4),
            validation_auc=round(value, 4),
            seconds=round(time.time() - began),
        )
        run.save(network=network, average=average.network, steps=average.steps, optimiser=optimiser, epoch=epoch + 1)
