"""Points, scales and probabilities against rms::nomogram (files in tests/reference)."""

from __future__ import annotations

import numpy as np
import pytest
from nomogram_models import birthwt, birthwt_training, lung, result, table

from osml.nomogram import LogisticOutcome, Nomogram, Predictor, from_coefficients, verify_points


def birthwt_with_rms_axes(which: str) -> Nomogram:
    d = result("a1_lrm_birthwt_rcs")
    fit, axes = d["fit"], d[which]["axes"]
    levels = fit["design"]["parms"]
    predictors = [
        Predictor(name, ticks=tuple(float(v) for v in axes[name]["values"]))
        if name in ("age", "lwt")
        else Predictor(name, "category", levels=tuple(levels[name]))
        for name in axes
    ]
    return from_coefficients(
        fit["coef"], predictors, LogisticOutcome("low"), knots={"lwt": levels["lwt"]}, extremes="ticks"
    )


@pytest.mark.parametrize("which", ["nomogram_default", "nomogram_ticks"])
def test_logistic_points_match_rms(which: str) -> None:
    d = result("a1_lrm_birthwt_rcs")
    reference, n = d[which], birthwt_with_rms_axes(which)
    for c in n.components:
        axis = c.axes[0]
        np.testing.assert_allclose(n.axis_points(c, axis, axis.ticks), reference["axes"][c.name]["points"], atol=1e-8)
        effect = c.effect(n.model, axis.values(np.asarray(axis.ticks)))
        np.testing.assert_allclose(effect, reference["axes"][c.name]["Xbeta"], rtol=1e-9, atol=1e-12)
    assert n.scale == pytest.approx(reference["info"]["sc"], rel=1e-10)
    assert n.intercept == pytest.approx(reference["info"]["Intercept"], rel=1e-10)
    lp = reference["lp_axis"]
    np.testing.assert_allclose(n.total_at(lp["lp"]), lp["total_points"], atol=1e-8)
    shown = reference["fun_axes"]["P(low)"]
    np.testing.assert_allclose(n.total_for(shown["lp"]), shown["total_points"], atol=1e-3)


def test_logistic_probabilities_match_rms() -> None:
    fit = result("a1_lrm_birthwt_rcs")["fit"]
    n = birthwt()
    np.testing.assert_allclose(n.probability(birthwt_training()), fit["prob"], rtol=1e-9)
    np.testing.assert_allclose(n.model.lp(n.encode(birthwt_training())), fit["lp"], rtol=1e-9, atol=1e-11)


def test_cox_points_and_survival_match_rms() -> None:
    d = result("b2_cph_lung")
    reference, n = d["nomogram"], lung()
    for c in n.components:
        axis = c.axes[0]
        np.testing.assert_allclose(n.axis_points(c, axis, axis.ticks), reference["axes"][c.name]["points"], atol=1e-8)
    assert n.scale == pytest.approx(reference["info_sc"], rel=1e-10)
    assert n.intercept == pytest.approx(reference["intercept"], rel=1e-10)
    lp = reference["lp_axis"]
    np.testing.assert_allclose(n.total_at(lp["lp"]), lp["total_points"], atol=1e-8)
    for j, shown in enumerate(reference["fun"].values()):
        np.testing.assert_allclose(n.total_for(shown["lp"], j), shown["total_points"], atol=1e-3)


def test_cox_survival_of_every_patient_matches_rms() -> None:
    d, n = result("b2_cph_lung"), lung()
    rows = table("lung").iloc[np.asarray(d["rows_used"]) - 1]
    values = {name: rows[name].to_numpy(float) for name in ("age", "ph.ecog", "wt.loss")}
    values["sex"] = rows["sex"].to_numpy(float) - 1
    expected = np.column_stack([d["surv"][f"S_{t}"] for t in (182, 365, 730)])
    np.testing.assert_allclose(n.probability(values), expected, rtol=1e-9)
    np.testing.assert_allclose(lung("risk").probability(values), 1 - expected, rtol=1e-8)
    assert verify_points(n, n.model, values) < 1e-12


def test_wald_interval_of_the_linear_predictor_is_the_delta_method() -> None:
    from nomogram_models import wald_birthwt

    n, fit = wald_birthwt(), result("a1_lrm_birthwt_rcs")["fit"]
    values = birthwt_training()
    bounds = n.bounds(values)
    assert bounds is not None
    from osml.stats.terms import design_matrix

    X = np.column_stack([np.ones(189), design_matrix(n.model.terms, n.encode(values))])
    se = np.sqrt(np.diag(X @ np.asarray(fit["vcov"]) @ X.T))
    lp = np.asarray(fit["lp"])
    z = 1.959963984540054
    np.testing.assert_allclose(bounds[0], 1 / (1 + np.exp(-(lp - z * se))), rtol=1e-9)
    np.testing.assert_allclose(bounds[1], 1 / (1 + np.exp(-(lp + z * se))), rtol=1e-9)
