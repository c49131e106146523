"""Independent readers: one sees only the SVG's tick coordinates, one only the printed points table."""

from __future__ import annotations

import re

import numpy as np
import pytest
from nomogram_models import SvgReader, TableReader, birthwt, interaction_model, lung, random_nomogram

from osml.nomogram import LogisticOutcome, Nomogram, build, points_table, reading_error, synthetic_cases
from osml.nomogram.draw import chart_page
from osml.nomogram.fonts import FontSet
from osml.nomogram.svg import svg_text
from osml.nomogram.theme import page_style, theme_colours

# Coordinates are written to 0.0001 mm; a total adds up that of every axis.
ROUNDING = 2e-5


def svg(n: Nomogram, page: str = "a4") -> str:
    fonts = FontSet()
    return svg_text(chart_page(n, page=page, fonts=fonts), fonts, theme_colours("print"))


def stated(n: Nomogram, page: str = "a4") -> float:
    sheet = chart_page(n, page=page)
    assert sheet.geometry is not None
    error = reading_error(n, sheet.geometry.x1 - sheet.geometry.x0)
    text = " ".join(t.text for t in sheet.texts())
    match = re.search(r"by at most ([0-9.]+) percentage points", text)
    assert match is not None
    printed = float(match.group(1)) / 100
    assert printed >= error.probability
    assert page_style(page).name == page
    return printed


def worded(n: Nomogram, values: dict[str, np.ndarray], i: int) -> dict[str, float | str]:
    return {
        p.name: p.levels[int(values[p.name][i])] if p.kind == "category" else float(values[p.name][i])
        for p in n.predictors
    }


def largest_svg_error(n: Nomogram, text: str, seed: int = 9, cases: int = 60) -> tuple[float, int]:
    reader, values = SvgReader(text), synthetic_cases(n, cases, seed)
    exact = np.reshape(n.probability(values), (cases, -1))
    worst, read = 0.0, 0
    for i in range(cases):
        for j in range(exact.shape[1]):
            p = reader.probability(worded(n, values, i), j)
            if p is not None:
                worst, read = max(worst, abs(p - exact[i, j])), read + 1
    return worst, read


@pytest.mark.parametrize("page", ["a4", "column"])
@pytest.mark.parametrize(
    "make", [birthwt, lambda: lung("risk"), lambda: random_nomogram(5)[0], lambda: random_nomogram(8)[0]]
)
def test_the_svg_reader_agrees_within_the_stated_error(make, page: str) -> None:  # type: ignore[no-untyped-def]
    n = make()
    worst, read = largest_svg_error(n, svg(n, page))
    assert read >= 30
    assert worst <= stated(n, page) + ROUNDING


def test_a_moved_tick_makes_the_svg_reader_fail() -> None:
    n = birthwt()
    text = svg(n)
    part = text.index('data-axis="smoke"')
    x = re.compile(r'(<g class="tick" data-value="1">\n<line class="leader" x1=")([0-9.]+)')
    match = x.search(text, part)
    assert match is not None
    moved = f"{match.group(1)}{float(match.group(2)) + 6:.4f}"
    changed = text[: match.start()] + moved + text[match.end() :]
    worst, _ = largest_svg_error(n, changed)
    assert worst > 5 * stated(n)


def test_a_moved_outcome_tick_makes_the_svg_reader_fail() -> None:
    n = birthwt()
    text = svg(n)
    start = text.index('data-axis="outcome-0"')
    match = re.compile(r'(data-value="0\.5">\n<line class="tick-mark" x1=")([0-9.]+)').search(text, start)
    assert match is not None
    changed = text[: match.start()] + f"{match.group(1)}{float(match.group(2)) + 4:.4f}" + text[match.end() :]
    worst, _ = largest_svg_error(n, changed, cases=200)
    assert worst > 2 * stated(n)


def largest_table_error(n: Nomogram, text: str, cases: int = 200) -> float:
    reader, values = TableReader(text), synthetic_cases(n, cases, 4)
    exact = np.reshape(n.probability(values), (cases, -1))[:, 0]
    titles = {p.name: p.title for p in n.predictors}
    worst = 0.0
    for i in range(cases):
        named = {titles[name]: v for name, v in worded(n, values, i).items()}
        worst = max(worst, abs(reader.probability(named) - exact[i]))
    return worst


@pytest.mark.parametrize(
    "make", [birthwt, lambda: lung("risk"), *[lambda s=s: random_nomogram(s)[0] for s in (3, 5, 8, 11)]]
)
def test_the_table_reader_agrees_within_the_stated_error(make) -> None:  # type: ignore[no-untyped-def]
    n = make()
    table = points_table(n)
    assert largest_table_error(n, table.to_csv()) <= table.largest_error
    assert table.largest_error < 0.02


def test_a_changed_table_entry_makes_the_table_reader_fail() -> None:
    n = birthwt()
    table = points_table(n)
    text = table.to_csv()
    line = next(row for row in text.splitlines() if row.startswith("points,smoke,,yes,"))
    points = float(line.split(",")[4])
    changed = text.replace(line, f"points,smoke,,yes,{points + 2:.1f},")
    assert largest_table_error(n, changed) > table.largest_error


def test_the_table_of_an_interaction_has_rows_per_level() -> None:
    n = build(*interaction_model(), LogisticOutcome("relapse"))
    table = points_table(n)
    reader = TableReader(table.to_csv())
    for sex in (0, 1):
        given = {"age": f"sex = {('female', 'male')[sex]}"}
        p = reader.probability({"age": 47.3, "dose": 61.0}, given)
        exact = n.probability({"age": 47.3, "sex": sex, "dose": 61.0})[0]
        assert abs(p - exact) <= table.largest_error
