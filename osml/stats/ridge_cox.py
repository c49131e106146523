"""Penalty of a Cox ridge regression by cross-validated partial likelihood.

Source: Verweij & van Houwelingen 1993, Stat Med 12:2305: a fold adds l(b) - l_without(b), b fitted without the fold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.cox import fit_cox
from osml.stats.cox_risk_sets import evaluate, risk_sets
from osml.stats.inputs import Array, design_array, fold_ids, frequency_weights, survival_outcome


def select_ridge_cox(
    X: ArrayLike, time: ArrayLike, event: ArrayLike, folds: ArrayLike, *, weights: ArrayLike | None = None
) -> float:
    """The penalty with the largest cross-validated partial likelihood, of 13 from 10^-3 to 10^3 times events / 10.

    Parameters
    ----------
    X : float array (n, p)
    time, event : arrays (n,)
    folds : int array (n,)
        Fold in which each row is held out. All rows of a patient must share one.
    weights : array (n,), optional
        Frequency weights, whole numbers.

    Raises
    ------
    NotEstimableError
        The rows outside some fold hold no event.

    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 3))
    >>> select_ridge_cox(X, rng.exponential(np.exp(-X[:, 0])), np.ones(60), np.arange(60) % 5) < 60
    True
    """
    X = design_array(X)
    t, died = survival_outcome(time, event, len(X))
    w, fold = frequency_weights(weights, len(X)), fold_ids(folds, len(X))
    grid = float(w @ died) / 10.0 * np.logspace(-3.0, 3.0, 13)
    if grid[0] <= 0:
        raise NotEstimableError("no events: no penalty can be chosen")
    score = np.zeros(len(grid))
    for k in np.unique(fold):
        outside = fold != k
        if not np.any(w[outside] @ died[outside] > 0):
            raise NotEstimableError(f"no event is left to train fold {k}")
        for m, ridge in enumerate(grid):
            fit = fit_cox(X[outside], t[outside], died[outside], weights=w[outside], ridge=float(ridge))
            lp = X @ fit.coef
            score[m] += _partial(lp, t, died, w) - _partial(lp[outside], t[outside], died[outside], w[outside])
    if not np.all(np.isfinite(score)):
        raise InvalidInputError("a cross-validated partial likelihood is not finite")
    return float(grid[int(np.argmax(score))])


def _partial(lp: Array, t: Array, died: Array, w: Array) -> float:
    sets = risk_sets(t, died, w, "efron")
    return evaluate(sets, np.empty((len(sets.order), 0)), lp[sets.order], derivatives=False).log_likelihood
