"""Logistic regression by maximum likelihood, or with a ridge penalty: the one logistic fit of the library.

Source: McCullagh & Nelder, Generalized Linear Models, chapter 4; R `glm(family = binomial)` and `rms::lrm`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import ConvergenceError, NotEstimableError
from osml.stats.inference import LRTest, Wald, lr_test, variance_inflation, wald, wald_test
from osml.stats.inputs import Array, design_array, frequency_weights, labels, penalty_strength, vector
from osml.stats.logistic_batch import fit_logistic_batch
from osml.stats.newton import (
    Basis,
    NewtonFit,
    gradient_limit,
    log_likelihood,
    newton,
    orthogonal_basis,
    ridge_basis,
    signed_residual,
)
from osml.stats.profile import ProfileInterval, profile_interval
from osml.stats.separation import Separation, overlaps, refuse_one_class, refuse_separated, separation

__all__ = [
    "LRTest",
    "LogisticFit",
    "ProfileInterval",
    "Separation",
    "Wald",
    "fit_intercept",
    "fit_logistic",
    "fit_logistic_batch",
    "lr_test",
    "profile_interval",
    "separation",
    "variance_inflation",
    "wald",
    "wald_test",
]


@dataclass(frozen=True)
class LogisticFit:
    """A fitted logistic model: logit P(y = 1) = offset + intercept + X @ coef.

    intercept : float
    coef : float array (p,)
    covariance : float array (p + 1, p + 1)
        Of (intercept, coef): inverse information. With a ridge penalty the inverse penalised information, which is no
        basis for tests; `wald` refuses it.
    log_likelihood, null_log_likelihood : float
        Unpenalised, at the fit and with the intercept alone (offset kept).
    n, events : float
        Total weight, and that of the events.
    iterations : int
    max_gradient : float
        Largest absolute derivative of the objective by the intercept and the standardised coefficients.
    lp : float array (n,)
        Linear predictor of every row given, offset included, rows of weight 0 too.
    ridge : float
    """

    intercept: float
    coef: Array
    covariance: Array
    log_likelihood: float
    null_log_likelihood: float
    n: float
    events: float
    iterations: int
    max_gradient: float
    lp: Array
    ridge: float = 0.0

    @property
    def parameters(self) -> Array:
        """(intercept, coef), float array (p + 1,), in the order of `covariance`."""
        return np.concatenate([[self.intercept], self.coef])

    @property
    def probability(self) -> Array:
        """P(y = 1) of every row, float array (n,)."""
        return np.exp(-np.logaddexp(0.0, -self.lp))

    @property
    def aic(self) -> float:
        """Akaike's criterion, -2 log-likelihood + 2 (p + 1)."""
        return -2.0 * self.log_likelihood + 2.0 * (len(self.coef) + 1)

    @property
    def bic(self) -> float:
        """Schwarz's criterion, -2 log-likelihood + log(n) (p + 1)."""
        return -2.0 * self.log_likelihood + float(np.log(self.n)) * (len(self.coef) + 1)


def fit_logistic(
    X: ArrayLike,
    y: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    ridge: float = 0.0,
    offset: ArrayLike | None = None,
    check_separation: bool = True,
) -> LogisticFit:
    """Fit a logistic regression; numbers are returned only for an estimate that exists and has converged.

    Maximises sum w_i log P(y_i) - ridge / 2 * sum_j (sd_j coef_j)², with sd_j the population sd of column j. The
    intercept is never penalised.

    Parameters
    ----------
    X : float array (n, p)
        One row per patient, no intercept column, no missing values; p = 0 fits the intercept alone.
    y : bool or 0/1 array (n,)
        True = event.
    weights : array (n,), optional
        Frequency weights, 0 or more: a weight of 2 equals the row twice, 0 drops it.
    ridge : float
        Penalty on standardised coefficients. Above 0 every data set has an estimate, p > n included.
    offset : float array (n,), optional
        Part of the linear predictor with coefficient 1.
    check_separation : bool
        False skips the test; only for data whose overlap `separation` has established.

    Raises
    ------
    NotEstimableError
        One class, constant or dependent columns (indices named), complete or quasi-complete separation.
    ConvergenceError
        The largest gradient (standardised columns, summed over patients) stays above 1e-8, or above
        1e-12 times the total weight where that is more.

    >>> x = [[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]]
    >>> fit = fit_logistic(x, [0, 0, 1, 0, 1, 1])
    >>> round(fit.intercept, 6), fit.coef.round(6).tolist()
    (-3.035069, [1.214028])
    """
    X = design_array(X)
    n = len(X)
    y = labels(y, n)
    w = frequency_weights(weights, n)
    ridge = penalty_strength(ridge)
    shift = np.zeros(n) if offset is None else vector(offset, "offset", n)
    rows = np.flatnonzero(w > 0)
    X_used, y_used, w_used, shift_used = X[rows], y[rows], w[rows], shift[rows]
    refuse_one_class(y_used, w_used)
    basis = ridge_basis(X_used, w_used) if ridge > 0 else orthogonal_basis(X_used, w_used)
    penalty = np.full(basis.Z.shape[1] + 1, ridge)
    penalty[0] = 0.0
    fit = newton(basis.with_ones, y_used, w_used, shift_used, penalty)
    if ridge == 0 and check_separation:
        _require_overlap(basis, fit, y_used, w_used, rows)
    intercept, coef = basis.raw(fit.theta)
    residual = w_used * signed_residual(fit.eta, y_used)
    gradient = basis.standardised.T @ residual - ridge * basis.sd * coef
    worst = max(abs(float(residual.sum())), float(np.abs(gradient).max(initial=0.0)))
    if not fit.converged or worst >= gradient_limit(float(w_used.sum())):
        raise ConvergenceError(
            f"logistic regression did not converge: largest gradient {worst:.2g} after {fit.iterations} iterations",
            do="Look for extreme values or nearly dependent columns, or use a ridge penalty.",
        )
    return LogisticFit(
        intercept=intercept,
        coef=coef,
        covariance=_covariance(basis, fit, ridge),
        log_likelihood=fit.log_likelihood,
        null_log_likelihood=_null(y_used, w_used, shift_used),
        n=float(w_used.sum()),
        events=float(w_used @ y_used),
        iterations=fit.iterations,
        max_gradient=worst,
        lp=shift + intercept + X @ coef,
        ridge=ridge,
    )


def fit_intercept(y: ArrayLike, offset: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """Maximum likelihood intercept with `offset` fixed: calibration-in-the-large, and every re-estimated intercept.

    >>> round(fit_intercept([0, 1, 1, 1], [0.0, 0.0, 0.0, 0.0]), 6)
    1.098612
    """
    y = labels(y)
    shift = vector(offset, "offset", len(y))
    w = frequency_weights(weights, len(y))
    refuse_one_class(y[w > 0], w[w > 0])
    # An offset in laboratory units lies far from 0, where every risk is 0 or 1 and no Newton step leads back.
    centre = float(np.average(shift, weights=w))
    fit = newton(np.ones((len(y), 1)), y, w, shift - centre)
    if not fit.converged:
        raise ConvergenceError(
            f"the intercept did not converge: gradient {abs(fit.gradient[0]):.2g} after {fit.iterations} iterations",
            do="Look for extreme values of the offset.",
        )
    return float(fit.theta[0]) - centre


def _require_overlap(basis: Basis, fit: NewtonFit, y: Array, w: Array, rows: NDArray[np.intp]) -> None:
    if not (fit.converged and overlaps(basis.with_ones, y, w, fit.eta, fit.gradient)):
        refuse_separated(basis.with_ones, basis.to_raw, y, rows)


def _null(y: Array, w: Array, offset: Array) -> float:
    fit = newton(np.ones((len(y), 1)), y, w, offset - np.average(offset, weights=w))
    if not fit.converged:
        raise ConvergenceError("the intercept-only model did not converge", do="Look for extreme values of the offset.")
    return log_likelihood(fit.eta, y, w)  # the offset's mean is in the intercept


def _covariance(basis: Basis, fit: NewtonFit, ridge: float) -> Array:
    try:
        inverse = np.linalg.inv(fit.information)
    except np.linalg.LinAlgError:
        raise NotEstimableError("the information matrix is singular, so no covariance exists") from None
    covariance = basis.raw_covariance((inverse + inverse.T) / 2)
    if ridge > 0:
        covariance += _unseen_directions(basis, ridge)
    return covariance


def _unseen_directions(basis: Basis, ridge: float) -> Array:
    """Prior variance 1 / ridge of standardised directions that the data do not reach (rank below p)."""
    p = len(basis.mean)
    seen = basis.to_raw * basis.sd[:, None]
    unseen = (np.eye(p) - seen @ seen.T) / ridge
    scale = np.divide(1.0, basis.sd, out=np.zeros(p), where=basis.sd > 0)
    jacobian = np.vstack([-basis.mean * scale, np.diag(scale)])
    return jacobian @ unseen @ jacobian.T
