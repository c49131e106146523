"""Profile likelihood intervals of logistic coefficients.

Sources: Venzon & Moolgavkar 1988 (Applied Statistics 37:87); Venables & Ripley, MASS, section 7.2, whose `confint`
R uses. It evaluates the profile on a grid and interpolates, which moves the limits by up to about one in 10,000.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import null_space
from scipy.optimize import brentq

from osml.errors import ConvergenceError, InvalidInputError
from osml.stats.inputs import Array, confidence_level, design_array, frequency_weights, labels, vector
from osml.stats.newton import NewtonFit, newton, orthogonal_basis
from osml.stats.separation import overlaps, refuse_one_class, refuse_separated
from osml.stats.tails import chi2_quantile, normal_isf

_GRID_STEPS = 9


@dataclass(frozen=True)
class ProfileInterval:
    """Estimate and limits on the log odds scale."""

    estimate: float
    low: float
    high: float
    level: float


def profile_interval(
    X: ArrayLike,
    y: ArrayLike,
    j: int | None,
    level: float = 0.95,
    *,
    weights: ArrayLike | None = None,
    offset: ArrayLike | None = None,
    exact: bool = False,
) -> ProfileInterval:
    """Interval of all values of coefficient j that a likelihood-ratio test does not reject.

    Parameters
    ----------
    X, y, weights, offset
        As in `fit_logistic`.
    j : int or None
        Column of X; None for the intercept.
    exact : bool
        False gives the numbers of R's `confint`, so that a published table is met digit by digit: an interpolated
        grid of steps of a fifth of the normal quantile. True solves for the limits. Where R's grid ends before a
        limit (R prints NA), the limit is solved for in either case.

    Raises
    ------
    NotEstimableError
        As in `fit_logistic`.

    >>> limits = profile_interval([[0.0], [1], [2], [3], [4], [5]], [0, 0, 1, 0, 1, 1], 0, exact=True)
    >>> round(limits.low, 3), round(limits.high, 3)
    (-0.066, 4.159)
    """
    X = design_array(X)
    n, p = X.shape
    y, w = labels(y, n), frequency_weights(weights, n)
    shift = np.zeros(n) if offset is None else vector(offset, "offset", n)
    level = confidence_level(level)
    if j is not None and not 0 <= j < p:
        raise InvalidInputError(f"column {j} lies outside 0..{p - 1}", do="Use None for the intercept.")
    rows = np.flatnonzero(w > 0)
    X, y, w, shift = X[rows], y[rows], w[rows], shift[rows]
    refuse_one_class(y, w)
    basis = orthogonal_basis(X, w)
    A = basis.with_ones
    fit = newton(A, y, w, shift)
    if not (fit.converged and overlaps(A, y, w, fit.eta, fit.gradient)):
        refuse_separated(A, basis.to_raw, y, rows)
    _require(fit)
    contrast = basis.jacobian[0 if j is None else j + 1]
    estimate = float(contrast @ fit.theta)
    se = float(np.sqrt(contrast @ np.linalg.solve(fit.information, contrast)))
    free = A @ null_space(contrast[None, :])
    direction = A @ (contrast / (contrast @ contrast))

    def root(distance: float) -> float:
        """Square root of the deviance lost when the coefficient moves by `distance`."""
        inner = newton(free, y, w, fit.eta + direction * distance)
        _require(inner)
        return float(np.sqrt(max(2.0 * (fit.log_likelihood - inner.log_likelihood), 0.0)))

    quantile = float(np.sqrt(chi2_quantile(level, 1)))
    low, high = _grid_limits(root, se, level) if not exact else (np.nan, np.nan)
    if np.isnan(low):
        low = -likelihood_limit(root, -se, quantile)
    if np.isnan(high):
        high = likelihood_limit(root, se, quantile)
    return ProfileInterval(estimate, estimate + float(low), estimate + float(high), level)


def likelihood_limit(root: Callable[[float], float], se: float, quantile: float) -> float:
    """Distance (positive) at which `root`, a function of the signed distance, reaches `quantile` on the side of se."""
    reach = quantile
    for _ in range(60):
        if root(reach * se) > quantile:
            found: float = brentq(lambda t: root(t * se) - quantile, 0.0, reach, xtol=1e-12, rtol=1e-13)
            return found * abs(se)
        reach *= 1.5
    raise ConvergenceError("the profile likelihood does not fall to the limit: no finite interval was found")


def _grid_limits(root: Callable[[float], float], se: float, level: float) -> tuple[float, float]:
    """Signed distances of the limits as R interpolates them; NaN where the grid does not reach.

    The profile's signed root is taken at steps of a fifth of the quantile at a quarter of the error rate, until it
    passes that quantile; a Forsythe-Malcolm-Moler spline at three times as many points, then straight lines.
    """
    step = float(np.sqrt(chi2_quantile(1.0 - (1.0 - level) / 4.0, 1))) / 5.0
    points = [(0.0, 0.0)]
    for sign in (-1.0, 1.0):
        for k in range(1, _GRID_STEPS + 1):
            distance = sign * k * step * se
            points.append((distance, sign * root(distance)))
            if abs(points[-1][1]) >= 5.0 * step:
                break
    x, z = np.array(sorted(points, key=lambda point: point[1])).T
    dense = np.linspace(x[0], x[-1], 3 * len(x))
    curve = _fmm_spline(x, z, dense)
    target = normal_isf((1.0 - level) / 2.0)
    if np.any(np.diff(curve) <= 0):
        return np.nan, np.nan
    low, high = np.interp([-target, target], curve, dense, left=np.nan, right=np.nan)
    return float(low), float(high)


def _fmm_spline(x: Array, y: Array, at: Array) -> Array:
    """Cubic spline whose end pieces have the third derivative of the cubic through the four end points."""
    n = len(x)
    h, slope = np.diff(x), np.diff(y) / np.diff(x)
    system, right = np.zeros((n, n)), np.zeros(n)
    inner = np.arange(1, n - 1)
    system[inner, inner - 1], system[inner, inner], system[inner, inner + 1] = h[:-1], 2 * (h[:-1] + h[1:]), h[1:]
    right[inner] = 6.0 * np.diff(slope)
    for row, start in ((0, 0), (n - 1, n - 4)):
        second = np.diff(slope[start : start + 3]) / (x[start + 2 : start + 4] - x[start : start + 2])
        third = 6.0 * (second[1] - second[0]) / (x[start + 3] - x[start])
        left = 0 if row == 0 else n - 2
        system[row, left : left + 2], right[row] = (-1.0, 1.0), third * h[left]
    bend = np.linalg.solve(system, right)
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, n - 2)
    d = at - x[i]
    first = slope[i] - h[i] * (2.0 * bend[i] + bend[i + 1]) / 6.0
    return y[i] + d * (first + d * (bend[i] / 2.0 + d * (bend[i + 1] - bend[i]) / (6.0 * h[i])))


def _require(fit: NewtonFit) -> None:
    if not fit.converged:
        raise ConvergenceError(
            "logistic regression did not converge along the profile", do="Look for extreme values in X."
        )
