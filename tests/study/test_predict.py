"""`osml predict` through the command line: one row out for every row in, bad rows named, the others predicted."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from small_studies import SURVIVAL, SmallStudy, simulate_rows, write_table

from osml.cli import main
from osml.study.fit import fit

pytestmark = pytest.mark.usefixtures("no_sheets")


def osml(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit code of a command."""
    monkeypatch.setattr(sys, "argv", ["osml", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def records(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def fitted(small_study: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """Fits a small study and returns its folder under runs/."""

    def make(rows: Any = None, **schema: Any) -> Path:
        study: SmallStudy = small_study(rows, **schema)
        fit(study.schema, runs=tmp_path / "runs", workers=1, say=lambda _: None, quiet=True)
        return tmp_path / "runs" / "small"

    return make


NEW: Sequence[Mapping[str, str]] = [
    {"id": "N1", "age": "44", "marker": "60", "sex": "male"},
    {"id": "N2", "age": "old", "marker": "60", "sex": "male"},
    {"id": "N3", "age": "44", "marker": "60", "sex": "Male"},
    {"id": "N4", "age": "", "marker": "60", "sex": "female"},
    {"id": "=N5()", "age": "44", "marker": "60", "sex": "female"},
    {"id": "N6", "age": "300", "marker": "60", "sex": "female"},
]


def test_every_row_comes_back_and_bad_ones_say_why(
    fitted: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fitted(bootstraps=60)
    write_table(tmp_path / "new.csv", NEW)
    out = tmp_path / "out.csv"
    assert osml(monkeypatch, "predict", run, tmp_path / "new.csv", "-o", out) == 2
    rows = records(out)
    assert [r["line"] for r in rows] == ["2", "3", "4", "5", "6", "7"]
    assert [r["id"] for r in rows] == ["N1", "N2", "N3", "N4", "'=N5()", "N6"]
    assert [r["status"] == "ok" for r in rows] == [True, False, False, False, True, True]
    assert "'old'" in rows[1]["status"]
    assert "did you mean 'male'?" in rows[2]["status"]
    assert "missing age" in rows[3]["status"]
    for row in rows:
        if row["status"] == "ok":
            assert 0 < float(row["low: bad"]) < float(row["risk: bad"]) < float(row["high: bad"]) < 1
            assert "instability interval" in row["interval"]
        else:
            assert row["risk: bad"] == row["linear_predictor"] == row["interval"] == ""
    assert rows[0]["risk: bad"] > rows[4]["risk: bad"]
    said = capsys.readouterr().out
    assert "predicted 3 of 6 rows" in said
    assert "new.csv:3: age: 'old'" in said
    assert "new.csv:5" in said
    outside = next(key for key in rows[5] if key in ("outside_range", "extrapolated"))
    assert [r[outside] for r in rows] == ["", "", "", "", "", "age"]


def test_good_rows_exit_with_zero_and_equal_the_stored_model(
    fitted: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fitted()
    everybody = simulate_rows()
    write_table(tmp_path / "new.csv", [{k: r[k] for k in ("sex", "marker", "id", "age")} for r in everybody])
    assert osml(monkeypatch, "predict", run, tmp_path / "new.csv", "-o", tmp_path / "out.csv") == 0
    rows = records(tmp_path / "out.csv")
    from osml.cohort.build import read_cohort
    from osml.predictors.chain import load_chain
    from osml.schema.load import load_schema

    loaded = load_schema(tmp_path / "study" / "study.yaml")
    chain = load_chain(loaded.schema, "clinical", run / "latest" / "bundle" / "predictors" / "clinical")
    expected = chain.predict(read_cohort(loaded).cohort)
    assert [float(r["risk: bad"]) for r in rows] == pytest.approx(expected.p[:, 0].tolist(), rel=1e-14)
    assert [float(r["linear_predictor"]) for r in rows] == pytest.approx(expected.lp.tolist(), rel=1e-14)


def test_missing_values_are_imputed_and_named_where_the_model_imputes(
    fitted: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fitted(simulate_rows(missing=0.1), missing="impute")
    rows = [
        {"id": "N1", "age": "44", "marker": "", "sex": "male"},
        {"id": "N2", "age": "44", "marker": "60", "sex": ""},
        {"id": "N3", "age": "", "marker": "", "sex": ""},
    ]
    write_table(tmp_path / "new.csv", rows)
    assert osml(monkeypatch, "predict", run, tmp_path / "new.csv", "-o", tmp_path / "out.csv") == 2
    out = records(tmp_path / "out.csv")
    assert [r["imputed"] for r in out] == ["marker", "sex", ""]
    assert [r["status"] for r in out] == ["ok", "ok", "every input is missing"]
    # One row alone gives what it gave among others.
    write_table(tmp_path / "one.csv", rows[:1])
    assert osml(monkeypatch, "predict", run, tmp_path / "one.csv", "-o", tmp_path / "one_out.csv") == 0
    assert records(tmp_path / "one_out.csv")[0]["risk: bad"] == out[0]["risk: bad"]


def test_a_missing_column_is_one_error_and_nothing_is_written(
    fitted: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fitted()
    write_table(tmp_path / "new.csv", [{"id": "N1", "age": "44", "marker_": "60", "sex": "male"}])
    assert osml(monkeypatch, "predict", run, tmp_path / "new.csv", "-o", tmp_path / "out.csv") == 1
    said = capsys.readouterr().err
    assert "no column 'marker' in new.csv" in said
    assert "marker_" in said
    assert not (tmp_path / "out.csv").exists()


def test_what_was_predicted_stays_when_all_rows_are_bad(
    fitted: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fitted()
    write_table(tmp_path / "new.csv", [{"id": "N1", "age": "x", "marker": "60", "sex": "male"}])
    assert osml(monkeypatch, "predict", run, tmp_path / "new.csv", "-o", tmp_path / "out.csv") == 2
    assert [r["id"] for r in records(tmp_path / "out.csv")] == ["N1"]


def test_the_id_and_the_outcome_are_not_needed(
    fitted: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fitted()
    write_table(tmp_path / "new.csv", [{"age": "44", "marker": "60", "sex": "male"}])
    assert osml(monkeypatch, "predict", run, tmp_path / "new.csv", "-o", tmp_path / "out.csv") == 0
    assert records(tmp_path / "out.csv")[0]["status"] == "ok"


def test_an_unknown_predictor_or_run_is_a_user_error(
    fitted: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fitted()
    write_table(tmp_path / "new.csv", NEW)
    assert osml(monkeypatch, "predict", run, tmp_path / "new.csv", "--predictor", "clinicl") == 1
    assert "clinical" in capsys.readouterr().err
    assert osml(monkeypatch, "predict", tmp_path / "nowhere", tmp_path / "new.csv") == 1
    assert osml(monkeypatch, "predict", run, tmp_path / "absent.csv") == 1


def test_a_fed_predictor_asks_for_the_inputs_of_what_feeds_it(
    fitted: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fitted(
        predictors={
            "fed": {"kind": "nomogram", "inputs": ["first", "stage"]},
            "first": {"kind": "nomogram", "inputs": ["age", "marker"], "shrink": "none"},
        }
    )
    write_table(tmp_path / "short.csv", [{"id": "N1", "stage": "I"}])
    assert osml(monkeypatch, "predict", run, tmp_path / "short.csv", "-o", tmp_path / "out.csv") == 1
    said = capsys.readouterr().err
    assert "'age'" in said
    assert "'marker'" in said
    write_table(tmp_path / "new.csv", [{"id": "N1", "stage": "I", "age": "50", "marker": "60"}])
    assert osml(monkeypatch, "predict", run, tmp_path / "new.csv", "-o", tmp_path / "out.csv") == 0
    assert 0 < float(records(tmp_path / "out.csv")[0]["risk: bad"]) < 1


def test_survival_has_a_risk_per_horizon(
    fitted: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fitted(target=SURVIVAL)
    write_table(tmp_path / "new.csv", NEW[:1])
    assert osml(monkeypatch, "predict", run, tmp_path / "new.csv", "-o", tmp_path / "out.csv") == 0
    row = records(tmp_path / "out.csv")[0]
    assert 0 < float(row["risk: 6 month"]) < float(row["risk: 12 month"]) < 1


def test_withheld_probabilities_stay_withheld(
    fitted: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fitted(study={"sampling": "enriched"}, bootstraps=60)
    write_table(tmp_path / "new.csv", NEW[:1])
    assert osml(monkeypatch, "predict", run, tmp_path / "new.csv", "-o", tmp_path / "out.csv") == 0
    row = records(tmp_path / "out.csv")[0]
    assert row["risk: bad"] == row["low: bad"] == row["high: bad"] == ""
    assert row["linear_predictor"] != ""
    assert "withheld" in capsys.readouterr().out


@pytest.mark.parametrize("cell", ["0", "-3"])
def test_a_value_without_a_logarithm_spoils_its_own_row_only(
    cell: str, fitted: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fitted(predictors={"clinical": {"kind": "nomogram", "inputs": ["age", "marker"], "terms": {"marker": "log"}}})
    write_table(tmp_path / "new.csv", [{**NEW[0]}, {**NEW[0], "id": "N2", "marker": cell}])
    assert osml(monkeypatch, "predict", run, tmp_path / "new.csv", "-o", tmp_path / "out.csv") == 2
    rows = records(tmp_path / "out.csv")
    assert rows[0]["status"] == "ok"
    assert "marker" in rows[1]["status"]


def test_a_row_without_its_kit_range_spoils_itself_only(
    fitted: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{**row, "low": "10", "high": ("90", "120")[i % 2]} for i, row in enumerate(simulate_rows())]
    inputs = {
        "age": {"kind": "number", "available": "diagnosis"},
        "marker": {"kind": "lab", "unit": "U/L", "kit": {"low": "low", "high": "high"}, "available": "diagnosis"},
    }
    run = fitted(
        rows,
        inputs=inputs,
        predictors={"clinical": {"kind": "nomogram", "inputs": ["age", "marker"], "encode": {"marker": "uln"}}},
    )
    new = [
        {"id": f"N{i}", "age": "44", "marker": "60", "low": "10", "high": high} for i, high in enumerate(("100", ""))
    ]
    write_table(tmp_path / "new.csv", new)
    assert osml(monkeypatch, "predict", run, tmp_path / "new.csv", "-o", tmp_path / "out.csv") == 2
    out = records(tmp_path / "out.csv")
    assert out[0]["status"] == "ok"
    assert "marker" in out[1]["status"]


def test_exit_code_of_a_fit_in_which_a_predictor_fails(
    small_study: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = simulate_rows()
    # Two patients of a fourth stage: some fold has none of them to learn from.
    for i in (0, 1):
        rows[i]["stage"], rows[i]["outcome"] = "IV", ("bad", "good")[i]
    predictors = {
        "clinical": {"kind": "nomogram", "inputs": ["age", "marker", "sex"], "shrink": "none"},
        "staged": {"kind": "nomogram", "inputs": ["age", "stage"], "shrink": "none"},
    }
    inputs = {
        "age": {"kind": "number", "available": "diagnosis"},
        "marker": {"kind": "number", "available": "diagnosis"},
        "sex": {"kind": "binary", "levels": ["female", "male"], "available": "diagnosis"},
        "stage": {"kind": "category", "levels": ["I", "II", "III", "IV"], "available": "diagnosis"},
    }
    study = small_study(rows, predictors=predictors, inputs=inputs)
    options = ("--runs", tmp_path / "runs", "--workers", "1", "--quiet")
    assert osml(monkeypatch, "fit", study.schema, *options) == 3
    said = capsys.readouterr().out
    assert "not ranked" in said
    assert "level 'IV' of 'stage'" in said
    failures = records(tmp_path / "runs" / "small" / "latest" / "failures.csv")
    assert {f["predictor"] for f in failures} == {"staged"}
    assert all("require_levels" in f["traceback"] for f in failures)
    # Asked again, only what failed is tried again, with the same exit code.
    assert osml(monkeypatch, "fit", study.schema, *options) == 3
    assert "trying again what failed before (staged)" in capsys.readouterr().out


def test_exit_code_of_a_refusal(
    small_study: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = small_study([{**row, "age": "50"} for row in simulate_rows()])
    assert osml(monkeypatch, "fit", study.schema, "--runs", tmp_path / "runs") == 2
    assert "OSML011" in capsys.readouterr().err
    study.schema.write_text("{}")
    assert osml(monkeypatch, "fit", study.schema, "--runs", tmp_path / "runs") == 1
    assert not (tmp_path / "runs").exists()
