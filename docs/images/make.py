"""`make pictures`: start the service, send a real photograph and a real chest CT, and draw their answers as one picture.

IDRiD (Porwal et al. 2018, CC BY 4.0) and Lung-Fused-CT-Pathology (TCIA, CC BY 3.0) allow the result to be shown.
"""

from __future__ import annotations

import io
import json
import sys
import time
import urllib.request
import uuid
import zipfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from benchmarks.server import server
from training.data import shared_data

WIDTH, GAP, HEAD = 620, 12, 64
PHOTOGRAPH = "test/IDRiD_007.jpg"
NODULE_MM = [-50.8, -148.3, 57.5]
"""The ground-glass adenocarcinoma in the right apex."""


def post(base: str, name: str, data: bytes, request: dict[str, Any]) -> dict[str, Any]:
    """Send one file; the Analysis body, once it is complete."""
    mark = uuid.uuid4().hex
    part = f'--{mark}\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n'
    body = (part % ("request", "")).encode() + json.dumps(request).encode() + b"\r\n"
    body += (part % ("files", f'; filename="{name}"')).encode() + data + f"\r\n--{mark}--\r\n".encode()
    head = {"Content-Type": f"multipart/form-data; boundary={mark}"}
    with urllib.request.urlopen(urllib.request.Request(f"{base}/api/v1/analyses", body, head), timeout=120) as answer:
        analysis = dict(json.load(answer))
    while analysis["status"] in ("queued", "running"):
        time.sleep(0.5)
        with urllib.request.urlopen(f"{base}/api/v1/analyses/{analysis['id']}", timeout=120) as answer:
            analysis = dict(json.load(answer))
    return analysis


def panel(base: str, analysis: dict[str, Any], title: str, query: str) -> Image.Image:
    """The CLEAR map of the first finding over its image, with legend, below what was sent and what was answered."""
    finding = analysis["findings"][0]
    point = finding["operating_point"]
    answer = (
        f"{finding['label']}; {point['name']} {point['decision']} "
        f"(sensitivity {point['sensitivity']:.2f}, specificity {point['specificity']:.2f}, n = {point['n']})"
    )
    with urllib.request.urlopen(f"{base}{finding['evidence']['maps']['clear']}?size={WIDTH}&legend=1&{query}") as png:
        picture = Image.open(io.BytesIO(png.read())).convert("RGB")
    sheet = Image.new("RGB", (WIDTH, picture.height + HEAD), (16, 18, 24))
    draw = ImageDraw.Draw(sheet)
    draw.text((10, 8), title, (150, 160, 175), ImageFont.load_default(17))
    draw.text((10, 33), answer, (255, 255, 255), ImageFont.load_default(17))
    sheet.paste(picture, (0, HEAD))
    return sheet


def main() -> int:
    """Write ``docs/images/result.png``."""
    data = shared_data()
    with server() as (base, _, _process):
        with zipfile.ZipFile(data / "idrid/grading.zip") as archive:
            eye = post(base, "eye.jpg", archive.read(PHOTOGRAPH), {})
        chest = post(
            base, "ct.zip", (data / "dicom/ct_lungfcp_0001.zip").read_bytes(), {"regions": [{"center_mm": NODULE_MM}]}
        )
        panels = [
            panel(base, eye, "IDRiD, test photograph 007 (reference: grade 3), to clear_dr", "overlay=0.9"),
            panel(base, chest, "Chest CT (pathology: adenocarcinoma), to sisc_lung", "overlay=0.9&slice=2"),
        ]
    sheet = Image.new("RGB", (len(panels) * (WIDTH + GAP) - GAP, max(p.height for p in panels)), (16, 18, 24))
    for number, drawn in enumerate(panels):
        sheet.paste(drawn, (number * (WIDTH + GAP), 0))
    sheet.save(Path(__file__).with_name("result.png"), optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
