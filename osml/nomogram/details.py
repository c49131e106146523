"""Pages after the chart: the equation, what is known about the model, how it was checked, where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from osml.nomogram import words
from osml.nomogram.algebra import Nomogram
from osml.nomogram.bedside import bedside_points
from osml.nomogram.canvas import ASCENT, Anchor, Ink, Line, Mark, Page, Text
from osml.nomogram.chart import foot_height, footer_marks, header_marks
from osml.nomogram.equation import coefficient_rows, spline_text
from osml.nomogram.fonts import MM_PER_PT, FontSet, Style
from osml.nomogram.patient import NO_INTERVAL
from osml.nomogram.spec import CoxOutcome
from osml.nomogram.table import points_table
from osml.nomogram.theme import PageStyle
from osml.stats.terms import Interaction, Spline

GUTTER = 9.0


@dataclass(frozen=True)
class Piece:
    """A strip of a column: texts with their offset from the column's left edge, and the height they take."""

    height: float
    texts: tuple[tuple[float, str, Anchor, Style, Ink], ...] = ()
    ruled: bool = False
    keep: bool = False


def make_details(
    nomogram: Nomogram, style: PageStyle, fonts: FontSet, *, with_steps: bool, notes: Sequence[str]
) -> list[Page]:
    """Fill as many two-column pages as the sections need."""
    assert style.height is not None
    width = (style.width - 2 * style.margin - GUTTER) / 2
    pieces = _sections(nomogram, style, fonts, width, with_steps, notes)
    head, top = header_marks(nomogram, style, fonts, banners=False)
    bottom = style.height - style.margin - foot_height(nomogram, style, fonts)
    columns = _columns(pieces, bottom - top)
    out = []
    for first in range(0, len(columns), 2):
        marks: list[Mark] = [*head]
        for k, column in enumerate(columns[first : first + 2]):
            left = style.margin + k * (width + GUTTER)
            y = top
            for piece in column:
                marks += _piece_marks(piece, left, y, width, style)
                y += piece.height
        marks += footer_marks(nomogram, style, fonts)
        out.append(Page(style.width, style.height, tuple(marks), words.title(nomogram), words.description(nomogram)))
    return out


def _columns(pieces: Sequence[Piece], room: float) -> list[list[Piece]]:
    """Columns no taller than `room`; two of equal height, cut between sections, when that is enough."""
    heads = [i for i, piece in enumerate(pieces) if piece.ruled]
    cuts = [(max(_tall(pieces[:i]), _tall(pieces[i:])), i) for i in heads[1:]]
    if cuts and min(cuts)[0] <= room:
        cut = min(cuts)[1]
        return [list(pieces[:cut]), list(pieces[cut:])]
    columns: list[list[Piece]] = [[]]
    for i, piece in enumerate(pieces):
        needed = piece.height + sum(p.height for p in pieces[i + 1 : i + 3] if piece.keep)
        if _tall(columns[-1]) + needed > room and columns[-1]:
            columns.append([])
        if columns[-1] or piece.texts:
            columns[-1].append(piece)
    return columns


def _tall(pieces: Sequence[Piece]) -> float:
    return sum(piece.height for piece in pieces)


def _piece_marks(piece: Piece, left: float, y: float, width: float, style: PageStyle) -> list[Mark]:
    base = y + ASCENT * style.small * MM_PER_PT
    marks: list[Mark] = [
        Text(left + dx, base, text, style.small, face, ink, anchor) for dx, text, anchor, face, ink in piece.texts
    ]
    if piece.ruled:
        line = y + piece.height - 0.6
        marks.append(Line(left, line, left + width, line, 0.15, "muted"))
    return marks


def _sections(
    nomogram: Nomogram, style: PageStyle, fonts: FontSet, width: float, with_steps: bool, notes: Sequence[str]
) -> list[Piece]:
    made: list[Piece] = []
    m = nomogram.metadata

    def section(title: str, paragraphs: Sequence[str], table: list[Piece] | None = None) -> None:
        if made:
            made.append(Piece(2.4))
        made.append(Piece(style.line + 1.4, ((0.0, title, "start", "bold", "accent"),), True, True))
        made.extend(table or [])
        for text in paragraphs:
            made.extend(_paragraph(style, fonts, text, width))

    if with_steps:
        section("How to read it", [f"{i + 1}. {step}" for i, step in enumerate(words.STEPS)])
    if notes:
        section("Notes on the chart", notes)
    section("Equation", _equation_notes(nomogram), _coefficients(nomogram, style, fonts, width))
    section("Development", _development(nomogram))
    if m.get("performance"):
        section("Performance", [_validation(nomogram)], _performance(m["performance"], style, fonts, width))
    else:
        section("Performance", ["No performance was given.", _validation(nomogram)])
    interval = nomogram.interval
    section(
        "Interval of a probability",
        [NO_INTERVAL.capitalize() + "." if interval is None else interval.words[0].upper() + interval.words[1:] + "."],
    )
    section("Use on paper", [points_table(nomogram).words, bedside_points(nomogram).words])
    cautions = words.banners(nomogram)
    if cautions:
        section("Warnings", cautions)
    given = m.get("provenance", {})
    if given:
        section("Provenance", [f"{key}: {value}" for key, value in given.items()])
    return made


def _paragraph(style: PageStyle, fonts: FontSet, text: str, width: float) -> list[Piece]:
    lines = fonts.wrap(text, style.small, width)
    return [
        Piece(style.line + (0.6 if i == len(lines) - 1 else 0.0), ((0.0, t, "start", "regular", "ink"),))
        for i, t in enumerate(lines)
    ]


def _table(
    style: PageStyle, fonts: FontSet, width: float, head: Sequence[str], rows: Sequence[Sequence[str]]
) -> list[Piece]:
    """First column to the left and wrapped, the others right-aligned."""
    widths = [
        max(max(fonts.width(r[k], style.small) for r in rows), fonts.width(head[k], style.small, "bold")) + 3.5
        for k in range(1, len(head))
    ]
    rights = [width - sum(widths[k + 1 :]) for k in range(len(widths))]
    room = width - sum(widths)
    cells = tuple((x, text, "end", "bold", "ink") for x, text in zip(rights, head[1:], strict=True))
    out = [Piece(style.line + 0.6, ((0.0, head[0], "start", "bold", "ink"), *cells), keep=True)]  # type: ignore[arg-type]
    for row in rows:
        lines = fonts.wrap(row[0], style.small, room)
        for i, line in enumerate(lines):
            numbers = (
                tuple((x, text, "end", "regular", "ink") for x, text in zip(rights, row[1:], strict=True))
                if i == 0
                else ()
            )
            out.append(Piece(style.line, ((0.0, line, "start", "regular", "ink"), *numbers)))  # type: ignore[arg-type]
    out.append(Piece(1.2))
    return out


def _number(value: Any) -> str:
    if value is None:
        return "–"
    if not isinstance(value, int | float):
        return str(value)
    text = f"{value:.4f}" if 0.1 <= abs(value) < 1000 else f"{value:.4g}"
    return text.replace("-", "−")


def _measure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def _coefficients(nomogram: Nomogram, style: PageStyle, fonts: FontSet, width: float) -> list[Piece]:
    rows = coefficient_rows(nomogram.model)
    cox = isinstance(nomogram.outcome, CoxOutcome)
    rows = tuple(r for r in rows if not (cox and r.column == "Intercept"))
    names = _term_names(nomogram)
    if all(r.se is None for r in rows):
        short = [(names.get(r.column, r.column), _number(r.coef)) for r in rows]
        return _table(style, fonts, width, ("Term", "Coefficient"), short)
    body = [
        (names.get(r.column, r.column), _number(r.coef), _number(r.se), f"{_number(r.low)} to {_number(r.high)}")
        for r in rows
    ]
    return _table(style, fonts, width, ("Term", "Coefficient", "SE", "95 % CI"), body)


def _term_names(nomogram: Nomogram) -> dict[str, str]:
    """Columns with the label and unit of their predictor, where these say more than its name."""
    out: dict[str, str] = {}
    for term in nomogram.model.terms:
        if isinstance(term, Interaction):
            continue
        p = nomogram.predictor(term.input)
        if p.title != p.name:
            out |= {column: f"{column} · {p.title}" for column in term.columns[:1]}
    return out


def _equation_notes(nomogram: Nomogram) -> list[str]:
    outcome, model = nomogram.outcome, nomogram.model
    out = []
    if isinstance(outcome, CoxOutcome):
        out.append(
            f"lp = sum of coefficient × term − {_number(-model.intercept)}; survival to t = S0(t) ^ exp(lp), with"
        )
        out.append(
            "; ".join(f"S0({t:.10g}) = {s:.6g}" for t, s in zip(outcome.horizons, outcome.survival, strict=True))
            + f" ({outcome.unit})."
        )
    else:
        out.append("lp = sum of coefficient × term; probability = 1 / (1 + exp(−lp)).")
    if model.covariance is None:
        out.append("No standard errors: none is honest after shrinkage, selection or imputation.")
    references = [f"{p.label} {p.levels[p.reference]}" for p in nomogram.predictors if p.kind == "category"]
    if references:
        out.append(f"Reference levels: {'; '.join(references)}.")
    out += [f"{t.input}: {spline_text(t.knots)}." for t in model.terms if isinstance(t, Spline)]
    out.append("Full precision is in the JSON file.")
    return out


def _development(nomogram: Nomogram) -> list[str]:
    m = nomogram.metadata
    out = []
    if "n" in m and "events" in m:
        text = f"{m['n']} patients, {m['events']} events"
        if m.get("parameters"):
            smaller = (
                min(m["events"], m["n"] - m["events"]) if not isinstance(nomogram.outcome, CoxOutcome) else m["events"]
            )
            text += (
                f"; {m['parameters']} candidate parameters: {m['events'] / m['parameters']:.1f} events per parameter"
            )
            if smaller != m["events"]:
                text += f", {smaller / m['parameters']:.1f} of the smaller class"
        out.append(text + ".")
    out += [f"{key.capitalize()}: {m[key]}." for key in ("population", "centre", "period") if m.get(key)]
    return out or ["Not given."]


def _validation(nomogram: Nomogram) -> str:
    given = nomogram.metadata.get("validation")
    return f"{given[0].upper()}{given[1:]}." if given else "No external validation."


def _performance(rows: Sequence[dict[str, Any]], style: PageStyle, fonts: FontSet, width: float) -> list[Piece]:
    body = []
    for r in rows:
        span = (
            f"{_measure(r['low'])} to {_measure(r['high'])}"
            if r.get("low") is not None and r.get("high") is not None
            else "–"
        )
        body.append((str(r["measure"]), _measure(r.get("apparent")), _measure(r.get("corrected")), span))
    return _table(style, fonts, width, ("Measure", "Apparent", "Corrected", "95 % interval"), body)
