"""Wald and likelihood-ratio tests and intervals of a fitted logistic or Cox model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.inputs import Array, confidence_level
from osml.stats.tails import chi2_sf, normal_isf, normal_sf


class Fit(Protocol):
    """What a fit must hold to be tested: parameters and their covariance, in one order, and log-likelihoods."""

    @property
    def parameters(self) -> Array: ...
    @property
    def covariance(self) -> Array: ...
    @property
    def coef(self) -> Array: ...
    @property
    def log_likelihood(self) -> float: ...
    @property
    def null_log_likelihood(self) -> float: ...
    @property
    def n(self) -> float: ...
    @property
    def ridge(self) -> float: ...


@dataclass(frozen=True)
class Wald:
    """Wald tests and intervals, one entry per parameter: a logistic intercept first, then the columns of X.

    Arrays are (p + 1,) for logistic and (p,) for Cox. Estimates and limits are on the log odds (log hazard) scale.
    """

    estimate: Array
    se: Array
    z: Array
    p_value: Array
    low: Array
    high: Array
    level: float


@dataclass(frozen=True)
class LRTest:
    """A chi-square statistic, its degrees of freedom and its p-value."""

    statistic: float
    df: int
    p_value: float


def wald(fit: Fit, level: float = 0.95) -> Wald:
    """Wald z tests and intervals of every parameter; refused for a penalised fit.

    >>> from osml.stats.logistic import fit_logistic
    >>> table = wald(fit_logistic([[0.0], [1], [2], [3], [4], [5]], [0, 0, 1, 0, 1, 1]))
    >>> table.p_value.round(4).tolist()
    [0.2332, 0.1834]
    """
    _refuse_penalised(fit)
    level = confidence_level(level)
    se = np.sqrt(np.diag(fit.covariance))
    estimate = fit.parameters
    z = estimate / se
    reach = normal_isf((1.0 - level) / 2.0) * se
    return Wald(estimate, se, z, 2.0 * normal_sf(np.abs(z)), estimate - reach, estimate + reach, level)


def wald_test(fit: Fit, columns: Sequence[int]) -> LRTest:
    """Joint Wald chi-square test that the coefficients of these columns of X are 0 (`anova` of rms)."""
    _refuse_penalised(fit)
    chosen = np.asarray(columns, dtype=np.intp)
    p = len(fit.coef)
    if chosen.ndim != 1 or len(chosen) == 0 or len(np.unique(chosen)) < len(chosen):
        raise InvalidInputError(f"columns must be distinct column indices, at least one; got {list(columns)}")
    if chosen.min() < 0 or chosen.max() >= p:
        raise InvalidInputError(f"columns {chosen.tolist()} lie outside 0..{p - 1}")
    coef = fit.coef[chosen]
    at = chosen + len(fit.parameters) - p
    statistic = float(coef @ np.linalg.solve(fit.covariance[np.ix_(at, at)], coef))
    return LRTest(statistic, len(chosen), chi2_sf(statistic, len(chosen)))


def lr_test(full: Fit, reduced: Fit | None = None) -> LRTest:
    """Likelihood-ratio test of a model against a nested one on the same patients, or against the null model.

    Raises
    ------
    InvalidInputError
        `reduced` has as many parameters, other patients, or a higher log-likelihood: it is not nested.

    >>> from osml.stats.logistic import fit_logistic
    >>> round(lr_test(fit_logistic([[0.0], [1], [2], [3], [4], [5]], [0, 0, 1, 0, 1, 1])).p_value, 4)
    0.0667
    """
    _refuse_penalised(full)
    df = len(full.coef)
    base = full.null_log_likelihood
    if reduced is not None:
        _refuse_penalised(reduced)
        df -= len(reduced.coef)
        base = reduced.log_likelihood
        if df <= 0 or reduced.n != full.n:
            raise InvalidInputError(
                f"not nested: {len(full.coef)} columns on n = {full.n:g} against {len(reduced.coef)} on {reduced.n:g}",
                do="Give the larger model first; both fitted to the same patients.",
            )
    if df == 0:
        raise InvalidInputError("a model without columns equals the null model: nothing to test")
    statistic = 2.0 * (full.log_likelihood - base)
    if statistic < -1e-8 * (1.0 + abs(full.log_likelihood)):
        raise InvalidInputError(f"not nested: the larger model has the lower log-likelihood (chi-square {statistic:g})")
    statistic = max(statistic, 0.0)
    return LRTest(statistic, df, chi2_sf(statistic, df))


def variance_inflation(fit: Fit) -> Array:
    """Variance inflation factor of every column of X, float array (p,), from the fit's covariance (`rms::vif`)."""
    p = len(fit.coef)
    V = fit.covariance[-p:, -p:] if p else np.empty((0, 0))
    return np.diag(V) * np.diag(np.linalg.inv(V))


def _refuse_penalised(fit: Fit) -> None:
    if fit.ridge > 0:
        raise NotEstimableError(
            f"the fit has a ridge penalty of {fit.ridge:g}: Wald and likelihood-ratio statistics do not hold",
            do="Use a bootstrap of the whole fit.",
        )
