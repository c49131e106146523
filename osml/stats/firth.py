"""Firth's penalised logistic regression: finite estimates under separation, less small-sample bias.

Sources: Firth 1993 (Biometrika 80:27); Heinze & Schemper 2002 (Stat Med 21:2409; profile intervals);
Puhr, Heinze, Nold, Lusa & Geroldinger 2017 (Stat Med 36:2302; FLIC); R `brglm2` (AS_mean) and `logistf`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import null_space

from osml.errors import ConvergenceError
from osml.stats.inputs import Array, confidence_level, design_array, frequency_weights, labels
from osml.stats.logistic import fit_intercept
from osml.stats.newton import Basis, gradient_limit, log_likelihood, orthogonal_basis, signed_residual
from osml.stats.profile import likelihood_limit
from osml.stats.separation import refuse_one_class
from osml.stats.tails import chi2_quantile, chi2_sf

_MAX_ITERATIONS = 500
_MAX_STEP = 5.0


@dataclass(frozen=True)
class FirthFit:
    """A Firth fit: logit P(y = 1) = intercept + X @ coef.

    intercept, coef : float, float array (p,)
        Firth's estimates. Their mean probability is pulled towards one half.
    flic_intercept : float
        Intercept re-estimated by maximum likelihood with X @ coef fixed: use it for probabilities.
    covariance : float array (p + 1, p + 1), inverse information, intercept first
    penalised_log_likelihood : float, log-likelihood + log|information| / 2
    log_likelihood : float, without the penalty
    n, events : float
    iterations : int
    max_gradient : float, of the modified score, by the intercept and the standardised columns
    """

    intercept: float
    coef: Array
    flic_intercept: float
    covariance: Array
    penalised_log_likelihood: float
    log_likelihood: float
    n: float
    events: float
    iterations: int
    max_gradient: float

    @property
    def parameters(self) -> Array:
        """(intercept, coef), float array (p + 1,)."""
        return np.concatenate([[self.intercept], self.coef])


@dataclass(frozen=True)
class FirthIntervals:
    """Penalised likelihood-ratio intervals and tests, arrays (p + 1,), intercept first; log odds scale."""

    estimate: Array
    low: Array
    high: Array
    p_value: Array
    level: float


def fit_firth(X: ArrayLike, y: ArrayLike, *, weights: ArrayLike | None = None) -> FirthFit:
    """Maximise log-likelihood + log|information| / 2.

    Parameters
    ----------
    X : float array (n, p), without an intercept column
    y : bool or 0/1 array (n,)
    weights : array (n,), optional
        Frequency weights: a weight of 2 equals the row twice.

    Raises
    ------
    NotEstimableError
        One class, or constant or dependent columns. Separation is no obstacle.
    ConvergenceError
        The modified score stays above 1e-8.

    >>> fit = fit_firth([[1.0], [2.0], [3.0], [4.0]], [0, 0, 1, 1])
    >>> round(fit.intercept, 4), fit.coef.round(4).tolist()
    (-3.2748, [1.3099])
    """
    X, y, w, basis = _prepared(X, y, weights)
    A = basis.with_ones
    state = _maximise(A, y, w, np.zeros(A.shape[1]), np.eye(A.shape[1]))
    intercept, coef = basis.raw(state.theta)
    score = basis.standardised.T @ state.residual
    inverse = np.linalg.inv(state.information).astype(np.float64, copy=False)
    worst = max(abs(float(state.residual.sum())), float(np.abs(score).max(initial=0.0)))
    return FirthFit(
        intercept=intercept,
        coef=coef,
        flic_intercept=fit_intercept(y, X @ coef, weights=w),
        covariance=basis.raw_covariance(inverse),
        penalised_log_likelihood=state.objective + _constant(basis),
        log_likelihood=log_likelihood(A @ state.theta, y, w),
        n=float(w.sum()),
        events=float(w @ y),
        iterations=state.iterations,
        max_gradient=worst,
    )


def firth_intervals(
    X: ArrayLike, y: ArrayLike, level: float = 0.95, *, weights: ArrayLike | None = None
) -> FirthIntervals:
    """Profile penalised likelihood intervals and likelihood-ratio p-values of every parameter, intercept first.

    >>> table = firth_intervals([[1.0], [2.0], [3.0], [4.0]], [0, 0, 1, 1])
    >>> table.p_value.round(3).tolist()
    [0.174, 0.138]
    """
    X, y, w, basis = _prepared(X, y, weights)
    level = confidence_level(level)
    A = basis.with_ones
    q = A.shape[1]
    best = _maximise(A, y, w, np.zeros(q), np.eye(q))
    inverse = np.linalg.inv(best.information)
    quantile = float(np.sqrt(chi2_quantile(level, 1)))
    rows = []
    for contrast in basis.jacobian:
        estimate, se = float(contrast @ best.theta), float(np.sqrt(contrast @ inverse @ contrast))
        free, direction = null_space(contrast[None, :]), contrast / (contrast @ contrast)

        def root(distance: float, free: Array = free, direction: Array = direction) -> float:
            inner = _maximise(A, y, w, best.theta + direction * distance, free)
            return float(np.sqrt(max(2.0 * (best.objective - inner.objective), 0.0)))

        low, high = (likelihood_limit(root, sign * se, quantile) for sign in (-1.0, 1.0))
        rows.append((estimate, estimate - low, estimate + high, chi2_sf(root(-estimate) ** 2, 1)))
    columns = np.array(rows).T
    return FirthIntervals(columns[0], columns[1], columns[2], columns[3], level)


@dataclass(frozen=True)
class _State:
    theta: Array
    objective: float
    residual: Array
    information: Array
    iterations: int


def _prepared(X: ArrayLike, y: ArrayLike, weights: ArrayLike | None) -> tuple[Array, Array, Array, Basis]:
    X = design_array(X)
    y, w = labels(y, len(X)), frequency_weights(weights, len(X))
    used: NDArray[np.bool_] = w > 0
    X, y, w = X[used], y[used], w[used]
    refuse_one_class(y, w)
    return X, y, w, orthogonal_basis(X, w)


def _maximise(A: Array, y: Array, w: Array, start: Array, free: Array) -> _State:
    """Fisher scoring on the modified score over start + free @ phi, with step-halving."""
    limit = gradient_limit(float(w.sum()))

    def evaluate(theta: Array) -> tuple[float, Array, Array]:
        eta = A @ theta
        residual = signed_residual(eta, y)
        size = np.abs(residual)
        variance = size * (1.0 - size)
        weighted = A * np.sqrt(w * variance)[:, None]
        information = weighted.T @ weighted
        sign, log_det = np.linalg.slogdet(information)
        if sign <= 0:
            return -np.inf, residual, information
        # Leverage of each row; p - 1/2 is the derivative of log sqrt(variance) but for its sign.
        leverage = np.einsum("ij,ij->i", weighted, np.linalg.solve(information, weighted.T).T)
        half_minus_p = 0.5 - np.where(y > 0, 1.0 - size, size)
        return log_likelihood(eta, y, w) + 0.5 * float(log_det), w * residual + leverage * half_minus_p, information

    theta = start
    objective, residual, information = evaluate(theta)
    polished = False
    for iteration in range(_MAX_ITERATIONS):
        score = free.T @ (A.T @ residual)
        below = np.abs(score).max(initial=0.0) < limit
        if (polished and below) or free.shape[1] == 0:
            return _State(theta, objective, residual, information, iteration)
        polished = bool(below)
        step = free @ np.linalg.solve(free.T @ information @ free, score)
        step *= min(1.0, _MAX_STEP / np.abs(step).max(initial=_MAX_STEP))
        slack = 1e-12 * (1.0 + abs(objective))
        for halving in range(40):
            trial = theta + step * 0.5**halving
            found = evaluate(trial)
            if found[0] >= objective - slack:
                break
        else:
            break
        theta, (objective, residual, information) = trial, found
    raise ConvergenceError(
        f"Firth's regression did not converge in {_MAX_ITERATIONS} iterations",
        do="Look for extreme values or nearly dependent columns.",
    )


def _constant(basis: Basis) -> float:
    """log|J^-1| that turns log|information| / 2 of the basis into that of the raw columns."""
    return -float(np.linalg.slogdet(basis.jacobian)[1])
