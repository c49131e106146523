"""Predictor `nomogram`: logistic or Cox regression through one pipeline, shrunken, with an interval if one exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, EventOutcome, SurvivalOutcome
from osml.cohort.splits import inner_folds
from osml.errors import NotEstimableError, RunError
from osml.files import read_json, write_json
from osml.nomogram.cox import cox_outcome
from osml.nomogram.interval import MIN_REFITS, Interval
from osml.nomogram.ranges import axis_range
from osml.nomogram.spec import CoxOutcome, LogisticOutcome
from osml.nomogram.spec import Outcome as OutcomeAxes
from osml.predictors.contract import NO_INTERVAL, Design, Flag, Prediction
from osml.predictors.learn import Learnt, complete, cox_baseline, learn, shrunken
from osml.predictors.recipe import GlmRecipe, recipe_from_dict
from osml.predictors.refits import (
    OPTIMISM,
    IntervalRefits,
    Refits,
    Slope,
    draw_weights,
    interval_refits,
    optimism_slope,
    refit,
)
from osml.stats.cox import fit_cox
from osml.stats.impute import Imputer
from osml.stats.terms import LinearModel, design_matrix, term_from_dict, term_to_dict

Float = NDArray[np.float64]
FORMAT = 1
SMALLEST_SPREAD = 1e-9  # of a score, in log odds or log hazard
# Repeating what made the scores as well would take hours; benchmarks/fed_shrinkage.py shows what holding them costs.
SCORES_FIXED = "optimism bootstrap, scores held fixed"


@dataclass(frozen=True)
class CoxWald:
    """Uncertainty of the baseline hazard at each horizon, as `osml.nomogram.CoxOutcome` wants it."""

    log_hazard_variance: tuple[float, ...]
    mean_design: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class FittedNomogram:
    """A fitted GLM predictor.

    model : deployed, shrinkage included
    unshrunken : as the pipeline estimated it
    survival : Cox: baseline survival at each horizon for lp = 0
    slope : the shrinkage applied, and where it comes from
    ranges : input → axis ends of training values; outside them a prediction is flagged "extrapolated"
    share : share of events among the training units
    """

    recipe: GlmRecipe
    model: LinearModel
    unshrunken: LinearModel
    imputer: Imputer | None
    event: str
    horizons: tuple[float, ...]
    time_unit: str
    survival: tuple[float, ...]
    slope: Slope
    selected: Mapping[str, float | None]
    ranges: Mapping[str, tuple[float, float]]
    share: float
    refits: IntervalRefits | None = None
    wald: CoxWald | None = None

    @property
    def axes(self) -> OutcomeAxes:
        """The outcome as a nomogram sees it."""
        if self.horizons:
            outcome = CoxOutcome(self.event, self.horizons, self.survival, self.time_unit)
            if self.wald is None:
                return outcome
            return replace(
                outcome, log_hazard_variance=self.wald.log_hazard_variance, mean_design=self.wald.mean_design
            )
        return LogisticOutcome(self.event)

    @property
    def interval(self) -> Interval | None:
        """Wald for prespecified, unpenalised, complete-data models; instability from refits; else None."""
        if self.model.covariance is not None and (not self.horizons or self.wald is not None):
            return Interval("wald")
        if self.refits is not None and len(self.refits.parameters) >= MIN_REFITS:
            held = ["shrinkage factor"] if self.slope.value != 1.0 else []
            held += ["spline knots"] if any(i.transform == "rcs" for i in self.recipe.inputs) else []
            held += ["imputation"] if self.imputer is not None else []
            return Interval(
                "instability",
                refits=self.refits.parameters,
                refit_survival=self.refits.survival,
                held_fixed=" and ".join(held),
            )
        return None

    def predict(self, design: Design) -> Prediction:
        """Risk of the event (per horizon); rows are independent of each other."""
        given = self.recipe.values(design)
        if self.imputer is None:
            # What selection dropped is not looked at, so a gap in it is none.
            given = {name: given[name] for name in self.model.inputs}
        values, imputed = complete(self.imputer, given)
        cohort = design.cohort
        lp = self.model.lp(values) if self.model.terms else np.full(len(cohort), self.model.intercept)
        p = self.axes.probability(lp)
        low = high = None
        words = NO_INTERVAL
        interval = self.interval
        if interval is not None and self.model.terms:
            low, high = interval.bounds(self.model, self.axes, values)
            words = interval.words
        columns = tuple(f"{h:g} {self.time_unit}" for h in self.horizons) or (self.event,)
        flags = [
            Flag(cohort.units[i], name, "imputed", float(values[name][i]))
            for name, mask in imputed.items()
            for i in np.flatnonzero(mask)
        ]
        for name, (a, b) in self.ranges.items():
            if name not in values:
                continue
            outside = ((values[name] < a) | (values[name] > b)) & ~imputed[name]
            flags += [
                Flag(cohort.units[i], name, "extrapolated", float(values[name][i])) for i in np.flatnonzero(outside)
            ]
        return Prediction(cohort.units, cohort.patients, columns, p, lp, low, high, words, tuple(flags))

    def save(self, folder: Path) -> None:
        """model.json: everything that `load` needs; equal models give equal bytes."""
        write_json(folder / "model.json", self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """JSON form at full precision."""
        refits = self.refits
        return {
            "format": FORMAT,
            "recipe": self.recipe.to_dict(),
            "model": _model_dict(self.model),
            "unshrunken": _model_dict(self.unshrunken),
            "imputer": None if self.imputer is None else self.imputer.to_dict(),
            "event": self.event,
            "horizons": list(self.horizons),
            "time_unit": self.time_unit,
            "survival": list(self.survival),
            "slope": self.slope.__dict__,
            "selected": dict(self.selected),
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
            "share": self.share,
            "refits": None
            if refits is None
            else {
                "parameters": refits.parameters.tolist(),
                "survival": None if refits.survival is None else refits.survival.tolist(),
            },
            "wald": None
            if self.wald is None
            else {
                "log_hazard_variance": list(self.wald.log_hazard_variance),
                "mean_design": [list(row) for row in self.wald.mean_design],
            },
        }


def load_nomogram(folder: Path) -> FittedNomogram:
    """Inverse of `FittedNomogram.save`; a newer format is refused."""
    data = read_json(folder / "model.json")
    if data.get("format") != FORMAT:
        raise RunError(f"{folder / 'model.json'} has format {data.get('format')!r}; this osml reads {FORMAT}")
    refits = data["refits"]
    return FittedNomogram(
        recipe=recipe_from_dict(data["recipe"]),
        model=_model(data["model"]),
        unshrunken=_model(data["unshrunken"]),
        imputer=None if data["imputer"] is None else Imputer.from_dict(data["imputer"]),
        event=data["event"],
        horizons=tuple(data["horizons"]),
        time_unit=data["time_unit"],
        survival=tuple(data["survival"]),
        slope=Slope(**data["slope"]),
        selected=data["selected"],
        ranges={name: (ends[0], ends[1]) for name, ends in data["ranges"].items()},
        share=data["share"],
        refits=None
        if refits is None
        else IntervalRefits(
            np.array(refits["parameters"]), None if refits["survival"] is None else np.array(refits["survival"])
        ),
        wald=None
        if data["wald"] is None
        else CoxWald(tuple(data["wald"]["log_hazard_variance"]), tuple(map(tuple, data["wald"]["mean_design"]))),
    )


@dataclass(frozen=True)
class Development:
    """A fit with what judging it needs: its design, the bootstrap refits, the unshrunken linear predictor (n,)."""

    fitted: FittedNomogram
    design: Design
    refits: Refits
    lp: Float


def fit_nomogram(
    recipe: GlmRecipe, design: Design, seed: np.random.SeedSequence, *, final: bool = False
) -> FittedNomogram:
    """Fit on training patients. With `final`, also refits for instability intervals."""
    return develop(recipe, design, seed, final=final).fitted


def develop(
    recipe: GlmRecipe, design: Design, seed: np.random.SeedSequence, *, final: bool = False, bootstrap: bool = False
) -> Development:
    """Fit, bootstrap the whole pipeline for the slope, shrink.

    final : also refit for instability intervals
    bootstrap : repeat the pipeline in bootstrap samples even where the shrinkage does not need it (optimism)
    """
    cohort = design.cohort
    if cohort.outcome is None:
        raise NotEstimableError("a predictor cannot be fitted to patients without outcomes")
    outcome = cohort.event_outcome
    boot_seed, fold_seed = seed.spawn(2)
    values = recipe.values(design)
    recipe = _varying(recipe, values)
    values = {item.name: values[item.name] for item in recipe.inputs}
    ones = np.ones(len(cohort))
    folds = fold_numbers(design, recipe.inner_folds, fold_seed)
    learnt = learn(recipe, values, outcome, ones, folds)
    if cohort.clustered:  # its covariance takes rows as independent patients
        learnt = replace(learnt, model=replace(learnt.model, covariance=None))
    filled, _ = complete(learnt.imputer, values)
    lp = learnt.model.lp(filled) if learnt.model.terms else np.full(len(cohort), learnt.model.intercept)
    weights = draw_weights(cohort.patients, recipe.bootstraps, np.random.default_rng(boot_seed))
    refits = Refits(np.empty((0, len(cohort))), weights[:0], np.zeros(0, dtype=bool), {})
    slope = Slope(1.0, "none", 0, 0)
    if bootstrap or recipe.shrink == "uniform":
        refits = refit(recipe, values, outcome, weights, folds)
    if recipe.shrink == "uniform":
        slope = optimism_slope(refits, lp, outcome)
        if any(i.kind == "score" for i in recipe.inputs) and slope.source == OPTIMISM:
            slope = replace(slope, source=SCORES_FIXED)
    model = learnt.model if slope.source == "none" else shrunken(learnt.model, slope.value, filled, outcome, ones)
    survival: tuple[float, ...] = ()
    if isinstance(outcome, SurvivalOutcome):
        survival = tuple(float(s) for s in cox_baseline(model, filled, outcome, ones))
    fitted = FittedNomogram(
        recipe=recipe,
        model=model,
        unshrunken=learnt.model,
        imputer=learnt.imputer,
        event=outcome.positive if isinstance(outcome, BinaryOutcome) else "event",
        horizons=outcome.horizons if isinstance(outcome, SurvivalOutcome) else (),
        time_unit=outcome.unit if isinstance(outcome, SurvivalOutcome) else "",
        survival=survival,
        slope=slope,
        selected=learnt.selected,
        ranges=_ranges(recipe, values),
        share=float(outcome.event.mean()),
        refits=_interval_refits(recipe, learnt, values, outcome, weights, slope) if final else None,
        wald=_cox_wald(model, filled, outcome),
    )
    return Development(fitted, design, refits, lp)


def _interval_refits(
    recipe: GlmRecipe, learnt: Learnt, values: Mapping[str, Float], outcome: EventOutcome, weights: Float, slope: Slope
) -> IntervalRefits | None:
    """Only where a refit has the deployed model's columns: no selection, no penalty, and something left to draw."""
    scored = any(i.kind == "score" for i in recipe.inputs)
    if recipe.select != "none" or recipe.estimator != "ml" or recipe.shrink == "ridge" or scored or slope.value == 0.0:
        return None
    if learnt.model.covariance is not None and recipe.shrink == "none":
        return None  # a Wald interval exists
    return interval_refits(learnt, values, outcome, weights, slope.value)


def _cox_wald(model: LinearModel, values: Mapping[str, Float], outcome: EventOutcome) -> CoxWald | None:
    """Only for a Cox model with a covariance: prespecified, unpenalised, unshrunken, complete data."""
    if not isinstance(outcome, SurvivalOutcome) or model.covariance is None:
        return None
    fit = fit_cox(design_matrix(model.terms, values), outcome.time, outcome.event)
    axes = cox_outcome(fit, "event", outcome.horizons)
    return CoxWald(axes.log_hazard_variance, axes.mean_design) if axes.log_hazard_variance else None


def _varying(recipe: GlmRecipe, values: Mapping[str, Float]) -> GlmRecipe:
    """Without scores that do not vary: their predictor selected nothing in any inner fold. They have no coefficient."""
    flat = {i.name for i in recipe.inputs if i.kind == "score" and np.ptp(values[i.name]) < SMALLEST_SPREAD}
    kept = tuple(item for item in recipe.inputs if item.name not in flat)
    if not kept:
        raise NotEstimableError(
            f"{recipe.name}: {', '.join(sorted(flat))} is the same for every patient out of fold: nothing was selected"
        )
    return replace(recipe, inputs=kept)


def fold_numbers(design: Design, folds: int, seed: np.random.SeedSequence) -> NDArray[np.intp]:
    """Inner fold of each unit; copies and rows of one patient share theirs."""
    number: dict[str, int] = {}
    for k, fold in enumerate(inner_folds(design.cohort, folds, seed)):
        number |= dict.fromkeys(fold.test, k)
    return np.array([number[p] for p in design.cohort.patients], dtype=np.intp)


def _ranges(recipe: GlmRecipe, values: Mapping[str, Float]) -> dict[str, tuple[float, float]]:
    out: dict[str, tuple[float, float]] = {}
    for item in recipe.inputs:
        if item.kind == "category":
            continue
        try:
            ends = axis_range(_measured(values[item.name]), log=item.transform == "log")
        except NotEstimableError:
            continue  # too few distinct patients for an axis: nothing to compare a new value with
        out[item.name] = (ends.low, ends.high)
    return out


def _measured(x: Float) -> Float:
    return x[~np.isnan(x)]


def with_prevalence(fitted: FittedNomogram, prevalence: float) -> FittedNomogram:
    """Intercept moved from the sample's share of events to a population's (King & Zeng prior correction)."""
    from osml.stats.sampling import correct_intercept

    def move(model: LinearModel) -> LinearModel:
        return replace(model, intercept=correct_intercept(model.intercept, fitted.share, prevalence))

    return replace(fitted, model=move(fitted.model), unshrunken=move(fitted.unshrunken), refits=None)


def _model_dict(model: LinearModel) -> dict[str, Any]:
    return {
        "terms": [term_to_dict(t) for t in model.terms],
        "intercept": float(model.intercept),
        "coef": [float(c) for c in model.coef],
        "covariance": None if model.covariance is None else np.asarray(model.covariance).tolist(),
    }


def _model(data: Mapping[str, Any]) -> LinearModel:
    covariance = None if data["covariance"] is None else np.array(data["covariance"])
    return LinearModel(
        tuple(term_from_dict(t) for t in data["terms"]),
        np.array(data["coef"], dtype=float),
        data["intercept"],
        covariance,
    )
