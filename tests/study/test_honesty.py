"""Nothing about a test patient reaches a model that predicts it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_studies import SmallStudy, schema_data, simulate_rows, write_table

from osml.cohort.cohort import Cohort
from osml.cohort.splits import folds_from_json
from osml.files import read_json
from osml.predictors import registry
from osml.predictors.contract import Design, Fitted, Prediction
from osml.predictors.registry import Fitting, Kind
from osml.runs.store import read_predictions
from osml.study.final import Finished
from osml.study.fit import FitResult, fit

pytestmark = pytest.mark.usefixtures("no_sheets")

HOLDOUT = {
    "split": {"kind": "holdout", "column": "part", "test": "test"},
    "optimism": {"predictors": [], "bootstraps": 10},
    "seed": 5,
}
EVERY_STEP = {
    "imputed": {"kind": "nomogram", "inputs": ["age", "marker", "sex"], "terms": {"marker": {"rcs": 3}}},
    "screened": {"kind": "nomogram", "inputs": ["age", "marker", "stage"], "select": "univariable", "shrink": "none"},
    "lasso": {"kind": "nomogram", "inputs": ["age", "marker"], "select": "lasso", "shrink": "none"},
    "ridge": {"kind": "nomogram", "inputs": ["age", "sex"], "shrink": "ridge"},
    "fed": {"kind": "nomogram", "inputs": ["imputed", "stage"]},
}


def run(study: SmallStudy, runs: Path) -> FitResult:
    return fit(study.schema, runs=runs, workers=1, say=lambda _: None, quiet=True)


@dataclass(frozen=True)
class Spy:
    """A predictor that writes down what it is given."""

    fits: list[tuple[str, bool, Design]] = field(default_factory=list)
    predictions: list[tuple[str, Design]] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = registry.KINDS["nomogram"]

        def fit(fitting: Fitting) -> Fitted:
            self.fits.append((fitting.name, fitting.final, fitting.design))
            return Watched(self, fitting.name, real.fit(fitting))

        monkeypatch.setitem(registry.KINDS, "nomogram", Kind(fit, real.load))


@dataclass(frozen=True)
class Watched:
    spy: Spy
    name: str
    fitted: Fitted

    def predict(self, design: Design) -> Prediction:
        self.spy.predictions.append((self.name, design))
        return self.fitted.predict(design)

    def save(self, folder: Path) -> None:
        self.fitted.save(folder)


def test_a_predictor_never_receives_test_patients(
    small_study: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy()
    spy.install(monkeypatch)
    # Only the folds: the final models are fitted to everybody on purpose.
    monkeypatch.setattr("osml.study.fit.finish", lambda *a, **k: Finished({"predictors": {}}, {}, {}))
    predictors = {
        "one": {"kind": "nomogram", "inputs": ["age", "marker"], "shrink": "none"},
        "two": {"kind": "nomogram", "inputs": ["one", "sex"], "shrink": "none"},
    }
    result = run(small_study(predictors=predictors), tmp_path / "runs")
    folds = folds_from_json(read_json(result.run.path / "splits.json"))
    by_test = {frozenset(f.test): f for f in folds}
    everybody = {f"P{i:03d}" for i in range(90)}
    fitted_on = [frozenset(design.cohort.patients) for _, _, design in spy.fits]
    # Three folds of `one`; for `two` one fit and six of `one` (five inner folds and one for prediction) in each fold.
    assert len(spy.fits) == 3 + 3 * 7
    for seen in fitted_on:
        assert any(not (seen & test) for test in by_test)
    for name, design in spy.predictions:
        assert design.cohort.outcome is None, name
    outer = [(n, d) for n, d in spy.predictions if frozenset(d.cohort.patients) in by_test]
    assert {n for n, _ in outer} == {"one", "two"}
    # The object itself holds no trace of them: neither ids, nor keys, nor exclusions, nor another cohort.
    for _, _, design in spy.fits:
        hidden = everybody - set(design.cohort.patients)
        assert hidden
        assert not hidden & set(texts(design.cohort))


def texts(value: Any) -> list[str]:
    """Every text that can be reached from an object."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [t for item in value.items() for t in texts(item)]
    if isinstance(value, (tuple, list, set)):
        return [t for item in value for t in texts(item)]
    if isinstance(value, Cohort):
        return texts(value.__dict__)
    return []


def test_excluded_test_patients_are_not_handed_over_either(
    small_study: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy()
    spy.install(monkeypatch)
    rows = simulate_rows()
    rows[3]["outcome"] = ""
    assert rows[3]["part"] == "test"
    run(small_study(rows, validation=HOLDOUT), tmp_path / "runs")
    design = spy.fits[0][2]
    assert all(p.startswith("P") and int(p[1:]) % 4 != 3 for p in design.cohort.patients)


def overwritten(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The table with every cell of the test patients replaced, their outcomes turned, and some cells blanked."""
    rng = np.random.default_rng(1)
    out = []
    for i, row in enumerate(rows):
        if row["part"] != "test":
            out.append(row)
            continue
        new = {
            **row,
            "age": f"{rng.uniform(1, 900):.1f}",
            "marker": "" if i % 8 == 3 else f"{rng.uniform(1, 9e4):.1f}",
            "sex": ("female", "male")[i % 2],
            "stage": "III",
            "outcome": "good" if row["outcome"] == "bad" else "bad",
        }
        out.append(new)
    return out


def test_overwriting_test_patients_leaves_every_fitted_artefact_byte_identical(
    small_study: Callable[..., Any], tmp_path: Path
) -> None:
    rows = simulate_rows(120, missing=0.08)
    first = run(small_study(rows, "a", predictors=EVERY_STEP, validation=HOLDOUT, missing="impute"), tmp_path / "a")
    second = run(
        small_study(overwritten(rows), "b", predictors=EVERY_STEP, validation=HOLDOUT, missing="impute"), tmp_path / "b"
    )
    assert first.failed == second.failed == ()
    models = sorted(p.relative_to(first.run.path) for p in first.run.path.glob("folds/**/model.json"))
    assert len(models) == 6
    for model in models:
        assert (first.run.path / model).read_bytes() == (second.run.path / model).read_bytes()
    # And the check can fail: the predictions do change. The deployed model is the one that was tested.
    one, two = (r.run.path / "predictions.parquet" for r in (first, second))
    assert [r.p for r in read_predictions(one)] != [r.p for r in read_predictions(two)]
    for name in EVERY_STEP:
        final = Path("bundle/predictors") / name / "model.json"
        assert (first.run.path / final).read_bytes() == (second.run.path / final).read_bytes()


def test_changing_a_training_patient_does_change_the_model(small_study: Callable[..., Any], tmp_path: Path) -> None:
    rows = simulate_rows(120)
    first = run(small_study(rows, "a", validation=HOLDOUT), tmp_path / "a")
    rows[0]["age"] = "75.5"
    assert rows[0]["part"] == "training"
    second = run(small_study(rows, "b", validation=HOLDOUT), tmp_path / "b")
    model = "folds/r0-f0/clinical/model.json"
    assert (first.run.path / model).read_bytes() != (second.run.path / model).read_bytes()


def test_adding_a_predictor_leaves_the_first_one_alone(small_study: Callable[..., Any], tmp_path: Path) -> None:
    first = {"clinical": {"kind": "nomogram", "inputs": ["age", "marker", "sex"]}}
    more = {
        "added": {"kind": "nomogram", "inputs": ["stage", "age"]},
        **first,
        "fed": {"kind": "nomogram", "inputs": ["clinical", "stage"]},
    }
    alone = run(small_study(folder="a", predictors=first), tmp_path / "a")
    together = run(small_study(folder="b", predictors=more), tmp_path / "b")
    mine = [r for r in read_predictions(together.run.path / "predictions.parquet") if r.predictor == "clinical"]
    assert mine == read_predictions(alone.run.path / "predictions.parquet")
    for name in ("splits.json", "bundle/predictors/clinical/model.json"):
        assert (alone.run.path / name).read_bytes() == (together.run.path / name).read_bytes()
    assert alone.metrics["predictors"]["clinical"] == together.metrics["predictors"]["clinical"]


def noise_study(folder: Path, inputs: int, n: int, seed: int, **predictor: Any) -> SmallStudy:
    """Many inputs, none of which says anything about the outcome."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, inputs)), rng.permutation(np.arange(n) % 2)
    folder.mkdir(parents=True)
    study = SmallStudy(folder / "study.yaml", folder / "table.csv")
    names = [f"z{k}" for k in range(inputs)]
    rows = [
        {"id": f"P{i}", "outcome": ("good", "bad")[y[i]], **{z: f"{v:.6f}" for z, v in zip(names, x[i], strict=True)}}
        for i in range(n)
    ]
    write_table(study.table, rows)
    data = schema_data(
        {"noise": {"kind": "nomogram", "inputs": names, **predictor}},
        inputs={z: {"kind": "number", "available": "diagnosis"} for z in names},
        validation={
            "split": {"kind": "kfold", "folds": 5, "repeats": 4},
            "optimism": {"predictors": [], "bootstraps": 10},
            "seed": seed,
        },
    )
    study.schema.write_text(json.dumps(data))
    return study


def test_many_noise_inputs_look_good_and_are_worth_nothing(tmp_path: Path) -> None:
    from osml.cohort.build import read_cohort
    from osml.cohort.splits import make_folds
    from osml.evaluation.discrimination import auc
    from osml.predictors.chain import fit_chain
    from osml.schema.load import load_schema

    honest, apparent = [], []
    for seed in range(4):
        loaded = load_schema(noise_study(tmp_path / f"{seed}", 12, 120, seed, shrink="none").schema)
        cohort: Any = read_cohort(loaded).cohort
        whole = fit_chain(loaded.schema, "noise", cohort, (seed, 0, 0))
        apparent.append(auc(cohort.outcome.y, whole.predict(cohort).lp))
        for fold in make_folds(cohort, loaded.schema.validation.split, seed):
            chain = fit_chain(loaded.schema, "noise", cohort.of(fold.train), (seed, fold.repeat, fold.index))
            test = cohort.of(fold.test)
            honest.append(auc(test.outcome.y, chain.predict(test).lp))
    # Four cohorts of 120: the standard error of the mean fold-averaged AUC is about 0.03.
    assert np.mean(honest) == pytest.approx(0.5, abs=0.08)
    assert min(apparent) > 0.62
    assert np.mean(apparent) > np.mean(honest) + 0.15


@pytest.mark.full
@pytest.mark.parametrize(
    "predictor", [{"shrink": "none"}, {"select": "univariable", "shrink": "none"}, {"shrink": "ridge"}]
)
def test_noise_through_the_whole_study_is_worth_nothing_out_of_fold(predictor: dict[str, Any], tmp_path: Path) -> None:
    honest, apparent = [], []
    for seed in range(3):
        result = run(noise_study(tmp_path / f"{seed}", 12, 100, seed, **predictor), tmp_path / "runs")
        facts = result.metrics["predictors"]["noise"]
        honest.append(facts["out_of_fold"]["auc"]["value"])
        apparent.append(facts["apparent"]["auc"]["value"])
    # Three cohorts of 100: the standard error of the mean fold-averaged AUC is about 0.035.
    assert np.mean(honest) == pytest.approx(0.5, abs=0.09)
    assert np.mean(apparent) > 0.62
    assert np.mean(apparent) > np.mean(honest) + 0.12
