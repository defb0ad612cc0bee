"""How soon a reader sees something: the viewer against OHIF, on the same service, the same real CT and the same browser."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, ViewportSize, sync_playwright

from benchmarks.server import server
from docs.images.make import NODULE_MM, post
from tests import ohif
from training.data import shared_data

WATCH = """
(() => {
  // The moment when the first large canvas or photograph of the page is no longer of one colour, in ms since navigation.
  const small = new OffscreenCanvas(16, 16).getContext("2d", { willReadFrequently: true });
  const look = () => {
    for (const one of document.querySelectorAll("canvas")) {
      if (one.clientWidth < 250 || !one.width) continue;
      small.clearRect(0, 0, 16, 16);
      small.drawImage(one, 0, 0, 16, 16);
      const seen = small.getImageData(0, 0, 16, 16).data.filter((_, k) => k % 4 === 1);
      if (Math.max(...seen) - Math.min(...seen) > 40) { window.firstPicture = performance.now(); return; }
    }
    requestAnimationFrame(look);
  };
  addEventListener("DOMContentLoaded", look);
})();
"""
SIZE: ViewportSize = {"width": 1280, "height": 800}
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--disable-quic"]
LONGEST_MS = 60_000


def first_picture(browser: Browser, address: str) -> float:
    """Milliseconds from navigation to the first picture, with empty caches."""
    context = browser.new_context(viewport=SIZE)
    try:
        context.add_init_script(WATCH)
        page = context.new_page()
        page.goto(address)
        for _ in range(LONGEST_MS // 20):
            seen = page.evaluate("window.firstPicture ?? null")
            if seen is not None:
                return float(seen)
            page.wait_for_timeout(20)
        raise TimeoutError(f"no picture at {address}")
    finally:
        context.close()


def measure(rounds: int) -> dict[str, Any]:
    """Times to the first picture, in turn."""
    data = Path(shared_data())
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no chromium on the PATH; on Debian: apt-get install chromium")
    found: dict[str, Any] = {}
    with server() as (base, _, _process), tempfile.TemporaryDirectory() as folder:
        chest = post(
            base, "ct.zip", (data / "dicom/ct_lungfcp_0001.zip").read_bytes(), {"regions": [{"center_mm": NODULE_MM}]}
        )
        eye = post(base, "eye.jpg", (data / "idrid/original/IDRiD_011.jpg").read_bytes(), {})
        study, slices = chest["input"]["study"], len(chest["input"]["instances"])
        with (
            ohif.running(Path(folder), ohif.package(), base) as origin,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
            ours = f"{base}/viewer/#/study/{study}/{chest['id']}"
            theirs = f"{origin}/viewer?StudyInstanceUIDs={study}"
            photograph = f"{base}/viewer/#/analysis/{eye['id']}"
            times: dict[str, list[float]] = {ours: [], theirs: [], photograph: []}
            for number in range(rounds + 1):
                for address, taken in times.items():
                    took = first_picture(browser, address)
                    if number:  # the first warms the service up
                        taken.append(took)
            browser.close()
        ratios = [b / a for a, b in zip(times[ours], times[theirs], strict=True)]
        median = {address: round(statistics.median(taken)) for address, taken in times.items()}
        found[f"first picture of a CT of {slices} slices: OHIF against the viewer"] = {
            "ratio": round(statistics.median(ratios), 2),
            "range": [round(min(ratios), 2), round(max(ratios), 2)],
            "ms": [median[theirs], median[ours]],
            "rounds": rounds,
        }
        for name, address in ((f"CT of {slices} slices", ours), ("photograph of 4288 x 2848 px", photograph)):
            found[f"first picture in the viewer, {name}, ms"] = {
                "p50": median[address],
                "p95": round(float(np.percentile(times[address], 95))),
                "rounds": rounds,
            }
    return found
