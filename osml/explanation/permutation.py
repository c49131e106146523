"""SHAP values of any model that predicts from a table of inputs, at a stated number of predicted rows.

An input outside a coalition takes its values from background rows (interventional SHAP; Štrumbelj and Kononenko 2014,
Lundberg and Lee 2017). Two ways: all 2^d coalitions, exact; or random orders of the inputs, each with its reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError
from osml.explanation.values import Shap

Float = NDArray[np.float64]
Predict = Callable[[Mapping[str, Float]], Float]
MOST_INPUTS = 14  # inputs up to which all coalitions are walked (16,384 of them)
_BLOCK = 200_000  # rows predicted in one call


def subset_shap(predict: Predict, values: Mapping[str, Any], background: Mapping[str, Any]) -> Shap:
    """Exact SHAP values by walking all coalitions of inputs.

    Parameters
    ----------
    predict : callable
        Input → float array (k,) to linear predictors (k,); each row's result depends on that row only.
    values : input → float array (n,)
        Units to explain; NaN only if `predict` takes it.
    background : input → float array (m,)
        Rows that stand for an unknown value; the training patients, or a sample of them.

    Returns
    -------
    Shap
        `calls` is (2^d - 2) n m + n + m.

    Raises
    ------
    InvalidInputError
        More than 14 inputs.

    Examples
    --------
    >>> product = lambda v: v["a"] * v["b"]
    >>> shap = subset_shap(product, {"a": [2.0], "b": [3.0]}, {"a": [0.0], "b": [0.0]})
    >>> shap.values.tolist(), shap.calls
    ([[3.0, 3.0]], 4)
    """
    names, x, b = _tables(values, background)
    d = len(names)
    if d > MOST_INPUTS:
        raise InvalidInputError(f"{d} inputs have 2^{d} coalitions", do="Use permutation_shap.")
    model = _Model(predict, names)
    lp, base = model(x), float(np.mean(model(b)))
    masks = np.array([[bool(k >> j & 1) for j in range(d)] for k in range(2**d)], dtype=bool).reshape(2**d, d)
    worth = np.empty((2**d, len(x)))
    worth[0], worth[-1] = base, lp
    for k in range(1, 2**d - 1):
        worth[k] = model.coalition(x, b, masks[k])
    shares = np.zeros((len(x), d))
    size = masks.sum(axis=1)
    weight = np.array([factorial(s) * factorial(d - 1 - s) / factorial(d) if s < d else 0.0 for s in range(d + 1)])
    for j in range(d):
        without = np.flatnonzero(~masks[:, j])
        shares[:, j] = weight[size[without]] @ (worth[without | (1 << j)] - worth[without])
    return Shap(names, base, shares, lp, model.rows, np.zeros_like(shares))


def permutation_shap(
    predict: Predict, values: Mapping[str, Any], background: Mapping[str, Any], *, permutations: int, seed: int
) -> Shap:
    """SHAP values by random orders of the inputs, each walked forwards and backwards (antithetic).

    Every walk adds up to `lp - base`, so the sum is exact whatever the number of walks; single values carry `error`.
    Additive models, and models whose interactions join two inputs only, come out exact from the first pair.

    Parameters
    ----------
    predict, values, background
        As for `subset_shap`.
    permutations : int
        Pairs of walks, at least 2 (one has no standard error).
    seed : int

    Returns
    -------
    Shap
        `calls` is 2 p (d - 1) n m + n + m for p pairs.

    Examples
    --------
    >>> product = lambda v: v["a"] * v["b"]
    >>> shap = permutation_shap(product, {"a": [2.0], "b": [3.0]}, {"a": [0.0], "b": [0.0]}, permutations=2, seed=1)
    >>> shap.values.tolist(), shap.error.max()
    ([[3.0, 3.0]], np.float64(0.0))
    """
    names, x, b = _tables(values, background)
    if permutations < 2:
        raise InvalidInputError(f"permutations = {permutations}; a standard error needs at least 2")
    model, d = _Model(predict, names), len(names)
    rng = np.random.default_rng(seed)
    lp, base = model(x), float(np.mean(model(b)))
    total, square = np.zeros((len(x), d)), np.zeros((len(x), d))
    for _ in range(permutations):
        order = rng.permutation(d)
        pair = (_walk(model, x, b, order, lp, base) + _walk(model, x, b, order[::-1], lp, base)) / 2
        total += pair
        square += pair**2
    mean = total / permutations
    variance = np.maximum(square / permutations - mean**2, 0.0)
    # What rounding leaves of identical pairs is no variance.
    variance[variance < 1e-14 * np.maximum(mean**2, 1e-14)] = 0.0
    return Shap(names, base, mean, lp, model.rows, np.sqrt(variance / (permutations - 1)))


class _Model:
    """Predicts rows given as an array and counts them."""

    def __init__(self, predict: Predict, names: tuple[str, ...]) -> None:
        self.predict, self.names, self.rows = predict, names, 0

    def __call__(self, rows: Float) -> Float:
        self.rows += len(rows)
        found = np.asarray(self.predict({name: rows[:, j] for j, name in enumerate(self.names)}), dtype=np.float64)
        if found.shape != (len(rows),) or not np.all(np.isfinite(found)):
            raise InvalidInputError(
                f"the model returned shape {found.shape} for {len(rows)} rows, or non-finite values"
            )
        return found

    def coalition(self, x: Float, background: Float, known: NDArray[np.bool_]) -> Float:
        """Mean prediction of each unit with its known inputs and every background row for the others, (n,)."""
        m = len(background)
        step = max(1, _BLOCK // m)
        out = np.empty(len(x))
        for start in range(0, len(x), step):
            part = x[start : start + step]
            mixed = np.where(known, part[:, None, :], background[None])
            out[start : start + step] = self(mixed.reshape(-1, x.shape[1])).reshape(len(part), m).mean(axis=1)
        return out


def _walk(model: _Model, x: Float, b: Float, order: NDArray[np.intp], lp: Float, base: float) -> Float:
    known = np.zeros(x.shape[1], dtype=bool)
    shares, before = np.empty_like(x), np.full(len(x), base)
    for step, j in enumerate(order):
        known[j] = True
        after = lp if step == len(order) - 1 else model.coalition(x, b, known)
        shares[:, j] = after - before
        before = after
    return shares


def _tables(values: Mapping[str, Any], background: Mapping[str, Any]) -> tuple[tuple[str, ...], Float, Float]:
    names = tuple(values)
    if not names or set(names) != set(background):
        raise InvalidInputError(f"values have {sorted(names)}, background has {sorted(background)}")
    x, b = (
        [np.atleast_1d(np.asarray(source[name], dtype=np.float64)) for name in names] for source in (values, background)
    )
    for what, columns in (("values", x), ("background", b)):
        if any(c.ndim != 1 or len(c) != len(columns[0]) for c in columns) or len(columns[0]) == 0:
            raise InvalidInputError(f"{what}: every input needs one array of the same length, at least 1")
    return names, np.column_stack(x), np.column_stack(b)
