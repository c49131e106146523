"""One pass of a GLM pipeline over training patients: impute, place knots, select, fit. Everything learnt is in here,
so a fold or a bootstrap replicate repeats all of it by calling `learn` once more with its own weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, EventOutcome, SurvivalOutcome
from osml.errors import NotEstimableError
from osml.predictors.recipe import GlmRecipe
from osml.stats.cox import baseline_hazard, fit_cox
from osml.stats.firth import fit_firth
from osml.stats.impute import Imputer, fit_imputer
from osml.stats.lasso_cv import lasso_cv
from osml.stats.logistic import fit_intercept, fit_logistic
from osml.stats.ridge import select_ridge
from osml.stats.ridge_cox import select_ridge_cox
from osml.stats.select import select_backward, select_univariable
from osml.stats.splines import rcs_knots
from osml.stats.terms import Category, Linear, LinearModel, Log, Spline, Term, design_matrix

Float = NDArray[np.float64]
P_ENTER = 0.1


@dataclass(frozen=True)
class Learnt:
    """A pipeline after one pass, before shrinkage.

    model : terms, coefficients, intercept (Cox: minus the centring)
    imputer : None when rows with missing values never reach the model
    selected : names of the inputs kept, with the p-value that decided where there is one
    """

    model: LinearModel
    imputer: Imputer | None
    selected: Mapping[str, float | None]
    ridge: float = 0.0


def fit_recipe_imputer(
    recipe: GlmRecipe, values: Mapping[str, Float], weights: Float, *, replicate: bool = False
) -> Imputer | None:
    """Imputation model of every input on the others, without the outcome; None for complete cases.

    replicate : the imputer will fill these patients only (a bootstrap replicate), so complete inputs need no equation
    """
    if not recipe.impute:
        return None
    return fit_imputer(
        values,
        kinds={i.name: "category" if i.kind == "category" else "number" for i in recipe.inputs},
        levels={i.name: len(i.levels) for i in recipe.inputs if i.kind == "category"},
        log={i.name for i in recipe.inputs if i.transform == "log"},
        weights=weights,
        equations="incomplete" if replicate else "all",
    )


def complete(
    imputer: Imputer | None, values: Mapping[str, Float]
) -> tuple[dict[str, Float], dict[str, NDArray[np.bool_]]]:
    """Values without gaps, and which of them were imputed."""
    if imputer is not None:
        filled, imputed = imputer.apply(dict(values))
        return dict(filled), dict(imputed)
    gaps = {name: int(np.isnan(x).sum()) for name, x in values.items() if np.isnan(x).any()}
    if gaps:
        raise NotEstimableError(
            f"missing values in {', '.join(f'{name} ({n})' for name, n in gaps.items())}; the model does not impute",
            do="Give the values, or train with `missing: impute`.",
        )
    return dict(values), {name: np.zeros(len(x), dtype=bool) for name, x in values.items()}


def make_terms(recipe: GlmRecipe, values: Mapping[str, Float], weights: Float) -> tuple[Term, ...]:
    """Terms of all inputs; spline knots at the (weighted) quantiles of rms, rounded by `shareable_knots`."""
    terms: list[Term] = []
    for item in recipe.inputs:
        if item.kind == "category":
            terms.append(Category(item.name, item.levels))
        elif item.transform == "log":
            terms.append(Log(item.name))
        elif item.transform == "rcs":
            terms.append(Spline(item.name, shareable_knots(rcs_knots(values[item.name], item.knots, weights=weights))))
        else:
            terms.append(Linear(item.name))
    return tuple(terms)


def shareable_knots(knots: Float) -> tuple[float, ...]:
    """Knots rounded to a hundredth of their range or finer: below 100 patients the outer ones are somebody's value.

    >>> shareable_knots(np.array([57.1234, 118.0, 206.55, 661.987]))
    (57.0, 118.0, 207.0, 662.0)
    """
    step = 10.0 ** np.floor(np.log10((knots[-1] - knots[0]) / 100.0))
    rounded = np.round(knots / step) * step
    while np.any(np.diff(rounded) <= 0):
        step /= 10.0
        rounded = np.round(knots / step) * step
    # Decimal, so that 0.1 is written 0.1.
    return tuple(float(f"{k:.10g}") for k in rounded)


def learn(
    recipe: GlmRecipe,
    values: Mapping[str, Float],
    outcome: EventOutcome,
    weights: Float,
    folds: NDArray[np.intp],
    *,
    replicate: bool = False,
) -> Learnt:
    """Run the whole pipeline once.

    Parameters
    ----------
    values : columns (n,), NaN = missing
    weights : frequency weights (n,): how often each unit counts
    folds : inner fold of each unit (n,), patients whole, for lasso and ridge
    replicate : only these patients will be filled and predicted, so complete inputs need no imputation model

    Raises
    ------
    NotEstimableError
        Separation, an empty level, a constant column: named.
    """
    imputer = fit_recipe_imputer(recipe, values, weights, replicate=replicate)
    filled, _ = complete(imputer, values)
    terms = make_terms(recipe, filled, weights)
    require_levels(terms, filled, outcome, weights, finite=recipe.estimator == "firth" or recipe.shrink == "ridge")
    terms, selected = _select(recipe, terms, filled, outcome, weights, folds)
    X = design_matrix(terms, filled) if terms else np.empty((len(weights), 0))
    model, ridge = _fit(recipe, terms, X, outcome, weights, folds)
    return Learnt(model, imputer, selected, ridge)


def require_levels(
    terms: Sequence[Term], values: Mapping[str, Float], outcome: EventOutcome, weights: Float, finite: bool
) -> None:
    """Refuse a level that nobody has, and one without event or without non-event unless the estimator is finite."""
    event = outcome.event.astype(float)
    for term in terms:
        if not isinstance(term, Category):
            continue
        for position, level in enumerate(term.levels):
            inside = weights * (values[term.input] == position)
            n, events = float(inside.sum()), float(inside @ event)
            if n == 0:
                raise NotEstimableError(
                    f"level {level!r} of {term.input!r} has no training patient here",
                    do="Merge rare levels with `groups`, so that every fold holds some.",
                )
            one_sided = events == 0 or (isinstance(outcome, BinaryOutcome) and events == n)
            if one_sided and not finite:
                word = "no event" if events == 0 else "events only"
                raise NotEstimableError(
                    f"level {level!r} of {term.input!r} has {word} among its {n:g} training patients here",
                    why="Its coefficient is infinite; size and standard error of the estimate do not show it.",
                    do="Merge it with `groups`, or use `estimator: firth` or `shrink: ridge`.",
                )


def _select(
    recipe: GlmRecipe,
    terms: tuple[Term, ...],
    values: Mapping[str, Float],
    outcome: EventOutcome,
    weights: Float,
    folds: NDArray[np.intp],
) -> tuple[tuple[Term, ...], dict[str, float | None]]:
    if recipe.select == "none":
        return terms, {term.inputs[0]: None for term in terms}
    X = design_matrix(terms, values)
    groups, start = [], 0
    for term in terms:
        groups.append(list(range(start, start + len(term.columns))))
        start += len(term.columns)
    y = outcome.y if isinstance(outcome, BinaryOutcome) else (outcome.time, outcome.event)
    if recipe.select == "univariable":
        chosen = select_univariable(groups, X, y, p_enter=P_ENTER, weights=weights)
        keep, p_values = list(chosen.kept), dict(enumerate(chosen.p_values.tolist()))
    elif recipe.select == "backward":
        full = (
            fit_logistic(X, outcome.y, weights=weights)
            if isinstance(outcome, BinaryOutcome)
            else fit_cox(X, outcome.time, outcome.event, weights=weights)
        )
        keep, p_values = list(select_backward(groups, full, rule="aic").kept), {}
    else:
        if not isinstance(outcome, BinaryOutcome):
            raise NotEstimableError("`select: lasso` is offered for binary targets only", do="Use backward or none.")
        cv = lasso_cv(X, outcome.y, folds, family="binomial", weights=weights)
        chosen_columns = cv.coefficients()[1] != 0
        keep, p_values = [k for k, g in enumerate(groups) if np.any(chosen_columns[g])], {}
    return tuple(terms[k] for k in keep), {terms[k].inputs[0]: p_values.get(k) for k in keep}


def _fit(
    recipe: GlmRecipe, terms: tuple[Term, ...], X: Float, outcome: EventOutcome, weights: Float, folds: NDArray[np.intp]
) -> tuple[LinearModel, float]:
    honest = recipe.select == "none" and not recipe.impute
    if isinstance(outcome, SurvivalOutcome):
        if not terms:
            return LinearModel((), np.empty(0), 0.0), 0.0
        ridge = _ridge(recipe, X, outcome, weights, folds)
        cox = fit_cox(X, outcome.time, outcome.event, weights=weights, ridge=ridge)
        covariance = cox.covariance if honest and not ridge else None
        return LinearModel(terms, cox.coef, cox.intercept, covariance), ridge
    if recipe.estimator == "firth" and terms:
        firth = fit_firth(X, outcome.y, weights=weights)
        return LinearModel(terms, firth.coef, firth.flic_intercept), 0.0
    ridge = _ridge(recipe, X, outcome, weights, folds) if terms else 0.0
    fit = fit_logistic(X, outcome.y, weights=weights, ridge=ridge)
    return LinearModel(terms, fit.coef, fit.intercept, fit.covariance if honest and not ridge else None), ridge


def _ridge(recipe: GlmRecipe, X: Float, outcome: EventOutcome, weights: Float, folds: NDArray[np.intp]) -> float:
    if recipe.shrink != "ridge":
        return 0.0
    if isinstance(outcome, SurvivalOutcome):
        return select_ridge_cox(X, outcome.time, outcome.event, folds, weights=weights)
    return select_ridge(X, outcome.y, folds, weights=weights).ridge


def shrunken(
    model: LinearModel, slope: float, values: Mapping[str, Float], outcome: EventOutcome, weights: Float
) -> LinearModel:
    """Coefficients times `slope`. Logistic: intercept re-estimated so that mean risk equals the event share.

    Cox: the centring shrinks with the coefficients; the baseline is re-estimated by `cox_baseline`.
    """
    coef = model.coef * slope
    if isinstance(outcome, BinaryOutcome):
        offset = design_matrix(model.terms, values) @ coef if model.terms else np.zeros(len(weights))
        intercept = fit_intercept(outcome.y, offset, weights=weights)
        return replace(model, coef=coef, intercept=intercept, covariance=None)
    return replace(model, coef=coef, intercept=model.intercept * slope, covariance=None)


def cox_baseline(model: LinearModel, values: Mapping[str, Float], outcome: SurvivalOutcome, weights: Float) -> Float:
    """Baseline survival at each horizon for lp = 0, float array (horizons,), Efron."""
    lp = model.lp(values) if model.terms else np.zeros(len(weights))
    baseline = baseline_hazard(lp, outcome.time, outcome.event, weights=weights)
    if outcome.horizons[-1] > baseline.last_time:
        raise NotEstimableError(
            f"the horizon of {outcome.horizons[-1]:g} {outcome.unit}s lies beyond the longest follow-up of these "
            f"training patients ({baseline.last_time:g})",
            do="Choose an earlier horizon.",
        )
    return np.exp(-baseline.at(np.array(outcome.horizons)))
