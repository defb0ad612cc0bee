"""The service's end of one decoding child: starts it, asks it, and kills it when it does not answer."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from service.intake import wire
from service.intake.limits import Limits

ROOT = Path(__file__).resolve().parents[2]

ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONPATH": str(ROOT),
    "PYTHONNOUSERSITE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    # A fixed threshold: big blocks go back to the system as soon as they are freed, so a warm child stays small.
    "MALLOC_MMAP_THRESHOLD_": "1048576",
}
"""All that a child inherits: no secrets of the service."""


class ChildFailed(Exception):
    """The child gave no usable answer; `how` is "died", "too slow" or "garbled". It has been killed."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


class Child:
    """One child process, ``python -m service.intake.worker``; used by one thread at a time.

    It gets stdin and stdout as pipes and nothing else; what it prints to stderr is thrown away, because decoders print
    values of the file they read.
    """

    def __init__(self, limits: Limits) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "service.intake.worker"],  # -P: nothing is imported from the working directory
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=ENVIRONMENT,
            bufsize=0,
            close_fds=True,
            start_new_session=True,  # Ctrl-C at the service's terminal is the service's business
        )
        self._pipes = [pipe for pipe in (self._process.stdin, self._process.stdout) if pipe is not None]
        self._in, self._out = (pipe.fileno() for pipe in self._pipes)
        self.ask({"limits": asdict(limits)}, limits.start_seconds)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, request: dict[str, Any], seconds: float, payload_limit: int = 0) -> tuple[dict[str, Any], bytearray]:
        """Send one request and wait for its answer.

        Parameters
        ----------
        request : dict
            JSON; small enough for the pipe (64 KiB).
        seconds : float
            Wall clock for the whole exchange.
        payload_limit : int
            Most bytes the answer's payload may have.

        Raises
        ------
        ChildFailed
            When the child dies, is too slow, or answers something that is no message. It is gone then.
        """
        end = time.monotonic() + seconds
        try:
            os.write(self._in, wire.head(request))
            header_bytes, payload_bytes = wire.lengths(self._read(wire.PREFIX.size, end), payload_limit)
            header = wire.header(self._read(header_bytes, end))
            return header, self._read(payload_bytes, end)
        except (BrokenPipeError, EOFError) as error:
            self.kill()
            raise ChildFailed("died") from error
        except TimeoutError as error:
            self.kill()
            raise ChildFailed("too slow") from error
        except ValueError as error:
            self.kill()
            raise ChildFailed("garbled") from error

    def _read(self, count: int, end: float) -> bytearray:
        """Exactly `count` bytes before the moment `end`; EOFError when the child closes the pipe first."""
        data = bytearray(count)
        view, filled = memoryview(data), 0
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        while filled < count:
            if not poll.poll(max(0.0, (end - time.monotonic()) * 1000)):
                raise TimeoutError
            got = os.readv(self._out, [view[filled:]])
            if got == 0:
                raise EOFError
            filled += got
        return data

    def kill(self) -> None:
        """End the process and give its pipes back. May be called again."""
        self._process.kill()
        self._process.wait()
        for pipe in self._pipes:
            pipe.close()
