"""Predictor `autogluon`, fitted: which rows its models see, the same result twice, files, failures, silence."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from autogluon_designs import design_of, schema_of
from network_designs import halves

from osml.cohort.cohort import BinaryOutcome
from osml.errors import NotEstimableError
from osml.predictors.autogluon import FittedAutogluon, load_autogluon
from osml.predictors.autogluon_files import import_tabular, revive
from osml.predictors.autogluon_fit import fit_autogluon
from osml.predictors.autogluon_portfolio import FAMILIES, portfolio
from osml.predictors.contract import Design

pytestmark = pytest.mark.full
SEEN: list[dict[str, Any]] = []


@pytest.fixture(scope="module", autouse=True)
def offline_and_watched() -> Iterator[None]:
    """No network, and every fold model of these tests notes which rows it is fitted on."""
    import_tabular()
    from autogluon.tabular.models import LinearModel, RFModel

    from osml.predictors.autogluon_gbm import FixedRounds

    patch = pytest.MonkeyPatch()

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("AutoGluon opened a connection")

    patch.setattr(socket.socket, "connect", refuse)
    for kind in (LinearModel, RFModel, FixedRounds):  # extra trees are fitted as forests are
        own = kind._fit

        def watched(self: Any, X: Any, y: Any, _own: Any = own, **kwargs: Any) -> Any:
            SEEN.append({"model": type(self).__name__, "name": self.name, "rows": set(X.index.tolist()),
                         "cores": kwargs.get("num_cpus"), "gpus": kwargs.get("num_gpus")})  # fmt: skip
            return _own(self, X=X, y=y, **kwargs)

        patch.setattr(kind, "_fit", watched)
    yield
    patch.undo()


def fit(schema: Any, design: Design, seed: int = 1, work: Path | None = None) -> FittedAutogluon:
    return fit_autogluon(schema, "many", design, np.random.SeedSequence(seed), work=work)


@pytest.fixture(scope="module")
def several_rows() -> tuple[Any, Design, FittedAutogluon, list[dict[str, Any]]]:
    """30 patients with 3 rows each, drawn with replacement: some are there twice."""
    schema = schema_of()
    cohort = design_of(schema, 90, rows_per_patient=3).cohort
    drawn = cohort.resample(np.random.default_rng(0).integers(0, 30, 30))
    SEEN.clear()
    model = fit(schema, Design(drawn))
    return schema, Design(drawn), model, list(SEEN)


def test_no_patient_is_on_both_sides_of_a_bag(several_rows: Any) -> None:
    """Which rows the fold models were fitted on: all rows of a patient, copies among them, or none."""
    _, design, model, seen = several_rows
    patients = design.cohort.patients
    everybody = set(range(len(patients)))
    assert {one["model"] for one in seen} == {"LinearModel", "RFModel", "XTModel", "FixedRounds"}
    assert len(seen) == 7 * 3
    # The bags of every model hold out the same three parts, which together are everybody.
    parts = {frozenset(frozenset(everybody - one["rows"]) for one in seen[k : k + 3]) for k in range(0, 21, 3)}
    assert len(parts) == 1
    (three,) = parts
    assert sorted(i for part in three for i in part) == sorted(everybody)
    assert model.facts["inner_folds"] == 3


def test_every_model_has_one_core_and_no_gpu(several_rows: Any) -> None:
    assert {(one["cores"], one["gpus"]) for one in several_rows[3]} == {(1, 0)}


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A fit, its test patients, what it printed, and where it worked."""
    schema = schema_of()
    train, test = halves(design_of(schema, 140).cohort)
    work = tmp_path_factory.mktemp("work")
    before = environment(), set(os.listdir())
    model = fit(schema, Design(train), work=work)
    return schema, train, test, model, work, before


def test_it_learns(pair: Any) -> None:
    _, _, test, model, *_ = pair
    outcome = test.outcome
    assert isinstance(outcome, BinaryOutcome)
    p = model.predict(Design(test.without_outcome())).p[:, 0]
    loss = -np.mean(np.log(np.where(outcome.y == 1, p, 1 - p)))
    share = outcome.y.mean()
    assert loss < 0.85 * -(share * np.log(share) + (1 - share) * np.log(1 - share))


def test_the_same_result_twice(pair: Any) -> None:
    """Without a time limit, whatever state the global generators are in."""
    schema, train, test, model, *_ = pair
    np.random.seed(123)  # noqa: NPY002
    again = fit(schema, Design(train))  # in another folder
    hidden = Design(test.without_outcome())
    np.testing.assert_array_equal(again.predict(hidden).p, model.predict(hidden).p)
    assert again.files == model.files  # to the byte, although fitted elsewhere and later
    timeless = [
        [{k: v for k, v in row.items() if k != "fit_s"} for row in one.facts["leaderboard"]] for one in (model, again)
    ]
    assert timeless[0] == timeless[1]
    assert model.facts["importance"] == again.facts["importance"]
    other = fit(schema, Design(train), seed=2)
    assert np.abs(other.predict(hidden).p - model.predict(hidden).p).max() > 1e-6


def test_a_row_is_predicted_by_itself(pair: Any) -> None:
    _, _, test, model, *_ = pair
    hidden = test.without_outcome()
    whole = model.predict(Design(hidden)).p
    for part in (np.array([4]), np.array([9, 2, 2])):
        np.testing.assert_allclose(model.predict(Design(hidden.take(part))).p, whole[part], rtol=1e-12)


def test_files_give_the_same_predictions(pair: Any, tmp_path: Path) -> None:
    _, _, test, model, *_ = pair
    model.save(tmp_path)
    hidden = Design(test.without_outcome())
    np.testing.assert_array_equal(load_autogluon(tmp_path).predict(hidden).p, model.predict(hidden).p)


def test_the_leaderboard_is_that_of_the_bags(pair: Any) -> None:
    _, _, _, model, *_ = pair
    facts = model.facts
    board = facts["leaderboard"]
    assert [row["log_loss"] for row in board] == sorted(row["log_loss"] for row in board)
    assert sum(row["role"] == "model" for row in board) == facts["planned"] == 7
    assert (facts["failures"], facts["not_reached"], facts["refit"]) == ([], 0, False)
    assert sum(row["weight"] or 0.0 for row in board) == pytest.approx(1.0)
    ensemble = next(row for row in board if row["role"] == "ensemble")
    assert facts["calibration"]["before"] == pytest.approx(ensemble["log_loss"], abs=1e-4)


def test_what_carries_the_outcome_matters_most(pair: Any) -> None:
    """Texture repeats the picture's half of the signal, marker is the other; age and stage carry none."""
    order = {one["input"]: one["log_loss"] for one in pair[3].facts["importance"]}
    assert set(order) == {"picture", "texture", "age", "marker", "stage"}
    assert min(order["texture"] + order["picture"], order["marker"]) > 5 * max(abs(order["age"]), abs(order["stage"]))


def test_nothing_is_printed_and_nothing_is_left(pair: Any, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    schema, train, test, model, work, (before, here) = pair
    assert environment() == before
    assert set(os.listdir()) == here
    assert list(work.iterdir()) == []
    fit(schema, Design(train), work=tmp_path)
    model.predict(Design(test.without_outcome()))
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    assert "Fitting model: LinearModelC1_BAG_L1" in model.log
    assert "Best model:" in model.log


def test_rounds_are_not_chosen_by_held_out_rows(pair: Any) -> None:
    model = pair[3]
    found = {}
    predictor = revive("many", model.files)
    for name in predictor.model_names():
        whole = predictor._trainer.load_model(name)
        for child in getattr(whole, "models", ()):
            booster = whole.load_child(child)
            if type(booster).__name__ == "FixedRounds":
                found.setdefault(name, set()).add(booster.model.current_iteration())
    assert all(rounds in ({100}, {150}) for rounds in found.values())


def test_the_files_hold_no_patient() -> None:
    """No value of a training patient that is not shared, no id, no path of this machine."""
    schema = schema_of(inputs=("texture", "age", "marker", "stage"))
    cohort = design_of(schema, 90, gaps=False).cohort
    model = fit(schema, Design(cohort))
    everything = b"".join(model.files.values())
    values = np.concatenate(
        [cohort.values["age"], cohort.values["marker"], cohort.features["texture"].x[:, :2].ravel()]
    )
    values = values[~np.isnan(values)]
    medians = {float(np.median(v[~np.isnan(v)])) for v in (cohort.values["age"], cohort.values["marker"])}
    for dtype in (np.float64, np.float32):
        hits = [x for x in values if dtype(x).tobytes() in everything and float(x) not in medians]
        assert hits == []
    assert not any(unit.encode() in everything for unit in (*cohort.units, *cohort.patients))
    assert b"osml-" not in everything
    infos = re.findall(rb"feature_infos=([^\n]*)", everything)
    assert all(set(line.split()) == {b"none"} for line in infos)
    assert str(Path.home()).encode() not in everything or str(Path.home()) == "/root"


def test_hierarchies_and_what_is_rare() -> None:
    schema = schema_of("hierarchy")
    train, test = halves(design_of(schema, 140).cohort)
    model = fit(schema, Design(train))
    prediction = model.predict(Design(test.without_outcome()))
    assert prediction.columns == ("healthy", "tumour", "dead", "alive")
    p = dict(zip(prediction.columns, prediction.p.T, strict=True))
    np.testing.assert_allclose(p["dead"] + p["alive"], p["tumour"], rtol=1e-9)
    np.testing.assert_allclose(p["healthy"] + p["tumour"], 1.0, rtol=1e-9)
    rows = train.outcome.full
    assert model.shares == pytest.approx(
        [np.mean(np.array(train.outcome.labels)[rows] == leaf) for leaf in ("healthy", "dead", "alive")]
    )


def test_a_model_that_fails_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from autogluon.tabular.models import RFModel

    def broken(self: Any, X: Any, y: Any, **kwargs: Any) -> None:
        raise ValueError("no wood\nin this forest")

    monkeypatch.setattr(RFModel, "_fit", broken)
    schema = schema_of(inputs=("age", "marker"))
    model = fit(schema, design_of(schema, 60))
    failures = {one["model"]: one for one in model.facts["failures"]}
    assert failures["RandomForest"]["reason"] == "no wood"
    assert failures["RandomForest"]["kind"] == "ValueError"
    tried = {row["model"] for row in model.facts["leaderboard"]} | set(failures)
    assert len([name for name in tried if not name.startswith("Weighted")]) == 7


def test_no_model_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "osml.predictors.autogluon_fit.portfolio", lambda presets, problem: {"RF": [{"max_depth": "x"}]}
    )
    schema = schema_of(inputs=("age", "marker"))
    with pytest.raises(NotEstimableError, match=r"AutoGluon fitted no model: RandomForest: "):
        fit(schema, design_of(schema, 60))


@pytest.mark.parametrize("presets", ["medium_quality", "good_quality", "high_quality", "best_quality"])
@pytest.mark.parametrize("problem", ["binary", "multiclass"])
def test_portfolios_run_offline(presets: str, problem: str) -> None:
    found = portfolio(presets, problem)
    assert {getattr(family, "ag_key", family) for family in found} <= set(FAMILIES)
    assert sum(map(len, found.values())) == {"medium_quality": 7, "good_quality": 7}.get(presets, 34)


@pytest.mark.parametrize("presets", ["good_quality", "best_quality"])
def test_presets_with_little_time(presets: str) -> None:
    """One that is refitted on all patients, one that cannot finish."""
    schema = schema_of(inputs=("age", "marker", "texture"), folds=2, presets=presets, time_limit=30)
    train, test = halves(design_of(schema, 120).cohort)
    model = fit(schema, Design(train))
    hidden = Design(test.without_outcome())
    assert np.isfinite(model.predict(hidden).p).all()
    facts = model.facts
    assert facts["refit"] is (presets == "good_quality")
    named = any("_FULL" in name for name in model.files)
    assert named is facts["refit"]
    fitted = sum(row["role"] == "model" for row in facts["leaderboard"])
    assert fitted + len(facts["failures"]) + facts["not_reached"] == facts["planned"]


def test_sealed_trees_predict_as_they_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what LightGBM notes of each column, with levels among them, and stopped before its last round."""
    import pandas as pd

    from osml.predictors import autogluon_gbm
    from osml.predictors.boosting_trees import model_text

    rng = np.random.default_rng(0)
    x = pd.DataFrame({"a": rng.normal(size=200), "b": pd.Categorical.from_codes(rng.integers(0, 3, 200), list("xyz"))})
    y = pd.Series((x["a"] + (x["b"] == "y") + rng.normal(size=200) > 0).astype(int))
    boosters: list[Any] = []
    monkeypatch.setattr(autogluon_gbm, "model_text", lambda model: boosters.append(model) or model_text(model))
    settings = {"num_boost_round": 300, "learning_rate": 0.3, "min_data_in_leaf": 5}
    model = autogluon_gbm.Sealed(
        path="unused", name="one", problem_type="binary", eval_metric="log_loss", hyperparameters=settings
    )
    model.fit(X=x[:120], y=y[:120], X_val=x[120:], y_val=y[120:], num_cpus=1, num_gpus=0)
    (whole,) = boosters
    assert 0 < whole.best_iteration == whole.num_trees() < 300
    np.testing.assert_allclose(model.predict_proba(x), whole.predict(x), rtol=1e-6)
    assert "feature_infos=none none\n" in model.model.model_to_string()
