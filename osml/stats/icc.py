"""Intraclass correlation: how far a feature survives a second reader, segmentation or scan.

Source: Shrout & Fleiss 1979, Psychol Bull 86:420; McGraw & Wong 1996, Psychol Methods 1:30. Numbers as `psych::ICC`
with `lmer = FALSE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import f as f_distribution

from osml.errors import InvalidInputError, NotEstimableError

Model = Literal["1,1", "2,1", "3,1", "1,k", "2,k", "3,k"]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class ICC:
    """One intraclass correlation.

    `f`, `df1`, `df2` and `p` test that the correlation is zero. Perfect agreement gives value 1, f infinite, p 0.
    """

    model: Model
    value: float
    low: float
    high: float
    f: float
    df1: int
    df2: int
    p: float
    level: float


@dataclass(frozen=True)
class FeatureICC:
    """Intraclass correlations of many features, float arrays (p,); NaN where a feature does not vary at all."""

    model: Model
    value: Array
    low: Array
    high: Array
    f: Array
    df1: int
    df2: int
    p: Array
    level: float


def icc(ratings: ArrayLike, model: Model = "2,1", level: float = 0.95) -> ICC:
    """Intraclass correlation of k readings of n targets, with its F test and confidence interval.

    Parameters
    ----------
    ratings : float array (n, k)
        One row per target (patient), one column per rater; n >= 2, k >= 2; NaN is refused (a target read once says
        nothing about agreement: leave it out and report it).
    model : str
        "1,1" raters differ from target to target; "2,1" the raters are a sample of raters, absolute agreement;
        "3,1" these raters only, consistency. "1,k", "2,k", "3,k" are the same for the mean of the k readings.
    level : float
        Of the two-sided confidence interval. A correlation estimated below 0 may lie outside its own bounds, or those
        of "2,1" and "2,k" may not exist (NaN): targets then differ less than chance makes them.

    Raises
    ------
    NotEstimableError
        Every reading is the same number.

    Examples
    --------
    >>> r = icc([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], "2,1")
    >>> f"{r.value:.3f} ({r.low:.3f} to {r.high:.3f}), F({r.df1}, {r.df2}) = {r.f:.2f}"
    '0.290 (0.019 to 0.761), F(5, 15) = 11.03'
    """
    x = _ratings(ratings)
    many = _from_squares(_mean_squares(x[:, :, None]), x.shape[0], x.shape[1], model, level)
    if np.isnan(many.value[0]):
        raise NotEstimableError(
            f"the intraclass correlation does not exist: all {x.size} readings are equal or carry no variance",
            do="Leave this feature out.",
        )
    return ICC(
        model,
        float(many.value[0]),
        float(many.low[0]),
        float(many.high[0]),
        float(many.f[0]),
        many.df1,
        many.df2,
        float(many.p[0]),
        level,
    )


def icc_all(ratings: ArrayLike, level: float = 0.95) -> dict[Model, ICC]:
    """All six forms of `icc`, by model.

    >>> [round(r.value, 2) for r in icc_all([[1, 2], [3, 3], [5, 7]]).values()]
    [0.85, 0.86, 0.91, 0.92, 0.92, 0.95]
    """
    return {model: icc(ratings, model, level) for model in get_args(Model)}


def icc_features(reader1: ArrayLike, reader2: ArrayLike, model: Model = "2,1", level: float = 0.95) -> FeatureICC:
    """Intraclass correlation of each feature between two or more readings of the same patients.

    Parameters
    ----------
    reader1 : float array (n, p)
    reader2 : float array (n, p), or (n, p, k) for k further readings
        Same patients in the same order, same features in the same order; NaN is refused.

    Returns
    -------
    FeatureICC
        A feature that never varies has no correlation: NaN, which passes no threshold.

    Examples
    --------
    >>> a = [[1.0, 4.0], [3.0, 4.0], [5.0, 4.0]]
    >>> b = [[2.0, 4.0], [3.0, 4.0], [7.0, 4.0]]
    >>> icc_features(a, b).value.round(2).tolist()
    [0.86, nan]
    """
    a, b = np.asarray(reader1, dtype=np.float64), np.asarray(reader2, dtype=np.float64)
    if a.ndim != 2 or b.ndim not in (2, 3) or a.shape != b.shape[:2]:
        raise InvalidInputError(
            f"the two readings must be matrices of one shape (patients, features), got {a.shape} and {b.shape}"
        )
    further = b[:, :, None] if b.ndim == 2 else b
    x = _finite(np.concatenate([a[:, None], further.transpose(0, 2, 1)], axis=1))
    if a.shape[0] < 2:
        raise InvalidInputError(f"an intraclass correlation needs at least 2 patients, got {a.shape[0]}")
    return _from_squares(_mean_squares(x), a.shape[0], x.shape[1], model, level)


def _ratings(ratings: ArrayLike) -> Array:
    try:
        x = np.asarray(ratings, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"ratings must be numbers: {error}") from error
    if x.ndim != 2 or x.shape[0] < 2 or x.shape[1] < 2:
        raise InvalidInputError(
            f"ratings must have at least 2 rows (targets) and 2 columns (raters), got shape {x.shape}"
        )
    return _finite(x)


def _finite(x: Array) -> Array:
    if not np.all(np.isfinite(x)):
        raise InvalidInputError(
            f"ratings hold {int((~np.isfinite(x)).sum())} missing or infinite values",
            do="Leave out the targets that were not read by every rater, and report how many.",
        )
    return x


def _mean_squares(x: Array) -> tuple[Array, Array, Array, Array]:
    """Between targets, within targets, between raters, residual: each (p,), from readings (n, k, p)."""
    n, k, _ = x.shape
    x = x - x.mean(axis=(0, 1))
    targets, raters = x.mean(axis=1), x.mean(axis=0)
    within = x - targets[:, None]
    residual = within - raters[None]
    # Differences of the order of rounding are agreement, not disagreement.
    floor = np.square(16 * np.finfo(np.float64).eps * np.abs(x).max(axis=(0, 1)))
    squares = (
        k * np.square(targets).sum(axis=0) / (n - 1),
        np.square(within).sum(axis=(0, 1)) / (n * (k - 1)),
        n * np.square(raters).sum(axis=0) / (k - 1),
        np.square(residual).sum(axis=(0, 1)) / ((n - 1) * (k - 1)),
    )
    return tuple(np.where(s <= floor, 0.0, s) for s in squares)  # type: ignore[return-value]


def _from_squares(squares: tuple[Array, Array, Array, Array], n: int, k: int, model: Model, level: float) -> FeatureICC:
    if model not in get_args(Model):
        raise InvalidInputError(f"unknown model {model!r}", do=f"Allowed: {', '.join(map(repr, get_args(Model)))}.")
    if not 0 < level < 1:
        raise InvalidInputError(f"level must lie between 0 and 1, got {level}")
    between, within, raters, residual = squares
    tail = (1 - level) / 2
    noise = within if model[0] == "1" else residual
    df1, df2 = n - 1, n * (k - 1) if model[0] == "1" else (n - 1) * (k - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        f = between / noise
        if model[0] == "2":
            value = (between - residual) / (between + (k - 1) * residual + k * (raters - residual) / n)
            low, high = _absolute_agreement_bounds(between, raters, residual, value, n, k, tail)
        else:
            value = (between - noise) / (between + (k - 1) * noise)
            # A ratio of mean squares to the bound of the correlation; the ratio is infinite under perfect agreement.
            ratio_low = f / f_distribution.isf(tail, df1, df2)
            ratio_high = f * f_distribution.isf(tail, df2, df1)
            low, high = (np.where(np.isinf(r), 1.0, (r - 1) / (r + k - 1)) for r in (ratio_low, ratio_high))
        if model.endswith("k"):
            value, low, high = (k * r / (1 + (k - 1) * r) for r in (value, low, high))
        p = np.asarray(f_distribution.sf(f, df1, df2))
    return FeatureICC(model, value, low, high, f, df1, df2, p, level)


def _absolute_agreement_bounds(
    between: Array, raters: Array, residual: Array, value: Array, n: int, k: int, tail: float
) -> tuple[Array, Array]:
    """Satterthwaite bounds of ICC(2,1), written without dividing by the residual mean square, which may be zero."""
    a = k * value * raters
    b = (n * (1 + (k - 1) * value) - k * value) * residual
    v = (k - 1) * (n - 1) * np.square(a + b) / ((n - 1) * np.square(a) + np.square(b))
    upper, lower = f_distribution.isf(tail, n - 1, v), f_distribution.isf(tail, v, n - 1)
    error = k * raters + (k * n - k - n) * residual
    low = n * (between - upper * residual) / (upper * error + n * between)
    high = n * (lower * between - residual) / (error + n * lower * between)
    exact = (residual == 0) & (raters == 0) & (between > 0)
    return np.where(exact, 1.0, low), np.where(exact, 1.0, high)
