"""Whole-number points for the bedside, offered with their largest error."""

from __future__ import annotations

import csv
import io
import itertools
from dataclasses import dataclass

import numpy as np

from osml.errors import InvalidInputError
from osml.nomogram.algebra import Nomogram
from osml.nomogram.components import Axis, Component
from osml.nomogram.metadata import NOTICE
from osml.nomogram.outcome_axis import shown
from osml.nomogram.rows import condition
from osml.nomogram.spec import FloatArray
from osml.nomogram.table import safe_cell
from osml.nomogram.ticks import number_text
from osml.nomogram.verify import synthetic_cases

CASES = 2000


@dataclass(frozen=True)
class BedsideRow:
    """Values that score `points`: one level, or numbers from `low` to below `high` (the last: to `high`)."""

    name: str
    given: str
    text: str
    low: float
    high: float
    points: int


@dataclass(frozen=True)
class Bedside:
    """Whole-number points, the probability of every whole total, and how wrong they can be.

    `worst_error` bounds the probability error of any patient on the axes; `case_error` is the largest among made-up
    patients spread evenly over the axes.
    """

    rows: tuple[BedsideRow, ...]
    totals: tuple[int, ...]
    outcomes: tuple[str, ...]
    probabilities: tuple[tuple[float, ...], ...]
    worst_error: float
    case_error: float

    @property
    def words(self) -> str:
        """The error, as printed."""
        return (
            "Whole-number points, at most 10 per input (bedside.csv), change the probability by at most "
            f"{100 * self.case_error:.1f} percentage points in {CASES} made-up patients, and by no more than "
            f"{100 * self.worst_error:.1f} in any patient on the axes."
        )

    def to_csv(self) -> str:
        """CSV with columns section, name, given, value, points, probability."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["section", "name", "given", "value", "points", "probability"])
        for r in self.rows:
            writer.writerow(["points", safe_cell(r.name), safe_cell(r.given), safe_cell(r.text), r.points, ""])
        for j, name in enumerate(self.outcomes):
            for total, row in zip(self.totals, self.probabilities, strict=True):
                writer.writerow(["probability", safe_cell(name), "", "", total, f"{row[j]:.3f}"])
        writer.writerow(["note", self.words, "", "", "", ""])
        writer.writerow(["note", NOTICE, "", "", "", ""])
        return out.getvalue()


def bedside_points(nomogram: Nomogram, largest: int = 10) -> Bedside:
    """Round the points so that the strongest predictor runs from 0 to `largest` whole points.

    Boundaries of number intervals are rounded as the value is recorded (three significant digits when unknown);
    the errors are those of the printed boundaries.
    """
    if isinstance(largest, bool) or not isinstance(largest, int) or not 2 <= largest <= 100:
        raise InvalidInputError(f"largest must be a whole number from 2 to 100, got {largest!r}")
    per_point = 100.0 / largest
    rows: list[BedsideRow] = []
    scored: dict[str, list[BedsideRow]] = {}
    worst_points = 0.0
    for c in nomogram.components:
        worst = 0.0
        for axis in c.axes:
            made = _rows(nomogram, c, axis, per_point)
            scored[axis.key] = made
            rows += made
            x = _probe(nomogram, axis, made)
            error = np.abs(_score(made, x) * per_point - nomogram.axis_points(c, axis, x))
            worst = max(worst, float(error.max()))
        worst_points += worst
    top = int(np.ceil(nomogram.maximum / per_point)) + len(nomogram.components)
    totals = np.arange(top + 1)
    columns = [j for j in range(len(nomogram.outcome.names)) if shown(nomogram, j)]
    table = np.reshape(nomogram.probability_at(totals * per_point), (len(totals), -1))[:, columns]
    fine = np.linspace(0.0, nomogram.maximum, 2001)
    exact = np.reshape(nomogram.probability_at(fine), (len(fine), -1))[:, columns]
    bound = max(
        float(np.max(np.abs(np.reshape(nomogram.probability_at(fine + s), (len(fine), -1))[:, columns] - exact)))
        for s in (-worst_points, worst_points)
    )
    return Bedside(
        tuple(rows),
        tuple(int(t) for t in totals),
        tuple(nomogram.outcome.names[j] for j in columns),
        tuple(tuple(float(v) for v in row) for row in table),
        bound,
        _case_error(nomogram, scored, per_point, columns),
    )


def _rows(nomogram: Nomogram, component: Component, axis: Axis, per_point: float) -> list[BedsideRow]:
    p = nomogram.predictor(axis.input)
    given = condition(nomogram, axis)
    if p.kind == "category":
        whole = np.rint(nomogram.axis_points(component, axis, axis.ticks) / per_point)
        return [
            BedsideRow(p.title, given, level, float(i), float(i), int(k))
            for i, (level, k) in enumerate(zip(p.levels, whole, strict=True))
        ]
    low, high = p.bounds
    x = np.linspace(low, high, 20001)
    whole = np.rint(nomogram.axis_points(component, axis, x) / per_point).astype(int)
    cuts = [_round_like(p.decimals, float(x[i + 1])) for i in np.flatnonzero(np.diff(whole))]
    edges = [low, *sorted({c for c in cuts if low < c < high}), high]
    out: list[BedsideRow] = []
    for a, b in itertools.pairwise(edges):
        middle = nomogram.axis_points(component, axis, [(a + b) / 2])[0]
        k = int(np.rint(middle / per_point))
        if out and out[-1].points == k:
            a = out.pop().low
        text = f"{number_text(a)} to {number_text(b)}" if b == high else f"{number_text(a)} to below {number_text(b)}"
        out.append(BedsideRow(p.title, given, text, a, b, k))
    return out


def _round_like(decimals: int | None, value: float) -> float:
    return round(value, decimals) if decimals is not None else float(f"{value:.3g}")


def _score(rows: list[BedsideRow], x: FloatArray) -> FloatArray:
    points = np.array([r.points for r in rows], dtype=np.float64)
    if rows[0].low == rows[0].high:
        return points[x.astype(np.intp)]
    edges = np.array([r.low for r in rows[1:]])
    return points[np.searchsorted(edges, x, side="right")]


def _probe(nomogram: Nomogram, axis: Axis, rows: list[BedsideRow]) -> FloatArray:
    if nomogram.predictor(axis.input).kind == "category":
        return np.asarray(axis.ticks)
    low, high = nomogram.predictor(axis.input).bounds
    edges = np.array([r.low for r in rows[1:]])
    below = np.nextafter(edges, -np.inf)
    return np.unique(np.concatenate([np.linspace(low, high, 2001), edges, below, axis.turns]))


def _case_error(nomogram: Nomogram, scored: dict[str, list[BedsideRow]], per_point: float, columns: list[int]) -> float:
    values = synthetic_cases(nomogram, CASES, seed=2)
    total = np.zeros(CASES)
    for c in nomogram.components:
        for axis in c.axes:
            here = np.ones(CASES, dtype=bool)
            for name, level in axis.settings:
                here &= values[name] == level
            total[here] += _score(scored[axis.key], values[axis.input][here])
    read = np.reshape(nomogram.probability_at(total * per_point), (CASES, -1))[:, columns]
    exact = np.reshape(nomogram.probability(values), (CASES, -1))[:, columns]
    return float(np.max(np.abs(read - exact)))
