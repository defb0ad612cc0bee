"""A long worklist with odd texts in it: it stays in its window, and a reader keeps their place while studies come in."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import pydicom
import pytest
from playwright.sync_api import Page, expect
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from tests.browser import barriers, tab, too_wide, until
from tests.integration.conftest import Server
from tests.integration.test_pacs import stow

STUDIES = 260
"""More than one answer of the service holds."""
LONG = "A" * 64


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A service that holds many tiny studies; the latest ones have odd texts."""
    server = Server(tmp_path_factory.mktemp("full"))
    server.start(arrivals="store")
    try:
        for first in range(0, STUDIES, 65):
            stow(server, [picture(f"Load^Test{k:03}", f"P{k}", "Chest") for k in range(first, first + 65)])
        for name, patient, description in (
            (LONG, "X" * 64, "D" * 64),
            ("<img src=x onerror=alert(1)>^<b>", "<script>alert(2)</script>", "<svg onload=alert(3)>"),
            ("=山田^太郎", "JP", "胸部"),
        ):
            assert stow(server, [picture(name, patient, description)]) == 200
        yield server
    finally:
        server.stop()


def picture(name: str, patient: str, description: str) -> bytes:
    """A secondary capture of 8 x 8 pixels, a study of its own."""
    ds = pydicom.Dataset()
    ds.file_meta = meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.PatientName, ds.PatientID, ds.PatientSex, ds.PatientBirthDate = name, patient, "F", "19700101"
    ds.StudyDescription, ds.StudyDate, ds.StudyTime, ds.StudyID = description, "20260102", "120000", "1"
    ds.Modality, ds.AccessionNumber, ds.SeriesNumber, ds.InstanceNumber = "OT", "1", 1, 1
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.Rows = ds.Columns = ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelData = 7, bytes(range(64))
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.fixture
def page(full: Any) -> Iterator[Page]:
    with tab(full.base) as found:
        found.goto(f"{full.base}/viewer/")
        expect(found.locator("[data-testid=study]").first).to_be_visible()
        yield found


def chosen(page: Page) -> str:
    return str(page.locator("[data-testid=study][data-chosen]").get_attribute("data-key"))


def test_odd_texts_are_texts_and_stay_in_the_window(page: Page) -> None:
    studies = page.locator("[data-testid=study]")
    expect(studies.filter(has_text="<script>alert(2)</script>")).to_have_count(1)
    expect(studies.nth(0)).to_contain_text("山田, 太郎")
    expect(studies.nth(2)).to_contain_text(LONG)
    assert page.evaluate("document.querySelector('main').scrollWidth <= innerWidth")
    assert barriers(page) == [] and too_wide(page) == []


def test_a_study_beyond_two_hundred_is_reached_and_kept(page: Page, full: Any) -> None:
    studies, more = page.locator("[data-testid=study]"), page.get_by_role("button", name="Show more")
    while more.count():
        before = studies.count()
        more.click()
        until(page, lambda before=before: studies.count() > before, "more studies are listed")  # type: ignore[misc]
    assert studies.count() >= STUDIES + 3
    for _ in range(220):
        page.keyboard.press("j")
    key, count = str(studies.nth(220).get_attribute("data-key")), studies.count()
    until(page, lambda: chosen(page) == key, "every press moved the choice by one")
    place = page.locator(f'[data-key="{key}"]')
    expect(place).to_be_in_viewport()
    top = place.bounding_box()
    assert stow(full, [picture("Late^Comer", "L", "new")]) == 200
    until(page, lambda: studies.count() == count + 1, "what came in is listed")
    assert chosen(page) == key and place.bounding_box() == pytest.approx(top, abs=2)
    page.keyboard.press("Enter")
    until(page, lambda: f"/study/{key}" in page.url, "the chosen study is opened")
    page.go_back()
    expect(place).to_be_in_viewport()
    assert chosen(page) == key


def test_enter_presses_what_has_the_focus(page: Page) -> None:
    link = page.locator("[data-testid=study] a").nth(3)
    place = str(link.get_attribute("href"))
    link.focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(re.escape(place)))


def test_a_filter_of_a_link_is_seen(page: Page, full: Any) -> None:
    page.goto(f"{full.base}/viewer/#/?since=2026-01-01T00:00:00.000Z")
    expect(page.get_by_label("When").locator("option:checked")).to_contain_text("since")
