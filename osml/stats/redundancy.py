"""Redundant features: of any two that rank patients almost alike, one is kept.

Source: Spearman 1904 (rank correlation); greedy filter in the order of a given priority.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.inputs import Array, design_array

_BLOCK = 128


def uncorrelated(X: ArrayLike, priority: ArrayLike, limit: float = 0.9) -> tuple[int, ...]:
    """Columns that are left when, in order of priority, each column removes those that correlate with it too much.

    Parameters
    ----------
    X : float array (n, p)
        One row per patient, no missing values; no constant column.
    priority : float array (p,), or (p, q)
        Higher stays; a column settles the ties of those before it, then the lower column of X stays. NaN ranks last.
    limit : float
        A pair with |Spearman's rho| > limit, beyond rounding, is redundant. In (0, 1]; 1 removes nothing.

    Returns
    -------
    tuple of int
        Increasing. Any two of them have |rho| at or below the limit, and every other column exceeds it with one of
        them that has the higher priority.

    Notes
    -----
    Ties in a column get their mean rank. O(n p k) time for k columns left, O(n p) memory: no p x p matrix.

    >>> X = np.array([[1.0, 10, 4], [2, 20, 1], [3, 30, 3], [4, 50, 2]])
    >>> uncorrelated(X, [1.0, 2.0, 0.0])
    (1, 2)
    """
    X = design_array(X)
    p = X.shape[1]
    keys = np.asarray(priority, dtype=np.float64)
    keys = keys[:, None] if keys.ndim == 1 else keys
    if keys.ndim != 2 or len(keys) != p:
        raise InvalidInputError(f"priority must have one entry (or row) for each of the {p} columns of X")
    if not 0 < limit <= 1:
        raise InvalidInputError(f"limit must lie in (0, 1], got {limit!r}")
    unit = _standardised_ranks(X)
    # lexsort takes the last key first, and sorts NaN last.
    falling = -keys
    rest = np.lexsort((np.arange(p), *falling.T[::-1]))
    bound = limit + 1e-12
    kept: list[int] = []
    while len(rest):
        head = rest[:_BLOCK]
        redundant = np.abs(unit[head] @ unit[rest].T) > bound
        left = np.ones(len(rest), dtype=bool)
        for row in range(len(head)):
            if left[row]:
                kept.append(int(head[row]))
                left &= ~redundant[row]
        left[: len(head)] = False
        rest = rest[left]
    return tuple(sorted(kept))


def spearman(X: ArrayLike) -> Array:
    """Spearman's rank correlation of every pair of columns, float array (p, p); ties get their mean rank.

    >>> spearman(np.array([[1.0, 9], [2, 7], [3, 8], [4, 1]])).round(2).tolist()
    [[1.0, -0.8], [-0.8, 1.0]]
    """
    unit = _standardised_ranks(design_array(X))
    return unit @ unit.T


def _standardised_ranks(X: Array) -> Array:
    """Ranks of each column with mean 0 and length 1, float array (p, n): products are correlations."""
    ranks = _ranks(np.ascontiguousarray(X.T))
    ranks -= ranks.mean(axis=1, keepdims=True)
    length = np.sqrt(np.square(ranks).sum(axis=1, keepdims=True))
    constant = np.flatnonzero(length[:, 0] == 0)
    if len(constant):
        raise NotEstimableError(
            f"columns {constant[:10].tolist()} of X are constant and have no rank correlation", do="Drop them."
        )
    return ranks / length


def _ranks(rows: Array) -> Array:
    """Ranks 1..n along each row, ties at their mean."""
    p, n = rows.shape
    order = np.argsort(rows, axis=1)
    sorted_rows = np.take_along_axis(rows, order, axis=1)
    new = np.ones((p, n), dtype=bool)
    new[:, 1:] = sorted_rows[:, 1:] != sorted_rows[:, :-1]
    # Runs of equal values over all rows at once: a run never spans two rows, since each row starts one.
    start: NDArray[np.intp] = np.flatnonzero(new)
    size = np.diff(np.append(start, p * n))
    mean = start % n + (size + 1) / 2.0
    ranks = np.empty((p, n))
    np.put_along_axis(ranks, order, np.repeat(mean, size).reshape(p, n), axis=1)
    return ranks
