"""The predictor `network`: what it learns, what it says of missing inputs, and that it can be stored and continued."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from network_designs import halves, network_cohort, network_schema, renamed_inputs

from osml.cohort.cohort import BinaryOutcome, Cohort, SurvivalOutcome
from osml.errors import InvalidInputError, RunError
from osml.evaluation.concordance import harrell_c
from osml.evaluation.discrimination import auc
from osml.predictors import network_fit
from osml.predictors.contract import Design
from osml.predictors.network import FittedNetwork, load_network_predictor
from osml.predictors.network_fit import fit_network
from osml.schema.model import Schema


def fitted(schema: Schema, cohort: Cohort, seed: int = 1, **how: Any) -> FittedNetwork:
    return fit_network(schema, "net", Design(cohort), np.random.SeedSequence(seed), **how)


def area(model: FittedNetwork, cohort: Cohort) -> float:
    assert isinstance(cohort.outcome, BinaryOutcome)
    return auc(cohort.outcome.y, model.predict(Design(cohort.without_outcome())).lp)


@pytest.fixture(scope="module")
def binary() -> tuple[Schema, Cohort, FittedNetwork]:
    schema = network_schema(seeds=2, fusion="gated")
    cohort = network_cohort(schema, 200, gaps=True)
    return schema, cohort, fitted(schema, halves(cohort)[0])


def test_halves_of_the_signal_add_up() -> None:
    schema = network_schema(inner="none", train={"epochs": 20, "batch": 64})
    cohort = network_cohort(schema, 400)
    train, test = halves(cohort)
    both = area(fitted(schema, train), test)
    image = area(fitted(renamed_inputs(schema, "picture"), train), test)
    table = area(fitted(renamed_inputs(schema, "age", "marker", "stage"), train), test)
    assert both > max(image, table) + 0.03
    assert min(image, table) > 0.6


def test_radiomics_alone_find_their_half() -> None:
    schema = renamed_inputs(network_schema(inner="none"), "texture")
    train, test = halves(network_cohort(schema, 300))
    model = fitted(schema, train)
    assert area(model, test) > 0.65
    assert model.radiomics == {"texture": ("a", "b")}, "a feature that does not vary teaches nothing"


def test_each_row_depends_on_itself_alone(binary: tuple[Schema, Cohort, FittedNetwork]) -> None:
    _, cohort, model = binary
    test = halves(cohort)[1].without_outcome()
    whole = model.predict(Design(test))
    some = np.array([7, 3, 12], dtype=np.intp)
    part = model.predict(Design(test.take(some)))
    np.testing.assert_allclose(part.p, whole.p[some], rtol=0, atol=1e-6)
    assert part.units == tuple(test.units[i] for i in some)


def test_missing_inputs_are_predicted_and_flagged(binary: tuple[Schema, Cohort, FittedNetwork]) -> None:
    _, cohort, model = binary
    found = model.predict(Design(cohort.without_outcome()))
    missing = {(flag.unit, flag.input) for flag in found.flags if flag.code == "missing"}
    without_picture = {unit for k, unit in enumerate(cohort.units) if k % 7 == 0}
    assert {unit for unit, name in missing if name == "picture"} == without_picture
    assert {unit for unit, name in missing if name == "marker"} == {u for k, u in enumerate(cohort.units) if k % 5 == 0}
    np.testing.assert_array_equal(found.extras["present:picture"], [k % 7 != 0 for k in range(len(cohort))])
    assert np.isfinite(found.p).all()


def test_gate_weights_and_seeds_are_told(binary: tuple[Schema, Cohort, FittedNetwork]) -> None:
    _, cohort, model = binary
    found = model.predict(Design(cohort.without_outcome()))
    gates = np.column_stack([found.extras["gate:picture"], found.extras["gate:table"]])
    np.testing.assert_allclose(gates.sum(axis=1), 1.0, atol=1e-6)
    alone = np.column_stack([found.extras["seed0:bad"], found.extras["seed1:bad"]])
    assert np.abs(alone[:, 0] - alone[:, 1]).max() > 1e-3, "seeds must be independent"
    lower, upper = alone.min(axis=1), alone.max(axis=1)
    assert np.all((found.p[:, 0] >= lower - 1e-9) & (found.p[:, 0] <= upper + 1e-9))


def test_a_stored_model_is_the_same_model(binary: tuple[Schema, Cohort, FittedNetwork], tmp_path: Path) -> None:
    schema, cohort, model = binary
    model.save(tmp_path / "a")
    again = load_network_predictor(tmp_path / "a")
    test = halves(cohort)[1].without_outcome()
    np.testing.assert_array_equal(again.predict(Design(test)).p, model.predict(Design(test)).p)
    fitted(schema, halves(cohort)[0]).save(tmp_path / "b")
    names = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(names) == 5
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_another_seed_is_another_model(binary: tuple[Schema, Cohort, FittedNetwork]) -> None:
    schema, cohort, model = binary
    train, test = halves(cohort)
    other = fitted(schema, train, seed=2)
    assert np.abs(other.predict(Design(test)).p - model.predict(Design(test)).p).max() > 1e-3


def test_a_newer_format_is_refused(binary: tuple[Schema, Cohort, FittedNetwork], tmp_path: Path) -> None:
    _, _, model = binary
    model.save(tmp_path)
    text = (tmp_path / "model.json").read_text()
    (tmp_path / "model.json").write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(RunError, match="is not a network that this osml reads"):
        load_network_predictor(tmp_path)


def test_a_training_that_was_killed_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    schema = network_schema(seeds=2)
    train, test = halves(network_cohort(schema, 120))
    undisturbed = fitted(schema, train).predict(Design(test)).p
    real, calls, epochs = network_fit.train, [], []

    def killed(*args: Any, **how: Any) -> Any:
        calls.append(1)
        if len(calls) == 10:  # inner folds of two seeds, twice, are done, and the first final network

            def stop(epoch: Any) -> None:
                if epoch.number == 0:
                    raise KeyboardInterrupt

            how["checkpoints"] = replace(how["checkpoints"], every_s=0)
            how["on_epoch"] = stop
        return real(*args, **how)

    monkeypatch.setattr(network_fit, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        fitted(schema, train, work=tmp_path)

    def counted(*args: Any, **how: Any) -> Any:
        how["on_epoch"] = lambda epoch: epochs.append(epoch.number)
        return real(*args, **how)

    monkeypatch.setattr(network_fit, "train", counted)
    continued = fitted(schema, train, work=tmp_path).predict(Design(test)).p
    np.testing.assert_array_equal(continued, undisturbed)
    assert epochs, "nothing was left to train"
    assert min(epochs) == 1, "finished epochs were trained again"


def test_probabilities_are_calibrated_on_inner_folds() -> None:
    schema = network_schema(calibrate="platt")
    train, test = halves(network_cohort(schema, 600))
    model = fitted(schema, train)
    assert model.calibration.kind == "platt"
    p = model.predict(Design(test.without_outcome())).p[:, 0]
    assert isinstance(test.outcome, BinaryOutcome)
    assert abs(p.mean() - test.outcome.y.mean()) < 0.06


def test_without_inner_folds_nothing_is_calibrated_and_the_shares_are_the_samples() -> None:
    schema = network_schema(inner="none")
    cohort = network_cohort(schema, 500)
    assert isinstance(cohort.outcome, BinaryOutcome)
    rare = np.flatnonzero((cohort.outcome.y == 0) | (np.arange(500) % 6 == 0))  # few events
    train, test = halves(cohort.take(rare.astype(np.intp)))
    model = fitted(schema, train)
    assert (model.calibration.kind, model.calibration.reason) == ("none", "no inner folds")
    assert isinstance(test.outcome, BinaryOutcome)
    # Training weighs both classes alike; without the way back, half of all units would be expected to have the event.
    assert model.predict(Design(test.without_outcome())).p.mean() < test.outcome.y.mean() + 0.1


def test_another_prevalence_moves_the_log_odds_by_one_number(binary: tuple[Schema, Cohort, FittedNetwork]) -> None:
    _, cohort, model = binary
    assert model.share is not None
    before = model.predict(Design(cohort.without_outcome())).lp
    after = model.with_prevalence(0.01).predict(Design(cohort.without_outcome())).lp
    expected = np.log(0.01 / 0.99) - np.log(model.share / (1 - model.share))
    np.testing.assert_allclose(after - before, expected, atol=1e-9)


@pytest.mark.parametrize("head", [None, "flat"])
def test_a_tree_of_classes(head: str | None) -> None:
    weights = {"kind": "uncertainty", "eta": 0.5} if head is None else {"kind": "fixed"}
    schema = network_schema("hierarchy", head=head, node_weights=weights)
    train, test = halves(network_cohort(schema, 400))
    model = fitted(schema, train)
    found = model.predict(Design(test.without_outcome()))
    assert found.columns == ("healthy", "tumour", "dead", "alive")
    p = dict(zip(found.columns, found.p.T, strict=True))
    np.testing.assert_allclose(p["healthy"] + p["tumour"], 1.0, atol=1e-9)
    np.testing.assert_allclose(p["dead"] + p["alive"], p["tumour"], atol=1e-9)
    np.testing.assert_allclose(found.lp, np.log(found.p), atol=1e-9)
    labels = np.array(test.outcome.labels)  # type: ignore[union-attr]
    full = test.outcome.full  # type: ignore[union-attr]
    guessed = np.array(("healthy", "dead", "alive"))[found.p[full][:, [0, 2, 3]].argmax(axis=1)]
    assert (guessed == labels[full]).mean() > 0.6
    assert model.calibration.kind == "temperature"
    assert len(model.calibration.values) == (2 if head is None else 1)


def test_of_a_sample_chosen_by_class_probabilities_hold_for_equal_shares() -> None:
    enriched = network_schema("hierarchy", inner="none", study={"sampling": "enriched"}, train={"epochs": 5})
    whole = network_schema("hierarchy", inner="none", train={"epochs": 5})
    cohort = network_cohort(enriched, 200)
    cohort = cohort.take(
        np.array([i for i, name in enumerate(cohort.outcome.labels) if name != "dead" or i % 8 == 0], dtype=np.intp)
    )  # type: ignore[union-attr]
    equal, shares = (fitted(s, cohort).predict(Design(cohort.without_outcome())).p for s in (enriched, whole))
    # The same network: per decision, the odds differ by the classes' shares in training.
    odds = np.log(equal[:, 2] / equal[:, 3]) - np.log(shares[:, 2] / shares[:, 3])
    labels = list(cohort.outcome.labels)  # type: ignore[union-attr]
    np.testing.assert_allclose(odds, np.log(labels.count("alive") / labels.count("dead")), atol=1e-6)


def test_prediction_sets_do_not_move_with_the_prevalence() -> None:
    schema = network_schema(abstain=0.2)
    train, test = halves(network_cohort(schema, 300))
    model = fitted(schema, train)
    before, after = (m.predict(Design(test.without_outcome())) for m in (model, model.with_prevalence(0.02)))
    assert np.abs(before.p - after.p).max() > 0.1
    for name in ("set:good", "set:bad"):
        np.testing.assert_array_equal(before.extras[name], after.extras[name])


def test_a_cox_score_is_measured_from_the_average_training_unit() -> None:
    schema = network_schema("survival", head="cox", seeds=2, calibrate="none")
    train, _ = halves(network_cohort(schema, 200))
    model = fitted(schema, train)
    each, _ = model.outputs(Design(train))
    np.testing.assert_allclose(each.mean(axis=1), 0.0, atol=1e-5)
    assert model.calibration.kind == "none"
    assert model.calibration.reason.startswith("not asked for")


def test_inner_folds_that_cannot_be_trained_end_no_other() -> None:
    schema = network_schema("survival", inner={"folds": 5}, train={"epochs": 3})
    cohort = network_cohort(schema, 60)
    outcome = cohort.outcome
    assert isinstance(outcome, SurvivalOutcome)
    events = np.zeros(60, dtype=bool)
    events[[5, 40, 55]] = True
    few = replace(cohort, outcome=replace(outcome, event=events, time=np.maximum(outcome.time, 0.1) + 12))
    model = fitted(schema, few)
    assert np.isfinite(model.predict(Design(few.without_outcome())).p).all()
    assert all(1 <= n <= 3 for n in model.epochs)


@pytest.mark.parametrize("head", ["cox", "discrete_time"])
def test_survival(head: str) -> None:
    schema = network_schema("survival", head=head)
    train, test = halves(network_cohort(schema, 400))
    model = fitted(schema, train)
    found = model.predict(Design(test.without_outcome()))
    assert found.columns == ("6 month", "12 month")
    assert np.all(found.p[:, 1] >= found.p[:, 0])
    outcome = test.outcome
    assert isinstance(outcome, SurvivalOutcome)
    assert harrell_c(outcome.time, outcome.event, found.lp).value > 0.65
    dead = (outcome.time <= 6) & outcome.event
    assert abs(found.p[:, 0].mean() - dead.mean()) < 0.12


def test_prediction_sets_leave_the_unsure_undecided() -> None:
    schema = network_schema("hierarchy", abstain=0.1)
    train, test = halves(network_cohort(schema, 500))
    model = fitted(schema, train)
    found = model.predict(Design(test.without_outcome()))
    classes = ("healthy", "dead", "alive")
    inside = np.column_stack([found.extras[f"set:{name}"] for name in classes]).astype(bool)
    full = test.outcome.full  # type: ignore[union-attr]
    own = [classes.index(name) for name, known in zip(test.outcome.labels, full, strict=True) if known]  # type: ignore[union-attr]
    covered = inside[full][np.arange(len(own)), own].mean()
    assert covered > 0.83
    assert (inside.sum(axis=1) > 1).any()


def test_several_rows_of_a_patient_stay_on_one_side_of_inner_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = network_schema("hierarchy")
    cohort = network_cohort(schema, 180, rows_per_patient=6)
    seen: list[tuple[set[str], set[str]]] = []
    real = network_fit.training_folds

    def watched(*args: Any) -> Any:
        folds = real(*args)
        seen.extend((set(f.train), set(f.test)) for f in folds)
        return folds

    monkeypatch.setattr(network_fit, "training_folds", watched)
    fitted(schema, cohort)
    assert len(seen) == 2
    assert all(not a & b for a, b in seen)


def test_images_that_were_not_read_are_an_error() -> None:
    schema = network_schema()
    cohort = network_cohort(schema, 60)
    with pytest.raises(InvalidInputError, match="predictor 'net' needs the images of 'picture'"):
        fitted(schema, replace(cohort, images={}))


def test_features_that_were_not_computed_are_an_error() -> None:
    schema = renamed_inputs(network_schema(inner="none", train={"epochs": 2}), "texture")
    cohort = network_cohort(schema, 80)
    model = fitted(schema, cohort)
    table = cohort.features["texture"]
    fewer = replace(table, columns=("a",), x=table.x[:, :1])
    with pytest.raises(InvalidInputError, match="1 features of 'texture' were not computed, e\\.g\\. 'b'"):
        model.predict(Design(replace(cohort, features={"texture": fewer})))
