"""How well a reader does: the probability error of reading between printed ticks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from osml.nomogram.algebra import Nomogram
from osml.nomogram.components import Axis, Component
from osml.nomogram.outcome_axis import full_total, minor_probabilities, outcome_ticks, shown
from osml.nomogram.spec import FloatArray
from osml.nomogram.verify import synthetic_cases

CASES = 400
MIN_SPACING = 0.6
SAME_PLACE = 0.9


@dataclass(frozen=True)
class ReadingError:
    """Largest error of the probability when values between ticks are read along a straight line."""

    probability: float
    cases: int

    @property
    def words(self) -> str:
        """As printed on the sheet."""
        return (
            f"Reading between neighbouring ticks along a straight line changes the probability by at most "
            f"{_up(100 * self.probability)} percentage points ({self.cases} made-up patients over all axes)."
        )


def visible_minor(nomogram: Nomogram, component: Component, axis: Axis, width: float) -> tuple[float, ...]:
    """Minor ticks of an axis that can be told apart on a points scale `width` mm wide."""
    if not axis.minor:
        return ()
    stops = np.unique([*axis.ticks, *axis.turns])
    minor = np.asarray(axis.minor)
    x = nomogram.axis_points(component, axis, minor) * width / 100
    ends = nomogram.axis_points(component, axis, stops) * width / 100
    return _apart(minor, x, stops, ends)


def visible_probabilities(nomogram: Nomogram, horizon: int, width: float) -> tuple[float, ...]:
    """Minor ticks of an outcome axis that can be told apart."""
    major = np.asarray(outcome_ticks(nomogram, horizon))
    minor = np.asarray(minor_probabilities(tuple(major.tolist())))
    if not len(minor):
        return ()
    per_point = width / full_total(nomogram)
    x, ends = (nomogram.total_for(p, horizon) * per_point for p in (minor, major))
    return _apart(minor, x, major, ends)


def level_places(
    nomogram: Nomogram, component: Component, axis: Axis, width: float
) -> list[tuple[float, tuple[int, ...]]]:
    """Points at which levels are labelled, with their positions: levels nearer than 0.9 mm share a label."""
    points = nomogram.axis_points(component, axis, axis.ticks)
    groups: list[list[int]] = []
    for i in np.argsort(points, kind="stable").tolist():
        if groups and (points[i] - points[groups[-1][0]]) * width / 100 < SAME_PLACE:
            groups[-1].append(i)
        else:
            groups.append([i])
    return [(float(points[members].mean()), tuple(members)) for members in groups]


def _apart(minor: FloatArray, x: FloatArray, stops: FloatArray, ends: FloatArray) -> tuple[float, ...]:
    """Minor ticks of the gaps between `stops` in which no two marks are nearer than 0.6 mm."""
    out: list[float] = []
    for (a, b), (xa, xb) in zip(pairwise(stops), pairwise(ends), strict=True):
        inside = (minor > a) & (minor < b)
        if inside.any() and np.min(np.abs(np.diff([xa, *x[inside], xb]))) >= MIN_SPACING:
            out += minor[inside].tolist()
    return tuple(out)


def read_between_ticks(nomogram: Nomogram, component: Component, axis: Axis, x: FloatArray, width: float) -> FloatArray:
    """Points of values `x`, interpolated between the ticks and turning points of one axis."""
    if nomogram.predictor(axis.input).kind == "category":
        at = np.empty(len(axis.ticks))
        for points, members in level_places(nomogram, component, axis, width):
            at[list(members)] = points
        return at[x.astype(np.intp)]
    low, high = nomogram.predictor(axis.input).bounds
    grid = np.unique([low, *axis.ticks, *visible_minor(nomogram, component, axis, width), *axis.turns, high])
    return np.interp(x, grid, nomogram.axis_points(component, axis, grid))


def reading_error(nomogram: Nomogram, width: float = 200.0, cases: int = CASES) -> ReadingError:
    """Error over made-up patients, all read between the ticks drawn on axes `width` mm wide."""
    values = synthetic_cases(nomogram, cases, seed=1)
    total = np.zeros(cases)
    for c in nomogram.components:
        for axis in c.axes:
            here = np.ones(cases, dtype=bool)
            for name, level in axis.settings:
                here &= values[name] == level
            total[here] += read_between_ticks(nomogram, c, axis, values[axis.input][here], width)
    exact = np.reshape(nomogram.probability(values), (cases, -1))
    worst = 0.0
    for j in range(exact.shape[1]):
        major = outcome_ticks(nomogram, j)
        if not shown(nomogram, j) or len(major) < 2:
            continue
        p = np.sort([*major, *visible_probabilities(nomogram, j, width)])
        at = nomogram.total_for(p, j)
        order = np.argsort(at)
        readable = (total >= at.min()) & (total <= at.max())
        read = np.interp(total[readable], at[order], p[order])
        worst = max(worst, float(np.max(np.abs(read - exact[readable, j]), initial=0.0)))
    return ReadingError(worst, cases)


def _up(value: float) -> str:
    """Rounded up to two decimals, so that the statement stays true."""
    return f"{np.ceil(value * 100) / 100:.2f}"
