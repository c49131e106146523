"""A real browser trains a model from a table, closes the tab, comes back, publishes, and predicts with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import FAINT, UNNAMED, served_app
from small_studies import simulate_rows

pytestmark = pytest.mark.full

WIDTHS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The app with an empty folder of runs and a workspace."""
    for name in ("runs", "workspace"):
        (tmp_path / name).mkdir()
    with served_app(tmp_path / "runs", "--train", str(tmp_path / "workspace"), "--audit", "none") as found:
        yield found


class Visitor:
    """One tab, and pictures of what it shows in every width and theme."""

    def __init__(self, chromium: Any, address: str, pictures: Path) -> None:
        self.chromium, self.pictures = chromium, pictures
        self.page = self._opened(address, 1280, "light")
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))

    def _opened(self, address: str, width: int, scheme: str) -> Any:
        context = self.chromium.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme)
        page = context.new_page()
        page.goto(address)
        page.get_by_role("heading", name="Train", exact=True).wait_for(timeout=60_000)
        return page

    def choose(self, label: str, option: str) -> None:
        self.page.get_by_role("combobox", name=label).click()
        self.page.get_by_role("option", name=option).first.click()
        self.page.wait_for_timeout(1_000)

    def fill(self, label: str, text: str) -> None:
        self.page.get_by_role("textbox", name=label).fill(text)
        self.page.keyboard.press("Enter")
        self.page.wait_for_timeout(1_000)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def look(self, name: str) -> None:
        """The same address in other tabs: readable, nothing beyond the width, every field with its name."""
        for width, scheme in WIDTHS:
            page = self._opened(self.page.url, width, scheme)
            page.wait_for_timeout(3_000)
            assert page.evaluate("() => document.documentElement.scrollWidth") <= width
            assert page.evaluate(FAINT) == []
            assert page.evaluate(UNNAMED) == 0
            page.screenshot(path=self.pictures / f"{name}_{width}_{scheme}.png", full_page=True)
            page.context.close()


def test_from_a_table_to_a_prediction_of_the_published_model(chromium: Any, address: str, tmp_path: Path) -> None:
    rows = [{k: row[k] for k in ("id", "age", "marker", "sex", "stage", "outcome")} for row in simulate_rows(n=150)]
    table = tmp_path / "cohort.csv"
    table.write_text("\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]), encoding="utf-8")
    visitor = Visitor(chromium, address, tmp_path)
    page = visitor.page
    visitor.look("begin")
    page.locator("input[type=file]").first.set_input_files(table)
    page.get_by_text("cohort.csv").wait_for()
    visitor.press("Read the table")
    page.get_by_text("Two questions first").wait_for()
    visitor.choose("Which column names the patient", "id")
    visitor.choose("Which column is the outcome", "outcome")
    visitor.look("two_questions")
    visitor.press("Draft the schema")
    page.get_by_text("Questions that only you can answer").wait_for()
    visitor.look("questions")
    visitor.choose("How patients came", "cohort")
    visitor.fill("Moments in order", "diagnosis")
    visitor.choose("Moment of prediction", "diagnosis")
    visitor.choose("Value of the outcome", "bad")
    visitor.choose("When are the 4 inputs", "diagnosis")
    page.get_by_text("The schema is whole.").wait_for()
    page.get_by_text("YAML", exact=True).click()
    page.wait_for_timeout(1_500)
    area = page.get_by_role("textbox", name="Schema")
    good = area.input_value().replace("folds: 5, repeats: 5", "folds: 2, repeats: 10")
    area.fill(good.replace("kind: nomogram", "kind: nomgram"))
    page.keyboard.press("Control+Enter")
    page.get_by_text("Did you mean 'nomogram'?").wait_for()
    number = 1 + next(i for i, line in enumerate(good.splitlines()) if "kind: nomogram" in line)
    assert page.get_by_text(f"Line {number}", exact=True).is_visible()
    page.screenshot(path=tmp_path / "error.png", full_page=True)
    area.fill(good)
    page.keyboard.press("Control+Enter")
    page.get_by_text("The schema is whole.").wait_for()
    visitor.look("data")
    visitor.press("Start training")
    page.get_by_text("It goes on when this tab is closed").wait_for()
    link = page.url
    assert "job=" in link
    page.context.close()  # the tab is closed while the study is fitted

    visitor = Visitor(chromium, link, tmp_path)
    page = visitor.page
    page.get_by_role("heading", name="Results", exact=True).wait_for(timeout=240_000)
    visitor.look("results")
    with page.expect_download() as report:
        visitor.press("Report")
    assert Path(report.value.path()).read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html")
    visitor.fill("Name of the published model", "from-a-table")
    visitor.press("Publish")
    page.get_by_text("Published as from-a-table.").wait_for(timeout=60_000)
    page.get_by_text("Published as: from-a-table").wait_for()
    visitor.look("published")
    page.get_by_role("link", name="Predict", exact=True).click()
    page.get_by_role("heading", name="Predict", exact=True).wait_for()
    page.get_by_role("textbox", name="age").fill("51.5")
    page.get_by_role("textbox", name="marker").fill("60")
    page.get_by_text("male", exact=True).click()
    page.get_by_text("III", exact=True).click()
    visitor.press("Predict")
    page.get_by_text("Take away").wait_for(timeout=60_000)
    page.screenshot(path=tmp_path / "predicted.png", full_page=True)
    assert visitor.problems == []
