"""The networks of the lung model: which are trained, on which patients, and what each answers to those it has not seen.

Eight members leave out one fold each and the test folds. Together they are the shipped ensemble; each one's answers to the fold
that it left out are the cross-validation, with those of the first two to the test folds. Four more networks are for the page of
results only: the training-size study and the published protocol's leak.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from training.lung.data import TEST_FOLDS, TRAIN_FOLDS, Prepared, load
from training.lung.protocol import Trained
from training.lung.train import Plan, Split, by_patient, by_slice, log_odds, train
from training.networks import Sequencer, sisc


@dataclass(frozen=True)
class Task:
    """One network to train."""

    name: str
    fold: int
    share: float = 1.0
    leaky: bool = False

    def split(self, prepared: Prepared) -> Split:
        return by_slice(prepared, self.fold) if self.leaky else by_patient(prepared, self.fold, self.share)


MEMBERS = tuple(Task(f"member-{fold}", fold) for fold in TRAIN_FOLDS)
STUDY = tuple(Task(f"study-{share:g}", TRAIN_FOLDS[0], share) for share in (0.5, 0.25, 0.125))
LEAKY = Task("leaky", TRAIN_FOLDS[0], leaky=True)
TASKS = (*MEMBERS, LEAKY, *STUDY)


def network(run: Path, plan: Plan) -> Sequencer:
    """The averaged network of a training's last checkpoint."""
    model = Sequencer(sisc(plan.width))
    model.load_state_dict(torch.load(run / "checkpoint.pt", weights_only=True, map_location="cpu")["average"])
    return model.eval()


def perform(task: Task, data: Path, plan: Plan) -> None:
    """Train one network, or go on with it, and write its answers to the slices that it did not learn from."""
    prepared = load(data)
    split = task.split(prepared)
    folder = data / task.name
    trained = train(prepared, split, folder, plan)
    seconds = sum(json.loads(line)["seconds"] for line in (folder / "log.jsonl").read_text().splitlines())
    drawn = sum(min(plan.slices, len(rows)) for _, rows in split.train)
    facts = {
        "protocol": "slice" if task.leaky else "patient",
        "fold": task.fold,
        "share": task.share,
        "train_nodules": len(split.train),
        "train_slices": sum(len(rows) for _, rows in split.train),
        "images": drawn // plan.batch * plan.batch * plan.epochs,
        "seconds": seconds,
        "parameters": sum(p.numel() for p in trained.parameters()),
        "plan": asdict(plan),
    }

    def answer(where: Path, folds: Sequence[int] | None) -> None:
        rows = np.array([row for n, rows in split.held if folds is None or n.fold in folds for row in rows])
        Trained(rows, log_odds(trained, prepared.inputs[rows]), facts).write(where)

    if task.leaky:
        answer(data / "leaky" / str(task.fold), None)
    elif task in STUDY:
        answer(data / "study" / f"{task.share:g}", [task.fold, *TEST_FOLDS])
    else:
        answer(data / "folds" / str(task.fold), [task.fold])
        if task.fold == TRAIN_FOLDS[0]:
            answer(data / "study" / "1", [task.fold, *TEST_FOLDS])
        for test_fold, member in zip(TEST_FOLDS, MEMBERS, strict=False):
            if member == task:
                answer(data / "folds" / str(test_fold), [test_fold])


def perform_all(data: Path, plan: Plan, only: Sequence[str] = (), workers: int = 0) -> None:
    """Train all networks, or those named, `workers` at a time (0: one a processor, or one where there is a GPU)."""
    chosen = [task for task in TASKS if not only or task.name in only]
    workers = workers or (1 if torch.cuda.is_available() else os.cpu_count() or 1)
    with ProcessPoolExecutor(min(workers, len(chosen)), get_context("spawn")) as pool:
        for done in [pool.submit(perform, task, data, plan) for task in chosen]:
            done.result()
