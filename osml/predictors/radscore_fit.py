"""Fit a Rad-score on training patients: region, features, penalty and score, all chosen there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, Cohort, FeatureTable, Outcome, SurvivalOutcome
from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.concordance import harrell_c
from osml.evaluation.discrimination import auc
from osml.predictors.contract import Design, Prediction
from osml.predictors.forest import fit_forest, tune_forest
from osml.predictors.learn import cox_baseline
from osml.predictors.nomogram import fold_numbers
from osml.predictors.radscore import WINSOR_SD, FittedRadscore, RadscoreRecipe, RegionRow
from osml.predictors.selection import select
from osml.stats.combat import Combat, fit_combat
from osml.stats.terms import Linear, LinearModel

Float = NDArray[np.float64]
COMPARED_TREES = 100  # of the forests by which regions are compared; the deployed one has more


def fit_radscore(recipe: RadscoreRecipe, design: Design, seed: np.random.SeedSequence) -> FittedRadscore:
    """Fit on training patients: region, features, penalty and score.

    Raises
    ------
    NotEstimableError
        No outcome, no feature left in any region, or too few patients for what was asked.
    """
    cohort = design.cohort
    if cohort.outcome is None:
        raise NotEstimableError("a predictor cannot be fitted to patients without outcomes")
    table = cohort.features[recipe.input]
    regions = regions_of(table) if recipe.region == "best" else (recipe.region,)
    fold_seed, fit_seed = seed.spawn(2)
    rows: list[RegionRow] = []
    if len(regions) > 1:
        folds = fold_numbers(design, recipe.inner_folds, fold_seed)
        rows = [_judge(recipe, cohort, region, folds, fit_seed) for region in regions]
        usable = [row for row in rows if np.isfinite(row.loss)]
        if not usable:
            raise NotEstimableError(f"{recipe.name}: no region can be scored: {rows[0].reason}")
        best = min(usable, key=lambda row: row.loss).region  # the first of equals: the order of the schema
    else:
        best = regions[0]
    fitted = fit_region(recipe, cohort, best, fit_seed, tune=True)
    rows = [replace(row, features=len(fitted.columns)) if row.region == best else row for row in rows]
    return replace(fitted, regions=tuple(rows))


def regions_of(table: FeatureTable) -> tuple[str, ...]:
    """Regions among `image|region|feature` columns, in their order."""
    return tuple(dict.fromkeys(column.split("|")[1] for column in table.columns))


def _judge(
    recipe: RadscoreRecipe, cohort: Cohort, region: str, folds: NDArray[np.intp], seed: np.random.SeedSequence
) -> RegionRow:
    """Fit a region's score on each inner training part and judge it on the rest; hyperparameters at their defaults."""
    losses, areas, reason = [], [], ""
    p = np.full(len(cohort), np.nan)
    for k in np.unique(folds):
        train = cohort.take(np.flatnonzero(folds != k))
        test = cohort.take(np.flatnonzero(folds == k))
        try:
            fitted = fit_region(recipe, train, region, seed, tune=False)
            found = fitted.predict(Design(test.without_outcome()))
            loss, area = _judged(test.outcome, found)
        except NotEstimableError as error:
            reason = error.what
            continue
        losses.append(loss)
        areas.append(area)
        p[folds == k] = found.p[:, 0]
    if not losses:
        return RegionRow(region, float("nan"), float("nan"), None, reason)
    good = [a for a in areas if np.isfinite(a)]
    loss = float(np.nanmean(losses)) if np.isfinite(losses).any() else float("nan")
    return RegionRow(region, loss, float(np.mean(good)) if good else float("nan"), None, p=p)


def _judged(outcome: Outcome | None, found: Prediction) -> tuple[float, float]:
    if isinstance(outcome, SurvivalOutcome):
        try:
            c = harrell_c(outcome.time, outcome.event, found.lp).value
        except NotEstimableError:
            return float("nan"), float("nan")
        return 1 - c, c
    assert isinstance(outcome, BinaryOutcome)
    p = np.clip(found.p[:, 0], 1e-6, 1 - 1e-6)
    loss = -float(np.mean(outcome.y * np.log(p) + (1 - outcome.y) * np.log1p(-p)))
    return loss, auc(outcome.y, found.lp) if 0 < outcome.y.sum() < len(outcome.y) else float("nan")


def fit_region(
    recipe: RadscoreRecipe, cohort: Cohort, region: str, seed: np.random.SeedSequence, *, tune: bool
) -> FittedRadscore:
    """The score of one region; `tune`: a forest's settings are chosen on inner folds, else they are the defaults."""
    outcome, table = cohort.event_outcome, cohort.features[recipe.input]
    of_region = np.array([j for j, c in enumerate(table.columns) if c.split("|")[1] == region], dtype=np.intp)
    if not len(of_region):
        known = ", ".join(regions_of(table))
        raise InvalidInputError(f"{recipe.name}: no feature of region {region!r}; regions: {known}")
    names = tuple(table.columns[j] for j in of_region)
    x = table.x[:, of_region]
    combat = None
    if recipe.site:
        whole = ~np.isnan(x).any(axis=0) & (np.ptp(x, axis=0) > 0)
        names = tuple(name for name, keep in zip(names, whole, strict=True) if keep)
        of_region, x = of_region[whole], x[:, whole]
        combat = fit_combat(x, cohort.keys[recipe.site])
        x = combat.apply(x, cohort.keys[recipe.site])
    readings = None if table.readings is None else table.readings[:, of_region]
    if combat is not None and readings is not None:
        # An ICC of harmonised against raw values would call every shifted site unstable.
        readings = np.stack(
            [_harmonised(combat, one, cohort.keys[recipe.site]) for one in np.moveaxis(readings, 2, 0)], axis=2
        )
    spread = WINSOR_SD * x.std(axis=0)  # NaN where a feature has gaps: it leaves at the first step of the selection
    lower, upper = x.mean(axis=0) - spread, x.mean(axis=0) + spread
    x = np.clip(x, lower, upper)
    readings = None if readings is None else np.clip(readings, lower[None, :, None], upper[None, :, None])
    patients = np.array(cohort.patients, dtype=object)
    number = int(seed.generate_state(1)[0])
    chosen = select(x, outcome, recipe.selection, groups=patients, readers=readings, seed=number)
    index = np.array(chosen.columns, dtype=np.intp)
    columns = tuple(names[j] for j in index)
    z = (x[:, index] - chosen.centre) / chosen.scale
    forest = None
    model = LinearModel(tuple(Linear(name) for name in columns), np.asarray(chosen.coefficients), chosen.intercept)
    if recipe.score == "forest" and len(index):
        assert isinstance(outcome, BinaryOutcome)
        share = outcome.y.mean()
        model = LinearModel((), np.empty(0), float(np.log(share / (1 - share))))
        if tune:
            folds = fold_numbers(Design(cohort), recipe.inner_folds, np.random.SeedSequence(number))
            forest = tune_forest(z, outcome.y, folds, groups=patients, seed=number)
        else:
            forest = fit_forest(z, outcome.y, trees=COMPARED_TREES, groups=patients, seed=number)
    survival: tuple[float, ...] = ()
    if isinstance(outcome, SurvivalOutcome):
        values = {name: z[:, j] for j, name in enumerate(columns)}
        survival = tuple(float(s) for s in cox_baseline(model, values, outcome, np.ones(len(cohort))))
    return FittedRadscore(
        recipe=recipe,
        region=region,
        columns=columns,
        centre=np.asarray(chosen.centre),
        scale=np.asarray(chosen.scale),
        lower=lower[index],
        upper=upper[index],
        model=model,
        forest=forest,
        combat=None if combat is None else _narrowed(combat, index),
        event=outcome.positive if isinstance(outcome, BinaryOutcome) else "event",
        horizons=outcome.horizons if isinstance(outcome, SurvivalOutcome) else (),
        time_unit=outcome.unit if isinstance(outcome, SurvivalOutcome) else "",
        survival=survival,
        selection=chosen,
        names=names,
    )


def _harmonised(combat: Combat, x: Float, site: tuple[str, ...]) -> Float:
    """Rows without gaps, harmonised; the others stay NaN: they were not read again, or lack a feature."""
    whole = ~np.isnan(x).any(axis=1)
    out = np.full_like(x, np.nan)
    if whole.any():
        out[whole] = combat.apply(x[whole], np.array(site, dtype=object)[whole])
    return out


def _narrowed(combat: Combat, index: NDArray[np.intp]) -> Combat:
    return replace(
        combat,
        mean=combat.mean[index],
        sd=combat.sd[index],
        slopes=combat.slopes[:, index],
        shift=combat.shift[:, index],
        scale=combat.scale[:, index],
    )
