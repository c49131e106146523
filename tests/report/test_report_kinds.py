"""Reports of every kind of study: noise, withheld risks, other splits, competing events, several rows a patient."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import Page
from report_runs import FitRun, noise_rows
from small_studies import SURVIVAL, schema_data, simulate_rows, write_table
from typer.testing import CliRunner

from osml.cli import app
from osml.evaluation.logrank import logrank
from osml.explanation.run import explain_run
from osml.report.figures_survival import risk_group_exhibit, risk_groups
from osml.report.run import read_run
from osml.study.fit import fit

SPLIT = {"split": {"kind": "kfold", "folds": 3}, "optimism": {"predictors": [], "bootstraps": 20}, "seed": 5}
OVERFIT = {"clinical": {"kind": "nomogram", "inputs": [f"x{j}" for j in range(12)], "shrink": "none"}}
NOISE_INPUTS = {f"x{j}": {"kind": "number", "available": "diagnosis"} for j in range(12)}


def page_of(run: Path) -> Page:
    return Page(run / "report" / "report.html")


def test_without_prevalence_a_case_control_study_shows_no_risk_and_says_why(fit_run: FitRun):
    run = fit_run(
        study={"sampling": "case_control"},
        decision={"action": "biopsy", "act_on": "bad", "thresholds": [0.2, 0.4], "why": "w"},
    )
    page = page_of(run)
    figures = {e.attributes["id"] for e in page.all("figure") if "id" in e.attributes}
    assert figures == {"flow", "roc_clinical", "shap_clinical", "shap_clinical_dependence"}
    reason = "sampling is case_control and no `study.prevalence` is given"
    for section in ("calibration", "decision", "nomogram"):
        assert reason in page.section(section)
    assert reason.split(" and ")[0] in page.all("ul", class_="warnings")[0].words
    shown = set(page.metrics())
    assert "predictors/clinical/out_of_fold/auc/value" in shown
    assert not [path for path in shown if any(key in path for key in ("slope", "brier", "decision", "intercept"))]
    assert not page.all("img")
    assert "withheld | withheld" in (run / "model_card.md").read_text()


@pytest.mark.full
def test_noise_and_an_overfitting_model_give_an_uninformative_report(fit_run: FitRun):
    decision = {"action": "biopsy", "act_on": "bad", "thresholds": [0.3, 0.7], "why": "w"}
    run = fit_run(
        noise_rows(80, 12, 1), inputs=NOISE_INPUTS, predictors=OVERFIT, decision=decision,
        validation={**SPLIT, "split": {"kind": "kfold", "folds": 4, "repeats": 2}},
        checks={"accept": dict.fromkeys(("OSML010", "OSML041", "OSML042"), "a test")},
    )  # fmt: skip
    page = page_of(run)
    shown = page.metrics()
    held_out = {k: v for k, v in shown.items() if "/out_of_fold/auc/" in k}
    assert (
        held_out["predictors/clinical/out_of_fold/auc/low"][0]
        < 0.5
        < held_out["predictors/clinical/out_of_fold/auc/high"][0]
    )
    assert abs(held_out["predictors/clinical/out_of_fold/auc/value"][0] - 0.5) < 0.12
    # The model does overfit: its apparent AUC is high, and stands in the fold that says it is no evidence.
    apparent = shown["predictors/clinical/apparent/auc/value"][0]
    assert apparent > 0.7
    (optimism,) = [e for e in page.all("details") if e.words.startswith("Optimism")]
    assert "no evidence of performance" in optimism.words
    assert f"{apparent:.2f}" not in page.section("summary") + page.section("discrimination")
    assert "The interval includes chance" in page.section("summary")
    assert "its risks are too extreme for new patients" in page.section("summary")
    assert "the interval lay above both at 0." in page.section("summary")
    metrics = json.loads((run / "metrics.json").read_text())
    curve = metrics["predictors"]["clinical"]["out_of_fold"]["decision"]["curve"]
    gain = np.mean([row["model"] - max(row["treat_all"], row["treat_none"]) for row in curve])
    assert gain < 0.02


@pytest.mark.full
def test_noise_and_an_overfitting_cox_model_give_no_separation_between_risk_groups(fit_run: FitRun):
    run_path = fit_run(
        noise_rows(80, 12, 2), inputs=NOISE_INPUTS, predictors=OVERFIT, target=SURVIVAL,
        validation={**SPLIT, "split": {"kind": "kfold", "folds": 4, "repeats": 2}},
        checks={"accept": dict.fromkeys(("OSML010", "OSML041", "OSML042"), "a test")},
    )  # fmt: skip
    run = read_run(run_path)
    outcome: Any = run.outcome
    for index, group in risk_groups(run, "clinical"):
        assert logrank(outcome.time[index], outcome.event[index], group).p > 0.05
    apparent = json.loads((run_path / "metrics.json").read_text())["predictors"]["clinical"]["apparent"]["c"]["value"]
    assert apparent > 0.6
    assert "The interval includes chance" in page_of(run_path).section("summary")


@pytest.mark.full
@pytest.mark.parametrize("split", ["holdout", "time", "leave_one_group_out", "leave_one_patient_out"])
@pytest.mark.parametrize("kind", ["binary", "survival"])
def test_other_splits_are_told_as_they_are(fit_run: FitRun, split: str, kind: str):
    rows = simulate_rows(60)
    for k, row in enumerate(rows):
        row["year"] = str(2000 + k % 20)
    settings = {
        "holdout": {"kind": "holdout", "column": "part", "test": "test"},
        "time": {"kind": "time", "column": "year", "test_from": "2014"},
        "leave_one_group_out": {"kind": "leave_one_group_out", "column": "part"},
        "leave_one_patient_out": {"kind": "leave_one_patient_out"},
    }
    target = {"target": SURVIVAL} if kind == "survival" else {}
    run = fit_run(rows, validation={**SPLIT, "split": settings[split]}, **target)
    page = page_of(run)
    words = page.section("summary")
    if split in ("holdout", "time"):
        where = "later patients of this study" if split == "time" else "patients set apart in this study"
        assert f"Tested on {where}" in words
        assert "out of fold" not in page.words.lower().replace("out-of-fold", "out of fold")
        if kind == "binary":
            assert "DeLong, fixed model on independent patients" in words
            assert "fixed by design" not in page.section("calibration")
    elif split == "leave_one_patient_out":
        assert f"no {'AUC' if kind == 'binary' else chr(72) + 'arrell' + chr(39) + 's C'}" in words
        assert "Pooled over folds, secondary" in words
        if kind == "binary":
            assert "One patient per fold has no ROC curve" in page.section("discrimination")
    else:
        assert "leaving out one value of “part” at a time" in words
    assert page.unbalanced == []


@pytest.mark.full
def test_competing_events_are_counted_as_incidence_not_as_censoring(fit_run: FitRun):
    rows = simulate_rows(90)
    rng = np.random.default_rng(0)
    for row in rows:
        row["died"] = str(int(row["relapse"] == "0" and rng.random() < 0.6))
    run_path = fit_run(rows, target={**SURVIVAL, "competing": ["died"]})
    page = page_of(run_path)
    assert "with competing events one Cox model overstates it" in page.section("calibration")
    assert "Cumulative incidence by risk group" in page.section("survival")
    assert "Kaplan-Meier by risk group" not in page.words
    run = read_run(run_path)
    exhibit = risk_group_exhibit(run, "clinical")
    assert all(0 <= row[3] <= 1 for row in exhibit.data)
    words = {row[0] for row in page_rows(run_path / "report" / "figures" / "incidence.csv")}
    assert words == {"the event", "competing event"}


def page_rows(path: Path) -> list[list[str]]:
    import csv

    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))[1:]


@pytest.mark.full
def test_several_rows_a_patient_are_called_rows_and_get_no_independent_intervals(fit_run: FitRun):
    rows = simulate_rows(90)
    for k, row in enumerate(rows):
        row["visit"], row["id"] = row["id"], f"Q{k // 2:03d}"
    run = fit_run(rows, cohort={"table": "table.csv", "patient": "id", "row": "visit"})
    page = page_of(run)
    assert "90 rows" in page.section("summary")
    assert "90 rows of 45 patients analysed" in " ".join(page.section("patients").split())
    assert "groups are drawn without intervals" in page.section("calibration")


@pytest.mark.full
def test_a_large_cohort_gets_the_smooth_curve_with_its_band(fit_run: FitRun):
    run = fit_run(simulate_rows(500))
    page = page_of(run)
    assert any("loess with 95 % band" in e.words for e in page.all("text"))
    assert "not drawn" not in page.section("calibration")


@pytest.mark.full
@pytest.mark.parametrize(
    ("select", "reason"), [("lasso", "There is no final model: no column"), ("univariable", "nothing was selected")]
)
def test_a_predictor_that_selects_nothing_is_reported_as_such(fit_run: FitRun, select: str, reason: str):
    rows = noise_rows(60, 2, 4)
    for k, row in enumerate(rows):
        # Both inputs cancel within each pair of patients, and a pair has one outcome: no association at all.
        row |= {"x0": str((-1) ** k * (1 + k // 2 % 5)), "x1": str((-1) ** k * (1 + k // 2 % 7))}
        row["outcome"] = "bad" if k // 2 % 2 else "good"
    run = fit_run(
        rows, inputs={k: NOISE_INPUTS[k] for k in ("x0", "x1")},
        predictors={"clinical": {"kind": "nomogram", "inputs": ["x0", "x1"], "select": select}},
        checks={"accept": dict.fromkeys(("OSML010", "OSML041", "OSML042"), "a test")},
    )  # fmt: skip
    page = page_of(run)
    assert page.unbalanced == []
    assert reason in page.section("explanation")
    card = (run / "model_card.md").read_text()
    assert ("not fitted to all patients" if select == "lasso" else "inputs kept: none") in card


@pytest.mark.full
def test_a_score_that_feeds_a_predictor_is_explained_as_one_input(fit_run: FitRun):
    predictors = {
        "clinical": {"kind": "nomogram", "inputs": ["age", "marker"]},
        "fed": {"kind": "nomogram", "inputs": ["clinical", "sex"], "shrink": "none"},
    }
    run = fit_run(simulate_rows(60), predictors=predictors)
    explained = explain_run(run, "fed")
    assert {c.label for c in explained.columns} == {"clinical score", "sex"}
    assert explained.shap.base + explained.shap.values.sum(axis=1) == pytest.approx(explained.shap.lp, rel=1e-12)
    assert "clinical score" in page_of(run).section("explanation")


def test_report_and_explain_commands_work_from_the_run_alone(survival_run: Path, tmp_path: Path):
    (survival_run / "report" / "report.html").unlink()
    runner = CliRunner()
    done = runner.invoke(app, ["report", str(survival_run)])
    assert done.exit_code == 0, done.output
    assert (survival_run / "report" / "report.html").is_file()
    done = runner.invoke(app, ["explain", str(survival_run), "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "what the model does, not how good it is" in done.output
    explained = explain_run(survival_run, "clinical")
    rows = page_rows(tmp_path / "out" / "contributions.csv")
    assert [row[0] for row in rows] == list(explained.units)
    numbers = np.array([row[1:] for row in rows], dtype=float)
    assert numbers[:, :-1].sum(axis=1) == pytest.approx(numbers[:, -1], rel=1e-12)
    for name in ("shap_summary", "shap_dependence", "shap_waterfall_median", "shap_waterfall_high"):
        assert {p.suffix for p in (tmp_path / "out").glob(f"{name}.*")} == {".pdf", ".png", ".csv"}


def test_explanation_sums_to_the_served_prediction_of_every_patient(binary_run: Path):
    from osml.cohort.table import read_table
    from osml.serving import load

    table = read_table(binary_run.parents[2] / "table.csv")
    explained = explain_run(binary_run, "clinical")
    assert explained.shap.base + explained.shap.values.sum(axis=1) == pytest.approx(explained.shap.lp, rel=1e-12)
    model = load(binary_run, "clinical")
    for k, line in enumerate(table.rows[:5]):
        served = model.explain(table, k)
        i = explained.units.index(line[table.columns.index("id")])
        assert served.base == pytest.approx(explained.shap.base, rel=1e-12)
        assert [c.value for c in served.contributions] == pytest.approx(explained.shap.values[i], rel=1e-9, abs=1e-12)


def test_an_unknown_predictor_is_refused_with_what_there_is(survival_run: Path):
    from osml.errors import RunError

    with pytest.raises(RunError, match="no final model of 'clinicl'"):
        explain_run(survival_run, "clinicl")


@pytest.mark.full
def test_a_failed_predictor_is_named_and_the_rest_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import osml.study.tasks as tasks
    from osml.errors import NotEstimableError

    real = tasks.fit_chain

    def fails(schema: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "broken":
            raise NotEstimableError("it does not converge")
        return real(schema, name, *args, **kwargs)

    monkeypatch.setattr(tasks, "fit_chain", fails)
    monkeypatch.setattr("osml.study.final.draw_sheet", lambda *a, **k: {"drawn": False, "reason": "left out"})
    write_table(tmp_path / "table.csv", simulate_rows())
    inputs = ["age", "sex"]
    data = schema_data(
        {"broken": {"kind": "nomogram", "inputs": inputs}, "clinical": {"kind": "nomogram", "inputs": inputs}}
    )
    (tmp_path / "study.yaml").write_text(json.dumps(data))
    result = fit(tmp_path / "study.yaml", runs=tmp_path / "runs", workers=1, quiet=True, say=lambda line: None)
    page = page_of(result.run.path)
    assert "Not all fits succeeded: broken" in page.all("ul", class_="warnings")[0].words
    assert "not ranked: 3 of 3 folds failed" in page.section("results")
    assert "predictors/clinical/out_of_fold/auc/value" in page.metrics()
    assert not [e for e in page.all("figure") if e.attributes.get("id") == "roc_broken"]
