"""Marks of a worked example on the chart: a line from each value to its points, and from the total to the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from osml.nomogram.algebra import Nomogram
from osml.nomogram.canvas import Line, Mark, Polygon, Text
from osml.nomogram.fonts import MM_PER_PT, Style
from osml.nomogram.frame import Block, Frame
from osml.nomogram.outcome_axis import full_total
from osml.nomogram.patient import Reading, WorkedExample
from osml.nomogram.rows import segments, spare_points

DASH = (1.0, 0.7)


@dataclass(frozen=True)
class Placement:
    """A row and the page height of its (first) axis line."""

    block: Block
    y: float


def overlay(
    nomogram: Nomogram, frame: Frame, placed: Sequence[Placement], example: WorkedExample, with_total: bool
) -> tuple[list[Mark], list[Mark]]:
    """Dashed lines, and what stands over the axes: diamonds, column of points. Rows of other pages are skipped."""
    style, ruler = frame.style, placed[0]
    base = 0.36 * style.small * MM_PER_PT
    over: list[Mark] = []

    def note(y: float, text: str, face: Style = "bold") -> None:
        over.append(
            Text(style.width - style.margin, y + base, text, style.small, face, "patient", "end", "patient-points")
        )

    note(ruler.y, "points")
    reach: dict[float, float] = {}
    for reading in example.readings:
        place = next((p for p in placed if p.block.name == reading.axis.key), None)
        if place is None:
            continue
        y = place.y + _line_offset(nomogram, frame, reading, place.block)
        x = min(max(frame.x(reading.points), frame.left), frame.right)
        near = next((k for k in reach if abs(k - x) < 0.25), x)
        reach[near] = max(reach.get(near, y), y)
        over.append(diamond(x, y))
        note(y, f"{reading.points:.1f}", "regular")
    lines: list[Mark] = [Line(x, ruler.y, x, y, 0.3, "patient", DASH, "patient-line") for x, y in reach.items()]
    if with_total:
        below = [p for p in placed if p.block.role in ("total", "outcome")]
        total = below[0]
        x = min(max(frame.x(example.total, full_total(nomogram)), frame.left), frame.right)
        lines.append(Line(x, total.y, x, below[-1].y, 0.3, "patient", DASH, "patient-line"))
        over += [diamond(x, p.y) for p in below]
        note(total.y, f"{sum(round(r.points, 1) for r in example.readings):.1f}")
        for chance in example.chances:
            row = next(p for p in below if p.block.name == f"outcome-{chance.horizon}")
            note(row.y, f"{100 * chance.probability:.1f} %")
    return lines, over


def diamond(x: float, y: float, r: float = 1.1) -> Polygon:
    """Marker of the patient."""
    return Polygon(((x, y - r), (x + r, y), (x, y + r), (x - r, y)), "patient", "paper", "patient-mark")


def _line_offset(nomogram: Nomogram, frame: Frame, reading: Reading, block: Block) -> float:
    if len(block.lines) == 1:
        return block.lines[0]
    parts = segments(nomogram, reading.component, reading.axis, spare_points(frame.x1 - frame.x0))
    inside = [s for s in parts if reading.value <= s.high]
    return block.lines[(inside[0] if inside else parts[-1]).line]
