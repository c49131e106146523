"""Schoenfeld residuals and the test of proportional hazards against R's residuals.coxph and cox.zph."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.proportional_hazards import proportional_hazards, schoenfeld_residuals
from osml.stats.cox import fit_cox

REFERENCE = Path(__file__).parents[1] / "reference" / "r"
TERMS = {"x": [0], "x2": [1], "g": [2, 3]}


@pytest.fixture(scope="module")
def lung():
    reference = json.loads((REFERENCE / "out" / "f1_survival_lung.json").read_text())
    data = pd.read_csv(REFERENCE / "data" / "lung.csv")
    return data[data.row.isin(reference["rows"])], reference


@pytest.fixture(scope="module", params=("untied", "tied", "coarse"))
def sample(request):
    reference = json.loads((REFERENCE / "out" / "survival_ties.json").read_text())[request.param]
    data = pd.DataFrame(reference["data"])
    return np.column_stack([data.x, data.x2, data.g == "b", data.g == "c"]).astype(float), data, reference


@pytest.mark.parametrize(("key", "transform"), [("zph_km", "km"), ("zph_identity", "identity"), ("zph_rank", "rank")])
def test_lung(lung, key, transform):
    data, reference = lung
    X = data[["age", "sex", "ph.ecog", "wt.loss"]].to_numpy(float)
    test = proportional_hazards(X, data.time, data.status == 2, transform=transform)
    table = np.array(reference[key]["table"] if key == "zph_km" else reference[key])
    assert_allclose([*test.chi2, test.global_chi2], table[:, 0], rtol=1e-10)
    assert_allclose([*test.df, test.global_df], table[:, 1])
    assert_allclose([*test.p, test.global_p], table[:, 2], rtol=1e-10)


@pytest.mark.parametrize("transform", ["km", "identity", "rank", "log"])
def test_ties_and_terms_of_several_columns(sample, transform):
    X, data, reference = sample
    table = np.array(reference["zph"][transform])
    test = proportional_hazards(X, data.time, data.event, TERMS, transform)
    assert test.terms == ("x", "x2", "g")
    assert_allclose([*test.chi2, test.global_chi2], table[:, 0], rtol=1e-9, atol=1e-11)
    assert_allclose([*test.df, test.global_df], table[:, 1])
    assert_allclose([*test.p, test.global_p], table[:, 2], rtol=1e-9)


def test_residuals_with_ties(sample):
    X, data, reference = sample
    r = schoenfeld_residuals(X, data.time, data.event)
    assert_allclose(r.raw, reference["schoenfeld"], atol=1e-10)
    assert_allclose(r.scaled, reference["scaled"], rtol=1e-8, atol=1e-9)
    assert_allclose(r.raw.sum(axis=0), 0, atol=1e-7)
    assert_allclose(data.time.to_numpy()[r.rows], r.times)


def test_given_coefficients_must_be_the_maximum(lung):
    data, _ = lung
    X, died = data[["age", "sex"]].to_numpy(float), data.status == 2
    fit = fit_cox(X, data.time, died)
    own, told = (proportional_hazards(X, data.time, died, coef=c) for c in (None, fit.coef))
    assert_allclose(told.chi2, own.chi2, rtol=1e-9)
    with pytest.raises(InvalidInputError, match="not the maximum"):
        proportional_hazards(X, data.time, died, coef=fit.coef * 0.8)


def test_scale_of_columns_and_time_does_not_matter(lung):
    data, _ = lung
    X, died = data[["age", "sex"]].to_numpy(float), data.status == 2
    one = proportional_hazards(X, data.time, died, transform="identity")
    other = proportional_hazards(X * [1e3, 1e-2] + 5, data.time / 365.25, died, transform="identity")
    assert_allclose(other.chi2, one.chi2, rtol=1e-7)


def test_a_hazard_ratio_that_reverses_is_found_and_a_constant_one_is_not():
    rng = np.random.default_rng(5)
    n = 1500
    x = rng.integers(0, 2, n).astype(float)
    early = rng.exponential(1 / np.exp(1.2 * x))
    t = np.where(early < 0.5, early, 0.5 + rng.exponential(1 / np.exp(-1.2 * x)))
    assert proportional_hazards(x[:, None], t, np.ones(n)).p[0] < 1e-10
    steady = rng.exponential(1 / np.exp(0.7 * x))
    assert proportional_hazards(x[:, None], steady, np.ones(n)).p[0] > 0.01


def test_bad_input_is_refused():
    X, t, e = np.array([[1.0], [0], [1], [0], [1], [0]]), [1, 2, 3, 4, 5, 6], [1, 1, 1, 1, 0, 1]
    with pytest.raises(InvalidInputError, match="transform"):
        proportional_hazards(X, t, e, transform="sqrt")
    with pytest.raises(InvalidInputError, match="terms"):
        proportional_hazards(X, t, e, terms={"a": [0, 1]})
    with pytest.raises(InvalidInputError, match="rows"):
        proportional_hazards(X[:5], t, e)
    with pytest.raises(NotEstimableError, match="one time"):
        proportional_hazards(X, [1, 1, 1, 1, 5, 6], [1, 1, 0, 0, 0, 0])
    with pytest.raises(InvalidInputError, match="X"):
        proportional_hazards(X * np.nan, t, e)
