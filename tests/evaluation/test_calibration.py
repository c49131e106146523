import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, logit

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.calibration import (
    calibration,
    calibration_groups,
    calibration_per_class,
    calibration_spline,
    spiegelhalter,
)
from osml.evaluation.goodness_of_fit import goodness_of_fit
from osml.stats.logistic import fit_logistic
from osml.stats.profile import profile_interval

REFERENCE = Path(__file__).parents[1] / "reference" / "r"
VAL = json.loads((REFERENCE / "out" / "c3_valprob_pima_external.json").read_text())
DIRECT = json.loads((REFERENCE / "out" / "c3b_loess_direct_pima.json").read_text())
P, Y = np.array(VAL["p"]), np.array(VAL["y"])


@pytest.fixture(scope="module")
def found():
    return calibration(Y, P)


def test_slope_intercept_and_in_the_large(found):
    ref = VAL["calibration_fit"]
    assert found.intercept.value == pytest.approx(ref["intercept"], rel=1e-10)
    assert found.slope.value == pytest.approx(ref["slope"], rel=1e-9)
    assert found.citl.value == pytest.approx(VAL["citl"]["est"], rel=1e-10)
    # glm takes its standard errors from the weights of the last iteration but one, 1e-6 away from the maximum's own.
    assert [found.intercept.se, found.slope.se] == pytest.approx(ref["se"], rel=2e-6)
    assert found.citl.se == pytest.approx(VAL["citl"]["se"], rel=2e-6)
    mine = [[e.low, e.high] for e in (found.intercept, found.slope, found.citl)]
    np.testing.assert_allclose(mine, [*ref["wald_ci"], *VAL["citl"]["wald_ci"]], rtol=2e-6)
    assert found.o_e.value == pytest.approx(VAL["O_over_E"], rel=1e-12)


def test_standard_errors_of_the_last_but_one_iteration():
    # Fisher scoring as glm runs it: from (y + 1/2) / 2 until the deviance changes by less than 1e-8 of itself.
    X = np.column_stack([np.ones(len(P)), logit(P)])
    mu, old = (Y + 0.5) / 2, np.inf
    eta = logit(mu)
    while True:
        w = mu * (1 - mu)
        information = (X * w[:, None]).T @ X
        eta = X @ np.linalg.solve(information, X.T @ (w * eta + Y - mu))
        mu = expit(eta)
        deviance = -2 * np.log(np.where(Y == 1, mu, 1 - mu)).sum()
        if abs(deviance - old) < 1e-8 * (abs(deviance) + 0.1):
            break
        old = deviance
    se = np.sqrt(np.diag(np.linalg.inv(information)))
    np.testing.assert_allclose(se, VAL["calibration_fit"]["se"], rtol=1e-10)


def test_profile_limits_of_the_recalibration():
    # R interpolates the profile by a spline: four to five digits.
    for j, ref in zip((None, 0), VAL["calibration_fit"]["profile_ci"], strict=True):
        limits = profile_interval(logit(P)[:, None], Y, j)
        assert [limits.low, limits.high] == pytest.approx(ref, rel=1e-4)


def test_overall_tests_equal_val_prob(found):
    ref = VAL["val_prob"]
    assert found.unreliability == pytest.approx(ref["U:Chi-sq"], rel=1e-10)
    assert found.unreliability_p == pytest.approx(ref["U:p"], rel=1e-10)
    assert [found.r2, found.d, found.u, found.q] == pytest.approx([ref[k] for k in ("R2", "D", "U", "Q")], rel=1e-10)
    assert found.d * found.n + 1 == pytest.approx(ref["D:Chi-sq"], rel=1e-10)
    assert found.spiegelhalter_z == pytest.approx(VAL["spiegelhalter_z"], rel=1e-9)
    assert found.spiegelhalter_p == pytest.approx(VAL["spiegelhalter_p"], rel=1e-10)
    assert found.brier == pytest.approx(VAL["brier"], rel=1e-12)
    assert found.scaled_brier == pytest.approx(VAL["brier_scaled"], rel=1e-12)
    assert found.log_loss == pytest.approx(VAL["logloss"], rel=1e-12)


def test_flexible_curve_and_its_distances(found):
    flexible = found.flexible
    np.testing.assert_allclose(flexible.curve.fitted, DIRECT["loess_direct_deg2"], rtol=1e-9, atol=1e-12)
    ref = DIRECT["errors_deg2"]
    assert [flexible.ici, flexible.e50, flexible.e90, flexible.emax] == pytest.approx(
        [ref["ICI"], ref["E50"], ref["E90"], ref["Emax"]], rel=1e-9
    )
    assert (flexible.curve.low < flexible.curve.curve).all()
    assert found.flexible_reason == ""


@pytest.mark.parametrize("method", ["wilson", "exact"])
def test_groups_equal_reference(method):
    groups, ref = calibration_groups(Y, P, method=method), VAL["deciles"]
    assert [g.n for g in groups] == ref["n"]
    assert [g.events for g in groups] == ref["events"]
    np.testing.assert_allclose([g.mean_p for g in groups], ref["mean_p"], rtol=1e-12)
    np.testing.assert_allclose([g.expected for g in groups], ref["exp"], rtol=1e-12)
    np.testing.assert_allclose([g.observed.value for g in groups], ref["obs"], rtol=1e-12)
    limits = [[g.observed.value, g.observed.low, g.observed.high] for g in groups]
    np.testing.assert_allclose(limits, VAL[f"deciles_{method}"], rtol=1e-9, atol=1e-16)


def test_hosmer_lemeshow(found):
    assert found.hosmer_lemeshow.chi2 == pytest.approx(VAL["HL_chisq_deciles"], rel=1e-12)
    assert found.hosmer_lemeshow.df == 10
    assert found.hosmer_lemeshow.p_value == pytest.approx(VAL["HL_p_df10_external"], rel=1e-10)
    own = calibration(Y, P, fitted_here=True).hosmer_lemeshow
    assert (own.df, own.p_value) == (8, pytest.approx(VAL["HL_p_df8"], rel=1e-10))


def test_spline_curve():
    ref = VAL["rcs5_logit_curve"]
    curve = calibration_spline(Y, P, ref["grid"])
    # lrm stopped one Newton step short of the maximum: 1.4e-6 on the probability.
    np.testing.assert_allclose(curve, ref["p"], atol=2e-6)


def test_goodness_of_fit_of_the_training_model():
    train = pd.read_csv(REFERENCE / "data" / "pima_tr.csv")
    X, y = train[["npreg", "glu", "bmi", "ped", "age"]].to_numpy(), train.type == "Yes"
    fit, ref = goodness_of_fit(X, y, fit_logistic(X, y).probability), VAL["gof_le_cessie_train"]
    assert [fit.sum_of_squares, fit.expected, fit.sd, fit.z, fit.p_value] == pytest.approx(
        [ref[k] for k in ("Sum of squared errors", "Expected value|H0", "SD", "Z", "P")], rel=1e-9
    )
    with pytest.raises(NotEstimableError, match="variance 0"):
        goodness_of_fit([[0.0], [1.0]], [0, 1], [0.5, 0.5])
    with pytest.raises(InvalidInputError, match="rows"):
        goodness_of_fit([[0.0]], [0, 1], [0.5, 0.5])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(-1, 1), st.floats(0.3, 3))
def test_recalibrating_gives_intercept_zero_and_slope_one(seed, shift, stretch):
    rng = np.random.default_rng(seed)
    lp = rng.normal(size=80)
    y = rng.random(80) < expit(lp)
    first = calibration(y, expit(shift + stretch * lp))
    plain = calibration(y, expit(lp))
    # The slope of a stretched predictor is divided by the stretch; then nothing is left to correct.
    assert first.slope.value * stretch == pytest.approx(plain.slope.value, rel=1e-7)
    lp_2 = first.intercept.value + first.slope.value * (shift + stretch * lp)
    again = calibration(y, expit(lp_2))
    assert again.slope.value == pytest.approx(1, abs=1e-7)
    assert again.intercept.value == pytest.approx(0, abs=1e-7)
    assert again.citl.value == pytest.approx(0, abs=1e-7)
    assert again.o_e.value == pytest.approx(1, abs=1e-7)
    assert again.unreliability == pytest.approx(0, abs=1e-7)
    mirrored = calibration(~y, 1 - expit(lp_2))
    assert mirrored.brier == pytest.approx(again.brier, rel=1e-9)
    assert mirrored.slope.se == pytest.approx(again.slope.se, rel=1e-6)


def test_recalibration_line(found):
    np.testing.assert_allclose(
        logit(found.line), found.intercept.value + found.slope.value * logit(found.line_p), rtol=1e-9
    )


def test_o_e_interval_is_that_of_a_log_proportion(found):
    o, n = Y.sum(), len(Y)
    z = stats.norm.isf(0.025) * np.sqrt((1 - o / n) / o)
    assert np.log(found.o_e.high / found.o_e.value) == pytest.approx(z, rel=1e-12)
    assert np.log(found.o_e.value / found.o_e.low) == pytest.approx(z, rel=1e-12)


def test_few_events_have_no_flexible_curve():
    rng = np.random.default_rng(1)
    p = rng.uniform(0.05, 0.5, 120)
    few = calibration(rng.random(120) < p, p)
    assert few.flexible is None
    assert "below 100" in few.flexible_reason
    assert few.slope is not None
    assert few.line is not None


def test_separation_and_constant_predictions_have_no_slope():
    separated = calibration([0, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.6, 0.9])
    assert separated.slope is None
    assert separated.intercept is None
    assert separated.line is None
    assert separated.unreliability is None
    assert separated.slope_reason.startswith("not estimable")
    assert np.isfinite(separated.citl.value)
    constant = calibration([0, 1, 0, 1, 1], [0.3] * 5)
    assert constant.slope is None
    assert constant.citl.value == pytest.approx(logit(0.6) - logit(0.3), rel=1e-9)
    assert len(constant.groups) == 1
    assert constant.hosmer_lemeshow.df == 1


def test_three_patients():
    tiny = calibration([0, 1, 0], [0.2, 0.3, 0.6])
    assert tiny.n == 3
    assert tiny.slope.low < tiny.slope.value < tiny.slope.high
    assert tiny.flexible is None


def test_ties_in_p_merge_groups():
    groups = calibration_groups([0, 1, 0, 1, 0, 1], [0.2, 0.2, 0.2, 0.2, 0.7, 0.7])
    assert [g.n for g in groups] == [4, 2]
    assert sum(g.expected for g in groups) == pytest.approx(2.2)


@pytest.mark.parametrize(
    ("y", "p", "error", "what"),
    [
        ([0, 1], [0.0, 0.5], InvalidInputError, "infinite"),
        ([0, 1], [0.2, 1.5], InvalidInputError, "lie in 0"),
        ([0, 1], [0.2, np.nan], InvalidInputError, "missing"),
        (["no", "yes"], [0.2, 0.5], InvalidInputError, "strings"),
        ([0, 1, 1], [0.2, 0.5], InvalidInputError, "shape"),
        ([1, 1], [0.2, 0.5], NotEstimableError, "at least one"),
    ],
)
def test_bad_input_is_refused(y, p, error, what):
    with pytest.raises(error, match=what):
        calibration(y, p)


def test_spiegelhalter_by_its_definition():
    expected = (P * (1 - P)).mean()
    sd = np.sqrt(((1 - 2 * P) ** 2 * P * (1 - P)).sum()) / len(P)
    assert spiegelhalter(Y, P) == pytest.approx((((Y - P) ** 2).mean() - expected) / sd, rel=1e-8)
    with pytest.raises(NotEstimableError, match="variance 0"):
        spiegelhalter([0, 1], [0.5, 0.5])


def test_per_class():
    rng = np.random.default_rng(2)
    p = rng.dirichlet([2, 2, 2], size=150)
    y = (rng.random(150)[:, None] > p.cumsum(axis=1)).sum(axis=1)
    per = calibration_per_class(y, p, ["a", "b", "c"])
    assert per["b"].slope.value == pytest.approx(calibration(y == 1, p[:, 1]).slope.value, rel=1e-12)
    missing = calibration_per_class(np.minimum(y, 1), p, ["a", "b", "c"])
    assert "0 of 150 patients are c" in missing["c"]
    with pytest.raises(InvalidInputError, match="positions"):
        calibration_per_class(["a"] * 150, p, ["a", "b", "c"])
    with pytest.raises(InvalidInputError, match="shape"):
        calibration_per_class(y, p, ["a", "b"])


@pytest.mark.full
def test_wald_intervals_cover():
    rng = np.random.default_rng(3)
    hits = np.zeros(2)
    for _ in range(300):
        lp = rng.normal(size=90)
        one = calibration(rng.random(90) < expit(0.2 + 0.8 * lp), expit(lp))
        hits += [one.slope.low < 0.8 < one.slope.high, one.intercept.low < 0.2 < one.intercept.high]
    assert (hits / 300 > 0.91).all()
    assert (hits / 300 < 0.99).all()
