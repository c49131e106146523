"""Predictor `autogluon` without AutoGluon: its table, bags, calibration, importance, files and trust."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from autogluon_designs import INPUTS, STRANGE, design_of, schema_of, simplex, stored
from helpers import ROOT
from network_designs import TREE

from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort
from osml.errors import NotEstimableError, RunError, TrustError, VerificationError
from osml.predictors import autogluon_fit, autogluon_importance
from osml.predictors.autogluon import FittedAutogluon, load_autogluon
from osml.predictors.autogluon_calibration import RAW, Recalibration, recalibrated
from osml.predictors.autogluon_files import pack
from osml.predictors.autogluon_frame import fit_frame, frame_from_json
from osml.predictors.autogluon_portfolio import OVERRIDES
from osml.predictors.contract import Design
from osml.predictors.registry import load_predictor
from osml.predictors.table import fit_table, table_from_json
from osml.stats.sampling import to_prevalence


def framed(n: int = 60) -> tuple[Any, Any, Design]:
    schema = schema_of()
    design = design_of(schema, n)
    table = fit_table(schema, "many", design)
    x = table.matrix(design)
    return fit_frame(table, x), x, design


def test_the_frame_has_no_gap_and_says_where_there_was_one() -> None:
    frame, x, _ = framed()
    made = frame.make(x)
    assert not made.isna().any().any()
    assert frame.lacking == ("picture", "texture", "marker")
    marker = frame.table.places("marker")[0]
    gone = np.isnan(x[:, marker])
    assert gone.sum() == 12
    np.testing.assert_array_equal(made[f"c{marker}"][gone], np.median(x[~gone, marker]))
    np.testing.assert_array_equal(made["m2"], gone)
    np.testing.assert_array_equal(made[f"c{marker}"][~gone], x[~gone, marker])
    assert frame.owners[-3:] == frame.lacking
    assert len(frame.owners) == made.shape[1]


def test_levels_are_categories_and_a_missing_one_the_most_frequent() -> None:
    frame, x, _ = framed()
    stage = int(frame.table.places("stage")[0])
    x = x.copy()
    x[:, stage] = np.r_[np.full(40, 2.0), np.full(19, 0.0), np.nan]
    frame = fit_frame(frame.table, x)
    column = frame.make(x)[f"c{stage}"]
    assert column.dtype.categories.tolist() == ["0", "1", "2"]
    assert column.tolist() == ["2"] * 40 + ["0"] * 19 + ["2"]
    assert "stage" in frame.lacking


def test_a_row_of_the_frame_depends_on_its_own_unit() -> None:
    frame, x, _ = framed()
    whole = frame.make(x)
    for part in ([3], [20, 5, 5]):
        pd.testing.assert_frame_equal(frame.make(x[part]), whole.iloc[part].reset_index(drop=True))


def test_the_frame_survives_json() -> None:
    frame, x, _ = framed()
    data = frame.to_json()
    again = frame_from_json(data, table_from_json(data["table"]))
    pd.testing.assert_frame_equal(again.make(x), frame.make(x))


def binary(patients: list[str], y: list[int]) -> Cohort:
    names = tuple(f"u{i}" for i in range(len(y)))
    outcome = BinaryOutcome(np.array(y, dtype=float), "bad", "good")
    return Cohort(names, tuple(patients), np.zeros(len(y), dtype=np.intp), {}, {}, {}, outcome)


def task_of(cohort: Cohort, folds: int = 3, k: int = 0) -> Any:
    return autogluon_fit._task(schema_of(folds=folds), cohort, np.random.SeedSequence(k))


@pytest.mark.parametrize("draw", range(5))
def test_no_patient_and_no_copy_lies_in_two_bags(draw: int) -> None:
    rng = np.random.default_rng(draw)
    patients = [f"P{i // 3}" for i in range(90)]
    cohort = binary(patients, rng.integers(0, 2, 90).tolist())
    for one in (cohort, cohort.resample(rng.integers(0, 30, 30))):
        task = task_of(one, k=draw)
        bags: dict[str, set[int]] = {}
        for row, bag in zip(task.rows, task.bag, strict=True):
            bags.setdefault(one.patients[row], set()).add(int(bag))
        assert all(len(found) == 1 for found in bags.values())
        assert sorted(set(task.bag.tolist())) == [0, 1, 2]
        for bag in range(3):
            assert set(task.y[task.bag != bag].tolist()) == {0, 1}


def test_few_events_mean_fewer_bags() -> None:
    cohort = binary([f"P{i}" for i in range(30)], [1] * 2 + [0] * 28)
    task = task_of(cohort, folds=5)
    assert set(task.bag.tolist()) == {0, 1}
    assert all(task.y[task.bag == bag].sum() == 1 for bag in (0, 1))
    assert task.shares == (28 / 30, 2 / 30)


@pytest.mark.parametrize("y", [[1] + [0] * 29, [0] * 30])
def test_one_event_cannot_be_bagged(y: list[int]) -> None:
    with pytest.raises(NotEstimableError, match=r"two classes with two training patients each.*bad [01]"):
        task_of(binary([f"P{i}" for i in range(30)], y))


def classes(labels: list[str], patients: list[str] | None = None) -> Cohort:
    names = tuple(f"u{i}" for i in range(len(labels)))
    who = names if patients is None else tuple(patients)
    return Cohort(names, who, np.zeros(len(labels), dtype=np.intp), {}, {}, {},
                  ClassOutcome(TREE.positions(labels), TREE))  # fmt: skip


def test_rare_classes_and_partial_labels_are_not_taught() -> None:
    """Leaves are healthy, dead, alive; "tumour" stops above two of them."""
    labels = ["healthy"] * 10 + ["dead"] + ["alive"] * 9 + ["tumour"] * 4
    task = task_of(classes(labels))
    assert task.learnt == (0, 2)
    assert task.rare == {"dead": "one training patient has it"}
    assert set(task.rows.tolist()) == set(range(20)) - {10}
    np.testing.assert_allclose(task.shares, [10 / 20, 1 / 20, 9 / 20])
    assert set(task.y[task.rows < 10].tolist()) == {0}
    assert set(task.y[task.rows > 10].tolist()) == {1}


def test_a_class_in_one_bag_only_is_not_taught() -> None:
    """Two patients have rows of "dead", but mostly others: the folds, stratified by the class of most rows, may put
    both into one bag."""
    patients = [f"P{i // 4}" for i in range(48)]
    labels = (["healthy"] * 3 + ["dead"]) * 2 + ["healthy"] * 16 + ["alive"] * 24
    found = {tuple(task_of(classes(labels, patients), folds=2, k=k).learnt) for k in range(8)}
    assert found == {(0, 1, 2), (0, 2)}
    for k in range(8):
        task = task_of(classes(labels, patients), folds=2, k=k)
        for place in range(len(task.learnt)):
            assert len(set(task.bag[task.y == place].tolist())) >= 2
        if 1 not in task.learnt:
            assert task.rare == {"dead": "all its rows lie in one inner fold"}


def sampled(lp: np.ndarray[Any, Any], seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    y = (rng.random(len(lp)) < 1 / (1 + np.exp(-lp))).astype(np.intp)
    return y, np.arange(len(lp)) % 5


def test_a_calibration_that_helps_is_kept() -> None:
    lp = np.random.default_rng(1).normal(size=600)
    y, fold = sampled(lp, 2)
    p = 1 / (1 + np.exp(-(1.0 + 3.0 * lp)))
    found = recalibrated(np.column_stack([1 - p, p]), y, fold, "platt")
    assert found.kind == "platt"
    assert found.before is not None
    assert found.after is not None
    assert found.after < found.before
    # log odds 1 + 3 lp: the way back has slope 1/3 and intercept -1/3
    np.testing.assert_allclose(found.values, [-1 / 3, 1 / 3], atol=0.12)
    np.testing.assert_allclose(found.log_odds(np.column_stack([1 - p, p])), lp, atol=0.5)


def test_a_calibration_that_does_not_help_is_left_out() -> None:
    kinds = []
    for k in range(20):
        lp = np.random.default_rng(k).normal(size=60)
        y, fold = sampled(lp, 100 + k)
        p = 1 / (1 + np.exp(-lp))
        found = recalibrated(np.column_stack([1 - p, p]), y, fold, "platt")
        kinds.append(found.kind)
        if found.kind == "none":
            assert "does not help" in found.reason
            np.testing.assert_allclose(found.log_odds(np.column_stack([1 - p, p])), lp, rtol=1e-9)
    assert kinds.count("none") > 10


def test_a_calibration_is_judged_on_patients_it_was_not_fitted_to() -> None:
    lp = np.random.default_rng(3).normal(size=80)
    y, fold = sampled(lp, 4)
    p = np.column_stack([1 - 1 / (1 + np.exp(-2 * lp)), 1 / (1 + np.exp(-2 * lp))])
    found = recalibrated(p, y, fold, "platt")
    held = np.empty(80)
    for k in range(5):
        one = recalibrated(p[fold != k], y[fold != k], fold[fold != k], "platt")
        inside = one if one.kind == "platt" else autogluon_calibration_of(p[fold != k], y[fold != k])
        lp_k = inside.log_odds(p[fold == k])
        held[fold == k] = np.logaddexp(0, lp_k) - y[fold == k] * lp_k
    assert found.after == pytest.approx(held.mean(), rel=1e-12)


def autogluon_calibration_of(p: Any, y: Any) -> Recalibration:
    from osml.nets.calibrate import fit_platt

    found = fit_platt(RAW.log_odds(p), y)
    return Recalibration("platt", (found.intercept, found.slope))


def test_separated_probabilities_stay_as_they_are() -> None:
    y = np.repeat([0, 1], 20)
    p = np.where(y == 1, 0.9, 0.1)
    found = recalibrated(np.column_stack([1 - p, p]), y, np.arange(40) % 4, "platt")
    assert (found.kind, found.before) == ("none", None)
    assert found.reason


def test_the_temperature_of_overconfident_classes() -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(900, 3))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = np.array([rng.choice(3, p=row) for row in true])
    sharp = np.exp(2.5 * logits) / np.exp(2.5 * logits).sum(axis=1, keepdims=True)
    found = recalibrated(sharp, y, np.arange(900) % 5, "temperature")
    assert found.kind == "temperature"
    assert found.values[0] == pytest.approx(2.5, rel=0.15)
    np.testing.assert_allclose(np.exp(found.log_p(sharp)).sum(axis=1), 1.0, rtol=1e-12)


def test_a_prevalence_moves_the_odds() -> None:
    model, raw = stored(), simplex(40, 2)
    p, lp = model.risks(raw)
    np.testing.assert_allclose(p[:, 0], raw[:, 1], rtol=1e-9)
    np.testing.assert_allclose(lp, np.log(raw[:, 1] / raw[:, 0]), rtol=1e-9)
    moved, _ = model.with_prevalence(0.1).risks(raw)
    np.testing.assert_allclose(moved[:, 0], to_prevalence(raw[:, 1], 0.4, 0.1), rtol=1e-9)


def test_every_node_of_the_tree_has_a_probability() -> None:
    raw = simplex(30, 3)
    p, lp = stored("hierarchy").risks(raw)
    nodes = dict(zip(TREE.nodes, p.T, strict=True))
    np.testing.assert_allclose(nodes["dead"] + nodes["alive"], nodes["tumour"], rtol=1e-12)
    np.testing.assert_allclose(nodes["healthy"] + nodes["tumour"], 1.0, rtol=1e-12)
    np.testing.assert_allclose(nodes["dead"], raw[:, 1], rtol=1e-9)
    np.testing.assert_allclose(lp, np.log(p), rtol=1e-9)


def test_a_class_that_was_not_taught_keeps_its_share() -> None:
    raw = simplex(30, 2)
    p, _ = stored("hierarchy", learnt=(0, 2), shares=(0.55, 0.05, 0.4)).risks(raw)
    nodes = dict(zip(TREE.nodes, p.T, strict=True))
    np.testing.assert_allclose(nodes["dead"], 0.05, rtol=1e-12)
    np.testing.assert_allclose(nodes["healthy"] / nodes["alive"], raw[:, 0] / raw[:, 1], rtol=1e-9)
    np.testing.assert_allclose(nodes["healthy"] + nodes["tumour"], 1.0, rtol=1e-12)


def test_classes_of_a_chosen_sample_hold_for_equal_shares() -> None:
    """Bayes: the odds of two classes change by the ratio of their shares."""
    raw = simplex(30, 3)
    p, _ = stored("hierarchy", restated=True).risks(raw)
    nodes = dict(zip(TREE.nodes, p.T, strict=True))
    expected = (raw[:, 1] / 0.2) / (raw[:, 0] / 0.5)
    np.testing.assert_allclose(nodes["dead"] / nodes["healthy"], expected, rtol=1e-9)


class Child:
    """Says the probability that its one column holds."""

    def __init__(self, bag: int) -> None:
        self.bag = bag

    def predict_proba(self, x: pd.DataFrame) -> Any:
        return np.where(x["c0"] > 0, 0.8, 0.3) if self.bag == 0 else np.full(len(x), 0.5)


class Bags:
    """Stands for AutoGluon: one model in two bags."""

    models = (0, 1)
    _trainer: Any

    def __init__(self) -> None:
        self._trainer = self

    def transform_features(self, x: pd.DataFrame) -> pd.DataFrame:
        return x

    def load_model(self, name: str) -> Any:
        assert name == "one"
        return self

    def load_child(self, name: int) -> Child:
        return Child(name)


def test_importance_asks_each_bag_about_the_rows_held_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bag 0 reads age, bag 1 nothing: only shuffling the age of rows held out of bag 0 costs anything."""
    schema = schema_of(inputs=("age", "marker"))
    design = design_of(schema, 40, gaps=False)
    table = fit_table(schema, "many", design)
    assert [c.input for c in table.columns] == ["age", "marker"]
    x = np.column_stack([np.repeat([-1.0, 1.0], 20), np.random.default_rng(0).normal(size=40)])
    frame = fit_frame(table, x)
    y, bag = np.repeat([0, 1], 20), np.arange(40) % 2
    monkeypatch.setattr(autogluon_importance, "SHUFFLES", 400)
    found = autogluon_importance.importance(
        Bags(), {"one": 1.0}, frame, frame.make(x), y, bag, np.random.SeedSequence(0)
    )
    assert [one["input"] for one in found] == ["age", "marker"]
    # Held out of bag 0: 10 rows of each class. In place: loss -log .7 and -log .8. Shuffled, half of each class takes
    # the other's value: (-log .7 - log .2) / 2 and (-log .8 - log .3) / 2. Over all 40 rows, of which 20 count.
    before = 10 * (-np.log(0.7) - np.log(0.8))
    after = 5 * (-np.log(0.7) - np.log(0.2) - np.log(0.8) - np.log(0.3))
    assert found[0]["log_loss"] == pytest.approx((after - before) / 40, rel=0.03)
    assert found[1]["log_loss"] == 0.0
    p = autogluon_importance.held_out_probabilities(Bags(), {"one": 1.0}, frame.make(x), 1, 2)
    np.testing.assert_array_equal(p, 0.5)


def test_shuffles_move_whole_inputs_and_nothing_else() -> None:
    frame, x, _ = framed(30)
    rows = frame.make(x)
    rng = np.random.default_rng(0)
    inputs, owners = frame.table.inputs, np.array(frame.owners, dtype=object)
    variants = [np.arange(30), *(rng.permutation(30) for _ in inputs)]
    mixed = autogluon_importance._mixed(rows, inputs, owners, variants)
    blocks = [mixed.iloc[30 * v : 30 * (v + 1)].reset_index(drop=True) for v in range(len(variants))]
    pd.testing.assert_frame_equal(blocks[0], rows)
    for name, permutation, block in zip(inputs, variants[1:], blocks[1:], strict=True):
        mine = [column for column, owner in zip(rows.columns, owners, strict=True) if owner == name]
        pd.testing.assert_frame_equal(block[mine], rows[mine].iloc[permutation].reset_index(drop=True))
        rest = [column for column in rows.columns if column not in mine]
        pd.testing.assert_frame_equal(block[rest], rows[rest])


@pytest.mark.parametrize("target", ["binary", "hierarchy"])
def test_files_come_back_as_they_were(tmp_path: Path, target: str) -> None:
    model = replace(stored(target), calibration=Recalibration("platt", (0.1, 0.9), 0.5, 0.4), prevalence=0.3)
    model.save(tmp_path)
    again = load_autogluon(tmp_path)
    assert json.dumps(again.to_dict()) == json.dumps(model.to_dict())
    assert again.files == {"learner.pkl": STRANGE}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "untrusted"]


def test_nothing_is_read_without_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored().save(tmp_path)
    read: list[Path] = []
    plain = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: read.append(self) or plain(self))
    with pytest.raises(
        TrustError, match="'many' is of kind autogluon, whose files are pickles; none was read"
    ) as error:
        load_predictor(schema_of(), "many", tmp_path)
    assert read == []
    assert "A pickle is a program" in str(error.value)
    assert "--trust" in str(error.value)
    assert isinstance(load_predictor(schema_of(), "many", tmp_path, trust=True), FittedAutogluon)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    stored().save(tmp_path)
    (tmp_path / "untrusted" / "learner.pkl").write_bytes(STRANGE + b"\n")
    with pytest.raises(VerificationError, match=r"learner\.pkl is missing or was changed"):
        load_autogluon(tmp_path)
    (tmp_path / "untrusted" / "learner.pkl").unlink()
    with pytest.raises(VerificationError, match="missing or was changed"):
        load_autogluon(tmp_path)


def test_files_of_other_versions_are_refused(tmp_path: Path) -> None:
    model = stored()
    replace(model, versions={**model.versions, "scikit-learn": "0.1"}).save(tmp_path)
    with pytest.raises(RunError, match=r"scikit-learn 0\.1 \(here "):
        load_autogluon(tmp_path)


def test_a_revived_model_is_not_sent_along() -> None:
    model = stored()
    model.__dict__["model"] = lambda: None  # which could not be sent
    again = pickle.loads(pickle.dumps(model))  # noqa: S301  # as a task's result goes from a worker to the study
    assert "model" not in again.__dict__
    assert again.files == model.files


def test_packed_files_are_those_that_prediction_needs(tmp_path: Path) -> None:
    for place in ("models", "utils/data", "models/one/utils"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "X.pkl").write_bytes(b"rows of patients" if "utils" in place else b"model")
    (tmp_path / "metadata.json").write_text('{"version": "1", "packages": {"secret": "2"}}')
    files = pack(tmp_path)
    assert sorted(files) == ["metadata.json", "models/X.pkl"]
    assert b"secret" not in files["metadata.json"]


class Made:
    """Stands for an object of AutoGluon."""


def test_times_and_places_are_taken_out_of_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    from osml.predictors import autogluon_timeless

    monkeypatch.setattr(autogluon_timeless, "_WALKED", (__name__,))
    inner, outer = Made(), Made()
    inner.__dict__ |= {"predict_n_time_per_row": 0.25, "time_limit": 30, "val_score": -0.5, "timely": 2.5}
    outer.__dict__ |= {
        "path": "/home/somebody/osml-x/deployed/models", "fit_time": 1.5, "groups": pd.Series([0, 1]),
        "graph": {"nodes": [inner], "fit_time": 2.5}, "weights": np.array([0.5, 1.5]),
    }  # fmt: skip
    files = {"a.pkl": pickle.dumps(outer), "b.json": b"{}"}
    found = autogluon_timeless.timeless(files, Path("/home/somebody/osml-x"))
    assert found["b.json"] == b"{}"
    assert b"somebody" not in found["a.pkl"]
    again = pickle.loads(found["a.pkl"])  # noqa: S301
    assert (again.path, again.fit_time, again.groups) == ("_/deployed/models", 0.0, None)
    assert again.graph["fit_time"] == 0.0
    assert vars(again.graph["nodes"][0]) == {
        "predict_n_time_per_row": 0.0, "time_limit": 30, "val_score": -0.5, "timely": 2.5,
    }  # fmt: skip
    np.testing.assert_array_equal(again.weights, [0.5, 1.5])


def test_gaps_that_training_never_had_are_told_apart() -> None:
    schema = schema_of()
    design = design_of(schema, gaps=False)
    table = fit_table(schema, "many", design)
    model = replace(stored(), frame=fit_frame(table, table.matrix(design)))
    assert model.untaught() == ("picture",)  # one unit lacks texture
    values = {**design.cohort.values, "marker": np.full(60, np.nan)}
    flags = {flag.code for flag in model._flags(replace(design.cohort, values=values)) if flag.input == "marker"}
    assert flags == {"imputed"}
    assert {flag.code for flag in stored()._flags(design_of(schema).cohort) if flag.input == "marker"} == {"missing"}


def test_every_override_is_documented() -> None:
    text = (ROOT / "docs" / "automl.md").read_text(encoding="utf-8")
    for one in OVERRIDES:
        assert f"| {one.name} | {one.ours} | {one.theirs} | {one.why} |" in text
    assert len({one.name for one in OVERRIDES}) == len(OVERRIDES)


def test_the_inputs_of_these_tests_are_all_kinds() -> None:
    kinds = {schema_of().inputs[name].kind for name in INPUTS}
    assert kinds == {"image", "radiomics", "number", "lab", "category"}
