"""Bootstrap refits: a weight is a repeated patient, and a replicate repeats the whole pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from designs import AGE, MARKER, SEX, STAGE, design_of, recipe, rows, seed, simulate
from hypothesis import given, settings
from hypothesis import strategies as st

from osml.cohort.cohort import BinaryOutcome, SurvivalOutcome
from osml.errors import NotEstimableError
from osml.predictors.contract import Design
from osml.predictors.learn import complete, learn
from osml.predictors.nomogram import fold_numbers
from osml.predictors.recipe import GlmRecipe
from osml.predictors.refits import calibration_slopes, draw_weights, interval_refits, optimism_slope, refit
from osml.stats.cox import fit_cox
from osml.stats.logistic import fit_logistic

SPLINE = replace(AGE, transform="rcs", knots=4)
CASES: list[tuple[GlmRecipe, float, bool]] = [
    (recipe(), 0.0, False),
    (recipe(impute=True), 0.15, False),
    (recipe(SPLINE, MARKER, SEX, impute=True), 0.15, False),
    (recipe(estimator="firth"), 0.0, False),
    (recipe(shrink="ridge"), 0.0, False),
    (recipe(select="univariable"), 0.0, False),
    (recipe(select="backward"), 0.0, False),
    (recipe(select="lasso"), 0.0, False),
    (recipe(), 0.0, True),
    (recipe(impute=True), 0.15, True),
    (recipe(select="backward"), 0.0, True),
    (recipe(shrink="ridge"), 0.0, True),
]


def attempt(*arguments: Any) -> tuple[Any, type[Exception]]:
    """What `learn` gives, or the kind of its refusal (a sample may hold no patient of a level)."""
    try:
        return learn(*arguments), NotEstimableError
    except NotEstimableError as error:
        return None, type(error)


def assert_agreement(case: tuple[GlmRecipe, float, bool], draw_seed: int) -> None:
    """`learn` with weights against `learn` on a cohort in which patients stand as often as they were drawn."""
    made, missing, survival = case
    design = simulate(110, seed=draw_seed % 7, missing=missing, survival=survival)
    cohort = design.cohort
    assert cohort.outcome is not None
    draws = np.random.default_rng(draw_seed).integers(0, 110, 110)
    weights = np.bincount(draws, minlength=110).astype(float)
    folds = fold_numbers(design, 5, seed(draw_seed))
    resampled = cohort.resample(draws)
    assert resampled.outcome is not None
    position = {unit: i for i, unit in enumerate(cohort.units)}
    index = np.array([position[unit] for unit in resampled.units])
    values = made.values(Design(cohort))
    one, refused = attempt(made, values, cohort.outcome, weights, folds)
    if one is None:
        with pytest.raises(refused):
            learn(made, made.values(Design(resampled)), resampled.outcome, np.ones(110), folds[index])
        return
    two = learn(made, made.values(Design(resampled)), resampled.outcome, np.ones(110), folds[index])
    assert set(one.selected) == set(two.selected)
    assert one.ridge == pytest.approx(two.ridge, rel=1e-8)
    scale = max(1.0, float(np.abs(two.model.coef).max(initial=0.0)))
    assert one.model.coef == pytest.approx(two.model.coef, rel=1e-8, abs=1e-9 * scale)
    assert one.model.intercept == pytest.approx(two.model.intercept, rel=1e-8, abs=1e-9 * scale)
    a, b = complete(one.imputer, values)[0], complete(two.imputer, values)[0]
    for name in a:
        assert a[name] == pytest.approx(b[name], rel=1e-8)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0].select}-{c[0].shrink}-{c[0].estimator}-{c[1]}-{c[2]}")
def test_weights_equal_repeated_patients_everywhere(case: tuple[GlmRecipe, float, bool]) -> None:
    assert_agreement(case, 11)


@settings(max_examples=15)
@given(case=st.sampled_from(CASES[:3] + CASES[8:10]), draw_seed=st.integers(0, 10_000))
def test_weights_equal_repeated_patients(case: tuple[GlmRecipe, float, bool], draw_seed: int) -> None:
    assert_agreement(case, draw_seed)


def test_every_replicate_draws_as_many_patients_as_there_are() -> None:
    patients = [f"P{i // 2}" for i in range(40)]
    weights = draw_weights(patients, 30, np.random.default_rng(0))
    assert weights.shape == (30, 40)
    # Rows of one patient come together, and 20 patients are drawn each time.
    assert np.array_equal(weights[:, ::2], weights[:, 1::2])
    assert np.array_equal(weights[:, ::2].sum(axis=1), np.full(30, 20.0))
    assert np.array_equal(weights, draw_weights(patients, 30, np.random.default_rng(0)))


@pytest.mark.parametrize("made", [recipe(), recipe(SPLINE, MARKER, STAGE), recipe(impute=True)])
def test_the_batch_equals_one_fit_after_another(made: GlmRecipe) -> None:
    design = simulate(100, seed=2, missing=0.1 if made.impute else 0.0)
    outcome = design.cohort.outcome
    assert isinstance(outcome, BinaryOutcome)
    weights = draw_weights(design.cohort.patients, 12, np.random.default_rng(1))
    folds = fold_numbers(design, 5, seed())
    values = made.values(design)
    found = refit(made, values, outcome, weights, folds)
    for b in np.flatnonzero(found.ok):
        learnt = learn(made, values, outcome, weights[b], folds)
        assert found.lp[b] == pytest.approx(learnt.model.lp(complete(learnt.imputer, values)[0]), rel=1e-7, abs=1e-8)
    for b in np.flatnonzero(~found.ok):
        with pytest.raises(NotEstimableError):
            learn(made, values, outcome, weights[b], folds)
    assert found.ok.sum() >= 10


def test_harrells_corrected_slope_by_its_definition() -> None:
    design = simulate(90, seed=3)
    outcome = design.cohort.outcome
    assert isinstance(outcome, BinaryOutcome)
    made = recipe()
    values = made.values(design)
    weights = draw_weights(design.cohort.patients, 40, np.random.default_rng(4))
    refits = refit(made, values, outcome, weights, np.zeros(90, dtype=np.intp))
    X = np.column_stack(
        [values["age"], np.log(values["marker"]), values["sex"], values["stage"] == 1, values["stage"] == 2]
    )
    slopes = []
    for w in weights:
        fit = fit_logistic(X, outcome.y, weights=w)
        lp = X @ fit.coef
        # In its own sample the slope of a maximum-likelihood fit is 1.
        slopes.append(1.0 - fit_logistic(lp[:, None], outcome.y).coef[0])
    whole = fit_logistic(X, outcome.y)
    found = optimism_slope(refits, X @ whole.coef, outcome)
    assert found.value == pytest.approx(1.0 - np.mean(slopes), rel=1e-7)
    assert (found.source, found.replicates, found.failed) == ("optimism bootstrap", 40, 0)


def test_calibration_slopes_against_direct_fits() -> None:
    design, survival = simulate(80, seed=1), simulate(80, seed=1, survival=True)
    y, s = design.cohort.outcome, survival.cohort.outcome
    assert isinstance(y, BinaryOutcome)
    assert isinstance(s, SurvivalOutcome)
    lp = np.vstack([design.cohort.values["age"], np.full(80, 2.0), np.log(design.cohort.values["marker"])])
    found = calibration_slopes(lp, y, np.ones((3, 80)))
    assert found[[0, 2]] == pytest.approx([fit_logistic(lp[k][:, None], y.y).coef[0] for k in (0, 2)], rel=1e-8)
    assert np.isnan(found[1])
    cox = calibration_slopes(lp, s, np.ones((3, 80)))
    assert cox[[0, 2]] == pytest.approx([fit_cox(lp[k][:, None], s.time, s.event).coef[0] for k in (0, 2)], rel=1e-8)
    assert np.isnan(cox[1])


def test_too_many_failed_replicates_are_refused_with_their_reasons() -> None:
    design = simulate(60, seed=1)
    outcome = design.cohort.outcome
    assert isinstance(outcome, BinaryOutcome)
    y = outcome.y.copy()
    rare = np.zeros(60)
    rare[:2] = 1.0
    y[:2] = [1.0, 0.0]
    values = {"age": design.cohort.values["age"], "sex": rare}
    cohort = design_of(values, BinaryOutcome(y, "bad", "good")).cohort
    from osml.predictors.nomogram import fit_nomogram

    with pytest.raises(NotEstimableError, match="bootstrap samples could be fitted") as caught:
        fit_nomogram(recipe(AGE, SEX, shrink="uniform"), Design(cohort), seed())
    assert "level" in caught.value.why
    assert "firth" in caught.value.do


def test_interval_refits_shrink_as_the_deployed_model_does() -> None:
    design = simulate(80, seed=3)
    outcome = design.cohort.outcome
    assert isinstance(outcome, BinaryOutcome)
    made = recipe(AGE, SEX)
    values = made.values(design)
    learnt = learn(made, values, outcome, np.ones(80), np.zeros(80, dtype=np.intp))
    weights = draw_weights(design.cohort.patients, 5, np.random.default_rng(1))
    found = interval_refits(learnt, values, outcome, weights, 0.8)
    X = np.column_stack([values["age"], values["sex"]])
    for b, w in enumerate(weights):
        coef = 0.8 * fit_logistic(X, outcome.y, weights=w).coef
        assert found.parameters[b, 1:] == pytest.approx(coef, rel=1e-7)
        p = 1 / (1 + np.exp(-(found.parameters[b, 0] + X @ coef)))
        assert np.average(p, weights=w) == pytest.approx(np.average(outcome.y, weights=w), rel=1e-8)


def test_copies_and_rows_of_a_patient_share_their_inner_fold() -> None:
    n = 40
    rng = np.random.default_rng(0)
    patients = [f"P{i % 15}" for i in range(n)]
    y = np.array([float(p in ("P1", "P2", "P3", "P4", "P5", "P6")) for p in patients])
    design = design_of({"age": rng.normal(size=n)}, BinaryOutcome(y, "bad", "good"), patients)
    copies = Design(design.cohort.resample(rng.integers(0, 15, 15)))
    for made in (design, copies):
        folds = fold_numbers(made, 4, seed())
        home: dict[str, Any] = {}
        for patient, fold in zip(made.cohort.patients, folds.tolist(), strict=True):
            assert home.setdefault(patient, fold) == fold
        assert len(set(folds.tolist())) == 4
    assert len(rows(design, [0, 1]).cohort) == 2
