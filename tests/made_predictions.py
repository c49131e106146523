"""Stored predictions of several predictors, made up: for tests of the choice among them and of what one adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from helpers import write_schema
from made_classes import class_cohort, class_rows, dealt_folds, guesses
from small_studies import BINARY, SURVIVAL, schema_data

from osml.cohort.cohort import BinaryOutcome, Cohort, SurvivalOutcome
from osml.cohort.splits import Fold
from osml.runs.store import PredictionRow
from osml.schema.load import load_schema
from osml.schema.model import Schema

NOMOGRAM = {"kind": "nomogram", "inputs": ["age", "sex"]}
RIDGE = {"kind": "nomogram", "inputs": ["age", "sex", "marker"], "shrink": "ridge"}
NETWORK = {"kind": "network", "inputs": ["age", "sex", "marker", "stage"]}


def schema_of(folder: Path, predictors: Mapping[str, Any], split: Any = None, **changes: Any) -> Schema:
    """A small study with these predictors that asks for a choice."""
    changes = {"report": {"select": True}, **changes}
    data = schema_data(predictors, **changes)
    data["validation"] = {"split": split or {"kind": "kfold", "folds": 4, "repeats": 2}, "seed": 5}
    data.setdefault("target", BINARY)
    return load_schema(write_schema(folder, data)).schema


def binary(n: int = 80, rows: int = 1, seed: int = 0) -> tuple[Cohort, np.ndarray]:
    """A cohort with events and the log odds of every unit; with several rows, of 1 to `rows` a patient."""
    rng = np.random.default_rng(seed)
    lp = rng.normal(-0.3, 1.5, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-lp))).astype(float)
    home = np.arange(n) if rows == 1 else np.repeat(np.arange(n), rng.integers(1, rows + 1, n))
    return _cohort(home, BinaryOutcome(y[home], "bad", "good"), rows > 1), lp[home]


def survival(n: int = 80, seed: int = 0) -> tuple[Cohort, np.ndarray]:
    """A cohort with follow-up in months and the log hazard of every patient."""
    rng = np.random.default_rng(seed)
    lp = rng.normal(0, 1, n)
    time, censored = rng.exponential(12 * np.exp(-lp)) + 0.1, rng.uniform(8, 30, n)
    outcome = SurvivalOutcome(np.minimum(time, censored), time <= censored, "month", (6.0, 12.0))
    return _cohort(np.arange(n), outcome, False), lp


def _cohort(home: np.ndarray, outcome: Any, per_row: bool) -> Cohort:
    return Cohort(
        units=tuple(f"u{i:03d}" for i in range(len(home))), patients=tuple(f"P{p:03d}" for p in home),
        copies=np.zeros(len(home), dtype=np.intp), values={}, kit={}, keys={}, outcome=outcome, per_row=per_row,
    )  # fmt: skip


def predicted(name: str, cohort: Cohort, folds: Sequence[Fold], lp: np.ndarray) -> list[PredictionRow]:
    """Rows of log odds, or of log hazards with risks at two horizons of an exponential distribution."""
    out = []
    survival = isinstance(cohort.outcome, SurvivalOutcome)
    for fold in folds:
        inside = [i for i, patient in enumerate(cohort.patients) if patient in set(fold.test)]
        columns = (
            {f"{h:g} month": 1 - np.exp(-h / 12 * np.exp(lp)) for h in (6, 12)}
            if survival
            else {"bad": 1 / (1 + np.exp(-lp))}
        )
        for column, p in columns.items():
            out += [
                PredictionRow(
                    name, fold.repeat, fold.index, cohort.units[i], cohort.patients[i], column, float(p[i]),
                    float(lp[i]), None, None, "none",
                )
                for i in inside
            ]  # fmt: skip
    return out


def noisy(lp: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """Log odds that know less."""
    return lp + noise * np.random.default_rng([seed, 7]).normal(size=len(lp))


def facts_of(names: Sequence[str], folds: Sequence[Fold], measure: str = "auc", **failed: int) -> dict[str, Any]:
    """What the judges leave behind, as far as the choice reads it; `failed` names predictors with failed folds."""
    out: dict[str, Any] = {}
    for name in names:
        lost = failed.get(name, 0)
        honest: dict[str, Any] = {measure: {"value": 0.7, "low": 0.6, "high": 0.8}, "brier": {"value": 0.2}}
        honest[measure]["folds"] = [{"fold": f.name, "value": 0.7 + 0.01 * k} for k, f in enumerate(folds)]
        if lost:
            honest = {"reason": f"not ranked: {lost} of {len(folds)} folds failed"}
        out[name] = {"folds": len(folds) - lost, "failed_folds": lost, "out_of_fold": honest}
    return out


__all__ = [
    "BINARY", "NETWORK", "NOMOGRAM", "RIDGE", "SURVIVAL", "binary", "class_cohort", "class_rows", "dealt_folds",
    "facts_of", "guesses", "noisy", "predicted", "schema_of", "survival",
]  # fmt: skip
