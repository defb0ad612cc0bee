"""A pool of limited child processes that do all parsing of foreign bytes; this side trusts nothing they answer."""

from __future__ import annotations

import hashlib
import queue
import shutil
import stat
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from service import errors
from service.intake import answers
from service.intake.child import Child, ChildFailed
from service.intake.limits import Limits
from service.intake.media import is_archive
from service.records import Instance

__all__ = ["Limits", "Sandbox", "is_archive"]

_ERRORS = {
    kind.__name__: kind
    for kind in (errors.InputError, errors.TooLarge, errors.UnknownMedia, errors.OutOfContract, errors.NoSpace)
}
_FAILURES = {
    "died": "the decoder crashed on it",
    "too slow": "it took longer than {seconds:g} s to read",
    "garbled": "the decoder gave no usable answer on it",
}
_PROBLEMS = 10
"""Unreadable files after which `Sandbox.inspect` stops looking."""


LARGE_PIXELS = 16_000_000
"""Larger images are decoded one at a time, so that all children together stay below 1 GB."""


class Sandbox:
    """Reads foreign files in child processes. Thread-safe; a context manager.

    Parameters
    ----------
    spool : Path
        Folder for expanded archives; made when missing.
    limits : Limits
    workers : int
        Child processes. They are started in the background and kept.
    """

    def __init__(self, spool: Path, limits: Limits | None = None, workers: int = 2) -> None:
        spool.mkdir(parents=True, exist_ok=True)
        self._spool, self.limits, self._workers = spool.resolve(), limits or Limits(), workers
        self._closed = False
        self._large = threading.Lock()
        self._idle: queue.SimpleQueue[Child | None] = queue.SimpleQueue()
        for _ in range(workers):
            self._idle.put(None)
        threading.Thread(target=self._warm, name="sandbox-warm", daemon=True).start()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the children; waits for those at work. Later calls on the sandbox are refused."""
        if self._closed:
            return
        self._closed = True
        for _ in range(self._workers):
            child = self._idle.get()
            if child is not None:
                child.kill()

    def expand(self, archive: Path) -> list[Path]:
        """Unpack a ZIP into a new folder below the spool, with generated names.

        Returns
        -------
        list of Path
            In the archive's order. The caller removes their common folder when done.

        Raises
        ------
        InputError, TooLarge, NoSpace
            See `service.intake.archive.expand`.
        """
        folder = self._spool / uuid.uuid4().hex
        folder.mkdir(mode=0o700)
        try:
            header, _ = self._ask(
                {"op": "expand", "path": str(archive.resolve()), "folder": str(folder)},
                "the ZIP",
                seconds=self.limits.expand_seconds,
            )
            count = header.get("files")
            names = [f"{number:05d}" for number in range(1, count + 1)] if type(count) is int else []
            written = sorted(folder.iterdir())
            if not names or [path.name for path in written] != names or not all(_is_plain(path) for path in written):
                raise _garbled("the ZIP")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return written

    def inspect(self, paths: Sequence[Path]) -> list[Instance]:
        """Headers of files, with their SHA-256; no pixels are decoded.

        Raises
        ------
        InputError
            Or a subclass, of the first file that cannot be used; `errors` lists up to 10 of them by their position.
        """
        found: list[Instance] = []
        problems: list[tuple[str, errors.InputError]] = []
        for number, path in enumerate(paths, 1):
            where = f"file {number} of {len(paths)}"
            try:
                found.append(self._inspect(path.resolve(), where))
            except errors.InputError as error:
                problems.append((where, error))
                if len(problems) == _PROBLEMS or error.status >= 500:
                    break
        if problems:
            first = problems[0][1]
            more = f" ({len(problems)} files cannot be used; this is the first)" if len(problems) > 1 else ""
            raise type(first)(
                first.detail + more, [{"where": where, "message": error.detail} for where, error in problems]
            )
        return found

    def hounsfield(self, instance: Instance) -> np.ndarray:
        """Pixels of a CT slice in Hounsfield units (stored values where the header has no rescale), float32 (rows, columns).

        Raises
        ------
        OutOfContract
            No pixels, colour, several frames, not DICOM.
        InputError, TooLarge, UnknownMedia
            Damaged, too large, or in a transfer syntax that is not read.
        """
        return self._pixels(
            {"op": "hounsfield"}, instance, "<f4", 4 * self.limits.slice_pixels, (instance.rows, instance.columns)
        )

    def photograph(self, instance: Instance, longest_px: int = 2048) -> np.ndarray:
        """A photograph as uint8 RGB (h, w, 3), upright, the longer side at most `longest_px`; errors as in `hounsfield`."""
        return self._pixels({"op": "photograph", "longest_px": longest_px}, instance, "|u1", 3 * longest_px**2, None)

    def grey(self, instance: Instance) -> np.ndarray:
        """A grey PNG, TIFF or JPEG of 8 or 16 bits as float32 (rows, columns); errors as in `hounsfield`."""
        return self._pixels(
            {"op": "grey"}, instance, "<f4", 4 * self.limits.slice_pixels, (instance.rows, instance.columns)
        )

    def _inspect(self, path: Path, where: str) -> Instance:
        size = path.stat().st_size
        if size > self.limits.file_bytes:
            raise errors.TooLarge(f"{where}: it has {size} bytes; at most {self.limits.file_bytes} are accepted")
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        header, _ = self._ask({"op": "inspect", "path": str(path)}, where)
        try:
            return answers.instance(header, path, sha256, self.limits)
        except (TypeError, ValueError, KeyError) as error:
            raise _garbled(where) from error

    def _pixels(
        self, request: dict[str, Any], instance: Instance, dtype: str, limit: int, shape: tuple[int, int] | None
    ) -> np.ndarray:
        where = f"instance {instance.sop_instance_uid}"
        failed = where + (f" in transfer syntax {instance.transfer_syntax_uid}" if instance.transfer_syntax_uid else "")
        large = instance.rows * instance.columns > LARGE_PIXELS
        with self._large if large else nullcontext():
            header, payload = self._ask(
                {**request, "path": str(instance.path)}, where, failed=failed, payload_limit=limit
            )
        try:
            return answers.array(header, payload, dtype, shape, request.get("longest_px", 0))
        except (TypeError, ValueError, KeyError) as error:
            raise _garbled(where) from error

    def _ask(
        self, request: dict[str, Any], where: str, *, failed: str = "", seconds: float = 0, payload_limit: int = 0
    ) -> tuple[dict[str, Any], bytearray]:
        """One request to any child; its error answers and its failures become errors that name `where`."""
        seconds = seconds or self.limits.seconds
        with self._child() as child:
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
    def _child(self) -> Iterator[Child]:
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
                with self._child():
                    pass
            except (errors.Busy, RuntimeError):  # the first request will try again, and say so
                return


def _garbled(where: str) -> errors.InputError:
    return errors.InputError(f"{where}: {_FAILURES['garbled']}; export it again in another format")


def _is_plain(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)
