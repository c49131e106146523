"""Cox regression with Efron's or Breslow's ties and the baseline hazard that goes with each.

Source: Cox 1972; Efron 1977; Therneau & Grambsch 2000, sections 3.3 and 10.2; R `survival::coxph` and `survfit.coxph`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from osml.errors import ConvergenceError, InvalidInputError, NotEstimableError
from osml.stats.cox_risk_sets import Likelihood, RiskSets, Ties, evaluate, information, risk_sets
from osml.stats.inputs import (
    Array,
    confidence_level,
    design_array,
    frequency_weights,
    penalty_strength,
    survival_outcome,
    vector,
)
from osml.stats.monotone import overlaps_in_risk_sets, refuse_inestimable, refuse_monotone
from osml.stats.newton import Basis, gradient_limit, orthogonal_basis, ridge_basis

_MAX_ITERATIONS = 100


@dataclass(frozen=True)
class StepBaseline:
    """Baseline hazard as a right-continuous step function, for a patient with lp = 0: at the column means.

    times : float array (g,), distinct event times, increasing
    cumulative_hazard : float array (g,), Efron or Breslow as the coefficients
    survival : float array (g,), exp(-cumulative_hazard)
    variance : float array (g,)
        Variance of the cumulative hazard for fixed coefficients.
    exposure : float array (g, p)
        Integral of the risk-set means, centred at `means`, over the hazard; carries the coefficients' uncertainty.
    last_time : float
        Longest follow-up, censored or not: nothing is known beyond it.
    """

    times: Array
    cumulative_hazard: Array
    survival: Array
    variance: Array
    exposure: Array
    last_time: float

    def at(self, times: ArrayLike) -> Array:
        """Cumulative hazard at lp = 0 at given times, float array (k,); refused beyond the last follow-up time."""
        return np.concatenate([[0.0], self.cumulative_hazard])[self.index(times)]

    def index(self, times: ArrayLike) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """Number of event times at or before each of `times`."""
        t = vector(np.atleast_1d(np.asarray(times)), "times")
        if np.any(t < 0) or np.any(t > self.last_time):
            raise InvalidInputError(
                f"times must lie between 0 and {self.last_time:g}, the longest follow-up; got {t.tolist()}",
                do="Choose an earlier horizon.",
            )
        return np.searchsorted(self.times, t, side="right")


@dataclass(frozen=True)
class CoxFit:
    """A fitted Cox model: hazard(t) = baseline hazard(t) * exp(lp), lp = (X - means) @ coef.

    coef : float array (p,), log hazard ratios
    covariance : float array (p, p), inverse information (with a ridge penalty: penalised)
    means : float array (p,), weighted column means, where lp is 0
    log_likelihood, null_log_likelihood : float, partial, unpenalised
    score_statistic : float, score test that all coefficients are 0 (chi-square, p degrees of freedom)
    baseline : StepBaseline, at lp = 0
    n, events : float, total weight and that of the events
    iterations : int
    max_gradient : float, by standardised columns
    lp : float array (n,), of every row given, rows of weight 0 too
    martingale_residuals : float array (n,), event minus expected events; NaN for rows of weight 0
    """

    coef: Array
    covariance: Array
    means: Array
    log_likelihood: float
    null_log_likelihood: float
    score_statistic: float
    baseline: StepBaseline
    n: float
    events: float
    iterations: int
    max_gradient: float
    lp: Array
    martingale_residuals: Array
    ties: Ties = "efron"
    ridge: float = 0.0

    @property
    def parameters(self) -> Array:
        """The coefficients, float array (p,), in the order of `covariance`."""
        return self.coef

    @property
    def intercept(self) -> float:
        """-means @ coef, so that lp = intercept + X @ coef."""
        return -float(self.means @ self.coef)

    @property
    def aic(self) -> float:
        """Akaike's criterion, -2 log partial likelihood + 2 p."""
        return -2.0 * self.log_likelihood + 2.0 * len(self.coef)


def fit_cox(
    X: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    ties: Ties = "efron",
    ridge: float = 0.0,
) -> CoxFit:
    """Fit a Cox model by maximum partial likelihood.

    Maximises the log partial likelihood - ridge / 2 * sum_j (sd_j coef_j)², with sd_j the population sd of column j.

    Parameters
    ----------
    X : float array (n, p)
        One row per patient, no missing values.
    time : float array (n,)
        Follow-up from time 0, above 0. At equal times deaths come before censorings.
    event : bool or 0/1 array (n,)
        True = event at `time`, False = censored there.
    weights : array (n,), optional
        Frequency weights: a weight of 2 equals the row twice (tied with itself), 0 drops it. Whole numbers for Efron.
    ties : 'efron' or 'breslow'
    ridge : float

    Raises
    ------
    NotEstimableError
        No events, constant or dependent columns, or a monotone likelihood (a coefficient runs to infinity).
    ConvergenceError
        The largest gradient stays above 1e-8.

    >>> fit = fit_cox([[1.0], [0], [1], [0], [0], [1]], [2, 3, 3, 5, 7, 8], [1, 1, 1, 0, 1, 1])
    >>> round(float(fit.coef[0]), 6), fit.baseline.survival.round(4).tolist()
    (0.228994, [0.8474, 0.5355, 0.3259, 0.1336])
    """
    X = design_array(X)
    n = len(X)
    t, died = survival_outcome(time, event)
    if len(t) != n:
        raise InvalidInputError(f"X has {n} rows but time has {len(t)}")
    w = frequency_weights(weights, n)
    ridge = penalty_strength(ridge)
    sets = risk_sets(t, died, w, ties)
    rows = sets.order
    basis = ridge_basis(X[rows], sets.weight) if ridge > 0 else orthogonal_basis(X[rows], sets.weight)
    theta, at, null, score, iterations, converged = _newton(sets, basis, ridge)
    if ridge == 0 and not (converged and overlaps_in_risk_sets(sets, basis.Z, at)):
        refuse_monotone(sets, basis.Z, basis.to_raw)
    gradient = basis.standardised.T @ at.residual - ridge * basis.sd * (basis.to_raw @ theta)
    worst = float(np.abs(gradient).max(initial=0.0))
    if not converged or worst >= gradient_limit(float(sets.weight.sum())):
        raise ConvergenceError(
            f"Cox regression did not converge: largest gradient {worst:.2g} after {iterations} iterations",
            do="Look for extreme values or nearly dependent columns, or use a ridge penalty.",
        )
    coef = basis.to_raw @ theta
    curvature = information(sets, basis.Z, at) + ridge * np.eye(len(theta))
    inverse = _inverse(curvature)
    covariance = basis.to_raw @ inverse @ basis.to_raw.T
    if ridge > 0:
        covariance += _unseen_directions(basis, ridge)
    centred = evaluate(sets, basis.standardised * basis.sd, basis.Z @ theta)
    martingale = np.full(n, np.nan)
    martingale[rows] = at.residual / sets.weight
    return CoxFit(
        coef=coef,
        covariance=covariance,
        means=basis.mean,
        log_likelihood=at.log_likelihood,
        null_log_likelihood=null,
        score_statistic=score,
        baseline=_baseline(sets, centred, float(t[rows].max())),
        n=float(sets.weight.sum()),
        events=float(sets.deaths.sum()),
        iterations=iterations,
        max_gradient=worst,
        lp=(X - basis.mean) @ coef,
        martingale_residuals=martingale,
        ties=ties,
        ridge=ridge,
    )


def baseline_hazard(
    lp: ArrayLike, time: ArrayLike, event: ArrayLike, *, weights: ArrayLike | None = None, ties: Ties = "efron"
) -> StepBaseline:
    """Baseline hazard for a linear predictor that is given, not fitted: after shrinkage, or in another hospital.

    >>> baseline_hazard([0.0, 0.0, 0.0], [1, 2, 3], [1, 1, 0]).cumulative_hazard.round(4).tolist()
    [0.3333, 0.8333]
    """
    lp = vector(lp, "lp")
    t, died = survival_outcome(time, event, len(lp))
    sets = risk_sets(t, died, frequency_weights(weights, len(lp)), ties)
    at = evaluate(sets, np.empty((len(sets.order), 0)), lp[sets.order])
    return _baseline(sets, at, float(t[sets.order].max()))


@dataclass(frozen=True)
class SurvivalCurve:
    """Predicted survival: float arrays (n, k), one row per patient, one column per time; limits log-log."""

    survival: Array
    se: Array
    low: Array
    high: Array
    level: float


def survival(fit: CoxFit, lp: ArrayLike, times: ArrayLike) -> Array:
    """Survival probability at `times` (k,) for linear predictors lp (n,), float array (n, k).

    lp is centred as `fit.lp` is: (x - means) @ coef. The curve is a step function; times beyond the last follow-up are
    refused.

    >>> fit = fit_cox([[1.0], [0], [1], [0], [0], [1]], [2, 3, 3, 5, 7, 8], [1, 1, 1, 0, 1, 1])
    >>> survival(fit, fit.lp[:2], [4]).round(4).tolist()
    [[0.4964], [0.5729]]
    """
    hazard = fit.baseline.at(times)
    return np.exp(-np.exp(vector(lp, "lp"))[:, None] * hazard)


def survival_interval(fit: CoxFit, X: ArrayLike, times: ArrayLike, level: float = 0.95) -> SurvivalCurve:
    """Survival with the standard error of both baseline and coefficients, and log-log limits (as `survfit.coxph`).

    Variance of the cumulative hazard of a patient: exp(2 lp) (sum of hazard variance terms + q' V q), where q is the
    integral of (x - risk-set mean) over the baseline hazard. `se` is of the survival probability.

    Parameters
    ----------
    X : float array (m, p), new patients
    times : float array (k,)
    """
    if fit.ridge > 0:
        raise NotEstimableError("a penalised fit has no standard errors", do="Use a bootstrap of the whole fit.")
    centred = design_array(X) - fit.means
    if centred.shape[1] != len(fit.coef):
        raise InvalidInputError(f"X has {centred.shape[1]} columns, the model {len(fit.coef)}")
    z = float(-ndtri((1.0 - confidence_level(level)) / 2.0))
    at = fit.baseline.index(times)
    hazard = fit.baseline.at(times)
    fixed = np.concatenate([[0.0], fit.baseline.variance])[at]
    exposure = np.vstack([np.zeros(len(fit.coef)), fit.baseline.exposure])[at]
    q = centred[:, None, :] * hazard[:, None] - exposure
    relative = np.exp(centred @ fit.coef)[:, None]
    hazard_se = relative * np.sqrt(fixed + np.einsum("mkp,pq,mkq->mk", q, fit.covariance, q))
    total = relative * hazard
    probability = np.exp(-total)
    shift = np.exp(z * np.divide(hazard_se, total, out=np.zeros_like(total), where=total > 0))
    return SurvivalCurve(
        probability, probability * hazard_se, np.exp(-total * shift), np.exp(-total / shift), float(level)
    )


def _newton(sets: RiskSets, basis: Basis, ridge: float) -> tuple[Array, Likelihood, float, float, int, bool]:
    """Coefficients in the basis, the likelihood there, its null value, the score statistic, iterations, converged."""
    Z = basis.Z
    theta = np.zeros(Z.shape[1])
    at = evaluate(sets, Z, Z @ theta)
    null = at.log_likelihood
    objective = null
    limit = gradient_limit(float(sets.weight.sum()))
    score, polished, iteration = 0.0, False, 0
    gradient = Z.T @ at.residual
    if len(theta):
        if ridge == 0:
            refuse_inestimable(sets, Z, basis.to_raw, at)
        score = float(gradient @ np.linalg.lstsq(information(sets, Z, at), gradient, rcond=None)[0])
    for iteration in range(_MAX_ITERATIONS):
        below = np.abs(gradient).max(initial=0.0) < limit
        if polished and below:
            return theta, at, null, score, iteration, True
        polished = bool(below)
        curvature = information(sets, Z, at) + ridge * np.eye(len(theta))
        try:
            step = np.linalg.solve(curvature, gradient)
        except np.linalg.LinAlgError:
            break
        slack = 1e-12 * (1.0 + abs(objective))
        for halving in range(40):
            trial = theta + step * 0.5**halving
            value = evaluate(sets, Z, Z @ trial, derivatives=False).log_likelihood
            value -= 0.5 * ridge * float(trial @ trial)
            if value >= objective - slack:
                break
        else:
            break
        theta, objective = trial, value
        at = evaluate(sets, Z, Z @ theta)
        gradient = Z.T @ at.residual - ridge * theta
    return theta, at, null, score, iteration, bool(np.abs(gradient).max(initial=0.0) < limit)


def _inverse(curvature: Array) -> Array:
    try:
        inverse = np.linalg.inv(curvature)
    except np.linalg.LinAlgError:
        raise NotEstimableError("the information matrix is singular, so no covariance exists") from None
    return (inverse + inverse.T) / 2


def _unseen_directions(basis: Basis, ridge: float) -> Array:
    """Prior variance 1 / ridge of standardised directions that the data do not reach (rank below p)."""
    seen = basis.to_raw * basis.sd[:, None]
    scale = np.divide(1.0, basis.sd, out=np.zeros_like(basis.sd), where=basis.sd > 0)
    return (np.eye(len(scale)) - seen @ seen.T) / ridge * np.outer(scale, scale)


def _baseline(sets: RiskSets, at: Likelihood, last_time: float) -> StepBaseline:
    """Steps at the event times; `at` must hold the risk-set means of the centred raw columns."""
    counts = np.bincount(sets.term_time)
    exposure = np.add.reduceat(at.term_hazard[:, None] * at.mean, np.cumsum(counts) - counts, axis=0)
    return StepBaseline(
        times=sets.times,
        cumulative_hazard=at.cumulative,
        survival=np.exp(-at.cumulative),
        variance=np.cumsum(at.variance_terms),
        exposure=np.cumsum(exposure, axis=0),
        last_time=last_time,
    )
