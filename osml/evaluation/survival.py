"""What every survival statistic asks of its input: times, events, patients, horizons, and the table of event times.

Times closer than R's tolerance are one time, as `survival::aeqSurv` does: computed times (days / 365.25) that differ
by rounding would otherwise break ties in one place and not in another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.inputs import as_groups
from osml.stats.inputs import confidence_level, survival_outcome, vector

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]


def check_survival(time: ArrayLike, event: ArrayLike, *, need_events: bool = True) -> tuple[Floats, Bools]:
    """Times and events as float and bool arrays (n,), nearly equal times merged.

    Parameters
    ----------
    time : float array (n,)
        Follow-up from the time of prediction, any unit, > 0. Zero and negative times are refused: the patient left
        (or had the event) before the prediction was made.
    event : bool or 0/1 array (n,)
        True = event, False = censored.
    need_events : bool
        Raise when no event was observed.

    Raises
    ------
    InvalidInputError
        Wrong shape, NaN, infinite or non-positive times, labels that are not 0/1.
    NotEstimableError
        No event and `need_events`.

    Examples
    --------
    >>> check_survival([2.0, 1.0], [1, 0])
    (array([2., 1.]), array([ True, False]))
    """
    t, e = survival_outcome(time, event)
    if len(t) == 0:
        raise InvalidInputError("time is empty: there is no patient")
    if need_events and not e.any():
        raise NotEstimableError(f"no event among {len(t)} patients: nothing can be estimated from censored times alone")
    return merge_tied_times(t), e > 0


def check_groups(groups: ArrayLike | None, n: int) -> Ints | None:
    """Patient codes 0..m-1, one per row, or None when every row is a patient."""
    return None if groups is None else as_groups(groups, n)


def check_horizon(horizon: float) -> float:
    """A finite horizon > 0, in the unit of the times."""
    t = float(horizon)
    if not np.isfinite(t) or t <= 0:
        raise InvalidInputError(f"the horizon must be a finite time > 0, got {horizon}")
    return t


def check_level(level: float) -> float:
    """Normal quantile of a two-sided confidence level."""
    return float(norm.isf((1 - confidence_level(level)) / 2))


def merge_tied_times(time: Floats) -> Floats:
    """Times with nearly equal values made equal, float array (n,).

    Two neighbouring distinct times are one when they differ by less than sqrt(machine epsilon), absolutely or relative
    to the mean time; the smallest stands for all (`survival::aeqSurv`).

    >>> len(set(merge_tied_times(np.array([0.3, 0.1 + 0.2, 1.0]))))
    2
    """
    distinct = np.unique(time)
    step, tolerance = np.diff(distinct), np.sqrt(np.finfo(float).eps)
    tied = (step <= tolerance) | (step <= tolerance * np.mean(np.abs(distinct)))
    if not tied.any():
        return time
    kept = distinct[np.concatenate([[True], ~tied])]
    return kept[np.searchsorted(kept, time, side="right") - 1]


def totals(codes: Ints, values: Floats, m: int) -> Floats:
    """Sum of the values with each code 0..m-1, float array (m,)."""
    return np.asarray(np.bincount(codes, weights=values, minlength=m), dtype=np.float64)


def sum_by_patient(influence: Floats, groups: Ints | None) -> Floats:
    """Influence of each patient, float array (m,): the sum over the patient's rows."""
    return influence if groups is None else totals(groups, influence, int(groups.max()) + 1)


@dataclass(frozen=True)
class EventTable:
    """Counts at each distinct time, weighted.

    Attributes
    ----------
    times : float array (m,)
        Distinct observed times, increasing.
    at_risk, events, censored : float array (m,)
        At risk just before the time; events and censorings at it.
    position : int array (n,)
        Index into `times` of each patient.
    """

    times: Floats
    at_risk: Floats
    events: Floats
    censored: Floats
    position: Ints


def event_table(time: Floats, event: Bools, weights: Floats) -> EventTable:
    """Distinct times with the weighted numbers at risk, with an event and censored.

    >>> event_table(np.array([1.0, 2.0, 2.0]), np.array([True, True, False]), np.ones(3)).at_risk
    array([3., 2.])
    """
    times, position = np.unique(time, return_inverse=True)
    position = position.reshape(len(time)).astype(np.intp)
    leaving = totals(position, weights, len(times))
    events = totals(position, weights * event, len(times))
    at_risk = np.cumsum(leaving[::-1])[::-1]
    return EventTable(times, at_risk, events, leaving - events, position)


def number_at_risk(time: ArrayLike, event: ArrayLike, times: ArrayLike) -> Ints:
    """Patients still followed at each time, int array (k,): those with follow-up >= t (R's `n.risk`).

    >>> number_at_risk([1, 2, 3], [1, 0, 1], [0, 2, 5])
    array([3, 2, 0])
    """
    t, _ = check_survival(time, event, need_events=False)
    return (len(t) - np.searchsorted(np.sort(t), vector(times, "times"), side="left")).astype(np.intp)
