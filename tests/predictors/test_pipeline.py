"""The nomogram predictor: what is fitted, how it is shrunken, what it says about missing and unusual values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from designs import AGE, ALL, MARKER, SEX, STAGE, design_of, recipe, rows, seed, simulate

from osml.cohort.cohort import BinaryOutcome
from osml.errors import InvalidInputError, NotEstimableError, RunError
from osml.files import read_json, write_json
from osml.predictors.contract import NO_INTERVAL, Design
from osml.predictors.learn import complete
from osml.predictors.nomogram import FittedNomogram, develop, fit_nomogram, load_nomogram, with_prevalence
from osml.predictors.recipe import recipe_from_dict
from osml.stats.cox import fit_cox, survival, survival_interval
from osml.stats.logistic import fit_logistic
from osml.stats.terms import Category, Linear, Log, design_matrix

TERMS = (Linear("age"), Log("marker"), Category("sex", SEX.levels), Category("stage", STAGE.levels))


def outcome(design: Design) -> Any:
    assert design.cohort.outcome is not None
    return design.cohort.outcome


def test_the_plain_pipeline_is_logistic_regression() -> None:
    design = simulate()
    fitted = fit_nomogram(recipe(), design, seed())
    X = design_matrix(TERMS, design.cohort.values)
    direct = fit_logistic(X, outcome(design).y)
    assert fitted.model.coef == pytest.approx(direct.coef, rel=1e-10)
    assert fitted.model.intercept == pytest.approx(direct.intercept, rel=1e-10)
    assert fitted.model.covariance == pytest.approx(direct.covariance, rel=1e-8)
    assert fitted.predict(rows(design, range(150))).p[:, 0] == pytest.approx(direct.probability, rel=1e-10)


def test_the_plain_survival_pipeline_is_cox_regression() -> None:
    design = simulate(survival=True)
    fitted = fit_nomogram(recipe(), design, seed())
    X = design_matrix(TERMS, design.cohort.values)
    direct = fit_cox(X, outcome(design).time, outcome(design).event)
    assert fitted.model.coef == pytest.approx(direct.coef, rel=1e-10)
    prediction = fitted.predict(rows(design, range(150)))
    assert prediction.columns == ("6 month", "12 month")
    expected = 1 - survival(direct, X @ direct.coef + direct.intercept, np.array([6.0, 12.0]))
    assert prediction.p == pytest.approx(expected, rel=1e-10)
    assert np.all(prediction.p[:, 0] < prediction.p[:, 1])


def test_uniform_shrinkage_multiplies_coefficients_and_keeps_the_mean_risk() -> None:
    design = simulate(80, seed=3)
    fitted = fit_nomogram(recipe(shrink="uniform"), design, seed())
    slope = fitted.slope
    assert 0.3 < slope.value < 1.0
    assert slope.source == "optimism bootstrap"
    assert slope.replicates == 60
    assert fitted.model.coef == pytest.approx(slope.value * fitted.unshrunken.coef, rel=1e-14)
    p = fitted.predict(rows(design, range(80))).p[:, 0]
    assert p.mean() == pytest.approx(outcome(design).y.mean(), rel=1e-10)
    plain = fit_nomogram(recipe(), design, seed())
    assert fitted.unshrunken.coef == pytest.approx(plain.model.coef, rel=1e-12)
    assert np.ptp(p) < np.ptp(plain.predict(rows(design, range(80))).p)


def test_uniform_shrinkage_of_a_cox_model_keeps_its_ranks_and_re_estimates_the_baseline() -> None:
    design = simulate(80, seed=3, survival=True)
    fitted = fit_nomogram(recipe(shrink="uniform"), design, seed())
    plain = fit_nomogram(recipe(), design, seed())
    assert 0.2 < fitted.slope.value < 1.0
    assert fitted.model.coef == pytest.approx(fitted.slope.value * plain.model.coef, rel=1e-12)
    everybody = rows(design, range(80))
    a, b = fitted.predict(everybody), plain.predict(everybody)
    assert np.array_equal(np.argsort(a.lp), np.argsort(b.lp))
    assert np.ptp(a.p[:, 1]) < np.ptp(b.p[:, 1])
    # With its own baseline, expected events equal observed events up to the horizon's cut: the means stay near.
    assert a.p.mean(axis=0) == pytest.approx(b.p.mean(axis=0), rel=0.05)


@pytest.mark.parametrize("seed_number", [1, 2])
def test_seeds_decide_everything(seed_number: int) -> None:
    design = simulate(80)
    one = fit_nomogram(recipe(shrink="uniform"), design, seed(seed_number), final=True)
    two = fit_nomogram(recipe(shrink="uniform"), design, seed(seed_number), final=True)
    assert one.to_dict() == two.to_dict()
    other = fit_nomogram(recipe(shrink="uniform"), design, seed(seed_number + 10))
    assert other.slope.value != one.slope.value


INTERVALS = [
    ({}, False, "confidence interval (Wald)"),
    ({"shrink": "uniform"}, True, "model instability interval (60 bootstrap refits, shrinkage factor held fixed)"),
    ({"shrink": "uniform"}, False, NO_INTERVAL),
    ({"shrink": "ridge", "bootstraps": 4}, True, NO_INTERVAL),
    ({"estimator": "firth", "bootstraps": 4}, True, NO_INTERVAL),
    ({"select": "univariable", "bootstraps": 4}, True, NO_INTERVAL),
    ({"select": "backward", "bootstraps": 4}, True, NO_INTERVAL),
    ({"select": "lasso", "bootstraps": 4}, True, NO_INTERVAL),
]


@pytest.mark.parametrize(("changes", "final", "words"), INTERVALS)
def test_which_interval_a_pipeline_may_have(changes: dict[str, Any], final: bool, words: str) -> None:
    design = simulate(n=200, seed=2)
    fitted = fit_nomogram(recipe(**changes), design, seed(), final=final)
    prediction = fitted.predict(rows(design, range(20)))
    assert prediction.interval.endswith(words)
    if words == NO_INTERVAL:
        assert prediction.low is None
        assert prediction.high is None
        return
    assert prediction.low is not None
    assert prediction.high is not None
    assert np.all(prediction.low < prediction.high)
    inside = (prediction.low <= prediction.p) & (prediction.p <= prediction.high)
    # An instability interval is not centred on the deployed model, so single patients may fall outside.
    assert inside.mean() >= (1.0 if "Wald" in words else 0.9)


def test_wald_interval_against_the_covariance() -> None:
    design = simulate()
    fitted = fit_nomogram(recipe(), design, seed())
    prediction = fitted.predict(rows(design, range(150)))
    A = np.column_stack([np.ones(150), design_matrix(TERMS, design.cohort.values)])
    p = prediction.p[:, 0]
    V = np.linalg.inv(A.T @ (A * (p * (1 - p))[:, None]))
    half = 1.959963984540054 * np.sqrt(np.einsum("ij,jk,ik->i", A, V, A))
    lp = np.log(p / (1 - p))
    assert prediction.low is not None
    assert prediction.high is not None
    assert prediction.low[:, 0] == pytest.approx(1 / (1 + np.exp(-(lp - half))), rel=1e-7)
    assert prediction.high[:, 0] == pytest.approx(1 / (1 + np.exp(-(lp + half))), rel=1e-7)


def test_imputing_costs_the_wald_interval() -> None:
    design = simulate(missing=0.1, seed=4)
    fitted = fit_nomogram(recipe(impute=True), design, seed())
    assert fitted.model.covariance is None
    assert fitted.predict(rows(design, [0])).interval == NO_INTERVAL
    final = fit_nomogram(recipe(impute=True), design, seed(), final=True)
    assert "imputation held fixed" in final.predict(rows(design, [0])).interval


def test_a_plain_cox_model_has_the_interval_of_its_survival_curve() -> None:
    design = simulate(survival=True)
    prediction = fit_nomogram(recipe(), design, seed()).predict(rows(design, range(10)))
    assert prediction.interval == "95 % confidence interval (Wald)"
    X = design_matrix(TERMS, design.cohort.values)
    fit = fit_cox(X, outcome(design).time, outcome(design).event)
    curve = survival_interval(fit, X[:10], np.array([6.0, 12.0]))
    assert prediction.low == pytest.approx(1 - curve.high, rel=1e-8)
    assert prediction.high == pytest.approx(1 - curve.low, rel=1e-8)


def test_a_shrunken_cox_model_has_an_instability_interval() -> None:
    design = simulate(survival=True)
    prediction = fit_nomogram(recipe(shrink="uniform"), design, seed(), final=True).predict(rows(design, range(10)))
    assert prediction.interval == "95 % model instability interval (60 bootstrap refits, shrinkage factor held fixed)"
    assert prediction.low is not None
    assert prediction.low.shape == (10, 2)


def test_too_few_refits_give_no_interval() -> None:
    design = simulate(80)
    fitted = fit_nomogram(recipe(shrink="uniform", bootstraps=30), design, seed(), final=True)
    assert fitted.refits is not None
    assert fitted.predict(rows(design, [0])).interval == NO_INTERVAL


def test_rows_are_predicted_one_by_one_as_in_a_batch() -> None:
    design = simulate(missing=0.15, seed=5)
    fitted = fit_nomogram(recipe(shrink="uniform", impute=True), design, seed(), final=True)
    batch = fitted.predict(rows(design, range(150)))
    for i in range(0, 150, 7):
        single = fitted.predict(rows(design, [i]))
        assert single.p[0] == pytest.approx(batch.p[i], rel=1e-14)
        assert single.low is not None
        assert batch.low is not None
        assert single.low[0] == pytest.approx(batch.low[i], rel=1e-12)
        assert single.flags == tuple(flag for flag in batch.flags if flag.unit == f"u{i}")
    backwards = fitted.predict(rows(design, range(149, -1, -1)))
    assert backwards.p[::-1] == pytest.approx(batch.p, rel=1e-14)


def test_missing_values_are_imputed_and_flagged() -> None:
    design = simulate(missing=0.1, seed=4)
    fitted = fit_nomogram(recipe(impute=True), design, seed())
    prediction = fitted.predict(rows(design, range(150)))
    gaps = {(f"u{i}", name) for name, x in design.cohort.values.items() for i in np.flatnonzero(np.isnan(x))}
    assert {(f.unit, f.input) for f in prediction.flags if f.code == "imputed"} == gaps
    filled, _ = complete(fitted.imputer, dict(design.cohort.values))
    values = {(f.unit, f.input): f.value for f in prediction.flags if f.code == "imputed"}
    for unit, name in gaps:
        assert values[unit, name] == filled[name][int(unit[1:])]


def test_a_gap_that_training_never_had_is_imputed_too() -> None:
    design = simulate()
    fitted = fit_nomogram(recipe(impute=True), design, seed())
    new = design_of({**{k: v[:1].copy() for k, v in design.cohort.values.items()}, "sex": np.array([np.nan])}, None)
    prediction = fitted.predict(new)
    assert [(f.input, f.code) for f in prediction.flags] == [("sex", "imputed")]
    assert np.isfinite(prediction.p).all()
    # A level is imputed, not a fraction of one.
    assert prediction.flags[0].value in (0.0, 1.0)


def test_imputation_never_looks_at_the_outcome() -> None:
    design = simulate(missing=0.1, seed=4)
    turned = replace(design.cohort, outcome=BinaryOutcome(1 - outcome(design).y, "bad", "good"))
    a = fit_nomogram(recipe(impute=True), design, seed())
    b = fit_nomogram(recipe(impute=True), Design(turned), seed())
    assert a.imputer is not None
    assert b.imputer is not None
    assert a.imputer.to_dict() == b.imputer.to_dict()


def test_a_gap_without_imputation_is_refused_with_its_place() -> None:
    design = simulate(missing=0.1, seed=4)
    with pytest.raises(NotEstimableError, match=r"missing values in age \(\d+\), marker \(\d+\), stage \(\d+\)"):
        fit_nomogram(recipe(), design, seed())


def test_values_beyond_the_training_range_are_flagged() -> None:
    design = simulate()
    fitted = fit_nomogram(recipe(), design, seed())
    low, high = fitted.ranges["age"]
    age = np.sort(design.cohort.values["age"])
    # At least five patients lie at or beyond each end.
    assert age[4] <= low < high <= age[-5]
    values = {
        "age": np.array([low - 1, low, high, high + 1]),
        "marker": np.full(4, 55.0),
        "sex": np.zeros(4),
        "stage": np.ones(4),
    }
    flags = fitted.predict(design_of(values, None)).flags
    assert [(f.unit, f.input, f.code) for f in flags] == [("u0", "age", "extrapolated"), ("u3", "age", "extrapolated")]
    assert flags[1].value == high + 1


def test_a_level_without_training_patients_is_named() -> None:
    design = simulate()
    kept = np.flatnonzero(design.cohort.values["stage"] != 2)
    cohort = design.cohort._take(kept, design.cohort.copies)
    with pytest.raises(NotEstimableError, match="level 'III' of 'stage' has no training patient here"):
        fit_nomogram(recipe(), Design(cohort), seed())


def test_noise_is_shrunken_hard() -> None:
    rng = np.random.default_rng(5)
    inputs = tuple(replace(AGE, name=f"z{k}") for k in range(8))
    values = {item.name: rng.normal(size=100) for item in inputs}
    design = design_of(values, BinaryOutcome(rng.permutation(np.repeat([0.0, 1.0], 50)), "bad", "good"))
    fitted = fit_nomogram(recipe(*inputs, shrink="uniform"), design, seed())
    assert 0.0 <= fitted.slope.value < 0.7


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.01, 500.0), (1000.0, -1e6)])
def test_the_unit_of_an_input_does_not_change_a_risk(scale: float, shift: float) -> None:
    design = simulate(80, seed=3)
    values = {**design.cohort.values, "age": design.cohort.values["age"] * scale + shift}
    moved = Design(replace(design.cohort, values=values))
    inputs = (AGE, SEX)
    a = fit_nomogram(recipe(*inputs, shrink="uniform"), design, seed(), final=True).predict(rows(design, range(80)))
    b = fit_nomogram(recipe(*inputs, shrink="uniform"), moved, seed(), final=True).predict(rows(moved, range(80)))
    assert b.p == pytest.approx(a.p, rel=1e-6)
    assert a.low is not None
    assert b.low == pytest.approx(a.low, rel=1e-6)


def test_prevalence_moves_the_intercept_by_king_and_zeng() -> None:
    design = simulate()
    fitted = fit_nomogram(recipe(shrink="uniform"), design, seed(), final=True)
    moved = with_prevalence(fitted, 0.05)
    share = outcome(design).y.mean()
    # King & Zeng 2001, eq. 7: minus log((1 - tau) / tau * share / (1 - share))
    expected = fitted.model.intercept - np.log((1 - 0.05) / 0.05 * share / (1 - share))
    assert moved.model.intercept == pytest.approx(expected, rel=1e-12)
    assert np.array_equal(moved.model.coef, fitted.model.coef)
    everybody = rows(design, range(150))
    a, b = fitted.predict(everybody).p, moved.predict(everybody).p
    odds = (b / (1 - b)) / (a / (1 - a))
    assert odds == pytest.approx(np.full_like(odds, (0.05 / 0.95) / (share / (1 - share))), rel=1e-9)
    assert moved.predict(everybody).interval == NO_INTERVAL


VARIANTS = [
    (recipe(), False, False),
    (recipe(shrink="uniform", impute=True), True, True),
    (recipe(replace(AGE, transform="rcs", knots=4), MARKER, SEX, shrink="uniform"), True, False),
    (recipe(estimator="firth"), False, False),
    (recipe(shrink="ridge", impute=True), False, True),
    (recipe(select="lasso"), False, False),
    (recipe(select="univariable", shrink="uniform"), True, False),
]


@pytest.mark.parametrize(("variant", "final", "gaps"), VARIANTS)
@pytest.mark.parametrize("survival_outcome", [False, True])
def test_a_saved_model_predicts_the_same_bits(
    variant: Any, final: bool, gaps: bool, survival_outcome: bool, tmp_path: Path
) -> None:
    if survival_outcome and (variant.estimator == "firth" or variant.select == "lasso"):
        variant = replace(variant, estimator="ml", select="backward")
    design = simulate(seed=9, missing=0.1 if gaps else 0.0, survival=survival_outcome)
    fitted = fit_nomogram(variant, design, seed(), final=final)
    fitted.save(tmp_path / "a")
    again = load_nomogram(tmp_path / "a")
    again.save(tmp_path / "b")
    assert (tmp_path / "a" / "model.json").read_bytes() == (tmp_path / "b" / "model.json").read_bytes()
    one, two = fitted.predict(rows(design, range(150))), again.predict(rows(design, range(150)))
    assert one.p.tobytes() == two.p.tobytes()
    assert one.lp.tobytes() == two.lp.tobytes()
    assert (one.low is None) == (two.low is None)
    if one.low is not None and two.low is not None and one.high is not None and two.high is not None:
        assert one.low.tobytes() == two.low.tobytes()
        assert one.high.tobytes() == two.high.tobytes()
    assert (one.flags, one.interval, one.units) == (two.flags, two.interval, two.units)


def test_a_model_of_another_format_is_refused(tmp_path: Path) -> None:
    fit_nomogram(recipe(), simulate(), seed()).save(tmp_path)
    write_json(tmp_path / "model.json", {**read_json(tmp_path / "model.json"), "format": 99})
    with pytest.raises(RunError, match="format 99"):
        load_nomogram(tmp_path)


def test_a_model_file_names_no_patient(tmp_path: Path) -> None:
    design = simulate()
    named = replace(
        design.cohort, units=tuple(f"SECRET{i}" for i in range(150)), patients=tuple(f"SECRET{i}" for i in range(150))
    )
    fit_nomogram(recipe(shrink="uniform"), Design(named), seed(), final=True).save(tmp_path)
    assert "SECRET" not in (tmp_path / "model.json").read_text()


def test_recipes_survive_json() -> None:
    original = recipe(replace(AGE, transform="rcs", knots=5), *ALL[1:], shrink="ridge", impute=True)
    assert recipe_from_dict(original.to_dict()) == original
    assert original.candidate_parameters == 4 + 1 + 1 + 2


def test_a_kit_encoded_lab_is_a_position_in_its_range() -> None:
    design = simulate(60)
    kit = {"marker": (np.full(60, 20.0), np.full(60, 120.0))}
    with_kit = Design(replace(design.cohort, kit=kit))
    linear = replace(MARKER, transform="linear")
    marker = design.cohort.values["marker"]
    assert recipe(replace(linear, encode="kit")).values(with_kit)["marker"] == pytest.approx(
        (marker - 20) / 100, rel=1e-14
    )
    assert recipe(replace(linear, encode="uln")).values(with_kit)["marker"] == pytest.approx(marker / 120, rel=1e-14)


def test_a_score_that_was_not_given_is_refused() -> None:
    from osml.predictors.recipe import InputRecipe

    with pytest.raises(InvalidInputError, match="needs the score of 'rad'"):
        recipe(InputRecipe("rad", "rad score", "score")).values(simulate(20))


def test_patients_without_outcomes_cannot_be_learnt_from() -> None:
    design = simulate()
    with pytest.raises(NotEstimableError, match="without outcomes"):
        fit_nomogram(recipe(), Design(design.cohort.without_outcome()), seed())


def test_outcomes_are_not_read_at_predict() -> None:
    design = simulate()
    fitted: FittedNomogram = fit_nomogram(recipe(), design, seed())
    hidden = fitted.predict(Design(design.cohort.without_outcome()))
    flipped = replace(design.cohort, outcome=BinaryOutcome(1 - outcome(design).y, "bad", "good"))
    assert fitted.predict(Design(flipped)).p.tobytes() == hidden.p.tobytes()


def test_development_keeps_what_judging_needs() -> None:
    design = simulate(80)
    development = develop(recipe(shrink="uniform"), design, seed())
    assert development.refits.lp.shape == (60, 80)
    assert development.refits.weights.sum(axis=1) == pytest.approx(np.full(60, 80.0))
    assert development.lp == pytest.approx(development.fitted.unshrunken.lp(design.cohort.values), rel=1e-14)
    with pytest.raises(InvalidInputError, match=r"score 'x' has shape \(3,\) for 80 units"):
        Design(design.cohort, {"x": np.zeros(3)})
