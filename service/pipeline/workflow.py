"""Durable execution by DBOS: what was enqueued runs to its end, whatever happens to this process or host.

Three workflows: an analysis, one attempt to deliver an analysis' objects to a destination, and one to make them anew after a
verdict. They are told only ids; all they know lies in the store. DBOS keeps its tables in a database of its own next to ours
(SQLite), or in a schema of its own in ours (PostgreSQL). One process has one `Workflows`. docs/decisions.md has the failure
tests by which the engine was chosen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID

ANALYSES, DELIVERIES, REVISIONS = "analyses", "deliveries", "revisions"
VERSION = "1"
"""Of the workflows' shape: what an older service enqueued is run by a newer one."""
POLL_S = 0.05
DELIVERY_POLL_S = 0.1
FIRST, LATER = 1, 10
"""Priorities: somebody waits for the answer to an HTTP request."""
_ENDED = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")

_running: Workflows | None = None


class Interrupted(BaseException):
    """The service stops in the middle of a workflow.

    The engine notes the end of a workflow that returns or raises an Exception. This is none, so the workflow stays unfinished
    and is taken up at the next start.
    """


@DBOS.step(name="analyse")
def _analyse_step(identity: str) -> None:
    if _running is not None:
        _running.analyse(identity)


@DBOS.workflow(name="analyse", max_recovery_attempts=None)
def _analyse(identity: str) -> None:
    _analyse_step(identity)


@DBOS.step(name="deliver")
def _deliver_step(analysis: str, destination: str) -> None:
    if _running is not None:
        _running.deliver(analysis, destination)


@DBOS.workflow(name="deliver", max_recovery_attempts=None)
def _deliver(analysis: str, destination: str) -> None:
    _deliver_step(analysis, destination)


@DBOS.step(name="revise")
def _revise_step(analysis: str) -> None:
    if _running is not None:
        _running.revise(analysis)


@DBOS.workflow(name="revise", max_recovery_attempts=None)
def _revise(analysis: str) -> None:
    _revise_step(analysis)


class Workflows:
    """The engine of this process.

    Parameters
    ----------
    url : str
        Of DBOS' system database.
    host : str
        Name of this host, the same after a restart; unique among those that share the database.
    analyse, deliver, revise : callable
        What the workflows do. They raise nothing but Interrupted, and doing them again must do no harm.
    workers : int
        Analyses at the same time on this host.
    """

    def __init__(
        self,
        url: str,
        host: str,
        analyse: Callable[[str], None],
        deliver: Callable[[str, str], None],
        revise: Callable[[str], None],
        workers: int,
    ) -> None:
        self._url, self.host, self._workers = url, host, workers
        self.analyse, self.deliver, self.revise = analyse, deliver, revise

    def start(self) -> None:
        """Take up what this host left behind, then work on what is enqueued."""
        global _running
        if _running is not None:
            raise RuntimeError("a process can have one engine")
        _running = self
        logging.getLogger("dbos").setLevel(logging.ERROR)
        DBOS(
            config={
                "name": "pellucid",
                "system_database_url": self._url,
                "executor_id": self.host,
                "application_version": VERSION,
                "log_level": "ERROR",
                "enable_otlp": False,
                "db_engine_kwargs": {"hide_parameters": True},
            }
        )
        DBOS.launch()
        DBOS.register_queue(
            ANALYSES, worker_concurrency=self._workers, polling_interval_sec=POLL_S, on_conflict="always_update"
        )
        DBOS.register_queue(
            DELIVERIES,
            partition_worker_concurrency=1,  # one association a destination; one that hangs holds up no other
            polling_interval_sec=DELIVERY_POLL_S,
            on_conflict="always_update",
        )

        DBOS.register_queue(
            REVISIONS, worker_concurrency=1, polling_interval_sec=DELIVERY_POLL_S, on_conflict="always_update"
        )

    def stop(self, wait_s: float) -> None:
        """Take nothing more up; what runs has `wait_s` seconds to end, else it is taken up again at the next start."""
        global _running
        DBOS.destroy(workflow_completion_timeout_sec=max(0, round(wait_s)))
        _running = None

    def enqueue_analysis(self, identity: str, attempts: int, first: bool) -> bool:
        """Have an analysis done once for this number of attempts; False when that has run to its end already."""
        name = f"{identity}.{attempts}"
        with SetWorkflowID(name), SetEnqueueOptions(priority=FIRST if first else LATER):
            handle: Any = DBOS.enqueue_workflow(ANALYSES, _analyse, identity)
        return handle.get_status().status not in _ENDED

    def enqueue_delivery(self, analysis: str, destination: str, attempt: str) -> bool:
        """Have a delivery tried once for this attempt; False when that has run to its end already."""
        with (
            SetWorkflowID(f"{analysis}.{destination}.{attempt}"),
            SetEnqueueOptions(queue_partition_key=destination),
        ):
            handle: Any = DBOS.enqueue_workflow(DELIVERIES, _deliver, analysis, destination)
        return handle.get_status().status not in _ENDED

    def enqueue_revision(self, analysis: str, attempt: str) -> bool:
        """Have objects made anew once for this attempt; False when that has run to its end already."""
        with SetWorkflowID(f"revision.{analysis}.{attempt}"):
            handle: Any = DBOS.enqueue_workflow(REVISIONS, _revise, analysis)
        return handle.get_status().status not in _ENDED

    def take_over(self, hosts: list[str]) -> None:
        """Have the unfinished work of hosts that are gone done here or by any other host."""
        DBOS._recover_pending_workflows(hosts)

    def forget(self, before: datetime) -> None:
        """Drop the records of workflows that ended before a time."""
        ended = DBOS.list_workflows(
            status=list(_ENDED),
            completed_before=before.isoformat(),
            load_input=False,
            load_output=False,
            limit=1000,
        )
        if ended:
            DBOS.delete_workflows([one.workflow_id for one in ended])
