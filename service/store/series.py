"""Series on their way from a DICOM door to an analysis, and the associations that bring them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Engine, delete, func, select, update

from service.store import database as db
from service.store.rows import now


@dataclass(frozen=True)
class Series:
    """One series as the arrivals see it. `fingerprint` is that of what the last analysis was made from."""

    series_uid: str
    study_uid: str
    modality: str
    first: str
    last: str
    state: str
    reason: str
    fingerprint: str
    analysis: str | None

    @property
    def open(self) -> bool:
        return self.state == "open"


class SeriesTable:
    """Rows of `database.series` and `database.associations`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def touch(self, seen: Iterable[tuple[str, str, str]]) -> None:
        """Something came for these (series, study, modality): they are open, whatever they were."""
        moment = now()
        with self._engine.begin() as connection:
            for series_uid, study_uid, modality in sorted(set(seen)):
                row = {
                    "series_uid": series_uid,
                    "study_uid": study_uid,
                    "modality": modality[:16],
                    "first": moment,
                    "last": moment,
                    "state": "open",
                    "reason": "",
                    "fingerprint": "",
                }
                db.add_new(connection, db.series, [row])
                connection.execute(
                    update(db.series).where(db.series.c.series_uid == series_uid).values(last=moment, state="open")
                )

    def known(self, series_uid: str) -> Series | None:
        """One series, or None."""
        with self._engine.connect() as connection:
            row = connection.execute(select(db.series).where(db.series.c.series_uid == series_uid)).first()
        return _series(row) if row else None

    def of_study(self, study_uid: str) -> list[Series]:
        """All series of a study."""
        with self._engine.connect() as connection:
            found = connection.execute(select(db.series).where(db.series.c.study_uid == study_uid))
            return [_series(row) for row in found]

    def waiting(self) -> list[Series]:
        """The open series, longest waiting first."""
        query = select(db.series).where(db.series.c.state == "open").order_by(db.series.c.last)
        with self._engine.connect() as connection:
            return [_series(row) for row in connection.execute(query)]

    def settle(
        self, series: Series, state: str, reason: str, fingerprint: str | None = None, analysis: str | None = None
    ) -> bool:
        """Write what became of an open series, unless something came for it meanwhile or another host was first.

        When something came, the series stays open; that it was analysed is written in any case, so that the next answer
        supersedes this one.
        """
        s = db.series.c
        values: dict[str, Any] = {"state": state, "reason": reason}
        if fingerprint is not None:
            values["fingerprint"] = fingerprint
        if analysis is not None:
            values["analysis"] = analysis
        step = update(db.series).where(s.series_uid == series.series_uid, s.last == series.last, s.state == "open")
        with self._engine.begin() as connection:
            settled = connection.execute(step.values(**values)).rowcount == 1
            if not settled and analysis is not None:
                same = update(db.series).where(
                    s.series_uid == series.series_uid,
                    s.fingerprint == series.fingerprint,
                    s.analysis.is_(None) if series.analysis is None else s.analysis == series.analysis,
                )
                connection.execute(same.values(analysis=analysis, fingerprint=values.get("fingerprint", s.fingerprint)))
            return settled

    def note(self, series: Series, reason: str) -> None:
        """Say what an open series waits for."""
        if reason != series.reason:
            s = db.series.c
            with self._engine.begin() as connection:
                step = update(db.series).where(s.series_uid == series.series_uid, s.last == series.last)
                connection.execute(step.values(reason=reason))

    def opened(self, association: str) -> None:
        """An association began to send."""
        with self._engine.begin() as connection:
            db.add_new(connection, db.associations, [{"id": association, "opened": now(), "closed": None}])

    def closed(self, association: str) -> None:
        """An association ended."""
        with self._engine.begin() as connection:
            step = update(db.associations).where(db.associations.c.id == association)
            connection.execute(step.values(closed=now()))

    def sending(self, series_uid: str) -> bool:
        """Whether an association that brought instances of this series is still open."""
        a, w = db.archive.c, db.associations.c
        query = (
            select(func.count())
            .select_from(db.associations)
            .where(w.closed.is_(None), w.id.in_(select(a.association).where(a.series_uid == series_uid)))
        )
        with self._engine.connect() as connection:
            return bool(connection.scalar(query))

    def forget_associations(self, prefix: str, before: str | None = None) -> None:
        """End the associations of a host that restarted (ids begin with `prefix`), or drop those closed before a time."""
        w = db.associations.c
        with self._engine.begin() as connection:
            if before is None:
                step = update(db.associations).where(w.closed.is_(None), w.id.startswith(prefix, autoescape=True))
                connection.execute(step.values(closed=now()))
            else:
                connection.execute(delete(db.associations).where(w.closed < before))


def _series(row: Any) -> Series:
    return Series(**{entry.name: getattr(row, entry.name) for entry in fields(Series)})
