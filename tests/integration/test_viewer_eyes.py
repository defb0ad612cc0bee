"""The summary of both eyes on the viewer's page, from real photographs through the real service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageFilter, ImageOps
from playwright.sync_api import Page, expect

from tests import browser
from tests.browser import barriers, keep, too_wide
from tests.integration.test_viewer_maps import opened, ophthalmic, photograph, stow, study_of

PATIENT = "Summary"
"""Its right eye is graded, its left eye blurred."""


@pytest.fixture(scope="module")
def study(server: Any, data: Path) -> str:
    eye = photograph(data, "011")
    blurred = photograph(data, "003").filter(ImageFilter.GaussianBlur(14))
    stow(server, [ophthalmic(ImageOps.mirror(eye), PATIENT, "R", 1), ophthalmic(blurred, PATIENT, "L", 2)])
    server.of_study(study_of(PATIENT), 2)
    return study_of(PATIENT)


@pytest.fixture
def tab(server: Any) -> Iterator[Page]:
    with browser.tab(server.base, 1600, 1200) as page:
        yield page


def test_both_eyes_are_told_in_one_and_a_verdict_changes_it(tab: Page, server: Any, study: str) -> None:
    opened(tab, server, f"study/{study}", 2)
    found = server.call("GET", f"/api/v1/studies/{study}/eyes")[1]
    panel = tab.get_by_test_id("both-eyes")
    expect(panel).to_have_attribute("data-action", found["decision"]["action"])
    expect(panel).to_contain_text(found["decision"]["text"])
    right, left = panel.get_by_test_id("eye-summary").all()
    assert (right.bounding_box() or {})["x"] < (left.bounding_box() or {})["x"], "right of the patient is on the left"
    shown = found["eyes"][0]["photographs"][0]
    expect(right).to_contain_text(f"Grade {shown['answer']['grade']}: {shown['answer']['label']}")
    expect(left).to_contain_text("Not gradable: out of focus")
    expect(panel.locator("li[data-code=not_gradable]")).to_contain_text("Refocus")
    assert barriers(tab) == [] and too_wide(tab) == []

    left.get_by_role("link").click()
    expect(tab.locator("[data-testid=fundus-stage]")).to_have_attribute(
        "data-active", found["eyes"][1]["photographs"][0]["analysis"]
    )
    right.get_by_role("link").click()
    expect(tab.locator("[data-testid=fundus-stage]")).to_have_attribute("data-active", shown["analysis"])
    keep(tab, "both-eyes")

    tab.keyboard.press("e")
    form = tab.locator("[data-testid=assess-form]")
    form.get_by_label("Reader").fill("Dr. Test")
    form.get_by_label("0 No retinopathy").check(force=True)
    form.get_by_role("group", name="Reason").get_by_role("button").first.click()
    tab.locator("[data-testid=assess-save]").click()
    expect(panel).to_have_attribute("data-action", "retake")
    expect(right).to_contain_text("as Dr. Test says")


def test_it_is_folded_where_there_is_little_room_and_opens(server: Any, study: str) -> None:
    with browser.tab(server.base, 1280, 800) as small:
        opened(small, server, f"study/{study}", 2)
        panel = small.get_by_test_id("both-eyes")
        expect(panel.get_by_test_id("eye-summary")).to_have_count(0)
        panel.locator("summary").first.click()
        expect(panel.get_by_test_id("eye-summary")).to_have_count(2)
        panel.get_by_text("Why, and what this leaves out").click()
        for words in ("ICO Guidelines", "Research use only", "Macular oedema"):
            expect(panel).to_contain_text(words)
        assert barriers(small) == [] and too_wide(small) == []
