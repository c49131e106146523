"""Cohorts and recipes in memory for tests of predictors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, Cohort, Outcome, SurvivalOutcome
from osml.predictors.contract import Design
from osml.predictors.recipe import GlmRecipe, InputRecipe

Float = NDArray[np.float64]

AGE = InputRecipe("age", "Age", "number", "year")
MARKER = InputRecipe("marker", "Marker", "number", "U/L", transform="log")
SEX = InputRecipe("sex", "Sex", "category", levels=("female", "male"))
STAGE = InputRecipe("stage", "Stage", "category", levels=("I", "II", "III"))
ALL = (AGE, MARKER, SEX, STAGE)


def recipe(*inputs: InputRecipe, **changes: Any) -> GlmRecipe:
    """Unpenalised, complete-case, no selection, 60 bootstraps, unless changed."""
    plain = GlmRecipe("clinical", inputs or ALL, "none", "none", "ml", False, 60, 5)
    return replace(plain, **changes)


def simulate(n: int = 150, seed: int = 0, *, missing: float = 0.0, survival: bool = False) -> Design:
    """Four inputs with effects on the outcome; `missing` is the share of gaps in age, marker and stage."""
    rng = np.random.default_rng(seed)
    values: dict[str, Float] = {
        "age": rng.normal(50, 12, n),
        "marker": np.exp(rng.normal(4, 0.6, n)),
        "sex": rng.integers(0, 2, n).astype(float),
        "stage": rng.integers(0, 3, n).astype(float),
    }
    lp = (
        -0.6
        + 0.04 * (values["age"] - 50)
        + 1.2 * (np.log(values["marker"]) - 4)
        + 0.5 * values["sex"]
        + 0.4 * values["stage"]
    )
    outcome: Outcome
    if survival:
        time, end = rng.exponential(20 * np.exp(-0.7 * lp)) + 0.1, rng.uniform(5, 40, n)
        outcome = SurvivalOutcome(np.round(np.minimum(time, end), 1) + 0.1, time <= end, "month", (6.0, 12.0))
    else:
        outcome = BinaryOutcome((rng.random(n) < 1 / (1 + np.exp(-lp))).astype(float), "bad", "good")
    for name in ("age", "marker", "stage"):
        values[name][rng.random(n) < missing] = np.nan
    return design_of(values, outcome)


def design_of(
    values: dict[str, Float],
    outcome: Outcome | None,
    patients: Sequence[str] | None = None,
    upstream: dict[str, Float] | None = None,
) -> Design:
    """A design of columns; one unit per patient unless `patients` repeat."""
    n = len(next(iter((values or upstream or {}).values())))
    units = tuple(f"u{i}" for i in range(n))
    who = units if patients is None else tuple(patients)
    cohort = Cohort(units, who, np.zeros(n, dtype=np.intp), values, {}, {}, outcome, per_row=patients is not None)
    return Design(cohort, upstream or {})


def rows(design: Design, index: Sequence[int] | NDArray[np.intp]) -> Design:
    """Some units of a design, without outcomes, as a predictor sees them when it predicts."""
    i = np.asarray(index, dtype=np.intp)
    cohort = design.cohort._take(i, design.cohort.copies).without_outcome()
    return Design(cohort, {name: score[i] for name, score in design.upstream.items()})


def seed(k: int = 1) -> np.random.SeedSequence:
    return np.random.SeedSequence(k)
