"""Compose the chart: header, points ruler, predictors, totals and outcomes, notes, steps, worked example, footer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from osml.errors import InvalidInputError
from osml.nomogram import words
from osml.nomogram.algebra import Nomogram
from osml.nomogram.canvas import ASCENT, DESCENT, Geometry, Group, Ink, Line, Mark, Page, Polygon, Text
from osml.nomogram.fonts import MM_PER_PT, FontSet, Style
from osml.nomogram.frame import Block, Frame
from osml.nomogram.metadata import NOTICE
from osml.nomogram.outcome_axis import full_total
from osml.nomogram.overlay import Placement, overlay
from osml.nomogram.patient import WorkedExample
from osml.nomogram.rows import predictor_rows
from osml.nomogram.scales import outcome_rows, ruler, total_row
from osml.nomogram.theme import PageStyle

MIN_GAP, ROOMY_GAP, WIDE_GAP = 0.7, 1.8, 12.0
Strip = tuple[tuple[Mark, ...], float]


@dataclass(frozen=True)
class Chart:
    """Pages of the chart, and what found no room on them: the five steps, the notes."""

    pages: tuple[Page, ...]
    steps_inside: bool
    notes_left: tuple[str, ...]


def make_chart(
    nomogram: Nomogram, style: PageStyle, fonts: FontSet, example: WorkedExample | None = None, grow: bool = False
) -> Chart:
    """Lay the chart out.

    When the page is full the steps leave it, then the notes, then predictors continue on further pages, each with its
    own points ruler. With `grow`, the one page becomes as tall as it must.
    """
    frame = _frame(nomogram, style, fonts, example)
    rows, tail = predictor_rows(nomogram, frame), [total_row(nomogram, frame), *outcome_rows(nomogram, frame)]
    head, top = header_marks(nomogram, style, fonts)
    steps: Strip = _steps(style, fonts) if style.sheet else ((), 0.0)
    sentences = tuple(words.notes(nomogram, frame.x1 - frame.x0))
    full = _under(style, fonts, example, sentences)
    foot = foot_height(nomogram, style, fonts)
    sheet = Sheet(nomogram, frame, style, head, top, foot, ruler(frame), example)
    need = top + _stack([sheet.rule, *rows, *tail], MIN_GAP) + foot + style.margin
    if style.height is None or grow:
        roomy = need + (ROOMY_GAP - MIN_GAP) * (len(rows) + len(tail)) + full[1] + steps[1]
        tall = replace(sheet, style=replace(style, height=max(roomy, style.height or 0.0)))
        return Chart((_page(tall, rows, tail, [full, steps]),), True, ())
    if need + full[1] + steps[1] <= style.height:
        return Chart((_page(sheet, rows, tail, [full, steps]),), True, ())
    if need + full[1] <= style.height:
        return Chart((_page(sheet, rows, tail, [full]),), False, ())
    short = _under(style, fonts, example, words.short_notes(nomogram))
    if need + short[1] <= style.height:
        return Chart((_page(sheet, rows, tail, [short]),), False, sentences)
    return Chart(tuple(_several(sheet, rows, tail, short)), False, sentences)


@dataclass(frozen=True)
class Sheet:
    """What every page of one chart shares."""

    nomogram: Nomogram
    frame: Frame
    style: PageStyle
    head: tuple[Mark, ...]
    top: float
    foot: float
    rule: Block
    example: WorkedExample | None


def _frame(nomogram: Nomogram, style: PageStyle, fonts: FontSet, example: WorkedExample | None) -> Frame:
    left = style.margin + style.label_width
    small = style.small * MM_PER_PT
    right = style.width - style.margin
    column = fonts.width("points", style.small, "bold") + 3.0 if example is not None else 0.0
    return Frame(fonts, style, left + 1.0, left + 3.0 + 1.2 * small, right - column - 2.0 * small, right - column)


def _several(sheet: Sheet, rows: list[Block], tail: list[Block], under: Strip) -> list[Page]:
    """Spread predictors evenly over as few pages as hold them; totals and outcomes stand on the last one."""
    style = sheet.style
    assert style.height is not None
    fixed = sheet.top + sheet.foot + style.margin + sheet.rule.height + MIN_GAP
    room = style.height - fixed - style.line - 1.0
    room_last = style.height - fixed - under[1] - _stack(tail, MIN_GAP)
    if room_last < 0 or max(b.height for b in rows) + MIN_GAP > room:
        raise InvalidInputError(
            "the notes and the worked example leave no room for the axes on the page",
            do="Shorten the definitions, warnings and labels, or draw to SVG, whose page grows.",
        )
    parts: list[list[Block]] = []
    for count in range(2, len(rows) + 2):
        parts = _spread(rows, _stack(rows, MIN_GAP) / (count - 1 + room_last / room), room, room_last, count)
        if parts:
            break
    note = _continued(style, sheet.frame.fonts)
    last = len(parts) - 1
    return [_page(sheet, p, tail if i == last else [], [under if i == last else note]) for i, p in enumerate(parts)]


def _spread(rows: list[Block], share: float, room: float, room_last: float, count: int) -> list[list[Block]]:
    """Rows on `count` pages, each filled to about `share`; empty when they do not fit."""
    parts: list[list[Block]] = [[]]
    for row in rows:
        used = _stack(parts[-1], MIN_GAP)
        over = used + row.height + MIN_GAP > room or (used + row.height / 2 > share and len(parts) < count)
        if over and parts[-1] and len(parts) < count:
            parts.append([])
        parts[-1].append(row)
    while len(parts) < count:
        parts.append([])
    fits = all(_stack(p, MIN_GAP) <= room for p in parts[:-1]) and _stack(parts[-1], MIN_GAP) <= room_last
    return parts if fits else []


def _continued(style: PageStyle, fonts: FontSet) -> Strip:
    text = "Continued on the next page: add the points of all pages before reading Total points."
    marks, y = paragraph(style, fonts, text, 1.0, face="bold", role="continued")
    return tuple(marks), y


def _page(sheet: Sheet, rows: list[Block], tail: list[Block], texts: Sequence[Strip]) -> Page:
    nomogram, frame, style, example = sheet.nomogram, sheet.frame, sheet.style, sheet.example
    rule, head, top = sheet.rule, sheet.head, sheet.top
    assert style.height is not None
    bottom = style.height - style.margin - sheet.foot - sum(h for _, h in texts)
    blocks = [rule, *rows, *tail]
    free = bottom - top - sum(b.height for b in blocks)
    gap = min(max(free / max(len(blocks), 1), MIN_GAP), WIDE_GAP if style.sheet else ROOMY_GAP)
    y, placed = top, list[Placement]()
    for block in blocks:
        placed.append(Placement(block, y + block.top))
        y += block.height + gap
    last = placed[len(rows)]
    grid = [
        Line(frame.x(v), placed[0].y, frame.x(v), last.y + max(last.block.lines) + 0.3, 0.15, "grid", role="grid")
        for v in range(0, 101, 10)
    ]
    marks: list[Mark] = [Group("grid", tuple(grid)), *head]
    lines, over = overlay(nomogram, frame, placed, example, bool(tail)) if example is not None else ([], [])
    if lines:
        # Under the axes: the paper behind a label interrupts a line that would cross it.
        marks.append(Group("patient-lines", tuple(lines)))
    marks += [
        Group(
            "axis",
            tuple(m.moved(p.y) for m in p.block.marks),
            (("axis", p.block.name), ("kind", p.block.role)),
        )
        for p in placed
    ]
    if over:
        marks.append(Group("patient", tuple(over)))
    at = bottom
    for text, height in texts:
        marks += [m.moved(at) for m in text]
        at += height
    marks += footer_marks(nomogram, style, frame.fonts)
    rows_at = tuple((p.block.role, p.block.name, tuple(p.y + dy for dy in p.block.lines)) for p in placed)
    geometry = Geometry(frame.x0, frame.x1, full_total(nomogram), rows_at)
    return Page(style.width, style.height, tuple(marks), words.title(nomogram), words.description(nomogram), geometry)


def _stack(blocks: Sequence[Block], gap: float) -> float:
    return sum(b.height + gap for b in blocks)


def paragraph(
    style: PageStyle,
    fonts: FontSet,
    text: str,
    y: float,
    ink: Ink = "ink",
    face: Style = "regular",
    role: str = "",
    left: float = 0.0,
    width: float | None = None,
) -> tuple[list[Mark], float]:
    """Wrapped small text whose top is at `y`, and where it ends."""
    marks: list[Mark] = []
    limit = style.width - 2 * style.margin if width is None else width
    em = style.small * MM_PER_PT
    for line in fonts.wrap(text, style.small, limit, face):
        marks.append(Text(style.margin + left, y + ASCENT * em, line, style.small, face, ink, "start", role))
        y += style.line
    return marks, y


def header_marks(
    nomogram: Nomogram, style: PageStyle, fonts: FontSet, *, banners: bool = True
) -> tuple[tuple[Mark, ...], float]:
    """Title, first line and banners; on a column figure the first line only."""
    marks: list[Mark] = []
    y = style.margin
    if style.sheet:
        em = style.title * MM_PER_PT
        for line in fonts.wrap(words.title(nomogram), style.title, style.width - 2 * style.margin, "bold"):
            marks.append(Text(style.margin, y + ASCENT * em, line, style.title, "bold", "ink", "start", "title"))
            y += 1.2 * em
        y += 0.6
    drawn, y = paragraph(style, fonts, words.first_line(nomogram), y, "muted", role="first-line")
    marks += drawn
    for text in words.banners(nomogram) if banners else ():
        drawn, after = paragraph(
            style,
            fonts,
            text,
            y + 0.8,
            "warning",
            "bold",
            "banner",
            left=2.5,
            width=style.width - 2 * style.margin - 2.5,
        )
        marks.append(
            Polygon(
                (
                    (style.margin, y + 0.8),
                    (style.margin + 1.0, y + 0.8),
                    (style.margin + 1.0, after),
                    (style.margin, after),
                ),
                "warning",
            )
        )
        marks += drawn
        y = after
    return tuple(marks), y + 2.0


def _under(style: PageStyle, fonts: FontSet, example: WorkedExample | None, sentences: Sequence[str]) -> Strip:
    """Worked example and notes under the chart, from 0 downwards."""
    marks: list[Mark] = []
    y = 1.6
    if example is not None:
        text = "Worked example. " + " ".join(example.sentences())
        drawn, y = paragraph(style, fonts, text, y, "patient", role="example")
        marks += drawn
        y += 0.8
    drawn, y = paragraph(style, fonts, " ".join(sentences), y, "muted", role="notes")
    return (*marks, *drawn), y + 1.2


def _steps(style: PageStyle, fonts: FontSet) -> Strip:
    """How to read it, in five columns."""
    marks: list[Mark] = []
    em = style.small * MM_PER_PT
    width = (style.width - 2 * style.margin) / len(words.STEPS)
    lowest = 0.0
    for i, step in enumerate(words.STEPS):
        left = i * width
        marks.append(
            Text(style.margin + left, 0.8 + ASCENT * em, str(i + 1), style.small, "bold", "accent", "start", "step")
        )
        drawn, y = paragraph(style, fonts, step, 0.8, role="step", left=left + 3.6, width=width - 6.0)
        marks += drawn
        lowest = max(lowest, y)
    return tuple(marks), lowest + 0.8


def foot_height(nomogram: Nomogram, style: PageStyle, fonts: FontSet) -> float:
    """Height of the footer above the margin, mm."""
    return 3.2 + max(len(_provenance(nomogram, style, fonts)), 1) * style.line


def _provenance(nomogram: Nomogram, style: PageStyle, fonts: FontSet) -> list[str]:
    room = style.width - 2 * style.margin - fonts.width(NOTICE, style.small, "bold") - 4.0
    text = words.footer(nomogram)
    return fonts.wrap(text, style.small, room) if text else []


def footer_marks(nomogram: Nomogram, style: PageStyle, fonts: FontSet) -> list[Mark]:
    """Provenance on the left, the notice on the right, under a rule."""
    assert style.height is not None
    base = style.height - style.margin - DESCENT * style.small * MM_PER_PT
    right = style.width - style.margin
    lines = _provenance(nomogram, style, fonts)
    top = base - max(len(lines), 1) * style.line - 0.6
    marks: list[Mark] = [
        Line(style.margin, top, right, top, 0.15, "muted"),
        Text(right, base, NOTICE, style.small, "bold", "ink", "end", "notice"),
    ]
    for i, line in enumerate(reversed(lines)):
        y = base - i * style.line
        marks.append(Text(style.margin, y, line, style.small, "regular", "muted", "start", "provenance"))
    return marks
