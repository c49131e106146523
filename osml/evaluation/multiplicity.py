"""Many tests, and tests on resampled differences."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as t_distribution

from osml.errors import InvalidInputError, NotEstimableError


def bonferroni(p: ArrayLike) -> NDArray[np.float64]:
    """Bonferroni adjusted p-values (family-wise error), as `p.adjust(method = "bonferroni")`. NaN is refused.

    >>> bonferroni([0.01, 0.04, 0.5]).tolist()
    [0.03, 0.12, 1.0]
    """
    values = _p_values(p)
    return np.minimum(1.0, values * values.size)


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjusted p-values (family-wise error), as `p.adjust(method = "holm")`. NaN is refused.

    >>> holm([0.01, 0.04, 0.5]).tolist()
    [0.03, 0.08, 0.5]
    """
    values = _p_values(p)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(values.size, 0, -1))
    return _restore(np.minimum(1.0, stepped), order)


def benjamini_hochberg(p: ArrayLike) -> NDArray[np.float64]:
    """Benjamini-Hochberg adjusted p-values (false discovery rate), as `p.adjust(method = "BH")`. NaN is refused.

    Valid for independent or positively dependent tests. Benjamini & Hochberg 1995.

    >>> benjamini_hochberg([0.01, 0.04, 0.5]).round(10).tolist()
    [0.03, 0.06, 0.5]
    """
    values = _p_values(p)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * (values.size / np.arange(1, values.size + 1))
    return _restore(np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1]), order)


@dataclass(frozen=True)
class ResampledT:
    """Corrected resampled t-test: `mean` difference, its standard error, two-sided p and confidence interval."""

    mean: float
    se: float
    t: float
    df: int
    p: float
    low: float
    high: float
    level: float


def nadeau_bengio(differences: ArrayLike, n_train: float, n_test: float, level: float = 0.95) -> ResampledT:
    """Compare two predictors over the folds of a repeated cross-validation, allowing for shared training patients.

    The variance of the mean of J differences is (1/J + n_test/n_train) s², s² their sample variance: the naive s²/J
    ignores that the training sets overlap. Nadeau & Bengio 2003, Machine Learning 52:239, equation 9; t with J - 1
    degrees of freedom. The correction is an approximation, not a guarantee of level.

    Parameters
    ----------
    differences : float array (repeats * folds,)
        Score of one predictor minus score of the other, one per test fold; NaN is refused (a fold without both
        classes has no AUC: report it).
    n_train, n_test : float
        Patients in a training set and in a test fold, averaged over the folds when these differ.

    Raises
    ------
    NotEstimableError
        All differences are equal: no variance, no p-value.

    Examples
    --------
    >>> r = nadeau_bengio([0.02, 0.05, -0.01, 0.04, 0.03], n_train=80, n_test=20)
    >>> f"{r.mean:.3f} (95% CI {r.low:.3f} to {r.high:.3f}), p = {r.p:.2f}"
    '0.026 (95% CI -0.017 to 0.069), p = 0.17'
    """
    try:
        d = np.asarray(differences, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"differences must be numbers: {error}") from error
    if d.ndim != 1 or d.size < 2:
        raise InvalidInputError(f"at least 2 differences in one dimension are needed, got shape {d.shape}")
    if not np.all(np.isfinite(d)):
        raise InvalidInputError(
            f"{int((~np.isfinite(d)).sum())} of {d.size} differences are missing or infinite",
            do="Leave out the folds in which a score is undefined for either predictor, and say how many.",
        )
    if not (np.isfinite(n_train) and np.isfinite(n_test) and n_train > 0 and n_test > 0):
        raise InvalidInputError(f"n_train and n_test must be positive, got {n_train} and {n_test}")
    if not 0 < level < 1:
        raise InvalidInputError(f"level must lie between 0 and 1, got {level}")
    mean, variance = float(d.mean()), float(d.var(ddof=1))
    if np.ptp(d) <= 4 * np.finfo(np.float64).eps * np.abs(d).max():
        raise NotEstimableError(
            f"all {d.size} differences equal {mean:g}: their variance is zero and no test exists",
            do="Check that the two predictors are not the same.",
        )
    df = d.size - 1
    se = sqrt((1 / d.size + n_test / n_train) * variance)
    t = mean / se
    half = float(t_distribution.isf((1 - level) / 2, df)) * se
    return ResampledT(mean, se, t, df, float(2 * t_distribution.sf(abs(t), df)), mean - half, mean + half, level)


def _p_values(p: ArrayLike) -> NDArray[np.float64]:
    try:
        values = np.asarray(p, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"p-values must be numbers: {error}") from error
    if values.ndim != 1:
        raise InvalidInputError(f"p-values must have one dimension, got shape {values.shape}")
    bad = ~((values >= 0) & (values <= 1))
    if np.any(bad):
        raise InvalidInputError(
            f"{int(bad.sum())} of {values.size} p-values are missing or outside 0..1",
            do="Leave out the tests that do not exist; the number of tests made is what the adjustment needs.",
        )
    return values


def _restore(adjusted: NDArray[np.float64], order: NDArray[np.intp]) -> NDArray[np.float64]:
    out = np.empty_like(adjusted)
    out[order] = adjusted
    return out
