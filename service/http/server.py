"""The web server: waitress, with its own refusals as problems, and an orderly stop on SIGTERM and SIGINT."""

from __future__ import annotations

import json
import logging
import signal
from types import FrameType

import waitress
from flask import Flask
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, MultiSocketServer
from waitress.task import ErrorTask

from service.config import Settings
from service.http.context import EXTENSION
from service.http.problems import MEDIA_TYPE, SLUGS
from service.pipeline import problem


class ProblemTask(ErrorTask):  # type: ignore[misc]
    """What waitress itself refuses, before the application sees it, as a problem."""

    def execute(self) -> None:
        error = self.request.error
        slug = SLUGS.get(error.code, "http")
        title, detail = error.reason, "The server cannot accept this HTTP request."
        if error.code == 413:
            limit = f"{self.channel.adj.max_request_body_size / (1 << 20):.0f} MiB"
            title = "The request is too large"
            detail = f"it is larger than {limit}, the service's `upload_bytes`; send one series at a time, or send it by DICOM"
        body = json.dumps(problem.problem(error.code, slug, title, detail)).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.extend(
            [("Content-Type", MEDIA_TYPE), ("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store")]
        )
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that answers its own errors as problems."""

    error_task_class = ProblemTask


def listen(app: Flask, settings: Settings) -> BaseWSGIServer | MultiSocketServer:
    """Open the port; OSError when it is taken."""
    BaseWSGIServer.channel_class = Channel
    logging.getLogger("waitress").setLevel(logging.CRITICAL)  # its messages quote paths, which may hold UIDs
    logging.getLogger("waitress.queue").setLevel(logging.WARNING)
    return waitress.create_server(
        app,
        host=settings.host,
        port=settings.port,
        threads=settings.http_threads,
        max_request_body_size=settings.upload_bytes,
        channel_request_lookahead=1,  # notice clients that hang up while they wait
        ident=None,
        clear_untrusted_proxy_headers=True,
        trusted_proxy=settings.trusted_proxy or None,
        trusted_proxy_headers={"x-forwarded-proto"} if settings.trusted_proxy else None,
    )


def port_of(server: BaseWSGIServer | MultiSocketServer) -> int:
    """The port that is really listened on (setting 0 = any free one)."""
    pairs = getattr(server, "effective_listen", None) or [(server.effective_host, server.effective_port)]
    return int(pairs[0][1])


def run(server: BaseWSGIServer | MultiSocketServer, app: Flask) -> bool:
    """Serve until a signal; True when no analysis was left running (left ones are queued again)."""
    service = app.extensions[EXTENSION]

    def stop(number: int, frame: FrameType | None) -> None:
        service.queue.interrupt()
        raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    server.run()  # returns after SystemExit, when its threads are done or 5 s have passed
    return bool(service.close())
