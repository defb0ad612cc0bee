"""A person's way through the page, in a real browser against the real server. Pictures are kept in artefacts/."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
ARTEFACTS = Path(__file__).resolve().parents[2] / "artefacts"
NODULE_SLICE = 64
"""Of the stack in the order of its positions, from the feet up (1-based): an adenocarcinoma in the right apex."""


def complain(message: ConsoleMessage, troubles: list[str]) -> None:
    """Note an error of the page; a refused upload (4xx) is an answer, not one."""
    if (
        message.type == "error"
        and "Failed to load resource: the server responded with a status of 4" not in message.text
    ):
        troubles.append(message.text)


@pytest.fixture
def page(server: Any) -> Iterator[Page]:
    """A tab that fails the test on any script error and any request to another origin."""
    if CHROMIUM is None:
        pytest.fail("no chromium on the PATH; on Debian: apt-get install chromium (.ci/run does)")
    ARTEFACTS.mkdir(exist_ok=True)
    troubles: list[str] = []
    with sync_playwright() as playwright:
        options = [
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-sync",
            "--disable-quic",
        ]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        tab = browser.new_page(viewport={"width": 1280, "height": 800})
        tab.on("pageerror", lambda error: troubles.append(str(error)))
        tab.on("console", lambda message: complain(message, troubles))
        tab.on(
            "request", lambda r: None if r.url.startswith((server.base, "blob:", "data:")) else troubles.append(r.url)
        )
        tab.goto(f"{server.base}/viewer/")
        yield tab
        browser.close()
    assert not troubles


def shown(page: Page, name: str) -> np.ndarray:
    """The picture with its overlay as the reader sees it, uint8 RGB; also kept in artefacts/."""
    png = page.locator(".stack").first.screenshot()
    (ARTEFACTS / f"{name}-picture.png").write_bytes(png)
    page.screenshot(path=str(ARTEFACTS / f"{name}.png"), full_page=True)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def colourful(picture: np.ndarray) -> np.ndarray:
    """How far each pixel is from grey."""
    return picture.max(2) - picture.min(2)


def test_a_ct_without_a_place_is_searched_and_another_nodule_is_marked_by_a_click(page: Page, data: Path) -> None:
    page.set_input_files("#choose-files", str(data / "dicom/ct_lungfcp_0001.zip"))
    expect(page.locator("h1.positive")).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Mark another nodule").click()
    marking = page.locator(".marking")
    frame = marking.locator(".frame img").first
    expect(frame).to_be_visible(timeout=60_000)
    page.screenshot(path=str(ARTEFACTS / "ct-series.png"))
    slide = marking.get_by_label("Slice", exact=True)
    marking.locator(".stage").focus()
    for _ in range(98):
        if slide.input_value() == str(NODULE_SLICE):
            break
        page.keyboard.press("ArrowUp" if int(slide.input_value()) > NODULE_SLICE else "ArrowDown")
    assert slide.input_value() == str(NODULE_SLICE)
    page.wait_for_timeout(500)
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + (182.5 / 512) * box["width"], box["y"] + (284.5 / 512) * box["height"])
    expect(page.locator(".stack")).to_have_count(1, timeout=60_000)
    expect(page.locator(".stack img.over")).to_be_visible(timeout=60_000)
    expect(page.locator("h1.positive, h1.negative")).to_be_visible()
    page.get_by_label("Legend").uncheck()
    page.get_by_label("Map opacity").fill("100")
    page.wait_for_timeout(700)
    picture = shown(page, "ct-result")
    colour = colourful(picture)
    middle = np.s_[picture.shape[0] // 4 : -picture.shape[0] // 4, picture.shape[1] // 4 : -picture.shape[1] // 4]
    assert colour[middle].mean() > 1.5 * colour.mean(), "the response lies on the nodule, in the middle of the window"
    page.get_by_label("Map opacity").fill("0")
    page.wait_for_timeout(300)
    assert colourful(shown(page, "ct-plain")).max() < 40, "without overlay a CT is grey"


def test_a_photograph_is_graded_and_its_map_drawn(page: Page, data: Path) -> None:
    page.set_input_files("#choose-files", str(data / "idrid/original/IDRiD_011.jpg"))
    expect(page.locator("h1.graded")).to_be_visible(timeout=60_000)
    expect(page.locator(".stack img.over")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("Research use. Not for primary diagnosis.").first).to_be_visible()
    expect(page.get_by_role("heading", name="Referral")).to_be_visible()
    page.wait_for_timeout(700)
    shown(page, "fundus-result")
    page.get_by_label("Comparable").check(force=True)
    page.locator('input[value="class-3"]').check(force=True)
    page.wait_for_timeout(700)
    shown(page, "fundus-class-3")
    page.reload()
    expect(page.locator("h1.graded")).to_be_visible(timeout=30_000)
    assert page.locator(".earlier a").count() >= 1


def test_a_file_that_is_no_image_is_explained(page: Page, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear colleague")
    page.set_input_files("#choose-files", str(tmp_path / "letter.txt"))
    expect(page.get_by_role("alert").first).to_contain_text("image", timeout=30_000)
    page.screenshot(path=str(ARTEFACTS / "refused.png"))
