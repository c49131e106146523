"""mRMR against its definition written as loops; relevance against scipy, scikit-learn and this library's Cox model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import f_oneway

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.logrank import logrank
from osml.stats.cox import fit_cox
from osml.stats.mrmr import f_statistic, mrmr, relevance, score_statistic


def by_definition(X, worth, k):
    """Zhao et al. 2019, FCQ: F / mean |Pearson correlation with the chosen|, one pair at a time."""
    chosen = [int(np.argmax(worth))]
    while len(chosen) < min(k, X.shape[1]):
        scores = {}
        for j in range(X.shape[1]):
            if j not in chosen:
                links = [max(abs(np.corrcoef(X[:, j], X[:, s])[0, 1]), 1e-3) for s in chosen]
                scores[j] = worth[j] / np.mean(links)
        chosen.append(max(scores, key=lambda j: (scores[j], -j)))
    return tuple(chosen)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), n=st.integers(8, 40), p=st.integers(1, 15), k=st.integers(1, 18))
def test_order_is_that_of_the_definition(seed, n, p, k):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)) @ rng.normal(size=(3, p)) + 0.5 * rng.normal(size=(n, p))
    worth = f_statistic(X, np.arange(n) % 2)
    found = mrmr(X, worth, k)
    assert found.columns == by_definition(X, worth, k)
    assert_allclose(found.relevance, worth[list(found.columns)])
    assert_allclose(found.score[1:], found.relevance[1:] / found.redundancy[1:], rtol=1e-12)
    assert np.isnan(found.redundancy[0])


def test_a_copy_of_the_best_column_waits():
    rng = np.random.default_rng(3)
    y = np.arange(60) % 2
    best = y + 0.5 * rng.normal(size=60)
    other = 0.4 * y + rng.normal(size=60)
    X = np.column_stack([best + 0.05 * rng.normal(size=60), best, other])
    worth = f_statistic(X, y)
    assert worth[0] > worth[2]
    order = mrmr(X, worth, 3).columns
    assert order[1] == 2
    assert mrmr(-5 * X + 100, worth, 3).columns == order


def test_ties_go_to_the_lower_column():
    x = np.array([0.0, 1, 2, 3, 4, 5])
    X = np.column_stack([x, -x, 2 * x])
    assert mrmr(X, [1.0, 1.0, 1.0], 3).columns == (0, 1, 2)
    assert mrmr(X, [0.0, np.inf, np.inf], 2).columns == (1, 2)


@given(seed=st.integers(0, 10_000), n=st.integers(3, 40))
def test_f_is_that_of_scipy_and_knows_no_units(seed, n):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3 == 0
    X = rng.normal(size=(n, 4)) + y[:, None] * [0, 1, 2, 5]
    expected = [f_oneway(x[y], x[~y]).statistic for x in X.T]
    if n > 3:
        assert_allclose(f_statistic(X, y), expected, rtol=1e-9)
    assert_allclose(f_statistic(X * -1e6 + 3e7, y), f_statistic(X, y), rtol=1e-6)


def test_f_at_its_ends():
    y = [0, 0, 1, 1]
    X = np.column_stack([[7.0, 7, 7, 7], [1, 1, 2, 2], [1, 2, 1, 2]])
    assert f_statistic(X, y).tolist() == [0.0, np.inf, 0.0]
    assert f_statistic([[0.1], [0.1 + 1e-17], [0.1], [0.1]], y).tolist() == [0.0]


@given(seed=st.integers(0, 10_000))
def test_score_statistic_is_that_of_the_cox_model(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(40, 3)) * [1, 1e3, 1e-3] + [0, 5e3, 1]
    time, event = np.ceil(rng.exponential(size=40) * 8), rng.random(40) < 0.7
    expected = [fit_cox(X[:, [j]], time, event).score_statistic for j in range(3)]
    assert_allclose(score_statistic(X, time, event), expected, rtol=1e-7)


def test_score_statistic_of_two_groups_without_ties_is_the_logrank_test():
    rng = np.random.default_rng(5)
    group, time, event = np.arange(50) % 2, rng.exponential(size=50), rng.random(50) < 0.7
    expected = logrank(time, event, group).chi2
    assert score_statistic(group[:, None], time, event)[0] == pytest.approx(expected, rel=1e-10)


def test_a_column_that_varies_in_no_risk_set_has_no_relevance():
    time, event = [1.0, 2, 3, 4], [0, 1, 1, 1]
    X = np.column_stack([[5.0, 2, 2, 2], [3, 3, 3, 3], [1, 2, 4, 3]])
    found = score_statistic(X, time, event)
    assert found[:2].tolist() == [0.0, 0.0]
    assert found[2] > 0


def test_relevance_reads_the_outcome():
    rng = np.random.default_rng(0)
    X, y, time = rng.normal(size=(30, 3)), np.arange(30) % 2, rng.exponential(size=30)
    assert_allclose(relevance(X, y), f_statistic(X, y))
    assert_allclose(relevance(X, (time, y)), score_statistic(X, time, y))
    with pytest.raises(InvalidInputError, match="tuple"):
        relevance(X, (time, y, y))


def test_refusals():
    X = np.column_stack([[1.0, 2, 3, 5], [1, 1, 1, 1]])
    with pytest.raises(NotEstimableError, match=r"columns \[1\] of X are constant"):
        mrmr(X, [1.0, 1.0], 2)
    with pytest.raises(InvalidInputError, match="relevance must hold 2 numbers"):
        mrmr(X, [1.0, np.nan], 2)
    with pytest.raises(InvalidInputError, match="k must be 1 or more"):
        mrmr(X[:, :1], [1.0], 0)
    with pytest.raises(InvalidInputError, match="no columns"):
        mrmr(X[:, :0], [], 1)
    with pytest.raises(InvalidInputError, match="missing"):
        f_statistic([[1.0], [np.nan], [2.0]], [0, 1, 1])
    with pytest.raises(NotEstimableError):
        f_statistic(X, [1, 1, 1, 1])
    with pytest.raises(NotEstimableError, match="no events"):
        score_statistic(X, [1.0, 2, 3, 4], [0, 0, 0, 0])


@pytest.mark.full
def test_f_equals_scikit_learn():
    from sklearn.feature_selection import f_classif

    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(75, 400)) * rng.lognormal(0, 4, 400), rng.random(75) < 0.4
    assert_allclose(f_statistic(X, y), f_classif(X, y)[0], rtol=1e-8)
