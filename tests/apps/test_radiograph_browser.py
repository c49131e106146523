"""A radiograph dropped into a real browser: prediction, Grad-CAM, the patient's sheet as PDF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the nets extra is not installed")
from browsing import go_to, opened, serious_violations, served_app, settle
from networked import serve_xray

from osml.cohort.table import read_table
from osml.serving import load

pytestmark = pytest.mark.full
SLOW_MS = 120_000
CELLS = {"age": "55", "alp": "200", "alp_low": "45", "alp_high": "125", "sex": "male"}


def test_from_a_radiograph_to_its_sheet(chromium: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pypdf import PdfReader

    run = serve_xray(tmp_path / "study")
    folder = run.parents[2]
    monkeypatch.setenv("OSML_WEIGHTS", str(folder / "weights"))
    monkeypatch.setenv("OSML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OSML_DEVICE", "cpu")
    table = read_table(folder / "table.csv")
    name = next(cell for cell in table.column("file") if cell)
    with served_app(run, "--audit", str(tmp_path / "audit.sqlite")) as address:
        page = opened(chromium, address)
        page.get_by_role("textbox", name="Age (").wait_for(timeout=SLOW_MS)
        page.get_by_role("combobox", name="Model").click()
        page.get_by_role("option", name="fused", exact=True).click()
        page.get_by_text("model fused").wait_for(timeout=SLOW_MS)
        settle(page)
        page.get_by_role("textbox", name="Age (").fill("55")
        page.get_by_role("textbox", name="ALP (").fill("200")
        page.get_by_role("textbox", name="ALP: lower").fill("45")
        page.get_by_role("textbox", name="ALP: upper").fill("125")
        page.get_by_text("male", exact=True).click()
        page.locator("input[type=file]").first.set_input_files(folder / name)
        page.get_by_text(Path(name).name, exact=True).wait_for(timeout=SLOW_MS)
        page.get_by_role("button", name="Predict", exact=True).click()
        page.get_by_text("Take away").wait_for(timeout=SLOW_MS)
        settle(page)
        result = load(run, "fused").predict_images(CELLS, {"xray": folder / name})
        assert page.get_by_text(f"{100 * result.p[0]:.0f} %").first.is_visible()
        with page.expect_download(timeout=SLOW_MS) as sheet:
            page.get_by_role("button", name="Sheet of this patient").click()
        reader = PdfReader(sheet.value.path())
        text = " ".join(" ".join(part.extract_text() for part in reader.pages).split())
        assert f"{100 * result.p[0]:.0f} %" in text
        assert "Research use only" in text
        assert Path(name).name not in text
        assert any(part.images for part in reader.pages), "neither the picture nor its Grad-CAM is on the sheet"
        assert serious_violations(page) == []
        go_to(page, "Explain")
        page.get_by_text("Where the pictures raise the score").wait_for(timeout=SLOW_MS)
        assert page.get_by_test_id("stImage").count() >= 2
        page.screenshot(path=tmp_path / "explain.png", full_page=True)
