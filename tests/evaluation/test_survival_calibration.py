"""Calibration at a horizon against R (survival, rms) on an external cohort."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.kaplan_meier import kaplan_meier
from osml.evaluation.survival_calibration import calibration_at, calibration_groups
from osml.stats.cox import fit_cox, survival

REFERENCE = Path(__file__).parents[1] / "reference" / "r"


@pytest.fixture(scope="module")
def gbsg():
    return pd.read_csv(REFERENCE / "data" / "gbsg_test_prepared.csv")


@pytest.fixture(scope="module", params=["2", "5"])
def external(request, gbsg):
    reference = json.loads((REFERENCE / "out" / "survival_ties.json").read_text())["calibration"][request.param]
    result = calibration_at(gbsg.time, gbsg.status, reference["risk"], float(request.param), lp=reference["lp"])
    return result, reference


def test_five_groups_at_five_years(gbsg):
    train = pd.read_csv(REFERENCE / "data" / "rotterdam_train_prepared.csv")
    columns = ["age", "nodes", "grade3", "hormon", "lpgr"]
    fit = fit_cox(train[columns], train.time, train.status)
    risk = 1 - survival(fit, (gbsg[columns].to_numpy() - fit.means) @ fit.coef, [5.0])[:, 0]
    g = calibration_groups(gbsg.time, gbsg.status, risk, 5.0)
    r = json.loads((REFERENCE / "out" / "f5_calibration_5groups_gbsg5y.json").read_text())
    assert g.n.tolist() == r["n"]
    assert g.at_risk.tolist() == r["at_risk"]
    for ours, theirs in ((g.predicted, "pred"), (g.observed, "obs"), (g.low, "lo"), (g.high, "hi")):
        assert_allclose(ours, r[theirs], rtol=1e-8)


def test_observed_expected_slope_and_calibration_in_the_large(external):
    c, r = external
    assert_allclose(
        [c.observed.value, c.observed.se, c.o_e.value], [r["observed"], r["observed_se"], r["oe"]], rtol=1e-10
    )
    assert c.o_e.high / c.o_e.value == pytest.approx(c.o_e.value / c.o_e.low, rel=1e-12)
    assert_allclose([c.slope.value, c.slope.se], [r["slope"], r["slope_se"]], rtol=1e-9)
    assert c.citl.value == pytest.approx(np.log(r["hazard"]), rel=1e-9)
    assert c.citl.se == pytest.approx(r["hazard_se"] / r["hazard"], rel=1e-9)


def test_smooth_curve_and_its_distances(external):
    c, r = external
    s = c.flexible
    assert_allclose([s.ici, s.e50, s.e90, s.emax], [r["ici"], r["e50"], r["e90"], r["emax"]], rtol=1e-8)
    assert_allclose(s.knots, r["knots"], rtol=1e-10)
    assert_allclose(s.observed, r["curve"], rtol=1e-8)
    assert_allclose(s.low, r["band_low"], rtol=1e-7)
    assert_allclose(s.high, r["band_high"], rtol=1e-7)


def test_slope_of_a_cox_model_is_the_slope_of_its_cloglog_risk(gbsg, external):
    c, r = external
    again = calibration_at(gbsg.time, gbsg.status, r["risk"], c.horizon)
    assert again.slope.value == pytest.approx(c.slope.value, rel=1e-9)


def test_true_risks_are_calibrated_and_shifted_ones_are_not():
    rng = np.random.default_rng(11)
    n = 4000
    x = rng.normal(size=n)
    x = np.clip(x, -2.5, 2.5)
    t, c = rng.exponential(1 / np.exp(x - 0.5)), rng.exponential(3.0, n)
    hazard = np.exp(x - 0.5)
    good = calibration_at(np.minimum(t, c), t <= c, 1 - np.exp(-hazard), 1.0)
    assert good.o_e.low < 1 < good.o_e.high
    assert good.citl.low < 0 < good.citl.high
    assert good.slope.low < 1 < good.slope.high
    assert good.flexible.ici < 0.03
    half = calibration_at(np.minimum(t, c), t <= c, 1 - np.exp(-hazard / 2), 1.0)
    assert half.citl.value - good.citl.value == pytest.approx(np.log(2), rel=1e-9)
    assert half.slope.value == pytest.approx(good.slope.value, rel=1e-9)
    assert half.o_e.value > 1.3
    assert half.flexible.ici > 0.1
    extreme = calibration_at(np.minimum(t, c), t <= c, 1 - np.exp(-(hazard**1.5)), 1.0)
    assert extreme.slope.value == pytest.approx(good.slope.value / 1.5, rel=1e-6)


def test_below_a_hundred_events_no_curve_and_the_reason():
    rng = np.random.default_rng(0)
    t, p = rng.exponential(size=80), rng.uniform(0.2, 0.8, 80)
    c = calibration_at(t, np.ones(80), p, 1.0)
    assert c.flexible is None
    assert c.events == np.sum(t <= 1)
    assert f"{c.events} events by 1" in c.flexible_reason
    assert "at least 100" in c.flexible_reason
    assert c.slope.low < c.slope.value < c.slope.high


def test_constant_risk_has_no_slope_but_an_observed_to_expected_ratio():
    t, e = np.arange(1.0, 21), np.tile([1, 0], 10)
    c = calibration_at(t, e, np.full(20, 0.4), 10.0)
    assert c.slope is None
    assert c.slope_reason
    assert c.o_e.value == pytest.approx((1 - kaplan_meier(t, e).at([10.0])[0]) / 0.4)
    assert c.groups.n.tolist() == [20]


def test_certain_predictions_keep_what_is_defined():
    t, e, p = [1, 2, 3, 4, 5, 6], [1, 0, 1, 0, 1, 0], [1.0, 0.5, 0.6, 0.2, 0.4, 0.1]
    c = calibration_at(t, e, p, 3.5)
    assert (c.citl, c.slope, c.flexible) == (None, None, None)
    assert "1 predicted risks are exactly 0 or 1" in c.citl_reason
    assert c.slope_reason == c.flexible_reason == c.citl_reason
    assert c.o_e.value == pytest.approx(c.observed.value / np.mean(p))
    assert calibration_at(t, e, p, 3.5, lp=[0.3, 0.1, 0.5, 0.2, 0.9, 0.4]).slope is not None


def test_perfect_separation_has_no_slope():
    c = calibration_at([1, 2, 3, 4, 5, 6], [1, 1, 1, 0, 0, 0], [0.9, 0.8, 0.7, 0.3, 0.2, 0.1], 3.5)
    assert c.slope is None
    assert c.slope_reason


def test_group_without_events_and_group_not_followed():
    g = calibration_groups([1, 2, 3, 9, 9, 9], [1, 1, 1, 0, 0, 0], [0.9, 0.8, 0.7, 0.3, 0.2, 0.1], 5.0, groups=2)
    assert g.observed.tolist() == [0, 1]
    lost = calibration_groups([1, 2, 3, 3, 2, 1], [1, 1, 0, 0, 0, 0], [0.9, 0.8, 0.7, 0.3, 0.2, 0.1], 5.0, groups=2)
    assert np.isnan(lost.observed).all()
    assert lost.at_risk.tolist() == [0, 0]


def test_bad_input_is_refused():
    t, e, p = [1, 2, 3, 4], [1, 0, 1, 0], [0.4, 0.3, 0.2, 0.1]
    with pytest.raises(InvalidInputError, match="probabilities"):
        calibration_at(t, e, [0.0, 0.5, 0.5, 1.2], 2.0)
    with pytest.raises(NotEstimableError, match="O/E is infinite"):
        calibration_at(t, e, np.zeros(4), 2.0)
    with pytest.raises(NotEstimableError, match="no event by then"):
        calibration_at(t, [0, 0, 1, 0], p, 2.0)
    with pytest.raises(NotEstimableError, match="follow-up ends at 4"):
        calibration_at(t, e, p, 5.0)
    with pytest.raises(InvalidInputError, match="groups"):
        calibration_groups(t, e, p, 2.0, groups=9)
    with pytest.raises(InvalidInputError, match="shape"):
        calibration_at(t, e, p[:3], 2.0)
