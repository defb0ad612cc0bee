"""What every training run shares: seeds, resumable checkpoints, a log, and weights averaged over time."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Average:
    """Exponential moving average of a network's weights; batch norm statistics are copied."""

    def __init__(self, network: nn.Module, decay: float = 0.998) -> None:
        self.network: Any = copy.deepcopy(network).eval()
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        for mine, theirs in zip(self.network.parameters(), network.parameters(), strict=True):
            mine.lerp_(theirs, 1 - decay)
        for kept, current in zip(self.network.buffers(), network.buffers(), strict=True):
            kept.copy_(current)


class Run:
    """A folder with the checkpoint of a training and its log (one JSON object a line)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint = folder / "checkpoint.pt"

    def save(self, **state: Any) -> None:
        """Write the checkpoint whole or not at all."""
        temporary = self.checkpoint.with_suffix(".part")
        torch.save({k: v.state_dict() if hasattr(v, "state_dict") else v for k, v in state.items()}, temporary)
        temporary.replace(self.checkpoint)

    def resume(self) -> dict[str, Any] | None:
        """The last checkpoint, or None."""
        if not self.checkpoint.exists():
            return None
        return dict(torch.load(self.checkpoint, weights_only=True))

    def log(self, **values: Any) -> None:
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values) + "\n")
