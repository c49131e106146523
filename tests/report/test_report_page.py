"""The report says what metrics.json says, stands alone, and is readable by anyone."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from pages import Page
from small_studies import simulate_rows

from osml.report import make_report
from osml.report.html import Markup, number, table, tag


@pytest.fixture(scope="session")
def page(binary_run: Path) -> Page:
    return Page(binary_run / "report" / "report.html")


@pytest.fixture(scope="session")
def survival_page(survival_run: Path) -> Page:
    return Page(survival_run / "report" / "report.html")


def at(metrics: Any, path: str) -> Any:
    for part in path.split("/"):
        metrics = metrics[int(part) if isinstance(metrics, list) else part]
    return metrics


@pytest.mark.parametrize("kind", ["binary", "survival"])
def test_every_number_on_the_page_is_the_one_in_metrics_json(kind: str, request: pytest.FixtureRequest):
    run: Path = request.getfixturevalue(f"{kind}_run")
    metrics = json.loads((run / "metrics.json").read_text())
    found = Page(run / "report" / "report.html").metrics()
    for path, (value, shown) in found.items():
        assert value == at(metrics, path), path
        digits = len(shown.partition(".")[2])
        assert shown.replace("\N{MINUS SIGN}", "-") == f"{value:.{digits}f}", path
    key = "auc" if kind == "binary" else "c"
    for name in metrics["predictors"]:
        wanted = [f"{key}/value", f"{key}/low", f"{key}/high", "slope/value", "brier/value"]
        assert {f"predictors/{name}/out_of_fold/{w}" for w in wanted} <= set(found)


def test_comparisons_and_horizons_come_from_metrics_json(page: Page, survival_page: Page):
    assert {"comparisons/0/difference", "comparisons/0/p_holm"} <= set(page.metrics())
    assert "predictors/clinical/out_of_fold/horizons/1/auc/value" in survival_page.metrics()


def test_sections_stand_in_the_order_in_which_a_reader_asks(page: Page, survival_page: Page):
    order = [e.attributes["id"] for e in page.all("section")]
    assert order == [
        "summary", "patients", "baseline", "regression", "results", "discrimination", "calibration", "decision",
        "nomogram", "explanation", "checks", "comparisons", "provenance",
    ]  # fmt: skip
    assert "survival" in [e.attributes["id"] for e in survival_page.all("section")]


def test_the_summary_says_what_for_whom_how_good_and_with_which_interval(page: Page, binary_run: Path):
    words = page.section("summary")
    metrics = json.loads((binary_run / "metrics.json").read_text())
    area = metrics["predictors"]["clinical"]["out_of_fold"]["auc"]
    assert f"clinical: AUC {area['value']:.2f}, 95 % interval {area['low']:.2f} to {area['high']:.2f}" in words
    assert area["interval"] in words
    assert "50 is chance" in words
    assert "Internally validated only" in words
    assert "3-fold cross-validation by patient, repeated 2 times" in words
    assert f"{metrics['n']} patients with {metrics['events']} events" in words
    assert "For the stated decision (biopsy), at risks from 20 to 50 %" in words


def test_warnings_stand_first(page: Page):
    words = page.all("ul", class_="warnings")[0].words
    assert words.startswith("SYNTHETIC DATA: simulated for a test")
    assert "Exploratory: the sample is too small" in words
    assert "Accepted with the reason: a test" in words


def test_the_page_needs_nothing_but_itself(page: Page):
    assert not page.all("script")
    assert not page.all("link")
    assert "default-src 'none'" in page.all("meta", http_equiv="Content-Security-Policy")[0].attributes["content"]
    sources = [v for e in page.elements for k, v in e.attributes.items() if k in ("src", "href", "xlink:href", "data")]
    assert sources
    assert all(s.startswith(("#", "data:image/")) for s in sources)
    assert not re.search(r"url\((?!#)", page.source)
    assert "@import" not in page.source


def test_the_page_is_well_formed_and_its_links_lead_somewhere(page: Page, survival_page: Page):
    for found in (page, survival_page):
        assert found.unbalanced == []
        ids = [e.attributes["id"] for e in found.elements if "id" in e.attributes]
        assert len(ids) == len(set(ids))
        links = [e.attributes[k] for e in found.elements for k in ("href", "xlink:href") if k in e.attributes]
        links += [f"#{name}" for name in re.findall(r"url\(#([^)]+)\)", found.source)]
        assert {link[1:] for link in links if link.startswith("#")} <= set(ids)


def test_every_chart_has_a_name_a_caption_and_its_data(page: Page, survival_page: Page):
    for found in (page, survival_page):
        drawings = found.all("svg")
        assert len(drawings) >= 5
        assert all(e.attributes["role"] == "img" and e.attributes["aria-label"] for e in drawings)
        charts = [e for e in found.all("figure") if "id" in e.attributes]
        assert len(charts) == len(drawings)
        assert all("Data of this figure" in e.words for e in charts)
        assert len(found.all("figcaption")) >= len(charts)
        assert all(e.attributes.get("scope") == "col" for e in found.all("th"))
        assert all(e.attributes["alt"] for e in found.all("img"))


def test_performance_captions_say_which_predictions_they_use(page: Page, survival_page: Page):
    for found in (page, survival_page):
        for e in found.all("figure"):
            if e.attributes.get("id", "").startswith(("roc", "calibration", "decision", "risk", "side")):
                assert "each patient predicted by models fitted without that patient" in e.words
            if e.attributes.get("id", "").startswith("shap"):
                assert "Final model, training patients: explanation, not performance." in e.words


def test_calibration_says_what_the_data_cannot_show(page: Page):
    words = page.section("calibration")
    assert "fixed by design under random resampling: no evidence" in words
    assert "below 100 of one of them; the recalibration line is drawn instead" in words
    assert "loess with" not in words


def test_each_figure_is_there_as_pdf_png_and_data_without_times(binary_run: Path, page: Page):
    folder = binary_run / "report" / "figures"
    names = [e.attributes["id"] for e in page.all("figure") if "id" in e.attributes]
    assert {p.stem for p in folder.iterdir()} == set(names)
    for name in names:
        pdf = (folder / f"{name}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF")
        assert b"/CreationDate" not in pdf
        assert b"/Type3" not in pdf
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream)
        assert rows
        assert all(len(row) == len(header) for row in rows)


def test_the_same_run_gives_the_same_bytes(survival_run: Path, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(survival_run, copy, ignore=shutil.ignore_patterns("report", "model_card.md"))
    # The folder's name is the run's identity and stands in the page.
    copy = copy.rename(tmp_path / survival_run.name)
    make_report(copy)
    for file in [*sorted((copy / "report").rglob("*.*")), copy / "model_card.md"]:
        assert file.read_bytes() == (survival_run / file.relative_to(copy)).read_bytes(), file.name


def test_no_patient_is_named(page: Page, binary_run: Path):
    patients = {row["id"] for row in simulate_rows(missing=0.05)}
    card = (binary_run / "model_card.md").read_text()
    words = set(re.findall(r"P\d{3}", page.source + card))
    assert not words & patients


def test_hostile_labels_are_text(fit_run: Any):
    rows = simulate_rows()
    evil = "<script>alert(1)</script>"
    for row in rows:
        row["sex"] = {"female": "<b>f</b>", "male": "$m_1$ & \"'"}[row["sex"]]
        row["outcome"] = {"bad": evil, "good": "g<i>ood"}[row["outcome"]]
    run = fit_run(
        rows,
        study={"sampling": "cohort", "title": f"T{evil}", "endpoint": f"E{evil}", "population": "</style><img src=x>"},
        target={"kind": "binary", "column": "outcome", "positive": evil, "negative": "g<i>ood"},
        decision={"action": evil, "act_on": evil, "thresholds": [0.2, 0.4], "why": "</svg>" + evil},
        inputs={
            "age": {"kind": "number", "label": f"A{evil}", "unit": "<y>", "available": "diagnosis"},
            "marker": {
                "kind": "lab",
                "label": "$\\frac{a}{b}$ | [x](http://y)",
                "unit": "U/L",
                "available": "diagnosis",
            },
            "sex": {"kind": "binary", "levels": ["<b>f</b>", "$m_1$ & \"'"], "available": "diagnosis"},
        },
    )
    page = Page(run / "report" / "report.html")
    assert page.unbalanced == []
    assert not page.all("script") + page.all("b") + page.all("i") + page.all("y") + page.all("img")
    assert page.all("h1")[0].words == f"T{evil}"
    assert evil in page.section("decision")
    assert any(f"A{evil}" in e.words for e in page.all("text"))
    assert any("$\\frac{a}{b}$" in e.words for e in page.all("text"))
    card = (run / "model_card.md").read_text()
    assert "<script" not in card
    assert "<img" not in card


def test_builder_escapes_text_and_keeps_markup():
    assert tag("p", "a<b", Markup("<i>x</i>"), None, title='"q"') == '<p title="&quot;q&quot;">a&lt;b<i>x</i></p>'
    assert "&lt;td&gt;" in table(["h"], [["<td>"]], "c")
    assert number(float("nan"), 2) == "–"
    assert number(-0.5, 1) == '<data value="-0.5">\N{MINUS SIGN}0.5</data>'


def contrast(one: str, two: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    a, b = sorted((light(one), light(two)))
    return (b + 0.05) / (a + 0.05)


def test_text_has_contrast_of_four_and_a_half_in_both_themes_and_curves_of_three(page: Page):
    themes = re.findall(r":root \{(.*?)\}", page.source, flags=re.DOTALL)[:2]
    assert len(themes) == 2
    for theme in themes:
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", theme))
        for text in ("ink", "quiet", "blue"):
            for ground in ("paper", "ground"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        assert contrast(colours["ink"], colours["warn"]) >= 4.5
        for series in ("blue", "vermillion", "green", "purple"):
            assert contrast(colours[series], colours["paper"]) >= 3, series


def test_page_is_made_for_phones_dark_rooms_and_paper(page: Page):
    style = page.all("style")[0].words
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style
    assert "details::details-content" in style
    assert page.all("meta", name="viewport")[0].attributes["content"].startswith("width=device-width")
    drawn = "".join(re.findall(r"<svg.*?</svg>", page.source, flags=re.DOTALL))
    assert "var(--ink)" in drawn
    assert "#1b1f24" not in drawn


def test_the_nomogram_is_embedded_or_its_absence_explained(page: Page, survival_page: Page):
    images = page.all("img")
    assert {e.attributes["alt"] for e in images} == {"Nomogram of clinical", "Nomogram of paper"}
    assert "no nomogram, because left out in this test" in survival_page.section("nomogram")


def test_model_card_holds_use_numbers_limits_and_hashes(binary_run: Path):
    card = (binary_run / "model_card.md").read_text()
    metrics = json.loads((binary_run / "metrics.json").read_text())
    for name, facts in metrics["predictors"].items():
        found = facts["out_of_fold"]
        area, slope = found["auc"], found["slope"]["value"]
        row = f"| {name} | {area['value']:.2f} ({area['low']:.2f} to {area['high']:.2f}) | {slope:.2f} |"
        assert row in card
    assert "SYNTHETIC DATA" in card
    assert "Research use only" in card
    assert "No external validation" in card
    assert "biopsy, at risks from 20 to 50 %" in card
    manifest = json.loads((binary_run / "bundle" / "manifest.json").read_text())
    assert manifest["schema_sha256"] in card
