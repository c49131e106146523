"""Minimum redundancy, maximum relevance: features that tell the outcome and not each other.

Sources: Ding & Peng 2005 (J Bioinform Comput Biol 3:185); Zhao, Anand & Wang 2019 (IEEE DSAA, 442), the quotient form
FCQ: F statistic over mean absolute correlation. For a survival outcome the relevance is the univariable score test.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.cox_risk_sets import evaluate, risk_sets
from osml.stats.inputs import Array, design_array, labels, survival_outcome, vector
from osml.stats.newton import standardise
from osml.stats.separation import refuse_one_class

# A correlation smaller than this counts as this: a feature that is orthogonal by chance must not win by division.
CORRELATION_FLOOR = 1e-3


@dataclass(frozen=True)
class MRMR:
    """Columns in the order in which they were chosen.

    columns : tuple of int (k,)
    relevance : float array (k,), as given
    redundancy : float array (k,)
        Mean absolute correlation with the columns chosen before; NaN for the first.
    score : float array (k,), relevance / redundancy; the relevance itself for the first
    """

    columns: tuple[int, ...]
    relevance: Array
    redundancy: Array
    score: Array


def mrmr(X: ArrayLike, relevance: ArrayLike, k: int) -> MRMR:
    """Choose k columns one by one, each the largest relevance / mean |correlation with those chosen before|.

    Parameters
    ----------
    X : float array (n, p)
        One row per patient. Correlations are Pearson's; below 0.001 they count as 0.001.
    relevance : float array (p,)
        0 or more, e.g. of `f_statistic` or `score_statistic`; infinite is allowed.
    k : int
        All p columns, ordered, where k exceeds p.

    Raises
    ------
    NotEstimableError
        A column is constant, so it has no correlation.

    Notes
    -----
    Ties go to the lower column. O(n p k) time, O(n p) memory.

    >>> X = np.array([[0.0, 0.1, 1], [1, 1.2, 0], [2, 1.9, 0], [3, 3.1, 1]])
    >>> mrmr(X, [9.0, 8.0, 2.0], 2).columns
    (0, 2)
    """
    X = design_array(X)
    p = X.shape[1]
    worth = np.asarray(relevance, dtype=np.float64)
    if worth.shape != (p,) or np.any(np.isnan(worth)) or np.any(worth < 0):
        raise InvalidInputError(f"relevance must hold {p} numbers, 0 or more, one per column of X")
    if k < 1:
        raise InvalidInputError(f"k must be 1 or more, got {k}")
    if p == 0:
        raise InvalidInputError("X has no columns to choose from")
    Z, _, sd = standardise(X, np.ones(len(X)))
    if np.any(sd == 0):
        raise NotEstimableError(f"columns {np.flatnonzero(sd == 0)[:10].tolist()} of X are constant", do="Drop them.")
    columns = [int(np.argmax(worth))]
    redundancy, score = [np.nan], [float(worth[columns[0]])]
    left = np.ones(p, dtype=bool)
    total = np.zeros(p)
    for _ in range(min(k, p) - 1):
        last = columns[-1]
        left[last] = False
        total += np.maximum(np.abs(Z[:, last] @ Z) / len(Z), CORRELATION_FLOOR)
        mean = total / len(columns)
        quotient = np.where(left, worth / mean, -1.0)
        best = int(np.argmax(quotient))
        columns.append(best)
        redundancy.append(float(mean[best]))
        score.append(float(quotient[best]))
    return MRMR(tuple(columns), worth[columns], np.array(redundancy), np.array(score))


def f_statistic(X: ArrayLike, y: ArrayLike) -> Array:
    """One-way analysis of variance of each column between the two classes, float array (p,).

    F = between-class mean square / within-class mean square, 1 and n - 2 degrees of freedom (the square of the pooled
    t statistic). Infinite where a column is constant within both classes and differs between them; 0 for a constant.

    Parameters
    ----------
    X : float array (n, p)
    y : bool or 0/1 array (n,), both classes, n at least 3

    >>> f_statistic([[1.0], [2], [3], [4], [5], [6]], [0, 0, 0, 1, 1, 1]).round(6).tolist()
    [13.5]
    """
    X = design_array(X)
    target = labels(y, len(X))
    refuse_one_class(target, np.ones(len(target)))
    n = len(X)
    if n < 3:
        raise NotEstimableError(f"an F statistic of two classes needs at least 3 patients, got {n}")
    ones = float(target.sum())
    centred = X - X.mean(axis=0)
    high, low = target @ centred / ones, (1.0 - target) @ centred / (n - ones)
    between = ones * high**2 + (n - ones) * low**2
    within = np.square(centred - np.where(target[:, None] > 0, high, low)).sum(axis=0)
    # Differences of the order of rounding are none.
    floor = n * np.square(16 * np.finfo(np.float64).eps * np.abs(X).max(axis=0, initial=0.0))
    between, within = np.where(between <= floor, 0.0, between), np.where(within <= floor, 0.0, within)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(between == 0, 0.0, between * (n - 2) / within)


def score_statistic(X: ArrayLike, time: ArrayLike, event: ArrayLike) -> Array:
    """Score test of each column alone in a Cox model (Efron's ties), chi-square with 1 df, float array (p,).

    U² / I at a coefficient of 0; for a binary column the log-rank statistic but for its handling of ties. 0 where a
    column varies in no risk set.

    Parameters
    ----------
    X : float array (n, p)
    time, event : arrays (n,), at least one event

    >>> score_statistic([[1.0], [0], [1], [0], [0], [1]], [2, 3, 3, 5, 7, 8], [1, 1, 1, 0, 1, 1]).round(4).tolist()
    [0.052]
    """
    X = design_array(X)
    t, died = survival_outcome(time, event, len(X))
    ones = np.ones(len(X))
    sets = risk_sets(t, died, ones, "efron")
    Z = standardise(X, ones)[0][sets.order]
    at = evaluate(sets, Z, np.zeros(len(Z)))
    slope = Z.T @ at.residual
    spread = (at.risk * at.exposure) @ Z**2 - sets.term_count @ at.mean**2
    varies = spread > 1e-12 * len(Z)
    return np.divide(slope**2, spread, out=np.zeros_like(slope), where=varies)


def relevance(X: ArrayLike, outcome: ArrayLike | tuple[ArrayLike, ArrayLike]) -> Array:
    """`f_statistic` for labels (n,), `score_statistic` for the tuple (time, event)."""
    if isinstance(outcome, tuple):
        if len(outcome) != 2:
            raise InvalidInputError(f"a survival outcome is the tuple (time, event), got {len(outcome)} parts")
        return score_statistic(X, outcome[0], outcome[1])
    return f_statistic(X, vector(outcome, "y"))
