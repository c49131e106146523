import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.utility import net_benefit, net_benefit_band
from osml.stats.logistic import fit_logistic

REFERENCE = Path(__file__).parents[1] / "reference" / "r"
DCA = json.loads((REFERENCE / "out" / "h1_dca_binary_pima.json").read_text())
VAL = json.loads((REFERENCE / "out" / "c3_valprob_pima_external.json").read_text())


def probabilities(columns):
    train, test = (pd.read_csv(REFERENCE / "data" / f"pima_{part}.csv") for part in ("tr", "te"))
    fit = fit_logistic(train[columns], train.type == "Yes")
    return 1 / (1 + np.exp(-(fit.intercept + test[columns].to_numpy() @ fit.coef)))


def test_equals_reference():
    curve = net_benefit(VAL["y"], VAL["p"], DCA["thresholds"])
    for mine, theirs in (
        (curve.model, "nb_model"),
        (curve.treat_all, "nb_all"),
        (curve.treat_none, "nb_none"),
        (curve.true_positives, "tp"),
        (curve.false_positives, "fp"),
        (curve.standardised, "standardised"),
        (curve.interventions_avoided, "interventions_avoided_per100"),
    ):
        np.testing.assert_allclose(mine, DCA[theirs], rtol=1e-12, atol=1e-12)


def test_smaller_model_and_another_prevalence():
    small = net_benefit(VAL["y"], probabilities(["npreg", "glu", "bmi", "age"]), DCA["thresholds"])
    np.testing.assert_allclose(small.model, DCA["nb_small"], rtol=1e-12, atol=1e-12)
    other = net_benefit(VAL["y"], VAL["p"], DCA["thresholds"], prevalence=0.15)
    np.testing.assert_allclose(other.model, DCA["case_control_prev0.15"], rtol=1e-12, atol=1e-12)
    assert other.prevalence == 0.15


cases = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=3, max_size=30).filter(
    lambda rows: {0, 1} == {y for y, _ in rows}
)


@settings(max_examples=60, deadline=None)
@given(cases, st.floats(0.02, 0.98))
def test_algebra_of_net_benefit(rows, t):
    y, p = np.array(rows).T
    p = p / 20
    curve = net_benefit(y, p, [t])
    acting = p >= t
    direct = (y[acting].sum() - (1 - y[acting]).sum() * t / (1 - t)) / len(y)
    assert curve.model[0] == pytest.approx(direct, abs=1e-12)
    assert curve.model[0] <= curve.prevalence + 1e-12
    assert net_benefit(y, np.ones(len(y)), [t]).model[0] == pytest.approx(curve.treat_all[0], abs=1e-12)
    assert net_benefit(y, np.zeros(len(y)), [t]).model[0] == 0
    assert net_benefit(y, p, [t], prevalence=y.mean()).model[0] == pytest.approx(curve.model[0], abs=1e-12)
    perfect = net_benefit(y, y, [t])
    assert perfect.standardised[0] == pytest.approx(1, rel=1e-12)


def test_threshold_is_inclusive():
    assert net_benefit([1, 0], [0.3, 0.1], [0.3]).model[0] == 0.5


def test_band_covers_the_curve_and_repeats():
    y, p = VAL["y"], VAL["p"]
    t = np.array([0.1, 0.3, 0.5])
    curve, band = net_benefit(y, p, t), net_benefit_band(y, p, t, 800, seed=1)
    assert (band.low < curve.model).all()
    assert (curve.model < band.high).all()
    again = net_benefit_band(y, p, t, 800, seed=1)
    np.testing.assert_array_equal(band.low, again.low)
    assert band.used == band.replicates == 800
    assert "too narrow" in band.kind
    assert "too narrow" not in net_benefit_band(y, p, t, 10, seed=1, fixed_model=True).kind
    # Bootstrap standard error of net benefit by the delta method: sd of tp - odds * fp per patient.
    per = (np.array(p)[:, None] >= t) * (np.array(y)[:, None] - (1 - np.array(y))[:, None] * t / (1 - t))
    se = per.std(axis=0) / np.sqrt(len(y))
    np.testing.assert_allclose((band.high - band.low) / (2 * 1.96), se, rtol=0.12)


def test_band_widens_when_rows_repeat_patients():
    y, p = np.tile(VAL["y"], 3), np.tile(VAL["p"], 3)
    patient = np.tile(np.arange(len(VAL["y"])), 3)
    by_row = net_benefit_band(y, p, [0.3], 600, seed=2)
    by_patient = net_benefit_band(y, p, [0.3], 600, seed=2, groups=patient)
    once = net_benefit_band(VAL["y"], VAL["p"], [0.3], 600, seed=2)
    assert (by_patient.high - by_patient.low)[0] == pytest.approx((once.high - once.low)[0], rel=1e-9)
    assert (by_row.high - by_row.low)[0] < 0.75 * (by_patient.high - by_patient.low)[0]


def test_gain_over_treating_all_and_fixed_prevalence():
    y, p = VAL["y"], VAL["p"]
    band = net_benefit_band(y, p, [0.3], 600, seed=3, prevalence=0.1)
    curve = net_benefit(y, p, [0.3], prevalence=0.1)
    gain = curve.model - curve.treat_all
    assert band.gain_low[0] < gain[0] < band.gain_high[0]
    # With the prevalence given, treating all does not vary between replicates.
    np.testing.assert_allclose(band.gain_low, band.low - curve.treat_all, rtol=1e-9)


@pytest.mark.parametrize("t", [[0.0], [1.0], [], [np.nan], [-0.1, 0.5]])
def test_bad_thresholds_are_refused(t):
    with pytest.raises(InvalidInputError, match="thresholds"):
        net_benefit([0, 1], [0.2, 0.8], t)


def test_other_bad_input_is_refused():
    with pytest.raises(InvalidInputError, match="prevalence"):
        net_benefit([0, 1], [0.2, 0.8], [0.5], prevalence=1.0)
    with pytest.raises(InvalidInputError, match="lie in 0"):
        net_benefit([0, 1], [-2.0, 0.8], [0.5])
    with pytest.raises(InvalidInputError, match="strings"):
        net_benefit(["a", "b"], [0.2, 0.8], [0.5])
    with pytest.raises(NotEstimableError, match="at least one of each"):
        net_benefit([1, 1], [0.2, 0.8], [0.5])
    with pytest.raises(NotEstimableError, match="larger B"):
        net_benefit_band([0, 1], [0.2, 0.8], [0.5], 1, seed=0)


@pytest.mark.full
def test_dcurves_agrees():
    import dcurves

    frame = pd.DataFrame({"y": VAL["y"], "model": VAL["p"]})
    t = np.round(np.arange(0.05, 0.95, 0.05), 2)
    theirs = dcurves.dca(data=frame, outcome="y", modelnames=["model"], thresholds=t)
    theirs = theirs[theirs.model == "model"].sort_values("threshold").net_benefit.to_numpy()
    np.testing.assert_allclose(net_benefit(frame.y, frame.model, t).model, theirs, rtol=1e-9, atol=1e-12)
