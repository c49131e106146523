import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.bootstrap import (
    corrected_auc_interval,
    corrected_slope_interval,
    location_shifted_interval,
    patient_bootstrap,
    resample_patients,
    two_stage_interval,
)
from osml.evaluation.delong import hanley_mcneil
from osml.evaluation.discrimination import auc, roc_curve
from osml.stats.logistic import fit_logistic


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(0, 99))
def test_patients_stay_whole_and_sizes_stay_fixed(patient, seed):
    patient = np.array(patient)
    counts = resample_patients(patient, 5, seed)
    assert counts.shape == (5, len(patient))
    _, first = np.unique(patient, return_index=True)
    assert (counts[:, first].sum(axis=1) == len(first)).all()
    for k in np.unique(patient):
        assert np.ptp(counts[:, patient == k], axis=1).max() == 0
    np.testing.assert_array_equal(counts, resample_patients(patient, 5, seed))


def test_strata_keep_their_sizes():
    strata = np.repeat(["event", "none"], [10, 30])
    counts = resample_patients(np.arange(40), 50, 3, strata=strata)
    assert (counts[:, :10].sum(axis=1) == 10).all()
    with pytest.raises(InvalidInputError, match="strata differ"):
        resample_patients([1, 1], 2, 0, strata=["a", "b"])


def test_resampling_is_uniform():
    counts = resample_patients(np.arange(50), 4000, 4)
    # Binomial(50, 1/50): mean 1, variance 0.98.
    assert counts.mean() == 1
    assert counts.var() == pytest.approx(0.98, rel=0.02)
    assert np.abs(counts.mean(axis=0) - 1).max() < 5 * np.sqrt(0.98 / 4000)


def test_percentile_interval_of_a_mean():
    x = np.random.default_rng(0).normal(size=200)
    found = patient_bootstrap(lambda rows: x[rows].mean(), np.arange(200), 2000, seed=1)
    half = 1.96 * x.std() / np.sqrt(200)
    assert found.value == pytest.approx(x.mean())
    assert found.high - found.low == pytest.approx(2 * half, rel=0.08)
    assert "too narrow" in found.kind
    assert patient_bootstrap(lambda rows: x[rows].mean(), np.arange(200), 50, seed=1, fixed_model=True).kind.endswith(
        "independent patients"
    )


@pytest.mark.parametrize("name", ["s100b", "ndka", "wfns", "age"])
def test_bootstrap_of_auc_equals_proc_within_chance(name):
    reference = Path(__file__).parents[1] / "reference" / "r"
    d = pd.read_csv(reference / "data" / "aSAH.csv")
    y, s = d.poor.to_numpy(), d[{"wfns": "wfns_num"}.get(name, name)].to_numpy()
    low, _, high = json.loads((reference / "out" / "d1_proc_aSAH.json").read_text())["bootstrap5000_ci"][name]
    found = patient_bootstrap(lambda r: auc(y[r], s[r]), np.arange(113), 2000, seed=4, strata=y, fixed_model=True)
    # A 2.5 % quantile of 2,000 values with sd 0.05 has a standard error of about 0.003.
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.012)


def test_interval_of_the_sensitivity_at_a_specificity():
    rng = np.random.default_rng(8)
    y = np.repeat([0, 1], 60)
    s = rng.normal(size=120) + 1.5 * y
    found = patient_bootstrap(
        lambda r: roc_curve(y[r], s[r]).sensitivity_at(0.9), np.arange(120), 300, seed=5, strata=y, fixed_model=True
    )
    assert found.low < found.value < found.high
    # Truth: 1 - Phi(1.2816 - 1.5).
    assert found.low < 0.586 < found.high


def test_rows_of_a_patient_widen_the_interval():
    x = np.random.default_rng(0).normal(size=60)
    rows, patient = np.tile(x, 4), np.tile(np.arange(60), 4)
    clustered = patient_bootstrap(lambda r: rows[r].mean(), patient, 800, seed=2)
    naive = patient_bootstrap(lambda r: rows[r].mean(), np.arange(240), 800, seed=2)
    assert (clustered.high - clustered.low) > 1.7 * (naive.high - naive.low)


def test_failed_replicates_are_counted():
    y, s = np.array([1, 0, 0, 0, 0, 0]), np.arange(6.0)
    found = patient_bootstrap(lambda rows: auc(y[rows], s[rows]), np.arange(6), 400, seed=3)
    assert found.failed == pytest.approx(400 * (5 / 6) ** 6, rel=0.2)
    assert found.replicates + found.failed == 400
    with pytest.raises(NotEstimableError, match="no interval"):
        patient_bootstrap(_fails_when_resampled, np.arange(6), 20, seed=3)


def _fails_when_resampled(rows):
    if not np.array_equal(rows, np.arange(6)):
        raise NotEstimableError("never")
    return 0.5


def test_other_errors_are_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        patient_bootstrap(lambda rows: 1 / 0, np.arange(6), 20, seed=3)


def test_location_shift_by_hand():
    values = np.linspace(0.70, 0.90, 201)
    found = location_shifted_interval(0.8, np.append(values, np.nan), 0.05, bounds=(0, 1))
    assert (found.value, found.low, found.high) == pytest.approx((0.75, 0.655, 0.845))
    assert (found.replicates, found.failed) == (201, 1)
    assert location_shifted_interval(0.98, values + 0.1, -0.05, bounds=(0, 1)).high == 1.0
    with pytest.raises(NotEstimableError, match="no width"):
        location_shifted_interval(1.0, np.ones(50), 0.2)


def test_two_stage_percentiles():
    found = two_stage_interval(0.7, np.linspace(0.6, 0.8, 201), level=0.9)
    assert (found.low, found.high) == pytest.approx((0.61, 0.79))
    with pytest.raises(InvalidInputError, match="missing"):
        two_stage_interval(0.7, [0.6, np.nan])


def test_corrected_auc_interval_by_its_formula():
    # Without optimism it is the Hanley-McNeil interval; half the optimism adds in quadrature.
    plain = corrected_auc_interval(0.7, 0.7, 40, 60)
    half = stats.norm.isf(0.025) * np.sqrt(hanley_mcneil(0.7, 40, 60))
    assert (plain.low, plain.high) == pytest.approx((0.7 - half, 0.7 + half))
    wide = corrected_auc_interval(0.8, 0.7, 40, 60)
    assert ((wide.high - 0.7) ** 2 - half**2) / stats.norm.isf(0.025) ** 2 == pytest.approx(0.05**2)
    assert corrected_auc_interval(1.0, 0.95, 5, 10).high == 1.0
    assert "too narrow" not in corrected_auc_interval(0.8, 0.7, 24, 60, parameters=8).kind
    assert "too narrow with 2.9 events per parameter" in corrected_auc_interval(0.8, 0.7, 60, 23, parameters=8).kind


def test_hanley_mcneil_by_simulation():
    # Exponential scores, for which the formula is exact: AUC = rate / (1 + rate).
    rng = np.random.default_rng(6)
    y = np.repeat([1, 0], [30, 70])
    areas = [auc(y, np.concatenate([rng.exponential(4, 30), rng.exponential(1, 70)])) for _ in range(3000)]
    assert np.mean(areas) == pytest.approx(0.8, abs=0.004)
    assert np.var(areas) == pytest.approx(hanley_mcneil(0.8, 30, 70), rel=0.1)
    with pytest.raises(InvalidInputError, match="not possible"):
        hanley_mcneil(1.2, 3, 4)


def test_corrected_slope_interval_is_the_wald_interval_without_optimism():
    rng = np.random.default_rng(7)
    lp = rng.normal(size=300)
    fit = fit_logistic(lp[:, None], rng.random(300) < 1 / (1 + np.exp(-lp)))
    found = corrected_slope_interval(fit.lp, 0.0, 1.0)
    exact = np.sqrt(fit.covariance[1, 1]) / abs(fit.coef[0])
    assert (found.high - found.low) / (2 * stats.norm.isf(0.025)) == pytest.approx(exact, rel=1e-8)
    shrunken = corrected_slope_interval(fit.lp, 0.0, 0.8)
    assert shrunken.value == (shrunken.low + shrunken.high) / 2 == pytest.approx(0.8)
    with pytest.raises(NotEstimableError, match="constant"):
        corrected_slope_interval(np.ones(5), 0.0, 1.0)


@pytest.mark.parametrize(
    ("groups", "b", "what"), [(["a", None], 3, "missing"), ([1.0, np.nan], 3, "missing"), ([1, 2], 0, "B = 0")]
)
def test_bad_input_is_refused(groups, b, what):
    with pytest.raises(InvalidInputError, match=what):
        resample_patients(np.array(groups, dtype=object) if None in groups else groups, b, 0)
