"""What metrics.json says of predictors of classes: scikit-learn fold by fold, absent classes, few patients, noise."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from made_classes import (
    FLAT,
    TREE,
    class_cohort,
    class_rows,
    class_schema,
    dealt_folds,
    guesses,
    patient_folds,
)
from sklearn import metrics as sk

from osml.cohort.cohort import Cohort
from osml.cohort.splits import Fold
from osml.errors import InvalidInputError
from osml.evaluation.calibration import calibration
from osml.evaluation.tree import hierarchical_scores
from osml.runs.class_sets import class_sets, measured
from osml.study.judge_classes import judge_classes
from osml.study.judge_patients import judge_patients

KFOLD = {"kind": "kfold", "folds": 4}
LOPO = {"kind": "leave_one_patient_out"}


def mixed_cohort(patients: int = 40, rows: int = 5, seed: int = 0) -> Cohort:
    """Patients whose rows differ in class, one label in twelve only "tumor"."""
    rng = np.random.default_rng(seed)
    n = patients * rows
    labels = rng.choice(["non_tumor", "non_viable", "viable", "tumor"], n, p=[0.4, 0.27, 0.25, 0.08])
    return class_cohort(labels.tolist(), [f"P{i // rows}" for i in range(n)])


def judged(cohort: Cohort, folds: list[Fold], p: Any, split: dict[str, Any], hidden: str = "") -> dict[str, Any]:
    return judge_classes(class_rows(cohort, folds, p), cohort, folds, class_schema(split), hidden)


def plain(cohort: Cohort, patients: Any, p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leaf labels and probabilities of fully labelled rows of some patients, the simple way."""
    keep = [i for i, q in enumerate(cohort.patients) if q in patients and cohort.outcome.full[i]]  # type: ignore
    y = np.array([TREE.leaves.index(cohort.outcome.labels[i]) for i in keep])  # type: ignore[union-attr]
    return y, p[keep], np.array(keep)


def test_measures_are_scikit_learns_within_folds_averaged_over_folds_and_repeats():
    cohort = mixed_cohort()
    folds = dealt_folds(cohort, 4, repeats=2)
    p = [guesses(cohort, 0.8, seed) for seed in (1, 2)]
    found = judged(cohort, folds, p, KFOLD)
    expected: dict[str, list[float]] = {}
    for fold in folds:
        y, q, _ = plain(cohort, fold.test, p[fold.repeat])
        guess = q.argmax(axis=1)
        for name, value in {
            "accuracy": sk.accuracy_score(y, guess),
            "balanced_accuracy": sk.balanced_accuracy_score(y, guess),
            "macro_f1": sk.f1_score(y, guess, average="macro"),
            "weighted_f1": sk.f1_score(y, guess, average="weighted"),
            "macro_auc": sk.roc_auc_score(y, q, multi_class="ovr"),
            "log_loss": sk.log_loss(y, q),
        }.items():
            expected.setdefault(name, []).append(float(value))
    for name, values in expected.items():
        assert found[name]["value"] == pytest.approx(np.mean(values), rel=1e-10), name
        assert [f["value"] for f in found[name]["folds"]] == pytest.approx(values, rel=1e-10), name
        assert found[name]["low"] < found[name]["value"] < found[name]["high"], name
        assert "conditional on the fitted models" in found[name]["interval"]
    each = [sk.f1_score(*_guessed(cohort, f, p[f.repeat]), average=None)[1] for f in folds]
    assert found["per_class"]["non_viable"]["f1"]["value"] == pytest.approx(np.mean(each), rel=1e-10)
    json.dumps(found, allow_nan=False)


def _guessed(cohort: Cohort, fold: Fold, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, q, _ = plain(cohort, fold.test, p)
    return y, q.argmax(axis=1)


def test_pooled_values_are_per_repeat_and_then_averaged():
    cohort = mixed_cohort()
    folds = dealt_folds(cohort, 4, repeats=2)
    p = [guesses(cohort, 0.8, seed) for seed in (1, 2)]
    found = judged(cohort, folds, p, KFOLD)
    values = []
    for q in p:
        y, mine, _ = plain(cohort, cohort.patient_ids, q)
        values.append(sk.f1_score(y, mine.argmax(axis=1), average="macro"))
    assert found["pooled"]["macro_f1"] == {"value": pytest.approx(np.mean(values), rel=1e-10)}


def test_the_confusion_matrix_has_true_classes_in_rows_and_partial_labels_apart():
    cohort = mixed_cohort()
    folds = dealt_folds(cohort, 4)
    p = guesses(cohort, 0.8)
    found = judged(cohort, folds, p, KFOLD)["confusion"]
    y, q, _ = plain(cohort, cohort.patient_ids, p)
    assert found["counts"] == sk.confusion_matrix(y, q.argmax(axis=1)).tolist()
    partial = [i for i, label in enumerate(cohort.outcome.labels) if label == "tumor"]  # type: ignore[union-attr]
    counts = np.bincount(p[partial].argmax(axis=1), minlength=3)
    assert len(partial) > 5
    assert found["partial"] == {"tumor": counts.tolist()}


def test_decisions_use_labels_as_far_as_they_are_known():
    cohort = mixed_cohort()
    folds = dealt_folds(cohort, 4)
    p = guesses(cohort, 0.8)
    found = judged(cohort, folds, p, KFOLD)
    top, below = found["decisions"]
    labels = np.array(cohort.outcome.labels)  # type: ignore[union-attr]
    patients = np.array(cohort.patients)
    upper, lower = [], []
    for fold in folds:
        here = np.isin(patients, fold.test)
        upper.append(sk.roc_auc_score(labels[here] != "non_tumor", 1 - p[here, 0]))
        here &= np.isin(labels, ["viable", "non_viable"])
        lower.append(sk.roc_auc_score(labels[here] == "viable", p[here, 2] / (p[here, 1] + p[here, 2])))
    assert (top["node"], top["children"], below["node"]) == ("", ["non_tumor", "tumor"], "tumor")
    assert top["n"] == {"non_tumor": int((labels == "non_tumor").sum()), "tumor": int((labels != "non_tumor").sum())}
    assert top["macro_auc"]["value"] == pytest.approx(np.mean(upper), rel=1e-10)
    assert below["macro_auc"]["value"] == pytest.approx(np.mean(lower), rel=1e-10)


def test_tree_measures_are_those_of_hierarchical_scores():
    cohort = mixed_cohort()
    (fold, *_) = folds = dealt_folds(cohort, 2)
    p = guesses(cohort, 0.5)
    found = class_sets(class_rows(cohort, folds, p), cohort, [fold])[0]
    direct = hierarchical_scores(TREE, [TREE.nodes[k] for k in found.node], [TREE.leaves[k] for k in found.predicted])
    got = measured(found)
    for key in ("precision", "recall", "f1"):
        assert got[("tree", key)][0] == pytest.approx(getattr(direct, key), rel=1e-12)
    twice = measured(found, np.full((1, len(found)), 2.0))
    assert twice[("tree", "f1")][0] == pytest.approx(direct.f1, rel=1e-12)


def test_a_class_without_order_has_no_tree():
    rng = np.random.default_rng(0)
    cohort = class_cohort(rng.choice(["a", "b", "c"], 60).tolist(), [f"P{i}" for i in range(60)], FLAT)
    folds = dealt_folds(cohort, 3)
    schema = class_schema({"kind": "kfold", "folds": 3}, kind="multiclass")
    found = judge_classes(class_rows(cohort, folds, guesses(cohort, 1.0)), cohort, folds, schema, "")
    assert not {"tree", "decisions"} & set(found)
    assert found["macro_f1"]["value"] > 0.4
    assert found["per_patient"] == {"reason": "one row per patient: the measures above are per patient"}


def test_a_fold_without_a_class_has_no_macro_value_and_says_which():
    labels = ["non_tumor", "non_viable", "viable"] * 8 + ["non_tumor", "non_viable"] * 12
    patients = [f"A{i // 3}" for i in range(24)] + [f"B{i // 2}" for i in range(24)]
    cohort = class_cohort(labels, patients)
    a, b = ([p for p in cohort.patient_ids if p.startswith(x)] for x in "AB")
    folds = [Fold(0, 0, tuple(b), tuple(a)), Fold(0, 1, tuple(a), tuple(b))]
    p = guesses(cohort, 1.0)
    found = judged(cohort, folds, p, KFOLD)
    for name in ("macro_f1", "macro_auc", "balanced_accuracy", "weighted_auc"):
        there, not_there = found[name]["folds"]
        assert not_there["value"] is None
        assert not_there["reason"] == "no unit of viable"
        assert found[name]["value"] == there["value"]
        assert found[name]["not_estimable"] == 1
    viable = found["per_class"]["viable"]
    y, q, _ = plain(cohort, a, p)
    assert viable["f1"]["value"] == pytest.approx(sk.f1_score(y, q.argmax(axis=1), average=None)[2])
    assert viable["auc"]["value"] == pytest.approx(sk.roc_auc_score(y == 2, q[:, 2]))
    # What needs no class to be there uses both folds.
    assert found["accuracy"].get("not_estimable") is None
    every = [fold["value"] for fold in found["accuracy"]["folds"]]
    assert found["accuracy"]["value"] == pytest.approx(np.mean(every))


def test_a_class_that_nobody_has_gives_a_reason_everywhere_and_no_number():
    cohort = class_cohort(["non_tumor", "non_viable"] * 20, [f"P{i}" for i in range(40)])
    folds = dealt_folds(cohort, 4)
    found = judged(cohort, folds, guesses(cohort, 1.0), KFOLD)
    assert found["macro_f1"]["value"] is None
    assert found["macro_f1"]["reason"] == "in no fold: no unit of viable"
    for entry in found["per_class"]["viable"].values():
        assert entry["value"] is None
        assert "no unit of viable" in entry["reason"]
    assert found["calibration"]["viable"] == {"reason": "0 of 40 units are viable"}
    assert found["decisions"][1]["macro_auc"]["value"] is None
    assert found["decisions"][1]["macro_auc"]["reason"] == "in no fold: no unit of viable"


def three_patients() -> Cohort:
    """As the tiles: class nearly follows patient, one patient has one class only."""
    labels = ["non_tumor"] * 11 + ["non_viable"] * 17 + ["viable"] * 2 + ["tumor"]
    labels += ["non_tumor"] * 13 + ["non_viable"] * 2 + ["viable"] * 20 + ["tumor"] * 3 + ["non_tumor"] * 21
    return class_cohort(labels, ["Case-3"] * 31 + ["Case-48"] * 38 + ["P9"] * 21)


def test_leaving_one_patient_out_gives_patients_first_and_no_interval_and_no_test():
    cohort = three_patients()
    folds = patient_folds(cohort)
    p = guesses(cohort, 0.8)
    rows = class_rows(cohort, folds, p)
    found = judged(cohort, folds, p, LOPO, "withheld here")
    people = judge_patients(rows, cohort, folds, "withheld here")
    for name in ("macro_f1", "accuracy", "macro_auc"):
        assert found[name] == {"value": None, "reason": "a fold is one patient: see the table of patients"}
        assert "low" not in found["pooled"][name]
        assert found["pooled"][name]["reason"] == "3 patients: no interval"
    first, _, third = people["table"]
    assert [row["patient"] for row in people["table"]] == ["patient 1", "patient 2", "patient 3"]
    assert first["classes"] == {"non_tumor": 11, "non_viable": 17, "viable": 2}
    assert (first["rows"], first["partial"], third["absent"]) == (31, 1, ["non_viable", "viable"])
    assert first["training"] == {"non_tumor": 34, "non_viable": 2, "viable": 20}
    assert first["few_in_training"] == ["non_viable"]
    for row, patient in zip(people["table"], cohort.patient_ids, strict=True):
        y, q, _ = plain(cohort, [patient], p)
        guess = q.argmax(axis=1)
        assert row["accuracy"] == pytest.approx(sk.accuracy_score(y, guess))
        assert row["macro_f1"] == pytest.approx(sk.f1_score(y, guess, labels=np.unique(y), average="macro"))
        for k, name in enumerate(TREE.leaves):
            if 0 < (y == k).sum() < len(y):
                assert row["auc"][name] == pytest.approx(sk.roc_auc_score(y == k, q[:, k]))
            else:
                assert row["auc"][name] is None
    values = [row["macro_f1"] for row in people["table"]]
    assert people["range"]["macro_f1"] == [min(values), max(values)]
    assert "log_loss" not in first
    text = json.dumps([found, people], allow_nan=False)
    assert not [name for name in cohort.patient_ids if name in text]


def test_pooled_values_stand_beside_what_predictions_without_knowledge_give():
    cohort = three_patients()
    folds = patient_folds(cohort)
    p = guesses(cohort, 0.8)
    pooled = judged(cohort, folds, p, LOPO)["pooled"]
    y, q, keep = plain(cohort, cohort.patient_ids, p)
    assert pooled["accuracy"]["value"] == pytest.approx(sk.accuracy_score(y, q.argmax(axis=1)))
    # Shuffled over all rows: the chance agreement of Cohen's kappa, and an AUC of one half.
    chance = (np.bincount(y, minlength=3) / len(y)) @ (np.bincount(q.argmax(axis=1), minlength=3) / len(y))
    assert pooled["accuracy"]["permutation_mean"] == pytest.approx(chance, abs=0.015)
    assert pooled["macro_auc"]["permutation_mean"] == pytest.approx(0.5, abs=0.015)
    # Shuffled within patients: the same, patient by patient.
    patients = np.array(cohort.patients)[keep]
    inside = 0.0
    for patient in cohort.patient_ids:
        mine = patients == patient
        true, guess = (np.bincount(v[mine], minlength=3) for v in (y, q.argmax(axis=1)))
        inside += true @ guess / mine.sum()
    assert pooled["accuracy"]["within_patients_mean"] == pytest.approx(inside / len(y), abs=0.015)
    # Class shares of the training patients: they turn against the patient that is left out.
    shares = np.empty_like(q)
    for patient in cohort.patient_ids:
        shares[patients == patient] = np.bincount(y[patients != patient], minlength=3) / (patients != patient).sum()
    assert pooled["macro_auc"]["training_shares"] == pytest.approx(sk.roc_auc_score(y, shares, multi_class="ovr"))
    assert pooled["macro_auc"]["training_shares"] < 0.5
    assert pooled["log_loss"]["training_shares"] == pytest.approx(sk.log_loss(y, shares))
    assert "no refit" in pooled["note"]


def test_noise_is_not_told_apart_from_its_references():
    cohort = three_patients()
    folds = patient_folds(cohort)
    gaps = []
    for seed in range(12):
        pooled = judged(cohort, folds, guesses(cohort, 0.0, seed), LOPO)["pooled"]
        gaps.append(pooled["macro_auc"]["value"] - pooled["macro_auc"]["permutation_mean"])
    assert abs(np.mean(gaps)) < 0.04
    good = judged(cohort, folds, guesses(cohort, 3.0), LOPO)["pooled"]
    assert good["macro_auc"]["value"] > good["macro_auc"]["within_patients_mean"] + 0.1


def test_many_patients_left_out_one_at_a_time_get_an_interval_on_pooled_values():
    rng = np.random.default_rng(1)
    cohort = class_cohort(rng.choice(["non_tumor", "non_viable", "viable"], 60).tolist(), [f"P{i}" for i in range(60)])
    folds = patient_folds(cohort)
    p = guesses(cohort, 0.7)
    pooled = judged(cohort, folds, p, LOPO)["pooled"]
    low, high = pooled["accuracy"]["low"], pooled["accuracy"]["high"]
    assert low < pooled["accuracy"]["value"] < high
    # One row a patient: the interval is that of a proportion.
    half = 1.96 * np.sqrt(pooled["accuracy"]["value"] * (1 - pooled["accuracy"]["value"]) / 60)
    assert high - low == pytest.approx(2 * half, rel=0.15)
    assert "within_patients_mean" not in pooled["accuracy"]
    people = judge_patients(class_rows(cohort, folds, p), cohort, folds, "")
    assert people == {"reason": "one row per patient: a patient is right or wrong; see the pooled values"}


def test_rows_of_a_patient_widen_the_interval_and_do_not_narrow_it():
    rng = np.random.default_rng(3)
    labels = rng.choice(["non_tumor", "non_viable", "viable"], 60).tolist()
    once = class_cohort(labels, [f"P{i}" for i in range(60)])
    p = guesses(once, 0.7)
    many = class_cohort([name for name in labels for _ in range(6)], [f"P{i // 6}" for i in range(360)])
    folds = dealt_folds(once, 3)
    one = judged(once, folds, p, KFOLD)["accuracy"]
    six = judged(many, folds, np.repeat(p, 6, axis=0), KFOLD)["accuracy"]
    assert six["value"] == pytest.approx(one["value"])
    assert six["high"] - six["low"] == pytest.approx(one["high"] - one["low"], rel=1e-6)


def test_per_patient_measures_are_those_of_the_mean_probabilities():
    rng = np.random.default_rng(2)
    of_patient = rng.choice(["non_tumor", "non_viable", "viable"], 30)
    labels = np.repeat(of_patient, 4).tolist()
    cohort = class_cohort(labels, [f"P{i // 4}" for i in range(120)])
    folds = dealt_folds(cohort, 3)
    p = guesses(cohort, 0.7)
    found = judged(cohort, folds, p, KFOLD)["per_patient"]
    mean = p.reshape(30, 4, 3).mean(axis=1)
    y = np.array([TREE.leaves.index(name) for name in of_patient])
    each = [
        sk.accuracy_score(y[mine], mean[mine].argmax(axis=1))
        for fold in folds
        if (mine := np.isin([f"P{i}" for i in range(30)], fold.test)).any()
    ]
    assert found["accuracy"]["value"] == pytest.approx(np.mean(each))
    mixed = judged(mixed_cohort(), dealt_folds(mixed_cohort(), 4), guesses(mixed_cohort(), 1.0), KFOLD)
    assert "40 of 40 patients differ in class" in mixed["per_patient"]["reason"]


def test_measures_of_probabilities_are_left_out_with_the_reason_and_the_rest_is_not():
    cohort = mixed_cohort()
    folds = dealt_folds(cohort, 4)
    found = judged(cohort, folds, guesses(cohort, 1.0), KFOLD, "shares are not prevalences")
    for name in ("log_loss", "brier"):
        assert found[name] == {"value": None, "reason": "shares are not prevalences"}
        assert name not in found["pooled"]
    assert found["calibration"] == {"reason": "shares are not prevalences"}
    assert found["macro_f1"]["value"] > 0.5


def test_calibration_of_a_node_leaves_out_labels_that_stop_above_it():
    cohort = mixed_cohort(patients=60)
    folds = dealt_folds(cohort, 4)
    p = guesses(cohort, 0.8)
    found = judged(cohort, folds, p, KFOLD)["calibration"]
    labels = np.array(cohort.outcome.labels)  # type: ignore[union-attr]
    known = labels != "tumor"
    expected = calibration(labels[known] == "viable", p[known, 2])
    assert found["viable"]["n"] == known.sum()
    assert found["viable"]["slope"]["value"] == pytest.approx(expected.slope.value, rel=1e-6)  # type: ignore
    upper = calibration(labels != "non_tumor", 1 - p[:, 0])
    assert found["tumor"]["n"] == len(labels)
    assert found["tumor"]["slope"]["value"] == pytest.approx(upper.slope.value, rel=1e-6)  # type: ignore[union-attr]


def test_one_test_set_has_an_interval_for_a_fixed_model():
    cohort = mixed_cohort()
    ids = cohort.patient_ids
    folds = [Fold(0, 0, ids[:15], ids[15:])]
    p = guesses(cohort, 0.8)
    found = judged(cohort, folds, p, {"kind": "holdout", "column": "set", "test": "1"})
    y, q, _ = plain(cohort, ids[15:], p)
    assert found["macro_f1"]["value"] == pytest.approx(sk.f1_score(y, q.argmax(axis=1), average="macro"))
    assert found["macro_f1"]["interval"].endswith("for a fixed model on independent patients")
    assert "folds" not in found["macro_f1"]
    assert "pooled" not in found


def test_probabilities_that_are_none_are_refused():
    cohort = mixed_cohort(patients=6)
    folds = dealt_folds(cohort, 2)
    rows = class_rows(cohort, folds, guesses(cohort, 1.0))
    with pytest.raises(InvalidInputError, match="fold r0-f0: the probabilities of the classes do not sum to 1"):
        class_sets([row for row in rows if row.column != "viable"], cohort, folds)


def test_the_same_predictions_give_the_same_numbers():
    cohort = mixed_cohort(patients=25)
    folds = dealt_folds(cohort, 3)
    p = guesses(cohort, 0.8)
    assert json.dumps(judged(cohort, folds, p, KFOLD)) == json.dumps(judged(cohort, folds, p, KFOLD))
