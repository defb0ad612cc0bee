"""A reader's way through the viewer, in a real browser against the real server. Pictures are kept in artefacts/."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from playwright.sync_api import Locator, Page, expect
from pydicom.uid import generate_uid

from tests.browser import barriers, keep, picture, tab, too_wide, until
from tests.integration.conftest import Server
from tests.integration.test_pacs import stow

LESION_PX = (182.5, 284.5)
"""Of the adenocarcinoma in the right apex, on slice `LESION_SLICE` (1-based, from the feet up)."""
LESION_SLICE = 64
CHEST = "ct_lungfcp_0001.zip"


@pytest.fixture
def page(server: Any) -> Iterator[Page]:
    with tab(server.base) as found:
        yield found


@pytest.fixture(scope="module")
def chest(server: Any, data: Path) -> Any:
    """The analysis of a real CT whose candidates were searched."""
    status, body = server.post([(CHEST, (data / "dicom" / CHEST).read_bytes())])
    assert status in (200, 202), body
    return server.ended(body["id"])


def slices_of(data: Path, patient: str) -> tuple[str, str, bytes]:
    """The same CT as the study of another patient: study, series, ZIP."""
    study, series, packed = generate_uid(), generate_uid(), io.BytesIO()
    with zipfile.ZipFile(data / "dicom" / CHEST) as real, zipfile.ZipFile(packed, "w") as new:
        for name in sorted(real.namelist()):
            ds = pydicom.dcmread(io.BytesIO(real.read(name)))
            ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = study, series, generate_uid()
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
            ds.PatientName = ds.PatientID = patient
            stream = io.BytesIO()
            ds.save_as(stream)
            new.writestr(name, stream.getvalue())
    return str(study), str(series), packed.getvalue()


def go(page: Page, server: Any, place: str) -> None:
    page.goto(f"{server.base}/viewer/#/{place}")


def stage(page: Page) -> dict[str, str]:
    """What the CT stage says of itself once everything is drawn."""
    return dict(
        until(
            page,
            lambda: page.evaluate(
                """(() => { const one = document.querySelector('[data-testid=ct-stage][data-ready=true]');
                            return one && {...one.dataset}; })()"""
            ),
            "the CT is drawn",
        )
    )


def on_slice(page: Page, number: int) -> dict[str, str]:
    """Wait until this slice (from 1) is the one that is drawn."""
    until(page, lambda: stage(page)["slice"] == str(number), f"slice {number} is drawn")
    return stage(page)


def ct_pixels(page: Page) -> tuple[np.ndarray, float, float, float]:
    """The viewport as it is seen, the scale of the image in it and the place of its corner; nothing of it from the page.

    The CT was sent at 512 x 512 px; it fills the height or the width of the viewport, centred.
    """
    seen = picture(page.locator("[data-testid=ct-viewport]"))
    height, width = seen.shape[:2]
    scale = min(height, width) / 512
    return seen, scale, (width - 512 * scale) / 2, (height - 512 * scale) / 2


def colour(seen: np.ndarray) -> np.ndarray:
    """How far each pixel is from grey."""
    return np.asarray(seen.max(2) - seen.min(2))


def only_the_map(page: Page, kind: str) -> None:
    """One kind of map at full strength; no contour and no box."""
    controls = page.locator("[data-testid=overlay-controls]")
    controls.locator(f'input[value="{kind}"]').check(force=True)
    page.get_by_label("Opacity").fill("100")
    for name in ("Contour", "Box"):
        controls.get_by_label(name).uncheck()


def rows(page: Page) -> Locator:
    return page.locator("[data-testid=finding-row]")


# -- worklist -------------------------------------------------------------------------------------------------------------


def test_files_are_sent_followed_and_opened_from_the_worklist(page: Page, server: Any, data: Path) -> None:
    go(page, server, "")
    eye = data / "idrid/original/IDRiD_003.jpg"
    page.get_by_label("Left", exact=True).check(force=True)
    page.set_input_files("#choose-files", [str(eye)])
    job = page.locator("[data-testid=job]").filter(has_text="IDRiD_003.jpg")
    expect(job).to_contain_text("Grade")
    row = page.locator("[data-testid=study]").first
    expect(row).to_contain_text("Left eye")
    expect(row).to_contain_text("Completed")
    keep(page, "worklist")
    assert barriers(page) == [] and too_wide(page) == []
    row.get_by_role("link").first.click()
    until(page, lambda: page.locator("[data-testid=eye][data-ready=true]").count() == 1, "the photograph is drawn")
    expect(page.locator("[data-testid=answer]")).to_contain_text("Grade")
    expect(page.locator("[data-testid=eye]")).to_contain_text("Left eye (OS)")


def test_files_are_dropped_on_the_page(page: Page, server: Any, data: Path) -> None:
    go(page, server, "")
    raw = (data / "idrid/original/IDRiD_011.jpg").read_bytes()
    dropped = page.evaluate_handle(
        """bytes => { const all = new DataTransfer();
                      all.items.add(new File([new Uint8Array(bytes)], "dropped.jpg", {type: "image/jpeg"})); return all; }""",
        list(raw),
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": dropped})
    expect(page.get_by_text("Drop to analyse")).to_be_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": dropped})
    expect(page.locator("[data-testid=job]")).to_contain_text("Grade")
    expect(page.get_by_text("Drop to analyse")).to_have_count(0)


def test_a_file_that_is_no_image_is_refused_with_what_to_do(page: Page, server: Any, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear colleague")
    go(page, server, "")
    page.set_input_files("#choose-files", str(tmp_path / "letter.txt"))
    expect(page.get_by_role("alert").first).to_contain_text("image")
    keep(page, "refused")
    assert barriers(page) == []


def test_the_worklist_is_searched_filtered_and_walked_through_by_keys(page: Page, server: Any, chest: Any) -> None:
    go(page, server, "")
    studies = page.locator("[data-testid=study]")
    expect(studies.filter(has_text="LungFCP").first).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("LungFCP-01")
    expect(studies.filter(has_not_text="LungFCP")).to_have_count(0)
    until(page, lambda: "q=LungFCP-01" in page.url, "the address names the search")
    page.get_by_label("Status").select_option("failed")
    expect(page.get_by_text("Nothing fits these filters")).to_be_visible()
    page.get_by_label("Status").select_option("")
    expect(studies.first).to_be_visible()
    page.locator("h1").first.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("Enter")
    expect(page.locator(".banner")).to_contain_text("LungFCP-01-0001")


def test_a_study_without_analysis_is_read_and_analysed(tmp_path: Path, data: Path) -> None:
    """In a service that only stores what comes in by DICOM."""
    keeper = Server(tmp_path)
    keeper.start(arrivals="store", sync_wait_s="120")
    try:
        study, _, packed = slices_of(data, "UNREAD")
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            assert stow(keeper, [archive.read(name) for name in archive.namelist()]) == 200
        with tab(keeper.base) as page:
            go(page, keeper, "")
            row = page.locator("[data-testid=study]").filter(has_text="UNREAD")
            expect(row).to_contain_text("Not analysed")
            row.get_by_role("link").first.click()
            assert stage(page)["slices"] == "98"
            keep(page, "unread")
            page.get_by_role("button", name="Analyse this series").first.click()
            expect(page.locator("[data-testid=answer]")).to_have_attribute("data-outcome", "positive", timeout=240_000)
            (body,) = keeper.of_study(study)
            assert body["outcome"] == "positive" and len(body["objects"]) > 0
    finally:
        keeper.stop()


# -- CT -------------------------------------------------------------------------------------------------------------------


def test_a_finding_leads_to_its_slice_and_the_address_names_it(page: Page, server: Any, chest: Any) -> None:
    study = chest["input"]["study"]
    go(page, server, f"study/{study}/{chest['id']}")
    first = stage(page)
    suspicious = max(chest["findings"], key=lambda f: f["operating_point"]["score"])
    order = chest["input"]["instances"]
    assert first["finding"] == suspicious["id"]
    assert first["slice"] == str(order.index(suspicious["location"]["sop_instance_uid"]) + 1)
    assert first["slices"] == str(len(order))
    banner = page.locator(".banner")
    for fact in ("LungFCP-01-0001", "1999-07-24", "male"):
        expect(banner).to_contain_text(fact)
    expect(rows(page)).to_have_count(len(chest["findings"]))
    other = min(chest["findings"], key=lambda f: f["operating_point"]["score"])
    page.locator(f'[data-testid=finding-row][data-finding="{other["id"]}"]').click()
    number = order.index(other["location"]["sop_instance_uid"]) + 1
    on_slice(page, number)
    until(page, lambda: page.url.endswith(f"/{other['id']}/{number}"), "the address names the finding and its slice")
    page.keyboard.press("ArrowDown")
    moved = until(page, lambda: (s := stage(page))["slice"] != str(number) and s, "the key scrolls")
    until(page, lambda: page.url.endswith(f"/{other['id']}/{moved['slice']}"), "the address follows")
    page.reload()
    again = stage(page)
    assert (again["finding"], again["slice"]) == (other["id"], moved["slice"])
    keep(page, "ct")


def test_the_slice_that_is_drawn_is_the_one_that_is_named(page: Page, server: Any, chest: Any, data: Path) -> None:
    """Its grey values are those of the file, through the lung window: as exactly as a resampled picture can be."""
    go(page, server, f"study/{chest['input']['study']}/{chest['id']}/-/30")
    on_slice(page, 30)
    page.keyboard.press("o")
    until(page, lambda: (s := stage(page))["painted"] == "false" and s["contour"] == "0", "the slice is bare")
    with zipfile.ZipFile(data / "dicom" / CHEST) as archive:
        files = [pydicom.dcmread(io.BytesIO(archive.read(name))) for name in archive.namelist()]
    by_uid = {str(ds.SOPInstanceUID): ds for ds in files}
    ds = by_uid[chest["input"]["instances"][29]]
    hu = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    expected = np.clip((hu + 600) / 1500 + 0.5, 0, 1)
    seen, scale, left, top = ct_pixels(page)
    y = (top + (np.arange(512) + 0.5) * scale).astype(int).clip(0, seen.shape[0] - 1)
    x = (left + (np.arange(512) + 0.5) * scale).astype(int).clip(0, seen.shape[1] - 1)
    inner = np.s_[120:400, 100:420]
    drawn = seen[np.ix_(y, x)].mean(2)[inner]
    assert np.corrcoef(drawn.ravel(), expected[inner].ravel())[0, 1] > 0.97


def test_the_overlay_lies_where_the_maps_peak_is(page: Page, server: Any, chest: Any) -> None:
    """The peak is taken from the arrays, its place on the screen from the picture's geometry: neither from the page."""
    finding = max(chest["findings"], key=lambda f: f["operating_point"]["score"])
    root = f"/api/v1/analyses/{chest['id']}/findings/{finding['id']}"
    _, raw, headers = server.call("GET", f"{root}/response.bin")
    described = json.loads(headers["X-Pellucid-Map"])
    response = np.frombuffer(raw, "<f4").reshape(described["shape"])
    at = described["peak_slice"]
    c = described["classes"].index("malignant")
    order = chest["input"]["instances"]
    number = order.index(described["sources"][at]) + 1
    go(page, server, f"study/{chest['input']['study']}/{chest['id']}/{finding['id']}/{number}")
    on_slice(page, number)
    expect(page.locator("[data-testid=ct-slice]")).not_to_contain_text("loaded")
    only_the_map(page, "class-malignant")
    wanted = {"kind": "class-malignant", "painted": "true", "contour": "0"}
    until(page, lambda: stage(page).items() >= wanted.items(), "the map is drawn, and no contour")
    page.wait_for_timeout(400)
    with_map, scale, left, top = ct_pixels(page)
    page.get_by_label("Opacity").fill("0")
    until(page, lambda: stage(page)["painted"] == "false", "the map is gone")
    page.wait_for_timeout(400)
    without, *_ = ct_pixels(page)
    changed = np.abs(with_map - without).sum(2).astype(float)
    x0, y0, x1, y1 = described["box_px"][at]
    rows_, columns = np.nonzero(changed > 60)
    assert len(rows_) > 20, "the map is drawn"
    x, y = (columns + 0.5 - left) / scale, (rows_ + 0.5 - top) / scale
    assert x.min() > x0 - 1 and x.max() < x1 + 1 and y.min() > y0 - 1 and y.max() < y1 + 1, "inside the model's window"
    strength = np.sqrt(np.clip(np.abs(response[at, c]) / described["scale"]["per_image"], 0, 1))
    v, u = (np.arange(n) + 0.5 for n in strength.shape)
    centre = np.array(
        [
            x0 + (strength.sum(0) * u).sum() / strength.sum() / strength.shape[1] * (x1 - x0),
            y0 + (strength.sum(1) * v).sum() / strength.sum() / strength.shape[0] * (y1 - y0),
        ]
    )
    weight = changed[rows_, columns]
    drawn = np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()
    assert np.hypot(*(drawn - centre)) < 4, "image px between the drawn map's middle and the numbers'"


def test_a_place_is_analysed_by_a_click(page: Page, server: Any, data: Path) -> None:
    study, _, packed = slices_of(data, "CLICKED")
    status, body = server.post([("x.zip", packed)], {"regions": [{"center_mm": [0, -120, 30]}]})
    assert status in (200, 202)
    body = server.ended(body["id"])
    go(page, server, f"study/{study}/{body['id']}/-/{LESION_SLICE}")
    on_slice(page, LESION_SLICE)
    page.keyboard.press("n")
    _, scale, left, top = ct_pixels(page)
    page.locator("[data-testid=ct-pick]").click(
        position={"x": left + (LESION_PX[0] + 0.5) * scale, "y": top + (LESION_PX[1] + 0.5) * scale}
    )
    until(page, lambda: body["id"] not in page.url, "the new analysis is shown", 240)
    expect(page.locator("[data-testid=answer]")).to_have_attribute("data-outcome", "positive", timeout=240_000)
    found = server.ended(page.url.split("/study/")[1].split("/")[1])
    (finding,) = found["findings"]
    assert finding["location"]["origin"] == "request"
    assert np.hypot(*np.subtract(finding["location"]["center_mm"][:2], (-50.9, -147.6))) < 3
    keep(page, "ct-clicked")


def test_keys_are_listed_and_nothing_bars_anybody(page: Page, server: Any, chest: Any) -> None:
    go(page, server, f"study/{chest['input']['study']}/{chest['id']}")
    stage(page)
    assert barriers(page) == [] and too_wide(page) == []
    page.keyboard.press("?")
    listed = page.get_by_role("dialog")
    for group in ("Everywhere", "CT", "Maps", "Findings", "Assessment"):
        expect(listed.get_by_role("heading", name=group)).to_be_visible()
    keep(page, "keys")
    page.keyboard.press("Escape")
    expect(listed).to_have_count(0)


def test_it_fills_a_4k_screen(server: Any, chest: Any) -> None:
    with tab(server.base, 3840, 2160) as large:
        go(large, server, f"study/{chest['input']['study']}/{chest['id']}")
        stage(large)
        viewport = large.locator("[data-testid=ct-viewport]").bounding_box()
        assert viewport is not None and viewport["height"] > 1400
        assert too_wide(large) == []
        keep(large, "ct-4k")


# -- the result, and the reader's word on it ------------------------------------------------------------------------------


def test_the_panel_says_how_far_the_answer_is_to_be_trusted(page: Page, server: Any, chest: Any) -> None:
    go(page, server, f"study/{chest['input']['study']}/{chest['id']}")
    stage(page)
    finding = max(chest["findings"], key=lambda f: f["operating_point"]["score"])
    point = finding["operating_point"]
    answer = page.locator("[data-testid=answer]")
    expect(answer).to_contain_text(f"{point['threshold']:.2f}")
    expect(answer).to_contain_text(f"n = {point['n']}")
    for name in ("trust", "details"):
        section = page.locator(f"[data-testid=section-{name}]")
        if section.count() and not section.evaluate("one => one.open ?? true"):
            section.locator("summary").first.click()
    page.wait_for_timeout(1500)
    keep(page, "panel")
    expect(page.locator("[data-testid=checks]")).to_contain_text("pass")
    expect(page.locator("[data-testid=limits]")).to_contain_text("Not for primary diagnosis")
    assert barriers(page) == []


def test_a_verdict_is_stored_with_who_and_when_and_counted(page: Page, server: Any, data: Path) -> None:
    study, _, packed = slices_of(data, "JUDGED")
    status, body = server.post([("x.zip", packed)], {"regions": [{"center_mm": [-50.9, -147.6, 60.5]}]})
    assert status in (200, 202)
    body = server.ended(body["id"])
    go(page, server, f"study/{study}/{body['id']}")
    stage(page)
    page.keyboard.press("r")
    form = page.locator("[data-testid=assess-form]")
    expect(form).to_be_visible()
    form.get_by_label("Reader").fill("Dr. Test")
    form.get_by_role("group", name="Reason").get_by_role("button").first.click()
    keep(page, "assessment")
    page.locator("[data-testid=assess-save]").click()
    expect(page.locator("[data-testid=assess]")).to_have_attribute("data-verdict", "rejected")
    (stored,) = server.ended(body["id"])["assessments"]
    assert (stored["verdict"], stored["reader"]) == ("rejected", "Dr. Test")
    assert stored["reason"] and stored["created"] and stored["version"] == body["model"]["version"]
    go(page, server, "quality")
    expect(page.locator("[data-testid=agreement]").first).to_contain_text("sisc_lung")
    expect(page.get_by_text("Dr. Test").first).to_be_visible()
    keep(page, "quality")
    assert barriers(page) == [] and too_wide(page) == []
    status, table, _ = server.call("GET", "/api/v1/assessments.csv")
    assert status == 200 and b"Dr. Test" in table
