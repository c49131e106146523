"""Results patient by patient, for few patients with many rows: values and their range, no interval and no test.

Patients are numbered in the order of the table; no id is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from osml.cohort.cohort import Cohort
from osml.cohort.splits import Fold
from osml.evaluation.class_measures import class_measures
from osml.runs.class_sets import ClassSet, class_sets, measured
from osml.runs.store import PredictionRow

FEW_IN_TRAINING = 10  # rows of a class below which a fold says little about it
MEASURES = ("accuracy", "macro_f1", "hierarchical_f1", "log_loss")


def aliases(cohort: Cohort) -> dict[str, str]:
    """Patient id → "patient 1", … in the order of the table."""
    return {patient: f"patient {k + 1}" for k, patient in enumerate(cohort.patient_ids)}


def judge_patients(rows: Sequence[PredictionRow], cohort: Cohort, folds: Sequence[Fold], hidden: str) -> dict[str, Any]:
    """One entry per patient on that patient's own rows, by models that had not seen the patient.

    Returns
    -------
    dict
        `table`: patient, rows, partial, classes, training (rows per class of the training patients), accuracy,
        macro_f1 (over the classes present, `absent` names the others), auc per class (None where the patient has one
        class only), hierarchical_f1, log_loss; means over repeats. `range`: smallest and largest value of each.
    """
    if len(cohort.patient_ids) == len(cohort):
        return {"reason": "one row per patient: a patient is right or wrong; see the pooled values"}
    sets = class_sets(rows, cohort, folds)
    names = aliases(cohort)
    by_patient: dict[str, list[ClassSet]] = {patient: [] for patient in cohort.patient_ids}
    for s in sets:
        for patient in dict.fromkeys(s.patients):
            by_patient[patient].append(s.take(s.patients == patient))
    table = [_entry(names[patient], found, cohort, hidden) for patient, found in by_patient.items() if found]
    spans: dict[str, list[float]] = {}
    for name in MEASURES:
        values = [entry[name] for entry in table if entry.get(name) is not None]
        if values:
            spans[name] = [min(values), max(values)]
    return {"table": table, "range": spans}


def _entry(alias: str, repeats: Sequence[ClassSet], cohort: Cohort, hidden: str) -> dict[str, Any]:
    first = repeats[0]
    leaves = first.tree.leaves
    counts = {name: int((first.y == k).sum()) for k, name in enumerate(leaves)}
    out: dict[str, Any] = {
        "patient": alias,
        "rows": len(first),
        "partial": int((~first.full).sum()),
        "classes": counts,
        "absent": [name for name, n in counts.items() if not n],
        "training": _training(first, cohort),
    }
    out["few_in_training"] = [name for name, n in out["training"].items() if n < FEW_IN_TRAINING]
    scores = [_scores(s) for s in repeats]
    for name in MEASURES:
        if (name == "log_loss" and hidden) or (name == "hierarchical_f1" and not first.tree.inner):
            continue
        out[name] = _mean([one[name] for one in scores])
    out["auc"] = {name: _mean([one["auc"][k] for one in scores]) for k, name in enumerate(leaves)}
    return out


def _scores(s: ClassSet) -> dict[str, Any]:
    keep = s.full
    tree = float(measured(s)[("tree", "f1")][0]) if s.tree.inner else np.nan
    if not keep.any():
        nothing = dict.fromkeys(("accuracy", "macro_f1", "log_loss"), np.nan)
        return {**nothing, "hierarchical_f1": tree, "auc": [np.nan] * len(s.tree.leaves)}
    found = class_measures(s.y[keep], s.p_leaves[keep])
    return {
        "accuracy": found.overall["accuracy"][0],
        "macro_f1": np.nanmean(found.each["f1"][0]),
        "hierarchical_f1": tree,
        "log_loss": found.overall["log_loss"][0],
        "auc": found.each["auc"][0],
    }


def _training(s: ClassSet, cohort: Cohort) -> dict[str, int]:
    """Rows of each class among the training patients of the fold."""
    outcome = cohort.outcome
    train = set(s.folds[0].train)
    inside = np.array([p in train for p in cohort.patients])
    nodes = outcome.node[inside]  # type: ignore[union-attr]
    return {name: int((nodes == s.tree.nodes.index(name)).sum()) for name in s.tree.leaves}


def _mean(values: Sequence[float]) -> float | None:
    good = [float(v) for v in values if np.isfinite(v)]
    return float(np.mean(good)) if good else None
