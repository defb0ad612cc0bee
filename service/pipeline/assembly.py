"""Puts the parts together: the tools of the pipeline, and the whole service on a data folder."""

from __future__ import annotations

import json
import os
import select
import shutil
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from PIL import Image

from service.config import Settings
from service.inference.engine import Engine
from service.intake.inbox import Inbox
from service.intake.limits import Limits
from service.intake.sandbox import Sandbox
from service.pipeline import body
from service.pipeline.analysis import Pipeline
from service.pipeline.arrivals import Arrivals
from service.pipeline.objects import Objects
from service.pipeline.performer import Performer
from service.pipeline.queue import Queue
from service.pipeline.revisions import Revisions
from service.pipeline.sending import Sending
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
            return Tools(sandbox, engine.result(), settings.candidates == "auto")
        except BaseException:
            sandbox.close()
            raise


def open_objects(settings: Settings, tools: Tools) -> Objects:
    """What makes the DICOM objects, as the settings have it."""
    return Objects(tools.sandbox, settings.objects, settings.region_share, settings.validation_share)


class DicomListener(Protocol):
    """What the service knows of the DIMSE entrance that stands before it."""

    wake_fd: int
    """Readable when something was laid into the inbox."""

    @property
    def pids(self) -> list[int]: ...

    @property
    def port(self) -> int: ...

    @property
    def associations(self) -> int: ...

    def stop(self) -> None: ...


@dataclass
class Service:
    """Everything that runs in one process but the entrances."""

    settings: Settings
    store: Store
    tools: Tools
    pipeline: Pipeline
    queue: Queue
    sending: Sending
    revisions: Revisions
    arrivals: Arrivals
    spool: Path
    """For what is on its way in over HTTP; empty at every start."""
    inbox: Path
    """Where the DICOM doors lay down what arrives."""
    probe: Path
    """A tiny image that the health report has read."""
    listener: DicomListener | None = None
    """The DIMSE entrance, when it is open."""
    _hearing: threading.Thread | None = None
    _closing: bool = False

    def attach(self, listener: DicomListener) -> None:
        """Take note of what a started DIMSE entrance lays down; it is stopped with the service."""
        self.listener = listener
        self._hearing = threading.Thread(target=self._hear, args=(listener.wake_fd,), name="inbox-wake", daemon=True)
        self._hearing.start()

    def _hear(self, descriptor: int) -> None:
        while not self._closing:
            if select.select([descriptor], [], [], 0.2)[0]:
                os.read(descriptor, 4096)
                self.arrivals.wake()
                time.sleep(0.02)  # a burst is one wake-up

    def close(self) -> bool:
        """Stop in order: listener, arrivals, queue, children, database. True when nothing was left running."""
        self._closing = True
        if self.listener is not None and self._hearing is not None:
            self._hearing.join()
            self.listener.stop()
        self.arrivals.stop()
        done = self.queue.stop(self.settings.stop_wait_s)
        self.tools.sandbox.close()
        self.store.close()
        return done


def open_service(settings: Settings) -> Service:
    """Open the data folder, start the tools and begin to work on what is queued.

    Raises
    ------
    StoreError, DatabaseError
        When the data folder or the database cannot be used.
    BundleError, EngineError
        When the models cannot be used.
    """
    content = Path(settings.blobs_dir).resolve() if settings.blobs_dir else None
    store = Store(settings.data_dir.resolve(), settings.free_bytes, settings.database, content)
    try:
        spool = store.folder / "spool"
        shutil.rmtree(spool, ignore_errors=True)
        spool.mkdir(mode=0o700)
        tools = open_tools(settings, spool)
    except BaseException:
        store.close()
        raise
    pipeline = Pipeline(tools)
    store.archive.same = tools.sandbox.same
    objects = open_objects(settings, tools)
    sending = Sending(
        store,
        settings.destinations,
        lambda analysis: json.dumps(body.full(store, pipeline.bundles, analysis)).encode(),
        attempts=settings.delivery_attempts,
        backoff_s=settings.delivery_backoff_s,
        longest_s=settings.delivery_wait_s,
    )
    revisions = Revisions(store, pipeline, objects, sending)
    queue = Queue(
        store,
        pipeline,
        objects,
        sending,
        engine_url=settings.database or f"sqlite:///{store.folder / 'workflows.sqlite'}",
        host=_host_id(store.folder) if settings.database else "local",
        workers=settings.workers,
        limit=settings.queue_limit,
        attempts=settings.attempts,
        host_lost_s=settings.host_lost_s,
        retention=timedelta(days=settings.retention_days) if settings.retention_days else None,
        revisions=revisions,
    )
    folder = store.folder / "inbox"
    arrivals = Arrivals(store, pipeline, queue, Inbox(folder, limits(settings)), settings)
    arrivals.on_commitment = sending.committed
    arrivals.performer = Performer(store, pipeline, queue, settings)
    queue.start()
    arrivals.start()
    threading.Thread(target=_sweep, args=(store, arrivals, time.time()), name="sweep", daemon=True).start()
    probe = store.folder / "probe.png"
    Image.new("L", (8, 4)).save(probe)
    return Service(settings, store, tools, pipeline, queue, sending, revisions, arrivals, spool, folder, probe)


def _sweep(store: Store, arrivals: Arrivals, opened: float) -> None:
    """Tidy up after a crash, once what it left half filed is filed."""
    arrivals.caught_up.wait()
    store.sweep(opened)


def _host_id(folder: Path) -> str:
    """A name for this host among those that share a database: it stays with the data folder."""
    file = folder / "host-id"
    if not file.exists():
        file.write_text(uuid.uuid4().hex, encoding="ascii")
    return file.read_text(encoding="ascii").strip()
