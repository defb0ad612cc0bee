"""Photographs and their maps on the viewer's page: does the overlay lie where the numbers say, in the service's own colours?

Real photographs, the real service, headless Chromium; screenshots are kept in artefacts/.
"""

from __future__ import annotations

import base64
import io
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageFilter, ImageOps
from playwright.sync_api import Page, expect
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tests import browser
from tests.browser import ARTEFACTS

OPHTHALMIC = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
PICTURE_PX = 768
"""Side of the service's picture of a map."""


@pytest.fixture
def tab(server: Any) -> Iterator[Page]:
    """A large tab that fails the test on any trouble."""
    with browser.tab(server.base, 1600, 1200) as page:
        yield page


@pytest.fixture(scope="session")
def graded(server: Any, data: Path) -> Any:
    """Analysis of a photograph with retinopathy."""
    photograph = (data / "idrid/original/IDRiD_011.jpg").read_bytes()
    status, body = server.post([("eye.jpg", photograph)])
    assert status == 200 and body["outcome"] == "graded", body
    return body


@pytest.fixture(scope="session")
def response(server: Any, graded: Any) -> tuple[np.ndarray, Any]:
    """Its class maps, float32 (N, H, W), and their description."""
    _, raw, headers = server.call("GET", f"/api/v1/analyses/{graded['id']}/findings/eye/response.bin")
    described = json.loads(headers["X-Pellucid-Map"])
    return np.frombuffer(raw, "<f4").reshape(described["shape"])[0], described


def eyes(
    page: Page, count: int = 1, seconds: float = 90, when: Callable[[list[dict[str, str]]], bool] = bool
) -> list[dict[str, str]]:
    """What the panes say of themselves, once all are drawn, and drawn as wanted."""
    end = time.monotonic() + seconds
    while True:
        page.wait_for_timeout(40)
        found: list[dict[str, str]] = page.evaluate(
            "[...document.querySelectorAll('[data-testid=eye]')].map(eye => ({...eye.dataset}))"
        )
        if len(found) == count and all(eye["ready"] == "true" for eye in found) and when(found):
            return found
        assert time.monotonic() < end, found


def opened(page: Page, server: Any, place: str, count: int = 1) -> list[dict[str, str]]:
    page.goto(f"{server.base}/viewer/#/{place}")
    return eyes(page, count)


def canvas(page: Page, name: str, index: int = 0) -> np.ndarray:
    """Pixels of a pane's canvas, uint8 (h, w, 4)."""
    url: str = page.evaluate(
        "([name, k]) => document.querySelectorAll(`[data-testid=${name}]`)[k].toDataURL()", [name, index]
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGBA"))


def bare(page: Page, kind: str, scale: str, threshold: int = 0) -> None:
    """Only the map on its canvas, on nothing."""
    page.locator(f'[data-testid=overlay-controls] input[value="{kind}"]').check(force=True)
    page.locator(f'[data-testid=overlay-controls] input[value="{scale}"]').check(force=True)
    page.get_by_label("Threshold").fill(str(threshold))
    page.get_by_label("Grey under map").uncheck()


def zoomed(page: Page, factor: float) -> dict[str, str]:
    """Turn the wheel over the middle of the first pane."""
    box = page.locator("[data-testid=ground]").first.bounding_box()
    assert box is not None
    wanted = factor * float(eyes(page)[0]["scale"])
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -math.log(factor) / 0.0018)
    return eyes(page, when=lambda found: float(found[0]["scale"]) == pytest.approx(wanted, rel=0.01))[0]


def sampled(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear samples of a picture (h, w, 3) at pixel-centre coordinates; beyond the border is 0."""
    padded = np.pad(picture.astype(float), ((1, 1), (1, 1), (0, 0)))
    x, y = np.clip(x + 1, 0, padded.shape[1] - 1.001), np.clip(y + 1, 0, padded.shape[0] - 1.001)
    i, j = np.floor(y).astype(int), np.floor(x).astype(int)
    v, u = (y - i)[:, None, None], (x - j)[None, :, None]
    rows, below = padded[i], padded[i + 1]
    above = (1 - u) * rows[:, j] + u * rows[:, j + 1]
    return np.asarray((1 - v) * above + v * ((1 - u) * below[:, j] + u * below[:, j + 1]))


@pytest.mark.parametrize(
    ("kind", "scale"),
    [("clear", "per_image"), ("clear", "per_model"), ("class-3", "per_image"), ("two-sided", "per_image")],
)
def test_the_page_paints_maps_as_the_service_does(tab: Page, server: Any, graded: Any, kind: str, scale: str) -> None:
    _, png, _ = server.call("GET", f"/api/v1/analyses/{graded['id']}/maps/eye/{kind}.png?scale={scale}")
    theirs = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert theirs.shape == (PICTURE_PX, PICTURE_PX, 3)
    (eye,) = opened(tab, server, f"analysis/{graded['id']}")
    bare(tab, kind, scale)
    x0, y0, x1, _ = graded["findings"][0]["location"]["box_px"]
    eye = zoomed(tab, PICTURE_PX / (x1 - x0) / float(eye["scale"]))
    assert eye["kind"] == kind
    pixels = canvas(tab, "overlay").astype(float)
    ours = pixels[..., :3] * pixels[..., 3:] / 255  # on black
    at, left, top = (
        float(eye["scale"]),
        float(eye["x"]) + float(eye["scale"]) * x0,
        float(eye["y"]) + float(eye["scale"]) * y0,
    )
    side = at * (x1 - x0)
    assert abs(side - PICTURE_PX) < 1
    expected = sampled(
        theirs,
        (np.arange(ours.shape[1]) + 0.5 - left) * PICTURE_PX / side - 0.5,
        (np.arange(ours.shape[0]) + 0.5 - top) * PICTURE_PX / side - 0.5,
    )
    drawn = expected.max(2) > 24
    assert drawn.mean() > 0.005, "there is something to compare"
    alike = np.corrcoef(ours[drawn].ravel(), expected[drawn].ravel())[0, 1]
    apart = np.abs(ours - expected)[drawn].mean()
    Image.fromarray(np.concatenate([ours, expected], 1).astype(np.uint8)).save(ARTEFACTS / f"map-{kind}-{scale}.png")
    print(kind, scale, "correlation", alike, "mean difference", apart)
    assert alike > 0.9 and apart < 16, (alike, apart)
    assert np.abs(ours - expected)[~drawn].mean() < 1.5
    moved = np.corrcoef(np.roll(ours, 6, 1)[drawn].ravel(), expected[drawn].ravel())[0, 1]
    assert moved < alike - 0.1, "the comparison would notice a shift of 6 pixels"


def test_the_overlay_lies_where_the_peak_is_after_zoom_and_pan(
    tab: Page, server: Any, graded: Any, response: tuple[np.ndarray, Any]
) -> None:
    values, described = response
    strength = np.maximum(values.max(0), 0)
    row, column = (int(v) for v in np.unravel_index(int(strength.argmax()), strength.shape))
    x0, y0, x1, _ = described["box_px"][0]
    cell = (x1 - x0) / strength.shape[1]
    # peak_px counts from the middle of the first pixel, box_px from its border.
    peak = np.array(graded["findings"][0]["evidence"]["peak_px"]) + 0.5
    assert peak == pytest.approx([x0 + (column + 0.5) * cell, y0 + (row + 0.5) * cell], abs=0.01)

    opened(tab, server, f"analysis/{graded['id']}")
    bare(tab, "clear", "per_image", threshold=14)  # about half of full strength
    near = np.s_[row - 10 : row + 11, column - 10 : column + 11]
    strong = strength[near] > (14 / 20) ** 2 * described["scale"]["per_image"]
    rows, columns = np.nonzero(strong)
    middle = (columns.mean() - 10, rows.mean() - 10)

    def check(**wanted: float) -> dict[str, str]:
        """Once the pane is there: what it says of its place."""
        (eye,) = eyes(tab, when=lambda found: all(abs(float(found[0][k]) - v) < 0.5 for k, v in wanted.items()))
        scale, x, y = (float(eye[name]) for name in ("scale", "x", "y"))
        alpha = canvas(tab, "overlay")[..., 3]
        at = (scale * peak[0] + x, scale * peak[1] + y)
        assert alpha[int(at[1]), int(at[0])] > 180
        half = 10.5 * cell * scale
        window = alpha[round(at[1] - half) : round(at[1] + half), round(at[0] - half) : round(at[0] + half)] > 90
        j, i = np.nonzero(window)
        found = np.array([i.mean() + 0.5 + round(at[0] - half) - at[0], j.mean() + 0.5 + round(at[1] - half) - at[1]])
        assert found == pytest.approx(np.array(middle) * cell * scale, abs=max(1.0, 0.35 * cell * scale))
        return eye

    before = check()
    middle_of_pane = tab.locator("[data-testid=ground]").bounding_box()
    assert middle_of_pane is not None
    start = (float(before["scale"]) * peak + np.array([float(before["x"]), float(before["y"])])) + np.array(
        [middle_of_pane["x"], middle_of_pane["y"]]
    )
    tab.mouse.move(*start)
    tab.mouse.wheel(0, -math.log(6) / 0.0018)
    eyes(tab, when=lambda found: float(found[0]["scale"]) == pytest.approx(6 * float(before["scale"]), rel=0.01))
    after = check()
    assert float(after["scale"]) == pytest.approx(6 * float(before["scale"]), rel=0.01)
    tab.mouse.move(*start)
    tab.mouse.down()
    tab.mouse.move(start[0] - 70, start[1] + 40, steps=4)
    tab.mouse.up()
    moved = check(x=float(after["x"]) - 70, y=float(after["y"]) + 40)
    assert float(moved["x"]) - float(after["x"]) == pytest.approx(-70, abs=0.5)
    assert float(moved["y"]) - float(after["y"]) == pytest.approx(40, abs=0.5)

    # As the reader sees it: the palette's colour, there and not beside.
    tab.get_by_label("Opacity").fill("100")
    eyes(tab)
    colors = {
        one["name"]: one["color"] for one in server.call("GET", "/v2/models/clear_dr")[1]["parameters"]["classes"]
    }
    own = colors[described["classes"][int(values[:, row, column].argmax())]]
    seen = np.asarray(Image.open(io.BytesIO(tab.screenshot(path=str(ARTEFACTS / "fundus-peak.png")))).convert("RGB"))
    place = start + np.array([-70, 40])
    half = math.ceil(cell * float(moved["scale"]) / 2)  # of one cell of the map: a sharp peak fades towards its border
    around = seen[int(place[1]) - half : int(place[1]) + half + 1, int(place[0]) - half : int(place[0]) + half + 1]
    away = np.abs(around.astype(int) - [int(own[k : k + 2], 16) for k in (1, 3, 5)]).max(2)
    assert away.min() <= 12, away.min()


def test_red_free_is_the_green_channel_and_the_plain_photograph_is_the_photograph(
    tab: Page, server: Any, graded: Any, data: Path
) -> None:
    opened(tab, server, f"analysis/{graded['id']}")
    tab.keyboard.press("o")
    tab.keyboard.press("1")
    (eye,) = eyes(tab, when=lambda found: float(found[0]["scale"]) == pytest.approx(1) and found[0]["kind"] == "")
    assert float(eye["scale"]) == pytest.approx(1) and eye["kind"] == ""
    original = np.asarray(Image.open(data / "idrid/original/IDRiD_011.jpg").convert("RGB")).astype(float)
    x, y = (round(-float(eye[name])) for name in ("x", "y"))
    natural = canvas(tab, "photograph")[..., :3].astype(float)
    height, width = natural.shape[:2]
    part = original[y : y + height, x : x + width]
    assert np.abs(natural - part).mean() < 4
    tab.keyboard.press("v")
    eyes(tab, when=lambda found: found[0]["view"] == "red_free")
    green = canvas(tab, "photograph")[..., :3].astype(float)
    assert (green.max(2) == green.min(2)).all()
    assert np.abs(green[..., 0] - part[..., 1]).mean() < 4
    tab.keyboard.press("v")
    eyes(tab, when=lambda found: found[0]["view"] == "contrast")
    strong = canvas(tab, "photograph")[..., :3].astype(float)
    assert strong.mean(2).std() > 1.3 * natural.mean(2).std()
    tab.screenshot(path=str(ARTEFACTS / "fundus-contrast.png"))


def ophthalmic(picture: Image.Image, patient: str, laterality: str, number: int) -> bytes:
    """An Ophthalmic Photography 8 Bit Image; photographs of a patient share their study."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = pydicom.Dataset()
    ds.file_meta = meta
    ds.SOPClassUID = meta.MediaStorageSOPClassUID = OPHTHALMIC
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[patient, "op", str(number)])
    ds.StudyInstanceUID = study_of(patient)
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=[patient, "series"])
    ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = patient, f"Check^{patient}", "19600101", "O"
    ds.Modality, ds.ImageLaterality, ds.StudyDate, ds.StudyTime = "OP", laterality, "20260101", "120000"
    ds.ContentDate, ds.ContentTime, ds.StudyID, ds.AccessionNumber = "20260101", "120000", "1", "A1"
    ds.SeriesNumber, ds.InstanceNumber = 1, number
    ds.ReferringPhysicianName, ds.Manufacturer = "", "Check"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "", "COLOR"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.Rows, ds.Columns, ds.NumberOfFrames = picture.height, picture.width, 1
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.PixelData = picture.tobytes()
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def study_of(patient: str) -> str:
    return str(generate_uid(entropy_srcs=[patient, "both eyes"]))


def stow(server: Any, files: list[bytes]) -> None:
    body = b"".join(b"--B\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n" for data in files) + b"--B--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=B'
    headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
    assert server.call("POST", "/dicomweb/studies", body, headers)[0] == 200


def photograph(data: Path, number: str) -> Image.Image:
    return Image.open(data / f"idrid/original/IDRiD_{number}.jpg").convert("RGB").resize((2144, 1424))


def test_both_eyes_stand_side_by_side_and_move_together(tab: Page, server: Any, data: Path) -> None:
    left = photograph(data, "003")
    stow(
        server,
        [
            ophthalmic(ImageOps.mirror(photograph(data, "011")), "Eyes", "R", 1),
            ophthalmic(left, "Eyes", "L", 2),
            ophthalmic(left.rotate(4), "Eyes", "L", 3),
        ],
    )
    server.of_study(study_of("Eyes"), 3)
    right, fellow = opened(tab, server, f"study/{study_of('Eyes')}", 2)
    assert (right["eye"], fellow["eye"]) == ("R", "L"), "the right eye is on the left side of the screen"
    assert tab.get_by_role("button", name="Right eye (OD)").is_visible()
    tab.screenshot(path=str(ARTEFACTS / "fundus-both.png"))

    def middle(eye: dict[str, str], index: int) -> tuple[float, float]:
        """What lies in the middle of a pane, in shares of its photograph."""
        box = tab.locator("[data-testid=ground]").nth(index).bounding_box()
        assert box is not None
        scale, x, y = (float(eye[name]) for name in ("scale", "x", "y"))
        return (
            (box["width"] / 2 - x) / scale / float(eye["width"]),
            (box["height"] / 2 - y) / scale / float(eye["height"]),
        )

    for key in ("+", "+", "+", "ArrowRight", "ArrowDown"):
        tab.keyboard.press(key)
    tab.wait_for_timeout(100)
    right, fellow = eyes(tab, 2)
    (a, b), (c, d) = middle(right, 0), middle(fellow, 1)
    assert float(right["scale"]) == pytest.approx(float(fellow["scale"]), rel=0.01)
    assert a != pytest.approx(0.5, abs=0.02) and a == pytest.approx(1 - c, abs=0.01), "mirrored: nasal is nasal"
    assert b == pytest.approx(d, abs=0.01) and b > 0.52

    shown = tab.locator("[data-testid=fundus-stage]").get_attribute("data-active")
    assert shown is not None
    tab.keyboard.press("f")
    expect(tab.locator("[data-testid=fundus-stage]")).not_to_have_attribute("data-active", shown)
    choice = tab.get_by_label("Photograph, Left eye (OS)")
    options = choice.locator("option").evaluate_all("all => all.map(one => one.value)")
    assert len(options) == 2
    other = next(one for one in options if one != eyes(tab, 2)[1]["analysis"])
    choice.select_option(other)
    eyes(tab, 2, when=lambda found: found[1]["analysis"] == other)


def test_an_ungradable_photograph_is_shown_and_says_so_first(tab: Page, server: Any, data: Path) -> None:
    blurred = photograph(data, "003").filter(ImageFilter.GaussianBlur(14))
    stow(server, [ophthalmic(blurred, "Blurred", "", 1)])
    server.of_study(study_of("Blurred"))
    (eye,) = opened(tab, server, f"study/{study_of('Blurred')}")
    assert (eye["eye"], eye["kind"]) == ("", "")
    verdict = tab.get_by_test_id("verdict")
    for words in ("take it again", "out of focus", "Refocus"):
        expect(verdict).to_contain_text(words, use_inner_text=True)
    expect(tab.get_by_text("Eye not stated")).to_be_visible()
    assert tab.get_by_test_id("overlay-controls").count() == 0
    assert canvas(tab, "photograph")[..., :3].max() > 100
    tab.screenshot(path=str(ARTEFACTS / "fundus-ungradable.png"))
