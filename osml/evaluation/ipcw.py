"""Discrimination and accuracy at a horizon under censoring: AUC(t), Brier(t), integrated and scaled Brier.

Inverse probability of censoring weights (IPCW) come from the Kaplan-Meier curve of censoring in the evaluation
population: the external set, or under cross-validation all evaluated patients pooled, never the training set and never
one small fold. A patient with the event by t weighs 1 / G(T-), one still followed after t weighs 1 / G(t), one censored
by t weighs 0. Values and standard errors agree with `riskRegression::Score(cens.model = "km")`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.censoring import Censoring, fit_censoring
from osml.evaluation.inputs import as_probabilities
from osml.evaluation.kaplan_meier import kaplan_meier
from osml.evaluation.survival import (
    Bools,
    Floats,
    Ints,
    check_groups,
    check_horizon,
    check_level,
    check_survival,
    event_table,
    sum_by_patient,
    totals,
)
from osml.stats.inputs import vector


@dataclass(frozen=True)
class TimeAUC:
    """Cumulative/dynamic AUC at a horizon: cases had the event by it, controls are followed beyond it.

    Attributes
    ----------
    horizon, value, se, low, high : float
        Normal interval cut to [0, 1].
    cases, controls, censored : int
        Rows with the event by the horizon, followed beyond it, and censored by it (weight 0).
    influence : float array (patients,)
        Influence of each patient on `value`; se^2 is the sum of squares times m / (m - 1).
    """

    horizon: float
    value: float
    se: float
    low: float
    high: float
    cases: int
    controls: int
    censored: int
    influence: Floats


@dataclass(frozen=True)
class TimeBrier:
    """Brier score at a horizon; lower is better.

    Attributes
    ----------
    horizon, value, se, low, high : float
        Mean squared distance of risk and outcome; normal interval cut to [0, 1].
    null : float
        Brier score of the Kaplan-Meier risk given to everybody.
    scaled : float
        1 - value / null: 1 is perfect, 0 no better than the null model, negative worse (index of prediction accuracy).
    cases, controls, censored, influence
        As in `TimeAUC`.
    """

    horizon: float
    value: float
    se: float
    low: float
    high: float
    null: float
    scaled: float
    cases: int
    controls: int
    censored: int
    influence: Floats


def auc_at(
    time: ArrayLike,
    event: ArrayLike,
    score: ArrayLike,
    horizon: float,
    groups: ArrayLike | None = None,
    censoring: Censoring | None = None,
    level: float = 0.95,
) -> TimeAUC:
    """AUC at a horizon with inverse probability of censoring weights.

    Parameters
    ----------
    time, event : arrays (n,)
        Of the evaluated patients; event True or 1.
    score : float array (n,)
        Higher is riskier at the horizon; ties count one half.
    horizon : float
        In the unit of the times.
    groups : array (n,), optional
        Patient of each row: influences are added up within patients.
    censoring : Censoring, optional
        From `fit_censoring` of the pooled evaluation population. The standard error then takes G as known.

    Raises
    ------
    NotEstimableError
        No case, no control, or a weight that does not exist (G = 0).

    Notes
    -----
    Uno et al. 2007; Hung and Chiang 2010; influence function of Blanche et al. 2013.

    Examples
    --------
    >>> auc_at([1, 2, 3, 4], [1, 1, 0, 1], [0.9, 0.3, 0.4, 0.1], horizon=2.5).value
    0.75
    """
    t, e = check_survival(time, event)
    x, codes = vector(score, "score", len(t)), check_groups(groups, len(t))
    horizon, q = check_horizon(horizon), check_level(level)
    case, control = e & (t <= horizon), t > horizon
    _require(case, control, t, horizon, need_controls=True)
    w = _weights(t, e, case, control, horizon, censoring)
    wins = _wins(x[case], x[control], np.ones(int(control.sum())))
    value = float(w[case] @ wins / w[case].sum())
    losses = _wins(-x[control], -x[case], w[case])
    influence = np.zeros(len(t))
    share = w[case].sum() / len(t)
    influence[case] = w[case] * (wins - value) / share
    if censoring is None:
        influence += _censoring_influence(t, e, influence, horizon)
    influence[control] += (losses - value) * len(t) / control.sum()
    summed, se = _patients(influence, codes)
    low, high = max(value - q * se, 0.0), min(value + q * se, 1.0)
    counts = int(case.sum()), int(control.sum()), int((~case & ~control).sum())
    return TimeAUC(horizon, value, se, low, high, *counts, summed)


def brier_at(
    time: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    horizon: float,
    groups: ArrayLike | None = None,
    censoring: Censoring | None = None,
    null_risk: float | None = None,
    level: float = 0.95,
) -> TimeBrier:
    """Brier score at a horizon, and the scaled Brier score against the null model.

    Parameters
    ----------
    time, event, horizon, groups, censoring
        As for `auc_at`.
    risk : float array (n,)
        Predicted probability of the event by the horizon, 1 - S(horizon).
    null_risk : float, optional
        Risk that the null model gives everybody; by default 1 - Kaplan-Meier of these patients. Give the pooled
        population's under cross-validation.

    Notes
    -----
    Graf et al. 1999; Gerds and Schumacher 2006; scaled: Kattan and Gerds 2018.

    Examples
    --------
    >>> b = brier_at([1, 2, 3, 4], [1, 1, 0, 1], [0.9, 0.8, 0.4, 0.1], horizon=2.5)
    >>> round(b.value, 3), b.null, round(b.scaled, 3)
    (0.055, 0.25, 0.78)
    """
    t, e = check_survival(time, event)
    p, codes = as_probabilities(risk, len(t), name="risk"), check_groups(groups, len(t))
    horizon, q = check_horizon(horizon), check_level(level)
    case, control = e & (t <= horizon), t > horizon
    _require(case, control, t, horizon, need_controls=False)
    w = _weights(t, e, case, control, horizon, censoring)
    loss = w * (case - p) ** 2
    value = float(loss.mean())
    influence = loss - value
    if censoring is None:
        influence += _censoring_influence(t, e, loss, horizon)
    summed, se = _patients(influence, codes)
    if null_risk is None:
        null_risk = float(1 - kaplan_meier(t, e).at(horizon)[0])
    elif not 0 <= null_risk <= 1:
        raise InvalidInputError(f"null_risk must lie in [0, 1], got {null_risk}")
    null = float(np.mean(w * (case - null_risk) ** 2))
    if null <= 0:
        raise NotEstimableError(f"the null model is exact at {horizon:g}: every patient has one outcome")
    counts = int(case.sum()), int(control.sum()), int((~case & ~control).sum())
    return TimeBrier(
        horizon, value, se, max(value - q * se, 0.0), min(value + q * se, 1.0), null, 1 - value / null, *counts, summed
    )


@dataclass(frozen=True)
class IntegratedBrier:
    """Brier score averaged over a range of horizons, by the trapezoidal rule on the horizons given."""

    value: float
    se: float
    low: float
    high: float
    null: float
    scaled: float
    horizons: Floats


def integrated_brier(
    time: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    horizons: ArrayLike,
    groups: ArrayLike | None = None,
    censoring: Censoring | None = None,
    null_risk: ArrayLike | None = None,
    level: float = 0.95,
) -> IntegratedBrier:
    """Time average of the Brier score between the first and the last horizon.

    Parameters
    ----------
    risk : float array (n, k)
        Predicted probability of the event by each horizon.
    horizons : float array (k,)
        Increasing, at least two; a grid as fine as the follow-up is informative.
    null_risk : float array (k,), optional
        As for `brier_at`, one per horizon.

    Examples
    --------
    >>> p = [[0.5, 0.9], [0.2, 0.8], [0.1, 0.3], [0.1, 0.2]]
    >>> round(integrated_brier([1, 2, 3, 4], [1, 1, 1, 1], p, [1.5, 2.5]).value, 4)
    0.0612
    """
    grid = vector(horizons, "horizons")
    p = np.asarray(risk)
    if len(grid) < 2 or np.any(np.diff(grid) <= 0):
        raise InvalidInputError(f"horizons must be at least two increasing times, got {grid.tolist()}")
    if p.ndim != 2 or p.shape[1] != len(grid):
        raise InvalidInputError(f"risk must have shape (n, {len(grid)}), one column per horizon, got {p.shape}")
    null_risks = [None] * len(grid) if null_risk is None else vector(null_risk, "null_risk", len(grid)).tolist()
    scores = [brier_at(time, event, p[:, k], t, groups, censoring, null_risks[k], level) for k, t in enumerate(grid)]
    span, z = float(grid[-1] - grid[0]), check_level(level)
    value = float(np.trapezoid([s.value for s in scores], grid)) / span
    null = float(np.trapezoid([s.null for s in scores], grid)) / span
    influence = np.asarray(np.trapezoid(np.stack([s.influence for s in scores]), grid, axis=0)) / span
    se = _standard_error(influence)
    return IntegratedBrier(value, se, max(value - z * se, 0.0), min(value + z * se, 1.0), null, 1 - value / null, grid)


@dataclass(frozen=True)
class TimeDifference:
    """First score minus second on the same patients at one horizon."""

    difference: float
    se: float
    low: float
    high: float
    z: float
    p: float


def compare_at(first: TimeAUC | TimeBrier, second: TimeAUC | TimeBrier, level: float = 0.95) -> TimeDifference:
    """Paired test of two AUC(t), or two Brier(t), of the same patients in the same order.

    >>> t, e = [1, 2, 3, 4, 5], [1, 1, 0, 1, 1]
    >>> a, b = auc_at(t, e, [5, 3, 4, 2, 1], 3.5), auc_at(t, e, [1, 5, 4, 2, 3], 3.5)
    >>> round(compare_at(a, b).difference, 3)
    0.5
    """
    if type(first) is not type(second) or first.horizon != second.horizon:
        raise InvalidInputError(
            f"cannot compare {type(first).__name__} at {first.horizon:g} and {type(second).__name__} at "
            f"{second.horizon:g}",
            do="Give two scores of one kind at one horizon.",
        )
    if first.influence.shape != second.influence.shape:
        raise InvalidInputError(
            f"the scores were measured on {len(first.influence)} and {len(second.influence)} patients"
        )
    difference = first.value - second.value
    se = _standard_error(first.influence - second.influence)
    if se <= 1e-14:
        raise NotEstimableError("the two scores agree for every patient: their difference has no variance")
    z, q = difference / se, check_level(level)
    return TimeDifference(difference, se, difference - q * se, difference + q * se, z, float(2 * norm.sf(abs(z))))


def weights_at(time: ArrayLike, event: ArrayLike, horizon: float, censoring: Censoring) -> Floats:
    """Weight of each row at a horizon, float array (n,): 1 / G(T-) with the event by then, 1 / G(t) when followed
    beyond it, 0 when censored by it. The mean over rows of weight times loss estimates the uncensored mean loss.

    Parameters
    ----------
    time, event : arrays (n,)
    censoring : Censoring
        From `fit_censoring` of the evaluation population.

    Raises
    ------
    NotEstimableError
        A row that counts has no weight (G = 0).

    >>> weights_at([1, 2, 3, 4], [1, 0, 1, 1], 3.5, fit_censoring([1, 2, 3, 4], [1, 0, 1, 1]))
    array([1. , 0. , 1.5, 1.5])
    """
    t, e = check_survival(time, event, need_events=False)
    at = check_horizon(horizon)
    return _weights(t, e, e & (t <= at), t > at, at, censoring)


def _require(case: Bools, control: Bools, time: Floats, horizon: float, need_controls: bool) -> None:
    if not case.any():
        raise NotEstimableError(f"not estimable at {horizon:g}: no event by then (first at {time.min():g} or later)")
    if need_controls and not control.any():
        raise NotEstimableError(
            f"not estimable at {horizon:g}: no patient is followed beyond it (last follow-up {time.max():g})",
            do="Choose an earlier horizon.",
        )


def _weights(
    time: Floats, event: Bools, case: Bools, control: Bools, horizon: float, censoring: Censoring | None
) -> Floats:
    """Weight of each row, float array (n,): 0 when censored by the horizon."""
    curve = fit_censoring(time, event) if censoring is None else censoring
    g = np.ones(len(time))
    g[case] = curve.before(time[case])
    g[control] = curve.at(horizon)[0]
    if np.any(g <= 0):
        raise NotEstimableError(
            f"not estimable at {horizon:g}: {int((g <= 0).sum())} patients have no weight, the censoring curve is 0",
            why="Nobody comparable is followed that long in the population that gave the censoring curve.",
            do="Choose an earlier horizon, or give the censoring of the pooled evaluation population.",
        )
    return np.where(case | control, 1 / g, 0.0)


def _wins(scores: Floats, others: Floats, weights: Floats) -> Floats:
    """Weighted share of the others with a lower score, ties one half, float array (len(scores),)."""
    order = np.argsort(others, kind="stable")
    cumulative = np.concatenate([[0.0], np.cumsum(weights[order])])
    lower = cumulative[np.searchsorted(others[order], scores, side="left")]
    upper = cumulative[np.searchsorted(others[order], scores, side="right")]
    return (lower + upper) / (2 * cumulative[-1])


def _censoring_influence(time: Floats, event: Bools, weighted: Floats, horizon: float) -> Floats:
    """What the estimation of G adds to the influence of each row, float array (n,).

    `weighted` holds each row's own weighted contribution. Its weight depends on the censorings before min(T, horizon),
    so G at u matters through the contributions of the rows still there after u. Integral of that mean over the share
    at risk, against each row's censoring martingale; patients with an event at u count as at risk of censoring at u,
    as in riskRegression, which matters only where events and censorings share a time.
    """
    table = event_table(time, event, np.ones(len(time)))
    total = totals(table.position, weighted, len(table.times))
    later = np.cumsum(total[::-1])[::-1] - total
    effect = np.where(table.times <= horizon, later / table.at_risk, 0.0)
    paid = np.cumsum(effect * table.censored / table.at_risk)
    return np.where(event, 0.0, effect[table.position]) - paid[table.position]


def _patients(influence: Floats, codes: Ints | None) -> tuple[Floats, float]:
    """Influence of each patient on the mean over rows, and the standard error."""
    summed = sum_by_patient(influence, codes) / len(influence)
    return summed, _standard_error(summed)


def _standard_error(influence: Floats) -> float:
    m = len(influence)
    if m < 2:
        raise NotEstimableError("one patient: a standard error needs at least two")
    return float(np.sqrt(np.sum(influence**2) * m / (m - 1)))
