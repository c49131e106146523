"""Global test of fit of a logistic model on the patients it was fitted to, free of groups.

le Cessie and van Houwelingen 1991; Hosmer, Hosmer, le Cessie and Lemeshow 1997, Stat Med 16:965.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.inputs import as_labels, as_probabilities
from osml.stats.inputs import design_array


@dataclass(frozen=True)
class GoodnessOfFit:
    """Unweighted sum of squared errors, its expectation and sd under the model, z and two-sided p."""

    sum_of_squares: float
    expected: float
    sd: float
    z: float
    p_value: float


def goodness_of_fit(X: ArrayLike, y: ArrayLike, p: ArrayLike) -> GoodnessOfFit:
    """Unweighted sum of squares test (`residuals(lrm, "gof")`).

    Parameters
    ----------
    X : float array (n, k)
        Design columns of the fitted model, without an intercept.
    y : bool or 0/1 array (n,)
    p : float array (n,)
        Its fitted probabilities on these same patients; for external data use `spiegelhalter`.

    Raises
    ------
    NotEstimableError
        The statistic has no variance, as with a saturated model.

    >>> from osml.stats.logistic import fit_logistic
    >>> X, y = [[0.0], [1], [2], [3], [4], [5]], [0, 0, 1, 0, 1, 1]
    >>> round(goodness_of_fit(X, y, fit_logistic(X, y).probability).z, 4)
    1.1889
    """
    labels = as_labels(y)
    q = as_probabilities(p, len(labels))
    design = design_array(X)
    if len(design) != len(labels):
        raise InvalidInputError(f"X has {len(design)} rows, y {len(labels)}")
    weight = q * (1 - q)
    root = np.sqrt(weight)
    columns = np.column_stack([np.ones(len(labels)), design]) * root[:, None]
    target = (1 - 2 * q) * root
    residual = target - columns @ np.linalg.lstsq(columns, target, rcond=None)[0]
    sd = float(np.linalg.norm(residual))
    if sd <= 1e-10 * max(1.0, float(np.linalg.norm(target))):
        raise NotEstimableError("the sum of squares has variance 0 under this model: no test")
    found, expected = float(((labels - q) ** 2).sum()), float(weight.sum())
    z = (found - expected) / sd
    return GoodnessOfFit(found, expected, sd, z, float(2 * stats.norm.sf(abs(z))))
