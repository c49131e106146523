"""More than two classes: one-vs-rest AUC, precision, recall and F1 per class and averaged, log loss and Brier score.

`scikit-learn` conventions except where a class is absent. Intervals come from `patient_bootstrap`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError
from osml.evaluation.discrimination import auc
from osml.evaluation.inputs import Floats, as_groups


@dataclass(frozen=True)
class MultiClass:
    """Performance over K classes; arrays are (K,) in the order of `classes`.

    Attributes
    ----------
    confusion : int array (K, K)
        Rows are true classes, columns predicted ones.
    support : int array (K,)
    absent : tuple of str
        Classes without a row in y. They are left out of every average, and no average of AUCs exists.
    accuracy, balanced_accuracy : float
        The latter is the macro recall.
    precision, recall, f1 : float array (K,)
        0 for a present class that is never predicted; NaN for an absent class.
    auc : float array (K,)
        Class against the rest; NaN for an absent class.
    macro_*, weighted_* : float
        Means over present classes, equal or by support.
    macro_auc, weighted_auc : float or None
        None when a class is absent.
    log_loss : float
        Infinite if a true class was given probability 0.
    brier : float
        Mean of the summed squared differences over classes, 0..2.
    """

    classes: tuple[str, ...]
    n: int
    confusion: NDArray[np.intp]
    support: NDArray[np.intp]
    absent: tuple[str, ...]
    accuracy: float
    balanced_accuracy: float
    precision: Floats
    recall: Floats
    f1: Floats
    auc: Floats
    macro_precision: float
    macro_recall: float
    macro_f1: float
    macro_auc: float | None
    weighted_precision: float
    weighted_recall: float
    weighted_f1: float
    weighted_auc: float | None
    log_loss: float
    brier: float


def multiclass(y: ArrayLike, p: ArrayLike, classes: Sequence[str]) -> MultiClass:
    """Performance of class probabilities; the predicted class is the most probable, the first of equals.

    Parameters
    ----------
    y : int array (n,)
        Class position 0..K-1, one entry per row or patient (see `reduce_by_patient`).
    p : float array (n, K)
        Probabilities; each row sums to 1 within 1e-6.
    classes : sequence of str (K,)

    >>> p = [[.6, .3, .1], [.2, .5, .3], [.5, .2, .3], [.1, .2, .7]]
    >>> found = multiclass([0, 1, 2, 2], p, ["a", "b", "c"])
    >>> round(found.macro_f1, 4), round(found.macro_auc, 4), found.accuracy
    (0.7778, 0.9583, 0.75)
    """
    names = tuple(classes)
    probabilities, position = class_probabilities(p, len(names)), class_positions(y, len(names))
    if len(position) != len(probabilities):
        raise InvalidInputError(f"y holds {len(position)} entries, p {len(probabilities)}")
    n, k = probabilities.shape
    predicted = probabilities.argmax(axis=1)
    table = np.bincount(position * k + predicted, minlength=k * k).reshape(k, k)
    support, called, hit = table.sum(axis=1), table.sum(axis=0), np.diag(table)
    present = support > 0
    undefined = np.where(present, 0.0, np.nan)
    precision = np.divide(hit, called, out=undefined.copy(), where=(called > 0) & present)
    recall = np.divide(hit, support, out=undefined.copy(), where=present)
    f1 = np.divide(2 * hit, support + called, out=undefined.copy(), where=present)
    areas = np.full(k, np.nan)
    for j in np.flatnonzero(present & (support < n)):
        areas[j] = auc(position == j, probabilities[:, j])
    complete = bool(np.isfinite(areas).all())
    given = probabilities[np.arange(n), position]
    truth = np.eye(k)[position]
    with np.errstate(divide="ignore"):
        loss = -float(np.log(given).mean())

    def macro(values: Floats) -> float:
        return float(values[present].mean())

    def weighted(values: Floats) -> float:
        return float(np.average(values[present], weights=support[present]))

    return MultiClass(
        classes=names,
        n=n,
        confusion=table,
        support=support,
        absent=tuple(name for name, here in zip(names, present, strict=True) if not here),
        accuracy=float(hit.sum() / n),
        balanced_accuracy=macro(recall),
        precision=precision,
        recall=recall,
        f1=f1,
        auc=areas,
        macro_precision=macro(precision),
        macro_recall=macro(recall),
        macro_f1=macro(f1),
        macro_auc=macro(areas) if complete else None,
        weighted_precision=weighted(precision),
        weighted_recall=weighted(recall),
        weighted_f1=weighted(f1),
        weighted_auc=weighted(areas) if complete else None,
        log_loss=loss,
        brier=float(((probabilities - truth) ** 2).sum(axis=1).mean()),
    )


def reduce_by_patient(
    groups: ArrayLike, p: ArrayLike, y: ArrayLike | None = None
) -> tuple[NDArray[np.intp], Floats, NDArray[np.intp] | None]:
    """Mean probabilities of each patient's rows: first row of each patient, p (patients, K), and y when given.

    A patient whose rows carry different labels is refused: such a target has no value per patient.

    >>> first, p, y = reduce_by_patient(["a", "a", "b"], [[.2, .8], [.4, .6], [.9, .1]], [1, 1, 0])
    >>> first, p.round(6), y
    (array([0, 2]), array([[0.3, 0.7],
           [0.9, 0.1]]), array([1, 0]))
    """
    rows = np.asarray(p, dtype=np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise InvalidInputError(f"p has shape {rows.shape} or holds missing values; expected finite (n, K)")
    codes = as_groups(groups, len(rows))
    size = np.bincount(codes)
    first = np.full(len(size), len(rows), dtype=np.intp)
    np.minimum.at(first, codes, np.arange(len(rows)))
    mean = np.stack([np.bincount(codes, column) for column in rows.T], axis=1) / size[:, None]
    if y is None:
        return first, mean, None
    label = np.asarray(y)
    if label.shape != (len(rows),):
        raise InvalidInputError(f"y has shape {label.shape}; expected ({len(rows)},)")
    mixed = np.unique(codes[label != label[first][codes]])
    if len(mixed):
        raise InvalidInputError(
            f"{len(mixed)} patients have rows with different labels (first: {np.asarray(groups)[first[mixed[0]]]!r})",
            do="Evaluate per row, with patient-clustered intervals.",
        )
    return first, mean, label[first]


def class_positions(y: ArrayLike, classes: int) -> NDArray[np.intp]:
    """Class positions 0..classes-1, int array (n,); names, NaN and fractions are refused."""
    raw = np.asarray(y)
    if raw.ndim != 1 or raw.size == 0 or raw.dtype.kind not in "biuf":
        raise InvalidInputError(
            f"y has shape {raw.shape} and type {raw.dtype}; expected class positions 0..{classes - 1}, shape (n,)",
            do="Map names to positions in the order of the columns of p.",
        )
    if raw.dtype.kind == "f" and not (np.isfinite(raw).all() and (raw == np.round(raw)).all()):
        raise InvalidInputError("y holds missing values or fractions; expected class positions")
    if raw.min() < 0 or raw.max() >= classes:
        raise InvalidInputError(f"y ranges over {raw.min()}..{raw.max()}; expected class positions 0..{classes - 1}")
    return raw.astype(np.intp)


def class_probabilities(p: ArrayLike, classes: int) -> Floats:
    """Probabilities (n, classes) in 0..1 whose rows sum to 1 within 1e-6."""
    out = np.asarray(p, dtype=np.float64)
    if out.ndim != 2 or out.shape[1] != classes or classes < 2:
        raise InvalidInputError(f"p has shape {out.shape}; expected (n, {classes}), at least two classes")
    if not np.isfinite(out).all() or out.min(initial=0) < 0 or out.max(initial=0) > 1:
        raise InvalidInputError("p holds missing values or values outside 0..1")
    off = np.abs(out.sum(axis=1) - 1)
    if off.max(initial=0) > 1e-6:
        raise InvalidInputError(f"{int((off > 1e-6).sum())} rows of p do not sum to 1 (worst by {off.max():.3g})")
    return out
