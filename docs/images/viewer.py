"""`docs/images/viewer.py`: read a real chest CT and photographs in the viewer, and take the pictures of docs/viewer.md.

Sources and licences: as in make.py. Needs chromium.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pydicom
from PIL import Image, ImageFilter, ImageOps
from playwright.sync_api import Page, ViewportSize

from benchmarks.server import server
from docs.images.make import post
from tests.browser import tab, until
from tests.integration.test_pacs import photograph
from training.data import shared_data

FOLDER = Path(__file__).resolve().parent
CHEST = "dicom/ct_lungfcp_0001.zip"
EYES = {"R": "test/IDRiD_015.jpg", "L": "test/IDRiD_014.jpg"}
"""A right and a left eye of different people, shown as a pair to show how a pair is shown."""
BLURRED = "idrid/original/IDRiD_003.jpg"
FORM = (1072, 712)
"""Of what `photograph` makes, px."""
USUAL: ViewportSize = {"width": 1280, "height": 800}
ROOM: ViewportSize = {"width": 1280, "height": 1040}
"""The window, CSS px; and one that has room for what both eyes amount to."""
UNGRADABLE = 24
"""Radius, px, of the blur that makes a photograph ungradable."""
QUALITY = 90
"""Of the JPEG files, with full colour: the maps' colours count."""


def pair(data: Path) -> tuple[str, list[bytes]]:
    """One study with a photograph of each eye."""
    study, files = "", []
    archive = zipfile.ZipFile(data / "idrid/grading.zip")
    for side, name in EYES.items():
        eye, wide = ImageOps.pad(Image.open(io.BytesIO(archive.read(name))), FORM), io.BytesIO()
        eye.save(wide, "PNG")
        uid, raw = photograph(wide.getvalue(), f"IDRiD {side}")
        ds = pydicom.dcmread(io.BytesIO(raw))
        study = study or uid
        ds.StudyInstanceUID, ds.ImageLaterality = study, side
        ds.PatientID, ds.PatientName = "IDRiD", "Two^Photographs"
        stream = io.BytesIO()
        ds.save_as(stream)
        files.append(stream.getvalue())
    return study, files


def judge(base: str, analysis: dict[str, Any], finding: str, verdict: str, **more: str) -> None:
    """Give a verdict on a finding."""
    body = json.dumps({"finding": finding, "verdict": verdict, "reader": "Dr. Example", **more}).encode()
    head = {"Content-Type": "application/json"}
    address = f"{base}/api/v1/analyses/{analysis['id']}/assessment"
    urllib.request.urlopen(urllib.request.Request(address, body, head), timeout=60).close()


def shot(page: Page, name: str) -> None:
    """The window, as a file of the documents."""
    page.wait_for_timeout(1200)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.save(FOLDER / f"viewer-{name}.jpg", quality=QUALITY, subsampling=0, optimize=True)


def ready(page: Page, of: str, count: int = 1) -> None:
    """Wait until so many stages are drawn."""
    until(page, lambda: page.locator(f"[data-testid={of}][data-ready=true]").count() >= count, f"{of} is drawn")


def main() -> int:
    """Write ``docs/images/viewer-*.jpg``."""
    data = shared_data()
    os.environ["PELLUCID_DICOM_PORT"] = "0"
    with server() as (base, _, _process), tempfile.TemporaryDirectory() as folder:
        chest = post(base, "ct.zip", (data / CHEST).read_bytes(), {})
        study, files = pair(data)
        eyes = [post(base, "eye.dcm", one, {}) for one in files]
        blurred = Path(folder) / "blurred.jpg"
        Image.open(data / BLURRED).filter(ImageFilter.GaussianBlur(UNGRADABLE)).save(blurred)
        bad = post(base, blurred.name, blurred.read_bytes(), {"laterality": "L"})
        suspicious = max(chest["findings"], key=lambda one: one["operating_point"]["score"])
        with tab(base, **USUAL) as page:
            root = f"{base}/viewer/#"
            page.goto(f"{root}/study/{chest['input']['study']}/{chest['id']}/{suspicious['id']}")
            ready(page, "ct-stage")
            page.keyboard.press("g")
            shot(page, "ct")
            page.locator("[data-testid=similar]").scroll_into_view_if_needed()
            shot(page, "trust")
            page.keyboard.press("r")
            page.locator("[data-testid=answer]").scroll_into_view_if_needed()
            page.locator("[data-testid=assess-form]").get_by_role("group", name="Reason").get_by_role(
                "button"
            ).first.click()
            shot(page, "assess")
            page.keyboard.press("Escape")
            page.keyboard.press("?")
            shot(page, "keys")
            page.keyboard.press("Escape")
            page.set_viewport_size(ROOM)
            page.goto(f"{root}/study/{study}/{eyes[0]['id']}")
            ready(page, "eye", 2)
            shot(page, "eyes")
            page.set_viewport_size(USUAL)
            page.goto(f"{root}/analysis/{bad['id']}")
            ready(page, "eye")
            shot(page, "retake")
            for finding, verdict, more in (
                (suspicious["id"], "accepted", {}),
                *((one["id"], "rejected", {"reason": "vessel"}) for one in chest["findings"] if one != suspicious),
            ):
                judge(base, chest, finding, verdict, **more)
            judge(base, eyes[0], "eye", "modified", value="2", reason="haemorrhages in one quadrant only")
            judge(base, eyes[1], "eye", "accepted")
            page.goto(f"{root}/quality")
            page.locator("[data-testid=agreement]").first.wait_for()
            shot(page, "quality")
            page.goto(f"{root}/")
            page.locator("[data-testid=study]").first.wait_for()
            shot(page, "worklist")
    return 0


if __name__ == "__main__":
    sys.exit(main())
