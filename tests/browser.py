"""A tab of a real browser on the viewer, and what a test asks of it."""

from __future__ import annotations

import contextlib
import io
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import ConsoleMessage, Locator, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
ARTEFACTS = Path(__file__).resolve().parents[1] / "artefacts"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--disable-quic"]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
"""Success criteria of WCAG 2.1, levels A and AA, as far as axe-core can tell."""
PATIENCE_MS = 90_000
"""So long what is expected of a page, and what a test does on it, is waited for."""
expect.set_options(timeout=PATIENCE_MS)


@contextlib.contextmanager
def tab(base: str, width: int = 1280, height: int = 800) -> Iterator[Page]:
    """A tab that fails the test on any script error, any complaint in the console, and any request to another origin.

    What the service answers with 4xx is an answer, not an error: the browser notes it in the console all the same.
    """
    if CHROMIUM is None:
        pytest.fail("no chromium on the PATH; on Debian: apt-get install chromium (.ci/run does)")
    ARTEFACTS.mkdir(exist_ok=True)
    troubles: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "the server responded with a status of 4" not in message.text:
            troubles.append(f"{message.type}: {message.text}")

    def asked(url: str) -> None:
        if not url.startswith((base, f"blob:{base}", "data:")):
            troubles.append(f"another origin: {url}")

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: troubles.append(f"script: {error}"))
        page.on("console", heard)
        page.on("request", lambda request: asked(request.url))
        yield page
        browser.close()
    assert not troubles


def until(page: Page, condition: Callable[[], Any], what: str, seconds: float = 90) -> Any:
    """The first answer of a condition that is true. (The page's policy forbids what Playwright would poll with.)"""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            page.screenshot(path=str(ARTEFACTS / "timeout.png"))
            pytest.fail(f"not in {seconds:g} s: {what}; artefacts/timeout.png shows the page")
        page.wait_for_timeout(60)
    return found


def keep(page: Page, name: str) -> None:
    """A picture of the page for people, in artefacts/."""
    page.screenshot(path=str(ARTEFACTS / f"{name}.png"))


def picture(of: Locator) -> np.ndarray:
    """What a reader sees there, int (h, w, 3), one CSS pixel a pixel."""
    return np.asarray(Image.open(io.BytesIO(of.screenshot())).convert("RGB")).astype(int)


def barriers(page: Page) -> list[str]:
    """What axe-core holds against the page."""
    found = Axe().run(page, options={"runOnly": RULES}).response["violations"]
    return [f"{one['id']}: {one['help']}: {[node['target'] for node in one['nodes'][:5]]}" for one in found]


def too_wide(page: Page) -> list[str]:
    """Parts of the page that stick out of the window to the right."""
    return list(
        page.evaluate(
            """[...document.querySelectorAll("body *")]
               .filter(one => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1
                       && !one.closest("svg, dialog") && getComputedStyle(one).position !== "absolute")
               .map(one => `${one.tagName}.${one.className}`)"""
        )
    )
