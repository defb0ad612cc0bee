"""The service as a whole: time to ready, resident memory, and what it adds to the engine for a photograph."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.maps import retina_images, session
from benchmarks.pairs import pairs, seconds
from models import bundle as bundles
from training.data import ROOT, shared_data


def untuned() -> dict[str, str]:
    """The environment without what tunes PyTorch: the service runs as its users start it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server() -> Iterator[tuple[str, float, psutil.Process]]:
    """A running service: base URL, seconds from start to ready, process."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "service",
            "serve",
            "--port",
            str(port),
            "--dicom-port",
            "0",
            "--data-dir",
            folder,
        ]
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=untuned()
        )
        try:
            while True:
                try:
                    urllib.request.urlopen(f"{base}/v2/health/ready", timeout=5).close()
                    break
                except (urllib.error.URLError, OSError):
                    if process.poll() is not None or time.perf_counter() - began > 60:
                        raise RuntimeError("the service did not become ready") from None
                    time.sleep(0.02)
            yield base, time.perf_counter() - began, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(20)


def resident_mb(process: psutil.Process) -> tuple[float, float]:
    """Resident memory of the server process and of it with its children, MB."""
    own = process.memory_info().rss
    return own / 1e6, (own + sum(child.memory_info().rss for child in process.children(recursive=True))) / 1e6


def post_photograph(base: str, photograph: bytes) -> dict[str, Any]:
    """Send one photograph as a client does; the Analysis body."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="eye.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    body = head.encode() + photograph + f"\r\n--{boundary}--\r\n".encode()
    request = urllib.request.Request(
        f"{base}/api/v1/analyses", data=body, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return dict(json.load(answer))


def measure(rounds: int) -> dict[str, Any]:
    """All figures of the service."""
    starts = []
    for _ in range(3):
        with server() as (_, took, _process):
            starts.append(took)
    photograph = (shared_data() / "idrid/original/IDRiD_003.jpg").read_bytes()
    small = _idrid_small()
    bundle = bundles.load(bundles.ROOT / "clear_dr")
    engine, x = session(str(bundle.weights)), retina_images(1)
    feed = {"image": np.asarray(x, np.float32)}
    with server() as (base, _, process):
        idle = resident_mb(process)
        overhead = {}
        for name, data in (("4288x2848 JPEG", photograph), ("832x695 JPEG", small)):
            overhead[f"POST of a fundus photograph ({name}) against the engine alone (prediction + maps)"] = pairs(
                lambda d=data: post_photograph(base, d),  # type: ignore[misc]
                lambda: engine.run(["probabilities", "response_maps"], feed),
                rounds,
            )
        after = resident_mb(process)
    import_floor = statistics.median(
        seconds(
            lambda: subprocess.run([sys.executable, "-c", "import numpy, onnxruntime, flask, sqlalchemy"], check=True)
        )
        for _ in range(3)
    )
    ready = statistics.median(starts)
    return {
        "time to ready, s": {
            "value": round(ready, 2),
            "floor": "importing numpy, onnxruntime, flask, sqlalchemy",
            "floor s": round(import_floor, 2),
        },
        "resident memory when ready, MB": {"server": round(idle[0]), "with children": round(idle[1])},
        "resident memory after the photographs, MB": {"server": round(after[0]), "with children": round(after[1])},
        **overhead,
    }


def _idrid_small() -> bytes:
    with zipfile.ZipFile(Path(shared_data()) / "idrid/grading.zip") as archive:
        return archive.read("test/IDRiD_001.jpg")
