"""Local regression of an outcome on one variable: direct loess with its interval, and lowess.

Cleveland 1979, JASA 74:829 (lowess); Cleveland and Devlin 1988, JASA 83:596 (loess and its inference).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.inputs import Floats
from osml.stats.inputs import confidence_level, vector

_BLOCK = 4_000_000  # entries of the weight matrix held at once (32 MB)
_DIRECT = 2_000  # distinct x up to which every point has its own local fit
_NODES = 501  # local fits beyond that; straight lines between them stay within 1e-4 on a probability
_EXACT_DF = 1_500  # rows up to which the interval's degrees of freedom are computed exactly


@dataclass(frozen=True)
class Loess:
    """A loess curve.

    Attributes
    ----------
    x : float array (n,)
        Where the data lie, in the order given.
    fitted : float array (n,)
        Curve at `x`. Not confined to the range of y.
    at, curve, low, high : float arrays (m,)
        Evaluation points, curve there and the pointwise interval.
    scale : float
        Residual standard deviation.
    df : float
        Degrees of freedom of the t interval; infinite where the normal one is used.
    level : float
    """

    x: Floats
    fitted: Floats
    at: Floats
    curve: Floats
    low: Floats
    high: Floats
    scale: float
    df: float
    level: float


def loess(
    x: ArrayLike,
    y: ArrayLike,
    *,
    at: ArrayLike | None = None,
    span: float = 0.75,
    degree: int = 2,
    level: float = 0.95,
) -> Loess:
    """Locally weighted polynomial regression, each value fitted directly.

    R: `loess(y ~ x, span, degree, control = loess.control(surface = "direct", statistics = "exact"))`.

    Parameters
    ----------
    x, y : float arrays (n,)
        NaN raises. Ties in x are ordinary.
    at : float array (m,), optional
        Where to evaluate the curve and its interval; default 101 points over the range of x. Outside that range raises.
    span : float
        Share of the data in each local fit, in (0, 1].
    degree : {1, 2}
        Local linear or quadratic.

    Notes
    -----
    O(n² span) for up to 2,000 distinct x. Beyond, the local fits are made at 501 quantiles of x and joined by
    straight lines. Above 1,500 rows the interval is normal instead of t (more than 1,000 degrees of freedom).

    >>> import numpy as np
    >>> x = np.linspace(0, 1, 20)
    >>> bool(np.allclose(loess(x, 1 + x - x**2).fitted, 1 + x - x**2))
    True
    """
    xs = _values(x)
    ys = vector(y, "y", len(xs))
    if not 0 < span <= 1:
        raise InvalidInputError(f"span = {span!r}; expected a share of the data in (0, 1]")
    if degree not in (1, 2):
        raise InvalidInputError(f"degree = {degree!r}; expected 1 or 2")
    neighbours = int(np.floor(len(xs) * span + 1e-5))
    if neighbours < degree + 1:
        raise NotEstimableError(f"{neighbours} of {len(xs)} points per local fit are too few for degree {degree}")
    points = np.linspace(xs.min(), xs.max(), 101) if at is None else _values(at, name="at")
    if points.min() < xs.min() or points.max() > xs.max():
        raise InvalidInputError(
            f"at ranges over {points.min():.6g} to {points.max():.6g}, the data over {xs.min():.6g} to {xs.max():.6g}",
            do="A loess curve is not extrapolated.",
        )
    smoother = _Smoother(xs, neighbours, degree)
    nodes = np.unique(xs)
    if len(nodes) > _DIRECT:
        nodes = np.unique(np.quantile(xs, np.linspace(0, 1, _NODES)))
    node_fit, node_norm, node_own = smoother.at(nodes, ys)
    fitted = np.interp(xs, nodes, node_fit)
    curve, norm, _ = smoother.at(points, ys)

    residual = float(((ys - fitted) ** 2).sum())
    n, df = len(xs), np.inf
    own, square = np.interp(xs, nodes, node_own).sum(), np.interp(xs, nodes, node_norm).sum()
    delta_1 = n - 2 * own + square
    if delta_1 <= 1e-9 * n:
        raise NotEstimableError(f"{n} points leave no residual degrees of freedom for the interval of this curve")
    if n <= _EXACT_DF:
        rest = np.eye(n) - smoother.matrix(xs)
        both = rest @ rest.T
        df = float(delta_1**2 / (both**2).sum())
    scale = float(np.sqrt(residual / delta_1))
    half = float(stats.t.isf((1 - confidence_level(level)) / 2, df)) * scale * np.sqrt(norm)
    return Loess(xs, fitted, points, curve, curve - half, curve + half, scale, df, level)


class _Smoother:
    """The linear map from y to local fits. Rows are computed in blocks."""

    def __init__(self, x: Floats, neighbours: int, degree: int) -> None:
        self.x, self.neighbours, self.degree = x, neighbours, degree

    def matrix(self, at: Floats) -> Floats:
        """Rows of the smoother, float array (m, n)."""
        offset = self.x - at[:, None]
        distance = np.abs(offset)
        width = np.partition(distance, self.neighbours - 1, axis=1)[:, self.neighbours - 1, None]
        if (width <= 0).any():
            raise NotEstimableError(
                f"{self.neighbours} or more points share one x: the local fit has zero width",
                do="Use a larger span, or a parametric curve.",
            )
        u = offset / width
        w = (1 - np.minimum(np.abs(u), 1) ** 3) ** 3
        powers = [np.ones_like(u), u, u * u][: self.degree + 1]
        moments = [np.einsum("ij,ij->i", w, u**k) for k in range(2 * self.degree + 1)]
        gram = np.stack([np.stack(moments[k : k + self.degree + 1], axis=-1) for k in range(self.degree + 1)], axis=1)
        # The pseudo-inverse takes the smallest solution where ties leave fewer distinct points than terms.
        first = np.linalg.pinv(gram, rcond=1e-13, hermitian=True)[:, 0]
        return w * sum(first[:, k, None] * power for k, power in enumerate(powers))

    def at(self, points: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
        """Fit, squared norm of the smoother's row, and the weight of an observation at the point itself."""
        fit, norm, own = (np.empty(len(points)) for _ in range(3))
        step = max(1, _BLOCK // (len(self.x) * 4))
        for start in range(0, len(points), step):
            part = slice(start, start + step)
            rows = self.matrix(points[part])
            fit[part], norm[part] = rows @ y, np.einsum("ij,ij->i", rows, rows)
            nearest = np.argmin(np.abs(self.x - points[part, None]), axis=1)
            own[part] = rows[np.arange(len(rows)), nearest]
        return fit, norm, own


def lowess(
    x: ArrayLike, y: ArrayLike, *, f: float = 2 / 3, iterations: int = 3, delta: float | None = None
) -> tuple[Floats, Floats]:
    """Robust locally linear smoother: x sorted, and the smooth there (`stats::lowess`).

    Parameters
    ----------
    x, y : float arrays (n,)
    f : float
        Share of the data in each local fit.
    iterations : int
        Robustifying passes; 0 for a 0/1 outcome.
    delta : float, optional
        Local fits are skipped within this distance and joined by straight lines; default 1 % of the range of x.

    >>> import numpy as np
    >>> x, smooth = lowess([3, 1, 2, 4], [3.0, 1.0, 2.0, 4.0], iterations=0)
    >>> x, smooth.round(6)
    (array([1., 2., 3., 4.]), array([1., 2., 3., 4.]))
    """
    xs = _values(x)
    ys = vector(y, "y", len(xs))
    if not 0 < f <= 1:
        raise InvalidInputError(f"f = {f!r}; expected a share of the data in (0, 1]")
    if iterations < 0:
        raise InvalidInputError(f"iterations = {iterations!r}; expected 0 or more")
    order = np.argsort(xs, kind="stable")
    xs, ys = xs[order], ys[order]
    gap = 0.01 * (xs[-1] - xs[0]) if delta is None else float(delta)
    if not gap >= 0:
        raise InvalidInputError(f"delta = {delta!r}; expected a distance of 0 or more")
    return xs, smooth_sorted(xs, ys, f, iterations, gap)


def smooth_sorted(x: Floats, y: Floats, f: float, iterations: int, delta: float) -> Floats:
    """`lowess` of x already sorted, without checks: the inner loop of resampled calibration curves."""
    n = len(x)
    if n < 2:
        return y.copy()
    size = max(2, min(n, int(f * n + 1e-7)))
    anchors = _anchors(x, delta)
    at = x[anchors]
    left = np.minimum(np.searchsorted(x[:-size] + x[size:], 2 * at), n - size)
    index = left[:, None] + np.arange(size)
    offset = x[index] - at[:, None]
    width = np.maximum(-offset[:, 0], offset[:, -1])[:, None]
    distance = np.abs(offset)
    with np.errstate(invalid="ignore", divide="ignore"):
        w = (1 - (distance / width) ** 3) ** 3
    w[distance > 0.999 * width] = 0.0
    w[distance <= 0.001 * width] = 1.0
    spread, robust = 0.001 * (x[-1] - x[0]), None
    out = y.copy()
    for last in range(iterations + 1):
        total = w if robust is None else w * robust[index]
        sums = total.sum(axis=1)
        usable = sums > 0
        share = total / np.where(usable, sums, 1.0)[:, None]
        mean = np.einsum("ij,ij->i", share, offset)
        centred = offset - mean[:, None]
        square = np.einsum("ij,ij,ij->i", share, centred, centred)
        values = y[index]
        level = np.einsum("ij,ij->i", share, values)
        sloped = (np.sqrt(square) > spread) & (width[:, 0] > 0)
        slope = np.einsum("ij,ij,ij->i", share, centred, values) / np.where(sloped, square, 1.0)
        fit = np.where(sloped, level - mean * slope, level)
        out = np.interp(x, at, np.where(usable, fit, y[anchors]))
        if last == iterations:
            break
        size_of = np.abs(y - out)
        scale = 6 * float(np.median(size_of))
        if scale < 1e-7 * size_of.mean():
            break
        robust = np.where(size_of <= 0.999 * scale, (1 - np.minimum(size_of / scale, 1) ** 2) ** 2, 0.0)
        robust[size_of <= 0.001 * scale] = 1.0
    return out


def _anchors(x: Floats, delta: float) -> np.ndarray:
    """Positions that get a local fit of their own: first, then the last one within delta of the one before."""
    n = len(x)
    anchors, last = [0], int(np.searchsorted(x, x[0], side="right")) - 1
    while last < n - 1:
        reach = int(np.searchsorted(x, x[last] + delta, side="right")) - 1
        following = max(last + 1, reach)
        anchors.append(following)
        last = max(following, int(np.searchsorted(x, x[following], side="right")) - 1)
    return np.asarray(anchors)


def _values(x: ArrayLike, *, name: str = "x") -> Floats:
    shape = np.shape(x)
    if len(shape) != 1 or shape[0] == 0:
        raise InvalidInputError(f"{name} has shape {shape}; expected (n,) with n >= 1")
    return vector(x, name, shape[0])
