"""Strips of text, tables, bars and pictures that flow over the pages of a sheet; each page has its head and foot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from osml.nomogram.canvas import ASCENT, DESCENT, Circle, Ink, Line, Mark, Page, Polygon, Text
from osml.nomogram.fonts import MM_PER_PT, FontSet, Style

SIZES = {"a4": (210.0, 297.0), "letter": (215.9, 279.4)}
MARGIN, GUTTER = 16.0, 3.0
TITLE, LARGE, BODY, SMALL = 15.0, 22.0, 9.5, 8.5


@dataclass(frozen=True)
class Picture:
    """A PNG on a page, in mm."""

    x: float
    y: float
    width: float
    height: float
    png: bytes


@dataclass(frozen=True)
class Strip:
    """A band across the page: marks from 0 downwards.

    keep : stays on one page with the strip that follows
    head : stands above the strip where a page begins with it, such as the header of a table
    """

    height: float
    marks: tuple[Mark, ...] = ()
    pictures: tuple[Picture, ...] = ()
    keep: bool = False
    head: Strip | None = None


@dataclass(frozen=True)
class SheetPage:
    """A page and the pictures on it."""

    page: Page
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Cell:
    """What stands in a cell of a table."""

    text: str
    face: Style = "regular"
    ink: Ink = "ink"


@dataclass(frozen=True)
class Pen:
    """Makes strips for pages of one width."""

    fonts: FontSet
    width: float

    @property
    def room(self) -> float:
        """Between the margins, mm."""
        return self.width - 2 * MARGIN

    def lines(
        self, text: str, size: float = BODY, face: Style = "regular", ink: Ink = "ink", *, left: float = 0.0,
        room: float | None = None, keep: bool = False,
    ) -> list[Strip]:  # fmt: skip
        """A paragraph, one strip a line."""
        em = size * MM_PER_PT
        limit = (self.room - left) if room is None else room
        found = self.fonts.wrap(" ".join(text.split()), size, limit, face)
        return [
            Strip(
                1.28 * em, (Text(MARGIN + left, ASCENT * em, line, size, face, ink),), keep=keep or len(found) > 1 > i
            )
            for i, line in enumerate(found)
        ]

    def heading(self, text: str) -> list[Strip]:
        """A heading with a rule under it, never alone at the foot of a page."""
        strips = [Strip(4.0), *self.lines(text, 11.0, "bold", "accent", keep=True)]
        return [*strips, Strip(1.8, (Line(MARGIN, 0.2, self.width - MARGIN, 0.2, 0.15, "muted"),), keep=True)]

    def facts(self, rows: Sequence[tuple[str, str]], label: float = 38.0) -> list[Strip]:
        """Lines of a bold name and its words."""
        cells = [((Cell(name, "bold"), Cell(words))) for name, words in rows]
        return [self._row(row, (label, self.room - label), BODY) for row in cells]

    def table(self, header: Sequence[str], shares: Sequence[float], rows: Sequence[Sequence[Cell]]) -> list[Strip]:
        """A table whose cells wrap; its header stands again on each page."""
        widths = [share / sum(shares) * self.room for share in shares]
        head = self._ruled(self._row([Cell(text, "bold", "muted") for text in header], widths, SMALL))
        body = [replace(self._ruled(self._row(row, widths, BODY), "grid"), head=head) for row in rows]
        return [replace(head, keep=True), *body]

    def _row(self, cells: Sequence[Cell], widths: Sequence[float], size: float) -> Strip:
        em = size * MM_PER_PT
        marks: list[Mark] = []
        left, tallest = MARGIN, 1
        for cell, width in zip(cells, widths, strict=True):
            found = self.fonts.wrap(" ".join(cell.text.split()), size, width - GUTTER, cell.face)
            tallest = max(tallest, len(found))
            for i, line in enumerate(found):
                marks.append(Text(left, (1.28 * i + ASCENT) * em, line, size, cell.face, cell.ink))
            left += width
        return Strip(1.28 * em * tallest, tuple(marks))

    def _ruled(self, strip: Strip, ink: Ink = "muted") -> Strip:
        """With room around it and a line below."""
        at = strip.height + 1.9
        line = Line(MARGIN, at, self.width - MARGIN, at, 0.15, ink)
        return Strip(at + 0.2, (*(mark.moved(1.3) for mark in strip.marks), line))

    def warning(self, text: str) -> list[Strip]:
        """A sentence beside a bar."""
        strips = self.lines(text, BODY, "bold", "warning", left=3.0, keep=True)
        tall = sum(strip.height for strip in strips)
        bar = Polygon(((MARGIN, 0), (MARGIN + 1, 0), (MARGIN + 1, tall), (MARGIN, tall)), "warning")
        first = replace(strips[0], marks=(*strips[0].marks, bar))
        return [first, *strips[1:], Strip(1.4)]


def icons(left: float, top: float, filled: int) -> tuple[Mark, ...]:
    """A hundred circles in five rows, the filled ones first."""
    return tuple(
        Circle(left + 1.5 + 3.1 * (i % 20), top + 1.5 + 3.1 * (i // 20), 1.15, "ink", i < filled) for i in range(100)
    )


ICONS_WIDTH, ICONS_HEIGHT = 3.1 * 20, 3.1 * 5


def beside(left: Sequence[Strip], marks: tuple[Mark, ...], height: float) -> Strip:
    """Strips one below the other as a single one, with marks beside them."""
    found: list[Mark] = [*marks]
    y = 0.0
    for strip in left:
        found += [mark.moved(y) for mark in strip.marks]
        y += strip.height
    return Strip(max(y, height), tuple(found))


def bar(x0: float, x1: float, top: float, height: float, ink: Ink) -> Polygon:
    """A horizontal bar between two places."""
    low, high = sorted((x0, x1))
    return Polygon(((low, top), (high, top), (high, top + height), (low, top + height)), ink)


def paged(
    strips: Sequence[Strip], pen: Pen, height: float, title: str, foot: Sequence[str], notice: str, last: str = ""
) -> list[SheetPage]:
    """Pages that hold all strips, in order.

    Parameters
    ----------
    title : of the document; stands small above every page but the first
    foot : lines on the left of each page's foot
    notice : on the right of each page's foot
    last : words after the number of the last page
    """
    top, line = MARGIN, 1.28 * SMALL * MM_PER_PT
    room_foot = pen.room - pen.fonts.width(notice, SMALL, "bold") - 6.0
    feet = [part for text in foot for part in pen.fonts.wrap(text, SMALL, room_foot)]
    bottom = height - MARGIN - line * (len(feet) + 1) - 1.5
    sheets: list[tuple[list[Mark], list[Picture]]] = []
    y = bottom + 1.0  # the first strip begins a page
    for i, strip in enumerate(strips):
        tall = _together(strips, i)
        tall = tall if tall < (bottom - top) / 2 else strip.height  # what fills half a page may be divided
        if y + tall > bottom and (y > top + 12 or not sheets):
            sheets.append(([], []))
            y = top
            if len(sheets) > 1:
                running = pen.lines(pen.fonts.wrap(title, SMALL, pen.room)[0], SMALL, "regular", "muted")[0]
                sheets[-1][0].extend(mark.moved(y) for mark in running.marks)
                y += running.height + 2.5
            if strip.head is not None:
                sheets[-1][0].extend(mark.moved(y) for mark in strip.head.marks)
                y += strip.head.height
            if not strip.marks and not strip.pictures:
                continue  # a gap at the top of a page
        sheets[-1][0].extend(mark.moved(y) for mark in strip.marks)
        sheets[-1][1].extend(replace(picture, y=picture.y + y) for picture in strip.pictures)
        y += strip.height
    out = []
    for number, (marks, pictures) in enumerate(sheets, start=1):
        words = f"Page {number} of {len(sheets)}" + (f"; {last}" if last and number == len(sheets) else "")
        footer = _foot(pen, height, [*feet, words], notice, line)
        page = Page(pen.width, height, (*marks, *footer), title, "Prediction of one patient")
        out.append(SheetPage(page, tuple(pictures)))
    return out


def _together(strips: Sequence[Strip], i: int) -> float:
    """Height of a strip and of those that it must stay with."""
    tall = strips[i].height
    while strips[i].keep and i + 1 < len(strips):
        i += 1
        tall += strips[i].height
    return tall


def _foot(pen: Pen, height: float, words: Sequence[str], notice: str, line: float) -> list[Mark]:
    base = height - MARGIN - DESCENT * SMALL * MM_PER_PT
    top = base - line * len(words) + 0.2
    right = pen.width - MARGIN
    marks: list[Mark] = [Line(MARGIN, top - 1.0, right, top - 1.0, 0.15, "muted")]
    marks.append(Text(right, base, notice, SMALL, "bold", "ink", "end", "notice"))
    for i, text in enumerate(reversed(words)):
        marks.append(Text(MARGIN, base - i * line, text, SMALL, "regular", "muted"))
    return marks
