"""Performance by which inputs a unit had: what a network is worth where a modality is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from osml.cohort.cohort import ClassOutcome, Cohort
from osml.cohort.splits import Fold
from osml.runs.extras import ExtraRow
from osml.runs.store import PredictionRow
from osml.study.headline import Part, averaged, columns_of, measures_of, parts, why_none
from osml.study.judge import metric

FEWEST = 10  # units of a pattern below which nothing is computed
PRESENT = "present:"


def judge_patterns(
    extras: Sequence[ExtraRow], rows: Sequence[PredictionRow], cohort: Cohort, folds: Sequence[Fold], hidden: str
) -> dict[str, Any]:
    """Headline measures of each pattern of inputs, pooled over the folds of a repeat, then averaged over repeats.

    Parameters
    ----------
    extras : of one predictor; `present:<input>` is 1 where the unit had that input
    rows : its predictions
    hidden : why measures of probabilities cannot be computed, "" when they can

    Returns
    -------
    dict
        `patterns`, the most frequent first: `present` and `missing` inputs, units, patients, measures; or the reason
        why there is nothing to compare. Patients of two patterns differ in more than the missing input.
    """
    outcome = cohort.outcome
    assert outcome is not None
    had: dict[str, dict[str, bool]] = {}
    inputs: dict[str, None] = {}
    for extra in extras:
        if extra.name.startswith(PRESENT):
            name = extra.name.removeprefix(PRESENT)
            inputs[name] = None
            had.setdefault(extra.unit, {})[name] = extra.value > 0.5
    if not inputs:
        return {"reason": "the predictor does not say which inputs a unit had"}
    of_unit = {unit: tuple(present.get(name, False) for name in inputs) for unit, present in had.items()}
    counts: dict[tuple[bool, ...], int] = {}
    for pattern in of_unit.values():
        counts[pattern] = counts.get(pattern, 0) + 1
    if len(counts) == 1:
        only = next(iter(counts))
        gone = [name for name, here in zip(inputs, only, strict=True) if not here]
        return {"reason": f"every unit lacked {', '.join(gone)}" if gone else "no unit lacked an input"}
    cells = ((r.repeat, r.fold, r.unit, r.column, r.p, r.lp) for r in rows)
    found = parts(cells, columns_of(outcome, rows), cohort, folds)
    table = []
    for pattern, units in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        mine = np.array([of_unit.get(unit) == pattern for unit in cohort.units])
        patients = {cohort.patients[i] for i in np.flatnonzero(mine)}
        entry: dict[str, Any] = {
            "present": [name for name, here in zip(inputs, pattern, strict=True) if here],
            "missing": [name for name, here in zip(inputs, pattern, strict=True) if not here],
            "units": units,
            "patients": len(patients),
        }
        entry["measures"] = _measures(found, mine, cohort, hidden)
        table.append(entry)
    return {"inputs": list(inputs), "patterns": table}


def _measures(
    found: Sequence[Part], mine: np.ndarray[Any, np.dtype[np.bool_]], cohort: Cohort, hidden: str
) -> dict[str, Any]:
    outcome = cohort.outcome
    assert outcome is not None
    names = measures_of(outcome)
    # Labels that stop at an inner node are in no measure of leaves.
    counted = mine & outcome.full if isinstance(outcome, ClassOutcome) else mine
    if counted.sum() < FEWEST:
        reason = f"{int(counted.sum())} units, fewer than {FEWEST}"
        return {name: metric(None, reason=reason) for name in names}
    here = [part.take(counted[part.index]) for part in found]
    values = averaged([part for part in here if len(part.index)], outcome, pooled=True)
    out = {}
    for name in names:
        if name == "brier" and hidden:
            out[name] = metric(None, reason=hidden)
            continue
        value = float(values[name][0])
        lost = None if np.isfinite(value) else why_none(outcome, np.flatnonzero(counted))
        out[name] = metric(value, reason=lost)
    return out
