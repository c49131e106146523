"""Newton's method for the logistic likelihood in a well-conditioned basis, and the basis itself.

Columns are centred and divided by their population sd, then rotated to orthogonal columns (QR without a penalty, SVD
with one), so that rounding errors grow with the condition number of the columns and not with its square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr, solve_triangular

from osml.errors import NotEstimableError
from osml.stats.inputs import Array

GRADIENT_TOLERANCE = 1e-8
_RANK_TOLERANCE = 1e-9
_MAX_ITERATIONS = 100


@dataclass(frozen=True)
class Basis:
    """Orthogonal columns `Z` (n, q) of the standardised design: raw coefficients are `to_raw` @ theta.

    `Z` excludes the intercept and is centred: sum of weights times `Z` is 0. `standardised` (n, p) holds
    (X - mean) / sd, with the population sd.
    """

    Z: Array
    to_raw: Array
    mean: Array
    sd: Array
    standardised: Array

    @property
    def with_ones(self) -> Array:
        """The intercept's ones, then `Z`: float array (n, q + 1)."""
        return np.column_stack([np.ones(len(self.Z)), self.Z])

    @property
    def jacobian(self) -> Array:
        """Float array (p + 1, q + 1): raw (intercept, coefficients) = jacobian @ theta."""
        q, p = self.Z.shape[1], len(self.mean)
        out = np.zeros((p + 1, q + 1))
        out[0, 0] = 1.0
        out[1:, 1:] = self.to_raw
        out[0, 1:] = -self.mean @ self.to_raw
        return out

    def raw(self, theta: Array) -> tuple[float, Array]:
        """Intercept and coefficients (p,) of X from (intercept, theta) of the basis."""
        coef = self.to_raw @ theta[1:]
        return float(theta[0] - self.mean @ coef), coef

    def raw_covariance(self, covariance: Array) -> Array:
        """Covariance of (intercept, coefficients) of X from that of (intercept, theta) of the basis."""
        return self.jacobian @ covariance @ self.jacobian.T


def standardise(X: Array, w: Array) -> tuple[Array, Array, Array]:
    """(X - mean) / sd, mean, sd with weights w; the population sd, and 0 for a constant column (left at 0)."""
    total = w.sum()
    mean = w @ X / total
    centred = X - mean
    mean = mean + (shift := w @ centred / total)
    centred -= shift
    sd = np.sqrt(w @ centred**2 / total)
    sd[sd <= 1e-13 * np.abs(X).max(axis=0, initial=0.0)] = 0.0
    return np.divide(centred, sd, out=np.zeros_like(centred), where=sd > 0), mean, sd


def orthogonal_basis(X: Array, w: Array) -> Basis:
    """Basis of full rank for an unpenalised fit; constant or linearly dependent columns are refused by index."""
    Z, mean, sd = standardise(X, w)
    p = X.shape[1]
    if np.any(sd == 0):
        raise NotEstimableError(
            f"columns {np.flatnonzero(sd == 0).tolist()} of X are constant among the {int((w > 0).sum())} rows used",
            why="A constant column cannot be told apart from the intercept.",
            do="Drop these columns.",
        )
    if p == 0:
        return Basis(Z, np.empty((0, 0)), mean, sd, Z)
    total = w.sum()
    R, pivot = qr(np.sqrt(w / total)[:, None] * Z, mode="r", pivoting=True)
    R = R[:p]
    rank = int((np.abs(np.diag(R)) > _RANK_TOLERANCE).sum())
    if rank < p:
        raise NotEstimableError(
            f"columns {_dependent(R, pivot, rank)} of X are linearly dependent: rank {rank} for {p} columns in "
            f"{int((w > 0).sum())} rows",
            why="Their coefficients are not unique.",
            do="Drop columns, merge levels, or use a penalty.",
        )
    inverse = np.empty((p, p))
    inverse[pivot] = solve_triangular(R, np.eye(p))
    return Basis(Z @ inverse, inverse / sd[:, None], mean, sd, Z)


def ridge_basis(X: Array, w: Array) -> Basis:
    """Basis in which the penalty on standardised coefficients stays a sum of squares; any rank, p above n included."""
    Z, mean, sd = standardise(X, w)
    root = np.sqrt(w / w.sum())[:, None] * Z
    _, size, rotation = np.linalg.svd(root, full_matrices=False)
    V = rotation[size > 1e-12 * max(size.max(initial=0.0), 1.0)].T
    return Basis(Z @ V, np.divide(V, sd[:, None], out=np.zeros_like(V), where=sd[:, None] > 0), mean, sd, Z)


def _dependent(R: Array, pivot: Array, rank: int) -> list[int]:
    """Column indices that take part in a linear dependence."""
    combination = solve_triangular(R[:rank, :rank], R[:rank, rank:]) if rank else np.empty((0, R.shape[1]))
    involved = np.abs(combination).max(axis=1, initial=0.0) > 1e-6
    return sorted(int(j) for j in [*pivot[rank:], *pivot[:rank][involved]])


@dataclass(frozen=True)
class NewtonFit:
    """State after Newton: theta (q + 1,) with the intercept first; `gradient` of the objective in that basis."""

    theta: Array
    eta: Array
    objective: float
    log_likelihood: float
    gradient: Array
    information: Array
    iterations: int
    converged: bool


def log_likelihood(eta: Array, y: Array, w: Array) -> float:
    """Binomial log-likelihood of labels y at linear predictor eta."""
    return -float(w @ np.logaddexp(0.0, np.where(y > 0, -eta, eta)))


def signed_residual(eta: Array, y: Array) -> Array:
    """y - p, exact also where p is within rounding of 0 or 1."""
    s = np.where(y > 0, 1.0, -1.0)
    return s / (1.0 + np.exp(np.minimum(s * eta, 700.0)))


def gradient_limit(total_weight: float) -> float:
    """1e-8, growing with the total weight above 10,000 because a sum's rounding error does."""
    return GRADIENT_TOLERANCE * max(1.0, total_weight / 1e4)


def newton(A: Array, y: Array, w: Array, offset: Array, penalty: Array | None = None) -> NewtonFit:
    """Maximise the log-likelihood minus sum(penalty * theta²) / 2 for linear predictor offset + A @ theta.

    Newton with step-halving, from theta = 0. Stops when the largest gradient is below `gradient_limit`, after one
    further step to the rounding floor. `converged` False means that the limit was not reached: the caller decides why.
    """
    q = A.shape[1]
    ridge = np.zeros(q) if penalty is None else penalty
    theta = np.zeros(q)
    limit = gradient_limit(float(w.sum()))

    def value(candidate: Array) -> tuple[Array, float, float]:
        eta = offset + A @ candidate
        fit = log_likelihood(eta, y, w)
        return eta, fit, fit - 0.5 * float(ridge @ candidate**2)

    def slope(candidate: Array, eta: Array) -> tuple[Array, Array]:
        residual = signed_residual(eta, y)
        size = np.abs(residual)
        gradient = A.T @ (w * residual) - ridge * candidate
        return gradient, (A * (w * size * (1.0 - size))[:, None]).T @ A + np.diag(ridge)

    eta, fit, objective = value(theta)
    gradient, information = slope(theta, eta)
    polished = False
    for iteration in range(1, _MAX_ITERATIONS + 1):
        below = np.abs(gradient).max(initial=0.0) < limit
        if polished and below:
            return NewtonFit(theta, eta, objective, fit, gradient, information, iteration - 1, True)
        polished = bool(below)
        step = _solve(information, gradient)
        if step is None:
            break
        slack = 1e-12 * (1.0 + abs(objective))
        for halving in range(40):
            trial = theta + step * 0.5**halving
            trial_eta, trial_fit, trial_objective = value(trial)
            if trial_objective >= objective - slack:
                break
        else:
            break
        theta, eta, fit, objective = trial, trial_eta, trial_fit, trial_objective
        gradient, information = slope(theta, eta)
    converged = bool(np.abs(gradient).max(initial=0.0) < limit)
    return NewtonFit(theta, eta, objective, fit, gradient, information, iteration, converged)


def _solve(information: Array, gradient: Array) -> Array | None:
    """Newton step, or None where the information is singular to working precision."""
    scale = np.sqrt(np.diag(information))
    if not np.all(scale > 0):
        return None
    try:
        factor = np.linalg.cholesky(information / np.outer(scale, scale))
    except np.linalg.LinAlgError:
        return None
    half = solve_triangular(factor, gradient / scale, lower=True)
    return solve_triangular(factor, half, lower=True, trans="T") / scale
