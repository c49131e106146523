import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.delong import auc_power, delong, delong_clustered, delong_test, delong_test_unpaired

REFERENCE = Path(__file__).parents[1] / "reference" / "r"
PROC = json.loads((REFERENCE / "out" / "d1_proc_aSAH.json").read_text())
ASAH = pd.read_csv(REFERENCE / "data" / "aSAH.csv")
SCORES = {"s100b": ASAH.s100b, "ndka": ASAH.ndka, "wfns": ASAH.wfns_num, "age": ASAH.age}

# By hand: placements (1, 3/4, 3/4), (1/3, 1, 1, 1) -> 1/144 + 4/144.
# p from pROC roc.test(method="delong", paired=TRUE).
Y = [1, 1, 1, 0, 0, 0, 0]
A = [0.9, 0.7, 0.4, 0.8, 0.3, 0.2, 0.1]
B = [0.6, 0.5, 0.9, 0.7, 0.4, 0.8, 0.3]


def by_placements(y, s, groups):
    """Obuchowski's variance written out over pairs."""
    y, s, groups = np.asarray(y), np.asarray(s, dtype=float), np.asarray(groups)
    wins = (s[y == 1][:, None] > s[y == 0]) + 0.5 * (s[y == 1][:, None] == s[y == 0])
    v10, v01, area = wins.mean(axis=1), wins.mean(axis=0), wins.mean()
    m, n = wins.shape
    ids = np.unique(groups)
    e = np.array([(v10[groups[y == 1] == g] - area).sum() for g in ids])
    c = np.array([(v01[groups[y == 0] == g] - area).sum() for g in ids])
    with_e, with_c = len(set(groups[y == 1])), len(set(groups[y == 0]))
    s10, s01 = with_e / ((with_e - 1) * m) * (e @ e), with_c / ((with_c - 1) * n) * (c @ c)
    s11 = len(ids) / (len(ids) - 1) * (e @ c)
    return s10 / m + s01 / n + 2 * s11 / (m * n)


@pytest.mark.parametrize("name", SCORES)
def test_variance_and_intervals_equal_proc(name):
    ref = PROC["rocs"][name]
    found = delong(ASAH.poor, SCORES[name])
    assert found.value == pytest.approx(ref["auc"], rel=1e-12)
    assert found.variance == pytest.approx(ref["var_delong"], rel=1e-10)
    assert [found.low, found.value, found.high] == pytest.approx(ref["ci_delong"], rel=1e-10)
    narrow = delong(ASAH.poor, SCORES[name], level=0.9)
    assert [narrow.low, narrow.value, narrow.high] == pytest.approx(ref["ci90"], rel=1e-10)
    assert (found.events, found.non_events) == (ref["n_case"], ref["n_control"])


@pytest.mark.parametrize("ref", PROC["delong_paired"], ids=lambda r: f"{r['a']}-{r['b']}")
def test_paired_test_equals_proc(ref):
    found = delong_test(ASAH.poor, SCORES[ref["a"]], SCORES[ref["b"]])
    assert found.z == pytest.approx(ref["z"], rel=1e-10)
    assert found.p_value == pytest.approx(ref["p"], rel=1e-10)
    assert (found.auc_a, found.auc_b) == pytest.approx((ref["auc_a"], ref["auc_b"]), rel=1e-12)
    assert [found.low, found.high] == pytest.approx(ref["diff_ci"], rel=1e-10)
    assert found.covariance == pytest.approx(ref["cov"], rel=1e-10)
    assert stats.norm.cdf(found.z) == pytest.approx(ref["p_less"], rel=1e-10)


def test_unpaired_test_equals_proc():
    ref = PROC["delong_unpaired_s100b_male_vs_female"]
    male, female = ASAH[ASAH.gender == "Male"], ASAH[ASAH.gender == "Female"]
    found = delong_test_unpaired(male.poor, male.s100b, female.poor, female.s100b)
    assert found.auc_1 == pytest.approx(ref["auc_male"], rel=1e-12)
    assert found.auc_2 == pytest.approx(ref["auc_female"], rel=1e-12)
    assert found.t == pytest.approx(ref["D"], rel=1e-10)
    assert found.df == pytest.approx(ref["df"], rel=1e-10)
    assert found.p_value == pytest.approx(ref["p"], rel=1e-10)


def test_power_equals_proc():
    ref = PROC["power_s100b"]["power"]
    assert auc_power(PROC["rocs"]["s100b"]["auc"], 41, 72) == pytest.approx(ref, rel=1e-10)
    assert auc_power(0.501, 41, 72) < 0.05
    with pytest.raises(InvalidInputError, match="between"):
        auc_power(0.5, 41, 72)


def test_by_hand():
    assert delong(Y, A).variance == pytest.approx(5 / 144, rel=1e-12)
    assert delong_test(Y, A, B).p_value == pytest.approx(0.5464935954, rel=1e-9)


def test_ties_as_in_proc_and_clipping():
    ref = PROC["edge_cases"]["ties"]
    found = delong([0, 0, 0, 0, 1, 1, 1, 1], [1, 2, 2, 3, 2, 3, 3, 4])
    assert found.value == pytest.approx(ref["auc"], rel=1e-12)
    assert found.variance == pytest.approx(ref["var"], rel=1e-10)
    assert [found.low, found.value, found.high] == pytest.approx(ref["ci"], rel=1e-10)
    wide = delong([0, 0, 0, 1, 1], [0.1, 0.3, 0.5, 0.4, 0.8])
    assert wide.high == 1.0
    assert wide.value + 1.96 * np.sqrt(wide.variance) > 1


@pytest.mark.parametrize(("scores", "value"), [([1, 2, 3, 4], 1.0), ([4, 3, 2, 1], 0.0), ([7, 7, 7, 7], 0.5)])
def test_zero_variance_has_no_interval(scores, value):
    found = delong([0, 0, 1, 1], scores)
    assert found.value == value
    assert found.variance == 0
    assert found.low is None
    assert found.high is None
    assert "not estimable" in found.reason


def test_single_event_has_a_value_but_no_variance():
    found = delong([0, 0, 1], [0.1, 0.5, 0.3])
    assert found.value == 0.5
    assert found.variance is None
    assert found.low is None
    assert "single patient" in found.reason
    with pytest.raises(NotEstimableError, match="single patient"):
        delong_test([0, 0, 1], [0.1, 0.5, 0.3], [0.2, 0.1, 0.3])


def test_identical_rankings_have_no_p_value():
    with pytest.raises(NotEstimableError, match="variance 0"):
        delong_test(Y, A, np.exp(A))
    with pytest.raises(NotEstimableError, match="variance 0"):
        delong_test_unpaired([0, 0, 1, 1], [1, 2, 3, 4], [0, 0, 1, 1], [1, 2, 3, 4])


@pytest.mark.parametrize("bad", [[0, 1, np.nan, 1, 0, 0, 0], ["good"] * 7, [0, 1, 2, 0, 0, 0, 0]])
def test_bad_labels_are_refused(bad):
    with pytest.raises(InvalidInputError):
        delong(bad, A)
    with pytest.raises(InvalidInputError):
        delong_test(bad, A, B)


def test_bad_scores_and_levels_are_refused():
    with pytest.raises(InvalidInputError, match="score_b"):
        delong_test(Y, A, B[:-1])
    with pytest.raises(InvalidInputError, match="level"):
        delong(Y, A, level=95)
    with pytest.raises(InvalidInputError, match="groups"):
        delong_clustered(Y, A, [1, 2])


rows = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, 5), st.integers(0, 6)), min_size=5, max_size=30
)


@settings(max_examples=80, deadline=None)
@given(rows)
def test_only_ranks_matter_and_order_flips_the_sign(data):
    y, a, b, _ = np.array(data).T
    assume(2 <= y.sum() <= len(y) - 2)
    try:
        ab = delong_test(y, a, b)
    except NotEstimableError:
        wins = [np.sign(s[y == 1][:, None] - s[y == 0]) for s in (a, b)]
        gap = wins[0] - wins[1]
        assert np.ptp(gap.sum(axis=1)) == 0
        assert np.ptp(gap.sum(axis=0)) == 0
        return
    ba = delong_test(y, b, a)
    assert ab.difference == pytest.approx(-ba.difference, abs=1e-14)
    assert ab.p_value == pytest.approx(ba.p_value, rel=1e-9)
    assert delong_test(y, 3 * a + 7, b).p_value == pytest.approx(ab.p_value, rel=1e-12)
    va, vb = delong(y, a).variance, delong(y, b).variance
    assert ab.variance == pytest.approx(va + vb - 2 * ab.covariance, abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(rows)
def test_clustered_variance_by_pairs(data):
    y, s, _, patient = np.array(data).T
    assume(len(set(patient[y == 1])) >= 2)
    assume(len(set(patient[y == 0])) >= 2)
    found = delong_clustered(y, s, patient)
    assert found.variance == pytest.approx(max(by_placements(y, s, patient), 0), abs=1e-12)
    if y.sum() >= 2 and (1 - y).sum() >= 2:
        alone = delong_clustered(y, s, np.arange(len(y)))
        assert alone.variance == pytest.approx(delong(y, s).variance, abs=1e-14)


def test_repeating_every_patient_leaves_the_clustered_variance():
    rng = np.random.default_rng(3)
    y, s = np.repeat([0, 1], 20), rng.normal(size=40).round(1) + np.repeat([0, 1], 20)
    once = delong(y, s)
    thrice = delong_clustered(np.tile(y, 3), np.tile(s, 3), np.tile(np.arange(40), 3))
    assert thrice.value == pytest.approx(once.value, rel=1e-12)
    assert thrice.variance == pytest.approx(once.variance, rel=1e-12)
    assert delong(np.tile(y, 3), np.tile(s, 3)).variance < 0.5 * once.variance


def test_clustered_paired_test():
    rng = np.random.default_rng(4)
    y = np.repeat([0, 1], 30)
    a, b = y + rng.normal(size=60), y + rng.normal(size=60)
    single = delong_test(y, a, b)
    alone = delong_test(y, a, b, groups=np.arange(60))
    doubled = delong_test(np.tile(y, 2), np.tile(a, 2), np.tile(b, 2), groups=np.tile(np.arange(60), 2))
    assert alone.p_value == pytest.approx(single.p_value, rel=1e-10)
    assert doubled.p_value == pytest.approx(single.p_value, rel=1e-10)
    with pytest.raises(NotEstimableError, match="single patient"):
        delong_test(y, a, b, groups=y)


def test_null_distribution_of_the_paired_test():
    rng = np.random.default_rng(5)
    y = np.repeat([0, 1], [60, 40])
    rejected = 0
    for _ in range(400):
        shared = rng.normal(size=100) + y
        rejected += delong_test(y, shared + rng.normal(size=100), shared + rng.normal(size=100)).p_value < 0.05
    assert 0.02 < rejected / 400 < 0.085


@pytest.mark.full
def test_mlstatkit_agrees():
    from MLstatkit import Delong_test

    rng = np.random.default_rng(6)
    y = rng.integers(0, 2, 500)
    a, b = (y + 2 * rng.normal(size=500)).round(1), (y + 2 * rng.normal(size=500)).round(1)
    ours = delong_test(y, a, b)
    theirs = Delong_test(y, a, b)
    assert abs(theirs[0]) == pytest.approx(abs(ours.z), rel=1e-8)
    assert theirs[1] == pytest.approx(ours.p_value, rel=1e-8)
