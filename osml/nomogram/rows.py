"""Rows of predictors: axes of numbers with their distribution, axes of categories with their levels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from osml.errors import InvalidInputError
from osml.nomogram.algebra import Nomogram
from osml.nomogram.canvas import ASCENT, DESCENT, Anchor, Circle, Group, Line, Mark, Polygon
from osml.nomogram.components import Axis, Component
from osml.nomogram.frame import Block, Frame, Wording, above, axis_group, beside, tick
from osml.nomogram.labels import LEADER_GAP, Placed, Wanted, place_all, place_some
from osml.nomogram.reading import level_places, visible_minor
from osml.nomogram.spec import Predictor
from osml.nomogram.ticks import number_text

STRIP = 2.0
FEW_EVENTS = 5


@dataclass(frozen=True)
class Segment:
    """A part of a number's axis on which the points only rise or only fall, and the line it is drawn on."""

    low: float
    high: float
    line: int


def predictor_rows(nomogram: Nomogram, frame: Frame) -> list[Block]:
    """One row per axis, in the order of the predictors."""
    return [_row(nomogram, frame, component, axis) for component in nomogram.components for axis in component.axes]


def _row(nomogram: Nomogram, frame: Frame, component: Component, axis: Axis) -> Block:
    p = nomogram.predictor(axis.input)
    words = wording(nomogram, component, axis)
    if p.kind == "category":
        return _category(nomogram, frame, component, axis, p, words)
    return _number(nomogram, frame, component, axis, p, words)


def wording(nomogram: Nomogram, component: Component, axis: Axis) -> Wording:
    """Title and notes of an axis."""
    p = nomogram.predictor(axis.input)
    notes = [f"if {condition(nomogram, axis)}"] if axis.settings else []
    if p.definition:
        notes.append(p.definition)
    if not p.by_hand:
        notes.append("from software; cannot be read by hand")
    if p.second_reader is not None:
        notes.append(
            f"second reader's mask: |Δp| {p.second_reader[0]:.2f} (median), {p.second_reader[1]:.2f} (95th percentile)"
        )
    if p.unknown is not None and len(component.inputs) == 1:
        points = float(nomogram.axis_points(component, axis, [p.unknown])[0])
        notes.append(f"not known: {points:.1f} points")
    return Wording(p.title, tuple(notes))


def condition(nomogram: Nomogram, axis: Axis) -> str:
    """The modifier levels at which an axis holds, in words."""
    parts = []
    for name, level in axis.settings:
        p = nomogram.predictor(name)
        parts.append(f"{p.label} = {p.levels[level]}")
    return ", ".join(parts)


def segments(nomogram: Nomogram, component: Component, axis: Axis, spare: float = 0.0) -> list[Segment]:
    """Monotone parts of a number's axis; parts that would overlap in points are given separate lines.

    `spare` is the room in points that must stay free between two parts on one line.
    """
    low, high = nomogram.predictor(axis.input).bounds
    cuts = [low, *axis.turns, high]
    ends: list[list[tuple[float, float]]] = []
    out = []
    for a, b in pairwise(cuts):
        pa, pb = sorted(float(v) for v in nomogram.axis_points(component, axis, [a, b]))
        line = next(
            (i for i, taken in enumerate(ends) if all(pa >= q + spare or pb <= p - spare for p, q in taken)), len(ends)
        )
        if line == len(ends):
            ends.append([])
        ends[line].append((pa, pb))
        out.append(Segment(a, b, line))
    return out


def spare_points(width: float) -> float:
    """Room between two parts on one line that their end labels need, in points, on axes `width` mm wide."""
    return 14.0 / width * 100


def turning_text(nomogram: Nomogram, component: Component, axis: Axis, value: float) -> str:
    """A turning point in as few digits as keep the points within 0.02."""
    exact = float(nomogram.axis_points(component, axis, [value])[0])
    for digits in range(2, 10):
        short = float(f"{value:.{digits}g}")
        if abs(float(nomogram.axis_points(component, axis, [short])[0]) - exact) < 0.02:
            return number_text(short)
    return number_text(value)


def _number(nomogram: Nomogram, frame: Frame, component: Component, axis: Axis, p: Predictor, words: Wording) -> Block:
    parts = segments(nomogram, component, axis, spare_points(frame.x1 - frame.x0))
    count = max(s.line for s in parts) + 1
    deep = STRIP + 0.5 if p.histogram is not None else 1.7
    label_height = (ASCENT + DESCENT) * frame.em
    pitch = deep + label_height + 2.2
    marks: list[Mark] = []
    reach_up = [0.6] * count
    for part in parts:
        drawn, up = _segment(nomogram, frame, component, axis, p, part, deep)
        reach_up[part.line] = max(reach_up[part.line], up)
        marks.append(drawn)
    offsets = [0.0]
    for i in range(1, count):
        offsets.append(offsets[-1] + pitch + (reach_up[i] - 0.6))
    marks = [m.moved(offsets[s.line]) for m, s in zip(marks, parts, strict=True)]
    bottom = offsets[-1] + deep + label_height + 0.3
    if count == 1:
        text, up, down = beside(frame, words, 0.9)
        return Block((*text, *marks), max(up, reach_up[0]), max(down, bottom), "number", axis.key)
    text, up = above(frame, words, 1.9)
    captions: list[Mark] = []
    for i, y in enumerate(offsets):
        spans = " and ".join(
            f"{_end_text(nomogram, component, axis, s.low)} to {_end_text(nomogram, component, axis, s.high)}"
            for s in parts
            if s.line == i
        )
        for k, line in enumerate(frame.fonts.wrap(spans, frame.style.small, frame.style.label_width - 4.0)):
            captions += frame.label(
                frame.style.margin + 2.0, y - 0.5 * frame.em + k * frame.style.line, line, "start", "muted", "italic"
            )[1:]
    return Block((*text, *captions, *marks), max(up, reach_up[0]), bottom, "number", axis.key, tuple(offsets))


def _end_text(nomogram: Nomogram, component: Component, axis: Axis, value: float) -> str:
    return turning_text(nomogram, component, axis, value) if value in axis.turns else number_text(value)


def _segment(
    nomogram: Nomogram, frame: Frame, component: Component, axis: Axis, p: Predictor, part: Segment, deep: float
) -> tuple[Group, float]:
    """Line, strip, ticks and labels of one monotone part, and how far its labels reach above the line."""

    def place(values: list[float]) -> list[float]:
        return [frame.x(float(v)) for v in nomogram.axis_points(component, axis, values)] if values else []

    inner = [v for v in axis.ticks if part.low < v < part.high]
    values = [part.low, *inner, part.high]
    xs = place(values)
    texts = [_end_text(nomogram, component, axis, v) for v in values]
    flat = abs(xs[-1] - xs[0]) < 0.3
    if flat:
        values, xs = [part.low], [xs[0]]
        texts = [f"{texts[0]} to {texts[-1]}"]
    marks: list[Mark] = []
    if p.histogram is not None and not flat:
        marks += _strip(nomogram, frame, component, axis, p, part)
    marks.append(Line(min(xs), 0.0, max(xs), 0.0, 0.35, role="axis-line"))
    seen = visible_minor(nomogram, component, axis, frame.x1 - frame.x0)
    # A part too short to draw keeps a mark at its far end, so that every value has a place.
    minor = [part.high] if flat else [v for v in seen if part.low < v < part.high]
    for v, x in zip(minor, place(minor), strict=True):
        marks.append(axis_group("minor", [tick(x, 0.0, 0.55 * deep, 0.15, "minor-mark")], value=repr(v)))
    label_height = (ASCENT + DESCENT) * frame.em
    wanted = [Wanted(x, frame.width(t), label_height) for x, t in zip(xs, texts, strict=True)]
    required = [i in (0, len(xs) - 1) for i in range(len(xs))]
    placed = place_some(wanted, required, frame.left, frame.right)
    up = 0.6
    for i, (v, x, text, spot) in enumerate(zip(values, xs, texts, placed, strict=True)):
        inside: list[Mark] = [tick(x, 0.0, deep if spot else 0.75 * deep)]
        if spot is not None:
            y = deep + 0.3
            if spot.side == "above":
                inside.append(Line(x, 0.0, x, -0.9, 0.25, role="tick-mark-up"))
                y = -0.9 - label_height
                up = max(up, 0.9 + label_height)
            inside += frame.label(spot.left, y, text, "start", role="tick-label")
        marks.append(axis_group("tick", inside, value=repr(v)))
        if required[i] and spot is None:
            raise InvalidInputError(f"the end label {text!r} of axis {p.label!r} does not fit on the page")
    return axis_group("axis-part", marks, low=repr(part.low), high=repr(part.high)), up


def _strip(
    nomogram: Nomogram, frame: Frame, component: Component, axis: Axis, p: Predictor, part: Segment
) -> list[Mark]:
    """Bars of the histogram hanging from the axis line; a bar's ends follow the points scale."""
    assert p.histogram is not None
    top = max(p.histogram.counts)
    bars: list[Mark] = []
    for (left_edge, right_edge), n in zip(pairwise(p.histogram.edges), p.histogram.counts, strict=True):
        a, b = max(left_edge, part.low), min(right_edge, part.high)
        if n == 0 or a >= b:
            continue
        left, right = (frame.x(float(v)) for v in np.sort(nomogram.axis_points(component, axis, [a, b])))
        depth = STRIP * n / top
        bars.append(Polygon(((left, 0.0), (right, 0.0), (right, depth), (left, depth)), "strip", role="strip"))
    return bars


def level_texts(p: Predictor) -> list[tuple[str, str]]:
    """Name of each level, and its n (%), with a dagger where fewer than 5 events were seen."""
    total = max(sum(p.level_counts), 1)
    out = []
    for i, level in enumerate(p.levels):
        tail = [f"{p.level_counts[i]} ({100 * p.level_counts[i] / total:.0f} %)"] if p.level_counts else []
        tail += ["†"] if p.level_events and p.level_events[i] < FEW_EVENTS else []
        out.append((level, " ".join(tail)))
    return out


def _level_lines(frame: Frame, name: str, tail: str, limit: float) -> list[str]:
    """A level's name in lines, its count behind the last one or under it, never broken."""
    lines = frame.fonts.wrap(name, frame.style.small, limit)
    if not tail:
        return lines
    joined = f"{lines[-1]} · {tail}"
    return [*lines[:-1], joined] if frame.width(joined) <= limit else [*lines, tail]


def _category(
    nomogram: Nomogram, frame: Frame, component: Component, axis: Axis, p: Predictor, words: Wording
) -> Block:
    points = [float(v) for v in nomogram.axis_points(component, axis, axis.ticks)]
    xs = [frame.x(v) for v in points]
    names = level_texts(p)
    width = frame.x1 - frame.x0
    places = [(frame.x(at), members) for at, members in level_places(nomogram, component, axis, width)]
    spots, lines = _place_levels(
        frame, [x for x, _ in places], [[names[i] for i in members] for _, members in places], p
    )
    drop, rise = 2.2, 1.9
    marks: list[Mark] = [Line(min(xs), 0.0, max(xs), 0.0, 0.35, role="axis-line")]
    up, down = 1.2, 1.2
    for (x, members), spot, text in zip(places, spots, lines, strict=True):
        height = len(text) * frame.style.line
        sign = 1 if spot.side == "below" else -1
        near = (drop if sign > 0 else rise) + spot.offset
        inside: list[Mark] = [Line(x, 0.0, x, sign * near, 0.2, "muted" if spot.tier else "ink", role="leader")]
        broad = max(frame.width(t) for t in text)
        top = near if sign > 0 else -near - height
        at, anchor = _flag(x, spot.left, broad)
        for k, line in enumerate(text):
            inside += frame.label(at, top + k * frame.style.line, line, anchor, role="tick-label")
        for i in members:
            inside.append(Circle(xs[i], 0.0, 0.85, "accent", i != p.reference, role="level-mark"))
        if sign > 0:
            down = max(down, near + height)
        else:
            up = max(up, near + height)
        marks.append(axis_group("tick", inside, value=" ".join(str(i) for i in members)))
    text_marks, label_up, label_down = beside(frame, words)
    group = axis_group("axis-part", marks)
    return Block((*text_marks, group), max(up, label_up), max(down, label_down), "category", axis.key)


def _flag(x: float, left: float, width: float) -> tuple[float, Anchor]:
    """Where lines of a label are aligned: at the leader when that stands at the label's edge, else in its middle."""
    if x - left <= LEADER_GAP + 0.01:
        return left, "start"
    if left + width - x <= LEADER_GAP + 0.01:
        return left + width, "end"
    return left + width / 2, "middle"


def _place_levels(
    frame: Frame, xs: list[float], names: list[list[tuple[str, str]]], p: Predictor
) -> tuple[list[Placed], list[list[str]]]:
    """Places for the level names, wrapped so that the row stays as low as it can."""
    widest = max(frame.width(f"{name} · {tail}" if tail else name) for group in names for name, tail in group)
    best: tuple[float, list[Placed], list[list[str]]] | None = None
    for limit in (min(widest, 80.0), 62.0, 50.0, 40.0, 30.0, 22.0):
        if limit > widest:
            continue
        lines = [[line for name, tail in g for line in _level_lines(frame, name, tail, limit + 0.01)] for g in names]
        wanted = [
            Wanted(x, max(frame.width(t) for t in text), len(text) * frame.style.line + 0.5)
            for x, text in zip(xs, lines, strict=True)
        ]
        spots = place_all(wanted, frame.left, frame.right)
        if spots is None:
            continue
        reach = {
            side: max((s.offset + w.height for s, w in zip(spots, wanted, strict=True) if s.side == side), default=0.0)
            for side in ("above", "below")
        }
        # A narrower label must save a third of a line to be worth its breaks.
        height = sum(reach.values()) + 0.33 * frame.style.line * (best is not None)
        if best is None or height < best[0]:
            best = sum(reach.values()), spots, lines
    if best is None:
        raise InvalidInputError(
            f"the {len(p.levels)} level labels of {p.label!r} do not fit on the page without overlap",
            do="Shorten the level names, merge levels, or use a wider page.",
        )
    return best[1], best[2]
