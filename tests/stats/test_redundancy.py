"""The correlation filter against its definition, one pair at a time, and scipy's rank correlation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import spearmanr

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.redundancy import spearman, uncorrelated


def features(seed, n, p, ties):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4)) @ rng.normal(size=(4, p)) + 0.3 * rng.normal(size=(n, p))
    if ties:
        X = np.round(X)
        X[0], X[1] = -9.0, 9.0
    return X


@given(seed=st.integers(0, 10_000), n=st.integers(4, 40), p=st.integers(2, 12), ties=st.booleans())
def test_rank_correlation_is_that_of_scipy(seed, n, p, ties):
    X = features(seed, n, p, ties)
    own = spearman(X)
    for i in range(p):
        for j in range(i):
            assert own[i, j] == pytest.approx(spearmanr(X[:, i], X[:, j]).statistic, rel=1e-9, abs=1e-12)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    p=st.sampled_from([1, 2, 20, 300]),
    ties=st.booleans(),
    limit=st.sampled_from([0.5, 0.8, 0.9]),
)
def test_what_is_left_is_what_the_definition_leaves(seed, p, ties, limit):
    X = features(seed, 25, p, ties)
    priority = np.random.default_rng(seed + 1).integers(0, 6, p).astype(float)
    rho = np.abs(np.atleast_2d(spearman(X)))
    kept: list[int] = []
    for j in sorted(range(p), key=lambda j: (-priority[j], j)):
        if all(rho[j, k] <= limit + 1e-12 for k in kept):
            kept.append(j)
    assert uncorrelated(X, priority, limit) == tuple(sorted(kept))


def test_the_priority_decides_and_only_the_order_of_patients_counts():
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=40), rng.normal(size=40)
    X = np.column_stack([x, np.exp(x), z, -(z**3)])
    assert uncorrelated(X, [1, 2, 3, 4]) == (1, 3)
    assert uncorrelated(X, [2, 1, 4, 3]) == (0, 2)
    assert uncorrelated(X, [[0.9, 1], [0.9, 5], [0.8, 9], [0.9, 0]]) == (1, 3)
    assert uncorrelated(X, [np.nan, 0, -np.inf, np.nan]) == (1, 2)
    assert uncorrelated(X, np.zeros(4)) == (0, 2)
    assert uncorrelated(X, np.zeros(4), limit=1.0) == (0, 1, 2, 3)


def test_a_correlation_equal_to_the_limit_stays():
    # Ranks 1..5 and 1, 2, 3, 5, 4: rho = 1 - 6 * 2 / (5 * 24) = 0.9.
    X = np.column_stack([[1.0, 2, 3, 4, 5], [1, 2, 3, 5, 4]])
    assert_allclose(spearman(X)[0, 1], 0.9, rtol=1e-12)
    assert uncorrelated(X, [1, 0], 0.9) == (0, 1)
    assert uncorrelated(X, [1, 0], 0.899) == (0,)


def test_refusals():
    X = np.column_stack([[1.0, 2, 3], [4, 4, 4]])
    with pytest.raises(NotEstimableError, match=r"columns \[1\] of X are constant"):
        uncorrelated(X, [0, 0])
    with pytest.raises(InvalidInputError, match="one entry"):
        uncorrelated(X[:, :1], [0, 0])
    with pytest.raises(InvalidInputError, match=r"limit must lie in \(0, 1\]"):
        uncorrelated(X[:, :1], [0], 0.0)
    with pytest.raises(InvalidInputError, match="missing"):
        spearman([[1.0], [np.nan]])
