"""Decision curves of held-out predictions over the range that the schema states, and only there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import SurvivalOutcome
from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.survival_utility import (
    SurvivalDecisionBand,
    SurvivalDecisionCurve,
    net_benefit_at,
    net_benefit_band_at,
)
from osml.evaluation.utility import DecisionBand, DecisionCurve, net_benefit, net_benefit_band
from osml.schema.model import Schema
from osml.study.judge import TestSet

NO_DECISION = "no decision stated"
COLUMNS = (
    "threshold", "model", "low", "high", "treat_all", "treat_none", "standardised", "avoided_per_100",
    "gain_low", "gain_high",
)  # fmt: skip
BOOTSTRAPS = 1000


def thresholds(schema: Schema) -> NDArray[np.float64]:
    """Every hundredth of risk inside the stated range, its two ends included."""
    assert schema.decision is not None
    low, high = schema.decision.thresholds
    inside = np.arange(np.ceil(low * 100 - 1e-9), np.floor(high * 100 + 1e-9) + 1) / 100
    return np.unique(np.concatenate([[low], inside, [high]]))


def decision_binary(schema: Schema, sets: Sequence[TestSet], withheld: str, seed: int) -> dict[str, Any]:
    """Net benefit of out-of-fold risks; repeats are averaged, patients resampled for the band."""
    if schema.decision is None or withheld:
        return {"reason": withheld or NO_DECISION}
    y, p = np.concatenate([s.y for s in sets]), np.concatenate([s.p for s in sets])
    patients = np.concatenate([s.patients for s in sets]).astype(str)
    prevalence = None if schema.study.prevalence is None else schema.study.prevalence.value
    fixed = schema.validation.split.kind in ("holdout", "time")
    grid = thresholds(schema)
    try:
        curve = net_benefit(y, p, grid, prevalence=prevalence)
        band = net_benefit_band(
            y,
            p,
            grid,
            BOOTSTRAPS,
            np.random.default_rng([seed, 2]),
            groups=patients,
            prevalence=prevalence,
            fixed_model=fixed,
        )
    except (NotEstimableError, InvalidInputError) as error:
        return {"reason": error.what}
    return _result(schema, grid, curve, band, {"prevalence": curve.prevalence})


def decision_survival(
    schema: Schema,
    outcome: SurvivalOutcome,
    index: NDArray[np.intp],
    risk: NDArray[np.float64],
    patients: NDArray[np.str_],
    horizon: float,
    seed: int,
) -> dict[str, Any]:
    """Net benefit at the last horizon, Kaplan-Meier among those treated."""
    if schema.decision is None:
        return {"reason": NO_DECISION}
    grid = thresholds(schema)
    fixed = schema.validation.split.kind in ("holdout", "time")
    time, event = outcome.time[index], outcome.event[index]
    try:
        curve = net_benefit_at(time, event, risk, horizon, grid)
        band = net_benefit_band_at(
            time,
            event,
            risk,
            horizon,
            grid,
            BOOTSTRAPS // 5,
            np.random.default_rng([seed, 2]),
            groups=patients,
            fixed_model=fixed,
        )
    except (NotEstimableError, InvalidInputError) as error:
        return {"reason": error.what}
    return _result(schema, grid, curve, band, {"horizon": horizon})


def _result(
    schema: Schema,
    grid: NDArray[np.float64],
    curve: DecisionCurve | SurvivalDecisionCurve,
    band: DecisionBand | SurvivalDecisionBand,
    facts: dict[str, Any],
) -> dict[str, Any]:
    assert schema.decision is not None
    columns = (
        grid, curve.model, band.low, band.high, curve.treat_all, curve.treat_none, curve.standardised,
        curve.interventions_avoided, band.gain_low, band.gain_high,
    )  # fmt: skip
    points = [
        {name: float(x) if np.isfinite(x) else None for name, x in zip(COLUMNS, row, strict=True)}
        for row in np.column_stack(columns)
    ]
    return {**schema.decision.model_dump(), **facts, "interval": band.kind, "curve": points}
