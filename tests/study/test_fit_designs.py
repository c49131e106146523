"""`fit` with every split, target and kind of sampling."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_studies import SURVIVAL, SmallStudy, simulate_rows

from osml.runs.store import read_predictions
from osml.study.fit import FitResult, fit


def run(study: SmallStudy, runs: Path) -> FitResult:
    return fit(study.schema, runs=runs, workers=1, say=lambda _: None, quiet=True)


@pytest.mark.parametrize(
    "split",
    [
        {"kind": "holdout", "column": "part", "test": "test"},
        {"kind": "leave_one_group_out", "column": "stage"},
        {"kind": "time", "column": "months", "test_from": "12"},
    ],
)
def test_other_splits_run(
    split: dict[str, Any], small_study: Callable[..., Any], tmp_path: Path, no_sheets: None
) -> None:
    validation = {"split": split, "optimism": {"predictors": [], "bootstraps": 10}, "seed": 5}
    result = run(small_study(validation=validation), tmp_path / "runs")
    folds = json.loads((result.run.path / "splits.json").read_text())
    assert len(folds) == (3 if split["kind"] == "leave_one_group_out" else 1)
    tested = [p for f in folds for p in f["test"]]
    assert sorted(r.unit for r in read_predictions(result.run.path / "predictions.parquet")) == sorted(tested)
    honest = result.metrics["predictors"]["clinical"]["out_of_fold"]
    assert 0.4 < honest["auc"]["value"] < 0.95
    if split["kind"] != "leave_one_group_out":
        assert "DeLong" in honest["auc"]["interval"]
        assert honest["intercept"]["value"] is not None


def test_leaving_one_patient_out_has_no_auc_within_a_fold(
    small_study: Callable[..., Any], tmp_path: Path, no_sheets: None
) -> None:
    validation = {
        "split": {"kind": "leave_one_patient_out"},
        "optimism": {"predictors": [], "bootstraps": 5},
        "seed": 5,
    }
    result = run(
        small_study(
            simulate_rows(30),
            validation=validation,
            predictors={"clinical": {"kind": "nomogram", "inputs": ["marker"]}},
        ),
        tmp_path / "runs",
    )
    area = result.metrics["predictors"]["clinical"]["out_of_fold"]["auc"]
    assert area["value"] is None
    assert 0.0 <= area["pooled"] <= 1.0
    # Noise averages well below one half here, which is why its mean stands beside the pooled value.
    assert area["permutation_mean"] < 0.45


@pytest.mark.full
def test_survival_end_to_end(small_study: Callable[..., Any], tmp_path: Path) -> None:
    result = run(small_study(target=SURVIVAL, bootstraps=60), tmp_path / "runs")
    facts = result.metrics["predictors"]["clinical"]
    assert 0.5 < facts["out_of_fold"]["c"]["value"] < 0.9
    assert [h["horizon"] for h in facts["out_of_fold"]["horizons"]] == [6.0, 12.0]
    assert facts["nomogram"]["drawn"]
    rows = read_predictions(result.run.path / "predictions.parquet")
    assert {r.column for r in rows} == {"6 month", "12 month"}
    assert len(rows) == 180


def test_without_prevalence_a_case_control_study_shows_no_probability(
    small_study: Callable[..., Any], tmp_path: Path
) -> None:
    study = small_study(study={"sampling": "case_control"})
    result = run(study, tmp_path / "runs")
    facts = result.metrics["predictors"]["clinical"]
    rows = read_predictions(result.run.path / "predictions.parquet")
    assert all(np.isnan(r.p) and r.low is None and r.high is None for r in rows)
    assert all(np.isfinite(r.lp) for r in rows)
    assert not facts["nomogram"]["drawn"]
    assert "withheld" in facts["nomogram"]["reason"]
    assert not (result.run.path / "nomogram").exists()
    assert "withheld" in facts["out_of_fold"]["brier"]["reason"]
    assert facts["out_of_fold"]["auc"]["value"] > 0.5


@pytest.mark.full
def test_prevalence_moves_every_stored_probability_alike(small_study: Callable[..., Any], tmp_path: Path) -> None:
    plain = run(small_study(folder="a"), tmp_path / "a")
    study = {"sampling": "case_control", "prevalence": {"value": 0.05, "source": "a registry"}}
    moved = run(small_study(folder="b", study=study), tmp_path / "b")
    one, two = (read_predictions(r.run.path / "predictions.parquet") for r in (plain, moved))
    folds = json.loads((plain.run.path / "splits.json").read_text())
    outcome = {row["id"]: row["outcome"] == "bad" for row in simulate_rows()}
    for a, b in zip(one, two, strict=True):
        share = np.mean([outcome[p] for p in folds[a.fold]["train"]])
        # King & Zeng 2001: the odds of everybody change by the ratio of the prevalence odds.
        expected = a.lp + np.log(0.05 / 0.95) - np.log(share / (1 - share))
        assert b.lp == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert b.p == pytest.approx(1 / (1 + np.exp(-expected)), rel=1e-9)
    assert moved.metrics["prevalence"] == {"value": 0.05, "source": "a registry"}
    assert moved.metrics["predictors"]["clinical"]["nomogram"]["drawn"]
    assert "a registry" in (moved.run.path / "nomogram/clinical/nomogram.json").read_text()


def test_a_prevalence_does_not_make_risks_of_a_sampled_survival_study(
    small_study: Callable[..., Any], tmp_path: Path
) -> None:
    study = {"sampling": "case_control", "prevalence": {"value": 0.05, "source": "a registry"}}
    result = run(small_study(study=study, target=SURVIVAL), tmp_path / "runs")
    rows = read_predictions(result.run.path / "predictions.parquet")
    assert all(np.isnan(r.p) and np.isfinite(r.lp) for r in rows)
    assert "no prevalence corrects a Cox baseline" in result.metrics["predictors"]["clinical"]["nomogram"]["reason"]
