"""The plan in the report: whether it was followed, what became of each candidate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from osml.report.plans import plan_words, planned, section

PLAN: dict[str, Any] = {
    "hash": "abcdef0123456789", "preset": "quick", "time_limit": 600, "followed": True, "changes": [],
    "candidates": [
        {"name": "clinical", "kind": "nomogram", "reason": "the one to beat"},
        {"name": "<b>net</b>", "kind": "network", "reason": "images"},
        {"name": "late", "kind": "network", "reason": "more"},
    ],
    "left_out": [{"name": "AutoGluon", "reason": "few patients"}],
    "governor": [{"predictor": "clinical", "parameters": 4, "patients": 51, "events": 19, "needed": None,
                  "shrinkage": None, "verdict": "no solution"}],
}  # fmt: skip
PREDICTORS: dict[str, Any] = {
    "clinical": {"failed_folds": 0},
    "<b>net</b>": {"failed_folds": 0, "final": {"skipped": "validated only: clinical was chosen"}},
    "late": {"failed_folds": 3, "out_of_fold": {"reason": "not ranked: the time limit left 3 of its 5 folds"}},
}


def run(**metrics: Any) -> Any:
    return SimpleNamespace(metrics={"predictors": PREDICTORS, **metrics})


def text(found: list[object]) -> str:
    return "".join(str(part) for part in found)


def test_followed_or_what_differs() -> None:
    assert plan_words(PLAN).startswith("The analysis followed the plan")
    assert "10 min" in plan_words(PLAN)
    other = plan_words(PLAN | {"followed": False, "changes": ["'net' was added", "the table has changed"]})
    assert "departs" in other
    assert other.endswith("'net' was added; the table has changed.")


def test_every_candidate_has_its_fate_and_no_name_becomes_markup() -> None:
    shown = text(section(run(plan=PLAN, selection={"winner": "clinical"})))
    assert "<td>chosen</td>" in shown
    assert "validated; no model: validated only: clinical was chosen" in shown
    assert "not ranked: the time limit left 3 of its 5 folds" in shown
    assert "<b>net" not in shown
    assert "few patients" in shown
    assert "no solution" in shown


def test_failures_stand_there_without_a_plan() -> None:
    failures = [{"predictor": "late", "stage": "r0-f1", "kind": "ValueError", "message": "odd"}]
    assert planned(run(failures=failures))
    assert "r0-f1" in text(section(run(failures=failures)))
    assert not planned(run(failures=[]))
    assert section(run(failures=[])) == []
