"""What one structure costs: fingerprint and class, in milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.crystals import prototypes as p
from training.crystals.diffraction import fingerprint
from training.crystals.robustness import structures
from training.crystals.train import TASKS, load_network

PUBLISHED_MS = 70.0
"""Fingerprint and class of one structure, as published, on hardware of its time."""


def milliseconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    begin = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begin)


def measure(folder: Path, rounds: int = 10) -> dict[str, Any]:
    """Median and 95th percentile of fingerprint, class and both, over one structure a class, one processor thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    network = load_network(folder, TASKS[0])
    blocks = [next(iter(structures(kind, 1)))[1] for kind in p.CLASSES]
    times: dict[str, list[float]] = {"fingerprint": [], "class": []}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for atoms in blocks:
                image = torch.from_numpy(fingerprint(atoms))[None]
                first = milliseconds(lambda atoms=atoms: fingerprint(atoms))  # type: ignore[misc]
                second = milliseconds(lambda image=image: network(image).argmax(1))  # type: ignore[misc]
                if number:  # the first round warms up
                    times["fingerprint"].append(first)
                    times["class"].append(second)
    torch.set_num_threads(threads)
    times["both"] = [a + b for a, b in zip(times["fingerprint"], times["class"], strict=True)]
    return {
        "published": PUBLISHED_MS,
        "threads": 1,
        "structures": len(times["both"]),
        "atoms": [min(map(len, blocks)), max(map(len, blocks))],
        **{name: {"median": float(np.median(v)), "p95": float(np.percentile(v, 95))} for name, v in times.items()},
    }
