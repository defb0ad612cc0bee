"""Files by content: ``<root>/<sha256[:2]>/<sha256>``. A file is complete or not there, also after a power cut."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path

from service.errors import NoSpace


class Blobs:
    """Content-addressed files below one folder.

    Parameters
    ----------
    root : Path
    free_bytes : int
        Free space on the disk that is never touched.
    shared : bool
        Whether other hosts write here, too: what they are about to write is left alone.
    """

    def __init__(self, root: Path, free_bytes: int, shared: bool = False) -> None:
        self.root, self._free_bytes = root, free_bytes
        root.mkdir(parents=True, exist_ok=True)
        for leftover in () if shared else root.glob("*.part"):
            leftover.unlink()

    def path(self, sha256: str) -> Path:
        """Where the content with this hash lies, whether it is there or not."""
        return self.root / sha256[:2] / sha256

    def check_space(self, size: int = 0) -> int:
        """Free bytes on the disk.

        Raises
        ------
        NoSpace
            When storing `size` bytes would leave less than the reserve.
        """
        free = shutil.disk_usage(self.root).free
        if free - size < self._free_bytes:
            raise NoSpace(
                f"the disk has {free >> 20} MiB free, {size >> 20} MiB are to be stored and "
                f"{self._free_bytes >> 20} MiB are kept in reserve; "
                "delete analyses that are no longer needed, or enlarge the disk"
            )
        return free

    def put(self, source: Path, sha256: str) -> Path:
        """Store a copy of `source`, whose content has this hash; does nothing when it is there already."""
        target = self.path(sha256)
        if target.exists():
            return target
        part = self.root / f"{sha256}.{uuid.uuid4().hex}.part"
        with source.open("rb") as read, part.open("wb") as write:
            shutil.copyfileobj(read, write, 1 << 20)
            write.flush()
            os.fsync(write.fileno())
        target.parent.mkdir(exist_ok=True)
        part.replace(target)
        _sync_folder(target.parent)
        return target

    def adopt(self, source: Path, sha256: str) -> Path:
        """Move `source`, which is on the disk already (synced), to where its content belongs; like `put`, but without a copy.

        `source` may have gone when the content is here: a move that was interrupted is completed by doing it again.
        """
        target = self.path(sha256)
        if target.exists():
            source.unlink(missing_ok=True)
            return target
        target.parent.mkdir(exist_ok=True)
        try:
            source.rename(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self.put(source, sha256)
            source.unlink()
            return target
        _sync_folder(target.parent)
        return target

    def remove(self, hashes: Iterable[str]) -> None:
        """Delete contents; missing ones are fine."""
        for sha256 in hashes:
            self.path(sha256).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
