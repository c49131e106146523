"""Seeds, patterns of missing inputs, subsets of inputs, comparisons: each number against the judge of the whole."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_classes import class_cohort, class_rows, class_schema, dealt_folds, guesses, patient_folds

from osml.cohort.cohort import BinaryOutcome, Cohort, SurvivalOutcome
from osml.evaluation.class_measures import auc_batch
from osml.evaluation.concordance import harrell_c
from osml.evaluation.discrimination import auc, brier
from osml.runs.extras import ExtraRow
from osml.runs.store import PredictionRow
from osml.study.compare import compare_classes
from osml.study.judge import collect, judge_binary
from osml.study.judge_ablation import judge_ablation
from osml.study.judge_classes import judge_classes
from osml.study.judge_patients import judge_patients
from osml.study.judge_patterns import judge_patterns
from osml.study.judge_seeds import judge_seeds
from osml.study.judge_survival import judge_survival

KFOLD = {"kind": "kfold", "folds": 3}
LOPO = {"kind": "leave_one_patient_out"}


def binary_cohort(n: int = 90, seed: int = 0) -> Cohort:
    made = class_cohort(["non_tumor"] * n, [f"P{i}" for i in range(n)])
    y = (np.random.default_rng(seed).random(n) < 0.4).astype(float)
    return replace(made, outcome=BinaryOutcome(y, "bad", "good"))


def event_rows(
    cohort: Cohort, folds: Any, p: np.ndarray, name: str = "net", hidden: bool = False
) -> list[PredictionRow]:
    shown = np.full(len(p), np.nan) if hidden else p
    return [
        PredictionRow(name, f.repeat, f.index, u, q, "bad", shown[i], np.log(p[i] / (1 - p[i])), None, None, "")
        for f in folds for i, (u, q) in enumerate(zip(cohort.units, cohort.patients, strict=True)) if q in f.test
    ]  # fmt: skip


def risks(cohort: Cohort, skill: float, seed: int) -> np.ndarray:
    y = cohort.outcome.y  # type: ignore[union-attr]
    return 1 / (1 + np.exp(-(skill * (y - 0.5) + np.random.default_rng(seed).normal(size=len(y)))))


def seed_extras(rows: list[PredictionRow], number: int) -> list[ExtraRow]:
    return [ExtraRow(r.predictor, r.repeat, r.fold, r.unit, r.patient, f"seed{number}:{r.column}", r.p) for r in rows]


def presence(cohort: Cohort, folds: Any, inputs: dict[str, np.ndarray]) -> list[ExtraRow]:
    return [
        ExtraRow("net", f.repeat, f.index, u, q, f"present:{name}", float(here[i]))
        for f in folds for name, here in inputs.items()
        for i, (u, q) in enumerate(zip(cohort.units, cohort.patients, strict=True)) if q in f.test
    ]  # fmt: skip


def tiles(patients: int = 30, rows: int = 6, seed: int = 0) -> Cohort:
    rng = np.random.default_rng(seed)
    labels = rng.choice(["non_tumor", "non_viable", "viable", "tumor"], patients * rows, p=[0.4, 0.3, 0.25, 0.05])
    return class_cohort(labels.tolist(), [f"P{i // rows}" for i in range(patients * rows)])


def test_each_seed_has_the_value_that_the_judge_gives_it_alone():
    cohort, schema = tiles(), class_schema(KFOLD)
    folds = dealt_folds(cohort, 3, repeats=2)
    alone = [class_rows(cohort, folds, guesses(cohort, 0.8, k)) for k in range(3)]
    found = judge_seeds([e for k, rows in enumerate(alone) for e in seed_extras(rows, k)], cohort, folds, schema, "")
    for name in ("macro_f1", "macro_auc", "accuracy"):
        expected = [judge_classes(rows, cohort, folds, schema, "")[name]["value"] for rows in alone]
        assert found["measures"][name]["values"] == pytest.approx(expected, rel=1e-12)
        assert found["measures"][name]["range"] == pytest.approx([min(expected), max(expected)])
    assert (found["seeds"], found["words"]) == (3, "spread of the training, not uncertainty about patients")
    assert "low" not in json.dumps(found["measures"])


def test_seeds_of_a_left_out_patient_are_judged_pooled():
    cohort, schema = tiles(4, 30), class_schema(LOPO)
    folds = patient_folds(cohort)
    alone = [class_rows(cohort, folds, guesses(cohort, 0.8, k)) for k in range(2)]
    found = judge_seeds([e for k, rows in enumerate(alone) for e in seed_extras(rows, k)], cohort, folds, schema, "")
    expected = [judge_classes(rows, cohort, folds, schema, "")["pooled"]["macro_f1"]["value"] for rows in alone]
    assert found["measures"]["macro_f1"]["values"] == pytest.approx(expected, rel=1e-12)
    assert found["basis"] == "pooled over patients"


def test_seeds_of_a_binary_network_and_why_one_seed_has_no_spread():
    cohort, schema = binary_cohort(), class_schema(KFOLD)
    folds = dealt_folds(cohort, 3)
    alone = [event_rows(cohort, folds, risks(cohort, 1.0, k)) for k in range(2)]
    extras = [e for k, rows in enumerate(alone) for e in seed_extras(rows, k)]
    found = judge_seeds(extras, cohort, folds, schema, "")
    for name in ("auc", "brier"):
        expected = [judge_binary(collect(rows, cohort, folds), "kfold", 7, "")[name]["value"] for rows in alone]
        assert found["measures"][name]["values"] == pytest.approx(expected, rel=1e-12)
    assert judge_seeds(extras, cohort, folds, schema, "no mix")["measures"]["brier"] == {
        "value": None,
        "reason": "no mix",
    }
    one = judge_seeds(seed_extras(alone[0], 0), cohort, folds, schema, "")
    assert one == {"reason": "one network: no spread of the training to show"}


def test_patterns_count_units_and_judge_each_alone():
    cohort = binary_cohort(120)
    folds = dealt_folds(cohort, 3)
    p = risks(cohort, 1.2, 1)
    xray = np.arange(120) % 4 > 0
    labs = np.arange(120) >= 5
    found = judge_patterns(
        presence(cohort, folds, {"xray": xray, "labs": labs}), event_rows(cohort, folds, p), cohort, folds, ""
    )
    counts = {tuple(entry["missing"]): entry["units"] for entry in found["patterns"]}
    assert counts == {(): 87, ("xray",): 28, ("labs",): 3, ("xray", "labs"): 2}
    assert [entry["units"] for entry in found["patterns"]] == [87, 28, 3, 2]
    y = cohort.outcome.y  # type: ignore[union-attr]
    without = ~xray & labs
    second = found["patterns"][1]
    assert second["present"] == ["labs"]
    assert second["measures"]["auc"]["value"] == pytest.approx(auc(y[without], p[without]))
    assert second["measures"]["brier"]["value"] == pytest.approx(brier(y[without], p[without]))
    for entry in found["patterns"][2:]:
        assert entry["measures"]["auc"] == {"value": None, "reason": f"{entry['units']} units, fewer than 10"}


def test_a_pattern_of_one_class_has_a_reason_and_no_number():
    cohort = binary_cohort(60)
    folds = dealt_folds(cohort, 3)
    y = cohort.outcome.y  # type: ignore[union-attr]
    here = y == 1
    found = judge_patterns(
        presence(cohort, folds, {"xray": here}), event_rows(cohort, folds, risks(cohort, 1, 0)), cohort, folds, "no"
    )
    for entry in found["patterns"]:
        assert entry["measures"]["auc"]["value"] is None
        assert "units have the event" in entry["measures"]["auc"]["reason"]
        assert entry["measures"]["brier"]["reason"] == "no"


def test_patterns_of_classes_and_of_survival():
    cohort = tiles()
    folds = dealt_folds(cohort, 3, repeats=2)
    half = np.arange(len(cohort)) % 2 == 0
    rows = class_rows(cohort, folds, guesses(cohort, 1.0))
    found = judge_patterns(presence(cohort, folds, {"tile": half}), rows, cohort, folds, "")
    assert {entry["units"] for entry in found["patterns"]} == {90}
    assert all(entry["measures"]["macro_f1"]["value"] > 0.4 for entry in found["patterns"])
    none = judge_patterns(presence(cohort, folds, {"tile": np.ones(len(cohort))}), rows, cohort, folds, "")
    assert none == {"reason": "no unit lacked an input"}
    assert "does not say" in judge_patterns([], rows, cohort, folds, "")["reason"]
    rng = np.random.default_rng(0)
    made = class_cohort(["viable"] * 80, [f"P{i}" for i in range(80)])
    outcome = SurvivalOutcome(rng.exponential(10, 80), rng.random(80) < 0.7, "month", (12.0,))
    made = replace(made, outcome=outcome)
    lp = -np.log(outcome.time) + rng.normal(size=80)
    folds = dealt_folds(made, 4)
    rows = [
        PredictionRow("net", f.repeat, f.index, u, u, "12", 1 / (1 + np.exp(-lp[i])), lp[i], None, None, "")
        for f in folds for i, u in enumerate(made.units) if u in f.test
    ]  # fmt: skip
    early = np.arange(80) < 30
    found = judge_patterns(presence(made, folds, {"mri": early}), rows, made, folds, "")
    smaller = found["patterns"][1]
    assert (smaller["units"], smaller["missing"]) == (30, [])
    expected = harrell_c(outcome.time[early], outcome.event[early], lp[early]).value
    assert smaller["measures"]["c"]["value"] == pytest.approx(expected)


def subset_rows(rows: list[PredictionRow], inputs: str) -> list[PredictionRow]:
    return [replace(row, predictor=f"net[{inputs}]") for row in rows]


def test_ablation_has_the_judges_numbers_and_their_difference_with_a_paired_interval():
    cohort, schema = tiles(), class_schema(KFOLD)
    folds = dealt_folds(cohort, 3, repeats=2)
    full, image, rest = (class_rows(cohort, folds, guesses(cohort, skill, 1)) for skill in (1.6, 0.9, 0.1))
    found = judge_ablation(full, [*subset_rows(image, "tile"), *subset_rows(rest, "age")], cohort, folds, schema, "")
    values = {}
    for rows, name in ((full, "full"), (image, "tile"), (rest, "age")):
        values[name] = judge_classes(rows, cohort, folds, schema, "")["macro_f1"]["value"]
    assert found["full"]["measures"]["macro_f1"]["value"] == pytest.approx(values["full"], rel=1e-12)
    assert {(s["inputs"][0], s["kind"]) for s in found["subsets"]} == {("tile", "image"), ("age", "rest")}
    for entry in found["subsets"]:
        name = entry["inputs"][0]
        assert entry["measures"]["macro_f1"]["value"] == pytest.approx(values[name], rel=1e-12)
        difference = entry["difference"]["macro_f1"]
        assert difference["value"] == pytest.approx(values["full"] - values[name], rel=1e-9)
        assert difference["low"] < difference["value"] < difference["high"]
        assert "both networks on the same patients" in difference["interval"]
    assert found["sentence"].startswith("On these folds fusion beat the better of the two, tile alone: macro-F1 ")
    assert f"{values['full']:.2f} against {values['tile']:.2f}" in found["sentence"]


def test_the_interval_is_paired_so_that_a_network_against_itself_has_none():
    cohort, schema = tiles(), class_schema(KFOLD)
    folds = dealt_folds(cohort, 3)
    full = class_rows(cohort, folds, guesses(cohort, 1.0, 1))
    found = judge_ablation(full, [*subset_rows(full, "tile"), *subset_rows(full, "age")], cohort, folds, schema, "")
    for entry in found["subsets"]:
        assert entry["difference"]["macro_f1"] == {
            "value": 0.0, "low": 0.0, "high": 0.0, "interval": entry["difference"]["macro_f1"]["interval"],
        }  # fmt: skip
    assert "fusion did not beat the better of the two" in found["sentence"]


def test_the_order_of_stored_rows_changes_nothing():
    cohort, schema = tiles(), class_schema(KFOLD)
    folds = dealt_folds(cohort, 3)
    full, image = (class_rows(cohort, folds, guesses(cohort, skill, 1)) for skill in (1.2, 0.9))
    turned = [image[k] for k in np.random.default_rng(0).permutation(len(image))]
    one, other = (judge_ablation(full, subset_rows(r, "tile"), cohort, folds, schema, "") for r in (image, turned))
    a, b = (found["subsets"][0]["difference"]["macro_f1"] for found in (one, other))
    assert [a[k] for k in ("value", "low", "high")] == pytest.approx([b[k] for k in ("value", "low", "high")])


def test_few_patients_get_differences_one_by_one_and_a_modest_sentence():
    cohort, schema = tiles(3, 40), class_schema(LOPO)
    folds = patient_folds(cohort)
    full, image, rest = (class_rows(cohort, folds, guesses(cohort, skill, 1)) for skill in (1.6, 0.9, 0.0))
    found = judge_ablation(full, [*subset_rows(image, "tile"), *subset_rows(rest, "age")], cohort, folds, schema, "")
    tables = [{r["patient"]: r for r in judge_patients(x, cohort, folds, "")["table"]} for x in (full, image)]
    (by_tile,) = (s["difference"] for s in found["subsets"] if s["inputs"] == ["tile"])
    for one in by_tile["patients"]["table"]:
        a, b = (t[one["patient"]]["macro_f1"] for t in tables)
        assert one["difference"] == pytest.approx(a - b)
    assert "low" not in json.dumps(found)
    assert by_tile["macro_f1"]["reason"] == "3 patients: no interval, no test"
    assert "with 3 patients this shows nothing beyond them" in found["sentence"]
    assert not [p for p in cohort.patient_ids if f'"{p}"' in json.dumps(found)]


def test_a_gain_within_the_interval_is_not_called_one():
    cohort = binary_cohort(60, 2)
    schema = class_schema(KFOLD)
    folds = dealt_folds(cohort, 3)
    base = risks(cohort, 1.0, 3)
    noise = np.random.default_rng(5).normal(size=60)
    other = 1 / (1 + np.exp(-(np.log(base / (1 - base)) + 0.25 * noise)))
    rows = {"full": event_rows(cohort, folds, base), "tile": event_rows(cohort, folds, other)}
    worse = event_rows(cohort, folds, risks(cohort, 0.0, 9))
    found = judge_ablation(
        rows["full"], [*subset_rows(rows["tile"], "tile"), *subset_rows(worse, "age")], cohort, folds, schema, ""
    )
    (tile,) = (s for s in found["subsets"] if s["inputs"] == ["tile"])
    assert tile["difference"]["auc"]["low"] < 0 < tile["difference"]["auc"]["value"]
    assert "fusion was not shown to beat" in found["sentence"]
    whole = judge_binary(collect(rows["full"], cohort, folds), "kfold", 7, "")
    assert found["full"]["measures"]["auc"]["value"] == pytest.approx(whole["auc"]["value"])
    assert found["full"]["measures"]["brier"]["value"] == pytest.approx(whole["brier"]["value"])
    assert tile["difference"]["brier"]["better"] == "lower"


def test_withheld_risks_still_rank_and_their_brier_score_is_left_out():
    cohort = binary_cohort(60)
    folds = dealt_folds(cohort, 3)
    p, q = risks(cohort, 1.0, 3), risks(cohort, 0.3, 4)
    full, image = (event_rows(cohort, folds, r, hidden=True) for r in (p, q))
    found = judge_ablation(full, subset_rows(image, "tile"), cohort, folds, class_schema(KFOLD), "withheld")
    y = cohort.outcome.y  # type: ignore[union-attr]
    expected = np.mean([auc_batch(y[i], p[i], np.ones((1, len(i))))[0] for i in _tests(cohort, folds)])
    assert found["full"]["measures"]["auc"]["value"] == pytest.approx(expected)
    assert found["full"]["measures"]["brier"] == {"value": None, "reason": "withheld"}
    assert found["subsets"][0]["difference"]["brier"]["value"] is None


def _tests(cohort: Cohort, folds: Any) -> list[np.ndarray]:
    return [np.flatnonzero(np.isin(cohort.patients, fold.test)) for fold in folds]


def test_survival_subsets_are_judged_by_c_within_folds():
    rng = np.random.default_rng(0)
    made = class_cohort(["viable"] * 60, [f"P{i}" for i in range(60)])
    outcome = SurvivalOutcome(rng.exponential(10, 60), rng.random(60) < 0.7, "month", (12.0,))
    made, folds = replace(made, outcome=outcome), dealt_folds(made, 3)
    schema = class_schema(KFOLD)

    def stored(lp: np.ndarray) -> list[PredictionRow]:
        return [
            PredictionRow("net", f.repeat, f.index, u, u, "12", 1 / (1 + np.exp(-lp[i])), lp[i], None, None, "")
            for f in folds for i, u in enumerate(made.units) if u in f.test
        ]  # fmt: skip

    good, bad = stored(-np.log(outcome.time) + rng.normal(size=60)), stored(rng.normal(size=60))
    found = judge_ablation(good, [*subset_rows(bad, "tile"), *subset_rows(bad, "age")], made, folds, schema, "")
    assert found["decides"] == "c"
    judged = judge_survival(good, made, folds, schema, "withheld")
    assert found["full"]["measures"]["c"]["value"] == pytest.approx(judged["c"]["value"])
    assert found["subsets"][0]["difference"]["c"]["low"] > 0
    assert "fusion beat the better of the two" in found["sentence"]


def test_no_ablation_says_so():
    cohort = tiles(3)
    folds = patient_folds(cohort)
    rows = class_rows(cohort, folds, guesses(cohort, 1.0))
    assert "nothing to compare" in judge_ablation(rows, [], cohort, folds, class_schema(LOPO), "")["reason"]


def compared(split: dict[str, Any], hidden: str = "", patients: int = 30) -> list[dict[str, Any]]:
    cohort, schema = tiles(patients), class_schema(split)
    folds = patient_folds(cohort) if split is LOPO else dealt_folds(cohort, 3)
    found = {}
    for name, skill in (("good", 1.5), ("bad", 0.2)):
        rows = class_rows(cohort, folds, guesses(cohort, skill, 1), name)
        found[name] = {
            "out_of_fold": judge_classes(rows, cohort, folds, schema, hidden),
            "patients": judge_patients(rows, cohort, folds, hidden),
        }
    return compare_classes(["good", "bad"], found, folds, patients, split["kind"])


def test_predictors_of_classes_are_compared_over_folds():
    f1, loss = compared(KFOLD)
    assert (f1["measure"], f1["better"], f1["test"]) == ("macro_f1", "higher", "Nadeau-Bengio")
    assert f1["difference"] > 0
    assert f1["low"] < f1["difference"] < f1["high"]
    assert (loss["measure"], loss["better"]) == ("log_loss", "lower")
    assert loss["difference"] < 0
    hidden = compared(KFOLD, "no mix")
    assert "p" in hidden[0]
    assert hidden[1]["reason"] == "no mix"
    assert [entry["reason"] for entry in compared(KFOLD, patients=8)] == ["8 patients: no interval, no test"] * 2


def test_left_out_patients_are_compared_one_by_one():
    f1, loss = compared(LOPO, patients=4)
    assert len(f1["patients"]) == len(loss["patients"]) == 4
    each = [one["difference"] for one in f1["patients"]]
    assert f1["range"] == [min(each), max(each)]
    assert np.mean(each) > 0 > np.mean([one["difference"] for one in loss["patients"]])
    assert not {"p", "low", "difference"} & set(f1)
