"""Kaplan-Meier, log-rank, restricted mean and cumulative incidence against R's survival, and by hand."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.cumulative_incidence import cumulative_incidence
from osml.evaluation.kaplan_meier import (
    kaplan_meier,
    kaplan_meier_by,
    restricted_mean,
    restricted_mean_difference,
)
from osml.evaluation.logrank import logrank
from osml.evaluation.survival import merge_tied_times, number_at_risk

REFERENCE = Path(__file__).parents[1] / "reference" / "r"
SAMPLES = ("untied", "tied", "coarse")


def numbers(values):
    return np.array([[np.nan if v is None else v for v in np.ravel(row)] for row in values], dtype=float).squeeze()


@pytest.fixture(scope="module")
def lung():
    reference = json.loads((REFERENCE / "out" / "f1_survival_lung.json").read_text())
    data = pd.read_csv(REFERENCE / "data" / "lung.csv")
    return data[data.row.isin(reference["rows"])], reference


@pytest.fixture(scope="module", params=SAMPLES)
def sample(request):
    reference = json.loads((REFERENCE / "out" / "survival_ties.json").read_text())[request.param]
    return pd.DataFrame(reference["data"]), reference


outcomes = st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=3, max_size=25).filter(
    lambda rows: any(event for _, event in rows)
)


@pytest.mark.parametrize(("key", "conf"), [("km", "log"), ("km_loglog", "log-log")])
def test_lung_curve(lung, key, conf):
    data, reference = lung
    r = reference[key]
    km = kaplan_meier(data.time, data.status == 2, conf=conf)
    low, high = km.interval_at(r["time"])
    assert_allclose(km.at(r["time"]), r["surv"], rtol=1e-12)
    assert_allclose(km.se_at(r["time"]), r["se"], rtol=1e-12)
    assert_allclose(low, r["lower"], rtol=1e-12)
    assert_allclose(high, r["upper"], rtol=1e-12)
    assert km.at_risk_at(r["time"]).tolist() == r["n_risk"]
    assert number_at_risk(data.time, data.status == 2, r["time"]).tolist() == r["n_risk"]


def test_lung_by_sex_and_median(lung):
    data, reference = lung
    r, curves = reference["km_by_sex"], kaplan_meier_by(data.time, data.status == 2, data.sex)
    at = r["time"][:4]
    assert_allclose(np.concatenate([curves[s].at(at) for s in (1, 2)]), r["surv"], rtol=1e-12)
    assert_allclose(np.concatenate([curves[s].interval_at(at)[0] for s in (1, 2)]), r["lower"], rtol=1e-12)
    assert_allclose(np.concatenate([curves[s].interval_at(at)[1] for s in (1, 2)]), r["upper"], rtol=1e-12)
    assert [curves[s].median().value for s in (1, 2)] == reference["median"]["by_sex"]
    overall = kaplan_meier(data.time, data.status == 2).median()
    assert (overall.value, overall.low, overall.high) == tuple(reference["median"][k] for k in ("overall", "lo", "hi"))


def test_lung_restricted_mean(lung):
    data, reference = lung
    mean = restricted_mean(data.time, data.status == 2, 365)
    assert_allclose([mean.value, mean.se], reference["rmst_365"], rtol=1e-12)


@pytest.mark.parametrize(
    ("key", "column", "rho"), [("logrank_sex", "sex", 0), ("peto_sex", "sex", 1), ("logrank_ecog", "ph.ecog", 0)]
)
def test_lung_logrank(lung, key, column, rho):
    data, reference = lung
    test, r = logrank(data.time, data.status == 2, data[column], rho=rho), reference[key]
    assert test.chi2 == pytest.approx(r["chisq"], rel=1e-11)
    assert test.p == pytest.approx(r["p"], rel=1e-11)
    if "exp" in r:
        assert_allclose(test.expected, r["exp"], rtol=1e-12)
        assert test.observed.tolist() == r["obs"]


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("km", {}),
        ("km_loglog", {"conf": "log-log"}),
        ("km_plain", {"conf": "plain"}),
        ("km_cluster", {"groups": "patient"}),
        ("km_whole", {"weights": "whole"}),
        ("km_real", {"weights": "real"}),
    ],
)
def test_ties_weights_and_clusters_as_survfit(sample, key, options):
    data, reference = sample
    r = reference[key]
    km = kaplan_meier(data.time, data.event, **{k: data.get(v, v) for k, v in options.items()})
    assert km.variance == ("jackknife" if key in ("km_cluster", "km_real") else "greenwood")
    for name in ("times", "at_risk", "survival", "low", "high"):
        assert_allclose(getattr(km, name), numbers(r[name]), rtol=1e-10, err_msg=name)
    left = km.survival > 0  # at 0 survfit prints a standard error of 0 by the jackknife and none by Greenwood
    assert_allclose(km.se[left], numbers(r["se"])[left], rtol=1e-10)
    assert np.isnan(km.se[~left]).all()
    for fraction, name in ((0.5, "median"), (0.25, "quartile")):
        q = km.quantile(fraction)
        assert_allclose([q.value, q.low, q.high], numbers(r[name]), rtol=1e-12)


@pytest.mark.parametrize(
    ("key", "options"), [("plain", {}), ("strata", {"strata": "s"}), ("peto_strata", {"strata": "s", "rho": 0.5})]
)
def test_logrank_with_three_groups_and_strata(sample, key, options):
    data, reference = sample
    r = reference["logrank"][key]
    test = logrank(data.time, data.event, data.g, **{k: data.get(v, v) for k, v in options.items()})
    assert test.chi2 == pytest.approx(r["chi2"], rel=1e-10)
    assert_allclose(test.observed, r["observed"], rtol=1e-12)
    assert_allclose(test.expected, r["expected"], rtol=1e-12)
    assert (test.df, test.labels) == (2, ("a", "b", "c"))


def test_restricted_mean_as_survfit(sample):
    data, reference = sample
    mean = restricted_mean(data.time, data.event, reference["horizons"][1])
    assert_allclose([mean.value, mean.se], reference["rmst"], rtol=1e-12)


def test_cumulative_incidence_as_survfit(sample):
    data, reference = sample
    r, ci = reference["incidence"], cumulative_incidence(data.time, data.cause)
    assert_allclose(ci.times, r["times"])
    assert_allclose(np.vstack([ci.event_free, ci.incidence]).T, r["p"], rtol=1e-12)
    assert_allclose(ci.se.T, numbers(r["se"])[:, 1:], rtol=1e-10)
    assert_allclose(ci.low.T, numbers(r["low"])[:, 1:], rtol=1e-10)
    assert_allclose(ci.high.T, numbers(r["high"])[:, 1:], rtol=1e-10)


@settings(max_examples=50, deadline=None)
@given(outcomes)
def test_jackknife_without_clusters_is_greenwood(rows):
    time, event = np.array(rows, dtype=float).T
    greenwood = kaplan_meier(time, event)
    jackknife = kaplan_meier(time, event, groups=np.arange(len(time)))
    assert jackknife.variance == "jackknife"
    assert_allclose(jackknife.se, greenwood.se, rtol=1e-9, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(outcomes, st.integers(0, 3))
def test_whole_weights_are_repeated_rows(rows, seed):
    time, event = np.array(rows, dtype=float).T
    w = np.random.default_rng(seed).integers(0, 3, len(time))
    w[np.argmax(event)] = 1
    again, once = kaplan_meier(np.repeat(time, w), np.repeat(event, w)), kaplan_meier(time, event, weights=w)
    assert_allclose(once.survival, again.survival)
    assert_allclose(once.se, again.se)


@settings(max_examples=50, deadline=None)
@given(outcomes)
def test_single_cause_incidence_is_one_minus_survival(rows):
    time, event = np.array(rows, dtype=float).T
    km, ci = kaplan_meier(time, event), cumulative_incidence(time, event)
    assert_allclose(1 - ci.incidence[0], km.survival, atol=1e-12)
    positive = km.survival > 1e-9
    assert_allclose(ci.se[0][positive], km.se[positive], atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(outcomes)
def test_restricted_mean_is_the_area_and_without_censoring_the_mean(rows):
    time, _ = np.array(rows, dtype=float).T
    mean = restricted_mean(time, np.ones(len(time)), tau=9)
    assert mean.value == pytest.approx(time.mean(), rel=1e-12)
    assert mean.se == pytest.approx(time.std() / np.sqrt(len(time)), rel=1e-9, abs=1e-12)
    own = restricted_mean(time, np.ones(len(time)), 9, groups=np.arange(len(time)))
    assert own.se == pytest.approx(mean.se, rel=1e-9, abs=1e-12)


def test_difference_of_restricted_means_adds_variances():
    time, group = np.arange(1.0, 13), np.tile(["a", "b"], 6)
    d = restricted_mean_difference(time, np.ones(12), group, tau=12)
    assert d.difference == pytest.approx(time[group == "b"].mean() - time[group == "a"].mean())
    assert d.se == pytest.approx(np.hypot(time[1::2].std(), time[::2].std()) / np.sqrt(6))
    assert d.z == pytest.approx(d.difference / d.se)
    assert d.low < d.difference < d.high


def test_beyond_follow_up_is_not_extrapolated():
    km = kaplan_meier([1, 2, 3], [1, 1, 0])
    assert np.isnan(km.at([4.0])[0])
    assert km.at([3.0])[0] == pytest.approx(1 / 3)
    assert kaplan_meier([1, 2, 3], [1, 1, 1]).at([4.0])[0] == 0
    with pytest.raises(NotEstimableError, match="follow-up ends at 3"):
        restricted_mean([1, 2, 3], [1, 1, 0], tau=4)


def test_median_not_reached_is_nan_and_a_flat_piece_gives_its_middle():
    assert np.isnan(kaplan_meier([1, 2, 3, 4], [1, 0, 0, 0]).median().value)
    assert kaplan_meier([1, 2, 5, 6], [1, 1, 1, 1]).median().value == 3.5


def test_one_event_and_three_patients():
    km = kaplan_meier([3, 1, 2], [0, 1, 0])
    assert_allclose(km.survival, [2 / 3] * 3)
    assert_allclose(km.se, np.sqrt(2 / 27) * np.ones(3))


def test_nearly_equal_times_are_tied():
    time = np.array([0.1 + 0.2, 0.3, 0.7])
    assert kaplan_meier(time, [1, 1, 1]).times.tolist() == [0.3, 0.7]
    assert merge_tied_times(np.array([1.0, 1.1])).tolist() == [1.0, 1.1]


@pytest.mark.parametrize(
    ("time", "event", "error", "match"),
    [
        ([0, 1, 2], [1, 0, 1], InvalidInputError, "0 or negative|zero or negative"),
        ([-1, 1, 2], [1, 0, 1], InvalidInputError, "negative"),
        ([1, np.nan, 2], [1, 0, 1], InvalidInputError, "missing|NaN"),
        ([1, 2, 3], [0, 0, 0], NotEstimableError, "no event"),
        ([1, 2, 3], ["dead", "alive", "dead"], InvalidInputError, "event"),
        ([1, 2, 3], [1, 2, 1], InvalidInputError, "status == 2"),
        ([1, 2, 3], [1, 0], InvalidInputError, "shape"),
        ([], [], InvalidInputError, "no patient|empty"),
    ],
)
def test_bad_outcomes_are_refused(time, event, error, match):
    with pytest.raises(error, match=match):
        kaplan_meier(time, event)


def test_bad_options_are_refused():
    time, event = [1, 2, 3], [1, 1, 0]
    with pytest.raises(InvalidInputError, match="weights"):
        kaplan_meier(time, event, weights=[1, -1, 1])
    with pytest.raises(NotEstimableError, match="weight above 0"):
        kaplan_meier(time, event, weights=[0, 0, 1])
    with pytest.raises(InvalidInputError, match="conf"):
        kaplan_meier(time, event, conf="logit")
    with pytest.raises(InvalidInputError, match="level"):
        kaplan_meier(time, event, level=95)
    with pytest.raises(NotEstimableError, match="'b'"):
        kaplan_meier_by(time, event, ["a", "a", "b"])
    with pytest.raises(InvalidInputError, match="two values"):
        restricted_mean_difference(time, event, [1, 1, 1], 2)
    with pytest.raises(InvalidInputError, match="at least two values"):
        logrank(time, event, ["a", "a", "a"])
    with pytest.raises(NotEstimableError, match="fewer than two groups"):
        logrank([1, 2, 3], [0, 0, 1], ["a", "a", "b"])
    with pytest.raises(InvalidInputError, match="whole numbers"):
        cumulative_incidence(time, [0.5, 1, 0])
    with pytest.raises(NotEstimableError, match="no event"):
        cumulative_incidence(time, [0, 0, 0])
    with pytest.raises(InvalidInputError, match="cause 3"):
        cumulative_incidence(time, [0, 1, 2]).at(3, [1.0])
