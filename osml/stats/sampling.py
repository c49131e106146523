"""Predictions from case-control and enriched samples, brought to the prevalence of the patients they are meant for.

When cases and non-cases were sampled at different rates, a logistic model's coefficients stay valid but its intercept
carries the sample's prevalence, so every probability is wrong by one shift on the logit scale. The shift is known when
the prevalence of the target population is known from elsewhere, and cannot be learnt from the sample itself.

Source: Prentice and Pyke 1979, Biometrika 66:403; King and Zeng 2001, Political Analysis 9:137, prior correction.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from osml.errors import InvalidInputError
from osml.stats.inputs import Array, vector


def prevalence_shift(sample_prevalence: float, target_prevalence: float) -> float:
    """What the logit of every probability gains: logit(target) - logit(sample).

    >>> round(prevalence_shift(0.5, 0.1), 4)
    -2.1972
    """
    sample, target = _inner(sample_prevalence, "sample_prevalence"), _inner(target_prevalence, "target_prevalence")
    return float(logit(target) - logit(sample))


def correct_intercept(intercept: float, sample_prevalence: float, target_prevalence: float) -> float:
    """Intercept of a logistic model for the target population.

    Parameters
    ----------
    intercept : float
        As fitted to the sample.
    sample_prevalence : float
        Share of events in the sample the model was fitted to, in (0, 1).
    target_prevalence : float
        Share of events in the population it will serve, in (0, 1), from a cited source. The result is exact only if
        sampling depended on the outcome alone: selection on covariates needs more than an intercept.

    Raises
    ------
    InvalidInputError
        A prevalence outside (0, 1), or an intercept that is not finite.

    Notes
    -----
    The coefficients and their covariance are unchanged; the intercept's variance does not include the uncertainty of
    the target prevalence. For a penalised or Firth fit the correction is approximate, as its coefficients are.

    Examples
    --------
    Cases sampled one to one with controls, for a disease of 10 %:

    >>> round(correct_intercept(0.3, 0.5, 0.1), 4)
    -1.8972
    """
    if not np.isfinite(intercept):
        raise InvalidInputError(f"the intercept must be finite, got {intercept}")
    return float(intercept) + prevalence_shift(sample_prevalence, target_prevalence)


def to_prevalence(p: ArrayLike, sample_prevalence: float, target_prevalence: float) -> Array:
    """Probabilities of a model fitted at one prevalence, recalibrated to another, float array (n,).

    Bayes' rule: the odds change by the ratio of the prevalence odds, for every patient alike. Ranking, AUC and the
    calibration slope do not change. 0 stays 0 and 1 stays 1.

    Parameters
    ----------
    p : float array (n,)
        Probabilities in [0, 1], from any classifier calibrated in the sample.
    sample_prevalence, target_prevalence : float
        As for `correct_intercept`.

    Examples
    --------
    >>> to_prevalence([0.0, 0.5, 0.9, 1.0], 0.5, 0.1).round(4)
    array([0. , 0.1, 0.5, 1. ])
    """
    q = vector(p, "p")
    if np.any((q < 0) | (q > 1)):
        raise InvalidInputError(f"p must be probabilities in [0, 1], found {q.min():g} to {q.max():g}")
    shift = prevalence_shift(sample_prevalence, target_prevalence)
    with np.errstate(divide="ignore"):
        return np.asarray(expit(logit(q) + shift), dtype=np.float64)


def _inner(prevalence: float, name: str) -> float:
    value = float(prevalence)
    if not 0 < value < 1:
        raise InvalidInputError(
            f"{name} must lie strictly between 0 and 1, got {prevalence!r}", do="Give a share: 0.05 is 5 %."
        )
    return value
