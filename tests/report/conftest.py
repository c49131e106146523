"""Finished runs of small studies, fitted once for all tests beside this file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_runs import DECISION, FitRun, made_up_features, scored_schema, with_images
from small_studies import BINARY, SURVIVAL, Rows, schema_data, simulate_rows, write_table

from osml.study.fit import fit


@pytest.fixture(scope="session")
def fit_run(tmp_path_factory: pytest.TempPathFactory) -> FitRun:
    """Fits a small study and returns its run: `fit_run(rows, predictors=..., target=..., ...)`.

    `features` stand in for those that would be computed from images.
    """

    def run(
        rows: Rows | None = None, *, sheets: bool = False, make: bool = True, features: Any = None, **schema: Any
    ) -> Path:
        folder = tmp_path_factory.mktemp("study")
        write_table(folder / "table.csv", simulate_rows(missing=0.0) if rows is None else rows)
        (folder / "study.yaml").write_text(json.dumps(schema_data(**schema)), encoding="utf-8")
        with pytest.MonkeyPatch.context() as patch:
            if not sheets:
                patch.setattr(
                    "osml.study.final.draw_sheet", lambda *a, **k: {"drawn": False, "reason": "left out in this test"}
                )
            if features is not None:
                patch.setattr("osml.study.images.compute_features", lambda *a, **k: features)
                # Where the fit draws lesions: there is no image.
                patch.setattr("osml.study.final.write_montage", lambda *a, **k: None, raising=False)
            if not make:
                patch.setattr("osml.study.fit.make_report", lambda path: path)
            result = fit(folder / "study.yaml", runs=folder / "runs", workers=1, quiet=True, say=lambda line: None)
        return result.run.path

    return run


TWO = {
    "clinical": {"kind": "nomogram", "inputs": ["age", "marker", "sex"], "terms": {"marker": "log"}},
    "paper": {"kind": "nomogram", "inputs": ["age", "marker", "stage"], "select": "univariable", "shrink": "none"},
}


@pytest.fixture(scope="session")
def binary_run(fit_run: FitRun) -> Path:
    """Two predictors, two repeats, a decision, missing values, a comparison and one sheet."""
    return fit_run(
        simulate_rows(missing=0.05),
        sheets=True,
        predictors=TWO,
        target=BINARY,
        decision=DECISION,
        missing="impute",
        validation={
            "split": {"kind": "kfold", "folds": 3, "repeats": 2},
            "optimism": {"predictors": ["clinical"], "bootstraps": 20},
            "seed": 5,
        },
        report={"compare": ["clinical", "paper"]},
    )


@pytest.fixture(scope="session")
def survival_run(fit_run: FitRun) -> Path:
    """One Cox predictor, two repeats."""
    return fit_run(
        target=SURVIVAL,
        validation={
            "split": {"kind": "kfold", "folds": 3, "repeats": 2},
            "optimism": {"predictors": [], "bootstraps": 20},
            "seed": 5,
        },
    )


@pytest.fixture(scope="session")
def scored_run(fit_run: FitRun) -> Path:
    """A Rad-score of two regions, four patients without a usable image, two repeats, a decision."""
    rows = with_images(simulate_rows(60, 3))
    return fit_run(rows, features=made_up_features(rows, lost=4), **scored_schema())
