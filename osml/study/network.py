"""Networks, tabular learners and stacks on all development patients: how they were made and look there."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from osml.cohort.cohort import ClassOutcome, Cohort
from osml.cohort.splits import patient_classes
from osml.predictors.autogluon import FittedAutogluon
from osml.predictors.boosting import FittedBoosting
from osml.predictors.chain import Chain, fit_chain
from osml.predictors.network import FittedNetwork
from osml.predictors.stack import FittedStack
from osml.predictors.tabular import Tabular
from osml.schema.load import LoadedSchema
from osml.study.autogluon import autogluon_facts, write_final
from osml.study.judge import metric
from osml.study.radscore import apparent_facts
from osml.study.search import search_facts
from osml.study.tasks import adjusted, final_seed, write_training


def develop_network(loaded: LoadedSchema, name: str, cohort: Cohort, run: Path) -> tuple[Chain, dict[str, Any]]:
    """Fit a network, tabular learner or stack for deployment.

    Returns its facts for metrics.json; how it was trained stands under `training/`.
    """
    schema = loaded.schema
    work = run / "unfinished" / name
    chain = adjusted(fit_chain(schema, name, cohort, final_seed(schema), final=True, work=work), schema)
    shutil.rmtree(work, ignore_errors=True)
    events = isinstance(cohort.outcome, ClassOutcome)
    facts: dict[str, Any] = {
        "apparent": _apparent(chain, cohort),
        "development": {
            "patients": len(cohort.patient_ids),
            "rows": len(cohort),
            "events": None if events else int(patient_classes(cohort).sum()),
        },
        "nomogram": {"drawn": False, "reason": "a nomogram draws a regression; this predictor is none"},
    }
    fitted = chain.fitted
    if isinstance(fitted, FittedAutogluon):
        write_final(run, fitted)
        facts["autogluon"] = autogluon_facts(run, fitted)
    elif isinstance(fitted, FittedNetwork | Tabular):
        write_training(run / "training" / f"{name}.json", run / "training" / f"{name}_search.json", fitted)
    if (searched := search_facts(run, name)) is not None:
        facts["search"] = searched
    if isinstance(fitted, FittedBoosting):
        facts["boosting"] = boosting_facts(fitted)
    if isinstance(fitted, FittedNetwork):
        facts["network"] = {
            "inputs": list(loaded.schema.networks()[name].inputs),
            "fusion": fitted.recipe.fusion,
            "encoders": {
                image: {
                    "model": record.weights["model"],
                    "tune": record.settings["tune"],
                    **(record.embedding or {}),
                }
                for image, record in fitted.encoders.items()
            },
            "seeds": len(fitted.networks),
            "epochs": list(fitted.epochs),
            "calibration": {"kind": fitted.calibration.kind, "reason": fitted.calibration.reason},
            "abstain": None if fitted.sets is None else fitted.sets.miss,
        }
    if isinstance(fitted, FittedStack):
        facts["stack"] = {"weights": dict(zip(fitted.names, fitted.weights, strict=True))}
    return chain, facts


def boosting_facts(fitted: FittedBoosting) -> dict[str, Any]:
    """How the trees were made, and what they look at."""
    gain = fitted.model.feature_importance("gain")
    whole = float(gain.sum())
    return {
        "inputs": list(fitted.spec.inputs),
        "columns": len(fitted.spec.columns),
        "used": len(fitted.used),
        "rounds": fitted.rounds,
        "settings": asdict(fitted.settings),
        "calibration": {"kind": fitted.calibration.kind, "reason": fitted.calibration.reason},
        "encoders": {image: record.weights["model"] for image, record in fitted.spec.encoders.items()},
        "gain": {
            item: float(gain[fitted.spec.places(item)].sum()) / whole if whole else 0.0 for item in fitted.spec.inputs
        },
    }


def _apparent(chain: Chain, cohort: Cohort) -> dict[str, Any]:
    """On the patients it was trained on: always too good."""
    prediction = chain.predict(cohort)
    outcome = cohort.outcome
    if not isinstance(outcome, ClassOutcome):
        return apparent_facts(cohort, prediction.p, prediction.lp)
    from osml.evaluation.multiclass import multiclass

    leaves = outcome.tree.leaves
    rows = np.flatnonzero(outcome.full)
    place = {leaf: k for k, leaf in enumerate(leaves)}
    y = np.array([place[outcome.labels[i]] for i in rows], dtype=np.intp)
    p = prediction.p[rows][:, [prediction.columns.index(leaf) for leaf in leaves]]
    found = multiclass(y, p / p.sum(axis=1, keepdims=True), leaves)
    return {
        "accuracy": metric(found.accuracy),
        "macro_f1": metric(found.macro_f1),
        "macro_auc": metric(found.macro_auc),
    }
