"""Image and mask dropped into a real browser, for a Rad-score and for the nomogram that it feeds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import FAINT, PAGES, opened, served_app
from imaged import serve_images

from osml.cohort.table import read_table
from osml.serving import load

for package in ("SimpleITK", "numba", "pywt"):
    pytest.importorskip(package, reason="the radiomics extra is not installed")
pytestmark = pytest.mark.full
SLOW_MS = 120_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve_images(tmp_path_factory.mktemp("images"), missing="impute")


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    with served_app(run, "--audit", "none") as found:
        yield found


@pytest.mark.parametrize("name", ["combined", "radscore"])
def test_files_are_dropped_and_every_page_can_be_read(
    chromium: Any, address: str, run: Path, tmp_path: Path, name: str
) -> None:
    from pypdf import PdfReader

    folder = run.parents[2]
    table = read_table(folder / "table.csv")
    image, mask = (folder / table.column(column)[0] for column in ("t1", "t1_mask"))
    page = opened(chromium, address)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.get_by_role("textbox", name="Age (").wait_for(timeout=SLOW_MS)  # the first model, drawn to its end
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name=name, exact=True).click()
    page.get_by_text(f"model {name}").wait_for(timeout=SLOW_MS)
    page.get_by_text("T1 MRI: mask of the lesion").wait_for(timeout=SLOW_MS)
    if name == "combined":
        page.get_by_role("textbox", name="Age (").fill("51.5")
    for place, file in enumerate((image, mask)):
        page.locator("input[type=file]").nth(place).set_input_files(file)
        page.get_by_text(file.name, exact=True).wait_for(timeout=SLOW_MS)
    page.get_by_role("button", name="Predict", exact=True).click()
    page.get_by_text("Take away").wait_for(timeout=SLOW_MS)
    given = {"t1": image, "t1.mask": mask}
    result = load(run, name).predict_images({"age": "51.5"} if name == "combined" else {}, given)
    assert page.get_by_text(f"{100 * result.p[0]:.0f} %").first.is_visible()
    assert page.get_by_text("Slice with most of the lesion").first.is_visible()
    page.wait_for_timeout(1500)
    with page.expect_download(timeout=SLOW_MS) as sheet:
        page.get_by_role("button", name="Sheet of this patient").click()
    text = " ".join(" ".join(part.extract_text() for part in PdfReader(sheet.value.path()).pages).split())
    assert f"{100 * result.p[0]:.0f} %" in text
    assert image.name not in text
    assert mask.name not in text
    for title in PAGES:
        if title != "Predict":
            page.get_by_role("link", name=title, exact=True).click()
        page.get_by_role("heading", name=title, exact=True).wait_for(timeout=SLOW_MS)
        page.wait_for_timeout(2500)
        assert page.get_by_test_id("stException").count() == 0
        assert page.get_by_text("Research use only. Not a medical device.").first.is_visible()
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 1280
        assert page.evaluate(FAINT) == []
        page.screenshot(path=tmp_path / f"{name} {title}.png", full_page=True)
    assert problems == []
