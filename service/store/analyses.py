"""Analyses and what belongs to them: accepted, claimed by a worker, ended, listed, deleted.

An analysis is accepted only when its images and its row are on the disk. One process owns a data folder; several hosts, each
with a data folder of its own, may share a PostgreSQL database and a folder of images and results (see `Store`).
"""

from __future__ import annotations

import base64
import errno
import fcntl
import json
import math
import shutil
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, delete, func, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from service.errors import Conflict, NoSpace, NotFound
from service.records import Arrival, Instance, ResultObject
from service.store import chains, entries, revisions, rows
from service.store import database as db
from service.store import deliveries as table
from service.store.archive import Archive
from service.store.assessments import Assessments
from service.store.blobs import Blobs
from service.store.contents import Contents
from service.store.deliveries import Deliveries
from service.store.hosts import Hosts
from service.store.revisions import Known, RevisionTable
from service.store.rows import Analysis, now
from service.store.series import SeriesTable
from service.store.workitems import Workitems
from service.store.worklist import Worklist

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
    database : str
        URL of a database that several hosts share; empty: SQLite in `folder`.
    content : Path, optional
        Folder of images and results that several hosts share; by default in `folder`.

    Raises
    ------
    StoreError
        When another process uses the folder, or it cannot be written.
    DatabaseError
        When the database in it cannot be used.
    """

    def __init__(self, folder: Path, free_bytes: int, database: str = "", content: Path | None = None) -> None:
        self.folder = folder
        self._owner = _own(folder)
        content = content or folder
        try:
            self.blobs = Blobs(content / "blobs", free_bytes, shared=bool(database))
            self._results = content / "results"
            self._results.mkdir(exist_ok=True)
            self._engine = db.open_database(database or folder / "pellucid.sqlite")
        except BaseException:
            self._owner.close()
            raise
        self.shared = bool(database)
        self._content = threading.RLock()
        """Held while contents and the rows that refer to them change together."""
        self.archive = Archive(self._engine, self.blobs, self._content)
        self._contents = Contents(self._engine, self.blobs, self.archive, self._content)
        self.series = SeriesTable(self._engine)
        self.deliveries = Deliveries(self._engine)
        self.workitems = Workitems(self._engine)
        self.assessments = Assessments(self._engine)
        self.worklist = Worklist(self._engine)
        self.revisions = RevisionTable(self._engine)
        self.hosts = Hosts(self._engine)

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
        door: str = "http",
        supersedes: str | None = None,
    ) -> str:
        """Store the images, then the analysis as queued; its id.

        DICOM images are in the archive then, too. `supersedes` names the analysis that this one replaces; where that was
        replaced meanwhile it is the newest of its successors.

        Raises
        ------
        NotFound
            When an image was stored before and is deleted meanwhile.
        NoSpace
            When the disk has no room.
        Conflict
            When `key` was used meanwhile.
        """
        new = [instance for instance in instances if not self.blobs.path(instance.sha256).exists()]
        self.blobs.check_space(sum(instance.path.stat().st_size for instance in new))
        first, identity, created = instances[0], uuid.uuid4().hex, now()
        row = {
            "id": identity,
            "created": created,
            "status": "queued",
            "attempts": 0,
            "model": model,
            "study": first.study_uid,
            "series": first.series_uid,
            "modality": first.modality[:16],
            "patient": first.patient_id,
            "request": json.dumps(request),
            "warnings": json.dumps(list(warnings)),
            "door": door,
        }
        with self._content:
            try:
                for instance in instances:
                    self.blobs.put(instance.path, instance.sha256)
                if door == "http":
                    self.archive.add([Arrival(i, "http", "", "", created) for i in instances if i.media == "dicom"])
                with self._engine.begin() as connection:
                    db.add_new(connection, db.instances, [rows.header(i) for i in unique(instances)])
                    replaced = chains.newest(connection, supersedes)
                    connection.execute(insert(db.analyses), {**row, "supersedes": replaced})
                    entries.accepted(connection, identity, created, first.study_uid, first.attributes, replaced)
                    connection.execute(
                        insert(db.analysis_instances),
                        [{"analysis": identity, "position": n, "sha256": i.sha256} for n, i in enumerate(instances)],
                    )
                    if key is not None:
                        connection.execute(
                            insert(db.idempotency), {"key": key, "fingerprint": fingerprint, "analysis": identity}
                        )
                    if replaced is not None:
                        connection.execute(
                            update(db.analyses).where(db.analyses.c.id == replaced).values(superseded_by=identity)
                        )
            except IntegrityError:
                self._contents.forget([i.sha256 for i in instances])
                raise Conflict(
                    "this Idempotency-Key was used by another request at the same time; send the request again"
                ) from None
            except FileNotFoundError:
                self._contents.forget([i.sha256 for i in instances])
                raise NotFound("the images were deleted meanwhile; send them again") from None
            except OSError as error:
                self._contents.forget([i.sha256 for i in instances])
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

    def oldest(self) -> dict[str, str | None]:
        """Since when the oldest analysis, delivery and series wait."""
        a, d, s = db.analyses.c, db.deliveries.c, db.series.c
        with self._engine.connect() as connection:
            return {
                "analysis": connection.scalar(select(func.min(a.created)).where(a.status.in_(("queued", "running")))),
                "delivery": connection.scalar(select(func.min(d.created)).where(d.state.in_(("waiting", "sending")))),
                "series": connection.scalar(select(func.min(s.last)).where(s.state == "open")),
            }

    def reject(self, arrival: Arrival, reason: str) -> None:
        """Keep what was acknowledged and cannot be filed, for a person to look at. Repeating it is fine."""
        sha256 = arrival.instance.sha256
        row = {"sha256": sha256, "received": arrival.received or now(), "sender": arrival.sender[:64], "reason": reason}
        with self._content:
            if arrival.instance.path != self.blobs.path(sha256):
                self.blobs.adopt(arrival.instance.path, sha256)
            with self._engine.begin() as connection:
                db.add_new(connection, db.rejected, [row])

    def rejected(self) -> list[dict[str, Any]]:
        """What could not be filed, the latest first: sha256 (the name of its content), received, sender, reason."""
        query = select(db.rejected).order_by(db.rejected.c.received.desc(), db.rejected.c.sha256)
        with self._engine.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    # -- a worker's steps -----------------------------------------------------------------------------------------------

    def begin(self, identity: str) -> Analysis | None:
        """A worker takes up an analysis: it is running and its attempts are one more. None when it has ended or is gone."""
        a = db.analyses.c
        step = (
            update(db.analyses)
            .where(a.id == identity, a.status.in_(("queued", "running")))
            .values(status="running", attempts=a.attempts + 1)
            .returning(db.analyses)
        )
        with self._engine.begin() as connection:
            row = connection.execute(step).first()
            if row is not None:
                entries.touched(connection, identity)
        return rows.analysis(row) if row else None

    def queued(self) -> list[tuple[str, int, str]]:
        """(id, attempts, door) of what waits, oldest first."""
        a = db.analyses.c
        query = select(a.id, a.attempts, a.door).where(a.status == "queued").order_by(a.created, a.id)
        with self._engine.connect() as connection:
            return [(row.id, row.attempts, row.door) for row in connection.execute(query)]

    def count_attempt(self, identity: str, attempts: int) -> None:
        """One more attempt of an analysis that still waits after so many: its worker ended without a word."""
        a = db.analyses.c
        still = update(db.analyses).where(a.id == identity, a.status == "queued", a.attempts == attempts)
        with self._engine.begin() as connection:
            connection.execute(still.values(attempts=attempts + 1))

    def _end(self, identity: str, **values: Any) -> bool:
        with self._engine.begin() as connection:
            return self._finish(connection, identity, **values)

    @staticmethod
    def _finish(connection: Connection, identity: str, **values: Any) -> bool:
        running = update(db.analyses).where(db.analyses.c.id == identity, db.analyses.c.status == "running")
        return connection.execute(running.values(**values)).rowcount == 1

    def complete(
        self,
        identity: str,
        result: Mapping[str, Any],
        objects: Sequence[ResultObject] = (),
        deliveries: Sequence[Mapping[str, Any]] = (),
    ) -> bool:
        """Store the result of a running analysis with its DICOM objects and what is to be sent; False when it was deleted.

        Objects go to the archive first. They are the same for the same input, so a crash in between leaves nothing wrong.
        """
        made = [one.sop_instance_uid for one in objects]
        with self._content:
            filed = self.archive.add_results(identity, objects)
            if any(one.outcome == "no_space" for one in filed):
                raise OSError(errno.ENOSPC, "no space for result objects")
            with self._engine.begin() as connection:
                done = self._finish(connection, identity, status="completed", result=json.dumps(result))
                if done:
                    entries.ended(connection, identity, result)
                    links = [{"analysis": identity, "sop_instance_uid": uid} for uid in made]
                    db.add_new(connection, db.analysis_objects, links)
                    db.add_new(connection, db.deliveries, deliveries)
            if not done:
                self._contents.remove_unlinked(made)
        return done

    def revise(
        self,
        identity: str,
        number: int,
        result: Mapping[str, Any],
        objects: Sequence[ResultObject],
        replaced: Sequence[str],
        deliveries: Sequence[Mapping[str, Any]],
        known: Known,
    ) -> bool:
        """Put objects that were made anew in the place of others; False when it was deleted or somebody else did so.

        Parameters
        ----------
        identity : str
            A completed analysis.
        number : int
            Of the new version; the stored one has the number before it.
        result : mapping
            The body with the new objects.
        objects : sequence of ResultObject
            The new ones. The rejection note among them goes wherever any of the replaced objects may be.
        replaced : sequence of str
            SOP Instance UIDs of the old ones, which stay in the archive and are not sent any more.
        deliveries : sequence of mapping
            What is to be sent of the other new ones.
        known : Known
            What the new objects know of the verdicts.
        """
        a, archive = db.analyses.c, db.archive.c
        made = [one.sop_instance_uid for one in objects]
        with self._content:
            filed = self.archive.add_results(identity, objects)
            if any(one.outcome == "no_space" for one in filed):
                raise OSError(errno.ENOSPC, "no space for result objects")
            with self._engine.begin() as connection:
                step = update(db.analyses).where(a.id == identity, a.status == "completed", a.revision == number - 1)
                done = connection.execute(step.values(revision=number, result=json.dumps(result))).rowcount == 1
                if done:
                    entries.touched(connection, identity)
                    links = [{"analysis": identity, "sop_instance_uid": uid} for uid in made]
                    db.add_new(connection, db.analysis_objects, links)
                    places = table.supersede(connection, identity, replaced)
                    notes = [
                        table.row(identity, place, one.kind, one.sop_instance_uid)
                        for one in objects
                        if one.kind == "RN"
                        for place in sorted(places)
                    ]
                    db.add_new(connection, db.deliveries, [*deliveries, *notes])
                    revisions.write(connection, identity, known)
            left = select(archive.sop_instance_uid).where(archive.analysis == identity)
            with self._engine.connect() as connection:  # by an attempt that was cut off, too
                made += connection.scalars(left).all()
            self._contents.remove_unlinked(made)
        return done

    def fail(self, identity: str, error: Mapping[str, Any], deliveries: Sequence[Mapping[str, Any]] = ()) -> bool:
        """Store why a running analysis failed, and whom to tell; False when it was deleted meanwhile."""
        with self._engine.begin() as connection:
            if not self._finish(connection, identity, status="failed", error=json.dumps(error)):
                return False
            entries.ended(connection, identity, None)
            db.add_new(connection, db.deliveries, deliveries)
        return True

    def requeue(self, identity: str, counted: bool = True) -> bool:
        """Give a running analysis back to the queue; `counted` False takes the attempt back (an orderly stop)."""
        return self._end(identity, status="queued", attempts=db.analyses.c.attempts - (0 if counted else 1))

    # -- results, deletion ----------------------------------------------------------------------------------------------

    def maps_path(self, identity: str, finding: str, create: bool = False) -> Path:
        """File of a finding's response maps."""
        folder = self._results / identity
        if create:
            folder.mkdir(exist_ok=True)
        return folder / f"{finding}.npz"

    def discard_maps(self, identity: str) -> None:
        shutil.rmtree(self._results / identity, ignore_errors=True)

    def delete(self, identity: str) -> None:
        """Delete an analysis with its maps, verdicts, keys, objects, and images that nothing else needs. Raises NotFound."""
        with self._content:
            hashes = [instance.sha256 for instance in self.instances(identity)]
            link = db.analysis_objects.c
            with self._engine.begin() as connection:
                objects = list(connection.scalars(select(link.sop_instance_uid).where(link.analysis == identity)))
                entry = entries.key_of(connection, identity)
                chains.hand_on(connection, identity)
                a = db.analyses.c
                step = delete(db.analyses).where(a.id == identity).returning(a.supersedes, a.superseded_by)
                gone = connection.execute(step).first()
                if gone is None:
                    raise NotFound("there is no analysis with this id; GET /api/v1/analyses lists them")
                chains.rejoin(connection, identity, gone.supersedes, gone.superseded_by)
                entries.gone(connection, [entry] if entry is not None else [])
            self._contents.remove_unlinked(objects, hashes)
        self.discard_maps(identity)

    def purge(self, before: str) -> int:
        """Delete analyses accepted before a time whose results are where they belong, then images nobody needs any more.

        What waits, was set aside, or is not yet committed where that was asked for, stays with its images. Returns how many
        analyses and images that was. Nothing is deleted anywhere but here.
        """
        a, d, r, s = db.analyses.c, db.deliveries.c, db.archive.c, db.series.c
        unsettled = select(d.analysis).where(
            d.state.in_(("waiting", "sending", "dead")) | ((d.state == "sent") & (d.transaction != ""))
        )
        done = select(a.id).where(a.created < before, a.status.in_(("completed", "failed")), a.id.not_in(unsettled))
        with self._engine.connect() as connection:
            old = list(connection.scalars(done))
        for identity in old:
            self.delete(identity)
        idle = select(r.sop_instance_uid).where(
            r.origin.in_(("dimse", "stow")),
            r.received < before,
            r.series_uid.not_in(select(s.series_uid).where(s.state == "open")),
            r.sha256.not_in(select(db.analysis_instances.c.sha256)),
        )
        with self._content:
            with self._engine.connect() as connection:
                loose = list(connection.scalars(idle))
            with self._engine.begin() as connection:
                gone = delete(db.rejected).where(db.rejected.c.received < before).returning(db.rejected.c.sha256)
                refused = list(connection.scalars(gone))
            self._contents.forget([*self.archive.remove(loose), *refused])
        return len(old) + len(loose)

    def objects(self, identity: str) -> list[str]:
        """SOP Instance UIDs of an analysis' objects."""
        link = db.analysis_objects.c
        with self._engine.connect() as connection:
            return list(connection.scalars(select(link.sop_instance_uid).where(link.analysis == identity)))

    def reports(self, identity: str | None) -> list[tuple[Analysis, tuple[str, str]]]:
        """The report of an analysis and the one that it replaced, each with its analysis: at most two, newest first.

        Analyses without a report, and those that made the same one again, are passed over.
        """
        found: dict[tuple[str, str], Analysis] = {}
        while identity is not None and len(found) < 2:
            try:
                analysis = self.get(identity)
            except NotFound:
                break
            report = _report(analysis)
            if report is not None:
                found.setdefault(report, analysis)
            identity = analysis.supersedes
        return [(analysis, report) for report, analysis in found.items()]

    def sweep(self, before: float = math.inf) -> None:
        """Remove what a crash left behind: contents without a row that needs them, maps without an analysis.

        Not where several hosts share the folder: another one may be about to write the row. Only contents that were written
        before a time (seconds since 1970): what is newer may be on its way, as may what still lies in the inbox.
        """
        if self.shared:
            return
        self._contents.sweep(before)
        for folder in list(self._results.iterdir()):
            try:
                self.get(folder.name)
            except NotFound:
                shutil.rmtree(folder, ignore_errors=True)


def _report(analysis: Analysis) -> tuple[str, str] | None:
    made = (analysis.result or {}).get("objects", [])
    found = [(one["sop_instance_uid"], one["series_uid"]) for one in made if one["kind"] == "SR"]
    return found[0] if found else None


def unique(instances: Sequence[Instance]) -> list[Instance]:
    """Instances by content: the frames of one enhanced object are one file."""
    return list({instance.sha256: instance for instance in instances}.values())
