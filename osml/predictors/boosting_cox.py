"""Cox's log partial likelihood as a function of each row's log hazard: its value, and what boosting needs of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from osml.stats.cox_risk_sets import RiskSets, deaths_by_time, evaluate, risk_sets

Float = NDArray[np.float64]
# A row whose hessian is 0 (the last one at risk, alone) moves nothing, and must not divide by 0.
SMALLEST = 1e-12


def cox_derivatives(sets: RiskSets, log_hazard: Float) -> tuple[Float, Float]:
    """Gradient and diagonal of the hessian of minus the log partial likelihood, both (n,), rows in their own order.

    sets : of `risk_sets` with weights of 1, Efron's ties (or Breslow's)

    Notes
    -----
    With r = exp(log hazard), D_l the denominator of term l and w_il the share with which row i counts in it (1, or
    1 - k/d for a row that dies in it): gradient_i = r_i Σ_l w_il / D_l - died_i, hessian_i = r_i Σ_l w_il / D_l
    - r_i² Σ_l w_il² / D_l². Efron 1977, JASA 72:557.
    """
    lp = log_hazard[sets.order]
    risk = np.exp(lp - lp.max())
    at_risk = np.cumsum(risk[::-1])[::-1][sets.start]
    tied = deaths_by_time(sets, risk)
    denominator = at_risk[sets.term_time] - sets.term_tied * tied[sets.term_time]
    first, second = sets.term_count / denominator, sets.term_count / denominator**2
    own = sets.tied_row
    exposure = _summed(sets, first) - np.where(own >= 0, _at_time(sets, first * sets.term_tied)[own], 0.0)
    spared = _at_time(sets, second * (1.0 - (1.0 - sets.term_tied) ** 2))
    squares = _summed(sets, second) - np.where(own >= 0, spared[own], 0.0)
    gradient, hessian = np.empty_like(risk), np.empty_like(risk)
    gradient[sets.order] = risk * exposure - sets.died
    hessian[sets.order] = np.maximum(risk * exposure - risk**2 * squares, SMALLEST)
    return gradient, hessian


def partial_likelihood(time: Float, event: Float) -> Callable[[Float], float]:
    """The log partial likelihood, Efron's ties, as a function of each row's log hazard; 0 without an event."""
    if not event.any():
        return lambda log_hazard: 0.0
    sets, none = risk_sets(time, event, np.ones(len(time)), "efron"), np.empty((len(time), 0))
    return lambda log_hazard: evaluate(sets, none, log_hazard[sets.order], derivatives=False).log_likelihood


def _at_time(sets: RiskSets, terms: Float) -> Float:
    """Sum of terms at each event time."""
    return np.asarray(np.bincount(sets.term_time, weights=terms, minlength=len(sets.times)), dtype=np.float64)


def _summed(sets: RiskSets, terms: Float) -> Float:
    """Sum of terms up to each sorted row's time."""
    return np.concatenate([[0.0], np.cumsum(_at_time(sets, terms))])[sets.until]
