"""Health by dependency, metrics, and the front door."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, redirect
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.wrappers import Response as BaseResponse

from service.errors import InputError
from service.http.context import service
from service.pipeline import problem

blueprint = Blueprint("status", __name__)


@blueprint.get("/")
def front_door() -> BaseResponse:
    """To the viewer."""
    return redirect("/viewer/")


@blueprint.get("/health")
def health() -> tuple[Response, int]:
    """One line a dependency; 503 when any fails."""
    parts = service()

    def database() -> str:
        parts.store.check()
        return "answers"

    def disk() -> str:
        return f"{parts.store.blobs.check_space() >> 20} MiB free, {parts.settings.free_bytes >> 20} MiB of them in reserve"

    def sandbox() -> str:
        (instance,) = parts.tools.sandbox.inspect([parts.probe])
        return (
            f"{parts.settings.sandbox_workers} processes; an image of {instance.columns} x {instance.rows} px was read"
        )

    def queue() -> str:
        if not parts.queue.working:
            raise _Unhealthy("no worker takes up analyses; restart the service")
        counts = parts.store.counts()
        return f"{counts.get('queued', 0)} queued, {counts.get('running', 0)} running"

    def arrivals() -> str:
        if not parts.arrivals.working:
            raise _Unhealthy("what arrives is not filed; restart the service")
        return f"{len(parts.store.series.waiting())} series are not complete yet"

    def deliveries() -> str:
        counts = parts.store.deliveries.counts()
        dead = sum(count for (_, state), count in counts.items() if state == "dead")
        waiting = sum(count for (_, state), count in counts.items() if state in ("waiting", "sending"))
        return f"{waiting} waiting, {dead} set aside (GET /api/v1/deliveries?state=dead)"

    def receivers() -> str:
        alive, wanted = len(parts.listener.pids) if parts.listener else 0, parts.settings.dicom_processes
        if alive < wanted:
            raise _Unhealthy(f"{alive} of {wanted} receiving processes are alive; the log says why")
        return f"{alive} processes on port {parts.listener.port if parts.listener else 0}"

    def model(name: str) -> Callable[[], str]:
        bundle, engine = parts.pipeline.bundles[name], parts.tools.engine
        used = f"version {bundle.version}, sha256 {bundle.sha256[:12]}, on {engine.provider(name)}"
        return lambda: f"{used}, {engine.statistics(name).failures} failures"

    probes: dict[str, Callable[[], str]] = {"database": database, "disk space": disk}
    probes |= {f"model {name}": model(name) for name in parts.pipeline.bundles}
    probes |= {"sandbox": sandbox, "queue": queue, "arrivals": arrivals, "deliveries": deliveries}
    if parts.listener is not None:
        probes["DICOM listener"] = receivers
    checks = [_checked(name, probe) for name, probe in probes.items()]
    good = all(check["result"] == "pass" for check in checks)
    return jsonify({"status": "pass" if good else "fail", "checks": checks}), 200 if good else 503


class _Unhealthy(Exception):
    """A dependency does not work; the text says what to do."""


def _checked(name: str, probe: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"check": name, "result": "pass", "detail": probe()}
    except InputError as error:
        return {"check": name, "result": "fail", "detail": error.detail}
    except _Unhealthy as error:
        return {"check": name, "result": "fail", "detail": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever a broken dependency raises, the report goes on
        return {"check": name, "result": "fail", "detail": problem.of_fault(error)["detail"]}


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus text format."""
    return Response(
        generate_latest(current_app.extensions["pellucid-metrics"].registry), content_type=CONTENT_TYPE_LATEST
    )
