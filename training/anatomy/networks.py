"""The three networks of chapter 3: shallow, deeper, and the deeper one taught with augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.anatomy.data import Anatomy
from training.digits.train import Plan, train
from training.networks import Architecture, Conv

SHALLOW = ((Conv(16, 5),), (Conv(32, 5),))
DEEP = ((Conv(16),), (Conv(32), Conv(32)), (Conv(64), Conv(64)), (Conv(96), Conv(96, 1)))
"""Cells; fig. 3.7 gives the thesis' sizes only in a picture that we do not have, so these are our choice."""
STILL = Plan(epochs=20, batch=32, rate=3e-3, average=0.98, turn=0, stretch=0, shift=0)
MOVED = Plan(epochs=20, batch=32, rate=3e-3, average=0.98, turn=15, stretch=0.15, shift=5)


@dataclass(frozen=True)
class Variant:
    """One of the networks."""

    title: str
    cells: tuple[tuple[Conv, ...], ...]
    plan: Plan

    def architecture(self, classes: int) -> Architecture:
        """For grey images of so many classes."""
        return Architecture(1, classes, self.cells)


VARIANTS = {
    "shallow": Variant("shallow: two convolutions, one pool", SHALLOW, STILL),
    "deep": Variant("deeper: seven convolutions, three pools", DEEP, STILL),
    "deep-augmented": Variant("deeper, with augmentation", DEEP, MOVED),
}
KEPT = (0, 1, 2, 3, 5, 8, 12, 20)
"""Epochs after which the weights are kept, to see when landmarks appear; 0 is the untrained network."""


def train_all(anatomy: Anatomy, folder: Path, only: Sequence[str] = ()) -> None:
    """Train the networks, or those named, or go on with them.

    The images for the test are counted after every epoch, and nothing is chosen by that.
    """
    for name, variant in VARIANTS.items():
        if not only or name in only:
            architecture = variant.architecture(len(anatomy.classes))
            train(anatomy.part(False), anatomy.part(True), architecture, folder / name, variant.plan, KEPT)
