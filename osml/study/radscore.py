"""A Rad-score on all development patients: what was selected, how regions compare, how good it looks there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, Cohort, SurvivalOutcome
from osml.cohort.splits import derive_seed, patient_classes
from osml.errors import NotEstimableError
from osml.evaluation.concordance import harrell_c
from osml.evaluation.delong import delong, delong_clustered
from osml.evaluation.discrimination import auc, brier
from osml.files import atomic_write, read_json, write_csv, write_json
from osml.predictors.chain import Chain
from osml.predictors.contract import Design
from osml.predictors.radscore import FittedRadscore, RegionRow, radscore_recipe
from osml.predictors.radscore_fit import fit_radscore, fit_region, regions_of
from osml.schema.load import LoadedSchema
from osml.study.judge import metric
from osml.study.tasks import final_seed

Float = NDArray[np.float64]
THRESHOLD = 0.5
COUNTS = ("accuracy", "sensitivity", "specificity", "precision", "f1")


def develop_radscore(loaded: LoadedSchema, name: str, cohort: Cohort, run: Path) -> tuple[Chain, dict[str, Any]]:
    """Fit a Rad-score for deployment; its facts for metrics.json, its tables under `tables/` and `selection/`."""
    schema = loaded.schema
    recipe, seed = radscore_recipe(schema, name), final_seed(schema)
    fitted = fit_radscore(recipe, Design(cohort), derive_seed(*seed, name))
    prediction = fitted.predict(Design(cohort.without_outcome()))
    write_json(run / "selection" / f"{name}.json", fitted.record())
    frequency = selection_frequency(run, name, fitted.columns)
    write_csv(
        run / "tables" / f"selection_{name}.csv",
        ("feature", "coefficient", "folds_selected", "folds"),
        [(f, dict(_coefficients(fitted)).get(f), k, n) for f, k, n in frequency],
    )
    if isinstance(cohort.outcome, BinaryOutcome):
        _write_regions(fitted, cohort, run / "tables" / f"regions_{name}.csv", derive_seed(*seed, f"{name}:regions"))
    steps = [] if fitted.selection is None else [{"name": s.name, "kept": len(s.kept)} for s in fitted.selection.steps]
    facts: dict[str, Any] = {
        "apparent": apparent_facts(cohort, prediction.p, prediction.lp),
        "selected": {column: None if c is None else float(c) for column, c in _coefficients(fitted)},
        "radscore": {
            "region": fitted.region,
            "score": recipe.score,
            "steps": steps,
            "regions": [
                {"region": r.region, "loss": _finite(r.loss), "discrimination": _finite(r.discrimination)}
                for r in fitted.regions
            ],
        },
        "development": {
            "patients": len(cohort.patient_ids),
            "rows": len(cohort),
            "events": int(patient_classes(cohort).sum()),
        },
        "nomogram": {"drawn": False, "reason": "a Rad-score is one axis of a nomogram, not a nomogram of its own"},
    }
    return Chain(name, fitted), facts


def selection_frequency(run: Path, name: str, final: Sequence[str] = ()) -> list[tuple[str, int, int]]:
    """(feature, folds that selected it, folds), most frequent first, over the outer folds of a run.

    final : features of the final model, which stand in the list although no fold may have selected them
    """
    files = sorted((run / "folds").glob(f"*/{name}/selection.json"))
    counts = dict.fromkeys(final, 0)
    for file in files:
        for column in read_json(file)["columns"]:
            counts[column] = counts.get(column, 0) + 1
    return [(column, k, len(files)) for column, k in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def _coefficients(fitted: FittedRadscore) -> list[tuple[str, float | None]]:
    if fitted.forest is not None:
        return [(column, None) for column in fitted.columns]
    return [(column, float(c)) for column, c in zip(fitted.columns, fitted.model.coef, strict=True)]


def apparent_facts(cohort: Cohort, p: Float, lp: Float) -> dict[str, Any]:
    """On the patients it was selected and fitted on: always too good."""
    outcome = cohort.outcome
    try:
        if isinstance(outcome, SurvivalOutcome):
            return {"c": metric(harrell_c(outcome.time, outcome.event, lp).value)}
        assert isinstance(outcome, BinaryOutcome)
        return {"auc": metric(auc(outcome.y, lp)), "brier": metric(brier(outcome.y, p[:, 0]))}
    except NotEstimableError as error:
        return {"auc" if isinstance(outcome, BinaryOutcome) else "c": metric(None, reason=error.what)}


def _write_regions(fitted: FittedRadscore, cohort: Cohort, path: Path, seed: np.random.SeedSequence) -> None:
    """One row per region and kind of data: apparent, and left out on inner folds. Descriptive: nothing is tested."""
    assert isinstance(cohort.outcome, BinaryOutcome)
    y, patients = cohort.outcome.y, np.array(cohort.patients, dtype=object)
    inner = {row.region: row for row in fitted.regions}
    rows: list[tuple[Any, ...]] = []
    for region in regions_of(cohort.features[fitted.recipe.input]):
        if fitted.recipe.region not in ("best", region):
            continue
        try:
            alone = fitted if region == fitted.region else fit_region(fitted.recipe, cohort, region, seed, tune=False)
        except NotEstimableError as error:
            rows.append((region, error.what, None, False, *[None] * 9))
            continue
        p = alone.predict(Design(cohort.without_outcome())).p[:, 0]
        chosen = region == fitted.region
        rows.append((region, "apparent", len(alone.columns), chosen, *_row(y, p, patients)))
        left_out = inner.get(region, RegionRow(region, np.nan, np.nan, None)).p
        if left_out is not None:
            known = ~np.isnan(left_out)
            rows.append(
                (region, "inner folds", len(alone.columns), chosen, *_row(y[known], left_out[known], patients[known]))
            )
    header = ("region", "data", "features", "chosen", "n", "auc", "auc_low", "auc_high", *COUNTS)
    write_csv(path, header, rows)
    note = (
        f"Counts at a risk of {THRESHOLD:g}. apparent: the patients it was fitted on. inner folds: every patient "
        "left out once, scores of different folds pooled; the region was chosen on them, so the best is flattered. "
        "Descriptive: regions are not tested against each other."
    )
    atomic_write(path.with_suffix(".note.txt"), note + "\n")


def _row(y: Float, p: Float, patients: NDArray[np.object_]) -> tuple[Any, ...]:
    if not 0 < y.sum() < len(y):
        return (len(y), *[None] * 8)
    try:
        clustered = len(set(patients)) < len(patients)
        area = delong_clustered(y, p, patients) if clustered else delong(y, p)
        three = (area.value, area.low, area.high)
    except NotEstimableError:
        three = (auc(y, p), None, None)
    positive = p >= THRESHOLD
    tp, tn = float((positive & (y == 1)).sum()), float((~positive & (y == 0)).sum())
    sensitivity, specificity = tp / y.sum(), tn / (1 - y).sum()
    precision = tp / positive.sum() if positive.any() else None
    f1 = 2 * tp / (positive.sum() + y.sum())
    return (len(y), *three, (tp + tn) / len(y), sensitivity, specificity, precision, f1)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
