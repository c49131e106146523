"""Regression tables against R's glm, confint and rms::vif, and survival tables against their own fits."""

import json
from itertools import islice
from math import exp, isnan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.tables import SCREENING_CAUTION, multivariable, screened, univariable
from osml.stats.cox import fit_cox
from osml.stats.terms import Category, Interaction, Linear, Spline

REFERENCE = Path(__file__).parents[1] / "reference" / "r"
EXPECTED = json.loads((REFERENCE / "out" / "c5_univariate_multivariable_birthwt.json").read_text())
FRAME = pd.read_csv(REFERENCE / "data" / "birthwt.csv")
LOW = FRAME.low.to_numpy()
LEVELS = {"race": ("white", "black", "other"), **dict.fromkeys(("smoke", "ptd", "ht", "ui"), ("no", "yes"))}
VALUES = {
    name: np.array([LEVELS[name].index(v) for v in FRAME[name]], dtype=float)
    if name in LEVELS
    else FRAME[name].to_numpy(float)
    for name in ("age", "lwt", "race", "smoke", "ptd", "ht", "ui", "ftv")
}
TERMS = [Category(name, LEVELS[name]) if name in LEVELS else Linear(name) for name in VALUES]

# R takes standard errors from the weights of glm's last iteration but one, so those of models that it stopped early
# are off by up to 1e-6 and their p by up to 2e-5; `test_standard_errors_are_those_of_the_maximum` settles who is right.
EXACT = {"beta": "coef", "or": "ratio", "prof_lo": "profile_low", "prof_hi": "profile_high"}
EARLY = {"se": "se", "z": "z", "wald_lo": "low", "wald_hi": "high"}


@pytest.fixture(scope="module")
def screening():
    return screened(TERMS, VALUES, y=LOW)


def assert_rows(rows, expected, p_key):
    for k, row in enumerate(rows):
        for key, field in EXACT.items():
            assert getattr(row, field) == pytest.approx(expected[key][k], rel=1e-7), (row.column, field)
        for key, field in EARLY.items():
            if key in expected:
                assert getattr(row, field) == pytest.approx(expected[key][k], rel=2e-6), (row.column, field)
        assert row.p == pytest.approx(expected[p_key][k], rel=3e-5)


def test_univariable_matches_r(screening):
    table = screening.univariable
    rows = iter(table.rows)
    for expected, intercept in zip(EXPECTED["univariate"], table.intercepts, strict=True):
        own = list(islice(rows, len(expected["term"]) - 1))
        assert {row.term for row in own} == {expected["var"]}
        assert_rows([intercept, *own], expected, "p_wald")
        assert own[0].lr_statistic == pytest.approx(expected["lrt_chisq"], rel=1e-7)
        assert own[0].lr_p == pytest.approx(expected["lrt_p"], rel=1e-7)
        assert own[0].lr_df == expected["lrt_df"]
    assert next(rows, None) is None


def test_multivariable_matches_r(screening):
    table, expected = screening.multivariable, EXPECTED["multivariable"]
    assert [t.input for t in screening.entered] == EXPECTED["kept_lrt_p_lt_0.1"]
    assert_rows([*table.intercepts, *table.rows], expected, "p")
    assert [row.se for row in (*table.intercepts, *table.rows)] == pytest.approx(expected["se"], rel=1e-7)
    assert table.aic == pytest.approx(EXPECTED["aic"], rel=1e-9)
    assert table.bic == pytest.approx(EXPECTED["bic"], rel=1e-9)
    assert table.log_likelihood == pytest.approx(EXPECTED["loglik"], rel=1e-9)
    columns = [row.column for row in table.rows]
    assert columns == list(EXPECTED["vif"])
    assert list(table.vif) == pytest.approx(list(EXPECTED["vif"].values()), rel=1e-7)


def test_full_model_and_caution_stand_beside_the_screened_one(screening):
    assert len(screening.full.rows) == len(screening.multivariable.rows) + 1
    assert screening.full_reason == ""
    assert "misleads" in screening.caution
    assert screening.caution == SCREENING_CAUTION


@pytest.mark.full
def test_standard_errors_are_those_of_the_maximum(screening):
    import statsmodels.api as sm

    for j, name in enumerate(("age", "lwt")):
        fit = sm.Logit(LOW, sm.add_constant(VALUES[name])).fit(disp=False, tol=1e-14, maxiter=100)
        row = screening.univariable.rows[j]
        assert row.se == pytest.approx(fit.bse[1], rel=1e-9)
        assert row.p == pytest.approx(fit.pvalues[1], rel=1e-9)


def test_likelihood_ratio_of_a_term_leaves_it_out(screening):
    table = screening.multivariable
    without = multivariable([t for t in screening.entered if t.input != "race"], VALUES, y=LOW, profile=False)
    race = [row for row in table.rows if row.term == "race"]
    for row in race:
        assert row.lr_statistic == pytest.approx(2 * (table.log_likelihood - without.log_likelihood), rel=1e-9)
        assert row.lr_df == 2


def test_a_separating_level_is_reported_not_hidden():
    values = {"age": VALUES["age"], "rare": np.where(np.arange(189) == np.flatnonzero(LOW)[0], 1.0, 0.0)}
    terms = [Linear("age"), Category("rare", ("no", "yes"))]
    table = univariable(terms, values, y=LOW)
    assert isnan(table.rows[1].coef)
    assert isnan(table.rows[1].lr_p)
    assert table.rows[1].reason
    assert table.rows[1].reason in table.to_frame().Remark.tolist()
    assert table.rows[0].ratio == pytest.approx(EXPECTED["univariate"][0]["or"][1], rel=1e-7)
    with pytest.raises(NotEstimableError):
        multivariable(terms, values, y=LOW)
    result = screened(terms, values, y=LOW)
    assert [t.input for t in result.entered] == ["age"]
    assert result.full is None
    assert result.full_reason


def test_nothing_enters_a_strict_screen():
    result = screened([Linear("ftv")], VALUES, y=LOW, p_enter=0.01)
    assert result.entered == ()
    assert result.multivariable is None


def test_joint_wald_screen(screening):
    by_wald = screened(TERMS, VALUES, y=LOW, test="wald", profile=False)
    # Wald p of age is 0.105 (R: 0.1053), its likelihood-ratio p 0.097.
    assert "age" in [t.input for t in screening.entered]
    assert [t.input for t in by_wald.entered] == ["lwt", "race", "smoke", "ptd", "ht", "ui"]


def test_weights_are_repeated_rows():
    w = np.arange(189) % 3
    repeated = {name: np.repeat(x, w) for name, x in VALUES.items()}
    a = multivariable(TERMS[:3], VALUES, y=LOW, weights=w)
    b = multivariable(TERMS[:3], repeated, y=np.repeat(LOW, w))
    for x, y in zip(a.rows, b.rows, strict=True):
        assert [x.coef, x.se, x.profile_low, x.lr_p] == pytest.approx([y.coef, y.se, y.profile_low, y.lr_p], rel=1e-8)
    assert (a.n, a.events) == (b.n, b.events)


def survival():
    rng = np.random.default_rng(5)
    values = {"age": rng.normal(60, 9, 120), "stage": rng.integers(0, 3, 120).astype(float)}
    time = rng.exponential(np.exp(-(values["age"] - 60) / 20 - values["stage"] / 2)).round(2) + 0.01
    return values, time, rng.random(120) < 0.7


def test_hazard_ratios():
    values, time, event = survival()
    terms = [Linear("age"), Category("stage", ("I", "II", "III"))]
    table = multivariable(terms, values, time=time, event=event)
    X = np.column_stack([values["age"], values["stage"] == 1, values["stage"] == 2]).astype(float)
    fit = fit_cox(X, time, event)
    se = np.sqrt(np.diag(fit.covariance))
    assert (table.measure, table.intercepts) == ("HR", ())
    assert [row.ratio for row in table.rows] == pytest.approx(np.exp(fit.coef), rel=1e-12)
    assert [row.low for row in table.rows] == pytest.approx(np.exp(fit.coef - 1.959963984540054 * se), rel=1e-9)
    assert all(isnan(row.profile_low) for row in table.rows)
    reduced = fit_cox(X[:, :1], time, event)
    assert table.rows[1].lr_statistic == pytest.approx(2 * (fit.log_likelihood - reduced.log_likelihood), rel=1e-9)
    assert table.events == event.sum()
    assert "HR" in table.to_frame().columns
    assert "95% CI (profile)" not in table.to_frame().columns
    both = screened(terms, values, time=time, event=event)
    assert both.univariable.rows[0].ratio == pytest.approx(exp(fit_cox(X[:, :1], time, event).coef[0]), rel=1e-12)


@pytest.mark.full
def test_hazard_ratios_match_lifelines():
    from lifelines import CoxPHFitter

    values, time, event = survival()
    frame = pd.DataFrame({"age": values["age"], "time": time, "event": event})
    peer = CoxPHFitter().fit(frame, "time", "event")
    row = univariable([Linear("age")], values, time=time, event=event).rows[0]
    assert row.coef == pytest.approx(peer.params_["age"], rel=1e-5)
    assert row.se == pytest.approx(peer.standard_errors_["age"], rel=1e-4)
    assert row.lr_p == pytest.approx(peer.log_likelihood_ratio_test().p_value, rel=1e-4)


def test_splines_are_tested_as_one_term_and_interactions_guard_their_main_effects():
    spline = Spline("age", (16.0, 20.0, 25.0, 33.0))
    table = univariable([spline], VALUES, y=LOW, profile=False)
    assert [row.column for row in table.rows] == ["age", "age'", "age''"]
    assert {row.lr_df for row in table.rows} == {3}
    smoke = TERMS[3]
    joint = multivariable([Linear("age"), smoke, Interaction(Linear("age"), smoke)], VALUES, y=LOW, profile=False)
    assert [isnan(row.lr_p) for row in joint.rows] == [True, True, False]
    with pytest.raises(InvalidInputError, match="no univariable model"):
        univariable([Interaction(Linear("age"), smoke)], VALUES, y=LOW)


def test_printed_table(screening):
    frame = screening.multivariable.to_frame()
    assert frame.loc[frame.Variable == "race=black", "OR"].item() == "3.36"
    assert frame.loc[frame.Variable == "lwt", "95% CI (Wald)"].item() == "0.972 to 0.999"
    assert "189" in str(screening.multivariable)


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "either `y`"),
        ({"y": LOW, "time": LOW + 1.0}, "either `y`"),
        ({"time": LOW + 1.0}, "either `y`"),
        ({"y": ["yes"] * 189}, "y"),
        ({"y": LOW, "weights": -np.ones(189)}, "weights"),
    ],
)
def test_bad_outcomes_are_refused(options, message):
    for table in (univariable, multivariable, screened):
        with pytest.raises(InvalidInputError, match=message):
            table([Linear("age")], VALUES, **options)


def test_bad_terms_and_settings_are_refused():
    with pytest.raises(InvalidInputError, match="no terms"):
        multivariable([], VALUES, y=LOW)
    with pytest.raises(InvalidInputError, match="given twice: age"):
        multivariable([Linear("age"), Linear("age")], VALUES, y=LOW)
    with pytest.raises(InvalidInputError, match="non-finite"):
        univariable([Linear("age")], {"age": np.r_[np.nan, VALUES["age"][1:]]}, y=LOW)
    with pytest.raises(InvalidInputError, match="p_enter"):
        screened(TERMS, VALUES, y=LOW, p_enter=0.0)
    with pytest.raises(InvalidInputError, match="unknown test"):
        screened(TERMS, VALUES, y=LOW, test="score")
