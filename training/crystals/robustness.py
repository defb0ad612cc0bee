"""Table 3.2: accuracy on defective structures, the networks beside spglib and template matching, on the same structures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from scipy.stats import beta  # type: ignore[import-untyped]

from training.crystals import data
from training.crystals import prototypes as p
from training.crystals.defects import DAMAGES, Damage
from training.crystals.diffraction import fingerprint
from training.crystals.elements import volumes
from training.crystals.networks import probabilities
from training.crystals.rivals import CUTOFFS, PRECISIONS, TOLERANCES, UNANSWERED, Spglib, matched_class
from training.crystals.train import TASKS, load_network

NETWORKS = {
    "thesis": "network, as in the thesis",
    "eight": "network, rh and hex apart",
    "damaged": "network that has seen defects",
}
BEST = "spglib, its best for each"
SPGLIB = {name: f"spglib, {name}" for name in TOLERANCES}
METHODS = (*NETWORKS.values(), *SPGLIB.values(), BEST, *CUTOFFS)
"""Columns of the table, in this order."""


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    structures: int = 40
    """Structures a class."""
    spglib: int = 10
    """The first of them that spglib is asked about."""
    limit_s: float = 2.0
    """Seconds that spglib has for one structure at all tolerances."""


def structures(kind: str, count: int) -> Iterator[tuple[str, Atoms]]:
    """Undamaged blocks of about 256 atoms of elements that no network was trained on, on standard axes, with their names."""
    elements = [element for element in volumes() if data.part_of(element) == "test"]
    for number in range(count):
        element, copy = elements[number % len(elements)], 1000 + number
        yield f"{kind}/{element}/{copy}", p.supercell(data.base_cell(kind, element, copy))


def file_of(folder: Path, damage: Damage) -> Path:
    """Where one damage's answers lie."""
    return folder / "robustness" / f"{damage.kind}_{damage.level:g}.npz"


def answer(folder: Path, plan: Plan, damage: Damage) -> Path:
    """Let all methods answer to one kind and level of damage; what has been answered stays.

    The file has, a structure: `truth` (number in `prototypes.CLASSES`), `spglib` (space groups at `PRECISIONS`; a row for the
    first `plan.spglib` structures of a class, -2 elsewhere), `matching` (classes, one column a cutoff) and each network's answer.
    """
    path = file_of(folder, damage)
    if path.exists():
        return path
    torch.set_num_threads(1)
    networks = {task.name: load_network(folder, task) for task in TASKS}
    truth, groups, matching, images = [], [], [], []
    with Spglib(plan.limit_s) as spglib:
        for number, kind in enumerate(p.CLASSES):
            for place, (name, atoms) in enumerate(structures(kind, plan.structures)):
                hurt = damage.apply(atoms, data.generator("table", damage.kind, damage.level, name))
                truth.append(number)
                groups.append(spglib.space_groups(hurt) if place < plan.spglib else [-2] * len(PRECISIONS))
                matching.append([matched_class(hurt, cutoff) for cutoff in CUTOFFS.values()])
                images.append(fingerprint(hurt))
    x = torch.from_numpy(np.stack(images))
    answers: Any = {name: probabilities(network, x).argmax(1).numpy() for name, network in networks.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part.npz")
    np.savez(temporary, truth=truth, spglib=groups, matching=np.array(matching), **answers)
    temporary.replace(path)
    print(path.name, flush=True)
    return path


def answer_all(folder: Path, plan: Plan, workers: int) -> None:
    """Every damage of table 3.2, several at a time."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OVITO_THREAD_COUNT", "1")
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(answer, folder, plan), DAMAGES))


def share(right: np.ndarray) -> dict[str, Any]:
    """Share of right answers with its Clopper-Pearson 95 % interval (structures are drawn independently)."""
    n, k = len(right), int(right.sum())
    low = float(beta.ppf(0.025, k, n - k + 1)) if k else 0.0
    high = float(beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0
    return {"value": k / n, "interval": [low, high], "n": n}


def merged(kinds: np.ndarray) -> np.ndarray:
    """The thesis' class numbers; what is no class stays -1."""
    return np.where(kinds < 0, -1, p.TO_MERGED[kinds])


def by_method(file: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Each method's answers as numbers in `prototypes.CLASSES` (-1: none of them) and which structures it was asked about.

    The thesis' network is not among them: it has no answer in eight classes.
    """
    asked = file["spglib"][:, 0] > -2
    number = {group: k for k, group in enumerate(p.SPACE_GROUPS.values())}
    table = np.vectorize(lambda group: number.get(int(group), -1))(file["spglib"])
    found = {SPGLIB[name]: (table[:, PRECISIONS.index(t)], asked) for name, t in TOLERANCES.items()}
    everyone = np.ones(len(asked), bool)
    for column, name in enumerate(CUTOFFS):
        kinds = [p.CLASSES.index(kind) if kind else -1 for kind in file["matching"][:, column]]
        found[name] = (np.array(kinds), everyone)
    for task in TASKS[1:]:
        found[NETWORKS[task.name]] = (file[task.name], everyone)
    return found


def right(file: Any, in_eight: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Which answers are right, in the thesis' seven classes or in eight, and which structures each method was asked about."""
    truth = file["truth"]
    view = (lambda kinds: kinds) if in_eight else merged
    found = {name: (view(kinds) == view(truth), asked) for name, (kinds, asked) in by_method(file).items()}
    number = {group: k for k, group in enumerate(p.SPACE_GROUPS.values())}
    table = np.vectorize(lambda group: number.get(int(group), -1))(file["spglib"])
    found[BEST] = ((view(table) == view(truth)[:, None]).any(1), found[SPGLIB["tight"]][1])
    if not in_eight:
        found[NETWORKS["thesis"]] = (file["thesis"] == merged(truth), np.ones(len(truth), bool))
    return found


def measure(folder: Path, plan: Plan) -> dict[str, Any]:
    """Table 3.2 from all answers."""
    rows = []
    for damage in DAMAGES:
        with np.load(file_of(folder, damage)) as file:
            row: dict[str, Any] = {"kind": damage.kind, "level": damage.level, "beyond": damage.beyond}
            for key, in_eight in (("seven", False), ("eight", True)):
                answers = right(file, in_eight)
                row[key] = {name: share(good[asked]) for name, (good, asked) in answers.items()}
            known = np.isin(file["truth"], [p.CLASSES.index(kind) for kind in ("hex", "sc", "fcc", "diam", "bcc")])
            row["templates only"] = {name: share(right(file, True)[name][0][known]) for name in CUTOFFS}
            apart = np.isin(file["truth"], [p.CLASSES.index("rh"), p.CLASSES.index("hex")])
            row["rh or hex"] = {name: share(good[asked & apart]) for name, (good, asked) in right(file, True).items()}
            row["unanswered"] = float((file["spglib"][file["spglib"][:, 0] > -2] == UNANSWERED).mean())
            row["by class"] = {
                kind: share((file["thesis"] == merged(file["truth"]))[file["truth"] == number])
                for number, kind in enumerate(p.CLASSES)
            }
        rows.append(row)
    return {
        "structures a class": plan.structures,
        "of these for spglib": plan.spglib,
        "limit_s": plan.limit_s,
        "tolerances": TOLERANCES,
        "precisions": list(PRECISIONS),
        "rows": rows,
    }
