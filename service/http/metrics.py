"""Prometheus metrics: requests by route, analyses by outcome, seconds by stage, the queue, the models."""

from __future__ import annotations

import time
from collections.abc import Iterator

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from service.pipeline.assembly import Service
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

    def collect(self) -> Iterator[Metric]:
        """What is read when somebody asks (the interface of a prometheus_client collector)."""
        stored = GaugeMetricFamily("pellucid_stored_analyses", "Analyses in the database", labels=["status"])
        for status, count in self._service.store.counts().items():
            stored.add_metric([status], count)
        yield stored
        images = CounterMetricFamily("pellucid_model_images", "Images a model saw", labels=["model", "provider"])
        seconds = CounterMetricFamily("pellucid_model_seconds", "Time a model ran", labels=["model", "provider"])
        engine = self._service.tools.engine
        for name in engine.bundles:
            images.add_metric([name, engine.provider(name)], engine.statistics(name).images)
            seconds.add_metric([name, engine.provider(name)], engine.statistics(name).seconds)
        yield images
        yield seconds
