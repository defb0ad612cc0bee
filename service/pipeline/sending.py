"""Sending what was made: which object goes where, one attempt after the other, until it is there or set aside for a person."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from service import uids
from service.delivery import backoff, commitment
from service.delivery.attempt import Commitment, GiveUp, Notice, Outcome, Outgoing, Sent, TryAgain
from service.delivery.destinations import Callback, Destination, Dicom
from service.delivery.send import send
from service.errors import InputError
from service.pipeline import problem
from service.records import ResultObject
from service.store import deliveries as table
from service.store import trouble
from service.store.analyses import Store
from service.store.deliveries import Delivery
from service.store.rows import Analysis, now

log = logging.getLogger("pellucid.delivery")

_NOT_SUPERSEDED = tuple(state for state in table.STATES if state != "superseded")


class Sending:
    """Everything about deliveries but when they happen.

    Parameters
    ----------
    store : Store
    destinations : sequence of Destination
    notice : callable
        Body of a callback about an analysis, as JSON.
    attempts : int
        How often one delivery is tried.
    backoff_s, longest_s : float
        Wait before the second try, which doubles each time, and the longest wait.
    """

    def __init__(
        self,
        store: Store,
        destinations: Sequence[Destination],
        notice: Callable[[Analysis], bytes],
        *,
        attempts: int,
        backoff_s: float,
        longest_s: float,
    ) -> None:
        self._store, self._table = store, store.deliveries
        self.destinations = {one.name: one for one in destinations}
        self._notice = notice
        self._attempts, self._backoff_s, self._longest_s = attempts, backoff_s, longest_s
        self.stopping: Callable[[], bool] = lambda: False
        """Whether the service stops, so that nothing is waited for."""

    # -- what is to be sent ---------------------------------------------------------------------------------------------

    def plan(
        self, analysis: Analysis, outcome: str, objects: Sequence[ResultObject], revision: int = 0
    ) -> list[dict[str, Any]]:
        """New deliveries of a completed analysis; objects that are on their way or were sent already are left out.

        `revision` counts how often its objects were made anew: each time is told to callbacks again.
        """
        told = f"revision {revision}" if revision else ""
        sender = self._store.archive.sender(analysis.series) if analysis.series else ""
        planned = []
        for destination in self.destinations.values():
            if isinstance(destination, Callback):
                if destination.wants("completed", analysis.model, outcome, sender):
                    planned.append(table.row(analysis.id, destination.name, table.CALLBACK, told))
                continue
            known = self._table.known(destination.name, [one.sop_instance_uid for one in objects])
            planned += [
                table.row(analysis.id, destination.name, one.kind, one.sop_instance_uid)
                for one in objects
                if destination.wants(one.kind, analysis.model, outcome, sender) and one.sop_instance_uid not in known
            ]
        return planned

    def plan_failure(self, analysis: Analysis) -> list[dict[str, Any]]:
        """Callbacks about an analysis that failed."""
        return [
            table.row(analysis.id, destination.name, table.CALLBACK)
            for destination in self.destinations.values()
            if isinstance(destination, Callback) and destination.wants("failed", analysis.model, "", "")
        ]

    def due(self) -> list[Delivery]:
        """What is to be tried now."""
        return self._table.due(now())

    # -- one attempt ----------------------------------------------------------------------------------------------------

    def attempt(self, analysis: str, destination: str) -> None:
        """Send what waits of an analysis for a destination and note how it went; never raises for what was sent."""
        moment = now()
        due = [one.id for one in self._table.pending(analysis, destination) if one.due <= moment]
        if not due:
            return
        target = self.destinations.get(destination)
        if target is None:
            text = "this destination is no longer in the settings; send again when it is"
            self._table.change(due, table.OPEN, state="dead", last_error=text)
            return
        self._table.change(due, table.OPEN, state="sending")
        waiting = [one for one in self._table.pending(analysis, destination) if one.id in due]
        if not waiting:  # superseded meanwhile
            return
        try:
            outcomes = self._send(target, analysis, waiting)
        except Exception as error:  # noqa: BLE001 - a fault of ours counts as an attempt, so that it ends
            fault = problem.of_fault(error)
            outcomes = [TryAgain(f"a fault of this service, incident {fault['incident']}")] * len(waiting)
        for delivery, outcome in zip(waiting, outcomes, strict=True):
            trouble.wait_out(lambda d=delivery, o=outcome: self._note(d, o), self.stopping)  # type: ignore[misc]
        self._ask_commitment(target, analysis, destination)

    def _send(self, target: Destination, analysis: str, waiting: Sequence[Delivery]) -> list[Outcome]:
        if isinstance(target, Callback):
            stored = self._store.get(analysis)
            return [outcome for one in waiting for outcome in send(target, Notice(one.id, self._notice(stored)))]
        return list(send(target, [self._outgoing(one) for one in waiting]))

    def _outgoing(self, delivery: Delivery) -> Outgoing:
        instance = self._store.archive.by_uid(delivery.sop_instance_uid)
        return Outgoing(
            delivery.kind,  # type: ignore[arg-type]  # an ObjectKind, as it was planned
            instance.sop_class_uid,
            instance.sop_instance_uid,
            instance.path,
            instance.transfer_syntax_uid,
        )

    def _note(self, delivery: Delivery, outcome: Outcome, states: Sequence[str] = table.OPEN) -> None:
        """Write down how an attempt went, unless the delivery has left these states meanwhile: another host sent it."""
        tries = delivery.attempts + 1
        if isinstance(outcome, Sent):
            self._table.change([delivery.id], states, state="sent", attempts=tries, last_error=outcome.detail)
            return
        if isinstance(outcome, GiveUp) or tries >= self._attempts:
            log.error("delivery %s to %s is set aside after %d attempts", delivery.id, delivery.destination, tries)
            self._table.change([delivery.id], states, state="dead", attempts=tries, last_error=outcome.reason)
            return
        wait = backoff.wait_s(tries, self._backoff_s, self._longest_s, delivery.id)
        if outcome.after_s is not None:
            wait = min(max(wait, outcome.after_s), self._longest_s)
        due = _later(wait)
        values = {"attempts": tries, "last_error": outcome.reason, "due": due}
        self._table.change([delivery.id], states, state="waiting", **values)

    def lost(self, delivery: Delivery) -> None:
        """The engine has ended an attempt at a delivery that still waits for it: it counts, and the delivery waits again.

        Not when somebody has written anything about it since it was listed: the attempt ended just then.
        """
        current = self._table.get(delivery.id)
        if current.changed == delivery.changed:
            self._note(current, TryAgain("the attempt was interrupted"))

    # -- storage commitment ---------------------------------------------------------------------------------------------

    def _ask_commitment(self, target: Destination, analysis: str, destination: str) -> None:
        """Ask a destination that is to commit for what it was sent."""
        if not isinstance(target, Dicom) or not target.commitment:
            return
        sent = [
            one
            for one in self._table.of_analysis(analysis)
            if one.destination == destination and one.state == "sent" and not one.transaction
        ]
        if sent:
            self._request(target, sent)

    def _request(self, target: Dicom, sent: Sequence[Delivery]) -> None:
        transaction = uids.of("commitment", *(f"{one.id}:{one.round}:{one.changed}" for one in sent))
        self._table.change([one.id for one in sent], transaction=transaction)
        references = [(o.sop_class_uid, o.sop_instance_uid) for o in map(self._outgoing, sent)]
        outcome = commitment.request(target, references, transaction)
        if isinstance(outcome, Sent):
            if outcome.commitment is not None:
                self.committed(outcome.commitment)
        else:
            self._table.change([one.id for one in sent], last_error=f"storage commitment: {outcome.reason}")

    def committed(self, report: Commitment) -> None:
        """What a destination reported: committed, or sent again."""
        asked = {one.sop_instance_uid: one for one in self._table.of_transaction(report.transaction_uid)}
        kept = [asked[uid].id for _, uid in report.committed if uid in asked]
        self._table.change(kept, _NOT_SUPERSEDED, state="committed", last_error="")
        for _, uid, reason in report.failed:
            if uid in asked and asked[uid].state == "sent":
                text = f"storage commitment was refused with reason 0x{reason:04X}"
                self._table.change([asked[uid].id], transaction="")
                self._note(asked[uid], TryAgain(text), ("sent",))

    def ask_again(self) -> None:
        """Repeat commitment requests that were never answered."""
        for target in self.destinations.values():
            if isinstance(target, Dicom) and target.commitment:
                late = [
                    one for one in self._table.sent(_later(-target.commitment_wait_s)) if one.destination == target.name
                ]
                by_analysis: dict[str, list[Delivery]] = {}
                for one in late:
                    by_analysis.setdefault(one.analysis, []).append(one)
                for group in by_analysis.values():
                    self._request(target, group)

    # -- a person's wish ------------------------------------------------------------------------------------------------

    def replay(self, deliveries: Sequence[Delivery]) -> int:
        """Send again; how many wait now.

        Raises
        ------
        InputError
            When one of the destinations is no longer configured.
        """
        gone = sorted({one.destination for one in deliveries} - set(self.destinations))
        if gone:
            raise InputError(f"destination {gone[0]} is not in the settings; add it, start again, and repeat")
        return self._table.replay(deliveries)


def _later(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
