"""A pool of limited child processes; every request goes to whichever is idle, and its failures become clear errors."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from service import errors
from service.intake import answers
from service.intake.child import Child, ChildFailed
from service.intake.limits import Limits

_ERRORS = {
    kind.__name__: kind
    for kind in (errors.InputError, errors.TooLarge, errors.UnknownMedia, errors.OutOfContract, errors.NoSpace)
}
_FAILURES = {
    "died": "the decoder crashed on it",
    "too slow": "it took longer than {seconds:g} s to read",
    "garbled": "the decoder gave no usable answer on it",
}


class Pool:
    """Child processes that are started in the background and kept. Thread-safe.

    Parameters
    ----------
    limits : Limits
    workers : int
        Child processes.
    """

    def __init__(self, limits: Limits, workers: int) -> None:
        self.limits, self._workers = limits, workers
        self._closed = False
        self._idle: queue.SimpleQueue[Child | None] = queue.SimpleQueue()
        for _ in range(workers):
            self._idle.put(None)
        threading.Thread(target=self._warm, name="sandbox-warm", daemon=True).start()

    def close(self) -> None:
        """End the children; waits for those at work. Later requests are refused."""
        if self._closed:
            return
        self._closed = True
        for _ in range(self._workers):
            child = self._idle.get()
            if child is not None:
                child.kill()

    def ask(
        self, request: dict[str, Any], where: str, *, failed: str = "", seconds: float = 0, payload_limit: int = 0
    ) -> tuple[dict[str, Any], bytearray]:
        """One request to any child.

        Parameters
        ----------
        request : dict
        where : str
            What the request is about, at the beginning of every error's text.
        failed : str
            The same for an error of the child itself, where more helps.
        seconds : float
            Wall clock; by default that of one header or image.
        payload_limit : int
            Most bytes of the answer's payload.

        Raises
        ------
        InputError
            Or the subclass that the child answered.
        """
        seconds = seconds or self.limits.seconds
        with self.child() as child:
            try:
                header, payload = child.ask(request, seconds, payload_limit)
            except ChildFailed as failure:
                text = _FAILURES[failure.how].format(seconds=seconds)
                raise errors.InputError(f"{failed or where}: {text}; export it again in another format") from failure
        if "error" in header:
            kind = _ERRORS.get(str(header["error"]), errors.InputError)
            raise kind(f"{where}: {answers.message(header)}")
        return header, payload

    @contextmanager
    def child(self) -> Iterator[Child]:
        """A child for one exchange; a dead one is replaced first."""
        if self._closed:
            raise RuntimeError("the sandbox is closed")
        try:
            child = self._idle.get(timeout=self.limits.expand_seconds)
        except queue.Empty:
            raise errors.Busy("all decoders are at work; try again later") from None
        try:
            if child is not None and not child.alive:
                child.kill()  # gives its pipes back
                child = None
            child = child or self._start()
            yield child
        finally:
            self._idle.put(child if child is not None and child.alive else None)

    def _start(self) -> Child:
        try:
            return Child(self.limits)
        except (ChildFailed, OSError) as error:
            raise errors.Busy("the decoder cannot be started now; try again later") from error

    def _warm(self) -> None:
        for _ in range(self._workers):
            if self._closed:
                return
            try:
                with self.child():
                    pass
            except (errors.Busy, RuntimeError):  # the first request will try again, and say so
                return


def garbled(where: str) -> errors.InputError:
    """The error for an answer that does not pass the checks."""
    return errors.InputError(f"{where}: {_FAILURES['garbled']}; export it again in another format")
