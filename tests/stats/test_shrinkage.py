import numpy as np
import pytest
from numpy.testing import assert_allclose
from stats_reference import birthwt, lung

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.cox import fit_cox, survival
from osml.stats.logistic import fit_logistic, lr_test
from osml.stats.shrinkage import heuristic_shrinkage, shrink_uniform, shrink_uniform_cox


def test_mean_probability_stays_the_event_rate_and_slope_is_undone():
    X, y = birthwt()
    w = 1 + np.arange(189) % 2
    fit = fit_logistic(X, y, weights=w)
    intercept, coef = shrink_uniform(fit, 0.8, X, y, w)
    p = 1 / (1 + np.exp(-(intercept + X @ coef)))
    assert w @ p == pytest.approx(w @ y, rel=1e-12)
    assert_allclose(coef, 0.8 * fit.coef, rtol=1e-15)
    again = fit_logistic((X @ coef)[:, None], y, weights=w)
    assert again.coef[0] == pytest.approx(1 / 0.8, rel=1e-9)


def test_slope_one_changes_nothing():
    X, y = birthwt()
    fit = fit_logistic(X, y)
    intercept, coef = shrink_uniform(fit.coef, 1.0, X, y)
    assert intercept == pytest.approx(fit.intercept, rel=1e-10)
    assert_allclose(coef, fit.coef, rtol=0)


def test_cox_baseline_is_estimated_again():
    X, time, event = lung()
    fit = fit_cox(X, time, event)
    same = shrink_uniform_cox(fit, 1.0, X, time, event)
    assert_allclose(same.baseline.survival, fit.baseline.survival, rtol=1e-12)
    shrunken = shrink_uniform_cox(fit, 0.5, X, time, event)
    lp = (X - shrunken.means) @ shrunken.coef
    assert_allclose(lp, 0.5 * fit.lp, rtol=1e-10, atol=1e-12)
    # Expected events equal observed events only with the new baseline.
    expected = np.exp(lp) * shrunken.baseline.at(time)
    assert expected.sum() == pytest.approx(event.sum(), rel=0.01)
    assert not np.allclose(survival(fit, [0.0], [365]), np.exp(-shrunken.baseline.at([365])))


def test_heuristic():
    fit = fit_logistic(*birthwt())
    assert heuristic_shrinkage(fit) == pytest.approx((37.8382926638902 - 8) / 37.8382926638902, rel=1e-9)
    X, time, event = lung()
    cox = fit_cox(X, time, event)
    assert heuristic_shrinkage(cox) == pytest.approx(1 - 4 / lr_test(cox).statistic, rel=1e-12)


def test_heuristic_is_refused_for_noise():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    X = rng.normal(size=(60, 3))
    X -= X[y == 1].mean(axis=0) * y[:, None] + X[y == 0].mean(axis=0) * (1 - y[:, None])
    with pytest.raises(NotEstimableError, match="degrees of freedom"):
        heuristic_shrinkage(fit_logistic(X, y))


@pytest.mark.parametrize("slope", [0.0, -0.2, np.nan, np.inf])
def test_useless_slope_is_refused(slope):
    X, y = birthwt()
    with pytest.raises(InvalidInputError, match="slope"):
        shrink_uniform(np.ones(8), slope, X, y)
