import numpy as np
import pytest
from numpy.testing import assert_allclose
from stats_reference import birthwt

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.logistic import fit_logistic
from osml.stats.ridge import ridge_path, select_ridge


def test_path_equals_single_fits_and_moves_from_full_rank_to_none():
    X, y = birthwt()
    w = np.arange(189) % 3
    grid = [1e-6, 1.0, 50.0, 1e7]
    path = ridge_path(X, y, grid, weights=w)
    for k, ridge in enumerate(grid):
        fit = fit_logistic(X, y, weights=w, ridge=ridge)
        assert_allclose(path.coefs[k], fit.coef, rtol=1e-9, atol=1e-14)
        assert path.intercepts[k] == pytest.approx(fit.intercept, rel=1e-9)
    assert path.effective_df[0] == pytest.approx(8.0, rel=1e-5)
    assert path.effective_df[-1] == pytest.approx(0.0, abs=1e-3)
    assert np.all(np.diff(path.effective_df) < 0)


def test_small_penalty_is_maximum_likelihood():
    X, y = birthwt()
    assert_allclose(ridge_path(X, y, [1e-8]).coefs[0], fit_logistic(X, y).coef, rtol=1e-6)


def test_selection_is_the_lowest_held_out_deviance():
    X, y = birthwt()
    fold = np.random.default_rng(0).permutation(np.arange(189) % 5)
    grid = [0.5, 5.0, 50.0]
    chosen = select_ridge(X, y, fold, grid)
    expected = []
    for ridge in grid:
        loss = 0.0
        for k in range(5):
            fit = fit_logistic(X[fold != k], y[fold != k], ridge=ridge)
            p = 1 / (1 + np.exp(-(fit.intercept + X[fold == k] @ fit.coef)))
            loss -= 2 * np.sum(np.where(y[fold == k] == 1, np.log(p), np.log(1 - p)))
        expected.append(loss / 189)
    assert_allclose(chosen.deviance, expected, rtol=1e-9)
    assert chosen.index == int(np.argmin(expected))
    assert_allclose(chosen.fit.coef, fit_logistic(X, y, ridge=chosen.ridge).coef, rtol=1e-12)


def test_noise_is_shrunken_away_and_the_edge_is_reported():
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(60, 200)), np.arange(60) % 2
    chosen = select_ridge(X, y, np.arange(60) // 2 % 5)
    assert chosen.ridge > 100
    assert select_ridge(X, y, np.arange(60) // 2 % 5, [1e-3, 1e-2]).at_edge


def test_refusals():
    X, y = birthwt()
    for grid in ([], [0.0], [1.0, 1.0], [-1.0]):
        with pytest.raises(InvalidInputError, match="ridges"):
            ridge_path(X, y, grid)
    with pytest.raises(NotEstimableError, match="events among"):
        select_ridge(X, y, y)
    with pytest.raises(InvalidInputError, match="integer codes"):
        select_ridge(X, y, np.linspace(0, 1, 189))
