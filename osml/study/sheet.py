"""The nomogram of a fitted predictor: axes from training values, facts for the sheet, files, or the reason for none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import osml
from osml.codes import BY_CODE, Finding
from osml.cohort.cohort import BinaryOutcome, Cohort, SurvivalOutcome
from osml.cohort.splits import patient_classes
from osml.cohort.units import other_units
from osml.errors import InvalidInputError, NotEstimableError
from osml.files import atomic_write
from osml.nomogram import (
    CoxOutcome,
    LogisticOutcome,
    Nomogram,
    Predictor,
    Unit,
    build,
    category_predictor,
    draw,
    number_predictor,
    to_json,
)
from osml.nomogram.bedside import bedside_points
from osml.nomogram.calculator import calculator
from osml.nomogram.refusals import Facts, refusals
from osml.nomogram.table import points_table
from osml.predictors.chain import Chain
from osml.predictors.contract import Design
from osml.predictors.learn import complete
from osml.predictors.nomogram import Development, FittedNomogram
from osml.predictors.recipe import InputRecipe
from osml.runs.directory import RunDirectory
from osml.schema.load import LoadedSchema
from osml.schema.model import Schema
from osml.study.tasks import withheld


def draw_sheet(
    loaded: LoadedSchema,
    name: str,
    chain: Chain,
    development: Development,
    cohort: Cohort,
    facts: Mapping[str, Any],
    findings: Sequence[Finding],
    run: RunDirectory,
) -> dict[str, Any]:
    """Write nomogram/<name>/nomogram.{pdf,svg,json} and return where, or why not."""
    fitted = chain.fitted
    assert isinstance(fitted, FittedNomogram)
    reason = withheld(loaded.schema)
    if reason:
        return {"drawn": False, "reason": reason}
    if not fitted.model.terms:
        return {"drawn": False, "reason": "nothing was selected"}
    try:
        nomogram = nomogram_of(loaded.schema, chain, development.design, cohort, facts, findings, loaded.digest())
    except (NotEstimableError, InvalidInputError) as error:
        run.log(f"nomogram of {name} not drawn: {error}")
        return {"drawn": False, "reason": error.what}
    finite = fitted.recipe.estimator == "firth" or fitted.recipe.shrink == "ridge"
    nomogram, reason = _judged(nomogram, loaded.schema, finite)
    if reason:
        return {"drawn": False, "reason": reason}
    folder = run.path / "nomogram" / name
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / "nomogram.json", to_json(nomogram))
    atomic_write(folder / "nomogram.csv", points_table(nomogram).to_csv())
    atomic_write(folder / "bedside.csv", bedside_points(nomogram).to_csv())
    atomic_write(folder / "nomogram.html", calculator(nomogram))
    for ending in ("pdf", "svg"):
        part = folder / f".part.{ending}"
        draw(nomogram, part)
        part.replace(folder / f"nomogram.{ending}")
    return {"drawn": True, "pdf": f"nomogram/{name}/nomogram.pdf"}


def _judged(nomogram: Nomogram, schema: Schema, finite: bool) -> tuple[Nomogram, str]:
    """The nomogram with what speaks against its drawing as warnings, and why it is refused, or "".

    finite : the estimator gives finite coefficients to a level without event, so such a level is no reason
    """
    accepted, warnings, reasons = schema.checks.accept, [], {}
    for finding in refusals(nomogram, Facts()):
        if finding.code == "OSML040" and finite:
            continue
        if finding.severity == "refuse" and finding.code not in accepted:
            return nomogram, f"{finding.code}: {finding.what}"
        if finding.code in nomogram.metadata.get("accepted", {}):
            continue  # found in the data already
        if finding.code in accepted:
            reasons[finding.code] = accepted[finding.code]
        warnings.append(f"{finding.code}: {finding.what}")
    metadata = dict(nomogram.metadata)
    metadata["warnings"] = [*metadata["warnings"], *warnings]
    metadata["accepted"] = {**metadata["accepted"], **reasons}
    return replace(nomogram, metadata=metadata), ""


def nomogram_of(
    schema: Schema,
    chain: Chain,
    design: Design,
    cohort: Cohort,
    facts: Mapping[str, Any],
    findings: Sequence[Finding],
    schema_sha256: str,
) -> Nomogram:
    """Build and verify on every training row (imputed where the model imputes; scores out-of-fold)."""
    fitted = chain.fitted
    assert isinstance(fitted, FittedNomogram)
    values = fitted.recipe.values(design)
    filled, imputed = complete(fitted.imputer, values)
    event = cohort.event_outcome.event
    axes = [
        _axis(fitted.recipe.input(item), {k: v[~imputed[item]] for k, v in filled.items()}, event[~imputed[item]])
        for item in fitted.model.inputs
    ]
    return build(
        fitted.model,
        axes,
        _outcome(schema, fitted, cohort),
        metadata=_metadata(schema, fitted, cohort, facts, findings, schema_sha256),
        interval=fitted.interval,
        training={name: filled[name] for name in fitted.model.inputs},
    )


def _axis(item: InputRecipe, values: Mapping[str, Any], event: Any) -> Predictor:
    x = values[item.name]
    if item.kind == "category":
        return category_predictor(item.name, x, item.levels, events=event.astype(float), label=item.label)
    offered = other_units(item.unit) if item.encode == "value" else ()
    return number_predictor(
        item.name,
        x,
        log=item.transform == "log",
        label=item.label,
        unit=item.shown_unit,
        by_hand=item.kind != "score",
        units=tuple(Unit(name, factor) for name, factor in offered),
    )


def _outcome(schema: Schema, fitted: FittedNomogram, cohort: Cohort) -> LogisticOutcome | CoxOutcome:
    words = schema.study.endpoint or fitted.event
    axes = fitted.axes
    if isinstance(axes, LogisticOutcome):
        return replace(axes, event=words)
    outcome = cohort.outcome
    assert isinstance(outcome, SurvivalOutcome)
    at_risk = tuple(int((outcome.time >= h).sum()) for h in axes.horizons)
    return replace(axes, event=words, unit=f"{axes.unit}s", at_risk=at_risk)


def _metadata(
    schema: Schema,
    fitted: FittedNomogram,
    cohort: Cohort,
    facts: Mapping[str, Any],
    findings: Sequence[Finding],
    schema_sha256: str,
) -> dict[str, Any]:
    study, accepted = schema.study, schema.checks.accept
    outcome = cohort.outcome
    assert outcome is not None
    mine = [f for f in findings if f.subject in ("", fitted.recipe.name, *fitted.model.inputs)]
    shortfall = [f.evidence for f in mine if f.code == "OSML041"]
    out: dict[str, Any] = {
        "time_of_prediction": schema.time_of_prediction.replace("_", " "),
        "n": len(cohort.patient_ids),
        "events": int(patient_classes(cohort).sum()),
        "parameters": facts["candidate_parameters"],
        "performance": _performance(
            facts, isinstance(outcome, BinaryOutcome), schema.validation.split.kind in ("holdout", "time")
        ),
        "warnings": _synthetic(schema) + _unvalidated(facts) + _warnings(mine),
        "accepted": {f.code: accepted[f.code] for f in mine if f.code in accepted},
        "notes": _notes(schema, fitted),
        "provenance": {
            "model": f"{schema.name}/{fitted.recipe.name}",
            "schema": schema_sha256[:12],
            "seed": str(schema.validation.seed),
            "osml": osml.__version__,
        },
    }
    if shortfall:
        out["exploratory"] = shortfall[0]
    out |= {
        key: text
        for key, text in (
            ("title", study.title),
            ("population", study.population),
            ("centre", study.centre),
            ("period", study.period),
        )
        if text
    }
    if schema.validation.split.kind in ("holdout", "time"):
        out["validation"] = "tested once on patients of this study set apart before fitting; no external validation"
    return out


def _warnings(findings: Sequence[Finding]) -> list[str]:
    """One line each; a sheet leaves the hospital, so findings whose evidence names patients are only counted."""
    lines: dict[str, int] = {}
    for f in findings:
        if BY_CODE[f.code].severity == "note" or f.code == "OSML041":
            continue
        line = f"{f.code}: {BY_CODE[f.code].title}" + ("" if f.code == "OSML015" else f": {f.evidence}")
        lines[line] = lines.get(line, 0) + 1
    return [line if n == 1 else f"{line} ({n} times)" for line, n in lines.items()]


def _synthetic(schema: Schema) -> list[str]:
    return [f"SYNTHETIC DATA: {schema.study.synthetic}."] if schema.study.synthetic else []


def _unvalidated(facts: Mapping[str, Any]) -> list[str]:
    lost = facts["failed_folds"]
    return (
        [f"Validation failed in {lost} of {lost + facts['folds']} folds: how good it is, is not known."] if lost else []
    )


def _notes(schema: Schema, fitted: FittedNomogram) -> list[str]:
    notes = []
    slope = fitted.slope
    if fitted.recipe.shrink == "uniform":
        notes.append(f"Coefficients were multiplied by {slope.value:.3f} ({slope.source}).")
    elif fitted.recipe.shrink == "none":
        notes.append("Not shrunken: predictions for new patients are expected to be too extreme.")
    if fitted.recipe.select == "univariable":
        notes.append("Predictors were screened univariably (p < 0.1): replication of common practice, not recommended.")
    prevalence = schema.study.prevalence
    if schema.study.sampling != "cohort" and prevalence is not None:
        notes.append(f"Risks hold for a prevalence of {prevalence.value:g} ({prevalence.source}).")
    if fitted.imputer is not None:
        notes.append("Missing values were imputed from the other inputs; the sheet needs every value.")
    return notes


def _performance(facts: Mapping[str, Any], binary: bool, set_apart: bool) -> list[dict[str, Any]]:
    """Rows of the sheet: apparent beside optimism-corrected, and out-of-fold with its interval."""
    rows = []
    names = (
        (("auc", "C (AUC)"), ("slope", "calibration slope"), ("brier", "Brier"))
        if binary
        else (("c", "Harrell C"), ("slope", "calibration slope"))
    )
    for key, label in names:
        apparent = facts.get("apparent", {}).get(key, {})
        corrected = facts.get("optimism_corrected", {}).get(key)
        honest = facts.get("out_of_fold", {}).get(key, {})
        if corrected is not None:
            rows.append(_entry(f"{label}, bootstrap", apparent, corrected))
        rows.append(
            _entry(
                f"{label}, {'test set' if set_apart else 'out of fold'}",
                {} if corrected is not None else apparent,
                honest,
            )
        )
    return rows


def _entry(measure: str, apparent: Mapping[str, Any], corrected: Mapping[str, Any]) -> dict[str, Any]:
    keep = {
        "apparent": apparent.get("value"),
        "corrected": corrected.get("value"),
        "low": corrected.get("low"),
        "high": corrected.get("high"),
    }
    return {"measure": measure, **{key: value for key, value in keep.items() if value is not None}}
