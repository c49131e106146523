"""Log-rank test and its Peto-Peto weighting: do groups differ in survival?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.survival import Floats, check_groups, check_survival


@dataclass(frozen=True)
class LogRank:
    """Log-rank test.

    Attributes
    ----------
    labels : tuple
        Groups, sorted.
    n, observed, expected : float array (k,)
        Patients, events and expected events of each group, weighted by S(t-)^rho.
    chi2, df, p
        Test of no difference.
    """

    labels: tuple[Any, ...]
    n: Floats
    observed: Floats
    expected: Floats
    chi2: float
    df: int
    p: float


def logrank(
    time: ArrayLike, event: ArrayLike, group: ArrayLike, strata: ArrayLike | None = None, rho: float = 0
) -> LogRank:
    """Test of equal survival between groups, `survival::survdiff`.

    Parameters
    ----------
    time, event : arrays (n,)
        Times > 0; event True or 1.
    group : array (n,)
        Two or more values, any type.
    strata : array (n,), optional
        Compare within strata only, and add up.
    rho : float
        Weight S(t-)^rho: 0 the log-rank test, 1 the Peto-Peto modification of Wilcoxon (early differences count more).

    Notes
    -----
    Hypergeometric variance. A group without expected events leaves the test and its degree of freedom, as in R.
    Harrington and Fleming 1982.

    Examples
    --------
    >>> test = logrank([1, 2, 3, 4, 5, 6], [1, 1, 1, 1, 1, 0], ["a", "a", "a", "b", "b", "b"])
    >>> round(test.chi2, 4), test.df
    (5.0517, 1)
    """
    t, e = check_survival(time, event)
    labels, codes = _labels(group, len(t))
    stratum = check_groups(strata, len(t))
    stratum = np.zeros(len(t), dtype=np.intp) if stratum is None else stratum
    k = len(labels)
    observed, expected, covariance = np.zeros(k), np.zeros(k), np.zeros((k, k))
    for s in range(int(stratum.max()) + 1):
        rows = stratum == s
        o, x, v = _one_stratum(t[rows], e[rows].astype(float), codes[rows], k, rho)
        observed, expected, covariance = observed + o, expected + x, covariance + v
    used = np.flatnonzero(expected > 0)
    df = len(used) - 1
    if df < 1:
        raise NotEstimableError(
            "fewer than two groups were at risk when an event happened: there is nothing to compare"
        )
    free = used[1:]
    gap = (observed - expected)[free]
    block = covariance[np.ix_(free, free)]
    if np.linalg.matrix_rank(block) < df:
        raise NotEstimableError("the groups were never at risk together at an event: their difference has no variance")
    statistic = float(gap @ np.linalg.solve(block, gap))
    n = np.bincount(codes, minlength=k).astype(float)
    return LogRank(labels, n, observed, expected, statistic, df, float(chi2.sf(statistic, df)))


def _labels(group: ArrayLike, n: int) -> tuple[tuple[Any, ...], np.ndarray]:
    g = np.asarray(group)
    if g.shape != (n,):
        raise InvalidInputError(f"group must have shape ({n},), got {g.shape}")
    if g.dtype.kind == "f" and np.isnan(g).any():
        raise InvalidInputError(f"group holds {int(np.isnan(g).sum())} NaN", do="Exclude or name these patients.")
    values, codes = np.unique(g, return_inverse=True)
    if len(values) < 2:
        raise InvalidInputError(f"group must hold at least two values, found {values.tolist()}")
    return tuple(values.tolist()), codes.reshape(n)


def _one_stratum(
    time: Floats, event: Floats, codes: np.ndarray, k: int, rho: float
) -> tuple[Floats, Floats, np.ndarray]:
    """Weighted observed and expected events (k,) and their covariance (k, k)."""
    times, position = np.unique(time, return_inverse=True)
    m = len(times)
    cell = position.reshape(len(time)) * k + codes
    leaving = np.bincount(cell, minlength=m * k).reshape(m, k).astype(float)
    events = np.bincount(cell, weights=event, minlength=m * k).reshape(m, k)
    at_risk = np.cumsum(leaving[::-1], axis=0)[::-1]
    d, n = events.sum(axis=1), at_risk.sum(axis=1)
    survival = np.cumprod(1 - d / n)
    weight = np.concatenate([[1.0], survival[:-1]]) ** rho
    share = at_risk / n[:, None]
    tie = np.divide(n - d, n - 1, out=np.zeros(m), where=n > 1)
    scale = weight**2 * d * tie
    covariance = np.diag((scale[:, None] * share).sum(axis=0)) - (share * scale[:, None]).T @ share
    return (weight[:, None] * events).sum(axis=0), (weight[:, None] * d[:, None] * share).sum(axis=0), covariance
