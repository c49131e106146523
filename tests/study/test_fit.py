"""`fit` as a whole: finished runs are reported, unfinished ones continued, failures kept apart."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_studies import SmallStudy, simulate_rows

from osml.errors import CheckError, OsmlError, TableError
from osml.predictors import registry
from osml.predictors.contract import Fitted
from osml.predictors.registry import Fitting, Kind
from osml.runs.directory import RunDirectory
from osml.runs.store import read_predictions
from osml.study.fit import FitResult, fit

SAME_BYTES = (
    "predictions.parquet",
    "metrics.json",
    "leaderboard.csv",
    "splits.json",
    "bundle/predictors/clinical/model.json",
)
TWO = {
    "clinical": {"kind": "nomogram", "inputs": ["age", "marker", "sex"]},
    "other": {"kind": "nomogram", "inputs": ["age", "stage"], "shrink": "none"},
}


def run(study: SmallStudy, runs: Path, **options: Any) -> FitResult:
    return fit(study.schema, runs=runs, workers=options.pop("workers", 1), say=lambda _: None, quiet=True, **options)


def contents(result: FitResult, names: tuple[str, ...] = SAME_BYTES) -> dict[str, bytes]:
    return {name: (result.run.path / name).read_bytes() for name in names}


def events(result: FitResult) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (result.run.path / "events.jsonl").read_text().splitlines()]


def test_a_run_leaves_its_record(small_study: Callable[..., Any], tmp_path: Path) -> None:
    study = small_study()
    result = run(study, tmp_path / "runs")
    folder = result.run.path
    assert folder == tmp_path / "runs" / "small" / folder.name
    assert (folder.parent / "latest").resolve() == folder.resolve()
    assert not result.reused
    assert result.failed == ()
    assert result.run.status()["state"] == "finished"
    assert [e["event"] for e in events(result)] == ["started", "fold", "fold", "fold", "finished"]
    assert all(e["ok"] for e in events(result) if e["event"] == "fold")
    assert (folder / "schema.yaml").read_bytes() == study.schema.read_bytes()
    assert (folder / "failures.csv").read_text() == "predictor,stage,kind,message,traceback\n"
    summary = json.loads((folder / "cohort" / "summary.json").read_text())
    assert (summary["rows"], summary["patients"], summary["events"]) == (90, 90, 45)
    assert result.metrics == json.loads((folder / "metrics.json").read_text())
    assert {p.name for p in (folder / "nomogram" / "clinical").iterdir()} >= {
        "nomogram.pdf",
        "nomogram.svg",
        "nomogram.json",
    }
    assert not list(folder.rglob("*.part*"))


def test_each_patient_is_predicted_once_per_repeat_by_a_model_without_it(
    small_study: Callable[..., Any], tmp_path: Path, no_sheets: None
) -> None:
    split = {
        "split": {"kind": "kfold", "folds": 3, "repeats": 2},
        "optimism": {"predictors": [], "bootstraps": 10},
        "seed": 5,
    }
    result = run(small_study(validation=split), tmp_path / "runs")
    rows = read_predictions(result.run.path / "predictions.parquet")
    folds = {(f["repeat"], f["index"]): f for f in json.loads((result.run.path / "splits.json").read_text())}
    assert len(folds) == 6
    for repeat in (0, 1):
        assert sorted(r.unit for r in rows if r.repeat == repeat) == [f"P{i:03d}" for i in range(90)]
    for row in rows:
        assert row.patient in folds[row.repeat, row.fold]["test"]
        assert row.patient not in folds[row.repeat, row.fold]["train"]


def test_a_finished_run_is_reported_at_once(
    small_study: Callable[..., Any], tmp_path: Path, no_sheets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_study()
    first = run(study, tmp_path / "runs")
    before = {p: p.stat().st_mtime_ns for p in first.run.path.rglob("*") if p.is_file() and p.name != ".lock"}

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a finished run was fitted again")

    monkeypatch.setattr("osml.study.folds.run_tasks", never)
    monkeypatch.setattr("osml.study.fit.finish", never)
    said: list[str] = []
    again = fit(study.schema, runs=tmp_path / "runs", say=said.append, quiet=True)
    assert again.reused
    assert again.run == first.run
    assert again.metrics == first.metrics
    assert any("finished before" in line for line in said)
    assert before == {p: p.stat().st_mtime_ns for p in first.run.path.rglob("*") if p.is_file() and p.name != ".lock"}


def test_new_starts_another_run_with_the_same_numbers(
    small_study: Callable[..., Any], tmp_path: Path, no_sheets: None
) -> None:
    study = small_study()
    first, second = run(study, tmp_path / "runs"), run(study, tmp_path / "runs", new=True)
    assert second.run.path.name == f"{first.run.path.name}-2"
    assert contents(first) == contents(second)
    assert RunDirectory.open(tmp_path / "runs" / "small").path == second.run.path.resolve()


def test_another_table_schema_or_override_is_another_run(
    small_study: Callable[..., Any], tmp_path: Path, no_sheets: None
) -> None:
    study = small_study()
    names = [run(study, tmp_path / "runs").run.path.name]
    names.append(run(study, tmp_path / "runs", overrides=["predictors.clinical.shrink=none"]).run.path.name)
    rows = study.rows()
    rows[0]["age"] = "51.01"
    study.write_rows(rows)
    names.append(run(study, tmp_path / "runs").run.path.name)
    assert len(set(names)) == 3
    assert sorted(p.name for p in (tmp_path / "runs" / "small").iterdir()) == sorted([*names, "latest"])


@pytest.mark.full
def test_the_number_of_workers_changes_no_byte(
    small_study: Callable[..., Any], tmp_path: Path, no_sheets: None
) -> None:
    study = small_study(predictors=TWO)
    one, two = run(study, tmp_path / "one", workers=1), run(study, tmp_path / "two", workers=2)
    assert contents(one) == contents(two)
    for file in one.run.path.glob("folds/*/*/*"):
        assert file.read_bytes() == (two.run.path / file.relative_to(one.run.path)).read_bytes()


def test_the_same_study_elsewhere_gives_the_same_sheet(small_study: Callable[..., Any], tmp_path: Path) -> None:
    names = (*SAME_BYTES, *(f"nomogram/clinical/nomogram.{kind}" for kind in ("json", "pdf", "svg")))
    one = run(small_study(folder="a"), tmp_path / "one")
    two = run(small_study(folder="b"), tmp_path / "two")
    assert one.run.path.name == two.run.path.name
    assert contents(one, names) == contents(two, names)
    for name in names:
        assert str(tmp_path).encode() not in contents(one, names)[name]


def undo(result: FitResult, *gone: str) -> None:
    """The state in which a killed process leaves a run: still `running`, some results not there yet."""
    result.run.set_status("running")
    for name in gone:
        path = result.run.path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_an_unfinished_run_continues_with_what_is_done(
    small_study: Callable[..., Any], tmp_path: Path, no_sheets: None
) -> None:
    study = small_study()
    first = run(study, tmp_path / "runs")
    expected = contents(first)
    undo(first, "folds/r0-f1", "predictions.parquet", "metrics.json", "bundle", "leaderboard.csv")
    kept = (first.run.path / "folds/r0-f0/clinical/model.json").stat().st_mtime_ns
    with pytest.raises(OsmlError, match="running, not finished"):
        RunDirectory.open(first.run.path)
    again = run(study, tmp_path / "runs")
    assert not again.reused
    assert again.run == first.run
    assert contents(again) == expected
    assert (again.run.path / "folds/r0-f0/clinical/model.json").stat().st_mtime_ns == kept
    done = [e.get("fold") for e in events(again) if e["event"] == "fold"]
    assert done[-1:] == ["r0-f1"]
    assert len(done) == 4


def test_half_written_folds_and_stray_parts_do_not_matter(
    small_study: Callable[..., Any], tmp_path: Path, no_sheets: None
) -> None:
    study = small_study()
    first = run(study, tmp_path / "runs")
    expected = contents(first)
    # A fold killed after its model was written, one killed in the middle of a file, and litter of both.
    undo(first, "folds/r0-f0/clinical/status.json", "folds/r0-f2/clinical/status.json", "predictions.parquet")
    (first.run.path / "folds/r0-f0/clinical/predictions.parquet").write_bytes(b"PAR1 half")
    (first.run.path / "folds/r0-f2/clinical/model.json").write_text('{"format": 1, "rec')
    for name in (".predictions.parquet.x1.part", "folds/r0-f1/clinical/.model.json.x2.part", ".schema.part"):
        (first.run.path / name).write_bytes(b"half")
    again = run(study, tmp_path / "runs")
    assert contents(again) == expected
    assert again.run.status()["state"] == "finished"


def test_splits_of_another_study_are_refused(small_study: Callable[..., Any], tmp_path: Path, no_sheets: None) -> None:
    study = small_study()
    first = run(study, tmp_path / "runs")
    undo(first)
    file = first.run.path / "splits.json"
    folds = json.loads(file.read_text())
    folds[0]["test"], folds[1]["test"] = folds[1]["test"], folds[0]["test"]
    folds[0]["train"], folds[1]["train"] = folds[1]["train"], folds[0]["train"]
    file.write_text(json.dumps(folds))
    with pytest.raises(OsmlError, match="holds other splits"):
        run(study, tmp_path / "runs")
    folds[0]["train"].append(folds[0]["test"][0])
    file.write_text(json.dumps(folds))
    with pytest.raises(OsmlError, match="training and test of fold r0-f0"):
        run(study, tmp_path / "runs")


def fails_in(monkeypatch: pytest.MonkeyPatch, predictor: str, error: BaseException, without: str) -> None:
    """The predictor fails whenever the named patient is not among its training patients."""
    real = registry.KINDS["nomogram"]

    def fit_or_fail(fitting: Fitting) -> Fitted:
        if fitting.name == predictor and without not in fitting.design.cohort.patients:
            raise error
        return real.fit(fitting)

    monkeypatch.setitem(registry.KINDS, "nomogram", Kind(fit_or_fail, real.load))


@pytest.mark.parametrize("error", [ZeroDivisionError("an odd fold"), OsmlError("an odd fold", do="Look at it.")])
def test_a_predictor_that_fails_in_one_fold_is_not_ranked(
    error: Exception, small_study: Callable[..., Any], tmp_path: Path, no_sheets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_study(predictors=TWO)
    untouched = run(study, tmp_path / "untouched")
    with monkeypatch.context() as patch:
        fails_in(patch, "other", error, "P000")
        said: list[str] = []
        result = fit(study.schema, runs=tmp_path / "runs", workers=1, say=said.append, quiet=True)
    assert result.failed == ("other",)
    facts = result.metrics["predictors"]
    assert facts["other"]["failed_folds"] == 1
    assert "not ranked: 1 of 3 folds failed" in facts["other"]["out_of_fold"]["reason"]
    assert "auc" not in facts["other"]["out_of_fold"]
    assert facts["clinical"] == untouched.metrics["predictors"]["clinical"]
    mine = [r for r in read_predictions(result.run.path / "predictions.parquet") if r.predictor == "clinical"]
    assert mine == [
        r for r in read_predictions(untouched.run.path / "predictions.parquet") if r.predictor == "clinical"
    ]
    with (result.run.path / "failures.csv").open(newline="") as stream:
        failures = list(csv.DictReader(stream))
    assert [(f["predictor"], f["kind"]) for f in failures] == [("other", type(error).__name__)]
    assert "fit_or_fail" in failures[0]["traceback"]
    assert "an odd fold" in failures[0]["message"]
    assert any(line.startswith("failed") and "an odd fold" in line for line in said)
    assert result.run.status()["failed"] == ["other"]
    assert [e["ok"] for e in events(result) if e["event"] == "fold"].count(False) == 1
    assert "fit_or_fail" in (result.run.path / "run.log").read_text()
    with (result.run.path / "leaderboard.csv").open(newline="") as stream:
        board = {row["predictor"]: row for row in csv.DictReader(stream)}
    assert board["other"]["auc"] == ""
    assert board["other"]["failed_folds"] == "1"
    assert board["clinical"]["auc"] != ""


def test_ctrl_c_keeps_finished_folds(
    small_study: Callable[..., Any], tmp_path: Path, no_sheets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_study(predictors=TWO)
    expected = contents(run(study, tmp_path / "undisturbed"))
    with monkeypatch.context() as patch:
        fails_in(patch, "other", KeyboardInterrupt(), "P000")
        with pytest.raises(KeyboardInterrupt):
            run(study, tmp_path / "runs")
    folder = next(p for p in (tmp_path / "runs" / "small").iterdir() if p.is_dir())
    assert RunDirectory(folder).status()["state"] == "running"
    assert len(list(folder.glob("folds/*/clinical/status.json"))) == 3
    assert contents(run(study, tmp_path / "runs")) == expected


def test_a_refusing_check_stops_before_anything_is_written(small_study: Callable[..., Any], tmp_path: Path) -> None:
    study = small_study([{**row, "age": "50"} for row in simulate_rows()])
    with pytest.raises(CheckError, match=r"1 check refuses this study[\s\S]*OSML011") as caught:
        run(study, tmp_path / "runs")
    assert caught.value.exit_code == 2
    assert not (tmp_path / "runs").exists()


def test_an_acceptance_is_printed_only_where_it_was_needed(
    small_study: Callable[..., Any], tmp_path: Path, no_sheets: None
) -> None:
    accept = {"OSML011": "not needed", "OSML041": "a small test"}
    result = run(small_study(checks={"accept": accept}), tmp_path / "runs")
    assert result.metrics["accepted"] == {"OSML041": "a small test"}


def test_a_bad_table_stops_before_anything_is_written(small_study: Callable[..., Any], tmp_path: Path) -> None:
    rows = simulate_rows()
    rows[4]["age"], rows[7]["sex"] = "old", "Male"
    with pytest.raises(TableError, match=r"2 cells of table.csv[\s\S]*line 6 \(P004\)[\s\S]*line 9 \(P007\)"):
        run(small_study(rows), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
