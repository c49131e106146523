"""Separation, and selection of inputs inside the pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from designs import AGE, SEX, design_of, recipe, rows, seed, simulate

from osml.cohort.cohort import BinaryOutcome
from osml.errors import NotEstimableError
from osml.predictors.contract import NO_INTERVAL, Design
from osml.predictors.nomogram import fit_nomogram
from osml.stats.logistic import fit_logistic
from osml.stats.terms import design_matrix


def outcome(design: Design) -> Any:
    assert design.cohort.outcome is not None
    return design.cohort.outcome


def separated() -> Design:
    """Everybody of stage III has the event, and age separates nobody."""
    design = simulate(120, seed=6)
    y = outcome(design).y.copy()
    y[design.cohort.values["stage"] == 2] = 1.0
    return Design(replace(design.cohort, outcome=BinaryOutcome(y, "bad", "good")))


def test_separation_is_refused_by_maximum_likelihood_and_named() -> None:
    with pytest.raises(NotEstimableError, match="level 'III' of 'stage' has events only") as caught:
        fit_nomogram(recipe(), separated(), seed())
    assert "firth" in caught.value.do


def test_separation_by_a_number_is_refused() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    design = design_of(
        {"age": x, "sex": rng.integers(0, 2, 60).astype(float)}, BinaryOutcome((x > 0).astype(float), "bad", "good")
    )
    with pytest.raises(NotEstimableError, match="separat"):
        fit_nomogram(recipe(AGE, SEX), design, seed())


@pytest.mark.parametrize("changes", [{"estimator": "firth"}, {"shrink": "ridge"}])
def test_firth_and_ridge_survive_separation(changes: dict[str, Any]) -> None:
    design = separated()
    fitted = fit_nomogram(recipe(**changes), design, seed())
    assert np.all(np.isfinite(fitted.model.coef))
    assert np.abs(fitted.model.coef[-1]) < 15
    assert fitted.model.coef[-1] > 0
    p = fitted.predict(rows(design, range(120))).p[:, 0]
    # FLIC and ridge both leave the mean risk at the event share.
    assert p.mean() == pytest.approx(outcome(design).y.mean(), rel=1e-6)


def test_ridge_survives_perfect_separation_by_a_number() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    design = design_of(
        {"age": x, "sex": rng.integers(0, 2, 60).astype(float)}, BinaryOutcome((x > 0).astype(float), "bad", "good")
    )
    fitted = fit_nomogram(recipe(AGE, SEX, shrink="ridge"), design, seed())
    assert fitted.model.coef[0] > 0
    assert np.all(np.isfinite(fitted.model.coef))


def noise_beside_signal() -> tuple[Design, Any]:
    rng = np.random.default_rng(8)
    values = {"age": rng.normal(size=200), **{f"z{k}": rng.normal(size=200) for k in range(4)}}
    y = (rng.random(200) < 1 / (1 + np.exp(-1.5 * values["age"]))).astype(float)
    inputs = (AGE, *(replace(AGE, name=f"z{k}") for k in range(4)))
    return design_of(values, BinaryOutcome(y, "bad", "good")), inputs


@pytest.mark.parametrize("select", ["univariable", "backward", "lasso"])
def test_selection_keeps_the_signal_and_refits_without_the_rest(select: Any) -> None:
    design, inputs = noise_beside_signal()
    fitted = fit_nomogram(recipe(*inputs, select=select), design, seed())
    assert "age" in fitted.selected
    assert set(fitted.selected) == set(fitted.model.inputs)
    if select == "univariable":
        # By definition: those whose single p-value is below 0.1, likelihood-based on the same patients.
        assert len(fitted.selected) < 5
        assert all(p is not None and p < 0.1 for p in fitted.selected.values())
    X = design_matrix(fitted.model.terms, design.cohort.values)
    assert fitted.model.coef == pytest.approx(fit_logistic(X, outcome(design).y).coef, rel=1e-9)


@pytest.mark.parametrize("select", ["univariable", "backward", "lasso"])
def test_a_dropped_input_is_not_asked_for(select: Any) -> None:
    design, inputs = noise_beside_signal()
    fitted = fit_nomogram(recipe(*inputs, select=select), design, seed())
    dropped = set(design.cohort.values) - set(fitted.model.inputs)
    assert dropped
    values = {**design.cohort.values, **{name: np.full(200, np.nan) for name in dropped}}
    blank = Design(replace(design.cohort, values=values, outcome=None))
    assert fitted.predict(blank).p.tobytes() == fitted.predict(rows(design, range(200))).p.tobytes()


def test_nothing_selected_predicts_the_event_share() -> None:
    rng = np.random.default_rng(1)
    x = np.tile([0.0, 1.0], 40)
    y = np.repeat([0.0, 1.0], 40)
    design = design_of({"age": x + 1e-3 * rng.permutation(np.tile([0.0, 1.0], 40))}, BinaryOutcome(y, "bad", "good"))
    fitted = fit_nomogram(recipe(AGE, select="univariable"), design, seed())
    assert fitted.model.terms == ()
    prediction = fitted.predict(rows(design, range(80)))
    assert prediction.p[:, 0] == pytest.approx(0.5, rel=1e-12)
    assert prediction.interval == NO_INTERVAL
