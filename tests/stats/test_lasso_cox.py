"""The Cox lasso by its optimality conditions, from a partial likelihood written as loops, and live peers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from stats_reference import lung

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.cox import fit_cox
from osml.stats.lasso_cox import lasso_cox_cv, lasso_cox_path


def partial_likelihood(X, time, event, coef, ties="efron"):
    """Log partial likelihood and its gradient, one death at a time (Therneau & Grambsch 2000, section 3.3)."""
    lp = X @ coef
    value, slope = 0.0, np.zeros(X.shape[1])
    for t in np.unique(time[event]):
        dead, risk = event & (time == t), time >= t
        for k in range(int(dead.sum())):
            share = k / dead.sum() if ties == "efron" else 0.0
            w = np.exp(lp) * (risk - share * dead)
            value -= np.log(w.sum())
            slope -= w @ X / w.sum()
        value += lp[dead].sum()
        slope += X[dead].sum(axis=0)
    return value, slope


def patients(seed, n, p, tied=True):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    time = rng.exponential(np.exp(-X[:, 0] + 0.5 * X[:, -1]))
    return X, np.ceil(time * 6) if tied else time, np.arange(n) % 3 > 0


def violation(X, time, event, path):
    """Largest breach of the optimality conditions along the path, relative to lambda."""
    sd, worst = X.std(axis=0), 0.0
    for lam, coef in zip(path.lambdas, path.coefs, strict=True):
        gradient = partial_likelihood(X, time, event, coef, path.ties)[1] / len(X)
        slope = gradient / sd
        breach = np.where(coef != 0, np.abs(slope - lam * np.sign(coef)), np.maximum(np.abs(slope) - lam, 0))
        worst = max(worst, breach.max() / lam)
    return worst


@settings(max_examples=12)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(12, 30),
    p=st.sampled_from([1, 3, 10, 40]),
    ties=st.sampled_from(["efron", "breslow"]),
    copies=st.booleans(),
)
def test_optimality_conditions_hold_everywhere(seed, n, p, ties, copies):
    X, time, event = patients(seed, n, p)
    if copies:
        X = np.hstack([X, 2 * X[:, :2] + 1])
    path = lasso_cox_path(X, time, event, n_lambdas=6, ties=ties)
    assert violation(X, time, event, path) < 1e-7
    assert np.all(np.diff(path.log_likelihood) >= -1e-9 * abs(path.null_log_likelihood))
    assert path.df[0] == 0
    assert path.df.tolist() == (path.coefs != 0).sum(axis=1).tolist()


def test_likelihoods_are_those_of_the_coefficients():
    X, time, event = patients(1, 30, 4)
    path = lasso_cox_path(X, time, event, n_lambdas=8)
    expected = [partial_likelihood(X, time, event, coef)[0] for coef in path.coefs]
    assert_allclose(path.log_likelihood, expected, rtol=1e-10)
    assert path.null_log_likelihood == pytest.approx(partial_likelihood(X, time, event, np.zeros(4))[0], rel=1e-12)
    assert_allclose(path.lp(X[:3]), X[:3] @ path.coefs.T, rtol=1e-14)


def test_the_ends_of_the_path():
    X, time, event = lung()
    path = lasso_cox_path(X, time, event, lambdas=None, n_lambdas=2)
    gradient = partial_likelihood(X, time, event, np.zeros(4))[1]
    assert path.lambda_max == pytest.approx(np.abs(gradient / X.std(axis=0)).max() / len(X), rel=1e-12)
    assert path.lambdas[1] == pytest.approx(path.lambda_max * 1e-4, rel=1e-12)
    # The distance from the maximum falls with lambda: two penalties extrapolate to none.
    one, two = lasso_cox_path(X, time, event, lambdas=[2e-4, 1e-4]).coefs
    assert_allclose(2 * two - one, fit_cox(X, time, event).coef, rtol=1e-5)


@given(seed=st.integers(0, 10_000), ties=st.sampled_from(["efron", "breslow"]))
@settings(max_examples=10)
def test_weights_are_repeated_rows_and_units_do_not_matter(seed, ties):
    X, time, event = patients(seed, 30, 5)
    w = np.random.default_rng(seed).integers(0, 3, 30)
    w[:6] = 1
    a = lasso_cox_path(X, time, event, n_lambdas=10, weights=w, ties=ties)
    b = lasso_cox_path(np.repeat(X, w, axis=0), np.repeat(time, w), np.repeat(event, w), lambdas=a.lambdas, ties=ties)
    c = lasso_cox_path(X * 100 - 7, time * 12, event, n_lambdas=10, weights=w, ties=ties)
    assert_allclose(a.coefs, b.coefs, rtol=1e-5, atol=1e-7)
    assert_allclose(a.lambdas, c.lambdas, rtol=1e-9)
    assert_allclose(c.coefs * 100, a.coefs, rtol=1e-5, atol=1e-7)


def test_a_constant_column_keeps_0():
    X, time, event = patients(4, 30, 3)
    path = lasso_cox_path(np.column_stack([X, np.full(30, 2.0)]), time, event, n_lambdas=6)
    assert np.all(path.coefs[:, 3] == 0)
    assert_allclose(path.coefs[:, :3], lasso_cox_path(X, time, event, n_lambdas=6).coefs, rtol=1e-6, atol=1e-9)


def test_cross_validation_is_the_likelihood_that_a_fold_adds():
    X, time, event = patients(7, 45, 4)
    fold = np.arange(45) % 4
    cv = lasso_cox_cv(X, time, event, fold, n_lambdas=9)
    scores, events = [], []
    for k in range(4):
        out = fold != k
        fit = lasso_cox_path(X[out], time[out], event[out], cv.path.lambdas)
        gain = [
            partial_likelihood(X, time, event, b)[0] - partial_likelihood(X[out], time[out], event[out], b)[0]
            for b in fit.coefs
        ]
        events.append(event[~out].sum())
        scores.append(-2 * np.array(gain) / events[-1])
    share = np.array(events) / np.sum(events)
    mean = share @ np.array(scores)
    assert_allclose(cv.mean, mean, rtol=1e-10)
    assert_allclose(cv.se, np.sqrt(share @ (np.array(scores) - mean) ** 2 / 3), rtol=1e-9)
    assert cv.index_min == np.argmin(mean)
    assert cv.lambda_1se >= cv.lambda_min
    assert cv.mean[cv.index_1se] <= cv.mean[cv.index_min] + cv.se[cv.index_min]
    assert_allclose(cv.coefficients("min"), cv.path.coefs[cv.index_min])
    assert_allclose(cv.coefficients("1se"), cv.path.coefs[cv.index_1se])


def test_refusals():
    X, time, event = patients(0, 20, 2)
    with pytest.raises(NotEstimableError, match="no events"):
        lasso_cox_path(X, time, np.zeros(20))
    with pytest.raises(NotEstimableError, match="no column of X varies"):
        lasso_cox_path(np.ones((20, 2)), time, event)
    with pytest.raises(InvalidInputError, match="strictly decreasing"):
        lasso_cox_path(X, time, event, lambdas=[0.1, 0.2])
    with pytest.raises(InvalidInputError, match="n_lambdas"):
        lasso_cox_path(X, time, event, n_lambdas=0)
    even = np.arange(20) % 2
    with pytest.raises(NotEstimableError, match="fold 0 of the lasso holds no event"):
        lasso_cox_cv(X, time, even, even, lambdas=[0.1])
    with pytest.raises(NotEstimableError, match="fold 0 of the lasso holds every event"):
        lasso_cox_cv(X, time, 1 - even, even, lambdas=[0.1])
    with pytest.raises(InvalidInputError, match="rule"):
        lasso_cox_cv(X, time, event, even, n_lambdas=3).coefficients("best")


@pytest.mark.full
def test_path_equals_statsmodels():
    from statsmodels.duration.hazard_regression import PHReg

    X, time, event = lung()
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    path = lasso_cox_path(Z, time, event, lambdas=[0.1, 0.03, 0.01], ties="breslow")
    assert path.df[0] < path.df[-1]
    for lam, coef in zip(path.lambdas, path.coefs, strict=True):
        peer = PHReg(time, Z, status=event, ties="breslow").fit_regularized(alpha=lam, L1_wt=1.0, cnvrg_tol=1e-12)
        assert_allclose(coef, peer.params, rtol=1e-5, atol=1e-6)


@pytest.mark.full
def test_path_is_near_lifelines():
    """Near only: lifelines replaces |b| by a smooth function, so its small coefficients are not 0."""
    import pandas as pd
    from lifelines import CoxPHFitter

    X, time, event = lung()
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    frame = pd.DataFrame(Z, columns=list("abcd")).assign(time=time, event=event)
    coef = lasso_cox_path(Z, time, event, lambdas=[0.03]).coefs[0]
    peer = CoxPHFitter(penalizer=0.03, l1_ratio=1.0).fit(frame, "time", "event").params_
    assert_allclose(coef, peer, atol=2e-3)
