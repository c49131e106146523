"""A worked example: one patient's points, their sum written out, the probability and its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from osml.errors import InvalidInputError
from osml.nomogram.algebra import Nomogram
from osml.nomogram.components import Axis, Component
from osml.nomogram.outcome_axis import shown
from osml.nomogram.spec import Predictor
from osml.nomogram.ticks import number_text

NO_INTERVAL = "no interval available"


@dataclass(frozen=True)
class Reading:
    """One component's reading: inputs in words, the axis it is read from, the position on it and the points."""

    words: str
    component: Component
    axis: Axis
    value: float
    points: float
    extrapolated: bool


@dataclass(frozen=True)
class Chance:
    """What one outcome axis says: probability, and interval bounds where there are any."""

    name: str
    horizon: int
    probability: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class WorkedExample:
    """A patient's readings, total points and probabilities; holds no name, id or date."""

    readings: tuple[Reading, ...]
    total: float
    chances: tuple[Chance, ...]
    interval_words: str

    def sentences(self) -> list[str]:
        """The sum with every term, then each probability with its interval and the interval's kind.

        Terms are printed to 0.1 and the printed sum is the sum of the printed terms.
        """
        terms = " + ".join(f"{r.words}: {r.points:.1f}" for r in self.readings)
        printed = sum(round(r.points, 1) for r in self.readings)
        out = [f"{terms} = {printed:.1f} points."]
        for c in self.chances:
            if c.low is None or c.high is None:
                out.append(f"{c.name}: {_percent(c.probability)} % ({NO_INTERVAL}).")
            else:
                span = f"{_percent(c.low)} to {_percent(c.high)} %"
                out.append(f"{c.name}: {_percent(c.probability)} % ({self.interval_words}: {span}).")
        far = [r.words for r in self.readings if r.extrapolated]
        if far:
            out.append(f"Extrapolated, outside the printed axes: {'; '.join(far)}.")
        return out


def worked_example(nomogram: Nomogram, values: Mapping[str, ArrayLike]) -> WorkedExample:
    """Readings of one patient, from scalars (numbers, level positions or names, NaN for "not known").

    >>> from osml.nomogram import LogisticOutcome, from_coefficients
    >>> n = from_coefficients({"Intercept": -3, "age": 0.05}, [Predictor("age", low=20, high=60)],
    ...                       LogisticOutcome("relapse"))
    >>> worked_example(n, {"age": 40}).sentences()
    ['age 40: 50.0 = 50.0 points.', 'Risk of relapse: 26.9 % (no interval available).']
    """
    x = nomogram.encode(values)
    if any(len(v) != 1 for v in x.values()):
        raise InvalidInputError("a worked example is one patient: give one value per input")
    points, far = nomogram.points(x), nomogram.extrapolated(x)
    readings = []
    for c in nomogram.components:
        axis = next(a for a in c.axes if all(x[name][0] == level for name, level in a.settings))
        words = ", ".join(_words(nomogram.predictor(name), values[name], x[name][0]) for name in c.inputs)
        readings.append(
            Reading(
                words,
                c,
                axis,
                float(x[axis.input][0]),
                float(points[c.name][0]),
                any(bool(far[name][0]) for name in c.inputs if name in far),
            )
        )
    p = np.atleast_1d(nomogram.probability(x).ravel())
    bounds = nomogram.bounds(x)
    chances = tuple(
        Chance(
            name,
            j,
            float(p[j]),
            None if bounds is None else float(bounds[0].ravel()[j]),
            None if bounds is None else float(bounds[1].ravel()[j]),
        )
        for j, name in enumerate(nomogram.outcome.names)
        if shown(nomogram, j)
    )
    words = NO_INTERVAL if nomogram.interval is None else nomogram.interval.words
    return WorkedExample(tuple(readings), float(sum(r.points for r in readings)), chances, words)


def _words(p: Predictor, given: Any, value: float) -> str:
    if p.kind == "category":
        text = p.levels[int(value)]
    else:
        text = " ".join(part for part in (number_text(value), p.unit) if part)
    first = np.atleast_1d(np.asarray(given))[0]
    unknown = isinstance(first, float | np.floating) and np.isnan(first)
    return f"{p.label} not known (as {text})" if unknown else f"{p.label} {text}"


def _percent(p: float) -> str:
    return f"{100 * p:.1f}"
