"""The predictor `boosting`: probabilities, folds, gaps, calibration, contributions and files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from boosting_designs import EVERYTHING, boosting_schema, cohort_of, files, fitted
from network_designs import halves
from scipy.special import softmax

from osml.cohort.cohort import BinaryOutcome, SurvivalOutcome
from osml.errors import InvalidInputError, NotEstimableError, RunError
from osml.evaluation.concordance import harrell_c
from osml.evaluation.discrimination import auc
from osml.predictors.boosting import FittedBoosting
from osml.predictors.boosting_fit import settings_of
from osml.predictors.boosting_inner import Training, inner_trees
from osml.predictors.boosting_trees import Goal, Settings, raw_scores
from osml.predictors.contract import Design
from osml.predictors.registry import Fitting, fit_predictor, load_predictor
from osml.predictors.table import TableColumn
from osml.schema.model import NomogramPredictor
from osml.schema.tabular import BoostingPredictor
from osml.stats.cox import baseline_hazard
from osml.stats.logistic import fit_logistic

TARGETS = ("binary", "survival", "hierarchy")


@pytest.mark.parametrize("target", TARGETS)
def test_saved_and_loaded_it_says_the_same(tmp_path: Path, target: str) -> None:
    """Bytes of two fits are equal, loaded trees give the same bits, each row for itself."""
    schema = boosting_schema(target, EVERYTHING)
    train, test = halves(cohort_of(target, gaps=True))
    found = fitted(schema, train)
    first, again = files(found, tmp_path / "a"), files(fitted(schema, train), tmp_path / "b")
    assert first == again
    assert set(first) == {"model.json", "trees.txt"}
    hidden = Design(test.without_outcome())
    said = found.predict(hidden)
    loaded = load_predictor(schema, "net", tmp_path / "a")
    np.testing.assert_array_equal(loaded.predict(hidden).p, said.p)
    part = np.array([5, 2, 40])
    np.testing.assert_array_equal(found.predict(Design(hidden.cohort.take(part))).p, said.p[part])
    assert said.p.shape == (len(test), len(found.columns))


def test_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text('{"format": 2, "kind": "boosting"}')
    with pytest.raises(RunError, match="no boosting predictor that this osml reads"):
        load_predictor(boosting_schema(), "net", tmp_path)


@pytest.mark.parametrize("target", ["binary", "survival"])
def test_it_ranks_units_that_it_has_not_seen(target: str) -> None:
    """Half of the signal is in the marker, half in the picture's vectors: both together beat the marker alone."""
    train, test = halves(cohort_of(target, 300))
    found = {}
    for inputs in (("marker",), EVERYTHING):
        lp = fitted(boosting_schema(target, inputs), train).predict(Design(test.without_outcome())).lp
        if isinstance(test.outcome, BinaryOutcome):
            found[inputs] = auc(test.outcome.y, lp)
        else:
            assert isinstance(test.outcome, SurvivalOutcome)
            found[inputs] = harrell_c(test.outcome.time, test.outcome.event, lp).value
    assert 0.6 < found["marker",] < found[EVERYTHING]


def test_classes_are_the_nodes_of_the_tree() -> None:
    """Leaves add up to 1, an inner node is the sum of its leaves, labels that stop there teach nothing."""
    schema = boosting_schema("hierarchy", EVERYTHING)
    train, test = halves(cohort_of("hierarchy"))
    found = fitted(schema, train)
    p = found.predict(Design(test.without_outcome())).p
    assert found.columns == ("healthy", "tumour", "dead", "alive")
    np.testing.assert_allclose(p[:, 0] + p[:, 2] + p[:, 3], 1.0, rtol=1e-12)
    np.testing.assert_allclose(p[:, 1], p[:, 2] + p[:, 3], rtol=1e-12)
    full = train.take(np.flatnonzero(train.outcome.full))  # type: ignore[union-attr]
    assert len(full) < len(train)
    assert fitted(schema, full).text == found.text


def test_units_are_scored_by_trees_that_did_not_see_their_patient() -> None:
    """Other outcomes of the patients outside a fold change nothing of what its trees say of them."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 2)), rng.integers(0, 2, 60).astype(float)
    columns = tuple(TableColumn(str(j), "number", "value", str(j)) for j in range(2))
    folds = tuple((np.flatnonzero(np.arange(60) % 3 != k), np.flatnonzero(np.arange(60) % 3 == k)) for k in range(3))
    usual = Settings(4, 5, 0.1, 1.0, 1.0)

    def outputs(labels: np.ndarray) -> np.ndarray:
        training = Training(x, columns, Goal("binary", labels), folds, 20, 3)
        inner = inner_trees(training, usual)
        assert inner is not None
        return inner.outputs(training.goal)[:, 0]

    before = outputs(y)
    for inside, outside in folds:
        flipped = y.copy()
        flipped[outside] = 1 - flipped[outside]
        after = outputs(flipped)
        np.testing.assert_array_equal(after[outside], before[outside])
        assert (after[inside] != before[inside]).any()


def test_rounds_have_the_lowest_mean_loss_of_all_folds() -> None:
    """Recomputed from what the fold's trees say after each number of rounds."""
    train, _ = halves(cohort_of(n=200))
    y = train.outcome.y  # type: ignore[union-attr]
    x = np.column_stack([train.values["marker"], train.values["age"]])
    columns = tuple(TableColumn(name, "number", "value", name) for name in ("marker", "age"))
    n = len(train)
    folds = tuple((np.flatnonzero(np.arange(n) % 4 != k), np.flatnonzero(np.arange(n) % 4 == k)) for k in range(4))
    inner = inner_trees(Training(x, columns, Goal("binary", y), folds, None, 3), Settings(4, 5, 0.1, 1.0, 1.0))
    assert inner is not None
    longest = inner.rounds + 25  # rates of 0.1 add up to the patience of 2.5
    losses = []
    for rounds in range(1, longest + 1):
        raw = np.concatenate([raw_scores(t.model, x[t.outside], 1, rounds=rounds)[:, 0] for t in inner.trees])
        own = np.concatenate([y[t.outside] for t in inner.trees])
        losses.append(float((np.logaddexp(0, raw) - own * raw).mean()))
    assert int(np.argmin(losses)) + 1 == inner.rounds
    assert min(losses) == pytest.approx(inner.loss, rel=1e-12)
    assert all(len(t._losses) == longest for t in inner.trees)


def test_a_fold_without_an_outcome_ends_no_other() -> None:
    x = np.random.default_rng(0).normal(size=(30, 1))
    y = np.array([1.0, 0.0] * 10 + [0.0] * 10)
    columns = (TableColumn("a", "number", "value", "a"),)
    split = (
        (np.arange(10, 20), np.arange(20, 30)),
        (np.arange(20, 30), np.arange(10)),
        (np.arange(20), np.arange(20, 30)),
    )
    inner = inner_trees(Training(x, columns, Goal("binary", y), split, 5, 0), Settings(4, 3, 0.1, 1.0, 1.0))
    assert inner is not None
    assert len(inner.trees) == 2
    assert np.isnan(inner.outputs(Goal("binary", y))[:10, 0]).all()


def test_gaps_in_training_are_learnt_and_others_stand_in() -> None:
    schema = boosting_schema()
    train, test = halves(cohort_of(gaps=True))
    found = fitted(schema, train)
    values = {name: x.copy() for name, x in test.values.items()}
    values["age"][:] = np.nan  # no training unit lacks it
    gone = replace(test.without_outcome(), values=values)
    said = found.predict(Design(gone))
    values["age"][:] = np.median(train.values["age"])
    np.testing.assert_array_equal(found.predict(Design(replace(gone, values=values))).p, said.p)
    codes = {(flag.input, flag.code) for flag in said.flags}
    assert ("age", "imputed") in codes
    assert ("marker", "missing") in codes
    assert ("marker", "imputed") not in codes


def test_images_that_nobody_lacked_cannot_be_left_out() -> None:
    full, gaps = (fitted(boosting_schema("binary", EVERYTHING), cohort_of(gaps=g)) for g in (False, True))
    assert full.untaught() == ("picture",)  # the texture of one unit could not be computed
    assert gaps.untaught() == ()


def test_calibration_is_that_of_inner_scores() -> None:
    """Intercept and slope by `fit_logistic` on out-of-fold scores made here from the same folds."""
    from osml.cohort.splits import inner_folds
    from osml.predictors.inner import fold_rows

    schema = boosting_schema(rounds=30)
    train, _ = halves(cohort_of(n=200))
    found = fitted(schema, train, seed=9)
    fold_seed, tree_seed = np.random.SeedSequence(9).spawn(2)
    number = int(tree_seed.generate_state(2)[0]) % 2**31
    folds = tuple(fold_rows(train, fold) for fold in inner_folds(train, 3, fold_seed))
    x = found.spec.matrix(Design(train))
    goal = Goal("binary", train.outcome.y)  # type: ignore[union-attr]
    inner = inner_trees(Training(x, found.spec.columns, goal, folds, 30, number), found.settings)
    assert inner is not None
    fit = fit_logistic(inner.outputs(goal), goal.y)
    assert found.calibration.kind == "platt"
    assert found.calibration.values == pytest.approx((float(fit.intercept), float(fit.coef[0])), rel=1e-9)
    plain = fitted(boosting_schema(rounds=30, calibrate=False), train, seed=9)
    assert plain.text == found.text
    assert (plain.calibration.kind, plain.calibration.reason) == ("none", "not asked for")
    design = Design(train.without_outcome())
    expected = found.calibration.values[0] + found.calibration.values[1] * plain.predict(design).lp
    np.testing.assert_allclose(found.predict(design).lp, expected, rtol=1e-12)


def test_survival_without_calibration_has_the_baseline_of_its_own_scores() -> None:
    schema = boosting_schema("survival", inner="none", rounds=20)
    train, _ = halves(cohort_of("survival"))
    found = fitted(schema, train)
    said = found.predict(Design(train.without_outcome()))
    outcome = train.outcome
    assert isinstance(outcome, SurvivalOutcome)
    assert "training units' own scores" in found.calibration.reason
    hazard = baseline_hazard(said.lp, outcome.time, outcome.event).at(np.array([6.0, 12.0]))
    np.testing.assert_allclose(said.p, 1 - np.exp(-np.exp(said.lp)[:, None] * hazard), rtol=1e-9)
    assert said.lp.mean() == pytest.approx(0.0, abs=1e-9)
    assert found.columns == ("6 month", "12 month")


def test_a_stated_prevalence_moves_the_log_odds() -> None:
    train, test = halves(cohort_of())
    found = fitted(boosting_schema(), train)
    design = Design(test.without_outcome())
    share = float(train.outcome.y.mean())  # type: ignore[union-attr]
    moved = found.with_prevalence(0.1).predict(design).lp - found.predict(design).lp
    np.testing.assert_allclose(moved, np.log(0.1 / 0.9) - np.log(share / (1 - share)), rtol=1e-9)


def test_classes_of_a_chosen_sample_hold_for_equal_shares() -> None:
    """The same trees and temperature; each class divided by its share, then made to add up to 1."""
    train, test = halves(cohort_of("hierarchy"))
    plain = fitted(boosting_schema("hierarchy"), train)
    equal = fitted(boosting_schema("hierarchy", study={"sampling": "enriched"}), train)
    assert equal.text == plain.text
    assert equal.restated
    assert not plain.restated
    design = Design(test.without_outcome())
    leaves = [0, 2, 3]
    outcome = train.outcome
    shares = np.array([(outcome.node[outcome.full] == k).mean() for k in leaves])  # type: ignore[union-attr]
    expected = plain.predict(design).p[:, leaves] / shares
    np.testing.assert_allclose(
        equal.predict(design).p[:, leaves], expected / expected.sum(axis=1, keepdims=True), rtol=1e-9
    )


@pytest.mark.parametrize("target", TARGETS)
def test_contributions_add_up_to_the_prediction(target: str) -> None:
    train, test = halves(cohort_of(target, gaps=True))
    schema = boosting_schema(target, EVERYTHING, study={"sampling": "enriched"})
    found = fitted(schema, train)
    design = Design(test.without_outcome())
    said = found.predict(design)
    for column in found.columns[: 1 if target == "survival" else None]:
        parts = found.contributions(design, column)
        np.testing.assert_allclose(parts.base + parts.values.sum(axis=1), parts.lp, rtol=1e-12)
        if target != "hierarchy":
            np.testing.assert_allclose(parts.lp, said.lp, rtol=1e-9, atol=1e-9)
            continue
        z = said.lp[:, [0, 2, 3]]
        inside = {"healthy": [0], "tumour": [1, 2], "dead": [1], "alive": [2]}[column]
        others = [k for k in range(3) if k not in inside]
        np.testing.assert_allclose(parts.lp, z[:, inside].mean(axis=1) - z[:, others].mean(axis=1), rtol=1e-9)
        np.testing.assert_allclose(softmax(z, axis=1), said.p[:, [0, 2, 3]], rtol=1e-9)


@pytest.mark.parametrize(("n", "smallest"), [(40, 5), (100, 5), (240, 12), (3000, 20)])
def test_the_smallest_leaf_grows_with_the_sample(n: int, smallest: int) -> None:
    block = BoostingPredictor(kind="boosting", inputs=("age",))
    assert settings_of(block, n).smallest_leaf == smallest
    assert settings_of(block.model_copy(update={"smallest_leaf": 3}), n).smallest_leaf == 3


def test_one_outcome_cannot_be_learnt() -> None:
    cohort = cohort_of(n=40)
    same = replace(cohort, outcome=BinaryOutcome(np.ones(40), "bad", "good"))
    with pytest.raises(NotEstimableError, match="same outcome"):
        fitted(boosting_schema(), same)


def test_scores_of_predictors_are_columns() -> None:
    """A score that tells the outcome is all that the trees look at; it is demanded again at prediction."""
    cohort = cohort_of(n=80)
    schema = boosting_schema(inputs=("age", "first"), columns=1)
    first = NomogramPredictor(kind="nomogram", inputs=("age",))
    schema = schema.model_copy(update={"predictors": {"first": first, **schema.predictors}})
    outcome = cohort.outcome
    assert isinstance(outcome, BinaryOutcome)
    score = {"first": 4 * outcome.y - 2 + np.random.default_rng(0).normal(size=80)}
    found = fit_predictor(Fitting(schema, "net", Design(cohort, score), np.random.SeedSequence(1)))
    assert isinstance(found, FittedBoosting)
    phi = np.abs(found.contributions(Design(cohort, score), "bad").values).mean(axis=0)
    assert phi[1] > 5 * phi[0]
    with pytest.raises(InvalidInputError, match="score of 'first'"):
        found.predict(Design(cohort.without_outcome()))
