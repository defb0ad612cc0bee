"""A process that takes up what is queued in a folder and dies of SIGKILL in the middle of it: see test_queue.py."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from models import bundle as bundles
from service.pipeline.queue import Queue
from service.pipeline.sending import Sending
from service.store.analyses import Store


def main(folder: Path, models: Path) -> None:
    store = Store(folder / "data", free_bytes=0)
    pipeline: Any = SimpleNamespace(
        bundles={"sisc_lung": bundles.load(models / "sisc_lung")},
        run=lambda work, report: os.kill(os.getpid(), signal.SIGKILL),
    )
    sending = Sending(store, (), lambda analysis: b"", attempts=2, backoff_s=0.1, longest_s=1)
    objects: Any = SimpleNamespace(make=lambda *arguments, **more: ((), [], []))
    queue = Queue(store, pipeline, objects, sending, engine_url=f"sqlite:///{folder / 'workflows.sqlite'}")
    queue.start()
    time.sleep(150)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
