"""The choice among the predictors of a study, from stored predictions."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import minimal_schema, write_schema
from made_classes import TREE
from made_predictions import (
    BINARY,
    NETWORK,
    NOMOGRAM,
    RIDGE,
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

from osml.cohort.cohort import Cohort, SurvivalOutcome
from osml.cohort.splits import Fold
from osml.evaluation.censoring import fit_censoring
from osml.evaluation.ipcw import brier_at
from osml.evaluation.multiplicity import holm
from osml.runs.store import PredictionRow
from osml.schema.load import load_schema
from osml.schema.model import Predictor, Schema
from osml.study.complexity import OF_KIND, RANKS, complexity
from osml.study.judge import collect, judge_binary
from osml.study.judge_classes import judge_classes
from osml.study.judge_survival import judge_survival
from osml.study.leaderboard import with_choice
from osml.study.losses import compared, unit_losses
from osml.study.select import DRAWS, select, strata
from osml.study.terminal_choice import choice_lines

THREE = {"clinical": NOMOGRAM, "ridge": RIDGE, "net": NETWORK}
Made = tuple[Schema, Cohort, list[Fold], list[PredictionRow]]


def made(folder: Path, noise: dict[str, float], split: Any = None, n: int = 80, rows: int = 1, **changes: Any) -> Made:
    """Predictions that know the truth up to noise of this size, by predictor."""
    schema = schema_of(folder, THREE, split, **changes)
    cohort, lp = binary(n, rows)
    folds = dealt_folds(cohort, 4, 2)
    stored = [r for k, (name, s) in enumerate(noise.items()) for r in predicted(name, cohort, folds, noisy(lp, s, k))]
    return schema, cohort, folds, stored


EQUAL = {"clinical": 0.0, "ridge": 0.0, "net": 0.0}
CLEAR = {"clinical": 4.0, "ridge": 3.0, "net": 0.0}


def chosen(case: Made, **failed: int) -> dict[str, Any]:
    schema, cohort, folds, rows = case
    out = select(schema, cohort, folds, rows, facts_of(list(schema.predictors), folds, **failed))
    assert out is not None
    json.dumps(out, allow_nan=False)
    return out


def test_nothing_is_chosen_unless_asked(tmp_path: Path) -> None:
    schema, cohort, folds, rows = made(tmp_path, EQUAL, report={"select": False})
    assert select(schema, cohort, folds, rows, facts_of(list(schema.predictors), folds)) is None


def test_of_equal_predictors_the_simplest_is_chosen(tmp_path: Path) -> None:
    out = chosen(made(tmp_path, EQUAL))
    assert out["winner"] == "clinical"
    assert [entry["chosen_share"] for entry in out["table"]] == [1.0, 0.0, 0.0]
    assert [entry["complexity"] for entry in out["table"]] == ["nomogram", "penalised", "network"]
    assert [entry["within"] for entry in out["table"]] == [True, True, True]
    assert out["draws"] == DRAWS


def test_a_clearly_better_network_is_chosen_and_hardly_corrected(tmp_path: Path) -> None:
    out = chosen(made(tmp_path, CLEAR))
    assert (out["winner"], out["best"]) == ("net", "net")
    net = out["table"][2]
    assert net["chosen_share"] == 1.0
    assert net["loss"] == min(entry["loss"] for entry in out["table"])
    # The same candidate in every resample: what was not drawn is, on average, like everybody.
    assert out["corrected"]["log_loss"]["value"] == pytest.approx(net["loss"], abs=0.005)
    assert out["corrected"]["brier"]["left_out"] == pytest.approx(out["corrected"]["brier"]["drawn"], abs=0.005)
    assert out["corrected"]["auc"]["low"] < out["corrected"]["auc"]["value"] < out["corrected"]["auc"]["high"]


def test_the_same_predictions_give_the_same_choice_in_any_order(tmp_path: Path) -> None:
    noise = {"clinical": 0.9, "ridge": 0.8, "net": 0.7}
    schema, cohort, folds, rows = made(tmp_path, noise, rows=3)
    once = chosen((schema, cohort, folds, rows))
    order = np.random.default_rng(0).permutation(len(rows))
    again = chosen((schema, cohort, folds, [rows[i] for i in order]))
    for key in ("winner", "best"):
        assert once[key] == again[key]
    for a, b in zip(once["table"], again["table"], strict=True):
        np.testing.assert_allclose([a["loss"], a["se"]], [b["loss"], b["se"]], rtol=1e-9)
        assert a["chosen_share"] == b["chosen_share"]


def test_a_predictor_with_a_failed_fold_is_not_ranked_and_changes_nothing(tmp_path: Path) -> None:
    schema, cohort, folds, rows = made(tmp_path, {"clinical": 1.0, "ridge": 0.5, "net": 0.0})
    lost = [r for r in rows if (r.predictor, r.repeat, r.fold) != ("net", 1, 2)]
    out = chosen((schema, cohort, folds, lost), net=1)
    assert out["table"][2]["reason"] == "not ranked: 1 of 8 folds failed"
    assert "loss" not in out["table"][2]
    (tmp_path / "two").mkdir()
    two = schema_of(tmp_path / "two", {name: THREE[name] for name in ("clinical", "ridge")})
    alone = chosen((two, cohort, folds, [r for r in lost if r.predictor != "net"]))
    assert out["table"][:2] == alone["table"]
    assert out["corrected"] == alone["corrected"]


def test_why_nothing_is_chosen(tmp_path: Path) -> None:
    case = made(tmp_path, EQUAL)
    assert chosen(case, clinical=1, ridge=1, net=1)["reason"] == (
        "nothing is chosen: no predictor finished all its folds"
    )
    one = chosen(case, ridge=2, net=1)
    assert one["reason"] == "only clinical finished all its folds: there was nothing to choose from"
    assert "winner" not in one
    few = chosen(made(tmp_path, EQUAL, n=9))
    assert few["reason"].startswith("nothing is chosen: 9 patients were held out")
    hidden = chosen(made(tmp_path, EQUAL, study={"sampling": "case_control"}))
    assert hidden["reason"].startswith("nothing is chosen, since the log-loss decides: probabilities are withheld")
    assert hidden["table"][0]["auc"]["value"] == 0.7
    enriched = {"sampling": "enriched", "prevalence": {"value": 0.1, "source": "a registry"}}
    assert "not computed: the mix of events" in chosen(made(tmp_path, EQUAL, study=enriched))["reason"]


def test_few_patients_have_no_intervals(tmp_path: Path) -> None:
    out = chosen(made(tmp_path, EQUAL, n=15))
    for entry in (out["corrected"]["log_loss"], out["table"][0]["log_loss"]):
        assert entry["reason"] == "15 patients: no interval"
        assert entry["value"] is not None
        assert "low" not in entry


def test_leaving_one_patient_out_has_no_area_to_correct(tmp_path: Path) -> None:
    schema, cohort, _, _ = made(tmp_path, EQUAL, split={"kind": "leave_one_patient_out"}, n=30)
    folds = [Fold(0, k, tuple(q for q in cohort.patients if q != p), (p,)) for k, p in enumerate(cohort.patients)]
    _, lp = binary(30)
    rows = [r for k, name in enumerate(THREE) for r in predicted(name, cohort, folds, noisy(lp, 0.3 * k, k))]
    facts = facts_of(list(THREE), folds)
    for one in facts.values():
        one["out_of_fold"]["auc"] = {"value": None, "reason": "one patient per fold has no discrimination"}
    out = select(schema, cohort, folds, rows, facts)
    assert out is not None
    assert out["corrected"]["auc"] == {"value": None, "reason": "one patient per fold has no discrimination"}
    assert out["corrected"]["log_loss"]["low"] < out["corrected"]["log_loss"]["value"]


def test_one_test_set(tmp_path: Path) -> None:
    schema, cohort, _, _ = made(tmp_path, EQUAL, split={"kind": "holdout", "column": "part", "test": "test"})
    fold = Fold(0, 0, cohort.patients[:30], cohort.patients[30:])
    _, lp = binary(80)
    rows = [r for k, name in enumerate(THREE) for r in predicted(name, cohort, [fold], noisy(lp, 0.5 * k, k))]
    out = select(schema, cohort, [fold], rows, facts_of(list(THREE), [fold]))
    assert out is not None
    assert out["patients"] == 50
    assert "no longer untouched" in out["test_set"]
    # Models of other patients share nothing with the test set.
    assert "drawn" not in out["corrected"]["auc"]
    assert out["corrected"]["brier"]["value"] == out["corrected"]["brier"]["left_out"]
    assert {c.get("test") for c in out["comparisons"] if c["measure"] == "auc"} == {"DeLong, paired"}
    assert all("no test" in c["reason"] for c in out["comparisons"] if c["measure"] == "log_loss")


def test_comparisons_are_with_the_winner_and_adjusted_for_each_measure(tmp_path: Path) -> None:
    out = chosen(made(tmp_path, CLEAR))
    losses = [c for c in out["comparisons"] if c["measure"] == "log_loss"]
    assert [(c["first"], c["second"]) for c in losses] == [("clinical", "net"), ("ridge", "net")]
    assert all(c["difference"] > 0 and c["better"] == "lower" for c in losses)
    np.testing.assert_allclose([c["p_holm"] for c in losses], holm([c["p"] for c in losses]))
    areas = [c for c in out["comparisons"] if c["measure"] == "auc"]
    assert len(areas) == 2


def test_an_impossible_outcome_is_told(tmp_path: Path) -> None:
    schema, cohort, folds, rows = made(tmp_path, EQUAL)
    unit = next(u for u, y in zip(cohort.units, cohort.outcome.y, strict=True) if y == 1)  # type: ignore[union-attr]
    spoilt = [
        PredictionRow(**{**vars(r), "p": 0.0}) if (r.predictor, r.unit) == ("clinical", unit) else r for r in rows
    ]
    out = chosen((schema, cohort, folds, spoilt))
    assert out["table"][0]["loss"] is None
    assert out["table"][0]["log_loss"]["reason"].startswith("infinite")
    assert out["winner"] == "ridge"
    # Where that patient is not drawn, the spoilt predictor is the simplest of equals.
    assert out["table"][0]["chosen_share"] == pytest.approx(np.exp(-1), abs=0.05)
    assert out["corrected"]["log_loss"]["value"] is None


def test_predictions_without_probabilities_are_not_ranked(tmp_path: Path) -> None:
    schema, cohort, folds, rows = made(tmp_path, EQUAL)
    gone = [PredictionRow(**{**vars(r), "p": float("nan")}) if r.predictor == "net" else r for r in rows]
    assert chosen((schema, cohort, folds, gone))["table"][2]["reason"] == "not ranked: it has no probabilities"


def test_uncorrected_values_are_those_of_the_judges(tmp_path: Path) -> None:
    _, cohort, folds, rows = made(tmp_path, {"clinical": 1.0, "ridge": 0.5, "net": 0.0}, rows=3)
    found = compared(rows, list(THREE), cohort, folds)
    added = {name: found.spread(name, unit_losses(found, name).square or {}) for name in THREE}
    for name in ("clinical", "net"):
        honest = judge_binary(collect([r for r in rows if r.predictor == name], cohort, folds), "kfold", 1, "")
        np.testing.assert_allclose(found.discrimination(name)["auc"], honest["auc"]["value"], rtol=1e-12)
        np.testing.assert_allclose(np.nanmean(added[name]), honest["brier"]["value"], rtol=1e-12)
        everybody = np.ones((1, len(found.names)))
        np.testing.assert_allclose(found.discrimination(name, everybody)["auc"], honest["auc"]["value"], rtol=1e-12)


def test_survival(tmp_path: Path) -> None:
    schema = schema_of(tmp_path, {"clinical": NOMOGRAM, "ridge": RIDGE}, target=SURVIVAL)
    cohort, lp = survival()
    folds = dealt_folds(cohort, 4, 1)
    names = ("clinical", "ridge")
    rows = [r for k, name in enumerate(names) for r in predicted(name, cohort, folds, noisy(lp, 0.4 + k, k))]
    out = select(schema, cohort, folds, rows, facts_of(names, folds, "c"))
    assert out is not None
    assert "log-loss at 12 months, weighted for censoring," in out["rule"]
    outcome = cohort.outcome
    assert isinstance(outcome, SurvivalOutcome)
    risk = 1 - np.exp(-np.exp(noisy(lp, 0.4, 0)))
    curve = fit_censoring(outcome.time, outcome.event)
    case, control = outcome.event & (outcome.time <= 12), outcome.time > 12
    by_hand = np.where(case, -np.log(risk) / curve.before(outcome.time), 0.0)
    by_hand[control] = -np.log(1 - risk[control]) / curve.at(12.0)[0]
    assert out["table"][0]["loss"] == pytest.approx(by_hand.mean(), rel=1e-9)
    honest = judge_survival([r for r in rows if r.predictor == "clinical"], cohort, folds, schema, "")
    found = compared(rows, names, cohort, folds)
    np.testing.assert_allclose(found.discrimination("clinical")["c"], honest["c"]["value"], rtol=1e-12)
    square = found.spread("clinical", unit_losses(found, "clinical").square or {})
    np.testing.assert_allclose(np.nanmean(square), honest["brier"]["value"], rtol=1e-12)
    scored = brier_at(outcome.time, outcome.event, risk, 12.0, censoring=curve)
    np.testing.assert_allclose(np.nanmean(square), scored.value, rtol=1e-9)
    assert out["corrected"]["c"]["low"] < out["corrected"]["c"]["value"] < out["corrected"]["c"]["high"]


def test_survival_that_nobody_follows_to_the_horizon(tmp_path: Path) -> None:
    schema = schema_of(tmp_path, {"clinical": NOMOGRAM, "ridge": RIDGE}, target={**SURVIVAL, "horizons": [6, 90]})
    cohort, lp = survival()
    outcome = cohort.outcome
    assert isinstance(outcome, SurvivalOutcome)
    far = Cohort(**{**vars(cohort), "outcome": SurvivalOutcome(outcome.time, outcome.event, "month", (6.0, 90.0))})
    folds = dealt_folds(far, 4, 1)
    rows = [r for name in ("clinical", "ridge") for r in predicted(name, far, folds, lp)]
    out = select(schema, far, folds, rows, facts_of(("clinical", "ridge"), folds, "c"))
    assert out is not None
    assert out["reason"] == "nothing is chosen: no held-out patient is followed to 90 months"
    assert "loss" not in out["table"][0]


def test_classes_with_labels_that_stop_at_an_inner_node(tmp_path: Path) -> None:
    data = minimal_schema()
    tree = ["non_tumor", {"tumor": ["non_viable", "viable"]}]
    data["target"] = {"kind": "hierarchy", "column": "outcome", "tree": tree, "partial": {"mixed": "tumor"}}
    data["predictors"] = {"net": {"kind": "network", "inputs": ["age"]}, "flat": {"kind": "network", "inputs": ["sex"]}}
    data["report"] = {"select": True}
    schema = load_schema(write_schema(tmp_path, data)).schema
    labels = np.random.default_rng(2).choice(["non_tumor", "tumor", "non_viable", "viable"], 90)
    cohort = class_cohort(labels.tolist(), [f"P{i // 2:02d}" for i in range(90)], TREE)
    folds = dealt_folds(cohort, 3, 1)
    p = {"net": guesses(cohort, 2.0, 1), "flat": guesses(cohort, 0.3, 2)}
    rows = [r for name in p for r in class_rows(cohort, folds, p[name], name)]
    honest = {name: judge_classes([r for r in rows if r.predictor == name], cohort, folds, schema, "") for name in p}
    facts = {name: {"folds": 3, "failed_folds": 0, "out_of_fold": honest[name]} for name in p}
    out = select(schema, cohort, folds, rows, facts)
    assert out is not None
    leaves = list(TREE.leaves)
    given = [
        p["net"][i, leaves.index(name)] if name in leaves else p["net"][i, 1:].sum() for i, name in enumerate(labels)
    ]
    assert out["table"][0]["loss"] == pytest.approx(-np.log(given).mean(), rel=1e-9)
    assert out["winner"] == "net"
    found = compared(rows, list(p), cohort, folds)
    for measure in ("macro_f1", "macro_auc"):
        np.testing.assert_allclose(found.discrimination("net")[measure], honest["net"][measure]["value"], rtol=1e-12)
        assert out["corrected"][measure]["value"] is not None
    assert "brier" not in out["corrected"]


def test_groups_left_out_in_turn_stay_in_every_resample(tmp_path: Path) -> None:
    schema, cohort, _, _ = made(tmp_path, EQUAL, split={"kind": "leave_one_group_out", "column": "part"})
    halves = [cohort.patients[:20], cohort.patients[20:]]
    folds = [Fold(0, k, halves[1 - k], halves[k]) for k in (0, 1)]
    _, lp = binary(80)
    rows = [r for name in THREE for r in predicted(name, cohort, folds, lp)]
    found = compared(rows, list(THREE), cohort, folds)
    assert strata(schema, found, folds) == ["r0-f0"] * 20 + ["r0-f1"] * 60


def test_every_kind_of_predictor_has_a_rank(tmp_path: Path) -> None:
    union = typing.get_args(typing.get_args(Predictor)[0])
    kinds = {typing.get_args(block.model_fields["kind"].annotation)[0] for block in union}
    assert kinds <= set(OF_KIND)
    assert set(OF_KIND.values()) == set(RANKS)


def test_complexity_of_what_is_fed_is_that_of_what_feeds_it(tmp_path: Path) -> None:
    predictors = {
        "plain": NOMOGRAM,
        "firth": {**NOMOGRAM, "estimator": "firth"},
        "ridge": RIDGE,
        "lasso": {**NOMOGRAM, "select": "lasso"},
        "fed": {"kind": "nomogram", "inputs": ["plain", "sex"]},
        "net": NETWORK,
        "with_net": {"kind": "nomogram", "inputs": ["net", "sex"]},
        "both": {"kind": "stack", "inputs": ["plain", "net"]},
    }
    schema = schema_of(tmp_path, predictors, target=BINARY)
    assert {name: complexity(schema, name) for name in predictors} == {
        "plain": "nomogram", "firth": "nomogram", "ridge": "penalised", "lasso": "penalised", "fed": "penalised",
        "net": "network", "with_net": "network", "both": "stack",
    }  # fmt: skip


def test_lines_for_the_terminal(tmp_path: Path) -> None:
    out = chosen(made(tmp_path, CLEAR))
    adds = [{"sentence": "Adding imaging to clinical (net): AUC +0.02: no improvement is shown."}]
    first, second, third, fourth = choice_lines({"selection": out, "adds": adds})
    assert first == (
        "chosen    net (network): the lowest log-loss and no simpler predictor within one standard error; chosen in "
        "100 % of 1000 resamples of patients"
    )
    low, high = (out["corrected"]["auc"][key] for key in ("low", "high"))
    shown = f"{out['corrected']['auc']['value']:.2f} ({low:.2f} to {high:.2f})"
    assert second == f"          AUC 0.70 (0.60 to 0.80) as measured; {shown} corrected for the choice"
    assert third.startswith("          log-loss 0.")
    assert fourth == f"adds      {adds[0]['sentence']}"
    assert list(choice_lines({"selection": {"reason": "nothing is chosen: 9 patients"}})) == [
        "chosen    nothing is chosen: 9 patients"
    ]
    assert list(choice_lines({})) == []


def test_the_leaderboard_says_who_was_chosen(tmp_path: Path) -> None:
    out = chosen(made(tmp_path, CLEAR))
    header, rows = with_choice(("predictor", "auc", "auc_low"), [(name, 0.7, 0.6) for name in THREE], out)
    table = [dict(zip(header, row, strict=True)) for row in rows]
    assert [row["chosen"] for row in table] == ["no", "no", "yes"]
    assert [row["log_loss"] for row in table] == [entry["loss"] for entry in out["table"]]
    assert [row["corrected_auc"] for row in table] == [None, None, out["corrected"]["auc"]["value"]]
    assert with_choice(("predictor",), [("clinical",)], None) == (("predictor",), [("clinical",)])
    assert with_choice(("predictor",), [("clinical",)], {"reason": "x", "table": []})[0] == ("predictor",)
