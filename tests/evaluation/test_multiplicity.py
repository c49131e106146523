"""Adjusted p-values against p.adjust, and the corrected resampled t-test."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.multiplicity import benjamini_hochberg, bonferroni, holm, nadeau_bengio

EXPECTED = json.loads((Path(__file__).parents[1] / "reference/r/out/g2_table1_tests.json").read_text())["p_adjust"]
METHODS = {"bonferroni": bonferroni, "holm": holm, "BH": benjamini_hochberg}


@pytest.mark.parametrize("name", METHODS)
def test_matches_r(name):
    np.testing.assert_allclose(METHODS[name](EXPECTED["p"]), EXPECTED[name], rtol=1e-10)


@pytest.mark.full
@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_matches_statsmodels(p):
    from statsmodels.stats.multitest import multipletests

    for name, method in METHODS.items():
        expected = multipletests(p, method={"BH": "fdr_bh"}.get(name, name))[1]
        np.testing.assert_allclose(method(p), expected, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_adjusting_never_lowers(p, random):
    for method in METHODS.values():
        adjusted = method(p)
        assert np.all(adjusted >= np.array(p) * (1 - 1e-12))
        order = random.sample(range(len(p)), len(p))
        np.testing.assert_allclose(method(np.array(p)[order]), adjusted[order], rtol=1e-12)
    assert np.all(benjamini_hochberg(p) <= holm(p) + 1e-12)
    assert np.all(holm(p) <= bonferroni(p) + 1e-12)


def test_no_test_and_one_test():
    for method in METHODS.values():
        assert method([]).shape == (0,)
        assert method([0.3]).tolist() == [0.3]


@pytest.mark.parametrize(
    "p, message", [([0.1, np.nan], "1 of 2"), ([1.2], "1 of 1"), ([[0.1]], "one dim"), (["a"], "numbers")]
)
def test_bad_p_values_are_refused(p, message):
    for method in METHODS.values():
        with pytest.raises(InvalidInputError, match=message):
            method(p)


def test_nadeau_bengio_by_hand():
    """Mean 0.03, s² = 0.0005 (four differences), 1/4 + 1/3 = 7/12."""
    d = [0.0, 0.02, 0.05, 0.05]
    s2 = np.var(d, ddof=1)
    r = nadeau_bengio(d, n_train=75, n_test=25)
    assert r.mean == pytest.approx(0.03, rel=1e-12)
    assert r.se == pytest.approx(np.sqrt(7 / 12 * s2), rel=1e-12)
    assert r.t == pytest.approx(0.03 / r.se, rel=1e-12)
    assert r.df == 3
    assert r.p == pytest.approx(2 * stats.t.sf(r.t, 3), rel=1e-12)
    assert [r.low, r.high] == pytest.approx([0.03 - stats.t.ppf(0.975, 3) * r.se, 0.03 + stats.t.ppf(0.975, 3) * r.se])


def test_nadeau_bengio_tends_to_the_naive_test_without_overlap():
    d = np.random.default_rng(0).normal(0.02, 0.05, 10)
    naive = stats.ttest_1samp(d, 0)
    r = nadeau_bengio(d, n_train=1e12, n_test=1)
    assert [r.t, r.p] == pytest.approx([naive.statistic, naive.pvalue], rel=1e-6)
    assert nadeau_bengio(d, 80, 20).p > r.p
    swapped = nadeau_bengio(-d, 80, 20)
    assert swapped.mean == -nadeau_bengio(d, 80, 20).mean
    assert swapped.p == nadeau_bengio(d, 80, 20).p


def test_nadeau_bengio_refuses():
    with pytest.raises(NotEstimableError, match=r"all 5 differences equal 0\.02"):
        nadeau_bengio([0.02] * 5, 80, 20)
    with pytest.raises(InvalidInputError, match="1 of 3 differences"):
        nadeau_bengio([0.1, np.nan, 0.2], 80, 20)
    with pytest.raises(InvalidInputError, match="at least 2 differences"):
        nadeau_bengio([0.1], 80, 20)
    with pytest.raises(InvalidInputError, match="must be positive"):
        nadeau_bengio([0.1, 0.2], 0, 20)
    with pytest.raises(InvalidInputError, match="level"):
        nadeau_bengio([0.1, 0.2], 80, 20, level=95)
    with pytest.raises(InvalidInputError, match="numbers"):
        nadeau_bengio(["a", "b"], 80, 20)
