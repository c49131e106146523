"""`predictors: auto`: what a plan holds, how it is written, read, edited and followed."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_studies import SURVIVAL, SmallStudy, simulate_rows

from osml.engine import Outcome, run_tasks
from osml.errors import OsmlError, OutOfTimeError, SchemaError
from osml.files import read_json
from osml.schema.load import load_schema
from osml.study.fit import FitResult, fit
from osml.study.planning.command import followed, write_plan
from osml.study.planning.plan import Plan, parse_plan, read_plan, time_limit
from osml.study.planning.propose import propose, tier
from osml.study.prepare import PlanChoice

EVERYTHING = {"cores": 2, "gpu": False, "networks": True, "boosting": True, "tuning": True, "autogluon": True}
NOTHING = EVERYTHING | {"networks": False, "boosting": False, "tuning": False, "autogluon": False}
Write = Callable[..., SmallStudy]


def auto(small_study: Write, n: int = 90, **changes: Any) -> SmallStudy:
    return small_study(simulate_rows(n), **{"predictors": "auto", **changes})


def planned(study: SmallStudy, preset: Any = "standard", machine: dict[str, Any] = EVERYTHING) -> Plan:
    return propose(load_schema(study.schema), preset=preset, limit=None, machine=machine)


def kinds(plan: Plan) -> dict[str, str]:
    return {name: block["kind"] for name, block in plan.file.predictors.items()}


def test_a_small_sample_gets_regressions_only(small_study: Write) -> None:
    plan = planned(auto(small_study))
    assert kinds(plan) == {"clinical": "nomogram", "clinical_ridge": "nomogram"}
    assert plan.file.cohort["tier"] == "small"
    left = {row.what: row.why for row in plan.file.left_out}
    assert {"boosted trees", "AutoGluon", "networks"} <= set(left)
    assert "below 100 patients" in left["boosted trees"]
    assert plan.file.predictors["clinical"]["terms"] == {"marker": "log"}, "labs are logged, the age is not"


def test_a_larger_sample_gets_trees_networks_and_a_stack_in_order(small_study: Write) -> None:
    plan = planned(auto(small_study, 150))
    assert list(kinds(plan).values()) == ["nomogram"] * 3 + ["boosting", "autogluon", "network", "stack"]
    assert plan.file.predictors["boosted"]["search"] == {"trials": 15}
    assert plan.file.predictors["stack"]["inputs"] == ["clinical", "boosted"]
    assert set(plan.file.why) == set(plan.file.predictors)
    assert bool(plan.file.report["select"])


@pytest.mark.parametrize("preset", ["quick", "standard", "thorough"])
def test_every_plan_is_a_valid_schema(small_study: Write, preset: str) -> None:
    for n in (90, 150, 520):
        for target in (None, SURVIVAL):
            changes = {} if target is None else {"target": target}
            study = auto(small_study, n, **changes)
            plan = planned(study, preset)
            loaded = load_schema(study.schema, (), plan.document)
            assert list(loaded.schema.predictors) == list(plan.file.predictors)
            assert loaded.auto


def test_what_is_not_installed_is_left_out_with_the_command(small_study: Write) -> None:
    plan = planned(auto(small_study, 150), machine=NOTHING)
    assert set(kinds(plan).values()) == {"nomogram"}
    told = " ".join(row.why for row in plan.file.left_out)
    assert "osml[automl]" in told
    assert "osml[autogluon]" in told
    assert "osml[nets]" in told


def test_the_plan_does_not_look_at_who_had_the_event(small_study: Write) -> None:
    rows = simulate_rows(150)
    other = [row | {"outcome": outcome["outcome"]} for row, outcome in zip(rows, rows[::-1], strict=True)]
    plans = [planned(small_study(r, folder=f, predictors="auto")) for f, r in (("a", rows), ("b", other))]
    assert plans[0].file.predictors == plans[1].file.predictors
    assert plans[0].file.cohort == plans[1].file.cohort


def test_inputs_of_a_later_time_are_left_out(small_study: Write) -> None:
    inputs = {
        "age": {"kind": "number", "unit": "year", "available": "diagnosis"},
        "marker": {"kind": "lab", "unit": "U/L", "available": "surgery"},
    }
    plan = planned(auto(small_study, inputs=inputs, times=["diagnosis", "surgery"]))
    assert plan.file.predictors["clinical"]["inputs"] == ["age"]
    assert ("input marker", "known at surgery, after diagnosis") in [(r.what, r.why) for r in plan.file.left_out]


def test_a_candidate_that_a_check_refuses_is_left_out(small_study: Write) -> None:
    rows = [row | {"stage": "III" if row["outcome"] == "bad" and row["stage"] == "II" else row["stage"]}
            for row in simulate_rows(90)]  # fmt: skip
    plan = planned(small_study(rows, predictors="auto"))
    assert "clinical" not in plan.file.predictors
    assert any(r.what == "clinical" and r.why.startswith("OSML040") for r in plan.file.left_out)
    assert "clinical_ridge" in plan.file.predictors, "a ridge penalty keeps the coefficient finite"


def test_no_candidate_at_all_is_an_error_with_all_reasons(small_study: Write) -> None:
    study = auto(small_study, 40, checks={"accept": {}}, inputs={
        f"x{k}": {"kind": "number", "column": "age", "available": "diagnosis"} for k in range(40)
    })  # fmt: skip
    with pytest.raises(SchemaError, match="no candidate is possible") as found:
        planned(study, machine=NOTHING)
    assert "OSML042" in str(found.value)
    assert "study.yaml" in str(found.value)


def test_riley_is_told_for_every_regression(small_study: Write) -> None:
    plan = planned(auto(small_study))
    assert [row.predictor for row in plan.file.governor] == ["clinical", "clinical_ridge"]
    row = plan.file.governor[0]
    assert row.parameters == 5, "age, log marker, sex, two of stage"
    assert row.patients == 90
    assert row.needed is not None
    assert row.needed > 90
    assert "exploratory" in row.verdict


def test_written_read_and_followed(small_study: Write) -> None:
    study = auto(small_study)
    said: list[str] = []
    file = write_plan(study.schema, (), "quick", "5m", None, said.append)
    assert file.name == "study.plan.yaml"
    plan = read_plan(file)
    assert not plan.edited
    assert plan.file.time_limit == 300
    assert any("Riley" in line for line in said)
    found = followed(load_schema(study.schema), (), plan=None, preset=None, limit=None)
    assert found is not None
    assert (found.source, found.changed) == ("study.plan.yaml", ())
    with pytest.raises(OsmlError, match="exists; nothing was written"):
        write_plan(study.schema, (), "quick", None, None, said.append)


def test_every_edit_is_seen_and_named(small_study: Write) -> None:
    study = auto(small_study)
    file = write_plan(study.schema, (), "quick", None, None, print)
    text = file.read_text()
    file.write_text(text.replace("shrink: ridge", "shrink: none").replace("clinical:\n", "clinic:\n", 1))
    plan = read_plan(file)
    assert plan.edited
    found = followed(load_schema(study.schema), (), plan=None, preset=None, limit=None)
    assert found is not None
    assert set(found.changed) == {"'clinic' was added", "'clinical' was removed", "'clinical_ridge' was changed"}
    file.write_text(text.replace("# The same inputs", "# My words: the same inputs"))
    assert not read_plan(file).edited, "comments decide nothing"


def test_a_plan_of_another_schema_is_refused(small_study: Write) -> None:
    study = auto(small_study)
    write_plan(study.schema, (), "quick", None, None, print)
    loaded = load_schema(study.schema, ["validation.split.folds=4"])
    with pytest.raises(SchemaError, match="written for another schema"):
        followed(loaded, ("validation.split.folds=4",), plan=None, preset=None, limit=None)
    with pytest.raises(SchemaError, match="was written with preset quick"):
        followed(load_schema(study.schema), (), plan=None, preset="thorough", limit=None)


def test_options_for_plans_need_auto(small_study: Write) -> None:
    study = small_study()
    with pytest.raises(SchemaError, match=r"study\.yaml:1: --preset is for `predictors: auto`"):
        followed(load_schema(study.schema), (), plan=None, preset="quick", limit=None)
    with pytest.raises(SchemaError, match="osml plan is for"):
        write_plan(study.schema, (), None, None, None, print)
    with pytest.raises(SchemaError, match="there is no preset 'fast'"):
        write_plan(auto(small_study).schema, (), "fast", None, None, print)


def test_mistakes_in_a_plan_stand_at_its_lines(small_study: Write) -> None:
    study = auto(small_study)
    file = write_plan(study.schema, (), "quick", None, None, print)
    text = file.read_text()
    line = next(i for i, row in enumerate(text.splitlines(), 1) if "shrink: ridge" in row)
    file.write_text(text.replace("shrink: ridge", "shrink: rigde"))
    with pytest.raises(SchemaError, match=rf"study\.plan\.yaml:{line}: predictors\.clinical_ridge\.shrink"):
        fit(study.schema, say=lambda _: None, quiet=True)
    with pytest.raises(SchemaError, match=r"p\.yaml:\d+: presets: unknown key"):
        parse_plan(text.replace("preset: quick", "preset: quick\npresets: all"), "p.yaml")
    with pytest.raises(SchemaError, match="no plan at"):
        read_plan(file.with_name("other.yaml"))


@pytest.mark.parametrize("text", ["10", "h", "-5m", "0s", "ten", "1e9h", ""])
def test_time_limits_that_are_none(text: str) -> None:
    with pytest.raises(SchemaError, match="Write a number with its unit"):
        time_limit(text)


@pytest.mark.parametrize(("patients", "size"), [(2, "small"), (499, "medium"), (3000, "large")])
def test_tiers(patients: int, size: str) -> None:
    assert tier(patients) == size


def run(study: SmallStudy, folder: Path, said: list[str] | None = None, **choice: Any) -> FitResult:
    say = (lambda _: None) if said is None else said.append
    return fit(study.schema, runs=folder, workers=1, say=say, quiet=True, plan=PlanChoice(**choice))


def test_a_planned_study_deploys_the_chosen_one_and_the_regressions(
    small_study: Write, tmp_path: Path, no_sheets: None
) -> None:
    study = auto(small_study)
    result = run(study, tmp_path / "runs", preset="quick", limit="none")
    metrics = result.metrics
    assert result.planned
    assert metrics["plan"]["followed"] is True
    assert metrics["plan"]["candidates"][0]["name"] == "clinical"
    assert metrics["selection"]["winner"] in ("clinical", "clinical_ridge")
    assert read_json(result.run.path / "bundle" / "facts.json")["chosen"] == metrics["selection"]["winner"]
    assert (result.run.path / "plan.yaml").read_text().startswith("# Plan of candidates")
    again = run(study, tmp_path / "runs", preset="quick", limit="none")
    assert again.reused
    assert again.metrics == metrics


def late_after(position: int) -> Callable[..., Any]:
    """`run_tasks` whose tasks from one position on are out of time."""

    def limited(function: Any, items: Any, **options: Any) -> Any:
        options["deadline"] = None
        yield from run_tasks(function, items[:position], **options)
        for index in range(position, len(items)):
            yield Outcome(index, error=OutOfTimeError("late"))

    return limited


def test_what_the_limit_leaves_out_is_not_ranked_and_goes_on_later(
    small_study: Write, tmp_path: Path, no_sheets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = auto(small_study)
    with monkeypatch.context() as limited:
        limited.setattr("osml.study.folds.run_tasks", late_after(4))  # three folds of the first, one of the second
        said: list[str] = []
        first = run(study, tmp_path / "runs", said, preset="quick", limit="1h")
    assert first.skipped == ("clinical_ridge",)
    assert not first.failed
    assert not first.ended_badly
    facts = first.metrics["predictors"]["clinical_ridge"]
    assert facts["out_of_fold"]["reason"] == "not ranked: the time limit left 2 of its 3 folds"
    assert "final" in facts
    assert any(line.startswith("skipped   clinical_ridge") for line in said)
    same = run(study, tmp_path / "runs", said, preset="quick", limit="1h")
    assert same.reused
    more = run(study, tmp_path / "runs", said, preset="quick", limit="2h")
    assert not more.reused
    assert more.skipped == ()
    whole = run(study, tmp_path / "others", preset="quick", limit="2h")
    files = [r.run.path / "predictions.parquet" for r in (more, whole)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_candidate_that_fails_never_ends_a_run(
    small_study: Write, tmp_path: Path, no_sheets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from osml.study import develop

    real = develop._nomogram

    def odd(loaded: Any, name: str, cohort: Any) -> Any:
        if name == "clinical_ridge":
            raise ZeroDivisionError("an odd final fit")
        return real(loaded, name, cohort)

    monkeypatch.setattr(develop, "_nomogram", odd)
    result = run(auto(small_study), tmp_path / "runs", preset="quick", limit="none")
    assert result.failed == ("clinical_ridge",)
    assert not result.ended_badly
    with (result.run.path / "failures.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["predictor"], r["stage"], r["kind"]) for r in rows] == [("clinical_ridge", "final", "ZeroDivisionError")]
    assert "odd(" in rows[0]["traceback"] or "in odd" in rows[0]["traceback"]
    assert result.metrics["failures"][0]["message"] == "an odd final fit"
    assert result.metrics["predictors"]["clinical_ridge"]["final"] == {"failed": "an odd final fit"}
