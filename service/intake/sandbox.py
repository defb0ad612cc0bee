"""Everything that is done with foreign files, by limited child processes; this side trusts nothing they answer."""

from __future__ import annotations

import collections
import hashlib
import shutil
import stat
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydicom.dataset import Dataset

from service import errors
from service.intake import answers, json_model
from service.intake.limits import Limits
from service.intake.media import is_archive
from service.intake.pool import Pool, garbled
from service.intake.references import Reference, References
from service.records import Instance

__all__ = ["Limits", "Reference", "References", "Sandbox", "is_archive"]

T = TypeVar("T")

SAME_FRAMES = 64
_PROBLEMS = 10
"""Unreadable files after which `Sandbox.inspect` stops looking."""
_PLANES_BYTES = 4096 * 14 * 8
_REFERENCES_BYTES = 1 << 20
LARGE_PIXELS = 16_000_000
"""Larger images are decoded one at a time, so that all children together stay below 1 GB."""


class Sandbox:
    """Reads foreign files in child processes. Thread-safe; a context manager.

    Every method that takes an instance raises InputError or a subclass: OutOfContract for what the instance does not have,
    TooLarge, UnknownMedia for a transfer syntax that is not read, InputError for damage.

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
        self._spool, self.limits = spool.resolve(), limits or Limits()
        self._large, self._workers = threading.Lock(), workers
        self._pool = Pool(self.limits, workers)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the children; waits for those at work. Later calls on the sandbox are refused."""
        self._pool.close()

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
            header, _ = self._pool.ask(
                {"op": "expand", "path": str(archive.resolve()), "folder": str(folder)},
                "the ZIP",
                seconds=self.limits.expand_seconds,
            )
            count = header.get("files")
            names = [f"{number:05d}" for number in range(1, count + 1)] if type(count) is int else []
            written = sorted(folder.iterdir())
            if not names or [path.name for path in written] != names or not all(_is_plain(path) for path in written):
                raise garbled("the ZIP")
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

        Of an enhanced CT one frame, as `multiframe.frames` makes them.
        """
        shape, limit = (instance.rows, instance.columns), 4 * self.limits.slice_pixels
        return self._ask(
            {"op": "hounsfield", "frame": instance.frame, "rescale": instance.rescale},
            instance,
            limit,
            lambda header, payload: answers.array(header, payload, "<f4", shape),
        )

    def slices(self, instances: Sequence[Instance]) -> Iterator[np.ndarray]:
        """`hounsfield` of each, in order; all children read ahead of whoever takes them, a few slices far."""
        with ThreadPoolExecutor(self._workers) as threads:
            ahead = collections.deque(threads.submit(self.hounsfield, one) for one in instances[: 2 * self._workers])
            try:
                for following in [*instances[2 * self._workers :], *[None] * len(ahead)]:
                    yield ahead.popleft().result()
                    if following is not None:
                        ahead.append(threads.submit(self.hounsfield, following))
            finally:
                for one in ahead:
                    one.cancel()

    def photograph(self, instance: Instance, longest_px: int = 2048) -> np.ndarray:
        """A photograph as uint8 RGB (h, w, 3), upright, the longer side at most `longest_px`."""
        return self._ask(
            {"op": "photograph", "longest_px": longest_px},
            instance,
            3 * longest_px**2,
            lambda header, payload: answers.array(header, payload, "|u1", None, longest_px),
        )

    def grey(self, instance: Instance) -> np.ndarray:
        """A grey PNG, TIFF or JPEG of 8 or 16 bits as float32 (rows, columns)."""
        shape, limit = (instance.rows, instance.columns), 4 * self.limits.slice_pixels
        return self._ask(
            {"op": "grey"}, instance, limit, lambda header, payload: answers.array(header, payload, "<f4", shape)
        )

    def rendered(
        self,
        instance: Instance,
        number: int = 1,
        window: tuple[float, float] | None = None,
        longest_px: int = 4096,
    ) -> np.ndarray:
        """A frame of any DICOM image as a picture, uint8 (h, w) or (h, w, 3), the longer side at most `longest_px`.

        Parameters
        ----------
        instance : Instance
        number : int
            Of the frame, 1-based.
        window : (center, width), optional
            In rescaled units; without it the header's first window, or else the frame's lowest to highest value.
        longest_px : int
        """
        return self._ask(
            {"op": "rendered", "frame": number, "window": window, "longest_px": longest_px},
            instance,
            3 * longest_px**2,
            lambda header, payload: answers.picture(header, payload, longest_px),
        )

    def metadata(self, instance: Instance) -> dict[str, Any]:
        """The whole header in the DICOM JSON Model (PS3.18 annex F), as WADO-RS gives metadata.

        Values of more than 1024 bytes and the pixels are {"vr", "BulkDataURI": "bulkdata/<path>"}, relative to the
        instance's URI; `bulk` takes the path.
        """
        return self._ask(
            {"op": "metadata"}, instance, self.limits.header_bytes, lambda header, payload: answers.model(payload)
        )

    def header(self, instance: Instance) -> Dataset:
        """The whole header without its bulk values, as a data set; nothing in it was validated against its VR."""
        return json_model.dataset(self.metadata(instance))

    def headers(self, instances: Sequence[Instance]) -> tuple[Dataset, ...]:
        """`header` of each, in order; frames of one file share theirs."""
        files = {instance.sha256: instance for instance in instances}
        with ThreadPoolExecutor(self._workers) as threads:
            found = dict(zip(files, threads.map(self.header, files.values()), strict=True))
        return tuple(found[instance.sha256] for instance in instances)

    def frame(self, instance: Instance, number: int = 1, decoded: bool = True) -> tuple[bytearray, str]:
        """The bytes of a frame and their transfer syntax (PS3.18 10.4.1.1.6).

        Parameters
        ----------
        instance : Instance
        number : int
            1-based.
        decoded : bool
            Uncompressed in little endian, whatever is stored: colour that was compressed as RGB by pixel. Else as stored;
            native pixels are in little endian either way, and frames of 1 bit a pixel begin at the lowest bit of a byte.
        """
        return self._ask(
            {"op": "frame", "frame": number, "decoded": decoded},
            instance,
            2 * self.limits.frame_bytes,
            lambda header, payload: (payload, answers.transfer_syntax(header)),
        )

    def same(self, one: Instance, two: Instance) -> bool:
        """Whether two files hold the same elements and the same decoded pixels, however they are encoded.

        False where that cannot be told: a transfer syntax that is not decoded, more than `SAME_FRAMES` frames.
        """
        if (one.frames, one.has_pixels, one.samples) != (two.frames, two.has_pixels, two.samples):
            return False
        frames = one.frames if one.has_pixels else 0
        try:
            return (
                frames <= SAME_FRAMES
                and self.metadata(one) == self.metadata(two)
                and all(self.frame(one, n)[0] == self.frame(two, n)[0] for n in range(1, frames + 1))
            )
        except errors.InputError:
            return False

    def bulk(self, instance: Instance, element: str) -> bytearray:
        """A bulk value in little endian, by the path after ``bulkdata/`` in the metadata.

        OutOfContract where there is none, and for compressed pixels, whose frames must be asked for.
        """
        return self._ask(
            {"op": "bulk", "element": element[:400]},
            instance,
            self.limits.bulk_bytes,
            lambda header, payload: payload,
        )

    def transcode(self, instance: Instance, target: Path) -> None:
        """Write the instance to a new file in Explicit VR Little Endian (PS3.10), which every DICOMweb client takes."""
        try:
            self._ask(
                {"op": "transcode", "target": str(target.resolve())},
                instance,
                0,
                lambda header, payload: _check_written(header, target),
                seconds=self.limits.expand_seconds,
            )
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    def references(self, instance: Instance) -> References:
        """Places in a series that a structured report, a segmentation or a structure set points to.

        OutOfContract for an object of another kind.
        """
        return self._ask(
            {"op": "references"},
            instance,
            _REFERENCES_BYTES,
            lambda header, payload: answers.references(payload),
            seconds=self.limits.expand_seconds,
        )

    def _inspect(self, path: Path, where: str) -> Instance:
        size = path.stat().st_size
        if size > self.limits.file_bytes:
            raise errors.TooLarge(f"{where}: it has {size} bytes; at most {self.limits.file_bytes} are accepted")
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        header, payload = self._pool.ask({"op": "inspect", "path": str(path)}, where, payload_limit=_PLANES_BYTES)
        try:
            return answers.instance(header, path, sha256, self.limits, payload)
        except (TypeError, ValueError, KeyError) as error:
            raise garbled(where) from error

    def _ask(
        self,
        request: dict[str, Any],
        instance: Instance,
        limit: int,
        check: Callable[[dict[str, Any], bytearray], T],
        seconds: float = 0,
    ) -> T:
        """A request about one instance, and its answer as `check` makes it or refuses it."""
        where = f"instance {instance.sop_instance_uid}"
        failed = where + (f" in transfer syntax {instance.transfer_syntax_uid}" if instance.transfer_syntax_uid else "")
        large = instance.rows * instance.columns > LARGE_PIXELS
        with self._large if large else nullcontext():
            header, payload = self._pool.ask(
                {**request, "path": str(instance.path)}, where, failed=failed, seconds=seconds, payload_limit=limit
            )
        try:
            return check(header, payload)
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise garbled(where) from error


def _check_written(header: dict[str, Any], target: Path) -> None:
    if not _is_plain(target) or header["bytes"] != target.stat().st_size:
        raise ValueError("file")


def _is_plain(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)
