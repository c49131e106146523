"""Beside the held-out measures of a predictor: patient by patient, seeds, subsets and patterns of inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from osml.cohort.cohort import ClassOutcome, Cohort
from osml.cohort.splits import Fold
from osml.runs.extras import ExtraRow
from osml.runs.store import PredictionRow
from osml.schema.model import Schema
from osml.study.judge_ablation import judge_ablation
from osml.study.judge_patients import judge_patients
from osml.study.judge_patterns import judge_patterns
from osml.study.judge_seeds import judge_seeds
from osml.study.judge_sets import judge_sets


def judge_inputs(
    rows: Sequence[PredictionRow],
    extras: Sequence[ExtraRow],
    ablation: Sequence[PredictionRow],
    cohort: Cohort,
    folds: Sequence[Fold],
    schema: Schema,
    hidden: str,
) -> dict[str, Any]:
    """Facts of one ranked predictor; a network has all of them, other kinds only `patients`, of targets with classes.

    Parameters
    ----------
    rows : its predictions
    extras, ablation : of all predictors
    hidden : why measures of probabilities cannot be computed, "" when they can
    """
    name = rows[0].predictor
    out: dict[str, Any] = {}
    if isinstance(cohort.outcome, ClassOutcome):
        out["patients"] = judge_patients(rows, cohort, folds, hidden)
    if name not in schema.networks():
        return out
    told = [extra for extra in extras if extra.predictor == name]
    less = [row for row in ablation if row.predictor.startswith(f"{name}[")]
    out["seeds"] = judge_seeds(told, cohort, folds, schema, hidden)
    out["patterns"] = judge_patterns(told, rows, cohort, folds, hidden)
    out["ablation"] = judge_ablation(rows, less, cohort, folds, schema, hidden)
    sets = judge_sets(told, cohort, schema)
    return out if sets is None else out | {"sets": sets}
