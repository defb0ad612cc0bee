"""OHIF in front of a running Pellucid: the viewer of its npm package, served by nginx with the files of deploy/ohif.

`running` puts it beside a service, `Viewer` works in it as a reader does, in a real browser.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import re
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import ConsoleMessage, Locator, Page, Request, Response, ViewportSize, expect, sync_playwright

from tests.orthanc import free_port

PACKAGE = "@ohif/app@3.13.2"
DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
FETCH_S = 300.0
START_S = 60.0
PATIENCE_MS = 120_000
SIZE: ViewportSize = {"width": 1500, "height": 950}
"""Of the browser's window, in px."""


def package() -> Path:
    """The folder `dist` of OHIF's npm package, fetched once into the user's cache; without npm the test skips loudly."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pellucid" / "ohif"
    kept = cache / PACKAGE.rpartition("@")[2]
    if (kept / "dist" / "index.html").is_file():
        return kept / "dist"
    npm = shutil.which("npm")
    if npm is None:
        _skip("NO npm: apt-get install npm")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as name:
        folder = Path(name)
        command = [npm, "pack", PACKAGE, "--pack-destination", str(folder), "--silent"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FETCH_S, check=False)
            trouble = done.stderr[-500:] or f"exit code {done.returncode}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            trouble = f"no answer in {FETCH_S:.0f} s"
        if trouble:
            _skip(f"npm cannot fetch {PACKAGE}: {trouble}")
        (packed,) = folder.glob("*.tgz")
        with tarfile.open(packed) as archive:
            archive.extractall(folder, filter="data")
        with contextlib.suppress(OSError):  # somebody else was faster
            (folder / "package").rename(kept)
    return kept / "dist"


def _skip(reason: str) -> NoReturn:
    warnings.warn(f"{reason}; THIS TEST DID NOT RUN", stacklevel=3)
    pytest.skip(reason)


# -- the web server -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(folder: Path, dist: Path, pellucid: str) -> Iterator[str]:
    """nginx with the server block of deploy/ohif, but for TLS.

    Parameters
    ----------
    folder : Path
        For its files; made if needed.
    dist : Path
        What `package` gave.
    pellucid : str
        Address of the service, e.g. "http://127.0.0.1:8080".

    Yields
    ------
    str
        Origin at whose root OHIF is, e.g. "http://127.0.0.1:40123".
    """
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        _skip("NO nginx: apt-get install nginx-light")
    folder.mkdir(parents=True, exist_ok=True)
    site = folder / "site"
    # the package is large: its files are linked, not copied
    shutil.copytree(dist, site, copy_function=os.symlink, ignore=shutil.ignore_patterns("app-config.js"))
    shutil.copy(DEPLOY / "ohif" / "app-config.js", site)
    port = free_port()
    path = folder / "nginx.conf"
    path.write_text(_configuration(folder, site, port, pellucid.removeprefix("http://")))
    process = subprocess.Popen(
        [nginx, "-p", str(folder), "-c", str(path), "-g", "daemon off; master_process off;"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            log = folder / "error.log"
            assert process.poll() is None and time.monotonic() < until, log.read_text() if log.exists() else "no log"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def _configuration(folder: Path, site: Path, port: int, upstream: str) -> str:
    """The shipped files as one configuration that needs no root, no certificate and no folders of the system."""
    log_format = re.search(r"log_format pellucid .*;", (DEPLOY / "nginx" / "pellucid.conf").read_text())
    assert log_format is not None
    text = (DEPLOY / "ohif" / "ohif.conf").read_text()
    for pattern, new in (
        (r"    listen 443 ssl;\n    listen \[::\]:443 ssl;\n", f"    listen 127.0.0.1:{port};\n"),
        (r"(    ssl_\S+ +[^;]+;\n)+", ""),
        (r"/var/log/nginx", str(folder)),
        (r"root /srv/ohif;", f"root {site};"),
    ):
        text, count = re.subn(pattern, new, text)
        assert count == 1, pattern
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"pid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\nhttp {{\ninclude /etc/nginx/mime.types;\n"
        f"{temporary}{log_format[0]}\nupstream pellucid {{ server {upstream}; keepalive 16; }}\n{text}\n}}\n"
    )


# -- the reader -----------------------------------------------------------------------------------------------------------


class Viewer:
    """A tab with OHIF. What goes wrong in it is collected in `troubles`: script errors, refused requests, foreign origins."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page, self.origin = page, origin
        self.troubles: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.troubles.append(f"script: {error}"))
        page.on("console", self._said)
        page.on("request", self._asked)
        page.on("response", self._answered)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.troubles.append(f"console: {message.text}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.origin, f"blob:{self.origin}", "data:")):
            self.troubles.append(f"another origin: {request.url}")

    def _answered(self, response: Response) -> None:
        no_picture = "/thumbnail" in response.url and response.status in (404, 406)
        if response.status >= 400 and not no_picture:
            self.troubles.append(f"{response.status}: {response.request.method} {response.url}")

    def list_studies(self, patient: str) -> Locator:
        """The row of a patient in the study list."""
        self.page.goto(f"{self.origin}/")
        row = self.page.get_by_role("row").filter(has=self.page.get_by_text(patient, exact=True))
        expect(row).to_be_visible(timeout=PATIENCE_MS)
        return row

    def opened(self) -> None:
        """Wait until the study that was asked for is on the screen."""
        expect(self.page.locator("[data-cy=viewport-pane] canvas").first).to_be_visible(timeout=PATIENCE_MS)
        hide = self.page.get_by_role("button", name="Confirm and hide")
        if hide.is_visible():
            hide.click()

    def series(self) -> dict[str, str]:
        """Description and modality of the series in the study browser."""
        parts = self.page.locator("[data-cy^=study-browser-thumbnail]").all_inner_texts()
        words = [[line.strip() for line in part.splitlines() if line.strip()] for part in parts]
        return {line[1]: line[0] for line in words if len(line) > 1}

    def show(self, description: str) -> None:
        """Put a series into the viewport."""
        self.page.locator("[data-cy=studyBrowser-panel]").get_by_text(description).dblclick()

    def display_set(self, modality: str) -> dict[str, Any]:
        """What OHIF understood of the one series of a modality: `measurements`, `unsupported`, number of frames."""
        found = self.page.evaluate(
            """modality => window.services.displaySetService.getActiveDisplaySets()
               .filter(set => set.Modality === modality && !set.madeInClient)
               .map(set => ({frames: set.numImageFrames, unsupported: !!set.unsupported,
                             measurements: JSON.parse(JSON.stringify(set.measurements || []))}))""",
            modality,
        )
        (one,) = found
        return dict(one)

    def instance_number(self) -> int:
        """Instance Number of the image on the screen, from its corner."""
        text = self.page.locator("[data-cy=viewport-overlay-bottom-right]").first.inner_text()
        found = re.search(r"I:\s*(\d+)", text)
        return int(found[1]) if found else 0

    def picture(self) -> np.ndarray:
        """The viewport without the words and lines over it; uint8, (rows, columns, RGB)."""
        canvas = self.page.locator("[data-cy=viewport-pane] canvas").first
        url = str(canvas.evaluate("canvas => canvas.toDataURL('image/png')"))
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))

    def image(self, size: tuple[int, int]) -> np.ndarray:
        """The same, on the pixel grid of the image that fills it: (rows, columns) of square pixels, centred, as large as fits."""
        picture = self.picture()
        scale = min(picture.shape[0] / size[0], picture.shape[1] / size[1])
        height, width = scale * size[0], scale * size[1]
        left, top = (picture.shape[1] - width) / 2, (picture.shape[0] - height) / 2
        box = (left, top, left + width, top + height)
        drawn = Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.BILINEAR, box)
        return np.asarray(drawn)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """The first answer of a condition that is true."""
        end = time.monotonic() + PATIENCE_MS / 1000
        while not (found := condition()):
            assert time.monotonic() < end, (what, self.troubles[:5])
            self.page.wait_for_timeout(300)
        return found


@contextlib.contextmanager
def viewer(origin: str, chromium: str, token: str = "") -> Iterator[Viewer]:
    """A browser whose user gives the token when the page asks for it, and has seen the guided tour."""
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--disable-quic"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        context = browser.new_context(
            viewport=SIZE,
            http_credentials={"username": "reader", "password": token, "origin": origin} if token else None,
        )
        context.add_init_script("localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']))")
        yield Viewer(context.new_page(), origin)
        browser.close()
