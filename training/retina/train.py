"""Training of CLEAR-DR's sequencer: ordinal soft labels, lesion supervision of the middle layers, progressive resizing.

The lesion head (one 1x1 convolution on the third cell) only teaches: IDRiD's drawn microaneurysms, haemorrhages, hard and
soft exudates are dense labels, worth far more a photograph than one grade. It is not part of the exported network.
"""

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

from training.metrics import quadratic_weighted_kappa
from training.networks import Architecture, Sequencer, clear_dr
from training.retina.data import LESIONS, Prepared, load
from training.run import Average, Run, seed_everything

SOURCE_SHARE = {"idrid": 0.32, "idrid_lesions": 0.14, "eyepacs_natural": 0.09, "eyepacs_equalised": 0.45}


@dataclass(frozen=True)
class Plan:
    """What a training does; the defaults are the published run."""

    stages: tuple[tuple[int, int], ...] = ((256, 9), (384, 3), (512, 5))
    """(input size in px, epochs), in order."""
    draws: int = 2400
    """Photographs an epoch."""
    batch: int = 16
    rate: float = 2e-3
    decay: float = 0.05
    lesion_weight: float = 1.0
    softness: float = 1.6
    """Soft label of grade j when the truth is i: proportional to exp(-softness * |i - j|)."""
    seed: int = 0
    threads: int = 2


class Taught(nn.Module):
    """The sequencer with the lesion head that teaches its third cell."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.sequencer = Sequencer(architecture)
        pools = [k for k, layer in enumerate(self.sequencer.layers) if isinstance(layer, nn.MaxPool2d)]
        self.split = pools[2]
        self.lesions = nn.Conv2d(architecture.cells[2][-1].channels, len(LESIONS), 1)
        assert self.lesions.bias is not None
        nn.init.constant_(self.lesions.bias, -3.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        middle = self.sequencer.layers[: self.split](x)
        return self.sequencer.layers[self.split :](middle).mean((2, 3)), self.lesions(middle)


def soft_labels(grade: Tensor, softness: float) -> Tensor:
    """Ordinal soft labels, shape (B, 5)."""
    distance = (grade[:, None] - torch.arange(5)[None]).abs()
    return F.softmax(-softness * distance.float(), dim=1)


def augment(images: Tensor, lesions: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flips, any rotation, +-15 % scale, shifts, per-channel gain, blur and noise; images come as uint8 at 512 px."""
    x = images.float() / 31.875 - 4
    if size <= 256:
        x = F.avg_pool2d(x, 2)
    count = len(x)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

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
        lesions.float(),
        F.affine_grid(theta, [count, len(LESIONS), grid, grid], align_corners=False),
        align_corners=False,
    )
    x = x * torch.exp(0.2 * torch.randn(count, 3, 1, 1, generator=generator))
    blurred = F.avg_pool2d(x, 3, 1, 1)
    amount = torch.where(uniform(0, 1) < 0.3, uniform(0, 1), torch.zeros(count))[:, None, None, None]
    x = torch.lerp(x, blurred, amount)
    noise = torch.where(uniform(0, 1) < 0.3, uniform(0, 0.3), torch.zeros(count))[:, None, None, None]
    return x + noise * torch.randn(x.shape, generator=generator), (y > 0.3).float()


def draw(prepared: Prepared, count: int, generator: np.random.Generator) -> np.ndarray:
    """Indices of one epoch: fixed shares of the sources, classes by the inverse root of their size within a source."""
    chosen = []
    for source, share in SOURCE_SHARE.items():
        rows = np.array([k for k, i in enumerate(prepared.items) if i.part == "train" and i.source == source])
        grades = np.array([prepared.items[k].grade for k in rows])
        size = np.array([(grades == grade).sum() for grade in grades], dtype=float)
        weight = 1 / np.sqrt(size)
        chosen.append(generator.choice(rows, round(count * share), p=weight / weight.sum()))
    return generator.permutation(np.concatenate(chosen))


def at_size(images: np.ndarray, size: int) -> Tensor:
    """Prepared photographs as the network sees them at `size` px."""
    x = torch.from_numpy(images).float() / 31.875 - 4
    return x if size == 512 else F.interpolate(x, (size, size), mode="bilinear", antialias=True)


@torch.no_grad()
def predict(network: nn.Module, prepared: Prepared, rows: np.ndarray, size: int, batch: int = 16) -> np.ndarray:
    """Probabilities, float64, shape (n, 5)."""
    parts = []
    for start in range(0, len(rows), batch):
        x = at_size(np.stack([prepared.images[k] for k in rows[start : start + batch]]), size)
        parts.append(F.softmax(network(x.contiguous(memory_format=torch.channels_last)).double(), 1).numpy())
    return np.concatenate(parts)


def validate(network: nn.Module, prepared: Prepared, size: int) -> dict[str, float]:
    """Quadratic weighted kappa on the validation part, by source."""
    result = {}
    for source in ("idrid", "eyepacs_natural", "eyepacs_equalised"):
        rows = prepared.rows("validation", source)
        truth = np.array([prepared.items[k].grade for k in rows])
        grade = predict(network, prepared, rows, size).argmax(1)
        result[source] = round(quadratic_weighted_kappa(truth, grade), 4)
    return result


def train(prepared_folder: Path, run_folder: Path, plan: Plan = Plan()) -> None:
    """Train, or go on where the last checkpoint of `run_folder` ends."""
    torch.set_num_threads(plan.threads)
    seed_everything(plan.seed)
    prepared = load(prepared_folder)
    network = Taught(clear_dr()).to(memory_format=torch.channels_last)
    average = Average(network.sequencer)
    optimiser = torch.optim.AdamW(network.parameters(), plan.rate, weight_decay=plan.decay)
    sizes = [size for size, epochs in plan.stages for _ in range(epochs)]
    run, first = Run(run_folder), 0
    if state := run.resume():
        network.load_state_dict(state["network"])
        average.network.load_state_dict(state["average"])
        average.steps = state["steps"]
        optimiser.load_state_dict(state["optimiser"])
        first = state["epoch"]
    positive = torch.tensor([6.0, 4.0, 3.0, 6.0])[None, :, None, None]
    steps = plan.draws // plan.batch
    for epoch in range(first, len(sizes)):
        size, began = sizes[epoch], time.time()
        generator = np.random.default_rng([plan.seed, epoch])
        torch_generator = torch.Generator().manual_seed(plan.seed * 1000 + epoch)
        order = draw(prepared, plan.draws, generator)
        network.train()
        losses = []
        for step in tqdm(range(steps), desc=f"retina epoch {epoch + 1}/{len(sizes)} at {size} px", mininterval=5):
            progress = (epoch * steps + step) / (len(sizes) * steps)
            for group in optimiser.param_groups:
                group["lr"] = plan.rate * min(1, (progress + 1e-3) / 0.04) * (0.5 + 0.5 * math.cos(math.pi * progress))
            rows = order[step * plan.batch : (step + 1) * plan.batch]
            raw = torch.from_numpy(np.stack([prepared.images[k] for k in rows]))
            x, y = augment(raw, torch.from_numpy(prepared.lesions[rows]), size, torch_generator)
            grade = torch.tensor([prepared.items[k].grade for k in rows])
            drawn = torch.tensor([prepared.items[k].source == "idrid_lesions" for k in rows])
            logits, lesions = network(x.contiguous(memory_format=torch.channels_last))
            graded = grade >= 0
            loss = F.cross_entropy(logits[graded], soft_labels(grade[graded], plan.softness))
            if drawn.any():
                dense = F.binary_cross_entropy_with_logits(lesions[drawn], y[drawn], pos_weight=positive)
                loss = loss + plan.lesion_weight * dense
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            average.update(network.sequencer)
            losses.append(loss.item())
        kappa = validate(average.network.to(memory_format=torch.channels_last), prepared, size)
        run.log(
            epoch=epoch + 1,
            size=size,
            loss=round(float(np.mean(losses)), 4),
            kappa=kappa,
            seconds=round(time.time() - began),
        )
        run.save(network=network, average=average.network, steps=average.steps, optimiser=optimiser, epoch=epoch + 1)
