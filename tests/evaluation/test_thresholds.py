import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from osml.errors import InvalidInputError
from osml.evaluation.thresholds import confusion, proportion

REFERENCE = Path(__file__).parents[1] / "reference" / "r"
PROC = json.loads((REFERENCE / "out" / "d1_proc_aSAH.json").read_text())
ASAH = pd.read_csv(REFERENCE / "data" / "aSAH.csv")
SCORES = {"s100b": ASAH.s100b, "ndka": ASAH.ndka, "wfns": ASAH.wfns_num, "age": ASAH.age}


@pytest.mark.parametrize("name", SCORES)
def test_counts_and_shares_at_the_youden_threshold(name):
    ref = PROC["rocs"][name]["best_youden"]
    at = confusion(ASAH.poor, SCORES[name], ref["threshold"])
    assert (at.tp, at.tn, at.fp, at.fn) == (ref["tp"], ref["tn"], ref["fp"], ref["fn"])
    for share in ("accuracy", "sensitivity", "specificity", "ppv", "npv"):
        assert getattr(at, share).value == pytest.approx(ref[share], rel=1e-12)
    assert at.balanced_accuracy == pytest.approx((ref["sensitivity"] + ref["specificity"]) / 2, rel=1e-12)
    harmonic = 2 / (1 / ref["ppv"] + 1 / ref["sensitivity"])
    assert at.f1 == pytest.approx(harmonic, rel=1e-12)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("method", ["wilson", "exact"])
def test_intervals_equal_binconf(name, method):
    ref = PROC["rocs"][name]
    at = confusion(ASAH.poor, SCORES[name], ref["best_youden"]["threshold"], method=method)
    for mine, theirs in ((at.sensitivity, f"sens_{method}"), (at.specificity, f"spec_{method}")):
        assert [mine.value, mine.low, mine.high] == pytest.approx(ref[theirs], rel=1e-10)


def test_single_success_and_single_failure_as_binconf():
    assert proportion(1, 34).low == pytest.approx(0.00150862630551619, rel=1e-12)
    assert proportion(33, 34).high == pytest.approx(1 - 0.00150862630551619, rel=1e-12)
    assert proportion(0, 33).low == 0.0
    assert proportion(0, 33).high == pytest.approx(0.104269997542452, rel=1e-12)
    assert proportion(33, 33).high == 1.0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.data())
def test_exact_limits_solve_the_binomial_tails(n, data):
    k = data.draw(st.integers(0, n))
    found = proportion(k, n, method="exact", level=0.9)
    assert 0 <= found.low <= k / n <= found.high <= 1
    if k:
        assert stats.binom.sf(k - 1, n, found.low) == pytest.approx(0.05, rel=1e-6)
    if k < n:
        assert stats.binom.cdf(k, n, found.high) == pytest.approx(0.05, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 300), st.data())
def test_wilson_limits_invert_the_score_test(n, data):
    k = data.draw(st.integers(2, n - 2))
    found = proportion(k, n)
    z = stats.norm.isf(0.025)
    for limit in (found.low, found.high):
        assert abs(k / n - limit) == pytest.approx(z * np.sqrt(limit * (1 - limit) / n), rel=1e-9)
    other = proportion(n - k, n)
    assert other.low == pytest.approx(1 - found.high, abs=1e-12)


def test_threshold_is_inclusive():
    at = confusion([0, 1], [0.5, 0.5], 0.5)
    assert (at.tp, at.fp) == (1, 1)
    assert confusion([0, 1], [0.5, 0.5], np.nextafter(0.5, 1)).tp == 0


def test_empty_denominators_are_none():
    at = confusion([0, 0, 0], [0.1, 0.2, 0.3], 0.9)
    assert at.sensitivity.value is None
    assert at.sensitivity.low is None
    assert at.ppv.value is None
    assert at.balanced_accuracy is None
    assert at.f1 is None
    assert at.specificity.value == 1.0


def test_bad_input_is_refused():
    with pytest.raises(InvalidInputError, match="NaN"):
        confusion([0, 1], [0, 1], np.nan)
    with pytest.raises(InvalidInputError, match="strings"):
        confusion(["no", "yes"], [0, 1], 0.5)
    with pytest.raises(InvalidInputError, match="method"):
        proportion(1, 2, method="wald")
    with pytest.raises(InvalidInputError, match="successes"):
        proportion(3, 2)
