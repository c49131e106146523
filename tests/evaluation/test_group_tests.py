"""Mann-Whitney, Kruskal-Wallis, t-tests, analysis of variance and Shapiro-Wilk against R 4.2.2 and scipy."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.group_tests import anova, kruskal_wallis, mann_whitney, shapiro, t_test

REFERENCE = Path(__file__).parents[1] / "reference" / "r"
EXPECTED = json.loads((REFERENCE / "out" / "g2_table1_tests.json").read_text())
# The data of "small_sample" are not in a file; five and six values with one decimal are fixed by their summaries.
SMALL = ([0.4, 1.1, 2.3, 3.7, 5.9], [2.2, 4.4, 6.6, 7.1, 8.8, 9.3])


def studies():
    pbc = pd.read_csv(REFERENCE / "data" / "pbc.csv").dropna(subset="trt")
    frames = {
        "birthwt_by_low": (pd.read_csv(REFERENCE / "data" / "birthwt.csv"), "low", (0, 1)),
        "aSAH_by_poor": (pd.read_csv(REFERENCE / "data" / "aSAH.csv"), "poor", (0, 1)),
        "pbc_by_trt": (pbc, "trt", (1, 2)),
    }
    for study, (frame, by, (first, second)) in frames.items():
        for name, expected in EXPECTED[study].items():
            if "welch" in expected:
                x, y = (frame.loc[frame[by] == level, name].dropna().to_numpy() for level in (first, second))
                yield pytest.param(x, y, expected, id=f"{study}-{name}")
    yield pytest.param(*map(np.array, SMALL), EXPECTED["small_sample"], id="small_sample")


def close(value, expected):
    return value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("x, y, expected", list(studies()))
def test_all_match_r(x, y, expected):
    for sample, key in ((x, "g0"), (y, "g1")):
        assert sample.size == expected[key]["n"]
        assert close(sample.mean(), expected[key]["mean"])
        assert close(sample.std(ddof=1), expected[key]["sd"])
    for sample, key in ((x, "shapiro0"), (y, "shapiro1")):
        assert close(shapiro(sample).w, expected[key]["W"])
        assert close(shapiro(sample).p, expected[key]["p"])
    welch = t_test(x, y)
    assert close([welch.t, welch.df, welch.p], [expected["welch"][k] for k in ("t", "df", "p")])
    assert close([welch.low, welch.high], expected["welch"]["ci"])
    student = t_test(x, y, equal_variances=True)
    assert close([student.t, student.df, student.p], [expected["student"][k] for k in ("t", "df", "p")])
    default = mann_whitney(x, y)
    assert default.u == expected["mannwhitney_default"]["W"]
    assert close(default.p, expected["mannwhitney_default"]["p"])
    assert close(mann_whitney(x, y, exact=False).p, expected["mannwhitney_normal_correction_p"])
    assert close(mann_whitney(x, y, exact=False, correct=False).p, expected["mannwhitney_normal_nocorrection_p"])
    assert close(kruskal_wallis([x, y]).p, expected["kruskal_p"])


def test_exact_below_fifty_without_ties_only():
    x = np.arange(49.0)
    assert mann_whitney(x, x + 0.5).method == "exact"
    assert mann_whitney(np.arange(50.0), x + 0.5).method == "normal"
    assert mann_whitney(x, x).method == "normal"
    with pytest.raises(InvalidInputError, match="tied"):
        mann_whitney(x, x, exact=True)


@pytest.mark.parametrize("n, m", [(1, 1), (1, 6), (3, 4), (5, 5)])
def test_exact_distribution_by_enumeration(n, m):
    ranks = np.arange(n + m)
    every = [sum(c) - n * (n - 1) / 2 for c in combinations(range(n + m), n)]
    for chosen in combinations(range(n + m), n):
        x, y = ranks[list(chosen)], np.delete(ranks, chosen)
        u = sum(chosen) - n * (n - 1) / 2
        tail = min(np.mean(np.array(every) <= u), np.mean(np.array(every) >= u))
        result = mann_whitney(x, y)
        assert result.u == u
        assert result.p == pytest.approx(min(1, 2 * tail), rel=1e-12)


def test_exact_against_scipy_at_the_largest_size():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=49), rng.normal(0.8, 1, size=48)
    assert mann_whitney(x, y).p == pytest.approx(stats.mannwhitneyu(x, y, method="exact").pvalue, rel=1e-10)


def test_shapiro_sizes_and_ties():
    rng = np.random.default_rng(1)
    for n in (3, 4, 5, 6, 7, 11, 12, 50, 5000):
        x = rng.normal(size=n) ** 2
        assert shapiro(x).w == pytest.approx(stats.shapiro(x).statistic, abs=1e-7)
        assert shapiro(x).p == pytest.approx(stats.shapiro(x).pvalue, rel=1e-5, abs=1e-12)
        assert shapiro(1e6 + 3 * x).p == pytest.approx(shapiro(x).p, rel=1e-4, abs=1e-12)
    # Three values: W of equal spacing is 1.
    assert shapiro([1, 2, 3]).p == pytest.approx(1.0, abs=1e-6)
    assert 0.05 < shapiro([0, 0, 0, 1, 1, 1]).p + 0.05 < 0.1


def test_more_than_two_groups():
    rng = np.random.default_rng(2)
    groups = [rng.normal(m, s, n).round(1) for m, s, n in ((0, 1, 20), (0.4, 2, 33), (0.9, 0.5, 11))]
    h = stats.kruskal(*groups)
    assert close([kruskal_wallis(groups).h, kruskal_wallis(groups).p], [h.statistic, h.pvalue])
    f = stats.f_oneway(*groups)
    classic = anova(groups, equal_variances=True)
    assert close([classic.f, classic.p], [f.statistic, f.pvalue])
    assert kruskal_wallis(groups).df == classic.df1 == 2


@pytest.mark.full
def test_welch_anova_matches_statsmodels():
    from statsmodels.stats.oneway import anova_oneway

    rng = np.random.default_rng(2)
    groups = [rng.normal(m, s, n) for m, s, n in ((0, 1, 20), (0.4, 2, 33), (0.9, 0.5, 11), (0.2, 3, 4))]
    welch = anova(groups)
    reference = anova_oneway(groups, use_var="unequal", welch_correction=True)
    assert close([welch.f, welch.p, welch.df2], [reference.statistic, reference.pvalue, reference.df[1]])


def test_welch_anova_by_hand():
    """Three groups of 3 with variances 1, 4, 1, means 2, 4, 8: weights 3, 3/4, 3 and grand mean 33/6.75."""
    groups = [[1, 2, 3], [2, 4, 6], [7, 8, 9]]
    w, m = np.array([3, 0.75, 3]), np.array([2, 4, 8.0])
    centre = (w * m).sum() / w.sum()
    lack = (((1 - w / w.sum()) ** 2) / 2).sum()
    f = (w * (m - centre) ** 2).sum() / 2 / (1 + 2 * 1 / 8 * lack)
    result = anova(groups)
    assert close([result.f, result.df1, result.df2], [f, 2, 8 / (3 * lack)])
    assert close(result.p, stats.f.sf(f, 2, 8 / (3 * lack)))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(-20, 20), min_size=3, max_size=12, unique=True),
    st.lists(st.integers(-20, 20), min_size=3, max_size=12, unique=True),
)
def test_two_groups_are_the_special_case_and_order_does_not_matter(x, y):
    forward, backward = mann_whitney(x, y), mann_whitney(y, x)
    assert forward.p == pytest.approx(backward.p, rel=1e-12)
    assert forward.u + backward.u == len(x) * len(y)
    assert mann_whitney(np.exp(np.array(x) / 10), np.exp(np.array(y) / 10)).p == pytest.approx(forward.p, rel=1e-12)
    normal = mann_whitney(x, y, exact=False, correct=False)
    assert kruskal_wallis([x, y]).p == pytest.approx(normal.p, rel=1e-8)
    t = t_test(x, y)
    assert anova([x, y]).p == pytest.approx(t.p, rel=1e-8, abs=1e-300)
    assert anova([x, y]).f == pytest.approx(t.t**2, rel=1e-9, abs=1e-12)
    assert t.low <= t.difference <= t.high


def test_undefined_tests_are_refused():
    with pytest.raises(NotEstimableError, match="all 4 values are equal"):
        mann_whitney([1, 1], [1, 1])
    with pytest.raises(NotEstimableError, match="all 4 values are equal"):
        kruskal_wallis([[1, 1], [1, 1]])
    with pytest.raises(NotEstimableError, match="do not vary"):
        t_test([0.1, 0.1, 0.1], [0.3, 0.3])
    with pytest.raises(NotEstimableError, match="do not vary"):
        anova([[1, 1, 1], [1, 2, 3]])
    with pytest.raises(NotEstimableError, match="at least 2 values"):
        t_test([1], [1, 2])
    with pytest.raises(NotEstimableError, match="3 to 5,000"):
        shapiro([1, 2])
    with pytest.raises(NotEstimableError, match="3 to 5,000"):
        shapiro(np.arange(5001))
    with pytest.raises(NotEstimableError, match="do not vary"):
        shapiro([0.1] * 7)


@pytest.mark.parametrize("call", [lambda v: mann_whitney(v, [1, 2]), lambda v: t_test([1, 2], v), shapiro])
@pytest.mark.parametrize(
    "values, message",
    [
        ([1, np.nan, 3], "1 missing"),
        (["a", "b"], "must hold numbers"),
        ([], "non-empty"),
        ([[1], [2]], "one dimension"),
    ],
)
def test_bad_samples_are_refused(call, values, message):
    with pytest.raises(InvalidInputError, match=message):
        call(values)


def test_one_group_is_refused():
    for test in (kruskal_wallis, anova):
        with pytest.raises(InvalidInputError, match="at least 2 groups"):
            test([[1, 2, 3]])
