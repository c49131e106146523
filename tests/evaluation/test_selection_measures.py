"""Measures that resampling needs many times: equal to their one-at-a-time versions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.censoring import fit_censoring
from osml.evaluation.concordance import concordance_batch, harrell_c
from osml.evaluation.ipcw import brier_at, weights_at
from osml.evaluation.survival_utility import net_benefit_at, net_benefit_batch_at
from osml.evaluation.utility import net_benefit, net_benefit_batch


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_concordance_under_weights_is_that_of_repeated_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 30))
    time, event, score = rng.integers(1, 9, n), rng.random(n) < 0.6, rng.integers(0, 5, n)
    weights = rng.integers(0, 3, (6, n))
    for found, row in zip(concordance_batch(time, event, score, weights), weights, strict=True):
        drawn = np.repeat(np.arange(n), row)
        try:
            expected = harrell_c(time[drawn], event[drawn], score[drawn]).value
        except (NotEstimableError, InvalidInputError):  # no pair, or nobody drawn
            expected = np.nan
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_concordance_in_blocks_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    time, event, score, weights = rng.random(40) + 1, rng.random(40) < 0.7, rng.random(40), rng.random((3, 40))
    whole = concordance_batch(time, event, score, weights)
    monkeypatch.setattr("osml.evaluation.concordance._BLOCK", 7)
    np.testing.assert_allclose(concordance_batch(time, event, score, weights), whole, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_weighted_mean_of_squares_is_the_brier_score(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 40
    time, event, risk = rng.integers(1, 30, n).astype(float), rng.random(n) < 0.6, rng.random(n)
    time[:2], event[:2] = [3.0, 40.0], [True, False]
    censoring = fit_censoring(time, event)
    weights = weights_at(time, event, 12.0, censoring)
    squares = (((time <= 12) & event) - risk) ** 2
    expected = brier_at(time, event, risk, 12.0, censoring=censoring).value
    np.testing.assert_allclose(np.mean(weights * squares), expected, rtol=1e-12)
    assert (weights[(time <= 12) & ~event] == 0).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_net_benefit_under_weights_is_that_of_repeated_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, cuts = 30, [0.2, 0.5]
    y, p = np.arange(n) % 2, rng.random(n)
    time, event = rng.integers(1, 30, n).astype(float), rng.random(n) < 0.7
    time[:2], event[:2] = [2.0, 40.0], [True, False]
    weights = rng.integers(0, 3, (5, n))
    weights[:, :2] = 1
    for found, at, row in zip(
        net_benefit_batch(y, p, cuts, weights),
        net_benefit_batch_at(time, event, p, 12.0, cuts, weights),
        weights,
        strict=True,
    ):
        drawn = np.repeat(np.arange(n), row)
        np.testing.assert_allclose(found, net_benefit(y[drawn], p[drawn], cuts).model, rtol=1e-12)
        expected = net_benefit_at(time[drawn], event[drawn], p[drawn], 12.0, cuts).model
        np.testing.assert_allclose(at, expected, rtol=1e-12)


def test_net_benefit_of_one_class_does_not_exist() -> None:
    assert np.isnan(net_benefit_batch([1, 0], [0.3, 0.4], [0.2], [[1, 0]])).all()
    with pytest.raises(InvalidInputError, match="weights have shape"):
        net_benefit_batch([1, 0], [0.3, 0.4], [0.2], [[1, -1]])
    with pytest.raises(InvalidInputError, match="weights have shape"):
        net_benefit_batch_at([1, 2], [1, 0], [0.3, 0.4], 1.5, [0.2], [[1, 0, 0]])
