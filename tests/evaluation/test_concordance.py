"""Harrell's and Uno's C against R's survival and against counting every pair."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.censoring import fit_censoring
from osml.evaluation.concordance import compare_concordance, harrell_c, uno_c

REFERENCE = Path(__file__).parents[1] / "reference" / "r"


@pytest.fixture(scope="module", params=("untied", "tied", "coarse"))
def sample(request):
    reference = json.loads((REFERENCE / "out" / "survival_ties.json").read_text())[request.param]
    return pd.DataFrame(reference["data"]), reference


def count_pairs(time, event, score, weights, pair_weight):
    """Concordant, discordant, tied score, tied time, both tied: every pair, one by one."""
    counts = np.zeros(5)
    for i in range(len(time)):
        for j in range(len(time)):
            w = weights[i] * weights[j] * pair_weight[i]
            if not event[i] or i == j:
                continue
            if time[j] > time[i] or (time[j] == time[i] and not event[j]):
                counts[0 if score[i] > score[j] else 1 if score[i] < score[j] else 2] += w
            elif time[j] == time[i] and j > i:
                counts[3 if score[i] != score[j] else 4] += w
    return counts


def counts_of(c):
    return [c.concordant, c.discordant, c.tied_score, c.tied_time, c.tied_both]


def test_lung():
    reference = json.loads((REFERENCE / "out" / "f1_survival_lung.json").read_text())
    data = pd.read_csv(REFERENCE / "data" / "lung.csv")
    data, r = data[data.row.isin(reference["rows"])], reference["concordance"]
    c = harrell_c(data.time, data.status == 2, reference["lp_centered"])
    assert c.value == pytest.approx(r["harrell"], rel=1e-14)
    assert c.variance == pytest.approx(r["var"], rel=1e-11)
    assert counts_of(c) == list(r["counts"].values())
    u = uno_c(data.time, data.status == 2, reference["lp_centered"])
    assert u.value == pytest.approx(r["uno_ipcw"], rel=1e-12)
    assert u.variance == pytest.approx(r["uno_var"], rel=1e-11)


@pytest.mark.parametrize(
    ("key", "measure", "score", "options"),
    [
        ("harrell", harrell_c, "x2", {}),
        ("harrell_tau", harrell_c, "x", {"tau": True}),
        ("harrell_weights", harrell_c, "x2", {"weights": "real"}),
        ("harrell_cluster", harrell_c, "x2", {"groups": "patient"}),
        ("uno", uno_c, "x2", {}),
        ("uno_tau", uno_c, "x", {"tau": True}),
    ],
)
def test_as_survival_concordance(sample, key, measure, score, options):
    data, reference = sample
    given_options = {k: reference["horizons"][1] if k == "tau" else data[v] for k, v in options.items()}
    c, r = measure(data.time, data.event, data[score], **given_options), reference[key]
    assert c.value == pytest.approx(r["value"], rel=1e-12)
    assert c.variance == pytest.approx(r["variance"], rel=1e-10)
    assert_allclose(counts_of(c), r["counts"], rtol=1e-10)
    assert c.se == pytest.approx(np.sqrt(r["variance"]), rel=1e-10)


def test_paired_difference_as_survival(sample):
    data, reference = sample
    a, b = (harrell_c(data.time, data.event, data[x]) for x in ("x", "x2"))
    d, back = compare_concordance(a, b), compare_concordance(b, a)
    assert d.se**2 == pytest.approx(reference["difference_variance"], rel=1e-10)
    assert d.difference == pytest.approx(a.value - b.value, rel=1e-14)
    assert d.difference == -back.difference
    assert d.p == back.p
    with pytest.raises(NotEstimableError, match="rank the patients alike"):
        compare_concordance(a, harrell_c(data.time, data.event, 2 * data.x + 1))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.booleans(), st.integers(0, 4), st.integers(0, 3)), min_size=3, max_size=20)
)
def test_fast_count_is_the_slow_count(rows):
    time, event, score, weights = np.array(rows, dtype=float).T
    slow = count_pairs(time, event, score, weights, np.ones(len(time)))
    assume(event.any() and weights.any() and slow[:3].sum() > 0)
    c = harrell_c(time, event, score, weights=weights)
    assert_allclose(counts_of(c), slow, atol=1e-9)
    assert c.value == pytest.approx((slow[0] + slow[2] / 2) / slow[:3].sum())
    assert harrell_c(time, event, -score, weights=weights).value == pytest.approx(1 - c.value)
    assert harrell_c(time, event, 3 * score + 7, weights=weights).variance == pytest.approx(c.variance, abs=1e-14)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 8), st.booleans(), st.integers(0, 9)), min_size=4, max_size=20))
def test_uno_weights_each_pair_by_the_squared_inverse_censoring(rows):
    time, event, score = np.array(rows, dtype=float).T
    assume(event.any())
    g = fit_censoring(time, event).before(time)
    w = np.where(event > 0, 1 / np.maximum(g, 1e-300) ** 2, 0)
    slow = count_pairs(time, event, score, np.ones(len(time)), w)
    assume(slow[:3].sum() > 0)
    c = uno_c(time, event, score)
    assert_allclose(counts_of(c), slow, rtol=1e-9, atol=1e-9)


def test_variance_is_the_derivative_in_the_weights():
    rng = np.random.default_rng(3)
    time, event, score = rng.integers(1, 9, 30), rng.random(30) < 0.6, rng.integers(0, 6, 30)
    c, step = harrell_c(time, event, score), 1e-6
    for i in (0, 7, 19):
        w = np.ones(30)
        w[i] += step
        slope = (harrell_c(time, event, score, weights=w).value - c.value) / step
        assert slope == pytest.approx(c.influence[i], abs=1e-6)


def test_one_half_for_a_constant_and_bounds_for_a_perfect_score():
    time, event = [1, 2, 3, 4, 5], [1, 1, 0, 1, 0]
    constant = harrell_c(time, event, np.ones(5))
    assert (constant.value, constant.concordant) == (0.5, 0)
    perfect = harrell_c(time, event, [5, 4, 3, 2, 1])
    assert (perfect.value, perfect.high, perfect.variance) == (1.0, 1.0, 0.0)
    assert harrell_c([1, 2, 3], [0, 1, 0], [1, 2, 1]).value == 1.0


def test_no_comparable_pair_is_refused():
    with pytest.raises(NotEstimableError, match="comparable"):
        harrell_c([1, 2, 3], [0, 0, 1], [1, 2, 3])
    with pytest.raises(NotEstimableError, match="comparable"):
        harrell_c([2, 2, 2], [1, 1, 1], [1, 2, 3])
    with pytest.raises(NotEstimableError, match="comparable"):
        harrell_c([2, 3, 4], [1, 1, 1], [1, 2, 3], tau=1)


def test_bad_input_is_refused():
    with pytest.raises(InvalidInputError, match="score"):
        harrell_c([1, 2, 3], [1, 0, 1], [1, np.nan, 2])
    with pytest.raises(InvalidInputError, match="score"):
        harrell_c([1, 2, 3], [1, 0, 1], ["a", "b", "c"])
    with pytest.raises(InvalidInputError, match="groups"):
        harrell_c([1, 2, 3], [1, 0, 1], [1, 2, 3], groups=[1, 2])
    with pytest.raises(InvalidInputError, match="horizon"):
        harrell_c([1, 2, 3], [1, 0, 1], [1, 2, 3], tau=-1)
    with pytest.raises(NotEstimableError, match="G = 0"):
        uno_c([1, 2, 9], [1, 1, 1], [3, 2, 1], censoring=fit_censoring([1, 2, 3], [1, 1, 0]))
    a, b = harrell_c([1, 2, 3], [1, 1, 1], [1, 2, 3]), harrell_c([1, 2, 3, 4], [1, 1, 1, 1], [1, 2, 3, 4])
    with pytest.raises(InvalidInputError, match="same patients"):
        compare_concordance(a, b)


@pytest.mark.full
def test_lifelines_agrees_on_the_value():
    from lifelines.datasets import load_gbsg2
    from lifelines.utils import concordance_index

    data = load_gbsg2()
    c = harrell_c(data.time, data.cens, data.pnodes)
    assert c.value == pytest.approx(concordance_index(data.time, -data.pnodes, data.cens), rel=1e-12)


@pytest.mark.full
def test_large_samples_are_counted_exactly():
    rng = np.random.default_rng(1)
    n = 20_000
    time, event, score = rng.integers(1, 2000, n), rng.random(n) < 0.3, rng.integers(0, 500, n)
    c = harrell_c(time, event, score)
    t, s = time[event], score[event]
    later = sum(np.sum((time > a) | ((time == a) & ~event)) for a in t)
    won = sum(np.sum(((time > a) | ((time == a) & ~event)) & (score < b)) for a, b in zip(t, s, strict=True))
    assert c.concordant == won
    assert c.concordant + c.discordant + c.tied_score == later
