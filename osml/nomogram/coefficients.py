"""Bring a model as plain coefficients, named as R names them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from osml.errors import InvalidInputError
from osml.nomogram.algebra import Nomogram
from osml.nomogram.build import build
from osml.nomogram.spec import LogisticOutcome, Outcome, Predictor
from osml.stats.terms import Category, Interaction, Linear, LinearModel, Log, Spline, Term, design_columns

Simple = Linear | Log | Spline | Category
_INTERCEPTS = ("Intercept", "(Intercept)")


def from_coefficients(
    coefficients: Mapping[str, float],
    predictors: Sequence[Predictor],
    outcome: Outcome,
    *,
    knots: Mapping[str, Sequence[float]] | None = None,
    center: float = 0.0,
    covariance: ArrayLike | None = None,
    **options: Any,
) -> Nomogram:
    """Build a nomogram from named coefficients, such as `coef(fit)` of R's rms, glm or survival.

    Parameters
    ----------
    coefficients : mapping from name to number
        Names as rms writes them (`age`, `lwt'`, `race=black`, `sex=male * age`) or as glm and coxph do
        (`raceblack`, `sexmale:age`), `log(x)`, and `Intercept` or `(Intercept)` for a logistic model.
    predictors : sequence of Predictor
        `levels` of a category begin with the model's reference level.
    knots : mapping from input to knots
        For every restricted cubic spline.
    center : float
        Cox: the value that the baseline survival subtracts from X beta (`fit$center` in rms; 0 when the baseline is at
        X beta = 0).
    covariance : float array, optional
        `vcov(fit)`, rows and columns in the order of `coefficients`.
    **options
        Passed to `build`: metadata, interval, training, extremes.

    Raises
    ------
    InvalidInputError
        A name that belongs to no predictor, a missing coefficient, an intercept where none belongs.

    Examples
    --------
    >>> n = from_coefficients({"Intercept": -3.0, "age": 0.05, "sex=m": 0.5},
    ...                       [Predictor("age", low=20, high=60), Predictor("sex", "category", levels=("f", "m"))],
    ...                       LogisticOutcome("relapse"))
    >>> [t.kind for t in n.model.terms]
    ['linear', 'category']
    """
    names = [name for name in coefficients if name not in _INTERCEPTS]
    given = [name for name in coefficients if name in _INTERCEPTS]
    logistic = isinstance(outcome, LogisticOutcome)
    if logistic and len(given) != 1:
        raise InvalidInputError("a logistic model needs exactly one coefficient named 'Intercept'")
    if not logistic and given:
        raise InvalidInputError("a Cox model has no intercept: give `center` instead")
    if logistic and center != 0.0:
        raise InvalidInputError("`center` belongs to Cox models only")
    terms = _terms(names, {p.name: p for p in predictors}, knots or {})
    source = _sources(terms, names)
    model = LinearModel(
        terms,
        np.array([float(coefficients[name]) for name in source]),
        float(coefficients[given[0]]) if logistic else -float(center),
        None if covariance is None else _reordered(covariance, list(coefficients), [*given, *source]),
    )
    return build(model, predictors, outcome, **options)


def _terms(
    names: Sequence[str], predictors: Mapping[str, Predictor], knots: Mapping[str, Sequence[float]]
) -> tuple[Term, ...]:
    stray = sorted(set(knots) - set(predictors))
    if stray:
        raise InvalidInputError(f"knots given for {stray}, which are not predictors")
    out: dict[Term, None] = {}
    for name in names:
        factors = re.split(r" \* |:", name)
        parts = [_part(factor, predictors, knots) for factor in factors]
        if None in parts:
            whole = _part(name, predictors, knots)
            factors, parts = [name], [whole]
        simple = [p for p in parts if p is not None]
        if len(simple) != len(factors) or len(simple) > 2:
            raise InvalidInputError(
                f"coefficient {name!r} belongs to no predictor",
                do=f"Predictors: {', '.join(predictors)}. A category's coefficient is named name=level.",
            )
        out[simple[0] if len(simple) == 1 else Interaction(*simple)] = None
    return tuple(out)


def _part(name: str, predictors: Mapping[str, Predictor], knots: Mapping[str, Sequence[float]]) -> Simple | None:
    """The term that a column name belongs to."""
    for p in predictors.values():
        if p.kind == "category" and name in _level_names(p):
            return Category(p.name, p.levels)
        if p.kind == "number":
            if name in (f"log({p.name})", f"log {p.name}"):
                return Log(p.name)
            if name.rstrip("'") == p.name:
                if p.name in knots:
                    return Spline(p.name, tuple(float(k) for k in knots[p.name]))
                return Linear(p.name) if name == p.name else None
    return None


def _level_names(p: Predictor) -> dict[str, str]:
    """Spellings of a level's column, each with the spelling of `design_columns`."""
    return {text: f"{p.name}={level}" for level in p.levels[1:] for text in (f"{p.name}={level}", f"{p.name}{level}")}


def _sources(terms: Sequence[Term], names: Sequence[str]) -> list[str]:
    """For each design column, the given name that holds its coefficient."""
    spelled: dict[str, str] = {}
    for name in names:
        spelled[_canonical(name)] = name
    out = []
    for column in design_columns(terms):
        key = _canonical(column)
        if key not in spelled:
            raise InvalidInputError(f"no coefficient for {column!r}", do=f"Given: {', '.join(names)}.")
        out.append(spelled.pop(key))
    if spelled:
        raise InvalidInputError(f"coefficients that fit no column: {', '.join(spelled.values())}")
    return out


def _canonical(name: str) -> str:
    """One spelling for rms and glm names; the order of an interaction's factors does not matter."""
    factors = sorted(part.replace("=", "").replace("log ", "log").strip("() ") for part in re.split(r" \* |:", name))
    return " * ".join(factors)


def _reordered(covariance: ArrayLike, given: list[str], wanted: list[str]) -> np.ndarray:
    V = np.asarray(covariance, dtype=np.float64)
    if V.shape != (len(given), len(given)):
        raise InvalidInputError(f"covariance of shape {V.shape} for {len(given)} coefficients")
    order = [given.index(name) for name in wanted]
    return V[np.ix_(order, order)]
