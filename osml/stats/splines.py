"""Restricted cubic splines with the basis and default knots of Hmisc and rms.

Source: Harrell, Regression Modeling Strategies, section 2.4.5; `Hmisc::rcspline.eval`, norm = 2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.inputs import frequency_weights, vector

_TIED_END = 0.05


def rcs_basis(x: ArrayLike, knots: ArrayLike) -> NDArray[np.float64]:
    """Basis of a restricted cubic spline, float array (n, k - 1): x itself, then k - 2 nonlinear columns.

    Parameters
    ----------
    x : float array (n,)
    knots : float array (k,)
        At least 3, strictly increasing, in the unit of x.

    >>> rcs_basis(np.array([1.0, 3.0, 5.0]), np.array([1.0, 2.0, 4.0])).round(4).tolist()
    [[1.0, 0.0], [3.0, 0.7222], [5.0, 2.6667]]
    """
    x, t = vector(x, "x"), vector(knots, "knots")
    if len(t) < 3 or np.any(np.diff(t) <= 0):
        raise InvalidInputError(f"a restricted cubic spline needs at least 3 increasing knots, got {t.tolist()}")
    cube = np.maximum(x[:, None] - t, 0.0) ** 3
    last, previous = t[-1], t[-2]
    a = (last - t[:-2]) / (last - previous)
    b = (previous - t[:-2]) / (last - previous)
    nonlinear = (cube[:, :-2] - a * cube[:, -2:-1] + b * cube[:, -1:]) / (last - t[0]) ** 2
    return np.column_stack([x, nonlinear])


def rcs_knots(x: ArrayLike, k: int, weights: ArrayLike | None = None) -> NDArray[np.float64]:
    """Default knots of `Hmisc::rcspline.eval`, float array (k,).

    Equally spaced quantiles (type 7) between 0.1 and 0.9 for 3 knots, 0.05 and 0.95 for 4 to 6, 0.025 and 0.975 for 7.
    Below 100 patients the outer knots are the fifth smallest and largest value. When at least 5 % of patients share the
    smallest (largest) value, and no inner value is shared so often, the first (last) knot is the next value and the
    others come from the patients beyond it. With k + 2 distinct values the inner ones are the knots.

    Parameters
    ----------
    x : float array (n,)
    k : int
        3 to 7.
    weights : int array (n,), optional
        Frequency weights: a weight of 2 equals the value twice.

    Raises
    ------
    NotEstimableError
        x has too few distinct values for k different knots; R would return fewer knots instead.

    >>> rcs_knots(np.arange(1.0, 202.0), 3).tolist()
    [21.0, 101.0, 181.0]
    """
    x = vector(x, "x")
    if k not in range(3, 8):
        raise InvalidInputError(f"a restricted cubic spline takes 3 to 7 knots, got {k!r}")
    w = frequency_weights(weights, len(x))
    if np.any(w != np.round(w)):
        raise InvalidInputError("knots need whole-number frequency weights: quantiles count patients")
    values, inverse = np.unique(x[w > 0], return_inverse=True)
    counts = np.bincount(inverse, weights=w[w > 0]).astype(np.int64)
    knots = _default_knots(values, counts, int(k))
    if len(knots) != k or np.any(np.diff(knots) <= 0):
        raise NotEstimableError(
            f"{len(values)} distinct values among {counts.sum()} patients do not give {k} different knots",
            do="Use fewer knots, a linear term or categories.",
        )
    return knots


def _default_knots(values: NDArray[np.float64], counts: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Knots of the sorted distinct values and their counts; not k increasing ones where the rule fails."""
    if len(values) <= k + 2:
        return values[1:-1]
    share = counts / counts.sum()
    ends_only = share[1:-1].max() < _TIED_END
    low, high = bool(ends_only and share[0] >= _TIED_END), bool(ends_only and share[-1] >= _TIED_END)
    first, last = values[1:2] if low else values[:0], values[-2:-1] if high else values[:0]
    inner = slice(2 if low else 0, len(values) - (2 if high else 0))
    values, upto = values[inner], np.cumsum(counts[inner])
    if len(values) == 0:
        return values
    n, left = int(upto[-1]), k - low - high
    outer = 0.1 if k == 3 else 0.025 if k == 7 else 0.05
    at = np.linspace(outer if left > 2 else 0.5, 1.0 - outer if left > 1 else 0.5, left)

    def ordered(rank: NDArray[np.int64]) -> NDArray[np.float64]:
        return values[np.searchsorted(upto, rank, side="right")]

    position = at * (n - 1)
    below = np.floor(position).astype(np.int64)
    start, stop = ordered(below), ordered(np.minimum(below + 1, n - 1))
    knots = start + (position - below) * (stop - start)
    if n < 100 and left > 1:
        if n < 5:
            return values[:0]
        if not low:
            knots[0] = ordered(np.array([4]))[0]
        if not high:
            knots[-1] = ordered(np.array([n - 5]))[0]
    return np.concatenate([first, knots, last])
