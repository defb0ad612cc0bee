"""OHIF reads Pellucid itself over DICOMweb: a reader lists, opens and looks, in a real browser.

Pictures are kept in artefacts/.
"""

from __future__ import annotations

import base64
import io
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from playwright.sync_api import expect

from tests import ohif
from tests.integration.conftest import Server
from tests.integration.test_pacs import LESION_MM, photograph, slices, stow, study
from tests.ohif import PATIENCE_MS, Viewer

__all__ = ["slices"]

CHROMIUM = shutil.which("chromium")
ARTEFACTS = Path(__file__).resolve().parents[2] / "artefacts"
TOKEN = "the-token-of-a-reader-0123456789"
WINDOW = (40, 400)
"""OHIF's window for a CT without one of its own, and that of this series: centre and width, HU."""


class Guarded(Server):
    """A server that asks for a token."""

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        return super().call(method, path, body, {"Authorization": f"Bearer {TOKEN}", **(headers or {})})

    def object(self, analysis: dict[str, Any], kind: str) -> pydicom.Dataset:
        """A result as it is stored."""
        (href,) = [one["href"] for one in analysis["objects"] if one["kind"] == kind]
        return pydicom.dcmread(io.BytesIO(self.call("GET", href)[1]))


@dataclass(frozen=True)
class Site:
    """OHIF's origin, the service behind it, and what lies there."""

    origin: str
    server: Guarded
    chest: dict[str, Any]
    eye: dict[str, Any]
    sources: dict[str, pydicom.Dataset]
    """By SOP Instance UID."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, slices: list[pydicom.Dataset], eye: bytes) -> Iterator[Site]:
    dist, folder = ohif.package(), tmp_path_factory.mktemp("ohif")
    server = Guarded(folder)
    server.start(tokens=TOKEN, sync_wait_s="120")
    try:
        _, files = study(slices, "OHIF-CT")
        wanted = {"regions": [{"center_mm": LESION_MM}], "objects": ["SR", "SEG", "PM", "SC", "KOS"]}
        status, chest = server.post([(f"{n}.dcm", data) for n, data in enumerate(files)], wanted)
        assert (status, chest["outcome"]) == (200, "positive")
        eye_uid, data = photograph(eye, "OHIF-OP")
        assert stow(server, [data]) == 200
        (graded,) = server.of_study(eye_uid)
        assert graded["outcome"] == "graded"
        read = [pydicom.dcmread(io.BytesIO(one)) for one in (*files, data)]
        with ohif.running(folder / "nginx", dist, server.base) as origin:
            yield Site(origin, server, chest, graded, {str(one.SOPInstanceUID): one for one in read})
    finally:
        server.stop()


@pytest.fixture
def reader(site: Site) -> Iterator[Viewer]:
    if CHROMIUM is None:
        pytest.fail("no chromium on the PATH; on Debian: apt-get install chromium (.ci/run does)")
    ARTEFACTS.mkdir(exist_ok=True)
    with ohif.viewer(site.origin, CHROMIUM, TOKEN) as tab:
        yield tab
        assert not tab.troubles


def keep(reader: Viewer, name: str) -> None:
    reader.page.screenshot(path=str(ARTEFACTS / f"ohif-{name}.png"))


def alike(seen: np.ndarray, expected: np.ndarray) -> float:
    """Pearson correlation of two pictures; 0 while nothing is drawn."""
    if np.ptp(seen) == 0:
        return 0.0
    return float(np.corrcoef(seen.ravel().astype(float), expected.ravel().astype(float))[0, 1])


def colour(picture: np.ndarray) -> np.ndarray:
    """How far each pixel is from grey."""
    return np.asarray(picture.max(2).astype(int) - picture.min(2))


def windowed(ds: pydicom.Dataset) -> np.ndarray:
    hu = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    return np.asarray(np.clip((hu - WINDOW[0]) / WINDOW[1] + 0.5, 0, 1))


def on_screen(reader: Viewer, site: Site) -> pydicom.Dataset:
    """The slice whose number stands in the corner."""
    number = reader.instance_number()
    (found,) = [ds for ds in site.sources.values() if ds.Modality == "CT" and ds.InstanceNumber == number]
    return found


def shows(reader: Viewer, site: Site) -> bool:
    """Whether the slice that the corner names is drawn."""
    if not reader.instance_number():
        return False
    ds = on_screen(reader, site)
    return alike(reader.image((ds.Rows, ds.Columns)).mean(2), windowed(ds)) > 0.97


def ask(origin: str, path: str, token: str = "") -> tuple[int, Any, bytes]:
    request = urllib.request.Request(origin + path)
    if token:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"reader:{token}".encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def test_the_page_asks_for_the_token_and_nothing_is_given_without(site: Site) -> None:
    deep = f"/viewer?StudyInstanceUIDs={site.chest['input']['study']}"
    for path in ("/", deep, "/index.html"):
        status, headers, body = ask(site.origin, path)
        assert status == 401 and b"<script" not in body
        assert any(one.startswith("Basic ") for one in headers.get_all("WWW-Authenticate")), "browsers ask for it"
        assert ask(site.origin, path, "x" * len(TOKEN))[0] == 401
        status, headers, body = ask(site.origin, path, TOKEN)
        assert status == 200 and b"OHIF Viewer" in body
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-cache"
    assert ask(site.origin, "/app-config.js")[2] == (ohif.DEPLOY / "ohif" / "app-config.js").read_bytes()
    assert ask(site.origin, "/dicomweb/studies")[0] == 401
    status, headers, _ = ask(site.origin, "/dicomweb/studies", TOKEN)
    assert (status, headers["Content-Type"]) == (200, "application/dicom+json")


def test_a_ct_and_its_results(site: Site, reader: Viewer) -> None:
    reader.list_studies("OHIF-CT").dblclick()
    reader.opened()
    assert site.chest["input"]["study"] in reader.page.url
    reader.until(lambda: shows(reader, site), "the CT is drawn")
    keep(reader, "ct")
    reader.until(lambda: len(reader.series()) == 6, "all series are listed")
    modalities = reader.series()
    assert [modalities.pop(name) for name in list(modalities) if name.startswith("Thorax")] == ["CT"]
    assert modalities == {
        "Pellucid report": "SR",
        "Pellucid critical regions": "SEG",
        "Pellucid response maps": "PMAP",
        "Pellucid overlay": "OT",
        "Pellucid key images": "KO",
    }
    segmentation(site, reader)
    report(site, reader)
    secondary_capture(reader, site.server.object(site.chest, "SC"), "ct-overlay")
    parametric_map(site, reader)  # last: OHIF keeps its window for the next picture


def segmentation(site: Site, reader: Viewer) -> None:
    """The region lies where the object says, on the slice that comes up, and nowhere else."""
    stored = site.server.object(site.chest, "SEG")
    masks: dict[str, np.ndarray] = {}
    for frame, mask in zip(
        stored.PerFrameFunctionalGroupsSequence, np.atleast_3d(stored.pixel_array).reshape(-1, 512, 512), strict=True
    ):
        masks[frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID] = mask.astype(bool)
    assert colour(reader.image((512, 512))).max() < 40, "a CT is grey"
    reader.show("Pellucid critical regions")
    reader.page.get_by_role("button", name="Yes").click()
    reader.page.locator("[data-cy=panelSegmentation-btn]").click()
    expect(reader.page.locator("[data-cy=data-row-title]").first).to_contain_text("Malignant", timeout=PATIENCE_MS)

    def drawn() -> bool:
        mask = masks.get(str(on_screen(reader, site).SOPInstanceUID))
        return mask is not None and bool((colour(reader.image((512, 512)))[mask] > 80).any())

    reader.until(drawn, "the region is drawn on a slice that has one")
    mask = masks[str(on_screen(reader, site).SOPInstanceUID)]
    rows, columns = np.nonzero(colour(reader.image((512, 512))) > 80)
    marked_rows, marked_columns = np.nonzero(mask)
    away = np.hypot(rows[:, None] - marked_rows, columns[:, None] - marked_columns).min(1)
    assert away.max() <= 2, "px from the region"
    keep(reader, "ct-region")


def report(site: Site, reader: Viewer) -> None:
    """The finding has its place, its tracking UID and its probability."""
    (finding,) = site.chest["findings"]
    reader.show("Pellucid report")
    probability = f"Probability of cancer: {finding['probabilities']['malignant']:.2f}"
    expect(reader.page.locator("[data-cy=viewport-pane] svg").get_by_text(probability).first).to_be_attached(
        timeout=PATIENCE_MS
    )
    (measured,) = reader.display_set("SR")["measurements"]
    assert measured["TrackingUniqueIdentifier"] == finding["tracking_uid"]
    assert measured["TrackingIdentifier"].startswith("Nodule")
    assert measured["ReferencedSOPInstanceUID"] == finding["location"]["sop_instance_uid"]
    x0, y0, x1, y1 = finding["location"]["box_px"]
    assert np.allclose(measured["coords"][0]["GraphicData"], [(x0 + x1) / 2, (y0 + y1) / 2], atol=0.01)
    reader.until(
        lambda: on_screen(reader, site).SOPInstanceUID == finding["location"]["sop_instance_uid"],
        "the slice of the finding comes up",
    )
    keep(reader, "ct-report")


def parametric_map(site: Site, reader: Viewer) -> None:
    """The map covers the window that the model looked at, and nothing outside it."""
    x0, y0, x1, y1 = site.chest["findings"][0]["location"]["box_px"]
    reader.show("Pellucid response maps")

    def coloured() -> np.ndarray:
        return colour(reader.image((512, 512))) > 60

    reader.until(lambda: coloured()[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1].mean() > 0.1, "the map is drawn")
    seen = coloured()
    seen[int(y0) - 2 : int(y1) + 3, int(x0) - 2 : int(x1) + 3] = False
    assert not seen.any()
    keep(reader, "ct-map")


def secondary_capture(reader: Viewer, stored: pydicom.Dataset, name: str) -> None:
    """The first picture, in its colours."""
    pixels = stored.pixel_array
    first = pixels[0] if pixels.ndim == 4 else pixels
    reader.show("Pellucid overlay")
    reader.until(lambda: alike(reader.image(first.shape[:2]), first) > 0.95, "the picture is drawn")
    assert reader.display_set("OT")["frames"] == int(stored.get("NumberOfFrames", 1))
    keep(reader, name)


def test_a_photograph_and_its_results(site: Site, reader: Viewer) -> None:
    """Not its segmentation: OHIF 3.13.2 stops at one without a frame of reference (docs/pacs.md)."""
    (finding,) = site.eye["findings"]
    (source,) = [ds for ds in site.sources.values() if ds.Modality == "OP"]
    reader.page.goto(f"{site.origin}/viewer?StudyInstanceUIDs={site.eye['input']['study']}")
    reader.opened()
    reader.until(lambda: alike(reader.image((712, 1072)), source.pixel_array) > 0.97, "the photograph is drawn")
    kinds = {"OP", "SR", "SEG", "OT", "KO"}
    reader.until(lambda: set(reader.series().values()) == kinds, "all series are listed, and no others")
    reader.show("Pellucid report")
    labels = reader.page.locator("[data-cy=viewport-pane] svg").get_by_text("Probability: ")
    expect(labels).to_have_count(len(finding["probabilities"]), timeout=PATIENCE_MS)
    (measured,) = reader.display_set("SR")["measurements"]
    assert measured["TrackingUniqueIdentifier"] == finding["tracking_uid"]
    assert (measured["TrackingIdentifier"], measured["graphicType"]) == ("Left eye", "POLYLINE")
    keep(reader, "eye-report")
    secondary_capture(reader, site.server.object(site.eye, "SC"), "eye-overlay")
