"""Rows that every nomogram has: the points ruler, total points, the outcome axes and the median."""

from __future__ import annotations

import numpy as np

from osml.nomogram.algebra import Nomogram
from osml.nomogram.canvas import ASCENT, DESCENT, Line, Mark, Polygon
from osml.nomogram.frame import Block, Frame, Wording, axis_group, beside, tick
from osml.nomogram.labels import Wanted, place_some
from osml.nomogram.outcome_axis import full_total, median_ticks, outcome_ticks, shown
from osml.nomogram.reading import visible_probabilities
from osml.nomogram.spec import CoxOutcome
from osml.nomogram.ticks import multiples, number_text, total_ticks


def ruler(frame: Frame) -> Block:
    """Points 0 to 100, labels above the line, ticks towards the axes."""
    height = (ASCENT + DESCENT) * frame.em
    marks: list[Mark] = [Line(frame.x0, 0.0, frame.x1, 0.0, 0.4, role="axis-line")]
    marks += [tick(frame.x(v), 0.0, 1.1, 0.15, "minor-mark") for v in range(0, 101, 2) if v % 10]
    for v in range(0, 101, 10):
        inside = (tick(frame.x(v), 0.0, 2.0), *frame.label(frame.x(v), -0.6 - height, str(v), role="tick-label"))
        marks.append(axis_group("tick", inside, value=str(v)))
    text, up, down = beside(frame, Wording("Points"))
    return Block((*text, axis_group("axis-part", marks)), max(up, height + 0.8), max(down, 2.4), "points", "points")


def total_row(nomogram: Nomogram, frame: Frame) -> Block:
    """Total points, the central range of the training patients shaded."""
    full = full_total(nomogram)
    major, minor = total_ticks(nomogram.maximum)
    height = (ASCENT + DESCENT) * frame.em
    marks: list[Mark] = []
    t = nomogram.training_totals
    if t is not None and t.high > t.low:
        left, right = frame.x(max(t.low, 0.0), full), frame.x(min(t.high, full), full)
        marks.append(
            Polygon(((left, -1.7), (right, -1.7), (right, 1.7), (left, 1.7)), "shade", "muted", "training-range")
        )
    marks.append(Line(frame.x0, 0.0, frame.x1, 0.0, 0.4, role="axis-line"))
    marks += [tick(frame.x(v, full), 0.0, 1.1, 0.15, "minor-mark") for v in multiples(0.0, full, minor) if v % major]
    for v in multiples(0.0, full, major):
        x = frame.x(v, full)
        inside = (tick(x, 0.0, 2.0), *frame.label(x, 2.3, number_text(v), role="tick-label"))
        marks.append(axis_group("tick", inside, value=repr(v)))
    text, up, down = beside(frame, Wording("Total points"), 0.9)
    return Block((*text, axis_group("axis-part", marks)), max(up, 2.0), max(down, 2.6 + height), "total", "total")


def outcome_rows(nomogram: Nomogram, frame: Frame) -> list[Block]:
    """One row per outcome axis, horizons with fewer than 10 at risk left out, then the median if it is reached."""
    rows = []
    for j, name in enumerate(nomogram.outcome.names):
        if shown(nomogram, j):
            ticks = outcome_ticks(nomogram, j)
            totals = [float(v) for v in nomogram.total_for(np.asarray(ticks), j)] if ticks else []
            small = visible_probabilities(nomogram, j, frame.x1 - frame.x0)
            between = zip(small, nomogram.total_for(np.asarray(small), j).tolist(), strict=True) if small else ()
            marked = [(p, t, percent(p)) for p, t in zip(ticks, totals, strict=True)]
            rows.append(_scale(nomogram, frame, Wording(f"{name} (%)"), marked, list(between), f"outcome-{j}"))
    median = median_ticks(nomogram)
    if median:
        assert isinstance(nomogram.outcome, CoxOutcome)
        unit = f" ({nomogram.outcome.unit})" if nomogram.outcome.unit else ""
        words = Wording(f"Median time to {nomogram.outcome.event}{unit}")
        rows.append(_scale(nomogram, frame, words, [(v, t, number_text(v)) for v, t in median], [], "median"))
    return rows


def percent(p: float) -> str:
    """A probability in percent, as printed.

    >>> percent(0.05), percent(0.125)
    ('5', '12.5')
    """
    return f"{100 * p:.8g}"


def _scale(
    nomogram: Nomogram,
    frame: Frame,
    words: Wording,
    marked: list[tuple[float, float, str]],
    between: list[tuple[float, float]],
    name: str,
) -> Block:
    """An axis under the total points: (value, total, label) of labelled ticks, (value, total) of the others."""
    full = full_total(nomogram)
    height = (ASCENT + DESCENT) * frame.em
    text, label_up, label_down = beside(frame, words, 0.9)
    up, marks = 0.6, list[Mark]()
    if marked:
        xs = [frame.x(total, full) for _, total, _ in marked]
        wanted = [Wanted(x, frame.width(label), height) for x, (_, _, label) in zip(xs, marked, strict=True)]
        ends = {int(np.argmin(xs)), int(np.argmax(xs))}
        placed = place_some(wanted, [i in ends for i in range(len(xs))], frame.left, frame.right)
        marks.append(Line(min(xs), 0.0, max(xs), 0.0, 0.4, role="axis-line"))
        for value, total in between:
            line = tick(frame.x(total, full), 0.0, 1.1, 0.15, "minor-mark")
            marks.append(axis_group("minor", [line], value=repr(value)))
        for x, (value, _, label), spot in zip(xs, marked, placed, strict=True):
            inside: list[Mark] = [tick(x, 0.0, 2.0 if spot else 1.5)]
            if spot is not None and spot.side == "below":
                inside += frame.label(spot.left, 2.3, label, "start", role="tick-label")
            elif spot is not None:
                inside.append(Line(x, 0.0, x, -0.9, 0.25, role="tick-mark-up"))
                inside += frame.label(spot.left, -0.9 - height, label, "start", role="tick-label")
                up = max(up, 0.9 + height)
            marks.append(axis_group("tick", inside, value=repr(value)))
    return Block(
        (*text, axis_group("axis-part", marks)), max(up, label_up), max(label_down, 2.6 + height), "outcome", name
    )
