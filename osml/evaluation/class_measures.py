"""Measures of class probabilities under many weightings at once: what a bootstrap of patients needs.

One definition for the value and for its replicates. Where a class has no weight, its own measures and all means over
classes are NaN: a mean over fewer classes is another quantity, and folds would no longer be averages of one thing.
`multiclass` describes a single set of rows and averages over the classes that are there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError
from osml.evaluation.inputs import Floats, as_labels
from osml.evaluation.multiclass import class_positions, class_probabilities
from osml.stats.inputs import vector

OVERALL = (
    "accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "macro_precision", "macro_auc", "weighted_auc",
    "log_loss", "brier",
)  # fmt: skip
EACH = ("auc", "f1", "precision", "recall", "sensitivity_at_90", "specificity_at_90")
AT = 0.9
_CELLS = 4_000_000  # weights worked on at a time


@dataclass(frozen=True)
class ClassMeasures:
    """Measures by name of `OVERALL`, arrays (B,), and of each class by name of `EACH`, arrays (B, K)."""

    overall: dict[str, Floats]
    each: dict[str, Floats]


def class_measures(y: ArrayLike, p: ArrayLike, weights: ArrayLike | None = None) -> ClassMeasures:
    """Accuracy, F1, one-against-rest AUC and points of its curve, log loss and Brier score under B weightings.

    Parameters
    ----------
    y : int array (n,)
        Class position 0..K-1.
    p : float array (n, K)
        Probabilities; rows sum to 1 within 1e-6. The predicted class is the most probable, the first of equals.
    weights : float array (B, n), optional
        Non-negative; integers equal repeating the rows. Default: one weighting, all ones.

    Returns
    -------
    ClassMeasures
        `balanced_accuracy` is the mean recall, `weighted_*` weigh classes by their share; `sensitivity_at_90` is the
        sensitivity at 90 % specificity, linear between the points of the curve (`RocCurve.sensitivity_at`), and
        `specificity_at_90` the specificity at 90 % sensitivity. `log_loss` is infinite where a true class had
        probability 0. NaN: a class without weight, or no row with weight.

    Notes
    -----
    O(K n (log n + B)) time, blocks of replicates in memory.

    >>> found = class_measures([0, 1, 2, 2], [[.6, .3, .1], [.2, .5, .3], [.5, .2, .3], [.1, .2, .7]])
    >>> round(float(found.overall["macro_f1"][0]), 4), found.each["auc"][0].tolist()
    (0.7778, [1.0, 1.0, 0.875])
    """
    raw = np.asarray(p)
    k = raw.shape[1] if raw.ndim == 2 else 0
    probabilities, position = class_probabilities(p, k), class_positions(y, k)
    n = len(probabilities)
    if len(position) != n:
        raise InvalidInputError(f"y holds {len(position)} entries, p {n}")
    w = _weightings(weights, n)
    size = max(1, _CELLS // max(n, 1))
    blocks = [_block(position, probabilities, w[i : i + size]) for i in range(0, len(w), size)]
    return ClassMeasures(
        {name: np.concatenate([b.overall[name] for b in blocks]) for name in OVERALL},
        {name: np.concatenate([b.each[name] for b in blocks]) for name in EACH},
    )


def auc_batch(y: ArrayLike, score: ArrayLike, weights: ArrayLike) -> Floats:
    """AUC under B weightings, float array (B,); NaN where a class has no weight. Equals `auc(y, score, weights[b])`.

    >>> auc_batch([0, 0, 1, 1], [.1, .4, .4, .8], [[1, 1, 1, 1], [1, 1, 0, 0]])
    array([0.875,   nan])
    """
    labels = as_labels(y)
    s, w = vector(score, "score", len(labels)), _weightings(weights, len(labels))
    size = max(1, _CELLS // len(labels))
    return np.concatenate([_area(*_curve(labels == 1, s, w[i : i + size])) for i in range(0, len(w), size)])


def _weightings(weights: ArrayLike | None, n: int) -> Floats:
    if weights is None:
        return np.ones((1, n))
    w = np.asarray(weights, dtype=np.float64)
    if w.ndim != 2 or w.shape[1] != n or not len(w):
        raise InvalidInputError(f"weights have shape {w.shape}; expected (B, {n})")
    if not np.isfinite(w).all() or w.min() < 0:
        raise InvalidInputError("weights must be finite and not negative")
    return w


def _block(y: NDArray[np.intp], p: Floats, w: Floats) -> ClassMeasures:
    n, k = p.shape
    cell = np.zeros((n, k * k))
    cell[np.arange(n), y * k + p.argmax(axis=1)] = 1.0
    table = (w @ cell).reshape(len(w), k, k)
    support, called = table.sum(axis=2), table.sum(axis=1)
    hit = np.einsum("bkk->bk", table)
    total = support.sum(axis=1)
    share = _ratio(support, total[:, None])
    here = support > 0
    each = {
        "precision": np.where(here, _ratio(hit, called, 0.0), np.nan),
        "recall": _ratio(hit, support),
        "f1": np.where(here, _ratio(2 * hit, support + called, 0.0), np.nan),
    }
    curves = [_curve(y == j, p[:, j], w) for j in range(k)]
    each["auc"] = np.stack([_area(*c) for c in curves], axis=1)
    each["sensitivity_at_90"] = np.stack([_sensitivity_at(*c) for c in curves], axis=1)
    each["specificity_at_90"] = np.stack([_specificity_at(*c) for c in curves], axis=1)
    given = p[np.arange(n), y]
    with np.errstate(divide="ignore"):
        loss = -np.log(given)
    lost = np.isinf(loss)
    log_loss = _ratio(w @ np.where(lost, 0.0, loss), total)
    overall = {
        "accuracy": _ratio(hit.sum(axis=1), total),
        "balanced_accuracy": each["recall"].mean(axis=1),
        "macro_f1": each["f1"].mean(axis=1),
        "weighted_f1": np.where(total > 0, np.nansum(each["f1"] * share, axis=1), np.nan),
        "macro_precision": each["precision"].mean(axis=1),
        "macro_auc": each["auc"].mean(axis=1),
        "weighted_auc": (each["auc"] * share).sum(axis=1),
        "log_loss": np.where(w @ lost.astype(float) > 0, np.inf, log_loss),
        "brier": _ratio(w @ ((p - np.eye(k)[y]) ** 2).sum(axis=1), total),
    }
    return ClassMeasures(overall, each)


def _curve(positive: NDArray[np.bool_], score: Floats, w: Floats) -> tuple[Floats, Floats]:
    """Weight of events and of the others at or below each distinct score, arrays (B, m + 1) that begin with 0."""
    order = np.argsort(score, kind="stable")
    s = score[order]
    last = np.flatnonzero(np.append(s[1:] != s[:-1], True))
    sides = []
    for side in (positive, ~positive):
        below = np.cumsum(w[:, order] * side[order], axis=1)[:, last]
        sides.append(np.concatenate([np.zeros((len(w), 1)), below], axis=1))
    return sides[0], sides[1]


def _area(events: Floats, others: Floats) -> Floats:
    # An event outscores what lies below its level, and half of what shares it.
    wins = (np.diff(events, axis=1) * (others[:, :-1] + others[:, 1:]) / 2).sum(axis=1)
    return _ratio(wins, events[:, -1] * others[:, -1])


def _sensitivity_at(events: Floats, others: Floats) -> Floats:
    """Sensitivity where specificity is `AT`, the highest on a vertical piece."""
    sensitivity, specificity = 1 - _ratio(events, events[:, -1:]), _ratio(others, others[:, -1:])
    j = (specificity >= AT - 1e-12).argmax(axis=1)
    return _between(specificity, sensitivity, np.maximum(j - 1, 0), j)


def _specificity_at(events: Floats, others: Floats) -> Floats:
    """Specificity where sensitivity is `AT`, the highest on a flat piece."""
    sensitivity, specificity = 1 - _ratio(events, events[:, -1:]), _ratio(others, others[:, -1:])
    j = sensitivity.shape[1] - 1 - (sensitivity[:, ::-1] >= AT - 1e-12).argmax(axis=1)
    return _between(sensitivity, specificity, np.minimum(j + 1, sensitivity.shape[1] - 1), j)


def _between(x: Floats, y: Floats, far: NDArray[np.intp], near: NDArray[np.intp]) -> Floats:
    """y at x = `AT` between a point beyond it and the nearest one that reaches it."""
    b = np.arange(len(x))
    x0, x1, y0, y1 = x[b, far], x[b, near], y[b, far], y[b, near]
    part = np.where(np.abs(x1 - AT) <= 1e-12, 1.0, _ratio(AT - x0, x1 - x0, 1.0))
    return np.where(np.isfinite(x1) & np.isfinite(y1), y0 + part * (y1 - y0), np.nan)


def _ratio(above: Floats, below: Floats, otherwise: float = np.nan) -> Floats:
    above, below = np.broadcast_arrays(above, below)
    return np.divide(above, below, out=np.full(above.shape, otherwise), where=below != 0)
