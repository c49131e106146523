"""AUC(t), Brier(t) and their standard errors against riskRegression, and against plain binary measures."""

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
from osml.evaluation.ipcw import auc_at, brier_at, compare_at, integrated_brier
from osml.evaluation.kaplan_meier import kaplan_meier

REFERENCE = Path(__file__).parents[1] / "reference" / "r"


@pytest.fixture(scope="module", params=("untied", "tied", "coarse"))
def sample(request):
    reference = json.loads((REFERENCE / "out" / "survival_ties.json").read_text())[request.param]
    return pd.DataFrame(reference["data"]), reference


def row(table, **keys):
    rows = [r for r in table if all(r[k] == v for k, v in keys.items())]
    assert len(rows) == 1
    return rows[0]


@pytest.mark.parametrize("model", ["p", "p2"])
@pytest.mark.parametrize("which", [0, 1])
def test_as_risk_regression(sample, model, which):
    data, reference = sample
    t = reference["horizons"][which]
    auc, r = auc_at(data.time, data.event, data[model], t), row(reference["auc"], model=model, times=t)
    assert_allclose([auc.value, auc.se, auc.low], [r["AUC"], r["se"], r["lower"]], rtol=1e-10)
    assert auc.high == pytest.approx(min(r["upper"], 1.0), rel=1e-10)
    brier, r = brier_at(data.time, data.event, data[model], t), row(reference["brier"], model=model, times=t)
    got = [brier.value, brier.se, brier.low, brier.high, brier.scaled]
    assert_allclose(got, [r["Brier"], r["se"], r["lower"], r["upper"], r["IPA"]], rtol=1e-10)
    null = row(reference["brier"], model="Null model", times=t)
    assert brier.null == pytest.approx(null["Brier"], rel=1e-10)
    assert brier.cases + brier.controls + brier.censored == len(data)


@pytest.mark.parametrize("which", [0, 1])
def test_paired_difference_as_risk_regression(sample, which):
    data, reference = sample
    t = reference["horizons"][which]
    for measure, table, column in (
        (auc_at, "auc_contrast", "delta.AUC"),
        (brier_at, "brier_contrast", "delta.Brier"),
    ):
        r = row(reference[table], model="p2", reference="p", times=t)
        d = compare_at(measure(data.time, data.event, data.p2, t), measure(data.time, data.event, data.p, t))
        got, wanted = [d.difference, d.se, d.low, d.high, d.p], [r[column], r["se"], r["lower"], r["upper"], r["p"]]
        assert_allclose(got, wanted, rtol=1e-9)


def test_censoring_curve_by_hand():
    # Times 1 event, 2 event and censoring together, 3 censored, 4 event: at 2 one of three leaves by the event first.
    g = fit_censoring([1, 2, 2, 3, 4], [1, 1, 0, 0, 1])
    assert_allclose(g.at([1, 2, 3, 4]), [1, 2 / 3, 1 / 3, 1 / 3])
    assert_allclose(g.before([1, 2, 3, 4]), [1, 1, 2 / 3, 1 / 3])
    assert g.at([5.0])[0] == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 6)), min_size=4, max_size=25), st.integers(2, 8))
def test_without_censoring_these_are_the_binary_measures(rows, horizon):
    time, score = np.array(rows, dtype=float).T
    y = time <= horizon
    assume(0 < y.sum() < len(y))
    ones, p = np.ones(len(y)), score / 6
    brier = brier_at(time, ones, p, horizon)
    assert brier.value == pytest.approx(np.mean((y - p) ** 2), abs=1e-12)
    assert brier.null == pytest.approx(np.mean(y) * (1 - np.mean(y)), abs=1e-12)
    assert brier.se == pytest.approx(np.std((y - p) ** 2, ddof=1) / np.sqrt(len(y)), abs=1e-12)
    wins = np.mean((score[y][:, None] > score[~y]) + 0.5 * (score[y][:, None] == score[~y]))
    auc = auc_at(time, ones, score, horizon)
    assert auc.value == pytest.approx(wins, abs=1e-12)
    assert auc_at(time, ones, 3 * score + 1, horizon).value == pytest.approx(wins, abs=1e-12)
    assert auc_at(time, ones, -score, horizon).value == pytest.approx(1 - wins, abs=1e-12)


def test_weights_bring_back_what_censoring_took():
    rng = np.random.default_rng(0)
    n = 40_000
    x = rng.normal(size=n)
    t, c = rng.exponential(np.exp(-x)), rng.exponential(2.0, n)
    p = 1 - np.exp(-np.exp(x))
    full_auc, full_brier = auc_at(t, np.ones(n), x, 1.0), brier_at(t, np.ones(n), p, 1.0)
    time, event = np.minimum(t, c), t <= c
    auc, brier = auc_at(time, event, x, 1.0), brier_at(time, event, p, 1.0)
    assert abs(auc.value - full_auc.value) < 3 * auc.se
    assert abs(brier.value - full_brier.value) < 3 * brier.se


def test_integrated_brier_is_the_trapezoid_and_equals_a_constant():
    rng = np.random.default_rng(1)
    t, event = rng.exponential(size=200), rng.random(200) < 0.7
    grid = np.array([0.2, 0.5, 1.0])
    p = 1 - np.exp(-np.outer(np.exp(rng.normal(size=200) / 3), grid))
    each = [brier_at(t, event, p[:, k], h) for k, h in enumerate(grid)]
    whole = integrated_brier(t, event, p, grid)
    wanted = (0.3 * (each[0].value + each[1].value) / 2 + 0.5 * (each[1].value + each[2].value) / 2) / 0.8
    assert whole.value == pytest.approx(wanted, rel=1e-12)
    assert min(e.se for e in each) * 0.5 < whole.se < max(e.se for e in each)
    null = 1 - kaplan_meier(t, event).at(grid)
    assert integrated_brier(t, event, np.tile(null, (200, 1)), grid).scaled == pytest.approx(0, abs=1e-12)
    told = integrated_brier(t, event, p, grid, null_risk=null)
    assert (told.null, told.scaled) == pytest.approx((whole.null, whole.scaled), rel=1e-12)


def test_clusters_of_copies_keep_the_standard_error():
    rng = np.random.default_rng(2)
    t, event, x = rng.exponential(size=60), rng.random(60) < 0.7, rng.random(60)
    groups = np.tile(np.arange(60), 3)
    once = auc_at(t, event, x, 0.7, censoring=fit_censoring(t, event))
    thrice = auc_at(np.tile(t, 3), np.tile(event, 3), np.tile(x, 3), 0.7, groups, fit_censoring(t, event))
    assert thrice.value == pytest.approx(once.value, rel=1e-12)
    assert thrice.se == pytest.approx(once.se, rel=1e-12)
    b1 = brier_at(t, event, x, 0.7)
    b3 = brier_at(np.tile(t, 3), np.tile(event, 3), np.tile(x, 3), 0.7, groups)
    assert b3.value == pytest.approx(b1.value, rel=1e-12)
    assert b3.se == pytest.approx(b1.se, rel=0.02)  # ties among copies move the censoring term a little


def test_censoring_of_the_population_serves_a_small_fold():
    population = fit_censoring([1, 2, 3, 4, 5, 6], [1, 0, 1, 0, 1, 0])
    fold = [1, 3, 6], [1, 1, 0], [0.9, 0.5, 0.2]
    brier = brier_at(*fold, 3.0, censoring=population, null_risk=0.4)
    g = population.before([1.0, 3.0]).tolist() + population.at([3.0]).tolist()
    wanted = np.mean(np.array([0.1, 0.5, 0.2]) ** 2 / np.array(g))
    assert brier.value == pytest.approx(wanted, rel=1e-12)
    assert brier.null == pytest.approx(np.mean(np.array([0.6, 0.6, 0.4]) ** 2 / np.array(g)), rel=1e-12)


def test_constant_score_and_perfect_score():
    t, event = [1, 2, 3, 4, 5], [1, 1, 0, 1, 0]
    assert auc_at(t, event, np.ones(5), 2.5).value == 0.5
    perfect = auc_at(t, event, [5, 4, 3, 2, 1], 2.5)
    assert (perfect.value, perfect.se, perfect.high) == (1, 0, 1)


def test_undefined_weights_are_not_estimable_and_never_infinite():
    time, event, p = [1, 2, 3, 4], [1, 0, 1, 0], [0.9, 0.5, 0.5, 0.1]
    with pytest.raises(NotEstimableError, match="no event by then"):
        auc_at(time, event, p, 0.5)
    with pytest.raises(NotEstimableError, match="no patient is followed beyond"):
        auc_at(time, event, p, 4)
    short = fit_censoring([1, 2, 3], [1, 1, 0])
    with pytest.raises(NotEstimableError, match=r"not estimable at 3\.5"):
        brier_at(time, event, p, 3.5, censoring=short)
    with pytest.raises(NotEstimableError, match="null model is exact"):
        brier_at([1, 2, 3], [1, 1, 1], [0.5, 0.5, 0.5], 3)
    with pytest.raises(NotEstimableError, match="at least two"):
        brier_at(time, event, p, 2.5, groups=[1, 1, 1, 1])


def test_bad_input_is_refused():
    time, event, p = [1, 2, 3, 4], [1, 0, 1, 0], [0.9, 0.5, 0.5, 0.1]
    with pytest.raises(InvalidInputError, match="probabilit"):
        brier_at(time, event, [2, 0, 0, 0], 2.5)
    with pytest.raises(InvalidInputError, match="null_risk"):
        brier_at(time, event, p, 2.5, null_risk=3)
    with pytest.raises(InvalidInputError, match="horizon"):
        auc_at(time, event, p, 0)
    with pytest.raises(InvalidInputError, match="one column per horizon"):
        integrated_brier(time, event, np.ones((4, 3)), [1, 2])
    with pytest.raises(InvalidInputError, match="increasing"):
        integrated_brier(time, event, np.ones((4, 2)), [2, 2])
    with pytest.raises(InvalidInputError, match="one kind"):
        compare_at(auc_at(time, event, p, 2.5), brier_at(time, event, p, 2.5))
    with pytest.raises(InvalidInputError, match="patients"):
        compare_at(auc_at(time, event, p, 2.5), auc_at([*time, 5], [*event, 0], [*p, 0.2], 2.5))
    with pytest.raises(NotEstimableError, match="no variance"):
        compare_at(auc_at(time, event, p, 2.5), auc_at(time, event, p, 2.5))
