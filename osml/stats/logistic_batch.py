"""Many logistic fits at once: one data set under many vectors of frequency weights, as a bootstrap needs.

All replicates take their Newton steps together as matrix products, so that time goes into BLAS and not into Python.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.inputs import Array, labels
from osml.stats.newton import gradient_limit, orthogonal_basis
from osml.stats.separation import one_column_separates, separation

_MAX_ITERATIONS = 40


def fit_logistic_batch(X: ArrayLike, y: ArrayLike, weights: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    """Logistic maximum likelihood for every row of `weights`.

    Parameters
    ----------
    X : float array (n, p) or (B, n, p)
        Without an intercept column; three dimensions when columns differ by replicate (imputation, spline knots).
    y : bool or 0/1 array (n,)
    weights : array (B, n)
        Frequency weights, e.g. how often a bootstrap drew each patient.

    Returns
    -------
    coefs : float array (B, p + 1)
        Intercept first; NaN where no estimate exists.
    converged : bool array (B,)
        False: one class, dependent columns, separation, or a gradient (standardised columns) that stays above 1e-8.
        Such replicates are to be counted and reported by the caller.

    Notes
    -----
    Each estimate equals `fit_logistic(X, y, weights=weights[b])`. Memory is about 8 B n (p + 4) bytes for shared X.

    >>> draws = np.array([[1, 1, 1, 1, 1, 1], [2, 2, 1, 0, 0, 1]])
    >>> coefs, converged = fit_logistic_batch([[0.0], [1], [2], [3], [4], [5]], [0, 0, 1, 0, 1, 1], draws)
    >>> coefs.round(4).tolist(), converged.tolist()
    ([[-3.0351, 1.214], [nan, nan]], [True, False])
    """
    X, y, W = _checked(X, y, weights)
    B, p = len(W), X.shape[-1]
    coefs, converged = np.full((B, p + 1), np.nan), np.zeros(B, dtype=bool)
    events, total = W @ y, W.sum(axis=1)
    usable = np.flatnonzero((events > 0) & (events < total))
    if len(usable) == 0:
        return coefs, converged
    W = W[usable]
    if X.ndim == 2:
        try:
            basis = orthogonal_basis(X, np.ones(len(X)) if np.all(W.sum(axis=0) > 0) else W.sum(axis=0))
        except NotEstimableError:
            return coefs, converged
        A, jacobian = basis.with_ones, basis.jacobian[None]
    else:
        A, jacobian, regular = _bases(X[usable], W)
        usable, W, A, jacobian = usable[regular], W[regular], A[regular], jacobian[regular]
    theta, proven, undecided = _newton(A, y, W)
    for b in np.flatnonzero(undecided):
        # The gradient vanishes but the residuals do not prove overlap: nearly always separation.
        columns, drawn = X if X.ndim == 2 else X[usable[b]], W[b] > 0
        if one_column_separates(columns[drawn], y[drawn]):
            continue
        try:
            proven[b] = separation(columns, y, W[b]).kind == "none"
        except NotEstimableError:
            continue
    raw = np.matmul(jacobian, theta[:, :, None])[:, :, 0]
    coefs[usable[proven]] = raw[proven]
    converged[usable[proven]] = True
    return coefs, converged


def _checked(X: ArrayLike, y: ArrayLike, weights: ArrayLike) -> tuple[Array, Array, Array]:
    X, W = np.asarray(X, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    y = labels(y)
    if W.ndim != 2 or W.shape[1] != len(y):
        raise InvalidInputError(f"weights must have shape (B, {len(y)}), got {W.shape}")
    if X.shape[:-1] not in ((len(y),), W.shape):
        raise InvalidInputError(f"X must have shape ({len(y)}, p) or ({len(W)}, {len(y)}, p), got {X.shape}")
    if not (np.all(np.isfinite(X)) and np.all(np.isfinite(W)) and np.all(W >= 0)):
        raise InvalidInputError("X must be finite, and weights finite and 0 or more", do="Impute or exclude first.")
    return X, y, W


def _bases(X: Array, W: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Standardised columns (B, n, p + 1) with their intercept, jacobians to raw coefficients, and where sd > 0."""
    B, n, p = X.shape
    weight = (W / W.sum(axis=1, keepdims=True))[:, None, :]
    mean = np.matmul(weight, X)
    centred = X - mean
    sd = np.sqrt(np.matmul(weight, centred**2))[:, 0, :]
    regular = np.all(sd > 1e-13 * np.abs(X).max(axis=(1, 2))[:, None], axis=1)
    sd = np.where(sd > 0, sd, 1.0)
    A = np.concatenate([np.ones((B, n, 1)), centred / sd[:, None, :]], axis=2)
    jacobian = np.zeros((B, p + 1, p + 1))
    jacobian[:, 0, 0] = 1.0
    jacobian[:, np.arange(1, p + 1), np.arange(1, p + 1)] = 1.0 / sd
    jacobian[:, 0, 1:] = -mean[:, 0, :] / sd
    return A, jacobian, regular


class _Products:
    """The three products that Newton needs, for columns shared by all replicates or one set each."""

    def __init__(self, A: Array) -> None:
        self.A = A
        self.q = A.shape[-1]
        self.shared = A.ndim == 2
        if self.shared:
            self.upper = np.triu_indices(self.q)
            self.pairs = A[:, self.upper[0]] * A[:, self.upper[1]]

    def predictor(self, theta: Array, which: NDArray[np.intp]) -> Array:
        """A @ theta, (b, n)."""
        if self.shared:
            return theta @ self.A.T
        return np.matmul(self.A[which], theta[:, :, None])[:, :, 0]

    def columns(self, r: Array, which: NDArray[np.intp]) -> Array:
        """A' r, (b, q)."""
        if self.shared:
            return r @ self.A
        return np.matmul(r[:, None, :], self.A[which])[:, 0, :]

    def gram(self, v: Array, which: NDArray[np.intp]) -> Array:
        """A' diag(v) A, (b, q, q)."""
        if not self.shared:
            A = self.A[which]
            return np.matmul(np.swapaxes(A, 1, 2) * v[:, None, :], A)
        out = np.empty((len(v), self.q, self.q))
        packed = v @ self.pairs
        out[:, self.upper[0], self.upper[1]] = packed
        out[:, self.upper[1], self.upper[0]] = packed
        return out


def _newton(A: Array, y: Array, W: Array) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """Parameters (B, q), where overlap is proven, and where the gradient vanishes without that proof."""
    products = _Products(A)
    B = len(W)
    sign = np.where(y > 0, 1.0, -1.0)
    theta = np.zeros((B, products.q))
    rate = W @ y / W.sum(axis=1)
    theta[:, 0] = np.log(rate / (1.0 - rate))
    limit = gradient_limit(1.0) * np.maximum(1.0, W.sum(axis=1) / 1e4)
    proven, undecided = np.zeros(B, dtype=bool), np.zeros(B, dtype=bool)
    polished = np.zeros(B, dtype=bool)
    active = np.arange(B)
    eta = products.predictor(theta, active)
    loss, size = _loss(eta, sign, W)
    for _ in range(_MAX_ITERATIONS):
        w = W[active]
        gradient = products.columns(w * sign * size, active)
        below = np.abs(gradient).max(axis=1) < limit[active]
        finished = below & polished[active]
        if finished.any():
            sure = _overlap(products, w[finished] * size[finished], gradient[finished], active[finished])
            proven[active[finished]] = sure
            undecided[active[finished]] = ~sure
        polished[active] = below
        keep = ~finished
        active, gradient, size, loss, w = active[keep], gradient[keep], size[keep], loss[keep], w[keep]
        if len(active) == 0:
            break
        step, regular = _steps(products.gram(w * size * (1.0 - size), active), gradient)
        active, step, loss, w = active[regular], step[regular], loss[regular], w[regular]
        if len(active) == 0:
            break
        start = theta[active]
        trial = start + step
        new_loss, size = _loss(products.predictor(trial, active), sign, w)
        worse = np.flatnonzero(new_loss > loss + 1e-12 * (1.0 + loss))
        fraction = 0.5
        while len(worse) and fraction > 1e-9:
            trial[worse] = start[worse] + fraction * step[worse]
            some_loss, size[worse] = _loss(products.predictor(trial[worse], active[worse]), sign, w[worse])
            new_loss[worse] = some_loss
            worse = worse[some_loss > loss[worse] + 1e-12 * (1.0 + loss[worse])]
            fraction *= 0.5
        theta[active], loss = trial, new_loss
    return theta, proven, undecided


def _loss(eta: Array, sign: Array, W: Array) -> tuple[Array, Array]:
    """Minus log-likelihood (b,) and |y - p| (b, n)."""
    margin = -sign * eta
    small = np.exp(-np.abs(margin))
    loss = np.einsum("bn,bn->b", W, np.maximum(margin, 0.0) + np.log1p(small))
    return loss, np.where(margin > 0, 1.0, small) / (1.0 + small)


def _steps(information: Array, gradient: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Newton steps (b, q), and where the information is regular to working precision."""
    scale = np.sqrt(np.diagonal(information, axis1=1, axis2=2))
    regular = np.all(scale > 0, axis=1)
    scale = np.where(scale > 0, scale, 1.0)
    scaled = information / (scale[:, :, None] * scale[:, None, :])
    scaled[~regular] = np.eye(scaled.shape[1])
    values = np.linalg.eigvalsh(scaled)
    regular &= values[:, 0] > 1e-14 * values[:, -1]
    scaled[~regular] = np.eye(scaled.shape[1])
    return np.linalg.solve(scaled, (gradient / scale)[:, :, None])[:, :, 0] / scale, regular


def _overlap(products: _Products, multipliers: Array, gradient: Array, which: NDArray[np.intp]) -> NDArray[np.bool_]:
    """The certificate of `separation.overlaps` for each replicate; rows of weight 0 carry no constraint."""
    M = products.gram(multipliers, which)
    values = np.linalg.eigvalsh(M)
    sound = values[:, 0] > 1e-10 * values[:, -1]
    M[~sound] = np.eye(M.shape[1])
    correction = np.linalg.solve(M, gradient[:, :, None])[:, :, 0].astype(np.float64, copy=False)
    reach = products.predictor(correction, which)
    return sound & (np.where(multipliers > 0, np.abs(reach), 0.0).max(axis=1) < 0.1)
