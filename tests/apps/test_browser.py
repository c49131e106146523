"""The app in a real browser: upload, predict, download, at a desk and on a phone, by day and by night."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import require
from served import patients, serve

from osml.serving import load
from osml.serving.launch import RUN_VARIABLE, app_command, app_script

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
PAGES = ("Predict", "Nomogram", "Performance", "Explain", "Cohort", "Model card")

pytestmark = pytest.mark.full

# WCAG contrast of every text on the page against the colours behind it.
FAINT = """() => {
  const parse = c => { const m = c.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m.slice(0, 3), 1] : m };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat([1]);
  const light = c => [0, 1, 2].map(i => { const v = c[i] / 255; return v <= 0.03928 ? v / 12.92
    : ((v + 0.055) / 1.055) ** 2.4 }).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  const out = [];
  for (const e of document.querySelectorAll('[data-testid=stMain] *, [data-testid=stSidebar] *')) {
    if (![...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim())) continue;
    const box = e.getBoundingClientRect(), style = getComputedStyle(e);
    if (box.width < 2 || box.height < 2 || style.visibility == 'hidden') continue;
    if (style.fontFamily.includes('Material')) continue;
    const grounds = [];
    for (let p = e; p; p = p.parentElement) grounds.unshift(parse(getComputedStyle(p).backgroundColor));
    const ground = grounds.reduce((b, a) => over(a, b), [255, 255, 255, 1]);
    const [a, b] = [light(over(parse(style.color), ground)), light(ground)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) out.push(ratio.toFixed(2) + ' ' + e.textContent.slice(0, 40));
  }
  return out;
}"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    """The app as `osml app` starts it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = app_command(app_script(), port=port, browser=False)
    with subprocess.Popen(command, env=os.environ | {RUN_VARIABLE: str(run)}, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/_stcore/health", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        assert process.poll() is None, "the app ended"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                return
        except urllib.error.URLError:
            time.sleep(0.25)
    raise AssertionError(f"nothing answered at {url}")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        require("browser", "playwright is not installed")
    if not CHROMIUM.exists():
        require("browser", f"no browser at {CHROMIUM}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


def opened(chromium: Any, address: str, width: int = 1280, scheme: str = "light") -> Any:
    context = chromium.new_context(
        viewport={"width": width, "height": 1000}, color_scheme=scheme, accept_downloads=True
    )
    page = context.new_page()
    page.goto(address)
    page.get_by_role("heading", name="Predict").wait_for(timeout=60_000)
    return page


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
        unnamed = (
            "() => [...document.querySelectorAll('input:not([type=file]), select, textarea')].filter(e => "
            "!e.getAttribute('aria-label') && !e.labels?.length && e.offsetParent).length"
        )
        assert page.evaluate(unnamed) == 0
        page.screenshot(path=tmp_path / f"{title}.png", full_page=True)
    assert problems == []


def test_the_first_visit_may_go_to_any_page(chromium: Any, run: Path) -> None:
    # The sidebar, the model and the navigation are main.py's, whatever page is opened first.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = app_command(app_script(), port=port, browser=False)
    with subprocess.Popen(command, env=os.environ | {RUN_VARIABLE: str(run)}, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/_stcore/health", process)
            page = chromium.new_page()
            page.goto(f"http://127.0.0.1:{port}/performance")
            page.get_by_role("heading", level=1).wait_for(timeout=60_000)
            assert page.get_by_text("Research use only. Not a medical device.").first.is_visible()
            assert page.get_by_test_id("stException").count() == 0
        finally:
            process.terminate()
