"""What one predictor adds to another, from stored predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import image_schema, minimal_schema, write_schema
from made_classes import TREE
from made_predictions import (
    NOMOGRAM,
    SURVIVAL,
    binary,
    class_cohort,
    class_rows,
    dealt_folds,
    facts_of,
    guesses,
    noisy,
    predicted,
    schema_of,
    survival,
)

from osml.cohort.cohort import BinaryOutcome
from osml.cohort.splits import Fold
from osml.evaluation.discrimination import auc
from osml.evaluation.utility import net_benefit
from osml.schema.load import load_schema
from osml.schema.model import Schema
from osml.study.adds import adds

TWO = {"clinical": NOMOGRAM, "full": {"kind": "nomogram", "inputs": ["age", "sex", "marker"]}}
DECISION = {"action": "biopsy", "act_on": "bad", "thresholds": [0.2, 0.5], "why": "range of opinion"}
PAIR = {"report": {"adds": [["clinical", "full"]]}}


def added(
    folder: Path, noise: tuple[float, float] = (2.0, 0.0), n: int = 80, predictors: Any = TWO, **changes: Any
) -> dict[str, Any]:
    """The one entry of `clinical` and `full` with this noise."""
    schema = schema_of(folder, predictors, **{**PAIR, **changes})
    cohort, lp = binary(n)
    folds = dealt_folds(cohort, 4, 2)
    names = schema.report.adds[0]
    rows = [r for k, name in enumerate(names) for r in predicted(name, cohort, folds, noisy(lp, noise[k], k))]
    found = adds(schema, cohort, folds, rows, facts_of(list(schema.predictors), folds))
    json.dumps(found, allow_nan=False)
    return found[0]


def test_differences_by_hand(tmp_path: Path) -> None:
    found = added(tmp_path, decision=DECISION)
    cohort, lp = binary()
    outcome = cohort.outcome
    assert isinstance(outcome, BinaryOutcome)
    scores = [noisy(lp, 2.0, 0), noisy(lp, 0.0, 1)]
    areas = []
    for score in scores:
        inside = [np.isin(cohort.patients, fold.test) for fold in dealt_folds(cohort, 4, 2)]
        areas.append(np.mean([auc(outcome.y[i], score[i]) for i in inside]))
    p = [1 / (1 + np.exp(-score)) for score in scores]
    entry = found["measures"]["auc"]
    assert [entry["without"], entry["with"]] == pytest.approx(areas)
    assert entry["difference"]["value"] == pytest.approx(areas[1] - areas[0])
    brier = [((outcome.y - one) ** 2).mean() for one in p]
    assert found["measures"]["brier"]["difference"]["value"] == pytest.approx(brier[1] - brier[0])
    assert [point["threshold"] for point in found["net_benefit"]] == pytest.approx([0.2, 0.35, 0.5])
    benefit = [net_benefit(outcome.y, one, [0.2, 0.35, 0.5]).model for one in p]
    for k, point in enumerate(found["net_benefit"]):
        assert [point["without"], point["with"]] == pytest.approx([benefit[0][k], benefit[1][k]])
    assert (found["added"], found["lacks"], found["decides"]) == (["marker"], [], "auc")


def test_a_clear_gain_is_shown_and_the_sentence_says_so(tmp_path: Path) -> None:
    found = added(tmp_path, (6.0, 0.0))
    assert found["verdict"] == "better"
    difference = found["measures"]["auc"]["difference"]
    assert difference["low"] > 0
    assert found["net_benefit"] == {"reason": "no decision stated"}
    values = (f"{difference[key]:+.2f}" for key in ("value", "low", "high"))
    expected = "Adding laboratory values to clinical (full): AUC {} ({} to {}): an improvement is shown."
    assert found["sentence"] == expected.format(*values)
    assert found["measures"]["brier"]["difference"]["high"] < 0


def test_the_other_direction_has_the_other_sign(tmp_path: Path) -> None:
    forward = added(tmp_path, (6.0, 0.0), decision=DECISION)
    back = added(
        tmp_path, (0.0, 6.0), predictors={"clinical": TWO["clinical"], "full": TWO["full"]},
        report={"adds": [["full", "clinical"]]}, decision=DECISION,
    )  # fmt: skip
    assert back["verdict"] == "worse"
    assert (back["added"], back["lacks"]) == ([], ["marker"])
    assert back["sentence"].startswith("clinical in place of full: AUC \N{MINUS SIGN}0.")
    assert ": it is worse; net benefit at a risk of 35 %" in back["sentence"]
    assert back["sentence"].endswith(". clinical does not use marker.")
    assert forward["verdict"] == "better"


def test_the_same_predictions_add_nothing(tmp_path: Path) -> None:
    found = added(tmp_path, (0.0, 0.0), decision=DECISION)
    for entry in [*found["measures"].values(), *found["net_benefit"]]:
        difference = entry["difference"]
        assert (difference["value"], difference["low"], difference["high"]) == (0, 0, 0)
    assert found["verdict"] == "not shown"
    assert ": no improvement is shown; net benefit at a risk of 35 % 0.000" in found["sentence"]


def test_few_patients_have_a_value_and_no_interval(tmp_path: Path) -> None:
    found = added(tmp_path, n=15)
    difference = found["measures"]["auc"]["difference"]
    assert difference["reason"] == "15 patients: no interval"
    assert "low" not in difference
    assert found["verdict"] is None
    assert found["sentence"].endswith(": no interval, so nothing is shown.")


def test_a_predictor_that_is_not_ranked(tmp_path: Path) -> None:
    schema = schema_of(tmp_path, TWO, **PAIR)
    cohort, lp = binary()
    folds = dealt_folds(cohort, 4, 2)
    found = adds(schema, cohort, folds, predicted("clinical", cohort, folds, lp), facts_of(list(TWO), folds, full=8))
    assert found[0]["reason"] == "full: not ranked: 8 of 8 folds failed"
    assert "sentence" not in found[0]


def test_a_case_control_sample_has_areas_alone(tmp_path: Path) -> None:
    found = added(tmp_path, study={"sampling": "case_control"}, decision=DECISION)
    assert found["measures"]["auc"]["difference"]["low"] is not None
    assert "withheld" in found["measures"]["brier"]["difference"]["reason"]
    assert "withheld" in found["net_benefit"]["reason"]


def test_leaving_one_patient_out_the_brier_score_decides(tmp_path: Path) -> None:
    schema = schema_of(tmp_path, TWO, {"kind": "leave_one_patient_out"}, **PAIR)
    cohort, lp = binary(40)
    folds = [Fold(0, k, tuple(q for q in cohort.patients if q != p), (p,)) for k, p in enumerate(cohort.patients)]
    rows = [r for k, name in enumerate(TWO) for r in predicted(name, cohort, folds, noisy(lp, 6.0 * (1 - k), k))]
    found = adds(schema, cohort, folds, rows, facts_of(list(TWO), folds))[0]
    assert found["measures"]["auc"]["difference"]["value"] is None
    # A Brier score that falls is an improvement.
    assert (found["decides"], found["verdict"]) == ("brier", "better")
    assert found["measures"]["brier"]["difference"]["high"] < 0


def test_survival(tmp_path: Path) -> None:
    decision = {**DECISION, "act_on": "event"}
    schema = schema_of(tmp_path, TWO, target=SURVIVAL, decision=decision, **PAIR)
    cohort, lp = survival()
    folds = dealt_folds(cohort, 4, 1)
    rows = [r for k, name in enumerate(TWO) for r in predicted(name, cohort, folds, noisy(lp, 3.0 * (1 - k), k))]
    found = adds(schema, cohort, folds, rows, facts_of(list(TWO), folds, "c"))[0]
    assert (found["decides"], found["verdict"]) == ("c", "better")
    assert found["measures"]["brier"]["difference"]["value"] < 0
    assert len(found["net_benefit"]) == 3


def test_classes(tmp_path: Path) -> None:
    data = minimal_schema()
    tree = ["non_tumor", {"tumor": ["non_viable", "viable"]}]
    data["target"] = {"kind": "hierarchy", "column": "outcome", "tree": tree}
    data["predictors"] = {
        "clinical": {"kind": "network", "inputs": ["age"]},
        "full": {"kind": "network", "inputs": ["age", "sex"]},
    }
    data["report"] = PAIR["report"]
    schema = load_schema(write_schema(tmp_path, data)).schema
    labels = np.random.default_rng(2).choice(["non_tumor", "tumor", "non_viable", "viable"], 120).tolist()
    cohort = class_cohort(labels, [f"P{i:03d}" for i in range(120)], TREE)
    folds = dealt_folds(cohort, 3, 1)
    p = {"clinical": guesses(cohort, 0.2, 1), "full": guesses(cohort, 2.0, 2)}
    rows = [r for name in p for r in class_rows(cohort, folds, p[name], name)]
    found = adds(schema, cohort, folds, rows, facts_of(list(p), folds, "macro_f1"))[0]
    assert (found["decides"], found["verdict"]) == ("macro_auc", "better")
    assert list(found["measures"]) == ["macro_auc", "log_loss"]
    assert found["net_benefit"] == {"reason": "decision curves are for an event, not for classes"}


def imaged(folder: Path, pair: list[str]) -> Schema:
    data = image_schema()
    data["predictors"]["combined"] = {"kind": "nomogram", "inputs": ["age", "sex", "radscore"]}
    data["report"] = {"adds": [pair]}
    return load_schema(write_schema(folder, data)).schema


def test_imaging_is_named_as_such(tmp_path: Path) -> None:
    cohort, lp = binary()
    folds = dealt_folds(cohort, 4, 1)
    heads = {}
    for second in ("combined", "radscore"):
        schema = imaged(tmp_path, ["clinical", second])
        rows = [r for name in ("clinical", second) for r in predicted(name, cohort, folds, lp)]
        heads[second] = adds(schema, cohort, folds, rows, facts_of(list(schema.predictors), folds))[0]["sentence"]
    assert heads["combined"].startswith("Adding imaging to clinical (combined): AUC 0.00")
    assert heads["radscore"].startswith("radscore in place of clinical: AUC 0.00")
    assert heads["radscore"].endswith(
        "radscore does not use age and sex, so the difference is not only what imaging adds."
    )
