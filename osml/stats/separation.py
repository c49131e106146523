"""Whether a logistic maximum likelihood estimate exists, decided exactly: by a certificate or by linear programming.

Sources: Albert & Anderson 1984 (Biometrika 71:1); Konis 2007 (thesis, Oxford; the linear programme);
Geyer 2009 (EJS 3:259; which coefficients are infinite).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array, hstack, identity

from osml.errors import ConvergenceError, NotEstimableError
from osml.stats.inputs import Array, design_array, frequency_weights, labels
from osml.stats.newton import newton, orthogonal_basis, signed_residual


@dataclass(frozen=True)
class Separation:
    """Outcome of the separation test.

    kind : 'none' (the estimate exists), 'quasi' or 'complete'
    columns : indices of the columns of X without a finite estimate; empty for 'none', all of them for 'complete'
    rows : indices of the rows that some linear predictor classifies with certainty
    """

    kind: Literal["none", "quasi", "complete"]
    columns: tuple[int, ...]
    rows: tuple[int, ...]


def separation(X: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> Separation:
    """Decide whether the logistic maximum likelihood estimate exists.

    Parameters
    ----------
    X : float array (n, p), without an intercept column
    y : bool or 0/1 array (n,)
    weights : array (n,), optional
        Frequency weights; rows of weight 0 are left out.

    Raises
    ------
    NotEstimableError
        One class only, or constant or linearly dependent columns.

    Notes
    -----
    Overlap is first looked for as a certificate (Stiemke: positive multipliers that balance every column), which the
    residuals of a Newton fit provide at once; only without one is the linear programme solved.

    >>> import numpy as np
    >>> x = np.array([[1.0, 0], [2, 0], [3, 0], [4, 0], [2.5, 1]])
    >>> separation(x, [0, 1, 0, 1, 1])
    Separation(kind='quasi', columns=(1,), rows=(4,))
    """
    X = design_array(X)
    y = labels(y, len(X))
    w = frequency_weights(weights, len(X))
    used = np.flatnonzero(w > 0)
    X, y, w = X[used], y[used], w[used]
    refuse_one_class(y, w)
    basis = orthogonal_basis(X, w)
    fit = newton(basis.with_ones, y, w, np.zeros(len(y)))
    if fit.converged and overlaps(basis.with_ones, y, w, fit.eta, fit.gradient):
        return Separation("none", (), ())
    return _decide(basis.with_ones, basis.to_raw, y, used)


def one_column_separates(X: Array, y: Array) -> bool:
    """True when a single column of X (n, p) separates the classes by a threshold: exact, and the commonest case."""
    events, others = X[y > 0], X[y == 0]
    above = others.max(axis=0) <= events.min(axis=0)
    below = events.max(axis=0) <= others.min(axis=0)
    return bool(np.any((above | below) & (X.max(axis=0) > X.min(axis=0))))


def refuse_one_class(y: Array, w: Array) -> None:
    """Raise NotEstimableError unless both classes occur."""
    events, total = w @ y, w.sum()
    if events == 0 or events == total:
        raise NotEstimableError(
            f"{events:g} events among {total:g} patients",
            why="A logistic model needs patients with and without the event.",
        )


def overlaps(A: Array, y: Array, w: Array, eta: Array, gradient: Array) -> bool:
    """True when the residuals at `eta` prove that no linear predictor separates the classes; False decides nothing.

    Multipliers m_i = w_i |y_i - p_i| > 0 balance every column up to the gradient. The correction
    -m_i s_i a_i' M^-1 g, M = sum m_i a_i a_i', removes the rest; multipliers stay positive while |a_i' M^-1 g| < 1.
    """
    multipliers = w * np.abs(signed_residual(eta, y))
    M = (A * multipliers[:, None]).T @ A
    size = np.linalg.eigvalsh(M)
    if size[0] <= 1e-10 * size[-1]:
        return False
    return bool(np.abs(A @ np.linalg.solve(M, gradient)).max() < 0.1)


def refuse_separated(A: Array, to_raw: Array, y: Array, rows: NDArray[np.intp]) -> None:
    """Raise NotEstimableError when the classes are separated, by the linear programme."""
    found = _decide(A, to_raw, y, rows)
    if found.kind == "none":
        return
    raise NotEstimableError(
        f"the classes are {'completely' if found.kind == 'complete' else 'quasi-completely'} separated: columns "
        f"{list(found.columns)} of X have no finite estimate ({len(found.rows)} of {len(y)} rows are predicted "
        "with certainty)",
        why="A maximum likelihood estimate does not exist; any number printed would be an accident of the iteration.",
        do="Merge or drop the level or column, or use Firth's method (fit_firth) or a ridge penalty.",
    )


def _decide(A: Array, to_raw: Array, y: Array, rows: NDArray[np.intp]) -> Separation:
    """Largest set of rows that a direction b can classify: maximise sum z, 0 <= z_i <= 1, z_i <= s_i a_i'b.

    The constraint is scale-free, so z_i is 0 or 1 at the optimum and one programme finds every separated row.
    """
    signed = A * np.where(y > 0, 1.0, -1.0)[:, None]
    unique, inverse, count = np.unique(signed, axis=0, return_inverse=True, return_counts=True)
    n, q = unique.shape
    result = linprog(
        np.concatenate([np.zeros(q), -count]),
        A_ub=hstack([csr_array(-unique), identity(n)], format="csr"),
        b_ub=np.zeros(n),
        bounds=[(None, None)] * q + [(0.0, 1.0)] * n,
        method="highs",
    )
    if result.status != 0 or result.x is None:
        raise ConvergenceError(f"the linear programme for separation did not finish: {result.message}")
    separated = (result.x[q:] > 0.5)[inverse.ravel()]
    if not separated.any():
        return Separation("none", (), ())
    p = to_raw.shape[0]
    found = tuple(int(i) for i in rows[separated])
    if separated.all():
        return Separation("complete", tuple(range(p)), found)
    # A coefficient is finite if and only if it is estimable from the rows that remain in overlap.
    _, size, rotation = np.linalg.svd(A[~separated], full_matrices=True)
    rank = int((size > 1e-9 * size[0]).sum())
    null = to_raw @ rotation[rank:, 1:].T
    scale = np.linalg.norm(to_raw, axis=1)
    infinite = np.linalg.norm(null, axis=1) > 1e-7 * scale
    return Separation("quasi", tuple(int(j) for j in np.flatnonzero(infinite)), found)
