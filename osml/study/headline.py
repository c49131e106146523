"""The few measures by which seeds, subsets of inputs and patterns of missing inputs are compared, for every target.

Binary: AUC and Brier score; survival: Harrell's C; classes: macro-F1, macro AUC, accuracy. They are computed as the
judges of whole predictors compute them, so that the full network has the same numbers here and there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort, Outcome, SurvivalOutcome
from osml.cohort.splits import Fold
from osml.evaluation.class_measures import auc_batch, class_measures
from osml.evaluation.concordance import concordance_batch

Float = NDArray[np.float64]
Ints = NDArray[np.intp]
BETTER = {"brier": "lower"}  # every other measure is better when higher


class Row(Protocol):
    """What a stored prediction has in common with a stored extra."""

    @property
    def repeat(self) -> int: ...
    @property
    def fold(self) -> int: ...
    @property
    def unit(self) -> str: ...


@dataclass(frozen=True)
class Part:
    """Held-out predictions of one fold.

    index : positions of its units in the cohort (n,)
    p : float array (n, k): the event; one column per horizon; or the leaves of the tree
    score : what ranks the units within the fold (n,); unused for classes
    """

    fold: Fold
    index: Ints
    p: Float
    score: Float

    def take(self, keep: NDArray[np.bool_]) -> Part:
        return Part(self.fold, self.index[keep], self.p[keep], self.score[keep])


def measures_of(outcome: Outcome) -> tuple[str, ...]:
    """Names of the measures, the one that decides first."""
    if isinstance(outcome, BinaryOutcome):
        return ("auc", "brier")
    return ("c",) if isinstance(outcome, SurvivalOutcome) else ("macro_f1", "macro_auc", "accuracy")


def columns_of(outcome: Outcome, rows: Iterable[Any]) -> list[str]:
    """Columns of predictions that count: the leaves of classes, else all that are stored."""
    if isinstance(outcome, ClassOutcome):
        return list(outcome.tree.leaves)
    return list(dict.fromkeys(row.column for row in rows))


def parts(
    cells: Iterable[tuple[int, int, str, str, float, float]],
    columns: Sequence[str],
    cohort: Cohort,
    folds: Sequence[Fold],
) -> list[Part]:
    """Predictions of one predictor by fold.

    cells : (repeat, fold, unit, column, p, lp); lp may be NaN, then p ranks
    """
    position = {unit: i for i, unit in enumerate(cohort.units)}
    place = {name: k for k, name in enumerate(columns)}
    found: dict[tuple[int, int], dict[str, tuple[Float, list[float]]]] = {}
    for repeat, number, unit, column, p, lp in cells:
        if column not in place:
            continue
        row = found.setdefault((repeat, number), {}).setdefault(unit, (np.full(len(columns), np.nan), [np.nan]))
        row[0][place[column]] = p
        row[1][0] = lp
    out = []
    for fold in folds:
        mine = found.get((fold.repeat, fold.index))
        if not mine:
            continue
        matrix = np.stack([row[0] for row in mine.values()])
        scores = np.array([row[1][0] for row in mine.values()])
        index = np.array([position[unit] for unit in mine], dtype=np.intp)
        out.append(Part(fold, index, matrix, np.where(np.isfinite(scores), scores, matrix[:, -1])))
    return out


def by_repeat(found: Sequence[Part]) -> list[Part]:
    """The folds of each repeat pooled; probabilities rank where there are any, since scores differ in scale by fold."""
    out = []
    for repeat in sorted({part.fold.repeat for part in found}):
        mine = [part for part in found if part.fold.repeat == repeat]
        p = np.concatenate([part.p for part in mine])
        score = np.concatenate([part.score for part in mine])
        out.append(
            Part(
                mine[0].fold,
                np.concatenate([part.index for part in mine]),
                p,
                p[:, -1] if np.isfinite(p).all() else score,
            )
        )
    return out


def values(part: Part, outcome: Outcome, weights: Float | None = None) -> dict[str, Float]:
    """Measures of one set under B weightings of its units, float arrays (B,); NaN where one does not exist."""
    w = np.ones((1, len(part.index))) if weights is None else weights
    here = outcome.take(part.index)
    if isinstance(here, BinaryOutcome):
        total = w.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            brier = (w @ (here.y - part.p[:, 0]) ** 2) / total
        return {"auc": auc_batch(here.y, part.score, w), "brier": brier}
    if isinstance(here, SurvivalOutcome):
        return {"c": concordance_batch(here.time, here.event, part.score, w)}
    leaves = [here.tree.nodes.index(name) for name in here.tree.leaves]
    keep = np.isin(here.node, leaves)
    if not keep.any():
        return {name: np.full(len(w), np.nan) for name in measures_of(outcome)}
    place = {node: k for k, node in enumerate(leaves)}
    y = np.array([place[node] for node in here.node[keep].tolist()], dtype=np.intp)
    p = part.p[keep]
    overall = class_measures(y, p / p.sum(axis=1, keepdims=True), w[:, keep]).overall
    return {name: overall[name] for name in measures_of(outcome)}


def averaged(
    found: Sequence[Part], outcome: Outcome, *, pooled: bool, weights: Sequence[Float] | None = None
) -> dict[str, Float]:
    """Measures averaged over the folds in which they exist, (B,); pooled: over the repeats, their folds pooled.

    weights : one array (B, n) per part
    """
    whole = [values(part, outcome, w) for part, w in zip(*_pooled(found, weights), strict=True)]
    within = whole if pooled else [
        values(part, outcome, None if weights is None else weights[k]) for k, part in enumerate(found)
    ]  # fmt: skip
    # Risks share one scale, so their Brier score is that of the pooled units, as in `judge_binary`.
    return {name: _mean([one[name] for one in (whole if name == "brier" else within)]) for name in measures_of(outcome)}


def within_folds(found: Sequence[Part], outcome: Outcome, weights: Sequence[Float] | None = None) -> dict[str, Float]:
    """Measures averaged over the folds in which they exist, (B,): discrimination only, which is within folds.

    weights : one array (B, n) per part
    """
    each = [values(part, outcome, None if weights is None else weights[k]) for k, part in enumerate(found)]
    return {name: _mean([one[name] for one in each]) for name in measures_of(outcome) if name != "brier"}


def _mean(each: Sequence[Float]) -> Float:
    rows = np.stack(each)
    known = np.isfinite(rows)
    total = np.where(known, rows, 0.0).sum(axis=0)
    return np.divide(total, known.sum(axis=0), out=np.full(len(total), np.nan), where=known.any(axis=0))


def _pooled(found: Sequence[Part], weights: Sequence[Float] | None) -> tuple[list[Part], list[Float | None]]:
    merged = by_repeat(found)
    if weights is None:
        return merged, [None] * len(merged)
    drawn: list[Float | None] = []
    for repeat in sorted({part.fold.repeat for part in found}):
        drawn.append(
            np.concatenate([w for part, w in zip(found, weights, strict=True) if part.fold.repeat == repeat], 1)
        )
    return merged, drawn


def why_none(outcome: Outcome, index: Ints) -> str:
    """Why a measure of discrimination has no value on these units."""
    here = outcome.take(index)
    if isinstance(here, BinaryOutcome):
        return f"{int(here.y.sum())} of {len(index)} units have the event"
    if isinstance(here, SurvivalOutcome):
        return f"no comparable pair among {len(index)} units with {int(here.event.sum())} events"
    absent = [name for name in here.tree.leaves if not (here.node == here.tree.nodes.index(name)).any()]
    return f"no unit of {', '.join(absent)}" if absent else "no fold holds every class"
