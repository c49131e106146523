"""Make a nomogram from a fitted model and the description of its predictors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from osml.errors import InvalidInputError, NotEstimableError
from osml.nomogram.algebra import Nomogram, TotalRange
from osml.nomogram.components import components
from osml.nomogram.interval import Interval
from osml.nomogram.spec import FloatArray, Outcome, Predictor
from osml.nomogram.verify import verify_points
from osml.stats.terms import LinearModel

MAX_POINTS = 100.0


def build(
    model: LinearModel,
    predictors: Sequence[Predictor],
    outcome: Outcome,
    *,
    metadata: Mapping[str, Any] | None = None,
    interval: Interval | None = None,
    training: Mapping[str, ArrayLike] | None = None,
    extremes: Literal["axis", "ticks"] = "axis",
) -> Nomogram:
    """Turn a model into points.

    Parameters
    ----------
    model : LinearModel
        The deployed model, shrinkage included. Cox: its intercept is minus the centring.
    predictors : sequence of Predictor
        One per input, in the order of the axes.
    outcome : LogisticOutcome or CoxOutcome
    metadata : mapping, optional
        What is printed beside the axes; keys in `osml.nomogram.metadata`.
    interval : Interval, optional
        How the interval of a probability is computed; None prints "no interval available".
    training : mapping of arrays (n,), optional
        Training values: the points are verified on every row, and the central range of totals is shaded.
    extremes : "axis" or "ticks"
        Where the least and greatest effect of a number are looked for: along its whole axis, or at its labelled
        ticks only, as `rms::nomogram` does (a value between two ticks may then lie slightly outside 0 to 100).

    Raises
    ------
    InvalidInputError
        Predictors and model differ, or an interaction that no axis can show (the equation is printed).
    NotEstimableError
        No predictor has any effect.
    VerificationError
        The points do not reproduce the model on the training rows.

    Examples
    --------
    >>> from osml.nomogram import LogisticOutcome
    >>> from osml.stats.terms import Category, Linear
    >>> model = LinearModel((Linear("age"), Category("sex", ("f", "m"))), np.array([0.05, 0.5]), -3.0)
    >>> n = build(model, [Predictor("age", low=20, high=60), Predictor("sex", "category", levels=("f", "m"))],
    ...           LogisticOutcome("relapse"))
    >>> {name: points.tolist() for name, points in n.points({"age": 40, "sex": "m"}).items()}
    {'age': [50.0], 'sex': [25.0]}
    >>> round(float(n.probability({"age": 40, "sex": "m"})[0]), 6)
    0.377541
    """
    if extremes not in ("axis", "ticks"):
        raise InvalidInputError(f"extremes is {extremes!r}: choose 'axis' or 'ticks'")
    if not np.all(np.isfinite([model.intercept, *model.coef])):
        raise InvalidInputError("the model holds coefficients that are not finite")
    parts = components(model, predictors, extremes=extremes)
    span = max((c.maximum - c.minimum for c in parts), default=0.0)
    if span <= 1e-12:
        raise NotEstimableError(
            "no predictor changes the linear predictor along its axis: there is nothing to draw",
            do="Report the overall risk instead of a nomogram.",
        )
    if interval is not None:
        interval.check(model, outcome)
    made = Nomogram(
        model,
        tuple(predictors),
        outcome,
        parts,
        MAX_POINTS / span,
        float(model.intercept) + sum(c.minimum for c in parts),
        extremes,
        interval,
        None,
        dict(metadata or {}),
    )
    if training is None:
        return made
    verify_points(made, model, training)
    return _with_totals(made, made.total(training))


def _with_totals(nomogram: Nomogram, totals: FloatArray) -> Nomogram:
    n = len(totals)
    if n < 20:
        return nomogram
    ordered = np.sort(totals)
    low, high = np.quantile(totals, [0.01, 0.99])
    words = "1st to 99th percentile of the training patients"
    if low < ordered[4] or high > ordered[-5]:
        # An observed extreme is somebody's value; with few patients the percentiles come too near to it.
        low, high, words = (
            max(low, ordered[4]),
            min(high, ordered[-5]),
            "all but the 4 lowest and 4 highest training patients",
        )
    return replace(nomogram, training_totals=TotalRange(float(np.ceil(low)), float(np.floor(high)), words))
