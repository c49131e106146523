"""Bootstrap refits of a whole GLM pipeline, and the shrinkage slope they give.

Replicates are frequency weights over the same patients, so the common case (no selection, maximum likelihood) is fitted
for all replicates together; imputation and spline knots are learnt again in each of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, EventOutcome, SurvivalOutcome
from osml.errors import NotEstimableError
from osml.predictors.learn import (
    Learnt,
    complete,
    cox_baseline,
    fit_recipe_imputer,
    learn,
    make_terms,
    require_levels,
    shrunken,
)
from osml.predictors.recipe import GlmRecipe
from osml.stats.cox import fit_cox
from osml.stats.logistic import fit_logistic_batch
from osml.stats.terms import LinearModel, design_matrix

Float = NDArray[np.float64]
# Below this share of estimable replicates the slope would come from the easy samples only.
OPTIMISM = "optimism bootstrap"
MIN_ESTIMABLE = 0.75


@dataclass(frozen=True)
class Refits:
    """Refits of one pipeline on B bootstrap samples.

    lp : linear predictor of every original unit under each refit, float array (B, n); NaN where a refit failed
    weights : how often each unit was drawn, float array (B, n)
    ok : bool array (B,)
    failures : reason → number of replicates
    """

    lp: Float
    weights: Float
    ok: NDArray[np.bool_]
    failures: Mapping[str, int]


def draw_weights(patients: Sequence[str], bootstraps: int, rng: np.random.Generator) -> Float:
    """Patients drawn with replacement; the weight of a unit is how often its patient was drawn, (B, n)."""
    ids, position = np.unique(np.array(patients, dtype=object).astype(str), return_inverse=True)
    draws = rng.integers(0, len(ids), size=(bootstraps, len(ids)))
    counts = np.zeros((bootstraps, len(ids)))
    for b in range(bootstraps):
        counts[b] = np.bincount(draws[b], minlength=len(ids))
    return counts[:, position]


def refit(
    recipe: GlmRecipe, values: Mapping[str, Float], outcome: EventOutcome, weights: Float, folds: NDArray[np.intp]
) -> Refits:
    """Run the pipeline once per row of `weights` (B, n), everything learnt again."""
    batched = recipe.select == "none" and recipe.estimator == "ml" and recipe.shrink != "ridge"
    if batched and isinstance(outcome, BinaryOutcome):
        return _refit_batch(recipe, values, outcome, weights)
    lp = np.full(weights.shape, np.nan)
    failures: Counter[str] = Counter()
    for b, w in enumerate(weights):
        try:
            learnt = learn(recipe, values, outcome, w, folds, replicate=True)
        except NotEstimableError as error:
            failures[error.what] += 1
            continue
        filled, _ = complete(learnt.imputer, values)
        lp[b] = learnt.model.lp(filled) if learnt.model.terms else learnt.model.intercept
    return Refits(lp, weights, ~np.isnan(lp[:, 0]), dict(failures))


def _refit_batch(recipe: GlmRecipe, values: Mapping[str, Float], outcome: BinaryOutcome, weights: Float) -> Refits:
    n = weights.shape[1]
    gaps = recipe.impute and any(np.isnan(x).any() for x in values.values())
    splines = any(i.transform == "rcs" for i in recipe.inputs)
    failures: Counter[str] = Counter()
    usable = np.ones(len(weights), dtype=bool)
    if not gaps and not splines:
        filled, _ = complete(None, values)
        terms = make_terms(recipe, filled, np.ones(n))
        X = design_matrix(terms, filled)
        design = np.broadcast_to(X, (len(weights), *X.shape))
        coefs, converged = fit_logistic_batch(X, outcome.y, weights)
    else:
        p = recipe.candidate_parameters
        design = np.zeros((len(weights), n, p))
        for b, w in enumerate(weights):
            try:
                filled, _ = complete(fit_recipe_imputer(recipe, values, w, replicate=True) if gaps else None, values)
                terms = make_terms(recipe, filled, w)
                require_levels(terms, filled, outcome, w, finite=False)
            except NotEstimableError as error:
                failures[error.what] += 1
                usable[b] = False
                continue
            design[b] = design_matrix(terms, filled)
        coefs = np.full((len(weights), p + 1), np.nan)
        converged = np.zeros(len(weights), dtype=bool)
        if usable.any():
            coefs[usable], converged[usable] = fit_logistic_batch(design[usable], outcome.y, weights[usable])
    lost = int((usable & ~converged).sum())
    if lost:
        failures["separated, or a level without patients"] += lost
    lp = np.einsum("bnp,bp->bn", design, coefs[:, 1:]) + coefs[:, :1]
    lp[~converged] = np.nan
    return Refits(lp, weights, converged, dict(failures))


@dataclass(frozen=True)
class Slope:
    """Optimism-corrected calibration slope of an unshrunken model, and how it was found."""

    value: float
    source: str
    replicates: int
    failed: int


def optimism_slope(refits: Refits, lp: Float, outcome: EventOutcome) -> Slope:
    """Harrell's corrected slope: apparent - mean over replicates of (slope in the sample - slope in the original).

    Replicates in which the slope does not exist (nothing selected, separation) are counted in `failed`.

    Raises
    ------
    NotEstimableError
        Fewer than three quarters of the replicates could be fitted.
    """
    B = len(refits.ok)
    share = refits.ok.mean()
    if share < MIN_ESTIMABLE:
        reasons = "; ".join(f"{reason}: {n}" for reason, n in sorted(refits.failures.items(), key=lambda r: -r[1])[:3])
        raise NotEstimableError(
            f"only {int(refits.ok.sum())} of {B} bootstrap samples could be fitted: the shrinkage cannot be estimated",
            why=f"The others failed: {reasons}.",
            do="Merge rare levels, use fewer terms, or `estimator: firth` or `shrink: ridge`.",
        )
    n = len(lp)
    whole = np.ones((1, n))
    apparent = calibration_slopes(lp[None], outcome, whole)[0]
    good = np.flatnonzero(refits.ok)
    test = calibration_slopes(refits.lp[good], outcome, np.ones((len(good), n)))
    sample = calibration_slopes(refits.lp[good], outcome, refits.weights[good])
    optimism = sample - test
    defined = ~np.isnan(optimism)
    if np.isnan(apparent) or not defined.any():
        return Slope(0.0, "nothing was selected, or scores are constant", B, B)
    value = float(apparent - optimism[defined].mean())
    return Slope(min(max(value, 0.0), 1.0), OPTIMISM, B, B - int(defined.sum()))


def calibration_slopes(lp: Float, outcome: EventOutcome, weights: Float) -> Float:
    """Slope of the outcome on each row of lp (B, n) under weights (B, n); NaN where it does not exist."""
    out = np.full(len(lp), np.nan)
    varied = np.flatnonzero(np.ptp(lp, axis=1) > 1e-12)
    if len(varied) == 0:
        return out
    if isinstance(outcome, BinaryOutcome):
        coefs, converged = fit_logistic_batch(lp[varied][:, :, None], outcome.y, weights[varied])
        out[varied] = np.where(converged, coefs[:, 1], np.nan)
        return out
    for b in varied:
        try:
            out[b] = fit_cox(lp[b][:, None], outcome.time, outcome.event, weights=weights[b]).coef[0]
        except NotEstimableError:
            continue
    return out


@dataclass(frozen=True)
class IntervalRefits:
    """Refits on the deployed model's own design columns, for instability intervals.

    parameters : float array (B, p + 1), intercept (Cox: minus the centring) first
    survival : float array (B, horizons) or None
    """

    parameters: Float
    survival: Float | None


def interval_refits(
    learnt: Learnt, values: Mapping[str, Float], outcome: EventOutcome, weights: Float, slope: float
) -> IntervalRefits:
    """Refits for intervals: knots, imputation and the shrinkage factor held fixed, coefficients learnt again."""
    filled, _ = complete(learnt.imputer, values)
    terms = learnt.model.terms
    X = design_matrix(terms, filled)
    if isinstance(outcome, BinaryOutcome):
        coefs, converged = fit_logistic_batch(X, outcome.y, weights)
        rows = []
        for b in np.flatnonzero(converged):
            model = _with(learnt, coefs[b, 1:], float(coefs[b, 0]))
            model = shrunken(model, slope, filled, outcome, weights[b]) if slope != 1.0 else model
            rows.append(np.concatenate([[model.intercept], model.coef]))
        return IntervalRefits(np.array(rows).reshape(-1, X.shape[1] + 1), None)
    return _cox_interval_refits(learnt, filled, X, outcome, weights, slope)


def _cox_interval_refits(
    learnt: Learnt, filled: Mapping[str, Float], X: Float, outcome: SurvivalOutcome, weights: Float, slope: float
) -> IntervalRefits:
    rows, curves = [], []
    for w in weights:
        try:
            fit = fit_cox(X, outcome.time, outcome.event, weights=w)
            model = shrunken(_with(learnt, fit.coef, fit.intercept), slope, filled, outcome, w)
            curve = cox_baseline(model, filled, outcome, w)
        except NotEstimableError:
            continue
        if np.all((curve > 0) & (curve < 1)):
            rows.append(np.concatenate([[model.intercept], model.coef]))
            curves.append(curve)
    return IntervalRefits(np.array(rows).reshape(-1, X.shape[1] + 1), np.array(curves).reshape(len(rows), -1))


def _with(learnt: Learnt, coef: Float, intercept: float) -> LinearModel:
    return replace(learnt.model, coef=coef, intercept=intercept, covariance=None)
