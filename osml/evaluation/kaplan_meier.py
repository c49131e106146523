"""Kaplan-Meier survival: the curve, its interval, quantiles, number at risk and restricted mean.

Agrees with `survival::survfit`: Greenwood's variance, or the infinitesimal jackknife where Greenwood's does not hold
(several rows per patient, non-integer weights).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.survival import (
    Bools,
    EventTable,
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
from osml.stats.inputs import frequency_weights, vector

ConfidenceKind = Literal["plain", "log", "log-log"]
_BLOCK = 4_000_000  # entries of the patients-by-times matrix held at once


@dataclass(frozen=True)
class Quantile:
    """Time by which a fraction of the patients had the event; NaN = not reached."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class KaplanMeier:
    """A Kaplan-Meier curve.

    Attributes
    ----------
    times : float array (m,)
        Distinct observed times, of events and of censorings.
    at_risk, events, censored : float array (m,)
        Weighted counts; at risk is just before the time.
    survival, se, low, high : float array (m,)
        From the time on (right-continuous). `se` is of the survival. NaN where none exists: at survival 0, and for
        `log-log` also at survival 1.
    conf, level
        Kind and level of the interval.
    variance : str
        "greenwood" or "jackknife".
    """

    times: Floats
    at_risk: Floats
    events: Floats
    censored: Floats
    survival: Floats
    se: Floats
    low: Floats
    high: Floats
    conf: ConfidenceKind
    level: float
    variance: str

    def at(self, times: ArrayLike) -> Floats:
        """Survival at each time, float array (k,); NaN after the last follow-up unless the curve has reached 0."""
        return self._step(self.survival, times, 1.0)

    def se_at(self, times: ArrayLike) -> Floats:
        """Standard error of the survival at each time, float array (k,)."""
        return self._step(self.se, times, 0.0)

    def interval_at(self, times: ArrayLike) -> tuple[Floats, Floats]:
        """Lower and upper bounds at each time, float arrays (k,)."""
        return self._step(self.low, times, 1.0), self._step(self.high, times, 1.0)

    def at_risk_at(self, times: ArrayLike) -> Floats:
        """(Weighted) number at risk just before each time, float array (k,): the row printed under the curve."""
        padded = np.append(self.at_risk, 0.0)
        return padded[np.searchsorted(self.times, vector(times, "times"), side="left")]

    def quantile(self, fraction: float = 0.5) -> Quantile:
        """Time at which survival falls to `1 - fraction`, with the interval that inverts the curve's bounds.

        A curve that is flat at exactly that level gives the middle of the flat piece, as R does.
        """
        if not 0 < fraction < 1:
            raise InvalidInputError(f"fraction must lie in (0, 1), got {fraction}", do="The median is 0.5.")
        level = 1 - fraction
        return Quantile(
            _crossing(self.times, self.survival, level),
            _crossing(self.times, self.low, level),
            _crossing(self.times, self.high, level),
        )

    def median(self) -> Quantile:
        """Median survival time with its interval (Brookmeyer and Crowley 1982, on the scale of `conf`)."""
        return self.quantile(0.5)

    def _step(self, values: Floats, times: ArrayLike, before: float) -> Floats:
        t = np.atleast_1d(vector(np.atleast_1d(times), "times"))
        out = np.concatenate([[before], values])[np.searchsorted(self.times, t, side="right")]
        if self.survival[-1] > 0:
            out[t > self.times[-1]] = np.nan
        return out


def kaplan_meier(
    time: ArrayLike,
    event: ArrayLike,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    conf: ConfidenceKind = "log",
    level: float = 0.95,
) -> KaplanMeier:
    """Kaplan-Meier estimate of survival, `survival::survfit(Surv(time, event) ~ 1)`.

    Parameters
    ----------
    time, event : arrays (n,)
        Times > 0; event True or 1, censored False or 0. Patients censored at an event time are at risk at it.
    weights : float array (n,), optional
        Case weights. Zero drops the row. Integers count as repeated rows; others take the jackknife variance.
    groups : array (n,), optional
        Patient of each row; rows of one patient are not independent, so the variance is the jackknife over patients.
    conf : {"log", "log-log", "plain"}
        Scale of the interval; "log" is R's default, "log-log" keeps it inside [0, 1].

    Raises
    ------
    NotEstimableError
        No event.

    Examples
    --------
    >>> km = kaplan_meier([1, 2, 3, 4], [1, 0, 1, 1])
    >>> km.survival.round(3)
    array([0.75 , 0.75 , 0.375, 0.   ])
    >>> km.median().value
    3.0
    """
    t, e = check_survival(time, event)
    w, codes = frequency_weights(weights, len(t)), check_groups(groups, len(t))
    z = check_level(level)
    if conf not in ("plain", "log", "log-log"):
        raise InvalidInputError(f"conf must be 'log', 'log-log' or 'plain', got {conf!r}")
    keep = w > 0
    t, e, w, codes = t[keep], e[keep], w[keep], None if codes is None else codes[keep]
    if not e.any():
        raise NotEstimableError("no event has a weight above 0")
    table = event_table(t, e, w)
    survival = _survival(table)
    jackknife = _needs_jackknife(w, codes)
    se = survival * (_jackknife_se(table, e, w, codes) if jackknife else np.sqrt(np.cumsum(_greenwood_steps(table))))
    se = np.where(survival > 0, se, np.nan)
    low, high = interval(survival, se, conf, z)
    variance = "jackknife" if jackknife else "greenwood"
    return KaplanMeier(
        table.times, table.at_risk, table.events, table.censored, survival, se, low, high, conf, level, variance
    )


def kaplan_meier_by(
    time: ArrayLike,
    event: ArrayLike,
    by: ArrayLike,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    conf: ConfidenceKind = "log",
    level: float = 0.95,
) -> dict[Hashable, KaplanMeier]:
    """One curve per value of `by`, in sorted order; a value without events is refused by name.

    >>> {k: km.median().value for k, km in kaplan_meier_by([1, 2, 3, 4], [1, 1, 1, 1], ["b", "b", "a", "a"]).items()}
    {'a': 3.5, 'b': 1.5}
    """
    t, e, label = np.asarray(time), np.asarray(event), np.asarray(by)
    if label.shape != t.shape or e.shape != t.shape:
        raise InvalidInputError(f"time, event and by must have one shape, got {t.shape}, {e.shape}, {label.shape}")
    w = frequency_weights(weights, len(t))
    g = None if groups is None else np.asarray(groups)
    curves: dict[Hashable, KaplanMeier] = {}
    for value in np.unique(label).tolist():
        rows = label == value
        try:
            curves[value] = kaplan_meier(t[rows], e[rows], w[rows], None if g is None else g[rows], conf, level)
        except NotEstimableError as error:
            raise NotEstimableError(
                f"{value!r}: {error.what}", do="Show this group's patients, not a curve."
            ) from error
    return curves


def interval(survival: Floats, se: Floats, conf: ConfidenceKind, z: float) -> tuple[Floats, Floats]:
    """Bounds of a survival probability on the scale `conf`, float arrays (m,); NaN where the scale has no value.

    >>> low, high = interval(np.array([0.5]), np.array([0.1]), "log-log", 1.96)
    >>> low.round(4), high.round(4)
    (array([0.2952]), array([0.6745]))
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        relative = np.where(se == 0, 0.0, se / survival)
        if conf == "plain":
            return np.maximum(survival - z * se, 0.0), np.minimum(survival + z * se, 1.0)
        if conf == "log":
            return survival * np.exp(-z * relative), np.minimum(survival * np.exp(z * relative), 1.0)
        inner = np.where((survival > 0) & (survival < 1), survival, np.nan)
        log_inner = np.log(inner)
        half = z * relative / log_inner
        return np.exp(log_inner * np.exp(-half)), np.exp(log_inner * np.exp(half))


@dataclass(frozen=True)
class RestrictedMean:
    """Mean event-free time up to `tau`: the area under the survival curve."""

    value: float
    se: float
    low: float
    high: float
    tau: float


@dataclass(frozen=True)
class RestrictedMeanDifference:
    """Difference of two restricted means, second group minus first, with its normal test."""

    first: RestrictedMean
    second: RestrictedMean
    difference: float
    se: float
    low: float
    high: float
    z: float
    p: float


def restricted_mean(
    time: ArrayLike,
    event: ArrayLike,
    tau: float,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> RestrictedMean:
    """Restricted mean survival time up to `tau`, in the unit of the times (`print(survfit, rmean = tau)`).

    Raises
    ------
    NotEstimableError
        `tau` lies beyond the last follow-up and the curve has not reached 0: part of the area was never observed.

    Examples
    --------
    >>> restricted_mean([1, 2, 3], [1, 1, 1], tau=3).value
    2.0
    """
    t, e = check_survival(time, event)
    w, codes = frequency_weights(weights, len(t)), check_groups(groups, len(t))
    tau, z = check_horizon(tau), check_level(level)
    keep = w > 0
    t, e, w, codes = t[keep], e[keep], w[keep], None if codes is None else codes[keep]
    table = event_table(t, e, w)
    survival = _survival(table)
    if tau > table.times[-1] and survival[-1] > 0:
        raise NotEstimableError(
            f"restricted mean up to {tau:g}: follow-up ends at {table.times[-1]:g} with survival {survival[-1]:.3f}",
            do=f"Choose tau <= {table.times[-1]:g}.",
        )
    inside = table.times <= tau
    edges = np.concatenate([[0.0], table.times[inside], [tau]])
    area = np.diff(edges) * np.concatenate([[1.0], survival[inside]])
    remaining = np.zeros(len(table.times))
    remaining[inside] = np.cumsum(area[::-1])[::-1][1:]
    if _needs_jackknife(w, codes):
        lasting = table.at_risk - table.events
        own = _ratio(remaining, lasting)
        shared = np.cumsum(_ratio(remaining * table.events, table.at_risk * lasting))
        influence = w * (shared[table.position] - e * own[table.position])
        variance = float(np.sum(sum_by_patient(influence, codes) ** 2))
    else:
        variance = float(np.sum(remaining**2 * _greenwood_steps(table)))
    value, se = float(area.sum()), float(np.sqrt(variance))
    return RestrictedMean(value, se, max(value - z * se, 0.0), min(value + z * se, tau), tau)


def restricted_mean_difference(
    time: ArrayLike, event: ArrayLike, group: ArrayLike, tau: float, level: float = 0.95
) -> RestrictedMeanDifference:
    """Difference in restricted mean survival time between two groups, second minus first in sorted order.

    Independent groups, normal approximation (Uno et al. 2014; `survRM2::rmst2`).

    >>> d = restricted_mean_difference([1, 2, 3, 4, 5, 6], [1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1], tau=6)
    >>> d.difference
    3.0
    """
    t, e, label = np.asarray(time), np.asarray(event), np.asarray(group)
    values = np.unique(label)
    if label.shape != t.shape or len(values) != 2:
        raise InvalidInputError(f"group must hold two values for {t.shape} patients, found {values[:5].tolist()}")
    first, second = (restricted_mean(t[label == v], e[label == v], tau, level=level) for v in values)
    difference, se = second.value - first.value, float(np.hypot(first.se, second.se))
    if se == 0:
        raise NotEstimableError(f"no event before {tau:g} in either group: the difference has no variance")
    z, q = difference / se, check_level(level)
    p = float(2 * norm.sf(abs(z)))
    return RestrictedMeanDifference(first, second, difference, se, difference - q * se, difference + q * se, z, p)


def _survival(table: EventTable) -> Floats:
    return np.asarray(np.cumprod(1 - table.events / table.at_risk), dtype=np.float64)


def _needs_jackknife(weights: Floats, codes: Ints | None) -> bool:
    return codes is not None or bool(np.any(weights != np.round(weights)))


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Quotient, 0 where the denominator is 0: nobody is left, and what follows has no area."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _greenwood_steps(table: EventTable) -> Floats:
    return _ratio(table.events, table.at_risk * (table.at_risk - table.events))


def _jackknife_se(table: EventTable, event: Bools, weights: Floats, codes: Ints | None) -> Floats:
    """Standard error of log survival at each time, float array (m,), by the infinitesimal jackknife over patients.

    A row's influence on -log S(t) is [event by t] / (n - d)(T) minus the sum of d / (n (n - d)) up to min(T, t).
    """
    lasting = table.at_risk - table.events
    own = event * _ratio(np.ones_like(lasting), lasting)[table.position]
    shared = np.cumsum(_greenwood_steps(table))
    m = len(table.times)
    if codes is None:
        done = totals(table.position, (weights * (own - shared[table.position])) ** 2, m)
        square = totals(table.position, weights**2, m)
        later = np.cumsum(square[::-1])[::-1] - square
        return np.sqrt(np.cumsum(done) + shared**2 * later)
    patients = int(codes.max()) + 1
    se = np.empty(m)
    width = max(1, _BLOCK // len(codes))
    for start in range(0, m, width):
        columns = np.arange(start, min(start + width, m))
        seen = table.position[:, None] <= columns
        influence = np.where(seen, own[:, None], 0.0) - shared[np.minimum(table.position[:, None], columns)]
        summed = np.zeros((patients, len(columns)))
        np.add.at(summed, codes, weights[:, None] * influence)
        se[columns] = np.sqrt(np.sum(summed**2, axis=0))
    return se


def _crossing(times: Floats, curve: NDArray[np.float64], level: float) -> float:
    """First time at which the curve is at or below the level; the middle of a piece exactly at it; NaN if never."""
    tolerance = float(np.sqrt(np.finfo(float).eps))
    reached = np.flatnonzero(curve < level + tolerance)  # NaN compares false
    if len(reached) == 0:
        return float("nan")
    first = reached[0]
    if abs(curve[first] - level) < tolerance:
        below = reached[curve[reached] < curve[first]]
        if len(below):
            return float((times[first] + times[below[0]]) / 2)
    return float(times[first])
