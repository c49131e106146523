"""Intraclass correlations against psych::ICC 2.2.9 (`lmer = FALSE`), and what must hold for any readings."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.icc import icc, icc_all, icc_features

REFERENCE = Path(__file__).parents[1] / "reference" / "r"
EXPECTED = json.loads((REFERENCE / "out" / "g1_icc.json").read_text())
MODELS = ("1,1", "2,1", "3,1", "1,k", "2,k", "3,k")


def table(name):
    return pd.read_csv(REFERENCE / "data" / f"{name}.csv")


def cases():
    first, second = table("icc_reader1_synthetic"), table("icc_reader2_synthetic")
    yield table("shrout_fleiss1979")[["J1", "J2", "J3", "J4"]].to_numpy(), EXPECTED["shrout_fleiss"]
    yield table("immer")[["Y1", "Y2"]].to_numpy(), EXPECTED["immer"]
    for name in first:
        yield np.column_stack([first[name], second[name]]), EXPECTED["synthetic_two_readers"][name]


@pytest.mark.parametrize("ratings, expected", list(cases()))
def test_all_forms_match_psych(ratings, expected):
    results = icc_all(ratings)
    assert tuple(results) == MODELS
    for i, model in enumerate(MODELS):
        r = results[model]
        for name, key in (("value", "ICC"), ("f", "F"), ("p", "p"), ("low", "lower"), ("high", "upper")):
            assert getattr(r, name) == pytest.approx(expected[key][i], rel=1e-10), (model, name)
        assert (r.df1, r.df2) == (expected["df1"][i], expected["df2"][i])
        assert r.level == 0.95


@pytest.mark.parametrize("model", MODELS)
def test_features_equal_one_at_a_time(model):
    first, second = table("icc_reader1_synthetic"), table("icc_reader2_synthetic")
    many = icc_features(first, second, model, level=0.9)
    for j, name in enumerate(first):
        one = icc(np.column_stack([first[name], second[name]]), model, level=0.9)
        for field in ("value", "low", "high", "f", "p"):
            assert getattr(many, field)[j] == pytest.approx(getattr(one, field), rel=1e-12)


def test_perfect_agreement_is_one_without_uncertainty():
    for model in MODELS:
        r = icc([[1.1, 1.1], [2.3, 2.3], [4.7, 4.7]], model)
        assert (r.value, r.low, r.high, r.p) == (1.0, 1.0, 1.0, 0.0)
        assert r.f == np.inf


def test_constant_shift_between_raters_breaks_agreement_but_not_consistency():
    x = np.array([[1.0, 2], [2, 3], [4, 5]])
    assert icc(x, "3,1").value == 1.0
    # By hand: between targets 14/3, raters 3/2, residual 0: (14/3) / (14/3 + 2 * 1.5 / 3) = 14/17.
    assert icc(x, "2,1").value == pytest.approx(14 / 17, rel=1e-14)
    near = icc(x + np.array([[0.0, 1e-7], [0, -1e-7], [0, 0]]), "2,1")
    assert icc(x, "2,1").low == pytest.approx(near.low, rel=1e-5)
    assert icc(x, "2,1").high == pytest.approx(near.high, rel=1e-5)


def test_no_variation_is_not_estimable():
    with pytest.raises(NotEstimableError, match="all 6 readings are equal"):
        icc([[3.1, 3.1], [3.1, 3.1], [3.1, 3.1]])
    features = icc_features([[1.0, 5], [2, 5], [4, 5]], [[1.0, 5], [3, 5], [4, 5]])
    assert np.isnan(features.value).tolist() == [False, True]


@pytest.mark.parametrize(
    "ratings, message",
    [
        ([[1, 2], [3, np.nan], [4, 5]], "1 missing or infinite"),
        ([[1, 2, 3]], "at least 2 rows"),
        ([[1], [2], [3]], "at least 2 rows"),
        ([1, 2, 3], "shape"),
        ([["a", "b"], ["c", "d"]], "must be numbers"),
    ],
)
def test_bad_ratings_are_refused(ratings, message):
    with pytest.raises(InvalidInputError, match=message):
        icc(ratings)


def test_bad_settings_are_refused():
    with pytest.raises(InvalidInputError, match="unknown model '4,1'"):
        icc([[1, 2], [3, 4]], "4,1")
    with pytest.raises(InvalidInputError, match="level"):
        icc([[1, 2], [3, 5]], level=95)
    with pytest.raises(InvalidInputError, match="one shape"):
        icc_features(np.ones((3, 2)), np.ones((4, 2)))


@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, (6, 3), elements=st.integers(-20, 20).map(float)), st.floats(0.1, 50), st.floats(-50, 50))
def test_unit_and_origin_do_not_matter(x, scale, shift):
    try:
        before = icc_all(x)
    except NotEstimableError:
        with pytest.raises(NotEstimableError):
            icc_all(x * scale + shift)
        return
    after = icc_all(x * scale + shift)
    for model in MODELS:
        assert after[model].value == pytest.approx(before[model].value, rel=1e-6, abs=1e-9)
        # Where targets differ less than chance the estimates are negative and the bounds need not enclose them.
        if before[model].f > 1:
            assert before[model].low <= before[model].value + 1e-12
            assert before[model].value <= before[model].high + 1e-12
