"""Cohorts for networks in memory: vectors of images and a table that tell different halves of the outcome."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import (
    BinaryOutcome,
    ClassOutcome,
    Cohort,
    FeatureTable,
    ImageTable,
    Outcome,
    SurvivalOutcome,
)
from osml.features.images import image_plan
from osml.schema.model import Schema
from osml.stats.tree import label_tree

TREE = label_tree(["healthy", {"tumour": ["dead", "alive"]}])
TARGETS: dict[str, dict[str, Any]] = {
    "binary": {"kind": "binary", "column": "outcome", "positive": "bad", "negative": "good"},
    "survival": {"kind": "survival", "time": "t", "event": "e", "unit": "month", "horizons": [6, 12],
                 "competing": "none"},
    "hierarchy": {"kind": "hierarchy", "column": "label", "tree": ["healthy", {"tumour": ["dead", "alive"]}],
                  "partial": {"mixed": "tumour"}},
}  # fmt: skip
QUICK = {"epochs": 12, "batch": 64}


def network_schema(target: str = "binary", *, inner: Any = None, study: Any = None, **block: Any) -> Schema:
    """A schema with one network `net`; `block` replaces keys of it."""
    net = {"kind": "network", "inputs": ["picture", "age", "marker", "stage"], "train": QUICK, **block}
    return Schema.model_validate(
        {
            "version": 1,
            "name": "nets",
            "study": study or {"sampling": "cohort"},
            "cohort": {"table": "t.csv", "patient": "id"},
            "time_of_prediction": "now",
            "times": ["now"],
            "target": TARGETS[target],
            "inputs": {
                "picture": {"kind": "image", "several": True, "available": "now"},
                "texture": {"kind": "radiomics", "of": "picture", "mask": "nuclei"},
                "age": {"kind": "number", "unit": "year", "available": "now"},
                "marker": {"kind": "lab", "unit": "U/L", "kit": {"low": 0, "high": 1}, "available": "now"},
                "stage": {"kind": "category", "levels": ["I", "II", "III"], "available": "now"},
            },
            "predictors": {"net": net},
            "missing": "impute",
            "validation": {"split": {"kind": "kfold"}, "inner": inner or {"folds": 2}, "seed": 3},
        }
    )


def network_cohort(
    schema: Schema, n: int = 160, *, seed: int = 0, gaps: bool = False, rows_per_patient: int = 1
) -> Cohort:
    """Half of the signal lies in the picture's vector, half in `marker`; `texture` repeats the picture's half.

    gaps : every seventh unit has no picture, every fifth no marker
    """
    rng = np.random.default_rng(seed)
    seen, told = rng.normal(size=n), rng.normal(size=n)
    signal = 1.5 * seen + 1.5 * told
    counts = rng.integers(1, 4, n)
    marker = told + 0.1 * rng.normal(size=n)
    if gaps:
        counts[::7] = 0
        marker[::5] = np.nan
    row = np.repeat(np.arange(n), counts)
    vectors = rng.normal(size=(len(row), 1, 6)).astype(np.float32)
    vectors[:, 0, 0] += 2.0 * seen[row]
    texture = np.column_stack([seen + 0.1 * rng.normal(size=n), rng.normal(size=n), np.ones(n)])
    texture[3] = np.nan
    units = tuple(f"U{i:03d}" for i in range(n))
    patients = tuple(f"P{i // rows_per_patient:03d}" for i in range(n))
    kit = (np.zeros(n), np.ones(n))
    names = [name for name in schema.networks()["net"].inputs if name == "picture"]
    return Cohort(
        units=units,
        patients=patients,
        copies=np.zeros(n, dtype=np.intp),
        values={
            "age": rng.normal(40, 12, n),
            "marker": marker,
            "stage": rng.integers(0, 3, n).astype(np.float64),
        },
        kit={"marker": kit},
        keys={},
        outcome=_outcome(schema, signal, rng),
        per_row=rows_per_patient > 1,
        features={"texture": FeatureTable(("a", "b", "constant"), texture)},
        images={
            image_plan(schema, "net", name).key: ImageTable(vectors, np.arange(len(row), dtype=np.intp), row)
            for name in names
        },
    )


def _outcome(schema: Schema, signal: NDArray[np.float64], rng: np.random.Generator) -> Outcome:
    n = len(signal)
    if schema.target.kind == "binary":
        return BinaryOutcome((rng.random(n) < 1 / (1 + np.exp(-signal))).astype(np.float64), "bad", "good")
    if schema.target.kind == "survival":
        time, censored = rng.exponential(12 * np.exp(-signal)) + 0.05, rng.uniform(4, 40, n)
        return SurvivalOutcome(np.minimum(time, censored), time <= censored, "month", (6.0, 12.0))
    label = np.where(signal < -0.7, 0, np.where(signal < 0.9, 2, 3)).astype(np.intp)
    label[::20] = np.where(label[::20] > 0, 1, 0)  # some say no more than that it is tumour
    return ClassOutcome(label, TREE)


def halves(cohort: Cohort) -> tuple[Cohort, Cohort]:
    """Training units and test units without outcomes; outcomes of the latter stay in the cohort."""
    ids = cohort.patient_ids
    middle = len(ids) // 2
    return cohort.of(ids[:middle]), cohort.of(ids[middle:])


def renamed_inputs(schema: Schema, *inputs: str) -> Schema:
    """The schema whose network takes only these inputs."""
    block = schema.networks()["net"]
    less = block.model_copy(update={"inputs": inputs, "fusion": "concat" if len(inputs) < 2 else block.fusion})
    return schema.model_copy(update={"predictors": {"net": less}})


def without(cohort: Cohort, **changes: Any) -> Cohort:
    """The cohort with fields replaced."""
    return replace(cohort, **changes)
