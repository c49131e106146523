"""Ridge logistic regression along a grid of penalties, and the penalty chosen by held-out deviance.

Sources: le Cessie & van Houwelingen 1992 (Applied Statistics 41:191); Gray 1992 for the effective degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from osml.errors import ConvergenceError, InvalidInputError, NotEstimableError
from osml.stats.inputs import Array, design_array, fold_ids, frequency_weights, labels, vector
from osml.stats.logistic import LogisticFit, fit_logistic
from osml.stats.newton import log_likelihood, newton, ridge_basis
from osml.stats.separation import refuse_one_class


@dataclass(frozen=True)
class RidgePath:
    """Ridge fits, one row per penalty.

    ridges : float array (m,), as `ridge` of `fit_logistic`
    intercepts : float array (m,)
    coefs : float array (m, p)
    effective_df : float array (m,)
        Trace of (information + penalty)^-1 information, without the intercept; falls from the rank to 0.
    """

    ridges: Array
    intercepts: Array
    coefs: Array
    effective_df: Array


@dataclass(frozen=True)
class RidgeSelection:
    """Penalty with the lowest held-out deviance, and the fit on all rows with it.

    ridges : float array (m,), increasing
    deviance : float array (m,), mean held-out -2 log-likelihood per patient
    index : int, of the lowest; the larger penalty of ties
    fit : LogisticFit
    """

    ridges: Array
    deviance: Array
    index: int
    fit: LogisticFit

    @property
    def ridge(self) -> float:
        """The chosen penalty."""
        return float(self.ridges[self.index])

    @property
    def at_edge(self) -> bool:
        """True when the lowest deviance is at an end of the grid: the best penalty may lie beyond."""
        return self.index in (0, len(self.ridges) - 1)


def ridge_path(X: ArrayLike, y: ArrayLike, ridges: ArrayLike, *, weights: ArrayLike | None = None) -> RidgePath:
    """Fit a ridge logistic regression at every penalty; each equals `fit_logistic(X, y, ridge=ridge)`.

    Parameters
    ----------
    X : float array (n, p), p may exceed n
    y : bool or 0/1 array (n,)
    ridges : float array (m,), above 0
    weights : array (n,), optional
        Frequency weights.

    >>> path = ridge_path([[0.0], [1], [2], [3], [4], [5]], [0, 0, 1, 0, 1, 1], [0.1, 10.0])
    >>> path.coefs[:, 0].round(3).tolist(), path.effective_df.round(2).tolist()
    ([1.006, 0.104], [0.85, 0.13])
    """
    X = design_array(X)
    y, w = labels(y, len(X)), frequency_weights(weights, len(X))
    grid = _grid(ridges)
    used = w > 0
    X, y, w = X[used], y[used], w[used]
    refuse_one_class(y, w)
    basis = ridge_basis(X, w)
    A = basis.with_ones
    q = A.shape[1] - 1
    rows = []
    for ridge in grid:
        penalty = np.concatenate([[0.0], np.full(q, ridge)])
        fit = newton(A, y, w, np.zeros(len(y)), penalty)
        if not fit.converged:
            raise ConvergenceError(f"ridge logistic regression did not converge at ridge {ridge:g}")
        free = np.trace(np.linalg.solve(fit.information, fit.information - np.diag(penalty))) - 1.0
        rows.append((*basis.raw(fit.theta), float(free)))
    intercepts, coefs, df = zip(*rows, strict=True)
    return RidgePath(grid, np.array(intercepts), np.array(coefs), np.array(df))


def select_ridge(
    X: ArrayLike,
    y: ArrayLike,
    folds: ArrayLike,
    ridges: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
) -> RidgeSelection:
    """Choose the penalty by held-out deviance over the folds given, then fit it on all rows.

    Parameters
    ----------
    folds : int array (n,)
        Fold in which each row is held out. All rows of a patient must share one.
    ridges : float array, optional
        Default: 31 penalties, total weight times 10^-4 .. 10^2.

    Raises
    ------
    NotEstimableError
        The training rows of a fold hold one class.

    >>> X = np.array([[0.0], [1], [2], [3], [4], [5]])
    >>> select_ridge(X, [0, 0, 1, 0, 1, 1], [0, 1, 2, 0, 1, 2], [0.1, 1.0, 10.0]).ridge
    1.0
    """
    X = design_array(X)
    n = len(X)
    y, w, fold = labels(y, n), frequency_weights(weights, n), fold_ids(folds, n)
    grid = np.sort(_grid(w.sum() * np.logspace(-4.0, 2.0, 31) if ridges is None else ridges))
    loss = np.zeros(len(grid))
    for k in range(int(fold.max()) + 1):
        held = fold == k
        if not np.any(w[~held] > 0):
            raise NotEstimableError(f"no row of positive weight is left to train fold {k}")
        path = ridge_path(X[~held], y[~held], grid, weights=w[~held])
        for m in range(len(grid)):
            lp = path.intercepts[m] + X[held] @ path.coefs[m]
            loss[m] -= 2.0 * log_likelihood(lp, y[held], w[held])
    deviance = loss / w.sum()
    best = int(len(grid) - 1 - np.argmin(deviance[::-1]))
    return RidgeSelection(grid, deviance, best, fit_logistic(X, y, weights=w, ridge=float(grid[best])))


def _grid(ridges: ArrayLike) -> Array:
    grid = vector(ridges, "ridges")
    if len(grid) == 0 or np.any(grid <= 0) or len(np.unique(grid)) < len(grid):
        raise InvalidInputError("ridges must be distinct penalties above 0")
    return grid
