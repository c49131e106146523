"""Intervals of a probability and what they are called."""

from __future__ import annotations

import numpy as np
import pytest
from nomogram_models import birthwt, birthwt_training, result, table

from osml.errors import InvalidInputError
from osml.nomogram import CoxOutcome, Interval, LogisticOutcome, Predictor, build, cox_outcome, from_coefficients
from osml.stats.cox import fit_cox, survival_interval
from osml.stats.terms import Linear, LinearModel


def test_cox_interval_includes_the_baseline_variance() -> None:
    rows = table("lung").iloc[np.asarray(result("b2_cph_lung")["rows_used"]) - 1]
    names = ("age", "sex", "ph.ecog", "wt.loss")
    X = rows[list(names)].to_numpy(float)
    fit = fit_cox(X, rows["time"].to_numpy(float), (rows["status"] == 2).to_numpy())
    horizons = [182.0, 365.0]
    outcome = cox_outcome(fit, "death", horizons, unit="days")
    model = LinearModel(tuple(Linear(n) for n in names), fit.coef, float(-fit.means @ fit.coef), fit.covariance)
    predictors = [Predictor(n, low=float(X[:, i].min()), high=float(X[:, i].max())) for i, n in enumerate(names)]
    values = {n: X[:20, i] for i, n in enumerate(names)}
    n = build(model, predictors, outcome, interval=Interval("wald", level=0.9))
    bounds = n.bounds(values)
    assert bounds is not None
    curve = survival_interval(fit, X[:20], horizons, level=0.9)
    np.testing.assert_allclose(n.probability(values), 1 - curve.survival, rtol=1e-9)
    np.testing.assert_allclose(bounds[0], 1 - curve.high, rtol=1e-9)
    np.testing.assert_allclose(bounds[1], 1 - curve.low, rtol=1e-9)


def test_instability_interval_is_percentiles_over_refits() -> None:
    rng = np.random.default_rng(0)
    refits = rng.normal([-1.0, 0.5], [0.2, 0.1], (400, 2))
    interval = Interval("instability", refits=refits, held_fixed="knots")
    model = LinearModel((Linear("x"),), np.array([0.5]), -1.0)
    n = build(model, [Predictor("x", low=0, high=4)], LogisticOutcome("relapse"), interval=interval)
    bounds = n.bounds({"x": [0.0, 3.0]})
    assert bounds is not None
    p = 1 / (1 + np.exp(-(refits[:, :1] + refits[:, 1:] * np.array([[0.0, 3.0]]))))
    np.testing.assert_allclose(bounds[0], np.quantile(p, 0.025, axis=0), rtol=1e-12)
    np.testing.assert_allclose(bounds[1], np.quantile(p, 0.975, axis=0), rtol=1e-12)
    assert interval.words == "95 % model instability interval (400 bootstrap refits, knots held fixed)"


def test_no_interval_is_none() -> None:
    assert birthwt().bounds(birthwt_training()) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Interval("guess"), "neither 'wald' nor 'instability'"),  # type: ignore[arg-type]
        (lambda: Interval("wald", level=1.0), "level"),
        (lambda: Interval("instability", refits=np.full((60, 2), np.nan)), "finite 2-d"),
    ],
)
def test_bad_intervals_are_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInputError, match=message):
        make()


def test_an_interval_that_the_model_cannot_have_is_refused() -> None:
    x = [Predictor("x", low=0, high=1)]
    with pytest.raises(InvalidInputError, match="2 by 2 covariance"):
        from_coefficients({"Intercept": 0, "x": 1}, x, LogisticOutcome("e"), interval=Interval("wald"))
    few, enough = (Interval("instability", refits=np.zeros((b, 2))) for b in (20, 60))
    with pytest.raises(InvalidInputError, match="at least 50 refits of 2"):
        from_coefficients({"Intercept": 0, "x": 1}, x, LogisticOutcome("e"), interval=few)
    cox = CoxOutcome("death", (12.0,), (0.8,))
    with pytest.raises(InvalidInputError, match="log_hazard_variance"):
        from_coefficients({"x": 1}, x, cox, covariance=[[0.1]], interval=Interval("wald"))
    with pytest.raises(InvalidInputError, match="shape \\(60, 1\\)"):
        from_coefficients({"x": 1}, x, cox, interval=enough)
