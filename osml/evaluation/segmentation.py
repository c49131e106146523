"""How well maps of tissue classes agree with a reference: IoU, precision, recall and Dice, from confusion tables.

Tables add up over regions, slides and patients, so a slide of any size is judged region by region. Nothing of a
prediction is hidden by its reference: background is a class like the others, and tissue called where the reference says
background counts against the prediction. Only cells that nobody annotated (-1) are left out, and they are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError
from osml.evaluation.bootstrap import CONDITIONAL, Interval, resample_patients
from osml.evaluation.inputs import Floats, as_groups
from osml.stats.inputs import confidence_level

EACH = ("iou", "precision", "recall", "dice")
OVERALL = ("miou", "precision", "recall", "dice", "accuracy", "pooled_iou")
MIN_PATIENTS = 5
UNLABELLED = -1
_Key = TypeVar("_Key")


@dataclass(frozen=True)
class Table:
    """Cells by true class (rows) and predicted class (columns), int array (K, K), and cells that nobody annotated."""

    counts: NDArray[np.int64]
    unlabelled: int

    def __add__(self, other: Table) -> Table:
        return Table(self.counts + other.counts, self.unlabelled + other.unlabelled)


@dataclass(frozen=True)
class Overlap:
    """Measures of tables: by name of `EACH` arrays (..., K), by name of `OVERALL` arrays (...).

    iou : TP / (TP + FP + FN); dice : 2 TP / (2 TP + FP + FN); NaN for a class that neither map holds
    precision : TP / (TP + FP); 0 for a true class that is never predicted, NaN for a class that neither map holds
    recall : TP / (TP + FN); NaN for a class that the reference does not hold
    miou, precision, recall, dice of `overall` : means over the classes where the measure exists
    accuracy : share of cells with the right class, which is precision, recall and Dice pooled over classes
    pooled_iou : ΣTP / Σ(TP + FP + FN) over classes
    """

    each: dict[str, Floats]
    overall: dict[str, Floats]


@dataclass(frozen=True)
class SegmentationReport:
    """Measures of held-out maps, over all patients' cells and of each patient.

    Attributes
    ----------
    classes, patients : tuples of str, (K,) and (P,)
    pooled : Overlap
        Of the tables summed over patients: arrays (K,) and scalars.
    by_patient : Overlap
        Arrays (P, K) and (P,): a class that a patient lacks in both maps is NaN and left out of that patient's mean.
    absent : tuple of str
        Classes that no map of any patient holds; no mean knows them.
    intervals : dict
        Name of `OVERALL` to an interval by drawing patients. In a replicate without one of the classes of the pooled
        value, that class and the means are not estimable: such replicates are counted as failed.
    class_intervals : dict
        (name of `EACH`, class) to an interval; a measure that is NaN has none.
    no_interval : str
        Why there is none; empty where there are.
    unlabelled : int
        Cells that nobody annotated, left out.
    """

    classes: tuple[str, ...]
    patients: tuple[str, ...]
    tables: NDArray[np.int64]
    pooled: Overlap
    by_patient: Overlap
    absent: tuple[str, ...]
    intervals: dict[str, Interval]
    class_intervals: dict[tuple[str, str], Interval]
    no_interval: str
    unlabelled: int


def confusion_table(true: ArrayLike, predicted: ArrayLike, classes: int) -> Table:
    """Count the cells of a map, or of part of one.

    Parameters
    ----------
    true : int array of any shape
        Class position 0..classes-1; -1 where nobody annotated. Background is a class and never -1, or tissue predicted
        on it would go unseen.
    predicted : int array of the same shape
        Class position 0..classes-1 in every cell.
    classes : K

    >>> confusion_table([[0, 1], [1, -1]], [[0, 1], [0, 1]], 2)
    Table(counts=array([[1, 0],
           [1, 1]]), unlabelled=1)
    """
    t, p = _positions(true, "true", UNLABELLED, classes), _positions(predicted, "predicted", 0, classes)
    if t.shape != p.shape:
        raise InvalidInputError(
            f"the reference has shape {t.shape}, the prediction {p.shape}",
            why="Cells are compared at their places.",
            do="Bring both onto one grid, labels by the nearest cell.",
        )
    known = t != UNLABELLED
    pair = t[known].astype(np.int64) * classes + p[known]
    counts = np.bincount(pair, minlength=classes * classes).reshape(classes, classes)
    return Table(counts.astype(np.int64), int(t.size - known.sum()))


def overlap(tables: ArrayLike) -> Overlap:
    """Measures of confusion tables (..., K, K), rows true.

    >>> found = overlap([[50, 10, 0], [0, 40, 0], [0, 0, 0]])
    >>> found.each["iou"].round(3), round(float(found.overall["miou"]), 3)
    (array([0.833, 0.8  ,   nan]), 0.817)
    """
    return _overlap(_tables(tables), None)


def segmentation_report(
    tables: Sequence[Table],
    patients: Sequence[str],
    classes: Sequence[str],
    *,
    B: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> SegmentationReport:
    """Judge held-out maps: pooled over all cells, of each patient, and with intervals by drawing patients.

    Parameters
    ----------
    tables : one per region or slide
    patients : patient of each table
    classes : names (K,)
    B, seed, level : replicates, their seed, and the level of percentile intervals

    Notes
    -----
    The pooled measures weigh patients by their annotated area. With fewer than five patients there is no interval.
    """
    names = tuple(classes)
    who, counts = tables_by_patient(tables, patients)
    if counts.shape[1] != len(names):
        raise InvalidInputError(f"the tables hold {counts.shape[1]} classes; {len(names)} names are given")
    pooled, each = _overlap(counts.sum(axis=0), None), _overlap(counts, None)
    absent = tuple(n for n, v in zip(names, pooled.each["iou"], strict=True) if np.isnan(v))
    reason = _too_few(len(who))
    intervals: dict[str, Interval] = {}
    of_classes: dict[tuple[str, str], Interval] = {}
    if not reason:
        again = _overlap(_drawn(counts, B, seed), pooled)
        intervals = _intervals({name: float(pooled.overall[name]) for name in OVERALL}, again.overall, level)
        cells = [(name, k, label) for name in EACH for k, label in enumerate(names)]
        of_classes = _intervals(
            {(name, label): float(pooled.each[name][k]) for name, k, label in cells},
            {(name, label): again.each[name][:, k] for name, k, label in cells},
            level,
        )
    unlabelled = sum(table.unlabelled for table in tables)
    return SegmentationReport(names, who, counts, pooled, each, absent, intervals, of_classes, reason, unlabelled)


def segmentation_gain(
    before: SegmentationReport, after: SegmentationReport, *, B: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """By how much the overall measures of `after` exceed those of `before`, on the same patients, drawn together.

    Raises
    ------
    InvalidInputError
        The reports are of other patients, other classes or other reference cells, or of fewer than five patients.
    """
    same = before.patients == after.patients and before.classes == after.classes
    if not same or not np.array_equal(before.tables.sum(axis=2), after.tables.sum(axis=2)):
        raise InvalidInputError(
            "the two reports do not judge the same reference cells of the same patients",
            do="Judge both on the same regions.",
        )
    reason = _too_few(len(before.patients))
    if reason:
        raise InvalidInputError(reason)
    replicates = [_overlap(_drawn(r.tables, B, seed), r.pooled) for r in (before, after)]
    return _intervals(
        {name: float(after.pooled.overall[name] - before.pooled.overall[name]) for name in OVERALL},
        {name: replicates[1].overall[name] - replicates[0].overall[name] for name in OVERALL},
        level,
    )


def tables_by_patient(tables: Sequence[Table], patients: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Patients in order of first appearance, and the sum of each one's tables, int array (P, K, K)."""
    if len(tables) == 0:
        raise InvalidInputError("no region to judge")
    if len({table.counts.shape for table in tables}) > 1:
        raise InvalidInputError("the tables hold different numbers of classes")
    codes = as_groups(np.asarray(patients, dtype=object), len(tables))
    out = np.zeros((int(codes.max()) + 1, *tables[0].counts.shape), dtype=np.int64)
    np.add.at(out, codes, np.stack([table.counts for table in tables]))
    return tuple(dict.fromkeys(str(p) for p in patients)), out


def percentile_interval(value: float, replicates: Floats, level: float, kind: str = CONDITIONAL) -> Interval | None:
    """Percentiles of the replicates that exist; None where the value or all but one of them do not."""
    good = replicates[np.isfinite(replicates)]
    if not np.isfinite(value) or len(good) < 2:
        return None
    tail = (1 - confidence_level(level)) / 2
    low, high = np.quantile(good, [tail, 1 - tail])
    return Interval(value, float(low), float(high), level, kind, len(good), len(replicates) - len(good))


def _overlap(tables: Floats | NDArray[np.int64], like: Overlap | None) -> Overlap:
    """Measures; with `like`, a mean exists only where every class that `like` averages over has its measure."""
    t = np.asarray(tables, dtype=np.float64)
    hit = np.einsum("...kk->...k", t)
    true, called = t.sum(axis=-1), t.sum(axis=-2)
    either = true + called - hit
    each = {
        "iou": _ratio(hit, either),
        "precision": np.where(either > 0, _ratio(hit, called, 0.0), np.nan),
        "recall": _ratio(hit, true),
        "dice": _ratio(2 * hit, true + called),
    }
    overall = {}
    for name, values in each.items():
        wanted = np.isfinite(values) if like is None else np.broadcast_to(np.isfinite(like.each[name]), values.shape)
        total = np.where(wanted, values, 0.0).sum(axis=-1)
        overall["miou" if name == "iou" else name] = _ratio(total, wanted.sum(axis=-1).astype(np.float64))
    overall["accuracy"] = _ratio(hit.sum(axis=-1), true.sum(axis=-1))
    overall["pooled_iou"] = _ratio(hit.sum(axis=-1), either.sum(axis=-1))
    return Overlap(each, overall)


def _drawn(tables: NDArray[np.int64], B: int, seed: int) -> Floats:
    """Tables (B, K, K) of patients drawn with replacement."""
    counts = resample_patients(np.arange(len(tables)), B, seed).astype(np.float64)
    return (counts @ tables.reshape(len(tables), -1).astype(np.float64)).reshape(B, *tables.shape[1:])


def _intervals(values: dict[_Key, float], replicates: dict[_Key, Floats], level: float) -> dict[_Key, Interval]:
    found = {key: percentile_interval(value, replicates[key], level) for key, value in values.items()}
    return {key: interval for key, interval in found.items() if interval is not None}


def _too_few(patients: int) -> str:
    if patients >= MIN_PATIENTS:
        return ""
    return f"{patients} patients: an interval by drawing patients needs {MIN_PATIENTS} or more"


def _ratio(above: Floats, below: Floats, otherwise: float = np.nan) -> Floats:
    above, below = np.broadcast_arrays(above, below)
    return np.divide(above, below, out=np.full(above.shape, otherwise), where=below != 0)


def _tables(tables: ArrayLike) -> Floats:
    t = np.asarray(tables, dtype=np.float64)
    if t.ndim < 2 or t.shape[-1] != t.shape[-2] or t.shape[-1] < 2:
        raise InvalidInputError(f"tables have shape {t.shape}; expected (..., K, K) with two or more classes")
    if not np.isfinite(t).all() or (t < 0).any():
        raise InvalidInputError("tables must hold counts: finite and not negative")
    return t


def _positions(values: ArrayLike, name: str, lowest: int, classes: int) -> NDArray[np.integer]:
    raw = np.asarray(values)
    if raw.dtype.kind not in "iu":
        raise InvalidInputError(f"{name} holds {raw.dtype}; expected class positions, integers {lowest}..{classes - 1}")
    if raw.size and (raw.min() < lowest or raw.max() >= classes):
        raise InvalidInputError(
            f"{name} ranges over {raw.min()} to {raw.max()}; expected {lowest} to {classes - 1}",
            why="A class that has no name would be judged under another's." if raw.max() >= classes else "",
        )
    return raw
