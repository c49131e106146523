"""The points table: values with their points, totals with their probability, and the error of its rounding."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from osml.nomogram.algebra import Nomogram
from osml.nomogram.components import Axis, Component
from osml.nomogram.metadata import NOTICE
from osml.nomogram.outcome_axis import shown
from osml.nomogram.rows import condition
from osml.nomogram.spec import FloatArray
from osml.nomogram.ticks import multiples, nice_steps

CLOSE = 0.05
MAX_ROWS = 150
PROBABILITY_DIGITS = 4


@dataclass(frozen=True)
class AxisTable:
    """Printed points of one axis; `values` are numbers or level positions, `texts` what is printed for them."""

    name: str
    given: str
    values: tuple[float, ...]
    texts: tuple[str, ...]
    points: tuple[float, ...]


@dataclass(frozen=True)
class PointsTable:
    """What the table prints, and a bound on the probability error of using it with straight lines between its rows.

    `probabilities` holds one column per outcome axis, one row per entry of `totals`.
    """

    axes: tuple[AxisTable, ...]
    totals: tuple[float, ...]
    outcomes: tuple[str, ...]
    probabilities: tuple[tuple[float, ...], ...]
    largest_error: float

    @property
    def words(self) -> str:
        """The error, as printed."""
        return (
            f"Points are rounded to 0.1; with straight lines between rows the probability is off by at most "
            f"{self.largest_error:.4f}."
        )

    def to_csv(self) -> str:
        """CSV with columns section, name, given, value, points, probability; formula-like text is made harmless."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["section", "name", "given", "value", "points", "probability"])
        for a in self.axes:
            for text, points in zip(a.texts, a.points, strict=True):
                writer.writerow(["points", safe_cell(a.name), safe_cell(a.given), text, f"{points:.1f}", ""])
        for j, name in enumerate(self.outcomes):
            for total, row in zip(self.totals, self.probabilities, strict=True):
                writer.writerow(
                    ["probability", safe_cell(name), "", "", f"{total:.10g}", f"{row[j]:.{PROBABILITY_DIGITS}f}"]
                )
        writer.writerow(["note", self.words, "", "", "", ""])
        writer.writerow(["note", NOTICE, "", "", "", ""])
        return out.getvalue()


def safe_cell(text: str) -> str:
    """Text that a spreadsheet does not take for a formula.

    >>> safe_cell("=1+1")
    "'=1+1"
    """
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def points_table(nomogram: Nomogram) -> PointsTable:
    """Points of every axis in steps fine enough for straight lines, and probability per whole point of the total."""
    axes, off = [], 0.0
    for c in nomogram.components:
        worst = 0.0
        for axis in c.axes:
            made = _axis_table(nomogram, c, axis)
            axes.append(made)
            worst = max(worst, _axis_error(nomogram, c, axis, made))
        off += worst
    totals = np.arange(0.0, np.ceil(nomogram.maximum) + 1.0)
    exact = np.reshape(nomogram.probability_at(totals), (len(totals), -1))
    printed = np.round(exact, PROBABILITY_DIGITS)
    columns = [j for j in range(exact.shape[1]) if shown(nomogram, j)]
    return PointsTable(
        tuple(axes),
        tuple(totals.tolist()),
        tuple(nomogram.outcome.names[j] for j in columns),
        tuple(tuple(float(row[j]) for j in columns) for row in printed),
        _probability_error(nomogram, totals, printed, off, columns),
    )


def _axis_table(nomogram: Nomogram, component: Component, axis: Axis) -> AxisTable:
    p = nomogram.predictor(axis.input)
    if p.kind == "category":
        values: Sequence[float] = axis.ticks
        texts = tuple(safe_cell(level) for level in p.levels)
    else:
        values = _grid(nomogram, component, axis)
        texts = tuple(f"{v:.10g}" for v in values)
    points = np.round(nomogram.axis_points(component, axis, values), 1) + 0.0
    return AxisTable(p.title, condition(nomogram, axis), tuple(float(v) for v in values), texts, tuple(points.tolist()))


def _grid(nomogram: Nomogram, component: Component, axis: Axis) -> list[float]:
    """Round values so close that a straight line between them is within 0.05 points."""
    p = nomogram.predictor(axis.input)
    low, high = p.bounds
    fine = _dense(nomogram, axis)
    exact = nomogram.axis_points(component, axis, fine)
    grid: list[float] = [low, high]
    span = high - low
    for step in sorted(
        [*nice_steps(span, p.decimals), *(s for s in nice_steps(span, p.decimals) if s < span / 50)], reverse=True
    ):
        if span / step > MAX_ROWS:
            break
        grid = sorted({low, *multiples(low, high, step), high})
        rows = nomogram.axis_points(component, axis, grid)
        if len(grid) > 4 and np.max(np.abs(np.interp(fine, grid, rows) - exact)) <= CLOSE:
            break
    return grid


def _dense(nomogram: Nomogram, axis: Axis) -> FloatArray:
    low, high = nomogram.predictor(axis.input).bounds
    return np.unique(np.concatenate([np.linspace(low, high, 2001), axis.turns, axis.ticks, axis.minor]))


def _axis_error(nomogram: Nomogram, component: Component, axis: Axis, table: AxisTable) -> float:
    """Largest error of the points, read with straight lines between the printed rows."""
    if nomogram.predictor(axis.input).kind == "category":
        return float(np.max(np.abs(nomogram.axis_points(component, axis, table.values) - table.points)))
    fine = _dense(nomogram, axis)
    read = np.interp(fine, table.values, table.points)
    return float(np.max(np.abs(read - nomogram.axis_points(component, axis, fine))))


def _probability_error(
    nomogram: Nomogram, totals: FloatArray, printed: FloatArray, off: float, columns: list[int]
) -> float:
    """Worst case: every axis errs in the same direction by its largest error."""
    fine = np.linspace(0.0, nomogram.maximum, 4001)
    worst = 0.0
    for shift in (-off, 0.0, off):
        at = np.clip(fine + shift, totals[0], totals[-1])
        exact = np.reshape(nomogram.probability_at(fine), (len(fine), -1))
        for j in columns:
            read = np.interp(at, totals, printed[:, j])
            worst = max(worst, float(np.max(np.abs(read - exact[:, j]))))
    # Between the probes the error can exceed what they saw by the curve's own change.
    return worst + 0.5 * float(
        np.max(np.abs(np.diff(np.reshape(nomogram.probability_at(fine), (len(fine), -1)), axis=0)))
    )
