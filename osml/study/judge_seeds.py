"""Networks from independent seeds, each alone: how much the training itself varies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from osml.cohort.cohort import Cohort, Outcome
from osml.cohort.splits import Fold
from osml.runs.extras import ExtraRow
from osml.schema.model import Schema
from osml.study.headline import averaged, measures_of, parts, why_none
from osml.study.judge import metric

WORDS = "spread of the training, not uncertainty about patients"
_SEED = re.compile(r"seed(\d+):(.+)", re.DOTALL)


def judge_seeds(
    extras: Sequence[ExtraRow], cohort: Cohort, folds: Sequence[Fold], schema: Schema, hidden: str
) -> dict[str, Any]:
    """Headline measures of each seed alone, as the judge of the whole predictor computes them.

    Parameters
    ----------
    extras : of one predictor; `seed<k>:<column>` holds what its k-th network predicts
    hidden : why measures of probabilities cannot be computed, "" when they can

    Returns
    -------
    dict
        `measures`: name → value of each seed and their range; or the reason why there is nothing to show.
    """
    outcome = cohort.outcome
    assert outcome is not None
    by_seed: dict[int, list[tuple[int, int, str, str, float, float]]] = {}
    for row in extras:
        match = _SEED.fullmatch(row.name)
        if match:
            cell = (row.repeat, row.fold, row.unit, match[2], row.value, float("nan"))
            by_seed.setdefault(int(match[1]), []).append(cell)
    if len(by_seed) < 2:
        return {"reason": "one network: no spread of the training to show"}
    pooled = schema.validation.split.kind == "leave_one_patient_out"
    found = []
    for _, cells in sorted(by_seed.items()):
        found.append(averaged(parts(cells, _columns(outcome, cells), cohort, folds), outcome, pooled=pooled))
    out: dict[str, Any] = {"seeds": len(found), "words": WORDS, "basis": _basis(pooled, schema), "measures": {}}
    for name in measures_of(outcome):
        if name == "brier" and hidden:
            out["measures"][name] = metric(None, reason=hidden)
            continue
        values = [float(one[name][0]) for one in found]
        if not np.isfinite(values).all():
            out["measures"][name] = metric(None, reason=why_none(outcome, np.arange(len(cohort))))
            continue
        out["measures"][name] = {"values": values, "range": [min(values), max(values)]}
    return out


def _columns(outcome: Outcome, cells: Sequence[tuple[int, int, str, str, float, float]]) -> list[str]:
    tree = getattr(outcome, "tree", None)
    return list(tree.leaves) if tree is not None else list(dict.fromkeys(cell[3] for cell in cells))


def _basis(pooled: bool, schema: Schema) -> str:
    if schema.validation.split.kind in ("holdout", "time"):
        return "the test set"
    return "pooled over patients" if pooled else "within folds, averaged over folds and repeats"
