"""The examples and the configured study run through the command line and say what the data say."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, data_path, reference_table

from osml.runs.store import read_predictions
from osml.schema.load import load_schema
from osml.stats.logistic import fit_logistic
from osml.stats.terms import Category, Linear, Spline, design_matrix

OSML = [sys.executable, "-c", "from osml.cli import main; main()"]
EXAMPLES = ROOT / "examples"
SCHEMAS = sorted(p for p in EXAMPLES.glob("*/*.yaml") if p.parent.name in ("birthwt", "pima", "sarcoma"))


def run_cli(schema: Path, runs: Path, **environment: str) -> tuple[Path, dict[str, Any]]:
    """Fit through the command line; the run's folder and its metrics."""
    command = [*OSML, "fit", str(schema), "--runs", str(runs), "--quiet", "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    assert done.returncode == 0, done.stderr
    run = (runs / load_schema(schema).schema.name / "latest").resolve()
    return run, json.loads((run / "metrics.json").read_text())


def value(metrics: dict[str, Any], predictor: str, *path: str) -> float:
    here: Any = metrics["predictors"][predictor]
    for part in path:
        here = here[part]
    return float(here["value"])


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda p: p.stem)
def test_each_example_is_a_valid_schema_with_a_readme(schema: Path) -> None:
    loaded = load_schema(schema)
    assert loaded.schema.predictors
    assert "osml fit" in (schema.parent / "README.md").read_text(encoding="utf-8")


def test_all_examples_were_found() -> None:
    assert [p.stem for p in SCHEMAS] == ["birthwt", "pima", "lung_metastasis", "mri_lung", "mri_relapse", "relapse"]


def test_yes_and_no_stay_texts_in_yaml() -> None:
    for stem in ("birthwt/birthwt", "pima/pima", "sarcoma/lung_metastasis"):
        schema: Any = load_schema(EXAMPLES / f"{stem}.yaml").schema
        assert isinstance(schema.target.positive, str)
        assert isinstance(schema.target.negative, str)
    smoke: Any = load_schema(EXAMPLES / "birthwt" / "birthwt.yaml").schema.inputs["smoke"]
    assert smoke.levels == ("no", "yes")


def made_pima(folder: Path) -> pd.DataFrame:
    spec = importlib.util.spec_from_file_location("make_table", EXAMPLES / "pima" / "make_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.join(reference_table("pima_tr.csv").parent, folder / "patients.csv") == 532
    return pd.read_csv(folder / "patients.csv")


def test_the_pima_table_joins_both_parts(tmp_path: Path) -> None:
    table = made_pima(tmp_path)
    assert table["set"].value_counts().to_dict() == {"test": 332, "training": 200}
    assert table["patient"].is_unique


@pytest.mark.full
def test_birthwt(tmp_path: Path) -> None:
    run, metrics = run_cli(EXAMPLES / "birthwt" / "birthwt.yaml", tmp_path)
    # rms::validate on this model: C 0.757 apparent, about 0.70 corrected.
    data = pd.read_csv(reference_table("birthwt.csv"))
    model = json.loads((run / "bundle" / "predictors" / "unshrunken" / "model.json").read_text())["model"]
    values = {name: data[name].to_numpy(float) for name in ("age", "lwt")}
    values["race"] = data["race"].map({"white": 0, "black": 1, "other": 2}).to_numpy(float)
    values |= {name: (data[name] == "yes").to_numpy(float) for name in ("smoke", "ptd", "ht", "ui")}
    lwt = next(t for t in model["terms"] if t["input"] == "lwt")
    two = {name: Category(name, ("no", "yes")) for name in ("smoke", "ptd", "ht", "ui")}
    terms = (
        Linear("age"),
        Spline("lwt", tuple(lwt["knots"])),
        Category("race", ("white", "black", "other")),
        *two.values(),
    )
    direct = fit_logistic(design_matrix(terms, values), data["low"].to_numpy(float))
    assert model["coef"] == pytest.approx(direct.coef.tolist(), rel=1e-8)
    assert value(metrics, "unshrunken", "apparent", "auc") == pytest.approx(0.7566, abs=5e-3)
    assert value(metrics, "clinical", "optimism_corrected", "auc") == pytest.approx(0.70, abs=0.02)
    assert abs(value(metrics, "clinical", "out_of_fold", "slope") - 1) < abs(
        value(metrics, "unshrunken", "out_of_fold", "slope") - 1
    )
    assert all(metrics["predictors"][p]["nomogram"]["drawn"] for p in ("clinical", "unshrunken"))
    # The sheet leaves the hospital: no patient is named on it, though duplicates were found.
    sheet = (run / "nomogram" / "clinical" / "nomogram.json").read_text()
    assert "two patients share all their values (7 times)" in sheet
    assert "agree in all" not in sheet


@pytest.mark.full
def test_pima_holdout(tmp_path: Path) -> None:
    table = made_pima(tmp_path)
    run, metrics = run_cli(EXAMPLES / "pima" / "pima.yaml", tmp_path / "runs", DATA=str(tmp_path))
    rows = [r for r in read_predictions(run / "predictions.parquet") if r.predictor == "clinical"]
    assert sorted(r.patient for r in rows) == sorted(table.loc[table["set"] == "test", "patient"])
    # The tested model is the logistic regression of the 200 training women, shrunken by one factor.
    names = ["npreg", "glu", "bp", "skin", "bmi", "ped", "age"]
    training = table[table["set"] == "training"]
    direct = fit_logistic(training[names].to_numpy(float), (training["type"] == "Yes").to_numpy(float))
    stored = json.loads((run / "folds" / "r0-f0" / "clinical" / "model.json").read_text())
    assert stored["unshrunken"]["coef"] == pytest.approx(direct.coef.tolist(), rel=1e-8)
    assert stored["model"]["coef"] == pytest.approx((stored["slope"]["value"] * direct.coef).tolist(), rel=1e-8)
    # `five` is the model that R's rms::lrm and val.prob describe: the same test set, the same numbers, end to end.
    reference = json.loads((ROOT / "tests/reference/r/out/c3_valprob_pima_external.json").read_text())
    five = [r for r in read_predictions(run / "predictions.parquet") if r.predictor == "five"]
    assert [r.lp for r in five] == pytest.approx(reference["lp"], rel=1e-8)
    assert [r.p for r in five] == pytest.approx(reference["p"], rel=1e-8)
    for key, name in (("slope", "Slope"), ("intercept", "Intercept"), ("brier", "Brier")):
        assert value(metrics, "five", "out_of_fold", key) == pytest.approx(reference["val_prob"][name], rel=1e-7)
    # val.prob bins its C, so pairs are counted instead.
    events = np.array(reference["y"]) == 1
    lp = np.array(reference["lp"])
    higher = lp[events][:, None] - lp[~events]
    assert value(metrics, "five", "out_of_fold", "auc") == pytest.approx(
        np.mean((higher > 0) + 0.5 * (higher == 0)), rel=1e-9
    )
    y = table.set_index("patient")["type"].eq("Yes")
    p = np.array([r.p for r in rows])
    assert value(metrics, "clinical", "out_of_fold", "brier") == pytest.approx(
        float(np.mean((p - y[[r.patient for r in rows]].to_numpy(float)) ** 2)), rel=1e-12
    )
    for name in ("backward", "lasso"):
        assert metrics["predictors"][name]["nomogram"]["drawn"]
        assert 0.8 < value(metrics, name, "out_of_fold", "auc") < 0.92


@pytest.mark.full
@pytest.mark.data
@pytest.mark.parametrize("stem", ["lung_metastasis", "relapse"])
def test_sarcoma(stem: str, tmp_path: Path) -> None:
    folder = data_path("soft_tissue_sarcoma", "patients.csv").parent.parent
    run, metrics = run_cli(EXAMPLES / "sarcoma" / f"{stem}.yaml", tmp_path, OSML_DATA=str(folder))
    summary = json.loads((run / "cohort" / "summary.json").read_text())
    assert summary["patients"] == 51
    assert summary["missing"]["grade"] == 3
    facts = metrics["predictors"]["clinical"]
    assert (metrics["events"], facts["failed_folds"]) == ((19, 0) if stem == "lung_metastasis" else (27, 0))
    key = "auc" if stem == "lung_metastasis" else "c"
    assert 0.4 < facts["out_of_fold"][key]["value"] < facts["apparent"][key]["value"] < 0.9
    assert facts["nomogram"]["drawn"]
    sheet = (run / "nomogram" / "clinical" / "nomogram.json").read_text()
    assert "STS_" not in sheet
    for file in (run / "bundle").rglob("*"):
        assert not file.is_file() or b"STS_0" not in file.read_bytes()
