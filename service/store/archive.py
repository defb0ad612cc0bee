"""The archive: every DICOM instance that was received or made here, filed under its UIDs, searched and removed.

What is filed is on the disk before its row is, and `add` may be repeated after a crash at any point.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, delete, func, select

from service.errors import NotFound
from service.records import Arrival, Instance, ResultObject
from service.store import database as db
from service.store import entries as worklist
from service.store import finding, objects, rows
from service.store.blobs import Blobs
from service.store.filing import Filed, same_data_set
from service.store.finding import Page, chunks
from service.store.search import Attributes, Query, tag

_A = db.archive.c


@dataclass(frozen=True)
class _Entry:
    """One instance on its way into the archive."""

    instance: Instance
    origin: str
    sender: str = ""
    association: str = ""
    received: str = ""
    analysis: str | None = None
    kind: str | None = None


class Archive:
    """The table `archive` and the contents it refers to; thread-safe.

    Parameters
    ----------
    engine : Engine
        SQLite or PostgreSQL.
    blobs : Blobs
    content : lock, optional
        Held while contents and the rows that refer to them change together; shared with whoever else changes them, and then
        re-entrant.
    """

    def __init__(self, engine: Engine, blobs: Blobs, content: AbstractContextManager[Any] | None = None) -> None:
        self._engine, self._blobs, self._content = engine, blobs, content or threading.RLock()
        self.same: Callable[[Instance, Instance], bool] = lambda filed, come: False
        """Tells of two files under one UID, encoded in different ways, whether they hold the same. Set by who can decode."""

    # -- file -----------------------------------------------------------------------------------------------------------

    def add(self, arrivals: Sequence[Arrival]) -> list[Filed]:
        """File instances, all rows in one transaction.

        Files that came through a DICOM door are moved out of the intake, those of an HTTP analysis stay where they are, as does
        the file of an instance that was not filed.

        Returns
        -------
        list of Filed
            One an arrival, in their order.
        """
        return self._file(
            [_Entry(one.instance, one.door, one.sender, one.association, one.received) for one in arrivals]
        )

    def add_results(self, analysis: str, made: Sequence[ResultObject]) -> list[Filed]:
        """File the result objects of an analysis; answers like `add`, and repeating it is fine."""
        entries, written = [], []
        try:
            for one in made:
                with tempfile.NamedTemporaryFile(dir=self._blobs.root, suffix=".part", delete=False) as stream:
                    written.append(Path(stream.name))
                    stream.write(one.data)
                    stream.flush()
                    os.fsync(stream.fileno())
                instance = replace(objects.describe(one), path=written[-1])
                entries.append(_Entry(instance, "result", analysis=analysis, kind=one.kind))
            return self._file(entries)
        finally:
            for path in written:
                path.unlink(missing_ok=True)

    def _file(self, entries: Sequence[_Entry]) -> list[Filed]:
        with self._content:
            with self._engine.connect() as connection:
                known = self._contents(connection, (entry.instance.sop_instance_uid for entry in entries))
            filed: list[Filed] = []
            fresh: dict[str, _Entry] = {}
            for entry in entries:
                instance = entry.instance
                uid, placed = instance.sop_instance_uid, replace(instance, path=self._blobs.path(instance.sha256))
                sha256, origin = known.get(uid, ("", ""))
                if sha256 not in ("", instance.sha256):
                    filed.append(self._again(instance, sha256, origin, fresh.get(uid)))
                elif not self._take(entry):
                    filed.append(Filed("no_space", instance, origin))
                elif sha256:
                    filed.append(Filed("repeated", placed, origin))
                else:
                    filed.append(Filed("stored", placed, entry.origin))
                    known[uid], fresh[uid] = (instance.sha256, entry.origin), replace(entry, instance=placed)
            if not fresh:
                return filed
            with self._engine.begin() as connection:
                db.add_new(connection, db.instances, [rows.header(one.instance) for one in fresh.values()])
                made = [_row(one) for one in fresh.values()]
                db.add_new(connection, db.archive, made)
                worklist.filed(connection, made)
                known |= self._contents(connection, fresh)
            # Another process may have filed one of these UIDs since the first look: the first stays
            return [self._settled(one, *known.get(one.instance.sop_instance_uid, ("", ""))) for one in filed]

    def _again(self, instance: Instance, sha256: str, origin: str, fresh: _Entry | None) -> Filed:
        """What becomes of an instance whose UID is there with other bytes: they may differ in how it travelled only."""
        there = self._blobs.path(sha256)
        if not there.exists():
            return Filed("conflict", instance, origin)
        first = fresh.instance if fresh else self.by_uid(instance.sop_instance_uid)
        if same_data_set(there, instance.path) or self.same(first, instance):
            return Filed("repeated", replace(instance, path=there, sha256=sha256), origin)
        return Filed("conflict", instance, origin)

    @staticmethod
    def _settled(one: Filed, sha256: str, origin: str) -> Filed:
        if one.outcome in ("stored", "repeated") and sha256 != one.instance.sha256:
            return replace(one, outcome="conflict", origin=origin)
        return one

    def _take(self, entry: _Entry) -> bool:
        """Bring a file to its place among the contents; False when the disk is full."""
        path, sha256 = entry.instance.path, entry.instance.sha256
        if path == self._blobs.path(sha256):
            return True
        try:
            (self._blobs.put if entry.origin == "http" else self._blobs.adopt)(path, sha256)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return False
            raise
        return True

    @staticmethod
    def _contents(connection: Connection, uids: Iterable[str]) -> dict[str, tuple[str, str]]:
        """(SHA-256, origin) of what is filed under these SOP Instance UIDs."""
        found: dict[str, tuple[str, str]] = {}
        for some in chunks(dict.fromkeys(uids)):
            query = select(_A.sop_instance_uid, _A.sha256, _A.origin).where(_A.sop_instance_uid.in_(some))
            found.update({row.sop_instance_uid: (row.sha256, row.origin) for row in connection.execute(query)})
        return found

    # -- retrieve -------------------------------------------------------------------------------------------------------

    def instance(self, study: str, series: str, sop: str) -> Instance:
        """One instance by its UIDs; raises NotFound."""
        return self._instances("instance", _A.sop_instance_uid == sop, _A.series_uid == series, _A.study_uid == study)[
            0
        ]

    def series_instances(self, study: str, series: str) -> list[Instance]:
        """The instances of a series by number; raises NotFound when there are none."""
        return self._instances("series", _A.series_uid == series, _A.study_uid == study)

    def study_instances(self, study: str) -> list[Instance]:
        """The instances of a study by series and number; raises NotFound when there are none."""
        return self._instances("study", _A.study_uid == study)

    def by_uid(self, sop: str) -> Instance:
        """One instance by its SOP Instance UID alone; raises NotFound."""
        return self._instances("instance", _A.sop_instance_uid == sop)[0]

    def sender(self, series: str) -> str:
        """Who sent the last instance of a series through a DICOM door; empty where nobody did."""
        query = (
            select(_A.sender)
            .where(_A.series_uid == series, _A.sender != "")
            .order_by(_A.received.desc(), _A.sop_instance_uid)
            .limit(1)
        )
        with self._engine.connect() as connection:
            return connection.scalar(query) or ""

    def _instances(self, what: str, *conditions: ColumnElement[bool]) -> list[Instance]:
        query = _stored(*conditions).order_by(
            _A.series_uid, func.coalesce(_A.instance_number, 1 << 30), _A.sop_instance_uid
        )
        with self._engine.connect() as connection:
            found = [self._instance(row) for row in connection.execute(query)]
        if not found:
            raise NotFound(f"there is no stored {what} with these UIDs")
        return found

    def _instance(self, row: Row[Any]) -> Instance:
        made = rows.instance(row, self._blobs.path(row.sha256))
        return replace(
            made,
            sop_instance_uid=row.sop_instance_uid,
            series_uid=row.series_uid,
            study_uid=row.study_uid,
            attributes=json.loads(row.attributes),
        )

    def search(self, query: Query) -> Page:
        """Matches of a query; see `finding.search`."""
        return finding.search(self._engine, query)

    # -- remove ---------------------------------------------------------------------------------------------------------

    def remove(self, uids: Iterable[str]) -> list[str]:
        """Take instances out of the archive by SOP Instance UID.

        Returns
        -------
        list of str
            SHA-256 of their contents, which stay until whoever asked knows that nothing else needs them.
        """
        hashes: list[str] = []
        with self._content, self._engine.begin() as connection:
            for some in chunks(dict.fromkeys(uids)):
                step = delete(db.archive).where(_A.sop_instance_uid.in_(some)).returning(_A.sha256, _A.study_uid)
                removed = connection.execute(step).all()
                worklist.gone(connection, (row.study_uid for row in removed))
                hashes += [row.sha256 for row in removed]
        return hashes


def _stored(*conditions: ColumnElement[bool]) -> Select[Any]:
    return (
        select(_A.sha256, _A.sop_instance_uid, _A.series_uid, _A.study_uid, _A.attributes, db.instances.c.header)
        .join_from(db.archive, db.instances, db.instances.c.sha256 == _A.sha256)
        .where(*conditions)
    )


def _first(attributes: Attributes, keyword: str) -> str:
    found = attributes.get(tag(keyword), {}).get("Value") or [""]
    if isinstance(found[0], Mapping):
        return "=".join(str(found[0].get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic")).rstrip("=")
    return str(found[0])


def _attributes(instance: Instance) -> dict[str, Any]:
    """The attributes an instance is searched by; what its record knows is there in any case."""
    known: dict[str, Any] = {
        "SOPClassUID": instance.sop_class_uid,
        "SOPInstanceUID": instance.sop_instance_uid,
        "StudyInstanceUID": instance.study_uid,
        "SeriesInstanceUID": instance.series_uid,
        "Modality": instance.modality,
        "PatientID": instance.patient_id,
        "InstanceNumber": instance.instance_number,
    }
    if instance.has_pixels:
        known |= {"Rows": instance.rows, "Columns": instance.columns, "BitsAllocated": instance.bits}
        if instance.frames > 1:
            known["NumberOfFrames"] = instance.frames
    result = dict(instance.attributes)
    for keyword, value in known.items():
        vr = {"Modality": "CS", "PatientID": "LO", "InstanceNumber": "IS", "NumberOfFrames": "IS"}.get(keyword)
        vr = vr or ("UI" if keyword.endswith("UID") else "US")
        if value not in ("", None):
            result.setdefault(tag(keyword), {"vr": vr, "Value": [value]})
    return dict(sorted(result.items()))


def _row(entry: _Entry) -> dict[str, Any]:
    instance = entry.instance
    attributes = _attributes(instance)

    def text(keyword: str, longest: int = 64) -> str:
        return _first(attributes, keyword).replace("\0", "").strip()[:longest]

    return {
        "sop_instance_uid": instance.sop_instance_uid,
        "sha256": instance.sha256,
        "study_uid": instance.study_uid,
        "series_uid": instance.series_uid,
        "sop_class_uid": instance.sop_class_uid,
        "transfer_syntax_uid": instance.transfer_syntax_uid,
        "modality": instance.modality[:16],
        "patient_id": text("PatientID"),
        "patient_name": text("PatientName", 256),
        "study_date": text("StudyDate", 8),
        "study_time": text("StudyTime", 16),
        "accession_number": text("AccessionNumber"),
        "instance_number": instance.instance_number,
        "frames": instance.frames,
        "bytes": instance.path.stat().st_size,
        "attributes": json.dumps(attributes),
        "origin": entry.origin,
        "sender": entry.sender[:64],
        "association": entry.association[:64],
        "received": entry.received or rows.now(),
        "analysis": entry.analysis,
        "kind": entry.kind,
    }
