import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from stats_reference import birthwt, result

from osml.errors import NotEstimableError
from osml.stats.firth import firth_intervals, fit_firth
from osml.stats.logistic import fit_logistic

DATA = {
    "age_lwt": lambda: (birthwt()[0][:, :2], birthwt()[1]),
    "full": birthwt,
    "separated": lambda: (np.arange(6.0)[:, None], np.arange(6) > 2),
}


@pytest.mark.parametrize("name", list(DATA))
def test_equals_brglm2(name):
    expected = result("a8_firth_brglm2")[name]
    fit = fit_firth(*DATA[name]())
    # brglm2 itself stops at 1e-6 on the separated data.
    assert_allclose(fit.parameters, list(expected["coef"].values()), rtol=1e-6)
    assert_allclose(np.sqrt(np.diag(fit.covariance)), expected["se"], rtol=1e-6)
    assert fit.max_gradient < 1e-8


def test_two_by_two_table_adds_one_half():
    # For a saturated 2 x 2 table Firth's estimate is the log odds ratio with 1/2 added to each cell.
    x, y = np.repeat([0.0, 0, 1], [9, 3, 5]), np.repeat([0, 1, 1], [9, 3, 5])
    fit = fit_firth(x[:, None], y)
    assert fit.coef[0] == pytest.approx(np.log((5.5 / 0.5) / (3.5 / 9.5)), rel=1e-9)
    assert fit.intercept == pytest.approx(np.log(3.5 / 9.5), rel=1e-9)


def test_flic_makes_the_mean_probability_the_event_rate():
    X, y = birthwt()
    fit = fit_firth(X, y)
    p = 1 / (1 + np.exp(-(fit.flic_intercept + X @ fit.coef)))
    assert p.mean() == pytest.approx(y.mean(), rel=1e-12)
    assert 1 / (1 + np.exp(-(fit.intercept + X @ fit.coef))).mean() != pytest.approx(y.mean(), rel=1e-3)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_weights_equal_repeated_rows(seed):
    rng = np.random.default_rng(seed)
    X, y, w = rng.normal(size=(25, 2)), np.arange(25) % 3 == 0, rng.integers(0, 3, 25)
    w[:3] = 1
    a, b = fit_firth(X, y, weights=w), fit_firth(np.repeat(X, w, axis=0), np.repeat(y, w))
    assert_allclose(a.parameters, b.parameters, rtol=1e-7, atol=1e-9)
    assert a.penalised_log_likelihood == pytest.approx(b.penalised_log_likelihood, rel=1e-9)


def test_penalised_likelihood_is_that_of_the_raw_columns():
    X, y = birthwt()
    fit = fit_firth(X, y)
    log_det = -np.linalg.slogdet(fit.covariance)[1]
    assert fit.penalised_log_likelihood == pytest.approx(fit.log_likelihood + 0.5 * log_det, rel=1e-12)


def test_shrinks_towards_zero():
    X, y = birthwt()
    assert np.linalg.norm(fit_firth(X, y).coef * X.std(axis=0)) < np.linalg.norm(
        fit_logistic(X, y).coef * X.std(axis=0)
    )


def test_profile_limits_meet_the_quantile_and_separated_data_have_intervals():
    x, y = np.arange(6.0)[:, None], np.arange(6) > 2
    table = firth_intervals(x, y)
    assert np.all(np.isfinite(table.low) & np.isfinite(table.high))
    assert np.all((table.low < table.estimate) & (table.estimate < table.high))
    assert (table.low[1] > 0) == (table.p_value[1] < 0.05)


def test_intervals_agree_with_the_p_value_at_its_level():
    X, y = DATA["age_lwt"]()
    p = firth_intervals(X, y).p_value
    table = firth_intervals(X, y, level=1 - p[2])
    assert table.high[2] == pytest.approx(0.0, abs=1e-8)


def test_refusals():
    with pytest.raises(NotEstimableError, match="0 events"):
        fit_firth([[1.0], [2.0]], [0, 0])
    with pytest.raises(NotEstimableError, match="dependent"):
        fit_firth(np.column_stack([np.arange(6.0), 2 * np.arange(6.0)]), np.arange(6) > 2)


@pytest.mark.full
def test_intervals_equal_firthmodels():
    from firthmodels import FirthLogisticRegression

    X, y = DATA["age_lwt"]()
    peer = FirthLogisticRegression(max_iter=200, gtol=1e-10, xtol=1e-10).fit(X, y)
    assert_allclose(fit_firth(X, y).coef, peer.coef_, rtol=1e-6)
    expected = peer.conf_int(alpha=0.05, method="pl")
    table = firth_intervals(X, y)
    assert_allclose(table.low[1:], expected[:2, 0], rtol=1e-4)
    assert_allclose(table.high[1:], expected[:2, 1], rtol=1e-4)
