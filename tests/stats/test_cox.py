import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from stats_reference import lung, result, simulated

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.cox import baseline_hazard, fit_cox, survival, survival_interval
from osml.stats.cox_residuals import deviance_residuals, robust_covariance, score_residuals
from osml.stats.inference import lr_test, wald, wald_test


def log_likelihood_by_definition(X, time, event, beta, ties):
    """Sum over event times of the Efron or Breslow terms, written out."""
    total, risk = 0.0, np.exp(X @ beta)
    for t in np.unique(time[event == 1]):
        at, dead = time >= t, (time == t) & (event == 1)
        d = dead.sum()
        total += (X[dead] @ beta).sum()
        for k in range(d):
            total -= np.log(risk[at].sum() - (k / d if ties == "efron" else 0.0) * risk[dead].sum())
    return total


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_equals_coxph_on_lung(ties):
    expected = result("f1_survival_lung")["cox"][ties]
    fit = fit_cox(*lung(), ties=ties)
    found = wald(fit)
    assert_allclose(fit.coef, list(expected["coef"].values()), rtol=1e-12)
    assert_allclose(found.se, expected["se"], rtol=1e-12)
    assert_allclose(found.p_value, expected["p"], rtol=1e-11)
    assert_allclose(np.exp(np.column_stack([found.estimate, found.low, found.high])), expected["hr_ci"], rtol=1e-12)
    assert_allclose([fit.null_log_likelihood, fit.log_likelihood], expected["loglik"], rtol=1e-13)
    assert_allclose([lr_test(fit).statistic, 4, lr_test(fit).p_value], expected["lr"], rtol=1e-10)
    assert_allclose(wald_test(fit, range(4)).p_value, expected["wald"][2], rtol=1e-11)
    assert fit.score_statistic == pytest.approx(expected["score"][0], rel=1e-12)
    assert fit.max_gradient < 1e-8


def test_baseline_and_residuals_equal_survfit():
    expected = result("f1_survival_lung")
    X, time, event = lung()
    fit = fit_cox(X, time, event)
    hazard = expected["basehaz_uncentered"]
    assert_allclose(fit.baseline.at(hazard["time"]) * np.exp(fit.intercept), hazard["hazard"], rtol=1e-12)
    assert_allclose(fit.lp, expected["lp_centered"], rtol=1e-11)
    curves = expected["surv_first5_at"]
    assert_allclose(survival(fit, fit.lp[:5], curves["times"]).T, curves["surv"], rtol=1e-12)
    assert_allclose(fit.martingale_residuals, expected["residuals_martingale"], rtol=1e-10, atol=1e-13)
    assert_allclose(deviance_residuals(fit, event), expected["residuals_deviance"], rtol=1e-10, atol=1e-12)
    robust = np.sqrt(np.diag(robust_covariance(fit, X, time, event)))
    assert_allclose(robust, expected["robust_se"], rtol=1e-12)


def test_equals_cph():
    expected = result("b2_cph_lung")
    X, time, event = lung()
    X = np.column_stack([X[:, 0], X[:, 1] == 2, X[:, 2:]]).astype(float)
    fit = fit_cox(X, time, event)
    assert_allclose(fit.coef, list(expected["coef"].values()), rtol=1e-12)
    assert_allclose(fit.covariance, expected["vcov"], rtol=1e-11)
    assert -fit.intercept == pytest.approx(expected["center"], rel=1e-12)
    assert_allclose([fit.null_log_likelihood, fit.log_likelihood], expected["loglik"], rtol=1e-13)
    stats = expected["stats"]
    assert (fit.n, fit.events) == (stats["Obs"], stats["Events"])
    assert lr_test(fit).statistic == pytest.approx(stats["Model L.R."], rel=1e-11)
    assert fit.score_statistic == pytest.approx(stats["Score"], rel=1e-12)
    assert_allclose(survival(fit, [0.0], [182, 365, 730])[0], list(expected["S0_at_lp0"].values()), rtol=1e-12)
    for days in (182, 365, 730):
        assert_allclose(survival(fit, fit.lp, [days])[:, 0], expected["surv"][f"S_{days}"], rtol=1e-11)
    tests = [wald_test(fit, columns) for columns in ([0], [1], [2], [3], range(4))]
    assert_allclose([t.statistic for t in tests], expected["anova"]["chisq"], rtol=1e-11)
    assert_allclose([t.p_value for t in tests], expected["anova"]["p"], rtol=1e-10)


@pytest.mark.parametrize("name", ["efron", "breslow", "efron_repeated", "breslow_weights"])
def test_heavily_tied_times_weights_and_intervals_equal_coxph(name):
    expected, (X, d) = result("fitting")[name], simulated()
    weights = d.w.to_numpy() if "_" in name else None
    fit = fit_cox(X, d.time, d.event, weights=weights, ties=name.split("_")[0])
    assert_allclose(fit.coef, expected["coef"], rtol=1e-10)
    assert_allclose(fit.covariance, expected["vcov"], rtol=1e-9, atol=1e-13)
    assert_allclose([fit.null_log_likelihood, fit.log_likelihood], expected["loglik"], rtol=1e-12)
    assert fit.score_statistic == pytest.approx(expected["score"], rel=1e-11)
    curve = survival_interval(fit, X[:4], [0.25, 0.5, 1.0])
    assert_allclose(curve.survival.T, expected["surv"], rtol=1e-10)
    assert_allclose(curve.se.T, expected["se"], rtol=1e-10)
    assert_allclose(curve.low.T, expected["low"], rtol=1e-10)
    assert_allclose(curve.high.T, expected["high"], rtol=1e-10)
    rows = np.arange(160) if weights is None else np.repeat(np.arange(160), weights)
    if name == "breslow_weights":
        rows = np.flatnonzero(weights > 0)
    score = score_residuals(fit, X, d.time, d.event, weights=weights)
    assert_allclose(fit.martingale_residuals[rows], expected["martingale"], rtol=1e-9, atol=1e-11)
    assert_allclose(score[rows], expected["score_residuals"], rtol=1e-9, atol=1e-10)
    if expected["robust"] is not None:
        robust = robust_covariance(fit, X, d.time, d.event, weights=weights, groups=d.x3)
        assert_allclose(robust, expected["robust"], rtol=1e-9, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), ties=st.sampled_from(["efron", "breslow"]))
def test_likelihood_by_definition_and_its_maximum(seed, ties):
    rng = np.random.default_rng(seed)
    X, time = rng.normal(size=(40, 2)), rng.integers(1, 8, 40).astype(float)
    event = rng.integers(0, 2, 40)
    event[:4] = 1
    fit = fit_cox(X, time, event, ties=ties)
    best = log_likelihood_by_definition(X, time, event, fit.coef, ties)
    assert fit.log_likelihood == pytest.approx(best, rel=1e-12)
    assert fit.null_log_likelihood == pytest.approx(
        log_likelihood_by_definition(X, time, event, [0, 0], ties), rel=1e-12
    )
    for step in ([1e-3, 0], [-1e-3, 0], [0, 1e-3], [0, -1e-3]):
        assert log_likelihood_by_definition(X, time, event, fit.coef + step, ties) < best


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), ties=st.sampled_from(["efron", "breslow"]))
def test_weights_equal_repeated_rows(seed, ties):
    rng = np.random.default_rng(seed)
    X, time, w = rng.normal(size=(50, 2)), rng.integers(1, 15, 50).astype(float), rng.integers(0, 4, 50)
    event = rng.random(50) < 0.6
    a = fit_cox(X, time, event, weights=w, ties=ties)
    b = fit_cox(np.repeat(X, w, axis=0), np.repeat(time, w), np.repeat(event, w), ties=ties)
    assert_allclose(a.coef, b.coef, rtol=1e-8, atol=1e-11)
    assert_allclose(a.covariance, b.covariance, rtol=1e-8, atol=1e-12)
    assert_allclose(a.baseline.cumulative_hazard, b.baseline.cumulative_hazard, rtol=1e-9)
    assert_allclose(a.means, b.means, rtol=1e-10, atol=1e-13)
    assert_allclose(np.repeat(a.martingale_residuals, w), b.martingale_residuals, rtol=1e-7, atol=1e-10)
    assert np.isnan(a.martingale_residuals[w == 0]).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3))
def test_units_of_time_and_columns_do_not_matter(seed, factor, shift):
    rng = np.random.default_rng(seed)
    X, time = rng.normal(size=(60, 2)), rng.exponential(size=60)
    event = rng.random(60) < 0.7
    a, b = fit_cox(X, time, event), fit_cox(X * factor + shift, time * 7, event)
    assert_allclose(b.coef * factor, a.coef, rtol=1e-7, atol=1e-9)
    assert_allclose(b.lp, a.lp, rtol=1e-6, atol=1e-8)
    assert_allclose(b.baseline.survival, a.baseline.survival, rtol=1e-7)


def test_coefficient_uncertainty_enters_by_the_delta_method():
    X, time, event = lung()
    fit = fit_cox(X, time, event)
    x, days, step = X[7], 365.0, 1e-5

    def hazard(coef):
        base = baseline_hazard((X - fit.means) @ coef, time, event)
        return base.at([days])[0] * np.exp((x - fit.means) @ coef)

    gradient = [(hazard(fit.coef + step * e) - hazard(fit.coef - step * e)) / (2 * step) for e in np.eye(4)]
    gradient = np.array(gradient)
    index = fit.baseline.index([days])[0] - 1
    fixed = np.exp(2 * (x - fit.means) @ fit.coef) * fit.baseline.variance[index]
    curve = survival_interval(fit, x[None], [days])
    expected = curve.survival[0, 0] * np.sqrt(fixed + gradient @ fit.covariance @ gradient)
    assert curve.se[0, 0] == pytest.approx(expected, rel=1e-6)


def test_baseline_hazard_of_a_given_predictor_is_that_of_the_fit():
    X, time, event = lung()
    fit = fit_cox(X, time, event)
    base = baseline_hazard(fit.lp, time, event)
    assert_allclose(base.cumulative_hazard, fit.baseline.cumulative_hazard, rtol=1e-12)
    assert_allclose(base.variance, fit.baseline.variance, rtol=1e-12)


def test_survival_is_a_step_function_known_up_to_the_last_follow_up():
    fit = fit_cox([[1.0], [0], [1], [0], [0], [1]], [2, 3, 3, 5, 7, 9], [1, 1, 1, 0, 1, 0])
    S = survival(fit, [0.0], [0, 1.99, 2, 2.5, 3, 6.9, 7, 9])[0]
    assert S[0] == S[1] == 1.0
    assert S[2] == S[3] < 1.0
    assert S[4] == S[5] > S[6] == S[7]
    for time in (-1, 9.01):
        with pytest.raises(InvalidInputError, match="longest follow-up"):
            survival(fit, [0.0], [time])


def test_no_columns_is_the_nelson_aalen_estimate():
    fit = fit_cox(np.empty((4, 0)), [1, 2, 3, 4], [1, 0, 1, 1], ties="breslow")
    assert_allclose(fit.baseline.cumulative_hazard, np.cumsum([1 / 4, 1 / 2, 1]), rtol=1e-14)
    assert fit.log_likelihood == fit.null_log_likelihood


def test_level_without_events_is_refused_by_name():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=80), np.arange(80) < 8, rng.normal(size=80)]).astype(float)
    time, event = rng.exponential(size=80), rng.random(80) < 0.7
    event[:8] = False
    with pytest.raises(NotEstimableError, match=r"monotone: columns \[1\]"):
        fit_cox(X, time, event)
    event[np.argmin(time[:8])] = True
    assert fit_cox(X, time, event).max_gradient < 1e-8


def test_perfect_ranking_is_refused():
    x = np.arange(12.0)[:, None]
    with pytest.raises(NotEstimableError, match=r"monotone: columns \[0\]"):
        fit_cox(x, 13 - x[:, 0], np.ones(12))
    swapped = 13 - x[:, 0]
    swapped[[4, 7]] = swapped[[7, 4]]
    assert np.isfinite(fit_cox(x, swapped, np.ones(12)).coef[0])


def test_single_event():
    x = np.array([[0.3], [1.0], [2.0], [0.1], [1.5]])
    with pytest.raises(NotEstimableError, match="monotone"):
        fit_cox(x, [5, 4, 1, 3, 2], [0, 0, 1, 0, 0])
    fit = fit_cox(x, [5, 1, 2, 3, 4], [0, 1, 0, 0, 0])
    # The maximum over five at risk has the mean of x under exp(lp) at the value of the one who died.
    share = np.exp(x[:, 0] * fit.coef[0])
    assert share @ x[:, 0] / share.sum() == pytest.approx(1.0, rel=1e-9)


def test_column_that_varies_only_outside_the_risk_sets():
    rng = np.random.default_rng(1)
    time, event = np.arange(1.0, 31.0), np.r_[np.zeros(5), np.ones(25)]
    X = np.column_stack([rng.normal(size=30), np.arange(30) == 2]).astype(float)
    with pytest.raises(NotEstimableError, match=r"columns \[1\].*at risk"):
        fit_cox(X, time, event)


def test_ridge_maximises_its_objective_and_has_no_tests():
    X, time, event = lung()
    fit = fit_cox(X, time, event, ridge=20.0)
    sd = X.std(axis=0)
    score = score_residuals(fit, X, time, event).sum(axis=0)
    assert_allclose(score, 20.0 * sd**2 * fit.coef, rtol=1e-8, atol=1e-9)
    with pytest.raises(NotEstimableError, match="ridge"):
        wald(fit)
    with pytest.raises(NotEstimableError, match="penalised"):
        survival_interval(fit, X[:1], [100.0])
    wide = np.random.default_rng(0).normal(size=(213, 300))
    assert np.all(np.isfinite(fit_cox(wide, time, event, ridge=50.0).coef))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"time": [0, 1, 2, 3]}, InvalidInputError, "0 or negative"),
        ({"time": [1, 2, np.nan, 3]}, InvalidInputError, "missing"),
        ({"time": [1, 2, 3]}, InvalidInputError, "event must have shape"),
        ({"event": ["dead", "alive", "dead", "dead"]}, InvalidInputError, "strings"),
        ({"event": [1, 2, 1, 2]}, InvalidInputError, "only 0/1"),
        ({"event": [0, 0, 0, 0]}, NotEstimableError, "no events among 4"),
        ({"X": np.ones((3, 1))}, InvalidInputError, "3 rows"),
        ({"X": np.ones((4, 1))}, NotEstimableError, "constant"),
        ({"weights": [1, 1, 1, 0.5]}, InvalidInputError, "whole-number"),
        ({"weights": [1, 1, -1, 1]}, InvalidInputError, "negative"),
        ({"ties": "exact"}, InvalidInputError, "ties must be"),
        ({"ridge": np.inf}, InvalidInputError, "ridge"),
    ],
)
def test_bad_input_is_refused(change, error, message):
    arguments = {"X": [[0.0], [1], [0], [1]], "time": [1, 2, 3, 4], "event": [1, 1, 1, 1]} | change
    X, time, event = arguments.pop("X"), arguments.pop("time"), arguments.pop("event")
    with pytest.raises(error, match=message):
        fit_cox(X, time, event, **arguments)


@pytest.mark.full
def test_equals_lifelines():
    import pandas as pd
    from lifelines import CoxPHFitter

    rng = np.random.default_rng(4)
    X = rng.normal(size=(250, 4))
    time = np.ceil(10 * rng.exponential(np.exp(-X[:, 0]))) / 10
    event = rng.random(250) < 0.7
    frame = pd.DataFrame(X).assign(time=time, event=event)
    peer = CoxPHFitter().fit(frame, "time", "event", fit_options={"precision": 1e-12})
    fit = fit_cox(X, time, event)
    assert_allclose(fit.coef, peer.params_, rtol=1e-7)
    assert_allclose(np.sqrt(np.diag(fit.covariance)), peer.standard_errors_, rtol=1e-6)
    assert fit.log_likelihood == pytest.approx(peer.log_likelihood_, rel=1e-10)
