"""Survival losses against R's likelihood as osml.stats has it, and survival curves from a network's outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from osml.errors import InvalidInputError, NotEstimableError
from osml.nets.heads import probabilities
from osml.nets.losses import FollowUp, Objective, cox_loss, discrete_time_loss
from osml.nets.recipe import CoxTarget, DiscreteTimeTarget
from osml.nets.survival import discrete_survival, interval_cuts
from osml.stats.cox import fit_cox


def tied_cohort(n: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two columns, times on few values (many ties), a third censored."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(n, 2))
    time = np.ceil(8 * rng.exponential(np.exp(-0.5 * X[:, 0])) + 0.1)
    return X, time, rng.random(n) < 0.7


def test_cox_loss_is_minus_the_partial_log_likelihood_per_event() -> None:
    X, time, event = tied_cohort()
    fit = fit_cox(X, time, event)
    lp = torch.tensor(fit.lp, requires_grad=True)
    loss = cox_loss(lp, time, event)
    assert_allclose(float(loss.detach()), -fit.log_likelihood / event.sum(), rtol=1e-12)
    loss.backward()
    # The derivative by lp is minus the martingale residual, and the fit's score is 0.
    assert_allclose(lp.grad.numpy() * event.sum(), -fit.martingale_residuals, atol=1e-10)


def test_cox_loss_descends_to_the_fitted_coefficients() -> None:
    X, time, event = tied_cohort()
    coef = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([coef], max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-14)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = cox_loss(torch.as_tensor(X) @ coef, time, event)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert_allclose(coef.detach().numpy(), fit_cox(X, time, event).coef, rtol=1e-6)


def test_cox_loss_knows_no_constant_and_survives_large_hazards() -> None:
    X, time, event = tied_cohort(20)
    lp = torch.as_tensor(X[:, 0])
    assert_allclose(float(cox_loss(lp + 500, time, event)), float(cox_loss(lp, time, event)), rtol=1e-9)
    assert float(cox_loss(lp, time, np.zeros(20, dtype=bool))) == 0.0


def test_discrete_time_loss_by_hand() -> None:
    # Cuts 1, 2, 3; hazards .1 .2 .3. Event at 2 (second interval), censored at 1.4 (first only), censored at 2.5
    # (half of the third), event at 7 (beyond the last cut).
    h = np.array([0.1, 0.2, 0.3])
    logits = torch.as_tensor(np.tile(np.log(h / (1 - h)), (4, 1)))
    time, event = np.array([2.0, 1.4, 2.5, 7.0]), np.array([True, False, False, True])
    by_hand = -np.log([0.9 * 0.2, 0.9, 0.9 * 0.8 * 0.7, 0.9 * 0.8 * 0.7]).mean()
    assert_allclose(float(discrete_time_loss(logits, time, event, (1, 2, 3))), by_hand, rtol=1e-12)


def test_constant_hazards_are_events_over_rows_at_risk() -> None:
    # The likelihood of one free hazard per interval is largest at deaths / at risk: the life-table estimate.
    _, time, event = tied_cohort()
    cuts = interval_cuts(time, event, intervals=4)
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = discrete_time_loss(logits.expand(len(time), 4), time, event, cuts)
        loss.backward()
        return loss

    optimizer.step(closure)
    low = np.concatenate([[0.0], cuts[:-1]])
    dead = [(event & (time > a) & (time <= b)).sum() for a, b in zip(low, cuts, strict=True)]
    alive = [np.where(event, time > b, time >= (a + b) / 2).sum() for a, b in zip(low, cuts, strict=True)]
    expected = np.array(dead) / (np.array(dead) + np.array(alive))
    assert_allclose(torch.sigmoid(logits).detach().numpy(), expected, rtol=1e-5)


def test_cuts_hold_as_many_events_each_and_the_horizons() -> None:
    time, event = np.arange(1.0, 101.0), np.ones(100, dtype=bool)
    assert interval_cuts(time, event, intervals=4) == (25.0, 50.0, 75.0, 100.0)
    assert interval_cuts(time, event, intervals=2, horizons=[36.5]) == (36.5, 50.0, 100.0)
    with pytest.raises(InvalidInputError, match="within the follow-up of 100"):
        interval_cuts(time, event, horizons=[120])
    with pytest.raises(NotEstimableError, match="no events among 100 rows"):
        interval_cuts(time, np.zeros(100))


def test_survival_at_the_cuts_is_the_head_s_and_falls_between() -> None:
    cuts = (1.0, 3.0, 4.0)
    logits = np.random.default_rng(0).normal(size=(5, 3))
    at_cuts = discrete_survival(logits, cuts, cuts)
    assert_allclose(at_cuts, probabilities(DiscreteTimeTarget(cuts), torch.as_tensor(logits)).numpy(), rtol=1e-12)
    # Constant hazard: half-way through an interval survival is the geometric mean of its ends.
    assert_allclose(discrete_survival(logits, cuts, [2.0])[:, 0], np.sqrt(at_cuts[:, 0] * at_cuts[:, 1]), rtol=1e-12)
    with pytest.raises(InvalidInputError, match="end of the last interval"):
        discrete_survival(logits, cuts, [4.5])


def test_rows_of_a_truth_are_taken_together() -> None:
    truth = FollowUp(np.array([1.0, 2.0, 3.0]), np.array([True, False, True])).take(np.array([2, 0]))
    assert_array_equal(truth.time, [3.0, 1.0])
    assert truth.event.tolist() == [True, True]
    with pytest.raises(InvalidInputError, match="1 outputs for 2 rows"):
        Objective(CoxTarget(), truth)(torch.zeros(1, 1), truth)
