"""Tests of a number between groups: Mann-Whitney, Kruskal-Wallis, Welch, analysis of variance, Shapiro-Wilk.

Numbers as R's wilcox.test, kruskal.test, t.test, oneway.test and shapiro.test. Every sample is
one value per patient; NaN is refused (leave missing values out and report how many).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import asin, comb, exp, inf, log, pi, sqrt
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2, norm, rankdata
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

from osml.errors import InvalidInputError, NotEstimableError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MannWhitney:
    """Mann-Whitney test. `u` counts pairs in which the first sample is larger, ties one half (R's W)."""

    u: float
    p: float
    method: Literal["exact", "normal"]


@dataclass(frozen=True)
class KruskalWallis:
    """Kruskal-Wallis test, corrected for ties."""

    h: float
    df: int
    p: float


@dataclass(frozen=True)
class TTest:
    """Two-sample t-test; `difference` is mean of the first sample minus mean of the second, with its interval."""

    t: float
    df: float
    p: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Anova:
    """One-way analysis of variance."""

    f: float
    df1: float
    df2: float
    p: float


@dataclass(frozen=True)
class Shapiro:
    """Shapiro-Wilk test of normality."""

    w: float
    p: float


def mann_whitney(x: ArrayLike, y: ArrayLike, *, exact: bool | None = None, correct: bool = True) -> MannWhitney:
    """Two-sided Mann-Whitney test.

    Parameters
    ----------
    x, y : float array (n,), (m,)
    exact : bool, optional
        Default as wilcox.test: exact when both samples have fewer than 50 values and none are tied, otherwise the
        normal approximation with variance corrected for ties. True with ties is refused.
    correct : bool
        Continuity correction of the normal approximation.

    Raises
    ------
    NotEstimableError
        All values are equal.

    Examples
    --------
    >>> mann_whitney([0.4, 1.1, 2.3, 3.7, 5.9], [2.2, 4.4, 6.6, 7.1, 8.8, 9.3])
    MannWhitney(u=4.0, p=0.05194805194805195, method='exact')
    """
    a, b = _sample(x, "x"), _sample(y, "y")
    n, m = a.size, b.size
    ranks = rankdata(np.concatenate([a, b]))
    u = float(ranks[:n].sum() - n * (n + 1) / 2)
    ties = np.unique(ranks, return_counts=True)[1].astype(np.float64)
    tied = bool(np.any(ties > 1))
    if exact is None:
        exact = n < 50 and m < 50 and not tied
    if exact:
        if tied:
            raise InvalidInputError("an exact Mann-Whitney test does not exist with tied values", do="Use exact=None.")
        smaller = round(min(u, n * m - u))
        below = float(_rank_sum_counts(n, m)[: smaller + 1].sum())
        return MannWhitney(u, min(1.0, 2 * below / comb(n + m, n)), "exact")
    if ties.size == 1:
        raise NotEstimableError(f"all {n + m} values are equal: no Mann-Whitney test exists")
    total = n + m
    variance = n * m / 12 * (total + 1 - float((ties**3 - ties).sum()) / (total * (total - 1)))
    distance = abs(u - n * m / 2)
    z = (distance - 0.5 if correct and distance > 0 else distance) / sqrt(variance)
    return MannWhitney(u, min(1.0, 2 * min(float(norm.sf(z)), float(norm.cdf(z)))), "normal")


def kruskal_wallis(groups: Sequence[ArrayLike]) -> KruskalWallis:
    """Kruskal-Wallis test of two or more samples.

    >>> round(kruskal_wallis([[1, 2, 3], [2, 4, 6], [7, 8, 9]]).p, 4)
    0.0439
    """
    samples = _samples(groups)
    sizes = np.array([s.size for s in samples])
    ranks = rankdata(np.concatenate(samples))
    n = ranks.size
    ties = np.unique(ranks, return_counts=True)[1].astype(np.float64)
    if ties.size == 1:
        raise NotEstimableError(f"all {n} values are equal: no Kruskal-Wallis test exists")
    # Centred ranks keep the digits that 12/(n(n+1)) sum R²/n_i - 3(n+1) cancels.
    sums = np.add.reduceat(ranks - (n + 1) / 2, np.concatenate([[0], np.cumsum(sizes)[:-1]]))
    h = 12 / (n * (n + 1)) * float(np.sum(sums**2 / sizes)) / (1 - float((ties**3 - ties).sum()) / (n**3 - n))
    return KruskalWallis(h, len(samples) - 1, float(chi2.sf(h, len(samples) - 1)))


def t_test(x: ArrayLike, y: ArrayLike, *, equal_variances: bool = False, level: float = 0.95) -> TTest:
    """Welch's t-test, or Student's with `equal_variances`; two-sided.

    Raises
    ------
    NotEstimableError
        A sample of one value, or no variance in either sample.

    Examples
    --------
    >>> r = t_test([0.4, 1.1, 2.3, 3.7, 5.9], [2.2, 4.4, 6.6, 7.1, 8.8, 9.3])
    >>> f"t = {r.t:.2f}, df = {r.df:.2f}, p = {r.p:.3f}"
    't = -2.52, df = 9.00, p = 0.033'
    """
    a, b = _sample(x, "x"), _sample(y, "y")
    if min(a.size, b.size) < 2:
        raise NotEstimableError(f"a t-test needs at least 2 values in each sample, got {a.size} and {b.size}")
    if not 0 < level < 1:
        raise InvalidInputError(f"level must lie between 0 and 1, got {level}")
    va, vb = float(a.var(ddof=1)) / a.size, float(b.var(ddof=1)) / b.size
    if equal_variances:
        df = float(a.size + b.size - 2)
        pooled = (va * a.size * (a.size - 1) + vb * b.size * (b.size - 1)) / df
        variance = pooled * (1 / a.size + 1 / b.size)
    else:
        variance = va + vb
        df = variance**2 / (va**2 / (a.size - 1) + vb**2 / (b.size - 1)) if variance > 0 else inf
    _needs_variance([a, b], variance)
    difference, se = float(a.mean() - b.mean()), sqrt(variance)
    half = float(t_distribution.isf((1 - level) / 2, df)) * se
    p = float(2 * t_distribution.sf(abs(difference / se), df))
    return TTest(difference / se, df, p, difference, difference - half, difference + half)


def anova(groups: Sequence[ArrayLike], *, equal_variances: bool = False) -> Anova:
    """One-way analysis of variance: Welch's, which for two groups is Welch's t-test, or the classical one.

    Welch 1951, Biometrika 38:330; R's oneway.test. A group without variance is refused by Welch's form.

    >>> round(anova([[1, 2, 3], [2, 4, 6], [7, 8, 9]]).p, 4)
    0.0075
    """
    samples = _samples(groups)
    sizes = np.array([s.size for s in samples], dtype=np.float64)
    if np.any(sizes < 2):
        raise NotEstimableError(f"an analysis of variance needs 2 values in each group, got {sizes.astype(int)}")
    means = np.array([s.mean() for s in samples])
    variances = np.array([s.var(ddof=1) for s in samples])
    k = len(samples)
    if equal_variances:
        df2 = float(sizes.sum() - k)
        within = float(((sizes - 1) * variances).sum() / df2)
        _needs_variance(samples, within)
        centre = float((sizes * means).sum() / sizes.sum())
        f = float((sizes * (means - centre) ** 2).sum() / (k - 1)) / within
    else:
        for sample, variance in zip(samples, variances, strict=True):
            _needs_variance([sample], float(variance))
        w = sizes / variances
        share = w / w.sum()
        centre = float((share * means).sum())
        spread = float(((1 - share) ** 2 / (sizes - 1)).sum()) / (k**2 - 1)
        f = float((w * (means - centre) ** 2).sum()) / ((k - 1) * (1 + 2 * (k - 2) * spread))
        df2 = 1 / (3 * spread)
    return Anova(f, float(k - 1), df2, float(f_distribution.sf(f, k - 1, df2)))


def shapiro(x: ArrayLike) -> Shapiro:
    """Shapiro-Wilk test of normality for 3 to 5,000 values that are not all equal.

    Royston 1995, Appl Stat 44:547 (AS R94). `scipy.stats.shapiro` differs from R in the eighth digit of p.

    >>> round(shapiro([0.4, 1.1, 2.3, 3.7, 5.9]).p, 3)
    0.759
    """
    values = np.sort(_sample(x, "x"))
    n = values.size
    if not 3 <= n <= 5000:
        raise NotEstimableError(f"the Shapiro-Wilk test is defined for 3 to 5,000 values, got {n}")
    values = values - np.median(values)
    _needs_variance([_sample(x, "x")], float(values.var()))
    values = values / (values[-1] - values[0])
    a = _shapiro_weights(n)
    centred, weighted = values - values.mean(), float(a @ values)
    squares = float(a @ a) * float(centred @ centred)
    # 1 - W as a product of factors: near W = 1 the difference would cancel.
    gap = (sqrt(squares) - weighted) * (sqrt(squares) + weighted) / squares
    w = 1 - gap
    if n == 3:
        return Shapiro(w, max(0.0, 6 / pi * (asin(sqrt(w)) - asin(sqrt(0.75)))))
    y = log(gap)
    if n <= 11:
        limit = _polynomial(_ROYSTON_G, n)
        if y >= limit:
            return Shapiro(w, 1e-99)
        y = -log(limit - y)
        mean, sd = _polynomial(_ROYSTON_C3, n), exp(_polynomial(_ROYSTON_C4, n))
    else:
        mean, sd = _polynomial(_ROYSTON_C5, log(n)), exp(_polynomial(_ROYSTON_C6, log(n)))
    return Shapiro(w, float(norm.sf((y - mean) / sd)))


_ROYSTON_G = (-2.273, 0.459)
_ROYSTON_C1 = (0.0, 0.221157, -0.147981, -2.07119, 4.434685, -2.706056)
_ROYSTON_C2 = (0.0, 0.042981, -0.293762, -1.752461, 5.682633, -3.582633)
_ROYSTON_C3 = (0.544, -0.39978, 0.025054, -6.714e-4)
_ROYSTON_C4 = (1.3822, -0.77857, 0.062767, -0.0020322)
_ROYSTON_C5 = (-1.5861, -0.31082, -0.083751, 0.0038915)
_ROYSTON_C6 = (-0.4803, -0.082676, 0.0030302)


def _polynomial(coefficients: tuple[float, ...], x: float) -> float:
    value = 0.0
    for c in reversed(coefficients):
        value = value * x + c
    return value


def _shapiro_weights(n: int) -> Array:
    """Weights of the ordered values, antisymmetric, float array (n,)."""
    half = n // 2
    a = np.zeros(n)
    if n == 3:
        a[0] = -sqrt(0.5)
    else:
        m = norm.ppf((np.arange(1, half + 1) - 0.375) / (n + 0.25))
        squares = 2 * float(m @ m)
        root = 1 / sqrt(n)
        outer = [_polynomial(_ROYSTON_C1, root) - m[0] / sqrt(squares)]
        if n > 5:
            outer.append(_polynomial(_ROYSTON_C2, root) - m[1] / sqrt(squares))
        k = len(outer)
        scale = sqrt((squares - 2 * float(m[:k] @ m[:k])) / (1 - 2 * sum(o * o for o in outer)))
        a[:half] = m / scale
        a[:k] = [-o for o in outer]
    a[n - half :] = -a[:half][::-1]
    return a


def _rank_sum_counts(n: int, m: int) -> Array:
    """Number of ways in which n of n + m ranks give each U, 0..n*m. Sums of positive terms: exact to rounding."""
    ways = np.zeros((n + 1, n * m + 1))
    ways[0, 0] = 1.0
    # Taking the (j + 1)-th value as the i-th of x adds j + 1 - i pairs; larger i first, so that none is taken twice.
    for j in range(n + m):
        for i in range(min(n, j + 1), 0, -1):
            pairs = j + 1 - i
            if pairs <= m:
                ways[i, pairs:] += ways[i - 1, : ways.shape[1] - pairs]
    return ways[n]


def _sample(x: ArrayLike, name: str) -> Array:
    try:
        values = np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{name} must hold numbers: {error}") from error
    if values.ndim != 1 or values.size == 0:
        raise InvalidInputError(f"{name} must be a non-empty array of one dimension, got shape {values.shape}")
    if not np.all(np.isfinite(values)):
        raise InvalidInputError(
            f"{name} holds {int((~np.isfinite(values)).sum())} missing or infinite values of {values.size}",
            do="Leave missing values out and report how many.",
        )
    return values


def _samples(groups: Sequence[ArrayLike]) -> list[Array]:
    if len(groups) < 2:
        raise InvalidInputError(f"at least 2 groups are needed, got {len(groups)}")
    return [_sample(g, f"group {i + 1}") for i, g in enumerate(groups)]


def _needs_variance(samples: Sequence[Array], variance: float) -> None:
    scale = max(float(np.abs(s).max()) for s in samples)
    if variance <= (8 * np.finfo(np.float64).eps * scale) ** 2:
        raise NotEstimableError(f"{sum(s.size for s in samples)} values do not vary within their group: no test exists")
