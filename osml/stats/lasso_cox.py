"""Lasso path of a Cox model, and the choice of its penalty by cross-validated partial likelihood.

Objective, with n the total weight and columns standardised by their population sd:
-log partial likelihood / n + lambda |b|_1, Efron's ties unless asked otherwise. Solved as `osml.stats.lasso` does:
Newton steps while the signs of the active coefficients hold; accepted only when all p optimality conditions hold.

Sources: Tibshirani 1997 (Stat Med 16:385); Simon, Friedman, Hastie & Tibshirani 2011 (JSS 39:5; R `glmnet(family =
"cox")`, which has Breslow's ties); Verweij & van Houwelingen 1993 (Stat Med 12:2305; cross-validation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.lapack import dposv

from osml.errors import ConvergenceError, InvalidInputError, NotEstimableError
from osml.stats.cox_risk_sets import Likelihood, RiskSets, Ties, deaths_by_time, evaluate, information, risk_sets
from osml.stats.inputs import Array, design_array, fold_ids, frequency_weights, survival_outcome, vector
from osml.stats.newton import standardise

_MAX_ITERATIONS = 500
_MOST_ENTRIES = 20
_LARGEST_STEP = 0.8


@dataclass(frozen=True)
class LassoCoxPath:
    """Solutions of a lasso path, one row per lambda, on the scale of the columns given.

    lambdas : float array (m,), decreasing
    coefs : float array (m, p), log hazard ratios
    df : int array (m,), coefficients that are not 0
    log_likelihood : float array (m,), partial, unpenalised
    null_log_likelihood : float
    lambda_max : float, the smallest lambda at which every coefficient is 0
    ties : 'efron' or 'breslow'
    """

    lambdas: Array
    coefs: Array
    df: NDArray[np.int64]
    log_likelihood: Array
    null_log_likelihood: float
    lambda_max: float
    ties: Ties

    def lp(self, X: ArrayLike) -> Array:
        """Linear predictor X @ coef of new rows at every lambda, uncentred, float array (rows, m)."""
        return design_array(X) @ self.coefs.T


@dataclass(frozen=True)
class LassoCoxCV:
    """Cross-validated lasso: the path on all rows, and how each penalty did on held-out rows.

    path : LassoCoxPath
    mean, se : float array (m,)
        Deviance per held-out event, -2 [l(b) - l_without(b)] / events, over folds weighted by their events.
    index_min : the lowest mean, at the larger lambda of ties
    index_1se : the largest lambda within one standard error of the lowest
    """

    path: LassoCoxPath
    mean: Array
    se: Array
    index_min: int
    index_1se: int

    @property
    def lambda_min(self) -> float:
        """Penalty with the lowest mean."""
        return float(self.path.lambdas[self.index_min])

    @property
    def lambda_1se(self) -> float:
        """Largest penalty within one standard error of the lowest."""
        return float(self.path.lambdas[self.index_1se])

    def coefficients(self, rule: Literal["min", "1se"] = "min") -> Array:
        """Coefficients (p,) at the chosen penalty."""
        if rule not in ("min", "1se"):
            raise InvalidInputError(f"rule must be 'min' or '1se', got {rule!r}")
        return self.path.coefs[self.index_min if rule == "min" else self.index_1se]


@dataclass(frozen=True)
class _Problem:
    """Sorted rows: standardised columns Z (n, p), risk sets, total weight."""

    Z: Array
    sets: RiskSets
    total: float

    def evaluate(self, active: NDArray[np.intp], beta: Array) -> tuple[float, Likelihood]:
        """Loss at active coefficients, and the likelihood of the active columns."""
        Z = self.Z[:, active]
        # A trial may be so wide that a risk vanishes: its loss is not finite, so the step is halved.
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            at = evaluate(self.sets, Z, Z @ beta)
        return -at.log_likelihood / self.total, at

    def correlation(self, at: Likelihood) -> Array:
        return self.Z.T @ at.residual / self.total


@dataclass(frozen=True)
class _State:
    active: NDArray[np.intp]
    beta: Array
    correlation: Array
    loss: float
    at: Likelihood


def lasso_cox_path(
    X: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    lambdas: ArrayLike | None = None,
    n_lambdas: int = 100,
    weights: ArrayLike | None = None,
    ties: Ties = "efron",
) -> LassoCoxPath:
    """Fit the Cox lasso at a decreasing sequence of penalties.

    Parameters
    ----------
    X : float array (n, p)
        Standardised inside; p may exceed n. A constant column keeps coefficient 0.
    time : float array (n,), above 0
    event : bool or 0/1 array (n,)
    lambdas : float array (m,), optional
        Penalties above 0, decreasing. Default: `n_lambdas` equally spaced logarithms from lambda_max =
        max|z' martingale residual| / n down to lambda_max times 0.0001, or 0.01 when n < p.
    weights : array (n,), optional
        Frequency weights, whole numbers for Efron.
    ties : 'efron' or 'breslow'

    Raises
    ------
    NotEstimableError
        No event, or no column that varies with the hazard.
    ConvergenceError
        The optimality conditions are not met to 1e-7 of lambda.

    >>> X = np.array([[1.0, 0], [0, 1], [1, 0], [0, 1], [0, 1], [1, 1]])
    >>> path = lasso_cox_path(X, [2, 3, 3, 5, 7, 8], [1, 1, 1, 0, 1, 1], lambdas=[0.2, 0.05])
    >>> path.df.tolist(), path.coefs[0].round(4).tolist()
    ([1, 2], [0.0, -1.2498])
    """
    X = design_array(X)
    t, died = survival_outcome(time, event, len(X))
    w = frequency_weights(weights, len(X))
    sets = risk_sets(t, died, w, ties)
    Z, _, sd = standardise(X[sets.order], sets.weight)
    problem = _Problem(Z, sets, float(sets.weight.sum()))
    nothing = np.empty(0, dtype=np.intp)
    loss, at = problem.evaluate(nothing, np.empty(0))
    correlation = problem.correlation(at)
    largest = float(np.abs(correlation).max(initial=0.0))
    if largest <= 1e-14:
        raise NotEstimableError("no column of X varies with the hazard, so every penalty gives the null model")
    grid = _grid(lambdas, n_lambdas, largest, *Z.shape)
    coefs, losses = np.zeros((len(grid), X.shape[1])), np.empty(len(grid))
    state, before = _State(nothing, np.empty(0), correlation, loss, at), largest
    for k, lam in enumerate(grid):
        steps = max(1, int(np.ceil(np.log(lam / before) / np.log(_LARGEST_STEP) - 1e-9)))
        for between in before * (lam / before) ** (np.arange(1, steps + 1) / steps):
            state = _solve(problem, float(between), state)
        before = lam
        coefs[k, state.active], losses[k] = state.beta, state.loss
    return LassoCoxPath(
        lambdas=grid,
        coefs=np.divide(coefs, sd, out=np.zeros_like(coefs), where=sd > 0),
        df=np.count_nonzero(coefs, axis=1),
        log_likelihood=-losses * problem.total,
        null_log_likelihood=-loss * problem.total,
        lambda_max=largest,
        ties=ties,
    )


def lasso_cox_cv(
    X: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    folds: ArrayLike,
    lambdas: ArrayLike | None = None,
    n_lambdas: int = 100,
    weights: ArrayLike | None = None,
    ties: Ties = "efron",
) -> LassoCoxCV:
    """Cross-validate the Cox lasso by the partial likelihood that a fold adds to the others.

    A held-out fold has few risk sets of its own, so it is judged by l(b) - l_without(b): the likelihood of all rows
    minus that of the rows b was fitted to.

    Parameters
    ----------
    X, time, event, lambdas, n_lambdas, weights, ties
        As in `lasso_cox_path`.
    folds : int array (n,)
        Fold in which each row is held out. All rows of a patient must share one.

    Raises
    ------
    NotEstimableError
        A fold holds no event, or the rows outside it hold none.

    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 3))
    >>> cv = lasso_cox_cv(X, rng.exponential(np.exp(-X[:, 0])), np.ones(60), np.arange(60) % 5)
    >>> (cv.coefficients("1se") != 0).tolist()
    [True, False, False]
    """
    X = design_array(X)
    n = len(X)
    t, died = survival_outcome(time, event, n)
    w, fold = frequency_weights(weights, n), fold_ids(folds, n)
    path = lasso_cox_path(X, t, died, lambdas, n_lambdas, w, ties)
    everyone = risk_sets(t, died, w, ties)
    scores, sizes = [], []
    for k in range(int(fold.max()) + 1):
        outside = fold != k
        events = float(w[~outside] @ died[~outside])
        if events == 0 or not np.any(w[outside] @ died[outside]):
            raise NotEstimableError(
                f"fold {k} of the lasso holds {'no event' if events == 0 else 'every event'}",
                why="Its penalty is judged by the events of the held-out fold, and fitted to those of the others.",
                do="Use fewer inner folds, or folds that are stratified by the event.",
            )
        fit = lasso_cox_path(X[outside], t[outside], died[outside], path.lambdas, weights=w[outside], ties=ties)
        lp = fit.lp(X)
        inside = risk_sets(t[outside], died[outside], w[outside], ties)
        scores.append(-2.0 * (_partial(everyone, lp) - _partial(inside, lp[outside])) / events)
        sizes.append(events)
    raw, size = np.array(scores), np.array(sizes) / np.sum(sizes)
    # A linear predictor so wide that a risk vanishes in double precision: the worst there is.
    raw = np.where(np.isfinite(raw), raw, np.inf)
    with np.errstate(invalid="ignore"):
        mean = size @ raw
        se = np.sqrt(size @ (raw - mean) ** 2 / (len(sizes) - 1))
    best = int(np.argmin(mean))
    within = int(np.flatnonzero(mean <= mean[best] + se[best])[0])
    return LassoCoxCV(path, mean, se, best, within)


def _partial(sets: RiskSets, lp: Array) -> Array:
    """Log partial likelihood of each column of linear predictors (n, m) at once, float array (m,); may be -inf."""
    lp = lp[sets.order] - lp[sets.order].max(axis=0)
    risk = sets.weight[:, None] * np.exp(lp)
    at_risk = np.cumsum(risk[::-1], axis=0)[::-1][sets.start]
    denominator = at_risk[sets.term_time]
    if sets.term_tied.any():
        denominator = denominator - sets.term_tied[:, None] * deaths_by_time(sets, risk)[sets.term_time]
    with np.errstate(divide="ignore", invalid="ignore"):
        return (sets.weight * sets.died) @ lp - sets.term_count @ np.log(denominator)


def _grid(lambdas: ArrayLike | None, n_lambdas: int, largest: float, n: int, p: int) -> Array:
    if lambdas is not None:
        grid = vector(lambdas, "lambdas")
        if len(grid) == 0 or np.any(grid <= 0) or np.any(np.diff(grid) >= 0):
            raise InvalidInputError("lambdas must be above 0 and strictly decreasing")
        return grid
    if n_lambdas < 1:
        raise InvalidInputError(f"n_lambdas must be 1 or more, got {n_lambdas}")
    return largest * np.logspace(0.0, np.log10(1e-2 if n < p else 1e-4), n_lambdas)


def _solve(problem: _Problem, lam: float, state: _State) -> _State:
    """Solution at one penalty: Newton steps within a set of active columns and signs, cut where a coefficient would
    change sign, which then leaves; at its optimum, columns that violate their condition enter."""
    tolerance = 1e-9 * lam
    active, beta, sign = _enter(state.correlation, lam, state.active, state.beta, np.sign(state.beta))
    loss, at = (state.loss, state.at) if len(active) == len(state.active) else problem.evaluate(active, beta)
    for _ in range(_MAX_ITERATIONS):
        gradient = problem.Z[:, active].T @ at.residual / problem.total - lam * sign
        if np.abs(gradient).max(initial=0.0) < tolerance:
            correlation = problem.correlation(at)
            count = len(active)
            active, beta, sign = _enter(correlation, lam * (1.0 + 1e-8), active, beta, sign)
            if len(active) == count:
                return _State(active, beta, correlation, loss, at)
            loss, at = problem.evaluate(active, beta)
            gradient = problem.Z[:, active].T @ at.residual / problem.total - lam * sign
        step = _newton_step(information(problem.sets, problem.Z[:, active], at) / problem.total, gradient)
        ratio = np.full(len(beta), np.inf)
        crossing = (beta + step) * sign < 0
        ratio[crossing] = np.abs(beta[crossing]) / np.maximum(np.abs(step[crossing]), 1e-300)
        length = min(1.0, float(ratio.min(initial=np.inf)))
        objective = loss + lam * float(sign @ beta)
        slack = 1e-13 * (1.0 + abs(objective))
        shrink = 1.0
        for _ in range(40):
            trial = beta + shrink * length * step
            trial_loss, trial_at = problem.evaluate(active, trial)
            if trial_loss + lam * float(sign @ trial) <= objective + slack:
                break
            shrink *= 0.5
        else:
            break
        beta, loss, at = trial, trial_loss, trial_at
        if shrink == 1.0 and length < 1.0:
            keep = ratio > length * (1.0 + 1e-12)
            active, beta, sign = active[keep], beta[keep], sign[keep]
            loss, at = problem.evaluate(active, beta)
    raise ConvergenceError(
        f"the Cox lasso did not meet its optimality conditions at lambda {lam:.4g} in {_MAX_ITERATIONS} iterations",
        do="Look for nearly dependent columns or extreme values, or stop the path at a larger lambda.",
    )


def _enter(
    correlation: Array, lam: float, active: NDArray[np.intp], beta: Array, sign: Array
) -> tuple[NDArray[np.intp], Array, Array]:
    """Active set with the columns that violate their optimality condition most."""
    size = np.abs(correlation)
    size[active] = 0.0
    new = np.flatnonzero(size > lam)
    if len(new) > _MOST_ENTRIES:
        new = new[np.argpartition(-size[new], _MOST_ENTRIES)[:_MOST_ENTRIES]]
    return (
        np.concatenate([active, new]),
        np.concatenate([beta, np.zeros(len(new))]),
        np.concatenate([sign, np.sign(correlation[new])]),
    )


def _newton_step(curvature: Array, gradient: Array) -> Array:
    """Solve curvature @ step = gradient; a ridge of rounding size where columns are dependent."""
    lift = 0.0
    top = max(float(np.trace(curvature)) / len(curvature), 1e-12)
    for _ in range(8):
        _, step, failed = dposv(curvature, gradient)
        if not failed and np.all(np.isfinite(step)):
            return step
        lift = max(lift * 100.0, 1e-12 * top)
        curvature = curvature + lift * np.eye(len(curvature))
    raise ConvergenceError("the Cox lasso's curvature matrix is singular", do="Look for extreme values in X.")
