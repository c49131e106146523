import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.discrimination import auc
from osml.evaluation.loess import lowess
from osml.evaluation.measures import MEASURES, emax, measures_batch, validation_measures
from osml.evaluation.optimism import calibration_grid, optimism, optimism_logistic
from osml.stats.logistic import fit_intercept, fit_logistic

REFERENCE = Path(__file__).parents[1] / "reference" / "r"
RMS = json.loads((REFERENCE / "out" / "c1_validate_lrm_birthwt.json").read_text())
EXPLICIT = json.loads((REFERENCE / "out" / "c2_bootstrap_explicit.json").read_text())
REPLICATES = pd.read_csv(REFERENCE / "out" / "c2_bootstrap_per_replicate.csv")
DRAWS = pd.read_csv(REFERENCE / "data" / "birthwt_boot_indices_1based.csv", header=None).to_numpy() - 1
RMS_NAMES = dict(zip(RMS["validate_boot_seed20260101"]["measures"], MEASURES[:11], strict=True))
EXPLICIT_NAMES = {
    "auc": "auc",
    "brier": "brier",
    "cal_intercept": "intercept",
    "cal_slope": "slope",
    "citl": "citl",
    "loglik": "log_likelihood",
}


def birthwt():
    d = pd.read_csv(REFERENCE / "data" / "birthwt.csv")
    flags = [d.race == "black", d.race == "other", *(d[c] == "yes" for c in ("smoke", "ptd", "ht", "ui"))]
    return np.column_stack([d.age, d.lwt, *flags]).astype(float), d.low.to_numpy()


X, Y = birthwt()


@pytest.fixture(scope="module")
def explicit():
    return optimism_logistic(X, Y, DRAWS)


@pytest.fixture(scope="module")
def large():
    draws = np.random.default_rng(11).integers(len(Y), size=(1000, len(Y)))
    return optimism_logistic(X, Y, draws, curve_at=RMS["calibrate_boot"]["predy"])


@pytest.mark.parametrize("name", EXPLICIT_NAMES)
def test_every_replicate_equals_r(explicit, name):
    k = MEASURES.index(EXPLICIT_NAMES[name])
    np.testing.assert_allclose(explicit.boot_on_boot[:, k], REPLICATES[f"train_{name}"], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(explicit.boot_on_original[:, k], REPLICATES[f"test_{name}"], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", EXPLICIT_NAMES)
def test_summary_equals_r(explicit, name):
    apparent, corrected = explicit.summary.of(EXPLICIT_NAMES[name])
    k = MEASURES.index(EXPLICIT_NAMES[name])
    assert apparent == pytest.approx(EXPLICIT["apparent"][name], rel=1e-8, abs=1e-10)
    assert explicit.summary.optimism[k] == pytest.approx(EXPLICIT["optimism"][name], rel=1e-8)
    assert corrected == pytest.approx(EXPLICIT["corrected"][name], rel=1e-8)
    assert explicit.summary.used[k] == EXPLICIT["B"]
    assert explicit.summary.failed == 0


@pytest.mark.parametrize("name", RMS_NAMES)
def test_validate_lrm(explicit, large, name):
    table = RMS["validate_boot_seed20260101"]["table"][RMS["validate_boot_seed20260101"]["measures"].index(name)]
    mean, sd = (RMS["corrected_over_20_seeds"][part][name] for part in ("mean", "sd"))
    for found in (explicit, large):
        apparent, corrected = found.summary.of(RMS_NAMES[name])
        assert apparent == pytest.approx(table[0], rel=1e-9, abs=1e-9)
        assert abs(corrected - mean) < 4 * sd
    # The two 1,000-replicate columns average out what 200 leave to chance.
    k = MEASURES.index(RMS_NAMES[name])
    assert abs(large.summary.corrected[k] - mean) < 2 * sd


def test_validation_measures_of_the_fitted_model():
    fit = fit_logistic(X, Y)
    found = validation_measures(Y, fit.lp)
    stats = RMS["stats"]
    assert found.r2 == pytest.approx(stats["R2"], rel=1e-9)
    assert found.brier == pytest.approx(stats["Brier"], rel=1e-9)
    assert found.g == pytest.approx(stats["g"], rel=1e-9)
    assert found.gp == pytest.approx(stats["gp"], rel=1e-9)
    assert found.dxy == pytest.approx(stats["Dxy"], rel=1e-9)
    assert found.d == pytest.approx((stats["Model L.R."] - 1) / 189, rel=1e-9)
    assert found.auc == pytest.approx(stats["C"], rel=1e-9)
    assert found.u == pytest.approx(-2 / 189, rel=1e-9)
    assert found.as_array().tolist() == [getattr(found, name) for name in MEASURES]


def test_val_prob_measures():
    ref = json.loads((REFERENCE / "out" / "c3_valprob_pima_external.json").read_text())
    found, theirs, n = validation_measures(ref["y"], ref["lp"]), ref["val_prob"], len(ref["y"])
    assert found.u == pytest.approx(theirs["U"], rel=1e-9)
    assert found.intercept == pytest.approx(ref["calibration_fit"]["intercept"], rel=1e-9)
    assert found.slope == pytest.approx(ref["calibration_fit"]["slope"], rel=1e-9)
    assert found.citl == pytest.approx(ref["citl"]["est"], rel=1e-9)
    assert found.log_likelihood == pytest.approx(-n * ref["logloss"], rel=1e-12)
    # val.prob takes the likelihood ratio of the predictor as it is; validate.lrm of the recalibrated one.
    assert found.d - theirs["D"] == pytest.approx(theirs["U:Chi-sq"] / n, rel=1e-7)


def test_emax_is_that_of_the_corrected_calibration():
    for table in ("validate_boot_seed20260101", "validate_boot_bw_p0.1", "validate_cv10_seed7"):
        rows = dict(zip(RMS[table]["measures"], RMS[table]["table"], strict=True))
        assert emax(rows["Intercept"][4], rows["Slope"][4]) == pytest.approx(rows["Emax"][4], rel=1e-10)
    assert emax(0, 1) == pytest.approx(0, abs=1e-15)


def test_apparent_calibration_curve_equals_r(large):
    ref = RMS["calibrate_boot"]
    np.testing.assert_allclose(calibration_grid(fit_logistic(X, Y).probability), ref["predy"], rtol=1e-10)
    np.testing.assert_allclose(large.curve.apparent, ref["apparent"], rtol=1e-9)
    smooth = lowess(fit_logistic(X, Y).probability, Y, iterations=0)
    np.testing.assert_allclose(smooth[0], RMS["apparent_lowess"]["x"], rtol=1e-10)
    np.testing.assert_allclose(smooth[1], RMS["apparent_lowess"]["y"], rtol=1e-9, atol=1e-12)
    distance = np.abs(np.array(RMS["apparent_lowess"]["x"]) - smooth[1])
    assert distance.mean() == pytest.approx(RMS["apparent_errors"]["mean_abs"], rel=1e-9)
    assert np.quantile(distance, 0.9) == pytest.approx(RMS["apparent_errors"]["q90"], rel=1e-9)
    assert (distance**2).mean() == pytest.approx(RMS["apparent_errors"]["mean_sq"], rel=1e-9)


def test_corrected_calibration_curve_within_chance_of_r(large):
    ref = np.array(RMS["calibrate_boot"]["corrected"])
    # Chance of 200 replicates, from blocks of 200 of our own.
    rng = np.random.default_rng(12)
    at = RMS["calibrate_boot"]["predy"]
    blocks = [
        optimism_logistic(X, Y, rng.integers(189, size=(200, 189)), curve_at=at).curve.corrected for _ in range(5)
    ]
    sd = np.std(blocks, axis=0, ddof=1).mean()
    assert np.abs(large.curve.corrected - ref).max() < 5 * sd
    assert np.abs(large.curve.corrected - ref).mean() < 2 * sd
    assert large.curve.used[25] == large.summary.used[0] == 1000 - large.summary.failed
    assert (large.curve.used <= large.curve.used[25]).all()


def test_curve_of_one_replicate_by_its_definition():
    at = np.array(RMS["calibrate_boot"]["predy"])[5:-5]
    found = optimism_logistic(X, Y, DRAWS[:1], curve_at=at).curve
    draw = DRAWS[0]
    refit = fit_logistic(X[draw], Y[draw])
    p = expit(refit.intercept + X @ refit.coef)
    own, other = lowess(p[draw], Y[draw], iterations=0), lowess(p, Y, iterations=0)
    gap = np.interp(at, *own) - np.interp(at, *other)
    np.testing.assert_allclose(found.corrected, found.apparent - gap, atol=2e-3)


def test_counts_and_draws_agree(explicit):
    counts = np.stack([np.bincount(row, minlength=len(Y)) for row in DRAWS[:20]])
    by_counts = optimism_logistic(X, Y, counts=counts)
    np.testing.assert_allclose(by_counts.boot_on_boot, explicit.boot_on_boot[:20], rtol=1e-10, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_batch_equals_one_at_a_time(seed):
    rng = np.random.default_rng(seed)
    n, b = 40, 3
    y = rng.integers(2, size=n).astype(float)
    lp = rng.normal(size=(b, n)).round(1) + 0.5 * y
    w = rng.integers(0, 4, size=(b, n)).astype(float)
    rows = measures_batch(y, lp, w)
    for k in range(b):
        times = w[k].astype(int)
        yy, ll = y.repeat(times), lp[k].repeat(times)
        try:
            single = validation_measures(yy, ll)
        except NotEstimableError:
            assert np.isnan(rows[k]).all()
            continue
        np.testing.assert_allclose(rows[k], single.as_array(), rtol=1e-8, atol=1e-10)
        assert single.auc == pytest.approx(auc(yy, ll), abs=1e-12)
        assert single.citl == pytest.approx(fit_intercept(yy, ll), abs=1e-9)
        gaps = np.abs(ll[:, None] - ll)
        assert single.g == pytest.approx(abs(single.slope) * gaps.sum() / (len(ll) * (len(ll) - 1)), rel=1e-7)


@pytest.mark.full
def test_statsmodels_agrees_on_the_recalibration():
    import statsmodels.api as sm

    rng = np.random.default_rng(4)
    lp = rng.normal(size=200)
    y = rng.random(200) < expit(0.3 + 0.7 * lp)
    theirs = sm.Logit(y.astype(float), sm.add_constant(lp)).fit(disp=0, tol=1e-12)
    found = validation_measures(y, lp)
    np.testing.assert_allclose([found.intercept, found.slope], theirs.params, rtol=1e-8)


def test_failed_replicates_are_counted():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(25, 3))
    y = (rng.random(25) < expit(2 * x[:, 0])).astype(int)
    found = optimism_logistic(x, y, rng.integers(25, size=(300, 25)))
    failed = np.isnan(found.coefs[:, 0]).sum()
    assert failed > 0
    assert found.summary.failed >= failed
    assert found.summary.replicates == 300
    assert found.summary.used.max() <= 300 - failed
    assert np.isfinite(found.summary.corrected).all()


def test_generic_combination():
    found = optimism([0.8, 0.2], [[0.9, 0.1], [0.7, np.nan]], [[0.7, 0.2], [0.6, 0.3]], names=("auc", "brier"))
    assert found.optimism == pytest.approx([0.15, -0.1])
    assert found.corrected == pytest.approx([0.65, 0.3])
    assert found.used.tolist() == [2, 1]
    assert found.failed == 1
    assert found.of("auc") == pytest.approx((0.8, 0.65))
    with pytest.raises(InvalidInputError, match="no measure"):
        found.of("slope")


def test_all_replicates_failed():
    with pytest.raises(NotEstimableError, match="all 2 replicates failed for auc"):
        optimism([0.8], [[np.nan], [0.7]], [[0.7], [np.nan]], names=("auc",))


def test_intervals_of_auc_and_slope(explicit):
    corrected = explicit.summary.of("auc")[1]
    assert explicit.auc.value == corrected
    assert explicit.auc.low < corrected < explicit.auc.high < 1
    assert explicit.slope.value == explicit.summary.of("slope")[1]
    assert explicit.slope.low < explicit.slope.value < explicit.slope.high
    narrow = optimism_logistic(X, Y, DRAWS, level=0.5)
    assert narrow.auc.high - narrow.auc.low < 0.4 * (explicit.auc.high - explicit.auc.low)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"draws": [[0, 500]]}, "rows are"),
        ({"draws": [0, 1]}, "shape"),
        ({"draws": [[0.5, 1.0]]}, "integers"),
        ({}, "either"),
        ({"counts": [[1, 2]]}, "counts"),
        ({"counts": np.full((1, len(Y)), 0.5)}, "whole"),
        ({"draws": DRAWS[:2], "y": Y[:-1]}, "rows"),
    ],
)
def test_bad_input_is_refused(change, what):
    call = {"X": X, "y": Y, **change}
    with pytest.raises(InvalidInputError, match=what):
        optimism_logistic(**call)


def test_measures_that_do_not_exist():
    with pytest.raises(NotEstimableError, match="separates"):
        validation_measures([0, 0, 1, 1], [1, 2, 3, 4])
    with pytest.raises(NotEstimableError, match="constant"):
        validation_measures([0, 1, 0, 1], [1, 1, 1, 1])
    with pytest.raises(InvalidInputError, match="do not match"):
        optimism([0.8], [[0.9, 0.1]], [[0.9]], names=("auc",))
    with pytest.raises(NotEstimableError, match="11"):
        calibration_grid([0.1, 0.2])
