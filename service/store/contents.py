"""Contents that nothing needs any more, and how they go: with their rows, under the lock that guards both."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from sqlalchemy import Engine, delete, select

from service.store import database as db
from service.store import entries
from service.store.archive import Archive
from service.store.blobs import Blobs


class Contents:
    """Removes contents. Its methods are called with the lock held that `Store` and `Archive` share.

    Parameters
    ----------
    engine : Engine
    blobs : Blobs
    archive : Archive
    lock : context manager
        Held while contents and the rows that refer to them change together.
    """

    def __init__(self, engine: Engine, blobs: Blobs, archive: Archive, lock: AbstractContextManager[object]) -> None:
        self._engine, self._blobs, self._archive, self._lock = engine, blobs, archive, lock

    def remove_unlinked(self, objects: Sequence[str], hashes: Sequence[str] = ()) -> None:
        """Delete those of these result objects that no analysis has, and contents that nothing needs."""
        link = db.analysis_objects.c.sop_instance_uid
        with self._engine.connect() as connection:
            linked = set(connection.scalars(select(link).where(link.in_(list(objects)))))
        removed = self._archive.remove([uid for uid in objects if uid not in linked])
        self.forget([*hashes, *removed])

    def forget(self, hashes: Sequence[str]) -> None:
        """Delete those of these contents that no analysis uses and that no DICOM door brought."""
        used, kept = db.analysis_instances.c.sha256, db.archive.c
        with self._engine.begin() as connection:
            free = set()
            for start in range(0, len(hashes), 500):
                some = list(hashes[start : start + 500])
                needed = set(connection.scalars(select(used).where(used.in_(some))))
                needed |= set(
                    connection.scalars(select(kept.sha256).where(kept.sha256.in_(some), kept.origin != "http"))
                )
                rejected = db.rejected.c.sha256
                needed |= set(connection.scalars(select(rejected).where(rejected.in_(some))))
                loose = sorted(set(some) - needed)
                step = delete(db.archive).where(kept.sha256.in_(loose)).returning(kept.study_uid)
                entries.gone(connection, connection.scalars(step).all())
                connection.execute(delete(db.instances).where(db.instances.c.sha256.in_(loose)))
                free |= set(loose)
        self._blobs.remove(free)

    def sweep(self, before: float) -> None:
        """Remove contents without a row that needs them, written before a time (seconds since 1970): what a crash left."""
        for folder in list(self._blobs.root.iterdir()):
            if folder.is_dir() and (names := [file.name for file in folder.iterdir() if file.stat().st_mtime < before]):
                with self._lock:
                    self.forget(names)
