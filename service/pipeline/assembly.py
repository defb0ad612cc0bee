"""Puts the parts together: the tools of the pipeline, and the whole service on a data folder."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from service.config import Settings
from service.inference.engine import Engine
from service.intake.limits import Limits
from service.intake.sandbox import Sandbox
from service.pipeline.analysis import Pipeline
from service.pipeline.queue import Queue
from service.pipeline.work import Tools
from service.store.analyses import Store


def limits(settings: Settings) -> Limits:
    """The decoding limits among the settings."""
    return Limits(
        file_bytes=settings.upload_bytes,
        zip_members=settings.zip_members,
        expanded_bytes=settings.expanded_bytes,
        pixels=settings.pixels,
        child_memory_bytes=settings.child_memory_bytes,
        seconds=settings.child_seconds,
    )


def open_tools(settings: Settings, spool: Path) -> Tools:
    """Start the decoding children and load the models, side by side.

    Raises
    ------
    BundleError, EngineError
        When the models cannot be used.
    """
    with ThreadPoolExecutor(max_workers=2) as pool:
        engine = pool.submit(Engine, settings.models_dir, settings.provider, settings.threads, settings.batch_limit)
        sandbox = pool.submit(Sandbox, spool, limits(settings), settings.sandbox_workers).result()
        try:
            return Tools(sandbox, engine.result())
        except BaseException:
            sandbox.close()
            raise


@dataclass(frozen=True)
class Service:
    """Everything that runs in one process."""

    settings: Settings
    store: Store
    tools: Tools
    pipeline: Pipeline
    queue: Queue
    spool: Path
    """For what is on its way in; empty at every start."""
    probe: Path
    """A tiny image that the health report has read."""

    def close(self) -> bool:
        """Stop in order: the queue, the children, the database. True when nothing was left running."""
        done = self.queue.stop(self.settings.stop_wait_s)
        self.tools.sandbox.close()
        self.store.close()
        return done


def open_service(settings: Settings) -> Service:
    """Open the data folder, start the tools and begin to work on what is queued.

    Raises
    ------
    StoreError, DatabaseError
        When the data folder cannot be used.
    BundleError, EngineError
        When the models cannot be used.
    """
    store = Store(settings.data_dir.resolve(), settings.free_bytes)
    try:
        spool = store.folder / "spool"
        shutil.rmtree(spool, ignore_errors=True)
        spool.mkdir(mode=0o700)
        tools = open_tools(settings, spool)
    except BaseException:
        store.close()
        raise
    pipeline = Pipeline(tools)
    queue = Queue(store, pipeline, workers=settings.workers, limit=settings.queue_limit, attempts=settings.attempts)
    queue.start()
    threading.Thread(target=store.sweep, name="sweep", daemon=True).start()
    probe = store.folder / "probe.png"
    Image.new("L", (8, 4)).save(probe)
    return Service(settings, store, tools, pipeline, queue, spool, probe)
