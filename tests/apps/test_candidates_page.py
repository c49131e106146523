"""The Performance page of a run that chose among candidates, followed a plan and had failures."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT
from made_predictions import NETWORK, NOMOGRAM, RIDGE, binary, dealt_folds, facts_of, noisy, predicted, schema_of
from served import serve
from shown_tables import csv_of

from osml.serving.launch import RUN_VARIABLE
from osml.study.adds import adds
from osml.study.select import select

pytest.importorskip("streamlit", reason="the app's extra is not installed")

THREE = {"clinical": NOMOGRAM, "ridge": RIDGE, "net": NETWORK}
PLAN = {
    "followed": False, "edited": True, "changes": ["ridge: added"], "preset": "quick", "tier": "100 to 300 patients",
    "hash": "ab" * 32, "candidates": [{"name": "clinical", "kind": "nomogram", "reason": "the <b>model</b> of record"}],
    "left_out": [{"name": "networks", "reason": "fewer than 100 patients"}],
    "governor": [
        {"predictor": "clinical", "parameters": 2, "patients": 80, "events": 30, "needed": None, "shrinkage": 0.9,
         "verdict": "kept"}
    ],
}  # fmt: skip
FAILED = [{"predictor": "net", "stage": "r0-f1", "kind": "MemoryError", "message": "out of memory"}]


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "apps"))
    return importlib.import_module("candidates")


def told(folder: Path, **changes: Any) -> dict[str, Any]:
    """`selection` and `adds` of made-up predictions."""
    schema = schema_of(folder, THREE, report={"select": True, "adds": [["clinical", "net"]]}, **changes)
    cohort, lp = binary()
    folds = dealt_folds(cohort, 4, 2)
    rows = [r for k, name in enumerate(THREE) for r in predicted(name, cohort, folds, noisy(lp, 2.0 - k, k))]
    facts = facts_of(list(THREE), folds)
    chosen = select(schema, cohort, folds, rows, facts)
    return {"selection": chosen, "adds": adds(schema, cohort, folds, rows, facts)}


def test_tables_of_a_choice(tables: Any, tmp_path: Path) -> None:
    made = told(tmp_path)
    found = made["selection"]
    board = tables.leaderboard(found)
    assert len(board.rows) == 3
    winner = next(row for row in board.rows if row[0].endswith("(chosen)"))
    assert winner[0] == f"{found['winner']} (chosen)"
    assert winner[2] == "0.700 (0.600 to 0.800)"
    assert [row[4] for row in board.rows if row[0].startswith(found["best"])] == ["the best"]
    assert "not corrected" in board.note
    after = tables.before_and_after(found)
    corrected = found["corrected"]["auc"]
    expected = f"{corrected['value']:.3f} ({corrected['low']:.3f} to {corrected['high']:.3f})"
    assert after.rows[0] == ("AUC", "0.700 (0.600 to 0.800)", expected)
    assert len(tables.against_the_winner(found).rows) == 4
    assert tables.choice_words(found).startswith(f"Chosen: {found['winner']} (")
    assert [row[0] for row in tables.added(made["adds"][0]).rows] == [
        "AUC", "Brier score (lower is better)", "Log-loss (lower is better)",
    ]  # fmt: skip


def test_tables_without_a_choice(tables: Any, tmp_path: Path) -> None:
    found = told(tmp_path, study={"sampling": "case_control"})["selection"]
    assert tables.choice_words(found).startswith("Nothing is chosen, since the log-loss decides")
    assert [row[2:] for row in tables.leaderboard(found).rows] == [("0.700 (0.600 to 0.800)", "", "", "")] * 3


def test_tables_of_a_plan_and_of_failures(tables: Any) -> None:
    assert tables.plan_facts(PLAN)[:2] == [("Followed as osml proposed it", "no"), ("Changed", "ridge: added")]
    assert tables.planned(PLAN).rows == (("clinical", "nomogram", "the <b>model</b> of record"),)
    assert tables.left_out(PLAN).rows == (("networks", "fewer than 100 patients"),)
    assert tables.governor(PLAN).rows == (("clinical", "2", "80", "", "kept"),)
    assert tables.failures(FAILED).rows == (("net", "r0-f1", "MemoryError", "out of memory"),)
    assert tables.plan_facts({"followed": True}) == [("Followed as osml proposed it", "yes")]
    assert tables.planned({}).rows == ()


@pytest.mark.full
def test_the_page_shows_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlit.testing.v1 import AppTest

    run = serve(tmp_path / "run")
    metrics = json.loads((run / "metrics.json").read_text())
    made = told(tmp_path)
    monkeypatch.setenv(RUN_VARIABLE, str(run))
    monkeypatch.syspath_prepend(str(ROOT / "apps"))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    for added, wanted in (({}, ("All models",)), ({**made, "plan": PLAN, "failures": FAILED}, ("Plan", "Failures"))):
        (run / "metrics.json").write_text(json.dumps({**metrics, **added}))
        app = AppTest.from_file(str(ROOT / "apps" / "main.py"), default_timeout=60).run()
        app.switch_page("views/performance.py").run()
        assert not app.exception
        headers = [str(header.value) for header in app.header]
        assert all(any(word in header for header in headers) for word in wanted)
    words = "\n".join(str(block.value) for block in app.markdown).replace("\\", "")
    cells = csv_of(app)
    assert f"{made['selection']['winner']} (" in words
    assert made["adds"][0]["sentence"].split(":")[0] in words
    assert "MemoryError,out of memory" in cells
    assert "fewer than 100 patients" in cells
    # What a schema's author wrote is shown as text.
    assert "<b>" in cells
