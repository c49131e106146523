"""After the folds: models on all patients, their metrics, the nomograms, the leaderboard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from osml.codes import BY_CODE, Finding
from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort
from osml.cohort.splits import Fold, development_patients
from osml.engine import run_tasks
from osml.errors import OutOfTimeError
from osml.files import write_csv, write_json
from osml.nets.device import gpu_share
from osml.predictors.chain import Chain
from osml.predictors.contract import Design
from osml.runs.directory import RunDirectory
from osml.runs.extras import read_extras
from osml.runs.store import PredictionRow, read_predictions
from osml.schema.autogluon import AutogluonPredictor
from osml.schema.load import LoadedSchema
from osml.schema.model import Schema
from osml.study.adds import adds
from osml.study.autogluon import fold_facts
from osml.study.compare import compare_classes, compare_folds, compare_test_set
from osml.study.decision import decision_binary
from osml.study.develop import Developed, DevelopTask, develop
from osml.study.failures import Failure
from osml.study.judge import collect, flat, judge_binary
from osml.study.judge_classes import judge_classes
from osml.study.judge_inputs import judge_inputs
from osml.study.judge_survival import judge_survival
from osml.study.late_checks import late_findings
from osml.study.leaderboard import with_choice
from osml.study.null import pooled_discrimination, pooled_null_mean
from osml.study.prepare import write_findings
from osml.study.publish import publish
from osml.study.select import select
from osml.study.sheet import draw_sheet
from osml.study.table_two import write_table_two
from osml.study.tables import write_tables
from osml.study.tasks import probabilities_hidden, withheld

Say = Callable[[str], None]


@dataclass(frozen=True)
class Finished:
    """What came of the final stage.

    failed : predictor → its failure on all development patients
    out_of_time : predictor → why it has no final model although one was wanted
    """

    metrics: dict[str, Any]
    failed: dict[str, Failure]
    out_of_time: dict[str, str]


def finish(
    loaded: LoadedSchema,
    cohort: Cohort,
    folds: Sequence[Fold],
    rows: Sequence[PredictionRow],
    findings: Sequence[Finding],
    run: RunDirectory,
    say: Say,
    *,
    unranked: Mapping[str, str] | None = None,
    fold_failures: Sequence[Failure] = (),
    plan: Mapping[str, Any] | None = None,
    deadline: float | None = None,
    workers: int | None = None,
) -> Finished:
    """Judge every predictor, fit those that are deployed to all development patients, draw and publish them.

    Parameters
    ----------
    unranked : predictor → why some of its folds were not run, for those that ran out of time
    fold_failures : of the folds, which stand beside those of this stage
    plan : what metrics.json keeps of the plan that the run follows
    deadline : of `time.monotonic`, for the final models; those that are not ready have none
    """
    schema = loaded.schema
    write_tables(schema, cohort, run.path / "tables", schema.validation.seed)
    write_table_two(schema, cohort, folds, run.path / "tables")
    developed = cohort.of(development_patients(cohort, folds, schema.validation.split))
    extras = read_extras(run.path / "extras.parquet")
    stored = run.path / "ablation.parquet"
    less = read_predictions(stored) if stored.is_file() else []
    predictors: dict[str, Any] = {}
    for name in schema.predictors:
        mine = [row for row in rows if row.predictor == name]
        predictors[name] = _honest(loaded, cohort, folds, mine, (unranked or {}).get(name, ""))
        if not predictors[name]["failed_folds"]:
            predictors[name] |= judge_inputs(mine, extras, less, cohort, folds, schema, probabilities_hidden(schema))
        if isinstance(schema.predictors[name], AutogluonPredictor):
            told = fold_facts(run.path, name)
            predictors[name] |= {} if told is None else {"autogluon": told}
    selection = select(schema, cohort, folds, rows, predictors)
    wanted, spared = deployed(schema, predictors, selection, planned=plan is not None)
    for name, reason in spared.items():
        predictors[name]["final"] = {"skipped": reason}
    late_ones: dict[str, str] = {}
    chains: dict[str, tuple[Chain, Design]] = {}
    failed: dict[str, Failure] = {}
    late: list[Finding] = []
    # A study without the model that it chose is none: under a limit that one is fitted first, whatever the clock says.
    winner = (selection or {}).get("winner")
    if deadline is not None:
        wanted.sort(key=lambda name: name != winner)
    sure = int(deadline is not None and wanted[:1] == [winner])
    tasks = [DevelopTask(loaded, name, developed, run.path) for name in wanted]
    gpus = gpu_share() if schema.networks() else 0.0
    outcomes = [*run_tasks(develop, tasks[:sure], workers=workers, gpus=gpus)]
    for other in run_tasks(develop, tasks[sure:], workers=workers, deadline=deadline, gpus=gpus):
        outcomes.append(replace(other, index=other.index + sure))
    for outcome in sorted(outcomes, key=lambda o: o.index):
        name = wanted[outcome.index]
        facts = predictors[name]
        if isinstance(outcome.error, OutOfTimeError):
            late_ones[name] = "the time limit ended its final fit"
            facts["final"] = {"skipped": late_ones[name]}
            say(f"skipped   {name}: the time limit ended its final fit")
            continue
        if outcome.error is not None:
            failed[name] = Failure.of(name, "final", outcome)
            facts["final"] = {"failed": failed[name].message}
            say(f"failed    {name} on all development patients: {failed[name].message}")
            continue
        done: Developed = outcome.result
        facts |= done.facts
        chains[name] = done.chain, done.design
        if done.development is not None:
            late += late_findings(name, done.development, facts)
            facts["nomogram"] = draw_sheet(
                loaded, name, done.chain, done.development, developed, facts, [*findings, *late], run
            )
    lines = [_row(name, facts) for name, facts in predictors.items()]
    for finding in late:
        say(f"check     {finding.code} {BY_CODE[finding.code].severity}: {finding.subject}: {finding.evidence}")
    write_findings(run.path, loaded, [*findings, *late])
    metrics = _metrics(loaded, cohort, folds, [*findings, *late], predictors)
    metrics["failures"] = [failure.record() for failure in (*fold_failures, *failed.values())]
    if plan is not None:
        metrics["plan"] = {**plan, "followed": not plan["edited"] and not plan["changes"]}
    metrics["comparisons"] = _comparisons(loaded, cohort, folds, rows, predictors)
    if selection is not None:
        metrics["selection"] = selection
    if schema.report.adds:
        metrics["adds"] = adds(schema, cohort, folds, rows, predictors)
    write_json(run.path / "metrics.json", metrics)
    publish(loaded, run, {name: chains[name] for name in schema.predictors if name in chains}, metrics, rows)
    write_csv(run.path / "leaderboard.csv", *with_choice(_header(cohort), lines, selection))
    return Finished(metrics, failed, late_ones)


def deployed(
    schema: Schema, predictors: Mapping[str, Any], selection: Mapping[str, Any] | None, *, planned: bool
) -> tuple[list[str], dict[str, str]]:
    """Predictors that get a final model, in the schema's order, and why the others do not.

    Of a plan's candidates the chosen one and the regressions, which are what a clinic can draw and compare with, and
    what feeds these: a model that was not chosen is not deployed by having been tried.
    """
    names = list(schema.predictors)
    if not planned:
        return names, {}
    whole = [name for name in names if not predictors[name]["failed_folds"]]
    winner = (selection or {}).get("winner")
    kept = [name for name in whole if name == winner or name in schema.nomograms()]
    wanted = set(schema.lineage(kept if winner or kept else whole))
    reasons = {name: "not all its folds are there" for name in names if name not in whole}
    why = f"validated only: {winner} was chosen" if winner else "validated only: nothing was chosen"
    reasons |= {name: why for name in whole if name not in wanted}
    return [name for name in names if name in wanted], {n: r for n, r in reasons.items() if n not in wanted}


def _honest(
    loaded: LoadedSchema, cohort: Cohort, folds: Sequence[Fold], rows: Sequence[PredictionRow], unranked: str
) -> dict[str, Any]:
    """Out-of-fold metrics; null with the reason when a fold failed, since a mean over the easy folds would flatter."""
    done = {(r.repeat, r.fold) for r in rows}
    facts: dict[str, Any] = {"folds": len(done), "failed_folds": len(folds) - len(done)}
    if len(done) < len(folds):
        why = unranked or f"{len(folds) - len(done)} of {len(folds)} folds failed"
        facts["out_of_fold"] = {"reason": f"not ranked: {why}"}
        return facts
    schema = loaded.schema
    kind, seed = schema.validation.split.kind, schema.validation.seed
    if isinstance(cohort.outcome, BinaryOutcome):
        sets = collect(rows, cohort, folds)
        facts["out_of_fold"] = judge_binary(sets, kind, seed, probabilities_hidden(schema))
        facts["out_of_fold"]["decision"] = decision_binary(schema, sets, withheld(schema), seed)
    elif isinstance(cohort.outcome, ClassOutcome):
        facts["out_of_fold"] = judge_classes(rows, cohort, folds, schema, probabilities_hidden(schema))
    else:
        facts["out_of_fold"] = judge_survival(rows, cohort, folds, schema, withheld(schema))
    if kind == "leave_one_patient_out" and not isinstance(cohort.outcome, ClassOutcome):
        _add_pooled(loaded, cohort, rows, facts["out_of_fold"])
    return facts


def _add_pooled(loaded: LoadedSchema, cohort: Cohort, rows: Sequence[PredictionRow], honest: dict[str, Any]) -> None:
    """Pooled leave-one-patient-out discrimination, secondary, beside what noise gives."""
    first = [row for row in rows if row.column == rows[0].column]
    pooled = pooled_discrimination(cohort, [row.unit for row in first], [row.lp for row in first])
    schema, name = loaded.schema, rows[0].predictor
    note = "each fold is another scale; compare the pooled value with its permutation mean, not with 0.5"
    if any(isinstance(schema.predictors[one], AutogluonPredictor) for one in schema.lineage([name])):
        # A fit for every patient of every permutation: hours, for a value that is secondary.
        mean, permutations = float("nan"), 0
        note = "each fold is another scale: noise does not give 0.5; its permutation mean is not computed for AutoGluon"
    else:
        mean, permutations = pooled_null_mean(schema, name, cohort)
    honest["auc" if "auc" in honest else "c"] |= {
        "pooled": pooled if np.isfinite(pooled) else None,
        "permutation_mean": mean if np.isfinite(mean) else None,
        "permutations": permutations,
        "note": note,
    }


def _comparisons(
    loaded: LoadedSchema,
    cohort: Cohort,
    folds: Sequence[Fold],
    rows: Sequence[PredictionRow],
    predictors: dict[str, Any],
) -> list[dict[str, Any]]:
    """Differences between the predictors of `report.compare`, over the same folds or on the one test set."""
    schema = loaded.schema
    names = schema.report.compare
    if len(names) < 2:
        return []
    binary = isinstance(cohort.outcome, BinaryOutcome)
    ranked = [name for name in names if not predictors[name]["failed_folds"]]
    if isinstance(cohort.outcome, ClassOutcome):
        found = {name: predictors[name] for name in ranked}
        return compare_classes(names, found, folds, len(cohort.patient_ids), schema.validation.split.kind)
    if binary and schema.validation.split.kind in ("holdout", "time"):
        sets = {name: collect([r for r in rows if r.predictor == name], cohort, folds)[0] for name in ranked}
        return compare_test_set(names, sets)
    measure = "auc" if binary else "c"
    values = {
        name: {fold["fold"]: fold["value"] for fold in predictors[name]["out_of_fold"][measure].get("folds", ())}
        for name in ranked
    }
    return compare_folds(names, measure, values, folds, len(cohort.patient_ids))


def _header(cohort: Cohort) -> tuple[str, ...]:
    """Columns of leaderboard.csv, as `_row` fills them."""
    if isinstance(cohort.outcome, ClassOutcome):
        return ("predictor", "macro_f1", "accuracy", "macro_auc", "apparent_macro_f1", "folds", "failed_folds")
    key = "auc" if isinstance(cohort.outcome, BinaryOutcome) else "c"
    return ("predictor", key, f"{key}_low", f"{key}_high", "brier", "slope", f"apparent_{key}", "folds", "failed_folds")


def _row(name: str, facts: dict[str, Any]) -> tuple[Any, ...]:
    if "macro_f1" in facts.get("out_of_fold", {}):
        names = ("macro_f1", "accuracy", "macro_auc")
        place = ("out_of_fold",) if flat(facts, "out_of_fold", "macro_f1") is not None else ("out_of_fold", "pooled")
        honest = [flat(facts, *place, key) for key in names]
        return (name, *honest, flat(facts, "apparent", "macro_f1"), facts["folds"], facts["failed_folds"])
    key = "auc" if "auc" in facts.get("out_of_fold", {}) else "c"
    area = facts.get("out_of_fold", {}).get(key, {})
    return (
        name, area.get("value"), area.get("low"), area.get("high"),
        flat(facts, "out_of_fold", "brier"), flat(facts, "out_of_fold", "slope"), flat(facts, "apparent", key),
        facts["folds"], facts["failed_folds"],
    )  # fmt: skip


def _metrics(
    loaded: LoadedSchema, cohort: Cohort, folds: Sequence[Fold], findings: Sequence[Finding], predictors: dict[str, Any]
) -> dict[str, Any]:
    outcome = cohort.outcome
    assert outcome is not None
    schema = loaded.schema
    accepted = {f.code: schema.checks.accept[f.code] for f in findings if f.code in schema.checks.accept}
    return {
        "study": schema.name,
        "synthetic": schema.study.synthetic,
        "target": schema.target.kind,
        "n": len(cohort),
        "patients": len(cohort.patient_ids),
        "events": None if isinstance(outcome, ClassOutcome) else int(cohort.event_outcome.event.sum()),
        "outcomes": {name: int(units.sum()) for name, units in cohort.outcome_groups().items()},
        "sampling": schema.study.sampling,
        "prevalence": None if schema.study.prevalence is None else schema.study.prevalence.model_dump(),
        "split": schema.validation.split.model_dump(),
        "folds": len(folds),
        "checks": [{"code": f.code, "title": BY_CODE[f.code].title, "subject": f.subject} for f in findings],
        "accepted": accepted,
        "predictors": predictors,
    }
