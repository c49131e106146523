"""Schemas with one boosting predictor `net` for the cohorts of `network_designs`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from network_designs import network_cohort, network_schema

from osml.cohort.cohort import Cohort
from osml.predictors.boosting import FittedBoosting
from osml.predictors.contract import Design
from osml.predictors.registry import Fitting, fit_predictor
from osml.schema.model import Schema
from osml.schema.tabular import BoostingPredictor

TABLE = ("age", "marker", "stage")
EVERYTHING = ("picture", "texture", "age", "marker", "stage")


def boosting_schema(
    target: str = "binary", inputs: tuple[str, ...] = TABLE, *, inner: Any = None, study: Any = None, **block: Any
) -> Schema:
    """Inner folds: 3."""
    made = BoostingPredictor.model_validate({"kind": "boosting", "inputs": inputs, **block})
    schema = network_schema(target, inner=inner or {"folds": 3}, study=study)
    return schema.model_copy(update={"predictors": {"net": made}})


def cohort_of(target: str = "binary", n: int = 120, **kwargs: Any) -> Cohort:
    """Of `network_cohort`; half of the signal is in `marker`, half in pictures and `texture`."""
    return network_cohort(network_schema(target), n, **kwargs)


def fitted(schema: Schema, cohort: Cohort, *, seed: int = 5, work: Path | None = None) -> FittedBoosting:
    """Of the training units."""
    found = fit_predictor(Fitting(schema, "net", Design(cohort), np.random.SeedSequence(seed), work=work))
    assert isinstance(found, FittedBoosting)
    return found


def files(found: FittedBoosting, folder: Path) -> dict[str, bytes]:
    """What is saved, by name."""
    found.save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}
