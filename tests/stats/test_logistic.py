import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from stats_reference import birthwt, result, simulated, table

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.logistic import (
    fit_intercept,
    fit_logistic,
    lr_test,
    profile_interval,
    variance_inflation,
    wald,
    wald_test,
)
from osml.stats.splines import rcs_basis

COLUMNS = {"age": [0], "lwt": [1], "race": [2, 3], "smoke": [4], "ptd": [5], "ht": [6], "ui": [7]}


def values(named):
    return np.array(list(named.values()))


def spline_design():
    X, y = birthwt()
    return np.column_stack([X[:, 0], rcs_basis(X[:, 1], [94.4, 115, 130.2, 188.2]), X[:, 2:]]), y


def limits(X, y, **options):
    found = [profile_interval(X, y, j, **options) for j in [None, *range(X.shape[1])]]
    return [f.low for f in found], [f.high for f in found]


def test_spline_model_equals_lrm():
    expected = result("a1_lrm_birthwt_rcs")["fit"]
    X, y = spline_design()
    fit = fit_logistic(X, y)
    assert_allclose(fit.parameters, values(expected["coef"]), rtol=1e-11)
    assert_allclose(np.sqrt(np.diag(fit.covariance)), values(expected["se"]), rtol=1e-10)
    assert_allclose(fit.covariance, expected["vcov"], rtol=1e-9)
    assert_allclose(fit.lp, expected["lp"], rtol=1e-11)
    assert_allclose(fit.probability, expected["prob"], rtol=1e-11)
    assert_allclose([-2 * fit.null_log_likelihood, -2 * fit.log_likelihood], expected["deviance"], rtol=1e-12)
    assert_allclose(lr_test(fit).statistic, expected["stats"]["Model L.R."], rtol=1e-11)
    assert_allclose(lr_test(fit).p_value, expected["stats"]["P"], rtol=1e-10)
    assert (fit.n, fit.events) == (189, 59)
    assert fit.max_gradient < 1e-8


def test_joint_wald_tests_equal_anova():
    expected = result("a1_lrm_birthwt_rcs")["fit"]["anova"]
    fit = fit_logistic(*spline_design())
    terms = [[0], [1, 2, 3], [2, 3], [4, 5], [6], [7], [8], [9], list(range(10))]
    tests = [wald_test(fit, term) for term in terms]
    assert_allclose([t.statistic for t in tests], expected["chisq"], rtol=1e-9)
    assert_allclose([t.p_value for t in tests], expected["p"], rtol=1e-9)
    assert [t.df for t in tests] == expected["df"]


def test_multivariable_table_equals_glm():
    expected = result("c5_univariate_multivariable_birthwt")
    table, X, y = expected["multivariable"], *birthwt()
    fit = fit_logistic(X, y)
    found = wald(fit)
    assert_allclose(found.estimate, table["beta"], rtol=1e-9)
    # R stops at a relative change of 1e-8 in deviance, so its standard errors hold 8 digits.
    assert_allclose(found.se, table["se"], rtol=1e-8)
    assert_allclose(found.p_value, table["p"], rtol=1e-7)
    assert_allclose(np.exp(found.low), table["wald_lo"], rtol=1e-7)
    assert_allclose(np.exp(found.high), table["wald_hi"], rtol=1e-7)
    low, high = limits(X, y)
    assert_allclose(np.exp(low), table["prof_lo"], rtol=1e-10)
    assert_allclose(np.exp(high), table["prof_hi"], rtol=1e-10)
    assert_allclose([fit.aic, fit.bic, fit.log_likelihood], [expected[k] for k in ("aic", "bic", "loglik")], rtol=1e-12)
    assert_allclose(variance_inflation(fit), values(expected["vif"]), rtol=1e-7)


@pytest.mark.parametrize("row", range(8))
def test_univariable_table_equals_glm(row):
    expected = result("c5_univariate_multivariable_birthwt")["univariate"][row]
    X, y = birthwt()
    ftv = table("birthwt").ftv.to_numpy(dtype=float)[:, None]
    X = X[:, COLUMNS[expected["var"]]] if expected["var"] in COLUMNS else ftv
    fit = fit_logistic(X, y)
    assert_allclose(fit.parameters, expected["beta"], rtol=1e-10)
    # The univariable fits of R end one step earlier: standard errors hold 6 digits there.
    assert_allclose(wald(fit).se, expected["se"], rtol=1e-6)
    assert_allclose(lr_test(fit).statistic, expected["lrt_chisq"], rtol=1e-11)
    assert_allclose(lr_test(fit).p_value, expected["lrt_p"], rtol=1e-11)
    low, high = limits(X, y)
    assert_allclose(np.exp(low), expected["prof_lo"], rtol=1e-8)
    assert_allclose(np.exp(high), expected["prof_hi"], rtol=1e-8)


@pytest.mark.parametrize("weighted", [False, True])
def test_weights_and_offset_equal_glm(weighted):
    X, d = simulated()
    expected = result("fitting")["logistic_repeated" if weighted else "logistic"]
    options = {"weights": d.w if weighted else None, "offset": d.o}
    fit = fit_logistic(X, d.y, **options)
    assert_allclose(fit.parameters, expected["coef"], rtol=1e-11)
    assert_allclose(fit.covariance, expected["vcov"], rtol=1e-7, atol=1e-12)
    assert_allclose([-2 * fit.log_likelihood, -2 * fit.null_log_likelihood], [expected["deviance"], expected["null"]])
    low, high = limits(X, d.y, level=0.9, **options)
    assert_allclose(low, expected["low"], rtol=1e-10)
    assert_allclose(high, expected["high"], rtol=1e-10)


def test_exact_profile_limits_meet_the_quantile():
    X, y = birthwt()
    fit = fit_logistic(X, y)
    found = profile_interval(X, y, 6, exact=True)
    for limit in (found.low, found.high):
        constrained = fit_logistic(np.delete(X, 6, axis=1), y, offset=limit * X[:, 6])
        assert 2 * (fit.log_likelihood - constrained.log_likelihood) == pytest.approx(3.841458820694124, rel=1e-9)
    assert profile_interval(X, y, 6).high == pytest.approx(found.high, rel=1e-3)


def test_lr_test_of_nested_models():
    X, y = birthwt()
    full, reduced = fit_logistic(X, y), fit_logistic(X[:, 1:], y)
    test = lr_test(full, reduced)
    assert test.df == 1
    assert test.statistic == pytest.approx(2 * (full.log_likelihood - reduced.log_likelihood), rel=1e-12)
    with pytest.raises(InvalidInputError, match="not nested"):
        lr_test(reduced, full)
    with pytest.raises(InvalidInputError, match="not nested"):
        lr_test(full, fit_logistic(X[:-1, 1:], y[:-1]))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-6, 1e6), shift=st.floats(-1e4, 1e4))
def test_affine_columns_change_nothing_but_their_coefficient(seed, scale, shift):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(80, 3))
    y = rng.random(80) < 1 / (1 + np.exp(-X[:, 0]))
    a = fit_logistic(X, y)
    b = fit_logistic(X * [scale, 1, 1] + [shift * scale, 0, 0], y)
    assert_allclose(b.coef * [scale, 1, 1], a.coef, rtol=1e-7, atol=1e-9)
    assert_allclose(b.lp, a.lp, rtol=1e-7, atol=1e-7)
    assert b.log_likelihood == pytest.approx(a.log_likelihood, rel=1e-10)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_weights_equal_repeated_rows(seed):
    rng = np.random.default_rng(seed)
    X, w = rng.normal(size=(60, 2)), rng.integers(0, 4, 60)
    y = (rng.random(60) < 0.4).astype(int)
    assume(0 < w @ y < w.sum())
    a, b = fit_logistic(X, y, weights=w), fit_logistic(np.repeat(X, w, axis=0), np.repeat(y, w))
    assert_allclose(a.parameters, b.parameters, rtol=1e-9, atol=1e-12)
    assert_allclose(a.covariance, b.covariance, rtol=1e-9, atol=1e-12)
    assert (a.n, a.events) == (b.n, b.events)
    assert a.log_likelihood == pytest.approx(b.log_likelihood, rel=1e-12)


def test_flipping_labels_flips_signs():
    X, y = birthwt()
    assert_allclose(fit_logistic(X, 1 - y).parameters, -fit_logistic(X, y).parameters, rtol=1e-10)


def test_one_binary_column_is_the_log_odds_ratio():
    x = np.repeat([0.0, 0, 1, 1], [30, 10, 8, 12])
    y = np.repeat([0, 1, 0, 1], [30, 10, 8, 12])
    fit = fit_logistic(x[:, None], y)
    assert fit.coef[0] == pytest.approx(np.log((12 / 8) / (10 / 30)), rel=1e-12)
    assert fit.covariance[1, 1] == pytest.approx(1 / 30 + 1 / 10 + 1 / 8 + 1 / 12, rel=1e-12)


def test_no_columns_is_the_event_rate():
    fit = fit_logistic(np.empty((8, 0)), [1, 0, 0, 0, 0, 0, 1, 0])
    assert fit.intercept == pytest.approx(np.log(2 / 6), rel=1e-12)
    assert fit.log_likelihood == pytest.approx(fit.null_log_likelihood, rel=1e-14)


def test_single_event_with_overlap():
    x, y = np.arange(10.0)[:, None], np.eye(10)[4]
    fit = fit_logistic(x, y)
    assert fit.probability.sum() == pytest.approx(1.0, rel=1e-12)
    assert fit.max_gradient < 1e-8


def test_offset_equal_to_the_fit_leaves_nothing():
    X, y = birthwt()
    fit = fit_logistic(X, y)
    again = fit_logistic(X, y, offset=fit.lp)
    assert_allclose(again.parameters, 0.0, atol=1e-10)
    assert fit_intercept(y, fit.lp) == pytest.approx(0.0, abs=1e-12)


def test_extreme_value_converges():
    rng = np.random.default_rng(3)
    x = np.r_[rng.normal(size=99), 1e4]
    y = np.r_[rng.random(99) < 0.4, False]
    fit = fit_logistic(x[:, None], y)
    assert np.all(np.isfinite(fit.covariance))
    assert abs(np.sum(y - fit.probability)) < 1e-8


def test_ridge_objective_is_at_its_maximum():
    X, y = birthwt()
    fit = fit_logistic(X, y, ridge=3.0)
    sd = X.std(axis=0)
    gradient = ((X - X.mean(axis=0)) / sd).T @ (y - fit.probability) - 3.0 * sd * fit.coef
    assert np.abs(gradient).max() < 1e-8
    assert np.sum(y - fit.probability) == pytest.approx(0.0, abs=1e-8)
    assert np.all(np.abs(fit.coef * sd) < np.abs(fit_logistic(X, y).coef * sd).max())
    with pytest.raises(NotEstimableError, match="ridge penalty"):
        wald(fit)


def test_ridge_handles_more_columns_than_patients_and_separation():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 50)), np.arange(20) % 2
    X[:, 3] = 7.0
    fit = fit_logistic(X, y, ridge=0.5)
    assert fit.coef[3] == 0.0
    assert np.all(np.isfinite(fit.covariance))
    Z = np.delete((X - X.mean(axis=0)) / np.where(X.std(axis=0) > 1e-9, X.std(axis=0), 1), 3, axis=1)
    v = fit.probability * (1 - fit.probability)
    A = np.column_stack([np.ones(20), Z])
    full = np.linalg.inv((A * v[:, None]).T @ A + np.diag(np.r_[0, np.full(49, 0.5)]))
    sd = np.delete(X.std(axis=0), 3)
    keep = np.delete(np.arange(1, 51), 3)
    assert_allclose(fit.covariance[np.ix_(keep, keep)], full[1:, 1:] / np.outer(sd, sd), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("X", "y", "options", "message"),
    [
        (np.ones((3, 1)), ["a", "b", "a"], {}, "strings"),
        (np.ones((3, 1)), np.array(["a", "b", "a"], dtype=object), {}, "holds str"),
        (np.ones((3, 1)), [1, 2, 1], {}, "only 0/1"),
        (np.ones((3, 1)), [1, 0, np.nan], {}, "missing"),
        (np.ones((3, 1)), [1, 0, None], {}, "NoneType"),
        (np.array([[1.0], [np.nan], [2.0]]), [1, 0, 1], {}, "missing"),
        (np.ones(3), [1, 0, 1], {}, "two dimensions"),
        (np.ones((3, 1)), [1, 0], {}, r"shape \(3,\)"),
        (np.ones((3, 1)), [1, 0, 1], {"weights": [1, -1, 1]}, "negative"),
        (np.ones((3, 1)), [1, 0, 1], {"weights": [0, 0, 0]}, "every weight is 0"),
        (np.ones((3, 1)), [1, 0, 1], {"ridge": -1.0}, "ridge"),
        (np.ones((3, 1)), [1, 0, 1], {"offset": [1.0]}, "offset"),
        (np.empty((0, 1)), [], {}, "no rows"),
    ],
)
def test_bad_input_is_refused(X, y, options, message):
    with pytest.raises(InvalidInputError, match=message):
        fit_logistic(X, y, **options)


def test_labels_as_bool_objects_and_ints_are_the_same():
    X, y = birthwt()
    expected = fit_logistic(X, y).coef
    assert_allclose(fit_logistic(X, y == 1).coef, expected, rtol=0)
    assert_allclose(fit_logistic(X, np.array(y == 1, dtype=object)).coef, expected, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: np.column_stack([X, 2 * X[:, 0] - 3]), r"\[0, 3\]"),
        (lambda X: np.column_stack([X, X[:, 0] + X[:, 2]]), r"\[0, 2, 3\]"),
        (lambda X: np.column_stack([X, np.full(len(X), 5.1)]), r"\[3\].*constant"),
        (lambda X: np.column_stack([X, np.random.default_rng(1).normal(size=(len(X), 40))]), "dependent"),
    ],
)
def test_rank_deficiency_names_the_columns(change, message):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 3))
    with pytest.raises(NotEstimableError, match=message):
        fit_logistic(change(X), rng.random(30) < 0.5)


def test_one_class_is_refused():
    with pytest.raises(NotEstimableError, match="0 events among 3"):
        fit_logistic(np.arange(3.0)[:, None], [0, 0, 0])
    with pytest.raises(NotEstimableError, match="2 events among 2"):
        fit_logistic(np.arange(3.0)[:, None], [0, 1, 1], weights=[0, 1, 1])


def test_wald_test_refuses_bad_columns():
    fit = fit_logistic(*birthwt())
    for columns in ([], [0, 0], [8], [-1]):
        with pytest.raises(InvalidInputError):
            wald_test(fit, columns)


@pytest.mark.full
def test_equals_statsmodels():
    import statsmodels.api as sm

    rng = np.random.default_rng(5)
    X = rng.normal(size=(300, 6)) * [1, 10, 100, 0.1, 1, 1] + [0, 50, 1000, 3, 0, 0]
    y = rng.random(300) < 1 / (1 + np.exp(-X[:, 0]))
    peer = sm.Logit(y.astype(float), sm.add_constant(X)).fit(disp=0, tol=1e-14, maxiter=100)
    fit = fit_logistic(X, y)
    assert_allclose(fit.parameters, peer.params, rtol=1e-8)
    assert_allclose(np.sqrt(np.diag(fit.covariance)), peer.bse, rtol=1e-8)
    assert fit.log_likelihood == pytest.approx(peer.llf, rel=1e-12)
