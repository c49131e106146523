"""Net benefit at a horizon: by hand, against the binary definition, and against dcurves where it is right."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.kaplan_meier import kaplan_meier
from osml.evaluation.survival_utility import net_benefit_at, net_benefit_band_at

REFERENCE = Path(__file__).parents[1] / "reference" / "r"


def test_by_hand():
    # At 0.25: four of six treated, times 1+ 2 3+ 5 (+ event), survival 3/4 * 1/2 = 0.375.
    curve = net_benefit_at([1, 2, 3, 4, 5, 6], [1, 0, 1, 1, 0, 1], [0.9, 0.3, 0.6, 0.2, 0.4, 0.1], 3.5, [0.25, 0.95])
    assert curve.model[0] == pytest.approx(4 / 6 * (0.625 - 0.375 / 3), rel=1e-14)
    assert curve.treated.tolist() == [4 / 6, 0]
    assert curve.model[1] == 0
    survival = 5 / 6 * 3 / 4
    assert curve.risk == pytest.approx(1 - survival)
    assert curve.treat_all[0] == pytest.approx(1 - survival - survival / 3, rel=1e-14)
    assert curve.standardised[0] == pytest.approx(curve.model[0] / (1 - survival), rel=1e-14)
    assert curve.interventions_avoided[0] == pytest.approx(300 * (curve.model[0] - curve.treat_all[0]), rel=1e-12)
    assert curve.treat_none.tolist() == [0, 0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 10)), min_size=4, max_size=25), st.integers(2, 8))
def test_without_censoring_it_is_the_binary_net_benefit(rows, horizon):
    time, score = np.array(rows, dtype=float).T
    y, p, cuts = time <= horizon, score / 10, np.array([0.15, 0.35, 0.55])
    assume(y.any())
    curve = net_benefit_at(time, np.ones(len(y)), p, horizon, cuts)
    for k, cut in enumerate(cuts):
        act = p >= cut
        wanted = np.mean(act & y) - np.mean(act & ~y) * cut / (1 - cut)
        assert curve.model[k] == pytest.approx(wanted, abs=1e-12)


def test_nobody_below_the_threshold_is_treat_all():
    rng = np.random.default_rng(1)
    t, e = rng.exponential(size=50), rng.random(50) < 0.6
    curve = net_benefit_at(t, e, np.full(50, 0.7), 0.8, [0.1, 0.5, 0.7])
    assert_allclose(curve.model, curve.treat_all, rtol=1e-12)
    assert curve.risk == pytest.approx(1 - kaplan_meier(t, e).at([0.8])[0], rel=1e-12)


def test_treated_not_followed_to_the_horizon_have_a_reason_and_no_number():
    curve = net_benefit_at([1, 2, 3, 4, 9, 9], [1, 0, 1, 0, 0, 0], [0.9, 0.8, 0.6, 0.7, 0.2, 0.1], 5.0, [0.1, 0.5])
    assert np.isnan(curve.model[1])
    assert curve.reasons[0] == ""
    assert "4 patients at or above 0.5 are not followed to 5" in curve.reasons[1]


def test_band_holds_the_estimate_repeats_with_its_seed_and_says_what_it_is():
    rng = np.random.default_rng(2)
    x = rng.normal(size=200)
    t, c = rng.exponential(np.exp(-x)), rng.exponential(2.0, 200)
    data = np.minimum(t, c), t <= c, 1 - np.exp(-np.exp(x) * 0.7), 0.7
    cuts = [0.2, 0.5, 0.999]
    curve = net_benefit_at(*data, cuts)
    band, again = (net_benefit_band_at(*data, cuts, 400, seed=7) for _ in range(2))
    assert_allclose(again.low, band.low)
    assert np.all(band.low <= curve.model)
    assert np.all(curve.model <= band.high)
    assert np.all((band.low < band.high)[:2])
    assert np.all(band.gain_low <= curve.model - curve.treat_all)
    assert "too narrow" in band.kind
    assert "fixed model" in net_benefit_band_at(*data, cuts, 10, seed=7, fixed_model=True).kind
    wide = net_benefit_band_at(*data, cuts, 400, seed=7, level=0.99)
    assert np.all(wide.high >= band.high)


def test_replicates_agree_with_one_curve_per_resample():
    from osml.evaluation.bootstrap import resample_patients

    rng = np.random.default_rng(3)
    t, e, p = np.round(rng.exponential(size=60), 1) + 0.1, rng.random(60) < 0.6, rng.random(60)
    groups = np.repeat(np.arange(30), 2)
    counts = resample_patients(groups, 200, 5)
    values = [net_benefit_at(np.repeat(t, w), np.repeat(e, w), np.repeat(p, w), 0.6, [0.3]).model[0] for w in counts]
    band = net_benefit_band_at(t, e, p, 0.6, [0.3], 200, 5, groups=groups)
    assert_allclose([band.low[0], band.high[0]], np.quantile(values, [0.025, 0.975]), rtol=1e-10)
    assert band.failed.tolist() == [0]


def test_few_estimable_replicates_give_no_limits():
    t = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10.0])
    band = net_benefit_band_at(t, [1, 0, 1, 0, 1, 0, 0, 0, 0, 0], np.linspace(0.9, 0.1, 10), 6.5, [0.3], 200, 0)
    assert band.failed[0] > 20
    assert np.isnan(band.low[0])
    assert np.isnan(band.gain_high[0])


@pytest.mark.parametrize("cuts", [[0.0], [1.0], [-0.1], [], [np.nan]])
def test_thresholds_outside_zero_to_one_are_refused(cuts):
    with pytest.raises(InvalidInputError, match="threshold"):
        net_benefit_at([1, 2, 3], [1, 0, 1], [0.1, 0.2, 0.3], 2.0, cuts)


def test_bad_input_is_refused():
    with pytest.raises(NotEstimableError, match="no event by then"):
        net_benefit_at([1, 2, 3], [0, 0, 1], [0.1, 0.2, 0.3], 2.0, [0.2])
    with pytest.raises(NotEstimableError, match="follow-up ends at 3"):
        net_benefit_at([1, 2, 3], [1, 0, 0], [0.1, 0.2, 0.3], 4.0, [0.2])
    with pytest.raises(InvalidInputError, match="risk"):
        net_benefit_at([1, 2, 3], [1, 0, 0], [1.1, 0.2, 0.3], 2.0, [0.2])
    with pytest.raises(InvalidInputError, match="event"):
        net_benefit_at([1, 2, 3], ["yes", "no", "no"], [0.1, 0.2, 0.3], 2.0, [0.2])


@pytest.mark.full
def test_dcurves_agrees_at_five_years():
    from dcurves import dca

    data = pd.read_csv(REFERENCE / "data" / "gbsg_test_prepared.csv")
    data["p"] = 1 / (1 + np.exp(1.5 - data.nodes / 5 + data.lpgr / 10))
    cuts = np.arange(0.1, 0.61, 0.05).round(2)
    theirs = dca(data=data, outcome="status", modelnames=["p"], thresholds=cuts, time=5, time_to_outcome_col="time")
    curve = net_benefit_at(data.time, data.status, data.p, 5.0, cuts)
    assert_allclose(curve.model, theirs[theirs.model == "p"].net_benefit, atol=1e-12)
    assert_allclose(curve.treat_all, theirs[theirs.model == "all"].net_benefit, atol=1e-12)
    avoided = theirs[theirs.model == "p"].net_intervention_avoided
    assert_allclose(curve.interventions_avoided, 100 * avoided, atol=1e-9)
