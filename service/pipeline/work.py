"""What the stages work with: an analysis that is ready to run, the parts that do the work, the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from models.bundle import Bundle
from service.inference.engine import Engine
from service.intake.sandbox import Sandbox
from service.records import Instance, Request

STAGES = ("queue", "decode", "quality", "model", "maps", "objects", "total")
"""Keys of `timing_ms`: waiting, reading pixels, input checks and quality gate, the network, composing and storing maps,
DICOM objects, and everything from acceptance to the end."""


@dataclass(frozen=True)
class Work:
    """One analysis that passed `prepare`: it can be stored, and run later."""

    model: str
    instances: tuple[Instance, ...]
    request: Request
    warnings: tuple[str, ...] = ()

    def noting(self, warnings: Sequence[str]) -> Work:
        """The same with more warnings."""
        return replace(self, warnings=(*self.warnings, *warnings))


@dataclass(frozen=True)
class Tools:
    """The parts a stage uses."""

    sandbox: Sandbox
    engine: Engine
    candidates: bool = False
    """Whether nodule candidates are searched where nobody named a place."""


@dataclass
class Watch:
    """Time spent in each stage; tells `report` when a stage begins."""

    report: Callable[[str], None] = lambda stage: None
    ms: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        self.report(stage)
        begin = time.monotonic()
        try:
            yield
        finally:
            self.ms[stage] += (time.monotonic() - begin) * 1000


@dataclass(frozen=True)
class Case:
    """Work with the bundle that answers for it."""

    work: Work
    bundle: Bundle
    tools: Tools
    watch: Watch
