"""A fitted study with AutoGluon beside other predictors, for tests of its bundle, its report and the app."""

from __future__ import annotations

import json
from pathlib import Path

from served import FIVE, INPUTS, patients
from small_studies import schema_data, write_table

from osml.study.fit import fit


def serve_many(folder: Path) -> Path:
    """Fit it, with its report; returns the run's path.

    `many` is AutoGluon, `both` averages it with a regression.
    """
    write_table(folder / "table.csv", patients(72))
    data = schema_data(
        bootstraps=30,
        inputs=INPUTS,
        missing="impute",
        predictors={
            "clinical": {"kind": "nomogram", "inputs": ["age", "sex"], "shrink": "none"},
            "many": {"kind": "autogluon", "label": "Many models", "inputs": FIVE},
            "both": {"kind": "stack", "inputs": ["clinical", "many"]},
        },
    )
    data["validation"] |= {"split": {"kind": "kfold", "folds": 2}, "inner": {"folds": 2}}
    data["study"] |= {"title": "Many models", "population": "adults"}
    schema = folder / "study.yaml"
    schema.write_text(json.dumps(data), encoding="utf-8")
    return fit(schema, runs=folder / "runs", workers=1, say=lambda line: None, quiet=True).run.path
