"""Restricted cubic splines with the basis and default knots of Hmisc and rms.

Source: Harrell, Regression Modeling Strategies, section 2.4.5; `Hmisc::rcspline.eval`, norm = 2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError


def rcs_basis(x: NDArray[np.float64], knots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Basis of a restricted cubic spline, float array (n, k - 1): x itself, then k - 2 nonlinear columns.

    Parameters
    ----------
    x : float array (n,)
    knots : float array (k,)
        At least 3, strictly increasing, in the unit of x.
    """
    x, t = np.asarray(x, dtype=np.float64), np.asarray(knots, dtype=np.float64)
    if len(t) < 3 or np.any(np.diff(t) <= 0):
        raise InvalidInputError(f"a restricted cubic spline needs at least 3 increasing knots, got {t.tolist()}")
    cube = np.maximum(x[:, None] - t, 0.0) ** 3
    last, previous = t[-1], t[-2]
    a = (last - t[:-2]) / (last - previous)
    b = (previous - t[:-2]) / (last - previous)
    nonlinear = (cube[:, :-2] - a * cube[:, -2:-1] + b * cube[:, -1:]) / (last - t[0]) ** 2
    return np.column_stack([x, nonlinear])
