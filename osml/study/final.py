"""After the folds: models on all patients, their metrics, the nomograms, the leaderboard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from osml.codes import BY_CODE, Finding
from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort
from osml.cohort.splits import Fold, derive_seed, development_patients, patient_classes
from osml.errors import OsmlError
from osml.files import write_csv, write_json
from osml.predictors.chain import Chain, training_design
from osml.predictors.contract import Design
from osml.predictors.nomogram import Development
from osml.predictors.nomogram import develop as develop_nomogram
from osml.predictors.recipe import recipe_of
from osml.runs.directory import RunDirectory
from osml.runs.extras import read_extras
from osml.runs.store import PredictionRow, read_predictions
from osml.schema.load import LoadedSchema
from osml.schema.model import NomogramPredictor
from osml.study.compare import compare_classes, compare_folds, compare_test_set
from osml.study.decision import decision_binary
from osml.study.judge import collect, flat, judge_binary, judge_development
from osml.study.judge_classes import judge_classes
from osml.study.judge_inputs import judge_inputs
from osml.study.judge_survival import judge_survival, judge_survival_development
from osml.study.late_checks import late_findings
from osml.study.model_checks import candidate_parameters
from osml.study.network import develop_network
from osml.study.null import pooled_discrimination, pooled_null_mean
from osml.study.prepare import write_findings
from osml.study.publish import publish
from osml.study.radscore import develop_radscore
from osml.study.sheet import draw_sheet
from osml.study.table_two import write_table_two
from osml.study.tables import write_regression, write_tables
from osml.study.tasks import adjusted, final_seed, probabilities_hidden, withheld

Say = Callable[[str], None]


def finish(
    loaded: LoadedSchema,
    cohort: Cohort,
    folds: Sequence[Fold],
    rows: Sequence[PredictionRow],
    findings: Sequence[Finding],
    run: RunDirectory,
    say: Say,
) -> tuple[dict[str, Any], set[str]]:
    """Fit every predictor for deployment, judge it, draw it; returns metrics and the names of those that failed."""
    schema = loaded.schema
    predictors: dict[str, Any] = {}
    chains: dict[str, tuple[Chain, Design]] = {}
    failed: set[str] = set()
    lines = []
    late: list[Finding] = []
    write_tables(schema, cohort, run.path / "tables", schema.validation.seed)
    write_table_two(schema, cohort, folds, run.path / "tables")
    developed = cohort.of(development_patients(cohort, folds, schema.validation.split))
    extras = read_extras(run.path / "extras.parquet")
    stored = run.path / "ablation.parquet"
    less = read_predictions(stored) if stored.is_file() else []
    for name in schema.predictors:
        mine = [row for row in rows if row.predictor == name]
        facts = _honest(loaded, cohort, folds, mine)
        if not facts["failed_folds"]:
            facts |= judge_inputs(mine, extras, less, cohort, folds, schema, probabilities_hidden(schema))
        drawn = isinstance(schema.predictors[name], NomogramPredictor)
        try:
            if drawn:
                development, chain = _develop(loaded, name, developed)
            else:
                develop = develop_radscore if schema.predictors[name].kind == "radscore" else develop_network
                chain, found = develop(loaded, name, developed, run.path)
                chains[name] = chain, Design(developed)
        except OsmlError as error:
            failed.add(name)
            facts["final"] = {"failed": error.what}
            predictors[name] = facts
            say(f"failed    {name} on all development patients: {error.what}")
            continue
        if not drawn:
            predictors[name] = facts | found
            lines.append(_row(name, predictors[name]))
            continue
        facts |= _development_facts(loaded, name, developed, development)
        late += late_findings(name, development, facts)
        reason = write_regression(development.fitted.recipe, development.design, run.path / "tables")
        if reason:
            facts["regression_tables"] = {"reason": reason}
        chains[name] = chain, development.design
        facts["nomogram"] = draw_sheet(loaded, name, chain, development, developed, facts, [*findings, *late], run)
        predictors[name] = facts
        lines.append(_row(name, facts))
    for finding in late:
        say(f"check     {finding.code} {BY_CODE[finding.code].severity}: {finding.subject}: {finding.evidence}")
    write_findings(run.path, loaded, [*findings, *late])
    metrics = _metrics(loaded, cohort, folds, [*findings, *late], predictors)
    metrics["comparisons"] = _comparisons(loaded, cohort, folds, rows, predictors)
    write_json(run.path / "metrics.json", metrics)
    publish(loaded, run, chains, metrics)
    write_csv(run.path / "leaderboard.csv", _header(cohort), lines)
    return metrics, failed


def _honest(
    loaded: LoadedSchema, cohort: Cohort, folds: Sequence[Fold], rows: Sequence[PredictionRow]
) -> dict[str, Any]:
    """Out-of-fold metrics; null with the reason when a fold failed, since a mean over the easy folds would flatter."""
    done = {(r.repeat, r.fold) for r in rows}
    facts: dict[str, Any] = {"folds": len(done), "failed_folds": len(folds) - len(done)}
    if len(done) < len(folds):
        facts["out_of_fold"] = {"reason": f"not ranked: {len(folds) - len(done)} of {len(folds)} folds failed"}
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
    mean, permutations = pooled_null_mean(loaded.schema, rows[0].predictor, cohort)
    honest["auc" if "auc" in honest else "c"] |= {
        "pooled": pooled if np.isfinite(pooled) else None,
        "permutation_mean": mean if np.isfinite(mean) else None,
        "permutations": permutations,
        "note": "each fold is another scale; compare the pooled value with its permutation mean, not with 0.5",
    }


def _develop(loaded: LoadedSchema, name: str, cohort: Cohort) -> tuple[Development, Chain]:
    schema = loaded.schema
    seed = final_seed(schema)
    design, links = training_design(schema, name, cohort, seed)
    optimism = schema.validation.optimism
    wanted = optimism is not None and name in optimism.predictors
    development = develop_nomogram(
        recipe_of(schema, name), design, derive_seed(*seed, name), final=True, bootstrap=wanted
    )
    return development, adjusted(Chain(name, development.fitted, links), schema)


def _development_facts(loaded: LoadedSchema, name: str, cohort: Cohort, development: Development) -> dict[str, Any]:
    optimism = loaded.schema.validation.optimism
    corrected = optimism is not None and name in optimism.predictors
    outcome = cohort.outcome
    parameters = candidate_parameters(loaded.schema, name)
    if isinstance(outcome, BinaryOutcome):
        facts = judge_development(development, cohort, corrected, probabilities_hidden(loaded.schema), parameters)
    else:
        assert outcome is not None
        facts = judge_survival_development(development, cohort, corrected)
    slope = development.fitted.slope
    facts["shrinkage"] = {
        "kind": development.fitted.recipe.shrink,
        "slope": slope.value,
        "source": slope.source,
        "bootstraps": slope.replicates,
        "not_estimable": slope.failed,
    }
    facts["candidate_parameters"] = parameters
    facts["development"] = {
        "patients": len(cohort.patient_ids),
        "rows": len(cohort),
        "events": int(patient_classes(cohort).sum()),
    }
    facts["selected"] = dict(development.fitted.selected)
    return facts


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
