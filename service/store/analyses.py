"""Analyses and what belongs to them: accepted, claimed by a worker, ended, listed, deleted.

An analysis is accepted only when its images and its row are on the disk. One process owns a data folder (see `Store`).
"""

from __future__ import annotations

import base64
import errno
import fcntl
import json
import shutil
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from sqlalchemy import delete, func, insert, select, tuple_, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import IntegrityError

from service.errors import Conflict, NoSpace, NotFound
from service.records import Instance
from service.store import database as db
from service.store import rows
from service.store.blobs import Blobs
from service.store.rows import Analysis, now

FILTERS = ("patient", "study", "status", "model")


class StoreError(Exception):
    """The data folder cannot be used; the message says what to do."""


def _own(folder: Path) -> IO[str]:
    """Make the folder and lock it for this process, as long as the file stays open."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = (folder / "lock").open("w")
    except OSError as error:
        raise StoreError(
            f"the data folder cannot be used ({error.strerror}); set data_dir to a folder this user may write"
        ) from error
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner.close()
        raise StoreError(
            "the data folder is used by another running service; stop it, or set another data_dir"
        ) from error
    return owner


class Store:
    """Database, images and results below one data folder, thread-safe.

    Parameters
    ----------
    folder : Path
        Created when missing.
    free_bytes : int
        Free disk space that is never touched.

    Raises
    ------
    StoreError
        When another process uses the folder, or it cannot be written.
    DatabaseError
        When the database in it cannot be used.
    """

    def __init__(self, folder: Path, free_bytes: int) -> None:
        self.folder = folder
        self._owner = _own(folder)
        try:
            self.blobs = Blobs(folder / "blobs", free_bytes)
            self._results = folder / "results"
            self._results.mkdir(exist_ok=True)
            self._engine = db.open_database(folder / "pellucid.sqlite")
        except BaseException:
            self._owner.close()
            raise
        self._content = threading.Lock()
        """Held while images and the rows that refer to them change together."""

    def close(self) -> None:
        self._engine.dispose()
        self._owner.close()

    def check(self) -> None:
        """Raise when the database does not answer."""
        db.alive(self._engine)

    # -- accept and read ------------------------------------------------------------------------------------------------

    def accept(
        self,
        *,
        model: str,
        instances: Sequence[Instance],
        request: Mapping[str, Any],
        warnings: Sequence[str] = (),
        key: str | None = None,
        fingerprint: str = "",
    ) -> str:
        """Store the images, then the analysis as queued; its id.

        Raises
        ------
        NoSpace
            When the disk has no room.
        Conflict
            When `key` was used meanwhile.
        """
        self.blobs.check_space(sum(instance.path.stat().st_size for instance in instances))
        first, identity = instances[0], uuid.uuid4().hex
        row = {
            "id": identity,
            "created": now(),
            "status": "queued",
            "attempts": 0,
            "model": model,
            "study": first.study_uid,
            "series": first.series_uid,
            "modality": first.modality,
            "patient": first.patient_id,
            "request": json.dumps(request),
            "warnings": json.dumps(list(warnings)),
        }
        with self._content:
            try:
                for instance in instances:
                    self.blobs.put(instance.path, instance.sha256)
                with self._engine.begin() as connection:
                    connection.execute(
                        sqlite_insert(db.instances).on_conflict_do_nothing(), [rows.header(i) for i in instances]
                    )
                    connection.execute(insert(db.analyses), row)
                    connection.execute(
                        insert(db.analysis_instances),
                        [{"analysis": identity, "position": n, "sha256": i.sha256} for n, i in enumerate(instances)],
                    )
                    if key is not None:
                        connection.execute(
                            insert(db.idempotency), {"key": key, "fingerprint": fingerprint, "analysis": identity}
                        )
            except IntegrityError:
                self._forget_unreferenced([i.sha256 for i in instances])
                raise Conflict(
                    "this Idempotency-Key was used by another request at the same time; send the request again"
                ) from None
            except OSError as error:
                self._forget_unreferenced([i.sha256 for i in instances])
                if error.errno != errno.ENOSPC:
                    raise
                raise NoSpace(
                    "the disk ran full while the input was stored; nothing was kept, send it again when there is room"
                ) from error
        return identity

    def get(self, identity: str) -> Analysis:
        """One analysis; raises NotFound."""
        with self._engine.connect() as connection:
            row = connection.execute(select(db.analyses).where(db.analyses.c.id == identity)).first()
        if row is None:
            raise NotFound("there is no analysis with this id; GET /api/v1/analyses lists them")
        return rows.analysis(row)

    def instances(self, identity: str) -> list[Instance]:
        """The images of an analysis in the order in which they were accepted."""
        query = (
            select(db.instances.c.sha256, db.instances.c.header)
            .join_from(db.analysis_instances, db.instances)
            .where(db.analysis_instances.c.analysis == identity)
            .order_by(db.analysis_instances.c.position)
        )
        with self._engine.connect() as connection:
            return [self._instance(row) for row in connection.execute(query)]

    def instance(self, study: str, series: str, sop: str) -> Instance:
        """One stored image by its UIDs; raises NotFound."""
        i = db.instances.c
        query = select(i.sha256, i.header).where(
            i.sop_instance_uid == sop, i.series_uid == series, i.study_uid == study
        )
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise NotFound("there is no stored instance with these UIDs")
        return self._instance(row)

    def _instance(self, row: Any) -> Instance:
        return rows.instance(row, self.blobs.path(row.sha256))

    def page(
        self, filters: Mapping[str, str], since: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> tuple[list[Analysis], str | None]:
        """Analyses, newest first, and the cursor of the next page.

        Parameters
        ----------
        filters : mapping
            Exact values of some of `FILTERS`.
        since : str, optional
            Stored form of a time (see `now`); older ones are left out.
        cursor : str, optional
            From the page before.

        Raises
        ------
        ValueError
            When the cursor is none of ours.
        """
        a = db.analyses.c
        query = select(db.analyses).order_by(a.created.desc(), a.id.desc()).limit(limit + 1)
        for name, value in filters.items():
            query = query.where(a[name] == value)
        if since is not None:
            query = query.where(a.created >= since)
        if cursor is not None:
            created, identity = base64.urlsafe_b64decode(cursor.encode()).decode().split(" ")
            query = query.where(tuple_(a.created, a.id) < (created, identity))
        with self._engine.connect() as connection:
            found = [rows.analysis(row) for row in connection.execute(query)]
        if len(found) <= limit:
            return found, None
        last = found[limit - 1]
        return found[:limit], base64.urlsafe_b64encode(f"{last.created} {last.id}".encode()).decode()

    def by_key(self, key: str) -> tuple[str, str] | None:
        """(fingerprint, analysis) of an idempotency key, or None."""
        k = db.idempotency.c
        with self._engine.connect() as connection:
            row = connection.execute(select(k.fingerprint, k.analysis).where(k.key == key)).first()
        return (row.fingerprint, row.analysis) if row else None

    def counts(self) -> dict[str, int]:
        """How many analyses have each status."""
        a = db.analyses.c
        with self._engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(select(a.status, func.count()).group_by(a.status))}

    # -- a worker's steps -----------------------------------------------------------------------------------------------

    def claim(self) -> Analysis | None:
        """Take the oldest queued analysis: it is running now and its attempts are one more. None when nothing waits."""
        a = db.analyses.c
        oldest = select(a.id).where(a.status == "queued").order_by(a.created, a.id).limit(1).scalar_subquery()
        step = (
            update(db.analyses)
            .where(a.id == oldest)
            .values(status="running", attempts=a.attempts + 1)
            .returning(db.analyses)
        )
        with self._engine.begin() as connection:
            row = connection.execute(step).first()
        return rows.analysis(row) if row else None

    def _end(self, identity: str, **values: Any) -> bool:
        step = (
            update(db.analyses).where(db.analyses.c.id == identity, db.analyses.c.status == "running").values(**values)
        )
        with self._engine.begin() as connection:
            return connection.execute(step).rowcount == 1

    def complete(self, identity: str, result: Mapping[str, Any]) -> bool:
        """Store the result of a running analysis; False when it was deleted meanwhile."""
        return self._end(identity, status="completed", result=json.dumps(result))

    def fail(self, identity: str, error: Mapping[str, Any]) -> bool:
        """Store why a running analysis failed; False when it was deleted meanwhile."""
        return self._end(identity, status="failed", error=json.dumps(error))

    def requeue(self, identity: str, counted: bool = True) -> bool:
        """Give a running analysis back to the queue; `counted` False takes the attempt back (an orderly stop)."""
        return self._end(identity, status="queued", attempts=db.analyses.c.attempts - (0 if counted else 1))

    def recover(self, attempts: int, error: Mapping[str, Any]) -> int:
        """After a crash: queue what was running, fail what was running in its last attempt. How many were queued."""
        a = db.analyses.c
        with self._engine.begin() as connection:
            connection.execute(
                update(db.analyses)
                .where(a.status == "running", a.attempts >= attempts)
                .values(status="failed", error=json.dumps(error))
            )
            return connection.execute(update(db.analyses).where(a.status == "running").values(status="queued")).rowcount

    # -- results, verdicts, deletion ------------------------------------------------------------------------------------

    def maps_path(self, identity: str, finding: str, create: bool = False) -> Path:
        """File of a finding's response maps."""
        folder = self._results / identity
        if create:
            folder.mkdir(exist_ok=True)
        return folder / f"{finding}.npz"

    def discard_maps(self, identity: str) -> None:
        shutil.rmtree(self._results / identity, ignore_errors=True)

    def assess(self, identity: str, finding: str, verdict: str, value: str | None, reason: str | None) -> None:
        """Store a reader's verdict on a finding."""
        row = {
            "analysis": identity,
            "finding": finding,
            "verdict": verdict,
            "value": value,
            "reason": reason,
            "created": now(),
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(db.assessments), row)
        except IntegrityError:
            raise NotFound("there is no analysis with this id") from None

    def assessments(self, identity: str) -> list[dict[str, Any]]:
        """Verdicts on an analysis, oldest first."""
        s = db.assessments.c
        query = select(s.finding, s.verdict, s.value, s.reason, s.created).where(s.analysis == identity).order_by(s.id)
        with self._engine.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    def delete(self, identity: str) -> None:
        """Delete an analysis with its maps, verdicts, keys, and the images no other analysis uses. Raises NotFound."""
        with self._content:
            hashes = [instance.sha256 for instance in self.instances(identity)]
            with self._engine.begin() as connection:
                if connection.execute(delete(db.analyses).where(db.analyses.c.id == identity)).rowcount == 0:
                    raise NotFound("there is no analysis with this id; GET /api/v1/analyses lists them")
            self._forget_unreferenced(hashes)
        self.discard_maps(identity)

    def _forget_unreferenced(self, hashes: Sequence[str]) -> None:
        """Delete those of these images that no analysis uses. Call with the lock held."""
        used = db.analysis_instances.c.sha256
        with self._engine.begin() as connection:
            free = set()
            for start in range(0, len(hashes), 500):
                some = list(hashes[start : start + 500])
                free |= set(some) - set(connection.scalars(select(used).where(used.in_(some))))
                connection.execute(
                    delete(db.instances).where(
                        db.instances.c.sha256.in_(some), db.instances.c.sha256.not_in(select(used))
                    )
                )
        self.blobs.remove(free)

    def sweep(self) -> None:
        """Remove what a crash left behind: images without an analysis, maps without a completed or running one."""
        for folder in list(self.blobs.root.iterdir()):
            if folder.is_dir() and (names := [file.name for file in folder.iterdir()]):
                with self._content:
                    self._forget_unreferenced(names)
        for folder in list(self._results.iterdir()):
            try:
                self.get(folder.name)
            except NotFound:
                shutil.rmtree(folder, ignore_errors=True)
