"""`docs/images/ohif.py`: put OHIF beside the service, send a real chest CT and a photograph, and take pictures of what it shows.

Sources and licences: as in make.py. Needs nginx, chromium, and npm the first time.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import pydicom
from PIL import Image
from playwright.sync_api import expect

from benchmarks.server import server
from docs.images.make import NODULE_MM, post
from tests import ohif
from tests.integration.test_pacs import photograph, study
from tests.ohif import PATIENCE_MS, Viewer
from training.data import shared_data

WIDTH, GAP = 800, 12
PHOTOGRAPH = "IDRiD_003.jpg"
LUNG_WINDOW_KEY = "2"


def main() -> int:
    """Write ``docs/images/ohif.png``: the report on the CT, and the overlay of the photograph."""
    data = shared_data()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("no chromium on the PATH; on Debian: apt-get install chromium", file=sys.stderr)
        return 1
    os.environ["PELLUCID_DICOM_PORT"] = "0"
    with server() as (base, _, _process), tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(data / "dicom/ct_lungfcp_0001.zip") as archive:
            slices = [pydicom.dcmread(io.BytesIO(archive.read(name))) for name in sorted(archive.namelist())]
        eye, picture = left(*photograph((data / "idrid/original" / PHOTOGRAPH).read_bytes(), "IDRiD"))
        chest, files = study(slices, "LungFCP", len(slices))
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for number, one in enumerate(files):
                archive.writestr(f"{number}.dcm", one)
        post(base, "ct.zip", packed.getvalue(), {"regions": [{"center_mm": NODULE_MM}]})
        post(base, "eye.dcm", picture, {})
        with ohif.running(Path(folder), ohif.package(), base) as origin, ohif.viewer(origin, chromium) as reader:
            shots = [shot(reader, chest, "Pellucid report"), shot(reader, eye, "Pellucid overlay")]
    height = max(one.height for one in shots)
    sheet = Image.new("RGB", (len(shots) * (WIDTH + GAP) - GAP, height), (255, 255, 255))
    for number, one in enumerate(shots):
        sheet.paste(one, (number * (WIDTH + GAP), 0))
    sheet.save(Path(__file__).with_name("ohif.png"), optimize=True)
    return 0


def left(study_uid: str, photographed: bytes) -> tuple[str, bytes]:
    """The photograph with the side that it shows: its disc lies left of the macula."""
    ds = pydicom.dcmread(io.BytesIO(photographed))
    ds.ImageLaterality = "L"
    stream = io.BytesIO()
    ds.save_as(stream)
    return study_uid, stream.getvalue()


def shot(reader: Viewer, study_uid: str, description: str) -> Image.Image:
    """The window with one series of a study in it."""
    reader.page.goto(f"{reader.origin}/viewer?StudyInstanceUIDs={study_uid}")
    reader.opened()
    expect(reader.page.get_by_text(description)).to_be_visible(timeout=PATIENCE_MS)
    reader.page.wait_for_timeout(5000)
    reader.show(description)
    reader.page.wait_for_timeout(5000)
    if "report" in description:
        reader.page.locator("[data-cy=viewport-pane]").first.hover()
        reader.page.keyboard.press(LUNG_WINDOW_KEY)
        reader.page.wait_for_timeout(2000)
    png = Image.open(io.BytesIO(reader.page.screenshot())).convert("RGB")
    return png.resize((WIDTH, round(png.height * WIDTH / png.width)), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    sys.exit(main())
