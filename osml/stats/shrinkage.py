"""Uniform shrinkage of a fitted model towards the average patient, and the heuristic shrinkage factor.

Sources: van Houwelingen & le Cessie 1990 (Stat Med 9:1303); Steyerberg, Clinical Prediction Models, section 13.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.cox import CoxFit, StepBaseline, baseline_hazard
from osml.stats.cox_risk_sets import Ties
from osml.stats.inference import Fit, lr_test
from osml.stats.inputs import Array, design_array, frequency_weights, vector
from osml.stats.logistic import LogisticFit, fit_intercept


@dataclass(frozen=True)
class ShrunkCox:
    """Shrunken Cox model: hazard(t) = baseline hazard(t) * exp(lp), lp = (X - means) @ coef."""

    coef: Array
    means: Array
    baseline: StepBaseline


def shrink_uniform(
    model: LogisticFit | ArrayLike, slope: float, X: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None
) -> tuple[float, Array]:
    """Multiply logistic coefficients by `slope` and re-estimate the intercept by maximum likelihood.

    The mean predicted probability on these patients equals their event rate again.

    Parameters
    ----------
    model : LogisticFit, or its coefficients, float array (p,)
    slope : float
        Optimism-corrected calibration slope, above 0; usually below 1.
    X, y, weights
        The training patients.

    Returns
    -------
    intercept, coef : float, float array (p,)

    >>> intercept, coef = shrink_uniform([1.2], 0.5, [[0.0], [1], [2], [3], [4], [5]], [0, 0, 1, 0, 1, 1])
    >>> round(intercept, 6), coef.tolist()
    (-1.5, [0.6])
    """
    X = design_array(X)
    coef = _shrunken(model.coef if isinstance(model, LogisticFit) else model, slope, X)
    return fit_intercept(y, X @ coef, weights=weights), coef


def shrink_uniform_cox(
    model: CoxFit | ArrayLike,
    slope: float,
    X: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    weights: ArrayLike | None = None,
    ties: Ties = "efron",
) -> ShrunkCox:
    """Multiply Cox coefficients by `slope` and re-estimate the baseline hazard with them fixed.

    >>> model = shrink_uniform_cox([0.0], 0.9, [[1.0], [2.0], [3.0]], [1, 2, 3], [1, 1, 0])
    >>> model.baseline.cumulative_hazard.round(4).tolist()
    [0.3333, 0.8333]
    """
    X = design_array(X)
    coef = _shrunken(model.coef if isinstance(model, CoxFit) else model, slope, X)
    w = frequency_weights(weights, len(X))
    means = w @ X / w.sum()
    return ShrunkCox(coef, means, baseline_hazard((X - means) @ coef, time, event, weights=w, ties=ties))


def heuristic_shrinkage(fit: Fit) -> float:
    """Expected calibration slope of a maximum likelihood fit, (LR chi-square - df) / LR chi-square.

    df counts the columns of X; candidates that selection dropped are not in it, so that the factor is too near 1 after
    selection.

    Raises
    ------
    NotEstimableError
        The chi-square does not exceed df: the model explains no more than chance.

    >>> from osml.stats.logistic import fit_logistic
    >>> round(heuristic_shrinkage(fit_logistic([[0.0], [1], [2], [3], [4], [5]], [0, 0, 1, 0, 1, 1])), 4)
    0.7025
    """
    test = lr_test(fit)
    if test.statistic <= test.df:
        raise NotEstimableError(
            f"likelihood-ratio chi-square {test.statistic:.3g} does not exceed its {test.df} degrees of freedom",
            why="The model explains no more than chance would; a shrinkage factor of 0 leaves nothing.",
        )
    return (test.statistic - test.df) / test.statistic


def _shrunken(coef: ArrayLike, slope: float, X: Array) -> Array:
    values = vector(coef, "coef", X.shape[1])
    if not np.isfinite(slope) or slope <= 0:
        raise InvalidInputError(
            f"slope must be above 0, got {slope!r}",
            why="A model whose corrected slope is 0 or negative has no use.",
        )
    return values * float(slope)
