"""axe-core finds no serious violation on any page, by day, by night and on a phone; no page is too wide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import go_to, opened, page_titles, serious_violations, served_app, settle
from served import serve

from osml.report import make_report

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("axe")
    run = serve(folder)
    make_report(run)
    with served_app(run, "--train", str(folder / "work"), "--audit", str(folder / "audit.sqlite")) as found:
        yield found


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_no_serious_violation_on_any_page(chromium: Any, address: str, tmp_path: Path, width: int, scheme: str) -> None:
    page = opened(chromium, address, width, scheme)
    settle(page)
    page.get_by_role("textbox", name="Age (").fill("51.5")
    page.get_by_role("textbox", name="Size (").fill("77")
    page.get_by_role("textbox", name="Marker (").fill("300")
    page.get_by_text("male", exact=True).click()
    page.get_by_text("early", exact=True).click()
    page.get_by_role("button", name="Predict", exact=True).click()
    page.get_by_text("Take away").wait_for()
    settle(page)
    found: dict[str, list[str]] = {"Predict": serious_violations(page)}
    page.screenshot(path=tmp_path / "Predict.png", full_page=True)
    titles = page_titles(page)
    assert {"Predict", "Train", "Drift", "Slides", "Model card"} <= set(titles)
    for title in titles[1:]:
        go_to(page, title)
        found[title] = serious_violations(page)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width, title
        assert page.get_by_test_id("stException").count() == 0, title
        page.screenshot(path=tmp_path / f"{title}.png", full_page=True)
    assert {title: lines for title, lines in found.items() if lines} == {}


def test_a_violation_would_be_found(chromium: Any) -> None:
    page = chromium.new_page()
    page.set_content(
        "<html lang=en><title>x</title><main><input><p style='color:#ccc;background:#fff'>faint</p></main></html>"
    )
    found = " ".join(serious_violations(page))
    assert "label (critical)" in found
    assert "color-contrast (serious)" in found
