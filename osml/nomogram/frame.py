"""The strip of the page that axes are drawn in, and the small pieces every axis is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from osml.nomogram.canvas import ASCENT, DESCENT, Anchor, Group, Ink, Line, Mark, Polygon, Text
from osml.nomogram.fonts import MM_PER_PT, FontSet, Style
from osml.nomogram.theme import PageStyle


@dataclass(frozen=True)
class Frame:
    """Where axes lie: points 0 to 100 between x0 and x1, labels between `left` and `right`, all in mm."""

    fonts: FontSet
    style: PageStyle
    left: float
    x0: float
    x1: float
    right: float

    @property
    def em(self) -> float:
        """Height of small text, mm."""
        return self.style.small * MM_PER_PT

    def x(self, points: float, full: float = 100.0) -> float:
        """Page position of `points` on a scale that ends at `full`."""
        return self.x0 + points / full * (self.x1 - self.x0)

    def width(self, text: str, style: Style = "regular") -> float:
        """Width of small text, mm."""
        return self.fonts.width(text, self.style.small, style)

    def label(
        self,
        x: float,
        y: float,
        text: str,
        anchor: Anchor = "middle",
        ink: Ink = "ink",
        style: Style = "regular",
        role: str = "",
    ) -> tuple[Mark, ...]:
        """Small text whose top is at `y`, on a patch of paper that keeps grid lines off it."""
        width = self.width(text, style)
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        top, bottom = y, y + (ASCENT + DESCENT) * self.em
        patch = ((left - 0.4, top), (left + width + 0.4, top), (left + width + 0.4, bottom), (left - 0.4, bottom))
        return (
            Polygon(patch, "paper", role="patch"),
            Text(x, y + ASCENT * self.em, text, self.style.small, style, ink, anchor, role),
        )


@dataclass(frozen=True)
class Block:
    """One row of the chart. Marks are relative to its (first) axis line; it reaches `top` above and `bottom` below it.

    `lines` holds the offsets of all its axis lines; `right_y` is where a worked example writes the points.
    """

    marks: tuple[Mark, ...]
    top: float
    bottom: float
    role: str = ""
    name: str = ""
    lines: tuple[float, ...] = (0.0,)

    @property
    def height(self) -> float:
        """Height without any gap to its neighbours."""
        return self.top + self.bottom


@dataclass(frozen=True)
class Wording:
    """What stands in the label column: a bold title, then muted lines."""

    title: str
    notes: tuple[str, ...] = ()


def label_column(frame: Frame, words: Wording) -> tuple[list[Text], list[Text]]:
    """Title lines and note lines, wrapped, with baselines counted down from 0."""
    style = frame.style
    limit = style.label_width - 2.0
    pitch = 1.22 * style.text * MM_PER_PT
    titles = [
        Text(style.margin, i * pitch, line, style.text, "bold", "ink", "start", "axis-title")
        for i, line in enumerate(_unwidowed(frame, frame.fonts.wrap(words.title, style.text, limit, "bold"), limit))
    ]
    y = len(titles) * pitch
    notes = []
    for note in words.notes:
        for line in frame.fonts.wrap(note, style.small, limit):
            notes.append(Text(style.margin, y, line, style.small, "regular", "muted", "start", "axis-note"))
            y += style.line
    return titles, notes


def _unwidowed(frame: Frame, lines: list[str], limit: float) -> list[str]:
    """A unit in brackets does not stand alone on the last line."""
    if len(lines) < 2 or not lines[-1].startswith("(") or " " not in lines[-2]:
        return lines
    kept, _, word = lines[-2].rpartition(" ")
    joined = f"{word} {lines[-1]}"
    fits = frame.fonts.width(joined, frame.style.text, "bold") <= limit
    return [*lines[:-2], kept, joined] if fits else lines


def beside(frame: Frame, words: Wording, shift: float = 0.0) -> tuple[tuple[Mark, ...], float, float]:
    """Label column centred on the axis line, with its reach above and below."""
    titles, notes = label_column(frame, words)
    both = [*titles, *notes]
    if not both:
        return (), 0.0, 0.0
    top, bottom = extent(both)
    down = (0.36 * frame.style.text * MM_PER_PT if len(both) == 1 else -(top + bottom) / 2) + shift
    return tuple(t.moved(down) for t in both), -(top + down), bottom + down


def above(frame: Frame, words: Wording, clear: float) -> tuple[tuple[Mark, ...], float]:
    """Label column that ends `clear` mm above the axis line, with its reach above."""
    titles, notes = label_column(frame, words)
    top, bottom = extent([*titles, *notes])
    return tuple(t.moved(-clear - bottom) for t in (*titles, *notes)), clear + bottom - top


def extent(texts: Sequence[Text]) -> tuple[float, float]:
    """Top of the first and bottom of the last of some lines of text."""
    return (
        min(t.y - ASCENT * t.size * MM_PER_PT for t in texts),
        max(t.y + DESCENT * t.size * MM_PER_PT for t in texts),
    )


def tick(x: float, y: float, length: float, width: float = 0.25, role: str = "tick-mark") -> Line:
    """A tick from the axis line downwards."""
    return Line(x, y, x, y + length, width, role=role)


def axis_group(role: str, marks: Sequence[Mark], **data: str) -> Group:
    """Marks of one axis with its data, for readers of the SVG."""
    return Group(role, tuple(marks), tuple(data.items()))
