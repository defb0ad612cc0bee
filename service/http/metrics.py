"""Prometheus metrics: requests, arrivals, series, analyses, stages, deliveries, the disk, the models."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from service.pipeline.assembly import Service
from service.records import Arrival
from service.store.rows import Analysis

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """One registry an application, so that tests may have several."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(self)
        self.requests = Histogram(
            "pellucid_request_seconds",
            "HTTP requests by route",
            ["method", "route", "status"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.analyses = Counter(
            "pellucid_analyses", "Ended analyses", ["model", "status", "outcome"], registry=self.registry
        )
        self.stages = Histogram(
            "pellucid_stage_seconds",
            "Time an analysis spends in a stage",
            ["model", "stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )

        self.received = Counter(
            "pellucid_received_instances",
            "Instances that came through a DICOM door, by what became of them",
            ["door", "outcome"],
            registry=self.registry,
        )

    def install(self, app: Flask) -> None:
        app.extensions["pellucid-metrics"] = self

        @app.after_request
        def count(response: Response) -> Response:
            route = request.url_rule.rule if request.url_rule else "none"
            method = request.method if request.method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS") else "other"
            self.requests.labels(method, route, response.status_code).observe(
                time.monotonic() - g.get("begin", time.monotonic())
            )
            return response

    def analysis_ended(self, analysis: Analysis) -> None:
        result = analysis.result or {}
        self.analyses.labels(analysis.model, analysis.status, result.get("outcome", "none")).inc()
        for stage, ms in result.get("timing_ms", {}).items():
            self.stages.labels(analysis.model, stage).observe(ms / 1000)

    def arrived(self, arrival: Arrival, outcome: str) -> None:
        self.received.labels(arrival.door, outcome).inc()

    def collect(self) -> Iterator[Metric]:
        """What is read when somebody asks (the interface of a prometheus_client collector)."""
        stored = GaugeMetricFamily("pellucid_stored_analyses", "Analyses in the database", labels=["status"])
        for status, count in self._service.store.counts().items():
            stored.add_metric([status], count)
        yield stored
        deliveries = GaugeMetricFamily("pellucid_deliveries", "Deliveries by state", labels=["destination", "state"])
        for (destination, state), count in self._service.store.deliveries.counts().items():
            deliveries.add_metric([destination, state], count)
        yield deliveries
        yield GaugeMetricFamily(
            "pellucid_series_open", "Series that are not complete yet", value=len(self._service.store.series.waiting())
        )
        yield GaugeMetricFamily(
            "pellucid_rejected_instances", "Received and not filed", value=len(self._service.store.rejected())
        )
        yield GaugeMetricFamily(
            "pellucid_ready", "1 while analyses are taken up", value=int(self._service.queue.working)
        )
        waiting = GaugeMetricFamily("pellucid_oldest_waiting_seconds", "Age of what waits the longest", labels=["what"])
        for what, since in self._service.store.oldest().items():
            age = (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds() if since else 0.0
            waiting.add_metric([what], max(0.0, age))
        yield waiting
        disk = shutil.disk_usage(self._service.store.blobs.root).free
        yield GaugeMetricFamily("pellucid_disk_free_bytes", "Free space for images and results", value=disk)
        reserve = self._service.settings.free_bytes
        yield GaugeMetricFamily("pellucid_disk_reserve_bytes", "Free space that is never touched", value=reserve)
        listener = self._service.listener
        alive = len(listener.pids) if listener is not None else 0
        yield GaugeMetricFamily("pellucid_dicom_receivers", "Processes that receive DICOM", value=alive)
        busy = listener.associations if listener is not None else 0
        yield GaugeMetricFamily("pellucid_associations", "Open DICOM associations", value=busy)
        images = CounterMetricFamily("pellucid_model_images", "Images a model saw", labels=["model", "provider"])
        seconds = CounterMetricFamily("pellucid_model_seconds", "Time a model ran", labels=["model", "provider"])
        engine = self._service.tools.engine
        for name in engine.bundles:
            images.add_metric([name, engine.provider(name)], engine.statistics(name).images)
            seconds.add_metric([name, engine.provider(name)], engine.statistics(name).seconds)
        yield images
        yield seconds
