import numpy as np
import pytest
from numpy.testing import assert_allclose
from stats_reference import birthwt, table

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.logistic import fit_logistic, fit_logistic_batch


def draws():
    drawn = table("birthwt_boot_indices_1based").to_numpy() - 1
    return np.stack([np.bincount(row, minlength=189) for row in drawn])


def test_equals_single_fits():
    X, y = birthwt()
    W = draws()
    coefs, converged = fit_logistic_batch(X, y, W)
    assert converged.all()
    for b in range(0, len(W), 7):
        assert_allclose(coefs[b], fit_logistic(X, y, weights=W[b]).parameters, rtol=1e-10)


def test_columns_that_differ_by_replicate():
    X, y = birthwt()
    W = draws()[:20]
    own = np.stack([X + 0.01 * b for b in range(20)])
    coefs, converged = fit_logistic_batch(own, y, W)
    assert converged.all()
    assert_allclose(coefs[:, 1:], fit_logistic_batch(X, y, W)[0][:, 1:], rtol=1e-9)
    assert_allclose(coefs[5], fit_logistic(own[5], y, weights=W[5]).parameters, rtol=1e-9)


@pytest.mark.parametrize("own", [False, True])
def test_flags_exactly_the_replicates_without_an_estimate(own):
    rng = np.random.default_rng(0)
    n = 60
    X = np.column_stack([rng.normal(size=(n, 2)), np.arange(n) < 4])
    y = (rng.random(n) < 0.3).astype(int)
    y[:4] = [1, 1, 0, 1]
    W = np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(60)])
    W[0] = y
    coefs, converged = fit_logistic_batch(np.repeat(X[None], 60, axis=0) if own else X, y, W)
    assert 5 < converged.sum() < 55
    assert not converged[0]
    for b in range(60):
        if converged[b]:
            assert_allclose(coefs[b], fit_logistic(X, y, weights=W[b]).parameters, rtol=1e-8)
        else:
            assert np.isnan(coefs[b]).all()
            with pytest.raises(NotEstimableError):
                fit_logistic(X, y, weights=W[b])


def test_no_columns_and_fractional_weights():
    W = np.array([[1.0, 2.0, 0.5], [0.0, 1.0, 3.0]])
    coefs, converged = fit_logistic_batch(np.empty((3, 0)), [1, 0, 0], W)
    assert converged.tolist() == [True, False]
    assert coefs[0, 0] == pytest.approx(np.log(1.0 / 2.5), rel=1e-12)


def test_a_column_constant_in_all_rows_flags_all():
    X, y = birthwt()
    coefs, converged = fit_logistic_batch(np.column_stack([X, np.ones(189)]), y, draws()[:3])
    assert not converged.any()
    assert np.isnan(coefs).all()


def test_bad_input_is_refused():
    X, y = birthwt()
    for weights in (np.ones(189), np.ones((2, 188)), -np.ones((2, 189)), np.full((2, 189), np.nan)):
        with pytest.raises(InvalidInputError):
            fit_logistic_batch(X, y, weights)
    with pytest.raises(InvalidInputError, match="X must have shape"):
        fit_logistic_batch(X[:-1], y, np.ones((2, 189)))
    with pytest.raises(InvalidInputError, match="finite"):
        fit_logistic_batch(np.where(X == 1, np.nan, X), y, np.ones((2, 189)))
