"""The digit networks and their training: small turns and shifts, averaged weights."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from training.digits.data import Digits
from training.networks import Architecture, Conv, Sequencer
from training.run import Average, Run, seed_everything

NETWORKS = {
    "mnist": Architecture(1, 10, ((Conv(32), Conv(32)), (Conv(64), Conv(64)), (Conv(128, dropout=0.1), Conv(128, 1)))),
    "svhn": Architecture(3, 10, ((Conv(48), Conv(48)), (Conv(96), Conv(96)), (Conv(192, dropout=0.1), Conv(192, 1)))),
}
"""All-convolutional, as in the thesis: a last convolution of ten kernels, GAP, softmax. The sizes are our choice."""


@dataclass(frozen=True)
class Plan:
    """What a training does; the defaults are the published run."""

    epochs: int = 14
    batch: int = 128
    rate: float = 4e-3
    decay: float = 0.05
    turn: float = 10.0
    """Largest turn, degrees."""
    stretch: float = 0.1
    """Largest change of the size, of its aspect and of its slant, each as a share."""
    shift: float = 2.0
    """Largest shift, px."""
    light: float = 0.3
    """Largest change of contrast and brightness, colour images only."""
    average: float = 0.998
    seed: int = 0
    threads: int = 2


def augment(x: Tensor, plan: Plan, generator: torch.Generator) -> Tensor:
    """Turn, stretch, slant and shift each image, and change a colour image's light; shape (B, C, H, W), as x."""
    count, channels, height, width = x.shape

    def uniform(most: float) -> Tensor:
        return most * (2 * torch.rand(count, generator=generator) - 1)

    angle, slant = uniform(math.radians(plan.turn)), uniform(plan.stretch)
    across, down = torch.exp(uniform(plan.stretch)), torch.exp(uniform(plan.stretch))
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [
        torch.stack([cos * across, (slant * cos - sin) * down, uniform(2 * plan.shift / width)], 1),
        torch.stack([sin * across, (slant * sin + cos) * down, uniform(2 * plan.shift / height)], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), [count, channels, height, width], align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    if channels == 1:
        return x
    contrast, brightness = (uniform(plan.light)[:, None, None, None] for _ in range(2))
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * torch.exp(contrast) + mean + brightness


@torch.no_grad()
def predict(network: torch.nn.Module, x: Tensor, batch: int = 500) -> np.ndarray:
    """Logits of images (n, C, H, W), float32, shape (n, 10)."""
    parts = [network(part.contiguous(memory_format=torch.channels_last)) for part in x.split(batch)]
    return torch.cat(parts).float().numpy()


def accuracy(network: torch.nn.Module, digits: Digits) -> float:
    """Share of images whose likeliest digit is the right one."""
    return float((predict(network, digits.inputs()).argmax(1) == digits.labels).mean())


def train(
    train: Digits, held: Digits, architecture: Architecture, folder: Path, plan: Plan, keep: Collection[int] = ()
) -> Sequencer:
    """Train, or go on where the last checkpoint of `folder` ends; returns the averaged network.

    After every epoch it prints how long all will still take. The averaged weights after the epochs in `keep` (0: before the
    first) stay in ``epoch-<number>.pt``, the plan in ``plan.json``.
    """
    torch.set_num_threads(plan.threads)
    seed_everything(plan.seed)
    network = Sequencer(architecture).to(memory_format=torch.channels_last)
    average = Average(network, plan.average)
    optimiser = torch.optim.AdamW(network.parameters(), plan.rate, weight_decay=plan.decay)
    run, first = Run(folder), 0
    (folder / "plan.json").write_text(json.dumps(asdict(plan)), encoding="utf-8")
    if state := run.resume():
        network.load_state_dict(state["network"])
        average.network.load_state_dict(state["average"])
        average.steps = state["steps"]
        optimiser.load_state_dict(state["optimiser"])
        first = state["epoch"]
    if not first and 0 in keep:
        torch.save(average.network.state_dict(), folder / "epoch-0.pt")
    labels = torch.from_numpy(train.labels)
    steps = max(1, len(train) // plan.batch)
    for epoch in range(first, plan.epochs):
        began = time.time()
        generator = torch.Generator().manual_seed(plan.seed * 1000 + epoch)
        order = torch.randperm(len(train), generator=generator)
        network.train()
        losses = []
        for step in tqdm(range(steps), desc=f"{folder.name} epoch {epoch + 1}/{plan.epochs}", mininterval=10):
            progress = (epoch * steps + step) / (plan.epochs * steps)
            for group in optimiser.param_groups:
                group["lr"] = plan.rate * min(1, (progress + 1e-3) / 0.1) * (0.5 + 0.5 * math.cos(math.pi * progress))
            rows = order[step * plan.batch : (step + 1) * plan.batch]
            x = augment(train.part(rows.numpy()).inputs(), plan, generator)
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(x.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), labels[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            average.update(network)
            losses.append(loss.item())
        held_accuracy = accuracy(average.network, held)
        seconds = time.time() - began
        run.log(
            epoch=epoch + 1,
            loss=round(float(np.mean(losses)), 4),
            held_accuracy=round(held_accuracy, 5),
            seconds=round(seconds, 1),
        )
        if epoch + 1 in keep:
            torch.save(average.network.state_dict(), folder / f"epoch-{epoch + 1}.pt")
        run.save(
            network=network,
            average=average.network,
            steps=average.steps,
            optimiser=optimiser,
            epoch=epoch + 1,
        )
        left = (plan.epochs - epoch - 1) * seconds / 60
        print(f"epoch {epoch + 1}: held {held_accuracy:.4f}, {seconds:.0f} s; about {left:.0f} min to go", flush=True)
    trained: Sequencer = average.network.eval()
    return trained


def trained(architecture: Architecture, folder: Path, epoch: int | None = None) -> Sequencer:
    """The averaged network of a training's last checkpoint, or of an epoch that was kept.

    Raises
    ------
    FileNotFoundError
        When there is none.
    """
    path = folder / ("checkpoint.pt" if epoch is None else f"epoch-{epoch}.pt")
    if not path.exists():
        raise FileNotFoundError(f"no {path}: train first")
    state = torch.load(path, weights_only=True)
    network = Sequencer(architecture)
    network.load_state_dict(state["average"] if epoch is None else state)
    return network.eval()
