"""Work items: the procedure steps (UPS) that others ask for, each with its state (PS3.4 annex CC, PS3.18 chapter 11).

A change is a rule that is asked while the row is held and whose answer is written in the same transaction: of two that claim
a work item one wins, on SQLite as on PostgreSQL, on one host or on several.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Engine, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from service.errors import NotFound
from service.store import database as db
from service.store import subscriptions
from service.store.finding import chunks
from service.store.moments import stamp
from service.store.rows import now
from service.store.search import Criterion, tag
from service.store.subscriptions import PUSH, Subscriptions, attribute, first

SCHEDULED, IN_PROGRESS, COMPLETED, CANCELED = "SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"
PROGRESS, PERFORMED = "ProcedureStepProgressInformationSequence", "UnifiedProcedureStepPerformedProcedureSequence"

_W = db.workitems.c


@dataclass(frozen=True)
class Workitem:
    """One work item.

    Attributes
    ----------
    state : str
        Procedure Step State; the data set holds the same.
    transaction : str
        Transaction UID of whoever claimed it; never leaves this service.
    dataset : dict
        DICOM JSON Model, with SOP class and instance UID, without the Transaction UID.
    analysis : str or None
        Of one that this service performs; empty between the claim and the moment when the analysis is queued. None: nobody
        or somebody else performs it.
    changed : str
        When it was written last, as `rows.now` gives it.
    """

    uid: str
    state: str
    transaction: str
    dataset: dict[str, Any]
    analysis: str | None
    created: str
    changed: str

    @property
    def ours(self) -> bool:
        return self.analysis is not None

    @property
    def ended(self) -> bool:
        return self.state in (COMPLETED, CANCELED)

    def to(self, state: str, **more: Any) -> Workitem:
        """The same in another state."""
        dataset = {**self.dataset, **attribute("ProcedureStepState", state)}
        return replace(self, state=state, dataset=dict(sorted(dataset.items())), **more)

    def having(self, *parts: dict[str, Any]) -> Workitem:
        """The same with attributes set."""
        dataset = dict(self.dataset)
        for part in parts:
            dataset |= part
        return replace(self, dataset=dict(sorted(dataset.items())))

    def within(self, sequence: str, *parts: dict[str, Any]) -> Workitem:
        """The same with attributes set in the only item of a sequence."""
        item = dict(first(self.dataset, sequence) or {})
        for part in parts:
            item |= part
        return self.having(attribute(sequence, dict(sorted(item.items()))))

    def discontinued(self, reason: dict[str, Any], text: str = "", *more: dict[str, Any]) -> Workitem:
        """The same, canceled, with what its final state requires (table CC.2.5-3).

        Parameters
        ----------
        reason : dict
            Code item.
        text : str
            Reason For Cancellation.
        """
        return self.within(
            PROGRESS,
            attribute("ProcedureStepCancellationDateTime", stamp()),
            attribute("ProcedureStepDiscontinuationReasonCodeSequence", reason),
            attribute("ReasonForCancellation", text[:1024]) if text else {},
            *more,
        ).to(CANCELED)


Rule = Callable[[Workitem], Sequence[Workitem]]
"""Given a work item as it is, the steps it goes through; none leaves it as it is. Raises to refuse."""


class Workitems:
    """Rows of `database.workitems`; thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.subscriptions = Subscriptions(engine)

    # -- change ---------------------------------------------------------------------------------------------------------

    def create(self, uid: str, dataset: dict[str, Any]) -> bool:
        """Add a scheduled work item; False when its UID is taken."""
        moment = now()
        made = Workitem(uid, SCHEDULED, "", dataset, None, moment, moment).having(
            attribute("SOPClassUID", PUSH), attribute("SOPInstanceUID", uid), attribute("ProcedureStepState", SCHEDULED)
        )
        try:
            with subscriptions.writing(self._engine) as connection:
                connection.execute(insert(db.workitems), _row(made))
                subscriptions.inherit(connection, uid, made.dataset)
                subscriptions.tell(connection, uid, subscriptions.reports(uid, None, made.dataset))
        except IntegrityError:
            return False
        return True

    def change(self, uid: str, rule: Rule) -> Workitem:
        """Change a work item as a rule says, and tell subscribers; the work item afterwards.

        Raises
        ------
        NotFound
            When there is none with this UID. And what the rule raises; nothing is changed then.
        """
        with subscriptions.writing(self._engine) as connection:
            hold = update(db.workitems).where(_W.uid == uid).values(uid=uid).returning(db.workitems)
            row = connection.execute(hold).first()
            if row is None:
                raise _unknown()
            before = _workitem(row)
            for step in rule(before):
                after = replace(step, changed=now())
                connection.execute(update(db.workitems).where(_W.uid == uid).values(**_row(after)))
                subscriptions.tell(connection, uid, subscriptions.reports(uid, before.dataset, after.dataset))
                before = after
        return before

    def forget(self, before: str) -> int:
        """Delete those that ended before a time and that no subscriber holds by a deletion lock; how many."""
        held = select(db.subscriptions.c.workitem).where(db.subscriptions.c.deletion_lock == 1)
        ended = (_W.state.in_((COMPLETED, CANCELED)), _W.changed < before, _W.uid.not_in(held))
        with subscriptions.writing(self._engine) as connection:
            gone = list(connection.scalars(delete(db.workitems).where(*ended).returning(_W.uid)))
            for some in chunks(gone):
                connection.execute(delete(db.subscriptions).where(db.subscriptions.c.workitem.in_(some)))
        return len(gone)

    # -- find -----------------------------------------------------------------------------------------------------------

    def get(self, uid: str) -> Workitem:
        """One work item; raises NotFound."""
        with self._engine.connect() as connection:
            row = connection.execute(select(db.workitems).where(_W.uid == uid)).first()
        if row is None:
            raise _unknown()
        return _workitem(row)

    def find(self, criteria: Sequence[Criterion], limit: int, offset: int = 0) -> tuple[list[Workitem], bool]:
        """Those that match all keys, oldest first, and whether there are more."""
        narrow = [condition for one in criteria if (condition := _narrow(one)) is not None]
        query = select(db.workitems).where(*narrow).order_by(_W.created, _W.uid)
        found: list[Workitem] = []
        with self._engine.connect() as connection, connection.execution_options(yield_per=100).execute(query) as rows:
            for row in rows:
                one = _workitem(row)
                if not all(key.matches(one.dataset) for key in criteria):
                    continue
                if offset:
                    offset -= 1
                    continue
                if len(found) == limit:
                    return found, True
                found.append(one)
        return found, False

    def waiting(self) -> list[tuple[str, str]]:
        """(UID, time of the last change) of those that nobody has claimed, oldest first."""
        query = select(_W.uid, _W.changed).where(_W.state == SCHEDULED).order_by(_W.created, _W.uid)
        with self._engine.connect() as connection:
            return [(row.uid, row.changed) for row in connection.execute(query)]

    def performing(self) -> list[Workitem]:
        """Those that this service, on whatever host, has claimed and not ended."""
        query = select(db.workitems).where(_W.state == IN_PROGRESS, _W.analysis.is_not(None)).order_by(_W.changed)
        with self._engine.connect() as connection:
            return [_workitem(row) for row in connection.execute(query)]

    def abandoned(self) -> list[tuple[str, str]]:
        """(UID, analysis) of canceled ones whose analysis is still there, unless it failed; empty where it isn't known."""
        a = db.analyses.c
        alive = select(a.id).where(a.status != "failed")
        query = select(_W.uid, _W.analysis).where(_W.state == CANCELED, or_(_W.analysis == "", _W.analysis.in_(alive)))
        with self._engine.connect() as connection:
            return [(row.uid, row.analysis) for row in connection.execute(query)]

    def absent(self, instances: Iterable[str]) -> set[str]:
        """Those of these SOP Instance UIDs that the archive doesn't have."""
        known, wanted = db.archive.c.sop_instance_uid, set(instances)
        found: set[str] = set()
        with self._engine.connect() as connection:
            for some in chunks(wanted):
                found |= set(connection.scalars(select(known).where(known.in_(some))))
        return wanted - found


def _unknown() -> NotFound:
    return NotFound("there is no work item with this UID; GET /dicomweb/workitems lists them")


def _narrow(one: Criterion) -> ColumnElement[bool] | None:
    """A condition that every row holds which matches the key; None where there is no column for it."""
    if one.path == (tag("ProcedureStepState"),) and not one.wild:
        return _W.state == one.text.strip()
    if one.path == (tag("SOPInstanceUID"),):
        return _W.uid.in_(one.uids)
    return None


def _row(one: Workitem) -> dict[str, Any]:
    return {**vars(one), "dataset": json.dumps(one.dataset)}


def _workitem(row: Any) -> Workitem:
    return Workitem(**{**row._mapping, "dataset": json.loads(row.dataset)})
