"""Exact SHAP values of a random forest on the logit, from its leaves instead of from 2^d walks through its trees.

A row that mixes a patient (features of the coalition S) with a background row (the others) reaches a leaf when every
feature on the leaf's path passes by its own source. With A the features that pass by the patient's value alone and B
those that pass by the background's alone, that is A ⊆ S and B ∩ S = ∅. So the leaves give the forest's share for every
coalition at once, and its logit is averaged over the background as `subset_shap` does. Sources: Lundberg et al. 2020,
Nat Mach Intell 2:56 (which features decide about a leaf); Yates 1937 (sums over subsets).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import factorial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError
from osml.explanation.permutation import MOST_INPUTS
from osml.explanation.values import Shap
from osml.predictors.forest import Forest
from osml.stats.inputs import design_array

Float = NDArray[np.float64]
Masks = NDArray[np.int64]


def forest_shap(forest: Forest, x: ArrayLike, background: ArrayLike, names: Sequence[str]) -> Shap:
    """Contributions of each feature to the logit of the forest's probability, exact.

    Parameters
    ----------
    forest : Forest
    x : float array (n, d)
        Rows to explain.
    background : float array (m, d)
        Rows that stand for an unknown value: the training patients, or a sample of them.
    names : of the d features, 14 at most

    Returns
    -------
    Shap
        Equal to `subset_shap` of `forest.logit`; `calls` is n + m.

    Notes
    -----
    O(n m (leaves + d 2^d)) time.
    """
    rows, others = design_array(x, "x"), design_array(background, "background")
    d = forest.columns
    if d > MOST_INPUTS:
        raise InvalidInputError(f"{d} features have 2^{d} coalitions", do="Use permutation_shap.")
    if len(names) != d:
        raise InvalidInputError(f"{len(names)} names for a forest of {d} features")
    lp, base = forest.logit(rows), float(forest.logit(others).mean())
    low, high, share = _leaves(forest)
    passes_x, passes_b = _passes(rows, low, high), _passes(others, low, high)
    contributions = np.empty((len(rows), d))
    for i, own in enumerate(passes_x):
        shares = _coalitions(own, passes_b, share, d) / forest.trees
        p = (forest.patients * np.clip(shares, 0.0, 1.0) + 0.5) / (forest.patients + 1.0)
        contributions[i] = _shapley((np.log(p) - np.log1p(-p)).mean(axis=0), d)
    return Shap(tuple(names), base, contributions, lp, len(rows) + len(others), np.zeros_like(contributions))


def _leaves(forest: Forest) -> tuple[Float, Float, Float]:
    """Each leaf as a box: low < feature <= high, float arrays (leaves, d), and its share (leaves,)."""
    nodes, d = len(forest.feature), forest.columns
    low, high = np.full((nodes, d), -np.inf), np.full((nodes, d), np.inf)
    # Children lie behind their parent, so one pass from front to back finds every box.
    for node in np.flatnonzero(forest.feature >= 0):
        left, right, j, cut = forest.left[node], forest.right[node], forest.feature[node], forest.threshold[node]
        low[[left, right]], high[[left, right]] = low[node], high[node]
        high[left, j] = min(high[node, j], cut)
        low[right, j] = max(low[node, j], cut)
    leaf = forest.feature < 0
    return low[leaf], high[leaf], forest.value[leaf]


def _passes(table: Float, low: Float, high: Float) -> Masks:
    """Bit j of (row, leaf): the row's feature j lies in the leaf's box; single precision, as the forest compares."""
    single = table.astype(np.float32)
    out = np.zeros((len(table), len(low)), dtype=np.int64)
    for j in range(table.shape[1]):
        inside = (single[:, j, None] > low[:, j]) & (single[:, j, None] <= high[:, j])
        out |= inside.astype(np.int64) << j
    return out


def _coalitions(own: Masks, others: Masks, share: Float, d: int) -> Float:
    """Sum over trees of the share that each coalition of a patient's features reaches, float array (m, 2^d)."""
    row, leaf = np.nonzero((own | others) == 2**d - 1)
    mine, theirs = own[leaf] & ~others[row, leaf], others[row, leaf] & ~own[leaf]
    # A leaf counts for S when A ⊆ S, minus what is lost where S holds some of B: inclusion and exclusion over B.
    cell, weight = row * 2**d + mine, share[leaf]
    for j in range(d):
        here = np.flatnonzero(theirs & (1 << j))
        cell, weight = np.concatenate([cell, cell[here] + (1 << j)]), np.concatenate([weight, -weight[here]])
        theirs = np.concatenate([theirs, theirs[here]])
    total: Float = np.bincount(cell, weights=weight, minlength=len(others) * 2**d).astype(np.float64)
    for j in range(d):  # from each set to all that contain it
        halves = total.reshape(-1, 2, 1 << j)
        halves[:, 1] += halves[:, 0]
    return total.reshape(len(others), 2**d)


def _shapley(worth: Float, d: int) -> Float:
    """Shapley values (d,) of a game with a worth for each coalition (2^d,), bit j of its number being feature j."""
    size = np.bitwise_count(np.arange(2**d))
    weight = np.array([factorial(s) * factorial(d - 1 - s) / factorial(d) for s in range(d)] + [0.0])
    out = np.empty(d)
    for j in range(d):
        without = np.flatnonzero(~np.arange(2**d) & (1 << j))
        out[j] = weight[size[without]] @ (worth[without | (1 << j)] - worth[without])
    return out
