"""Marks on a page, in millimetres from its top left corner; what the PDF, SVG and HTML writers draw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from osml.nomogram.fonts import MM_PER_PT, FontSet, Style

ASCENT, DESCENT = 0.78, 0.23
Anchor = Literal["start", "middle", "end"]
Ink = Literal["ink", "muted", "grid", "strip", "shade", "accent", "patient", "paper", "warning"]


@dataclass(frozen=True)
class Text:
    """One line of text; `y` is its baseline, `size` in points."""

    x: float
    y: float
    text: str
    size: float
    style: Style = "regular"
    ink: Ink = "ink"
    anchor: Anchor = "start"
    role: str = ""

    def moved(self, dy: float) -> Text:
        """The same text, `dy` mm lower."""
        return replace(self, y=self.y + dy)

    def box(self, fonts: FontSet) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in mm."""
        width = fonts.width(self.text, self.size, self.style)
        left = self.x - {"start": 0.0, "middle": width / 2, "end": width}[self.anchor]
        em = self.size * MM_PER_PT
        return left, self.y - ASCENT * em, left + width, self.y + DESCENT * em


@dataclass(frozen=True)
class Line:
    """A straight stroke; `dash` in mm."""

    x1: float
    y1: float
    x2: float
    y2: float
    width: float = 0.25
    ink: Ink = "ink"
    dash: tuple[float, ...] = ()
    role: str = ""

    def moved(self, dy: float) -> Line:
        """The same line, `dy` mm lower."""
        return replace(self, y1=self.y1 + dy, y2=self.y2 + dy)


@dataclass(frozen=True)
class Polygon:
    """A filled area, with an outline when `outline` is given."""

    points: tuple[tuple[float, float], ...]
    ink: Ink
    outline: Ink | None = None
    role: str = ""

    def moved(self, dy: float) -> Polygon:
        """The same area, `dy` mm lower."""
        return replace(self, points=tuple((x, y + dy) for x, y in self.points))


@dataclass(frozen=True)
class Circle:
    """A dot of radius `r`; filled with `ink`, or open on paper."""

    x: float
    y: float
    r: float
    ink: Ink = "ink"
    filled: bool = True
    role: str = ""

    def moved(self, dy: float) -> Circle:
        """The same dot, `dy` mm lower."""
        return replace(self, y=self.y + dy)


@dataclass(frozen=True)
class Group:
    """Marks that belong together, such as one axis; `data` goes into the SVG as data- attributes."""

    role: str
    marks: tuple[Mark, ...]
    data: tuple[tuple[str, str], ...] = ()

    def moved(self, dy: float) -> Group:
        """The same group, `dy` mm lower."""
        return replace(self, marks=tuple(m.moved(dy) for m in self.marks))


Mark = Text | Line | Polygon | Circle | Group


@dataclass(frozen=True)
class Geometry:
    """Where the axes of a page lie, for what is drawn over them later: mm, and (role, name, heights) of each row.

    Points 0 to 100, and totals 0 to `full`, run from x0 to x1.
    """

    x0: float
    x1: float
    full: float
    rows: tuple[tuple[str, str, tuple[float, ...]], ...]


@dataclass(frozen=True)
class Page:
    """A page in mm; `geometry` where it holds axes."""

    width: float
    height: float
    marks: tuple[Mark, ...]
    title: str = ""
    description: str = ""
    geometry: Geometry | None = None

    def flat(self) -> Iterator[Text | Line | Polygon | Circle]:
        """All marks, groups opened, in drawing order."""
        yield from _flat(self.marks)

    def texts(self) -> list[Text]:
        """All texts."""
        return [m for m in self.flat() if isinstance(m, Text)]


def _flat(marks: tuple[Mark, ...]) -> Iterator[Text | Line | Polygon | Circle]:
    for mark in marks:
        if isinstance(mark, Group):
            yield from _flat(mark.marks)
        else:
            yield mark


def collisions(page: Page, fonts: FontSet, slack: float = 0.05) -> list[str]:
    """What is wrong with a page: overlapping texts, and marks outside it. Empty = nothing."""
    found = []
    boxes = [(t, t.box(fonts)) for t in page.texts()]
    for i, (a, p) in enumerate(boxes):
        for b, q in boxes[i + 1 :]:
            across = min(p[2], q[2]) - max(p[0], q[0])
            down = min(p[3], q[3]) - max(p[1], q[1])
            if across > slack and down > slack:
                found.append(f"{a.text!r} and {b.text!r} overlap by {across:.2f} × {down:.2f} mm")
        if p[0] < 0 or p[1] < 0 or p[2] > page.width or p[3] > page.height:
            found.append(f"{a.text!r} leaves the page: {tuple(round(v, 1) for v in p)}")
    for mark in page.flat():
        for x, y in _corners(mark):
            if not (0 <= x <= page.width and 0 <= y <= page.height):
                found.append(f"{type(mark).__name__} {mark.role} leaves the page at {x:.1f}, {y:.1f}")
    return found


def _corners(mark: Text | Line | Polygon | Circle) -> tuple[tuple[float, float], ...]:
    if isinstance(mark, Line):
        return (mark.x1, mark.y1), (mark.x2, mark.y2)
    if isinstance(mark, Polygon):
        return mark.points
    if isinstance(mark, Circle):
        return (mark.x - mark.r, mark.y - mark.r), (mark.x + mark.r, mark.y + mark.r)
    return ()
