"""What pooled leave-one-patient-out discrimination is worth when there is nothing to find.

Leaving a patient out shifts the rest of the labels against that patient, so noise averages below one half on pooled
scores. The mean over permutations of the labels, the whole pipeline run again, is the value to compare with.
"""

from __future__ import annotations

import numpy as np

from osml.cohort.cohort import Cohort, SurvivalOutcome
from osml.cohort.splits import derive_seed, make_folds
from osml.errors import NotEstimableError
from osml.evaluation.concordance import harrell_c
from osml.evaluation.discrimination import auc
from osml.predictors.chain import fit_chain
from osml.schema.model import LeaveOnePatientOut, Schema
from osml.study.leakage import permute_outcomes

PERMUTATIONS = 20
BOOTSTRAPS = 25


def pooled_discrimination(cohort: Cohort, units: list[str], lp: list[float]) -> float:
    """AUC (survival: Harrell's C) of out-of-fold scores pooled over all folds; NaN when it does not exist."""
    position = {unit: i for i, unit in enumerate(cohort.units)}
    index = np.array([position[u] for u in units], dtype=np.intp)
    outcome = cohort.event_outcome.take(index)
    try:
        if isinstance(outcome, SurvivalOutcome):
            return harrell_c(outcome.time, outcome.event, np.array(lp)).value
        return auc(outcome.y, np.array(lp))
    except NotEstimableError:
        return float("nan")


def lean(schema: Schema) -> Schema:
    """The same pipeline with fewer bootstraps for its shrinkage. It cannot be left out here: every fold shrinks by
    another factor, which moves pooled scores against each other."""
    data = schema.model_dump(mode="json")
    data["validation"]["optimism"] = {"predictors": [], "bootstraps": BOOTSTRAPS}
    return Schema.model_validate(data)


def pooled_null_mean(schema: Schema, name: str, cohort: Cohort) -> tuple[float, int]:
    """Mean pooled leave-one-patient-out discrimination over permuted labels, and how many permutations count."""
    schema = lean(schema)
    values = []
    for number in range(PERMUTATIONS):
        rng = np.random.default_rng(derive_seed(schema.validation.seed, number, 0, "null"))
        permuted = permute_outcomes(cohort, rng)
        units: list[str] = []
        lp: list[float] = []
        try:
            for fold in make_folds(permuted, LeaveOnePatientOut(kind="leave_one_patient_out"), 0):
                chain = fit_chain(schema, name, permuted.of(fold.train), (schema.validation.seed, 0, fold.index))
                prediction = chain.predict(permuted.of(fold.test))
                units += prediction.units
                lp += prediction.lp.tolist()
        except NotEstimableError:
            continue
        values.append(pooled_discrimination(permuted, units, lp))
    good = [v for v in values if np.isfinite(v)]
    return (float(np.mean(good)) if good else float("nan")), len(good)
