import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from stats_reference import result, table

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.splines import rcs_basis, rcs_knots


@pytest.mark.parametrize("k", range(3, 8))
def test_knots_and_basis_equal_rcspline_eval(k):
    expected = result("a5_rcs_basis_lwt")[f"k{k}"]
    x = table("birthwt").lwt.to_numpy(dtype=float)
    knots = rcs_knots(x, k)
    assert_allclose(knots, expected["knots"], rtol=1e-13)
    assert_allclose(rcs_basis(x, knots), expected["basis"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", range(3, 8))
@pytest.mark.parametrize("name", ["floor", "ceiling", "both", "small", "small_floor", "inner", "few", "six"])
def test_knots_of_awkward_vectors(name, k):
    case = result("fitting")["knots"][name]
    expected = case["knots"][f"k{k}"]
    # Below ten values the fifth smallest lies above the fifth largest: R then gives knots of no meaning.
    if len(expected) < k or (len(case["x"]) < 10 and k < 6):
        with pytest.raises(NotEstimableError, match=f"do not give {k} different knots"):
            rcs_knots(case["x"], k)
    else:
        assert_allclose(rcs_knots(case["x"], k), expected, rtol=1e-12)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(3, 7), tied=st.booleans())
def test_weights_equal_repeated_values(seed, k, tied):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=60).round(1 if tied else 9), rng.integers(0, 4, 60)
    assert_allclose(rcs_knots(x, k, weights=w), rcs_knots(np.repeat(x, w), k), rtol=1e-12)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(3, 7), shift=st.floats(-100, 100), scale=st.floats(0.01, 100))
def test_knots_and_basis_follow_units(seed, k, shift, scale):
    x = np.random.default_rng(seed).normal(size=120)
    knots, moved = rcs_knots(x, k), rcs_knots(shift + scale * x, k)
    assert_allclose(moved, shift + scale * knots, rtol=1e-9, atol=1e-9)
    a, b = rcs_basis(x, knots), rcs_basis(shift + scale * x, moved)
    assert_allclose(b[:, 1:], scale * a[:, 1:], rtol=1e-6, atol=1e-6 * scale)


def test_linear_beyond_the_outer_knots():
    knots = np.array([1.0, 2.0, 4.0, 7.0])
    for start in (-5.0, 7.0):
        second = np.diff(rcs_basis(start + np.arange(6.0), knots), n=2, axis=0)
        assert_allclose(second, 0.0, atol=1e-10)
    assert_allclose(rcs_basis([0.0, 1.0], knots)[:, 1:], 0.0, atol=0)


def test_refusals():
    with pytest.raises(InvalidInputError, match="3 to 7 knots"):
        rcs_knots(np.arange(50.0), 2)
    with pytest.raises(InvalidInputError, match="whole-number"):
        rcs_knots(np.arange(50.0), 3, weights=np.full(50, 0.5))
    with pytest.raises(InvalidInputError, match="missing"):
        rcs_knots([1.0, np.nan, 2.0], 3)
    with pytest.raises(NotEstimableError):
        rcs_knots([3.0, 3.0, 3.0], 3)
    with pytest.raises(NotEstimableError, match="2 distinct values"):
        rcs_knots(np.arange(100) % 2, 3)
    for knots in ([1.0, 2.0], [1.0, 1.0, 2.0], [3.0, 2.0, 1.0]):
        with pytest.raises(InvalidInputError, match="increasing"):
            rcs_basis([1.0, 2.0], knots)
    with pytest.raises(InvalidInputError, match="missing"):
        rcs_basis([np.nan], [1.0, 2.0, 3.0])
