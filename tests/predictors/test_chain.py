"""Predictors that feed predictors: a score never comes from a model that saw its patient."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_studies import simulate_rows

from osml.cohort.build import read_cohort
from osml.cohort.cohort import BinaryOutcome, Cohort
from osml.cohort.splits import derive_seed, inner_folds
from osml.evaluation.discrimination import auc
from osml.predictors import registry
from osml.predictors.chain import Chain, fit_chain, load_chain, out_of_fold, training_design, upstream_of
from osml.predictors.contract import Design, Fitted, Prediction
from osml.predictors.registry import Fitting, Kind
from osml.schema.load import load_schema
from osml.schema.model import Schema

SEED = (5, 0, 0)
FED = {
    "first": {"kind": "nomogram", "inputs": ["age", "marker"], "shrink": "none"},
    "second": {"kind": "nomogram", "inputs": ["first", "sex"], "shrink": "none"},
}
MEMORY = {
    **FED,
    "memory": {"kind": "nomogram", "inputs": ["age"]},
    "fed": {"kind": "nomogram", "inputs": ["memory", "age"]},
}


@dataclass(frozen=True)
class Memory:
    """The worst predictor there is: the label of every patient it saw, 0 for everybody else."""

    labels: dict[str, float]

    def predict(self, design: Design) -> Prediction:
        assert design.cohort.outcome is None
        lp = np.array([self.labels.get(p, 0.0) for p in design.cohort.patients])
        return Prediction(design.cohort.units, design.cohort.patients, ("bad",), 1 / (1 + np.exp(-lp[:, None])), lp)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.json").write_text(json.dumps(self.labels))


@pytest.fixture
def memorising(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictors called `memory` memorise; the others stay what they are."""
    real = registry.KINDS["nomogram"]

    def fit(fitting: Fitting) -> Fitted:
        if fitting.name != "memory":
            return real.fit(fitting)
        cohort = fitting.design.cohort
        assert isinstance(cohort.outcome, BinaryOutcome)
        return Memory({p: 9.0 if y else -9.0 for p, y in zip(cohort.patients, cohort.outcome.y, strict=True)})

    monkeypatch.setitem(registry.KINDS, "nomogram", Kind(fit, real.load))


@pytest.fixture
def fed(small_study: Callable[..., Any]) -> tuple[Schema, Cohort]:
    loaded = load_schema(small_study(predictors=MEMORY).schema)
    return loaded.schema, read_cohort(loaded).cohort


def labels(cohort: Cohort) -> Any:
    assert isinstance(cohort.outcome, BinaryOutcome)
    return cohort.outcome.y


@pytest.mark.usefixtures("memorising")
def test_a_memorising_upstream_brings_no_label_into_training(fed: tuple[Schema, Cohort]) -> None:
    schema, cohort = fed
    design, links = training_design(schema, "fed", cohort, SEED)
    # Every score comes from a model that never saw the patient, so it knows nothing about anybody.
    assert np.array_equal(design.upstream["memory"], np.zeros(len(cohort)))
    # The fitted upstream remembers everybody: the same score in-fold would have been perfect.
    assert auc(labels(cohort), links[0].predict(cohort).lp) == 1.0


@pytest.mark.usefixtures("memorising")
def test_copies_of_a_resampled_patient_bring_no_label_either(fed: tuple[Schema, Cohort]) -> None:
    schema, cohort = fed
    resampled = cohort.resample(np.random.default_rng(0).integers(0, len(cohort), len(cohort)))
    assert resampled.copies.max() >= 1
    assert np.array_equal(out_of_fold(schema, "memory", resampled, SEED), np.zeros(len(resampled)))


@pytest.mark.usefixtures("memorising")
def test_rows_of_one_patient_bring_no_label_either(small_study: Callable[..., Any]) -> None:
    rows = simulate_rows(90)
    for i, row in enumerate(rows):
        row["row"], row["id"] = f"R{i}", f"P{i // 3}"
        row["outcome"] = rows[3 * (i // 3)]["outcome"]
    loaded = load_schema(
        small_study(rows, predictors=MEMORY, cohort={"table": "table.csv", "patient": "id", "row": "row"}).schema
    )
    cohort = read_cohort(loaded).cohort
    assert len(cohort) == 90
    assert len(cohort.patient_ids) == 30
    assert np.array_equal(out_of_fold(loaded.schema, "memory", cohort, SEED), np.zeros(90))


def test_a_training_score_is_that_of_the_inner_fold_without_its_patient(fed: tuple[Schema, Cohort]) -> None:
    schema, cohort = fed
    design, _ = training_design(schema, "second", cohort, SEED)
    folds = inner_folds(cohort, 5, derive_seed(*SEED, "inner:first"))
    assert sorted(p for fold in folds for p in fold.test) == sorted(cohort.patient_ids)
    for fold in folds:
        expected = fit_chain(schema, "first", cohort.of(fold.train), SEED).predict(cohort.of(fold.test))
        here = [cohort.units.index(unit) for unit in expected.units]
        assert np.array_equal(design.upstream["first"][here], expected.lp)


def test_at_predict_the_upstream_of_all_training_patients_scores(fed: tuple[Schema, Cohort]) -> None:
    schema, cohort = fed
    train, test = cohort.of(cohort.patient_ids[:60]), cohort.of(cohort.patient_ids[60:])
    chain = fit_chain(schema, "second", train, SEED)
    alone = fit_chain(schema, "first", train, SEED)
    score = alone.predict(test).lp
    assert np.array_equal(chain.design(test.without_outcome()).upstream["first"], score)
    prediction = chain.predict(test)
    assert prediction.p.tobytes() == chain.fitted.predict(Design(test.without_outcome(), {"first": score})).p.tobytes()


def test_the_bootstrap_slope_shrinks_what_a_score_feeds(small_study: Callable[..., Any]) -> None:
    predictors = {"first": FED["first"], "second": {"kind": "nomogram", "inputs": ["first", "sex", "stage"]}}
    loaded = load_schema(small_study(predictors=predictors).schema)
    chain = fit_chain(loaded.schema, "second", read_cohort(loaded).cohort, SEED)
    fitted: Any = chain.fitted
    assert fitted.slope.source == "optimism bootstrap, scores held fixed"
    assert fitted.slope.replicates == fitted.recipe.bootstraps
    assert fitted.model.coef == pytest.approx(fitted.slope.value * fitted.unshrunken.coef, rel=1e-14)
    assert 0 < fitted.slope.value < 1


def test_a_chain_of_three_saves_and_loads_to_the_same_bits(small_study: Callable[..., Any], tmp_path: Path) -> None:
    predictors = {**FED, "third": {"kind": "nomogram", "inputs": ["second", "first", "stage"], "shrink": "none"}}
    loaded = load_schema(small_study(predictors=predictors).schema)
    cohort = read_cohort(loaded).cohort
    assert upstream_of(loaded.schema, "third") == ["second", "first"]
    chain = fit_chain(loaded.schema, "third", cohort, SEED)
    chain.save(tmp_path / "third")
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("model.json"))
    assert files == [
        "third/model.json",
        "third/upstream/first/model.json",
        "third/upstream/second/model.json",
        "third/upstream/second/upstream/first/model.json",
    ]
    again = load_chain(loaded.schema, "third", tmp_path / "third")
    one, two = chain.predict(cohort), again.predict(cohort)
    assert one.p.tobytes() == two.p.tobytes()
    assert one.lp.tobytes() == two.lp.tobytes()
    assert one.flags == two.flags


def test_what_an_upstream_imputes_is_said_of_the_prediction_it_feeds(small_study: Callable[..., Any]) -> None:
    rows = simulate_rows(missing=0.1)
    loaded = load_schema(small_study(rows, predictors=FED, missing="impute").schema)
    cohort = read_cohort(loaded).cohort
    prediction = fit_chain(loaded.schema, "second", cohort, SEED).predict(cohort)
    gaps = {
        (u, n) for n in ("age", "marker") for u, x in zip(cohort.units, cohort.values[n], strict=True) if np.isnan(x)
    }
    assert gaps
    flagged = [(f.unit, f.input) for f in prediction.flags if f.code == "imputed"]
    assert set(flagged) == gaps
    assert len(flagged) == len(gaps)


def test_chain_predictions_ignore_outcomes(fed: tuple[Schema, Cohort]) -> None:
    schema, cohort = fed
    chain: Chain = fit_chain(schema, "second", cohort, SEED)
    flipped = replace(cohort, outcome=BinaryOutcome(1 - labels(cohort), "bad", "good"))
    assert chain.predict(cohort).p.tobytes() == chain.predict(flipped).p.tobytes()
