"""The HTTP entrance: turns what arrives into stored instances and an analysis request, and results into answers.

One blueprint a concern; the contract is the document at /openapi.json, which a test compares with the routes that exist.
"""

from __future__ import annotations

import threading

from flask import Flask

from service.config import Settings, check_access
from service.http import (
    analyses,
    assessments,
    conformance,
    deliveries,
    dicomweb,
    docs,
    eyes,
    findings,
    images,
    models,
    openapi,
    problems,
    security,
    similar,
    status,
    viewer,
    workitems,
    worklist,
)
from service.http.context import EXTENSION, WAITING, ServiceRequest
from service.http.metrics import Metrics
from service.pipeline.assembly import Service, open_service


def create_app(settings: Settings, service: Service | None = None) -> Flask:
    """The WSGI application.

    Parameters
    ----------
    settings : Settings
    service : Service, optional
        A running one; without it one is opened on `settings.data_dir`. Close it with ``app.extensions["pellucid"].close()``.

    Raises
    ------
    ConfigError
        When the address is not a loopback one and no token is set.
    StoreError, DatabaseError, BundleError, EngineError
        When the data folder or the models cannot be used.
    """
    check_access(settings)
    app = Flask("pellucid", static_folder=None, template_folder=None)
    app.request_class = ServiceRequest
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.config["MAX_CONTENT_LENGTH"] = settings.upload_bytes
    app.config["MAX_FORM_PARTS"] = settings.upload_parts
    app.config["MAX_FORM_MEMORY_SIZE"] = 1 << 20
    app.extensions[EXTENSION] = service or open_service(settings)
    app.extensions[WAITING] = threading.BoundedSemaphore(max(1, settings.http_threads // 2))
    metrics = Metrics(app.extensions[EXTENSION])
    app.extensions[EXTENSION].queue.on_end = metrics.analysis_ended
    app.extensions[EXTENSION].arrivals.on_arrival = metrics.arrived

    problems.install(app)
    security.install(app, settings)
    metrics.install(app)
    for module in (
        analyses, assessments, deliveries, findings, images, models, similar, status, openapi, docs, viewer,
        dicomweb, workitems, conformance,
        worklist, eyes,
    ):  # fmt: skip
        app.register_blueprint(module.blueprint)
    return app
