"""The section on AutoGluon: its models over the folds and as deployed, failures, importance."""

from __future__ import annotations

import copy
import re
from types import SimpleNamespace
from typing import Any

from osml.report.autogluon import NOT_TWICE, made_words, section
from osml.schema.autogluon import AutogluonPredictor

FACTS: dict[str, Any] = {
    "presets": "small_n",
    "time_limit": None,
    "memory_limit": 4.0,
    "planned": 7,
    "inner_folds": 5,
    "inputs": ["age", "rad"],
    "columns": 12,
    "encoders": {},
    "folds": {
        "counted": 3,
        "models": {
            "WeightedEnsemble_L2": {"folds": 3, "log_loss": 0.5012, "weight": None},
            "RandomForest": {"folds": 2, "log_loss": 0.5434, "weight": 0.421},
            "LinearModelC1": {"folds": 3, "log_loss": 0.5878, "weight": 0.579},
        },
        "failed": [{"model": "RandomForest", "reason": "no <wood>", "folds": 1}],
        "not_reached": 4,
        "recalibrated": 1,
        "importance": {
            "rad": {"mean": 0.0312, "low": -0.0041, "high": 0.0723},
            "age": {"mean": 0.0911, "low": 0.05, "high": 0.1},
        },
    },
    "deployed": {
        "failures": [],
        "not_reached": 1,
        "refit": False,
        "rare": {"dead": "one training patient has it"},
        "versions": {},
        "calibration": {"kind": "platt", "values": [0.1, 0.8], "before": 0.5311, "after": 0.5022, "reason": ""},
        "importance": [
            {"input": "age", "log_loss": 0.0812, "sd": 0.01},
            {"input": "rad", "log_loss": 0.0411, "sd": 0.01},
        ],
        "leaderboard": [
            {"model": "WeightedEnsemble_L2", "role": "ensemble", "log_loss": 0.4911, "weight": None},
            {"model": "LinearModelC1", "role": "model", "log_loss": 0.5123, "weight": 1.0},
            {"model": "LightGBMStumps", "role": "model", "log_loss": 0.6123, "weight": 0.0},
        ],
    },
}


def text(facts: dict[str, Any] | None) -> str:
    """The section in words, a row of a table a line."""
    block = AutogluonPredictor(kind="autogluon", inputs=("age", "rad"))
    entry = {} if facts is None else {"autogluon": facts}
    run: Any = SimpleNamespace(
        schema=SimpleNamespace(predictors={"many": block}), metrics={"predictors": {"many": entry}}
    )
    html = "".join(str(part) for part in section(run))
    assert "<wood>" not in html
    rows = re.sub(r"</t[dh]>", " | ", re.sub(r"</(tr|p|h3|caption)>", "\n", html))
    return re.sub(r"[ ]+", " ", re.sub(r"<[^>]+>", "", rows)).replace("&lt;", "<").replace("&gt;", ">")


def test_models_over_the_folds_and_as_deployed() -> None:
    told = text(FACTS)
    assert "WeightedEnsemble_L2 | 0.501 | all | 3 of 3 | 0.491 | all |" in told
    assert "RandomForest | 0.543 | 0.42 | 2 of 3 | – | – |" in told
    assert "LightGBMStumps | – | – | 0 of 3 | 0.612 | 0.00 |" in told
    names = [line.split(" |")[0] for line in told.splitlines() if " of 3 |" in line]
    assert names == ["WeightedEnsemble_L2", "RandomForest", "LinearModelC1", "LightGBMStumps"]


def test_failures_and_what_was_not_reached() -> None:
    told = text(FACTS)
    assert "RandomForest | no <wood> | 1 of 3 folds |" in told
    assert "5 models over all fits were not reached in time." in told
    calm = copy.deepcopy(FACTS)
    calm["folds"] |= {"failed": [], "not_reached": 0}
    calm["deployed"]["not_reached"] = 0
    assert "No model failed." in text(calm)


def test_importance_by_its_mean_over_the_folds() -> None:
    told = text(FACTS)
    assert "age | 0.091 (0.050 to 0.100) | 0.081 |" in told
    assert "rad | 0.031 (−0.004 to 0.072) | 0.041 |" in told
    assert told.index("age | 0.091") < told.index("rad | 0.031")


def test_how_they_were_made() -> None:
    words = made_words(FACTS)
    assert words.startswith(
        "Deployed: 1 model of 7 (small_n), bagged over 5 inner folds of patients; 12 columns of age, rad"
    )
    assert "no time limit; dead is not learnt (one training patient has it), and keeps its share." in words
    assert "Recalibrated by intercept and slope: inner log-loss 0.531, then 0.502." in words
    assert NOT_TWICE not in words
    assert made_words({**FACTS, "time_limit": 60}).endswith(NOT_TWICE)


def test_a_predictor_that_was_not_deployed_still_has_its_folds() -> None:
    folds_only = {
        key: FACTS[key] for key in ("presets", "time_limit", "memory_limit", "planned", "inner_folds", "folds")
    }
    told = text(folds_only)
    assert "Not fitted to all patients. In the folds: 7 models (small_n)" in told
    assert "RandomForest | 0.543 | 0.42 | 2 of 3 | – | – |" in told
    assert "age | 0.091 (0.050 to 0.100) | – |" in told
    assert "no fit was finished" in text(None)
