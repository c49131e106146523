"""One fold of one predictor: fit on its training patients, predict its test patients, store both.

Runs in any process. The training cohort holds no test patient; the test cohort holds no outcome.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from osml.cohort.cohort import Cohort
from osml.cohort.splits import Fold
from osml.files import write_json
from osml.predictors.autogluon import FittedAutogluon
from osml.predictors.chain import Chain, fit_chain
from osml.predictors.contract import NO_INTERVAL, Prediction
from osml.predictors.network import FittedNetwork
from osml.predictors.nomogram import FittedNomogram, with_prevalence
from osml.predictors.radscore import FittedRadscore
from osml.predictors.stack import FittedStack
from osml.predictors.tabular import Tabular
from osml.runs.extras import extra_rows, write_extras
from osml.runs.store import PredictionRow, write_predictions
from osml.schema.model import Schema
from osml.schema.targets import HierarchyTarget, MulticlassTarget, SurvivalTarget
from osml.study.ablation import run_ablation
from osml.study.autogluon import write_fold


@dataclass(frozen=True)
class FoldTask:
    """Everything a worker needs for one fold of one predictor."""

    schema: Schema
    predictor: str
    fold: Fold
    train: Cohort
    test: Cohort
    seed: int
    folder: Path


def run_fold(task: FoldTask) -> float:
    """Fit, predict, store; status.json is written last, so a fold without it is not done. Returns seconds taken."""
    started = time.monotonic()
    seed = (task.seed, task.fold.repeat, task.fold.index)
    chain = fit_chain(task.schema, task.predictor, task.train, seed, work=task.folder / "unfinished")
    chain = adjusted(chain, task.schema)
    prediction = chain.predict(task.test)
    chain.save(task.folder)
    write_predictions(
        task.folder / "predictions.parquet", prediction_rows(prediction, task.predictor, task.fold, task.schema)
    )
    extras = extra_rows(prediction, task.predictor, task.fold)
    if extras:
        write_extras(task.folder / "extras.parquet", extras)
    if isinstance(chain.fitted, FittedAutogluon):
        # Explanations are of the first repeat, as those of networks are.
        explained = task.test if task.fold.repeat == 0 else None
        write_fold(task.folder, chain, task.train, explained, task.seed)
    elif isinstance(chain.fitted, FittedNetwork | Tabular):
        write_training(task.folder / "training.json", task.folder / "search.json", chain.fitted)

    def rows(less: Chain, called: str) -> list[PredictionRow]:
        return prediction_rows(adjusted(less, task.schema).predict(task.test), called, task.fold, task.schema)

    ablation, failed = run_ablation(task.schema, task.predictor, task.train, seed, task.folder, rows)
    if failed:
        write_json(task.folder / "ablation_failed.json", failed)
    if ablation:
        write_predictions(task.folder / "ablation.parquet", ablation)
    shutil.rmtree(task.folder / "unfinished", ignore_errors=True)
    if isinstance(chain.fitted, FittedRadscore):
        write_json(task.folder / "selection.json", chain.fitted.record())
    write_json(task.folder / "status.json", {"state": "done", "train": len(task.train), "test": len(task.test)})
    return time.monotonic() - started


def write_training(training: Path, search: Path, fitted: FittedNetwork | Tabular) -> None:
    """How training went, and where settings were searched for, every trial."""
    record = fitted.record()
    trials = record.pop("search", None)
    write_json(training, record)
    if trials is not None:
        write_json(search, trials)


def final_seed(schema: Schema) -> tuple[int, int, int]:
    """Seed of the fit on all patients; SeedSequence wants non-negative numbers, so it counts as repeat 10^6."""
    return (schema.validation.seed, 1_000_000, 0)


def withheld(schema: Schema) -> str:
    """Why probabilities are not shown; empty when they are."""
    study, target = schema.study, schema.target
    if isinstance(target, MulticlassTarget | HierarchyTarget):
        return ""  # of a sample chosen by class they are stated for equal class shares; see `FittedNetwork`
    if isinstance(target, SurvivalTarget) and target.competing != "none":
        return (
            "absolute risk is withheld: with competing events one Cox model overstates it; see the cumulative incidence"
        )
    if study.sampling != "cohort" and isinstance(target, SurvivalTarget):
        return f"absolute risk is withheld: sampling is {study.sampling}, and no prevalence corrects a Cox baseline"
    if study.sampling == "cohort" or study.prevalence is not None:
        return ""
    return f"probabilities are withheld: sampling is {study.sampling} and no `study.prevalence` is given"


def probabilities_hidden(schema: Schema) -> str:
    """Why measures of probabilities (Brier, intercept) cannot be computed from this sample; empty when they can."""
    reason = withheld(schema)
    if reason or schema.study.sampling == "cohort":
        return reason
    what = "classes" if isinstance(schema.target, MulticlassTarget | HierarchyTarget) else "events"
    kind = "an enriched" if schema.study.sampling == "enriched" else "a case_control"
    return f"not computed: the mix of {what} in {kind} sample is not that of the population"


def adjusted(chain: Chain, schema: Schema) -> Chain:
    """The chain with its intercept moved to the stated prevalence, where the study did not sample a cohort."""
    prevalence = schema.study.prevalence
    if schema.study.sampling == "cohort" or prevalence is None or isinstance(schema.target, SurvivalTarget):
        return chain
    if isinstance(chain.fitted, FittedStack) or (
        isinstance(chain.fitted, FittedNetwork | Tabular) and chain.fitted.target == "binary"
    ):
        return Chain(chain.name, chain.fitted.with_prevalence(prevalence.value), chain.upstream)
    if not isinstance(chain.fitted, FittedNomogram):
        return chain
    return Chain(chain.name, with_prevalence(chain.fitted, prevalence.value), chain.upstream)


def prediction_rows(prediction: Prediction, predictor: str, fold: Fold, schema: Schema) -> list[PredictionRow]:
    """Rows for storage; probabilities are left out where they are withheld."""
    hidden = bool(withheld(schema))
    out = []
    lp = np.broadcast_to(prediction.lp.reshape(len(prediction.units), -1), prediction.p.shape)
    for k, column in enumerate(prediction.columns):
        for i, unit in enumerate(prediction.units):
            low = None if prediction.low is None or hidden else float(prediction.low[i, k])
            high = None if prediction.high is None or hidden else float(prediction.high[i, k])
            out.append(
                PredictionRow(
                    predictor, fold.repeat, fold.index, unit, prediction.patients[i], column,
                    float("nan") if hidden else float(prediction.p[i, k]), float(lp[i, k]), low, high,
                    NO_INTERVAL if hidden else prediction.interval,
                )
            )  # fmt: skip
    return out
