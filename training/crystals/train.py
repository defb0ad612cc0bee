"""Training of the networks of table 3.1."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from training.crystals import data
from training.crystals import prototypes as p
from training.crystals.networks import Classifier, probabilities
from training.run import Run, seed_everything


@dataclass(frozen=True)
class Plan:
    """How to train; Adam with the published learning rate and batch."""

    epochs: int = 8
    batch: int = 32
    learning_rate: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class Task:
    """One of the networks."""

    name: str
    merged: bool
    """Whether rh and hex are one class."""
    states: tuple[str, ...]
    """What it learns from."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of its classes."""
        return p.MERGED if self.merged else p.CLASSES

    def target(self, kind: np.ndarray) -> np.ndarray:
        """Its class numbers for numbers in `prototypes.CLASSES`."""
        return p.TO_MERGED[kind] if self.merged else kind


TASKS = (
    Task("thesis", True, ("pristine",)),
    Task("eight", False, ("pristine",)),
    Task("damaged", False, ("pristine", "damaged")),
)
"""The thesis' protocol; the same with rh and hex apart; and one that has seen defects."""


def schedule(step: int, steps: int) -> float:
    """Factor of the learning rate: 1, and falling to 0 in a half cosine over the second half."""
    return 1.0 if 2 * step < steps else 0.5 * (1 + math.cos(math.pi * (2 * step / steps - 1)))


def train(folder: Path, task: Task, plan: Plan) -> Classifier:
    """Train one network, or go on from its last checkpoint (one an epoch, in ``<folder>/run_<task>``)."""
    run = Run(folder / f"run_{task.name}")
    known = data.load(folder, "train", task.states)
    judged = data.load(folder, "validate", task.states)
    seed_everything(plan.seed)
    network = Classifier(len(task.classes))
    optimizer = torch.optim.Adam(network.parameters(), plan.learning_rate)
    begin = 0
    if (state := run.resume()) is not None:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        begin = state["epoch"]
    images, target = torch.from_numpy(known.images), torch.from_numpy(task.target(known.kind))
    steps = len(images) // plan.batch * plan.epochs
    for epoch in range(begin, plan.epochs):
        started = time.perf_counter()
        torch.manual_seed(plan.seed * 1000 + epoch)
        order = torch.randperm(len(images))
        network.train()
        losses = []
        for number, rows in enumerate(order.split(plan.batch)):
            if len(rows) < plan.batch:
                break
            step = epoch * (len(images) // plan.batch) + number
            for group in optimizer.param_groups:
                group["lr"] = plan.learning_rate * schedule(step, steps)
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(images[rows].float())
            loss = F.cross_entropy(logits.float(), target[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        answers = probabilities(network, torch.from_numpy(judged.images)).argmax(1).numpy()
        right = float((answers == task.target(judged.kind)).mean())
        seconds = time.perf_counter() - started
        run.log(epoch=epoch + 1, loss=float(np.mean(losses)), validation=right, seconds=seconds)
        print(
            f"{task.name} {epoch + 1}/{plan.epochs}: loss {np.mean(losses):.4f}, {right:.4f}, {seconds:.0f} s",
            flush=True,
        )
        run.save(network=network, optimizer=optimizer, epoch=epoch + 1)
    return network.eval()


def load_network(folder: Path, task: Task) -> Classifier:
    """A trained network.

    Raises
    ------
    FileNotFoundError
        When it was not trained.
    """
    state = Run(folder / f"run_{task.name}").resume()
    if state is None:
        raise FileNotFoundError(f"no network {task.name} in {folder}: run python -m training.crystals train")
    network = Classifier(len(task.classes))
    network.load_state_dict(state["network"])
    return network.eval()


def train_all(folder: Path, plan: Plan, only: list[str]) -> None:
    """Train the networks one after the other."""
    for task in TASKS:
        if not only or task.name in only:
            train(folder, task, plan)


def summary(folder: Path) -> dict[str, Any]:
    """Accuracy of every trained network on elements that it was not trained on, undamaged and damaged, and what it took."""
    found: dict[str, Any] = {"networks": {}}
    tested = {state: data.load(folder, "test", (state,)) for state in data.STATES}
    for task in TASKS:
        path = folder / f"run_{task.name}"
        if not (path / "checkpoint.pt").exists():
            continue
        network = load_network(folder, task)
        log = [json.loads(line) for line in (path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        known = data.load(folder, "train", task.states)
        entry: dict[str, Any] = {
            "classes": list(task.classes),
            "learnt from": list(task.states),
            "structures": len(known.kind),
            "elements": len(np.unique(known.elements)),
            "epochs": len(log),
            "seconds": sum(line["seconds"] for line in log),
            "parameters": sum(weight.numel() for weight in network.parameters()),
        }
        for state, part in tested.items():
            answers = probabilities(network, torch.from_numpy(part.images)).argmax(1).numpy()
            truth = task.target(part.kind)
            confusion = np.zeros((len(task.classes), len(task.classes)), int)
            np.add.at(confusion, (truth, answers), 1)
            entry[state] = {
                "accuracy": float((answers == truth).mean()),
                "n": len(truth),
                "confusion": confusion.tolist(),
            }
        found["networks"][task.name] = entry
    return found
