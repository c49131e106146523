"""What the total-points and outcome axes show: their ends, their ticks, and which horizons have an axis."""

from __future__ import annotations

import math

import numpy as np

from osml.nomogram.algebra import Nomogram
from osml.nomogram.spec import CoxOutcome
from osml.nomogram.ticks import probability_ticks, round_ticks, total_ticks

MIN_AT_RISK = 10


def full_total(nomogram: Nomogram) -> float:
    """Right end of the total-points axis: the largest attainable total, rounded up to a minor tick."""
    _, minor = total_ticks(nomogram.maximum)
    return math.ceil(nomogram.maximum / minor - 1e-9) * minor


def shown(nomogram: Nomogram, horizon: int) -> bool:
    """Whether a horizon has its axis: at least 10 training patients at risk."""
    outcome = nomogram.outcome
    return not (isinstance(outcome, CoxOutcome) and outcome.at_risk and outcome.at_risk[horizon] < MIN_AT_RISK)


def attainable(nomogram: Nomogram, horizon: int) -> tuple[float, float]:
    """Least and greatest probability that the axes can give."""
    lp = nomogram.lp_at(np.array([0.0, nomogram.maximum]))
    p = nomogram.outcome.probability(lp)[:, horizon]
    return float(p.min()), float(p.max())


def outcome_ticks(nomogram: Nomogram, horizon: int) -> tuple[float, ...]:
    """Labelled probabilities of an outcome axis."""
    return probability_ticks(*attainable(nomogram, horizon))


def minor_probabilities(major: tuple[float, ...]) -> tuple[float, ...]:
    """Unlabelled probabilities between the labelled ones: single percents in the tails, fives between.

    >>> minor_probabilities((0.05, 0.1, 0.2))
    (0.06, 0.07, 0.08, 0.09, 0.15)
    """
    if len(major) < 2:
        return ()
    fine = [*range(1, 10), *range(15, 90, 5), *range(91, 100)]
    return tuple(p / 100 for p in fine if major[0] < p / 100 < major[-1] and p / 100 not in major)


def median_ticks(nomogram: Nomogram) -> list[tuple[float, float]]:
    """Round times with the total points at which the median is reached then; empty = never inside the axes."""
    outcome = nomogram.outcome
    if not isinstance(outcome, CoxOutcome) or not outcome.baseline_times:
        return []
    times, survival = np.asarray(outcome.baseline_times), np.asarray(outcome.baseline_survival)
    usable = (survival > 0) & (survival < 1)
    times, hazard = times[usable], -np.log(survival[usable])
    totals = nomogram.total_at(np.log(math.log(2)) - np.log(hazard))
    reached = (totals >= 0) & (totals <= nomogram.maximum)
    if reached.sum() < 2:
        return []
    low, high = float(times[reached].min()), float(times[reached].max())
    if low >= high:
        return []
    out = []
    for t in round_ticks(low, high)[1:-1]:
        step = int(np.searchsorted(times, t, side="right")) - 1
        out.append((t, float(totals[step])))
    return [(t, total) for t, total in out if 0 <= total <= nomogram.maximum]
