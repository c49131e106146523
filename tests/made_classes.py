"""Cohorts of classes and their stored predictions, made up: for tests of judging and of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from osml.cohort.cohort import ClassOutcome, Cohort
from osml.cohort.splits import Fold
from osml.evaluation.tree import node_probabilities
from osml.runs.store import PredictionRow
from osml.schema.model import Schema
from osml.stats.tree import LabelTree, label_tree

TREE = label_tree(["non_tumor", {"tumor": ["non_viable", "viable"]}])
FLAT = label_tree(["a", "b", "c"])


def class_cohort(labels: Sequence[str], patients: Sequence[str], tree: LabelTree = TREE, **more: Any) -> Cohort:
    """One unit per label; several rows of a patient make a cohort of rows."""
    n = len(labels)
    per_row = len(set(patients)) < n
    units = tuple(f"u{i}" for i in range(n)) if per_row else tuple(patients)
    outcome = ClassOutcome(tree.positions(list(labels)), tree)
    empty: Mapping[str, Any] = {}
    return Cohort(
        units=units, patients=tuple(patients), copies=np.zeros(n, dtype=np.intp), outcome=outcome, per_row=per_row,
        **{"values": empty, "kit": empty, "keys": empty, **more},
    )  # fmt: skip


def guesses(cohort: Cohort, skill: float, seed: int = 0) -> np.ndarray:
    """Leaf probabilities (n, leaves) that lean towards the truth by `skill`; a partial label leans to its leaves."""
    outcome = cohort.outcome
    assert isinstance(outcome, ClassOutcome)
    tree = outcome.tree
    at = [tree.nodes.index(name) for name in tree.leaves]
    true = tree.lineage[at][:, outcome.node].T.astype(float)
    raw = np.random.default_rng(seed).gamma(1.0, size=true.shape) + skill * true
    return raw / raw.sum(axis=1, keepdims=True)


def class_rows(
    cohort: Cohort, folds: Sequence[Fold], p: np.ndarray | Sequence[np.ndarray], name: str = "net"
) -> list[PredictionRow]:
    """Stored rows of leaf probabilities `p` (n, leaves), one array for all repeats or one a repeat."""
    outcome = cohort.outcome
    assert isinstance(outcome, ClassOutcome)
    rows = []
    for fold in folds:
        leaves = p if isinstance(p, np.ndarray) else p[fold.repeat]
        nodes = node_probabilities(outcome.tree, leaves)
        for k, column in enumerate(outcome.tree.nodes):
            for i, patient in enumerate(cohort.patients):
                if patient in fold.test:
                    value = float(nodes[i, k])
                    lp = float(np.log(value)) if value > 0 else -np.inf
                    unit = cohort.units[i]
                    rows.append(
                        PredictionRow(
                            name, fold.repeat, fold.index, unit, patient, column, value, lp, None, None, "none"
                        )
                    )
    return rows


def patient_folds(cohort: Cohort) -> list[Fold]:
    """Leave one patient out."""
    ids = cohort.patient_ids
    return [Fold(0, k, tuple(p for p in ids if p != one), (one,)) for k, one in enumerate(ids)]


def dealt_folds(cohort: Cohort, folds: int, repeats: int = 1, seed: int = 0) -> list[Fold]:
    """Patients dealt into folds at random."""
    ids = np.array(cohort.patient_ids, dtype=object)
    out = []
    for r in range(repeats):
        place = np.random.default_rng([seed, r]).permutation(len(ids)) % folds
        out += [Fold(r, k, tuple(ids[place != k]), tuple(ids[place == k])) for k in range(folds)]
    return out


def class_schema(split: Mapping[str, Any], *, sampling: str = "cohort", kind: str = "hierarchy") -> Schema:
    """A study of tiles: one network, classes as a tree or flat."""
    tree = ["non_tumor", {"tumor": ["non_viable", "viable"]}]
    target = (
        {"kind": "hierarchy", "column": "tissue", "tree": tree, "partial": {"mixed": "tumor"}}
        if kind == "hierarchy"
        else {"kind": "multiclass", "column": "tissue", "classes": list(FLAT.leaves)}
    )
    return Schema.model_validate(
        {
            "version": 1, "name": "classes", "study": {"sampling": sampling}, "time_of_prediction": "now",
            "times": ["now"], "cohort": {"table": "table.csv", "patient": "patient", "row": "tile"}, "target": target,
            "inputs": {
                "tile": {"kind": "image", "available": "now"},
                "age": {"kind": "number", "available": "now"},
            },
            "predictors": {"net": {"kind": "network", "inputs": ["tile", "age"]}},
            "validation": {"split": dict(split), "seed": 7},
        }
    )  # fmt: skip
