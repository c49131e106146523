"""Residuals of a Cox fit and the covariance that several rows per patient need.

Sources: Therneau & Grambsch 2000, sections 4.3 and 7.3; Lin & Wei 1989 (JASA 84:1074); R `residuals.coxph`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.cox import CoxFit
from osml.stats.cox_risk_sets import evaluate, risk_sets
from osml.stats.inputs import Array, design_array, frequency_weights, survival_outcome


def deviance_residuals(fit: CoxFit, event: ArrayLike) -> Array:
    """Martingale residuals made symmetric: sign(M) sqrt(-2 (M + d log(d - M))), float array (n,).

    >>> from osml.stats.cox import fit_cox
    >>> event = [1, 1, 1, 0, 1, 1]
    >>> fit = fit_cox([[1.0], [0], [1], [0], [0], [1]], [2, 3, 3, 5, 7, 8], event)
    >>> deviance_residuals(fit, event).round(3).tolist()
    [1.319, 0.717, 0.533, -1.055, 0.0, -0.941]
    """
    M = fit.martingale_residuals
    died = np.asarray(event, dtype=np.float64)
    if died.shape != M.shape or np.any((died != 0) & (died != 1)):
        raise InvalidInputError(f"event must be the 0/1 array ({len(M)},) of the fit, got shape {died.shape}")
    expected = died - M
    log_term = np.where(died > 0, np.log(np.where(died > 0, expected, 1.0)), 0.0)
    return np.sign(M) * np.sqrt(np.maximum(-2.0 * (M + log_term), 0.0))


def score_residuals(
    fit: CoxFit, X: ArrayLike, time: ArrayLike, event: ArrayLike, *, weights: ArrayLike | None = None
) -> Array:
    """Each row's share of the score at the fit, float array (n, p), per unit of weight; 0 for rows of weight 0.

    The arguments are those of `fit_cox`. Weighted, the rows sum to 0.
    """
    X = design_array(X)
    t, died = survival_outcome(time, event)
    w = frequency_weights(weights, len(X))
    if X.shape != (len(t), len(fit.coef)):
        raise InvalidInputError(f"X must have shape ({len(t)}, {len(fit.coef)}), got {X.shape}")
    sets = risk_sets(t, died, w, fit.ties)
    rows = sets.order
    Z = X[rows] - fit.means
    at = evaluate(sets, Z, Z @ fit.coef)
    g = len(sets.times)
    counts = np.bincount(sets.term_time, minlength=g)
    first = np.cumsum(counts) - counts

    def by_time(values: Array) -> Array:
        return np.add.reduceat(values, first, axis=0)

    passed = np.vstack([np.zeros(Z.shape[1]), np.cumsum(by_time(at.term_hazard[:, None] * at.mean), axis=0)])
    spared = by_time((at.term_hazard * sets.term_tied)[:, None] * at.mean)
    average = by_time(sets.term_count[:, None] * at.mean) / sets.deaths[:, None]
    dead = sets.died > 0
    own = np.where(dead[:, None], Z - average[sets.tied_row], 0.0)
    seen = passed[sets.until] - np.where(dead[:, None], spared[sets.tied_row], 0.0)
    out = np.zeros(X.shape)
    out[rows] = own - (at.risk / sets.weight)[:, None] * (Z * at.exposure[:, None] - seen)
    return out


def robust_covariance(
    fit: CoxFit,
    X: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> Array:
    """Sandwich covariance of the coefficients (p, p), as `coxph(..., robust = TRUE, cluster = groups)`.

    Parameters
    ----------
    X, time, event, weights
        As given to `fit_cox`.
    groups : array (n,), optional
        Patient of each row; rows of one patient are one independent unit. Default: every row is its own, and a
        weight of 2 counts as two patients.
    """
    if fit.ridge > 0:
        raise NotEstimableError("a penalised fit has no covariance for tests", do="Use a bootstrap of the whole fit.")
    score = score_residuals(fit, X, time, event, weights=weights)
    w = frequency_weights(weights, len(score))
    if groups is None:
        change = np.sqrt(w)[:, None] * score
    else:
        code = np.asarray(groups)
        if code.shape != (len(score),):
            raise InvalidInputError(f"groups must have shape ({len(score)},), got {code.shape}")
        _, unit = np.unique(code, return_inverse=True)
        change = np.zeros((int(unit.max()) + 1, score.shape[1]))
        np.add.at(change, unit, w[:, None] * score)
    influence = change @ fit.covariance
    return influence.T @ influence
