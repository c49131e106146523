"""Risk sets of the Cox partial likelihood: sorted once, then likelihood, gradient and information as matrix products.

Efron's handling of d tied deaths is d terms that remove 0, 1/d, .. (d-1)/d of the tied deaths from the risk set;
Breslow's is one term of multiplicity d that removes none. One frequency-weighted death of weight w is w tied deaths.

Source: Efron 1977 (JASA 72:557); Therneau & Grambsch 2000, section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError, NotEstimableError
from osml.stats.inputs import Array

Ties = Literal["efron", "breslow"]


@dataclass(frozen=True)
class RiskSets:
    """Rows sorted by time, and the terms of the partial likelihood.

    order : row of each sorted position
    times : distinct event times (g,), increasing
    start : first sorted position at risk at each event time (g,)
    until : event times at or before each sorted row (n,), 0 when it leaves before the first
    deaths : weight of the deaths at each event time (g,)
    term_time : event time index of each term (m,), increasing
    term_tied : fraction of the tied deaths that the term removes (m,)
    term_count : multiplicity of the term (m,)
    weight, died : sorted weights and events (n,)
    """

    order: NDArray[np.intp]
    times: Array
    start: NDArray[np.intp]
    until: NDArray[np.intp]
    deaths: Array
    term_time: NDArray[np.intp]
    term_tied: Array
    term_count: Array
    weight: Array
    died: Array

    @property
    def tied_row(self) -> NDArray[np.intp]:
        """Event time index of each death, -1 for a censored row (n,)."""
        return np.where(self.died > 0, self.until - 1, -1)


def risk_sets(time: Array, event: Array, weights: Array, ties: Ties) -> RiskSets:
    """Sort rows of positive weight and lay out the terms; no event, or Efron with fractional weights, is refused."""
    if ties not in ("efron", "breslow"):
        raise InvalidInputError(f"ties must be 'efron' or 'breslow', got {ties!r}")
    used = np.flatnonzero(weights > 0)
    order = used[np.argsort(time[used], kind="stable")]
    t, died, w = time[order], event[order], weights[order]
    if not died.any():
        raise NotEstimableError(f"no events among {len(order)} patients", why="A Cox model needs events.")
    times = np.unique(t[died > 0])
    start = np.searchsorted(t, times, side="left")
    until = np.searchsorted(times, t, side="right")
    deaths = np.zeros(len(times))
    np.add.at(deaths, until[died > 0] - 1, w[died > 0])
    count = deaths
    if ties == "breslow":
        term_time, tied = np.arange(len(times)), np.zeros(len(times))
    else:
        if np.any(w[died > 0] != np.round(w[died > 0])):
            raise InvalidInputError(
                "Efron's ties need whole-number frequency weights: a death of weight w stands for w tied deaths",
                do="Use ties='breslow' with fractional weights.",
            )
        repeats = deaths.astype(np.intp)
        term_time = np.repeat(np.arange(len(times)), repeats)
        first = np.repeat(np.cumsum(repeats) - repeats, repeats)
        tied = (np.arange(len(term_time)) - first) / deaths[term_time]
        count = np.ones(len(term_time))
    return RiskSets(order, times, start, until, deaths, term_time, tied, count, w, died)


@dataclass(frozen=True)
class Likelihood:
    """The log partial likelihood at one coefficient vector.

    cumulative : baseline cumulative hazard at lp = 0 at each event time (g,)
    variance_terms : increments of its variance for fixed coefficients (g,)
    residual : weight x martingale residual of each sorted row (n,)
    mean : mean of the columns over each term's risk set (m, p)
    term_hazard : increment of the cumulative hazard by each term (m,)
    risk : weight x exp(lp) of each sorted row (n,)
    exposure : integral of the hazard to which each sorted row, at lp = 0, was exposed (n,)
    """

    log_likelihood: float
    cumulative: Array
    variance_terms: Array
    residual: Array
    mean: Array
    term_hazard: Array
    risk: Array
    exposure: Array


def _from_right(values: Array, start: NDArray[np.intp]) -> Array:
    """Sums of `values` over sorted rows start.. to the end, for each start."""
    return np.cumsum(values[::-1], axis=0)[::-1][start]


def deaths_by_time(sets: RiskSets, values: Array) -> Array:
    """Sums of `values` over the deaths at each event time."""
    rows = np.flatnonzero(sets.died > 0)
    first = np.searchsorted(sets.tied_row[rows], np.arange(len(sets.times)))
    return np.add.reduceat(values[rows], first, axis=0)


def evaluate(sets: RiskSets, Z: Array, lp: Array, *, derivatives: bool = True) -> Likelihood:
    """Likelihood of sorted columns Z (n, p) and linear predictor lp (n,); only its value without `derivatives`."""
    top = lp.max()
    risk = sets.weight * np.exp(lp - top)
    at_risk = _from_right(risk, sets.start)
    tied = deaths_by_time(sets, risk)
    denominator = at_risk[sets.term_time] - sets.term_tied * tied[sets.term_time]
    value = float((sets.weight * sets.died) @ (lp - top) - sets.term_count @ np.log(denominator))
    empty = np.empty(0)
    if not derivatives:
        return Likelihood(value, empty, empty, empty, empty, empty, empty, empty)
    g = len(sets.times)
    increment = sets.term_count / denominator
    hazard = np.bincount(sets.term_time, weights=increment, minlength=g)
    cumulative = np.concatenate([[0.0], np.cumsum(hazard)])
    spared = np.bincount(sets.term_time, weights=increment * sets.term_tied, minlength=g)
    exposure = cumulative[sets.until] - np.where(sets.died > 0, spared[sets.tied_row], 0.0)
    scaled = risk[:, None] * Z
    first = _from_right(scaled, sets.start)[sets.term_time]
    first = first - sets.term_tied[:, None] * deaths_by_time(sets, scaled)[sets.term_time]
    return Likelihood(
        value,
        cumulative[1:] * np.exp(-top),
        np.bincount(sets.term_time, weights=increment / denominator, minlength=g) * np.exp(-2.0 * top),
        sets.weight * sets.died - risk * exposure,
        first / denominator[:, None],
        increment * np.exp(-top),
        risk * np.exp(top),
        exposure * np.exp(-top),
    )


def information(sets: RiskSets, Z: Array, at: Likelihood) -> Array:
    """Minus the second derivative of the log partial likelihood, (p, p)."""
    second = (Z * (at.risk * at.exposure)[:, None]).T @ Z
    return second - (at.mean * sets.term_count[:, None]).T @ at.mean
