"""The section on candidates and choice: it says what metrics.json says, and what is corrected and what is not."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_predictions import NETWORK, NOMOGRAM, RIDGE, binary, dealt_folds, facts_of, noisy, predicted, schema_of
from pages import Page
from report_runs import DECISION, FitRun

from osml.report.candidates import choice_words, section
from osml.report.card import _choice
from osml.report.figures_candidates import HEADER, candidates_exhibit
from osml.report.html import Markup, join, tag
from osml.study.adds import adds
from osml.study.select import select

THREE = {"clinical": NOMOGRAM, "ridge": RIDGE, "net": NETWORK}


def told(folder: Path, noise: dict[str, float], n: int = 80, **changes: Any) -> Any:
    """What the section reads of a run, with predictions that know the truth up to this noise."""
    changes = {"report": {"select": True, "adds": [["clinical", "net"]]}, "decision": DECISION, **changes}
    schema = schema_of(folder, THREE, **changes)
    cohort, lp = binary(n)
    folds = dealt_folds(cohort, 4, 2)
    rows = [r for k, (name, s) in enumerate(noise.items()) for r in predicted(name, cohort, folds, noisy(lp, s, k))]
    facts = facts_of(list(THREE), folds)
    metrics = {
        "predictors": facts,
        "selection": select(schema, cohort, folds, rows, facts),
        "adds": adds(schema, cohort, folds, rows, facts),
    }
    return SimpleNamespace(schema=schema, metrics=metrics, independent_test=False, alone=False)


def shown(run: Any, folder: Path) -> Page:
    exhibit = candidates_exhibit(run)
    parts = section(run, exhibit, lambda found: join([tag("figure", e.title) for e in found]))
    path = folder / "page.html"
    path.write_text(tag("body", *parts), encoding="utf-8")
    return Page(path)


@pytest.fixture
def near(tmp_path: Path) -> Any:
    """The regression is within one standard error of the network."""
    return told(tmp_path, {"clinical": 0.7, "ridge": 0.9, "net": 0.5})


def at(metrics: Any, path: str) -> Any:
    for part in path.split("/"):
        metrics = metrics[int(part) if isinstance(metrics, list) else part]
    return metrics


def test_every_number_is_the_one_in_metrics_json(near: Any, tmp_path: Path) -> None:
    found = shown(near, tmp_path).metrics()
    for path, (value, words) in found.items():
        assert value == at(near.metrics, path), path
        digits = len(words.partition(".")[2])
        assert words.replace("\N{MINUS SIGN}", "-") == f"{value:.{digits}f}", path
    wanted = {"selection/corrected/auc/value", "selection/corrected/log_loss/low", "selection/uncorrected/auc/value"}
    wanted |= {f"selection/table/{k}/{key}" for k in range(3) for key in ("auc/value", "auc/low", "log_loss/high")}
    wanted |= {"adds/0/measures/auc/difference/value", "adds/0/net_benefit/1/difference/low"}
    assert wanted <= set(found)


def test_the_simplest_near_the_best_is_named_with_both_values(near: Any, tmp_path: Path) -> None:
    selection = near.metrics["selection"]
    assert (selection["winner"], selection["best"]) == ("clinical", "net")
    words = shown(near, tmp_path).words
    after = selection["corrected"]["auc"]["value"]
    assert "the simplest within one standard error of net, which has the lowest log-loss" in words
    assert f"As measured its AUC is 0.70 (0.60 to 0.80); corrected for the choice it is {after:.2f}" in words
    assert "clinical (chosen)" in words
    assert "Candidates as measured out of fold, not corrected for the choice" in words
    assert selection["rule"] in words
    assert near.metrics["adds"][0]["sentence"] in words
    assert "leaves out how the fits would vary" in words


def test_the_figure_holds_every_candidate_and_the_corrected_value(near: Any) -> None:
    exhibit = candidates_exhibit(near)
    assert exhibit is not None
    assert exhibit.figure is not None
    assert len(exhibit.figure.axes) == 2
    rows = [dict(zip(HEADER, row, strict=True)) for row in exhibit.data]
    assert [row["predictor"] for row in rows] == ["clinical", "ridge", "net", "clinical, corrected for the choice"]
    assert [row["chosen"] for row in rows[:3]] == ["yes", "no", "no"]
    corrected = near.metrics["selection"]["corrected"]["auc"]
    assert [rows[3][key] for key in ("value", "low", "high")] == [corrected[key] for key in ("value", "low", "high")]
    losses = [entry["loss"] for entry in near.metrics["selection"]["table"]]
    assert [row["log_loss"] for row in rows[:3]] == losses


def test_the_model_card_says_what_the_chosen_one_is_worth(near: Any) -> None:
    corrected = near.metrics["selection"]["corrected"]
    _, line = _choice(near)
    assert line.startswith("clinical was chosen among 3 predictors; corrected for the choice: AUC ")
    assert f"log-loss {corrected['log_loss']['value']:.3f} (" in line
    del near.metrics["selection"]["winner"]
    assert _choice(near) == []


def test_without_a_choice_the_reason_stands_there(tmp_path: Path) -> None:
    noise = {"clinical": 0.0, "ridge": 0.0, "net": 0.0}
    run = told(tmp_path, noise, study={"sampling": "case_control"})
    assert candidates_exhibit(run) is None
    words = shown(run, tmp_path).words
    assert "Nothing is chosen, since the log-loss decides: probabilities are withheld" in words
    assert "0.70 (0.60 to 0.80)" in words
    assert "(chosen)" not in words
    assert "No net benefit: probabilities are withheld" in words


def test_a_study_that_asked_for_nothing_has_no_words() -> None:
    assert choice_words(SimpleNamespace(metrics={"predictors": {}})) is None  # type: ignore[arg-type]
    assert section(SimpleNamespace(metrics={}), None, lambda found: Markup("")) == []  # type: ignore[arg-type]


@pytest.mark.full
def test_the_report_of_a_run_that_chose(fit_run: FitRun) -> None:
    predictors = {
        "clinical": {"kind": "nomogram", "inputs": ["age", "sex"], "shrink": "none"},
        "full": {"kind": "nomogram", "inputs": ["age", "marker", "sex"], "terms": {"marker": "log"}, "shrink": "none"},
        "ridge": {"kind": "nomogram", "inputs": ["age", "marker", "sex"], "shrink": "ridge"},
    }
    run = fit_run(predictors=predictors, report={"select": True, "adds": [["clinical", "full"]]}, decision=DECISION)
    metrics = json.loads((run / "metrics.json").read_text())
    page = Page(run / "report" / "report.html")
    assert not page.unbalanced
    order = [e.attributes["id"] for e in page.all("section")]
    assert order.index("candidates") == order.index("results") + 1
    winner = metrics["selection"]["winner"]
    assert f"Chosen among 3 predictors: {winner}" in page.section("summary")
    assert metrics["adds"][0]["sentence"] in page.section("candidates")
    for ending in ("pdf", "png", "csv"):
        assert (run / "report" / "figures" / f"candidates.{ending}").is_file()
    for path, (value, _) in page.metrics().items():
        assert value == at(metrics, path), path
    with (run / "leaderboard.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["predictor"] for row in rows if row["chosen"] == "yes"] == [winner]
    for row, entry in zip(rows, metrics["selection"]["table"], strict=True):
        assert float(row["auc"]) == entry["auc"]["value"]
        assert float(row["auc_low"]) == entry["auc"]["low"]
    # The uncorrected value beside the corrected one is that of the predictor's own results.
    honest = metrics["predictors"][winner]["out_of_fold"]
    facts = json.loads((run / "bundle" / "facts.json").read_text())
    assert facts["choice"]["corrected"] == metrics["selection"]["corrected"]
    assert f"{winner} was chosen among 3 predictors" in (run / "model_card.md").read_text()
    assert metrics["selection"]["uncorrected"]["auc"]["value"] == honest["auc"]["value"]
    assert metrics["selection"]["uncorrected"]["brier"]["value"] == honest["brier"]["value"]
