"""A real browser and the app as `osml app` starts it, for tests that look at what a visitor sees."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers import require

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
# The violations that count: of WCAG 2.1 A and AA, and those that axe calls best practice are left to the eye.
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}

# The pages that a run of cells has.
PAGES = ("Predict", "Nomogram", "Performance", "Explain", "Cohort", "Model card")
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
# Fields that a screen reader cannot name.
UNNAMED = (
    "() => [...document.querySelectorAll('input:not([type=file]), select, textarea')].filter(e => "
    "!e.getAttribute('aria-label') && !e.labels?.length && e.offsetParent).length"
)


@contextmanager
def started_chromium() -> Iterator[Any]:
    """Debian's Chromium under Playwright; the test is skipped where there is none, unless the browser is required."""
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


@contextmanager
def served_app(run: Path, *options: str) -> Iterator[str]:
    """The address of `osml app RUN --no-browser OPTIONS` on a free port; it is stopped at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = [sys.executable, "-c", "from osml.cli import main; main()", "app", str(run), "--no-browser"]
    command = [*start, "--port", str(port), *options]
    with subprocess.Popen(command, env=os.environ.copy(), stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/_stcore/health", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until the address answers; at most two minutes."""
    for _ in range(480):
        assert process.poll() is None, "the app ended"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                return
        except urllib.error.URLError:
            time.sleep(0.25)
    raise AssertionError(f"nothing answered at {url}")


def opened(browser: Any, address: str, width: int = 1280, scheme: str = "light") -> Any:
    """The first page, once it has its heading."""
    context = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme, accept_downloads=True)
    page = context.new_page()
    page.goto(address)
    page.get_by_role("heading", level=1).wait_for(timeout=60_000)
    return page


def page_titles(page: Any) -> list[str]:
    """What the navigation offers."""
    titles = [text.strip() for text in page.get_by_test_id("stSidebarNavLink").all_inner_texts()]
    assert titles
    return titles


def go_to(page: Any, title: str) -> None:
    """Follow the navigation, which on a phone stands behind a button, and wait until the page is still."""
    button = page.get_by_test_id("stExpandSidebarButton")
    phone = page.viewport_size["width"] < 600
    if phone and button.is_visible():
        button.click()
    page.get_by_role("link", name=title, exact=True).click()
    if phone:
        page.get_by_test_id("stSidebarCollapseButton").get_by_role("button").click()
    page.get_by_role("heading", level=1, name=title, exact=True).wait_for(timeout=60_000)
    settle(page)


def settle(page: Any) -> None:
    """Until no script of the app runs and nothing fades in."""
    page.wait_for_timeout(400)
    page.wait_for_function("() => !document.querySelector('[data-testid=stStatusWidget]')", timeout=60_000)
    page.wait_for_timeout(800)


def serious_violations(page: Any) -> list[str]:
    """What axe-core calls serious or critical, one line each, with the element."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options={"resultTypes": ["violations"], **RULES}).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {node['html'][:160]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
