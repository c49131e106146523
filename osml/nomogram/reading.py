"""How well a reader does: the probability error of reading between printed ticks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from osml.nomogram.algebra import Nomogram
from osml.nomogram.components import Axis, Component
from osml.nomogram.scales import minor_probabilities, outcome_ticks, shown
from osml.nomogram.spec import FloatArray
from osml.nomogram.verify import synthetic_cases

CASES = 400


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


def read_between_ticks(component: Component, axis: Axis, nomogram: Nomogram, x: FloatArray) -> FloatArray:
    """Points of values `x`, interpolated between the ticks and turning points of one axis."""
    if nomogram.predictor(axis.input).kind == "category":
        return nomogram.axis_points(component, axis, x)
    low, high = nomogram.predictor(axis.input).bounds
    grid = np.unique([low, *axis.ticks, *axis.minor, *axis.turns, high])
    return np.interp(x, grid, nomogram.axis_points(component, axis, grid))


def reading_error(nomogram: Nomogram, cases: int = CASES) -> ReadingError:
    """Error over made-up patients whose values, total and probability are all read between drawn ticks."""
    values = synthetic_cases(nomogram, cases, seed=1)
    total = np.zeros(cases)
    for c in nomogram.components:
        for axis in c.axes:
            here = np.ones(cases, dtype=bool)
            for name, level in axis.settings:
                here &= values[name] == level
            total[here] += read_between_ticks(c, axis, nomogram, values[axis.input][here])
    exact = np.reshape(nomogram.probability(values), (cases, -1))
    worst = 0.0
    for j in range(exact.shape[1]):
        major = outcome_ticks(nomogram, j)
        if not shown(nomogram, j) or len(major) < 2:
            continue
        p = np.sort([*major, *minor_probabilities(major)])
        at = nomogram.total_for(p, j)
        order = np.argsort(at)
        readable = (total >= at.min()) & (total <= at.max())
        read = np.interp(total[readable], at[order], p[order])
        worst = max(worst, float(np.max(np.abs(read - exact[readable, j]), initial=0.0)))
    return ReadingError(worst, cases)


def _up(value: float) -> str:
    """Rounded up to two decimals, so that the statement stays true."""
    return f"{np.ceil(value * 100) / 100:.2f}"
