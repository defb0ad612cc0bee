"""What an address of the viewer shows: never one patient's answer under another's name, nothing for what is not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser import barriers, tab, until
from tests.integration.test_viewer import go, slices_of, stage

NODULE = {"regions": [{"center_mm": [-50.9, -147.6, 60.5]}]}
MUSCLE = {"regions": [{"center_mm": [0, -120, 30]}]}


@pytest.fixture
def page(server: Any) -> Iterator[Page]:
    with tab(server.base) as found:
        yield found


def analysed(server: Any, data: Path, patient: str, *requests: Any) -> list[Any]:
    """Analyses of one study, one for each request."""
    _, _, packed = slices_of(data, patient)
    made = []
    for request in requests:
        status, body = server.post([("x.zip", packed)], request)
        assert status in (200, 202), body
        made.append(server.ended(body["id"]))
    return made


def test_an_analysis_is_not_shown_under_the_name_of_another_patient(page: Page, server: Any, data: Path) -> None:
    (one,), (other,) = analysed(server, data, "ADAMS", NODULE), analysed(server, data, "BAKER", NODULE)
    go(page, server, f"study/{one['input']['study']}/{other['id']}")
    expect(page.get_by_text("belongs to another study")).to_be_visible()
    expect(page.locator("[data-testid=answer]")).to_have_count(0)
    go(page, server, f"study/{one['input']['study']}/{one['id']}")
    expect(page.locator(".banner")).to_contain_text("ADAMS")
    assert stage(page)["analysis"] == one["id"]


def test_a_clicked_nodule_names_the_other_answer_to_its_series(page: Page, server: Any, data: Path) -> None:
    positive, clicked = analysed(server, data, "CARTER", NODULE, MUSCLE)
    go(page, server, f"study/{clicked['input']['study']}/{clicked['id']}")
    stage(page)
    expect(page.locator("[data-testid=only-named]")).to_contain_text("the rest of the series was not")
    assert barriers(page) == []
    page.locator("[data-testid=siblings]").get_by_role("link").click()
    until(page, lambda: stage(page)["analysis"] == positive["id"], "the other analysis is shown")


def test_back_after_it_was_done_again_shows_the_earlier_answer_as_replaced(page: Page, server: Any, data: Path) -> None:
    (first,) = analysed(server, data, "DAVIES", NODULE)
    go(page, server, f"study/{first['input']['study']}/{first['id']}")
    stage(page)
    page.locator("[data-testid=section-details] summary").first.click()
    page.locator("[data-testid=rerun]").click()
    until(page, lambda: first["id"] not in page.url, "the new analysis is shown")
    expect(page.locator("[data-testid=answer]")).to_have_attribute("data-outcome", first["outcome"])
    page.go_back()
    expect(page.locator("[data-testid=superseded]")).to_be_visible()
    assert stage(page)["analysis"] == first["id"]
    expect(page.get_by_text("Not analysed")).to_have_count(0)


def test_a_finding_that_is_not_there_is_said_to_be_missing(page: Page, server: Any, data: Path) -> None:
    (body,) = analysed(server, data, "EVANS", NODULE)
    go(page, server, f"study/{body['input']['study']}/{body['id']}/candidate-9")
    assert stage(page)["finding"] == body["findings"][0]["id"]
    expect(page.locator("[data-testid=no-such-finding]")).to_contain_text("candidate-9")
    go(page, server, "study/1.2.3.4")
    expect(page.get_by_text("There is no such study")).to_be_visible()
