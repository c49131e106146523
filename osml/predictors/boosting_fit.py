"""Fitting the predictor `boosting`: inner folds for the number of trees, settings and calibration, then all units.

Patients are whole in every fold. The table itself is label-free and row-local, so it is made once.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, ClassOutcome, SurvivalOutcome
from osml.errors import NotEstimableError
from osml.nets.calibrate import fit_platt, fit_temperature
from osml.nets.label_tree import flatten, leaf_labels
from osml.predictors.boosting import FittedBoosting
from osml.predictors.boosting_inner import Inner, Training, inner_trees
from osml.predictors.boosting_trees import Goal, Settings, filled, grown, raw_scores, stand_ins
from osml.predictors.contract import Design
from osml.predictors.inner import fold_rows, training_folds, why_none
from osml.predictors.network import Calibration
from osml.predictors.search import Report, Span, Values, search
from osml.predictors.table import fit_table
from osml.schema.model import Schema
from osml.schema.tabular import BoostingPredictor
from osml.stats.cox import baseline_hazard, fit_cox

Float = NDArray[np.float64]
Rows = NDArray[np.intp]
# Where no inner fold can be used and the schema states no number.
USUAL_ROUNDS = 100


def fit_boosting(
    schema: Schema, name: str, design: Design, seed: np.random.SeedSequence, *, work: Path | None = None
) -> FittedBoosting:
    """Fit the boosting predictor `name` to training units.

    work : folder where an unfinished search is stored and continued; none: nothing is kept
    """
    block = schema.predictors[name]
    assert isinstance(block, BoostingPredictor)
    outcome = design.cohort.outcome
    rows = _usable(outcome)
    goal = _goal(outcome).take(rows)
    goal.require()
    kept = Design(design.cohort.take(rows), {item: score[rows] for item, score in design.upstream.items()})
    spec = fit_table(schema, name, kept)
    fold_seed, tree_seed = seed.spawn(2)
    folds = tuple(fold_rows(kept.cohort, fold) for fold in training_folds(schema, kept.cohort, fold_seed))
    number, tuned = (int(s) for s in tree_seed.generate_state(2))
    # LightGBM takes a signed seed.
    training = Training(spec.matrix(kept), spec.columns, goal, folds, block.rounds, number % 2**31)
    settings, notes = settings_of(block, len(goal)), {}
    if block.search is not None and folds:
        file = None if work is None else work / "search.json"
        settings, notes["search"] = _searched(training, settings, block.search.trials, tuned, file)
    inner = inner_trees(training, settings) if folds and (block.calibrate or block.rounds is None) else None
    rounds = block.rounds or (USUAL_ROUNDS if inner is None else inner.rounds)
    stand_in = stand_ins(training.x, training.columns)
    text, done = grown(goal, filled(training.x, stand_in), training.columns, settings, training.seed, rounds)
    fitted = FittedBoosting(
        name=name,
        target=goal.kind,
        columns=_names(outcome),
        tree=outcome.tree if isinstance(outcome, ClassOutcome) else None,
        horizons=outcome.horizons if isinstance(outcome, SurvivalOutcome) else (),
        time_unit=outcome.unit if isinstance(outcome, SurvivalOutcome) else "",
        spec=spec,
        stand_in=tuple(float(s) for s in stand_in),
        settings=settings,
        rounds=done,
        text=text,
        calibration=Calibration("none"),
        share=float(outcome.y.mean()) if isinstance(outcome, BinaryOutcome) else None,
        notes={
            **notes,
            "columns": len(spec.columns),
            "inner": None if inner is None else {"folds": len(inner.trees), "loss": inner.loss, "rounds": inner.rounds},
        },
    )
    return _calibrated(schema, block, fitted, training, inner)


def settings_of(block: BoostingPredictor, n: int) -> Settings:
    """As the schema states them, for n training units."""
    smallest = max(5, min(20, n // 20)) if block.smallest_leaf is None else block.smallest_leaf
    return Settings(block.leaves, smallest, float(block.rate), float(block.columns), float(block.l2))


def spans(n: int) -> dict[str, Span]:
    """Where a search looks, for n training units."""
    return {
        "leaves": Span(2, 12, whole=True),
        "smallest_leaf": Span(3, max(10, n // 8), log=True, whole=True),
        "rate": Span(0.01, 0.2, log=True),
        "columns": Span(0.2, 1.0),
        "l2": Span(0.01, 100.0, log=True),
    }


def _searched(
    training: Training, default: Settings, trials: int, seed: int, file: Path | None
) -> tuple[Settings, dict[str, Any]]:
    def evaluate(values: Values, report: Report) -> float:
        inner = inner_trees(training, _settings(values), report)
        if inner is None:
            raise NotEstimableError("no inner fold can be learnt from")
        return inner.loss

    found = search(
        spans(len(training.goal)), asdict(default), evaluate, trials=trials, seed=seed, file=file
    )  # fmt: skip
    return _settings(found.values), found.record()


def _settings(values: Values) -> Settings:
    return Settings(
        int(values["leaves"]), int(values["smallest_leaf"]), float(values["rate"]), float(values["columns"]),
        float(values["l2"]),
    )  # fmt: skip


def _calibrated(
    schema: Schema, block: BoostingPredictor, fitted: FittedBoosting, training: Training, inner: Inner | None
) -> FittedBoosting:
    """With calibration and baseline, from inner out-of-fold outputs where there are any."""
    goal = training.goal
    held = inner.outputs(goal) if inner is not None and block.calibrate else None
    good = np.flatnonzero(np.isfinite(held).all(axis=1)) if held is not None else np.empty(0, dtype=np.intp)
    reason = "" if len(good) else "not asked for" if not block.calibrate else why_none(schema)
    if goal.kind == "survival":
        return _survival(fitted, training, held, good, reason)
    calibration = Calibration("none", reason=reason)
    if fitted.tree is not None and schema.study.sampling != "cohort":
        calibration = replace(calibration, offset=_offset(goal), restated=True)
    if held is not None and len(good):
        try:
            if fitted.tree is None:
                platt = fit_platt(held[good, 0], goal.y[good])
                calibration = replace(calibration, kind="platt", values=(platt.intercept, platt.slope))
            else:
                found = fit_temperature(flatten(fitted.tree), held[good], goal.y[good].astype(np.intp))
                calibration = replace(calibration, kind="temperature", values=found.temperatures)
        except NotEstimableError as error:
            calibration = replace(calibration, reason=error.what)
    return replace(fitted, calibration=calibration)


def _survival(
    fitted: FittedBoosting, training: Training, held: Float | None, good: Rows, reason: str
) -> FittedBoosting:
    goal = training.goal
    assert goal.time is not None
    raw = raw_scores(fitted.model, filled(training.x, np.array(fitted.stand_in)), 1)[:, 0]
    fitted = replace(fitted, centre=float(raw.mean()))
    if held is not None and len(good):
        lp, time, event = held[good, 0], goal.time[good], goal.y[good]
        slope, why = _slope(lp, time, event)
        calibration, lp = Calibration("slope", (slope,), reason=why), lp * slope
    else:
        # Those of the training units are overfitted: risks come out too far from the average, which the reason says.
        lp, time, event = raw - fitted.centre, goal.time, goal.y
        calibration = Calibration("none", reason=f"{reason}: the baseline rests on the training units' own scores")
    hazard = baseline_hazard(lp, time, event).at(np.array(fitted.horizons))
    return replace(fitted, calibration=calibration, baseline=tuple(float(h) for h in hazard))


def _slope(lp: Float, time: Float, event: Float) -> tuple[float, str]:
    """Slope of out-of-fold log hazards, not below 0, and why it is not estimated."""
    try:
        slope = float(fit_cox(lp[:, None], time, event).coef[0])
    except NotEstimableError as error:
        return 1.0, f"no slope: {error.what}"
    return (slope, "") if slope > 0 else (0.0, "out-of-fold scores do not go with the event")


def _offset(goal: Goal) -> tuple[float, ...]:
    """Minus the log share of each class among the training units; 0 for a class without one."""
    share = np.bincount(goal.y.astype(np.intp), minlength=goal.outputs) / len(goal)
    return tuple(float(-np.log(s)) if s > 0 else 0.0 for s in share)


def _usable(outcome: Any) -> Rows:
    """Units that can be learnt from: a label that stops at an inner node names no class."""
    if isinstance(outcome, ClassOutcome):
        return np.flatnonzero(outcome.full)
    if not isinstance(outcome, BinaryOutcome | SurvivalOutcome):
        raise NotEstimableError("a predictor cannot be fitted to patients without outcomes")
    return np.arange(len(outcome.event))


def _goal(outcome: Any) -> Goal:
    if isinstance(outcome, SurvivalOutcome):
        return Goal("survival", outcome.event.astype(np.float64), outcome.time)
    if isinstance(outcome, BinaryOutcome):
        return Goal("binary", outcome.y)
    leaf = leaf_labels(outcome.tree, outcome.node)
    return Goal("classes", leaf.astype(np.float64), outputs=len(outcome.tree.leaves))


def _names(outcome: Any) -> tuple[str, ...]:
    if isinstance(outcome, SurvivalOutcome):
        return tuple(f"{h:g} {outcome.unit}" for h in outcome.horizons)
    return (outcome.positive,) if isinstance(outcome, BinaryOutcome) else outcome.tree.nodes
