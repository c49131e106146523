"""Axis ranges, ticks and histograms: round, inside the data, nobody's own value."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from osml.errors import InvalidInputError, NotEstimableError
from osml.nomogram import axis_range, category_predictor, number_predictor
from osml.nomogram.ticks import minor_ticks, number_text, probability_ticks, round_ticks, total_ticks


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(12, 600), log=st.booleans(), scale=st.floats(1e-3, 1e4))
def test_at_least_five_patients_at_or_beyond_each_end(seed: int, n: int, log: bool, scale: float) -> None:
    x = np.exp(np.random.default_rng(seed).normal(0, 0.7, n)) * scale
    try:
        r = axis_range(x, log=log)
    except NotEstimableError:
        assert n < 30
        return
    assert x.min() <= r.low < r.high <= x.max()
    assert (x <= r.low).sum() >= 5
    assert (x >= r.high).sum() >= 5
    assert r.share_below == np.mean(x < r.low)
    assert r.share_above == np.mean(x > r.high)
    if n >= 200:
        q = np.quantile(x, [0.01, 0.99])
        assert q[0] <= r.low
        assert r.high <= q[1]


def test_patients_are_counted_not_rows() -> None:
    x = np.concatenate([np.zeros(50), np.linspace(1, 20, 40), np.full(50, 21.0)])
    patients = np.concatenate([np.zeros(50), np.arange(1, 41), np.full(50, 99)])
    assert axis_range(x).low == 0.0
    by_patient = axis_range(x, groups=patients)
    assert by_patient.low > 1.0
    assert by_patient.high < 20.0


def test_ends_are_no_finer_than_the_recorded_decimals() -> None:
    x = np.random.default_rng(0).integers(0, 4, 100)
    r = axis_range(x, decimals=0)
    assert (r.low, r.high) == (0.0, 3.0)


@pytest.mark.parametrize(
    ("x", "kind", "message"),
    [
        ([1.0] * 9, NotEstimableError, "at least 10 patients"),
        ([1.0] * 50, NotEstimableError, "no axis fits"),
        ([1.0, float("nan")] * 10, InvalidInputError, "not finite"),
        (["1"] * 20, InvalidInputError, "1-d array of numbers"),
        (np.ones((20, 2)), InvalidInputError, "1-d array of numbers"),
    ],
)
def test_no_range_from_poor_data(x, kind, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(kind, match=message):
        axis_range(x)


def test_a_log_axis_needs_positive_values() -> None:
    with pytest.raises(InvalidInputError, match="positive"):
        axis_range(np.arange(30.0), log=True)


@settings(max_examples=100, deadline=None)
@given(
    low=st.floats(-1000, 1000),
    span=st.floats(1e-3, 1e4),
    decimals=st.one_of(st.none(), st.integers(0, 3)),
)
def test_ticks_are_inside_round_and_few(low: float, span: float, decimals: int | None) -> None:
    if decimals is not None:
        low, span = round(low, decimals), max(round(span, decimals), 10.0**-decimals)
    high = low + span
    ticks = round_ticks(low, high, decimals=decimals)
    assert ticks[0] == low
    assert ticks[-1] == high
    assert list(ticks) == sorted(set(ticks))
    assert len(ticks) <= 9
    if decimals is None or span >= 8 * 10.0**-decimals:
        assert len(ticks) >= 5
    minor = minor_ticks(ticks, decimals=decimals)
    assert not set(minor) & set(ticks)
    assert all(low < v < high for v in minor)


@settings(max_examples=60, deadline=None)
@given(low=st.floats(1e-3, 1e3), ratio=st.floats(5, 1e6))
def test_log_ticks_stay_on_the_axis(low: float, ratio: float) -> None:
    ticks = round_ticks(low, low * ratio, log=True)
    assert ticks[0] == low
    assert ticks[-1] == low * ratio
    assert all(b > a for a, b in pairwise(ticks))
    assert 3 <= len(ticks) <= 9


@settings(max_examples=60, deadline=None)
@given(p=st.tuples(st.floats(1e-4, 0.9999), st.floats(1e-4, 0.9999)))
def test_probability_ticks_are_attainable(p: tuple[float, float]) -> None:
    low, high = sorted(p)
    if high - low < 1e-3:
        return
    ticks = probability_ticks(low, high)
    assert all(low - 1e-9 <= t <= high + 1e-9 for t in ticks)
    assert len(ticks) >= 2


def test_printed_numbers() -> None:
    assert [number_text(v) for v in (0.1 + 0.2, -3.0, 1e-7, 0.0, 1500.0)] == ["0.3", "−3", "0.0000001", "0", "1500"]
    assert total_ticks(90.0)[0] == 10.0


@settings(max_examples=30, deadline=None)
@given(x=arrays(np.float64, st.integers(20, 300), elements=st.floats(0, 100, width=16)))
def test_no_bar_shows_fewer_than_five_patients(x: np.ndarray) -> None:
    try:
        p = number_predictor("x", x)
    except NotEstimableError:
        assert len(np.unique(x)) < len(x)
        return
    if p.histogram is not None:
        assert min(c for c in p.histogram.counts if c) >= 5
        assert sum(p.histogram.counts) <= len(x)


def test_levels_are_counted_with_their_events() -> None:
    p = category_predictor("g", [0, 0, 1, 1, 1], ("a", "b"), events=[1, 0, 1, 1, 0])
    assert p.level_counts == (2, 3)
    assert p.level_events == (1, 2)
    with pytest.raises(InvalidInputError, match="level positions outside"):
        category_predictor("g", [0, 2], ("a", "b"))
    with pytest.raises(InvalidInputError, match="0 or 1"):
        category_predictor("g", [0, 1], ("a", "b"), events=[1, 2])
