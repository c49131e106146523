"""Tests of a table of counts: chi-square and Fisher's exact test for any number of rows and columns.

Numbers as R's chisq.test and fisher.test. Tests of a number between groups are in `osml.evaluation.group_tests`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, prod, sqrt
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import gammaln, logsumexp
from scipy.stats import chi2, random_table

from osml.errors import InvalidInputError, NotEstimableError

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

# A table counts as no likelier than the observed one up to this relative difference in probability, as in R.
_TIE = 1e-7
_DRAWS = 100_000
# Limits of the exact test, a few seconds together: cells of the backward pass, arcs of the forward pass, paths kept.
_MAX_CELLS = 500_000_000
_MAX_ARCS = 50_000_000
_MAX_PATHS = 1_000_000
_BLOCK = 2_000_000


@dataclass(frozen=True)
class ChiSquare:
    """Pearson chi-square test; `min_expected` is the smallest expected count."""

    statistic: float
    df: int
    p: float
    min_expected: float


@dataclass(frozen=True)
class Fisher:
    """Fisher's exact test.

    Parameters
    ----------
    p : float
        Probability, given the margins, of all tables no likelier than the observed one.
    method : "exact" or "monte carlo"
    se : float
        Monte Carlo standard error of `p`; 0 when exact.
    odds_ratio, low, high : float or None
        2 x 2 only: conditional maximum likelihood estimate and its exact interval; the estimate is 0 or infinite
        when a cell is empty.
    """

    p: float
    method: Literal["exact", "monte carlo"]
    se: float
    odds_ratio: float | None = None
    low: float | None = None
    high: float | None = None


def chi_square(table: ArrayLike, *, yates: bool = False) -> ChiSquare:
    """Pearson chi-square test of independence.

    Parameters
    ----------
    table : int array (r, c)
        Counts; rows and columns without any count are refused.
    yates : bool
        Continuity correction, for 2 x 2 tables only.

    Examples
    --------
    >>> round(chi_square([[86, 29], [44, 30]]).p, 4), round(chi_square([[86, 29], [44, 30]], yates=True).p, 4)
    (0.0265, 0.0396)
    """
    counts = count_table(table)
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    if min(counts.shape) < 2 or np.any(rows == 0) or np.any(columns == 0):
        raise NotEstimableError(
            f"no chi-square test: rows sum to {rows.tolist()}, columns to {columns.tolist()}",
            do="Drop empty levels and groups; at least two of each must remain.",
        )
    if yates and counts.shape != (2, 2):
        raise InvalidInputError(f"the Yates correction is for 2 x 2 tables, got {counts.shape}")
    expected = np.outer(rows, columns) / counts.sum()
    distance = np.abs(counts - expected)
    if yates:
        distance = distance - min(0.5, float(distance.min()))
    statistic = float(np.sum(distance**2 / expected))
    df = (counts.shape[0] - 1) * (counts.shape[1] - 1)
    return ChiSquare(statistic, df, float(chi2.sf(statistic, df)), float(expected.min()))


def fisher_exact(table: ArrayLike, *, level: float = 0.95, seed: int = 0) -> Fisher:
    """Fisher's exact test of an r x c table, two-sided.

    Exact by a network over the rows (Mehta & Patel 1983): partial tables that cannot end above, or below, the observed
    probability are settled at once, the rest are carried on. Where that would take too long, 100,000 tables with the
    observed margins are drawn and the standard error is given; (hits + 1)/(draws + 1) is never 0.

    Parameters
    ----------
    table : int array (r, c)
        Counts. Empty rows and columns carry no information and are dropped.
    level : float
        Of the interval of the odds ratio.
    seed : int
        Of the drawn tables; an exact result does not depend on it.

    Raises
    ------
    NotEstimableError
        Fewer than two rows or columns hold a patient.

    Examples
    --------
    >>> fisher_exact([[125, 52], [5, 7]]).p.__round__(6)
    0.051612
    >>> fisher_exact([[37, 2], [20, 12], [3, 1], [8, 8], [4, 18]]).method
    'exact'
    """
    given = count_table(table)
    counts = given[given.sum(axis=1) > 0][:, given.sum(axis=0) > 0]
    if min(counts.shape) < 2:
        raise NotEstimableError(
            f"no Fisher test: after dropping empty rows and columns the table is {counts.shape[0]} x {counts.shape[1]}"
        )
    if not 0 < level < 1:
        raise InvalidInputError(f"level must lie between 0 and 1, got {level}")
    if counts.shape == (2, 2):
        return _two_by_two(counts, level)
    if counts.shape[0] < counts.shape[1]:
        counts = counts.T
    p = _network(counts[np.argsort(-counts.sum(axis=1), kind="stable")])
    return Fisher(p, "exact", 0.0) if p is not None else _monte_carlo(counts, seed)


def count_table(table: ArrayLike) -> NDArray[np.int64]:
    """Counts as integers, (r, c); anything else is refused.

    >>> count_table([[1, 2], [3, 4]]).sum()
    np.int64(10)
    """
    try:
        counts = np.asarray(table, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"a table of counts must hold numbers: {error}") from error
    if counts.ndim != 2:
        raise InvalidInputError(f"a table of counts has two dimensions, got {counts.ndim}")
    if not np.all(np.isfinite(counts)) or np.any(counts < 0) or np.any(counts != np.round(counts)):
        raise InvalidInputError("a table of counts must hold whole numbers of at least 0")
    if counts.sum() == 0:
        raise NotEstimableError("the table holds no patient")
    return counts.astype(np.int64)


def _two_by_two(counts: Counts, level: float) -> Fisher:
    (a, b), (c, d) = counts.tolist()
    low, high = max(0, a + b - (b + d)), min(a + b, a + c)
    support = np.arange(low, high + 1)
    other = np.stack([support, a + b - support, a + c - support, d - a + support])
    central = -gammaln(other + 1.0).sum(axis=0)
    central -= logsumexp(central)
    p = float(np.exp(central[central <= central[a - low] + _TIE]).sum())

    def weights(theta: float) -> Array:
        tilted = central + theta * (support - a)
        return np.exp(tilted - logsumexp(tilted))

    tail = (1 - level) / 2
    upper_tail = _root(lambda theta: float(weights(theta)[support >= a].sum()) - tail) if a > low else -inf
    lower_tail = _root(lambda theta: tail - float(weights(theta)[support <= a].sum())) if a < high else inf
    if a in (low, high):
        estimate = -inf if a == low else inf
    else:
        estimate = _root(lambda theta: float(weights(theta) @ support) - a)
    with np.errstate(over="ignore"):
        odds_ratio, lower, upper = (float(np.exp(theta)) for theta in (estimate, upper_tail, lower_tail))
    return Fisher(min(1.0, p), "exact", 0.0, odds_ratio, lower, upper)


def _root(increasing: Callable[[float], float]) -> float:
    """Root of a function of the log odds ratio that rises from below 0 to above 0."""
    low, high = -1.0, 1.0
    while increasing(low) > 0:
        low *= 2
    while increasing(high) < 0:
        high *= 2
    return float(brentq(increasing, low, high, xtol=1e-13, rtol=1e-14))


def _network(counts: Counts) -> float | None:
    """Exact p of an r x c table, or None when the network is too large.

    A node is the vector of column totals still to be filled after the first k rows; its last entry follows from the
    sum, so nodes are indexed by the others on a dense grid. A path's length is -sum ln x! over its cells.
    """
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    shape = tuple(int(c) + 1 for c in columns[:-1])
    allocations = []
    work = 0
    for k, row in enumerate(rows[:-1]):
        cells = [int(min(c, row)) + 1 for c in columns[:-1]]
        if prod(cells) > _BLOCK:
            return None
        grid = np.indices(tuple(cells)).reshape(len(cells), -1).T
        last = row - grid.sum(axis=1)
        keep = (last >= 0) & (last <= columns[-1])
        allocations.append(np.column_stack([grid, last])[keep])
        work += len(allocations[-1]) * prod(shape) if k else prod(shape)
        if work > _MAX_CELLS:
            return None
    log_factorial = gammaln(np.arange(counts.sum() + 1) + 1.0)
    longest, shortest = _bounds(rows, columns, allocations, log_factorial)
    total = log_factorial[rows].sum() + log_factorial[columns].sum() - log_factorial[counts.sum()]
    observed = -log_factorial[counts].sum() + _TIE

    node = np.asarray([columns])
    path, copies = np.zeros(1), np.ones(1)
    p, arcs = 0.0, 0
    for k, choices in enumerate(allocations):
        arcs += len(node) * len(choices)
        if arcs > _MAX_ARCS:
            return None
        cost = -log_factorial[choices].sum(axis=1)
        step = max(1, _BLOCK // (len(choices) * len(columns)))
        parts = [(node[:0], path[:0], copies[:0])]
        for start in range(0, len(node), step):
            left = node[start : start + step, None, :] - choices[None]
            i, j = np.nonzero((left >= 0).all(axis=2))
            left = left[i, j]
            length, weight = path[start + i] + cost[j], copies[start + i]
            at = tuple(left[:, :-1].T)
            below = length + longest[k][at] <= observed
            # All completions of a node together have a closed form: the multinomial of what is left.
            mass = log_factorial[left[0].sum()] - log_factorial[left[below]].sum(axis=1)
            mass = mass - log_factorial[rows[k + 1 :]].sum() + length[below] + total
            p += float((weight[below] * np.exp(mass)).sum())
            open_ = ~below & (length + shortest[k][at] <= observed)
            parts.append((left[open_], length[open_], weight[open_]))
        node, path, copies = _merge(
            np.concatenate([part[0] for part in parts]),
            np.concatenate([part[1] for part in parts]),
            np.concatenate([part[2] for part in parts]),
            shape,
        )
        if len(path) > _MAX_PATHS:
            return None
    return min(1.0, p)


def _bounds(
    rows: Counts, columns: Counts, allocations: list[Counts], log_factorial: Array
) -> tuple[list[Array], list[Array]]:
    """Longest and shortest completion from every node after row k, on the grid of the first columns."""
    shape = tuple(int(c) + 1 for c in columns[:-1])
    grid = np.indices(shape)
    first = grid.sum(axis=0)
    final = rows[-1] - first
    reachable = (final >= 0) & (final <= columns[-1])
    end = -log_factorial[grid].sum(axis=0) - log_factorial[np.clip(final, 0, None)]
    longest = [np.where(reachable, end, -inf)]
    shortest = [np.where(reachable, end, inf)]
    for k in range(len(rows) - 2, 0, -1):
        high, low = np.full(shape, -inf), np.full(shape, inf)
        remaining = rows[k:].sum() - first
        for choice in allocations[k]:
            cost = -log_factorial[choice].sum()
            to = tuple(slice(int(x), None) for x in choice[:-1])
            source = tuple(slice(0, s - int(x)) for s, x in zip(shape, choice[:-1], strict=True))
            np.maximum(high[to], longest[0][source] + cost, out=high[to])
            np.minimum(low[to], shortest[0][source] + cost, out=low[to])
        reachable = (remaining >= 0) & (remaining <= columns[-1])
        longest.insert(0, np.where(reachable, high, -inf))
        shortest.insert(0, np.where(reachable, low, inf))
    return longest, shortest


def _merge(node: Counts, path: Array, copies: Array, shape: tuple[int, ...]) -> tuple[Counts, Array, Array]:
    """Join paths of equal length at the same node; lengths that differ by rounding only are equal."""
    if len(path) == 0:
        return node, path, copies
    index = np.ravel_multi_index(tuple(node[:, :-1].T), shape)
    order = np.lexsort((path, index))
    index, path = index[order], path[order]
    new = np.concatenate([[True], (np.diff(index) != 0) | (np.diff(path) > 1e-10)])
    return node[order][new], path[new], np.add.reduceat(copies[order], np.flatnonzero(new))


def _monte_carlo(counts: Counts, seed: int) -> Fisher:
    drawn = random_table(counts.sum(axis=1), counts.sum(axis=0)).rvs(_DRAWS, random_state=np.random.default_rng(seed))
    log_factorial = gammaln(np.arange(counts.sum() + 1) + 1.0)
    length = -log_factorial[drawn.astype(np.int64)].sum(axis=(1, 2))
    hits = int((length <= -log_factorial[counts].sum() + _TIE).sum())
    p = (hits + 1) / (_DRAWS + 1)
    return Fisher(p, "monte carlo", sqrt(p * (1 - p) / _DRAWS))
