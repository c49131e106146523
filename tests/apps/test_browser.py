"""The app in a real browser: upload, predict, download, at a desk and on a phone, by day and by night."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import FAINT, PAGES, UNNAMED, opened, served_app
from served import patients, serve

from osml.serving import load

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    with served_app(run, "--audit", "none") as found:
        yield found


def test_upload_predict_and_take_the_sheet_away(chromium: Any, address: str, run: Path, tmp_path: Path) -> None:
    from pypdf import PdfReader

    rows = [row | {"marker": row["marker"] or "3"} for row in patients()[:3]]
    (tmp_path / "new.csv").write_text(
        "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]), encoding="utf-8"
    )
    page = opened(chromium, address)
    page.get_by_text("A table", exact=True).click()
    page.locator("input[type=file]").set_input_files(tmp_path / "new.csv")
    page.get_by_text("3 of 3 rows predicted").wait_for()
    with page.expect_download() as table:
        page.get_by_role("button", name="Results as CSV").click()
    assert Path(table.value.path()).read_text(encoding="utf-8").count("\n") == 4
    page.get_by_role("combobox", name="Show one patient").click()
    page.get_by_role("option").nth(1).click()
    page.get_by_text("Take away").wait_for()
    page.wait_for_timeout(1500)
    with page.expect_download() as sheet:
        page.get_by_role("button", name="Nomogram sheet").click()
    text = " ".join(PdfReader(sheet.value.path()).pages[0].extract_text().split())
    model = load(run)
    result = model.predict_one(
        {
            "age": rows[1]["age"],
            "marker": repr(float(rows[1]["marker"]) * 60),
            "size": rows[1]["size"],
            "sex": rows[1]["sex"],
            "stage": "late" if rows[1]["stage"] == "III" else "early",
        }
    )
    assert f"{100 * result.p[0]:.1f} %" in text
    assert rows[1]["id"] not in text
    picture = tmp_path / "upload.png"
    page.screenshot(path=picture, full_page=True)
    assert picture.stat().st_size > 10_000


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_a_form_is_filled_and_every_page_can_be_read(
    chromium: Any, address: str, tmp_path: Path, width: int, scheme: str
) -> None:
    page = opened(chromium, address, width, scheme)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.get_by_role("textbox", name="Age (").fill("51.5")
    page.get_by_role("textbox", name="Size (").fill("77")
    page.get_by_text("male", exact=True).click()
    page.get_by_text("Unanswered inputs are unknown").click()
    page.get_by_role("button", name="Predict", exact=True).click()
    page.get_by_text("Take away").wait_for()
    for title in PAGES:
        if title != "Predict":
            phone = width < 600  # there the pages stand behind a button
            if phone:
                page.get_by_test_id("stExpandSidebarButton").click()
            page.get_by_role("link", name=title, exact=True).click()
            if phone:
                page.get_by_test_id("stSidebarCollapseButton").get_by_role("button").click()
        page.get_by_role("heading", name=title, exact=True).wait_for()
        page.wait_for_timeout(1500)
        assert page.get_by_text("Research use only. Not a medical device.").first.is_visible()
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        assert page.evaluate(FAINT) == []
        assert page.evaluate(UNNAMED) == 0
        page.screenshot(path=tmp_path / f"{title}.png", full_page=True)
    assert problems == []


def test_the_first_visit_may_go_to_any_page(chromium: Any, run: Path) -> None:
    # The sidebar, the model and the navigation are main.py's, whatever page is opened first.
    with served_app(run, "--audit", "none") as address:
        page = chromium.new_page()
        page.goto(f"{address}/performance")
        page.get_by_role("heading", level=1).wait_for(timeout=60_000)
        assert page.get_by_text("Research use only. Not a medical device.").first.is_visible()
        assert page.get_by_test_id("stException").count() == 0
