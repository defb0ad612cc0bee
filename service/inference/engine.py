"""ONNX Runtime sessions: one a bundle, shared by all threads, on the provider that is really used."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models import bundle as bundles
from models.bundle import Bundle, BundleError
from service import memory

if TYPE_CHECKING:
    import onnxruntime

log = logging.getLogger("pellucid.inference")

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
SWITCH = "with_maps"
"""Optional boolean input of a graph: false leaves the response maps out. Asking for other outputs alone does not: ONNX
Runtime computes the whole graph whatever outputs are fetched."""
OUTPUTS = ("logits", "probabilities", "response_maps", "features")
_CPU_BATCH = 4
"""Images given to a processor at once: more are no faster and take memory in proportion."""
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")


class EngineError(Exception):
    """Models cannot be run as the settings ask; the message says what to change."""


@dataclass
class Statistics:
    """What one model did since the start."""

    runs: int = 0
    images: int = 0
    failures: int = 0
    seconds: float = 0.0
    last: float | None = None
    """End of the last run, seconds since the epoch."""


@dataclass
class _Model:
    bundle: Bundle
    session: onnxruntime.InferenceSession
    switch: bool
    """Whether the graph has the optional input `SWITCH`."""
    statistics: Statistics = field(default_factory=Statistics)


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Engine:
    """All bundles of a folder, ready to run.

    Parameters
    ----------
    folder : Path
        Folder whose sub-folders are model bundles.
    provider : {"auto", "cpu", "cuda"}
        "auto" takes a GPU when this machine has one; "cuda" refuses to go on without it.
    threads : int
        Threads of one inference; 0 = one a core this process may use.
    batch_limit : int
        Largest batch given to a model at once; longer inputs are cut into batches of this size.

    Raises
    ------
    BundleError
        When a bundle must not be used (see `models.bundle.load`) or there is none.
    EngineError
        When `provider` is "cuda" and ONNX Runtime does not run on a GPU.
    """

    def __init__(self, folder: Path, provider: str = "auto", threads: int = 0, batch_limit: int = 16) -> None:
        found = bundles.folders(folder)
        if not found:
            raise BundleError(
                "the models folder holds no model bundle (a folder with model.json); set models_dir to one that does"
            )
        self._provider, self._threads, self._batch_limit = (
            provider,
            threads or _cores(),
            batch_limit,
        )
        self._running = threading.Lock()
        """One inference at a time: it uses all cores, and memory stays that of one batch."""
        with ThreadPoolExecutor(max_workers=len(found)) as pool:
            models = list(pool.map(self._open, found))
        self._models = {model.bundle.name: model for model in models}

    def _open(self, folder: Path) -> _Model:
        import onnxruntime

        bundle = bundles.load(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False  # the arena keeps the largest batch's memory for ever
        # A buffer that waits for its next use is memory, too: a quarter of what a photograph takes.
        options.enable_mem_reuse = False
        options.add_session_config_entry(
            "session.intra_op.allow_spinning", "0"
        )  # idle threads leave the cores to the decoders
        gpu = self._provider == "cuda" or (
            self._provider == "auto" and any(Path(device).exists() for device in _GPU_DEVICES)
        )
        wanted = [CUDA, CPU] if gpu and CUDA in onnxruntime.get_available_providers() else [CPU]
        try:
            session = onnxruntime.InferenceSession(str(bundle.weights), options, providers=wanted)
        except Exception as error:  # onnxruntime raises its own classes, which share no public base
            raise BundleError(
                f"model bundle {bundle.name}: ONNX Runtime cannot open the weights "
                f"({type(error).__name__}); export the model again"
            ) from error
        used = session.get_providers()[0]
        if self._provider == "cuda" and used != CUDA:
            raise EngineError(
                f"provider = cuda, but model {bundle.name} runs on {used}: no usable GPU or CUDA libraries; "
                "set provider = auto or cpu"
            )
        if gpu and used != CUDA:
            log.warning("model %s: a GPU is present but ONNX Runtime fell back to %s", bundle.name, used)
        missing = set(OUTPUTS) - {output.name for output in session.get_outputs()}
        if missing:
            raise BundleError(
                f"model bundle {bundle.name}: the weights have no output {sorted(missing)}; export the model again"
            )
        switch = any(node.name == SWITCH for node in session.get_overridable_initializers())
        return _Model(bundle, session, switch)

    @property
    def bundles(self) -> dict[str, Bundle]:
        """Bundles by name."""
        return {name: model.bundle for name, model in self._models.items()}

    @property
    def batch_limit(self) -> int:
        return self._batch_limit

    def provider(self, name: str) -> str:
        """The execution provider that a model really runs on."""
        return str(self._models[name].session.get_providers()[0])

    def statistics(self, name: str) -> Statistics:
        return self._models[name].statistics

    def describe(self, name: str) -> dict[str, list[dict[str, Any]]]:
        """Inputs and outputs of a model: name, shape (-1 where free) and Open Inference Protocol datatype."""

        def row(node: Any) -> dict[str, Any]:
            return {
                "name": node.name,
                "datatype": "FP32",
                "shape": [size if isinstance(size, int) else -1 for size in node.shape],
            }

        session = self._models[name].session
        return {
            "inputs": [row(node) for node in session.get_inputs()],
            "outputs": [row(node) for node in session.get_outputs()],
        }

    def run(self, bundle: Bundle, batch: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """Run a model on a batch and compute only the outputs asked for.

        Parameters
        ----------
        bundle : Bundle
        batch : ndarray, float32, shape (B, C, H, W)
            Preprocessed images, B >= 1.
        outputs : sequence of str
            Some of `OUTPUTS`. A prediction without maps does not pay for them.

        Returns
        -------
        dict of str to ndarray
            Each float32 with leading axis B.
        """
        model = self._models[bundle.name]
        name = model.session.get_inputs()[0].name
        more = {SWITCH: np.array("response_maps" in outputs)} if model.switch else {}
        pieces = []
        with self._running:
            begin = time.monotonic()
            try:
                step = min(self._batch_limit, _CPU_BATCH) if self.provider(bundle.name) == CPU else self._batch_limit
                for start in range(0, len(batch), step):
                    piece = np.ascontiguousarray(batch[start : start + step], dtype=np.float32)
                    pieces.append(model.session.run(list(outputs), {name: piece, **more}))
            except Exception:
                model.statistics.failures += 1
                raise
            memory.give_back()
            model.statistics.runs += 1
            model.statistics.images += len(batch)
            model.statistics.seconds += time.monotonic() - begin
            model.statistics.last = time.time()
        return {output: np.concatenate([piece[i] for piece in pieces]) for i, output in enumerate(outputs)}
