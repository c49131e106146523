import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from osml.errors import NotEstimableError
from osml.stats.logistic import fit_logistic, separation


def separated_by_definition(X, y):
    """Is there b, not 0 on every row, with s_i (1, x_i)'b >= 0? One linear programme per row."""
    A = np.column_stack([np.ones(len(X)), X]) * np.where(y > 0, 1.0, -1.0)[:, None]
    return any(linprog(-row, A_ub=-A, b_ub=np.zeros(len(A)), bounds=[(-1, 1)] * A.shape[1]).fun < -1e-7 for row in A)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_agrees_with_the_definition(data):
    n = data.draw(st.integers(4, 9))
    X = np.array(data.draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=n, max_size=n)), float)
    y = np.array(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    assume(0 < y.sum() < n and np.linalg.matrix_rank(np.column_stack([np.ones(n), X])) == 3)
    found = separation(X, y)
    assert (found.kind != "none") == separated_by_definition(X, y)
    if found.kind == "none":
        assert fit_logistic(X, y).max_gradient < 1e-8
    else:
        assert found.columns
        with pytest.raises(NotEstimableError, match="separated"):
            fit_logistic(X, y)


def test_complete():
    x = np.arange(6.0)[:, None]
    found = separation(x, x[:, 0] > 2)
    assert (found.kind, found.columns, len(found.rows)) == ("complete", (0,), 6)


def test_quasi_by_a_touching_value():
    found = separation([[0.0], [1], [2], [2], [3]], [0, 0, 0, 1, 1])
    assert (found.kind, found.columns, found.rows) == ("quasi", (0,), (0, 1, 4))


def test_all_event_level_that_looks_converged():
    # Three of 93 patients with a level, all of them events: the gradient falls below 1e-8 although no estimate exists.
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=93), np.arange(93) < 3])
    y = rng.random(93) < 0.4
    y[:3] = True
    assert separation(X, y).columns == (1,)
    with pytest.raises(NotEstimableError, match=r"quasi-completely separated: columns \[1\]"):
        fit_logistic(X, y)
    y[0] = False
    assert separation(X, y).kind == "none"


def test_combination_of_columns_is_found():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(60, 3))
    y = X[:, 0] + X[:, 1] > 0
    assert separation(X, y).kind == "complete"
    assert separation(X, np.where(np.arange(60) == 7, ~y, y)).kind == "none"


def test_columns_are_exactly_those_without_a_finite_estimate():
    # Level 2 of a three-level category has no event; the other level and the number keep their estimates.
    rng = np.random.default_rng(2)
    level = np.repeat([0, 1, 2], [30, 30, 10])
    X = np.column_stack([level == 1, level == 2, rng.normal(size=70)]).astype(float)
    y = rng.random(70) < 0.5
    y[level == 2] = False
    found = separation(X, y)
    assert (found.kind, found.columns) == ("quasi", (1,))
    assert found.rows == tuple(np.flatnonzero(level == 2))


@pytest.mark.parametrize("columns", list(itertools.permutations(range(3))))
def test_order_of_columns_does_not_matter(columns):
    rng = np.random.default_rng(4)
    X = np.column_stack([np.arange(40) < 4, rng.normal(size=40), rng.integers(0, 2, 40)]).astype(float)
    y = np.r_[np.ones(4), rng.integers(0, 2, 36)]
    found = separation(X[:, list(columns)], y)
    assert found.kind == "quasi"
    assert found.columns == (columns.index(0),)


def test_weights_of_zero_are_left_out():
    x = np.array([[0.0], [1], [2], [3], [0.5]])
    y = [0, 0, 1, 1, 1]
    assert separation(x, y).kind == "none"
    assert separation(x, y, weights=[1, 1, 1, 1, 0]).kind == "complete"
    with pytest.raises(NotEstimableError, match="separated"):
        fit_logistic(x, y, weights=[1, 1, 1, 1, 0])


def test_three_patients_and_saturated_data():
    assert separation([[0.0], [1.0], [2.0]], [0, 1, 1]).kind == "complete"
    assert separation([[0.0], [1.0], [2.0]], [0, 1, 0]).kind == "none"


def test_scale_of_columns_does_not_matter():
    rng = np.random.default_rng(6)
    X = rng.normal(size=(50, 2))
    y = rng.random(50) < 0.5
    for factor in (1e-8, 1.0, 1e8):
        assert separation(X * factor, y).kind == "none"
        assert separation(X * factor, X[:, 0] > 0).kind == "complete"
