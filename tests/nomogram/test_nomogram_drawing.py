"""Sheets: nothing overlaps or leaves the page, type is large enough, fonts embedded, bytes stable."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nomogram_models import birthwt, interaction_model, lung, random_nomogram
from pypdf import PdfReader

from osml.errors import InvalidInputError
from osml.nomogram import (
    CoxOutcome,
    Interval,
    LogisticOutcome,
    Nomogram,
    Predictor,
    build,
    draw,
    from_coefficients,
    from_json,
    to_json,
)
from osml.nomogram.canvas import Page, Text, collisions
from osml.nomogram.draw import chart_page, pages
from osml.nomogram.fonts import FontSet
from osml.nomogram.metadata import NOTICE
from osml.nomogram.theme import PAGES, THEMES
from osml.stats.terms import Linear, LinearModel

FONTS = FontSet()
PATIENT = {"age": 25, "lwt": 110, "race": "black", "smoke": "yes", "ptd": "no", "ht": "no", "ui": "no"}


def check(drawn: list[Page], page: str) -> None:
    smallest = 9.0 if PAGES[page].sheet else 7.0
    for sheet in drawn:
        assert collisions(sheet, FONTS) == []
        texts = sheet.texts()
        assert min(t.size for t in texts) >= smallest
        assert NOTICE in [t.text for t in texts]


SHEETS = {
    "seed": st.integers(0, 10**6),
    "cox": st.booleans(),
    "k": st.integers(2, 25),
    "page": st.sampled_from(list(PAGES)),
    "worked": st.booleans(),
}


def check_random_sheet(seed: int, cox: bool, k: int, page: str, worked: bool) -> None:
    n, _ = random_nomogram(seed, cox=cox, k=k)
    rng = np.random.default_rng(seed)
    patient = None
    if worked:
        patient = {
            p.name: float(rng.integers(len(p.levels))) if p.kind == "category" else float(rng.uniform(*p.bounds))
            for p in n.predictors
        }
    check(pages(n, page=page, patient=patient), page)
    check([chart_page(n, page=page, patient=patient)], page)


@settings(max_examples=4, deadline=None)
@given(**SHEETS)
def test_random_sheets_have_no_collisions(seed: int, cox: bool, k: int, page: str, worked: bool) -> None:
    check_random_sheet(seed, cox, k, page, worked)


@pytest.mark.full
@settings(max_examples=60, deadline=None)
@given(**SHEETS)
def test_many_random_sheets_have_no_collisions(seed: int, cox: bool, k: int, page: str, worked: bool) -> None:
    check_random_sheet(seed, cox, k, page, worked)


def test_every_axis_and_end_is_labelled() -> None:
    n = birthwt()
    texts = [t.text for t in chart_page(n).texts()]
    for p in n.predictors:
        assert any(p.label in t for t in texts)
        wanted = p.levels if p.kind == "category" else [f"{v:g}" for v in p.bounds]
        for word in wanted:
            assert any(t == word or t.startswith(f"{word} ·") for t in texts), (p.name, word)
    assert {"0", "100", "Points", "Total points"} <= set(texts)


def test_the_number_of_pages_follows_the_number_of_predictors() -> None:
    few, many = random_nomogram(1, k=4)[0], random_nomogram(1, k=25)[0]
    assert len(pages(few)) == 2
    assert len(pages(many)) > 2
    assert any("Continued on the next page" in t.text for p in pages(many) for t in p.texts())


@pytest.mark.parametrize("page", ["column", *(pytest.param(p, marks=pytest.mark.full) for p in ("a4", "letter"))])
@pytest.mark.parametrize("ending", ["pdf", "svg", "png"])
def test_two_runs_give_the_same_bytes(tmp_path: Path, page: Any, ending: str) -> None:
    n = birthwt(interval=Interval("wald"))
    first = draw(n, tmp_path / f"a.{ending}", page=page, patient=PATIENT).read_bytes()
    again = draw(from_json(to_json(n)), tmp_path / f"b.{ending}", page=page, patient=PATIENT).read_bytes()
    assert hashlib.sha256(first).hexdigest() == hashlib.sha256(again).hexdigest()


def test_pdf_fonts_are_embedded_and_text_can_be_selected(tmp_path: Path) -> None:
    path = draw(birthwt(metadata={"title": "Low birth weight β"}), tmp_path / "n.pdf")
    reader = PdfReader(io.BytesIO(path.read_bytes()))
    assert len(reader.pages) == 2
    for page in reader.pages:
        text = page.extract_text()
        assert NOTICE in text
        assert "Low birth weight β" in text
        for font in page["/Resources"]["/Font"].values():  # type: ignore[index]
            descriptor = font["/DescendantFonts"][0] if "/DescendantFonts" in font else font
            assert "/FontFile2" in descriptor["/FontDescriptor"], "a font is not embedded as TrueType"
    chart = reader.pages[0].extract_text()
    for word in (
        "Points",
        "Total points",
        "white · 96 (51 %)",
        ["Go", "straight", "down", "and", "read", "the", "probability"][0],
    ):
        assert word in chart
    assert {"/CreationDate", "/ModDate"} & set(reader.metadata or {}) == set()
    assert [round(float(v)) for v in reader.pages[0].mediabox[2:]] == [842, 595]


def test_svg_holds_its_font_and_no_address(tmp_path: Path) -> None:
    text = draw(birthwt(), tmp_path / "n.svg").read_text(encoding="utf-8")
    assert "data:font/ttf;base64," in text
    assert text.count("http") == text.count("http://www.w3.org/2000/svg") == 1


def test_a_missing_glyph_fails_with_its_name(tmp_path: Path) -> None:
    n = from_coefficients(
        {"Intercept": 0.0, "x": 1.0}, [Predictor("x", low=0, high=1, label="年龄")], LogisticOutcome("relapse")
    )
    with pytest.raises(InvalidInputError, match=r"(?s)U\+5E74.*fonts=") as caught:
        draw(n, tmp_path / "n.pdf")
    assert "年" in str(caught.value)
    with pytest.raises(InvalidInputError, match="does not exist"):
        draw(n, tmp_path / "n.pdf", fonts=[tmp_path / "none.ttf"])
    (tmp_path / "bad.ttf").write_text("no font")
    with pytest.raises(InvalidInputError, match="not a font"):
        draw(n, tmp_path / "n.pdf", fonts=[tmp_path / "bad.ttf"])


FOLDER = Path("/usr/share/fonts/truetype")
CJK = [p for p in (FOLDER / "wqy" / "wqy-zenhei.ttc", FOLDER / "droid" / "DroidSansFallbackFull.ttf") if p.is_file()]


@pytest.mark.skipif(not CJK, reason="no CJK font: apt-get install fonts-wqy-zenhei")
def test_chinese_prints_with_a_font_that_has_it(tmp_path: Path) -> None:
    n = from_coefficients(
        {"Intercept": 0.0, "x": 1.0},
        [Predictor("x", low=0, high=1, label="年龄", unit="岁")],
        LogisticOutcome("复发"),
        metadata={"title": "骨肉瘤复发风险"},
    )
    path = draw(n, tmp_path / "n.pdf", fonts=CJK[:1])
    assert "年龄 (岁)" in PdfReader(io.BytesIO(path.read_bytes())).pages[0].extract_text()
    assert collisions(chart_page(n, fonts=FontSet(CJK[:1])), FontSet(CJK[:1])) == []


def test_labels_are_not_mathematics_or_markup(tmp_path: Path) -> None:
    label = "cost $x$ & <b>bold</b> \\alpha"
    n = from_coefficients(
        {"Intercept": 0.0, "x": 1.0}, [Predictor("x", low=0, high=1, label=label)], LogisticOutcome("e")
    )
    text = PdfReader(io.BytesIO(draw(n, tmp_path / "n.pdf").read_bytes())).pages[0].extract_text()
    assert "$x$" in text
    svg = draw(n, tmp_path / "n.svg").read_text(encoding="utf-8")
    assert "<b>" not in svg
    assert "&lt;b&gt;" in svg


def test_unprintable_text_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"U\+000A"):
        Predictor("x", low=0, high=1, label="two\nlines")


def test_a_spline_that_turns_is_drawn_on_separate_lines() -> None:
    page = chart_page(birthwt())
    assert page.geometry is not None
    lines = {name: ys for _, name, ys in page.geometry.rows}
    assert len(lines["lwt"]) == 3
    assert len(lines["age"]) == 1


def test_each_level_of_a_modifier_has_its_row() -> None:
    model, predictors = interaction_model()
    page = chart_page(build(model, predictors, LogisticOutcome("e")))
    assert page.geometry is not None
    assert [name for _, name, _ in page.geometry.rows][1:3] == ["age|sex=0", "age|sex=1"]
    assert "if sex = male" in [t.text for t in page.texts()]


def titles(n: Nomogram) -> str:
    return " ".join(t.text for t in chart_page(n).texts() if t.role == "axis-title")


def test_survival_or_risk_never_both() -> None:
    assert "Risk of" not in titles(lung("survival"))
    assert "Probability of no death by 182 days" in titles(lung("survival"))
    assert "Probability of no" not in titles(lung("risk"))


def test_a_horizon_with_few_at_risk_has_no_axis() -> None:
    n = lung(at_risk=(150, 60, 9))
    assert "730" not in titles(n)
    assert any("No axis for 730" in t.text for t in chart_page(n).texts())


def test_the_median_is_drawn_where_it_is_reached() -> None:
    times = tuple(float(t) for t in range(1, 61))
    steps = tuple(float(np.exp(-0.02 * t)) for t in times)
    outcome = CoxOutcome("death", (12.0,), (steps[11],), "months", baseline_times=times, baseline_survival=steps)
    n = from_coefficients({"x": 1.0}, [Predictor("x", low=-2, high=2)], outcome)
    assert "Median time to death (months)" in titles(n)
    never = CoxOutcome("death", (12.0,), (0.999,), "months", baseline_times=(12.0,), baseline_survival=(0.999,))
    assert "Median" not in titles(from_coefficients({"x": 1.0}, [Predictor("x", low=-2, high=2)], never))


def test_what_the_sheet_must_say() -> None:
    n = birthwt(
        metadata={
            "population": "mothers",
            "centre": "Springfield",
            "period": "1986",
            "time_of_prediction": "at booking",
            "n": 189,
            "events": 59,
            "parameters": 10,
            "exploratory": "189 patients; Riley's criteria ask for 900.",
            "warnings": ["The slope is 0.7."],
            "accepted": {"OSML041": "pilot study"},
            "performance": [{"measure": "C", "apparent": 0.76, "corrected": 0.7, "low": 0.6, "high": 0.8}],
            "provenance": {"model": "m1", "hash": "abc"},
        }
    )
    first, second = ("\n".join(t.text for t in p.texts()) for p in pages(n))
    joined = first.replace("\n", " ")
    for words in (
        "Springfield",
        "1986",
        "at booking",
        "no external validation",
        "EXPLORATORY",
        "Accepted OSML041: pilot study",
    ):
        assert words in joined
    for words in (
        "Equation",
        "lwt''",
        "0.5871",
        "knots at 94.4, 115, 130.2, 188.2",
        "5.9 events per parameter",
        "0.700",
        "abc",
    ):
        assert words in second
    assert "No interval available." in second


def test_a_score_axis_says_so_and_not_known_has_points() -> None:
    p = Predictor("x", low=0, high=1, by_hand=False, second_reader=(0.02, 0.07), unknown=0.5)
    n = from_coefficients({"Intercept": 0.0, "x": 1.0}, [p], LogisticOutcome("e"))
    text = " ".join(t.text for t in chart_page(n).texts() if t.role == "axis-note")
    for words in ("cannot be read by hand", "0.02", "0.07", "not known: 50.0 points"):
        assert words in text


def test_levels_with_few_events_are_marked() -> None:
    p = Predictor("g", "category", levels=("a", "b"), level_counts=(90, 10), level_events=(30, 4))
    texts = [
        t.text for t in chart_page(from_coefficients({"Intercept": 0.0, "g=b": 1.0}, [p], LogisticOutcome("e"))).texts()
    ]
    assert "b · 10 (10 %) †" in texts
    assert "a · 90 (90 %)" in texts
    assert any("† fewer than 5 events" in t for t in texts)


def test_constant_and_tied_levels_stay_readable() -> None:
    levels = tuple(f"a rather long level name, number {i}" for i in range(6))
    p = Predictor("g", "category", levels=levels)
    q = Predictor("x", low=0, high=1)
    coefficients = {"Intercept": 0.0, "x": 1.0} | {
        f"g={level}": b for level, b in zip(levels[1:], (0, 0, 0.5, 0.5, 0.5), strict=True)
    }
    n = from_coefficients(coefficients, [p, q], LogisticOutcome("e"))
    for page in PAGES:
        check([chart_page(n, page=page)], page)
    flat = build(
        LinearModel((Linear("x"), Linear("y")), np.array([1.0, 0.0]), 0.0),
        [q, Predictor("y", low=0, high=5)],
        LogisticOutcome("e"),
    )
    assert "0 to 5" in [t.text for t in chart_page(flat).texts()]


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", list(THEMES))
def test_text_has_contrast_in_both_themes(theme: str) -> None:
    colours = THEMES[theme]
    paper = luminance(colours["paper"])
    for ink in ("ink", "muted", "accent", "patient", "warning"):
        light, dark = sorted((paper, luminance(colours[ink])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, ink


def test_overlap_is_detected() -> None:
    a = Text(10, 10, "one", 9)
    page = Page(50, 50, (a, Text(11, 10.5, "two", 9), Text(49, 20, "outside", 9)))
    assert len(collisions(page, FONTS)) == 2


@pytest.mark.parametrize(
    ("options", "message"), [({"page": "a5"}, "unknown page"), ({"theme": "neon"}, "unknown theme")]
)
def test_unknown_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        draw(birthwt(), tmp_path / "n.pdf", **options)
    with pytest.raises(InvalidInputError, match="ends in"):
        draw(birthwt(), tmp_path / "n.docx")
