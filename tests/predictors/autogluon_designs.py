"""Designs and schemas for AutoGluon in memory, and a fitted predictor whose files no AutoGluon made."""

from __future__ import annotations

from typing import Any

import numpy as np
from network_designs import TREE, network_cohort, network_schema

from osml.predictors.autogluon import FittedAutogluon
from osml.predictors.autogluon_calibration import RAW
from osml.predictors.autogluon_files import versions
from osml.predictors.autogluon_frame import fit_frame
from osml.predictors.contract import Design
from osml.predictors.table import fit_table
from osml.schema.autogluon import AutogluonPredictor
from osml.schema.model import Schema

INPUTS = ("picture", "texture", "age", "marker", "stage")
STRANGE = b"cos\nsystem\n(S'echo no'\ntR."  # a pickle that would run a command


def schema_of(target: str = "binary", folds: int = 3, inputs: tuple[str, ...] = INPUTS, **block: Any) -> Schema:
    """A schema with one predictor `many`, beside a network that reads the same pictures."""
    schema = network_schema(target, inner={"folds": folds})
    many = AutogluonPredictor(kind="autogluon", inputs=inputs, **block)
    return schema.model_copy(update={"predictors": {**schema.predictors, "many": many}})


def design_of(schema: Schema, n: int = 60, *, gaps: bool = True, rows_per_patient: int = 1, seed: int = 0) -> Design:
    """Patients of `network_designs`, without upstream scores."""
    return Design(network_cohort(schema, n, gaps=gaps, rows_per_patient=rows_per_patient, seed=seed))


def stored(target: str = "binary", **changes: Any) -> FittedAutogluon:
    """A predictor that can be saved, loaded and asked for `risks`; its one file is a program, which must never run."""
    schema = schema_of(target)
    design = design_of(schema)
    table = fit_table(schema, "many", design)
    classes = target != "binary"
    facts: dict[str, Any] = {
        "name": "many",
        "target": "classes" if classes else "binary",
        "columns": TREE.nodes if classes else ("bad",),
        "tree": TREE if classes else None,
        "frame": fit_frame(table, table.matrix(design)),
        "learnt": (0, 1, 2) if classes else (0, 1),
        "shares": (0.5, 0.2, 0.3) if classes else (0.6, 0.4),
        "calibration": RAW,
        "restated": False,
        "versions": versions(),
        "files": {"learner.pkl": STRANGE},
    }
    return FittedAutogluon(**{**facts, **changes})


def simplex(n: int, k: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Made-up probabilities (n, k)."""
    return np.random.default_rng(seed).dirichlet(np.ones(k), size=n)
