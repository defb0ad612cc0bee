"""The other methods of table 3.2: spglib, and polyhedral template matching (Larsen et al. 2016, OVITO)."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

import numpy as np
from ase import Atoms

from training.crystals.prototypes import space_group

os.environ.setdefault("SPGLIB_WARNING", "OFF")

TOLERANCES = {"tight": 0.001, "medium": 0.01, "loose": 0.1}
"""spglib's symprec in Angstrom. The names are the thesis' columns; the values are our choice."""
PRECISIONS = (0.001, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5)
"""Among these "the best symprec of each structure" is chosen, by looking at the right answer."""
UNANSWERED = -1

TEMPLATES = {"FCC": "fcc", "HCP": "hex", "BCC": "bcc", "SC": "sc", "CUBIC_DIAMOND": "diam", "HEX_DIAMOND": "hex"}
"""OVITO's templates and the class that each stands for; bct and rh have none."""
CUTOFFS = {"template matching": 0.1, "template matching, no cutoff": 0.0}
"""Largest deviation (RMSD) at which an atom counts as matched: OVITO's default, and none."""


def _answer(connection: Connection) -> None:
    """Find space groups for (atoms, precisions) until the pipe closes; one message a precision."""
    while True:
        try:
            atoms, precisions = connection.recv()
        except EOFError:
            return
        for precision in precisions:
            connection.send(space_group(atoms, precision))


class Spglib:
    """spglib in a process of its own, so that a search that does not end can be ended."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["training.crystals.rivals"])
        self._start()

    def _start(self) -> None:
        self._here, there = self._context.Pipe()
        self._process = self._context.Process(target=_answer, args=(there,), daemon=True)
        self._process.start()
        there.close()

    def _end(self) -> None:
        self._here.close()
        self._process.kill()
        self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def space_groups(self, atoms: Atoms, precisions: tuple[float, ...] = PRECISIONS) -> list[int]:
        """Space group at every precision; 0 where spglib finds none, -1 where the time for this structure was over."""
        self._here.send((atoms, precisions))
        found: list[int] = []
        end = time.monotonic() + self.limit_s
        while len(found) < len(precisions):
            if not self._here.poll(max(0.0, end - time.monotonic())):
                self._end()
                self._start()
                break
            found.append(self._here.recv())
        return found + [UNANSWERED] * (len(precisions) - len(found))


def matched_atoms(atoms: Atoms, cutoff: float) -> dict[str, int]:
    """Number of atoms that look like each template of OVITO's polyhedral template matching, in the periodic cell."""
    from ovito.io.ase import ase_to_ovito
    from ovito.modifiers import PolyhedralTemplateMatchingModifier as Matching
    from ovito.pipeline import Pipeline, StaticSource

    matching = Matching(rmsd_cutoff=cutoff)
    matching.structures[Matching.Type.ICO].enabled = False
    for name in TEMPLATES:
        matching.structures[getattr(Matching.Type, name)].enabled = True
    pipeline = Pipeline(source=StaticSource(data=ase_to_ovito(atoms)))
    pipeline.modifiers.append(matching)
    kinds = np.asarray(pipeline.compute().particles["Structure Type"])
    return {name: int((kinds == int(getattr(Matching.Type, name))).sum()) for name in TEMPLATES}


def matched_class(atoms: Atoms, cutoff: float) -> str:
    """Class of the template that most atoms look like; "" when no atom looks like any."""
    counts = matched_atoms(atoms, cutoff)
    best = max(counts, key=lambda name: counts[name])
    return TEMPLATES[best] if counts[best] else ""
